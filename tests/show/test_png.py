"""A picture in 256 colours shows what carries data exactly, and the rest as near as can be."""

import numpy as np
import pytest
from PIL import Image

from mnistviz.show.png import indexed

GREYS = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)


def colours(count: int, seed: int = 0) -> np.ndarray:
    """So many different colours, none of them grey."""
    drawn = np.random.default_rng(seed).integers(0, 256, (2 * count, 3), np.uint8)
    drawn = np.unique(drawn[(drawn != drawn[:, :1]).any(axis=1)], axis=0)
    return np.random.default_rng(seed).permutation(drawn)[:count]


def read(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("count", [1, 100, 232])
@pytest.mark.parametrize("others", [0, 20, 500])
def test_exact_colours_stay_as_they_are(count: int, others: int) -> None:
    exact = colours(count + others)[:count]
    dice = np.random.default_rng(1)
    pixels = colours(count + others)[dice.integers(0, count + others, (30, 40))]
    picture = indexed(pixels, exact)
    assert picture.mode == "P"
    assert len(picture.getpalette()) <= 3 * 256
    is_exact = (pixels[:, :, None] == exact).all(3).any(2)
    np.testing.assert_array_equal(read(picture)[is_exact], pixels[is_exact])
    if count + others <= 224:
        np.testing.assert_array_equal(read(picture), pixels)


def test_of_the_others_the_most_frequent_stay_and_each_of_the_rest_is_replaced_by_the_nearest() -> None:
    exact, others = colours(100), colours(500, seed=1)
    pixels = np.concatenate([others[:124].repeat(3, axis=0), others])[:, None]
    drawn = read(indexed(pixels, exact))
    np.testing.assert_array_equal(drawn[: 3 * 124], pixels[: 3 * 124])
    palette = np.unique(drawn.reshape(-1, 3), axis=0).astype(int)
    distance = ((pixels.astype(int) - palette) ** 2).sum(2)
    np.testing.assert_array_equal(((pixels.astype(int) - drawn) ** 2).sum(2)[:, 0], distance.min(1))


def test_where_there_are_too_many_only_greys_give_way() -> None:
    meaning = colours(129)
    pixels = np.concatenate([GREYS, meaning])[None]
    picture = indexed(pixels, np.concatenate([GREYS, meaning]))
    drawn = read(picture)[0]
    assert picture.mode == "P"
    np.testing.assert_array_equal(drawn[256:], meaning)
    assert ((drawn[:256].astype(int) - GREYS) ** 2).sum(1).max() <= 3 * 2**2  # half the step between 64 levels
    assert (drawn[[0, 255]] == [[0] * 3, [255] * 3]).all()


def test_a_picture_whose_colours_all_mean_something_keeps_them_all() -> None:
    pixels = colours(300)[None]
    picture = indexed(pixels, pixels[0])
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(read(picture), pixels)
