"""Listening to a model: `capture` records one forward pass, `ablate` silences channels; both leave no mark."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mnistviz.errors import MnistvizError
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, sizes, tensors, unknown_layer

Layers = str | Iterable[str] | None


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
    chosen = pick(model, layers)
    trace = Trace(tuple(names_of(model)), tuple(chosen))
    if compiled:
        trace.notes.append("the model is compiled; it ran uncompiled here, so that each layer could be seen")
    recorder = _Recorder(trace, model, gradients)
    with ExitStack() as stack:
        if compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if not as_is:
            stack.enter_context(undisturbed(model))
        try:
            stack.callback(model.register_forward_pre_hook(recorder.begin, with_kwargs=True).remove)
            for name, module in chosen.items():
                enter, leave = recorder.listeners(name)
                stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(leave).remove)
            stack.callback(model.register_forward_hook(recorder.end).remove)
            stack.callback(model.register_forward_hook(recorder.out, always_call=True).remove)
            yield trace
        except Exception as error:
            recorder.explain(error)
            raise


class _Recorder:
    """Turns calls of layers into the steps of a trace."""

    def __init__(self, trace: Trace, model: nn.Module, gradients: bool) -> None:
        self.trace, self.gradients = trace, gradients
        self.calls: Counter[str] = Counter()
        self.running: list[tuple[str, nn.Module, tuple[Any, ...], tuple[int | None, ...]]] = []
        self.copies: dict[int, tuple[weakref.ref[Tensor], int | None, Tensor, int]] = {}
        self.weights: dict[int, dict[str, Tensor]] = {}
        self.depth = 0

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.depth += 1
        if self.depth > 1:  # a model that calls itself
            return
        if self.trace.inputs is not None:
            raise MnistvizError(
                "a trace holds one forward pass, and this would be the second",
                fix="open a capture for each pass, or mv.watch(model), which sums up any number of them",
            )
        self.trace.inputs = self.keep((*args, *kwargs.values()), MODEL_INPUT)
        for x in tensors(self.trace.inputs):
            if x.is_floating_point() and not bool(x.isfinite().all()):
                strange = int((~x.isfinite()).sum())
                self.trace.notes.append(f"{strange:,} of {x.numel():,} input values are NaN or infinite")

    def end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.depth == 1:
            self.trace.output = self.keep(output, len(self.trace.steps))
            self.trace.complete = True
            unseen = [name for name in self.trace.chosen if not self.calls[name]]
            if unseen:
                self.trace.notes.append(f"never called in this pass: {', '.join(unseen)}")

    def out(self, *_: Any) -> None:
        """Called even when the forward raises, so that a caller who catches the error may go on."""
        self.depth -= 1

    def listeners(self, name: str) -> tuple[Any, Any]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = (*args, *kwargs.values())
            sources = tuple(self.source(t) for t in tensors(given))  # before copying: a copy has no history
            self.running.append((name, module, self.keep(given, None), sources))

        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            while self.running[-1][1] is not module:  # calls that raised, and whose error the model caught
                self.running.pop()
            _, _, inputs, sources = self.running.pop()
            kept, live = self.keep(output, len(self.trace.steps)), tensors(output)[:1] if self.gradients else []
            self.trace.steps.append(
                Step(
                    name, self.calls[name], type(module).__name__, inputs, kept, self.weights_of(module),
                    settings_of(module), sources, module.training,
                    live[0] if live else None, live[0]._version if live and not live[0].is_inference() else 0,
                )
            )  # fmt: skip
            self.calls[name] += 1

        return enter, leave

    def keep(self, value: Any, source: int | None) -> Any:
        """A copy of all tensors in a nest; what is already kept, and unchanged since, is not copied again."""
        if isinstance(value, Tensor):
            known = self.find(value)
            copy = value.detach().clone() if known is None else known[2]
            if source is not None:
                version = None if value.is_inference() else value._version
                self.copies[id(value)] = (weakref.ref(value), version, copy, source)
            return copy
        if isinstance(value, dict):
            return {key: self.keep(part, source) for key, part in value.items()}
        if isinstance(value, tuple | list):
            parts = [self.keep(part, source) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    def find(self, tensor: Tensor) -> tuple[Any, int | None, Tensor, int] | None:
        known = self.copies.get(id(tensor))
        if known is None or known[0]() is not tensor:
            return None
        if tensor.is_inference():  # keeps no version; so its values are compared
            same = torch.equal(tensor, known[2]) or torch.equal(tensor.nan_to_num(), known[2].nan_to_num())
            return known if same else None
        return known if tensor._version == known[1] else None

    def source(self, tensor: Tensor) -> int | None:
        known = self.find(tensor)
        return None if known is None else known[3]

    def weights_of(self, module: nn.Module) -> dict[str, Tensor]:
        if id(module) not in self.weights:
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            self.weights[id(module)] = {name: w.detach().clone() for name, w in own}
        return self.weights[id(module)]

    def explain(self, error: Exception) -> None:
        """Add to an error where in the model it happened and what that layer was given."""
        if self.running:
            name, module, inputs, _ = self.running[-1]
            given = ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in tensors(inputs))
            self.trace.notes.append(f"the pass stopped inside {name!r}, {module}, which was given {given}")
            error.add_note(f"mnistviz: {self.trace.notes[-1]}")
            images = isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d | nn.Linear)
            if images and any(t.ndim != 4 or t.dtype != torch.float32 for t in tensors(self.trace.inputs)):
                error.add_note("mnistviz: a digit for a model is float32 of shape (1, 1, 28, 28): digits[i].pixels")


@contextmanager
def ablate(model: nn.Module, layer: str, channels: int | Iterable[int]) -> Iterator[None]:
    """`with ablate(model, "relu2", [3, 7]): predict(model, digits)`: those channels are 0 from there on.

    Name the layer *after* a batch norm to silence a feature: a zero before one comes out as its shift.
    """
    model, compiled = unwrapped(model)
    ((name, module),) = pick(model, [layer], one=True).items()
    silent = [channels] if isinstance(channels, int) else list(channels)
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor):  # a wrong number is told before anything runs
        _check_channels(name, silent, len(weight))

    def silence(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise MnistvizError(f"layer {name!r} has no channels to silence", given=sizes(output))
        _check_channels(name, silent, output.shape[1])
        keep = torch.ones(output.shape[1], device=output.device, dtype=torch.bool)
        keep[silent] = False
        return output.where(keep.view(-1, *[1] * (output.ndim - 2)), 0)  # also where the value was not a number

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


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module's mode, the buffers and the random state as they were, outside."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, name, buffer, buffer.clone()) for module in model.modules()
               for name, buffer in module._buffers.items() if buffer is not None and not is_lazy(buffer)]  # fmt: skip
    gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(gpus)):
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for module, name, buffer, content in buffers:
                    if not torch.equal(buffer, content):
                        buffer.copy_(content)
                    module._buffers[name] = buffer


def unwrapped(model: nn.Module) -> tuple[nn.Module, bool]:
    """The model under `torch.compile`, and whether any part of it is compiled."""
    if not isinstance(model, nn.Module):
        raise MnistvizError("this is not a model", given=type(model).__name__, fix='mv.load_model("deep") gives one')
    compiled = any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules())
    return getattr(model, "_orig_mod", model), compiled


def names_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its dotted name, aliases too; the marks of `torch.compile` are left out."""
    found = model.named_modules(remove_duplicate=False)
    return {name.replace("_orig_mod.", "").removesuffix("._orig_mod"): module for name, module in found}


def pick(model: nn.Module, layers: Layers, one: bool = False) -> dict[str, nn.Module]:
    """The layers meant by a name, a list or a pattern; by default all that compute something themselves."""
    names = names_of(model)
    if layers is None:
        wanted = [n for n, m in names.items() if not any(m.children()) or m._parameters or m._buffers]
    else:
        wanted = []
        for pattern in [layers] if isinstance(layers, str) else layers:
            matches = [n for n in names if n == pattern or (not one and n and fnmatchcase(n, pattern))]
            if not matches:
                raise unknown_layer(pattern, [n for n in names if n])
            wanted += matches
    unique: dict[int, str] = {}
    for name in names:  # in the model's order; a module with two names is recorded once
        if name in wanted:
            unique.setdefault(id(names[name]), name)
    return {name: names[name] for name in unique.values()}


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Stride, padding, eps …: what a layer's public attributes say, and which of its weights are learned."""
    own = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    return own | {"parameters": tuple(name for name, p in module._parameters.items() if p is not None)}
