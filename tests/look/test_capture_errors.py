"""Whatever goes wrong while a model is listened to: the error stays what it was, is explained, and leaves no mark."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from helpers import refusals, refused
from torch import nn
from zoo import GRAD_MODES, SAMPLE, by_hand, entering, facts, hooks, make, record, seeded, unsettle

import mnistviz as mv


class SabotageError(Exception):
    """What no library raises by itself."""


def breaking(module: nn.Module, error: BaseException) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    module.forward = fail


def call_then_raise(call: Callable[[], object], error: Exception) -> None:
    call()
    raise error


WHERE = {"reused_relu": "fc2", "inplace_functions": "conv2", "tuple_output": "angle", "batch_norm": "3"}
WHERE |= {"scripted_part": "2", "module_list": "by_name.last", "lstm": ""}


@pytest.mark.parametrize(("name", "where"), WHERE.items(), ids=WHERE)
def test_a_layer_that_raises_leaves_everything_as_before_and_is_named(name, where):
    for grad in GRAD_MODES.values():
        case, error = make(name), SabotageError("half-way")
        breaking(case.model.get_submodule(where), error)
        unsettle(case.model)
        with grad(), seeded():
            before = facts(case.model)
            with pytest.raises(SabotageError) as caught, mv.capture(case.model) as trace:
                case()
            assert facts(case.model) == before
        assert caught.value is error
        assert error.args == ("half-way",)
        for notes in (error.__notes__, trace.notes):
            assert any(f"stopped inside {where!r}" in note for note in notes)
        assert not trace.complete


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit, RuntimeError])
def test_no_exception_is_swallowed_or_turned_into_another(error, model, x):
    raised = error("stop")
    breaking(model.fc1, raised)
    unsettle(model)
    before = facts(model)
    with pytest.raises(error) as caught, mv.capture(model):
        model(x)
    assert caught.value is raised
    assert facts(model) == before


@pytest.mark.parametrize("name", [*SAMPLE, "catching", "catching_at_the_end"])
def test_an_error_of_the_caller_leaves_everything_as_before_and_no_layer_is_blamed(name):
    """Nor the layer of `catching` whose error the model caught itself."""
    case, error = make(name), SabotageError("mine")
    unsettle(case.model)
    with seeded():
        before = facts(case.model)
        with pytest.raises(SabotageError) as caught, mv.capture(case.model) as trace:
            call_then_raise(case, error)
        assert facts(case.model) == before
    assert caught.value is error
    assert trace.complete
    assert not any("stopped inside" in note for note in [*trace.notes, *getattr(error, "__notes__", [])])


def test_a_layer_whose_error_the_model_caught_is_not_blamed_for_what_goes_wrong_later():
    case = make("catching")
    case.model.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught, mv.capture(case.model) as trace:
        case()
    assert trace.keys == ["fc", "out"]
    assert not any("stopped inside" in note for note in [*trace.notes, *getattr(caught.value, "__notes__", [])])


def test_the_note_says_what_a_layer_was_given_and_what_a_digit_looks_like(model):
    with pytest.raises(RuntimeError) as caught, mv.capture(model):
        model(torch.zeros(1, 784))
    assert caught.value.__notes__ == [
        f"mnistviz: the pass stopped inside 'conv1', {model.conv1}, which was given torch.float32 (1, 784)",
        "mnistviz: a digit for a model is float32 of shape (1, 1, 28, 28): digits[i].pixels",
    ]


def test_an_error_inside_a_scripted_part_names_the_part():
    case = make("scripted_part")
    with pytest.raises(RuntimeError) as caught, mv.capture(case.model) as trace:
        case.model(torch.zeros(1, 7, 8, 8))
    assert trace.keys == []
    assert caught.value.__notes__[0].startswith("mnistviz: the pass stopped inside '0'")
    assert "given torch.float32 (1, 7, 8, 8)" in caught.value.__notes__[0]
    assert not any(hooks(case.model).values())


def test_a_pass_after_somebody_elses_hook_raised_is_complete(model, x):
    handle = model.register_forward_pre_hook(lambda *_: 1 / 0)
    with mv.capture(model) as trace:
        with pytest.raises(ZeroDivisionError):
            model(x)
        handle.remove()
        out = model(x)
    assert trace.complete
    assert torch.equal(trace.output, out.detach())


def test_a_second_pass_is_refused_and_the_first_stays_recorded(model, x):
    before = facts(model)
    with mv.capture(model) as trace:
        model(x)
        refused(lambda: model(x), "one forward pass", "mv.watch(model)")
        with suppress(mv.MnistvizError):
            model.conv1(x)  # nor does a layer called by hand get into the trace
    assert facts(model) == before
    assert len(trace) == 9
    assert trace.complete


def test_a_second_pass_is_refused_again_after_the_first_was_broken_off(model, x):
    before = facts(model)
    with mv.capture(model) as trace:
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, 1, 2, 2))
        stopped = list(trace.steps)
        for _ in range(2):
            refused(lambda: model(x), "one forward pass")
    assert facts(model) == before
    assert trace.steps == stopped
    assert trace.keys == ["conv1", "relu1"]
    assert not trace.complete
    torch.testing.assert_close(model(x), by_hand(model, x))  # it can be called again


capturing = partial(entering, mv.capture)
BAD = {
    "a misspelt layer": (lambda: capturing("cnov1"), "'cnov1'", "conv1, relu1, conv2", "did you mean 'conv1'"),
    "a pattern of no layer": (lambda: capturing("bn*"), "'bn*'", "conv1, relu1", "choose one of these names"),
    "one wrong of two": (lambda: capturing(["conv1", "zzz"]), "unknown layer", "'zzz'"),
    "None": (lambda: record(None), "not a model", "NoneType", "mv.load_model"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)
