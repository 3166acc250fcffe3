"""Where a layer puts the digits of a whole set: many activations brought down to two."""

import numpy as np
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from mnistviz.errors import MnistvizError, choose
from mnistviz.learn.data import Digits
from mnistviz.show.picture import Picture, bare, caption, page, percent, styled
from mnistviz.show.scales import array

METHODS = ("pca", "tsne")


def project(features: Tensor, method: str = "pca", seed: int = 0) -> tuple[np.ndarray, str]:
    """`points, said = project(trace["relu6"].output)`: two coordinates for every row, and how they were found."""
    choose("projection", method, dict.fromkeys(METHODS))
    table = array(features).reshape(len(features), -1) if len(features) else np.zeros((0, 0))
    if min(table.shape) < 2 or len(table) < 3 or not np.isfinite(table).all():
        raise MnistvizError(
            "these cannot be projected", given=f"{table.shape}, finite: {np.isfinite(table).all()}",
            allowed="3 or more rows of 2 or more finite numbers",
        )  # fmt: skip
    if method == "tsne":
        perplexity = min(30.0, (len(table) - 1) / 3)
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(table)
        said = f"t-SNE, perplexity {perplexity:.0f}: neighbours mean something, distances between groups nothing"
        return points, said
    if (table == table[0]).all():
        return np.zeros((len(table), 2)), "PCA: all rows are equal, there is no variance"
    pca = PCA(2, svd_solver="full")
    points = pca.fit_transform(table)
    return points, f"PCA: the two directions hold {percent(pca.explained_variance_ratio_.sum())} of the variance"


@styled
def embedding(features: Tensor, digits: Digits, method: str = "pca", thumbnails: int = 28, seed: int = 0) -> Picture:
    """`embedding(trace["relu6"].output, digits, "tsne")`: each digit where its activations put it, on a plane."""
    labels = digits.known_labels().cpu().numpy()
    if len(features) != len(digits):
        raise MnistvizError(
            "one row of features per digit is needed", given=f"{len(features)} rows, {len(digits)} digits"
        )
    points, said = project(features, method, seed)
    picture, ax = page(6.8, 5.6)
    bare(ax)
    for d in range(10):
        mine, ring = points[labels == d], {"boxstyle": "circle,pad=0.18", "facecolor": "white", "alpha": 0.85}
        ax.scatter(mine[:, 0], mine[:, 1], s=13, color=f"C{d}", alpha=0.65, linewidths=0)
        if len(mine):
            ax.annotate(str(d), np.median(mine, axis=0), fontsize=17, fontweight="bold", ha="center", va="center",
                        bbox=ring | {"edgecolor": f"C{d}"})  # fmt: skip
    for i in _spread(points, thumbnails):
        image = 255 - digits.images[int(i)].cpu().numpy()
        stamp = OffsetImage(np.dstack([image] * 3 + [255 - image]), zoom=0.54, interpolation="nearest")
        ax.add_artist(AnnotationBbox(stamp, points[i], frameon=False, zorder=2))
    ax.margins(0.04)
    caption(picture, f"{len(digits):,} digits of {digits.source}. {said}. Colours and numbers: the true digit.")
    picture.alt = f"{len(digits):,} digits as points in two dimensions, coloured by class, with thumbnails. {said}."
    return picture


def _spread(points: np.ndarray, count: int) -> list[int]:
    """Rows that lie far from one another: each time the one farthest from those already taken."""
    chosen: list[int] = []
    distance = np.full(len(points), np.inf)
    for _ in range(min(count, len(points))):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
    return chosen
