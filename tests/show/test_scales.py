"""A colour is a promise: equal numbers look equal, zero is known, signs are told apart, and nothing is hidden."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mnistviz as mv
from mnistviz.look.trace import Trace
from mnistviz.show.picture import Picture, page
from mnistviz.show.scales import NOT_A_NUMBER, SCOPES, Scale, array, short, strange

numbers = st.floats(width=32, allow_subnormal=False)  # NaN and both infinities among them
finite = st.floats(width=32, allow_subnormal=False, allow_nan=False, allow_infinity=False)
panels = st.lists(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=numbers), max_size=4)

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB
COLOUR_VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """No division by zero, no overflow and no warning goes unseen in this file."""
    with warnings.catch_warnings(), np.errstate(divide="raise", invalid="raise", over="raise"):
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def trace(few: mv.Digits) -> Trace:
    model = mv.load_model("deep")
    with mv.capture(model) as trace:
        model(few[5].pixels)
    return trace


def lab(rgb: np.ndarray, vision: str = "full") -> np.ndarray:
    """CIE L*, a*, b* of sRGB colours as an eye of this kind sees them."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ COLOUR_VISION[vision].T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = seen @ to_xyz.T / (0.9505, 1, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


# ── which numbers a scale spans ───────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(panels)
def test_a_scale_is_symmetric_about_0_if_anything_is_negative_and_else_begins_at_0(values: list[np.ndarray]) -> None:
    known = [float(v) for panel in values for v in panel.flat if math.isfinite(v)]
    largest = max(map(abs, known), default=0.0)
    scale = Scale.over(values)
    assert (scale.low, scale.high) == (-largest if any(v < 0 for v in known) else 0.0, largest)
    assert scale.signed == any(v < 0 for v in known)


def test_a_scale_reads_any_kind_of_tensor() -> None:
    values = torch.tensor([[1.5, -2.5]], requires_grad=True)
    for kind in (values, values.bfloat16(), values.double(), values.detach().numpy(), [[1.5, -2.5]]):
        assert Scale.over([kind]) == Scale(-2.5, 2.5, "layer")
        np.testing.assert_array_equal(Scale.over([kind]).rgb(kind), Scale.over([values]).rgb(values))


@pytest.mark.parametrize("scope", SCOPES)
def test_the_scope_of_a_layer_decides_which_outputs_count(scope: str, trace: Trace) -> None:
    for layer in ("conv2", "relu2", "fc2"):
        steps = list(trace) if scope == "network" else [trace[layer]]
        high = max(float(step.output.abs().max()) for step in steps)
        low = -high if any(float(step.output.min()) < 0 for step in steps) else 0.0
        assert Scale.for_layer(trace, layer, scope) == Scale(low, high, scope)


def test_a_scale_of_your_own_is_used_as_it_is(trace: Trace) -> None:
    mine = Scale(-3.0, 3.0, "across inputs")
    assert Scale.for_layer(trace, "relu2", mine) is mine


def test_without_a_word_the_scale_is_that_of_the_layer(trace: Trace) -> None:
    assert Scale.for_layer(trace, "conv2") == Scale.for_layer(trace, "conv2", "layer") == Scale.over(
        [trace["conv2"].output]
    )  # fmt: skip


@pytest.mark.parametrize("wrong", ["layers", "each", ""])
def test_an_unknown_scope_is_refused_with_the_four_there_are(wrong: str, trace: Trace) -> None:
    for call in (lambda: Scale.for_layer(trace, "conv2", wrong), lambda: Scale.over([trace["conv2"].output], wrong)):
        with pytest.raises(mv.MnistvizError, match="unknown colour scope") as caught:
            call()
        assert "map, layer, network, across inputs" in str(caught.value)
        assert repr(wrong) in str(caught.value)


def test_an_unknown_layer_is_refused(trace: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match="did you mean 'conv"):
        Scale.for_layer(trace, "conv7")


# ── numbers to colours ────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(st.floats(1e-30, 2.0**120))
def test_zero_is_exactly_white_with_signs_and_black_without(high: float) -> None:
    signed, positive = Scale(-high, high, "layer"), Scale(0.0, high, "layer")
    for zero in (0.0, -0.0):
        assert signed.rgb([zero]).tolist() == [[1, 1, 1]]
        assert (positive.rgb([zero]) < 4 / 255).all()
    assert (signed.rgb([-high, high / 100, high]) < 1).any(-1).all()
    assert (positive.rgb([high]) > 0.7).all()


@settings(deadline=None)
@given(panels.filter(len))
def test_the_same_number_has_the_same_colour_in_every_panel(values: list[np.ndarray]) -> None:
    scale = Scale.over(values)
    colour: dict[bytes, tuple[float, ...]] = {}
    for panel in values:
        drawn = scale.rgb(panel)
        assert drawn.shape == (*panel.shape, 3)
        assert ((drawn >= 0) & (drawn <= 1)).all()
        for place, value in np.ndenumerate(panel):
            key = b"nan" if np.isnan(value) else (value + np.float32(0)).tobytes()  # −0 is 0
            assert colour.setdefault(key, tuple(drawn[place])) == tuple(drawn[place])


@settings(deadline=None)
@given(hnp.arrays(np.float32, (3, 4), elements=finite))
def test_a_colour_can_be_read_back_as_the_number(values: np.ndarray) -> None:
    scale = Scale.over([values])
    steps = np.linspace(0, 1, scale.colours.N)
    known = scale.colours(steps)[:, :3]
    nearest = np.abs(scale.rgb(values)[..., None, :] - known).sum(-1).argmin(-1)
    read = scale.low + steps[nearest] * (scale.high - scale.low)
    assert np.abs(read - values).max() <= (scale.high - scale.low) / scale.colours.N


@pytest.mark.parametrize("value", [torch.tensor(0.5), 0.5], ids=["tensor", "float"])
def test_a_single_number_has_a_colour_too(value: object) -> None:
    scale = Scale(0.0, 1.0, "layer")
    np.testing.assert_array_equal(scale.rgb(value), scale.rgb([0.5])[0])


def test_larger_is_lighter_without_signs_and_darker_on_both_sides_with_them() -> None:
    positive, signed = Scale(0.0, 1.0, "layer"), Scale(-1.0, 1.0, "layer")
    rising = lab(positive.rgb(np.linspace(0, 1, positive.colours.N)))[:, 0]
    assert (np.diff(rising) > 0).all()
    for side in (-1, 1):
        falling = lab(signed.rgb(side * np.linspace(0, 1, signed.colours.N // 2 + 1)))[:, 0]
        assert falling[0] == pytest.approx(100, abs=0.1)
        assert (np.diff(falling) < 0).all()


def test_equal_sizes_of_either_sign_are_about_equally_dark() -> None:
    sizes = np.linspace(0, 1, 101)
    above, below = (lab(Scale(-1.0, 1.0, "layer").rgb(sign * sizes))[:, 0] for sign in (1, -1))
    assert np.abs(above - below).max() < 15


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_below_zero_is_blue_and_above_it_orange_for_every_kind_of_colour_vision(vision: str) -> None:
    sizes = np.linspace(0.1, 0.9, 81)
    above, below = (lab(Scale(-1.0, 1.0, "layer").rgb(sign * sizes), vision) for sign in (1, -1))
    assert (above[:, 2] > 4).all()  # b*: yellow above 0, blue below it
    assert (below[:, 2] < -4).all()
    assert (np.linalg.norm(above[:, 1:] - below[:, 1:], axis=1) > 10).all()


@pytest.mark.parametrize("low", [-2.0, 0.0])
def test_what_is_not_a_number_has_its_own_colour_and_infinities_those_of_the_ends(low: float) -> None:
    scale = Scale(low, 2.0, "layer")
    drawn = scale.rgb([math.nan, math.inf, -math.inf, 99.0, -99.0, 2.0, low])
    assert tuple(drawn[0]) == NOT_A_NUMBER
    np.testing.assert_array_equal(drawn[[1, 3]], drawn[[5, 5]])
    np.testing.assert_array_equal(drawn[[2, 4]], drawn[[6, 6]])
    others = scale.colours(np.linspace(0, 1, 511))[:, :3]
    assert np.linalg.norm(lab(others) - lab(np.array(NOT_A_NUMBER)), axis=1).min() > 20


@pytest.mark.parametrize(
    "values",
    [np.zeros((2, 2)), np.full((2, 2), 3.0), np.full((2, 2), -3.0), np.full((2, 2), np.nan), np.array([np.inf]),
     np.array([-np.inf, np.nan]), np.zeros((0, 3)), np.array([1e-300]), np.array([-5e-324])],
    ids=["zero", "three", "minus three", "nan", "inf", "no finite one", "empty", "tiny", "smallest"],
)  # fmt: skip
def test_constant_and_empty_maps_are_drawn_without_a_division_by_zero(values: np.ndarray) -> None:
    scale = Scale.over([values])
    drawn = scale.rgb(values)
    assert drawn.shape == (*values.shape, 3)
    assert len({tuple(c) for c in drawn.reshape(-1, 3)}) == len({str(v) for v in values.flat})
    assert str(scale).startswith("one scale for the layer, ")


def test_a_map_of_zeros_is_black_and_a_constant_one_has_the_colour_of_its_end() -> None:
    assert (Scale.over([np.zeros(4)]).rgb(np.zeros(4)) < 4 / 255).all()
    assert (Scale.over([np.full(4, 3.0)]).rgb([3.0]) == Scale(0.0, 9.0, "layer").rgb([9.0])).all()
    assert (Scale.over([np.full(4, -3.0)]).rgb([-3.0]) == Scale(-9.0, 9.0, "layer").rgb([-9.0])).all()


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_neighbouring_numbers_have_neighbouring_colours(low: float) -> None:
    """No step between two colours is large enough to draw an edge that is not there."""
    drawn = lab(Scale(low, 1.0, "layer").rgb(np.linspace(low, 1, 5000)))
    assert np.linalg.norm(np.diff(drawn, axis=0), axis=1).max() < 6


# ── what is said of it ────────────────────────────────────────────────────────────────────────────────────


def bar_of(picture: Picture):
    (mesh,) = picture.axes[-1].collections[-1:]
    return picture.axes[-1], mesh


@pytest.mark.parametrize(
    ("scale", "ends"),
    [
        (Scale(-2.5, 2.5, "layer"), ["−2.50", "0", "2.50"]),
        (Scale(0.0, 0.004, "network"), ["0", "4.0e−03"]),
        (Scale(0.0, 0.0, "layer"), ["0", "1.00"]),
    ],
)
def test_a_bar_has_the_colours_of_the_scale_and_names_its_ends(scale: Scale, ends: list[str]) -> None:
    picture, axes = page(4, 2, columns=2)
    scale.bar(axes.tolist(), "weight")
    drawn, mesh = bar_of(picture)
    assert [t.get_text() for t in drawn.get_yticklabels()] == ends
    assert drawn.get_ylabel() == "weight"
    values = np.linspace(scale.low, scale.high, 37)
    np.testing.assert_allclose(mesh.to_rgba(values)[:, :3], scale.rgb(values))


def test_a_bar_may_stand_beside_a_single_axes() -> None:
    picture, axes = page(4, 2)
    Scale(0.0, 1.0, "layer").bar(axes)
    assert len(picture.axes) == 2


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (Scale(-1.5, 1.5, "map"), "each map has its own scale"),
        (Scale(-1.5, 1.5, "layer"), "one scale for the layer, −1.50 to 1.50"),
        (Scale(0.0, 6.434, "network"), "one scale for the whole network, 0 to 6.43"),
        (Scale(0.0, 2000.0, "across inputs"), "one scale across all inputs shown, 0 to 2.0e+03"),
    ],
)
def test_a_scale_says_its_scope_and_its_ends(scale: Scale, said: str) -> None:
    assert str(scale) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (-0.0, "0"), (5.774, "5.77"), (-0.42, "−0.42"), (0.01, "0.01"), (0.0099, "9.9e−03"),
     (-1234.0, "−1.2e+03"), (999.0, "999.00"), (math.inf, "inf"), (-math.inf, "−inf")],
)  # fmt: skip
def test_a_number_is_written_as_short_as_it_can_be_read(value: float, said: str) -> None:
    assert short(value) == said


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6))
def test_a_short_number_is_right_to_two_places(value: float) -> None:
    assert float(short(value).replace("−", "-")) == pytest.approx(value, rel=0.051, abs=0.0051)
    assert float(short(value).replace("−", "-")) != 0


def test_values_that_are_not_numbers_are_counted_in_a_sentence() -> None:
    assert strange(torch.tensor([1.0, math.inf])) == ""
    assert strange(np.full(1200, np.nan)) == " 1,200 values are not numbers (NaN) and drawn green."


def test_arrays_are_float64_copies_of_any_tensor() -> None:
    values = torch.tensor([1, 2], dtype=torch.uint8)
    assert array(values).dtype == np.float64
    assert array(values).tolist() == array([1, 2]).tolist() == [1.0, 2.0]
