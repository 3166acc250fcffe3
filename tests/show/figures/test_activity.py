"""Figures of many passes: marks, bars and cells stand at the totals that were summed up."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers import caption_of
from matplotlib.colors import to_hex

from mnistviz import figures
from mnistviz.look.activity import Activity, Totals
from mnistviz.show.colours import BLUE, ORANGE
from mnistviz.show.picture import Picture
from mnistviz.show.scales import POSITIVE


def shares_of(text: str) -> tuple[int, int]:
    silent, units = text.replace(",", "").split(" of ")
    return int(silent), int(units)


def test_marks_and_bars_are_the_totals_of_all_outputs(records: Any) -> None:
    """Summed up once more, from the outputs themselves."""
    names = ["5", "0", "1"]
    picture = figures.activation_analysis(records.activity, names)
    means, zeros, silent = picture.axes
    middle, _, (spread,) = means.containers[0]
    outputs = [records.many[name].output.double() for name in names]
    assert list(middle.get_xdata()) == pytest.approx([float(out.mean()) for out in outputs])
    for segment, out in zip(spread.get_segments(), outputs, strict=True):
        mean, sd = float(out.mean()), float(out.std(correction=0))
        assert segment[:, 0] == pytest.approx([mean - sd, mean + sd])
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


def test_several_activities_stand_side_by_side_in_their_colours(records: Any) -> None:
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


def test_the_cells_count_the_outputs_themselves(records: Any) -> None:
    layers = ["0", "4", "5"]
    picture = figures.histograms(records.diary.pages, layers)
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
        assert isinstance(mesh.norm, mpl.colors.LogNorm)
        assert mesh.cmap == POSITIVE
        assert axes.get_title(loc="left").split()[0] == layer
        tallies = np.stack([page[layer].histogram.numpy() for page in records.diary.pages])
        outside = tallies[:, [0, -1]].sum() / tallies.sum()
        assert f"({outside:.1%} outside)".replace("%", " %") in axes.get_title(loc="left") or not outside


def test_black_is_fewer_than_one_in_100_000(records: Any) -> None:
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


def test_pages_may_have_names(records: Any) -> None:
    axes = figures.histograms(records.diary.pages[:2], ["1"], names=["after", "before"]).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["after", "before"]
    assert list(axes.get_xticks()) == [0, 1]
    assert "epoch" not in axes.get_xlabel()
