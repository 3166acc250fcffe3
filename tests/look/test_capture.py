"""Listening to a model changes neither it nor its answers; silencing changes exactly the channels named."""

import gc
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._pytree import tree_leaves
from zoo import (
    GRAD_MODES,
    ZOO,
    Case,
    Heads,
    InplaceFunctions,
    Lazy,
    NoParameters,
    Residual,
    Reused,
    Small,
    assert_equal,
    bits,
    by_hand,
    facts,
    hooks,
    images,
    last_layer,
    make,
    unsettle,
)

import mnistviz as mv

every_animal = pytest.mark.parametrize("name", ZOO)
every_grad_mode = pytest.mark.parametrize("grad", GRAD_MODES.values(), ids=GRAD_MODES)


class SabotageError(Exception):
    """What no library raises by itself."""


@contextmanager
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


@pytest.fixture(autouse=True)
def plain_attention() -> Iterator[None]:
    """Without hooks, torch may run attention as one fused kernel, whose last bits differ."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(enabled)


@pytest.fixture
def model() -> Small:
    return make("small").model


@pytest.fixture
def x() -> Tensor:
    return make("small").args[0]


def breaking(module: nn.Module, error: BaseException | type[BaseException]) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    module.forward = fail


def call_then_raise(case: Case, error: Exception) -> None:
    case()
    raise error


def call_twice(case: Case) -> None:
    case()
    case()


# ── nothing is changed ────────────────────────────────────────────────────────────────────────────────────


@every_grad_mode
@every_animal
def test_the_output_is_that_of_a_plain_call_and_everything_is_as_before(name: str, grad: Callable) -> None:
    twin, case = make(name), make(name)
    twin.model.eval()
    unsettle(case.model)
    with grad(), seeded():
        expected = twin()
    with grad(), seeded():
        before = facts(case.model)
        with mv.capture(case.model) as trace:
            found = case()
        assert facts(case.model) == before
    assert_equal(found, expected)
    assert_equal(trace.output, expected)
    assert trace.complete


@every_grad_mode
@every_animal
def test_a_layer_that_raises_leaves_everything_as_before_and_is_named(name: str, grad: Callable) -> None:
    case, where, error = make(name), last_layer(name), SabotageError("half-way")
    breaking(case.model.get_submodule(where), error)
    unsettle(case.model)
    with grad(), seeded():
        before = facts(case.model)
        with pytest.raises(SabotageError) as caught, mv.capture(case.model) as trace:
            case()
        assert facts(case.model) == before
    assert caught.value is error
    assert error.args == ("half-way",)
    assert any(f"stopped inside {where!r}" in note for note in error.__notes__)
    assert any(f"stopped inside {where!r}" in note for note in trace.notes)
    assert not trace.complete


@every_animal
def test_an_error_of_the_caller_leaves_everything_as_before_and_no_layer_is_blamed(name: str) -> None:
    case, error = make(name), SabotageError("mine")
    unsettle(case.model)
    with seeded():
        before = facts(case.model)
        with pytest.raises(SabotageError) as caught, mv.capture(case.model) as trace:
            call_then_raise(case, error)
        assert facts(case.model) == before
    assert caught.value is error
    assert not hasattr(error, "__notes__") or name == "catching"
    assert trace.complete


@every_animal
def test_listening_as_is_equals_a_plain_call_in_the_modes_the_model_has(name: str) -> None:
    twin, case = make(name), make(name)
    unsettle(twin.model)
    unsettle(case.model)
    modes, attached = facts(case.model)["modes"], hooks(case.model)
    with seeded():
        expected, state = twin(), torch.get_rng_state()
    with seeded():
        with mv.capture(case.model, as_is=True):
            found = case()
        assert torch.equal(torch.get_rng_state(), state)
    assert_equal(found, expected)
    assert_equal(list(case.model.buffers()), list(twin.model.buffers()))
    assert facts(case.model)["modes"] == modes
    assert hooks(case.model) == attached


def test_as_is_keeps_training_mode_and_what_it_does() -> None:
    case = make("batch_norm")
    norm = case.model[1].train()
    before = norm.running_mean.clone()
    with mv.capture(case.model, as_is=True) as trace:
        assert norm.training
        case()
    assert not torch.equal(norm.running_mean, before)
    assert int(norm.num_batches_tracked) == 1
    assert trace["1"].training
    torch.testing.assert_close(trace["1"].output.mean((0, 2, 3)), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit, RuntimeError])
def test_no_exception_is_swallowed_or_turned_into_another(error: type[BaseException], model: Small, x: Tensor) -> None:
    raised = error("stop")
    breaking(model.fc1, raised)
    unsettle(model)
    before = facts(model)
    with pytest.raises(error) as caught, mv.capture(model):
        model(x)
    assert caught.value is raised
    assert facts(model) == before


def test_the_note_says_what_a_layer_was_given_and_what_a_digit_looks_like(model: Small) -> None:
    with pytest.raises(RuntimeError) as caught, mv.capture(model):
        model(torch.zeros(1, 784))
    notes = "\n".join(caught.value.__notes__)
    assert "'conv1'" in notes
    assert "torch.float32 (1, 784)" in notes
    assert "(1, 1, 28, 28)" in notes


def test_nothing_is_said_about_a_capture_without_a_call(model: Small) -> None:
    before = facts(model)
    with mv.capture(model):
        assert not any(module.training for module in model.modules())
    assert facts(model) == before


@every_grad_mode
def test_a_lazy_layer_takes_its_size_as_in_a_plain_call(grad: Callable) -> None:
    twin, ours = Lazy(), Lazy()
    ours.conv.load_state_dict(twin.conv.state_dict())
    inputs = images()
    with seeded(), grad():
        expected = twin.eval()(inputs)
    with seeded(), grad():
        before = torch.get_rng_state()
        with mv.capture(ours) as trace:
            found = ours(inputs)
        assert torch.equal(torch.get_rng_state(), before)
    assert_equal(found, expected)
    assert trace["fc"].kind == "Linear"
    assert_equal(trace["fc"].weight, ours.fc.weight.detach())
    assert ours.training
    assert type(ours.fc) is nn.Linear
    assert list(hooks(ours)) == list(hooks(twin))
    assert not any(hooks(ours).values())


def test_somebody_elses_hooks_still_run_and_the_trace_shows_what_they_did(x: Tensor) -> None:
    case = make("somebody_elses_hooks")
    with mv.capture(case.model) as trace:
        case()
    with torch.no_grad():
        conv1 = F.conv2d(x + 1, case.model.conv1.weight, case.model.conv1.bias, padding=1)
    assert_equal(trace.input, x + 1)
    assert_equal(trace["conv1"].output, conv1 * 2)
    assert_equal(trace.output, trace["fc2"].output - 1)


# ── states that are easily forgotten ──────────────────────────────────────────────────────────────────────


class Buffered(nn.Module):
    """Does something to its buffers in its forward."""

    def __init__(self, change: Callable[[nn.Module, Tensor], None], **buffers: Tensor | None) -> None:
        super().__init__()
        self.change = change
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        self.change(self, x)
        return x


def fill_cache(module: nn.Module, x: Tensor) -> None:
    module.cache = x * 2


def grow(module: nn.Module, x: Tensor) -> None:
    module.memory.resize_(4).fill_(1)
    module.n += 1


def flip_sign(module: nn.Module, x: Tensor) -> None:
    module.zero.neg_()


def register(module: nn.Module, x: Tensor) -> None:
    module.register_buffer("cache", x * 2)


@pytest.mark.parametrize(
    ("change", "buffers"),
    [
        pytest.param(fill_cache, {"cache": None}, id="an empty buffer that is filled"),
        pytest.param(register, {}, id="a buffer that is registered"),
        pytest.param(grow, {"memory": torch.zeros(2), "n": torch.zeros(1)}, id="a buffer that grows"),
        pytest.param(flip_sign, {"zero": torch.zeros(2)}, id="a zero that becomes minus zero"),
        pytest.param(lambda *_: None, {"graph": torch.eye(3).to_sparse()}, id="a sparse buffer"),
    ],
)
def test_whatever_a_forward_does_to_its_buffers_is_undone(change: Callable, buffers: dict[str, Tensor | None]) -> None:
    model = Buffered(change, **{name: None if b is None else b.clone() for name, b in buffers.items()})
    with mv.capture(model):
        model(torch.ones(1, 3))
    assert list(model._buffers) == list(buffers)
    for name, before in buffers.items():
        found = getattr(model, name)
        if before is None:
            assert found is None
        else:
            assert bits(found.to_dense()) == bits(before.to_dense())


def test_buffers_that_share_memory_still_do_afterwards() -> None:
    both = torch.zeros(4)
    model = Buffered(lambda module, x: module.whole.add_(1), whole=both, part=both[:2])
    with mv.capture(model):
        model(torch.ones(1, 3))
    assert model.whole is both
    assert both.tolist() == [0] * 4
    model.whole.add_(5)
    assert model.part.tolist() == [5, 5]


# ── what is recorded ──────────────────────────────────────────────────────────────────────────────────────


@every_grad_mode
@every_animal
def test_the_record_is_what_simple_hooks_see_on_a_twin(name: str, grad: Callable) -> None:
    twin, case = make(name), make(name)
    twin.model.eval()
    seen: list[tuple[str, Any]] = []

    def snapshot(value: Any) -> list[Any]:
        return [t.detach().clone() if isinstance(t, Tensor) else t for t in tree_leaves(value)]

    for key, module in twin.model.named_modules():
        if not any(module.children()) or module._parameters or module._buffers:
            module.register_forward_hook(lambda module, args, output, key=key: seen.append((key, snapshot(output))))
    with grad(), seeded():
        twin()
    with grad(), seeded(), mv.capture(case.model) as trace:
        case()
    assert [step.name for step in trace] == [key for key, _ in seen]
    for step, (_, output) in zip(trace, seen, strict=True):
        assert_equal(step.output, output)
    calls = {key: [step.call for step in trace if step.name == key] for key, _ in seen}
    assert all(numbers == list(range(len(numbers))) for numbers in calls.values())


@every_grad_mode
@pytest.mark.parametrize("kind", ["layers", "functions"])
def test_what_is_overwritten_in_place_is_recorded_as_it_was(kind: str, grad: Callable, x: Tensor) -> None:
    class OutOfPlace(Residual):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv1(x))
            y = self.conv2(x)
            return self.fc(((y + x) * 2).mean((2, 3)))

    ours, theirs = (Small(True), Small(False)) if kind == "layers" else (InplaceFunctions(), OutOfPlace())
    theirs.load_state_dict(ours.state_dict())
    with grad(), mv.capture(ours) as trace, mv.capture(theirs) as twin:
        ours(x)
        theirs(x)
    assert trace.keys == twin.keys
    for step, other in zip(trace, twin, strict=True):
        assert_equal(step.output, other.output)
        assert_equal(step.inputs, other.inputs)
    assert (trace["conv1"].output < 0).any()


class Cleaning(nn.Module):
    """Changes a tensor between two layers, in place."""

    def __init__(self, clean: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.first, self.second, self.clean = nn.Tanh(), nn.Sigmoid(), clean

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.clean(x)
        return self.second(x)


@every_grad_mode
@pytest.mark.parametrize(
    "clean",
    [
        pytest.param(lambda t: t.nan_to_num_(), id="nan_to_num_"),
        pytest.param(lambda t: t.neg_(), id="neg_"),
        pytest.param(lambda t: t.detach().mul_(2), id="detach.mul_"),
    ],
)
def test_the_input_of_a_layer_is_what_it_was_given(clean: Callable, grad: Callable) -> None:
    x = torch.tensor([[torch.nan, 0.0, 1.0]])
    expected = x.tanh()
    clean(expected)
    model = Cleaning(clean)
    with grad(), mv.capture(model) as trace:
        model(x)
    assert_equal(trace["first"].output, x.tanh())
    assert_equal(trace["second"].input, expected)
    assert_equal(trace["second"].output, expected.sigmoid())
    assert mv.replay(trace).largest == 0


def test_a_trace_does_not_change_when_model_input_or_output_do(model: Small, x: Tensor) -> None:
    with torch.no_grad():
        with mv.capture(model) as trace:
            out = model(x)
        recorded = [(s.inputs, s.output, s.weights) for s in trace] + [trace.inputs, trace.output]
        before = [bits(t) for t in tree_leaves(recorded)]
        for t in (x, out, *model.parameters()):
            t.add_(1)
        model(x)
    assert len(before) == 9 * 2 + 4 * 2 + 2
    assert [bits(t) for t in tree_leaves(recorded)] == before


def test_settings_do_not_change_with_the_layer() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.sizes = torch.zeros(1), [1, 2]

        def forward(self, x: Tensor) -> Tensor:
            return x - self.mean

    model = nn.Sequential(Shift())
    with mv.capture(model) as trace:
        model(torch.ones(1, 2))
    model[0].mean.add_(4)
    model[0].sizes.append(3)
    assert trace[0].settings["mean"].tolist() == [0.0]
    assert trace[0].settings["sizes"] == [1, 2]


def test_weights_are_those_of_the_moment_of_each_call() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.norm(x) + 1)

    model = Counting().train()
    with mv.capture(model, as_is=True) as trace:
        model(torch.randn(3, 4))
    assert [int(step.weights["num_batches_tracked"]) for step in trace] == [1, 2]


def test_each_call_of_a_reused_module_is_kept() -> None:
    case = make("reused_relu")
    with torch.no_grad(), mv.capture(case.model) as trace:
        case()
        first = case.model.fc1.weight @ case.args[0].T + case.model.fc1.bias[:, None]
    assert trace.keys == ["fc1", "relu:0", "fc2", "relu:1"]
    assert trace["relu:0"].output.shape == (3, 6)
    assert trace["relu:1"].output.shape == (3, 4)
    torch.testing.assert_close(trace["relu", 0].output, first.T.clamp(min=0))
    with pytest.raises(mv.MnistvizError, match=r"ran 2 times(.|\n)*relu:0, relu:1"):
        trace["relu"]


def test_a_module_with_two_names_is_recorded_once_under_the_name_asked_for() -> None:
    def keys(layers: Any) -> list[str]:
        case = make("alias")
        with mv.capture(case.model, layers) as trace:
            case()
        return trace.keys

    assert keys(None) == ["fc1", "relu:0", "fc2", "relu:1"]
    assert keys("also_fc1") == ["also_fc1"]
    assert keys(["also_relu", "fc2"]) == ["also_relu:0", "fc2", "also_relu:1"]
    assert keys("*fc1") == ["fc1"]


def test_values_that_are_not_numbers_are_told(model: Small, x: Tensor) -> None:
    x[0, 0, 0, :3], x[1, 0, 5, 5] = torch.nan, torch.inf
    with mv.capture(model) as trace:
        model(x)
    said = "4 of 128 input values are NaN or infinite"
    assert said in trace.notes
    assert said in repr(trace)
    strange = int((~trace["conv2"].output.isfinite()).sum())
    assert strange > 0
    assert re.search(rf"^conv2 .* … .*, {strange} not finite", repr(trace), re.MULTILINE)
    assert mv.replay(trace).largest == 0


# ── which layers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("conv2", ["conv2"]),
        (["fc2", "conv1"], ["conv1", "fc2"]),
        ("conv*", ["conv1", "conv2"]),
        (["relu[12]", "fc?"], ["relu1", "relu2", "fc1", "fc2"]),
        (("conv1", "conv*"), ["conv1", "conv2"]),
        ((name for name in ["pool"]), ["pool"]),
        ("", [""]),
        (None, ["conv1", "relu1", "conv2", "relu2", "pool", "flatten", "fc1", "relu3", "fc2"]),
    ],
    ids=lambda value: re.sub(" at 0x.*", "", repr(value)),  # the same in every process
)
def test_layers_are_chosen_by_name_list_or_pattern(layers: Any, expected: list[str], model: Small, x: Tensor) -> None:
    with mv.capture(model, layers) as trace:
        out = model(x)
    assert trace.keys == expected
    assert_equal(trace.output, out.detach())


def test_containers_are_recorded_by_name() -> None:
    case = make("nested")
    with mv.capture(case.model, ["0", "0.1*"]) as trace:
        case()
        with torch.no_grad():
            conv = case.model[0][0](case.args[0])
    assert trace.keys == ["0.1.0", "0.1.1.0", "0.1.1", "0.1", "0"]  # in the order in which they came to their end
    for key in ("0.1.1.0", "0.1.1", "0.1", "0"):
        assert_equal(trace[key].output, F.max_pool2d(conv.clamp(min=0), 2))
    assert trace["0"].kind == "Sequential"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("cnov1", ["'cnov1'", "conv1, relu1, conv2", "did you mean 'conv1'"]),
        ("bn*", ["'bn*'", "conv1, relu1, conv2", "choose one of these names"]),
        (["conv1", "zzz"], ["'zzz'"]),
    ],
)
def test_a_pattern_that_matches_nothing_raises_before_anything_happens(
    wrong: Any, said: list[str], model: Small
) -> None:
    before = facts(model)
    with pytest.raises(mv.MnistvizError) as caught, mv.capture(model, wrong):
        pytest.fail("the body must not run")
    for words in said:
        assert words in str(caught.value)
    assert facts(model) == before


def test_layers_that_are_never_called_are_told() -> None:
    case = make("module_list")
    with mv.capture(case.model) as trace:
        case()
    assert any("never called in this pass: " in note and "by_name.unused" in note for note in trace.notes)
    with pytest.raises(mv.MnistvizError, match=r"'by_name\.unused': the pass did not call it"):
        trace["by_name.unused"]


@pytest.mark.parametrize(
    "wrong", [None, "deep", 3, nn.Conv2d, lambda x: x], ids=["None", "name", "number", "class", "function"]
)
@pytest.mark.parametrize("listen", [mv.capture, lambda model: mv.ablate(model, "conv1", 0)], ids=["capture", "ablate"])
def test_what_is_not_a_model_is_refused(listen: Callable, wrong: object) -> None:
    with pytest.raises(mv.MnistvizError, match="not a model"), listen(wrong):
        pytest.fail("the body must not run")


# ── one pass ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_pass_in_one_capture_is_a_clear_error(model: Small, x: Tensor) -> None:
    before = facts(model)
    with pytest.raises(mv.MnistvizError, match="one forward pass"), mv.capture(model) as trace:
        call_twice(Case(model, (x,)))
    assert facts(model) == before
    assert len(trace) == 9
    assert trace.complete


def test_a_second_pass_is_refused_again_after_the_error_was_caught(model: Small, x: Tensor) -> None:
    before = facts(model)
    with mv.capture(model) as trace:
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, 1, 2, 2))
        stopped = list(trace.steps)
        for _ in range(2):
            with pytest.raises(mv.MnistvizError, match="one forward pass"):
                model(x)
    assert facts(model) == before
    assert trace.steps == stopped
    assert [step.name for step in stopped] == ["conv1", "relu1"]
    assert not trace.complete
    torch.testing.assert_close(model(x), by_hand(model, x))  # it can be called again


def test_a_layer_called_by_hand_after_the_pass_does_not_get_into_its_trace(model: Small, x: Tensor) -> None:
    with mv.capture(model) as trace:
        model(x)
        with suppress(mv.MnistvizError):
            model.conv1(x)
    assert trace.keys == ["conv1", "relu1", "conv2", "relu2", "pool", "flatten", "fc1", "relu3", "fc2"]


def test_a_layer_that_takes_nothing_is_named_when_it_raises() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.ones(2))

        def forward(self) -> Tensor:
            return self.value

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Learned(), Learned()

        def forward(self) -> Tensor:
            return self.first() + self.second()

    model = Both()
    breaking(model.second, SabotageError())
    with pytest.raises(SabotageError) as caught, mv.capture(model) as trace:
        model()
    assert trace.keys == ["first"]
    assert any("stopped inside 'second'" in note for note in getattr(caught.value, "__notes__", []))


def test_an_error_of_the_caller_is_not_blamed_on_a_layer_whose_error_the_model_caught() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.picky = nn.Linear(4, 4), nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            with suppress(RuntimeError):
                x = self.picky(x)
            return x

    model = Last()
    with pytest.raises(SabotageError) as caught, mv.capture(model) as trace:
        call_then_raise(Case(model, (torch.zeros(1, 4),)), SabotageError())
    assert trace.complete
    assert not getattr(caught.value, "__notes__", [])
    assert not any("stopped" in note for note in trace.notes)


def test_a_model_that_catches_its_own_error_keeps_the_right_input() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, raises: bool = False) -> Tensor:
            if raises:
                raise SabotageError
            with suppress(SabotageError):
                self(x + 5, raises=True)
            return x * self.scale

    model, x = Again(), torch.ones(1, 2)
    with mv.capture(model) as trace:
        model(x)
    assert_equal(trace[0].input, x)


def test_a_pass_after_somebody_elses_hook_raised_is_complete(model: Small, x: Tensor) -> None:
    moods = iter([True, False])

    def moody(*_: Any) -> None:
        if next(moods):
            raise SabotageError

    model.register_forward_pre_hook(moody)
    with mv.capture(model) as trace:
        with pytest.raises(SabotageError):
            model(x)
        out = model(x)
    assert trace.complete
    assert_equal(trace.output, out.detach())


# ── inside one another ────────────────────────────────────────────────────────────────────────────────────


def test_nested_captures_both_work(model: Small, x: Tensor) -> None:
    unsettle(model)
    before = facts(model)
    with mv.capture(model) as outer:
        with mv.capture(model, "conv*") as inner:
            model(x)
        assert not any(module.training for module in model.modules())
    assert facts(model) == before
    assert inner.keys == ["conv1", "conv2"]
    assert len(outer) == 9
    assert_equal(outer["conv2"].output, inner["conv2"].output)
    assert outer["conv2"].output is not inner["conv2"].output


@pytest.mark.parametrize("capture_outside", [True, False])
def test_a_capture_sees_the_silence_whichever_is_outside(capture_outside: bool, model: Small, x: Tensor) -> None:
    unsettle(model)
    before = facts(model)
    if capture_outside:
        with mv.capture(model) as trace, mv.ablate(model, "relu1", [0, 2]):
            out = model(x)
    else:
        with mv.ablate(model, "relu1", [0, 2]), mv.capture(model) as trace:
            out = model(x)
    assert facts(model) == before
    assert (trace["relu1"].output[:, [0, 2]] == 0).all()
    assert_equal(trace["relu1"].output[:, [1, 3]], trace["conv1"].output[:, [1, 3]].clamp(min=0))
    assert_equal(trace["conv2"].input, trace["relu1"].output)
    assert_equal(trace.output, out.detach())
    torch.testing.assert_close(out, by_hand(model, x, masking("relu1", [0, 2])))


# ── compiled models ───────────────────────────────────────────────────────────────────────────────────────


class Backend:
    """Hands the graph back as it is, and counts how often it was asked and how often that ran."""

    def __init__(self) -> None:
        self.compiled = self.ran = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable:
        self.compiled += 1

        def run(*args: Any) -> Any:
            self.ran += 1
            return graph.forward(*args)

        return run


def wrapped(model: nn.Module, backend: Backend) -> nn.Module:
    return torch.compile(model, backend=backend)


def in_place(model: nn.Module, backend: Backend) -> nn.Module:
    model.compile(backend=backend)
    return model


def part_wrapped(model: nn.Module, backend: Backend) -> nn.Module:
    model[0] = torch.compile(model[0], backend=backend)
    return model


def part_in_place(model: nn.Module, backend: Backend) -> nn.Module:
    model[0].compile(backend=backend)
    return model


@pytest.mark.parametrize("earlier", [False, True], ids=["fresh", "already ran"])
@pytest.mark.parametrize("compiling", [wrapped, in_place, part_wrapped, part_in_place])
def test_a_compiled_model_is_seen_like_the_plain_one_and_stays_compiled(compiling: Callable, earlier: bool) -> None:
    torch.compiler.reset()
    case, backend = make("nested"), Backend()
    with mv.capture(case.model) as plain:
        expected = case()
    case.model = compiling(case.model, backend)
    if earlier:
        case()
    unsettle(case.model)
    before, compiled, ran = facts(case.model), backend.compiled, backend.ran
    with mv.capture(case.model) as trace:
        found = case()
    assert (backend.compiled, backend.ran) == (compiled, ran)
    assert facts(case.model) == before
    assert trace.keys == plain.keys
    assert "_orig_mod" not in repr(trace) + " ".join(trace.known)
    for step, other in zip(trace, plain, strict=True):
        assert_equal(step.output, other.output)
        assert_equal(step.inputs, other.inputs)
        assert_equal(step.weights, other.weights)
    assert any("compiled" in note for note in trace.notes)
    assert not any("compiled" in note for note in plain.notes)
    assert_equal(found, expected)
    assert_equal(case(), expected)
    assert backend.compiled > 0
    assert backend.ran > ran


def test_a_compiled_model_can_be_silenced_and_is_whole_again_afterwards() -> None:
    torch.compiler.reset()
    case, backend = make("flat"), Backend()
    plain = case()
    case.model = torch.compile(case.model, backend=backend)
    with mv.ablate(case.model, "1", [1]):
        silenced = case()
    weights = case.model._orig_mod
    expected = weights[0](case.args[0]).clamp(min=0) * torch.tensor([1.0, 0.0]).view(2, 1, 1)
    torch.testing.assert_close(silenced, weights[3](expected.flatten(1)))
    assert backend.ran == 0
    assert_equal(case(), plain)
    assert backend.ran == 1


# ── gradients ─────────────────────────────────────────────────────────────────────────────────────────────


def gradients(case: Case, out: Any) -> list[Tensor | None]:
    learned = [p for p in case.model.parameters() if p.requires_grad]
    scores = [t.float().square().sum() for t in tree_leaves(out) if isinstance(t, Tensor) and t.requires_grad]
    return list(torch.autograd.grad(sum(scores), learned, allow_unused=True))


WITH_GRADIENTS = [name for name in ZOO if any(p.requires_grad for p in make(name).model.parameters())]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_are_those_without_a_capture(name: str, keep: bool) -> None:
    twin, case = make(name), make(name)
    twin.model.eval()
    with seeded():
        expected = gradients(twin, twin())
    with seeded(), mv.capture(case.model, gradients=keep):
        out = case()
        inside = gradients(case, out) if keep else None
    if not keep:
        inside = gradients(case, out)  # after the capture, as well as inside it
    assert any(g is not None for g in expected)
    assert_equal(inside, expected)


def test_backward_inside_a_capture_fills_grad_as_ever(model: Small, x: Tensor) -> None:
    with mv.capture(model):
        model(x).square().sum().backward()
    expected = torch.autograd.grad(by_hand(model, x).square().sum(), list(model.parameters()))
    for p, g in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g)


@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2", "pool", "fc1", "relu3", "fc2"])
def test_the_gradient_at_a_layer_is_that_of_the_forward_by_hand(layer: str, model: Small, x: Tensor) -> None:
    states: dict[str, Tensor] = {}

    def remember(name: str, t: Tensor) -> Tensor:
        states[name] = t
        return t

    by_hand_score = by_hand(model, x, remember)[0, 7]
    expected = torch.autograd.grad(by_hand_score, states[layer])[0]
    before = facts(model)
    with mv.capture(model, gradients=True) as trace:
        out = model(x)
        inside = trace.gradient(out[0, 7], layer)
    assert facts(model) == before
    assert expected.abs().sum() > 0
    torch.testing.assert_close(inside, expected)
    assert_equal(trace.gradient(out[0, 7], layer), inside)  # after the capture, and a second time


@pytest.mark.parametrize("why", ["not asked for", "no_grad", "inference"])
def test_a_gradient_that_cannot_be_had_is_a_clear_error(why: str, model: Small, x: Tensor) -> None:
    grad = GRAD_MODES.get(why, torch.enable_grad)
    with grad(), mv.capture(model, gradients=why != "not asked for") as trace:
        out = model(x)
    with pytest.raises(mv.MnistvizError, match=r"no gradient can reach 'conv1'(.|\n)*gradients=True"):
        trace.gradient(out[0, 7], "conv1")


def test_the_gradient_at_an_output_that_was_overwritten_is_a_clear_error(x: Tensor) -> None:
    model = make("inplace").model
    with mv.capture(model, gradients=True) as trace:
        out = model(x)
    with pytest.raises(mv.MnistvizError, match=r"'conv1' was overwritten in place(.|\n)*inplace=False"):
        trace.gradient(out[0, 7], "conv1")
    assert trace.gradient(out[0, 7], "relu1").abs().sum() > 0


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_thousand_captures_do_not_grow_memory() -> None:
    """With the collector off no object stays, and of blocks of memory, of which a trace has hundreds, at most ten."""
    case = make("tied_weights")

    def capture(times: int) -> None:
        for i in range(times):
            with mv.capture(case.model, gradients=i % 2 == 0), torch.set_grad_enabled(i % 3 == 0):
                case()

    capture(20)
    gc.collect()
    gc.disable()
    try:
        objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
        capture(1000)
        assert len(gc.get_objects()) < objects + 100
        assert sys.getallocatedblocks() < blocks + 10_000
    finally:
        gc.enable()


@pytest.mark.parametrize("ending", ["fine", "raises"])
def test_a_trace_is_freed_without_the_garbage_collector(ending: str, model: Small, x: Tensor) -> None:
    """No cycle holds what was recorded, nor the graph."""
    if ending == "raises":
        breaking(model.fc2, SabotageError)
    gc.collect()
    gc.disable()
    try:
        with suppress(SabotageError), mv.capture(model, gradients=True) as trace:
            model(x)
        dead = [weakref.ref(t) for step in trace for t in (step.output, step.live)]
        assert len(dead) == 2 * (8 if ending == "raises" else 9)
        del trace
        assert not [ref for ref in dead if ref() is not None]
    finally:
        gc.enable()


# ── silence ───────────────────────────────────────────────────────────────────────────────────────────────


def masking(layer: str, channels: list[int]) -> Callable[[str, Tensor], Tensor]:
    """An edit for `by_hand`: these channels times 0, the others times 1."""

    def edit(name: str, t: Tensor) -> Tensor:
        if name != layer:
            return t
        mask = torch.ones(t.shape[1], dtype=t.dtype)
        mask[channels] = 0
        return t * mask.view(-1, *[1] * (t.ndim - 2))

    return edit


@every_grad_mode
@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        ("conv1", [0]),
        ("conv1", [3, 1]),
        ("relu1", [0, 1, 2, 3]),
        ("conv2", [5]),
        ("relu2", [2, 2]),
        ("pool", [0, 5]),
        ("fc1", [0, 7]),
        ("relu3", [4]),
        ("fc2", [7]),
    ],
)
def test_silenced_channels_are_zero_and_the_others_as_they_were(
    layer: str, channels: list[int], grad: Callable, model: Small, x: Tensor
) -> None:
    unsettle(model)
    with grad():
        before = facts(model)
        with mv.capture(model) as plain:
            model(x)
        with mv.ablate(model, layer, channels), mv.capture(model) as trace:
            out = model(x)
        assert facts(model) == before
        expected = by_hand(model, x, masking(layer, channels))
    others = [c for c in range(trace[layer].output.shape[1]) if c not in channels]
    assert (trace[layer].output[:, channels] == 0).all()
    assert_equal(trace[layer].output[:, others], plain[layer].output[:, others])
    for earlier in trace.keys[: trace.index(layer)]:
        assert_equal(trace[earlier].output, plain[earlier].output)
    torch.testing.assert_close(out, expected)
    assert not torch.equal(trace.output, plain.output)


def test_one_channel_or_any_iterable_of_them(model: Small, x: Tensor) -> None:
    def silenced(channels: Any) -> Tensor:
        with torch.no_grad(), mv.ablate(model, "conv2", channels):
            return model(x)

    expected = silenced([2, 4])
    assert_equal(silenced((4, 2)), expected)
    assert_equal(silenced(c for c in (2, 4)), expected)
    assert_equal(silenced({2, 4}), expected)
    assert_equal(silenced(np.array([2, 4])), expected)
    assert_equal(silenced(range(2, 5, 2)), expected)
    assert_equal(silenced(2), silenced([2]))
    assert not torch.equal(silenced(2), expected)


@pytest.mark.parametrize(
    "channels", [np.int64(2), torch.tensor(2), torch.tensor([2])], ids=["numpy", "tensor", "tensors"]
)
def test_channels_may_be_what_argmax_and_topk_give(channels: Any, model: Small, x: Tensor) -> None:
    with torch.no_grad():
        with mv.ablate(model, "conv2", 2):
            expected = model(x)
        with mv.ablate(model, "conv2", channels):
            assert_equal(model(x), expected)


def test_a_gradient_does_not_pass_through_a_silenced_channel(model: Small, x: Tensor) -> None:
    with mv.ablate(model, "relu1", [1]):
        model(x).sum().backward()
    assert (model.conv1.weight.grad[1] == 0).all()
    assert (model.conv1.weight.grad[[0, 2, 3]] != 0).any()


def test_every_call_of_a_reused_module_is_silenced() -> None:
    case = make("reused_relu")
    with torch.no_grad(), mv.ablate(case.model, "relu", [0, 3]), mv.capture(case.model) as trace:
        case()
        first = case.model.fc1(case.args[0]).clamp(min=0)
        first[:, [0, 3]] = 0
        second = case.model.fc2(first).clamp(min=0)
        second[:, [0, 3]] = 0
    assert_equal(trace["relu:0"].output, first)
    assert_equal(trace["relu:1"].output, second)


def test_what_is_not_a_number_is_silenced_too(model: Small, x: Tensor) -> None:
    with torch.no_grad():
        model.conv1.bias[1] = torch.nan
        assert model(x).isnan().any()
        with mv.ablate(model, "conv1", 1):
            silenced = model(x)
        model.conv1.bias[1] = 0
        expected = by_hand(model, x, masking("conv1", [1]))
    torch.testing.assert_close(silenced, expected)


def test_a_module_can_be_silenced_by_any_of_its_names_or_as_the_whole_model() -> None:
    case = make("alias")
    with mv.ablate(case.model, "also_fc1", 2), mv.capture(case.model) as trace:
        case()
    assert (trace["fc1"].output[:, 2] == 0).all()
    bare = make("bare_conv")
    with mv.ablate(bare.model, "", 2):
        assert (bare()[:, 2] == 0).all()


@pytest.mark.parametrize("layer", ["conv1", "relu1", "fc1"])
@pytest.mark.parametrize("channels", [99, -1, [0, 99], []], ids=repr)
def test_a_channel_that_does_not_exist_is_refused_with_the_range(
    layer: str, channels: Any, model: Small, x: Tensor
) -> None:
    before = facts(model)
    last = {"conv1": 3, "relu1": 3, "fc1": 7}[layer]
    said = f"no such channel in layer '{layer}'(.|\n)*0 to {last}"
    with pytest.raises(mv.MnistvizError, match=said), mv.ablate(model, layer, channels):
        model(x)
    assert facts(model) == before


def test_a_layer_with_weights_refuses_a_wrong_channel_before_anything_runs(model: Small) -> None:
    with pytest.raises(mv.MnistvizError, match="no such channel"), mv.ablate(model, "conv1", 4):
        pytest.fail("the body must not run")


@pytest.mark.parametrize("layer", ["cnov1", "conv*", "conv1.weight"])
def test_silencing_needs_the_name_of_one_layer(layer: str, model: Small) -> None:
    before = facts(model)
    with pytest.raises(mv.MnistvizError, match=r"unknown layer(.|\n)*conv1, relu1"), mv.ablate(model, layer, 0):
        pytest.fail("the body must not run")
    assert facts(model) == before


def test_what_has_no_channels_cannot_be_silenced() -> None:
    case = make("lstm")
    with pytest.raises(mv.MnistvizError, match="no channels to silence"), mv.ablate(case.model, "", 0):
        case()
    assert not any(hooks(case.model).values())


def test_silence_ends_when_the_model_or_the_caller_raises(model: Small, x: Tensor) -> None:
    unsettle(model)
    before = facts(model)
    with pytest.raises(SabotageError), mv.ablate(model, "conv1", 0):
        raise SabotageError
    with pytest.raises(RuntimeError), mv.ablate(model, "conv1", 0):
        model(torch.zeros(1, 784))
    assert facts(model) == before


def test_silence_leaves_a_computed_weight_as_it_was() -> None:
    """Merely reading a spectrally normed weight in training mode moves its buffers."""
    model = nn.Sequential(spectral_norm(nn.Conv2d(1, 3, 3))).train()
    before = facts(model)
    with mv.ablate(model, "0", 1):
        pass
    assert facts(model) == before


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(nn.PReLU(), id="PReLU has one weight for all channels"),
        pytest.param(nn.ConvTranspose2d(5, 6, 3), id="ConvTranspose2d has its outputs second"),
        pytest.param(nn.Sequential(nn.ReLU(), nn.ReLU()), id="a container"),
    ],
)
def test_the_channels_are_those_of_the_output(layer: nn.Module) -> None:
    model, x = nn.Sequential(layer), images(2, 5)
    with torch.no_grad():
        plain = model(x)
        with mv.ablate(model, "0", plain.shape[1] - 1):
            silenced = model(x)
        assert (silenced[:, -1] == 0).all()
        assert_equal(silenced[:, :-1], plain[:, :-1])
        said = f"0 to {plain.shape[1] - 1}"
        with pytest.raises(mv.MnistvizError, match=said), mv.ablate(model, "0", plain.shape[1]):
            model(x)


def test_the_units_of_a_linear_layer_are_its_last_axis() -> None:
    model, x = nn.Sequential(nn.Linear(4, 6)), torch.randn(2, 3, 4)
    with torch.no_grad():
        plain = model(x)
        with mv.ablate(model, "0", 1):
            silenced = model(x)
    assert (silenced[..., 1] == 0).all()
    assert_equal(silenced[..., [0, 2, 3, 4, 5]], plain[..., [0, 2, 3, 4, 5]])


def test_silence_on_the_published_model_is_a_mask_in_its_forward(few: mv.Digits) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mv.models.deep().eval()
    x, silent = few.pixels[:2], [0, 5, 31]
    with torch.no_grad():
        expected = x
        for name, layer in model.named_children():
            expected = masking("relu2", silent)(name, layer(expected))
        with mv.ablate(model, "relu2", silent):
            found = model(x)
        assert_equal(found, expected)
        assert not torch.equal(found, model(x))


# ── kinds of model not met above ──────────────────────────────────────────────────────────────────────────


def test_a_model_without_layers_is_one_step_called_by_its_empty_name() -> None:
    model, x = NoParameters(), images()
    with mv.capture(model) as trace:
        model(x)
    assert trace.keys == [""]
    assert_equal(trace[""].output, x.relu().sum((2, 3)))
    assert "(model)" in repr(trace)


def test_a_copy_made_while_listening_is_not_listened_to(model: Small, x: Tensor) -> None:
    with mv.capture(model) as trace:
        twin = deepcopy(model)
        twin(x)
        assert len(trace) == 0
        out = model(x)
        twin(x + 1)
    twin(x + 1)
    assert len(trace) == 9
    assert_equal(trace.output, out.detach())


def test_two_models_can_be_listened_to_at_once() -> None:
    first, second = Reused(), make("small")
    with mv.capture(first) as one, mv.capture(second.model) as two:
        first(torch.ones(1, 8))
        second()
    assert len(one) == 4
    assert len(two) == 9


class Pair(tuple):
    """Is not made from one iterable, as tuples are."""

    def __new__(cls, first: Tensor, second: Tensor) -> "Pair":
        return super().__new__(cls, (first, second))


@dataclass
class Prediction:
    scores: Tensor


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        pytest.param(lambda y: Pair(y, y * 2), list, id="a tuple of a kind of its own"),
        pytest.param(lambda y: y.max(1), list, id="what torch.max returns"),
        pytest.param(Prediction, lambda out: [out.scores], id="a dataclass"),
        pytest.param(lambda y: {"scores": [y]}, lambda out: out["scores"], id="a dictionary of lists"),
    ],
)
def test_an_output_of_any_type_passes_and_is_copied(shape: Callable, parts: Callable) -> None:
    model, x = Heads(lambda digit, angle: shape(digit)), torch.randn(2, 4)
    with torch.no_grad():
        expected = parts(model(x))
        with mv.capture(model) as trace:
            out = model(x)
        assert type(out) is type(shape(torch.zeros(1, 1)))
        assert_equal(parts(out), expected)
        for t in parts(out):
            t.zero_()
    assert_equal(parts(trace.output), expected)


@every_grad_mode
def test_sparse_input_passes(grad: Callable) -> None:
    model, x = nn.Sequential(nn.Linear(4, 3)), torch.eye(4).to_sparse()
    with grad():
        expected = model(x)
        with mv.capture(model) as trace:
            assert_equal(model(x), expected)
    assert_equal(trace["0"].output, expected.detach())


@every_grad_mode
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_masked_transformer_passes_although_it_packs_its_input(grad: Callable) -> None:
    """Without gradients it hands nested tensors from layer to layer."""
    torch.backends.mha.set_fastpath_enabled(True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
        x, mask = torch.randn(2, 5, 8), torch.tensor([[False] * 4 + [True], [False] * 3 + [True] * 2])
    with grad():
        expected = model(x, src_key_padding_mask=mask)
        with mv.capture(model) as trace:
            found = model(x, src_key_padding_mask=mask)
        found, expected = found[~mask], expected[~mask]
    torch.testing.assert_close(found, expected)
    assert trace.complete
    assert mv.replay(trace).largest <= 1e-5
