"""The page every figure is drawn on: its type, its colours, its alt text, its file."""

import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from mnistviz import project
from mnistviz.show.colours import FAINT, HOUSE, RULE
from mnistviz.show.png import encoded, indexed

P = ParamSpec("P")

NARROWEST = 5.0  # inches: on less, captions are columns of three words, and titles run over the edge
STYLE = mpl.rc_params_from_file(Path(__file__).with_name("house.mplstyle"), use_default_template=False)


class Picture(Figure):
    """A figure that knows what it shows: `picture.alt`, and `picture.save("confusion_matrix.png")`.

    It is made without pyplot, so it is never in `plt.get_fignums()` and needs no closing. In a
    notebook it displays as a PNG that carries its alt text.
    """

    alt: str = ""

    def caption(self, text: str) -> None:
        """A line or two under the whole page: what the colours mean and over what they are scaled."""
        lines = textwrap.fill(text, int(self.get_figwidth() * 14))  # 14 letters an inch fit at this size
        self.supxlabel(lines, x=0.01, ha="left", fontsize=9, color=FAINT)

    def told(self, alt: str) -> "Picture":
        """The picture itself, told in words to those who do not see it."""
        self.alt = alt
        return self

    def save(self, path: str | Path) -> Path:
        """Write a PNG, whole or not at all; the alt text is kept inside the file too."""
        project.write_bytes(path, self._png())
        return Path(path)

    def _png(self) -> bytes:
        canvas = FigureCanvasAgg(self)
        with mpl.rc_context(STYLE):  # what is made only while drawing belongs to the house as well
            canvas.draw()
        picture = indexed(np.asarray(canvas.buffer_rgba())[..., :3], self._data_colours())
        return encoded(picture, self.alt, optimize=True, dpi=(self.dpi, self.dpi))

    def _data_colours(self) -> np.ndarray:
        """The colours of images, cells, colour bars and the house, (K, 3): they have a meaning, and are not touched."""
        drawn = [part for axes in self.axes for part in (*axes.images, *axes.collections)]
        values = [(part, part.get_array()) for part in drawn if isinstance(part, AxesImage | QuadMesh)]
        colours = [part.to_rgba(x, bytes=True)[..., :3].reshape(-1, 3) for part, x in values if x is not None]
        house = to_rgba_array(HOUSE)[:, :3] * 255
        return np.unique(np.concatenate([house.round().astype(np.uint8), *colours]), axis=0)

    def _ipython_display_(self) -> None:
        """Shown as below also where pyplot is in use: IPython would then draw a figure its own way."""
        from IPython.display import display

        data, about = self._repr_mimebundle_()
        display(data, metadata=about, raw=True)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        width, height = self.get_size_inches() * 72
        about = {"alt": self.alt, "width": round(width), "height": round(height)}
        return {"image/png": self._png(), "text/plain": f"Picture: {self.alt}"}, {"image/png": about}


def styled(draw: Callable[P, Picture]) -> Callable[P, Picture]:
    """`styled(draw)`: the same figure function, in the house style, which leaves everybody else's alone."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with mpl.rc_context(STYLE):
            return _settled(draw(*args, **kwargs))

    return wrapped


def _settled(picture: Picture) -> Picture:
    """Lay the page out once and for all: matplotlib would move things a little at every drawing."""
    engine = picture.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        for _ in range(3):  # by then it has come to rest
            engine.execute(picture)
        picture.set_layout_engine("none")
    return picture


def page(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Picture, Any]:
    """`picture, axes = page(8, 3, columns=2)`: an empty page, sizes in inches; what is narrow stands at its left."""
    layout = ConstrainedLayoutEngine(rect=(0, 0, min(width / NARROWEST, 1), 1))
    picture = Picture(figsize=(max(width, NARROWEST), height), layout=layout)
    return picture, picture.subplots(rows, columns, **grid)


def only(axes: np.ndarray, count: int) -> list[Axes]:
    """The first `count` of a page's axes, row by row; the others are left blank."""
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return list(axes.flat[:count])


def bare(axes: Axes) -> Axes:
    """An axes that carries only a picture: no ticks, no frame, no grid."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return axes


def beside(axes: Axes, name: str, size: float = 10.5) -> None:
    """What a row of pictures is called, written at the left of its first."""
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=size)


def names_down(*axes: Axes) -> None:
    """The y axis of lying bars, or that of several axes: names from top to bottom, without lines or ticks."""
    axes[0].invert_yaxis()
    for ax in axes:
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)


def shares_on(axis: Axis, decimals: int | None = 0) -> None:
    """Shares are written as `25%` on this axis."""
    axis.set_major_formatter(PercentFormatter(1, decimals))


def colour_bar(drawn: ScalarMappable, axes: Axes | Sequence[Axes], **place: Any) -> Colorbar:
    """A colour bar beside the axes, or beside several that share its colours."""
    first = axes if isinstance(axes, Axes) else axes[0]
    bar = first.figure.colorbar(drawn, ax=axes, **({"fraction": 0.03, "pad": 0.015} | place))
    bar.outline.set_visible(False)  # type: ignore[operator]
    return bar


def an(name: object) -> str:
    """`an(7)` is "a 7", and `an(8)` is "an 8"."""
    return f"an {name}" if str(name)[:1] == "8" else f"a {name}"


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
    return picture.told(text)
