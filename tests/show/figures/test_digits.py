"""Figures of the data show the pixels there are, and count them rightly."""

from typing import Any

import numpy as np
import pytest
from helpers import caption_of, sheet_of, words_of

from mnistviz import figures


def test_sample_grid_shows_the_pixels_of_the_first_of_each_digit(records: Any) -> None:
    few = records.few
    axes = figures.sample_grid(few, each=3).axes[0]
    sheet = sheet_of(axes)
    assert sheet.shape == (10 * 30 - 2, 3 * 30 - 2)
    for digit in range(10):
        first = [i for i in range(len(few)) if few.labels[i] == digit][:3]
        for column, i in enumerate(first):
            cut = sheet[digit * 30 : digit * 30 + 28, column * 30 : column * 30 + 28]
            np.testing.assert_array_equal(cut, few.images[i].numpy())
    assert (sheet[28:30] == 255).all()
    assert axes.images[0].get_clim() == (0, 255)
    without_fours = sheet_of(figures.sample_grid(few[few.labels != 4], each=2).axes[0])
    assert (without_fours[4 * 30 : 4 * 30 + 28] == 255).all()


def test_class_balance_draws_the_shares(records: Any) -> None:
    parts = {"train": records.few[:450], "validation": records.few[450:]}
    axes = figures.class_balance(parts).axes[0]
    for container, digits in zip(axes.containers, parts.values(), strict=True):
        shares = [float((digits.labels == d).double().mean()) for d in range(10)]
        assert [bar.get_height() for bar in container] == pytest.approx(shares)
    assert {"train: 450", "validation: 150"} < {t.get_text() for t in axes.get_legend().get_texts()}
    assert len({bars[0].get_hatch() for bars in axes.containers}) == 2  # told apart without colour


def test_class_balance_counts_a_single_part_and_cuts_no_bar_off(records: Any) -> None:
    few = records.few
    words = words_of(figures.class_balance({"train": few})).split("\n")
    assert all(str(int((few.labels == digit).sum())) in words for digit in range(10))
    ones = figures.class_balance({"ones": few[few.labels == 1]})
    assert ones.axes[0].get_ylim()[1] > 1
    assert "between 0.0% and 100.0%" in ones.alt


def test_mean_and_spread_are_the_mean_and_the_variance(records: Any) -> None:
    few = records.few
    above, below = (sheet_of(axes) for axes in figures.mean_and_spread(few).axes[:2])
    assert above.shape == below.shape == (28, 280)
    for digit in range(10):
        group = few.images[few.labels == digit].numpy() / 255
        cut = slice(28 * digit, 28 * digit + 28)
        np.testing.assert_allclose(above[:, cut], group.mean(0), atol=1e-6)
        np.testing.assert_allclose(below[:, cut], group.var(0), atol=1e-6)


def test_ink_by_digit_says_which_digit_uses_least_and_most(records: Any) -> None:
    few = records.few
    medians = [np.median(few.images[few.labels == d].numpy().mean((1, 2)) / 255) for d in range(10)]
    picture = figures.ink_by_digit(few)
    assert f"Digit {np.argmin(medians)} uses least ink (median {min(medians):.2f})" in picture.alt
    assert f"digit {np.argmax(medians)} most ({max(medians):.2f})" in picture.alt
    level = [line.get_ydata()[0] for line in picture.axes[0].lines if len(set(line.get_ydata())) == 1]
    assert all(min(abs(y - median) for y in level) < 1e-6 for median in medians)


def test_pixel_histogram_counts_every_grey_level(records: Any) -> None:
    picture = figures.pixel_histogram(records.few)
    counts = [int((records.few.images == level).sum()) for level in range(256)]
    assert [bar.get_height() for bar in picture.axes[0].containers[0]] == counts
    assert f"{counts[0] / (600 * 784):.0%} of pixels are exactly black" in picture.alt


def test_image_rows_show_the_pixels_under_their_names(records: Any) -> None:
    x, y = records.few.pixels[:3], records.few.pixels[5:7] * 0.5
    picture = figures.image_rows({"as they are": x, "darker": y}, note="Half as bright.")
    (axes,) = picture.axes
    sheet = sheet_of(axes)
    np.testing.assert_allclose(sheet[:28, 30:58], x[1, 0])
    np.testing.assert_allclose(sheet[30:58, 30:58], y[1, 0])
    assert (sheet[30:58, 60:] == 1).all()  # the shorter row ends in white
    assert axes.images[0].get_clim() == (0, 1)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["as they are", "darker"]
    assert caption_of(picture).startswith("Half as bright. ")
