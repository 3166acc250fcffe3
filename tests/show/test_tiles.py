"""Every tile is its map: enlarged, in its place, in the colours of the scale, with paper between."""

import numpy as np
import pytest
import torch
from helpers import sheet_of
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from mnistviz.show.picture import page
from mnistviz.show.scales import NOT_A_NUMBER, Scale
from mnistviz.show.tiles import SIDE, draw_grey, frame, mosaic, tile_cells, tile_maps

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
def test_grey_levels_run_from_black_to_white_and_of_several_channels_the_mean_is_drawn(
    shape: tuple[int, ...], white: int, axes: Axes
) -> None:
    image = torch.rand(shape) * white
    drawn = draw_grey(axes, image, "a title", white=white)
    np.testing.assert_allclose(sheet_of(axes), image.double().reshape(-1, *shape[-2:]).mean(0))
    assert (drawn.get_clim(), drawn.get_cmap().name, drawn.get_interpolation()) == ((0, white), "gray", "nearest")
    assert axes.title.get_text() == "a title"
    assert not len(axes.get_xticks())


def test_a_frame_stands_around_whole_pixels(axes: Axes) -> None:
    frame(axes, 2, 5, 3, 4, "red")
    (box,) = axes.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((4.5, 1.5), 4, 3)
    assert not box.get_fill()


@pytest.mark.parametrize("gap", [0, 3, (1, 4), (0, 2)])
@pytest.mark.parametrize("shape", [(2, 5), (4, 4, 3), (1, 1)])
def test_a_mosaic_takes_pictures_of_any_size_grey_or_in_colour(shape: tuple, gap: int | tuple[int, int]) -> None:
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
    count: int, height: int, width: int, columns: int, signed: bool, labelled: bool, axes: Axes
) -> None:
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


@pytest.mark.parametrize("value", [0.0, 1.25, -3.0])
def test_a_constant_map_says_so_in_ink_that_can_be_read(value: float, axes: Axes) -> None:
    maps = np.stack([np.full((3, 3), value), maps_of(1, 3, 3)[0]])
    tile_maps(axes, maps, Scale.over([maps]), 2, ["0", "1"])
    constant, first, second = axes.texts
    assert [t.get_text() for t in (first, second)] == ["0", "1"]
    assert constant.get_text().replace("−", "-") == f"constant\n{value:.2f}"
    x, y = constant.get_position()
    assert (x, y) == pytest.approx((13, 13), abs=1)  # the middle of a tile of 27 pixels
    behind = sheet_of(axes)[int(y), int(x)]
    assert abs(behind.mean() - np.mean(to_rgb(constant.get_color()))) > 0.3


def test_with_a_scale_of_its_own_each_map_fills_its_range_and_says_it(axes: Axes) -> None:
    maps = np.stack([[[-1.5, 0.5]], [[0.0, 20.0]], [[-0.001, 0.0005]], [[4.0, 4.0]]])
    tile_maps(axes, maps, Scale.over([maps], "map"), 2, list("abcd"))
    sheet = sheet_of(axes)
    for values, (y, x) in zip(maps, corners(sheet, 4, 2, 14, 28), strict=True):
        high = np.abs(values).max()
        own = Scale(-high if (values < 0).any() else 0.0, high, "layer")
        np.testing.assert_allclose(sheet[y + 7, [x + 7, x + 21]], own.rgb(values[0]), atol=1e-6)
    texts = [t.get_text() for t in axes.texts]
    assert texts == ["a  ±1.50", "b  to 20.00", "c  ±1.0e−03", "constant\n4.00", "d"]


def test_what_is_not_a_number_is_green_and_its_map_not_constant(axes: Axes) -> None:
    tile_maps(axes, np.array([[[1.0, np.nan]], [[np.nan, np.nan]]]), Scale(0, 1, "layer"), 2, ["0", "1"])
    green = (np.abs(sheet_of(axes)[7] - NOT_A_NUMBER) < 1e-6).all(1)
    assert [t.get_text() for t in axes.texts] == ["0", "1"]
    assert (green.sum(), green[7], green[21]) == (14 + 28, False, True)


@pytest.mark.parametrize(("count", "columns", "rows"), [(10, 16, 1), (16, 16, 1), (17, 16, 2), (256, 64, 4)])
def test_cells_are_the_values_row_by_row_and_end_in_paper(count: int, columns: int, rows: int, axes: Axes) -> None:
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
