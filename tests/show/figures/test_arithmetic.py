"""Figures of single numbers: every product written, and every way they went, is the one that was recorded."""

import itertools
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import caption_of, scale_of, sheet_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from zoo import record

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.trace import Step
from mnistviz.show.colours import BLUE, ORANGE
from mnistviz.show.picture import Picture
from mnistviz.show.scales import Scale, short

LEDGERS = {
    "one channel, a corner": ("deep", "conv1", (31, 0, 0)),
    "many channels": ("deep", "conv2", (5, 3, 7)),
    "5×5, many channels": ("compact", "conv2", (3, 4, 4)),
    "1×1": ("light", "mix1", (1, 3, 3)),
}


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def close(value: float | list[float]) -> object:
    """Equal as far as two decimals can tell."""
    return pytest.approx(value, rel=0, abs=0.00501)


def assert_table(axes: Axes, values: Tensor, scale: Scale) -> None:
    """A number in each cell, and behind it the colour of that number."""
    np.testing.assert_allclose(sheet_of(axes), scale.rgb(values), atol=1e-6)
    written = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert written.keys() == set(np.ndindex(*values.shape))
    for place, text in written.items():
        assert number(text) == close(float(values[place]))
        assert (text == "0") == (values[place] == 0)
        assert not text.startswith("−0.00")


@pytest.fixture(scope="module", params=LEDGERS)
def drawn(request, records) -> tuple[Step, tuple[int, ...], Picture]:
    name, layer, unit = LEDGERS[request.param]
    trace = records.passes[name]
    return trace[layer], unit, figures.ledger(mv.ledger(trace, layer, *unit))


def products_of(step: Step, unit: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Patch, kernel and products of a unit, cut out by hand."""
    kernel, border = step.weight[unit[0]], step.settings["padding"][0]
    high, wide = kernel.shape[1:]
    patch = F.pad(step.input[0], [border] * 4)[:, unit[1] : unit[1] + high, unit[2] : unit[2] + wide]
    return patch, kernel, patch * kernel


def test_a_ledger_writes_patch_kernel_and_products_of_the_channels_that_weigh_most(drawn):
    step, unit, picture = drawn
    parts = products_of(step, unit)
    sums = parts[2].double().sum((1, 2))
    order = sums.abs().argsort(descending=True, stable=True)[:3].tolist()
    columns = 4 if len(sums) == 1 else 3
    tables = np.array(picture.axes[: columns * len(order)]).reshape(len(order), columns)[:, :3]
    assert [axes.get_title() for axes in tables[0]] == ["patch", "× kernel", "= products"]
    for line, channel in zip(tables, order, strict=True):
        for axes, values in zip(line, parts, strict=True):
            assert_table(axes, values[channel], scale_of(values))
        assert line[0].get_ylabel() == f"input\nchannel {channel}"
        assert number(line[2].get_xlabel().removeprefix("sum ")) == close(float(sums[channel]))
    total, recorded = float(sums.sum() + step.bias[unit[0]].double()), float(step.output[(0, *unit)])
    written = re.search(r"Recorded value (\S+), sum of all products plus bias (\S+)\. ", caption_of(picture))
    assert [number(n) for n in written.groups()] == pytest.approx([recorded, total], abs=1e-6)
    assert (f"The 3 of {len(sums)} input channels that weigh most." in caption_of(picture)) == (len(sums) > 3)


def test_the_sums_and_the_bias_add_up_to_the_total(drawn):
    """In words for one channel; as a waterfall from 0 where there are several."""
    step, unit, picture = drawn
    bias, total = float(step.bias[unit[0]]), float(step.output[(0, *unit)])
    sums = [*products_of(step, unit)[2].double().sum((1, 2)).tolist(), bias]
    if len(sums) == 2:
        lines = picture.axes[3].texts[0].get_text().split("\n")
        assert [line.split()[0] for line in lines] == ["sum", "+", "="]
        assert [number(line.split()[-1]) for line in lines] == close([total - bias, bias, total])
        return
    axes, ends = picture.axes[-1], list(itertools.accumulate(sums))
    (bars,) = axes.containers
    assert [bar.get_height() for bar in bars] == pytest.approx(sums, abs=1e-9)
    assert [bar.get_y() for bar in bars] == pytest.approx([0.0, *ends[:-1]], abs=1e-9)
    assert ends[-1] == pytest.approx(total, abs=1e-5)
    assert [to_hex(bar.get_facecolor()) for bar in bars][:-1] == [ORANGE if s >= 0 else BLUE for s in sums[:-1]]
    assert [line.get_ydata()[0] for line in axes.lines] == [pytest.approx(ends[-1]), 0]
    assert number(axes.get_title(loc="left").removeprefix("added up: ")) == close(ends[-1])
    low, high = axes.get_ylim()
    assert low < min(0, *ends) <= max(0, *ends) < high
    *places, last = zip(axes.get_xticks(), [t.get_text() for t in axes.get_xticklabels()], strict=True)
    assert last == (len(sums) - 1, "bias")
    assert all(int(text) == place for place, text in places)


def test_channels_of_a_group_keep_their_numbers_in_as_many_rows_as_asked_for(records):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3, groups=2))
    picture = figures.ledger(mv.ledger(record(model, records.digit), "1", 3, 10, 10), rows=2)
    assert {int(axes.get_ylabel().split()[-1]) for axes in picture.axes[:6:3]} <= {4, 5, 6, 7}
    assert [t.get_text() for t in picture.axes[6].get_xticklabels()] == ["4", "5", "6", "7", "bias"]


def test_a_linear_ledger_has_a_bar_for_every_large_product_and_for_the_rest(records):
    step = records.trace["fc2"]
    (axes,) = figures.ledger(mv.ledger(records.trace, "fc2", 7)).axes
    products, bias = (step.input[0] * step.weight[7]).double(), float(step.bias[7])
    order = products.abs().argsort(descending=True, stable=True)[:12]
    rest, total = float(products.sum() - products[order].sum()), float(step.output[0, 7])
    (bars,) = axes.containers
    widths = [bar.get_width() for bar in bars]
    assert widths == pytest.approx([*products[order].tolist(), rest, bias], abs=1e-7)
    assert sum(widths) == pytest.approx(total, abs=1e-4)
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [ORANGE if w >= 0 else BLUE for w in widths]
    assert [number(t.get_text()) for t in axes.texts] == close(widths)
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names[12:] == [f"{len(products) - 12} others", "bias"]
    for name, i in zip(names, order.tolist(), strict=False):
        value, _, weight, _, feature = name.split()
        assert (number(value), number(weight)) == close((float(step.input[0, i]), float(step.weight[7, i])))
        assert int(feature) == i
    assert axes.get_title(loc="left") == f"fc2, unit 7: {len(products)} products + bias = {short(total)}"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the largest on top
    short_ledger = mv.ledger(record(nn.Linear(4, 2), torch.ones(1, 4)), "", 1)
    assert len(figures.ledger(short_ledger).axes[0].containers[0]) == 5  # no rest


UNITS = [("conv1", 14, 14), ("conv2", 0, 0), ("pool2", 6, 1), ("conv5", 3, 3), ("conv1", 27, 0)]


def frame_of(axes: Axes) -> tuple[float, float, float, float]:
    """Left, top, width and height of the one frame on an image, in whole pixels."""
    (box,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    return box.get_x() + 0.5, box.get_y() + 0.5, box.get_width(), box.get_height()


def test_a_frame_is_drawn_around_what_the_unit_sees(records):
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


POOLS = {
    "after a ReLU": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)),
    "overlapping": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2, 1)),
    "not square": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d((2, 13))),
    "ragged": lambda: nn.Sequential(nn.Conv2d(1, 2, 4), nn.MaxPool2d(2, ceil_mode=True)),
}


@pytest.mark.parametrize("case", POOLS)
def test_dots_mark_the_pixels_that_won(case, records):
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
def test_gates_are_open_where_the_input_is_above_0(layer, channel, records):
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
    paper = figures.relu_gates(record(nn.Sequential(nn.ReLU()), records.digit), "0", 0).axes[1]  # closed at exactly 0
    np.testing.assert_array_equal((sheet_of(paper) == 1).all(-1), records.digit[0, 0].numpy() > 0)


@pytest.mark.parametrize("name", ["deep", "light"])
def test_a_path_is_marked_at_each_of_its_stops(name, records):
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
