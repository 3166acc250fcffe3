"""A record is proved by computing it again: what is true agrees, what was altered shows, what is unknown is said."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import GRAD_MODES, ZOO, Residual, assert_equal, facts, images, make, unsettle

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.replay import FORMULAS, margins
from mnistviz.look.trace import Trace

TOLERANCE = 1e-5  # of float32 sums of up to 1,600 products of order 1, added in another order

PUBLISHED = [*mv.models.MODELS, "deep, trained"]


def published(name: str) -> nn.Module:
    """Random weights, and random running statistics, so that batch norm does something."""
    if name.endswith("trained"):
        return mv.load_model("deep")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mv.models.build(name)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    return model


def record(model: nn.Module, *inputs: Any, **how: Any) -> Trace:
    with torch.no_grad(), mv.capture(model, **how) as trace:
        model(*inputs)
    return trace


def seeded(name: str) -> Trace:
    case = make(name)
    with torch.no_grad(), mv.capture(case.model) as trace:
        case()
    return trace


@pytest.fixture(scope="module")
def digit(mnist: DigitSet) -> Tensor:
    return mnist.test[0].pixels


# ── what is true agrees ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_step_of_a_published_model_is_recomputed_up_to_its_logits(name: str, digit: Tensor) -> None:
    model = published(name)
    trace = record(model, digit)
    with torch.no_grad():
        logits = model.eval()(digit)
    found = mv.replay(trace)
    assert list(found.differences) == trace.keys
    assert found.skipped == found.restarted == ()
    assert found.largest == max(found.differences.values()) <= TOLERANCE
    torch.testing.assert_close(found.output, logits, atol=TOLERANCE, rtol=0)
    assert float(logits.std()) > 100 * TOLERANCE


@pytest.mark.parametrize("grad", GRAD_MODES.values(), ids=GRAD_MODES)
@pytest.mark.parametrize("name", ZOO)
def test_every_step_of_any_model_is_either_recomputed_or_listed(name: str, grad: Callable) -> None:
    case = make(name)
    with grad(), mv.capture(case.model) as trace:
        case()
    found = mv.replay(trace)
    assert sorted([*found.differences, *found.skipped]) == sorted(trace.keys)
    assert set(found.restarted) <= set(trace.keys)
    for key in found.differences:
        assert trace[key].kind in FORMULAS
    if name != "somebody_elses_hooks":
        assert found.largest <= (0.05 if name == "bfloat16" else TOLERANCE)  # bfloat16 has three digits
    else:  # one of them doubles what comes out of a layer
        assert found.differences["conv1"] == pytest.approx(float(trace["conv1"].output.abs().max()) / 2, rel=1e-4)


def test_replaying_changes_neither_the_trace_nor_the_world(digit: Tensor) -> None:
    model = unsettle(published("deep"))
    trace = record(model, digit)
    before, outputs = facts(model), [step.output.clone() for step in trace]
    first, second = mv.replay(trace), mv.replay(trace)
    assert facts(model) == before
    assert_equal([step.output for step in trace], outputs)
    assert first.differences == second.differences
    assert not first.output.requires_grad


def test_a_replay_works_whatever_became_of_the_model(digit: Tensor) -> None:
    model = published("compact")
    trace = record(model, digit)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert mv.replay(trace).largest <= TOLERANCE


def test_a_replay_of_digits_that_are_not_numbers_agrees(digit: Tensor) -> None:
    x = digit.clone()
    x[0, 0, 14, 14], x[0, 0, 3, 3] = torch.nan, -torch.inf
    trace = record(published("deep"), x)
    found = mv.replay(trace)
    assert trace["conv1"].output.isnan().any()
    assert trace.output.isnan().all()
    assert found.largest == 0
    assert found.output.isnan().all()


def test_an_empty_trace_has_nothing_to_recompute() -> None:
    with mv.capture(make("small").model) as trace:
        pass
    found = mv.replay(trace)
    assert (found.differences, found.output, found.skipped, found.restarted) == ({}, None, (), ())
    assert "0 steps" in repr(found)


def test_a_pass_that_stopped_is_recomputed_as_far_as_it_went() -> None:
    model = make("small").model
    with pytest.raises(RuntimeError), mv.capture(model) as trace:
        model(torch.randn(1, 1, 9, 12))
    found = mv.replay(trace)
    assert list(found.differences) == ["conv1", "relu1", "conv2", "relu2", "pool", "flatten"]
    assert found.largest <= TOLERANCE
    assert found.output is None


# ── what was altered shows ────────────────────────────────────────────────────────────────────────────────

STEPS = ["conv1", "bn1", "relu1", "conv2", "pool1", "drop1", "conv5", "flatten", "fc1", "bn6", "relu6", "fc2"]


def forge(trace: Trace, key: str) -> None:
    """0.01 more in one place of the recorded output, and of nothing that shares its memory."""
    forged = trace[key].output.clone()
    forged[(-1,) * forged.ndim] += 0.01
    trace.steps[trace.index(key)] = dataclasses.replace(trace[key], output=forged)


@pytest.fixture(scope="module")
def honest(digit: Tensor) -> Callable[[], Trace]:
    model = published("deep")
    return lambda: record(model, digit)


@pytest.mark.parametrize("key", STEPS)
def test_one_altered_output_is_found(key: str, honest: Callable[[], Trace]) -> None:
    trace = honest()
    forge(trace, key)
    found = mv.replay(trace)
    assert found.differences[key] == pytest.approx(0.01, abs=TOLERANCE)
    assert found.largest == found.differences[key]
    assert all(gap <= TOLERANCE for other, gap in found.differences.items() if other != key)


LEARNED = [(key, what) for key in ("conv1", "bn1", "conv5", "fc1", "bn6", "fc2") for what in ("weight", "bias")]
COUNTED = [(key, what) for key in ("bn1", "bn6") for what in ("running_mean", "running_var")]


@pytest.mark.parametrize(("key", "what"), LEARNED + COUNTED)
def test_one_altered_weight_is_found(key: str, what: str, honest: Callable[[], Trace]) -> None:
    trace = honest()
    step = trace[key]
    at = (0,)
    if what == "weight" and step.weights["weight"].ndim > 1:  # one that meets an input that is not 0
        channel = int(step.input.abs().sum((0, *range(2, step.input.ndim))).argmax())
        at = (0, channel, 1, 1)[: step.weights["weight"].ndim]
    step.weights[what][at] += 0.5
    found = mv.replay(trace)
    earlier = trace.keys[: trace.index(key)]
    assert found.differences[key] > 100 * TOLERANCE
    assert all(found.differences[k] <= TOLERANCE for k in earlier)


def test_a_number_that_became_no_number_is_found(honest: Callable[[], Trace]) -> None:
    trace = honest()
    trace["fc2"].output[0, 3] = torch.nan
    assert mv.replay(trace).differences["fc2"] == torch.inf


def test_an_altered_input_is_found(honest: Callable[[], Trace]) -> None:
    """Also in the middle, where the output of the step before could be taken unseen."""
    trace = honest()
    step = trace["conv3"]
    trace.steps[trace.index("conv3")] = dataclasses.replace(step, inputs=(step.input + 0.1,))
    assert mv.replay(trace).largest > 100 * TOLERANCE


# ── each kind of layer ────────────────────────────────────────────────────────────────────────────────────

KINDS: dict[str, list[tuple[nn.Module, tuple[int, ...]]]] = {
    "Conv2d": [
        (nn.Conv2d(2, 3, 3), (2, 2, 7, 7)),
        (nn.Conv2d(2, 3, 2, bias=False, padding=1), (2, 5, 5)),
        (nn.Conv2d(2, 3, (2, 3), padding="same"), (1, 2, 6, 7)),  # one row more below than above
        (nn.Conv2d(2, 3, (3, 4), padding="same", padding_mode="reflect"), (1, 2, 6, 7)),  # and one column to the right
    ],
    "Linear": [(nn.Linear(5, 3), (2, 5)), (nn.Linear(5, 3, bias=False), (2, 4, 5))],
    "BatchNorm1d": [(nn.BatchNorm1d(3, eps=0.1), (4, 3)), (nn.BatchNorm1d(3, affine=False), (4, 3, 5))],
    "BatchNorm2d": [
        (nn.BatchNorm2d(3, momentum=None), (4, 3, 2, 2)),
        (nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 2, 2)),
    ],
    "LayerNorm": [(nn.LayerNorm((3, 4), eps=0.1), (2, 3, 4)), (nn.LayerNorm(4, elementwise_affine=False), (2, 4))],
    "GroupNorm": [(nn.GroupNorm(2, 4), (2, 4, 3)), (nn.GroupNorm(4, 4, eps=0.1, affine=False), (2, 4, 3))],
    "Normalise": [(mv.models.simple().normalise, (1, 1, 4, 4))],
    "ReLU": [(nn.ReLU(), (2, 9)), (nn.ReLU(inplace=True), (2, 9))],
    "LeakyReLU": [(nn.LeakyReLU(0.3), (2, 9))],
    "GELU": [(nn.GELU(), (2, 9)), (nn.GELU(approximate="tanh"), (2, 9))],
    "SiLU": [(nn.SiLU(), (2, 9))],
    "Sigmoid": [(nn.Sigmoid(), (2, 9))],
    "Tanh": [(nn.Tanh(), (2, 9))],
    "Softmax": [(nn.Softmax(1), (2, 9)), (nn.Softmax(-1), (2, 3, 4))],
    "LogSoftmax": [(nn.LogSoftmax(1), (2, 9)), (nn.LogSoftmax(0), (2, 3))],
    "MaxPool2d": [
        (nn.MaxPool2d(2), (1, 2, 7, 7)),
        (nn.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(2, 1), ceil_mode=True), (1, 2, 8, 7)),
    ],
    "AvgPool2d": [
        (nn.AvgPool2d(2), (1, 2, 7, 7)),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 2, 8, 7)),
        (nn.AvgPool2d((2, 3), divisor_override=5), (1, 2, 8, 7)),
    ],
    "AdaptiveAvgPool2d": [(nn.AdaptiveAvgPool2d(1), (1, 2, 7, 7)), (nn.AdaptiveAvgPool2d((3, None)), (1, 2, 7, 5))],
    "Flatten": [(nn.Flatten(), (2, 3, 4)), (nn.Flatten(0, 1), (2, 3, 4))],
    "Identity": [(nn.Identity(), (2, 3))],
    "Dropout": [(nn.Dropout(0.9), (2, 3))],
    "Dropout1d": [(nn.Dropout1d(0.9), (2, 3, 4))],
    "Dropout2d": [(nn.Dropout2d(0.9), (2, 3, 4, 4))],
}


def test_each_kind_that_can_be_recomputed_is_tried_here() -> None:
    assert set(KINDS) == set(FORMULAS)
    assert all(type(layer).__name__ == kind for kind, layers in KINDS.items() for layer, _ in layers)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("layer", "shape"), [case for cases in KINDS.values() for case in cases], ids=str)
def test_a_layer_of_each_kind_is_recomputed_and_a_false_record_of_it_found(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    model, x = nn.Sequential(layer), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.rand(p.shape, generator=torch.Generator().manual_seed(1)) + 0.5)
        if getattr(layer, "running_var", None) is not None:
            layer.running_mean.fill_(0.3)
            layer.running_var.fill_(2.0)
        expected = layer.eval()(x.clone())
    trace = record(model, x.clone())
    found = mv.replay(trace)
    assert list(found.differences) == ["0"]
    assert found.largest <= TOLERANCE
    torch.testing.assert_close(found.output, expected, atol=TOLERANCE, rtol=0)
    forge(trace, "0")
    assert mv.replay(trace).largest == pytest.approx(0.01, abs=TOLERANCE)


@pytest.mark.parametrize("layer", [nn.Softmax(), nn.LogSoftmax()], ids=str)
@pytest.mark.filterwarnings("ignore:Implicit dimension")
def test_a_softmax_that_finds_its_own_axis_can_be_replayed(layer: nn.Module) -> None:
    trace = record(nn.Sequential(layer), torch.randn(2, 9))
    found = mv.replay(trace)
    assert found.largest <= TOLERANCE
    assert [*found.differences, *found.skipped] == ["0"]


sides = st.integers(0, 2)


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    padding=st.one_of(sides, st.tuples(sides, sides), st.sampled_from(["same", "valid"])),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    dilation=st.one_of(st.integers(1, 2), st.tuples(st.integers(1, 2), st.integers(1, 2))),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_a_convolution_of_any_settings_is_recomputed(
    kernel: tuple[int, int], stride: Any, padding: Any, mode: str, dilation: Any, groups: int, bias: bool
) -> None:
    assume(padding != "same" or stride in (1, (1, 1)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias, mode)
        x = torch.randn(2, 4, 9, 8)
    with torch.no_grad():
        expected = conv(x)
    trace = record(conv, x)
    found = mv.replay(trace)
    assert list(found.differences) == [""]
    assert found.largest <= TOLERANCE
    torch.testing.assert_close(found.output, expected, atol=TOLERANCE, rtol=0)
    (top, bottom), (left, right) = margins(trace[0].settings)
    step, apart = conv.stride, conv.dilation
    for axis, added in ((0, top + bottom), (1, left + right)):
        reach = apart[axis] * (kernel[axis] - 1) + 1
        assert expected.shape[2 + axis] == (x.shape[2 + axis] + added - reach) // step[axis] + 1
    trace[0].weights["weight"][0, 0, 0, 0] += 1
    assert mv.replay(trace).largest > 0.01


# ── what is not known is said ─────────────────────────────────────────────────────────────────────────────


def test_unknown_kinds_are_listed_and_the_rest_goes_on_from_their_record() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 4), nn.Hardswish(), nn.Linear(4, 2))
    trace = record(model, torch.randn(2, 4))
    found = mv.replay(trace)
    assert found.skipped == ("1", "3")
    assert list(found.differences) == ["0", "2", "4"]
    assert found.restarted == ()
    assert "not recomputed: 1, 3" in repr(found)
    trace["1"].output[0, 0] += 1  # a false record is then the input of what follows
    assert mv.replay(trace).differences["2"] > 0.01


@pytest.mark.parametrize(
    ("name", "skipped"),
    [
        ("two_inputs", ("join",)),
        ("indices", ("pool", "back")),
        ("lstm", ("",)),
        ("packed_gru", ("",)),
        ("bilinear", ("",)),
        ("no_parameters", ("",)),
        ("embedding", ("0",)),
        ("weight_normed", ("0.parametrizations.weight.0", "0.parametrizations.weight", "0")),
    ],
)
def test_steps_that_cannot_be_recomputed_are_listed(name: str, skipped: tuple[str, ...]) -> None:
    found = mv.replay(seeded(name))
    assert set(skipped) <= set(found.skipped)
    assert not set(skipped) & set(found.differences)
    for key in skipped:
        assert key in repr(found).partition("not recomputed: ")[2]


def test_what_depends_on_chance_or_on_the_batch_is_not_claimed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.Flatten(), nn.Dropout(0.5))
    trace = record(model.train(), images(), as_is=True)
    found = mv.replay(trace)
    assert found.skipped == ("1", "2", "4")
    assert list(found.differences) == ["0", "3"]
    assert found.largest <= TOLERANCE
    model[1].eval()
    model[4].eval()
    assert mv.replay(record(model, images(), as_is=True)).skipped == ("2",)


def foreign(kind: str, forward: Callable[..., Tensor], base: type[nn.Module] = nn.Module) -> type[nn.Module]:
    """Somebody else's class that happens to be called like one of torch's."""
    return type(kind, (base,), {"forward": forward})


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def standardised(self: nn.Conv2d, x: Tensor) -> Tensor:
    weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)
    return F.conv2d(x, weight, self.bias)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        pytest.param(foreign("ReLU", lambda self, x: x * 2)(), (2, 4), id="a ReLU that doubles"),
        pytest.param(foreign("Identity", lambda self, x: x + 1)(), (2, 4), id="an Identity that adds"),
        pytest.param(foreign("Dropout", lambda self, x: x * 0.5)(), (2, 4), id="a Dropout that always halves"),
        pytest.param(foreign("Conv2d", lambda self, x: x * 2)(), (2, 1, 4, 4), id="a Conv2d without settings"),
        pytest.param(
            foreign("Linear", Transposed.forward, Transposed)(), (2, 4), id="a Linear with its weights transposed"
        ),
        pytest.param(
            foreign("Conv2d", standardised, nn.Conv2d)(1, 2, 3), (2, 1, 4, 4), id="a Conv2d that standardises weights"
        ),
    ],
)
def test_a_foreign_class_of_the_same_name_is_not_claimed(layer: nn.Module, shape: tuple[int, ...]) -> None:
    found = mv.replay(record(nn.Sequential(layer), torch.randn(shape)))
    assert found.skipped == ("0",)
    assert not found.differences


def test_steps_that_start_from_the_record_are_listed() -> None:
    case = make("residual")
    trace = record(case.model, *case.args)
    found = mv.replay(trace)
    assert found.restarted == ("conv2", "fc")  # what comes in was made between the layers, by relu, + and mean
    assert found.skipped == ()
    assert found.largest <= TOLERANCE
    assert "started from the record: conv2, fc" in repr(found)


def test_an_output_made_between_the_layers_is_not_claimed_to_be_recomputed() -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).softmax(1)

    trace = record(Ends(), torch.randn(2, 4))
    found = mv.replay(trace)
    assert list(found.differences) == ["fc"]
    assert found.output is None or found.skipped or found.restarted


def test_a_silenced_channel_shows_in_the_replay() -> None:
    """The layer did not do that: its record is not what its weights give."""
    model, x = make("small").model, make("small").args[0]
    with mv.ablate(model, "conv1", 2):
        trace = record(model, x)
    found = mv.replay(trace)
    with torch.no_grad():
        lost = F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)[:, 2]
    assert found.differences["conv1"] == pytest.approx(float(lost.abs().max()), abs=TOLERANCE)


# ── a large model of somebody else ────────────────────────────────────────────────────────────────────────


def test_a_resnet_is_recomputed_between_its_additions() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = torchvision.models.resnet50(weights=None), torch.randn(1, 3, 64, 64)
    unsettle(model)
    before = facts(model)
    with torch.no_grad(), mv.capture(model) as trace:
        out = model(x)
    assert facts(model) == before
    with torch.no_grad():
        assert_equal(out, model.eval()(x))
    found = mv.replay(trace)
    blocks = [f"layer{i}.{j}" for i, count in enumerate((3, 4, 6, 3), 1) for j in range(count)]
    assert found.skipped == ()
    assert set(found.restarted) == {*(f"{block}.relu:2" for block in blocks), "fc"}
    assert sorted(found.differences) == sorted(trace.keys)
    scale = max(float(step.output.abs().max()) for step in trace)
    assert found.largest <= TOLERANCE * scale
    torch.testing.assert_close(found.output, out, rtol=1e-4, atol=1e-4)


def test_a_step_after_an_addition_in_place_starts_from_the_record_also_in_inference_mode() -> None:
    class InPlace(Residual):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            y = self.conv2(x)
            y += x
            return self.fc(y.mean((2, 3)))

    model, x = InPlace(), images()
    for grad in GRAD_MODES.values():
        with grad(), mv.capture(model) as trace:
            model(x)
        found = mv.replay(trace)
        assert found.restarted == ("fc",)
        assert found.largest <= TOLERANCE
