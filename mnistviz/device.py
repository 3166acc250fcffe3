"""Where the arithmetic runs, at which precision it trains fastest there, and in which mode a model is."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import torch
from torch import nn

from mnistviz.errors import MnistvizError, refuse


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """`pick_device()` is cuda, else mps, else cpu; `pick_device("cpu")` insists."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, available in there.items() if available))
    with suppress(RuntimeError):  # raised for a name that torch does not know
        device = torch.device(name)
        beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
        if there.get(device.type, False) and not beyond:
            return device
    allowed, fix = [kind for kind, available in there.items() if available], "leave the device out: the best is chosen"
    raise MnistvizError("this device is not available here", given=str(name), allowed=allowed, fix=fix)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are; one without weights counts as on the CPU."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module is in the mode it had, whatever happened."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Precision(NamedTuple):
    """How training steps are computed: autocast type (None is plain float32) and memory format."""

    autocast: torch.dtype | None
    memory_format: torch.memory_format

    def __str__(self) -> str:
        number = "bfloat16 autocast" if self.autocast else "float32"
        return f"{number}, {str(self.memory_format).removeprefix('torch.')}"


PRECISIONS = ("auto", "float32", "bfloat16")


def pick_precision(name: str, device: torch.device) -> Precision:
    """`pick_precision("auto", cpu)`: bfloat16 where the hardware multiplies it natively, else float32."""
    refuse(name not in PRECISIONS, "unknown precision", given=name, allowed=PRECISIONS)
    on_cpu, on_cuda = device.type == "cpu", device.type == "cuda"
    native = (on_cpu and _cpu_has_bf16()) or (on_cuda and torch.cuda.is_bf16_supported(including_emulation=False))
    bfloat16 = name == "bfloat16" or (name == "auto" and native)
    memory_format = torch.contiguous_format if device.type == "mps" else torch.channels_last
    return Precision(torch.bfloat16 if bfloat16 else None, memory_format)


def _cpu_has_bf16() -> bool:
    """Elsewhere bfloat16 is emulated, and slower than float32. An older torch cannot tell: then no."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))
