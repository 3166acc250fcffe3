"""A kernel slides over a map; every pixel it makes is taken apart: products, sum, bias."""

from collections.abc import Iterator

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, Source
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, footer, spaced, times, title
from mnistviz.errors import MnistvizError
from mnistviz.look.arithmetic import Ledger, ledger
from mnistviz.look.replay import padded, pair
from mnistviz.look.trace import Trace
from mnistviz.show.scales import Scale, array

TOP = 104


def convolution(trace: Trace, layer: str = "conv1", channel: int | None = None, *, frames: int = 8) -> Film:
    """`convolution(trace, "conv1", channel=5).save("convolution.gif")`

    The row with the largest output is gone through pixel by pixel, the others more quickly. Without a
    channel it is the one that varies most above zero. Of several input channels the one with the largest
    weights is shown, and what the others add is one more number.
    """
    trace.one_digit()
    step = trace[layer]
    if step.kind != "Conv2d":
        have = [key for key, s in trace.items() if s.kind == "Conv2d"]
        raise MnistvizError(f"{layer!r} is a {step.kind} and slides no kernel", allowed=", ".join(have) or "none here")
    if max(step.weight.shape[2:]) > 5:  # type: ignore[union-attr]
        raise MnistvizError(
            f"the kernels of {layer!r} are too large to be written out", given=times(tuple(step.weight.shape[2:])),  # type: ignore[union-attr]
            allowed="up to 5×5",
        )  # fmt: skip
    out = array(step.result[0])
    shown = int(out.clip(0).std((1, 2)).argmax()) if channel is None else channel
    ledger(trace, layer, shown, 0, 0)  # a channel that is not there is an error now, not at the first frame
    book = _Book(trace, layer, shown)
    alt = (
        f"A {times(book.kernel.shape)} kernel slides over the input of {layer}; beside it the products of each "
        f"position, their sum, the bias, and the map of channel {shown} as it fills."
    )
    return Film(lambda: book.frames(frames), alt, poster=400)


class _Book:
    """The places on the stage, and what is written there at one position of the kernel."""

    def __init__(self, trace: Trace, layer: str, channel: int) -> None:
        self.trace, self.layer, self.channel, self.step = trace, layer, channel, trace[layer]
        weights = array(self.step.weight[channel])  # type: ignore[index]
        self.inside = int(np.abs(weights).sum((1, 2)).argmax())  # of the kernel's input channels
        self.kernel = weights[self.inside]
        self.first = ledger(trace, layer, channel, 0, 0).inputs[self.inside]
        self.before = array(padded(self.step.input, self.step.settings))[0, self.first]
        self.after = array(self.step.result[0, channel])
        self.zoom = max(1, 290 // max(*self.before.shape, *self.after.shape))
        from_pixels = self.before.min() >= 0 and self.before.max() <= 1 and self.step.input.shape[1] == 1
        self.input_scale = None if from_pixels else Scale.over([self.before])
        self.scale = Scale.over([self.step.result])
        self.left, self.right = EDGE, WIDE - EDGE - self.after.shape[1] * self.zoom
        middle = self.left + self.before.shape[1] * self.zoom
        self.middle = (middle + self.right) // 2

    def frames(self, moves: int) -> Iterator[Frame]:
        canvas, (rows, columns) = self._stage(), self.after.shape
        slow, peak = divmod(int(self.after.argmax()), columns)
        for y in range(rows):
            stops = range(0, columns, max(1, 8 // moves)) if y == slow else spaced(columns, max(1, moves // 4))
            for x in sorted({*stops, columns - 1, *([peak] if y == slow else [])}):
                self._fill(canvas, y, x)
                yield self._at(canvas, y, x, 1500 if (y, x) == (slow, peak) else 240 if y == slow else 60)
        yield self._at(canvas, slow, peak, 1500)

    def _stage(self) -> Canvas:
        """What stays: words, the input, scales."""
        canvas, right = Canvas(WIDE, 600), self.right
        many = self.kernel.size * self.step.input.shape[1] // self.step.settings["groups"]
        title(
            canvas, f"{self.layer}: one {times(self.kernel.shape)} kernel slides over the input",
            f"each output pixel = {many} products + bias, the same weights everywhere",
        )  # fmt: skip
        name = "the digit" if self.input_scale is None else f"input channel {self.first}"
        mode = self.step.settings["padding_mode"]
        border = ", border 0" if mode == "zeros" else f", border {mode}"
        bordered = self.before.shape != tuple(self.step.input.shape[2:])
        canvas.text(self.left, TOP - 4, name + (border if bordered else ""), anchor="ls")
        canvas.text(right, TOP - 4, f"output, channel {self.channel}", anchor="ls")
        source = ("padded", self.layer, 0, self.first)
        canvas.maps(self.left, TOP, self.before[None], self.input_scale, self.zoom, [source])
        high, wide = self.after.shape
        canvas.fill(right, TOP, wide * self.zoom, high * self.zoom, "shade")
        below = TOP + max(self.before.shape[0], high) * self.zoom + 16
        if self.input_scale:
            canvas.scale(self.left, below, self.input_scale, 150)
        else:
            canvas.text(self.left, below, "black 0, white 1", 16, "faint")
        canvas.scale(right, below, self.scale, 150)
        footer(canvas, "Orange is above zero, blue below. Every number is from one recorded forward pass.")
        return canvas

    def _fill(self, canvas: Canvas, y: int, x: int) -> None:
        """The output as far as it is made: all rows above y, and row y up to x."""
        for first, part in ((0, self.after[:y]), (y, self.after[y : y + 1, : x + 1])):
            if part.size:
                source = ("part", self.layer, 0, self.channel, first, 0)
                canvas.maps(self.right, TOP + first * self.zoom, part[None], self.scale, self.zoom, [source])

    def _at(self, canvas: Canvas, y: int, x: int, ms: int) -> Frame:
        """One position: the box on the input, the ledger, the pixel it makes."""
        sheet, s, z = canvas.copy(), self.step.settings, self.zoom
        (down, across), (tall, wide) = (
            pair(s["stride"]),
            ((k - 1) * gap + 1 for k, gap in zip(self.kernel.shape, pair(s["dilation"]), strict=True)),
        )
        sheet.box(self.left + x * across * z, TOP + y * down * z, wide * z, tall * z)
        sheet.box(self.right + x * z, TOP + y * z, z, z)
        self._ledger(sheet, ledger(self.trace, self.layer, self.channel, y, x), y, x)
        return sheet.frame(ms)

    def _ledger(self, sheet: Canvas, book: Ledger, y: int, x: int) -> None:
        """Patch × kernel = products, and below what they sum to."""
        (high, wide), unit = self.kernel.shape, (self.layer, self.channel, y, x, self.inside)
        cell, line, size = (62, 30, 17) if wide <= 3 else (54, 21, 15)
        patch, products = array(book.patch)[self.inside], array(book.products)[self.inside]
        left, top = self.middle - wide * cell // 2 + 44, TOP
        right = left + wide * cell - 8
        for name, numbers, sign in (("patch", patch, "×"), ("kernel", self.kernel, "="), ("products", products, "")):
            sheet.fill(left, top, wide * cell, high * line, "shade")
            sheet.text(left - 10, top + high * line // 2, name, 17, "faint", "rm")
            for i, j in np.ndindex(high, wide):
                value, at = float(numbers[i, j]), (left + (j + 1) * cell - 8, top + i * line + line // 2)
                ink = "faint" if value == 0 else "orange" if value > 0 else "blue"
                sheet.number(*at, value, (name, *unit, i, j), _said(value), size=size, ink=ink, anchor="rm")
            top += high * line + 13
            sheet.text(left + wide * cell // 2, top, sign, 20, "ink", "mm", bold=True)
            top += 13
        total = float(products.sum())
        rows: list[tuple[str, float, Source]] = [("sum", total, ("sum", *unit))]
        if len(book.patch) > 1:
            others = float(array(book.products).sum()) - total
            rows.append((f"{len(book.patch) - 1} other channels", others, ("others", *unit)))
        rows.append(("+ bias", book.bias, ("bias", self.layer, self.channel)))
        rows.append(("= output", book.recorded, (self.layer, 0, self.channel, y, x)))
        for name, value, place in rows:
            last = name == "= output"
            sheet.text(right - 82, top - 6, name, 17, "ink" if last else "faint", "rm", bold=last)
            sheet.number(right, top - 6, value, place, _said(value), size=18, anchor="rm", bold=last)
            top += 26


def _said(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−") if value else "0"  # + 0.0: minus zero is zero
