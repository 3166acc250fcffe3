"""Figures of many passes: totals, strongest examples and places on a plane, each computed once more."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers import caption_of, sheet_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.offsetbox import AnnotationBbox
from torch import Tensor

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.activity import Activity, Totals
from mnistviz.look.examples import Examples
from mnistviz.look.projection import project
from mnistviz.show.colours import BLUE, ORANGE
from mnistviz.show.figures.examples import BEYOND
from mnistviz.show.picture import Picture
from mnistviz.show.scales import POSITIVE


def shares_of(text: str) -> tuple[int, int]:
    silent, units = text.replace(",", "").split(" of ")
    return int(silent), int(units)


def test_marks_and_bars_are_the_totals_of_all_outputs(records):
    """Summed up once more, from the outputs themselves."""
    names = ["5", "0", "1"]
    picture = figures.activation_analysis(records.activity, names)
    means, zeros, silent = picture.axes
    middle, _, (spread,) = means.containers[0]
    outputs = [records.many[name].output.double() for name in names]
    assert list(middle.get_xdata()) == pytest.approx([float(out.mean()) for out in outputs])
    for segment, out in zip(spread.get_segments(), outputs, strict=True):
        mean, sd = float(out.mean()), float(out.std(correction=0))
        assert segment[:, 0] == pytest.approx([max(mean - sd, float(out.min())), min(mean + sd, float(out.max()))])
    assert spread.get_segments()[2][0, 0] == 0  # a ReLU
    shares = [float((out == 0).double().mean()) for out in outputs]
    assert [bar.get_width() for bar in zeros.containers[0]] == pytest.approx(shares)
    counts = [(int((out == 0).all(0).sum()), out[0].numel()) for out in outputs]
    assert [bar.get_width() for bar in silent.containers[0]] == pytest.approx([n / units for n, units in counts])
    assert [shares_of(t.get_text()) for t in silent.texts] == counts
    assert [t.get_text() for t in means.get_yticklabels()] == names
    assert means.get_ylim()[0] > means.get_ylim()[1]  # the first layer on top
    most = max(range(3), key=lambda i: counts[i][0] / counts[i][1])
    assert f"{names[most]} with {counts[most][0]:,} of {counts[most][1]:,} units" in picture.alt
    assert not picture.legends


def test_several_activities_stand_side_by_side_in_their_colours(records):
    parts, layers = records.activities, ["1", "5"]
    picture = figures.activation_analysis(parts, layers)
    means, zeros, silent = picture.axes
    heights = []
    for k, (colour, activity) in enumerate(zip((BLUE, ORANGE), parts.values(), strict=True)):
        middle, bars = means.containers[k][0], zeros.containers[k]
        assert list(middle.get_xdata()) == [activity[name].mean for name in layers]
        assert [bar.get_width() for bar in bars] == [activity[name].zeros for name in layers]
        assert {to_hex(bar.get_facecolor()) for bar in bars} == {to_hex(middle.get_color())} == {colour}
        assert [bar.get_y() + bar.get_height() / 2 for bar in bars] == pytest.approx(middle.get_ydata())
        heights.append(middle.get_ydata())
    assert (heights[0] < heights[1]).all()
    assert heights[0] + heights[1] == pytest.approx(2 * np.arange(2))  # about the layer's own line
    counts = [(activity[name].silent_units, activity[name].units) for activity in parts.values() for name in layers]
    assert [shares_of(t.get_text()) for t in silent.texts] == counts
    (legend,) = picture.legends
    assert [t.get_text() for t in legend.get_texts()] == list(parts)
    assert [to_hex(handle.get_facecolor()) for handle in legend.legend_handles] == [BLUE, ORANGE]
    assert "Over 48 and 60 digits." in caption_of(picture)


def meshes(picture: Picture) -> list[mpl.collections.QuadMesh]:
    """One per layer; the last axes is the colour bar."""
    return [axes.collections[0] for axes in picture.axes[:-1]]


def test_the_cells_count_the_outputs_themselves(records):
    layers = ["0", "4", "5"]
    picture = figures.histograms(records.diary.pages, layers, names=["here", "there", "again"])
    assert len({id(mesh.norm) for mesh in meshes(picture)}) == 1
    for mesh, axes, layer in zip(meshes(picture), picture.axes, layers, strict=False):
        values = records.many[layer].output.flatten()
        counts, _ = np.histogram(values[values < 30], np.linspace(-20, 30, 21))  # a value at an end lies beyond it
        drawn = mesh.get_array()
        assert drawn.shape == (20, 3)
        np.testing.assert_allclose(drawn.filled(0)[:, 0] * values.numel(), counts, atol=1e-6)
        np.testing.assert_array_equal(np.ma.getmaskarray(drawn)[:, 0], counts == 0)
        corners = mesh.get_coordinates()
        np.testing.assert_allclose(corners[0, :, 0], np.arange(4) - 0.5)
        np.testing.assert_allclose(corners[:, 0, 1], np.linspace(-20, 30, 21), atol=1e-6)
        assert [t.get_text() for t in axes.get_xticklabels()] == ["here", "there", "again"]
        assert isinstance(mesh.norm, mpl.colors.LogNorm)
        assert mesh.cmap == POSITIVE
        assert axes.get_title(loc="left").split()[0] == layer
        tallies = np.stack([page[layer].histogram.numpy() for page in records.diary.pages])
        outside = tallies[:, [0, -1]].sum() / tallies.sum()
        assert f"({outside:.1%} outside)".replace("%", " %") in axes.get_title(loc="left") or not outside


def test_black_is_fewer_than_one_in_100_000(records):
    """One value of 300,000 cannot be told from none, seven can."""
    values, bins = torch.zeros(1, 300_000), records.activity.bins
    values[0, 0], values[0, 1:8] = 16, 26
    activity, totals = Activity(("a",), bins), Totals("Linear", bins)
    totals.add(values)
    activity.totals["a", 0] = totals
    (mesh,) = meshes(figures.histograms([activity], ["a"]))
    _, one, seven = mesh.get_array().compressed()
    assert (one, seven) == pytest.approx((1 / 300_000, 7 / 300_000))
    assert max(mesh.to_rgba(one)[:3]) < 0.02 < 0.06 < max(mesh.to_rgba(seven)[:3])


K = 9


def assert_crops(axes: Axes, examples: Examples, digits: mv.Digits, channel: int) -> None:
    """One window after another: pixels of the digit, and beyond its border pale blue."""
    height, width = examples.field(channel, 0).size
    sheet = sheet_of(axes)
    gap, odd = divmod(sheet.shape[1] - K * width, K - 1)
    assert gap > 0
    assert odd == 0
    inside = np.arange(sheet.shape[1]) % (width + gap) < width
    assert (sheet[:, ~inside] == 1).all()
    for place, crop in enumerate(np.split(sheet[:, inside], K, axis=1)):
        top, left = examples.field(channel, place).window
        image = digits.images[int(examples.rows[channel, place])].numpy() / 255
        expected = np.full((height, width, 3), BEYOND)
        for i, j in np.ndindex(height, width):
            if 0 <= top + i < 28 and 0 <= left + j < 28:
                expected[i, j] = image[top + i, left + j]
        np.testing.assert_allclose(crop, expected, atol=1e-6)
    assert axes.get_ylabel() == f"channel {channel}"
    ends = [float(value) for value in axes.get_xlabel().split(" … ")]
    assert ends == pytest.approx(examples.values[channel, [0, -1]].tolist(), abs=0.00501)


@pytest.mark.parametrize(("layer", "channels"), [("relu2", [3, 0, 7]), ("relu5", [1, 100]), ("fc2", [9, 4])])
def test_each_channel_has_its_crops_the_first_digit_framed_and_all_classes_counted(layer, channels, records):
    digits = records.few[100:180]
    examples = mv.top_examples(records.models["deep"], digits.pixels, layer, K)
    axes = figures.top_examples(examples, digits, iter(channels)).axes
    fields = [examples.field(channel, place) for channel in channels for place in range(K)]
    assert any((field.height, field.width) != field.size for field in fields) == (layer != "relu2")  # at a border
    for (crops, first, classes), channel in zip(np.reshape(axes, (-1, 3)), channels, strict=True):
        assert_crops(crops, examples, digits, channel)
        rows, field = examples.rows[channel], examples.field(channel, 0)
        np.testing.assert_array_equal(sheet_of(first), digits.images[int(rows[0])].numpy())
        assert first.images[0].get_clim() == (0, 255)
        (frame,) = first.patches
        assert frame.get_xy() == (field.left - 0.5, field.top - 0.5)
        assert (frame.get_width(), frame.get_height()) == (field.width, field.height)
        labels = digits.labels[rows].tolist()
        assert [bar.get_height() for bar in classes.containers[0]] == [labels.count(d) for d in range(10)]
        assert classes.get_ylim() == (0, K)
        assert [text.get_text() for text in classes.get_xticklabels()] == list("0123456789")


def points_of(picture: Picture, labels: Tensor) -> np.ndarray:
    """Where each digit was drawn: class by class, in the order of the rows."""
    points = np.full((len(labels), 2), np.nan)
    for d, dots in enumerate(picture.axes[0].collections):
        points[labels == d] = dots.get_offsets()
    return points


@pytest.mark.parametrize(("method", "more"), [("pca", {}), ("tsne", {"seed": 5, "perplexity": 2.5})])
def test_points_are_those_of_the_projection_and_what_it_holds_is_told(method, more, records):
    picture = figures.embedding(records.features[:30], records.few[:30], method, thumbnails=0, **more)
    projection = project(records.features[:30], method, **more)
    np.testing.assert_array_equal(points_of(picture, records.few.labels[:30]), projection.points[0])
    told = "the two directions hold {:.1f} % of the variance" if projection.held else "t-SNE, perplexity 2.5:"
    assert told.format(100 * (projection.held or 0)) in caption_of(picture)


def test_each_digit_has_the_colour_of_its_class_and_each_class_that_occurs_its_number(records):
    known = records.few[:150].labels != 4
    features, digits = records.features[known], records.few[:150][known]
    picture = figures.embedding(features, digits, thumbnails=0)
    (axes,) = picture.axes
    points = points_of(picture, digits.labels)
    assert np.isfinite(points).all()
    assert len(axes.collections) == 10
    assert [text.get_text() for text in axes.texts] == list("012356789")
    colours = [to_rgb(colour) for colour in mpl.rcParamsDefault["axes.prop_cycle"].by_key()["color"]]
    assert [tuple(dots.get_facecolor()[0, :3]) for dots in axes.collections] == colours
    for text in axes.texts:
        d = int(text.get_text())
        assert text.xy == pytest.approx(np.median(points[digits.labels == d], axis=0))
        assert text.get_bbox_patch().get_edgecolor()[:3] == colours[d]


@pytest.mark.parametrize(("wanted", "count"), [(0, 0), (12, 12), (500, 150)])
def test_thumbnails_are_digits_at_their_points_each_as_far_as_can_be_from_those_before(wanted, count, records):
    digits = records.few[:150]
    picture = figures.embedding(records.features, digits, thumbnails=wanted)
    points = points_of(picture, digits.labels)
    stamps = [artist for artist in picture.axes[0].artists if isinstance(artist, AnnotationBbox)]
    rows = [int(np.abs(points - stamp.xy).sum(1).argmin()) for stamp in stamps]
    assert len(set(rows)) == len(stamps) == count
    for k, (stamp, row) in enumerate(zip(stamps, rows, strict=True)):
        assert stamp.xy == pytest.approx(points[row])
        ink = digits.images[row].numpy()
        black_ink_on_nothing = np.dstack([255 - ink] * 3 + [ink])
        np.testing.assert_array_equal(stamp.offsetbox.get_data(), black_ink_on_nothing)
        assert stamp.offsetbox.image.get_interpolation() == "nearest"
        if k:
            to_nearest = np.linalg.norm(points[:, None] - points[rows[:k]], axis=2).min(1)
            assert to_nearest[row] == pytest.approx(to_nearest.max())
