"""Every tile is its map: enlarged, in its place, in the colours of the scale, with paper between."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from mnistviz.show.picture import page
from mnistviz.show.scales import NOT_A_NUMBER, Scale
from mnistviz.show.tiles import SIDE, enlarged, tile_cells, tile_maps

SHAPES = [  # maps, height, width, columns
    (1, 7, 7, 1), (5, 3, 3, 4), (6, 5, 2, 3), (4, 28, 28, 2), (3, 40, 40, 2), (16, 1, 1, 8), (7, 4, 9, 7),
    (2, 6, 6, 5), (257, 3, 3, 16),
]  # fmt: skip


def maps_of(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, height, width))


@pytest.fixture
def axes() -> Axes:
    return page(4, 4)[1]


def sheet_of(axes: Axes) -> np.ndarray:
    (image,) = axes.images
    assert image.get_interpolation() == "nearest"
    return np.asarray(image.get_array())


def corners(sheet: np.ndarray, count: int, columns: int, height: int, width: int) -> list[tuple[int, int]]:
    """Row and column where each tile of this size begins, if they fill the sheet in even steps."""
    rows = -(-count // columns)
    below, odd_rows = divmod(len(sheet) - rows * height, max(rows - 1, 1))
    beside, odd_columns = divmod(sheet.shape[1] - columns * width, max(columns - 1, 1))
    assert odd_rows == odd_columns == 0
    assert (below >= 1, beside >= 1) == (rows > 1, columns > 1)
    return [(i // columns * (height + below), i % columns * (width + beside)) for i in range(count)]


@pytest.mark.parametrize(("signed", "labelled"), [(False, False), (True, True)])
@pytest.mark.parametrize(("count", "height", "width", "columns"), SHAPES)
def test_each_tile_is_its_map_enlarged_and_all_else_is_paper(
    count: int, height: int, width: int, columns: int, signed: bool, labelled: bool, axes: Axes
) -> None:
    maps = maps_of(count, height, width) if signed else np.abs(maps_of(count, height, width))
    scale = Scale.over([maps])
    tile_maps(axes, maps, scale, columns, [str(i) for i in range(count)] * labelled)
    sheet = sheet_of(axes).copy()
    zoom = max(1, SIDE // max(height, width)) if count <= 256 else 1
    for values, (y, x) in zip(maps, corners(sheet, count, columns, height * zoom, width * zoom), strict=True):
        for (i, j), colour in zip(np.ndindex(height, width), scale.rgb(values).reshape(-1, 3), strict=True):
            square = sheet[y + i * zoom : y + (i + 1) * zoom, x + j * zoom : x + (j + 1) * zoom]
            np.testing.assert_allclose(square, np.broadcast_to(colour, square.shape), atol=1e-6)
            square[:] = 1
    assert (sheet == 1).all()


@pytest.mark.parametrize(("count", "height", "width", "columns"), SHAPES[1:5])
def test_a_label_stands_in_the_gap_above_the_left_edge_of_its_tile(
    count: int, height: int, width: int, columns: int, axes: Axes
) -> None:
    tile_maps(axes, maps_of(count, height, width), Scale(-2, 2, "layer"), columns, [f"c{i}" for i in range(count)])
    sheet, zoom = sheet_of(axes), max(1, SIDE // max(height, width))
    places = corners(sheet, count, columns, height * zoom, width * zoom)
    assert [t.get_text() for t in axes.texts] == [f"c{i}" for i in range(count)]
    bottom, top = axes.get_ylim()
    assert bottom == len(sheet) - 0.5
    for text, (y, x) in zip(axes.texts, places, strict=True):
        assert (text.get_ha(), text.get_va()) == ("left", "bottom")
        assert text.get_position()[0] == x - 0.5
        ends = [corner + height * zoom for corner, _ in places if corner < y]
        assert max(ends, default=top) - 0.5 < text.get_position()[1] < y - 0.5


@pytest.mark.parametrize("value", [0.0, 1.25, -3.0])
def test_a_constant_map_says_so_in_ink_that_can_be_read(value: float, axes: Axes) -> None:
    maps = np.stack([np.full((3, 3), value), maps_of(1, 3, 3)[0]])
    tile_maps(axes, maps, Scale.over([maps]), 2, ["0", "1"])
    said, first, second = axes.texts
    assert [t.get_text() for t in (first, second)] == ["0", "1"]
    assert said.get_text().replace("−", "-") == f"constant\n{value:.2f}"
    x, y = said.get_position()
    assert (x, y) == pytest.approx((13, 13), abs=1)  # the middle of a tile of 27 pixels
    behind = sheet_of(axes)[int(y), int(x)]
    assert abs(behind.mean() - np.mean(to_rgb(said.get_color()))) > 0.3


def test_a_constant_map_of_zeros_is_drawn_in_the_colour_of_zero(axes: Axes) -> None:
    tile_maps(axes, np.zeros((1, 2, 2)), Scale.over([np.zeros(1)]), 1, ["5"])
    assert [t.get_text() for t in axes.texts] == ["constant\n0.00", "5"]
    assert (sheet_of(axes) < 4 / 255).all()


def test_with_a_scale_of_its_own_each_map_fills_its_range_and_says_it(axes: Axes) -> None:
    maps = np.stack([[[-1.5, 0.5]], [[0.0, 20.0]], [[-0.001, 0.0005]], [[4.0, 4.0]]])
    tile_maps(axes, maps, Scale.over([maps], "map"), 2, list("abcd"))
    sheet = sheet_of(axes)
    for values, (y, x) in zip(maps, corners(sheet, 4, 2, 14, 28), strict=True):
        high = np.abs(values).max()
        own = Scale(-high if (values < 0).any() else 0.0, high, "layer")
        np.testing.assert_allclose(sheet[y + 7, [x + 7, x + 21]], own.rgb(values[0]), atol=1e-6)
    assert [t.get_text() for t in axes.texts] == [
        "a  ±1.50", "b  to 20.00", "c  ±1.0e−03", "constant\n4.00", "d",
    ]  # fmt: skip


def test_what_is_not_a_number_is_green_and_its_map_not_constant(axes: Axes) -> None:
    maps = np.array([[[1.0, np.nan]], [[np.nan, np.nan]]])
    tile_maps(axes, maps, Scale.over([maps]), 2, ["0", "1"])
    sheet = sheet_of(axes)
    for (y, x), values in zip(corners(sheet, 2, 2, 14, 28), maps, strict=True):
        drawn = sheet[y + 7, [x + 7, x + 21]]
        np.testing.assert_array_equal((np.abs(drawn - NOT_A_NUMBER) < 1e-6).all(1), np.isnan(values[0]))
    assert [t.get_text() for t in axes.texts] == ["0", "1"]


def test_a_sheet_has_no_ticks_and_no_frame(axes: Axes) -> None:
    tile_maps(axes, maps_of(2, 3, 3), Scale(-2, 2, "layer"), 2)
    assert not len(axes.get_xticks())
    assert not any(spine.get_visible() for spine in axes.spines.values())


@pytest.mark.parametrize(("count", "columns", "rows"), [(10, 16, 1), (16, 16, 1), (17, 16, 2), (256, 64, 4), (1, 3, 1)])
def test_cells_are_the_values_row_by_row_and_end_in_paper(count: int, columns: int, rows: int, axes: Axes) -> None:
    values = maps_of(1, 1, count)
    scale = Scale.over([values])
    tile_cells(axes, values, scale, columns)
    sheet = sheet_of(axes)
    assert sheet.shape == (rows, columns, 3)
    np.testing.assert_allclose(sheet.reshape(-1, 3)[:count], scale.rgb(values.ravel()))
    assert (sheet.reshape(-1, 3)[count:] == 1).all()


def test_a_cell_that_is_not_a_number_is_green_and_no_paper(axes: Axes) -> None:
    tile_cells(axes, np.array([1.0, np.nan, 2.0]), Scale(0, 2, "layer"), 2)
    sheet = sheet_of(axes)
    assert tuple(sheet[0, 1]) == NOT_A_NUMBER
    assert tuple(sheet[1, 1]) == (1, 1, 1)


def test_enlarged_makes_squares_of_pixels() -> None:
    assert enlarged(np.array([[1, 2]]), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
    assert enlarged(np.zeros((2, 3, 3)), 4).shape == (8, 12, 3)
