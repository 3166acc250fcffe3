"""Every colour of every animation is known before the first frame, and numbers survive the way there and back."""

import math
import runpy

import matplotlib.style
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnistviz.animate import palette
from mnistviz.animate.palette import GREYS, INKS, NOT_A_NUMBER, PALETTE, PAPER, RAMPS, TRANSPARENT, USED
from mnistviz.show.scales import Scale

SIGNED, POSITIVE = Scale(-2.0, 2.0, "layer"), Scale(0.0, 2.0, "layer")
SIZES = st.floats(1e-30, 2.0**100)
SIGNED_SCALES = st.builds(lambda high: Scale(-high, high, "layer"), SIZES)
SCALES = st.none() | SIGNED_SCALES | st.builds(lambda high: Scale(0.0, high, "layer"), SIZES)
SHARES = hnp.arrays(np.float64, hnp.array_shapes(min_side=0, max_dims=3, max_side=5), elements=st.floats(0, 1))

pytestmark = pytest.mark.usefixtures("strict")


def ramp_of(scale: Scale | None) -> tuple[np.ndarray, float, float]:
    """The colours of a scale and the numbers at its ends."""
    return (GREYS, 0.0, 1.0) if scale is None else (RAMPS[scale.signed], scale.low, scale.high)


def test_every_colour_is_there_once_and_used_and_transparency_is_none_of_them():
    assert PALETTE.shape == (256, 3)
    assert PALETTE.dtype == np.uint8
    assert len({tuple(colour) for colour in PALETTE[:USED].tolist()}) == USED
    named = np.concatenate([GREYS, *RAMPS.values(), *INKS.values(), [NOT_A_NUMBER]])
    assert set(named.tolist()) == set(range(USED))
    assert USED <= TRANSPARENT < 256


def test_the_palette_is_the_same_in_every_process_and_in_any_style(golden):
    with matplotlib.style.context("ggplot"):
        assert runpy.run_path(palette.__file__)["PALETTE"].tobytes() == PALETTE.tobytes()
    for name, ramp in {"greys": GREYS, "signed": RAMPS[True], "positive": RAMPS[False], **INKS}.items():
        golden(name, " ".join(f"{number}:{bytes(PALETTE[number]).hex()}" for number in ramp))


def test_greys_go_in_even_steps_from_black_to_paper():
    assert (GREYS[-1], len(GREYS)) == (PAPER, 32)
    assert np.abs(PALETTE[GREYS] - np.linspace([0] * 3, [255] * 3, 32)).max() < 1


def test_an_ink_goes_straight_from_paper_to_its_colour():
    assert INKS["white"][-1] == PAPER  # the only one that comes out of the dark
    for name in INKS.keys() - {"white"}:
        colours = PALETTE[INKS[name]].astype(float)
        assert INKS[name][0] == PAPER
        assert np.abs(colours - np.linspace(colours[0], colours[-1], len(colours))).max() <= 0.51, name
    assert len({int(INKS[f"class {d}"][-1]) for d in range(10)}) == 10


@settings(deadline=None)
@given(SCALES, SHARES)
def test_a_number_is_read_back_to_half_a_step(scale, shares):
    ramp, low, high = ramp_of(scale)
    numbers = np.clip(low + shares * (high - low), low, high)
    colours = palette.indices(numbers, scale)
    assert colours.dtype == np.uint8
    assert colours.shape == numbers.shape
    half_step = (high - low) / (len(ramp) - 1) / 2
    assert np.abs(palette.values(colours, scale) - numbers).max(initial=0) <= half_step * (1 + 1e-9)


@settings(deadline=None)
@given(SCALES)
def test_the_colours_of_a_scale_stand_for_equal_steps(scale):
    ramp, low, high = ramp_of(scale)
    numbers = palette.values(ramp, scale)
    np.testing.assert_allclose(numbers, np.linspace(low, high, len(ramp)), rtol=1e-6, atol=1e-9 * high)
    np.testing.assert_array_equal(palette.indices(numbers, scale), ramp)
    others = np.setdiff1d(np.arange(256, dtype=np.uint8), ramp)
    assert np.isnan(palette.values(others, scale)).all()


@settings(deadline=None)
@given(SCALES, hnp.arrays(np.float32, 8, elements=st.floats(width=32, allow_subnormal=False)))
def test_what_is_not_a_number_has_its_own_colour_and_what_is_off_the_scale_that_of_the_end(scale, numbers):
    ramp, low, high = ramp_of(scale)
    for number, colour in zip(numbers.tolist(), palette.indices(numbers, scale).tolist(), strict=True):
        if math.isnan(number):
            assert colour == NOT_A_NUMBER
        elif low < number < high:
            assert colour in ramp
        else:
            assert colour == (ramp[-1] if number >= high else ramp[0])


def test_zero_is_exactly_white_with_signs_and_black_without():
    for zero in (0.0, -0.0):
        assert palette.indices(zero, SIGNED) == PAPER
        assert palette.indices(zero, POSITIVE) == RAMPS[False][0]
    assert palette.values(PAPER, SIGNED) == 0
    flat = Scale(0.0, 0.0, "layer")
    assert (palette.indices(np.zeros((2, 3)), flat) == RAMPS[False][0]).all()
    assert (palette.values(RAMPS[False], flat) == 0).all()


def test_the_colours_are_those_of_the_static_figures():
    steps = np.round(255 * SIGNED.rgb(np.linspace(-2, 2, 65)))
    np.testing.assert_array_equal(PALETTE[RAMPS[True]], steps)
    np.testing.assert_array_equal(PALETTE[palette.indices([math.nan], SIGNED)] / 255, SIGNED.rgb([math.nan]))
    for scale in (SIGNED, POSITIVE):
        ramp, low, high = ramp_of(scale)
        numbers, two_steps = np.linspace(low, high, 4001), 2 * (high - low) / (len(ramp) - 1)
        drawn = PALETTE[palette.indices(numbers, scale)] / 255
        near = np.stack([scale.rgb(numbers + d) for d in np.linspace(-two_steps, two_steps, 33)])
        assert np.abs(near - drawn).max(-1).min(0).max() <= 1 / 255
        assert np.abs(scale.rgb(numbers) - drawn).mean() < 0.012
