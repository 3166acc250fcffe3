"""Where the arithmetic runs, in how many processes, at which precision, and in which mode a model is."""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from copy import deepcopy
from typing import NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mnistviz.errors import MnistvizError, refuse

T = TypeVar("T")


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """`pick_device()` is cuda, else mps, else cpu; `pick_device("cpu")` insists."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kinds = [kind for kind, available in there.items() if available]
    with suppress(RuntimeError):  # raised for a name that torch does not know
        device = torch.device(kinds[0] if name is None else name)
        beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
        if device.type in kinds and not beyond:
            return device
    fix = "leave the device out: the best is chosen"
    raise MnistvizError("this device is not available here", given=str(name), allowed=kinds, fix=fix)


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
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch tells none
    on_cpu = device.type == "cpu" and capabilities.get("avx512_bf16")  # elsewhere emulated, and slower than float32
    on_cuda = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    bfloat16 = name == "bfloat16" or (name == "auto" and (on_cpu or on_cuda))
    memory_format = torch.contiguous_format if device.type == "mps" else torch.channels_last
    return Precision(torch.bfloat16 if bfloat16 else None, memory_format)


class World(NamedTuple):
    """The processes that train together, and which of them this one is; without others, rank 0 of 1."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "World":
        """The processes joined by `together`, or by your own `torch.distributed.init_process_group`."""
        joined = dist.is_available() and dist.is_initialized()
        return cls(dist.get_rank(), dist.get_world_size()) if joined else cls()

    def share(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """This process's part of a batch, and the weight with which the mean over processes is the batch's mean.

        A batch of fewer than two digits a process is computed whole by each: batch norm needs two.
        """
        if self.size == 1 or len(x) < 2 * self.size:
            return x, y, 1.0
        first, end = (len(x) * rank // self.size for rank in (self.rank, self.rank + 1))
        return x[first:end], y[first:end], (end - first) * self.size / len(x)

    def joined(self, model: nn.Module) -> nn.Module:
        """What a training step calls: the model, or DistributedDataParallel around it, which averages gradients."""
        if self.size == 1:
            return model
        if device_of(model).type == "cuda":  # the only one that torch has SyncBatchNorm for
            shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
            model = nn.SyncBatchNorm.convert_sync_batchnorm(deepcopy(model, shared))  # other layers, the same weights
        return nn.parallel.DistributedDataParallel(model)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor, unless it counts in whole numbers, becomes its mean over the processes."""
        for tensor in filter(Tensor.is_floating_point, tensors if self.size > 1 else ()):
            dist.all_reduce(tensor)
            tensor /= self.size

    def of_first(self, function: Callable[..., T], *given: object) -> T:
        """What the function gives in the first process, told to all: they never decide differently."""
        told: list[T] = [function(*given)] if self.rank == 0 else [None]  # type: ignore[list-item]
        if self.size > 1:
            dist.broadcast_object_list(told)
        return told[0]


@contextmanager
def together(device: str | None = None) -> Iterator[None]:
    """Inside `with together():` the processes that torchrun started are a group, of which only the first one prints.

    After an error a process does not wait for the others: it ends, and torchrun ends them.
    """
    if "LOCAL_RANK" not in os.environ:  # torchrun sets it
        yield
        return
    where, count = pick_device(device), int(os.environ["LOCAL_WORLD_SIZE"])
    refuse(where.type == "mps", "several processes cannot share mps", fix="torchrun … --device cpu")
    one_each = where.type == "cuda" and device in (None, "cuda") and count <= torch.cuda.device_count()
    if one_each:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if one_each else "gloo")
    with redirect_stdout(sys.stdout if dist.get_rank() == 0 else io.StringIO()):
        yield
    dist.destroy_process_group()
