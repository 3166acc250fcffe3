"""Figures of single numbers: every number written, dot set and frame drawn is the one that was recorded."""

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from test_maps import MODELS, assert_fit_to_be_seen, at_once, caption_of, fresh, seen, sheet_of  # noqa: F401
from torch import Tensor, nn

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.trace import Trace
from mnistviz.show.picture import BLUE, ORANGE, Picture
from mnistviz.show.scales import Scale


@pytest.fixture(scope="module")
def trace(few: mv.Digits) -> Trace:
    return seen(mv.load_model("deep"), few[5].pixels)


@pytest.fixture(scope="module")
def traces(few: mv.Digits, trace: Trace) -> dict[str, Trace]:
    return {name: trace if name == "deep" else seen(fresh(name), few[7].pixels) for name in MODELS}


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def close(value: float | list[float]) -> object:
    """Equal as far as two decimals can tell."""
    return pytest.approx(value, rel=0, abs=0.00501)


def frame_of(axes: Axes) -> tuple[float, float, float, float]:
    """Left, top, width and height of the one frame on an image, in whole pixels."""
    (box,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    return box.get_x() + 0.5, box.get_y() + 0.5, box.get_width(), box.get_height()


def scale_of(*values: Tensor) -> Scale:
    high = max(float(x.abs().max()) for x in values)
    return Scale(-high if any(bool((x < 0).any()) for x in values) else 0.0, high, "layer")


DRAWN: dict[str, Callable[[Trace], Picture]] = {
    "ledger, one channel": lambda t: figures.ledger(mv.ledger(t, "conv1", 3, 10, 11)),
    "ledger, many channels": lambda t: figures.ledger(mv.ledger(t, "conv2", 5, 3, 7)),
    "ledger, linear": lambda t: figures.ledger(mv.ledger(t, "fc2", 7)),
    "receptive_fields": lambda t: figures.receptive_fields(t, [("conv1", 14, 14), ("conv2", 0, 0), ("conv5", 3, 3)]),
    "winners": lambda t: figures.pool_winners(t, "pool1", 3),
    "gates": lambda t: figures.relu_gates(t, "relu1", 3),
    "winning_paths": lambda t: figures.winning_paths(t, [mv.winning_path(t, rank=r) for r in range(2)]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_of_single_numbers_is_fit_to_be_seen(name: str, trace: Trace) -> None:
    assert_fit_to_be_seen(lambda: DRAWN[name](trace), trace)


# ── the ledger of a convolution ───────────────────────────────────────────────────────────────────────────


def assert_table(axes: Axes, values: Tensor, scale: Scale) -> None:
    """A number in each cell, and behind it the colour of that number."""
    np.testing.assert_allclose(sheet_of(axes), scale.rgb(values), atol=1e-6)
    written = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert written.keys() == set(np.ndindex(*values.shape))
    for place, text in written.items():
        assert number(text) == close(float(values[place]))
        assert (text == "0") == (values[place] == 0)
        assert not text.startswith("−0.00")


LEDGERS = {
    "one channel": ("deep", "conv1", (3, 10, 11)),
    "a corner": ("deep", "conv1", (31, 0, 0)),
    "many channels": ("deep", "conv2", (5, 3, 7)),
    "5×5": ("compact", "conv1", (2, 12, 9)),
    "5×5, many channels": ("compact", "conv2", (3, 4, 4)),
    "1×1": ("light", "mix1", (1, 3, 3)),
}


@pytest.fixture(scope="module")
def ledgers(traces: dict[str, Trace]) -> dict[str, Picture]:
    return {
        case: figures.ledger(mv.ledger(traces[name], layer, *unit)) for case, (name, layer, unit) in LEDGERS.items()
    }


@pytest.mark.parametrize("case", LEDGERS)
def test_a_ledger_writes_patch_kernel_and_products_of_the_channels_that_weigh_most(
    case: str, traces: dict[str, Trace], ledgers: dict[str, Picture]
) -> None:
    name, layer, unit = LEDGERS[case]
    step, picture = traces[name][layer], ledgers[case]
    kernel = step.weight[unit[0]]
    border = step.settings["padding"][0]
    high, wide = kernel.shape[1:]
    patch = F.pad(step.input[0], [border] * 4)[:, unit[1] : unit[1] + high, unit[2] : unit[2] + wide]
    products = patch * kernel
    sums = products.double().sum((1, 2))
    order = sums.abs().argsort(descending=True, stable=True)[:3].tolist()
    tables = np.array(picture.axes[: 4 * len(order)] if len(sums) == 1 else picture.axes[: 3 * len(order)])
    tables = tables.reshape(len(order), -1)[:, :3]
    for line, channel in zip(tables, order, strict=True):
        for axes, values in zip(line, (patch, kernel, products), strict=True):
            assert_table(axes, values[channel], scale_of(values))
        assert line[0].get_ylabel() == f"input\nchannel {channel}"
        assert number(line[2].get_xlabel().removeprefix("sum ")) == close(float(sums[channel]))
    said = [axes.get_title() for axes in tables[0]]
    assert said == ["patch", "× kernel", "= products"]
    caption = caption_of(picture)
    assert caption.startswith(f"{layer}, channel {unit[0]}, y {unit[1]}, x {unit[2]}. ")
    total = float(sums.sum() + step.bias[unit[0]].double())
    recorded = float(step.output[(0, *unit)])
    written = re.search(r"Recorded value (\S+), sum of all products plus bias (\S+)\. ", caption)
    assert [number(n) for n in written.groups()] == pytest.approx([recorded, total], abs=1e-6)
    assert (f"The 3 of {len(sums)} input channels that weigh most." in caption) == (len(sums) > 3)


@pytest.mark.parametrize("case", ["one channel", "a corner", "5×5"])
def test_a_ledger_of_one_channel_adds_the_bias_in_words(
    case: str, traces: dict[str, Trace], ledgers: dict[str, Picture]
) -> None:
    name, layer, unit = LEDGERS[case]
    step = traces[name][layer]
    (said,) = ledgers[case].axes[3].texts
    bias, total = float(step.bias[unit[0]]), float(step.output[(0, *unit)])
    parts = [number(line.split()[-1]) for line in said.get_text().split("\n")]
    assert [line.split()[0] for line in said.get_text().split("\n")] == ["sum", "+", "="]
    assert parts == close([total - bias, bias, total])


@pytest.mark.parametrize("case", ["many channels", "5×5, many channels", "1×1"])
def test_the_waterfall_goes_from_0_by_every_channels_sum_to_the_total(
    case: str, traces: dict[str, Trace], ledgers: dict[str, Picture]
) -> None:
    name, layer, unit = LEDGERS[case]
    step, book = traces[name][layer], mv.ledger(traces[name], layer, *unit)
    axes = ledgers[case].axes[-1]
    sums = [*(book.patch * book.kernel).double().sum((1, 2)).tolist(), float(step.bias[unit[0]])]
    (bars,) = axes.containers
    assert [bar.get_height() for bar in bars] == pytest.approx(sums, abs=1e-9)
    ends = list(itertools.accumulate(sums))
    assert [bar.get_y() for bar in bars] == pytest.approx([0.0, *ends[:-1]], abs=1e-9)
    assert ends[-1] == pytest.approx(float(step.output[(0, *unit)]), abs=1e-5)
    colours = [to_hex(bar.get_facecolor()) for bar in bars][:-1]
    assert colours == [ORANGE if s >= 0 else BLUE for s in sums[:-1]]
    goal, zero = (line.get_ydata()[0] for line in axes.lines)
    assert (goal, zero) == (pytest.approx(ends[-1]), 0)
    assert number(axes.get_title(loc="left").removeprefix("added up: ")) == close(ends[-1])
    low, high = axes.get_ylim()
    assert low < min(0, *ends) <= max(0, *ends) < high
    *places, last = zip(axes.get_xticks(), [t.get_text() for t in axes.get_xticklabels()], strict=True)
    assert last == (len(sums) - 1, "bias")
    assert all(int(text) == place for place, text in places)


def test_a_ledger_shows_as_many_rows_as_asked_for(trace: Trace) -> None:
    book = mv.ledger(trace, "conv2", 5, 3, 7)
    picture = figures.ledger(book, rows=1)
    assert len(picture.axes) == 4
    assert picture.axes[0].get_ylabel() == f"input\nchannel {int(book.sums.abs().argmax())}"
    assert "The 1 of 32 input channels" in caption_of(picture)


def test_the_channels_of_a_group_keep_their_numbers(few: mv.Digits) -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3, groups=2))
    book = mv.ledger(seen(model, few[5].pixels), "1", 3, 10, 10)
    picture = figures.ledger(book)
    rows = [int(axes.get_ylabel().split()[-1]) for axes in picture.axes[:9:3]]
    assert set(rows) <= {4, 5, 6, 7}
    assert [t.get_text() for t in picture.axes[-1].get_xticklabels()] == ["4", "5", "6", "7", "bias"]


# ── the ledger of a linear layer ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("layer", "unit"), [("fc2", 7), ("fc1", 0)])
def test_a_linear_ledger_has_a_bar_for_every_large_product_and_for_the_rest(
    layer: str, unit: int, trace: Trace
) -> None:
    step, book = trace[layer], mv.ledger(trace, layer, unit)
    picture = figures.ledger(book)
    (axes,) = picture.axes
    names = [t.get_text() for t in axes.get_yticklabels()]
    shown = len(names) - 2
    products = (step.input[0] * step.weight[unit]).double()
    order = products.abs().argsort(descending=True, stable=True)[:shown]
    rest, bias = float(products.sum() - products[order].sum()), float(step.bias[unit])
    (bars,) = axes.containers
    widths = [bar.get_width() for bar in bars]
    assert shown >= 10
    assert widths == pytest.approx([*products[order].tolist(), rest, bias], abs=1e-7)
    total = float(step.output[0, unit])
    assert sum(widths) == pytest.approx(total, abs=1e-4)
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [ORANGE if w >= 0 else BLUE for w in widths]
    assert [number(t.get_text()) for t in axes.texts] == close(widths)
    assert names[shown:] == [f"{len(products) - shown} others", "bias"]
    for name, feature in zip(names, order.tolist(), strict=False):
        value, _, weight, _, which = name.split()
        assert int(which) == feature
        parts = float(step.input[0, feature]), float(step.weight[unit, feature])
        assert (number(value), number(weight)) == close(parts)
    assert f"unit {unit}: {len(products)} products + bias" in axes.get_title(loc="left")
    assert number(axes.get_title(loc="left").split()[-1]) == close(total)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the largest on top


def test_a_short_linear_ledger_has_no_rest() -> None:
    trace = seen(nn.Sequential(nn.Linear(4, 2)), torch.tensor([[1.0, 2.0, 0.0, -1.0]]))
    axes = figures.ledger(mv.ledger(trace, "0", 1)).axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert len(names) == 5
    assert names[-1] == "bias"
    assert "others" not in "".join(names)
    assert sum(bar.get_width() for bar in axes.containers[0]) == pytest.approx(float(trace["0"].output[0, 1]))


# ── receptive fields ──────────────────────────────────────────────────────────────────────────────────────

UNITS = [("conv1", 14, 14), ("conv2", 0, 0), ("pool2", 6, 1), ("conv5", 3, 3), ("conv1", 27, 0)]


def test_a_frame_is_drawn_around_what_the_unit_sees(trace: Trace) -> None:
    picture = figures.receptive_fields(trace, UNITS)
    for axes, unit in zip(picture.axes, UNITS, strict=True):
        field = mv.receptive_field(trace, *unit)
        assert frame_of(axes) == (field.left, field.top, field.width, field.height)
        digit, veil = (np.asarray(image.get_array()) for image in axes.images)
        np.testing.assert_allclose(digit, trace.input[0, 0])
        inside = np.zeros((28, 28), bool)
        inside[field.top : field.bottom + 1, field.left : field.right + 1] = True
        assert ((veil[..., 3] == 0) == inside).all()
        whole = "×".join(map(str, field.size))
        seen_part = f"sees {field.height}×{field.width}"
        clipped = f" of {whole}" if whole != f"{field.height}×{field.width}" else ""
        assert axes.get_xlabel() == f"unit y {unit[1]}, x {unit[2]}\n{seen_part}{clipped}"
        assert axes.get_title(loc="left") == unit[0]
        assert f"{unit[0]} y {unit[1]} x {unit[2]} {seen_part}" in picture.alt
    assert "crosses the border" in caption_of(picture)


def test_a_change_outside_the_frame_changes_nothing(trace: Trace) -> None:
    """The frame is right about the network itself, not only about its own record."""
    left, top, width, height = map(int, frame_of(figures.receptive_fields(trace, [("conv3", 5, 6)]).axes[0]))
    noise = torch.rand_like(trace.input)
    noise[..., top : top + height, left : left + width] = trace.input[..., top : top + height, left : left + width]
    model = mv.load_model("deep")
    unit = (0, slice(None), 5, 6)
    torch.testing.assert_close(seen(model, noise)["conv3"].output[unit], trace["conv3"].output[unit])
    for y, x in ((top, left), (top + height - 1, left + width - 1)):  # and its corners do matter
        changed = trace.input.clone()
        changed[0, 0, y, x] += 5
        assert (seen(model, changed)["conv3"].output[unit] != trace["conv3"].output[unit]).any()


def test_nothing_is_said_of_the_border_where_no_window_crosses_it(trace: Trace) -> None:
    assert "border" not in caption_of(figures.receptive_fields(trace, [("conv1", 14, 14)]))


def test_units_must_exist(trace: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match="no units"):
        figures.receptive_fields(trace, [])
    with pytest.raises(mv.MnistvizError, match="no such unit in 'pool3'"):
        figures.receptive_fields(trace, [("pool3", 3, 0)])


# ── winners and gates ─────────────────────────────────────────────────────────────────────────────────────

POOLS = {
    "after a ReLU": lambda few: (seen(mv.load_model("deep"), few[5].pixels), "pool1", 3),
    "before a ReLU": lambda few: (seen(fresh("compact"), few[7].pixels), "pool1", 2),
    "overlapping": lambda few: (seen(nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2, 1)), few[5].pixels), "1", 1),
    "not square": lambda few: (seen(nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d((2, 13))), few[5].pixels), "1", 0),
    "ragged": lambda few: (
        seen(nn.Sequential(nn.Conv2d(1, 2, 4), nn.MaxPool2d(2, ceil_mode=True)), few[5].pixels), "1", 0
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", POOLS)
def test_dots_mark_the_pixels_that_won(case: str, few: mv.Digits) -> None:
    trace, layer, channel = POOLS[case](few)
    step = trace[layer]
    keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    out, at = F.max_pool2d(step.input.contiguous(), *(step.settings[k] for k in keys), return_indices=True)
    out, at = out[0, channel], at[0, channel]
    width = step.input.shape[-1]
    marked = out > out.min()
    picture = figures.pool_winners(trace, layer, channel)
    left, right = picture.axes[:2]
    (dots,) = left.collections
    expected = torch.stack([at % width, at // width], -1)[marked]
    np.testing.assert_array_equal(np.asarray(dots.get_offsets()), expected.numpy())
    assert f"; {int((~marked).sum())} windows whose largest value is" in caption_of(picture)
    scale = scale_of(step.input[0, channel])
    np.testing.assert_allclose(sheet_of(left), scale.rgb(step.input[0, channel]))
    np.testing.assert_allclose(sheet_of(right), scale.rgb(out))
    for (x, y), value in zip(expected.tolist(), out[marked], strict=True):
        np.testing.assert_allclose(sheet_of(left)[y, x], scale.rgb(value[None])[0])
    high, wide = np.broadcast_to(step.settings["kernel_size"], 2)
    assert f"won its {high}×{wide} window" in caption_of(picture)
    assert len(picture.axes) == 3  # one bar for both


def test_windows_that_tile_the_map_are_drawn_as_a_grid(trace: Trace) -> None:
    lines = figures.pool_winners(trace, "pool1", 0).axes[0].lines
    upright = sorted(line.get_xdata()[0] for line in lines if line.get_xdata()[0] == line.get_xdata()[1])
    assert upright == [edge - 0.5 for edge in range(0, 29, 2)]
    assert len(lines) == 30


@pytest.mark.parametrize(("layer", "channel"), [("relu1", 3), ("relu3", 60)])
def test_gates_are_open_where_the_input_is_above_0(layer: str, channel: int, trace: Trace) -> None:
    before, after = trace[layer].input[0, channel], trace[layer].output[0, channel]
    picture = figures.relu_gates(trace, layer, channel)
    left, middle, right = picture.axes[:3]
    scale = scale_of(before)
    np.testing.assert_allclose(sheet_of(left), scale.rgb(before))
    np.testing.assert_allclose(sheet_of(right), scale.rgb(after))
    np.testing.assert_array_equal((sheet_of(middle) == 1).all(-1), (before > 0).numpy())
    np.testing.assert_array_equal((sheet_of(middle) < 0.5).all(-1), (before <= 0).numpy())
    share = f"{100 * float((before > 0).double().mean()):.1f} % "
    assert middle.get_title(loc="left") == f"gates: {share}open"
    assert f"its gates, {share}of them open" in picture.alt
    assert f"Colours: {scale}, on both sides." in caption_of(picture)


def test_a_gate_is_closed_at_exactly_0(few: mv.Digits) -> None:
    """As most of the paper of a digit is."""
    trace = seen(nn.Sequential(nn.ReLU()), few[5].pixels)
    gates = figures.relu_gates(trace, "0", 0).axes[1]
    np.testing.assert_array_equal((sheet_of(gates) == 1).all(-1), few.images[5].numpy() > 0)


@pytest.mark.parametrize("figure", [figures.pool_winners, figures.relu_gates])
def test_other_layers_and_channels_have_no_winners_and_no_gates(figure, trace: Trace) -> None:
    layer, others = ("pool1", "pool1, pool2, pool3") if figure is figures.pool_winners else (
        "relu1", "relu1, relu2, relu3, relu4, relu5, relu6"
    )  # fmt: skip
    with pytest.raises(mv.MnistvizError, match=r"'conv1' is a Conv2d") as caught:
        figure(trace, "conv1", 0)
    assert others in str(caught.value)
    for channel in (-1, 32):
        with pytest.raises(mv.MnistvizError, match=rf"no such channel[\s\S]*{channel}[\s\S]*0 to 31"):
            figure(trace, layer, channel)


def test_a_flat_relu_has_no_map_of_gates(trace: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match="a layer with maps"):
        figures.relu_gates(trace, "relu6", 0)


def test_a_batch_has_neither_winners_nor_gates(few: mv.Digits) -> None:
    batch = seen(mv.load_model("deep"), few[:2].pixels)
    for figure, layer in ((figures.pool_winners, "pool1"), (figures.relu_gates, "relu1")):
        with pytest.raises(mv.MnistvizError, match="one digit"):
            figure(batch, layer, 0)


# ── winning paths ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["deep", "light", "compact", "pooled"])
def test_a_path_is_marked_at_each_of_its_stops(name: str, traces: dict[str, Trace]) -> None:
    trace = traces[name]
    paths = [mv.winning_path(trace, rank=rank) for rank in range(2)]
    picture = figures.winning_paths(trace, iter(paths))
    columns = len(picture.axes) // 2
    layers = [axes.get_title(loc="left") for axes in picture.axes[1 : columns - 1]]
    for k, path in enumerate(paths):
        left, *maps, last = picture.axes[k * columns : (k + 1) * columns]
        stops = {stop.layer: stop for stop in path}
        _, y, x = stops[""].unit
        assert frame_of(left) == (x, y, 1, 1)
        np.testing.assert_allclose(sheet_of(left), trace.input[0, 0])
        assert number(left.get_xlabel().removeprefix("pixel = ")) == close(float(trace.input[0, 0, y, x]))
        for axes, layer in zip(maps, layers, strict=True):
            channel, y, x = stops[layer].unit
            output = trace[layer].output
            assert frame_of(axes) == (x, y, 1, 1)
            np.testing.assert_allclose(sheet_of(axes), scale_of(output).rgb(output[0, channel]))
            said, value = axes.get_xlabel().split(" = ")
            assert said == f"channel {channel}"
            assert number(value) == close(float(output[0, channel, y, x]))
        for line in last.texts[0].get_text().split("\n"):
            layer, unit, _, value = line.split()
            assert stops[layer].unit == (int(unit),)
            assert number(value) == close(float(trace[layer].output[0, int(unit)]))
        assert last.texts[0].get_text().split("\n")[-1].startswith(trace.keys[-1])
        assert f"pixel y {path[-1].unit[1]} x {path[-1].unit[2]}" in picture.alt
    assert picture.alt.startswith("2 paths from the score")
    assert "Read from right to left" in caption_of(picture)


def test_each_column_of_the_paths_has_its_title(trace: Trace) -> None:
    picture = figures.winning_paths(trace, [mv.winning_path(trace)])
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    assert titles == ["input", "relu1", "pool1", "relu3", "pool2", "pool3", "score"]


def test_no_paths_are_no_picture(trace: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match="no paths"):
        figures.winning_paths(trace, [])
