"""Where a layer puts the digits of a whole set: many activations brought down to two."""

import numpy as np
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from mnistviz.errors import refuse
from mnistviz.learn.data import Digits
from mnistviz.look.projection import Projection, project
from mnistviz.show.picture import Picture, bare, page, percent


def embedding(
    features: Tensor,
    digits: Digits,
    method: str = "pca",
    thumbnails: int = 28,
    seed: int = 0,
    perplexity: float | None = None,
) -> Picture:
    """`embedding(trace["relu6"].output, digits, "tsne")`: each digit where its activations put it, on a plane."""
    labels = digits.known_labels().cpu().numpy()
    given = f"{len(features)} rows, {len(digits)} digits"
    refuse(len(features) != len(digits), "one row of features per digit is needed", given=given)
    projection = project(features, method, seed, perplexity)
    (points,) = projection.points
    picture, ax = page(6.8, 5.6)
    bare(ax)
    for d in range(10):
        group, colour = points[labels == d], f"C{d}"
        ax.scatter(group[:, 0], group[:, 1], s=13, color=colour, alpha=0.65, linewidths=0)
        if len(group):
            ring = {"boxstyle": "circle,pad=0.18", "facecolor": "white", "alpha": 0.85, "edgecolor": colour}
            name = {"fontsize": 17, "fontweight": "bold", "ha": "center", "va": "center", "bbox": ring}
            ax.annotate(str(d), np.median(group, axis=0), **name)
    for i in _apart(points, thumbnails):
        ink = digits.images[i].cpu().numpy()
        stamp = OffsetImage(np.dstack([255 - ink] * 3 + [ink]), zoom=0.54, interpolation="nearest")
        ax.add_artist(AnnotationBbox(stamp, points[i], frameon=False, zorder=2))
    ax.margins(0.04)
    method, count = _described(projection), f"{len(digits):,} digits"
    picture.caption(f"{count} of {digits.source}. {method}. Colours and numbers: the true digit.")
    return picture.told(f"{count} as points in two dimensions, coloured by class, with thumbnails. {method}.")


def _described(projection: Projection) -> str:
    """What the plane holds, and what may be read from it."""
    if projection.perplexity is not None:
        nearby = "neighbours mean something, distances between groups nothing"
        return f"t-SNE, perplexity {projection.perplexity:.3g}: {nearby}"
    if projection.held is None:
        return "PCA: all rows are equal, there is no variance"
    return f"PCA: the two directions hold {percent(projection.held)} of the variance"


def _apart(points: np.ndarray, count: int) -> list[int]:
    """Rows that lie far from one another: each time the one farthest from those already taken."""
    chosen: list[int] = []
    distance = np.full(len(points), np.inf)
    for _ in range(min(count, len(points))):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
    return chosen
