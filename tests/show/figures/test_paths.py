"""Figures of paths: every frame, dot and gate stands where the numbers went."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import caption_of, scale_of, sheet_of
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import nn
from zoo import record

import mnistviz as mv
from mnistviz import figures
from mnistviz.show.scales import short

UNITS = [("conv1", 14, 14), ("conv2", 0, 0), ("pool2", 6, 1), ("conv5", 3, 3), ("conv1", 27, 0)]


def frame_of(axes: Axes) -> tuple[float, float, float, float]:
    """Left, top, width and height of the one frame on an image, in whole pixels."""
    (box,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    return box.get_x() + 0.5, box.get_y() + 0.5, box.get_width(), box.get_height()


def test_a_frame_is_drawn_around_what_the_unit_sees(records: Any) -> None:
    picture = figures.receptive_fields(records.trace, UNITS)
    for axes, unit in zip(picture.axes, UNITS, strict=True):
        field = mv.receptive_field(records.trace, *unit)
        assert frame_of(axes) == (field.left, field.top, field.width, field.height)
        digit, veil = (np.asarray(image.get_array()) for image in axes.images)
        np.testing.assert_allclose(digit, records.digit[0, 0])
        inside = np.zeros((28, 28), bool)
        inside[field.top : field.bottom + 1, field.left : field.right + 1] = True
        assert ((veil[..., 3] == 0) == inside).all()
        whole, sees = "×".join(map(str, field.size)), f"{field.height}×{field.width}"
        clipped = f" of {whole}" if whole != sees else ""
        assert axes.get_xlabel() == f"unit y {unit[1]}, x {unit[2]}\nsees {sees}{clipped}"
        assert axes.get_title(loc="left") == unit[0]


def test_a_change_outside_the_frame_changes_nothing(records: Any) -> None:
    """The frame is right about the network itself, not only about its own record."""
    model, pixels = records.models["deep"], records.digit
    left, top, width, height = map(int, frame_of(figures.receptive_fields(records.trace, [("conv3", 5, 6)]).axes[0]))
    noise = torch.rand_like(pixels)
    noise[..., top : top + height, left : left + width] = pixels[..., top : top + height, left : left + width]
    unit = (0, slice(None), 5, 6)
    torch.testing.assert_close(record(model, noise)["conv3"].output[unit], records.trace["conv3"].output[unit])
    for y, x in ((top, left), (top + height - 1, left + width - 1)):  # and its corners do matter
        changed = pixels.clone()
        changed[0, 0, y, x] += 5
        assert (record(model, changed)["conv3"].output[unit] != records.trace["conv3"].output[unit]).any()


POOLS = {
    "tiles": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)),
    "after a ReLU": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)),
    "overlapping": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2, 1)),
    "not square": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d((2, 13))),
    "ragged": lambda: nn.Sequential(nn.Conv2d(1, 2, 4), nn.MaxPool2d(2, ceil_mode=True)),
}


@pytest.mark.parametrize("case", POOLS)
def test_dots_mark_the_pixels_that_won(case: str, records: Any) -> None:
    trace = record(POOLS[case](), records.digit)
    layer, step = trace.keys[-1], trace.steps[-1]
    keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    out, at = F.max_pool2d(step.input.contiguous(), *(step.settings[k] for k in keys), return_indices=True)
    out, at, width = out[0, 1], at[0, 1], step.input.shape[-1]
    marked = out > out.min()
    picture = figures.pool_winners(trace, layer, 1)
    left, right = picture.axes[:2]
    (dots,) = left.collections
    expected = torch.stack([at % width, at // width], -1)[marked]
    np.testing.assert_array_equal(np.asarray(dots.get_offsets()), expected.numpy())
    assert f"; {int((~marked).sum())} windows whose largest value is {short(float(out.min()))}" in caption_of(picture)
    scale = scale_of(step.input[0, 1])
    np.testing.assert_allclose(sheet_of(left), scale.rgb(step.input[0, 1]))
    np.testing.assert_allclose(sheet_of(right), scale.rgb(out))
    assert len(picture.axes) == 3  # one bar for both
    upright = sorted(line.get_xdata()[0] for line in left.lines if line.get_xdata()[0] == line.get_xdata()[1])
    high, wide = np.broadcast_to(step.settings["kernel_size"], 2)
    tiled = [] if case == "overlapping" else [edge - 0.5 for edge in range(0, width + 1, wide)]
    assert upright == tiled  # a grid, where windows tile the map
    assert f"won its {high}×{wide} window" in caption_of(picture)


@pytest.mark.parametrize(("layer", "channel"), [("relu1", 3), ("relu3", 60)])
def test_gates_are_open_where_the_input_is_above_0(layer: str, channel: int, records: Any) -> None:
    before, after = records.trace[layer].input[0, channel], records.trace[layer].output[0, channel]
    picture = figures.relu_gates(records.trace, layer, channel)
    left, middle, right = picture.axes[:3]
    np.testing.assert_allclose(sheet_of(left), scale_of(before).rgb(before))
    np.testing.assert_allclose(sheet_of(right), scale_of(before).rgb(after))
    np.testing.assert_array_equal((sheet_of(middle) == 1).all(-1), (before > 0).numpy())
    np.testing.assert_array_equal((sheet_of(middle) < 0.5).all(-1), (before <= 0).numpy())
    share = f"{100 * float((before > 0).double().mean()):.1f} % "
    assert middle.get_title(loc="left") == f"gates: {share}open"
    assert f"its gates, {share}of them open" in picture.alt


def test_a_gate_is_closed_at_exactly_0(records: Any) -> None:
    """As most of the paper of a digit is."""
    gates = figures.relu_gates(record(nn.Sequential(nn.ReLU()), records.digit), "0", 0).axes[1]
    np.testing.assert_array_equal((sheet_of(gates) == 1).all(-1), records.digit[0, 0].numpy() > 0)


@pytest.mark.parametrize("name", ["deep", "light", "compact"])
def test_a_path_is_marked_at_each_of_its_stops(name: str, records: Any) -> None:
    trace = records.passes[name]
    paths = [mv.winning_path(trace, rank=rank) for rank in range(2)]
    picture = figures.winning_paths(trace, iter(paths))
    columns = len(picture.axes) // 2
    first, *layers, last = [axes.get_title(loc="left") for axes in picture.axes[:columns]]
    assert (first, last) == ("input", "score")
    for k, path in enumerate(paths):
        left, *maps, scores = picture.axes[k * columns : (k + 1) * columns]
        stops = {stop.layer: stop for stop in path}
        _, y, x = stops[""].unit
        assert frame_of(left) == (x, y, 1, 1)
        np.testing.assert_allclose(sheet_of(left), trace.input[0, 0])
        assert left.get_xlabel() == f"pixel = {short(float(trace.input[0, 0, y, x]))}"
        for axes, layer in zip(maps, layers, strict=True):
            channel, y, x = stops[layer].unit
            output = trace[layer].output
            assert frame_of(axes) == (x, y, 1, 1)
            np.testing.assert_allclose(sheet_of(axes), scale_of(output).rgb(output[0, channel]))
            assert axes.get_xlabel() == f"channel {channel} = {short(float(output[0, channel, y, x]))}"
        for line in scores.texts[0].get_text().split("\n"):
            layer, unit, _, value = line.split()
            assert stops[layer].unit == (int(unit),)
            assert value == short(float(trace[layer].output[0, int(unit)]))
        assert line.startswith(trace.keys[-1])
        assert f"pixel y {path[-1].unit[1]} x {path[-1].unit[2]}" in picture.alt
