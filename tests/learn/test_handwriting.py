"""A picture of a digit, however it was made, comes out in the form of MNIST; so do other people's digits."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

import mnistviz as mv
from mnistviz.learn.handwriting import digits_from_elsewhere

PLACES = {  # (how much the digit is enlarged, page height and width, where the digit's corner goes)
    "photo": (9, (400, 560), (90, 250)),
    "in a corner": (5, (300, 200), (4, 6)),
    "tall": (3, (700, 120), (500, 20)),
    "tight": (4, (112, 112), (0, 0)),
    "small": (1, (40, 30), (10, 1)),
}


def page(digit: np.ndarray, place: str = "photo", ink: int = 30, paper: int = 235) -> np.ndarray:
    """An MNIST digit, enlarged, dark on a light page."""
    times, size, (top, left) = PLACES[place]
    big = Image.fromarray(digit).resize((28 * times, 28 * times), Image.Resampling.BICUBIC)
    share = np.zeros(size)
    share[top : top + 28 * times, left : left + 28 * times] = np.asarray(big) / 255
    return np.rint(paper + (ink - paper) * share).astype(np.uint8)


def read(tmp_path: Path, picture: np.ndarray | Image.Image, name: str = "digit.png", **options: Any) -> np.ndarray:
    path = tmp_path / name
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    digits = mv.read_digit(path)
    assert digits.images.shape == (1, 28, 28)
    assert digits.labels is None
    assert digits.source == name
    return digits.images[0].numpy()


def is_mnist(image: np.ndarray) -> bool:
    """Fitted into 20×20, full ink somewhere, black outside, centre of mass on pixel 14."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    sides = (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    y, x = (image.sum(1) @ np.arange(28) / image.sum(), image.sum(0) @ np.arange(28) / image.sum())
    centred = abs(y - 14) <= 0.6 and abs(x - 14) <= 0.6
    return bool(18 <= max(sides) <= 20 and centred and image.max() == 255 and (image == 0).mean() > 0.4)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float).ravel(), b.astype(float).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def ten(few) -> list[np.ndarray]:
    """One digit of each kind."""
    labels = few.known_labels().tolist()
    return [few.images[labels.index(digit)].numpy() for digit in range(10)]


@pytest.mark.parametrize("place", PLACES)
def test_a_page_with_a_digit_gives_the_digit_back(tmp_path, ten, place):
    for digit in ten:
        for picture in (page(digit, place), digit):  # an MNIST image itself is read too
            result = read(tmp_path, picture)
            assert is_mnist(result)
            assert alike(result, digit) > 0.85


def test_light_on_dark_is_dark_on_light_and_faint_ink_becomes_full_ink(tmp_path, ten):
    for digit in ten:
        drawn = page(digit)
        assert np.array_equal(read(tmp_path, 255 - drawn), read(tmp_path, drawn))
        strong, faint = (read(tmp_path, page(digit, ink=ink, paper=200)) for ink in (0, 120))
        assert is_mnist(faint)
        assert alike(strong, faint) > 0.99


def test_a_transparent_background_is_paper_under_dark_ink_and_under_light(tmp_path, ten):
    for digit in ten:
        drawn = page(digit, ink=0, paper=255)
        share = 255 - drawn
        black, white = (np.dstack([np.full((*share.shape, 3), ink, np.uint8), share]) for ink in (0, 255))
        assert alike(read(tmp_path, black), read(tmp_path, drawn)) > 0.999
        assert alike(read(tmp_path, white), digit) > 0.85


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_pixel_is_read(tmp_path, ten, mode):
    drawn = Image.fromarray(page(ten[3])).convert(mode, dither=Image.Dither.NONE)
    assert alike(read(tmp_path, drawn), read(tmp_path, page(ten[3]))) > (0.85 if mode == "1" else 0.999)


@pytest.mark.parametrize("name", ["scan.png", "scan.tif"])
def test_sixteen_bit_grey_is_not_cut_off(tmp_path, ten, name):
    drawn = page(ten[5], ink=90, paper=200)
    assert np.array_equal(read(tmp_path, drawn.astype(np.uint16) * 257, name), read(tmp_path, drawn))


def test_coloured_ink_on_coloured_paper_is_read(tmp_path, ten):
    blue_on_cream, yellow_on_green = ((20, 30, 160), (250, 240, 200)), ((250, 240, 90), (20, 70, 30))
    for digit in ten[:5]:
        share = (page(digit, ink=255, paper=0) / 255)[..., None]
        for ink, paper in (blue_on_cream, yellow_on_green):
            result = read(tmp_path, np.rint(share * ink + (1 - share) * paper).astype(np.uint8))
            assert is_mnist(result)
            assert alike(result, digit) > 0.85


def test_paper_grain_uneven_light_and_jpeg_are_not_ink(tmp_path, ten):
    rng = np.random.default_rng(0)
    for digit in ten[5:]:
        drawn = page(digit, ink=40, paper=200)
        light = np.linspace(-12, 12, drawn.shape[1])
        noisy = np.clip(drawn + light + rng.normal(0, 6, drawn.shape), 0, 255).astype(np.uint8)
        result, clean = read(tmp_path, noisy), read(tmp_path, drawn)
        assert is_mnist(result)
        assert ((result > 0) & (clean == 0)).mean() < 0.03
        assert alike(result, digit) > 0.85
        photograph = read(tmp_path, page(digit), "digit.jpg", quality=40)
        assert is_mnist(photograph)
        assert alike(photograph, read(tmp_path, page(digit))) > 0.98


def test_a_photograph_is_turned_the_way_it_was_taken(tmp_path, ten):
    upright, exif = page(ten[7]), Image.Exif()
    stored_as = {2: upright[:, ::-1], 5: upright.T, 6: np.rot90(upright), 8: np.rot90(upright, -1)}
    for orientation, stored in stored_as.items():  # the viewer turns it upright
        exif[0x0112] = orientation
        assert np.array_equal(read(tmp_path, np.ascontiguousarray(stored), exif=exif), read(tmp_path, upright))


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), margin=st.integers(1, 30), paper=st.sampled_from([0, 90, 255])
)
def test_a_block_of_ink_is_fitted_and_centred(tmp_path_factory, height, width, margin, paper):
    drawn = np.full((height + 2 * margin, width + 2 * margin + 40), paper, np.uint8)
    drawn[margin : margin + height, margin : margin + width] = 255 - paper
    result = read(tmp_path_factory.getbasetemp(), drawn)
    scale = 20 / max(height, width)
    sides = [max(1, round(side * scale)) for side in (height, width)]
    assert [int(result.any(axis).sum()) for axis in (1, 0)] == sides
    assert (result[result > 0] == 255).all()
    first = [int(np.flatnonzero(result.any(axis))[0]) for axis in (1, 0)]
    assert all(abs(start + (side - 1) / 2 - 14) <= 0.5 for start, side in zip(first, sides, strict=True))


def test_a_line_one_pixel_wide_on_a_large_page_is_not_lost(tmp_path):
    thin = np.full((2000, 1500), 255, np.uint8)
    thin[300:1700, 700] = 0
    result = read(tmp_path, thin)
    assert np.flatnonzero(result.any(1)).tolist() == list(range(4, 24))
    assert result.any(0).sum() == 1


def test_a_blank_page_and_a_faint_mark_are_no_digit(tmp_path, ten):
    for grey in (0, 128, 255):
        for size in ((100, 80), (1, 1)):
            blank = np.full(size, grey, np.uint8)
            refused(lambda page=blank: read(tmp_path, page, "blank.png"), "no digit found in blank.png", "by 0 of 255")
    faint = page(ten[0], ink=180, paper=200)
    refused(lambda: read(tmp_path, faint), "by 20 of 255 grey levels", "allowed:", "25 or more")


def test_what_is_no_picture_or_cut_short_is_refused(tmp_path, ten):
    refused(lambda: mv.read_digit(tmp_path / "missing.png"), "no such picture", "missing.png")
    refused(lambda: mv.read_digit(tmp_path), "cannot be read as a picture")
    path, broken = tmp_path / "digit", [b"", b"a text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
    for form in ("PNG", "JPEG"):
        Image.fromarray(page(ten[0])).save(path, form)
        whole = path.read_bytes()
        broken += [whole[: int(len(whole) * share)] for share in (0.1, 0.5, 0.9)]
    for content in broken:
        path.write_bytes(content)
        refused(lambda: mv.read_digit(path), "digit cannot be read as a picture", "PNG, JPEG")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_picture_is_read_or_refused(tmp_path, ten):
    rng, n_refused = np.random.default_rng(0), 0
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(page(ten[4], "small")).save(file, form)
        for _ in range(20):
            content = bytearray(file.getvalue())
            for place in rng.integers(len(content), size=3):
                content[place] = rng.integers(256)
            (tmp_path / "digit").write_bytes(content)
            try:
                assert torch.is_tensor(mv.read_digit(tmp_path / "digit").images)
            except mv.MnistvizError:
                n_refused += 1
    assert 0 < n_refused < 120


def test_digits_from_elsewhere_have_the_form_of_mnist_and_are_those_of_scikit_learn(reference):
    digits, theirs = digits_from_elsewhere(), load_digits()
    assert len(digits) == 1797
    np.testing.assert_array_equal(digits.known_labels(), theirs.target)
    assert "scikit-learn" in digits.source
    for i, image in enumerate(digits.images.numpy()):
        ink = image[np.ix_(image.any(1), image.any(0))]
        assert max(ink.shape) <= 20
        assert image.max() == 255
        assert np.abs(np.subtract(ndimage.center_of_mass(image), 14)).max() < 0.51
        if i % 45 == 0:  # scipy's cubic splines enlarge it to the same
            large = ndimage.zoom(np.pad(theirs.images[i] / 16, 1), 8, order=3, mode="grid-constant", grid_mode=True)
            large = large[np.ix_((large > 0.3).any(1), (large > 0.3).any(0))]
            small = ndimage.zoom(large, np.divide(ink.shape, large.shape), order=1, mode="nearest", grid_mode=True)
            assert np.corrcoef(small.ravel(), ink.ravel())[0, 1] > 0.95
            assert np.abs(np.subtract(large.shape, np.multiply(ink.shape, max(large.shape) / 20))).max() < 4
    assert mv.evaluate(reference["deep"], digits[:500]).accuracy > 0.95  # 86 % if they are cut out first
