"""Every value of a convolution or linear layer is the sum its ledger says; sizes and counts follow their formulas."""

import math
import re
from itertools import product

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.arithmetic import WITH_LEDGER, unit_of
from mnistviz.look.trace import Step, Trace

TOLERANCE = 5e-6  # |total − recorded| ≤ this · (1 + Σ|products|), float32; 4e-7 is what was measured
SHIPPED = "deep, shipped"


def record(model: nn.Module, x: Tensor) -> Trace:
    with mv.capture(model) as trace, torch.no_grad():
        model(x)
    return trace


def seeded(build: type[nn.Module], *args: object, seed: int = 0, **kwargs: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(*args, **kwargs)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def units(step: Step) -> product:
    return product(*map(range, step.output.shape[1:]))


@pytest.fixture(scope="module")
def traces(mnist: DigitSet) -> dict[str, Trace]:
    """One real digit through every architecture with random weights, and through the trained model."""
    found = {name: seeded(build) for name, build in mv.models.MODELS.items()} | {SHIPPED: mv.load_model("deep")}
    return {name: record(model, mnist.test[0].pixels) for name, model in found.items()}


@pytest.fixture(scope="module")
def simple(traces: dict[str, Trace]) -> Trace:
    return traces["simple"]


every_trace = pytest.mark.parametrize("name", [*mv.models.MODELS, SHIPPED])


# ——— the ledger ———


@every_trace
def test_the_total_is_the_captured_value_of_every_unit_of_every_layer(name: str, traces: dict[str, Trace]) -> None:
    trace, checked = traces[name], 0
    for step in trace:
        if step.kind not in WITH_LEDGER:
            continue
        books = (mv.ledger(trace, step.name, *unit) for unit in units(step))
        totals, recorded = torch.tensor([(b.total, b.recorded) for b in books], dtype=torch.float64).unbind(1)
        x, w = step.input.abs(), step.weight.abs()
        scale = F.linear(x, w) if step.kind == "Linear" else F.conv2d(x, w, padding=step.settings["padding"])
        assert torch.equal(recorded.float(), step.output.flatten()), step.name
        excess = (totals - recorded).abs() / (1 + scale.flatten())
        assert excess.max() <= TOLERANCE, f"{step.name}: {excess.max():.2g}"
        checked += len(totals)
    assert checked == sum(s.output.numel() for s in trace if s.weight is not None and "BatchNorm" not in s.kind) > 0


BY_HAND = {
    "border": {"kernel_size": 3, "padding": 1},
    "wide border": {"kernel_size": 2, "padding": 3},
    "not square": {"kernel_size": (2, 4), "padding": (0, 2), "stride": (2, 1)},
    "dilated": {"kernel_size": (3, 2), "padding": (3, 1), "stride": (1, 3), "dilation": (2, 3)},
    "same": {"kernel_size": (4, 3), "padding": "same"},
    "valid": {"kernel_size": 3, "padding": "valid", "bias": False},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4, "bias": False},
}
FIRST_TAP = {"border": (-1, -1), "wide border": (-3, -3), "not square": (0, -2), "dilated": (-3, -1), "same": (-1, -1)}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", BY_HAND)
def test_patch_and_kernel_are_those_of_a_loop_by_hand(case: str) -> None:
    conv = seeded(nn.Conv2d, 4, 8, **BY_HAND[case]).double()
    x = noise(1, 4, 7, 8)
    trace = record(conv, x)
    out = trace[""].output
    height, width = conv.kernel_size
    read = 4 // conv.groups
    from_y, from_x = FIRST_TAP.get(case, (0, 0) if case == "valid" else (-1, -1))
    outside = 0
    for channel, y, x_out in units(trace[""]):
        book = mv.ledger(trace, "", channel, y, x_out)
        group = channel // (8 // conv.groups)
        assert book.inputs == range(group * read, (group + 1) * read)
        total = 0.0 if conv.bias is None else conv.bias[channel].item()
        for c, i, j in product(range(read), range(height), range(width)):
            row = y * conv.stride[0] + from_y + i * conv.dilation[0]
            column = x_out * conv.stride[1] + from_x + j * conv.dilation[1]
            inside = 0 <= row < 7 and 0 <= column < 8
            outside += not inside
            value = float(x[0, group * read + c, row, column]) if inside else 0.0
            assert book.patch[c, i, j] == value
            assert book.kernel[c, i, j] == conv.weight[channel, c, i, j]
            total += value * conv.weight[channel, c, i, j].item()
        assert book.patch.shape == book.kernel.shape == (read, height, width)
        assert book.total == pytest.approx(total, abs=1e-12)
        assert book.total == pytest.approx(float(out[0, channel, y, x_out]), abs=1e-12)
    assert (outside > 0) == (case != "valid")


def test_products_sums_and_total_add_up(simple: Trace) -> None:
    book = mv.ledger(simple, "conv2", channel=5, y=3, x=7)
    assert (book.layer, book.kind, book.unit) == ("conv2", "Conv2d", (5, 3, 7))
    assert book.inputs == range(32)
    assert torch.equal(book.products, book.patch * book.kernel)
    assert book.sums.dtype == torch.float64
    for c in range(32):
        by_hand = sum(float(p) for p in book.products[c].flatten())
        assert float(book.sums[c]) == pytest.approx(by_hand, abs=1e-9)
    assert book.bias == float(simple["conv2"].bias[5])
    assert book.total == pytest.approx(sum(map(float, book.sums)) + book.bias, abs=1e-9)
    assert book.recorded == float(simple["conv2"].output[0, 5, 3, 7])


def test_a_linear_ledger_has_one_product_for_every_feature(simple: Trace) -> None:
    book = mv.ledger(simple, "fc2", 7)
    step = simple["fc2"]
    assert (book.kind, book.unit, book.inputs) == ("Linear", (7,), range(128))
    assert torch.equal(book.patch, simple["relu3"].output[0])
    assert torch.equal(book.kernel, step.weight[7])
    assert torch.equal(book.sums, (step.input[0] * step.weight[7]).double())
    by_hand = sum(float(a) * float(w) for a, w in zip(step.input[0], step.weight[7], strict=True)) + book.bias
    assert book.total == pytest.approx(by_hand, abs=1e-6)
    assert book.bias == float(step.bias[7])


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, Tensor]:
    """Any convolution that torch accepts, and a map it fits on."""
    groups, mode = draw(st.integers(1, 3)), draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    kernel, dilation, size = draw(pairs(1, 5)), draw(pairs(1, 3)), draw(pairs(1, 9))
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.integers(0, 3), pairs(0, 3)))
    stride = (1, 1) if padding == "same" else draw(pairs(1, 3))
    for n, k, d, p in zip(
        size, kernel, dilation, padding if isinstance(padding, tuple) else [padding] * 2, strict=True
    ):
        reach = d * (k - 1)
        added = {"same": reach, "valid": 0}.get(p, 2 * p if isinstance(p, int) else 0)
        assume(n + added > reach)
        assume(mode in ("zeros", "replicate") or (added + 1) // 2 < n)  # no more of a picture than there is
    conv = nn.Conv2d(
        groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), kernel, stride, padding, dilation, groups,
        bias=draw(st.booleans()), padding_mode=mode, dtype=torch.float64,
    )  # fmt: skip
    return conv, noise(1, conv.in_channels, *size, seed=draw(st.integers(0, 99)))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=120, deadline=None)
@given(drawn=convolutions())
def test_any_convolution_has_its_value_at_every_unit(drawn: tuple[nn.Conv2d, Tensor]) -> None:
    conv, x = drawn
    trace = record(nn.Sequential(conv), x)
    expected = conv(x).detach()
    for unit in units(trace["0"]):
        book = mv.ledger(trace, "0", *unit)
        assert book.total == pytest.approx(float(expected[(0, *unit)]), abs=1e-10)
        assert book.patch.shape == conv.weight[0].shape


def test_what_comes_next_in_place_does_not_change_the_record(mnist: DigitSet) -> None:
    model = nn.Sequential(seeded(nn.Conv2d, 1, 3, 3), nn.ReLU(inplace=True))
    trace = record(model, mnist.test[1].pixels)
    books = [mv.ledger(trace, "0", *unit) for unit in units(trace["0"])]
    assert min(b.recorded for b in books) < 0
    assert all(b.total == pytest.approx(b.recorded, abs=1e-5) for b in books)


class Twice(nn.Module):
    """One convolution in two places, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.spare = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def test_a_layer_called_twice_has_a_ledger_for_each_call() -> None:
    model = seeded(Twice).double()
    x = noise(1, 1, 6, 6)
    trace = record(model, x)
    first, second = (mv.ledger(trace, f"conv:{call}", 0, 2, 3) for call in (0, 1))
    assert torch.equal(first.patch, x[0, :, 1:4, 2:5])
    assert first.total == pytest.approx(model.conv(x)[0, 0, 2, 3].item(), abs=1e-12)
    assert second.total == pytest.approx(model(x)[0, 0, 2, 3].item(), abs=1e-12)


def test_the_printed_ledger_adds_up(traces: dict[str, Trace]) -> None:
    for layer, unit in (("conv4", (3, 5, 6)), ("fc2", (7,)), ("conv1", (0, 0, 0))):
        book = mv.ledger(traces[SHIPPED], layer, *unit)
        rows = re.findall(r"^  (\w+(?: \w+)?) +([+-]\d+\.\d+)", repr(book), flags=re.M)
        *parts, (last, total) = [(name, float(value)) for name, value in rows]
        assert last == "total"
        assert [name for name, _ in parts][-1] == "bias"
        assert sum(value for _, value in parts) == pytest.approx(total, abs=5e-6)
        assert total == pytest.approx(book.recorded, abs=1e-5)
        for name, value in parts:
            what, _, number = name.partition(" ")
            if what in ("channel", "feature"):
                assert value == pytest.approx(float(book.sums[int(number)]), abs=1e-6)
        assert f"{book.patch.numel()} products" in repr(book)


def test_the_printed_ledger_of_a_group_names_the_true_channels() -> None:
    trace = record(seeded(nn.Conv2d, 6, 2, 1, groups=2), torch.ones(1, 6, 2, 2))
    named = [int(n) for n in re.findall(r"^  channel (\d+)", repr(mv.ledger(trace, "", 1, 0, 0)), flags=re.M)]
    assert sorted(named) == [3, 4, 5]


def test_what_is_not_a_number_stays_visible() -> None:
    model = nn.Sequential(seeded(nn.Conv2d, 1, 2, 3, padding=1), nn.Flatten(), seeded(nn.Linear, 72, 4)).double()
    x = noise(1, 1, 6, 6)
    x[0, 0, 0, 0] = torch.nan
    trace = record(model, x)
    for channel, y, x_out in units(trace["0"]):
        book = mv.ledger(trace, "0", channel, y, x_out)
        assert math.isnan(book.total) == math.isnan(book.recorded) == (y <= 1 and x_out <= 1)
    linear = mv.ledger(trace, "2", 1)
    assert math.isnan(linear.total)
    assert math.isnan(linear.recorded)
    assert "nan" in repr(linear)


# ——— units that do not exist ———


@pytest.mark.parametrize("unit", [(32, 0, 0), (-1, 0, 0), (0, 26, 0), (0, 0, 26), (0, -1, 0), (0, 0, -26)])
def test_a_unit_out_of_range_is_told_with_the_range(unit: tuple[int, int, int], simple: Trace) -> None:
    with pytest.raises(mv.MnistvizError) as caught:
        mv.ledger(simple, "conv1", *unit)
    text = str(caught.value)
    assert "no such unit in 'conv1', whose output is 32×26×26" in text
    assert "given:   '{}'".format("channel {}, y {}, x {}".format(*unit)) in text
    assert "channel 0 to 31, y 0 to 25, x 0 to 25; counted from 0" in text


@pytest.mark.parametrize("unit", [-1, 10])
def test_a_score_out_of_range_is_told_with_the_range(unit: int, simple: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match=r"channel 0 to 9; counted from 0"):
        mv.ledger(simple, "fc2", unit)


@pytest.mark.parametrize("place", [{}, {"y": 1}, {"x": 1}])
def test_a_pixel_needs_its_y_and_x(place: dict[str, int], simple: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)does not name one unit of 'conv1'.*give channel, y and x"):
        mv.ledger(simple, "conv1", 0, **place)


@pytest.mark.parametrize("place", [{"y": 1}, {"x": 1}, {"y": 1, "x": 1}])
def test_a_linear_unit_has_no_y_and_x(place: dict[str, int], simple: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)does not name one unit of 'fc1'.*number of the unit alone"):
        mv.ledger(simple, "fc1", 0, **place)


def test_a_batch_is_not_one_digit(few: mv.Digits) -> None:
    trace = record(seeded(mv.models.compact), few.pixels[:3])
    with pytest.raises(mv.MnistvizError, match=r"(?s)one digit.*3 inputs of 1×28×28.*digits\[i\]\.pixels"):
        mv.ledger(trace, "conv1", 0, 0, 0)


@pytest.mark.parametrize("layer", ["normalise", "relu1", "pool1", "flatten"])
def test_a_layer_without_products_says_which_have_them(layer: str, simple: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s){layer}.*multiplies no weights.*conv1, conv2, fc1, fc2"):
        mv.ledger(simple, layer, 0, 0, 0)


def test_a_model_without_any_ledger_says_so() -> None:
    with pytest.raises(mv.MnistvizError, match="no layer of this trace"):
        mv.ledger(record(nn.Sequential(nn.ReLU()), torch.ones(1, 2)), "0", 0)


def test_an_unknown_layer_is_told_with_names_like_it(simple: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)unknown layer.*'conv3'.*did you mean 'conv\d' or 'conv\d'"):
        mv.ledger(simple, "conv3", 0, 0, 0)


def test_a_layer_that_was_not_called_or_not_recorded_says_which() -> None:
    x = torch.rand(1, 1, 6, 6)
    with pytest.raises(mv.MnistvizError, match="'spare': the pass did not call it"):
        mv.ledger(record(seeded(Twice), x), "spare", 0)
    model = seeded(mv.models.compact)
    with mv.capture(model, "conv1") as trace:
        model(torch.rand(1, 1, 28, 28))
    with pytest.raises(mv.MnistvizError, match="'conv2': it was not among the layers to record"):
        mv.ledger(trace, "conv2", 0, 0, 0)
    with pytest.raises(mv.MnistvizError, match=r"(?s)'conv'.*ran 2 times.*say which.*conv:0, conv:1"):
        mv.ledger(record(seeded(Twice), x), "conv", 0, 0, 0)


@pytest.mark.parametrize(("size", "unit"), [((3, 5), (0,)), ((2, 3, 5), (0, 0, 0))])
def test_a_linear_layer_on_more_than_a_row_is_told(size: tuple[int, ...], unit: tuple[int, ...]) -> None:
    trace = record(nn.Sequential(seeded(nn.Linear, 5, 2)), torch.rand(1, *size))
    with pytest.raises(mv.MnistvizError, match="'0'"):
        mv.ledger(trace, "0", *unit)


def test_unit_of_gives_the_index_in_the_output(simple: Trace) -> None:
    assert unit_of(simple["conv1"], "conv1", 31, 25, 0) == (31, 25, 0)
    assert unit_of(simple["fc2"], "fc2", 9, None, None) == (9,)


# ——— sizes and counts ———


def worked_out(text: str) -> float:
    """The left side of `… = 28`, computed; the right side must be what it gives."""
    left, _, right = text.rpartition(" = ")
    code = re.sub(r"[a-z]+", "", left)  # 32 weights + 32 biases
    for sign, python in {"⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "·": "*", "−": "-"}.items():
        code = code.replace(sign, python)
    value = eval(code, {"floor": math.floor, "ceil": math.ceil, "__builtins__": {}})
    assert value == int(right.replace(",", "")), text
    return value


def check_formula(trace: Trace, layer: str) -> None:
    """Shape, count and both texts against the layer's true output and its true parameters."""
    step, formula = trace[layer], mv.shape_formula(trace, layer)
    assert formula.shape == tuple(step.output.shape[1:])
    learned = sum(w.numel() for n, w in step.weights.items() if not n.startswith(("running", "num_batches")))
    assert formula.parameters == learned
    if " = " in formula.weights:
        assert worked_out(formula.weights) == formula.parameters
    elif formula.parameters:  # a kind whose count is not taken apart
        assert formula.weights == str(formula.parameters)
        assert step.kind not in ("Conv2d", "Linear", "BatchNorm1d", "BatchNorm2d")
    else:
        assert formula.weights == "none"
    if step.kind in ("Conv2d", "MaxPool2d", "AvgPool2d"):
        both = re.fullmatch(r"rows (.+); columns (.+)", formula.size)
        texts = both.groups() if both else (formula.size, formula.size)
        assert tuple(map(worked_out, texts)) == formula.shape[1:]


@st.composite
def windows(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """Any convolution or pooling, and a map at least as large as its window."""
    kind = draw(st.sampled_from(["conv", "max", "average"]))
    kernel, stride, dilation = draw(st.one_of(st.integers(1, 5), pairs(1, 5))), draw(pairs(1, 4)), draw(pairs(1, 3))
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    top = 3 if kind == "conv" else min(sides) // 2
    padding = draw(st.one_of(st.integers(0, top), pairs(0, top)))
    if kind == "conv":
        padding = draw(st.one_of(st.just(padding), st.sampled_from(["same", "valid"])))
        groups = draw(st.integers(1, 2))
        ends = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
        layer: nn.Module = nn.Conv2d(
            *ends, kernel, 1 if padding == "same" else stride, padding, dilation, groups, draw(st.booleans())
        )
        channels = ends[0]
    elif kind == "max":
        layer, channels = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw(st.booleans())), 2
    else:
        layer, channels, dilation = nn.AvgPool2d(kernel, stride, padding, ceil_mode=draw(st.booleans())), 2, (1, 1)
    reach = [d * (k - 1) + 1 for k, d in zip(sides, dilation, strict=True)]
    return layer, torch.zeros(1, channels, *(n + draw(st.integers(0, 7)) for n in reach))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=400, deadline=None)
@given(drawn=windows())
def test_the_formula_of_any_window_gives_the_true_size_and_count(drawn: tuple[nn.Module, Tensor]) -> None:
    layer, x = drawn
    check_formula(record(nn.Sequential(layer), x), "0")


def test_a_ceiling_whose_border_differs_by_side() -> None:
    trace = record(nn.MaxPool2d(3, stride=2, padding=(0, 1), ceil_mode=True), torch.zeros(1, 1, 4, 4))
    assert trace[""].output.shape[2:] == (2, 3)
    check_formula(trace, "")


def test_a_ceiling_whose_last_window_would_begin_outside() -> None:
    trace = record(nn.MaxPool2d(2, stride=3, ceil_mode=True), torch.zeros(1, 1, 6, 6))
    assert trace[""].output.shape[2:] == (2, 2)
    check_formula(trace, "")


@every_trace
def test_every_layer_of_every_model_follows_its_formula(name: str, traces: dict[str, Trace]) -> None:
    for key in traces[name].keys:
        check_formula(traces[name], key)


@pytest.mark.parametrize("name", mv.models.MODELS)
def test_the_counts_add_up_to_the_model(name: str, traces: dict[str, Trace]) -> None:
    total = sum(mv.shape_formula(traces[name], key).parameters for key in traces[name].keys)
    assert total == mv.models.count_parameters(mv.models.build(name))


def test_the_texts_are_those_of_a_textbook(traces: dict[str, Trace], simple: Trace) -> None:
    first = mv.shape_formula(traces["deep"], "conv1")
    assert (first.size, first.weights) == ("(28 + 2·1 − 3) / 1 + 1 = 28", "32 · (1·3·3 + 1) = 320")
    assert mv.shape_formula(simple, "pool2").size == "⌊(11 − 2) / 2⌋ + 1 = 5"
    assert mv.shape_formula(simple, "flatten").size == "64 · 5 · 5 = 1600"
    assert mv.shape_formula(simple, "fc1").size == "1600 → 128"
    assert mv.shape_formula(simple, "fc1").weights == "128 · (1600 + 1) = 204,928"
    assert mv.shape_formula(simple, "relu1").size == "each value by itself: the size stays"
    assert mv.shape_formula(traces["pooled"], "average").size == "3×3 → 1×1"


def test_the_parameters_of_a_batch_norm_are_named_in_english(traces: dict[str, Trace]) -> None:
    assert mv.shape_formula(traces["deep"], "bn1").weights == "32 weights + 32 biases = 64"


def test_a_size_that_differs_by_side_says_which_is_which() -> None:
    trace = record(nn.Conv2d(1, 1, (4, 2), stride=(2, 1), padding="valid", dilation=(1, 2)), torch.zeros(1, 1, 9, 7))
    text = "rows ⌊(9 − 4) / 2⌋ + 1 = 3; columns (7 − (2·(2 − 1) + 1)) / 1 + 1 = 5"
    assert mv.shape_formula(trace, "").size == text


@pytest.mark.parametrize("size", [1, 3, (2, 5), (None, 2), (4, None)])
def test_adaptive_pooling_has_the_size_asked_for(size: object) -> None:
    trace = record(nn.AdaptiveAvgPool2d(size), torch.zeros(1, 3, 7, 6))
    assert mv.shape_formula(trace, "").shape == tuple(trace[""].output.shape[1:])


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(6), nn.GroupNorm(1, 3), nn.BatchNorm2d(3, affine=False), nn.Identity(), nn.Dropout()]
)
def test_layers_that_keep_the_size_say_so(layer: nn.Module) -> None:
    check_formula(record(nn.Sequential(layer), torch.rand(1, 3, 7, 6)), "0")


@pytest.mark.parametrize("layer", [nn.PixelShuffle(2), nn.Upsample(scale_factor=2), nn.AdaptiveMaxPool2d(2)])
def test_no_formula_is_made_up_for_a_layer_that_is_not_known(layer: nn.Module) -> None:
    trace = record(nn.Sequential(nn.ReLU(), layer), torch.zeros(1, 4, 6, 6))
    shown = "×".join(map(str, trace["1"].output.shape[1:]))
    with pytest.raises(mv.MnistvizError, match=rf"(?s)no size formula.*'1'.*{type(layer).__name__}.*4×6×6 → {shown}"):
        mv.shape_formula(trace, "1")
    with pytest.raises(mv.MnistvizError, match="no size formula"):
        mv.describe(trace)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Linear(6, 2), (4, 5, 6)),
        (nn.Linear(6, 2), (5, 6)),
        (nn.Flatten(2), (4, 5, 6)),
        (nn.Flatten(1, 2), (4, 5, 6)),
    ],
)
def test_the_shape_is_true_where_only_some_dimensions_are_touched(layer: nn.Module, size: tuple[int, ...]) -> None:
    trace = record(layer, torch.zeros(1, *size))
    assert mv.shape_formula(trace, "").shape == tuple(trace[""].output.shape[1:])


def test_the_parameters_of_a_layer_that_is_not_known_are_not_miscounted() -> None:
    check_formula(record(nn.Sequential(nn.ConvTranspose2d(4, 4, 3, padding=1)), torch.zeros(1, 4, 6, 6)), "0")


@pytest.mark.parametrize(
    "layer", [nn.LogSoftmax(dim=1), nn.Softmax(dim=1), nn.LayerNorm(6), nn.ConvTranspose2d(4, 4, 3, padding=1)]
)
def test_no_layer_that_mixes_its_values_is_said_to_take_each_by_itself(layer: nn.Module) -> None:
    assert "by itself" not in mv.shape_formula(record(nn.Sequential(layer), torch.zeros(1, 4, 6, 6)), "0").size


@every_trace
def test_describe_has_a_row_for_every_step(name: str, traces: dict[str, Trace]) -> None:
    trace = traces[name]
    table = pd.DataFrame(mv.describe(trace))
    assert list(table.columns) == ["layer", "kind", "input", "output", "size", "parameters"]
    assert list(table["layer"]) == [step.name for step in trace]
    for row, step in zip(table.itertuples(), trace, strict=True):
        formula = mv.shape_formula(trace, step.name)
        assert row.kind == step.kind
        assert row.input == "×".join(map(str, step.input.shape[1:]))
        assert row.output == "×".join(map(str, step.output.shape[1:]))
        assert (row.size, row.parameters) == (formula.size, formula.weights)


def test_describe_tells_the_calls_of_one_layer_apart() -> None:
    assert [row["layer"] for row in mv.describe(record(seeded(Twice), torch.rand(1, 1, 6, 6)))] == ["conv:0", "conv:1"]
