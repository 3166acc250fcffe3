"""Decisions on a plane: every colour is the probability that was handed over."""

import numpy as np
import pytest
import torch
from test_maps import assert_fit_to_be_seen  # the contract of every figure

import mnistviz as mv
from mnistviz.show.scales import SIGNED

points = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, -2.0]])
labels = torch.tensor([1, 0, 0])
rising = torch.linspace(0, 1, 25).reshape(5, 5)  # its rows along y from below


def test_it_is_fit_to_be_seen() -> None:
    assert_fit_to_be_seen(lambda: mv.figures.decisions(points, labels, {"a": rising, "b": rising.T}))


def test_colours_are_the_probabilities_and_points_keep_their_places() -> None:
    (axes,) = mv.figures.decisions(points, labels, {"a": rising}).axes
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), SIGNED(0.32 + 0.36 * rising.double().numpy()), atol=1e-7)
    assert image.origin == "lower"
    assert image.get_extent() == [-3, 3, -3, 3]
    marks = {len(c.get_offsets()): c.get_offsets().tolist() for c in axes.collections if len(c.get_offsets())}
    assert marks[1] == [[0, 0]]
    assert marks[2] == [[2, 1], [-1, -2]]


def test_where_all_answers_are_one_there_is_no_line() -> None:
    (axes,) = mv.figures.decisions(points, labels, {"a": torch.full((4, 4), 0.9)}).axes
    assert len(axes.collections) == 2  # only the points


@pytest.mark.parametrize(
    ("x", "y", "answers"),
    [(points[:, :1], labels, {"a": rising}), (points, labels[:2], {"a": rising}), (points, labels, {}),
     (points, labels, {"a": rising[0]})],
)  # fmt: skip
def test_what_is_no_plane_is_refused(x, y, answers) -> None:
    with pytest.raises(mv.MnistvizError, match=r"\(N, 2\)"):
        mv.figures.decisions(x, y, answers)
