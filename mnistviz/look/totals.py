"""What many outputs of one layer come to: mean, spread, zeros, silence, histogram; no output is kept."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mnistviz.errors import MnistvizError

PART = 2**18  # numbers summed at a time: few enough to stay in the cache
ENDS = {  # where the output of a layer is as good as at its end
    "Sigmoid": (0.01, 0.99), "Softmax": (0.01, 0.99), "Tanh": (-0.98, 0.98), "Hardtanh": (-1.0, 1.0),
    "ReLU6": (-math.inf, 6.0), "Hardsigmoid": (0.0, 1.0),
}  # fmt: skip


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
    ends: int = 0
    low: Tensor | None = None  # the smallest value of every unit, (C, H, W) or (F,)
    high: Tensor | None = None
    tally: Tensor | None = None

    def add(self, output: Tensor) -> None:
        """Take in the outputs (N, …) of one pass, in a few fast sweeps while they are still in the cache."""
        x = output.detach()
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        channels_last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        rows = x.permute(0, 2, 3, 1) if channels_last else x  # as the numbers lie in memory
        shape, rows = rows.shape[1:] or (1,), rows.reshape(len(x), -1)
        low, high, values = rows.amin(0).view(shape), rows.amax(0).view(shape), rows.reshape(-1)
        if channels_last:
            low, high = low.permute(2, 0, 1), high.permute(2, 0, 1)
        if self.low is None or self.high is None:
            self.low, self.high = low.contiguous(), high.contiguous()
        else:  # in place: memory stays in one piece
            with torch.inference_mode():  # allows it whatever the modes of the passes were
                torch.minimum(self.low, low, out=self.low)
                torch.maximum(self.high, high, out=self.high)
        self.inputs += len(x)
        self.count += values.numel()
        if bool(low.isnan().any()):  # not hidden: counted, and left out of the sums
            strange = values.isnan()
            self.nan += int(strange.sum())
            values = values[~strange]
        seen = self.numbers - values.numel()
        for part in values.split(PART if x.device.type == "cpu" else max(values.numel(), 1)):
            if part.numel():
                seen = self._add(part, seen)
        if self.kind in ENDS:
            first, last = ENDS[self.kind]
            self.ends += int(((values <= first) | (values >= last)).sum())
        if self.bins is not None:
            tally = self.bins.tally(values)
            self.tally = tally if self.tally is None else self.tally + tally

    def _add(self, part: Tensor, seen: int) -> int:
        """Mean and squared distances of all that was seen, from those of a part (Chan's rule), and its zeros."""
        mean = float(part.mean())
        apart = part - mean
        shift = mean - (self.mean if seen else mean)
        squares = float(apart.square_().sum())
        sign = torch.sign(part, out=apart)
        self.nonzero += int(sign.dot(sign))
        total = seen + part.numel()
        self.squares += squares + shift**2 * seen * part.numel() / total
        self.mean = (self.mean if seen else mean) + shift * part.numel() / total
        return total

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
    def saturated(self) -> float:
        """Share of outputs at an end of their range; not a number for layers whose range has none."""
        return self.ends / self.numbers if self.kind in ENDS and self.numbers else math.nan

    @property
    def silent(self) -> Tensor:
        """True for every unit, (C, H, W) or (F,), whose output was exactly 0 for all that was seen."""
        if self.low is None or self.high is None:
            raise MnistvizError(
                "nothing was seen yet", fix="with mv.watch(model) as activity: mv.predict(model, digits)"
            )
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
        return self.silent.flatten(1).all(1).nonzero().flatten().tolist() if self.silent.ndim > 1 else \
            self.silent.nonzero().flatten().tolist()  # fmt: skip

    @property
    def channels(self) -> int:
        return len(self.silent)

    @property
    def histogram(self) -> Tensor:
        if self.tally is None:
            raise MnistvizError(
                "no histogram was kept", fix="with mv.watch(model, bins=mv.Bins(-6, 6, 48)) as activity: …"
            )
        return self.tally

    def __repr__(self) -> str:
        return (
            f"{self.kind} over {self.inputs:,} inputs: mean {self.mean:.3f}, sd {self.sd:.3f}, zeros {self.zeros:.1%}; "
            f"silent {self.silent_units:,} of {self.units:,} units, "
            f"{len(self.silent_channels)} of {self.channels} channels"
            + (f"; {self.nan:,} values are NaN and left out" if self.nan else "")
        )
