"""Every image has a draw of its own, and moves as an independent computation says."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from helpers import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor
from torchvision.transforms import InterpolationMode

import mnistviz as mv
from mnistviz.learn import augment as module

BILINEAR = InterpolationMode.BILINEAR
N = 64


def apply(augment: mv.Augment, x: Tensor, seed: int = 0) -> Tensor:
    return augment(x, torch.zeros(len(x), dtype=torch.int64), torch.Generator().manual_seed(seed))[0]


def looks_at(augment: mv.Augment, count: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Where each output pixel looks, measured: (N, 2, 28, 28) as x and y in pixels, and where that is certain.

    A ramp shows the place it was read at; on a white picture only pixels from inside stay white.
    """
    ramp = torch.arange(28.0).expand(28, 28)
    white, x, y = (apply(augment, picture.expand(count, 1, 28, 28), seed) for picture in (torch.ones(1), ramp, ramp.T))
    return torch.cat([x, y], dim=1), white[:, 0] > 1 - 1e-6


def maps(augment: mv.Augment, seed: int = 0) -> np.ndarray:
    """The affine map behind each image, fitted by least squares: (N, 2, 3), about the centre of the picture."""
    where, sure = (tensor.numpy() for tensor in looks_at(augment, seed=seed))
    y, x = np.mgrid[:28, :28] - 13.5
    fits = []
    for place, fine in zip(where, sure, strict=True):
        design = np.stack([x[fine], y[fine], np.ones(fine.sum())], axis=1)
        fit, *_ = np.linalg.lstsq(design, place[:, fine].T - 13.5, rcond=None)
        assert np.abs(design @ fit - (place[:, fine].T - 13.5)).max() < 1e-3  # it is affine
        fits.append(fit.T)
    return np.stack(fits)


@pytest.fixture(scope="module")
def x(few) -> Tensor:
    return few.pixels[:N]


def angles(affine: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(affine[:, 1, 0], affine[:, 0, 0]))


LIMITS = {"rotation": (1, 90), "zoom": (0.05, 0.4), "slant": (2, 30), "aspect": (0.05, 0.4), "shift": (0.02, 0.2)}


@settings(max_examples=12, deadline=None)
@given(limits=st.fixed_dictionaries({name: st.floats(*ends) for name, ends in LIMITS.items()}), seed=st.integers(0, 99))
def test_each_image_is_turned_zoomed_slanted_widened_and_shifted_within_the_limits(limits, seed):
    affine = maps(mv.Augment(**limits), seed)
    turn, moved = np.radians(angles(affine)), affine[:, :, 2]
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]).transpose(2, 0, 1)
    upright = back @ affine[:, :, :2]  # its rotation undone, what is left is zoom, aspect and slant
    assert np.abs(upright[:, 1, 0]).max() < 1e-4
    scale, wide = np.sqrt(upright[:, 0, 0] * upright[:, 1, 1]), np.sqrt(upright[:, 1, 1] / upright[:, 0, 0])
    lean = np.degrees(np.arctan(upright[:, 0, 1] / scale))
    drawn = np.stack([np.degrees(turn), 1 / scale - 1, lean, wide - 1, *moved.T / 28])
    draws = drawn / np.array([limits[name] for name in (*LIMITS, "shift")])[:, None]
    assert np.abs(draws).max() <= 1 + 1e-2
    assert (draws.min(axis=1) < -0.5).all()
    assert (draws.max(axis=1) > 0.5).all()
    assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 0.6  # each has a draw of its own


def test_each_part_and_all_together_are_torchvision_s_affine_map(x):
    parts = {"rotation": 30, "zoom": 0.3, "shift": 0.15}
    for setting in (*({name: value} for name, value in parts.items()), parts):
        augment = mv.Augment(**setting)
        affine = maps(augment)
        zooms = np.hypot(affine[:, 0, 0], affine[:, 1, 0])
        moves = -np.linalg.solve(affine[:, :, :2], affine[:, :, 2:])[:, :, 0]  # torchvision moves last
        result = apply(augment, x)
        for i, (angle, zoom, move) in enumerate(zip(angles(affine), 1 / zooms, moves, strict=True)):
            expected = tv.affine(x[i], -float(angle), move.tolist(), float(zoom), [0.0], BILINEAR)
            assert torch.allclose(result[i], expected, atol=3e-3)


def test_a_crop_is_the_middle_resized(x):
    theirs = tv.resized_crop(x, 4, 4, 20, 20, [28, 28], BILINEAR, antialias=False)
    ours = apply(mv.Augment(crop=(20, 1.0)), x)
    assert torch.allclose(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-4)  # at its edge ours knows more


def test_a_crop_happens_as_often_as_asked():
    where, _ = looks_at(mv.Augment(crop=(20, 0.3)), count=1000)
    step = where[:, 0, 14, 14] - where[:, 0, 14, 13]
    cropped = torch.isclose(step, torch.tensor(20 / 28), atol=1e-3)
    assert (cropped | torch.isclose(step, torch.tensor(1.0), atol=1e-3)).all()
    assert stats.binomtest(int(cropped.sum()), 1000, 0.3).pvalue > 1e-3


def test_one_resampling_serves_every_geometric_part(x, monkeypatch):
    calls = []
    sample = module.F.grid_sample
    monkeypatch.setattr(module.F, "grid_sample", lambda *a, **k: calls.append(len(a[0])) or sample(*a, **k))
    apply(mv.Augment(rotation=10, shift=0.1, zoom=0.1, crop=(24, 0.5), elastic=(0.5, 4.0), slant=9, aspect=0.1), x)
    assert calls == [N]


@pytest.mark.parametrize(("pixels", "smoothness"), [(0.5, 3.0), (2.0, 4.0)])
def test_elastic_moves_by_the_pixels_asked_as_smoothly_as_asked(pixels, smoothness):
    where, sure = looks_at(mv.Augment(elastic=(pixels, smoothness)), count=600)
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    moved = (where - torch.stack([x, y]))[..., 12:16, 12:16].numpy()
    assert sure[..., 12:16, 12:16].all()
    assert abs(moved.mean()) < 0.1 * pixels
    for axis in (0, 1):
        assert moved[:, axis].std() == pytest.approx(pixels, rel=0.08)
    assert abs(np.corrcoef(moved[:, 0].ravel(), moved[:, 1].ravel())[0, 1]) < 0.15  # x and y on their own
    near = np.corrcoef(moved[..., 0].ravel(), moved[..., 3].ravel())[0, 1]
    assert near == pytest.approx(np.exp(-(3**2) / (4 * smoothness**2)), abs=0.05)  # white noise through a Gaussian
    assert abs(np.corrcoef(moved[:300].ravel(), moved[300:].ravel())[0, 1]) < 0.15  # and each image on its own


@settings(max_examples=15, deadline=None)
@given(side=st.integers(1, 28), seed=st.integers(0, 99))
def test_cutout_blackens_one_square_inside_the_picture(side, seed):
    black = apply(mv.Augment(cutout=(side, 1.0)), torch.ones(500, 1, 28, 28), seed)[:, 0] == 0
    assert (black.sum((1, 2)) == side**2).all()
    assert (black.any(2).sum(1) == side).all()
    assert (black.any(1).sum(1) == side).all()
    assert black.any(0).any(0).all()  # no row and no column is spared for ever
    assert black.any(0).any(1).all()


def test_cutout_keeps_the_rest_and_happens_as_often_as_asked(x):
    hit = apply(mv.Augment(cutout=(8, 0.25)), torch.ones(1000, 1, 28, 28)).amin((1, 2, 3)) == 0
    assert stats.binomtest(int(hit.sum()), 1000, 0.25).pvalue > 1e-3
    ours = apply(mv.Augment(cutout=(8, 1.0)), x)
    assert ((ours == x) | (ours == 0)).all()


@settings(max_examples=15, deadline=None)
@given(alpha=st.just(1e-6) | st.floats(0.05, 5), count=st.integers(1, 100), seed=st.integers(0, 99))
def test_mixup_mixes_images_and_labels_in_the_same_share(alpha, count, seed):
    x = torch.eye(784)[:count].view(count, 1, 28, 28)  # image i is white in pixel i alone
    y = torch.arange(count) % 10
    mixed, labels = mv.Augment(mixup=alpha)(x, y, torch.Generator().manual_seed(seed))
    shares = mixed.flatten(1)[:, :count]
    assert labels.shape == (count, 10)
    assert torch.allclose(labels.sum(1), torch.ones(count), atol=1e-5)
    assert torch.allclose(labels, shares @ torch.eye(10)[y], atol=1e-5)
    assert ((shares > 0).sum(1) <= 2).all()  # itself and one other


@pytest.mark.parametrize("alpha", [0.2, 3.0])
def test_mixup_draws_its_share_from_a_beta_distribution(alpha):
    x = torch.eye(784).view(784, 1, 28, 28)
    mixed, _ = mv.Augment(mixup=alpha)(x, torch.zeros(784, dtype=torch.int64), torch.Generator().manual_seed(0))
    shares = mixed.flatten(1)
    share = shares.diagonal()[(shares > 0).sum(1) == 2]  # not those mixed with themselves
    assert len(share) > 700
    assert stats.kstest(share.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def uniform(draws: np.ndarray, low: float, high: float) -> bool:
    return bool(stats.kstest(draws, stats.uniform(low, high - low).cdf).pvalue > 1e-3)


def test_a_stroke_grows_by_dilation_and_shrinks_by_half_an_erosion(few):
    x = few.pixels[:300]
    moved = []
    for image, ours in zip(x[:, 0].numpy(), apply(mv.Augment(stroke=1.6), x)[:, 0].numpy(), strict=True):
        out, into = (ndimage.grey_dilation, 1, 1), (ndimage.grey_erosion, 0.5, -1)
        grown, most, sign = out if ours.sum() >= image.sum() else into
        once = image + most * (grown(image, (3, 3), mode="nearest") - image)
        twice = once + most * (grown(once, (3, 3), mode="nearest") - once)
        before, after, pixels = (image, once, 0) if sign * (ours - once).sum() < 0 else (once, twice, 1)
        share = float(((after - before) * (ours - before)).sum() / np.square(after - before).sum())
        np.testing.assert_allclose(ours, before + share * (after - before), atol=1e-5)
        moved.append(sign * (pixels + share))
    assert uniform(np.array(moved), -1.6, 1.6)


def test_blur_is_a_bell_curve_that_keeps_full_ink():
    dot = torch.zeros(500, 1, 28, 28)
    dot[..., 14, 14] = 0.9
    ours = apply(mv.Augment(blur=1.5), dot)[:, 0].double().numpy()
    away = np.square(np.arange(28) - 14)
    with np.errstate(divide="ignore"):
        sigmas = np.sqrt(-0.5 / np.log(ours[:, 14, 15] / 0.9))
        bells = 0.9 * np.exp(-0.5 * (away[:, None] + away) / np.square(sigmas.clip(1e-9))[:, None, None])
    np.testing.assert_allclose(ours, bells, atol=1e-4)
    assert uniform(sigmas[sigmas > 0.15], 0.15, 1.5)  # of a smaller one no trace can be measured


def test_gamma_is_a_power_of_the_ink():
    grey = torch.linspace(0, 1, 784).view(1, 1, 28, 28).expand(500, 1, 28, 28)
    ours = apply(mv.Augment(gamma=0.7), grey)
    powers = ours[:, 0, 10, 10].log() / grey[0, 0, 10, 10].log()
    assert torch.allclose(ours, grey ** powers.view(-1, 1, 1, 1), atol=1e-5)
    assert uniform(powers.log().numpy(), -0.7, 0.7)


parts = st.builds(
    mv.Augment,
    rotation=st.just(0.0) | st.floats(0, 180),
    shift=st.just(0.0) | st.floats(0, 1),
    zoom=st.just(0.0) | st.floats(0, 0.9),
    crop=st.tuples(st.integers(1, 40), st.floats(0, 1)),
    elastic=st.tuples(st.just(0.0) | st.floats(0, 5), st.floats(0.5, 6)),
    cutout=st.tuples(st.integers(0, 40), st.floats(0, 1)),
    mixup=st.just(0.0) | st.floats(0.01, 5),
    slant=st.just(0.0) | st.floats(0, 60),
    aspect=st.just(0.0) | st.floats(0, 0.9),
    stroke=st.just(0.0) | st.floats(0, 3),
    blur=st.just(0.0) | st.floats(0, 5),
    gamma=st.just(0.0) | st.floats(0, 3),
)


@settings(max_examples=30, deadline=None)
@given(augment=parts, seed=st.integers(0, 1000))
def test_any_setting_keeps_pixels_in_range_and_repeats_with_its_seed(augment, seed):
    x = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    kept = x.clone()
    y = torch.arange(6)
    out, labels = augment(x, y, torch.Generator().manual_seed(seed))
    again = augment(x, y, torch.Generator().manual_seed(seed))
    assert torch.equal(x, kept)  # what came in is left alone
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert 0 <= out.min() <= out.max() <= 1 + 1e-5
    assert torch.equal(out, again[0])
    assert torch.equal(labels, again[1])
    assert augment.mixup or torch.equal(labels, y)


def test_all_zero_changes_nothing_and_draws_nothing(x):
    generator, y = torch.Generator().manual_seed(0), torch.arange(N) % 10
    result, labels = mv.Augment()(x, y, generator)
    assert torch.equal(result, x)
    assert torch.equal(labels, y)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())
    mv.Augment(rotation=10, shift=0.1)(x, y, generator)  # nor does a part that is off, beside others: five draws each
    torch.empty(5, N).uniform_(generator=(expected := torch.Generator().manual_seed(0)))
    assert torch.equal(generator.get_state(), expected.get_state())


OUT_OF_RANGE = {
    "rotation": [-1, 181, np.nan],
    "shift": [-0.1, 1.1],
    "zoom": [-0.1, 1],
    "crop": [(0, 0.5), (20, 1.1), (20, -0.1)],
    "elastic": [(-1, 4), (1, 0)],
    "cutout": [(-1, 0.5), (6, 2)],
    "mixup": [-0.1, np.nan],
    "slant": [-1, 61],
    "aspect": [-0.1, 1],
    "stroke": [-0.1, 5.1],
    "blur": [-0.1, np.nan],
    "gamma": [-0.1, np.nan],
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_setting_out_of_range_is_refused_by_name(name):
    for value in OUT_OF_RANGE[name]:
        words = f"augmentation setting '{name}' is out of range", f"given:   {value}", "allowed:"
        refused(lambda setting={name: value}: mv.Augment(**setting), *words)
