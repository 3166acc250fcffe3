"""A kernel slides over a map; every pixel it makes is taken apart: products, sum, bias."""

from collections.abc import Iterator

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, Source
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, footer, rounded, spaced, title
from mnistviz.errors import refuse
from mnistviz.look.arithmetic import ledger
from mnistviz.look.replay import padded, pair
from mnistviz.look.trace import Trace, times
from mnistviz.show.scales import Scale, array

TOP = 104


def convolution(trace: Trace, layer: str = "conv1", channel: int | None = None, *, frames: int = 8) -> Film:
    """`convolution(trace, "conv1", channel=5).save("convolution.gif")`

    The row with the largest output is gone through pixel by pixel, the others more quickly. Without a
    channel it is the one that varies most above zero. Of several input channels the one with the largest
    weights is shown, and what the others add is one more number.
    """
    trace.one_digit()
    step = trace.step_of_kind(layer, ("Conv2d",), " and slides no kernel", "none here")
    sides = step.weights["weight"].shape[2:]
    problem = f"the kernels of {layer!r} are too large to be written out"
    refuse(max(sides) > 5, problem, given=times(sides), allowed="up to 5×5")
    shown = int(array(step.result[0]).clip(0).std((1, 2)).argmax()) if channel is None else channel
    ledger(trace, layer, shown, 0, 0)  # a channel that is not there is an error now, not at the first frame
    beside = f"the products of each position, their sum, the bias, and the map of channel {shown} as it fills"
    alt = f"A {times(sides)} kernel slides over the input of {layer}; beside it {beside}."
    return Film(lambda: _Stage(trace, layer, shown).frames(frames), alt, poster=400)


class _Stage:
    """The input with its border, the output, and between them the numbers of one position of the kernel."""

    def __init__(self, trace: Trace, layer: str, channel: int) -> None:
        self.trace, self.layer, self.channel, self.step = trace, layer, channel, trace[layer]
        weights = array(self.step.weights["weight"][channel])
        self.heaviest = int(np.abs(weights).sum((1, 2)).argmax())  # of the kernel's input channels
        self.kernel = weights[self.heaviest]
        self.input_channel = ledger(trace, layer, channel, 0, 0).inputs[self.heaviest]
        self.before = array(padded(self.step.input, self.step.settings))[0, self.input_channel]
        self.after = array(self.step.result[0, channel])
        self.zoom = max(1, 290 // max(*self.before.shape, *self.after.shape))
        from_pixels = self.before.min() >= 0 and self.before.max() <= 1 and self.step.input.shape[1] == 1
        self.input_scale = None if from_pixels else Scale.over([self.before])
        self.scale = Scale.over([self.step.result])
        self.right = WIDE - EDGE - self.after.shape[1] * self.zoom
        self.middle = (EDGE + self.before.shape[1] * self.zoom + self.right) // 2

    def frames(self, moves: int) -> Iterator[Frame]:
        canvas, (rows, columns) = self._background(), self.after.shape
        slow, peak = divmod(int(self.after.argmax()), columns)
        for y in range(rows):
            stops, ms = {*spaced(columns, max(1, moves // 4)), columns - 1}, 60
            if y == slow:
                stops, ms = {*range(0, columns, max(1, 8 // moves)), peak, columns - 1}, 240
            for x in sorted(stops):
                made, source = self.after[None, y : y + 1, : x + 1], ("part", self.layer, 0, self.channel, y, 0)
                canvas.maps(self.right, TOP + y * self.zoom, made, self.scale, self.zoom, [source])
                yield self._position(canvas, y, x, 1500 if (y, x) == (slow, peak) else ms)
        yield self._position(canvas, slow, peak, 1500)

    def _background(self) -> Canvas:
        """What stays: words, the input, scales."""
        canvas, right, (high, wide) = Canvas(WIDE, 600), self.right, self.after.shape
        products = self.step.weights["weight"][0].numel()
        heading = f"{self.layer}: one {times(self.kernel.shape)} kernel slides over the input"
        title(canvas, heading, f"each output pixel = {products} products + bias, the same weights everywhere")
        name = "the digit" if self.input_scale is None else f"input channel {self.input_channel}"
        if self.before.shape != self.step.input.shape[2:]:
            mode = self.step.settings["padding_mode"]
            name += ", border 0" if mode == "zeros" else f", border {mode}"
        canvas.text(EDGE, TOP - 4, name, anchor="ls")
        canvas.text(right, TOP - 4, f"output, channel {self.channel}", anchor="ls")
        claimed = [("padded", self.layer, 0, self.input_channel)]
        canvas.maps(EDGE, TOP, self.before[None], self.input_scale, self.zoom, claimed)
        canvas.fill(right, TOP, wide * self.zoom, high * self.zoom, "shade")
        below = TOP + max(self.before.shape[0], high) * self.zoom + 16
        if self.input_scale:
            canvas.scale(EDGE, below, self.input_scale, 150)
        else:
            canvas.text(EDGE, below, "black 0, white 1", 16, "faint")
        canvas.scale(right, below, self.scale, 150)
        footer(canvas, "Orange is above zero, blue below. Every number is from one recorded forward pass.")
        return canvas

    def _position(self, canvas: Canvas, y: int, x: int, ms: int) -> Frame:
        """The box on the input, the numbers, the pixel they make."""
        sheet, zoom, settings = canvas.copy(), self.zoom, self.step.settings
        (down, across), gaps = pair(settings["stride"]), pair(settings["dilation"])
        tall, wide = ((k - 1) * gap + 1 for k, gap in zip(self.kernel.shape, gaps, strict=True))
        sheet.box(EDGE + x * across * zoom, TOP + y * down * zoom, wide * zoom, tall * zoom)
        sheet.box(self.right + x * zoom, TOP + y * zoom, zoom, zoom)
        self._numbers(sheet, y, x)
        return sheet.frame(ms)

    def _numbers(self, sheet: Canvas, y: int, x: int) -> None:
        """Patch × kernel = products, and below what they sum to."""
        account = ledger(self.trace, self.layer, self.channel, y, x)
        (high, wide), unit = self.kernel.shape, (self.layer, self.channel, y, x, self.heaviest)
        cell, line, size = (62, 30, 17) if wide <= 3 else (54, 21, 15)
        patch, products = array(account.patch)[self.heaviest], array(account.products)[self.heaviest]
        left, top = self.middle - wide * cell // 2 + 44, TOP
        for name, numbers, sign in (("patch", patch, "×"), ("kernel", self.kernel, "="), ("products", products, "")):
            sheet.fill(left, top, wide * cell, high * line, "shade")
            sheet.text(left - 10, top + high * line // 2, name, 17, "faint", "rm")
            for i, j in np.ndindex(high, wide):
                value, right, middle = float(numbers[i, j]), left + (j + 1) * cell - 8, top + i * line + line // 2
                ink = "faint" if value == 0 else "orange" if value > 0 else "blue"
                text, source = rounded(value, 2) if value else "0", (name, *unit, i, j)
                sheet.number(right, middle, value, source, text, size=size, ink=ink, anchor="rm")
            sheet.text(left + wide * cell // 2, top + high * line + 13, sign, 20, "ink", "mm", bold=True)
            top += high * line + 26
        total = float(products.sum())
        rows: list[tuple[str, float, Source]] = [("sum", total, ("sum", *unit))]
        if len(account.patch) > 1:
            others = float(array(account.products).sum()) - total
            rows.append((f"{len(account.patch) - 1} other channels", others, ("others", *unit)))
        rows.append(("+ bias", account.bias, ("bias", self.layer, self.channel)))
        rows.append(("= output", account.recorded, (self.layer, 0, self.channel, y, x)))
        right = left + wide * cell - 8
        for k, (name, value, place) in enumerate(rows):
            at, last, text = top - 6 + 26 * k, k == len(rows) - 1, rounded(value, 2) if value else "0"
            sheet.text(right - 82, at, name, 17, "ink" if last else "faint", "rm", bold=last)
            sheet.number(right, at, value, place, text, size=18, anchor="rm", bold=last)
