"""The page every figure is drawn on: its type, its colours, its alt text, its file."""

import io
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mnistviz import project

P = ParamSpec("P")

INK, FAINT, RULE = "#1d2433", "#667085", "#d8dce4"
BLUE, ORANGE, GREEN, RED = "#0065a3", "#d55e00", "#00795a", "#c22f1d"
COLOURS = (BLUE, ORANGE, GREEN, FAINT)  # of curves, which differ in marker or dash as well
RIGHT, WRONG = ("✓", GREEN), ("✗", RED)  # told by mark as well as colour
HOUSE = np.array([[round(255 * part) for part in to_rgb(c)] for c in (INK, FAINT, RULE, BLUE, ORANGE, GREEN, RED)],
                 np.uint8)  # fmt: skip
GREY = "gray"  # 0 is black paper, 255 is white ink, as the numbers say
PAPER = "grey levels: 0 black, 255 white, one scale for all"

STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same page everywhere
    "font.size": 10.5,
    "text.color": INK,
    "axes.titlesize": 11.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": INK,
    "axes.facecolor": "white",
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#eaecf1",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


class Picture(Figure):
    """A figure that knows what it shows: `picture.alt`, and `picture.save("confusion_matrix.png")`.

    It is made without pyplot, so it is never in `plt.get_fignums()` and needs no closing. In a
    notebook it displays as a PNG that carries its alt text.
    """

    alt: str = ""

    def save(self, path: str | Path) -> Path:
        """Write a PNG, whole or not at all, finer than on a page; the alt text is kept inside the file too."""
        on_page = self.dpi
        try:
            self.dpi = on_page * 1.5  # files end up on slides
            project.write_bytes(path, self._png())
        finally:
            self.dpi = on_page
        return Path(path)

    def _png(self) -> bytes:
        canvas, about, buffer = FigureCanvasAgg(self), PngInfo(), io.BytesIO()
        with mpl.rc_context(STYLE):  # what is made only while drawing belongs to the house as well
            canvas.draw()
        about.add_itxt("Description", self.alt)
        picture = indexed(np.asarray(canvas.buffer_rgba())[..., :3], self._data_colours())
        picture.save(buffer, "PNG", optimize=True, pnginfo=about, dpi=(self.dpi, self.dpi))
        return buffer.getvalue()

    def _data_colours(self) -> np.ndarray:
        """The colours of images, cells, colour bars and the house, (K, 3): they have a meaning, and are not touched."""
        drawn = [part for axes in self.axes for part in (*axes.images, *axes.collections)]
        values = [(part, part.get_array()) for part in drawn if isinstance(part, AxesImage | QuadMesh)]
        colours = [part.to_rgba(x, bytes=True)[..., :3].reshape(-1, 3) for part, x in values if x is not None]
        return np.unique(np.concatenate([HOUSE, *colours]), axis=0)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        width, height = self.get_size_inches() * 72
        about = {"alt": self.alt, "width": round(width), "height": round(height)}
        return {"image/png": self._png(), "text/plain": f"Picture: {self.alt}"}, {"image/png": about}


def indexed(pixels: np.ndarray, exact: np.ndarray) -> Image.Image:
    """The same picture in 256 colours, less than half the bytes, if the `exact` ones leave room for words and lines.

    Those stay as they are; only greys, where there are too many, give way to the nearest of 64. So do the
    most frequent of the others. The rest, from the soft edges of letters and lines, share what is left.
    """
    if len(exact) > 232:
        grey = (exact == exact[:, :1]).all(1)
        exact = np.concatenate([exact[~grey], np.linspace(0, 255, 64).round().astype(np.uint8)[:, None].repeat(3, 1)])
    if len(exact) > 232:
        return Image.fromarray(pixels)
    place = np.array([65536, 256, 1], np.uint32)
    colours, where, counts = np.unique(pixels.astype(np.uint32) @ place, return_inverse=True, return_counts=True)
    drawn = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)
    others = drawn[np.argsort(-np.where(np.isin(colours, exact.astype(np.uint32) @ place), 0, counts), kind="stable")]
    palette = np.concatenate([exact, others[: max(224 - len(exact), 0)]])
    rest = others[max(224 - len(exact), 0) :]
    if len(rest):
        mixed = Image.fromarray(rest[None]).quantize(256 - len(palette), Image.Quantize.MEDIANCUT)
        palette = np.concatenate([palette, np.array(mixed.getpalette(), np.uint8).reshape(-1, 3)])[:256]
    index = ((drawn[:, None].astype(np.int32) - palette) ** 2).sum(2).argmin(1)
    picture = Image.fromarray(index[where].reshape(pixels.shape[:2]).astype(np.uint8), "P")
    picture.putpalette(palette.tobytes())
    return picture


def styled(draw: Callable[P, Picture]) -> Callable[P, Picture]:
    """`@styled` on a figure function: it draws in the house style and leaves everybody else's alone."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with mpl.rc_context(STYLE):
            return _settled(draw(*args, **kwargs))

    return wrapped


def _settled(picture: Picture) -> Picture:
    """Lay the page out once and for all: matplotlib would move things a little at every drawing."""
    if isinstance(picture.get_layout_engine(), ConstrainedLayoutEngine):
        for _ in range(3):  # by then it has come to rest
            picture.draw_without_rendering()
        picture.set_layout_engine("none")
    return picture


def page(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Picture, Any]:
    """`picture, axes = page(8, 3, columns=2)`: an empty page, sizes in inches."""
    picture = Picture(figsize=(width, height), layout="constrained")
    return picture, picture.subplots(rows, columns, **grid)


def bare(axes: Axes) -> Axes:
    """An axes that carries only a picture: no ticks, no frame, no grid."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def caption(picture: Picture, text: str) -> None:
    """A line or two under the whole page: what the colours mean and over what they are scaled."""
    lines = textwrap.fill(text, int(picture.get_figwidth() * 14))  # 14 letters an inch fit at this size
    picture.supxlabel(lines, x=0.01, ha="left", fontsize=9, color=FAINT)


def mosaic(
    rows: Sequence[Sequence[np.ndarray]], columns: int, gap: int | tuple[int, int] = 2, paper: float = 255.0
) -> np.ndarray:
    """Rows of equal pictures, grey or RGB, as one array, `gap` pixels of paper between; short rows end in paper."""
    height, width, *colour = rows[0][0].shape
    below, beside = (gap, gap) if isinstance(gap, int) else gap
    down, across = height + below, width + beside
    canvas = np.full((len(rows) * down - below, columns * across - beside, *colour), paper, dtype=np.float32)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            canvas[r * down : r * down + height, c * across : c * across + width] = image
    return canvas


def percent(share: float) -> str:
    """Never rounds a doubt away: 99.97 % is not 100 %."""
    if share >= 0.9995:
        return ">99.9 %"
    return "<0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")


def notice(text: str) -> Picture:
    """A page that says in words that there is nothing to draw."""
    picture, axes = page(6.4, 1.2)
    bare(axes).text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_facecolor(RULE)
    picture.alt = text
    return picture
