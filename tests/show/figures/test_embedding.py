"""Every digit stands where its activations put it, in the colour of what it is."""

import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.offsetbox import AnnotationBbox
from test_maps import assert_fit_to_be_seen, at_once, caption_of, seen  # noqa: F401
from torch import Tensor

import mnistviz as mv
from mnistviz import figures
from mnistviz.show.figures.embedding import project
from mnistviz.show.picture import Picture


@pytest.fixture(scope="module")
def digits(few: mv.Digits) -> mv.Digits:
    return few[:150]


@pytest.fixture(scope="module")
def features(digits: mv.Digits) -> Tensor:
    return seen(mv.load_model("deep"), digits.pixels)["relu6"].output


def principal(table: np.ndarray) -> np.ndarray:
    """Two coordinates by hand: rows about their mean, on the two directions that hold most."""
    centred = table - table.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    return centred @ directions.T


def points_of(picture: Picture, labels: Tensor) -> np.ndarray:
    """Where each digit was drawn: class by class, in the order of the rows."""
    points = np.full((len(labels), 2), np.nan)
    for d, dots in enumerate(picture.axes[0].collections):
        points[labels == d] = dots.get_offsets()
    return points


def stamps_of(picture: Picture) -> list[AnnotationBbox]:
    return [a for a in picture.axes[0].artists if isinstance(a, AnnotationBbox)]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_an_embedding_is_fit_to_be_seen(method: str, features: Tensor, digits: mv.Digits) -> None:
    few, table = digits[:60], features[:60]
    assert_fit_to_be_seen(lambda: figures.embedding(table, few, method), table, few)


@pytest.mark.parametrize("layer", ["relu6", "pool3"])
def test_points_are_the_two_principal_components(layer: str, digits: mv.Digits) -> None:
    output = seen(mv.load_model("deep"), digits[:60].pixels)[layer].output
    points = points_of(figures.embedding(output, digits[:60], thumbnails=0), digits.labels[:60])
    expected = principal(output.double().numpy().reshape(60, -1))
    for mine, theirs in zip(points.T, expected.T, strict=True):
        sign = np.sign(mine @ theirs)
        np.testing.assert_allclose(mine, sign * theirs, atol=1e-6)


def test_the_share_of_the_variance_is_said(features: Tensor, digits: mv.Digits) -> None:
    table = features.double().numpy()
    share = principal(table).var(0).sum() / table.var(0).sum()
    picture = figures.embedding(features, digits, thumbnails=0)
    assert f"the two directions hold {100 * share:.1f} % of the variance" in caption_of(picture)
    assert "150 digits of MNIST train." in caption_of(picture)
    assert f"{100 * share:.1f} %" in picture.alt


def test_each_digit_has_the_colour_of_its_class_and_each_class_its_number(features: Tensor, digits: mv.Digits) -> None:
    picture = figures.embedding(features, digits, thumbnails=0)
    (axes,) = picture.axes
    points = points_of(picture, digits.labels)
    assert np.isfinite(points).all()
    assert len(axes.collections) == 10
    assert [t.get_text() for t in axes.texts] == list("0123456789")
    for d, (dots, text) in enumerate(zip(axes.collections, axes.texts, strict=True)):
        (face,) = dots.get_facecolor()
        assert tuple(face[:3]) == to_rgba(mpl.rcParamsDefault["axes.prop_cycle"].by_key()["color"][d])[:3]
        assert text.xy == pytest.approx(np.median(points[digits.labels == d], axis=0))
        assert text.get_bbox_patch().get_edgecolor()[:3] == tuple(face[:3])


def test_a_class_that_does_not_occur_has_no_number(features: Tensor, digits: mv.Digits) -> None:
    some = digits.labels != 4
    axes = figures.embedding(features[some], digits[some], thumbnails=0).axes[0]
    assert [t.get_text() for t in axes.texts] == list("012356789")


@pytest.mark.parametrize("count", [0, 25, 500])
def test_thumbnails_are_the_digits_at_their_points(count: int, features: Tensor, digits: mv.Digits) -> None:
    picture = figures.embedding(features, digits, thumbnails=count)
    points = points_of(picture, digits.labels)
    stamps = stamps_of(picture)
    rows = [int(np.abs(points - stamp.xy).sum(1).argmin()) for stamp in stamps]
    assert len(set(rows)) == len(stamps) == min(count, 150)
    for stamp, row in zip(stamps, rows, strict=True):
        assert stamp.xy == pytest.approx(points[row])
        image = np.asarray(stamp.offsetbox.get_data())
        ink = digits.images[row].numpy()
        np.testing.assert_array_equal(image, np.dstack([255 - ink] * 3 + [ink]))  # black ink, paper unseen
        assert stamp.offsetbox.image.get_interpolation() == "nearest"


def test_thumbnails_are_spread_out(features: Tensor, digits: mv.Digits) -> None:
    """Each is the one farthest from those before it."""
    picture = figures.embedding(features, digits, thumbnails=12)
    points = points_of(picture, digits.labels)
    taken = np.array([stamp.xy for stamp in stamps_of(picture)])
    for k in range(1, 12):
        nearest = np.linalg.norm(points[:, None] - taken[None, :k], axis=2).min(1)
        assert np.linalg.norm(taken[k] - taken[:k], axis=1).min() == pytest.approx(nearest.max())


def test_t_sne_is_the_same_each_time_and_says_what_it_cannot_tell(features: Tensor, digits: mv.Digits) -> None:
    few, table = digits[:60], features[:60]
    first, said = project(table, "tsne")
    second, _ = project(table, "tsne")
    np.testing.assert_array_equal(first, second)
    assert first.shape == (60, 2)
    assert np.isfinite(first).all()
    picture = figures.embedding(table, few, "tsne", thumbnails=0)
    np.testing.assert_array_equal(points_of(picture, few.labels), first)
    assert said == "t-SNE, perplexity 20: neighbours mean something, distances between groups nothing"
    assert said in caption_of(picture)


def test_t_sne_keeps_neighbours_together(digits: mv.Digits) -> None:
    """Three heaps far apart stay three heaps."""
    heaps = torch.randn(45, 6, generator=torch.Generator().manual_seed(0)) + 50 * torch.eye(3, 6).repeat(15, 1)
    points, _ = project(heaps, "tsne")
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(45)
    assert (distance.argmin(1) % 3 == np.arange(45) % 3).all()


def test_rows_and_digits_must_be_as_many(features: Tensor, digits: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"one row[\s\S]*150 rows, 149 digits"):
        figures.embedding(features, digits[:149])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_features_that_are_not_numbers_are_refused(
    value: float, method: str, features: Tensor, digits: mv.Digits
) -> None:
    strange = features.clone()
    strange[3, 7] = value
    with pytest.raises(mv.MnistvizError, match=r"cannot be projected[\s\S]*finite: False"):
        figures.embedding(strange, digits, method)


@pytest.mark.parametrize("rows", [0, 2])
def test_too_few_rows_are_refused(rows: int, features: Tensor, digits: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="3 or more rows"):
        figures.embedding(features[:rows], digits[:rows])


def test_an_unknown_method_is_refused_with_those_there_are(features: Tensor, digits: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"unknown projection[\s\S]*'umap'[\s\S]*pca, tsne"):
        figures.embedding(features, digits, "umap")


def test_unlabelled_digits_cannot_be_coloured(features: Tensor, digits: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="no labels"):
        figures.embedding(features, mv.Digits(digits.images, None, "mine"))


def test_features_of_one_column_are_refused_in_our_own_words(digits: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="cannot be projected"):
        figures.embedding(torch.arange(150.0)[:, None], digits)


def test_features_that_never_change_are_no_reason_for_a_warning(digits: mv.Digits) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = figures.embedding(torch.ones(30, 5), digits[:30])
    assert "nan" not in caption_of(picture)
