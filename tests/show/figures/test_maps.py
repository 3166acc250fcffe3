"""Figures of one pass show what was recorded: read back from the page, colours are outputs and bars are shares."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from helpers import caption_of, scale_of, sheet_of, words_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor
from zoo import record

from mnistviz import figures
from mnistviz.show.colours import BLUE
from mnistviz.show.picture import Picture, percent
from mnistviz.show.scales import NOT_A_NUMBER, SCOPES, Scale


def corners(axes: Axes, count: int, height: int, width: int, columns: int = 0) -> tuple[np.ndarray, int]:
    """Row and column where each tile begins, as its label says or in `columns`, and the image pixels to one of its."""
    zoom = max(1, 28 // max(height, width)) if count <= 256 else 1
    labels = np.array([text.get_position() for text in axes.texts if text.get_ha() == "left"])
    if columns:
        rows, (high, wide) = -(-count // columns), sheet_of(axes).shape[:2]
        across = width * zoom + (wide - columns * width * zoom) // max(columns - 1, 1)
        down = height * zoom + (high - rows * height * zoom) // max(rows - 1, 1)
        return np.array([(i // columns * down, i % columns * across) for i in range(count)]), zoom
    assert len(labels) == count
    return np.rint((labels - labels[0])[:, ::-1]).astype(int), zoom


def assert_tiles(axes: Axes, maps: Tensor, scale: Scale | None, columns: int = 0) -> None:
    """Each tile has the colours of its map, on this scale or on its own."""
    sheet, (places, zoom) = sheet_of(axes), corners(axes, *maps.shape, columns)
    for (y, x), values in zip(places, maps, strict=True):
        drawn = sheet[y : y + len(values) * zoom : zoom, x : x + values.shape[1] * zoom : zoom]
        np.testing.assert_allclose(drawn, (scale or scale_of(values)).rgb(values), atol=1e-6)


def numbers_above(axes: Axes) -> list[int]:
    return [int(text.get_text()) for text in axes.texts if text.get_ha() == "left"]


# ── filters ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_filters_are_the_weights_and_have_their_numbers(records: Any) -> None:
    weights = records.trace["conv1"].weight
    axes, bar = figures.filters(records.trace, "conv1").axes
    assert_tiles(axes, weights[:, 0], scale_of(weights))
    assert numbers_above(axes) == list(range(32))
    ends = f"{float(weights.abs().max()):.2f}"
    assert [t.get_text() for t in bar.get_yticklabels()] == [f"−{ends}", "0", ends]
    assert axes.get_title(loc="left") == "conv1: 32 filters, each 1×3×3"


@pytest.mark.parametrize(("name", "layer"), [("deep", "conv2"), ("light", "mix1"), ("compact", "conv2")])
def test_no_filter_is_collapsed_over_its_channels_and_each_has_its_number(name: str, layer: str, records: Any) -> None:
    """One kernel for each pair of channels, a row per filter."""
    weights = records.passes[name][layer].weight
    out, into, height, width = weights.shape
    axes = figures.filters(records.passes[name], layer).axes[0]
    assert_tiles(axes, weights.flatten(0, 1), scale_of(weights), columns=into)
    places, zoom = corners(axes, out * into, height, width, columns=into)
    places = places.reshape(out, into, 2)
    for axis, starts, size in ((axes.yaxis, places[:, 0, 0], height), (axes.xaxis, places[0, :, 1], width)):
        numbers = [int(t.get_text()) for t in axis.get_ticklabels()]
        assert numbers == list(range(0, len(starts), max(1, len(starts) // 8)))
        assert list(axis.get_ticklocs()) == pytest.approx([starts[i] + (size * zoom - 1) / 2 for i in numbers])


# ── the maps of a layer ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("layer", "scope"),
    [*(("conv1", scope) for scope in SCOPES), ("relu3", "network"), ("conv1", Scale(-1.0, 1.0, "across inputs"))],
    ids=str,
)
def test_feature_maps_have_the_colours_of_the_recorded_outputs(layer: str, scope: str | Scale, records: Any) -> None:
    trace = records.trace
    picture = figures.feature_maps(trace, layer, scope)
    output = trace[layer].output[0]
    if scope == "map":
        assert_tiles(picture.axes[1], output, None)
        labels = [t.get_text() for t in picture.axes[1].texts if t.get_ha() == "left"]
        assert labels == [f"{i}  {'±' if (m < 0).any() else 'to '}{m.abs().max():.2f}" for i, m in enumerate(output)]
        assert len(picture.axes) == 2  # no bar could be true for all
        return
    outputs = [step.output for step in trace.steps] if scope == "network" else [output]
    scale = scope if isinstance(scope, Scale) else scale_of(*outputs, scope=scope)
    assert_tiles(picture.axes[1], output, scale)
    assert numbers_above(picture.axes[1]) == list(range(len(output)))
    assert f"Colours: {scale}." in caption_of(picture)
    assert [t.get_text() for t in picture.axes[2].get_yticklabels()][-1] == f"{scale.high:.2f}"


def test_the_file_has_the_colours_that_were_drawn(records: Any) -> None:
    """Looked up in the PNG, at the middle of every pixel of every image."""
    picture = figures.map_rows({"a seven": records.trace, "another": records.other}, "relu2", range(4))
    png = np.asarray(Image.open(io.BytesIO(picture._png())).convert("RGB")) / 255
    for axes in (ax for ax in picture.axes if ax.images):
        sheet = sheet_of(axes)
        colours = sheet if sheet.ndim == 3 else np.dstack([sheet] * 3)
        places = np.argwhere((colours < 1).any(-1))  # words may stand on the paper
        x, y = axes.transData.transform(places[:, ::-1]).astype(int).T
        assert np.abs(png[len(png) - 1 - y, x] - colours[tuple(places.T)]).max() < 8 / 255


@pytest.mark.parametrize("channels", [[7, 3], range(4, 16, 2), iter([31, 0])], ids=["list", "range", "iterator"])
def test_only_the_channels_asked_for_are_drawn_in_their_order_beside_the_digit(channels: Any, records: Any) -> None:
    wanted = list(channels)
    left, right, _ = figures.feature_maps(records.trace, "relu2", channels=wanted).axes
    assert numbers_above(right) == wanted
    assert_tiles(right, records.trace["relu2"].output[0, wanted], scale_of(records.trace["relu2"].output))
    np.testing.assert_allclose(sheet_of(left), records.digit[0, 0])
    assert left.images[0].get_clim() == (0, 1)
    assert left.images[0].get_cmap().name == "gray"


@pytest.mark.parametrize(("layer", "columns"), [("flatten", 64), ("fc2", 16)])
def test_a_flat_layer_is_drawn_as_cells(layer: str, columns: int, records: Any) -> None:
    output = records.trace[layer].output
    sheet = sheet_of(figures.feature_maps(records.trace, layer).axes[1])
    assert sheet.shape == (-(-output.numel() // columns), columns, 3)
    np.testing.assert_allclose(sheet.reshape(-1, 3)[: output.numel()], scale_of(output).rgb(output[0]), atol=1e-6)


def test_dead_maps_are_counted_and_named(records: Any) -> None:
    dead = [c for c in range(128) if not records.trace["pool3"].output[0, c].any()]
    picture = figures.feature_maps(records.trace, "pool3")
    assert dead
    assert picture.alt.endswith(f"{len(dead)} constant.")
    assert words_of(picture).count("constant\n0.00") == len(dead)


def test_a_map_that_is_not_a_number_is_green(records: Any) -> None:
    conv = torch.nn.Conv2d(1, 4, 3)
    with torch.no_grad():
        conv.bias[1] = torch.nan
    axes = figures.feature_maps(record(torch.nn.Sequential(conv), records.digit), "0").axes[1]
    green = np.isclose(sheet_of(axes), NOT_A_NUMBER, atol=1e-6).all(-1)
    assert [green[y : y + 26, x : x + 26].mean() for y, x in corners(axes, 4, 26, 26)[0]] == [0, 1, 0, 0]


# ── all layers, and several inputs ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scope", ["layer", "map", "network"])
def test_every_layer_with_maps_has_a_row_with_its_first_channels(scope: str, records: Any) -> None:
    trace = records.passes["light"]
    picture = figures.all_maps(trace, scope, each=6)
    rows = {axes.texts[0].get_text(): axes for axes in picture.axes}
    assert list(rows) == [k for k in trace if trace[k].output.ndim == 4 and not k.startswith("drop")]
    for layer, axes in rows.items():
        output = trace[layer].output
        outputs = [step.output for step in trace.steps] if scope == "network" else [output]
        scale = None if scope == "map" else scale_of(*outputs)
        assert_tiles(axes, output[0, :6], scale, columns=6)
        assert axes.texts[1].get_text() == "×".join(map(str, output.shape[1:]))
        if scale:
            low, high = (float(end.replace("−", "-")) for end in axes.texts[2].get_text().split(" … "))
            assert (low, high) == pytest.approx((scale.low, scale.high), abs=0.0051)


@pytest.mark.parametrize(("layer", "channels"), [("relu2", None), ("conv4", [9, 4, 40])])
def test_rows_of_maps_share_one_scale(layer: str, channels: list[int] | None, records: Any) -> None:
    both = {"a seven": records.trace, "another": records.other}
    picture = figures.map_rows(both, layer, channels)
    scale = scale_of(*(trace[layer].output for trace in both.values()), scope="across inputs")
    wanted = channels or list(range(8))
    for i, (name, trace) in enumerate(both.items()):
        left, right = picture.axes[2 * i : 2 * i + 2]
        np.testing.assert_allclose(sheet_of(left), trace.input[0, 0])
        assert left.get_ylabel() == name
        assert numbers_above(right) == wanted
        assert_tiles(right, trace[layer].output[0, wanted], scale)
    assert f"Colours: {scale}." in caption_of(picture)
    assert len(picture.axes) == 5  # one bar for both


# ── the whole way ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=["deep", "compact", "pooled"])
def prediction(request: pytest.FixtureRequest, records: Any) -> tuple[Any, Picture]:
    trace = records.passes[request.param]
    return trace, figures.complete_prediction(trace, label=7)


def test_the_bars_are_the_softmax_of_the_recorded_scores(prediction: tuple[Any, Picture]) -> None:
    trace, picture = prediction
    shares = torch.softmax(trace.steps[-1].output[0].double(), 0)
    answer, axes = int(shares.argmax()), picture.axes[-1]
    (bars,) = axes.containers
    assert [bar.get_width() for bar in bars] == pytest.approx(shares.tolist(), abs=1e-12)
    assert [t.get_text() for t in axes.texts] == [percent(float(p)) for p in shares]
    assert [i for i, bar in enumerate(bars) if to_hex(bar.get_facecolor()) == BLUE] == [answer]
    assert [t.get_text() for t in axes.get_yticklabels()] == [str(d) for d in range(10)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # 0 on top
    assert axes.get_title(loc="left") == f"answer: {answer}"
    assert f"the answer is {answer} with {percent(float(shares[answer]))}" in picture.alt


def test_each_column_is_what_a_stage_hands_on(prediction: tuple[Any, Picture]) -> None:
    trace, picture = prediction
    stages = trace.stages()[:-1]
    first, *columns, _ = picture.axes
    np.testing.assert_allclose(sheet_of(first), trace.input[0, 0])
    assert first.get_title(loc="left") == "input: a 7"
    for axes, stage in zip(columns, stages, strict=True):
        layers = axes.get_title().split("\n")
        result = trace[layers[-1]].output
        assert layers == [trace.keys[i] for i in stage][: len(layers)]
        assert all(trace.keys[i].startswith(("drop", "flatten")) for i in stage[len(layers) :])
        if result.ndim == 4:
            sums, labels = result[0].double().abs().sum((1, 2)), numbers_above(axes)
            assert len(set(labels)) == min(8, len(sums))
            assert sums[labels].tolist() == sorted(sums.tolist(), reverse=True)[:8]
            assert_tiles(axes, result[0, labels], scale_of(result), columns=2)
            assert axes.get_xlabel().startswith("×".join(map(str, result.shape[1:])))
        else:
            cells = sheet_of(axes).reshape(-1, 3)[: result.numel()]
            np.testing.assert_allclose(cells, scale_of(result).rgb(result[0]), atol=1e-6)
            assert axes.get_xlabel().startswith(f"{result.numel()} values")
