"""The receptive field: which part of the input a unit can see."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
Places = Sequence[int]  # row or column numbers, rising


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
        text = (
            f"Field(rows {self.top} to {self.bottom}, columns {self.left} to {self.right}: {self.height}×{self.width}"
        )
        clipped = (self.height, self.width) != self.size
        return text + (f", clipped from {self.size[0]}×{self.size[1]})" if clipped else ")")


def receptive_field(trace: Trace, layer: str, y: int | None = None, x: int | None = None) -> Field:
    """`receptive_field(trace, "conv2", y=3, x=7)`: the smallest box around all that can change that unit.

    Followed through stride, padding, dilation and pooling, to the border of the picture. A unit of a flat
    layer sees what all its inputs see; of a flatten itself, `y` alone is the unit's number.
    """
    index = trace.index(layer)
    step, window = trace.steps[index], None
    rows: Places | None = None
    columns: Places | None = None
    if step.result.ndim == 4:
        _, i, j = unit_of(step, layer, 0, y, x)
        rows, columns, window = [i], [j], ((i, i), (j, j))
    elif y is not None or x is not None:
        (unit,) = unit_of(step, layer, 0 if y is None else y, None, x)
        if step.kind == "Flatten" and step.input.ndim == 4:
            _, i, j = map(int, torch.unravel_index(torch.tensor(unit), step.input.shape[1:]))
            (source,) = step.sources
            if source == MODEL_INPUT:
                return Field(i, i, j, j, (1, 1), (i, j))
            return receptive_field(trace, trace.keys[_followed(trace, index)], i, j)
    rows, columns = _reached(trace, index, rows, columns)
    if not rows or not columns:
        raise MnistvizError(f"this unit of {layer!r} sees only the border that padding adds, and nothing of the input")
    (first, last), (west, east) = _window(trace, index, window)
    return Field(rows[0], rows[-1], columns[0], columns[-1], (last - first + 1, east - west + 1), (first, west))


def no_way_back(trace: Trace, index: int) -> MnistvizError:
    return MnistvizError(
        f"the way back ends at {trace.keys[index]!r}: its input is not the output of a recorded layer",
        fix="record all layers, and write what lies between them (functional calls, additions) as modules",
    )


def _followed(trace: Trace, index: int) -> int:
    """Where the only input of a step came from."""
    sources = trace.steps[index].sources
    if len(sources) != 1 or sources[0] is None:
        raise no_way_back(trace, index)
    return sources[0]


def _reached(trace: Trace, index: int, rows: Places | None, columns: Places | None) -> tuple[Places, Places]:
    """The rows and columns of the model's input behind those of a step's output; None means all of them."""
    step, source = trace.steps[index], _followed(trace, index)
    if step.input.ndim == 4:
        if rows is None or columns is None or step.result.ndim != 4:
            rows, columns = range(step.input.shape[2]), range(step.input.shape[3])
        else:
            rows, columns = taps(step, 0, rows), taps(step, 1, columns)
    if source != MODEL_INPUT:
        return _reached(trace, source, rows, columns)
    if rows is None or columns is None:
        raise MnistvizError("the model's input has no rows and columns", given=sizes(trace.inputs))
    return rows, columns


def taps(step: Step, axis: int, places: Places) -> Places:
    """Which rows (axis 0) or columns (axis 1) of a step's input those of its output are made of."""
    s, size = step.settings, step.input.shape[2 + axis]
    if step.kind in WINDOWS:
        kernel, stride = pair(s["kernel_size"])[axis], pair(s["stride"])[axis]
        gap, (before, after) = pair(s.get("dilation", 1))[axis], margins(s)[axis]
        lines = {i: i for i in range(size)}
        if s.get("padding_mode", "zeros") != "zeros":  # its border repeats lines of the picture
            padded = F.pad(torch.arange(size).double().view(1, 1, -1), (before, after), mode=s["padding_mode"])
            lines = {i - before: int(line) for i, line in enumerate(padded.flatten())}
        met = (i * stride - before + j * gap for i in places for j in range(kernel))
        return sorted({lines[i] for i in met if i in lines})
    if step.kind == "AdaptiveAvgPool2d":
        count = step.result.shape[2 + axis]
        return sorted({k for i in places for k in range(i * size // count, math.ceil((i + 1) * size / count))})
    if step.kind in POINTWISE:
        return places
    known = ", ".join((*WINDOWS, "AdaptiveAvgPool2d", *POINTWISE))
    raise MnistvizError(f"what a {step.kind} lets through is not known", given=step.name, allowed=known)


Span = tuple[int, int]


def _window(trace: Trace, index: int, spans: tuple[Span, Span] | None) -> tuple[Span, Span]:
    """First and last row and column of the whole window, as if the picture had no border."""
    step, source = trace.steps[index], _followed(trace, index)
    if step.input.ndim == 4:
        if spans is None or step.result.ndim != 4:
            spans = (0, step.input.shape[2] - 1), (0, step.input.shape[3] - 1)
        elif step.kind in WINDOWS:
            s, back = step.settings, []
            for axis, (first, last) in enumerate(spans):
                stride, before = pair(s["stride"])[axis], margins(s)[axis][0]
                reach = pair(s.get("dilation", 1))[axis] * (pair(s["kernel_size"])[axis] - 1)
                back.append((first * stride - before, last * stride - before + reach))
            spans = back[0], back[1]
        elif step.kind == "AdaptiveAvgPool2d":
            rows, columns = (taps(step, axis, span) for axis, span in enumerate(spans))
            spans = (rows[0], rows[-1]), (columns[0], columns[-1])
    if source == MODEL_INPUT:
        assert spans is not None  # the input has rows and columns, or nothing was reached
        return spans
    return _window(trace, source, spans)
