"""Figures of many passes: marks, bars, cells and lines stand at the totals that were summed up."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from test_maps import assert_fit_to_be_seen, at_once, caption_of, fresh, seen  # noqa: F401

import mnistviz as mv
from mnistviz import figures
from mnistviz.learn.recipes import Recipe
from mnistviz.look.activity import Activity, Totals
from mnistviz.show.picture import BLUE, ORANGE, Picture
from mnistviz.show.scales import POSITIVE

SOME = ["conv1", "relu1", "pool1", "fc1", "relu6"]
BINS = mv.activity.Bins(-2.0, 3.0, 20)


def watched(model: torch.nn.Module, digits: mv.Digits, bins: mv.activity.Bins | None = None) -> Activity:
    with mv.watch(model, bins=bins) as activity:
        mv.predict(model, digits)
    return activity


@pytest.fixture(scope="module")
def trained(few: mv.Digits) -> Activity:
    return watched(mv.load_model("deep"), few[:48], BINS)


@pytest.fixture(scope="module")
def untrained(few: mv.Digits) -> Activity:
    return watched(fresh("deep").eval(), few[:48], BINS)


@pytest.fixture(scope="module")
def diary(few: mv.Digits) -> mv.Diary:
    """A short training: the page before it, three epochs of four steps, and every second step."""
    diary = mv.Diary(few[300:348].pixels, bins=BINS, every=2)
    recipe = Recipe("light", epochs=3, batch=32, lr=0.01, precision="float32")
    mv.fit(fresh("light"), few[:128], recipe=recipe, device="cpu", callbacks=diary.callbacks, progress=False)
    return diary


@pytest.fixture
def empty(few: mv.Digits) -> mv.Diary:
    return mv.Diary(few[:4].pixels)


DRAWN: dict[str, Callable[[Activity, Activity, mv.Diary], Picture]] = {
    "activation_analysis": lambda a, b, d: figures.activation_analysis(a),
    "activation_analysis, two": lambda a, b, d: figures.activation_analysis({"trained": a, "at the start": b}, SOME),
    "histograms": lambda a, b, d: figures.histograms(d.pages, ["conv1", "relu1"]),
    "weight_ratios": lambda a, b, d: figures.weight_ratios(d),
    "silent_units": lambda a, b, d: figures.silent_units(d, ["relu1", "relu2", "relu3", "relu4", "conv1"]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_of_many_passes_is_fit_to_be_seen(
    name: str, trained: Activity, untrained: Activity, diary: mv.Diary
) -> None:
    assert_fit_to_be_seen(lambda: DRAWN[name](trained, untrained, diary), trained, untrained, diary)


# ── activation statistics ─────────────────────────────────────────────────────────────────────────────────


def shares_of(text: str) -> tuple[int, int]:
    silent, units = text.replace(",", "").split(" of ")
    return int(silent), int(units)


@pytest.mark.parametrize("layers", [None, ["relu4", "fc1", "relu1"]])
def test_marks_and_bars_are_the_totals_of_each_layer(layers: list[str] | None, trained: Activity) -> None:
    picture = figures.activation_analysis(trained, layers)
    names = layers or list(trained)
    totals = [trained[name] for name in names]
    means, zeros, silent = picture.axes
    (marks,) = means.containers
    middle, caps, (spread,) = marks
    assert list(middle.get_xdata()) == [t.mean for t in totals]
    assert list(middle.get_ydata()) == list(range(len(names)))
    for segment, t in zip(spread.get_segments(), totals, strict=True):
        assert segment[:, 0] == pytest.approx([t.mean - t.sd, t.mean + t.sd])
    assert len(caps) == 2
    assert [bar.get_width() for bar in zeros.containers[0]] == [t.zeros for t in totals]
    bars = silent.containers[0]
    assert [bar.get_width() for bar in bars] == [t.silent_units / t.units for t in totals]
    assert [shares_of(t.get_text()) for t in silent.texts] == [(t.silent_units, t.units) for t in totals]
    assert [t.get_text() for t in means.get_yticklabels()] == names
    assert list(means.get_yticks()) == list(range(len(names)))
    assert means.get_ylim()[0] > means.get_ylim()[1]  # the first layer on top
    assert caption_of(picture) == "Over 48 digits. Silent: exactly 0 for every one of them."
    worst = max(totals, key=lambda t: t.silent_units / t.units)
    assert f"with {worst.silent_units:,} of {worst.units:,} units" in picture.alt


def test_the_totals_drawn_are_those_of_all_outputs(trained: Activity, few: mv.Digits) -> None:
    """Summed up once more, from the outputs themselves."""
    out = seen(mv.load_model("deep"), few[:48].pixels)["relu2"].output.double()
    means, zeros, silent = figures.activation_analysis(trained, ["relu2"]).axes
    assert means.containers[0][0].get_xdata()[0] == pytest.approx(float(out.mean()), rel=1e-5)
    left, right = means.containers[0][2][0].get_segments()[0][:, 0]
    assert (right - left) / 2 == pytest.approx(float(out.std(correction=0)), rel=1e-4)
    assert zeros.containers[0][0].get_width() == pytest.approx(float((out == 0).double().mean()))
    never = int((out == 0).all(0).sum())
    assert 0 < never < 25088
    assert shares_of(silent.texts[0].get_text()) == (never, 25088)


def test_several_activities_stand_side_by_side_in_their_colours(trained: Activity, untrained: Activity) -> None:
    parts = {"trained": trained, "at the start": untrained}
    layers = ["relu1", "relu5"]
    picture = figures.activation_analysis(parts, layers)
    means, zeros, silent = picture.axes
    heights = []
    for k, (colour, one) in enumerate(zip((BLUE, ORANGE), parts.values(), strict=True)):
        middle = means.containers[k][0]
        assert list(middle.get_xdata()) == [one[name].mean for name in layers]
        bars = zeros.containers[k]
        assert [bar.get_width() for bar in bars] == [one[name].zeros for name in layers]
        assert {to_hex(bar.get_facecolor()) for bar in bars} == {to_hex(middle.get_color())} == {colour}
        assert [bar.get_y() + bar.get_height() / 2 for bar in bars] == pytest.approx(middle.get_ydata())
        heights.append(middle.get_ydata())
    assert (heights[0] < heights[1]).all()
    assert heights[0] + heights[1] == pytest.approx(2 * np.arange(2))  # about the layer's own line
    said = [shares_of(t.get_text()) for t in silent.texts]
    assert said == [(one[name].silent_units, one[name].units) for one in parts.values() for name in layers]
    (legend,) = picture.legends
    assert [t.get_text() for t in legend.get_texts()] == list(parts)
    handles = [to_hex(handle.get_facecolor()) for handle in legend.legend_handles]
    assert handles == [BLUE, ORANGE]


def test_a_single_activity_needs_no_legend(trained: Activity) -> None:
    assert not figures.activation_analysis(trained, ["relu1"]).legends


def test_every_number_of_digits_is_said(trained: Activity, few: mv.Digits) -> None:
    more = watched(mv.load_model("deep"), few[:60])
    picture = figures.activation_analysis({"some": trained, "more": more}, ["relu1"])
    assert "48" in caption_of(picture)
    assert "60" in caption_of(picture)


def test_where_nothing_was_watched_there_is_nothing_to_draw(trained: Activity) -> None:
    with mv.watch(mv.load_model("deep")) as idle:
        pass
    for nothing in (idle, {}, {"trained": trained, "idle": idle}):
        with pytest.raises(mv.MnistvizError, match="nothing was watched"):
            figures.activation_analysis(nothing)
    with pytest.raises(mv.MnistvizError, match="did you mean 'relu"):
        figures.activation_analysis(trained, ["relu8"])


# ── histograms ────────────────────────────────────────────────────────────────────────────────────────────


def meshes(picture: Picture) -> list[mpl.collections.QuadMesh]:
    """One per layer; the last axes is the colour bar."""
    return [ax.collections[0] for ax in picture.axes[:-1]]


def test_the_cells_are_the_shares_of_all_values(diary: mv.Diary) -> None:
    layers = ["conv1", "relu2", "fc1", "mix3"]
    picture = figures.histograms(diary.pages, layers)
    for mesh, axes, layer in zip(meshes(picture), picture.axes, layers, strict=False):
        tallies = np.stack([page[layer].histogram.numpy() for page in diary.pages], axis=1)
        shares = tallies / tallies.sum(0)
        drawn = mesh.get_array()
        assert drawn.shape == (20, 4)
        np.testing.assert_array_equal(np.ma.getmaskarray(drawn), tallies[1:-1] == 0)
        np.testing.assert_allclose(drawn.filled(0), shares[1:-1])
        corners = mesh.get_coordinates()
        np.testing.assert_allclose(corners[0, :, 0], np.arange(5) - 0.5)
        np.testing.assert_allclose(corners[:, 0, 1], np.linspace(-2, 3, 21), atol=1e-6)
        outside = tallies[[0, -1]].sum() / tallies.sum()
        title = axes.get_title(loc="left")
        assert title.split()[0] == layer
        assert ("outside" in title) == (outside > 0)
        if outside >= 0.001:
            assert f"({outside:.1%} outside)".replace("%", " %") in title


def test_the_cells_count_the_outputs_themselves(few: mv.Digits, trained: Activity) -> None:
    values = seen(mv.load_model("deep"), few[:48].pixels)["fc1"].output.flatten()
    (mesh,) = meshes(figures.histograms([trained], ["fc1"]))
    counts, _ = np.histogram(values, np.linspace(-2, 3, 21))
    assert mesh.get_array().filled(0).ravel() * values.numel() == pytest.approx(counts, abs=1.01)
    assert np.abs(mesh.get_array().filled(0).ravel() * values.numel() - counts).sum() <= 4  # rounding at an edge


def test_all_histograms_share_one_logarithmic_scale(diary: mv.Diary) -> None:
    picture = figures.histograms(diary.pages, ["conv1", "relu1"])
    first, second = meshes(picture)
    assert first.norm is second.norm
    assert isinstance(first.norm, mpl.colors.LogNorm)
    assert first.cmap == second.cmap == POSITIVE
    assert "20 bins from −2.00 to 3.00" in caption_of(picture)
    assert "over 48 digits" in caption_of(picture)


def test_the_smallest_share_can_be_told_from_none() -> None:
    """One value of 300,000 is not none, and the caption says that black is."""
    activity, totals = Activity(("a",), BINS), Totals("Linear", BINS)
    totals.add(torch.zeros(1, 300_000).index_fill_(1, torch.tensor([7]), 1.6))
    activity.totals["a", 0] = totals
    picture = figures.histograms([activity], ["a"])
    (mesh,) = meshes(picture)
    (cell,) = mesh.get_array()[mesh.get_array().filled(1) < 0.5]
    assert cell == pytest.approx(1 / 300_000)
    assert mesh.to_rgba(cell)[:3] != pytest.approx((0, 0, 0), abs=0.02) or "black is none" not in caption_of(picture)


def test_pages_may_have_names(trained: Activity, untrained: Activity) -> None:
    axes = figures.histograms([trained, untrained], ["bn1"], names=["after", "before"]).axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["after", "before"]
    assert list(axes.get_xticks()) == [0, 1]
    assert "epoch" not in axes.get_xlabel()


def test_without_pages_or_without_bins_there_are_no_histograms(few: mv.Digits, trained: Activity) -> None:
    with pytest.raises(mv.MnistvizError, match="no pages"):
        figures.histograms([], ["conv1"])
    with pytest.raises(mv.MnistvizError, match="no histogram"):
        figures.histograms([watched(mv.load_model("deep"), few[:2])], ["conv1"])
    with pytest.raises(mv.MnistvizError, match="did you mean 'conv"):
        figures.histograms([trained], ["conv9"])


# ── what training does ────────────────────────────────────────────────────────────────────────────────────


def test_the_lines_are_the_ratios_of_the_diary(diary: mv.Diary) -> None:
    picture = figures.weight_ratios(diary)
    layers = list(dict.fromkeys(row["layer"] for row in diary.ratios))
    assert layers == ["conv1", "conv2", "mix1", "conv3", "mix2", "conv4", "mix3", "fc1"]
    looks = []
    for axes, measure in zip(picture.axes, ("gradient", "update"), strict=True):
        assert axes.get_yscale() == "log"
        assert axes.get_title(loc="left") == f"{measure} / weight"
        for line, layer in zip(axes.lines, layers, strict=False):
            rows = [row for row in diary.ratios if row["layer"] == layer]
            assert list(line.get_xdata()) == [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
            assert list(line.get_ydata()) == pytest.approx([row[measure] for row in rows])
            looks.append((line.get_color(), line.get_linestyle(), line._dash_pattern))
    assert looks[:8] == looks[8:]
    assert len(set(map(str, looks[:8]))) == 8
    legend = picture.axes[1].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == layers
    for handle, (colour, *_) in zip(legend.legend_handles, looks, strict=False):
        assert handle.get_color() == colour
    *_, guide = picture.axes[1].lines
    (said,) = picture.axes[1].texts
    assert list(guide.get_ydata()) == [1e-3, 1e-3]
    assert (said.get_text(), to_hex(said.get_color())) == ("1 in 1,000", to_hex(guide.get_color()))
    last = [row["update"] for row in diary.ratios[-8:]]
    assert f"between {min(last):.1e} and {max(last):.1e} of" in picture.alt
    assert "every 2 steps" in caption_of(picture)


def test_the_lines_are_the_units_silent_since_each_epoch(diary: mv.Diary) -> None:
    layers = ["relu1", "relu4", "conv1"]
    picture = figures.silent_units(diary, layers)
    (axes,) = picture.axes
    for line, layer in zip(axes.lines, layers, strict=True):
        silent = np.stack([page[layer].silent.numpy().ravel() for page in diary.pages])
        since = [int(silent[k:].all(0).sum()) for k in range(4)]
        assert list(line.get_xdata()) == [0, 1, 2, 3]
        assert list(line.get_ydata()) == pytest.approx(np.array(since) / silent.shape[1])
        assert list(line.get_ydata()) == sorted(line.get_ydata())
        said = f"{layer}: {since[-1]:,} of {silent.shape[1]:,}"
        assert line.get_label() == f"{said} at the end"
        assert said in picture.alt
    assert axes.get_ylim()[0] == 0
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [line.get_label() for line in axes.lines]
    assert "each of 48 digits" in caption_of(picture)


def test_many_layers_are_told_apart(diary: mv.Diary) -> None:
    layers = ["relu1", "relu2", "relu3", "relu4", "conv1", "conv2", "pool1"]
    lines = figures.silent_units(diary, layers).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(layers)


def test_a_diary_of_nothing_has_no_ratios(empty: mv.Diary) -> None:
    with pytest.raises(mv.MnistvizError, match="no ratios"):
        figures.weight_ratios(empty)


def test_a_diary_without_pages_has_no_silent_units(empty: mv.Diary) -> None:
    with pytest.raises(mv.MnistvizError):
        figures.silent_units(empty, ["relu1"])


@pytest.mark.parametrize("figure", ["activation_analysis", "histograms", "silent_units"])
def test_no_layers_are_refused(figure: str, trained: Activity, diary: mv.Diary) -> None:
    record = {"activation_analysis": trained, "histograms": diary.pages, "silent_units": diary}[figure]
    with pytest.raises(mv.MnistvizError):
        getattr(figures, figure)(record, [])


def test_an_unknown_layer_of_a_diary_is_refused(diary: mv.Diary) -> None:
    with pytest.raises(mv.MnistvizError, match="did you mean 'relu"):
        figures.silent_units(diary, ["relu7"])
