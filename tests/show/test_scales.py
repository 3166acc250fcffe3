"""A colour is a promise: equal numbers look equal, zero is known, nothing is hidden, and every tile is its map."""

import math

import numpy as np
import pytest
import torch
from helpers import scale_of, sheet_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from mnistviz.show.picture import page
from mnistviz.show.scales import NOT_A_NUMBER, SCOPES, Scale, array, short
from mnistviz.show.tiles import SIDE, draw_grey, mosaic, tile_cells, tile_maps

numbers = st.floats(width=32, allow_subnormal=False)  # NaN and both infinities among them
finite = st.floats(width=32, allow_subnormal=False, allow_nan=False, allow_infinity=False)
panels = st.lists(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=numbers), max_size=4)
sampled = settings(deadline=None, max_examples=50)

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB
COLOUR_VISION = {
    "full": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}

pytestmark = pytest.mark.usefixtures("strict")


def lab(rgb: np.ndarray, vision: str = "full") -> np.ndarray:
    """CIE L*, a*, b* of sRGB colours as an eye of this kind sees them."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOUR_VISION[vision]).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = seen @ to_xyz.T / (0.9505, 1, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


@sampled
@given(panels)
def test_a_scale_is_symmetric_about_0_if_anything_is_negative_and_else_begins_at_0(values):
    known = [float(v) for panel in values for v in panel.flat if math.isfinite(v)]
    largest = max(map(abs, known), default=0.0)
    scale = Scale.over(values)
    assert (scale.low, scale.high) == (-largest if any(v < 0 for v in known) else 0.0, largest)
    assert scale.signed == any(v < 0 for v in known)


def test_a_scale_reads_numbers_of_any_kind():
    values = torch.tensor([[1.5, -2.5]], requires_grad=True)
    for kind in (values, values.bfloat16(), values.double(), values.detach().numpy(), [[1.5, -2.5]]):
        assert (array(kind).dtype, array(kind).tolist()) == (np.float64, [[1.5, -2.5]])
        assert Scale.over([kind]) == Scale(-2.5, 2.5, "layer")
        np.testing.assert_array_equal(Scale.over([kind]).rgb(kind), Scale.over([values]).rgb(values))
    scale = Scale(0.0, 1.0, "layer")
    for single in (0.5, torch.tensor(0.5)):
        np.testing.assert_array_equal(scale.rgb(single), scale.rgb([0.5])[0])


@pytest.mark.parametrize("scope", SCOPES)
def test_the_scope_of_a_layer_decides_which_outputs_count(scope, passes):
    trace, mine = passes["deep"], Scale(-3.0, 3.0, scope)
    for layer in ("conv2", "relu2", "fc2"):
        steps = trace.steps if scope == "network" else [trace[layer]]
        assert Scale.for_layer(trace, layer, scope) == scale_of(*(step.result for step in steps), scope=scope)
        assert Scale.for_layer(trace, layer, mine) is mine  # one of your own is used as it is
        assert Scale.for_layer(trace, layer) == Scale.for_layer(trace, layer, "layer")


@sampled
@given(st.floats(1e-30, 2.0**120))
def test_zero_is_exactly_white_with_signs_and_black_without(high):
    signed, positive = Scale(-high, high, "layer"), Scale(0.0, high, "layer")
    for zero in (0.0, -0.0):
        assert signed.rgb([zero]).tolist() == [[1, 1, 1]]
        assert (positive.rgb([zero]) < 4 / 255).all()
    assert (signed.rgb([-high, high / 100, high]) < 1).any(-1).all()
    assert (positive.rgb([high]) > 0.7).all()


@sampled
@given(panels.filter(len))
def test_the_same_number_has_the_same_colour_in_every_panel(values):
    scale = Scale.over(values)
    colours: dict[bytes, tuple[float, ...]] = {}
    for panel in values:
        drawn = scale.rgb(panel)
        assert drawn.shape == (*panel.shape, 3)
        assert ((drawn >= 0) & (drawn <= 1)).all()
        for place, value in np.ndenumerate(panel):
            key = b"nan" if np.isnan(value) else (value + np.float32(0)).tobytes()  # −0 is 0
            assert colours.setdefault(key, tuple(drawn[place])) == tuple(drawn[place])


@sampled
@given(hnp.arrays(np.float32, (3, 4), elements=finite))
def test_a_colour_can_be_read_back_as_the_number(values):
    scale = Scale.over([values])
    steps = np.linspace(0, 1, scale.colours.N)
    known = scale.colours(steps)[:, :3]
    nearest = np.abs(scale.rgb(values)[..., None, :] - known).sum(-1).argmin(-1)
    read = scale.low + steps[nearest] * (scale.high - scale.low)
    assert np.abs(read - values).max() <= (scale.high - scale.low) / scale.colours.N


def test_larger_is_lighter_without_signs_and_with_them_darker_about_equally_on_both_sides():
    positive, signed = Scale(0.0, 1.0, "layer"), Scale(-1.0, 1.0, "layer")
    rising = lab(positive.rgb(np.linspace(0, 1, positive.colours.N)))[:, 0]
    assert (np.diff(rising) > 0).all()
    sizes = np.linspace(0, 1, signed.colours.N // 2 + 1)
    above, below = (lab(signed.rgb(sign * sizes))[:, 0] for sign in (1, -1))
    for falling in (above, below):
        assert falling[0] == pytest.approx(100, abs=0.1)
        assert (np.diff(falling) < 0).all()
    assert np.abs(above - below).max() < 15


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_below_zero_is_blue_and_above_it_orange_for_every_kind_of_colour_vision(vision):
    sizes = np.linspace(0.1, 0.9, 81)
    above, below = (lab(Scale(-1.0, 1.0, "layer").rgb(sign * sizes), vision) for sign in (1, -1))
    assert (above[:, 2] > 4).all()  # b*: yellow above 0, blue below it
    assert (below[:, 2] < -4).all()
    assert (np.linalg.norm(above[:, 1:] - below[:, 1:], axis=1) > 10).all()


@pytest.mark.parametrize("low", [-2.0, 0.0])
def test_steps_are_small_ends_take_what_lies_beyond_and_what_is_not_a_number_is_seen(low):
    scale = Scale(low, 2.0, "layer")
    smooth = lab(scale.rgb(np.linspace(low, 2, 5000)))
    assert np.linalg.norm(np.diff(smooth, axis=0), axis=1).max() < 6  # no edge that is not there
    drawn = scale.rgb([math.nan, math.inf, -math.inf, 99.0, -99.0, 2.0, low])
    assert tuple(drawn[0]) == NOT_A_NUMBER
    np.testing.assert_array_equal(drawn[[1, 3]], drawn[[5, 5]])
    np.testing.assert_array_equal(drawn[[2, 4]], drawn[[6, 6]])
    assert np.linalg.norm(smooth - lab(np.array(NOT_A_NUMBER)), axis=1).min() > 20


def test_constant_and_empty_maps_are_drawn_without_a_division_by_zero():
    alike = {0.0: 0.0, 3.0: 1.0, -3.0: -1.0, math.nan: math.nan, math.inf: math.inf, 1e-300: 1.0, -5e-324: -1.0}
    for value, end in alike.items():  # in the colour of this number on a scale to 1
        colour = Scale(-1.0 if end < 0 else 0.0, 1.0, "layer").rgb(end)
        for shape in ((2, 2), (0, 3)):
            drawn = Scale.over([np.full(shape, value)]).rgb(np.full(shape, value))
            np.testing.assert_array_equal(drawn, np.broadcast_to(colour, (*shape, 3)))


TEXTS = {  # a scale in a caption, and the ends of its bar
    "each map has its own scale": (Scale(-1.5, 1.5, "map"), ["−1.50", "0", "1.50"]),
    "one scale for the layer, −1.50 to 1.50": (Scale(-1.5, 1.5, "layer"), ["−1.50", "0", "1.50"]),
    "one scale for the layer, 0 to 0": (Scale(0.0, 0.0, "layer"), ["0", "1.00"]),
    "one scale for the whole network, 0 to 4.0e−03": (Scale(0.0, 0.004, "network"), ["0", "4.0e−03"]),
    "one scale across all inputs shown, 0 to 2.0e+03": (Scale(0.0, 2000.0, "across inputs"), ["0", "2.0e+03"]),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_scale_names_its_scope_and_ends_and_its_bar_has_its_colours(text):
    scale, ends = TEXTS[text]
    assert str(scale) == text
    picture, axes = page(4, 2, columns=2)
    scale.bar(axes.tolist(), "weight")
    bar = picture.axes[-1]
    assert [label.get_text() for label in bar.get_yticklabels()] == ends
    assert bar.get_ylabel() == "weight"
    values = np.linspace(scale.low, scale.high, 37)
    np.testing.assert_allclose(bar.collections[-1].to_rgba(values)[:, :3], scale.rgb(values))


@sampled
@given(st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6))
def test_a_short_number_is_right_to_two_places(value):
    read = float(short(value).replace("−", "-"))
    assert read == pytest.approx(value, rel=0.051, abs=0.0051)
    assert read != 0


def test_numbers_are_as_short_as_can_be_read():
    values = [0.0, -0.0, 5.774, -0.42, 0.01, 0.0099, -1234.0, 999.0, math.inf, -math.inf]
    texts = ["0", "0", "5.77", "−0.42", "0.01", "9.9e−03", "−1.2e+03", "999.00", "inf", "−inf"]
    assert [short(value) for value in values] == texts


SHAPES = [(1, 7, 7, 1), (5, 3, 3, 4), (6, 5, 2, 3), (4, 28, 28, 2), (3, 40, 40, 2), (16, 1, 1, 8), (257, 3, 3, 16)]


def maps_of(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, height, width))


@pytest.fixture
def axes() -> Axes:
    return page(4, 4)[1]


def corners(sheet: np.ndarray, count: int, columns: int, height: int, width: int) -> list[tuple[int, int]]:
    """Row and column where each tile of this size begins, if they fill the sheet in even steps."""
    rows = -(-count // columns)
    below, odd_rows = divmod(len(sheet) - rows * height, max(rows - 1, 1))
    beside, odd_columns = divmod(sheet.shape[1] - columns * width, max(columns - 1, 1))
    assert odd_rows == odd_columns == 0
    assert (below >= 1, beside >= 1) == (rows > 1, columns > 1)
    return [(i // columns * (height + below), i % columns * (width + beside)) for i in range(count)]


@pytest.mark.parametrize(("shape", "white"), [((28, 28), 255), ((1, 1, 28, 28), 1), ((1, 3, 4, 5), 1)])
def test_grey_levels_run_from_black_to_white_and_of_several_channels_the_mean_is_drawn(shape, white, axes):
    image = torch.rand(shape) * white
    drawn = draw_grey(axes, image, "a title", white=white)
    np.testing.assert_allclose(sheet_of(axes), image.double().reshape(-1, *shape[-2:]).mean(0))
    assert (drawn.get_clim(), drawn.get_cmap().name, drawn.get_interpolation()) == ((0, white), "gray", "nearest")
    assert axes.title.get_text() == "a title"
    assert not len(axes.get_xticks())


@pytest.mark.parametrize("gap", [0, 3, (1, 4), (0, 2)])
@pytest.mark.parametrize("shape", [(2, 5), (4, 4, 3), (1, 1)])
def test_a_mosaic_takes_pictures_of_any_size_grey_or_in_colour(shape, gap):
    below, beside = (gap, gap) if isinstance(gap, int) else gap
    pictures = list(np.random.default_rng(0).random((5, *shape), np.float32))
    sheet = mosaic([pictures[:3], pictures[3:]], 3, gap, paper=7.0)
    assert sheet.shape == (2 * shape[0] + below, 3 * shape[1] + 2 * beside, *shape[2:])
    for i, image in enumerate(pictures):
        y, x = i // 3 * (shape[0] + below), i % 3 * (shape[1] + beside)
        cut = sheet[y : y + shape[0], x : x + shape[1]]
        np.testing.assert_array_equal(cut, image)
        cut[:] = 7
    assert (sheet == 7).all()


@pytest.mark.parametrize(("signed", "labelled"), [(False, False), (True, True)])
@pytest.mark.parametrize(("count", "height", "width", "columns"), SHAPES)
def test_each_tile_is_its_map_enlarged_under_its_label_and_all_else_is_paper(
    count, height, width, columns, signed, labelled, axes
):
    maps = maps_of(count, height, width) if signed else np.abs(maps_of(count, height, width))
    scale, labels = Scale.over([maps]), [f"c{i}" for i in range(count)] if labelled else []
    down, across = tile_maps(axes, maps, scale, columns, labels)
    sheet = sheet_of(axes).copy()
    zoom = max(1, SIDE // max(height, width)) if count <= 256 else 1
    places = corners(sheet, count, columns, height * zoom, width * zoom)
    assert all(place == (i // columns * down, i % columns * across) for i, place in enumerate(places))
    for values, (y, x) in zip(maps, places, strict=True):
        for (i, j), colour in zip(np.ndindex(height, width), scale.rgb(values).reshape(-1, 3), strict=True):
            square = sheet[y + i * zoom : y + (i + 1) * zoom, x + j * zoom : x + (j + 1) * zoom]
            np.testing.assert_allclose(square, np.broadcast_to(colour, square.shape), atol=1e-6)
            square[:] = 1
    assert (sheet == 1).all()
    assert [t.get_text() for t in axes.texts] == labels
    for text, (y, x) in zip(axes.texts, places if zoom > 1 else [], strict=False):
        assert (text.get_ha(), text.get_va(), text.get_position()[0]) == ("left", "bottom", x - 0.5)
        ends = [corner + height * zoom for corner, _ in places if corner < y]
        assert max(ends, default=axes.get_ylim()[1]) - 0.5 < text.get_position()[1] < y - 0.5  # in the gap above


@pytest.mark.parametrize("value", [0.0, 1.25, -3.0, 2e-6])
def test_a_constant_map_says_so_in_ink_that_can_be_read(value, axes):
    maps = np.stack([np.full((3, 3), value), maps_of(1, 3, 3)[0]])
    tile_maps(axes, maps, Scale.over([maps]), 2, ["0", "1"])
    constant, first, second = axes.texts
    assert [t.get_text() for t in (first, second)] == ["0", "1"]
    assert constant.get_text() == f"constant\n{short(value)}"
    x, y = constant.get_position()
    assert (x, y) == pytest.approx((13, 13), abs=1)  # the middle of a tile of 27 pixels
    behind = sheet_of(axes)[int(y), int(x)]
    assert abs(behind.mean() - np.mean(to_rgb(constant.get_color()))) > 0.3


def test_with_a_scale_of_its_own_each_map_fills_its_range_and_says_it(axes):
    maps = np.stack([[[-1.5, 0.5]], [[0.0, 20.0]], [[-0.001, 0.0005]], [[4.0, 4.0]]])
    tile_maps(axes, maps, Scale.over([maps], "map"), 2, list("abcd"))
    sheet = sheet_of(axes)
    for values, (y, x) in zip(maps, corners(sheet, 4, 2, 14, 28), strict=True):
        high = np.abs(values).max()
        own = Scale(-high if (values < 0).any() else 0.0, high, "layer")
        np.testing.assert_allclose(sheet[y + 7, [x + 7, x + 21]], own.rgb(values[0]), atol=1e-6)
    texts = [t.get_text() for t in axes.texts]
    assert texts == ["a  ±1.50", "b  to 20.00", "c  ±1.0e−03", "constant\n4.00", "d"]


def test_what_is_not_a_number_is_green_and_its_map_not_constant(axes):
    tile_maps(axes, np.array([[[1.0, np.nan]], [[np.nan, np.nan]]]), Scale(0, 1, "layer"), 2, ["0", "1"])
    green = (np.abs(sheet_of(axes)[7] - NOT_A_NUMBER) < 1e-6).all(1)
    assert [t.get_text() for t in axes.texts] == ["0", "1"]
    assert (green.sum(), green[7], green[21]) == (14 + 28, False, True)


@pytest.mark.parametrize(("count", "columns", "rows"), [(10, 16, 1), (16, 16, 1), (17, 16, 2), (256, 64, 4)])
def test_cells_are_the_values_row_by_row_and_end_in_paper(count, columns, rows, axes):
    values = maps_of(1, 1, count)
    values[0, 0, 1] = np.nan  # green, and no paper
    scale = Scale.over([values])
    tile_cells(axes, values, scale, columns)
    sheet = sheet_of(axes)
    assert sheet.shape == (rows, columns, 3)
    np.testing.assert_allclose(sheet.reshape(-1, 3)[:count], scale.rgb(values.ravel()))
    assert tuple(sheet[0, 1]) == NOT_A_NUMBER
    assert (sheet.reshape(-1, 3)[count:] == 1).all()
    assert not any(spine.get_visible() for spine in axes.spines.values())
