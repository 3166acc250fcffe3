"""Two coordinates for many numbers: PCA against an SVD by hand and scikit-learn, t-SNE, and what has no plane."""

import numpy as np
import pytest
import torch
from helpers import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor

from mnistviz.look.projection import project


def rows(n: int, width: int, seed: int = 0) -> Tensor:
    """As different in each direction as can be told apart."""
    spread = torch.linspace(1, 3, width, dtype=torch.double)
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * spread


def assert_same_axes(points: np.ndarray, expected: np.ndarray) -> None:
    """An axis may point either way."""
    for axis in (0, 1):
        sign = np.sign(points[:, axis] @ expected[:, axis])
        np.testing.assert_allclose(points[:, axis] * sign, expected[:, axis], atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 30), st.integers(2, 9), st.integers(0, 99), st.floats(-50, 50))
def test_a_plane_is_that_of_an_svd_by_hand(n, width, seed, shift):
    table = rows(n, width, seed)
    projection = project(table + shift)
    centred = (table - table.mean(0)).numpy()
    _, strengths, directions = np.linalg.svd(centred, full_matrices=False)
    assert_same_axes(projection.points[0], centred @ directions[:2].T)
    assert projection.held == pytest.approx((strengths[:2] ** 2).sum() / (strengths**2).sum())
    assert (projection.method, projection.perplexity) == ("pca", None)


def test_several_moments_share_the_plane_of_the_last():
    early, late = rows(20, 5, seed=1), rows(30, 5, seed=2)
    both, alone = project([early, late]), project(late)
    pca = PCA(2).fit(late.numpy())
    assert_same_axes(np.concatenate(both.points), pca.transform(np.concatenate([early, late])))
    np.testing.assert_array_equal(both.points[1], alone.points[0])
    assert both.held == alone.held == pytest.approx(pca.explained_variance_ratio_.sum())


def test_maps_are_taken_as_rows_and_need_no_gradient():
    maps = rows(12, 18).view(12, 2, 3, 3).float().requires_grad_()
    np.testing.assert_array_equal(project(maps).points[0], project(maps.detach().flatten(1)).points[0])


def test_rows_that_are_all_the_same_lie_on_one_point_and_hold_nothing():
    projection = project([rows(4, 3), torch.ones(5, 3)])
    assert [points.tolist() for points in projection.points] == [[[0, 0]] * 4, [[0, 0]] * 5]
    assert projection.held is None


def test_tsne_keeps_heaps_apart_and_the_same_seed_gives_the_same_picture():
    heaps = torch.cat([rows(20, 6) / 10 + 30 * k for k in range(3)])
    projection, again = project(heaps, "tsne", seed=1), project(heaps, "tsne", seed=1)
    np.testing.assert_array_equal(projection.points[0], again.points[0])
    assert projection.perplexity == pytest.approx(59 / 3)
    assert project(rows(94, 6), "tsne").perplexity == 30
    assert project(rows(9, 6), "tsne", perplexity=8.5).perplexity == 8.5
    points = projection.points[0].reshape(3, 20, 2)
    centres = points.mean(1)
    widest = np.linalg.norm(points - centres[:, None], axis=2).max()
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > widest


BAD = {
    "an unknown method": (lambda: project(rows(9, 3), "umap"), "unknown projection", "'umap'", "pca, tsne"),
    "a single column": (lambda: project(rows(9, 1)), "cannot be projected", "(9, 1)", "2 or more finite numbers"),
    "two rows": (lambda: project(rows(2, 5)), "cannot be projected", "(2, 5)", "3 or more rows"),
    "a perplexity of all": (lambda: project(rows(9, 3), "tsne", 0, 9), "no such perplexity", "given:   9", "below 9"),
    "a perplexity of none": (lambda: project(rows(9, 3), "tsne", perplexity=0), "no such perplexity", "above 0"),
    "a perplexity of PCA": (lambda: project(rows(9, 3), perplexity=5), "PCA has no perplexity", '"tsne"'),
    "a NaN": (lambda: project(rows(9, 3) * torch.nan), "cannot be projected", "finite: False"),
    "infinity in an earlier moment": (lambda: project([rows(9, 3) / 0, rows(9, 3)]), "cannot be projected", "False"),
}
test_what_has_no_plane_is_refused = refusals(BAD)
