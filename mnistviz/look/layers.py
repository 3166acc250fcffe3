"""The layers of any model: their names, those meant by a pattern, and leaving them as they were."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mnistviz.errors import MnistvizError
from mnistviz.look.trace import plain, unknown_layer

Layers = str | Iterable[str] | None


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module's mode, the buffers and the random state as they were, outside."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    contents = {id(b): (b, b.clone()) for _, own in buffers for b in own.values() if b is not None and not is_lazy(b)}
    gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(gpus)):
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, training in modes:
                module.training = training
            for module, own in buffers:
                lazy = {name for name, b in own.items() if b is not None and is_lazy(b)}  # made real by the pass
                kept = {name: module._buffers.get(name) if name in lazy else b for name, b in own.items()}
                module._buffers.clear()
                module._buffers.update(kept)
            for buffer, content in contents.values():
                if not same_bits(buffer, content):
                    _put_back(buffer, content)


def _put_back(buffer: Tensor, content: Tensor) -> None:
    """In place where that is possible, so that buffers which share memory still do."""
    if plain(buffer) and buffer.shape == content.shape:
        buffer.data.copy_(content)
    else:
        buffer.data = content


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit, so that NaN equals itself and 0 is not −0."""
    if not plain(a) or not plain(b):
        return False
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    x, y = (t.detach().permute(sorted(range(t.ndim), key=t.stride, reverse=True)) for t in (a, b))  # as in memory
    bits = torch.equal(*(t.resolve_conj().contiguous().view(-1).view(torch.uint8) for t in (x, y)))
    return bits if a.stride() == b.stride() else torch.equal(a, b)


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


def kind_of(module: nn.Module) -> str:
    """The name of a layer's class; in full where it is not torch's class of that name."""
    own = type(module)
    return own.__name__ if getattr(nn, own.__name__, own) is own else f"{own.__module__}.{own.__qualname__}"


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Stride, padding, eps …: what a layer's public attributes say, and which of its weights are learned."""
    own = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    return own | {"parameters": tuple(name for name, p in module._parameters.items() if p is not None)}
