"""Each corruption does what its name says, as worked out by other means."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn
from zoo import seeded

import mnistviz as mv
from mnistviz.learn.corruptions import CORRUPTIONS, corrupt, robustness

DRAWN = {"shift", "rotation", "shear", "noise", "specks", "cover"}  # those with a draw of its own for each digit

each_kind = pytest.mark.parametrize("kind", CORRUPTIONS)
each_strength = pytest.mark.parametrize("strength", [1, 3, 5])


@pytest.fixture(scope="module")
def some(few) -> mv.Digits:
    return few[:40]


@pytest.fixture(scope="module")
def pixels(some) -> np.ndarray:
    return some.images.numpy().astype(float)


def painted(picture: np.ndarray, count: int = 40) -> mv.Digits:
    """The same picture so many times; values from 0 to 255."""
    images = torch.from_numpy(picture.astype(np.uint8)).expand(count, 28, 28).clone()
    return mv.Digits(images, torch.zeros(count, dtype=torch.int64), "painted")


def flat(value: int, count: int = 40) -> mv.Digits:
    return painted(np.full((28, 28), value), count)


def worse(digits: mv.Digits, kind: str, strength: int) -> np.ndarray:
    """The corrupted pixels, 0 to 255, (N, 28, 28)."""
    return corrupt(digits, kind, strength).images.numpy().astype(float)


def off(result: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference; rounding to whole grey levels alone gives 0.5."""
    return float(np.abs(result - expected.clip(0, 255)).max())


@each_kind
def test_more_strength_changes_more_and_0_changes_nothing(kind, few):
    before, sizes = few.images.clone(), [0.0]
    assert torch.equal(corrupt(few, kind, 0).images, few.images)
    for strength in range(1, 6):
        result = corrupt(few, kind, strength)
        changed = result.images != few.images
        assert changed.flatten(1).any(1).double().mean() > (0.5 if kind == "cover" else 0.99)
        sizes.append(float((result.images.float() - few.images.float()).abs().mean()))
        assert torch.equal(result.known_labels(), few.known_labels())
        assert result.source == f"{few.source}, {kind} {strength} of 5"
    assert sizes == sorted(sizes)
    assert torch.equal(few.images, before)


@each_kind
def test_the_seed_decides_and_each_digit_has_a_draw_of_its_own(kind, some):
    state = torch.get_rng_state()
    first, again, other = (corrupt(some, kind, 3, seed).images for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (kind not in DRAWN)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(corrupt(mv.Digits(some.images, None, "unlabelled"), kind, 3, 4).images, first)
    assert len(corrupt(some[:0], kind, 3)) == 0
    same = corrupt(painted(some.images[0].numpy()), kind, 4).images
    variants = len({image.numpy().tobytes() for image in same})
    if kind in ("rotation", "shear"):
        assert variants == 2  # one way or the other
    else:
        assert variants > 15 if kind in DRAWN else variants == 1


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(CORRUPTIONS)), st.integers(1, 5), st.integers(0, 2**31), st.integers(0, 28))
def test_white_up_to_the_edge_neither_wraps_round_nor_overflows(kind, strength, seed, side):
    picture = np.zeros((28, 28))
    picture[:side] = 255
    result = corrupt(painted(picture, 3), kind, strength, seed).images
    if side == 0 and kind not in ("noise", "specks", "grey paper"):
        assert not result.any()
    if side == 28 and kind in ("fading", "grey paper", "thick"):
        assert (result == result[0, 0, 0]).all()


@each_strength
def test_a_shift_is_a_blend_of_four_whole_ones(strength, some, pixels):
    dot = np.zeros((28, 28))
    dot[12:16, 12:16] = 255
    moved = np.array([ndimage.center_of_mass(image) for image in worse(painted(dot), "shift", strength)]) - 13.5
    assert np.abs(np.hypot(*moved.T) - 1.4 * strength).max() < 0.02
    assert len({tuple(way) for way in np.sign(moved)}) == 4
    for result, image, by in zip(worse(some, "shift", strength), pixels, moved, strict=True):
        expected = ndimage.shift(image, by, order=1, mode="grid-constant")
        assert off(result, expected) < 8  # the dot tells the way to a fiftieth of a pixel


@each_strength
def test_a_rotation_is_scipy_s_and_a_shear_moves_each_row_by_its_height(strength, some, pixels):
    def turned(image: np.ndarray, way: int) -> np.ndarray:
        return ndimage.rotate(image, way * 10 * strength, reshape=False, order=1, mode="grid-constant")

    def sheared(image: np.ndarray, way: int) -> np.ndarray:
        wide = np.pad(image, ((0, 0), (20, 20)))
        columns = [np.arange(28) + way * 0.16 * strength * (row - 13.5) for row in range(28)]
        return np.stack([np.interp(columns[row], np.arange(-20, 48), wide[row]) for row in range(28)])

    for kind, changed in (("rotation", turned), ("shear", sheared)):
        ways = []
        for result, image in zip(worse(some, kind, strength), pixels, strict=True):
            difference = [off(result, changed(image, way)) for way in (1, -1)]
            assert min(difference) < 1.5
            ways.append(int(np.argmin(difference)))
        assert 8 < sum(ways) < 32  # as often one way as the other


@each_strength
def test_shrinking_keeps_the_middle_and_blur_is_a_gaussian(strength, some, pixels):
    factor, sigma = 1 + 0.2 * strength, 0.3 * strength
    shrunk, blurred = worse(some, "shrink", strength), worse(some, "blur", strength)
    for i, image in enumerate(pixels):
        middle = 13.5 - factor * 13.5
        expected = ndimage.affine_transform(image, [factor, factor], middle, order=1, mode="grid-constant")
        assert off(shrunk[i], expected) < 1
        assert off(blurred[i], ndimage.gaussian_filter(image, sigma, mode="constant", radius=7)) < 0.51


@each_strength
def test_ink_and_paper_change_as_the_formula_says(strength, some, pixels):
    assert off(worse(some, "fading", strength), pixels * (1 - 0.16 * strength)) < 0.51
    assert off(worse(some, "grey paper", strength), pixels + (255 - pixels) * 0.05 * strength) < 0.51
    for kind, grow in (("thick", ndimage.grey_dilation), ("thin", ndimage.grey_erosion)):
        expected = pixels
        for _ in range(strength):
            expected = (expected + grow(expected, size=(1, 3, 3))) / 2
        assert off(worse(some, kind, strength), expected) < 0.51


@each_strength
def test_noise_is_normal_and_specks_are_white_and_black(strength, some, pixels):
    noise = (worse(flat(128), "noise", strength) - 128) / 255
    assert abs(np.median(noise)) < 0.01
    assert np.median(np.abs(noise)) == pytest.approx(0.67449 * 0.06 * strength, abs=0.003)
    assert abs(np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]) < 0.03
    specks = worse(flat(128), "specks", strength)
    assert set(np.unique(specks)) == {0, 128, 255}
    for value in (0, 255):
        assert (specks == value).mean() == pytest.approx(0.02 * strength, abs=0.005)
    result = worse(some, "specks", strength)
    assert ((result == pixels) | (result == 0) | (result == 255)).all()


@each_strength
def test_cover_blacks_out_one_square_over_the_middle(strength, some, pixels):
    corners = []
    for image in worse(flat(255, 200), "cover", strength):
        rows, columns = np.nonzero(image == 0)
        assert len(rows) == (3 * strength) ** 2
        assert np.ptp(rows) == np.ptp(columns) == 3 * strength - 1
        assert (image[image != 0] == 255).all()
        corners.append((rows.min(), columns.min()))
    assert (np.min(corners, axis=0) == 4).all()
    assert (np.max(corners, axis=0) == 24 - 3 * strength).all()
    assert abs(np.corrcoef(np.transpose(corners))[0, 1]) < 0.3
    result = worse(some, "cover", strength)
    assert ((result == pixels) | (result == 0)).all()


def test_robustness_is_the_accuracy_for_every_kind_and_strength(some):
    with seeded():
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    rows = [(kind, strength) for kind in CORRUPTIONS for strength in range(6)]
    expected = [(*row, mv.evaluate(model, corrupt(some, *row, seed=3)).accuracy) for row in rows]
    table = robustness(model, some, seed=3)
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=["corruption", "strength", "accuracy"]))
    named = robustness(model, some, iter(["noise", "blur"]), seed=3)
    assert named.values.tolist() == [list(row) for kind in ("noise", "blur") for row in expected if row[0] == kind]


GREY, NONE = flat(128, 3), flat(128, 3)[:0]
BAD = {
    "below 0": (lambda: corrupt(GREY, "blur", -1), "strength of a corruption", "given:   -1", "0 (none) to 5"),
    "above 5": (lambda: corrupt(GREY, "blur", 6), "strength of a corruption", "0 (none) to 5"),
    "a float": (lambda: corrupt(GREY, "blur", 1.0), "strength of a corruption"),
    "true": (lambda: corrupt(GREY, "blur", True), "strength of a corruption"),
    "above 5, of no digits": (lambda: corrupt(NONE, "blur", 6), "strength of a corruption"),
    "a kind": (lambda: corrupt(GREY, "rotate", 1), "unknown corruption", "did you mean 'rotation'", *CORRUPTIONS),
    "a kind in a table": (lambda: robustness(nn.Flatten(), GREY, ["smoke"]), "unknown corruption", "smoke"),
    "no digits": (lambda: robustness(nn.Flatten(), NONE), "no digits"),
}
test_bad_input_is_refused = refusals(BAD)
