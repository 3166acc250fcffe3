"""Figures of one pass: read back from the page, colours are outputs, bars are shares, and blocks are to scale."""

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers import caption_of, scale_of, sheet_of, words_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from PIL import Image
from torch import Tensor, nn
from zoo import record

from mnistviz import figures
from mnistviz.look.trace import Step, Trace
from mnistviz.show.colours import BLUE
from mnistviz.show.picture import Picture, percent
from mnistviz.show.scales import SCOPES, SIGNED, Scale


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


def test_the_first_filters_are_the_weights_and_have_their_numbers(records):
    weights = records.trace["conv1"].weight
    axes, bar = figures.filters(records.trace, "conv1").axes
    assert_tiles(axes, weights[:, 0], scale_of(weights))
    assert numbers_above(axes) == list(range(32))
    ends = f"{float(weights.abs().max()):.2f}"
    assert [t.get_text() for t in bar.get_yticklabels()] == [f"−{ends}", "0", ends]
    assert axes.get_title(loc="left") == "conv1: 32 filters, each 1×3×3"


@pytest.mark.parametrize(("name", "layer"), [("deep", "conv2"), ("light", "mix1"), ("compact", "conv2")])
def test_no_filter_is_collapsed_over_its_channels_and_each_has_its_number(name, layer, records):
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


def test_many_filters_of_few_channels_lie_down():
    layer = nn.Conv2d(3, 32, 3)
    weights = layer.weight.detach()
    picture = figures.filters(record(nn.Sequential(layer), torch.zeros(1, 3, 8, 8)), "0")
    axes = picture.axes[0]
    assert_tiles(axes, weights.transpose(0, 1).flatten(0, 1), scale_of(weights), columns=32)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("filter (output channel)", "input channel")
    assert picture.get_figwidth() > picture.get_figheight()


@pytest.mark.parametrize(("layer", "into"), [("conv1", 1), ("conv2", 32)])
def test_only_the_filters_asked_for_are_drawn_on_the_scale_of_all(layer, into, records):
    weights = records.trace[layer].weight
    axes = figures.filters(records.trace, layer, iter([30, 2, 7])).axes[0]
    assert_tiles(axes, weights[[30, 2, 7]].flatten(0, 1), scale_of(weights), columns=into if into > 1 else 0)
    written = axes.texts if into == 1 else axes.get_yticklabels()
    assert [text.get_text() for text in written] == ["30", "2", "7"]
    assert axes.get_title(loc="left") == f"{layer}: 3 of 32 filters, each {into}×3×3"


@pytest.mark.parametrize(
    ("layer", "scope"),
    [*(("conv1", scope) for scope in SCOPES), ("relu3", "network"), ("conv1", Scale(-1.0, 1.0, "across inputs"))],
    ids=str,
)
def test_feature_maps_have_the_colours_of_the_recorded_outputs(layer, scope, records):
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


def test_the_file_has_the_colours_that_were_drawn(records):
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
def test_only_the_channels_asked_for_are_drawn_in_their_order_beside_the_digit(channels, records):
    wanted = list(channels)
    left, right, _ = figures.feature_maps(records.trace, "relu2", channels=wanted).axes
    assert numbers_above(right) == wanted
    assert_tiles(right, records.trace["relu2"].output[0, wanted], scale_of(records.trace["relu2"].output))
    np.testing.assert_allclose(sheet_of(left), records.digit[0, 0])
    assert left.images[0].get_clim() == (0, 1)
    assert left.images[0].get_cmap().name == "gray"


def test_a_flat_layer_is_drawn_as_cells(records):
    output = records.trace["flatten"].output
    sheet = sheet_of(figures.feature_maps(records.trace, "flatten").axes[1])
    assert sheet.shape == (18, 64, 3)
    np.testing.assert_allclose(sheet.reshape(-1, 3), scale_of(output).rgb(output[0]), atol=1e-6)


def test_dead_maps_are_counted_and_named(records):
    dead = [c for c in range(128) if not records.trace["pool3"].output[0, c].any()]
    picture = figures.feature_maps(records.trace, "pool3")
    assert picture.alt.endswith(f"{len(dead)} constant.")
    assert words_of(picture).count("constant\n0") == len(dead) > 0


@pytest.mark.parametrize("scope", ["map", "network"])
def test_every_layer_with_maps_has_a_row_with_its_first_channels(scope, records):
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
def test_rows_of_maps_share_one_scale(layer, channels, records):
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


@pytest.fixture(scope="module", params=["deep", "compact", "pooled"])
def prediction(request, records) -> tuple[Any, Picture]:
    trace = records.passes[request.param]
    return trace, figures.complete_prediction(trace, label=7)


def test_the_bars_are_the_softmax_of_the_recorded_scores(prediction):
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


def test_each_column_is_what_a_stage_hands_on(prediction):
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


class Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class TwoAdditions(nn.Module):
    """One between the layers, and one that is a layer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.add, self.flatten, self.fc = Add(), nn.Flatten(), nn.Linear(8 * 784, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = (x + self.conv2(x)).relu()
        return self.fc(self.flatten(self.add(x, self.conv3(y))))


def boxes_of(axes: Axes) -> list[np.ndarray]:
    """Roof, side and face of each box, from left to right, as corners."""
    polygons = [p.get_xy()[:4] for p in axes.patches if isinstance(p, Polygon)]
    return [np.array(polygons[i : i + 3]) for i in range(0, len(polygons), 3)]


def bars_of(axes: Axes) -> list[Rectangle]:
    return [p for p in axes.patches if isinstance(p, Rectangle)]


def parameters_of(step: Step) -> list[Tensor]:
    return [weight for name, weight in step.weights.items() if name in ("weight", "bias")]


def shapes_of(trace: Trace) -> list[tuple[int, ...]]:
    """Of the input and of what each stage hands on."""
    results = [trace.steps[trace.result_of(stage)].output for stage in trace.stages()]
    return [tuple(x.shape[1:]) for x in (trace.input, *results)]


@pytest.fixture(scope="module", params=["deep", "light", "pooled"])
def drawn(request, records) -> tuple[Trace, Picture]:
    trace = records.passes[request.param]
    return trace, figures.network(trace)


def test_there_is_a_block_for_the_input_and_for_every_stage_with_all_its_parameters(drawn):
    trace, picture = drawn
    (axes,) = picture.axes
    shapes = shapes_of(trace)
    assert len(boxes_of(axes)) + len(bars_of(axes)) == len(shapes)
    sizes, notes = ([t.get_text() for t in axes.texts[k::2]] for k in (0, 1))
    assert sizes == ["×".join(map(str, shape)) for shape in shapes]
    lines = [line for note in notes for line in note.split("\n")]
    named = [line.split()[0] for line in lines if line[0].isalpha() and line != "parameters"]
    assert named == ["input", *trace.keys]
    for layer, step in trace.items():
        if "kernel_size" in step.settings:
            high, wide = np.broadcast_to(step.settings["kernel_size"], 2)
            assert f"{layer} {high}×{wide}" in lines
    assert all(size in picture.alt for size in sizes[1:])
    learned = [sum(w.numel() for i in stage for w in parameters_of(trace.steps[i])) for stage in trace.stages()]
    counts = [note.removesuffix("\nparameters").split("\n")[-1].replace(",", "") for note in notes[1:]]
    assert [int(count) if count.isdigit() else 0 for count in counts] == learned
    assert caption_of(picture).startswith(f"{sum(learned):,} parameters in all")


def test_everything_is_drawn_to_one_scale_the_digit_too(drawn):
    trace, picture = drawn
    (axes,) = picture.axes
    assert axes.get_aspect() == 1
    boxes = [shape for shape in shapes_of(trace) if len(shape) == 3]
    for (channels, high, wide), (roof, side, face) in zip(boxes, boxes_of(axes), strict=True):
        assert np.ptp(face, axis=0) == pytest.approx([wide, high])
        for corners, edge in ((roof, wide), (side, high)):
            assert len({tuple(c) for c in np.round(corners, 6)} & {tuple(c) for c in np.round(face, 6)}) == 2
            depth = max(np.linalg.norm(np.diff(corners, axis=0), axis=1), key=lambda d: abs(d - edge))
            assert depth == pytest.approx(channels * 0.2 * np.hypot(0.8, 0.5))
    (digit,), (left, bottom) = axes.images, boxes_of(axes)[0][2].min(0)
    np.testing.assert_allclose(digit.get_array(), trace.input[0, 0])  # on the first face
    assert digit.get_extent() == pytest.approx([left, left + 28, bottom, bottom + 28])
    assert (digit.get_clim(), digit.get_cmap().name) == ((0, 1), "gray")
    flat = [shape[0] for shape in shapes_of(trace) if len(shape) == 1]
    assert [bar.get_height() for bar in bars_of(axes)] == pytest.approx([1.4 * np.sqrt(n) for n in flat])
    assert len({bar.get_width() for bar in bars_of(axes)}) == 1


def test_blocks_stand_apart_and_an_arrow_leads_from_each_to_the_next(drawn):
    (axes,) = drawn[1].axes
    spans = [(box[..., 0].min(), box[..., 0].max()) for box in boxes_of(axes)]
    spans = sorted([*spans, *((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars_of(axes))])
    assert all(a[1] + 9 < b[0] for a, b in pairwise(spans))
    assert axes.get_xlim()[0] < spans[0][0]
    assert spans[-1][1] < axes.get_xlim()[1]
    centres = [(a + b) / 2 for a, b in spans]
    assert [t.get_position()[0] for t in axes.texts[::2]] == pytest.approx(centres)
    arrows = [p for p in axes.patches if isinstance(p, FancyArrowPatch)]
    for arrow, (before, after) in zip(arrows, pairwise(spans), strict=True):
        (start, _), (end, _) = arrow._posA_posB
        assert before[1] < start < end < after[0]
        assert arrow.get_linestyle() == "-"


def test_ways_between_the_layers_are_dashed_and_ways_past_them_curved(records):
    """What is added up between the layers is known to have come from somewhere, not from where."""
    (axes,) = figures.network(record(TwoAdditions(), records.digit)).axes
    centres = [t.get_position()[0] for t in axes.texts[::2]]
    lines, curved = {}, []
    for arrow in (p for p in axes.patches if isinstance(p, FancyArrowPatch)):
        (start, _), (end, _) = arrow._posA_posB
        ends = max(i for i, c in enumerate(centres) if c < start), min(i for i, c in enumerate(centres) if c > end)
        lines[ends] = arrow.get_linestyle()
        curved += [ends] if getattr(arrow.get_connectionstyle(), "rad", 0) else []
    assert lines == {(0, 1): "-", (1, 2): "-", (2, 3): "--", (1, 3): "-", (3, 4): "-"}
    assert curved == [(1, 3)]


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_other_networks_can_be_drawn_too(channels):
    """Without maps, with many channels, and of three colours, which are no digit."""
    layer = nn.Conv2d(channels, 200, 1) if channels else nn.Linear(8, 4)
    trace = record(nn.Sequential(layer), torch.ones(1, channels, 28, 28) if channels else torch.ones(1, 8))
    (axes,) = figures.network(trace).axes
    assert len(boxes_of(axes)) + len(bars_of(axes)) == 2
    assert len(axes.images) == (channels == 1)


def test_height_and_width_are_not_confused_nor_the_calls_of_a_layer():
    (axes,) = figures.network(record(nn.Sequential(nn.Conv2d(1, 5, (3, 7))), torch.ones(1, 1, 12, 30))).axes
    assert [list(np.ptp(face, axis=0)) for _, _, face in boxes_of(axes)] == [[30, 12], [24, 10]]
    assert [t.get_text() for t in axes.texts] == ["1×12×30", "input", "5×10×24", "0 3×7\n110\nparameters"]
    relu = nn.ReLU()
    trace = record(nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 2), relu), torch.ones(1, 4))
    notes = [t.get_text() for t in figures.network(trace).axes[0].texts[3::2]]
    assert notes == ["0\n1:0\n20\nparameters", "2\n1:1\n10\nparameters"]


def test_decisions_have_the_colours_of_their_probabilities_and_a_line_where_they_change(records):
    points, labels, rising = records.plane
    panels = figures.decisions(points, labels, {"a": rising, "b": rising.T, "c": torch.full((4, 4), 0.9)}).axes
    for axes, shares in zip(panels, (rising, rising.T), strict=False):
        np.testing.assert_allclose(sheet_of(axes), SIGNED(0.32 + 0.36 * shares.double().numpy()), atol=1e-7)
        assert (axes.images[0].origin, axes.images[0].get_extent()) == ("lower", [-3, 3, -3, 3])
        line, noughts, ones = axes.collections
        assert (ones.get_offsets().tolist(), noughts.get_offsets().tolist()) == ([[0, 0]], [[2, 1], [-1, -2]])
        assert to_hex(ones.get_facecolor()[0]) != to_hex(noughts.get_facecolor()[0])
        x, y = line.get_paths()[0].vertices.T if axes is panels[0] else line.get_paths()[0].vertices.T[::-1]
        assert 5 * y + x == pytest.approx(0 * x, abs=1e-5)  # where they are one half
    assert len(panels[2].collections) == 2  # where all answers are one there is no line
