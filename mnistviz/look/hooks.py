"""Listening to a model: `capture` records one forward pass, `ablate` silences channels; both leave no mark."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy as shallow_copy
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnistviz.errors import MnistvizError
from mnistviz.look.layers import Layers, kind_of, names_of, pick, same_bits, settings_of, undisturbed, unwrapped
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, plain, sizes, tensors


@contextmanager
def capture(
    model: nn.Module, layers: Layers = None, *, as_is: bool = False, gradients: bool = False
) -> Iterator[Trace]:
    """`with capture(model) as trace: model(digit.pixels)`; then `trace["conv2"].output`.

    Records every layer, or those named: `"conv2"`, `["conv1", "fc2"]`, `"conv*"`. Inside, the model is in
    evaluation mode; afterwards modes, buffers, random state and hooks are as they were, whatever happened.
    With `as_is` the capture only listens: the model runs in the modes it has, and its own changes stay.
    """
    model, compiled = unwrapped(model)
    chosen, names = pick(model, layers), names_of(model)
    recorded = {id(module): name for name, module in chosen.items()}
    aliases = {name: recorded[id(module)] for name, module in names.items() if id(module) in recorded}
    trace = Trace(tuple(names), tuple(chosen), aliases=aliases)
    if compiled:
        trace.notes.append("the model is compiled; it ran uncompiled here, so that each layer could be seen")
    recorder = _Recorder(trace, model, gradients)
    with ExitStack() as stack:
        if compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if not as_is:
            stack.enter_context(undisturbed(model))
        try:
            stack.callback(model.register_forward_pre_hook(recorder.arrive, prepend=True).remove)
            stack.callback(model.register_forward_pre_hook(recorder.begin, with_kwargs=True).remove)
            for name, module in chosen.items():
                call, look, leave, drop = recorder.listeners(name, module)
                stack.callback(module.register_forward_pre_hook(call, prepend=True).remove)
                stack.callback(module.register_forward_pre_hook(look, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(leave).remove)
                stack.callback(module.register_forward_hook(drop, always_call=True).remove)
            stack.callback(model.register_forward_hook(recorder.end).remove)
            stack.callback(model.register_forward_hook(recorder.depart, always_call=True).remove)
            yield trace
        except Exception as error:
            recorder.explain(error)
            raise


@dataclass
class _Call:
    """A layer's call under way."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...] = ()
    sources: tuple[int | None, ...] = ()
    done: bool = False  # it became a step; not so if its forward raised


class _Recorder:
    """Turns calls of layers into the steps of a trace.

    A call begins before anybody else's hooks and ends after all, also when the forward raises, so calls
    nest properly; its input is looked at last, when others may have changed it.
    """

    def __init__(self, trace: Trace, model: nn.Module, gradients: bool) -> None:
        self.trace, self.model, self.gradients = trace, model, gradients
        self.calls: Counter[str] = Counter()
        self.running: list[_Call] = []
        self.stopped: _Call | None = None  # the innermost call that an error left
        self.copies: dict[int, tuple[weakref.ref[Tensor], int | None, Tensor, int | None]] = {}
        self.depth = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Recorder":
        return self  # a copy of the model made meanwhile brings these hooks along, and they know it is a copy

    def arrive(self, model: nn.Module, *_: Any) -> None:
        self.depth += model is self.model

    def depart(self, model: nn.Module, *_: Any) -> None:
        self.depth -= model is self.model

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.depth != 1 or model is not self.model:  # a model that calls itself, or a copy of it
            return
        if self.trace.inputs is not None:
            raise MnistvizError(
                "a trace holds one forward pass, and this would be the second",
                fix="open a capture for each pass, or mv.watch(model), which sums up any number of them",
            )
        self.trace.inputs = self.keep((*args, *kwargs.values()), MODEL_INPUT)
        for x in tensors(self.trace.inputs):
            if x.is_floating_point() and plain(x) and not bool(x.isfinite().all()):
                strange = int((~x.isfinite()).sum())
                self.trace.notes.append(f"{strange:,} of {x.numel():,} input values are NaN or infinite")

    def end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.depth == 1 and model is self.model:
            self.trace.output = self.keep(output, len(self.trace.steps))
            self.trace.complete, self.stopped = True, None
            unseen = [name for name in self.trace.chosen if not self.calls[name]]
            if unseen:
                self.trace.notes.append(f"never called in this pass: {', '.join(unseen)}")

    def listeners(self, name: str, own: nn.Module) -> tuple[Callable[..., None], ...]:
        def heard(module: nn.Module) -> bool:  # not a copy made meanwhile, nor a call after the pass
            return module is own and (self.depth > 0 or not self.trace.complete)

        def call(module: nn.Module, *_: Any) -> None:
            if heard(module):
                self.running.append(_Call(name, module))
                self.stopped = None  # an error before this was caught by the model

        def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if heard(module):
                given, now = (*args, *kwargs.values()), self.running[-1]
                now.sources = tuple(self.source(t) for t in tensors(given))  # before copying: a copy has no history
                now.inputs = self.keep(given)

        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if heard(module):
                now, live = self.running[-1], tensors(output)[:1] if self.gradients else []
                own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
                self.trace.steps.append(
                    Step(
                        name, self.calls[name], kind_of(module), now.inputs, self.keep(output, len(self.trace.steps)),
                        {key: self.keep(w, remember=True) for key, w in own}, self.keep(settings_of(module)),
                        now.sources, module.training,
                        live[0] if live else None, live[0]._version if live and not live[0].is_inference() else 0,
                    )
                )  # fmt: skip
                self.calls[name] += 1
                now.done = True

        def drop(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if heard(module):
                ended = self.running.pop()
                if not ended.done and self.stopped is None:
                    self.stopped = ended

        return call, look, leave, drop

    def keep(self, value: Any, source: int | None = None, remember: bool = False) -> Any:
        """A copy of all tensors in a nest; what is already kept, and unchanged since, is not copied again."""
        if isinstance(value, Tensor):
            known = self.find(value)
            copy = value.detach().clone() if known is None else known[2]
            if source is not None or (remember and known is None):
                version = None if value.is_inference() else value._version
                self.copies[id(value)] = (weakref.ref(value), version, copy, source)
            return copy
        if isinstance(value, dict):
            return {key: self.keep(part, source, remember) for key, part in value.items()}
        if isinstance(value, tuple | list):
            parts = [self.keep(part, source, remember) for part in value]
            if hasattr(value, "_fields"):
                return type(value)(*parts)
            return type(value)(parts) if type(value).__module__ in ("builtins", "torch.return_types") else tuple(parts)
        if is_dataclass(value) and not isinstance(value, type) and tensors(value):
            record = shallow_copy(value)
            record.__dict__.update({key: self.keep(part, source, remember) for key, part in vars(value).items()})
            return record
        return value

    def find(self, tensor: Tensor) -> tuple[Any, int | None, Tensor, int | None] | None:
        known = self.copies.get(id(tensor))
        if known is None or known[0]() is not tensor:
            return None
        if tensor.is_inference():  # keeps no version; so its values are compared
            return known if same_bits(tensor, known[2]) else None
        return known if tensor._version == known[1] else None

    def source(self, tensor: Tensor) -> int | None:
        known = self.find(tensor)
        return None if known is None else known[3]

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
            _check_channels(name, silent, getattr(module, size))

    def silence(own: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
        if own is not module:  # a copy made meanwhile speaks
            return None
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise MnistvizError(f"layer {name!r} has no channels to silence", given=sizes(output))
        _check_channels(name, silent, output.shape[axis])
        keep = torch.ones(output.shape[axis], device=output.device, dtype=torch.bool)
        keep[silent] = False
        after = output.ndim - 2 if axis == 1 else 0
        return output.where(keep.view(-1, *[1] * after), 0)  # also where the value was not a number

    with ExitStack() as stack:
        if compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        # first in line, so that a capture outside this one sees the silence too
        stack.callback(module.register_forward_hook(silence, prepend=True).remove)
        yield


def _check_channels(layer: str, channels: list[int], count: int) -> None:
    wrong = [c for c in channels if not 0 <= c < count]
    if wrong or not channels:
        raise MnistvizError(
            f"no such channel in layer {layer!r}", given=wrong or "none", allowed=f"0 to {count - 1}, counted from 0"
        )
