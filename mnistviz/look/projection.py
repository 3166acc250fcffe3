"""Many activations brought down to two coordinates: PCA, fitted once, or t-SNE."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mnistviz.errors import choose, refuse


@dataclass(frozen=True, eq=False)
class Projection:
    """Two coordinates for every row of activations, and what they hold."""

    method: str
    points: list[np.ndarray]  # (N, 2) for each set of rows
    held: float | None = None  # pca: the share of the fitted rows' variance that the plane holds
    perplexity: float | None = None  # tsne: how many neighbours count; 30, or a third of few rows


def project(
    features: Tensor | Sequence[Tensor], method: str = "pca", seed: int = 0, perplexity: float | None = None
) -> Projection:
    """`project(trace["relu6"].output).points[0]`: a plane for the rows of a layer, (N, 2).

    Several sets of rows, one for each moment of a training, share one plane: that of the last.
    """
    choose("projection", method, dict.fromkeys(("pca", "tsne")))
    sets = [features] if isinstance(features, Tensor) else list(features)
    tables = [f.detach().cpu().double().flatten(1).numpy() if len(f) else np.zeros((0, 0)) for f in sets]
    last, finite = tables[-1], all(np.isfinite(table).all() for table in tables)
    few, given = min(last.shape) < 2 or len(last) < 3, f"{last.shape}, finite: {finite}"
    allowed = "3 or more rows of 2 or more finite numbers"
    refuse(few or not finite, "these cannot be projected", given=given, allowed=allowed)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(last) - 1) / 3) if perplexity is None else perplexity
        allowed = f"above 0 and below {len(last)}, the number of points"
        refuse(not 0 < perplexity < len(last), "no such perplexity", given=perplexity, allowed=allowed)
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(last)
        return Projection(method, [points], perplexity=perplexity)
    refuse(perplexity is not None, "PCA has no perplexity", given=perplexity, fix='choose "tsne", or leave it out')
    if (last == last[0]).all():  # no variance, so no direction
        return Projection(method, [np.zeros((len(table), 2)) for table in tables])
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full").fit(last)
    points, held = [pca.transform(table) for table in tables], float(pca.explained_variance_ratio_.sum())
    return Projection(method, points, held)
