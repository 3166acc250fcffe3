"""A trace finds each step by name, call or number, tells what it does not hold, and prints all of it."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from zoo import ZOO, Small, assert_equal, by_hand, make

import mnistviz as mv
from mnistviz.look.trace import MODEL_INPUT, Trace, keys_of, sizes, tensors, unknown_layer


def traced(name: str, layers: Any = None) -> Trace:
    case = make(name)
    with torch.no_grad(), mv.capture(case.model, layers) as trace:
        case()
    return trace


@pytest.fixture(scope="module")
def small() -> Trace:
    return traced("small")


@pytest.fixture(scope="module")
def reused() -> Trace:
    return traced("reused_relu")


@pytest.fixture(scope="module")
def published(few: mv.Digits) -> Trace:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mv.models.deep()
    with torch.no_grad(), mv.capture(model) as trace:
        model(few[0].pixels)
    return trace


# ── finding a step ────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_is_found_by_name_number_and_iteration(small: Trace) -> None:
    names = ["conv1", "relu1", "conv2", "relu2", "pool", "flatten", "fc1", "relu3", "fc2"]
    assert small.keys == names
    assert len(small) == 9
    assert list(small) == small.steps
    for i, name in enumerate(names):
        assert small[name].name == name
        assert small[name] is small[i] is small[i - 9] is small[name, 0] is small[f"{name}:0"] is small.steps[i]
        assert small.index(name) == i
        assert name in small
    assert "conv3" not in small


def test_a_step_of_a_reused_layer_is_found_by_its_call(reused: Trace) -> None:
    assert reused["relu:0"] is reused["relu", 0] is reused[1]
    assert reused["relu:1"] is reused["relu", 1] is reused[3] is reused[-1]
    assert [step.call for step in reused] == [0, 0, 0, 1]
    assert "relu" in reused
    assert "relu:1" in reused
    assert "relu:2" not in reused


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("relu", ["'relu' ran 2 times", "relu:0, relu:1"]),
        ("relu:2", ["unknown layer", "'relu:2'", "fc1, relu:0, fc2, relu:1", "did you mean 'relu:"]),
        (("relu", 2), ["unknown layer", "'relu:2'"]),
        (("fc1", 1), ["unknown layer", "'fc1:1'", "'fc1'"]),
        ("fc3", ["unknown layer", "'fc3'", "fc1, relu:0, fc2, relu:1", "did you mean 'fc"]),
        ("zebra", ["unknown layer", "'zebra'", "fc1, relu:0, fc2, relu:1"]),
        (4, ["no such step", "4", "0 to 3"]),
        (-5, ["no such step", "-5", "0 to 3"]),
    ],
    ids=str,
)
def test_a_step_that_is_not_there_is_a_clear_error(wrong: Any, said: list[str], reused: Trace) -> None:
    with pytest.raises(mv.MnistvizError) as caught:
        reused[wrong]
    for words in said:
        assert words in str(caught.value)


def test_a_layer_that_was_not_recorded_is_told_from_one_that_was_not_called() -> None:
    trace = traced("module_list", ["layers.*", "by_name.*"])
    with pytest.raises(mv.MnistvizError, match=r"no call seen for layer 'by_name\.unused': the pass did not call it"):
        trace["by_name.unused"]
    with pytest.raises(mv.MnistvizError, match=r"no call seen for layer 'by_name': it was not"):
        trace["by_name"]
    with pytest.raises(mv.MnistvizError, match=r"unknown layer(.|\n)*did you mean 'layers\.2'"):
        trace["layers.3"]


def test_a_model_that_was_never_called_is_told() -> None:
    with mv.capture(make("small").model) as trace:
        pass
    with pytest.raises(mv.MnistvizError, match="this trace is empty: the model was not called"):
        trace.input  # noqa: B018
    with pytest.raises(mv.MnistvizError, match="conv1") as caught:
        trace["conv1"]
    assert "the pass did not call it" not in str(caught.value), "there was no pass"
    with pytest.raises(mv.MnistvizError, match=r"unknown layer|this trace is empty"):
        trace["zebra"]


def test_the_second_name_of_a_module_is_not_said_to_be_unrecorded() -> None:
    trace, said = traced("alias"), ""
    try:
        assert trace["also_fc1"] is trace["fc1"]
    except mv.MnistvizError as error:
        said = str(error)
    assert "not among the layers to record" not in said


@pytest.mark.parametrize(
    ("calls", "keys"),
    [
        ([], []),
        ([("a", 0), ("b", 0)], ["a", "b"]),
        ([("a", 0), ("b", 0), ("a", 1), ("a", 2)], ["a:0", "b", "a:1", "a:2"]),
        ([("", 0), ("", 1)], [":0", ":1"]),
    ],
)
def test_keys_have_a_number_where_there_were_several_calls(calls: list[tuple[str, int]], keys: list[str]) -> None:
    assert keys_of(calls) == keys


@pytest.mark.parametrize("name", ZOO)
def test_every_key_leads_to_its_own_step(name: str) -> None:
    trace = traced(name)
    assert len(set(trace.keys)) == len(trace.keys) == len(trace) > 0
    assert [trace[key] for key in trace.keys] == trace.steps
    assert set(trace.chosen) <= set(trace.known)


# ── what a step holds ─────────────────────────────────────────────────────────────────────────────────────


def test_a_step_holds_what_went_in_what_came_out_and_what_it_was_done_with(small: Trace) -> None:
    model, x = make("small").model, make("small").args[0]
    states: dict[str, Tensor] = {}
    with torch.no_grad():
        by_hand(model, x, lambda name, t: states.setdefault(name, t))
    assert_equal(small.input, x)
    assert_equal(small["conv1"].input, x)
    assert_equal(small["conv2"].input, small["relu1"].output)
    for name, expected in states.items():
        torch.testing.assert_close(small[name].output, expected)
    step = small["conv2"]
    assert_equal(step.weight, model.conv2.weight.detach())
    assert_equal(step.bias, model.conv2.bias.detach())
    assert not step.weight.requires_grad
    assert step.settings["kernel_size"] == (3, 3)
    assert step.settings["padding"] == (0, 0)
    assert step.kind == "Conv2d"
    assert step.parameters == 6 * 4 * 9 + 6
    assert not step.training
    assert small["relu1"].weight is small["relu1"].bias is None
    assert small["relu1"].parameters == 0


def test_running_statistics_are_weights_but_not_parameters(published: Trace) -> None:
    step = published["bn1"]
    assert set(step.weights) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert step.parameters == 64
    assert sum(step.parameters for step in published) == 437_738


def test_a_step_cannot_be_reassigned(small: Trace) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        small["conv1"].output = torch.zeros(1)


def test_sources_say_from_which_step_each_input_came() -> None:
    def sources(name: str) -> dict[str, tuple[int | None, ...]]:
        trace = traced(name)
        return dict(zip(trace.keys, (step.sources for step in trace), strict=True))

    assert sources("reused_relu") == {"fc1": (MODEL_INPUT,), "relu:0": (0,), "fc2": (1,), "relu:1": (2,)}
    assert sources("residual") == {"conv1": (MODEL_INPUT,), "conv2": (None,), "fc": (None,)}
    two = {"left": (MODEL_INPUT,), "right": (MODEL_INPUT,), "join": (0, 1)}
    assert sources("two_inputs") == sources("keyword_inputs") == two
    assert sources("indices") == {"pool": (MODEL_INPUT,), "back": (0, 0)}
    assert sources("inplace") == sources("small")


@pytest.mark.parametrize(
    ("name", "stages", "results"),
    [
        (
            "deep",
            "conv1 bn1 relu1 | conv2 bn2 relu2 pool1 drop1 | conv3 bn3 relu3 | conv4 bn4 relu4 pool2 drop2 | "
            "conv5 bn5 relu5 pool3 drop3 flatten | fc1 bn6 relu6 drop4 | fc2",
            "relu1 pool1 relu3 pool2 pool3 relu6 fc2",
        ),
        (
            "light",
            "normalise conv1 relu1 pool1 | conv2 relu2 pool2 | mix1 | conv3 relu3 | mix2 | conv4 relu4 | "
            "mix3 flatten | fc1 logsoftmax",
            "pool1 pool2 mix1 relu3 mix2 relu4 mix3 logsoftmax",
        ),
    ],
)
def test_a_stage_begins_with_each_layer_that_mixes_its_inputs(name: str, stages: str, results: str) -> None:
    model = mv.models.build(name)
    with torch.no_grad(), mv.capture(model) as trace:
        model(torch.zeros(1, 1, 28, 28))
    found = trace.stages()
    assert [" ".join(trace.keys[i] for i in stage) for stage in found] == stages.split(" | ")
    assert [trace.keys[trace.result_of(stage)] for stage in found] == results.split()
    assert trace.result_of([trace.index("flatten")]) == trace.index("flatten")


def test_result_is_the_first_tensor_of_several() -> None:
    step = traced("lstm")[0]
    assert step.output[0].shape == (5, 2, 3)
    assert step.result is step.output[0]
    assert sizes(step.output) == "2×3, 2×3, 2×3"


def test_dictionaries_and_named_tuples_keep_their_form() -> None:
    dictionary, named = traced("dict_output").output, traced("namedtuple_output").output
    mixed = traced("tuple_output").output
    assert list(dictionary) == ["digit", "more"]
    assert list(dictionary["more"]) == ["angle"]
    assert named.digit.shape == (2, 10)
    assert type(named).__name__ == "Answer"
    assert isinstance(mixed[1], list)
    assert mixed[1][1:] == [None, "text"]
    assert_equal(dictionary["digit"], named.digit)
    assert_equal(dictionary["more"]["angle"], mixed[1][0])


def test_a_nest_without_tensors_says_so() -> None:
    class Words(nn.Module):
        def forward(self, word: str) -> str:
            return word.upper()

    model = nn.Sequential(Words())
    with mv.capture(model) as trace:
        assert model("one") == "ONE"
    assert trace.output == "ONE"
    assert "no tensor" in repr(trace)
    for ask in (lambda: trace.input, lambda: trace["0"].input, lambda: trace["0"].result):
        with pytest.raises(mv.MnistvizError, match=r"holds no tensor(.|\n)*(tuple|str)"):
            ask()


def test_tensors_and_sizes_of_a_nest() -> None:
    a, b, c = torch.zeros(2, 3, 4), torch.zeros(5), torch.zeros(())
    nest = {"x": (a, [b, None]), "y": "text", "z": c}
    assert tensors(nest) == [a, b, c]
    assert [id(t) for t in tensors(nest)] == [id(t) for t in tree_leaves(nest) if isinstance(t, Tensor)]
    assert sizes(nest) == "3×4, 1, 1"
    assert sizes(None) == "no tensor"


# ── one digit ─────────────────────────────────────────────────────────────────────────────────────────────


def test_one_digit_is_the_input_and_nothing_else_will_do(published: Trace, small: Trace, few: mv.Digits) -> None:
    assert published.one_digit() is published.input
    assert_equal(published.one_digit(), few[0].pixels)
    with pytest.raises(mv.MnistvizError, match=r"holds a batch(.|\n)*2 inputs of 1×8×8(.|\n)*digits\[i\]\.pixels"):
        small.one_digit()
    with pytest.raises(mv.MnistvizError, match=r"holds a batch(.|\n)*0 inputs"):
        traced("no_images").one_digit()
    with mv.capture(make("small").model) as empty:
        pass
    with pytest.raises(mv.MnistvizError, match="this trace is empty"):
        empty.one_digit()


# ── printing ──────────────────────────────────────────────────────────────────────────────────────────────


def rows(trace: Trace) -> dict[str, list[str]]:
    """The printed table, by step."""
    _, head, *lines = repr(trace).splitlines()
    assert head.split() == ["step", "kind", "output", "parameters", "values", "zeros"]
    cells = [re.split(r"\s{2,}", line) for line in lines if not line.startswith("note: ")]
    return {row[0]: row[1:] for row in cells}


def test_the_table_says_what_each_step_holds(published: Trace) -> None:
    table = rows(published)
    assert list(table) == published.keys
    for key, (kind, size, parameters, values, zeros) in table.items():
        out = published[key].output
        assert kind == published[key].kind
        assert size == "×".join(str(n) for n in out.shape[1:])
        assert parameters == f"{published[key].parameters:,}"
        low, high = (float(v) for v in values.split(" … "))
        assert low == pytest.approx(float(out.min()), abs=0.0051)
        assert high == pytest.approx(float(out.max()), abs=0.0051)
        assert float(zeros.rstrip("%")) == pytest.approx(100 * int((out == 0).sum()) / out.numel(), abs=0.51)
    assert repr(published).startswith("Trace of one input: 1×28×28 → 10, 27 steps\n")


@pytest.mark.parametrize("name", ZOO)
def test_any_trace_prints_every_key_size_and_note(name: str) -> None:
    trace = traced(name)
    said = repr(trace).splitlines()
    for key, step, line in zip(trace.keys, trace, said[2:], strict=False):
        assert line.startswith(key or "(model)")
        assert step.kind in line
        assert sizes(step.output) in line
        assert repr(step).startswith("Step(")
        assert sizes(step.inputs) in repr(step)
    assert said[2 + len(trace) :] == [f"note: {note}" for note in trace.notes]
    assert all(line == line.rstrip() for line in said)
    assert f"{len(trace)} steps" in said[0]


def test_reused_layers_are_printed_by_call(reused: Trace) -> None:
    assert list(rows(reused)) == ["fc1", "relu:0", "fc2", "relu:1"]
    assert repr(reused["relu:0"]) == "Step('relu': ReLU, 6 → 6)"
    assert repr(reused["relu:1"]) == "Step('relu', call 1: ReLU, 4 → 4)"
    assert "Trace of 3 inputs: 8 → 4, 4 steps" in repr(reused)


def test_an_empty_trace_says_that_nothing_is_recorded() -> None:
    with mv.capture(make("small").model) as trace:
        pass
    assert repr(trace) == "Trace(nothing recorded yet)"
    assert not trace.keys
    assert not trace.complete


def test_a_pass_that_stopped_is_printed_as_such() -> None:
    model = Small()
    with pytest.raises(RuntimeError), mv.capture(model) as trace:
        model(torch.zeros(1, 1, 9, 12))
    assert not trace.complete
    assert trace.output is None
    assert list(rows(trace)) == ["conv1", "relu1", "conv2", "relu2", "pool", "flatten"]
    assert "a pass that did not end, 6 steps" in repr(trace)
    assert re.search(
        r"^note: .*stopped inside 'fc1', Linear\(.*given torch.float32 \(1, 90\)", repr(trace), re.MULTILINE
    )


def test_a_pass_that_stopped_at_its_first_layer_says_so_too() -> None:
    model = Small()
    with pytest.raises(RuntimeError), mv.capture(model) as trace:
        model(torch.zeros(1, 784))
    assert "stopped inside 'conv1'" in repr(trace)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1.0, -2.0, 0.0, 0.0]], "-2.00 … 1.00 50%"),
        ([[1.0, torch.nan, torch.inf, 0.0]], "0.00 … 1.00, 2 not finite 25%"),
        ([[torch.nan, torch.nan]], "none, 2 not finite 0%"),
        ([[True, False]], "0.00 … 1.00 50%"),
        ([[7, 300]], "7.00 … 300.00 0%"),
        ([[3 + 4j]], "5.00 … 5.00 0%"),
    ],
)
def test_values_are_summed_up_and_what_is_not_finite_is_counted(values: list, said: str) -> None:
    model = nn.Sequential(nn.Identity())
    with mv.capture(model) as trace:
        model(torch.tensor(values))
    assert " ".join(rows(trace)["0"][-2:]) == said


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_layer_names_what_there_is() -> None:
    near = str(unknown_layer("conv", ["conv1", "conv2", "fc1"]))
    assert "did you mean" in near
    assert "'conv1'" in near
    assert "conv1, conv2, fc1" in near
    assert "a pattern: 'conv*'" in str(unknown_layer("zebra", ["conv1"]))
    assert "none" in str(unknown_layer("zebra", []))


def test_a_model_without_inner_layers_is_not_called_an_empty_trace() -> None:
    with pytest.raises(mv.MnistvizError, match="unknown layer") as caught, mv.capture(nn.Conv2d(1, 1, 3), "conv"):
        pytest.fail("the body must not run")
    assert "trace is empty" not in str(caught.value)


def test_a_score_of_another_pass_is_a_clear_error() -> None:
    case = make("small")
    with mv.capture(case.model, gradients=True) as trace:
        case()
    with pytest.raises(mv.MnistvizError, match="conv1"):
        trace.gradient(case()[0, 7], "conv1")
