"""Activation statistics over any number of passes: mean, spread, zeros, silence, histogram; no output is kept."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnistviz.errors import MnistvizError
from mnistviz.look.layers import Hooks, Layers, kind_of, pick, unwrapped
from mnistviz.look.trace import Trace, keys_of, position, tensors


@dataclass(frozen=True)
class Bins:
    """`Bins(-6, 6, 48)`: equal bins, each with its lower edge; what lies outside is counted outside."""

    low: float = -6.0
    high: float = 6.0
    count: int = 48

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high and self.count > 0):
            raise MnistvizError("these are no bins", given=self, allowed="low < high, both finite, and a count above 0")

    @property
    def edges(self) -> Tensor:
        return torch.linspace(self.low, self.high, self.count + 1)

    def tally(self, values: Tensor) -> Tensor:
        """Counts, (count + 2,): below the first edge, in the bins, from the last edge on. No value is lost."""
        at = (values - self.low).div_((self.high - self.low) / self.count).floor_()
        return torch.bincount(at.clamp_(-1, self.count).int().add_(1), minlength=self.count + 2)


@dataclass(eq=False, repr=False)
class Totals:
    """What one layer put out: `totals.mean`, `.sd`, `.zeros`, `.silent_units`, `.histogram`."""

    kind: str
    bins: Bins | None = None
    inputs: int = 0  # how many digits were seen
    count: int = 0  # how many numbers
    mean: float = math.nan
    squares: float = 0.0  # sum of squared distances from the mean
    nonzero: int = 0
    nan: int = 0
    low: Tensor | None = None  # the smallest value of every unit, (C, H, W) or (F,)
    high: Tensor | None = None
    tally: Tensor | None = None

    def add(self, output: Tensor) -> None:
        """Take in the outputs (N, …) of one pass, in a few fast sweeps while they are still in the cache."""
        x = output.detach()
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        maps = x.ndim == 4
        rows = x.permute(0, 2, 3, 1) if maps else x  # as maps lie in memory, channels last
        units = rows.reshape(len(x), -1)
        low, high = (extreme.view(rows.shape[1:] or (1,)) for extreme in (units.amin(0), units.amax(0)))
        low, high = (extreme.permute(2, 0, 1) if maps else extreme for extreme in (low, high))
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)
        self.inputs += len(x)
        self.count += x.numel()
        values = units.flatten()
        if bool(low.isnan().any()):  # not hidden: counted, and left out of the sums
            is_nan = values.isnan()
            self.nan += int(is_nan.sum())
            values = values[~is_nan]
        if len(values):
            self._merge(values)
        on_cpu = values.device.type == "cpu"  # where numpy counts five times as fast as torch
        self.nonzero += int(np.count_nonzero(values.numpy()) if on_cpu else values.count_nonzero())
        if self.bins is not None:
            tally = self.bins.tally(values)
            self.tally = tally if self.tally is None else self.tally + tally

    def _merge(self, values: Tensor) -> None:
        """Mean and squared distances of all that was seen, from those of a part (Chan's rule)."""
        mean, part, seen = float(values.mean()), len(values), self.numbers - len(values)
        squares = float((values - mean).square_().sum())
        shift = mean - (self.mean if seen else mean)
        self.mean = (self.mean if seen else mean) + shift * part / (seen + part)
        self.squares += squares + shift**2 * seen * part / (seen + part)

    @property
    def numbers(self) -> int:
        return self.count - self.nan

    @property
    def sd(self) -> float:
        return math.sqrt(self.squares / self.numbers) if self.numbers else math.nan

    @property
    def zeros(self) -> float:
        """Share of outputs that are exactly 0."""
        return 1 - self.nonzero / self.numbers if self.numbers else math.nan

    @property
    def silent(self) -> Tensor:
        """True for every unit, (C, H, W) or (F,), whose output was exactly 0 for all that was seen."""
        if self.low is None or self.high is None:
            fix = "with mv.watch(model) as activity: mv.predict(model, digits)"
            raise MnistvizError("nothing was seen yet", fix=fix)
        return (self.low == 0) & (self.high == 0)

    @property
    def silent_units(self) -> int:
        return int(self.silent.sum())

    @property
    def units(self) -> int:
        return self.silent.numel()

    @property
    def silent_channels(self) -> list[int]:
        """The channels none of whose units ever spoke."""
        units = self.silent if self.silent.ndim > 1 else self.silent.unsqueeze(1)
        return units.flatten(1).all(1).nonzero().flatten().tolist()

    @property
    def channels(self) -> int:
        return len(self.silent)

    @property
    def histogram(self) -> Tensor:
        if self.tally is None:
            fix = "with mv.watch(model, bins=mv.activity.Bins(-6, 6, 48)) as activity: …"
            raise MnistvizError("no histogram was kept", fix=fix)
        return self.tally

    def __repr__(self) -> str:
        values = f"mean {self.mean:.3f}, sd {self.sd:.3f}, zeros {self.zeros:.1%}"
        channels = f"{len(self.silent_channels)} of {self.channels} channels"
        nan = f"; {self.nan:,} values are NaN and left out" if self.nan else ""
        silent = f"silent {self.silent_units:,} of {self.units:,} units, {channels}"
        return f"{self.kind} over {self.inputs:,} inputs: {values}; {silent}{nan}"


@dataclass(eq=False, repr=False)
class Activity:
    """`activity["relu1"].zeros`: the totals of every watched layer, in the order in which they ran."""

    known: tuple[str, ...] = ()
    bins: Bins | None = None
    totals: dict[tuple[str, int], Totals] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return keys_of(list(self.totals))

    def __getitem__(self, layer: str) -> Totals:
        at = position(layer, list(self.totals), self.known, "no pass called it" if self.totals else "nothing ran yet")
        return list(self.totals.values())[at]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.totals)

    def items(self) -> list[tuple[str, Totals]]:
        """The totals of each layer after its key: `for key, totals in activity.items()`."""
        return list(zip(self.keys, self.totals.values(), strict=True))

    def add(self, name: str, call: int, kind: str, output: Any) -> None:
        for x in tensors(output)[:1]:
            if x.is_floating_point() and x.ndim and x.numel():
                self.totals.setdefault((name, call), Totals(kind, self.bins)).add(x)

    def __repr__(self) -> str:
        width = max(map(len, self.keys), default=0)
        return "\n".join(f"{key:<{width}}  {totals!r}" for key, totals in self.items()) or "Activity(nothing ran yet)"


@contextmanager
def watch(model: nn.Module, layers: Layers = None, bins: Bins | None = None) -> Iterator[Activity]:
    """`with watch(model) as activity: predict(model, digits)`; then `activity["relu1"].silent_units`.

    Sums up every pass made inside, in whatever mode the model is; with `bins` it keeps a histogram too.

    >>> with mv.watch(model, "relu*", mv.activity.Bins(0, 4, 8)) as activity:
    ...     probabilities = mv.predict(model, test[:100])
    >>> activity["relu1"].inputs, activity["relu1"].units
    (100, 6272)
    >>> activity["relu1"].silent.shape
    torch.Size([8, 28, 28])
    >>> activity["relu1"].histogram.shape  # eight bins, and what lies below and above
    torch.Size([10])
    """
    model, compiled = unwrapped(model)
    chosen = pick(model, layers)
    activity = Activity(tuple(chosen), bins)
    calls: Counter[str] = Counter()

    def hear(name: str, module: nn.Module, args: Any, output: Any) -> None:
        activity.add(name, calls[name], kind_of(module), output)
        calls[name] += 1

    with Hooks(compiled) as hooks:
        hooks.before(model, lambda *_: calls.clear())
        for name, module in chosen.items():
            hooks.after(module, partial(hear, name))
        yield activity


def summarise(trace: Trace, bins: Bins | None = None) -> Activity:
    """`summarise(trace)["relu1"].silent_channels`: the same totals for the one pass of a trace."""
    activity = Activity(trace.chosen, bins)
    for step in trace.steps:
        activity.add(step.name, step.call, step.kind, step.output)
    return activity
