"""Listening to a model: `capture` records one forward pass, `ablate` silences channels; both leave no mark."""

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy as shallow_copy
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only

from mnistviz.errors import MnistvizError, one_of, refuse
from mnistviz.look.graph import followed, links_of
from mnistviz.look.layers import Hooks, Layers, kind_of, names_of, pick, settings_of, undisturbed, unwrapped, weights_of
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, sizes, tensors

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d")
BATCH = 128  # maps of so many digits stay in the cache


@contextmanager
def capture(
    model: nn.Module, layers: Layers = None, *, as_is: bool = False, gradients: bool = False
) -> Iterator[Trace]:
    """`with capture(model) as trace: model(digit.pixels)`; then `trace["conv2"].output`.

    Records every layer, or those named: `"conv2"`, `["conv1", "fc2"]`, `"conv*"`. Inside, the model is in
    evaluation mode; afterwards modes, buffers, random state and hooks are as they were, whatever happened.
    With `as_is` the capture only listens: the model runs in the modes it has, and its own changes stay.
    With `gradients` the pass can be gone back through: `backward(trace, labels=…)`.

    >>> with mv.capture(model) as trace:
    ...     scores = model(test[0].pixels)
    >>> trace["conv2"]
    Step('conv2': Conv2d, 8×14×14 → 16×14×14)
    >>> trace["conv2"].output.shape
    torch.Size([1, 16, 14, 14])
    >>> with mv.capture(model, "conv*") as trace:
    ...     scores = model(test[:5].pixels)
    >>> trace.keys
    ['conv1', 'conv2', 'conv3', 'conv4']
    """
    model, compiled = unwrapped(model)
    chosen, names = pick(model, layers), names_of(model)
    recorded = {id(module): name for name, module in chosen.items()}
    aliases = {name: recorded[id(module)] for name, module in names.items() if id(module) in recorded}
    trace = Trace(tuple(names), tuple(chosen), aliases=aliases)
    if compiled:
        trace.notes.append("the model is compiled; it ran uncompiled here, so that each layer could be seen")
    recorder = _Recorder(trace, gradients)
    with nullcontext() if as_is else undisturbed(model), Hooks(compiled) as hooks:
        try:
            hooks.before(model, recorder.before_model, with_kwargs=True)
            for name, module in chosen.items():
                hooks.before(module, partial(recorder.before_layer, name), with_kwargs=True)
                hooks.after(module, recorder.after_layer, always_call=True)
            hooks.after(model, recorder.after_model)
            yield trace
        except Exception as error:
            recorder.explain(error)
            raise


@dataclass
class _Call:
    """A layer's call under way."""

    name: str
    module: nn.Module
    inputs: Arguments
    sources: tuple[int | None, ...]
    mask: Tensor | None  # of a dropout in training, what it will multiply by


@dataclass
class _Copy:
    """A tensor that was recorded: the tensor itself, as it was then, and the step whose output it is."""

    original: weakref.ref[Tensor]
    version: int | None  # counts in-place changes; inference mode keeps none
    copy: Tensor
    source: int | None


class _Recorder:
    """Turns calls of layers into the steps of a trace.

    model(x)   before_model   the input is copied
      conv1    before_layer   a call begins: what goes in is copied, and where it came from looked up
               after_layer    the call ends: it becomes a step, or, if it raised, is remembered as `stopped`
      ...                     layers may hold layers: calls under way are a stack
               after_model    the output is copied; the trace is complete
    """

    def __init__(self, trace: Trace, gradients: bool) -> None:
        self.trace, self.gradients = trace, gradients
        self.calls: Counter[str] = Counter()
        self.running: list[_Call] = []
        self.stopped: _Call | None = None  # the innermost call that an error left
        self.copies: dict[int, _Copy] = {}

    def before_model(self, model: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        fix = "open a capture for each pass, or mv.watch(model), which sums up any number of them"
        refuse(self.trace.inputs is not None, "a trace holds one forward pass, and this would be the second", fix=fix)
        if self.gradients:  # of the input too, whoever made it
            args, kwargs = tree_map_only(Tensor, followed, (args, kwargs))
            self.trace.graph.append(links_of(tensors((*args, *kwargs.values()))))
        self.trace.inputs = self.keep((*args, *kwargs.values()), MODEL_INPUT)
        for x in tensors(self.trace.inputs):
            if not_finite := int((~x.isfinite()).sum()):
                self.trace.notes.append(f"{not_finite:,} of {x.numel():,} input values are NaN or infinite")
        return args, kwargs

    def before_layer(self, name: str, module: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        if self.trace.complete:
            return
        given = (*args, *kwargs.values())
        known = [self.known(tensor) for tensor in tensors(given)]  # before copying: a copy has no history
        sources = tuple(None if copy is None else copy.source for copy in known)
        drawn = self.gradients and module.training and kind_of(module) in DROPOUTS
        mask = _about_to_draw(module, tensors(given)[0]) if drawn else None
        self.running.append(_Call(name, module, self.keep(given), sources, mask))
        self.stopped = None  # an error before this was caught by the model

    def after_layer(self, module: nn.Module, args: Arguments, output: Any) -> None:
        if not self.running or self.running[-1].module is not module:  # it never began: another hook raised
            return
        call = self.running.pop()
        if output is None:  # its forward raised
            self.stopped = self.stopped or call
            return
        live = tensors(output)[:1] if self.gradients else []
        step = Step(
            name=call.name,
            call=self.calls[call.name],
            kind=kind_of(module),
            inputs=call.inputs,
            output=self.keep(output, len(self.trace.steps)),
            weights={name: self.keep(weight, remember=True) for name, weight in weights_of(module).items()},
            settings=self.keep(settings_of(module)),
            sources=call.sources,
            training=module.training,
            live=live[0] if live else None,
            mask=call.mask,
        )
        if self.gradients:
            self.trace.graph.append(links_of(live, dict(module.named_parameters(recurse=False))))
        self.trace.steps.append(step)
        self.calls[call.name] += 1

    def after_model(self, model: nn.Module, args: Arguments, output: Any) -> None:
        self.trace.output = self.keep(output, len(self.trace.steps))
        self.trace.complete, self.stopped = True, None
        if unseen := [name for name in self.trace.chosen if not self.calls[name]]:
            self.trace.notes.append(f"never called in this pass: {', '.join(unseen)}")

    def keep(self, value: Any, source: int | None = None, remember: bool = False) -> Any:
        """The same nest with copies of its tensors."""
        if is_dataclass(value) and not isinstance(value, type):
            record = shallow_copy(value)
            record.__dict__.update(self.keep(dict(vars(value)), source, remember))
            return record
        return tree_map_only(Tensor, lambda tensor: self.copy_of(tensor, source, remember), value)

    def copy_of(self, tensor: Tensor, source: int | None, remember: bool) -> Tensor:
        """A copy; what was copied already, and is unchanged since, is not copied again."""
        known = self.known(tensor)
        copy = tensor.detach().clone() if known is None else known.copy
        if source is not None or (remember and known is None):
            version = None if tensor.is_inference() else tensor._version
            self.copies[id(tensor)] = _Copy(weakref.ref(tensor), version, copy, source)
        return copy

    def known(self, tensor: Tensor) -> _Copy | None:
        """The copy of this very tensor, if it was made and the tensor is unchanged since."""
        known = self.copies.get(id(tensor))
        if known is None or known.original() is not tensor:
            return None
        same = torch.equal(tensor, known.copy) if tensor.is_inference() else tensor._version == known.version
        return known if same else None

    def explain(self, error: Exception) -> None:
        """Add to an error where in the model it happened and what that layer was given."""
        if self.stopped is not None and not self.trace.complete:
            name, module = self.stopped.name, self.stopped.module
            given = ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in tensors(self.stopped.inputs))
            self.trace.notes.append(f"the pass stopped inside {name!r}, {module}, which was given {given}")
            error.add_note(f"mnistviz: {self.trace.notes[-1]}")
            images = isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d | nn.Linear)
            if images and any(t.ndim != 4 or t.dtype != torch.float32 for t in tensors(self.trace.inputs)):
                error.add_note("mnistviz: a digit for a model is float32 of shape (1, 1, 28, 28): digits[i].pixels")


def _about_to_draw(dropout: nn.Module, x: Tensor) -> Tensor:
    """What a dropout is about to multiply by: its draw, on ones, from a random state that is given back."""
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        mask: Tensor = dropout.forward(torch.ones_like(x))
    return mask


@torch.no_grad()
def record(model: nn.Module, inputs: Tensor, layers: Layers = None) -> Trace:
    """`record(model, digits.pixels, "fc2")`: the trace of many inputs, which go through in batches."""
    traces = []
    for batch in inputs.split(BATCH):
        with capture(model, layers) as trace:
            model(batch)
        traces.append(trace)
    if len(traces) == 1:
        return traces[0]
    made: dict[tuple[int, ...], Tensor] = {}  # what one layer puts out and the next takes in is one tensor here too

    def end_to_end(*leaves: Any) -> Any:
        if not isinstance(leaves[0], Tensor):
            return leaves[0]
        key = tuple(map(id, leaves))
        return made[key] if key in made else made.setdefault(key, torch.cat(leaves))

    def joined(parts: Sequence[Any]) -> Any:
        both = {what: tree_map(end_to_end, *(getattr(part, what) for part in parts)) for what in ("inputs", "output")}
        return replace(parts[0], **both)

    steps = [joined(calls) for calls in zip(*(trace.steps for trace in traces), strict=True)]
    return replace(joined(traces), steps=steps)


@contextmanager
def ablate(model: nn.Module, layer: str, channels: Any) -> Iterator[None]:
    """`with ablate(model, "relu2", [3, 7]): predict(model, digits)`: those channels are 0 from there on.

    Name the layer *after* a batch norm to silence a feature: a zero before one comes out as its shift.
    """
    model, compiled = unwrapped(model)
    ((name, module),) = pick(model, [layer], one=True).items()
    several = channels if isinstance(channels, int) or hasattr(channels, "__array__") else list(channels)
    silent = torch.as_tensor(several).flatten().tolist()
    axis = -1 if isinstance(module, nn.Linear) else 1
    for size in ("out_channels", "out_features", "num_features"):
        if hasattr(module, size):  # a wrong number is told before anything runs
            one_of(f"channel in layer {name!r}", silent, getattr(module, size))

    def silence(module: nn.Module, args: Arguments, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise MnistvizError(f"layer {name!r} has no channels to silence", given=sizes(output))
        one_of(f"channel in layer {name!r}", silent, output.shape[axis])
        return output.index_fill(axis, torch.tensor(silent, device=output.device), 0)

    with Hooks(compiled) as hooks:
        hooks.after(module, silence, prepend=True)  # first in line, so that a capture outside sees the silence too
        yield
