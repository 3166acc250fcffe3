"""The figure of decisions on a plane: what a network of two inputs answers at every point."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from mnistviz.errors import MnistvizError
from mnistviz.show.picture import BLUE, INK, ORANGE, Picture, bare, caption, page, styled
from mnistviz.show.scales import SIGNED, array


@styled
def decisions(points: Tensor, labels: Tensor, answers: Mapping[str, Tensor], reach: float = 3.0) -> Picture:
    """`decisions(points, labels, {"with ReLU": p})`: p, (G, G), is the probability of class 1 on a grid.

    The grid runs from -reach to reach, its rows along y from below, its columns along x.
    """
    x, y = array(points), array(labels)
    grids = {name: array(p) for name, p in answers.items()}
    if x.ndim != 2 or x.shape[1] != 2 or len(x) != len(y) or any(g.ndim != 2 for g in grids.values()) or not grids:
        raise MnistvizError(
            "these are not decisions on a plane",
            given=f"points {x.shape}, labels {y.shape}, grids {[g.shape for g in grids.values()]}",
            allowed="points (N, 2), labels (N,), at least one grid (G, G)",
        )
    picture, axes = page(4.3 * len(grids) + 0.4, 4.9, columns=len(grids), squeeze=False)
    for ax, (name, grid) in zip(axes[0], grids.items(), strict=True):
        extent = (-reach, reach, -reach, reach)
        colours = SIGNED(0.32 + 0.36 * grid)  # light enough for the points to stand out
        bare(ax).imshow(colours, origin="lower", extent=extent, interpolation="nearest")
        if grid.min() < 0.5 < grid.max():
            ax.contour(np.linspace(-reach, reach, grid.shape[1]), np.linspace(-reach, reach, grid.shape[0]), grid,
                       levels=[0.5], colors=[INK], linewidths=1.6)  # fmt: skip
        for value, colour, mark in ((0, BLUE, "o"), (1, ORANGE, "^")):
            mine = x[y == value]
            ax.scatter(mine[:, 0], mine[:, 1], s=16, color=colour, marker=mark, edgecolors="white", linewidths=0.5)
        ax.set(title=name, xlim=(-reach, reach), ylim=(-reach, reach))
    caption(
        picture, "Background: probability of a triangle, from 0, blue, to 1, orange. The line is where it is one half."
    )
    picture.alt = f"{len(x)} points of two classes on a plane and the regions answered by: {', '.join(grids)}."
    return picture
