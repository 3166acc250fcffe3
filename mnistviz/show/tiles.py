"""Many small maps as one image: quick to draw, square pixels, a label above each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from mnistviz.show.picture import FAINT, INK, bare, mosaic
from mnistviz.show.scales import Scale, array, short

SIDE = 28  # image pixels a small map is enlarged to, so that gaps and labels look alike for all sizes


def tile_maps(
    axes: Axes, maps: np.ndarray, scale: Scale, columns: int, labels: Sequence[str] = (), size: float = 7
) -> tuple[int, int]:
    """Draw maps (K, H, W) in rows of `columns`, labels above; a constant map is flat and says so.

    With a scale of scope "map" each is coloured by its own range, which its label then states. Returns how far
    one map lies from the next, downwards and across.
    """
    maps = array(maps)
    count, height, width = maps.shape
    zoom = max(1, SIDE // max(height, width)) if count <= 256 else 1
    height, width = height * zoom, width * zoom
    gap = (max(1, round(height * (0.22 if len(labels) else 0.08))), max(1, round(width * 0.1)))
    own = [Scale.over([m], "map") for m in maps] if scale.scope == "map" else [scale] * count
    pictures = [enlarged(s.rgb(m), zoom) for s, m in zip(own, maps, strict=True)]
    sheet = mosaic([pictures[i : i + columns] for i in range(0, count, columns)], columns, gap, paper=1.0)
    bare(axes).imshow(sheet, interpolation="nearest")
    for i, (label, one, values) in enumerate(zip(labels, own, maps, strict=False)):
        row, column = divmod(i, columns)
        x, y = column * (width + gap[1]) - 0.5, row * (height + gap[0]) - height * 0.03
        if values.size > 1 and values.min() == values.max():
            ink = "white" if pictures[i].mean() < 0.5 else INK
            said = f"constant\n{values.flat[0]:.2f}"
            axes.text(
                x + width / 2,
                y + height / 2,
                said,
                fontsize=size - 0.5,
                color=ink,
                va="center",
                ha="center",
                in_layout=False,
            )
        elif scale.scope == "map":
            label = f"{label}  {'±' if one.signed else 'to '}{short(one.high)}"
        axes.text(x, y, label, fontsize=size, color=FAINT, va="bottom", ha="left", in_layout=False)
    if len(labels):
        axes.set_ylim(len(sheet) - 0.5, -gap[0] - 0.5)
    return height + gap[0], width + gap[1]


def tile_cells(axes: Axes, values: np.ndarray, scale: Scale, columns: int) -> None:
    """Draw the values of a flat layer as cells, row by row; the last row ends in paper."""
    cells = np.full((-(-values.size // columns), columns), np.nan)
    cells.flat[: values.size] = values.ravel()
    sheet = scale.rgb(cells)
    sheet.reshape(-1, 3)[values.size :] = 1.0
    bare(axes).imshow(sheet, interpolation="nearest")


def enlarged(picture: np.ndarray, zoom: int) -> np.ndarray:
    """Every pixel as a square of `zoom` by `zoom`."""
    return picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
