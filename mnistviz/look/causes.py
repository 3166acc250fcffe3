"""Why this answer and not that one: the sum behind two scores, the channels that decide, the nearest known digits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnistviz.errors import MnistvizError, one_of, refuse
from mnistviz.look.arithmetic import ledger
from mnistviz.look.capture import ablate, record
from mnistviz.look.layers import undisturbed, unwrapped
from mnistviz.look.trace import Trace, sizes


@dataclass(frozen=True, eq=False)
class Contrast:
    """Two scores taken apart into the same features: `contrast.gaps[i]` is what feature i gives one above the other."""

    layer: str
    one: int
    other: int
    features: Tensor  # (F,): what went into the last linear layer
    for_one: Tensor  # (F,): weight times value, for each of the two scores
    for_other: Tensor
    bias_gap: float
    recorded: float  # the gap between the two scores of the pass

    @property
    def gaps(self) -> Tensor:
        return self.for_one - self.for_other

    @property
    def total(self) -> float:
        """The gap between the two scores, summed here: all features and the biases."""
        return float(self.gaps.sum()) + self.bias_gap

    @property
    def ranked(self) -> list[int]:
        """Features in the order of what they give, the strongest for `one` first."""
        return self.gaps.argsort(descending=True, stable=True).tolist()

    def __repr__(self) -> str:
        best = ", ".join(f"{i} {self.gaps[i]:+.2f}" for i in self.ranked[:3])
        worst = ", ".join(f"{i} {self.gaps[i]:+.2f}" for i in self.ranked[:-4:-1])
        sums = f"{self.total:+.3f} from {len(self.gaps)} features of {self.layer}"
        parts = f"for: {best}; against: {worst}; biases {self.bias_gap:+.3f}"
        return f"Contrast({self.one} over {self.other}: {sums}; {parts})"


def contrast(trace: Trace, one: int, other: int) -> Contrast:
    """`contrast(trace, 9, 4).gaps`: which features make the score for 9 larger than the one for 4, exactly."""
    trace.one_digit()
    layer = trace.last_linear()
    one_of("answer", (one, other), trace[layer].result.shape[-1])
    first, second = (ledger(trace, layer, answer) for answer in (one, other))
    features = first.patch.double()
    for_one, for_other = first.kernel.double() * features, second.kernel.double() * features
    bias_gap, recorded = first.bias - second.bias, first.recorded - second.recorded
    return Contrast(layer, one, other, features, for_one, for_other, bias_gap, recorded)


@dataclass(frozen=True)
class Silenced:
    """What the network says when one channel is silent."""

    layer: str
    channel: int
    answer: int
    gap: float  # the score for the right digit above the one for the answer that was given at first

    def __repr__(self) -> str:
        return f"Silenced({self.layer} {self.channel}: answer {self.answer}, gap {self.gap:+.2f})"


@torch.no_grad()
def silenced(model: nn.Module, pixels: Tensor, right: int, layers: Sequence[str]) -> list[Silenced]:
    """`silenced(model, digit.pixels, 4, ["relu5", "relu6"])`: every channel silent in turn, what helps most first.

    Name layers after a batch norm, where a zero is a silence.
    """
    refuse(len(pixels) != 1, "this looks at one digit", given=f"{len(pixels)} inputs", fix="pass digits[i].pixels")
    model, _ = unwrapped(model)
    trace = record(model, pixels, list(layers))
    one_of("answer", right, trace.output.shape[1])
    wrong = int(trace.output[0].argmax())
    rows = []
    with undisturbed(model):
        for layer in dict.fromkeys(layers):
            for channel in range(trace[layer].result.shape[1]):
                with ablate(model, layer, channel):
                    scores = model(pixels)[0].double()
                rows.append(Silenced(layer, channel, int(scores.argmax()), float(scores[right] - scores[wrong])))
    return sorted(rows, key=lambda row: -row.gap)


def nearest(features: Tensor, known: Tensor, count: int = 8) -> tuple[Tensor, Tensor]:
    """`rows, distances = nearest(mine, known)`: which rows of `known` lie closest to each row of `features`."""
    if features.ndim != 2 or known.ndim != 2 or features.shape[1] != known.shape[1]:
        raise MnistvizError("rows of the same length are needed", given=f"{sizes(features)} and {sizes(known)}")
    refuse(not 1 <= count <= len(known), "how many neighbours", given=count, allowed=f"1 to {len(known)}")
    distances, rows = torch.cdist(features.double(), known.double()).topk(count, largest=False, sorted=True)
    return rows, distances


@dataclass(frozen=True, eq=False)
class Cause:
    """One mistake taken apart: why the wrong score was larger, what would turn it, and the digits most alike."""

    pixels: Tensor  # (1, 1, 28, 28)
    contrast: Contrast  # the answer given over the right one
    silenced: list[Silenced]
    neighbours: Tensor  # (k, 1, 28, 28): the known digits with the nearest features, nearest first
    labels: list[int]  # what each of them is
    distances: list[float]


@torch.no_grad()
def explain(
    model: nn.Module, pixels: Tensor, right: int, layers: Sequence[str], known: Tensor, labels: Tensor, count: int = 8
) -> Cause:
    """`explain(model, digit.pixels, 4, ["relu2", "relu3"], train.pixels, train.labels)`: one mistake, on all counts.

    `layers` are those whose channels are silenced in turn; `known` and `labels` the digits to look for neighbours in.
    """
    if len(known) != len(labels):
        raise MnistvizError("one label per known digit is needed", given=f"{len(known)} digits, {len(labels)} labels")
    trace = record(model, pixels)
    why = contrast(trace, int(trace[trace.last_linear()].result[0].argmax()), right)
    rows, distances = nearest(trace[why.layer].input, record(model, known, why.layer)[why.layer].input, count)
    near, tried = rows[0], silenced(model, pixels, right, layers)
    return Cause(pixels, why, tried, known[near], labels[near].tolist(), distances[0].tolist())
