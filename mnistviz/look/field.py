"""The receptive field: which part of the input a unit can see."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mnistviz.errors import MnistvizError
from mnistviz.look.arithmetic import unit_of
from mnistviz.look.replay import margins, pair
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, sizes

WINDOWS = ("Conv2d", "MaxPool2d", "AvgPool2d")
POINTWISE = (
    "Normalise", "BatchNorm2d", "ReLU", "LeakyReLU", "GELU", "SiLU", "Sigmoid", "Tanh", "Identity",
    "Dropout", "Dropout2d",
)  # fmt: skip
Span = tuple[int, int]  # first and last, both inside


@dataclass(frozen=True)
class Field:
    """The rows and columns of the input that a unit can see: `field.rows`, `field.crop(digit)`.

    `top` … `right` are clipped at the border of the picture; `size` is the whole window, border included.
    """

    top: int
    bottom: int  # last row inside
    left: int
    right: int  # last column inside
    size: tuple[int, int]
    window: tuple[int, int]  # row and column where the unclipped window begins; may be negative

    @property
    def height(self) -> int:
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        return self.right - self.left + 1

    def crop(self, images: Tensor) -> Tensor:
        """What the unit sees of pictures (…, H, W)."""
        return images[..., self.top : self.bottom + 1, self.left : self.right + 1]

    def __repr__(self) -> str:
        text = (
            f"Field(rows {self.top} to {self.bottom}, columns {self.left} to {self.right}: {self.height}×{self.width}"
        )
        clipped = (self.height, self.width) != self.size
        return text + (f", clipped from {self.size[0]}×{self.size[1]})" if clipped else ")")


def receptive_field(trace: Trace, layer: str, y: int | None = None, x: int | None = None) -> Field:
    """`receptive_field(trace, "conv2", y=3, x=7)`: all of the input that can change that unit, and nothing else.

    Followed through stride, padding, dilation and pooling, and clipped at the border. A unit of a flat
    layer sees what all its inputs see; of a flatten itself, `y` alone is the unit's number.
    """
    index = trace.index(layer)
    shape = trace.steps[index].result.shape[1:]
    if len(shape) == 3:
        unit_of(trace.steps[index], layer, 0, y, x)
        spans: tuple[Span, Span] | None = ((y, y), (x, x))  # type: ignore[assignment]
    elif trace.steps[index].kind == "Flatten" and y is not None:
        (unit,) = unit_of(trace.steps[index], layer, y, None, x)
        _, row, column = map(int, torch.unravel_index(torch.tensor(unit), trace.steps[index].input.shape[1:]))
        return receptive_field(trace, _source_key(trace, index), row, column)
    else:
        spans = None
    clipped, whole = _back(trace, index, spans, clip=True), _back(trace, index, spans, clip=False)
    (top, bottom), (left, right) = clipped
    (first, last), (west, east) = whole
    if top > bottom or left > right:
        raise MnistvizError(f"this unit of {layer!r} sees only the border that padding adds, and nothing of the input")
    return Field(top, bottom, left, right, (last - first + 1, east - west + 1), (first, west))


def _source_key(trace: Trace, index: int) -> str:
    (source,) = trace.steps[index].sources[:1]
    if source is None or source == MODEL_INPUT:
        raise no_way_back(trace, index)
    return trace.keys[source]


def no_way_back(trace: Trace, index: int) -> MnistvizError:
    return MnistvizError(
        f"the way back ends at {trace.keys[index]!r}: its input is not the output of a recorded layer",
        fix="record all layers, and write what lies between them (functional calls, additions) as modules",
    )


def _back(trace: Trace, index: int, spans: tuple[Span, Span] | None, clip: bool) -> tuple[Span, Span]:
    """Rows and columns of the model's input behind the given ones of a step's output; None means all of it."""
    step = trace.steps[index]
    if len(step.sources) != 1 or step.sources[0] is None:
        raise no_way_back(trace, index)
    shape = step.input.shape[1:]
    if len(shape) == 3:
        full = ((0, shape[1] - 1), (0, shape[2] - 1))
        spans = full if spans is None or len(step.result.shape) != 4 else behind(step, spans, full, clip)
    elif spans is not None:
        raise no_way_back(trace, index)
    if step.sources[0] == MODEL_INPUT:
        if spans is None:
            raise MnistvizError(f"the model's input has no rows and columns: {sizes(trace.inputs)}")
        return spans
    return _back(trace, step.sources[0], spans, clip)


def behind(step: Step, spans: tuple[Span, Span], full: tuple[Span, Span], clip: bool) -> tuple[Span, Span]:
    """The part of a map's input behind a part of its output."""
    s = step.settings
    if step.kind in WINDOWS:
        sides = zip(spans, full, pair(s["kernel_size"]), pair(s["stride"]), pair(s.get("dilation", 1)), margins(s),
                    strict=True)  # fmt: skip
        found = []
        for (first, last), (_, end), kernel, stride, dilation, (before, _) in sides:
            low, high = first * stride - before, last * stride - before + dilation * (kernel - 1)
            found.append((max(low, 0), min(high, end)) if clip else (low, high))
        return found[0], found[1]
    if step.kind == "AdaptiveAvgPool2d":
        counts = zip(spans, full, step.result.shape[2:], strict=True)
        rows, columns = ((a * (end + 1) // n, math.ceil((b + 1) * (end + 1) / n) - 1) for (a, b), (_, end), n in counts)
        return rows, columns
    if step.kind in POINTWISE:
        return spans
    raise MnistvizError(
        f"what a {step.kind} lets through is not known", given=step.name, allowed=", ".join((*WINDOWS, *POINTWISE))
    )
