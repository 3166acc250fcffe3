"""Every colour of every animation is known before the first frame, and numbers survive the way there and back."""

import math
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator

import matplotlib.style
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnistviz.animate import palette
from mnistviz.animate.palette import GREYS, INKS, NOT_A_NUMBER, PALETTE, PAPER, RAMPS, TRANSPARENT, USED
from mnistviz.show.scales import Scale

sizes = st.floats(1e-30, 2.0**100)
scales = st.none() | st.builds(lambda high: Scale(-high, high, "layer"), sizes) | st.builds(
    lambda high: Scale(0.0, high, "layer"), sizes
)  # fmt: skip
shares = hnp.arrays(np.float64, hnp.array_shapes(min_side=0, max_dims=3, max_side=5), elements=st.floats(0, 1))
IMPORT = "from mnistviz.animate.palette import PALETTE; print(PALETTE.tobytes().hex())"


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """No division by zero, no overflow and no warning goes unseen in this file."""
    with warnings.catch_warnings(), np.errstate(divide="raise", invalid="raise", over="raise"):
        warnings.simplefilter("error")
        yield


def ends(scale: Scale | None) -> tuple[float, float]:
    return (0.0, 1.0) if scale is None else (scale.low, scale.high)


def ramp(scale: Scale | None) -> np.ndarray:
    return GREYS if scale is None else RAMPS[scale.signed]


def light(found: np.ndarray) -> np.ndarray:
    """Relative luminance, 0 to 1."""
    rgb = PALETTE[found] / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────


def test_no_colour_is_there_twice_and_every_one_is_of_use() -> None:
    assert PALETTE.shape == (256, 3)
    assert PALETTE.dtype == np.uint8
    assert len({tuple(colour) for colour in PALETTE[:USED].tolist()}) == USED
    named = np.concatenate([GREYS, *RAMPS.values(), *INKS.values(), [NOT_A_NUMBER]])
    assert set(named.tolist()) == set(range(USED))


def test_the_number_that_means_as_before_is_no_colour() -> None:
    assert USED <= TRANSPARENT < 256
    assert not PALETTE[USED:].any()


def test_a_fresh_process_has_the_same_palette() -> None:
    seed = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", IMPORT], env=seed, capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout) == PALETTE.tobytes()


def test_the_palette_does_not_depend_on_the_readers_style() -> None:
    with matplotlib.style.context("ggplot"):
        assert runpy.run_path(palette.__file__)["PALETTE"].tobytes() == PALETTE.tobytes()


# ── the ramps ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("found", [GREYS, *RAMPS.values()], ids=["greys", "signed", "positive"])
def test_every_step_of_a_ramp_is_another_colour(found: np.ndarray) -> None:
    assert len(set(found.tolist())) == len(found)
    assert NOT_A_NUMBER not in found


def test_greys_go_evenly_from_black_to_paper() -> None:
    levels = PALETTE[GREYS].astype(int)
    assert (levels == levels[:, :1]).all()
    assert levels[0].tolist() == [0, 0, 0]
    assert levels[-1].tolist() == PALETTE[PAPER].tolist() == [255, 255, 255]
    assert np.abs(levels[:, 0] - np.linspace(0, 255, 32)).max() <= 1


def test_without_signs_larger_is_lighter_beginning_with_black() -> None:
    found = RAMPS[False]
    assert len(found) == 64
    assert (PALETTE[found[0]] <= 4).all()
    assert (np.diff(light(found)) > 0).all()


def test_with_signs_the_exact_middle_is_white_and_both_sides_darken_in_equal_steps() -> None:
    found = RAMPS[True]
    assert len(found) == 65
    assert found[32] == PAPER
    for side in (found[32:], found[32::-1]):
        assert (np.diff(light(side)) < 0).all()
    read = palette.values(found, Scale(-3.0, 3.0, "layer"))
    assert read[32] == 0
    np.testing.assert_array_equal(read, -read[::-1])
    np.testing.assert_allclose(np.diff(read), 6 / 64)


def test_below_zero_is_blue_and_above_it_orange() -> None:
    colours = PALETTE[RAMPS[True]].astype(int)
    assert (colours[:31, 2] > colours[:31, 0]).all()
    assert (colours[34:, 0] > colours[34:, 2]).all()


@pytest.mark.parametrize("name", sorted(INKS.keys() - {"white"}))
def test_an_ink_goes_straight_from_paper_to_its_colour(name: str) -> None:
    colours = PALETTE[INKS[name]].astype(float)
    assert INKS[name][0] == PAPER
    straight = np.linspace(colours[0], colours[-1], len(colours))
    assert np.abs(colours - straight).max() <= 0.51
    assert (np.diff(light(INKS[name])) < 0).all()


def test_white_ink_comes_out_of_the_dark() -> None:
    assert INKS["white"][-1] == PAPER
    assert (np.diff(light(INKS["white"])) > 0).all()


def test_every_class_has_an_ink_of_its_own() -> None:
    assert len({int(INKS[f"class {d}"][-1]) for d in range(10)}) == 10


# ── numbers to colours and back ───────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(scales, shares)
def test_a_number_is_read_back_to_half_a_step(scale: Scale | None, where: np.ndarray) -> None:
    low, high = ends(scale)
    given_ = np.clip(low + where * (high - low), low, high)
    found = palette.indices(given_, scale)
    assert found.dtype == np.uint8
    assert found.shape == given_.shape
    read = palette.values(found, scale)
    assert np.abs(read - given_).max(initial=0) <= palette.half_step(scale) * (1 + 1e-9)


@settings(deadline=None)
@given(scales)
def test_half_a_step_is_half_the_distance_of_two_colours(scale: Scale | None) -> None:
    read = palette.values(ramp(scale), scale)
    np.testing.assert_allclose(np.diff(read), 2 * palette.half_step(scale), rtol=1e-6)
    np.testing.assert_array_equal(palette.indices(read, scale), ramp(scale))
    assert (read[0], read[-1]) == pytest.approx(ends(scale))


@settings(deadline=None)
@given(scales, hnp.arrays(np.float32, 8, elements=st.floats(width=32, allow_subnormal=False)))
def test_what_is_no_number_has_its_own_colour_and_what_is_off_the_scale_that_of_the_end(
    scale: Scale | None, given_: np.ndarray
) -> None:
    low, high = ends(scale)
    found = palette.indices(given_, scale)
    for value, colour in zip(given_.astype(float).tolist(), found.tolist(), strict=True):
        if math.isnan(value):
            assert colour == NOT_A_NUMBER
        elif value >= high:
            assert colour == ramp(scale)[-1]
        elif value <= low:
            assert colour == ramp(scale)[0]
        else:
            assert colour in ramp(scale)


@settings(deadline=None)
@given(scales, st.lists(st.floats(0, 1), min_size=2))
def test_a_larger_number_is_never_further_down_the_ramp(scale: Scale | None, where: list[float]) -> None:
    low, high = ends(scale)
    place = {int(colour): k for k, colour in enumerate(ramp(scale))}
    steps = [place[int(c)] for c in palette.indices(low + np.sort(where) * (high - low), scale)]
    assert steps == sorted(steps)


def test_zero_is_exactly_white_with_signs_and_black_without() -> None:
    for zero in ([0.0], [-0.0]):
        assert palette.indices(zero, Scale(-0.7, 0.7, "layer")).tolist() == [PAPER]
        assert palette.indices(zero, Scale(0.0, 0.7, "layer")).tolist() == [RAMPS[False][0]]


def test_a_scale_of_zeros_is_flat() -> None:
    scale = Scale(0.0, 0.0, "layer")
    found = palette.indices(np.zeros((2, 3)), scale)
    assert (found == RAMPS[False][0]).all()
    assert (palette.values(found, scale) == 0).all()
    assert palette.half_step(scale) == 0


@pytest.mark.parametrize("scale", [None, Scale(-1.0, 1.0, "layer"), Scale(0.0, 1.0, "layer")], ids=str)
def test_a_colour_that_is_not_on_the_scale_is_read_as_no_number(scale: Scale | None) -> None:
    others = np.setdiff1d(np.arange(256, dtype=np.uint8), ramp(scale))
    assert np.isnan(palette.values(others, scale)).all()
    assert NOT_A_NUMBER in others


def test_any_kind_of_tensor_has_colours() -> None:
    scale, tensor = Scale(-2.0, 2.0, "layer"), torch.tensor([[1.5, -0.5]], requires_grad=True)
    for kind in (tensor, tensor.double(), tensor.bfloat16(), tensor.detach().numpy(), [[1.5, -0.5]]):
        np.testing.assert_array_equal(palette.indices(kind, scale), palette.indices(np.array([[1.5, -0.5]]), scale))


def test_a_single_number_has_a_colour_too() -> None:
    assert palette.indices(0.5, None) == palette.indices([0.5], None)[0]


@pytest.mark.parametrize("low", [-2.0, 0.0])
def test_the_colours_are_those_of_the_static_figures(low: float) -> None:
    scale = Scale(low, 2.0, "layer")
    given_ = np.linspace(low, 2, 4001)
    drawn, figure = PALETTE[palette.indices(given_, scale)] / 255, scale.rgb(given_)
    dark = 2 * (2.0 - low) / (len(ramp(scale)) - 1)  # two steps this way or that
    near = np.stack([scale.rgb(given_ + d) for d in np.linspace(-dark, dark, 33)])
    assert np.abs(near - drawn).max(-1).min(0).max() <= 1 / 255
    assert np.abs(figure - drawn).mean() < 0.012


def test_the_signed_colours_are_those_of_the_static_figures_to_the_last_bit() -> None:
    scale = Scale(-1.0, 1.0, "layer")
    expected = np.round(255 * scale.rgb(np.linspace(-1, 1, 65)))
    np.testing.assert_array_equal(PALETTE[RAMPS[True]], expected)
    np.testing.assert_array_equal(PALETTE[palette.indices([math.nan], scale)] / 255, scale.rgb([math.nan]))
