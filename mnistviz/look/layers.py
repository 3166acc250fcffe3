"""The layers of any model: their names, those meant by a pattern, and leaving them as they were."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mnistviz.device import evaluation_mode
from mnistviz.errors import MnistvizError
from mnistviz.look.trace import unknown_layer

Layers = str | Iterable[str] | None


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; modes, buffers and the random state are as they were, outside."""
    own_buffers = [(module._buffers, dict(module._buffers)) for module in model.modules() if not _scripted(module)]
    contents = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(gpus)), evaluation_mode(model):
        try:
            yield
        finally:
            for now, before in own_buffers:
                now.clear()
                now.update(before)
            for buffer, content in contents:
                if buffer.shape != content.shape:
                    buffer.data = content
                elif not torch.equal(buffer, content):  # in place: buffers that share memory still do
                    buffer.data.copy_(content)


def unwrapped(model: nn.Module) -> tuple[nn.Module, bool]:
    """The model under `torch.compile`, and whether any part of it is compiled."""
    if not isinstance(model, nn.Module):
        raise MnistvizError("this is not a model", given=type(model).__name__, fix='mv.load_model("deep") gives one')
    compiled = any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules())
    return getattr(model, "_orig_mod", model), compiled


class Hooks(ExitStack):
    """`with Hooks(compiled) as hooks: hooks.after(layer, function)`: hooks that are gone afterwards.

    They stand behind those of others. A compiled model runs uncompiled meanwhile, so that its layers can be seen.
    """

    def __init__(self, compiled: bool) -> None:
        super().__init__()
        if compiled:
            self.enter_context(torch.compiler.set_stance("force_eager"))

    def before(self, module: nn.Module, function: Callable[..., Any], **options: bool) -> None:
        self.callback(nn.Module.register_forward_pre_hook(module, function, **options).remove)

    def after(self, module: nn.Module, function: Callable[..., Any], **options: bool) -> None:
        # called on the class, here and above, since a scripted module refuses to take hooks itself
        self.callback(nn.Module.register_forward_hook(module, function, **options).remove)


def names_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its dotted name, aliases too; a scripted module is one layer, whatever is inside."""
    names: dict[str, nn.Module] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        name = path.replace("_orig_mod.", "").removesuffix("._orig_mod")  # the marks of torch.compile
        parents = (names.get(name[:i]) for i, letter in enumerate(name) if letter == ".")
        if not any(parent is not None and _scripted(parent) for parent in (names.get(""), *parents)):
            names[name] = module
    return names


def _scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def pick(model: nn.Module, layers: Layers, one: bool = False) -> dict[str, nn.Module]:
    """The layers meant by a name, a list or a pattern; by default all that compute something themselves."""
    names = names_of(model)
    if layers is None:
        wanted = [n for n, m in names.items() if _scripted(m) or not any(m.children()) or m._parameters or m._buffers]
    else:
        wanted = []
        for pattern in [layers] if isinstance(layers, str) else layers:
            matches = [n for n in names if n == pattern or (not one and n and fnmatchcase(n, pattern))]
            if not matches:
                raise unknown_layer(pattern, [n for n in names if n])
            wanted += matches
    first = {id(names[name]): name for name in reversed(names) if name in wanted}  # a module may have two names
    return {name: module for name, module in names.items() if first.get(id(module)) == name}


def kind_of(module: nn.Module) -> str:
    """The name of a layer's class; in full where it is not torch's class of that name."""
    own = type(module)
    if _scripted(module):
        return "ScriptModule"  # whatever it was made from: nobody can look inside
    ours = own.__name__ != "Normalise" or own.__module__.startswith("mnistviz.")  # a reader's may work otherwise
    return own.__name__ if ours and getattr(nn, own.__name__, own) is own else f"{own.__module__}.{own.__qualname__}"


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A layer's own parameters and buffers; of a scripted one also those inside."""
    inside = _scripted(module)
    return {**dict(module.named_parameters(recurse=inside)), **dict(module.named_buffers(recurse=inside))}


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Stride, padding, eps …: what a layer's public attributes say, and which of its weights are learned."""
    own = {} if _scripted(module) else vars(module)
    public = {key: value for key, value in own.items() if not key.startswith("_") and key != "training"}
    return public | {"parameters": tuple(name for name, _ in module.named_parameters(recurse=_scripted(module)))}
