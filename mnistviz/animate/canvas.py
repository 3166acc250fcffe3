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
from mnistviz.animate.palette import INKS, PAPER
from mnistviz.errors import MnistvizError, choose
from mnistviz.show.scales import Scale, array, short

FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
FINE = 4  # lines are drawn this many times larger, then averaged, which makes their edges soft

# Where numbers come from, as a tuple. ("relu1", 0, 3) is the result of layer relu1 at [0, 3]: the first digit's map 3.
# In the same way ("input", n, c), ("into", layer, n, c), ("padded", layer, n, c), ("weight", layer, o, i), ("bias",
# layer, o). ("part", layer, n, …) begins at an index and is as large as the claim. ("probability", n, d) and ("right",)
# are shares; ("patch" | "kernel" | "products", layer, channel, y, x, i, row, column) one entry of a ledger, ("sum" |
# "others", layer, channel, y, x, i) the products of input channel i, or of all others, together.
Source = tuple[str | int, ...]


@dataclass(frozen=True, eq=False)
class Claim:
    """A part of a frame that stands for numbers: which ones, where, and on which scale (None: grey levels)."""

    source: Source  # see `Source`
    values: np.ndarray  # (H, W) as little squares; a single number, without sides, as text
    x: int
    y: int
    zoom: int = 0
    scale: Scale | None = None
    words: str = ""
    box: tuple[int, int, int, int] = (0, 0, 0, 0)  # what it covers: left, top, right, bottom

    def read(self, pixels: np.ndarray) -> np.ndarray:
        """What the frame shows there, in the middle of every little square, as values again; NaN beyond its edges."""
        starts = zip((self.y, self.x), self.values.shape, pixels.shape, strict=True)
        at = [(start + np.arange(n) * self.zoom + self.zoom // 2, end) for start, n, end in starts]
        (rows, inside_y), (columns, inside_x) = ((k.clip(0, end - 1), (k >= 0) & (k < end)) for k, end in at)
        shown = palette.values(pixels[np.ix_(rows, columns)], self.scale)
        return np.where(np.outer(inside_y, inside_x), shown, np.nan)


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

    # ── numbers ──────────────────────────────────────────────────────────────────────────────────────────

    def maps(
        self, x: int, y: int, maps: Any, scale: Scale | None, zoom: int, sources: Sequence[Source] = (),
        columns: int | None = None, gap: int | tuple[int, int] = 4,
    ) -> None:  # fmt: skip
        """Draw maps (K, H, W) in rows of `columns`, every value a square of `zoom` pixels."""
        given = array(maps)
        count, height, width = given.shape
        columns, (below, beside) = columns or count, (gap, gap) if isinstance(gap, int) else gap
        found = palette.indices(given, scale).repeat(zoom, 1).repeat(zoom, 2)
        down, across = height * zoom + below, width * zoom + beside
        self._forget(x, y, min(count, columns) * across - beside, -(-count // columns) * down - below)
        for k in range(count):
            left, top = x + k % columns * across, y + k // columns * down
            self._put(left, top, found[k])
            if len(sources):
                box = (left, top, left + width * zoom, top + height * zoom)
                self.claims.append(Claim(sources[k], given[k], left, top, zoom, scale, box=box))

    def cells(
        self, x: int, y: int, values: np.ndarray, scale: Scale | None, zoom: int, columns: int, layer: str
    ) -> None:
        """Draw the values of a flat layer as a block of squares, row by row as one reads."""
        for row, start in enumerate(range(0, len(values), columns)):
            part = values[start : start + columns].reshape(1, 1, -1)
            self.maps(x, y + row * zoom, part, scale, zoom, [("part", layer, 0, start)])

    def number(self, x: int, y: int, value: float, source: Source, said: str = "", **style: Any) -> None:
        """Write a number, and remember which it is; `said` is how it reads, by default as short as can be."""
        words = said or short(float(value))
        left, top, soft = self.text(x, y, words, **style)
        box = (left, top, left + soft.shape[1], top + soft.shape[0])
        self.claims.append(Claim(source, np.asarray(float(value)), x, y, words=words, box=box))

    def scale(self, x: int, y: int, scale: Scale, width: int = 220, size: int = 16, words: str = "") -> None:
        """A colour bar with its ends, and what it is a scale of."""
        ramp = palette.RAMPS[scale.signed]
        bar = ramp[(np.arange(width) * (len(ramp) - 1) / (width - 1)).round().astype(int)]
        self._put(x, y, np.repeat(bar[None], 14, 0))
        marks = [(x, scale.low, "l"), (x + width, scale.high, "r")]
        for left, value, side in [*marks, (x + width // 2, 0.0, "m")] if scale.signed else marks:
            self.text(left, y + 18, short(value), size, "faint", f"{side}a")
        self.text(x + width + 14, y + 7, words, size, "faint", "lm")

    # ── words and shapes ─────────────────────────────────────────────────────────────────────────────────

    def text(
        self, x: int, y: int, words: str, size: int = 18, ink: str = "ink", anchor: str = "la", bold: bool = False
    ) -> tuple[int, int, np.ndarray]:
        """Write a line; anchors are Pillow's: left middle right, ascender middle baseline. Returns where it stands."""
        soft, (left, top) = _letters(words, size, bold, anchor)
        self._blend(x + left, y + top, soft, ink)
        return x + left, y + top, soft

    def fill(self, x: int, y: int, width: int, height: int, ink: str = "white") -> None:
        """A plain rectangle; what it covers is no longer claimed."""
        self._forget(x, y, width, height)
        self._put(x, y, np.full((max(height, 0), max(width, 0)), _inks(ink)[-1]))

    def box(self, x: int, y: int, width: int, height: int, ink: str = "accent", thick: int = 3) -> None:
        """A frame around something, with a thin white edge so that it is seen on dark and light."""
        for out, line, colour in ((1, 1, "white"), (0, thick, ink)):
            left, top, wide, high = (
                x - thick - out,
                y - thick - out,
                width + 2 * (thick + out),
                height + 2 * (thick + out),
            )
            colour = _inks(colour)[-1]
            for part in ((left, top, wide, line), (left, top + high - line, wide, line),
                         (left, top, line, high), (left + wide - line, top, line, high)):  # fmt: skip
                self._put(part[0], part[1], np.full((part[3], part[2]), colour))

    def mark(self, x: int, y: int, side: int, ink: str = "accent") -> None:
        """A small square on top of a map, which goes on claiming what it shows."""
        self._put(x, y, np.full((side, side), _inks(ink)[-1]))

    def rule(self, x: int, y: int, width: int, height: int, ink: str = "white") -> None:
        """A thin plain strip between things; unlike `fill` it takes nothing back."""
        self._put(x, y, np.full((height, width), _inks(ink)[-1]))

    def bar(self, x: int, y: int, width: int, height: int, share: float, ink: str = "blue") -> None:
        """A bar filled to a share of its width, on a shaded ground."""
        self.fill(x, y, width, height, "shade")
        self.fill(x, y, round(width * min(max(0.0, share), 1.0)), height, ink)

    def line(
        self, points: Sequence[tuple[float, float]], ink: str = "ink", thick: float = 2, halo: bool = False
    ) -> None:
        """A line through points, its edges soft on paper; with a halo it is also seen on dark maps."""
        if halo:
            left, top, wide = coverage(points, thick + 4)
            self._put_where(left, top, wide > 127, PAPER)
        self._blend(*coverage(points, thick), ink)

    def weave(self, x: int, found: np.ndarray) -> None:
        """Lay palette numbers over the paper from the top at x; what is drawn already stays above."""
        under = np.full(found.shape, PAPER, np.uint8)  # beyond the edges nothing is drawn
        left, right = max(x, 0), max(min(x + found.shape[1], self.pixels.shape[1]), 0)
        rows = min(len(found), len(self.pixels))
        under[:rows, left - x : max(right, left) - x] = self.pixels[:rows, left : max(right, left)]
        self._put_where(x, 0, (found != PAPER) & (under == PAPER), found)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], ink: str = "faint", thick: float = 2) -> None:
        """A line with a head at its end."""
        way = np.subtract(end, start)
        ahead = way / (np.hypot(*way) or 1.0)
        aside = np.array([-ahead[1], ahead[0]])
        neck = np.asarray(end) - ahead * thick * 4
        self.line([start, tuple(neck)], ink, thick)
        wings = [tuple(neck + aside * thick * 2.2), end, tuple(neck - aside * thick * 2.2)]
        self._blend(*coverage(wings, 0), ink)

    # ── pixels ───────────────────────────────────────────────────────────────────────────────────────────

    def _put(self, x: int, y: int, found: np.ndarray) -> None:
        """Copy palette numbers, cut off at the edges of the canvas."""
        left, top = max(x, 0), max(y, 0)
        target = self.pixels[top : max(y + found.shape[0], 0), left : max(x + found.shape[1], 0)]
        target[...] = found[top - y : top - y + target.shape[0], left - x : left - x + target.shape[1]]

    def _put_where(self, x: int, y: int, mask: np.ndarray, found: Any) -> None:
        left, top = max(x, 0), max(y, 0)
        target = self.pixels[top : max(y + mask.shape[0], 0), left : max(x + mask.shape[1], 0)]
        cut = (slice(top - y, top - y + target.shape[0]), slice(left - x, left - x + target.shape[1]))
        target[mask[cut]] = found if np.ndim(found) == 0 else found[cut][mask[cut]]

    def _blend(self, x: int, y: int, soft: np.ndarray, ink: str) -> None:
        """Draw in an ink as strongly as `soft` says, 0 to 255."""
        ramp = _inks(ink)
        step = (soft.astype(np.uint16) * (len(ramp) - 1) + 127) // 255
        self._put_where(x, y, step > 0, ramp[step])

    def _forget(self, x: int, y: int, width: int, height: int) -> None:
        """What is painted over is claimed no longer."""

        def apart(claim: Claim) -> bool:
            left, top, right, bottom = claim.box
            return right <= x or bottom <= y or left >= x + width or top >= y + height

        if width > 0 and height > 0:
            self.claims = [claim for claim in self.claims if apart(claim)]


def ease(moves: int) -> list[float]:
    """Shares of a way, slow at both ends: the last is 1. `ease(1)` is `[1.0]`, a jump."""
    if moves < 1:
        raise MnistvizError("frames for a movement", given=moves, allowed="1 or more")
    return [t * t * (3 - 2 * t) for t in np.linspace(0, 1, moves + 1)[1:].tolist()]


def coverage(points: Sequence[tuple[float, float]], thick: float) -> tuple[int, int, np.ndarray]:
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
def _letters(words: str, size: int, bold: bool, anchor: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Soft letters, 0 to 255, and where they begin, seen from the anchor."""
    font = _font(size, bold)
    left, top, right, bottom = font.getbbox(words or " ", anchor=anchor)
    sheet = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(sheet).text((-left, -top), words, 255, font, anchor=anchor)
    return np.asarray(sheet), (int(left), int(top))


@lru_cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"  # ships with matplotlib: the same letters everywhere
    return ImageFont.truetype(str(FONTS / name), size, layout_engine=ImageFont.Layout.BASIC)


def width_of(words: str, size: int = 18, bold: bool = False) -> int:
    """How many pixels a line of text takes."""
    return round(_font(size, bold).getlength(words))


def _inks(name: str) -> np.ndarray:
    return choose("ink", name, INKS)
