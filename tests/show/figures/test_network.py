"""The drawing of a network is to scale, counts every parameter, and hides no way that leads past the layers."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers import caption_of, sheet_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import Tensor, nn
from zoo import record

from mnistviz import figures
from mnistviz.look.trace import Trace
from mnistviz.show.picture import Picture
from mnistviz.show.scales import SIGNED


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


def shapes_of(trace: Trace) -> list[tuple[int, ...]]:
    """Of the input and of what each stage hands on."""
    results = [trace.steps[trace.result_of(stage)].output for stage in trace.stages()]
    return [tuple(x.shape[1:]) for x in (trace.input, *results)]


@pytest.fixture(scope="module", params=["deep", "light", "pooled"])
def drawn(request: pytest.FixtureRequest, records: Any) -> tuple[Trace, Picture]:
    trace = records.passes[request.param]
    return trace, figures.network(trace)


def test_there_is_a_block_for_the_input_and_for_every_stage(drawn: tuple[Trace, Picture]) -> None:
    trace, picture = drawn
    (axes,) = picture.axes
    shapes = shapes_of(trace)
    assert len(boxes_of(axes)) + len(bars_of(axes)) == len(shapes)
    sizes, notes = ([t.get_text() for t in axes.texts[k::2]] for k in (0, 1))
    assert sizes == ["×".join(map(str, shape)) for shape in shapes]
    lines = [line for note in notes for line in note.split("\n")]
    assert [line.split()[0] for line in lines if line[0].isalpha()] == ["input", *trace.keys]
    for layer, step in trace.items():
        if "kernel_size" in step.settings:
            high, wide = np.broadcast_to(step.settings["kernel_size"], 2)
            assert f"{layer} {high}×{wide}" in lines
    assert all(size in picture.alt for size in sizes[1:])


def test_the_parameters_below_the_blocks_are_all_there_are(drawn: tuple[Trace, Picture]) -> None:
    trace, picture = drawn
    last = [text.get_text().split("\n")[-1] for text in picture.axes[0].texts[1::2]]
    counts = [int(line.replace(",", "")) if re.fullmatch(r"[\d,]+", line) else 0 for line in last[1:]]
    for stage, count in zip(trace.stages(), counts, strict=True):
        weights = [w for i in stage for key, w in trace.steps[i].weights.items() if key in ("weight", "bias")]
        assert count == sum(w.numel() for w in weights)
    assert caption_of(picture).startswith(f"{sum(counts):,} parameters, ")


def test_everything_is_drawn_to_one_scale(drawn: tuple[Trace, Picture]) -> None:
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
    flat = [shape[0] for shape in shapes_of(trace) if len(shape) == 1]
    assert [bar.get_height() for bar in bars_of(axes)] == pytest.approx([1.4 * np.sqrt(n) for n in flat])
    assert len({bar.get_width() for bar in bars_of(axes)}) == 1


def test_blocks_stand_apart_and_an_arrow_leads_from_each_to_the_next(drawn: tuple[Trace, Picture]) -> None:
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


def test_the_first_face_is_the_digit_and_a_faint_one_is_not_drawn_brighter(records: Any) -> None:
    picture = figures.network(record(records.models["light"], records.digit * 0.25))
    (axes,) = picture.axes
    np.testing.assert_allclose(sheet_of(axes), records.digit[0, 0] * 0.25)
    left, right, bottom, top = axes.images[0].get_extent()
    face = boxes_of(axes)[0][2]
    assert [left, bottom] == pytest.approx(face.min(0))
    assert [right, top] == pytest.approx(face.max(0))
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.images[0].get_cmap().name == "gray"


def test_ways_between_the_layers_are_dashed_and_ways_past_them_curved(records: Any) -> None:
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
def test_other_networks_can_be_drawn_too(channels: int) -> None:
    """Without maps, with many channels, and of three colours, which are no digit."""
    layer = nn.Conv2d(channels, 200, 1) if channels else nn.Linear(8, 4)
    trace = record(nn.Sequential(layer), torch.ones(1, channels, 28, 28) if channels else torch.ones(1, 8))
    (axes,) = figures.network(trace).axes
    assert len(boxes_of(axes)) + len(bars_of(axes)) == 2
    assert len(axes.images) == (channels == 1)


def test_height_and_width_are_not_confused_nor_the_calls_of_a_layer() -> None:
    (axes,) = figures.network(record(nn.Sequential(nn.Conv2d(1, 5, (3, 7))), torch.ones(1, 1, 12, 30))).axes
    assert [list(np.ptp(face, axis=0)) for _, _, face in boxes_of(axes)] == [[30, 12], [24, 10]]
    assert [t.get_text() for t in axes.texts] == ["1×12×30", "input", "5×10×24", "0 3×7\n110"]
    relu = nn.ReLU()
    trace = record(nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 2), relu), torch.ones(1, 4))
    assert [t.get_text() for t in figures.network(trace).axes[0].texts[3::2]] == ["0\n1:0\n20", "2\n1:1\n10"]


# ── decisions on a plane ──────────────────────────────────────────────────────────────────────────────────


def test_colours_are_the_probabilities_and_points_keep_their_places(records: Any) -> None:
    points, labels, rising = records.plane
    left, right = figures.decisions(points, labels, {"a": rising, "b": rising.T}).axes
    np.testing.assert_allclose(sheet_of(left), SIGNED(0.32 + 0.36 * rising.double().numpy()), atol=1e-7)
    np.testing.assert_allclose(sheet_of(right), SIGNED(0.32 + 0.36 * rising.T.double().numpy()), atol=1e-7)
    assert left.images[0].origin == "lower"
    assert left.images[0].get_extent() == [-3, 3, -3, 3]
    *_, noughts, ones = left.collections
    assert ones.get_offsets().tolist() == [[0, 0]]
    assert noughts.get_offsets().tolist() == [[2, 1], [-1, -2]]
    assert len({to_hex(c.get_facecolor()[0]) for c in (noughts, ones)}) == 2


def test_the_line_is_where_the_answer_changes(records: Any) -> None:
    points, labels, _ = records.plane
    across = torch.linspace(0, 1, 5).expand(5, 5)
    (axes,) = figures.decisions(points, labels, {"a": across}).axes
    assert np.unique(axes.collections[0].get_paths()[0].vertices[:, 0]) == pytest.approx([0])
    (axes,) = figures.decisions(points, labels, {"a": torch.full((4, 4), 0.9)}).axes
    assert len(axes.collections) == 2  # where all answers are one there is no line
