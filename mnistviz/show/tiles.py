"""Pictures of numbers on an axes: a digit in grey levels, many small maps as one image, the cells of a flat layer."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from mnistviz.show.colours import FAINT, INK, RULE
from mnistviz.show.picture import bare
from mnistviz.show.scales import Scale, array, short

GREY_LEVELS = "Grey levels: 0 black, 255 white, one scale for all."
SIDE = 28  # image pixels a small map is enlarged to, so that gaps and labels look alike for all sizes


def draw_grey(axes: Axes, image: Any, title: str = "", white: float = 1.0, **place: Any) -> AxesImage:
    """A digit, or a sheet of digits, in grey levels from 0, black; where there are several channels, their mean."""
    x = array(image)
    x = x[0].mean(0) if x.ndim == 4 and x.shape[1] > 1 else x.reshape(x.shape[-2:])
    axes.set_title(title)
    return bare(axes).imshow(x, cmap="gray", vmin=0, vmax=white, interpolation="nearest", **place)


def draw_map(axes: Axes, values: Any, scale: Scale) -> None:
    """A map in the colours of a scale; where zero is white, a thin line says where it ends."""
    bare(axes).imshow(scale.rgb(values), interpolation="nearest")
    if scale.signed:
        axes.spines[:].set(visible=True, color=RULE, linewidth=0.7)


def outline(axes: Axes, corners: Iterable[tuple[int, int]], width: int, height: int) -> None:
    """Thin lines that say where pictures end; each begins at a corner (x, y)."""
    around = [Rectangle((x - 0.5, y - 0.5), width, height) for x, y in corners]
    axes.add_collection(PatchCollection(around, facecolor="none", edgecolor=RULE, linewidth=0.7, clip_on=False))


def frame(axes: Axes, top: int, left: int, height: int, width: int, colour: str, line: float = 2.0) -> None:
    """A frame around these pixels of a picture."""
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=line))


def mosaic(
    rows: Sequence[Sequence[np.ndarray]], columns: int, gap: int | tuple[int, int] = 2, paper: Any = 255.0
) -> np.ndarray:
    """Rows of equal pictures, grey or RGB, as one array, `gap` pixels of paper between; short rows end in paper."""
    height, width, *colour = next(image for row in rows for image in row).shape
    below, beside = (gap, gap) if isinstance(gap, int) else gap
    down, across = height + below, width + beside
    canvas = np.full((len(rows) * down - below, columns * across - beside, *colour), paper, dtype=np.float32)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            canvas[r * down : r * down + height, c * across : c * across + width] = image
    return canvas


def tile_maps(
    axes: Axes, maps: np.ndarray, scale: Scale, columns: int, labels: Sequence[str] = (), room: float = 0.26
) -> tuple[int, int]:
    """Draw maps (K, H, W) in rows of `columns`, labels above; a constant map is flat and says so.

    Labels have `room`, as a share of a map's height. With a scale of scope "map" each is coloured by its own range,
    which its label then states. Returns how far one lies from the next, downwards and across.
    """
    maps = array(maps)
    count, height, width = maps.shape
    zoom = max(1, SIDE // max(height, width)) if count <= 256 else 1
    height, width = height * zoom, width * zoom
    gap = (max(1, round(height * (room if len(labels) else 0.08))), max(1, round(width * 0.1)))
    down, across = height + gap[0], width + gap[1]
    scales = [Scale.over([m], "map") for m in maps] if scale.scope == "map" else [scale] * count
    pictures = [s.rgb(m).repeat(zoom, axis=0).repeat(zoom, axis=1) for s, m in zip(scales, maps, strict=True)]
    sheet = mosaic([pictures[i : i + columns] for i in range(0, count, columns)], columns, gap, paper=1.0)
    bare(axes).imshow(sheet, interpolation="nearest")
    places = [divmod(i, columns) for i in range(count)]
    if scale.signed:  # zero is white: where would a map end?
        outline(axes, [(c * across, r * down) for r, c in places], width, height)
    words: dict[str, Any] = {"fontsize": 9, "color": FAINT, "va": "bottom", "ha": "left", "in_layout": False}
    for (row, column), picture, label, own, values in zip(places, pictures, labels, scales, maps, strict=False):
        x, y = column * across - 0.5, row * down - height * 0.03
        if values.size > 1 and values.min() == values.max():
            middle = {"color": "white" if picture.mean() < 0.5 else INK, "va": "center", "ha": "center"}
            axes.text(x + width / 2, y + height / 2, f"constant\n{short(values.flat[0])}", **(words | middle))
        elif scale.scope == "map":
            label = f"{label}  {'±' if own.signed else 'to '}{short(own.high)}"
        axes.text(x, y, label, **words)
    if len(labels):
        axes.set_ylim(len(sheet) - 0.5, -gap[0] - 0.5)
    return down, across


def tile_cells(axes: Axes, values: np.ndarray, scale: Scale, columns: int) -> None:
    """Draw the values of a flat layer as cells, row by row; the last row ends in paper."""
    cells = np.full((-(-values.size // columns), columns), np.nan)
    cells.flat[: values.size] = values.ravel()
    sheet = scale.rgb(cells)
    sheet.reshape(-1, 3)[values.size :] = 1.0
    bare(axes).imshow(sheet, interpolation="nearest")
