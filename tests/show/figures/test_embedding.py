"""Every digit stands where its activations put it, in the colour of what it is."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from helpers import caption_of
from matplotlib.colors import to_rgb
from matplotlib.offsetbox import AnnotationBbox
from torch import Tensor

from mnistviz import figures
from mnistviz.look.projection import project
from mnistviz.show.picture import Picture


def points_of(picture: Picture, labels: Tensor) -> np.ndarray:
    """Where each digit was drawn: class by class, in the order of the rows."""
    points = np.full((len(labels), 2), np.nan)
    for d, dots in enumerate(picture.axes[0].collections):
        points[labels == d] = dots.get_offsets()
    return points


def test_points_are_the_two_principal_components_by_hand(records: Any) -> None:
    digits, table = records.few[:150], records.features.double().numpy()
    picture = figures.embedding(records.features, digits, thumbnails=0)
    centred = table - table.mean(0)
    expected = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    drawn = points_of(picture, digits.labels)
    signs = np.sign((drawn * expected).sum(0))  # a direction may point either way
    np.testing.assert_allclose(drawn, expected * signs, atol=1e-6)
    share = expected.var(0).sum() / table.var(0).sum()
    assert f"the two directions hold {100 * share:.1f} % of the variance" in caption_of(picture)


def test_points_of_t_sne_are_those_of_its_seed(records: Any) -> None:
    features, digits = records.features[:30], records.few[:30]
    picture = figures.embedding(features, digits, "tsne", thumbnails=0, seed=5)
    np.testing.assert_array_equal(points_of(picture, digits.labels), project(features, "tsne", 5).points[0])


def test_each_digit_has_the_colour_of_its_class_and_each_class_that_occurs_its_number(records: Any) -> None:
    known = records.few[:150].labels != 4
    features, digits = records.features[known], records.few[:150][known]
    picture = figures.embedding(features, digits, thumbnails=0)
    (axes,) = picture.axes
    points = points_of(picture, digits.labels)
    assert np.isfinite(points).all()
    assert len(axes.collections) == 10
    assert [text.get_text() for text in axes.texts] == list("012356789")
    colours = [to_rgb(colour) for colour in mpl.rcParamsDefault["axes.prop_cycle"].by_key()["color"]]
    assert [tuple(dots.get_facecolor()[0, :3]) for dots in axes.collections] == colours
    for text in axes.texts:
        d = int(text.get_text())
        assert text.xy == pytest.approx(np.median(points[digits.labels == d], axis=0))
        assert text.get_bbox_patch().get_edgecolor()[:3] == colours[d]


@pytest.mark.parametrize(("wanted", "count"), [(0, 0), (12, 12), (500, 150)])
def test_thumbnails_are_digits_at_their_points_each_as_far_as_can_be_from_those_before(
    wanted: int, count: int, records: Any
) -> None:
    digits = records.few[:150]
    picture = figures.embedding(records.features, digits, thumbnails=wanted)
    points = points_of(picture, digits.labels)
    stamps = [artist for artist in picture.axes[0].artists if isinstance(artist, AnnotationBbox)]
    rows = [int(np.abs(points - stamp.xy).sum(1).argmin()) for stamp in stamps]
    assert len(set(rows)) == len(stamps) == count
    for k, (stamp, row) in enumerate(zip(stamps, rows, strict=True)):
        assert stamp.xy == pytest.approx(points[row])
        ink = digits.images[row].numpy()
        black_ink_on_nothing = np.dstack([255 - ink] * 3 + [ink])
        np.testing.assert_array_equal(stamp.offsetbox.get_data(), black_ink_on_nothing)
        assert stamp.offsetbox.image.get_interpolation() == "nearest"
        if k:
            to_nearest = np.linalg.norm(points[:, None] - points[rows[:k]], axis=2).min(1)
            assert to_nearest[row] == pytest.approx(to_nearest.max())
