"""What a frame is composed on: a sheet of palette numbers that remembers what it claims to show."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mnistviz.animate import palette
from mnistviz.animate.palette import INKS, PAPER, Shades
from mnistviz.errors import choose, refuse
from mnistviz.show.scales import Scale, array, short

FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
FINE = 4  # lines are drawn this many times larger, then averaged, which makes their edges soft

# Where numbers come from, as a tuple. ("relu1", 0, 3) is the result of layer relu1 at [0, 3]: the first digit's map 3.
# In the same way ("input", n, c), ("into", layer, n, c), ("padded", layer, n, c), ("weight", layer, o, i, …), ("bias",
# layer, o). ("part", layer, n, …) begins at an index and is as large as the claim. ("probability", n, d) and ("right",)
# are shares; ("patch" | "kernel" | "products", layer, channel, y, x, i, row, column) one entry of a ledger, ("sum" |
# "others", layer, channel, y, x, i) the products of input channel i, or of all others, together. Of the way back are
# ("loss",), ("delta", layer or "input", n, c), ("gradient", layer, o, i, …); behind "after" all are as after a step.
Source = tuple[str | int, ...]
Sources = Sequence[Source]
Point = tuple[float, float]
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, eq=False)
class Claim:
    """A part of a frame that stands for numbers: which ones, where, and on which scale."""

    source: Source  # see `Source`
    values: np.ndarray  # (H, W) as little squares; a single number, without sides, as text
    x: int
    y: int
    zoom: int = 0
    scale: Shades = None
    words: str = ""
    box: Box = (0, 0, 0, 0)  # what it covers

    def read(self, pixels: np.ndarray) -> np.ndarray:
        """What the frame shows there, in the middle of every little square, as values again; NaN beyond its edges."""
        (high, wide), (height, width) = self.values.shape, pixels.shape
        rows = self.y + np.arange(high) * self.zoom + self.zoom // 2
        columns = self.x + np.arange(wide) * self.zoom + self.zoom // 2
        inside = np.outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
        shown = pixels[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
        return np.where(inside, palette.values(shown, self.scale), np.nan)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a film: palette numbers, how long it stands, and what it claims about which record."""

    pixels: np.ndarray  # (H, W) uint8
    ms: int
    claims: tuple[Claim, ...] = ()
    of: int = 0  # the number of the digit, or of the moment in a training


class Canvas:
    """`canvas = Canvas(960, 540); canvas.text(20, 20, "conv1"); yield canvas.frame(100)`

    Coordinates are pixels from the top left. Whatever is drawn stays, so a scene draws only what changes.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.full((height, width), PAPER, np.uint8)
        self.claims: list[Claim] = []

    def copy(self) -> "Canvas":
        """The same again, to draw on for one frame only."""
        twin = Canvas(0, 0)
        twin.pixels, twin.claims = self.pixels.copy(), self.claims.copy()
        return twin

    def frame(self, ms: int, of: int = 0) -> Frame:
        return Frame(self.pixels.copy(), ms, tuple(self.claims), of)

    def maps(
        self, x: int, y: int, maps: Any, scale: Shades, zoom: int, sources: Sources = (), columns: int = 0, gap: int = 4
    ) -> None:
        """Draw maps (K, H, W) in rows of `columns`, every value a square of `zoom` pixels."""
        values = array(maps)
        count, height, width = values.shape
        columns = columns or count
        pixels = palette.indices(values, scale).repeat(zoom, 1).repeat(zoom, 2)
        down, across = height * zoom + gap, width * zoom + gap
        self._forget(x, y, min(count, columns) * across - gap, -(-count // columns) * down - gap)
        for k in range(count):
            left, top = x + k % columns * across, y + k // columns * down
            self._put(left, top, pixels[k])
            if len(sources):
                box = (left, top, left + width * zoom, top + height * zoom)
                self.claims.append(Claim(sources[k], values[k], left, top, zoom, scale, box=box))

    def number(self, x: int, y: int, value: float, source: Source, words: str = "", **style: Any) -> None:
        """Write a number, and remember which it is; `words` is how it reads, by default as short as can be."""
        words = words or short(float(value))
        box = self.text(x, y, words, **style)
        self.claims.append(Claim(source, np.asarray(float(value)), x, y, words=words, box=box))

    def scale(self, x: int, y: int, scale: Scale, width: int = 220, words: str = "") -> None:
        """A colour bar with its ends, and what it is a scale of."""
        ramp = palette.RAMPS[scale.signed]
        bar = ramp[(np.arange(width) * (len(ramp) - 1) / (width - 1)).round().astype(int)]
        self._put(x, y, np.repeat(bar[None], 14, 0))
        self.text(x, y + 18, short(scale.low), 16, "faint", "la")
        self.text(x + width, y + 18, short(scale.high), 16, "faint", "ra")
        if scale.signed:
            self.text(x + width // 2, y + 18, "0", 16, "faint", "ma")
        self.text(x + width + 14, y + 7, words, 16, "faint", "lm")

    def text(
        self, x: int, y: int, words: str, size: int = 18, ink: str = "ink", anchor: str = "la", bold: bool = False
    ) -> Box:
        """Write a line; anchors are Pillow's: left middle right, ascender middle baseline. Returns what it covers."""
        letters, dx, dy = _letters(words, size, bold, anchor)
        self._blend(x + dx, y + dy, letters, ink)
        return x + dx, y + dy, x + dx + letters.shape[1], y + dy + letters.shape[0]

    def fill(self, x: int, y: int, width: int, height: int, ink: str = "white") -> None:
        """A plain rectangle; what it covers is no longer claimed."""
        self._forget(x, y, width, height)
        self.rule(x, y, max(width, 0), max(height, 0), ink)

    def rule(self, x: int, y: int, width: int, height: int, ink: str = "white") -> None:
        """A plain rectangle like `fill`, for strips and marks: what it covers goes on being claimed."""
        self._put(x, y, np.full((height, width), choose("ink", ink, INKS)[-1]))

    def box(self, x: int, y: int, width: int, height: int, ink: str = "accent", thick: int = 3) -> None:
        """A frame around something, with a thin white edge so that it is seen on dark and light."""
        for reach, line, colour in ((thick + 1, 1, "white"), (thick, thick, ink)):
            left, top, wide, high = x - reach, y - reach, width + 2 * reach, height + 2 * reach
            self.rule(left, top, wide, line, colour)
            self.rule(left, top + high - line, wide, line, colour)
            self.rule(left, top, line, high, colour)
            self.rule(left + wide - line, top, line, high, colour)

    def bar(self, x: int, y: int, width: int, height: int, share: float, ink: str = "blue") -> None:
        """A bar filled to a share of its width, on a shaded ground."""
        self.fill(x, y, width, height, "shade")
        self.fill(x, y, round(width * min(max(0.0, share), 1.0)), height, ink)

    def line(self, points: Sequence[Point], ink: str = "ink", thick: float = 2, halo: bool = False) -> None:
        """A line through points, its edges soft on paper; with a halo it is also seen on dark maps."""
        if halo:
            left, top, wide = coverage(points, thick + 4)
            self._put(left, top, np.full(wide.shape, PAPER, np.uint8), wide > 127)
        self._blend(*coverage(points, thick), ink)

    def weave(self, sheet: np.ndarray, left: int, right: int) -> None:
        """Lay palette numbers for the whole canvas under what is drawn, from one column to another."""
        part = self.pixels[:, left:right]
        np.copyto(part, sheet[:, left:right], where=part == PAPER)

    def arrow(self, start: Point, end: Point, ink: str = "faint", thick: float = 2) -> None:
        """A line with a head at its end."""
        way = np.subtract(end, start)
        ahead = way / (np.hypot(*way) or 1.0)
        aside = np.array([-ahead[1], ahead[0]])
        neck = np.asarray(end) - ahead * thick * 4
        self.line([start, tuple(neck)], ink, thick)
        wings = [tuple(neck + aside * thick * 2.2), end, tuple(neck - aside * thick * 2.2)]
        self._blend(*coverage(wings, 0), ink)

    def _put(self, x: int, y: int, pixels: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Copy palette numbers, all or those under a mask, cut off at the edges of the canvas."""
        height, width = pixels.shape
        target = self.pixels[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
        top, left = max(-y, 0), max(-x, 0)  # of the pixels, what is inside
        inside = (slice(top, top + target.shape[0]), slice(left, left + target.shape[1]))
        np.copyto(target, pixels[inside], where=True if mask is None else mask[inside])

    def _blend(self, x: int, y: int, strength: np.ndarray, ink: str) -> None:
        """Draw in an ink, of each pixel as strongly as `strength` says, 0 to 255."""
        ramp = choose("ink", ink, INKS)
        step = (strength.astype(np.uint16) * (len(ramp) - 1) + 127) // 255
        self._put(x, y, ramp[step], step > 0)

    def _forget(self, x: int, y: int, width: int, height: int) -> None:
        """What is painted over is claimed no longer."""

        def apart(claim: Claim) -> bool:
            left, top, right, bottom = claim.box
            return right <= x or bottom <= y or left >= x + width or top >= y + height

        if width > 0 and height > 0:
            self.claims = [claim for claim in self.claims if apart(claim)]


def ease(moves: int) -> list[float]:
    """Shares of a way, slow at both ends: the last is 1. `ease(1)` is `[1.0]`, a jump."""
    refuse(moves < 1, "frames for a movement", given=moves, allowed="1 or more")
    return [t * t * (3 - 2 * t) for t in np.linspace(0, 1, moves + 1)[1:].tolist()]


def coverage(points: Sequence[Point], thick: float) -> tuple[int, int, np.ndarray]:
    """How much of each pixel a line through points covers, 0 to 255, and where; of thickness 0 a filled polygon."""
    at = np.asarray(points, float)
    left, top = (int(n) for n in np.floor(at.min(0) - thick - 1))
    right, bottom = (int(n) for n in np.ceil(at.max(0) + thick + 2))
    sheet = Image.new("L", ((right - left) * FINE, (bottom - top) * FINE))
    corners = [(float(px), float(py)) for px, py in (at - (left, top)) * FINE]
    draw = ImageDraw.Draw(sheet)
    if thick:
        draw.line(corners, 255, round(thick * FINE), joint="curve")
    else:
        draw.polygon(corners, 255)
    return left, top, np.asarray(sheet.reduce(FINE))


@lru_cache(4096)
def _letters(words: str, size: int, bold: bool, anchor: str) -> tuple[np.ndarray, int, int]:
    """Soft letters, 0 to 255, and where they begin, seen from the anchor."""
    font = _font(size, bold)
    left, top, right, bottom = font.getbbox(words or " ", anchor=anchor)
    sheet = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(sheet).text((-left, -top), words, 255, font, anchor=anchor)
    return np.asarray(sheet), int(left), int(top)


@lru_cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"  # ships with matplotlib: the same letters everywhere
    return ImageFont.truetype(str(FONTS / name), size, layout_engine=ImageFont.Layout.BASIC)


def width_of(words: str, size: int = 18, bold: bool = False) -> int:
    """How many pixels a line of text takes."""
    return round(_font(size, bold).getlength(words))
