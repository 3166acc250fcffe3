"""Every value of a convolution or linear layer is the sum its ledger says; sizes and counts follow their formulas."""

import math
import re
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from helpers import refusals
from hypothesis import given, settings
from torch import nn
from zoo import convolutions, layers, make, noise, record, seeded, whole_numbers

import mnistviz as mv
from mnistviz.look.trace import Step, Trace

TOLERANCE = 5e-6  # |total − recorded| ≤ this · (1 + Σ|products|), float32; 4e-7 is what was measured


def units(step: Step) -> list[tuple[int, ...]]:
    return list(product(*map(range, step.output.shape[1:])))


@pytest.mark.parametrize(("name", "stride"), [("compact", 3), ("light", 17), ("deep", 211), ("pooled", 211)])
def test_the_total_is_the_recorded_value(name, stride, passes):
    """Of every third unit of `compact`, and of each 17th or 211th of the others, against the layer's own function."""
    for key, step in passes[name].of_kind("Conv2d", "Linear").items():
        ledgers = [mv.ledger(passes[name], key, *unit) for unit in units(step)[::stride]]
        if step.kind == "Linear":  # one product for each feature
            for ledger in ledgers:
                assert (ledger.layer, ledger.kind, ledger.inputs) == (key, "Linear", range(step.input.shape[1]))
                assert torch.equal(ledger.patch, step.input[0])
                products = step.input[0].double() * step.weight[ledger.unit].double()
                torch.testing.assert_close(ledger.sums.double(), products, rtol=1e-5, atol=1e-6)
        totals, recorded = torch.tensor([(x.total, x.recorded) for x in ledgers], dtype=torch.float64).unbind(1)
        x, w = step.input.abs(), step.weight.abs()
        scale = F.linear(x, w) if step.kind == "Linear" else F.conv2d(x, w, padding=step.settings["padding"])
        assert torch.equal(recorded.float(), step.output.flatten()[::stride])
        assert ((totals - recorded).abs() <= TOLERANCE * (1 + scale.flatten()[::stride])).all(), key


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=40, deadline=None)
@given(drawn=convolutions())
def test_patches_of_any_convolution_are_those_of_unfold(drawn):
    """Whatever the border is made of, torch pads it for the layer itself."""
    conv, x = drawn
    trace, expected = record(nn.Sequential(conv), x), conv(x).detach()
    border = conv._reversed_padding_repeated_twice  # as its own forward pads
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    columns = F.unfold(F.pad(x, border, mode=mode), conv.kernel_size, conv.dilation, 0, conv.stride)[0]
    patches = columns.view(conv.groups, -1, *conv.kernel_size, *expected.shape[2:])
    read = patches.shape[1]
    for unit in units(trace["0"])[:: max(1, expected.numel() // 20)]:
        ledger, group = mv.ledger(trace, "0", *unit), unit[0] // (conv.out_channels // conv.groups)
        patch, kernel = patches[group, ..., unit[1], unit[2]], conv.weight[unit[0]].detach()
        known = "Conv2d", unit, range(group * read, (group + 1) * read)
        assert (ledger.kind, ledger.unit, ledger.inputs) == known
        assert torch.equal(ledger.patch, patch)
        assert torch.equal(ledger.kernel, kernel)
        torch.testing.assert_close(ledger.sums, (patch * kernel).sum((1, 2)))
        assert ledger.total == pytest.approx(float(expected[(0, *unit)]), abs=1e-10)


def test_ledgers_print_sums_that_add_up(golden, passes):
    exact = record(whole_numbers(), torch.arange(784.0).view(1, 1, 28, 28) % 4)
    golden("a unit of a convolution", mv.ledger(exact, "0", 1, 0, 27))
    golden("a unit of a linear layer", mv.ledger(exact, "4", 3))
    with seeded():
        grouped = record(nn.Conv2d(6, 2, 1, groups=2), torch.ones(1, 6, 2, 2))
    deep = passes["deep"]
    for trace, key, unit in ((deep, "conv4", (3, 5, 6)), (deep, "fc2", (7,)), (grouped, "", (1, 0, 0))):
        ledger = mv.ledger(trace, key, *unit)
        parts = [(a, float(b)) for a, b in re.findall(r"^  (\w+(?: \w+)?) +([+-]\d+\.\d+)", repr(ledger), flags=re.M)]
        assert sum(value for _, value in parts[:-1]) == pytest.approx(parts[-1][1], abs=5e-6)
        assert parts[-1][1] == pytest.approx(ledger.recorded, abs=1e-5)
        for name, value in parts:
            if name.startswith(("channel ", "feature ")):  # the true channels, in a group too
                at = ledger.inputs.index(int(name.split()[1]))
                assert value == pytest.approx(float(ledger.sums[at]), abs=1e-6)


def test_what_is_not_a_number_stays_visible():
    model, x = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(72, 4)).double(), noise(1, 1, 6, 6)
    x[0, 0, 0, 0] = torch.nan
    trace = record(model, x)
    for channel, y, x_out in units(trace["0"]):
        ledger = mv.ledger(trace, "0", channel, y, x_out)
        assert math.isnan(ledger.total) == math.isnan(ledger.recorded) == (y <= 1 and x_out <= 1)
    assert "nan" in repr(mv.ledger(trace, "2", 1))


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
    assert worked_out(formula.weights) == learned if learned else formula.weights == "none"
    if step.kind in ("Conv2d", "MaxPool2d", "AvgPool2d"):
        both = re.fullmatch(r"rows (.+); columns (.+)", formula.size)
        texts = both.groups() if both else (formula.size, formula.size)
        assert tuple(map(worked_out, texts)) == formula.shape[1:]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=100, deadline=None)
@given(drawn=layers())
def test_the_formula_of_any_window_gives_the_true_size_and_count(drawn):
    layer, x = drawn
    check_formula(record(nn.Sequential(layer), x), "0")


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        *((nn.AdaptiveAvgPool2d(size), (3, 7, 6)) for size in (1, 3, (2, 5), (None, 2), (4, None))),
        *((layer, (3, 7, 6)) for layer in (nn.LayerNorm(6), nn.GroupNorm(1, 3), nn.Identity(), nn.Dropout())),
        (nn.BatchNorm2d(3, affine=False), (3, 7, 6)),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), (4, 6, 6)),
        (nn.Linear(6, 2), (4, 5, 6)),
        (nn.Flatten(2), (4, 5, 6)),
        (nn.Flatten(1, 2), (4, 5, 6)),
    ],
    ids=str,
)
def test_a_layer_of_any_kind_follows_its_formula(layer, size):
    trace = record(layer, torch.zeros(1, *size))
    check_formula(trace, "")
    mixes = isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.ConvTranspose2d)
    assert not (mixes and "by itself" in mv.shape_formula(trace, "").size)


def test_every_layer_of_every_model_follows_its_formula_and_has_a_row_in_the_description(passes, golden):
    for name, trace in passes.items():
        for key in trace:
            check_formula(trace, key)
        rows = mv.describe(trace)
        assert [row["layer"] for row in rows] == trace.keys
        if name in ("deep", "simple", "pooled"):
            golden(name, "\n".join(" | ".join(map(str, row.values())) for row in rows))


def simple() -> Trace:
    return record(mv.models.simple(), torch.zeros(1, 1, 28, 28))


def alone(layer: nn.Module, *size: int) -> Trace:
    return record(nn.Sequential(layer), torch.zeros(1, *size))


RANGE = ("no such unit in 'conv1', whose output is 32×26×26", "channel 0 to 31, y 0 to 25, x 0 to 25; counted from 0")
NOT_ONE = ("does not name one unit of 'conv1'", "give channel, y and x")
NO_PLACE = ("does not name one unit of 'fc1'", "of a linear layer only its number")
HAVE = ("multiplies no weights", "conv1, conv2, fc1, fc2")


def made_anew() -> nn.Conv2d:
    layer = nn.Conv2d(1, 2, 3)
    weight = layer.weight.detach()
    del layer.weight  # as `nn.utils.weight_norm` does
    layer.weight = weight
    return layer


BAD = {
    "a channel too many": (lambda: mv.ledger(simple(), "conv1", 32, 0, 0), *RANGE, "'channel 32, y 0, x 0'"),
    "a negative channel": (lambda: mv.ledger(simple(), "conv1", -1, 0, 0), *RANGE),
    "a score too many": (lambda: mv.ledger(simple(), "fc2", 10), "channel 0 to 9; counted from 0"),
    "a pixel without a place": (lambda: mv.ledger(simple(), "conv1", 0), *NOT_ONE),
    "a linear unit with y": (lambda: mv.ledger(simple(), "fc1", 0, y=1), *NO_PLACE),
    "a batch": (lambda: mv.ledger(record(nn.Linear(5, 2), torch.zeros(3, 5)), "", 0), "one digit", "3 inputs of 5"),
    "a ReLU": (lambda: mv.ledger(simple(), "relu1", 0, 0, 0), "'relu1' is a ReLU", *HAVE),
    "no layer with products": (lambda: mv.ledger(alone(nn.ReLU(), 2), "0", 0), "no layer of this trace"),
    "several rows": (lambda: mv.ledger(alone(nn.Linear(5, 2), 3, 5), "0", 0), "'0' has no units to point at", "3×2"),
    "maps of rows": (lambda: mv.ledger(alone(nn.Linear(5, 2), 2, 3, 5), "0", 0, 0, 0), "more than one row"),
    "a weight that is no parameter": (
        lambda: mv.ledger(alone(made_anew(), 1, 4, 4), "0", 0, 0, 0),
        *("'0' makes its weight", "make it a parameter"),
    ),
    "an unknown size": (lambda: mv.shape_formula(alone(nn.PixelShuffle(2), 4, 6, 6), "0"), "no size formula", "1×12"),
    "a scripted part": (lambda: mv.describe(alone(make("scripted_part").model, 1, 8, 8)), "ScriptModule"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)
