"""The receptive field: which part of the input a unit can see."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistviz.errors import MnistvizError, refuse
from mnistviz.look.arithmetic import POINTWISE, unit_of
from mnistviz.look.replay import FORMULAS, margins, place_of, under_window
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, sizes, times

WINDOWS = ("Conv2d", "MaxPool2d", "AvgPool2d")
SPREADING = (*WINDOWS, "AdaptiveAvgPool2d", "Linear", "Flatten")


@dataclass(frozen=True)
class Field:
    """The rows and columns of the input that a unit can see: `field.top`, `field.crop(digit)`.

    `top` … `right` are what is left at the border of the picture; `size` is the whole window.
    """

    top: int
    bottom: int  # last row inside
    left: int
    right: int  # last column inside
    size: tuple[int, int]
    window: tuple[int, int]  # row and column where the whole window begins; may be negative

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
        seen = (self.height, self.width)
        clipped = "" if seen == self.size else f", clipped from {times(self.size)}"
        return f"Field(rows {self.top} to {self.bottom}, columns {self.left} to {self.right}: {times(seen)}{clipped})"


def receptive_field(trace: Trace, layer: str, y: int | None = None, x: int | None = None) -> Field:
    """`receptive_field(trace, "conv2", y=3, x=7)`: the smallest box around all that can change that unit.

    Followed through stride, padding, dilation and pooling, to the border of the picture. A unit of a flat
    layer sees what all its inputs see; of a flatten itself, `y` alone is the unit's number.

    >>> mv.receptive_field(trace, "conv1", y=10, x=10)
    Field(rows 9 to 11, columns 9 to 11: 3×3)
    >>> mv.receptive_field(trace, "conv2", y=0, x=7)
    Field(rows 0 to 4, columns 11 to 18: 5×8, clipped from 8×8)
    >>> mv.receptive_field(trace, "conv2", y=3, x=7).crop(test[0].images).shape
    torch.Size([1, 8, 8])
    """
    index = trace.index(layer)
    step = trace.steps[index]
    place: list[int] = []  # row and column, if it is one unit
    if step.result.ndim == 4:
        _, *place = unit_of(step, layer, 0, y, x)
    elif y is not None or x is not None:
        (unit,) = unit_of(step, layer, 0 if y is None else y, None, x)
        if step.kind == "Flatten" and step.input.ndim == 4:
            (_, *place), index = place_of(unit, step.input.shape[1:]), source_of(trace, index)
    lines = [Lines([line], line, line) for line in place]  # rows and columns; empty: all there are
    while index != MODEL_INPUT:
        step, index = trace.steps[index], source_of(trace, index)
        if step.input.ndim != 4:
            lines = []
        elif not lines or step.result.ndim != 4:
            lines = [Lines(range(size), 0, size - 1) for size in step.input.shape[2:]]
        else:
            lines = [_behind(step, axis, part) for axis, part in enumerate(lines)]
    refuse(not lines, "the model's input has no rows and columns", given=sizes(trace.inputs))
    rows, columns = lines
    what = f"this unit of {layer!r} sees only the border that padding adds, and nothing of the input"
    refuse(not rows.seen or not columns.seen, what)
    size, window = (rows.last - rows.first + 1, columns.last - columns.first + 1), (rows.first, columns.first)
    return Field(rows.seen[0], rows.seen[-1], columns.seen[0], columns.seen[-1], size, window)


def projective_field(trace: Trace, y: int, x: int, layer: str) -> Tensor:
    """`projective_field(trace, 14, 14, "conv2")`: True for every unit of a layer that this pixel can reach.

    The other way of the receptive field, in evaluation mode; of the shape of the layer's output for one digit.

    >>> mv.projective_field(trace, 14, 14, "conv2")[0].nonzero().min(0).values
    tensor([5, 5])
    """
    index, way = trace.index(layer), []
    while index != MODEL_INPUT:
        way.append(trace.steps[index])
        index = source_of(trace, index)
    size = trace.input.shape[2:]
    refuse(len(size) != 2, "the model's input has no rows and columns", given=sizes(trace.inputs))
    inside = 0 <= y < size[0] and 0 <= x < size[1]
    refuse(not inside, "no such pixel", given=(y, x), allowed=f"rows 0 to {size[0] - 1}, columns 0 to {size[1] - 1}")
    reached = torch.zeros_like(trace.input[:1])
    reached[..., y, x] = 1
    for step in reversed(way):
        if step.kind.endswith("Softmax"):
            reached = reached.amax(step.settings["dim"], keepdim=True).expand(reached.shape)
        elif _over_the_map(step):
            reached = reached.amax((2, 3), keepdim=True).expand(reached.shape)
        elif step.kind in SPREADING:  # every weight a 1: what is above 0 was reached
            ones = {} if step.weight is None else {"weight": torch.ones_like(step.weight)}
            reached = FORMULAS[step.kind](reached, ones, step.settings).sign()
        elif step.kind not in POINTWISE:
            known = ", ".join((*SPREADING, *POINTWISE))
            raise MnistvizError(f"where a {step.kind} leads is not known", given=step.name, allowed=known)
    return reached[0] > 0


@dataclass(frozen=True)
class Lines:
    """The rows, or columns, that a unit sees, and between which its whole window lies if there were no border."""

    seen: Sequence[int]  # rising
    first: int
    last: int


def _behind(step: Step, axis: int, lines: Lines) -> Lines:
    """The rows (axis 0) or columns (axis 1) of a step's input behind those of its output."""
    seen, ends = taps(step, axis, lines.seen), (lines.first, lines.last)
    above, below = (under_window(step, axis, end) if step.kind in WINDOWS else taps(step, axis, [end]) for end in ends)
    return Lines(seen, above[0], below[-1])


def source_of(trace: Trace, index: int) -> int:
    """Where the only input of a step came from."""
    sources = trace.steps[index].sources
    if len(sources) == 1 and sources[0] is not None:
        return sources[0]
    what = f"the way back ends at {trace.keys[index]!r}: its input is not the output of a recorded layer"
    fix = "record all layers, and write what lies between them (functional calls, additions) as modules"
    raise MnistvizError(what, fix=fix)


def _over_the_map(step: Step) -> bool:
    """Whether it is a batch norm without running statistics: its mean and variance are those of the whole map."""
    return step.kind == "BatchNorm2d" and "running_mean" not in step.weights


def taps(step: Step, axis: int, places: Sequence[int]) -> Sequence[int]:
    """Which rows (axis 0) or columns (axis 1) of a step's input those of its output are made of."""
    s, size = step.settings, step.input.shape[2 + axis]
    if step.kind in WINDOWS:
        lines = {i: i for i in range(size)}
        if s.get("padding_mode", "zeros") != "zeros":  # its border repeats lines of the picture
            before, after = margins(s)[axis]
            padded = F.pad(torch.arange(size).double().view(1, 1, -1), (before, after), mode=s["padding_mode"])
            lines = {i - before: int(line) for i, line in enumerate(padded.flatten())}
        met = {line for place in places for line in under_window(step, axis, place)}
        return sorted({lines[line] for line in met if line in lines})
    if step.kind == "AdaptiveAvgPool2d":
        count = step.result.shape[2 + axis]
        return sorted({k for i in places for k in range(i * size // count, math.ceil((i + 1) * size / count))})
    if step.kind in POINTWISE:
        return range(size) if _over_the_map(step) else places
    known = ", ".join((*WINDOWS, "AdaptiveAvgPool2d", *POINTWISE))
    raise MnistvizError(f"what a {step.kind} lets through is not known", given=step.name, allowed=known)
