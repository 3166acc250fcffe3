"""Windows of a max-pool, and the pixel that won each of them."""

from collections.abc import Iterator

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, Source, ease, width_of
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, footer, spaced, title
from mnistviz.errors import MnistvizError, one_of, refuse
from mnistviz.look.paths import pool_winners
from mnistviz.look.replay import margins, pair
from mnistviz.look.trace import Trace, sizes, times
from mnistviz.show.scales import Scale, array, short

TOP = 104


def max_pooling(trace: Trace, layer: str | None = None, channel: int | None = None, *, frames: int = 8) -> Film:
    """`max_pooling(trace, "pool1", channel=5).save("max_pooling.gif")`: every window hands on its largest value.

    The row with the largest output is gone through window by window. Without a layer it is the first
    max-pool, without a channel the one whose output varies most.
    """
    trace.one_digit()
    pools = list(trace.of_kind("MaxPool2d"))
    refuse(not pools and layer is None, "no layer of this trace is a max-pool", given=", ".join(trace.keys))
    layer = layer or pools[0]
    pool_winners(trace, layer)  # an error if it is none
    step, out = trace[layer], array(trace[layer].result[0])
    if pair(step.settings["dilation"]) != (1, 1):
        raise MnistvizError(f"the windows of {layer!r} have gaps", given=f"dilation {step.settings['dilation']}")
    window, what = pair(step.settings["kernel_size"]), f"the windows of {layer!r} are too large to be written out"
    refuse(max(window) > 5, what, given=times(window), allowed="up to 5×5")
    shown = int(out.std((1, 2)).argmax()) if channel is None else channel
    one_of(f"channel in {layer!r}", shown, len(out))
    windows = f"Windows slide over channel {shown} of {sizes(step.inputs)}"
    alt = f"{windows}; of each, the largest value goes into a map of {times(out.shape[1:])}."
    return Film(lambda: _Stage(trace, layer, shown).frames(frames), alt, poster=400)


class _Stage:
    """Two maps side by side, the window on one and what it hands on in the other."""

    def __init__(self, trace: Trace, layer: str, channel: int) -> None:
        self.layer, self.channel, self.step = layer, channel, trace[layer]
        self.before, self.after = array(self.step.input[0, channel]), array(self.step.result[0, channel])
        winners = pool_winners(trace, layer)
        self.won_y, self.won_x = winners.y[0, channel].tolist(), winners.x[0, channel].tolist()
        self.scale = Scale.over([self.step.input])
        self.small, self.large = (max(1, 336 // max(m.shape)) for m in (self.before, self.after))
        self.right = WIDE - EDGE - self.after.shape[1] * self.large
        self.slow, self.peak = divmod(int(self.after.argmax()), self.after.shape[1])
        # of the numbers, out of the way of the row that is shown slowly
        self.top = TOP + 150 if self.slow < self.after.shape[0] / 2 else TOP + 20
        self.middle = (EDGE + self.before.shape[1] * self.small + self.right) // 2

    def frames(self, moves: int) -> Iterator[Frame]:
        canvas, (rows, columns) = self._background(), self.after.shape
        for y, x in np.ndindex(rows, columns):
            if y == self.slow and (x % max(1, 8 // moves) == 0 or x == self.peak):
                yield self._position(canvas, y, x, 400)
                for way in ease(max(1, moves // 2)) if abs(x - self.peak) <= 1 else ():
                    yield self._position(canvas, y, x, 60, way)
            pixel, source = self.after[None, y : y + 1, x : x + 1], ("part", self.layer, 0, self.channel, y, x)
            canvas.maps(self.right + x * self.large, TOP + y * self.large, pixel, self.scale, self.large, [source])
            canvas.rule(*self._winner(y, x), self.small // 3, self.small // 3, "accent")
            if y != self.slow and x in spaced(columns, max(moves // 2, 1)):
                yield self._position(canvas, y, x, 60)
        yield self._position(canvas, self.slow, self.peak, 1500)

    def _background(self) -> Canvas:
        """What stays: words, the input, the scale."""
        canvas, (high, wide) = Canvas(WIDE, 540), self.after.shape
        window = times(pair(self.step.settings["kernel_size"]))
        change = f"channel {self.channel}: {times(self.before.shape)} in, {times(self.after.shape)} out"
        heading = f"{self.layer}: each {window} window hands on its largest value"
        title(canvas, heading, f"{change}; no weights, only a choice")
        canvas.text(EDGE, TOP - 4, "before", anchor="ls")
        canvas.text(self.right, TOP - 4, "after", anchor="ls")
        canvas.maps(EDGE, TOP, self.before[None], self.scale, self.small, [("into", self.layer, 0, self.channel)])
        canvas.fill(self.right, TOP, wide * self.large, high * self.large, "shade")
        below = TOP + self.before.shape[0] * self.small + 16
        canvas.scale(EDGE, below, self.scale, words="the same scale for both maps")
        footer(canvas, "Green corners mark the winners: which pixel won is read from the recorded pass.")
        return canvas

    def _window(self, y: int, x: int) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of a window, inside the map."""
        settings, (rows, columns) = self.step.settings, self.before.shape
        (down, across), (tall, wide) = pair(settings["stride"]), pair(settings["kernel_size"])
        (above, _), (beside, _) = margins(settings)
        top, left = y * down - above, x * across - beside
        return max(top, 0), max(left, 0), min(top + tall, rows), min(left + wide, columns)

    def _winner(self, y: int, x: int) -> tuple[int, int]:
        """Where the winning pixel is drawn."""
        return EDGE + self.won_x[y][x] * self.small, TOP + self.won_y[y][x] * self.small

    def _position(self, canvas: Canvas, y: int, x: int, ms: int, way: float | None = None) -> Frame:
        """One window with its numbers; with a share of the way, its winner on the way across."""
        sheet, small, large = canvas.copy(), self.small, self.large
        top, left, bottom, right = self._window(y, x)
        goal = self.right + x * large, TOP + y * large
        sheet.box(EDGE + left * small, TOP + top * small, (right - left) * small, (bottom - top) * small)
        sheet.box(*goal, large, large)
        self._numbers(sheet, y, x)
        if way is not None:
            start, end = np.array(self._winner(y, x)), np.array(goal) + (large - small) // 2
            left, top = (int(v) for v in (start + (end - start) * way).round())
            sheet.maps(left, top, self.after[y, x].reshape(1, 1, 1), self.scale, small)
            sheet.box(left, top, small, small, thick=2)
        return sheet.frame(ms)

    def _numbers(self, sheet: Canvas, y: int, x: int) -> None:
        """The window's numbers, the winner framed, and what it hands on."""
        top, left, bottom, right = self._window(y, x)
        room = self.right - EDGE - self.before.shape[1] * self.small - 24  # between the maps
        cell = min(70, room // (right - left))
        corner, line = self.middle - (right - left) * cell // 2, min(40, 100 // (bottom - top))
        sheet.fill(corner, self.top, (right - left) * cell, (bottom - top) * line, "shade")
        for i, j in np.ndindex(bottom - top, right - left):
            unit, value = (top + i, left + j), float(self.before[top + i, left + j])
            won, at_x, at_y = unit == (self.won_y[y][x], self.won_x[y][x]), corner + j * cell, self.top + i * line
            size = next((s for s in (19, 14) if width_of(short(value), s, bold=True) <= cell - 14 * (s > 14)), 10)
            source: Source = ("into", self.layer, 0, self.channel, *unit)
            sheet.number(at_x + cell // 2, at_y + line // 2, value, source, anchor="mm", size=size, bold=won)
            if won:
                sheet.box(at_x + 4, at_y + 4, cell - 8, line - 8)
        below = self.top + (bottom - top) * line
        sheet.arrow((self.middle, below + 14), (self.middle, below + 54), "faint", 3)
        sheet.text(self.middle + 14, below + 34, "max", 17, "faint", "lm")
        source = (self.layer, 0, self.channel, y, x)
        sheet.number(self.middle, below + 78, float(self.after[y, x]), source, anchor="mm", size=24, bold=True)
