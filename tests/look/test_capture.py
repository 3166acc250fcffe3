"""Listening to a model changes neither it nor its answers, and what is recorded is what happened."""

import gc
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from zoo import GRAD_MODES, SAMPLE, assert_equal, bits, facts, make, record, seeded, unsettle

import mnistviz as mv
from mnistviz.look.replay import FORMULAS

every_grad_mode = pytest.mark.parametrize("grad", GRAD_MODES.values(), ids=GRAD_MODES)
ALL_OF_SMALL = ["conv1", "relu1", "conv2", "relu2", "pool", "flatten", "fc1", "relu3", "fc2"]


@pytest.fixture(autouse=True)
def plain_attention() -> Iterator[None]:
    """Without zoo.hooks, torch may run attention as one fused kernel, whose last bits differ."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(enabled)


def listen(model: nn.Module) -> list[tuple[str, list[Any]]]:
    """What the simplest zoo.hooks see: the name of each layer that ran, and copies of what it put out.

    Layers are the modules that compute something themselves; inside a scripted one no hook is called.
    """
    seen: list[tuple[str, list[Any]]] = []

    def hear(name: str, output: Any) -> None:
        seen.append((name, [t.detach().clone() if isinstance(t, Tensor) else t for t in tree_leaves(output)]))

    for name, module in model.named_modules():
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted or not any(module.children()) or module._parameters or module._buffers:
            nn.Module.register_forward_hook(module, lambda _, args, output, name=name: hear(name, output))
    return seen


@every_grad_mode
@pytest.mark.parametrize("name", zoo.ZOO)
def test_a_capture_records_every_step_of_any_model_and_leaves_no_mark(name, grad):
    """Against a twin that runs in evaluation mode with hooks of its own; then every step is computed again."""
    twin, case = make(name), make(name)
    twin.model.eval()
    seen = listen(twin.model)
    unsettle(case.model)
    with grad(), seeded(5):
        expected = twin()
    with grad(), seeded(5):
        before = facts(case.model)
        with mv.capture(case.model) as trace:
            output = case()
        assert facts(case.model) == before
    assert_equal(output, expected)
    assert_equal(trace.output, expected)
    assert trace.complete

    assert [step.name for step in trace.steps] == [layer for layer, _ in seen]
    for step, (_, copies) in zip(trace.steps, seen, strict=True):
        assert_equal(step.output, copies)
    for layer in trace.chosen:
        calls = [step.call for step in trace.steps if step.name == layer]
        assert calls == list(range(len(calls)))
    assert len(set(trace.keys)) == len(trace) > 0
    assert [trace[key] for key in trace] == trace.steps

    again = mv.replay(trace)
    assert sorted([*again.differences, *again.skipped]) == sorted(trace.keys)
    assert set(again.restarted) <= set(trace.keys)
    assert all(trace[key].kind in FORMULAS for key in again.differences)
    if name == "somebody_elses_hooks":  # one of them doubles what comes out of a layer
        assert again.differences["conv1"] == pytest.approx(float(trace["conv1"].output.abs().max()) / 2, rel=1e-4)
    else:
        assert again.largest <= (0.05 if name == "bfloat16" else 1e-5)  # bfloat16 has three digits


@pytest.mark.parametrize("name", ["scripted_part", "scripted_counter", "traced_part", "scripted_model"])
def test_a_scripted_part_is_one_opaque_step_with_all_its_weights(name):
    case, layer = make(name), "" if name == "scripted_model" else "0"
    scripted = dict(case.model.named_modules())[layer]
    learned = dict(scripted.named_parameters())
    weights = {key: t.detach().clone() for key, t in {**learned, **dict(scripted.named_buffers())}.items()}
    trace = record(case.model, *case.args)
    assert trace.keys == (["0", "1", "2"] if layer else [""])
    assert trace.known == (("", "0", "1", "2") if layer else ("",))
    step = trace[layer]
    assert step.kind == "ScriptModule"
    assert step.parameters == sum(p.numel() for p in learned.values()) > 0
    assert step.weights.keys() == weights.keys()
    if name != "scripted_counter":  # it changes its buffers before the record of the call is made
        assert_equal(step.weights, weights)
    again = mv.replay(trace)
    assert (again.skipped, again.restarted) == ((layer,), ())
    assert list(again.differences) == trace.keys[1:]
    with torch.no_grad(), mv.watch(case.model.eval()) as activity:
        out = case()
    assert activity.keys == trace.keys
    assert activity[layer].kind == "ScriptModule"
    np.testing.assert_array_equal(list(activity.totals.values())[-1].high, out.amax(0))


class Buffered(nn.Module):
    """Does something to its buffers in its forward."""

    def __init__(self, change: Callable[[nn.Module, Tensor], object], **buffers: Tensor | None) -> None:
        super().__init__()
        self.change = change
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        self.change(self, x)
        return x


BUFFERS: dict[str, tuple[Callable, dict[str, Tensor | None]]] = {
    "an empty one is filled": (lambda m, x: setattr(m, "cache", x), {"cache": None}),
    "one is registered": (lambda m, x: m.register_buffer("cache", x), {}),
    "one grows": (lambda m, x: m.memory.resize_(4).fill_(1), {"memory": torch.zeros(2)}),
}


@pytest.mark.parametrize("what", BUFFERS)
def test_whatever_a_forward_does_to_its_buffers_is_undone(what):
    change, buffers = BUFFERS[what]
    model = Buffered(change, **{name: None if b is None else b.clone() for name, b in buffers.items()})
    with mv.capture(model):
        model(torch.ones(1, 3))
    assert list(model._buffers) == list(buffers)
    for name, before in buffers.items():
        assert bits(model._buffers[name]) == bits(before)


def test_buffers_that_share_memory_still_do_afterwards():
    both = torch.zeros(4)
    model = Buffered(lambda module, x: module.whole.add_(1), whole=both, part=both[:2])
    with mv.capture(model):
        model(torch.ones(1, 3))
    assert model.whole is both
    assert both.tolist() == [0] * 4
    model.whole.add_(5)
    assert model.part.tolist() == [5, 5]


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
@pytest.mark.parametrize("clean", [lambda t: t.nan_to_num_(), lambda t: t.neg_(), lambda t: t.detach().mul_(2)])
def test_the_input_of_a_layer_is_what_it_was_given(clean, grad):
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


def test_a_trace_does_not_change_when_model_input_or_output_do(model, x):
    with torch.no_grad():
        with mv.capture(model) as trace:
            out = model(x)
        recorded = [(s.inputs, s.output, s.weights) for s in trace.steps] + [trace.inputs, trace.output]
        before = [bits(t) for t in tree_leaves(recorded)]
        for t in (x, out, *model.parameters()):
            t.add_(1)
        model(x)
    assert len(before) == 9 * 2 + 4 * 2 + 2
    assert [bits(t) for t in tree_leaves(recorded)] == before


def test_settings_do_not_change_with_the_layer():
    conv = nn.Conv2d(1, 1, 3)
    conv.sizes, conv.mean = [1, 2], torch.zeros(1)
    settings = record(nn.Sequential(conv), zoo.images())[0].settings
    conv.mean.add_(4)
    conv.sizes.append(3)
    assert (settings["sizes"], settings["mean"].tolist(), settings["stride"]) == ([1, 2], [0.0], (1, 1))


def test_each_call_of_a_reused_layer_has_a_step_with_the_weights_of_its_moment():
    norm, x = nn.BatchNorm1d(4).train(), torch.randn(3, 4)
    trace = record(nn.Sequential(norm, nn.ReLU(), norm), x, as_is=True)
    assert trace.keys == ["0:0", "1", "0:1"]
    assert [int(trace["0", call].weights["num_batches_tracked"]) for call in (0, 1)] == [1, 2]
    torch.testing.assert_close(trace["0:0"].weights["running_mean"], 0.1 * x.mean(0))
    torch.testing.assert_close(trace["0:1"].input, trace["0:0"].output.clamp(min=0))


def test_a_module_with_two_names_is_recorded_once_under_the_name_asked_for():
    def keys(layers: Any) -> list[str]:
        case = make("alias")
        return record(case.model, *case.args, layers=layers).keys

    assert keys(None) == ["fc1", "relu:0", "fc2", "relu:1"]
    assert keys("also_fc1") == ["also_fc1"]
    assert keys(["also_relu", "fc2"]) == ["also_relu:0", "fc2", "also_relu:1"]
    assert keys("*fc1") == ["fc1"]


def test_notes_tell_of_values_that_are_not_numbers_and_of_layers_that_never_ran(model, x):
    x[0, 0, 0, :3], x[1, 0, 5, 5] = torch.nan, torch.inf
    trace = record(model, x)
    assert trace.notes == ["4 of 128 input values are NaN or infinite"]
    assert repr(trace).endswith("\nnote: 4 of 128 input values are NaN or infinite")
    not_finite = int((~trace["conv2"].output.isfinite()).sum())
    assert not_finite > 0
    assert re.search(rf"^conv2 .* … .*, {not_finite} not finite", repr(trace), re.MULTILINE)
    loop = make("module_list")
    assert record(loop.model, *loop.args).notes == ["never called in this pass: by_name.unused, shifts"]


@dataclass
class Prediction:
    scores: Tensor


TYPES = {  # what becomes of the scores, and how to take it apart
    "what torch.max returns": (lambda y: y.max(1), list),
    "a dataclass": (Prediction, lambda out: [out.scores]),
}


@pytest.mark.parametrize("name", TYPES)
def test_an_output_of_any_type_passes_and_is_copied(name):
    shape, parts = TYPES[name]
    model, x = zoo.Heads(lambda digit, angle: shape(digit)), torch.randn(2, 4)
    with torch.no_grad():
        expected = parts(model(x))
        with mv.capture(model) as trace:
            out = model(x)
        assert type(out) is type(shape(torch.zeros(1, 1)))
        assert_equal(parts(out), expected)
        for t in parts(out):
            t.zero_()
    assert_equal(parts(trace.output), expected)


def test_layers_are_chosen_by_name_list_or_pattern(model, x):
    for layers, expected in (
        ("conv2", ["conv2"]),
        (["fc2", "conv1"], ["conv1", "fc2"]),
        ("conv*", ["conv1", "conv2"]),
        (["relu[12]", "fc?"], ["relu1", "relu2", "fc1", "fc2"]),
        (("conv1", "conv*"), ["conv1", "conv2"]),
        ((name for name in ["pool"]), ["pool"]),
        ("", [""]),
        (None, ALL_OF_SMALL),
    ):
        with mv.capture(model, layers) as trace:
            out = model(x)
        assert trace.keys == expected
        assert_equal(trace.output, out.detach())


def test_containers_are_recorded_by_name():
    case = make("nested")
    trace = record(case.model, *case.args, layers=["0", "0.1*"])
    assert trace.keys == ["0.1.0", "0.1.1.0", "0.1.1", "0.1", "0"]  # in the order in which they came to their end
    with torch.no_grad():
        expected = F.max_pool2d(case.model[0][0](case.args[0]).clamp(min=0), 2)
    for key in ("0.1.1.0", "0.1.1", "0.1", "0"):
        assert_equal(trace[key].output, expected)
    assert trace["0"].kind == "Sequential"


def test_captures_of_one_model_and_of_another_go_together_and_share_nothing(model, x):
    other = make("reused_relu")
    unsettle(model)
    before = facts(model)
    with mv.capture(model) as outer:
        with mv.capture(model, "conv*") as inner, mv.capture(other.model) as beside:
            model(x)
            other()
        assert not any(module.training for module in model.modules())
    assert facts(model) == before
    assert inner.keys == ["conv1", "conv2"]
    assert outer.keys == ALL_OF_SMALL
    assert beside.keys == ["fc1", "relu:0", "fc2", "relu:1"]
    assert_equal(outer["conv2"].output, inner["conv2"].output)
    assert outer["conv2"].output is not inner["conv2"].output


def compiled(model: nn.Sequential, how: str, backend: zoo.Backend) -> nn.Module:
    match how:
        case "wrapped":
            return torch.compile(model, backend=backend)
        case "in place":
            model.compile(backend=backend)
        case "a part wrapped":
            model[0] = torch.compile(model[0], backend=backend)
        case "a part in place":
            model[0].compile(backend=backend)
    return model


@pytest.mark.parametrize(
    ("how", "ran_before"),
    [("wrapped", False), ("wrapped", True), ("in place", True), ("a part wrapped", True), ("a part in place", False)],
)
def test_a_compiled_model_is_seen_like_the_plain_one_and_stays_compiled(how, ran_before):
    torch.compiler.reset()
    case, backend = make("nested"), zoo.Backend()
    with mv.capture(case.model) as plain:
        expected = case()
    with mv.watch(case.model) as watched:
        case()
    with mv.ablate(case.model, "0.0", 1):
        silenced = case()
    case.model = compiled(case.model, how, backend)
    if ran_before:
        case()
    unsettle(case.model)
    before, n_compiled, n_ran = facts(case.model), backend.compiled, backend.ran
    with mv.capture(case.model) as trace:
        output = case()
    with mv.watch(case.model) as activity:
        case()
    with mv.ablate(case.model, "0.0", 1):
        assert_equal(case(), silenced)
    assert_equal(list(map(vars, activity.totals.values())), list(map(vars, watched.totals.values())))
    assert (backend.compiled, backend.ran) == (n_compiled, n_ran)
    assert facts(case.model) == before
    assert trace.keys == plain.keys
    assert "_orig_mod" not in repr(trace) + " ".join(trace.known)
    for step, other in zip(trace.steps, plain.steps, strict=True):
        assert_equal((step.output, step.inputs, step.weights), (other.output, other.inputs, other.weights))
    assert any("compiled" in note for note in trace.notes)
    assert not plain.notes
    assert_equal(output, expected)
    assert_equal(case(), expected)
    assert backend.compiled > 0
    assert backend.ran > n_ran


def gradients(case: zoo.Case, out: Any) -> list[Tensor | None]:
    learned = [p for p in case.model.parameters() if p.requires_grad]
    scores = [t.float().square().sum() for t in tree_leaves(out) if isinstance(t, Tensor) and t.requires_grad]
    return list(torch.autograd.grad(sum(scores), learned, allow_unused=True))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", [*SAMPLE, "frozen", "tied_weights"])
def test_gradients_are_those_without_a_capture(name, keep):
    twin, case = make(name), make(name)
    twin.model.eval()
    with seeded(5):
        expected = gradients(twin, twin())
    with seeded(5), mv.capture(case.model, gradients=keep):
        out = case()
        inside = gradients(case, out) if keep else None
    if not keep:
        inside = gradients(case, out)  # after the capture, as well as inside it
    assert any(g is not None for g in expected)
    assert_equal(inside, expected)


def test_the_gradient_at_a_layer_is_that_of_the_forward_by_hand(model, x):
    """Taken inside the capture, after it, and a second time; `.grad` stays untouched."""
    states: dict[str, Tensor] = {}
    score = zoo.by_hand(model, x, lambda name, t: states.setdefault(name, t))[0, 7]
    expected = torch.autograd.grad(score, list(states.values()))
    before = facts(model)
    with mv.capture(model, gradients=True) as trace:
        out = model(x)
        live = [trace[layer].live for layer in states]
        inside = torch.autograd.grad(out[0, 7], live, retain_graph=True)
    assert facts(model) == before
    for gradient, again, by_hand in zip(inside, torch.autograd.grad(out[0, 7], live), expected, strict=True):
        assert by_hand.abs().sum() > 0
        torch.testing.assert_close(gradient, by_hand)
        assert_equal(again, gradient)
    assert record(model, x)["conv1"].live is None  # not asked for


def test_many_captures_do_not_grow_memory():
    """No object stays, and of blocks of memory, of which a trace has hundreds, at most ten for each capture."""
    case = make("tied_weights")

    def capture(times: int) -> tuple[int, int]:
        for i in range(times):
            with mv.capture(case.model, gradients=i % 2 == 0) as trace, torch.set_grad_enabled(i % 3 == 0):
                out = case()
            if i % 6 == 0:
                mv.replay_backward(mv.backward(trace, out.sum()))
        gc.collect()
        return len(gc.get_objects()), sys.getallocatedblocks()

    (objects, blocks), (objects_after, blocks_after) = capture(20), capture(150)
    assert objects_after < objects + 100
    assert blocks_after < blocks + 1_500


@pytest.mark.parametrize("ending", ["fine", "raises"])
def test_a_trace_is_freed_without_the_garbage_collector(ending, model):
    """No cycle holds what was recorded, nor the graph."""
    inputs = zoo.images() if ending == "fine" else torch.zeros(1, 1, 9, 12)  # too long for the first linear layer
    gc.collect()
    gc.disable()
    try:
        with suppress(RuntimeError), mv.capture(model, gradients=True) as trace:
            model(inputs)
        if ending == "fine":
            mv.replay_backward(mv.backward(trace, labels=[1, 2]))
        kept = [t for step in trace.steps for t in (step.output, step.live, step.delta, *step.gradients.values())]
        dead = [weakref.ref(t) for t in kept if t is not None]
        assert len(dead) == (3 * 9 + 2 * 4 if ending == "fine" else 2 * 6)
        del trace, kept
        assert not [ref for ref in dead if ref() is not None]
    finally:
        gc.enable()
