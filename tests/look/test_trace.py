"""A trace finds each step by name, call or number, tells what it does not hold, and prints all of it."""

import dataclasses
import re
from contextlib import suppress
from typing import Any

import pytest
import torch
from helpers import refusals
from torch import nn
from zoo import assert_equal, make, record, whole_numbers

import mnistviz as mv
from mnistviz.look.trace import MODEL_INPUT, Trace, sizes, times


def traced(name: str, layers: Any = None) -> Trace:
    case = make(name)
    with torch.no_grad(), mv.capture(case.model, layers) as trace:
        case()
    return trace


def never_called() -> Trace:
    with mv.capture(make("small").model) as trace:
        pass
    return trace


def stopped() -> Trace:
    """By an input that is too small for the linear layer."""
    model = whole_numbers()
    with suppress(RuntimeError), mv.capture(model) as trace:
        model(torch.ones(1, 1, 9, 12))
    return trace


@pytest.fixture(scope="module")
def small() -> Trace:
    return traced("small")


@pytest.fixture(scope="module")
def reused() -> Trace:
    return traced("reused_relu")


def test_a_step_is_found_by_name_number_and_iteration(small):
    names = ["conv1", "relu1", "conv2", "relu2", "pool", "flatten", "fc1", "relu3", "fc2"]
    assert small.keys == list(small) == names
    assert len(small) == 9
    assert small.items() == list(zip(names, small.steps, strict=True))
    for i, name in enumerate(names):
        assert small[name].name == name
        assert small[name] is small[i] is small[i - 9] is small[name, 0] is small[f"{name}:0"] is small.steps[i]
        assert small.index(name) == i
        assert name in small
    assert "conv3" not in small
    step = small["conv2"]
    assert (step.kind, step.parameters, step.weight.requires_grad) == ("Conv2d", 6 * 4 * 9 + 6, False)
    assert (small["relu1"].weight, small["relu1"].bias, small["relu1"].parameters) == (None, None, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.output = torch.zeros(1)


def test_a_step_of_a_reused_layer_is_found_by_its_call(reused):
    assert reused["relu:0"] is reused["relu", 0] is reused[1]
    assert reused["relu:1"] is reused["relu", 1] is reused[3] is reused[-1]
    assert [step.call for step in reused.steps] == [0, 0, 0, 1]
    assert "relu:1" in reused
    assert "relu:2" not in reused
    alias = traced("alias")
    assert alias["also_fc1"] is alias["fc1"]


def test_steps_of_a_kind_and_the_last_linear_layer_are_found(small, reused):
    assert list(small.of_kind("Conv2d", "Linear")) == ["conv1", "conv2", "fc1", "fc2"]
    assert reused.of_kind("ReLU") == {"relu:0": reused[1], "relu:1": reused[3]}
    assert small.of_kind("GELU") == {}
    assert (small.last_linear(), reused.last_linear()) == ("fc2", "fc2")


def test_sources_say_from_which_step_each_input_came():
    def sources(name: str) -> dict[str, tuple[int | None, ...]]:
        return {key: step.sources for key, step in traced(name).items()}

    assert sources("reused_relu") == {"fc1": (MODEL_INPUT,), "relu:0": (0,), "fc2": (1,), "relu:1": (2,)}
    assert sources("residual") == {"conv1": (MODEL_INPUT,), "conv2": (None,), "fc": (None,)}
    two = {"left": (MODEL_INPUT,), "right": (MODEL_INPUT,), "join": (0, 1)}
    assert sources("two_inputs") == sources("keyword_inputs") == two
    assert sources("indices") == {"pool": (MODEL_INPUT,), "back": (0, 0)}
    assert sources("inplace") == sources("small")
    assert sources("scripted_part") == {"0": (MODEL_INPUT,), "1": (0,), "2": (1,)}


STAGES = {
    "deep": "conv1 bn1 relu1 | conv2 bn2 relu2 pool1 drop1 | conv3 bn3 relu3 | conv4 bn4 relu4 pool2 drop2 | "
    "conv5 bn5 relu5 pool3 drop3 flatten | fc1 bn6 relu6 drop4 | fc2",
    "light": "normalise conv1 relu1 pool1 | conv2 relu2 pool2 | mix1 | conv3 relu3 | mix2 | conv4 relu4 | "
    "mix3 flatten | fc1 logsoftmax",
}
RESULTS = {
    "deep": "relu1 pool1 relu3 pool2 pool3 relu6 fc2",
    "light": "pool1 pool2 mix1 relu3 mix2 relu4 mix3 logsoftmax",
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_begins_with_each_layer_that_mixes_its_inputs(name, passes):
    trace = passes[name]
    assert " | ".join(" ".join(trace.keys[i] for i in stage) for stage in trace.stages()) == STAGES[name]
    assert " ".join(trace.keys[trace.result_of(stage)] for stage in trace.stages()) == RESULTS[name]
    assert trace.result_of([trace.index("flatten")]) == trace.index("flatten")


def test_several_outputs_keep_their_form_and_the_first_is_the_result():
    step = traced("lstm")[0]
    assert step.result is step.output[0]
    assert (sizes(step.output), sizes(None), times((32, 28, 28))) == ("2×3, 2×3, 2×3", "no tensor", "32×28×28")
    dictionary, named, mixed = (traced(name).output for name in ("dict_output", "namedtuple_output", "tuple_output"))
    assert list(dictionary) == ["digit", "more"]
    assert type(named).__name__ == "Answer"
    assert isinstance(mixed[1], list)
    assert mixed[1][1:] == [None, "text"]
    assert_equal(dictionary["digit"], named.digit)
    assert_equal(dictionary["more"]["angle"], mixed[1][0])


class Shouting(nn.Module):
    def forward(self, word: str) -> str:
        return word.upper()


def test_traces_and_steps_print_as_they_always_did(reused, golden):
    trace = record(whole_numbers(), torch.arange(2 * 784).view(2, 1, 28, 28) % 4.0)
    golden("a pass of two inputs", trace)
    golden("a step", trace["0"])
    two = record(nn.MaxPool2d(2, return_indices=True), torch.ones(1, 1, 4, 4))
    golden("a model that is one layer with two outputs", two)
    golden("a second call", reused["relu:1"])
    golden("nothing recorded", never_called())
    golden("a pass that stopped", stopped())


def test_values_are_summed_up_and_what_is_not_finite_is_counted():
    for values, text in (
        ([1.0, -2.0, 0.0, 0.0], "-2.00 … 1.00 50%"),
        ([1.0, torch.nan, torch.inf, 0.0], "0.00 … 1.00, 2 not finite 25%"),
        ([torch.nan, torch.nan], "none, 2 not finite 0%"),
        ([True, False], "0.00 … 1.00 50%"),
        ([7, 300], "7.00 … 300.00 0%"),
        ([3 + 4j], "5.00 … 5.00 0%"),
    ):
        trace = record(nn.Sequential(nn.Identity()), torch.tensor([values]))
        assert re.split(r"\s{2,}", repr(trace).splitlines()[2])[-2:] == text.rsplit(" ", 1)


def loop() -> Trace:
    return traced("module_list", ["layers.*", "by_name.*"])


def shouted() -> Trace:
    return record(nn.Sequential(Shouting()), "one")


KEYS = "fc1, relu:0, fc2, relu:1"
BAD = {
    "which of two calls": (lambda: traced("reused_relu")["relu"], "'relu' ran 2 times", "relu:0, relu:1"),
    "a call too many": (lambda: traced("reused_relu")["relu:2"], "unknown layer", "'relu:2'", KEYS, "did you mean"),
    "a second call of one": (lambda: traced("reused_relu")["fc1", 1], "unknown layer", "'fc1:1'", "'fc1'"),
    "a number too many": (lambda: traced("reused_relu")[4], "no such step", "4", "0 to 3"),
    "never called": (lambda: loop()["by_name.unused"], "no call seen for layer 'by_name.unused': the pass did not"),
    "not recorded": (lambda: loop()["by_name"], "no call seen for layer 'by_name': it was not among the layers"),
    "an empty trace": (lambda: never_called().input, "this trace is empty: the model was not called", "mv.capture"),
    "a step of an empty trace": (lambda: never_called()["conv1"], "'conv1': the model was not called inside"),
    "a batch": (lambda: traced("small").one_digit(), "holds a batch", "2 inputs of 1×8×8", "digits[i].pixels"),
    "no linear layer": (lambda: traced("bare_conv").last_linear(), "no linear layer was recorded"),
    "words for the model": (lambda: shouted().input, "the model's input holds no tensor", "tuple"),
    "words for a layer": (lambda: shouted()["0"].input, "the input of '0' holds no tensor", "tuple"),
    "words from a layer": (lambda: shouted()["0"].result, "the output of '0' holds no tensor", "str"),
}
test_what_is_not_there_is_told_with_what_there_is = refusals(BAD)
