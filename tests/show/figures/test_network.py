"""The drawing of a network is to scale, counts every parameter, and hides no way that leads past the layers."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from test_maps import MODELS, assert_fit_to_be_seen, at_once, caption_of, fresh, seen  # noqa: F401
from torch import Tensor, nn

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.trace import Trace
from mnistviz.show.picture import Picture

FACE = "#a9cfea"


class Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Residual(nn.Module):
    """Two additions: one between the layers, one that is a layer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.conv3, self.add = nn.Conv2d(8, 8, 3, padding=1), Add()
        self.flatten, self.fc = nn.Flatten(), nn.Linear(8 * 784, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = F.relu(x + self.conv2(x))
        return self.fc(self.flatten(self.add(x, self.conv3(y))))


@pytest.fixture(scope="module")
def traces(few: mv.Digits) -> dict[str, Trace]:
    return {name: seen(fresh(name), few[7].pixels) for name in MODELS}


@pytest.fixture(scope="module")
def pictures(traces: dict[str, Trace]) -> dict[str, Picture]:
    return {name: figures.network(trace) for name, trace in traces.items()}


@pytest.fixture(scope="module")
def residual(few: mv.Digits) -> Trace:
    return seen(Residual(), few[5].pixels)


def faces_of(axes: Axes) -> list[np.ndarray]:
    """The corners of the faces of the boxes, from left to right."""
    polygons = [p for p in axes.patches if isinstance(p, Polygon)]
    assert len(polygons) % 3 == 0  # roof, side and face
    return [p.get_xy()[:4] for p in polygons if to_hex(p.get_facecolor()) == FACE]


def bars_of(axes: Axes) -> list[Rectangle]:
    return [p for p in axes.patches if isinstance(p, Rectangle)]


def arrows_of(axes: Axes) -> list[tuple[float, float, str]]:
    """Where each arrow begins and ends, and its line."""
    arrows = [p for p in axes.patches if isinstance(p, FancyArrowPatch)]
    return [(*(point[0] for point in arrow._posA_posB), arrow.get_linestyle()) for arrow in arrows]


def shapes_of(trace: Trace) -> list[tuple[int, ...]]:
    """Of the input and of what each stage hands on."""
    results = [trace.steps[trace.result_of(stage)].output for stage in trace.stages()]
    return [tuple(x.shape[1:]) for x in (trace.input, *results)]


@pytest.mark.parametrize("name", ["deep", "light", "pooled", "residual"])
def test_a_network_is_fit_to_be_seen(name: str, traces: dict[str, Trace], residual: Trace) -> None:
    trace = residual if name == "residual" else traces[name]
    assert_fit_to_be_seen(lambda: figures.network(trace), trace)


@pytest.mark.parametrize("name", MODELS)
def test_there_is_a_block_for_the_input_and_for_every_stage(
    name: str, traces: dict[str, Trace], pictures: dict[str, Picture]
) -> None:
    trace = traces[name]
    picture = pictures[name]
    (axes,) = picture.axes
    shapes = shapes_of(trace)
    assert len(faces_of(axes)) + len(bars_of(axes)) == len(trace.stages()) + 1
    sizes, notes = (axes.texts[k::2] for k in (0, 1))
    assert [t.get_text() for t in sizes] == ["×".join(map(str, shape)) for shape in shapes]
    named = [line.split()[0] for note in notes for line in note.get_text().split("\n") if line[0].isalpha()]
    assert named == ["input", *trace.keys]
    for layer in trace.keys:
        size = trace[layer].settings.get("kernel_size")
        if size is not None:
            high, wide = np.broadcast_to(size, 2)
            assert any(f"{layer} {high}×{wide}" in note.get_text().split("\n") for note in notes)
    assert all("×".join(map(str, shape)) in picture.alt for shape in shapes[1:])


@pytest.mark.parametrize("name", MODELS)
def test_the_parameters_below_the_blocks_are_all_there_are(
    name: str, traces: dict[str, Trace], pictures: dict[str, Picture]
) -> None:
    picture = pictures[name]
    last = [text.get_text().split("\n")[-1] for text in picture.axes[0].texts[1::2]]
    counts = [int(line.replace(",", "")) for line in last if re.fullmatch(r"[\d,]+", line)]
    total = mv.models.count_parameters(fresh(name))
    assert sum(counts) == total
    assert caption_of(picture).startswith(f"{total:,} parameters, ")
    for stage, line in zip(traces[name].stages(), last[1:], strict=True):
        weights = [w for i in stage for key, w in traces[name].steps[i].weights.items() if key in ("weight", "bias")]
        assert line == f"{sum(w.numel() for w in weights):,}"


@pytest.mark.parametrize("name", MODELS)
def test_everything_is_drawn_to_one_scale(name: str, traces: dict[str, Trace], pictures: dict[str, Picture]) -> None:
    (axes,) = pictures[name].axes
    assert axes.get_aspect() == 1
    shapes = shapes_of(traces[name])
    boxes = [shape for shape in shapes if len(shape) == 3]
    polygons = [p.get_xy()[:4] for p in axes.patches if isinstance(p, Polygon)]
    for (channels, high, wide), (roof, side, face) in zip(
        boxes, (polygons[i : i + 3] for i in range(0, len(polygons), 3)), strict=True
    ):
        assert np.ptp(face, axis=0) == pytest.approx([wide, high])
        for corners, edge in ((roof, wide), (side, high)):
            assert len({tuple(c) for c in np.round(corners, 6)} & {tuple(c) for c in np.round(face, 6)}) == 2
            depth = max(np.linalg.norm(np.diff(corners, axis=0), axis=1), key=lambda d: abs(d - edge))
            assert depth == pytest.approx(channels * 0.2 * np.hypot(0.8, 0.5))
    flat = [shape[0] for shape in shapes if len(shape) == 1]
    heights = [bar.get_height() for bar in bars_of(axes)]
    assert heights == pytest.approx([1.4 * np.sqrt(n) for n in flat])
    assert len({bar.get_width() for bar in bars_of(axes)}) == 1


@pytest.mark.parametrize("name", MODELS)
def test_the_blocks_stand_apart_in_their_order(name: str, pictures: dict[str, Picture]) -> None:
    (axes,) = pictures[name].axes
    spans = sorted(
        [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars_of(axes)]
        + [
            (min(p.get_xy()[:, 0].min() for p in box), max(p.get_xy()[:, 0].max() for p in box))
            for box in zip(*[iter(p for p in axes.patches if isinstance(p, Polygon))] * 3, strict=True)
        ]
    )
    assert all(a[1] + 9 < b[0] for a, b in pairwise(spans))
    centres = [(a + b) / 2 for a, b in spans]
    assert [t.get_position()[0] for t in axes.texts[::2]] == pytest.approx(centres)
    assert axes.get_xlim()[0] < spans[0][0]
    assert spans[-1][1] < axes.get_xlim()[1]


@pytest.mark.parametrize("name", MODELS)
def test_in_a_plain_network_an_arrow_leads_from_each_block_to_the_next(
    name: str, traces: dict[str, Trace], pictures: dict[str, Picture]
) -> None:
    (axes,) = pictures[name].axes
    centres = [t.get_position()[0] for t in axes.texts[::2]]
    arrows = arrows_of(axes)
    assert len(arrows) == len(traces[name].stages())
    for (start, end, line), (before, after) in zip(arrows, pairwise(centres), strict=True):
        assert before < start < end < after
        assert line == "-"


def test_the_first_face_is_the_digit(pictures: dict[str, Picture], few: mv.Digits) -> None:
    (axes,) = pictures["deep"].axes
    (image,) = axes.images
    np.testing.assert_allclose(np.asarray(image.get_array()), few.images[7].numpy() / 255, atol=1e-7)
    left, right, bottom, top = image.get_extent()
    face = faces_of(axes)[0]
    assert [left, bottom] == pytest.approx(face.min(0))
    assert [right, top] == pytest.approx(face.max(0))
    assert image.get_cmap().name == "gray"


def test_a_faint_digit_is_not_drawn_brighter_than_it_is(few: mv.Digits) -> None:
    picture = figures.network(seen(fresh("light"), few[7].pixels * 0.25))
    assert picture.axes[0].images[0].get_clim() == (0, 1)


def test_ways_between_the_layers_are_dashed_and_ways_past_them_curved(residual: Trace) -> None:
    """What is added up between the layers is known to have come from somewhere, not from where."""
    (axes,) = figures.network(residual).axes
    centres = [t.get_position()[0] for t in axes.texts[::2]]
    found = {}
    for arrow in (p for p in axes.patches if isinstance(p, FancyArrowPatch)):
        (start, _), (end, _) = arrow._posA_posB
        first = max(i for i, c in enumerate(centres) if c < start)
        last = min(i for i, c in enumerate(centres) if c > end)
        found[first, last] = arrow.get_linestyle(), arrow.get_connectionstyle().rad if last - first > 1 else 0
    assert {pair: line for pair, (line, _) in found.items()} == {
        (0, 1): "-", (1, 2): "-", (2, 3): "--", (1, 3): "-", (3, 4): "-",
    }  # fmt: skip
    assert found[1, 3][1] != 0


FOREIGN = {
    "flat": lambda: (nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), torch.ones(1, 8)),
    "three colours": lambda: (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), torch.ones(1, 3, 8, 8)),
    "no layers": lambda: (nn.Sequential(), torch.ones(1, 1, 8, 8)),
    "a sequence": lambda: (nn.LSTM(4, 3), torch.ones(5, 2, 4)),
    "one layer": lambda: (nn.Conv2d(1, 200, 1), torch.ones(1, 1, 28, 28)),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_other_networks_can_be_drawn_too(name: str) -> None:
    trace = seen(*FOREIGN[name]())
    picture = assert_fit_to_be_seen(lambda: figures.network(trace), trace)
    (axes,) = picture.axes
    assert len(faces_of(axes)) + len(bars_of(axes)) == len(trace.stages()) + 1
    assert len(axes.images) == (trace.input.ndim == 4 and trace.input.shape[1] == 1)


def test_height_and_width_are_not_confused() -> None:
    trace = seen(nn.Sequential(nn.Conv2d(1, 5, (3, 7))), torch.ones(1, 1, 12, 30))
    (axes,) = figures.network(trace).axes
    assert [list(np.ptp(face, axis=0)) for face in faces_of(axes)] == [[30, 12], [24, 10]]
    assert [t.get_text() for t in axes.texts] == ["1×12×30", "input", "5×10×24", "0 3×7\n110"]


def test_a_layer_that_runs_twice_keeps_its_calls_apart() -> None:
    relu = nn.ReLU()
    trace = seen(nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 2), relu), torch.ones(1, 4))
    notes = [t.get_text() for t in figures.network(trace).axes[0].texts[1::2]]
    assert notes == ["input", "0\n1:0\n20", "2\n1:1\n10"]
