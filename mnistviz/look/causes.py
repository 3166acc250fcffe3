"""Why this answer and not that one: the sum behind two scores, the channels that decide, the nearest known digits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnistviz.errors import MnistvizError
from mnistviz.look.hooks import ablate, capture
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
        return (
            f"Contrast({self.one} over {self.other}: {self.total:+.3f} from {len(self.gaps)} features of {self.layer}; "
            f"for: {best}; against: {worst}; biases {self.bias_gap:+.3f})"
        )


def contrast(trace: Trace, one: int, other: int) -> Contrast:
    """`contrast(trace, 9, 4).gaps`: which features make the score for 9 larger than the one for 4, exactly."""
    trace.one_digit()
    found = [(key, step) for key, step in zip(trace.keys, trace.steps, strict=True) if step.kind == "Linear"]
    if not found:
        raise MnistvizError("no linear layer was recorded", given=", ".join(trace.keys))
    layer, step = found[-1]
    weight = step.weights["weight"].double()
    for answer in (one, other):
        if not 0 <= answer < len(weight):
            raise MnistvizError("no such answer", given=answer, allowed=f"0 to {len(weight) - 1}")
    if step.input.ndim != 2:
        raise MnistvizError(f"{layer!r} is applied to more than one row of features", given=sizes(step.inputs))
    features, scores = step.input[0].double(), step.result[0].double()
    bias = torch.zeros(len(weight)) if step.bias is None else step.bias.double()
    return Contrast(
        layer, one, other, features, weight[one] * features, weight[other] * features,
        float(bias[one] - bias[other]), float(scores[one] - scores[other]),
    )  # fmt: skip


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

    The first of the list closes the gap between the right score and the answer most; it flips the answer if
    its own is another. Name layers after a batch norm, where a zero is a silence.
    """
    if len(pixels) != 1:
        raise MnistvizError("this looks at one digit", given=f"{len(pixels)} inputs", fix="pass digits[i].pixels")
    model, _ = unwrapped(model)
    with capture(model, list(layers)) as trace:
        scores = model(pixels)[0]
    if not 0 <= right < len(scores):
        raise MnistvizError("no such answer", given=right, allowed=f"0 to {len(scores) - 1}")
    wrong = int(scores.argmax())
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
    if not 1 <= count <= len(known):
        raise MnistvizError("how many neighbours", given=count, allowed=f"1 to {len(known)}")
    distances, rows = torch.cdist(features.double(), known.double()).topk(count, largest=False, sorted=True)
    return rows, distances
