"""A canvas shows exactly what it is given, where it is told to, and remembers which numbers that were."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

import mnistviz as mv
from mnistviz.animate import palette
from mnistviz.animate.canvas import FONTS, Canvas, coverage, ease, width_of
from mnistviz.animate.palette import INKS, PALETTE, PAPER, RAMPS
from mnistviz.show.scales import Scale

SIGNED, POSITIVE = Scale(-1.0, 1.0, "layer"), Scale(0.0, 1.0, "layer")
ANCHORS = [side + height for side in "lmr" for height in "amsbd"]

rectangles = st.tuples(st.integers(-9, 40), st.integers(-9, 30), st.integers(1, 30), st.integers(1, 30))
corners = st.tuples(st.floats(-20, 60), st.floats(-20, 50))


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def tiled(maps: np.ndarray, scale: Scale | None, zoom: int) -> list[np.ndarray]:
    return [np.kron(palette.indices(m, scale), np.ones((zoom, zoom), np.uint8)) for m in maps]


def painted(draw: Callable[[Canvas], object], width: int = 40, height: int = 30) -> np.ndarray:
    canvas = Canvas(width, height)
    draw(canvas)
    assert canvas.pixels.shape == (height, width)
    assert canvas.pixels.dtype == np.uint8
    return canvas.pixels


def cells(x: int, y: int, width: int, height: int) -> set[tuple[int, int]]:
    return {(i, j) for i in range(x, x + width) for j in range(y, y + height)}


def touched(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is not paper, both ends included."""
    rows, columns = np.nonzero(pixels != PAPER)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


# ── maps ──────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 4)), st.integers(1, 5), st.integers(1, 8),
    st.integers(0, 5), st.integers(0, 5), st.sampled_from([None, SIGNED, POSITIVE]),
)  # fmt: skip
def test_maps_are_exact_squares_in_rows_with_paper_between(
    shape: tuple[int, int, int], zoom: int, columns: int, below: int, beside: int, scale: Scale | None
) -> None:
    maps = random(*shape)
    count, height, width = shape
    across, down = min(columns, count) * (width * zoom + beside), -(-count // columns) * (height * zoom + below)
    canvas = Canvas(across + 5, down + 5)
    canvas.maps(3, 2, maps, scale, zoom, [("c", 0, k) for k in range(count)], columns, (below, beside))
    expected = np.full_like(canvas.pixels, PAPER)
    for k, tile in enumerate(tiled(maps, scale, zoom)):
        x, y = 3 + k % columns * (width * zoom + beside), 2 + k // columns * (height * zoom + below)
        expected[y : y + height * zoom, x : x + width * zoom] = tile
    np.testing.assert_array_equal(canvas.pixels, expected)
    low, high = (0, 1) if scale is None else (scale.low, scale.high)
    assert [claim.source for claim in canvas.claims] == [("c", 0, k) for k in range(count)]
    for claim, shown in zip(canvas.claims, maps, strict=True):
        np.testing.assert_array_equal(claim.values, shown)
        read = claim.read(canvas.pixels)
        assert np.abs(read - shown.clip(low, high)).max() <= palette.half_step(scale) * (1 + 1e-9)


def test_one_gap_is_the_same_both_ways_and_all_maps_stand_in_one_row_by_default() -> None:
    one, two = Canvas(40, 12), Canvas(40, 12)
    one.maps(1, 1, random(3, 4, 4), SIGNED, 2, gap=3)
    two.maps(1, 1, random(3, 4, 4), SIGNED, 2, columns=3, gap=(3, 3))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.claims == []


@pytest.mark.parametrize("scale", [None, SIGNED, POSITIVE], ids=str)
def test_what_is_not_a_number_is_read_back_as_such(scale: Scale | None) -> None:
    canvas, values = Canvas(10, 10), np.array([[[0.25, np.nan], [np.inf, 0.5]]])
    canvas.maps(0, 0, values, scale, 3, [("c", 0, 0)])
    read = canvas.claims[0].read(canvas.pixels)
    assert np.isnan(read).tolist() == [[False, True], [False, False]]
    assert read[1, 0] == 1
    assert palette.NOT_A_NUMBER in canvas.pixels


def test_flat_values_are_a_block_read_line_by_line() -> None:
    canvas, values = Canvas(12, 9), random(10)
    canvas.cells(0, 0, values, SIGNED, 3, 4, "relu3")
    assert [(claim.source, claim.x, claim.y) for claim in canvas.claims] == [
        (("part", "relu3", 0, 0), 0, 0), (("part", "relu3", 0, 4), 0, 3), (("part", "relu3", 0, 8), 0, 6)
    ]  # fmt: skip
    read = np.concatenate([claim.read(canvas.pixels)[0] for claim in canvas.claims])
    assert np.abs(read - values).max() <= palette.half_step(SIGNED)
    expected = np.full(12, PAPER, np.uint8)
    expected[:10] = palette.indices(values, SIGNED)
    np.testing.assert_array_equal(canvas.pixels, expected.reshape(3, 4).repeat(3, 0).repeat(3, 1))


# ── claims ────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(rectangles)
def test_painting_over_a_claim_takes_it_back_and_touching_it_does_not(over: tuple[int, int, int, int]) -> None:
    canvas = Canvas(40, 30)
    canvas.maps(4, 3, random(2, 3, 4), SIGNED, 3, [("c", 0, 0), ("c", 0, 1)], 1, 5)
    places = {("c", 0, 0): cells(4, 3, 12, 9), ("c", 0, 1): cells(4, 17, 12, 9)}
    canvas.fill(*over)
    assert [c.source for c in canvas.claims] == [s for s, place in places.items() if not place & cells(*over)]


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_a_rectangle_without_area_takes_nothing_back(width: int, height: int) -> None:
    canvas = Canvas(40, 30)
    canvas.maps(0, 0, random(1, 4, 4), SIGNED, 5, [("c", 0, 0)])
    canvas.fill(6, 6, width, height)
    assert len(canvas.claims) == 1


def test_a_map_over_a_map_takes_its_place() -> None:
    canvas = Canvas(20, 20)
    canvas.maps(0, 0, random(1, 4, 4), SIGNED, 2, [("old", 0, 0)])
    canvas.maps(8, 0, random(1, 4, 4), SIGNED, 2, [("beside", 0, 0)])
    canvas.maps(0, 0, random(1, 4, 4, seed=1), SIGNED, 2, [("new", 0, 0)])
    assert [claim.source[0] for claim in canvas.claims] == ["beside", "new"]
    for claim in canvas.claims:
        assert np.abs(claim.read(canvas.pixels) - claim.values).max() <= palette.half_step(SIGNED)


def test_marks_and_strips_leave_the_claims_alone() -> None:
    canvas = Canvas(20, 20)
    canvas.maps(0, 0, random(1, 4, 4), SIGNED, 5, [("c", 0, 0)])
    canvas.mark(5, 5, 2, "accent")
    canvas.rule(0, 9, 20, 1, "red")
    assert len(canvas.claims) == 1
    expected = np.kron(palette.indices(random(4, 4), SIGNED), np.ones((5, 5), np.uint8))
    expected[5:7, 5:7], expected[9] = INKS["accent"][-1], INKS["red"][-1]
    np.testing.assert_array_equal(canvas.pixels, expected)


def test_a_number_is_claimed_as_it_is_and_written_as_it_is_said() -> None:
    canvas = Canvas(80, 30)
    canvas.number(5, 5, np.float32(-0.125), ("bias", "conv1", 0), size=14)
    canvas.number(40, 5, 0.98765, ("right",), "98.8 %", size=14)
    short, said = canvas.claims
    assert (short.source, float(short.values), short.words) == (("bias", "conv1", 0), -0.125, "−0.12")
    assert (said.source, float(said.values), said.words) == (("right",), 0.98765, "98.8 %")
    expected = Canvas(80, 30)
    expected.text(5, 5, "−0.12", 14)
    expected.text(40, 5, "98.8 %", 14)
    np.testing.assert_array_equal(canvas.pixels, expected.pixels)


def test_a_number_that_is_painted_over_from_its_beginning_is_claimed_no_longer() -> None:
    canvas = Canvas(80, 30)
    canvas.number(20, 5, 0.5, ("right",))
    canvas.fill(0, 0, 20, 30)
    assert len(canvas.claims) == 1
    canvas.fill(20, 0, 60, 30)
    assert canvas.claims == []


@pytest.mark.parametrize("anchor", ["ra", "rm", "rb", "mm", "ls", "ma"])
def test_a_number_of_which_no_letter_is_left_is_claimed_no_longer(anchor: str) -> None:
    canvas = Canvas(80, 40)
    canvas.number(40, 20, 0.5, ("right",), anchor=anchor)
    left, top, right, bottom = touched(canvas.pixels)
    for x, width in ((left, 40 - left), (41, right - 40)):  # all the letters, but not the anchor's own column …
        canvas.fill(x, top, width, bottom - top + 1)
    canvas.fill(40, top, 1, 20 - top)  # … and in that not the anchor itself
    canvas.fill(40, 21, 1, bottom - 20)
    assert (np.delete(canvas.pixels.ravel(), 20 * 80 + 40) == PAPER).all()
    assert canvas.claims == []


@pytest.mark.parametrize(("x", "y"), [(-4, 0), (0, -4), (8, 0), (0, 8)])
def test_a_claim_that_is_partly_outside_reads_no_number_there(x: int, y: int) -> None:
    canvas, values = Canvas(16, 16), random(6, 6)
    canvas.maps(x, y, values[None], SIGNED, 2, [("c", 0, 0)])
    for claim in canvas.claims:
        read = claim.read(canvas.pixels)
        inside = np.zeros((6, 6), bool)
        inside[max(0, -y // 2) : (16 - y) // 2, max(0, -x // 2) : (16 - x) // 2] = True
        np.testing.assert_array_equal(np.isnan(read), ~inside)
        np.testing.assert_allclose(read[inside], values[inside], atol=palette.half_step(SIGNED))


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────


def written(words: str, x: int, y: int, size: int, anchor: str, bold: bool, steps: int) -> np.ndarray:
    """Pillow's own letters on a large black sheet, in so many steps; 100 pixels of margin on all sides."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    font = ImageFont.truetype(str(FONTS / name), size, layout_engine=ImageFont.Layout.BASIC)
    sheet = Image.new("L", (500, 300))
    ImageDraw.Draw(sheet).text((100 + x, 100 + y), words, 255, font, anchor=anchor)
    return np.rint(np.asarray(sheet) / 255 * (steps - 1)).astype(int)


@settings(deadline=None, max_examples=80)
@given(
    st.text("abcgjyÄÉ0123456789.,−%→×()/ ", min_size=1, max_size=9), st.integers(-60, 340), st.integers(-40, 140),
    st.integers(8, 40), st.sampled_from(ANCHORS), st.booleans(), st.sampled_from(["ink", "faint", "red", "class 3"]),
)  # fmt: skip
def test_letters_are_pillows_own_at_every_anchor_and_cut_off_at_the_edges(
    words: str, x: int, y: int, size: int, anchor: str, bold: bool, ink: str
) -> None:
    pixels = painted(lambda c: c.text(x, y, words, size, ink, anchor, bold), 300, 100)
    expected = INKS[ink][written(words, x, y, size, anchor, bold, len(INKS[ink]))]
    np.testing.assert_array_equal(pixels, expected[100:200, 100:400])


def test_soft_edges_are_of_the_ink_alone() -> None:
    for name, ramp in INKS.items():
        canvas = Canvas(60, 30)
        canvas.fill(0, 0, 60, 30, "blue")
        canvas.text(5, 5, "Wo 8", 16, name)
        canvas.line([(3, 28), (57, 22)], name, 1.5)
        drawn = set(np.unique(canvas.pixels).tolist()) - {int(INKS["blue"][-1])}
        assert drawn <= set(ramp[1:].tolist())
        assert int(ramp[-1]) in np.unique(canvas.pixels)


@pytest.mark.parametrize("words", ["conv1", "W", "0.5 %", "a", "−12.3", "fj"])
@pytest.mark.parametrize("bold", [False, True])
def test_a_line_says_where_it_stands(words: str, bold: bool) -> None:
    canvas = Canvas(200, 40)
    x, y, soft = canvas.text(50, 5, words, 20, bold=bold)
    left, top, right, bottom = touched(canvas.pixels)
    assert x <= left
    assert y <= top
    assert right < x + soft.shape[1]
    assert bottom < y + soft.shape[0]
    assert abs(soft.shape[1] - width_of(words, 20, bold)) <= 4


def test_no_words_draw_nothing() -> None:
    assert (painted(lambda c: c.text(10, 10, "")) == PAPER).all()
    assert width_of("") == 0


def test_a_colour_bar_shows_the_whole_scale_and_writes_its_ends() -> None:
    signed = [(50, "−2.50", "la"), (115, "0", "ma"), (180, "2.50", "ra")]
    positive = [(50, "0", "la"), (180, "0.50", "ra")]
    for scale, marks in ((Scale(-2.5, 2.5, "layer"), signed), (Scale(0.0, 0.5, "layer"), positive)):
        canvas = Canvas(400, 60)
        canvas.scale(50, 10, scale, 130, words="relu1")
        bar = canvas.pixels[10:24, 50:180]
        assert (bar == bar[0]).all()
        read = palette.values(bar[0], scale)
        assert (read[0], read[-1]) == (scale.low, scale.high)
        np.testing.assert_allclose(read, np.linspace(scale.low, scale.high, 130), atol=palette.half_step(scale) * 1.01)
        assert list(dict.fromkeys(bar[0].tolist())) == RAMPS[scale.signed].tolist()
        expected = Canvas(400, 60)
        for x, words, anchor in marks:
            expected.text(x, 28, words, 16, "faint", anchor)
        expected.text(194, 17, "relu1", 16, "faint", "lm")
        expected.pixels[10:24, 50:180] = bar
        np.testing.assert_array_equal(canvas.pixels, expected.pixels)


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(rectangles, st.sampled_from(sorted(INKS)))
def test_a_filled_rectangle_is_where_it_says_and_nowhere_else(place: tuple[int, int, int, int], ink: str) -> None:
    x, y, width, height = place
    inside = np.zeros((30, 40), bool)
    for i, j in cells(*place):
        if 0 <= i < 40 and 0 <= j < 30:
            inside[j, i] = True
    expected = np.where(inside, INKS[ink][-1], PAPER)
    np.testing.assert_array_equal(painted(lambda c: c.fill(x, y, width, height, ink)), expected)
    np.testing.assert_array_equal(painted(lambda c: c.rule(x, y, width, height, ink)), expected)
    if width == height:
        np.testing.assert_array_equal(painted(lambda c: c.mark(x, y, width, ink)), expected)


@pytest.mark.parametrize(
    ("share", "filled"), [(0, 0), (0.5, 10), (0.26, 5), (1, 20), (-1, 0), (7, 20), (np.inf, 20), (np.float32(0.5), 10)]
)
def test_a_bar_is_filled_to_its_share_on_a_shaded_ground(share: float, filled: int) -> None:
    pixels = painted(lambda c: c.bar(4, 3, 20, 6, share, "orange"))
    expected = np.full((30, 40), PAPER)
    expected[3:9, 4:24] = INKS["shade"][-1]
    expected[3:9, 4 : 4 + filled] = INKS["orange"][-1]
    np.testing.assert_array_equal(pixels, expected)


def test_a_bar_of_no_number_is_empty() -> None:
    expected = painted(lambda c: c.bar(4, 3, 20, 6, 0.0))
    np.testing.assert_array_equal(painted(lambda c: c.bar(4, 3, 20, 6, float("nan"))), expected)


@pytest.mark.parametrize("thick", [1, 2, 3, 5])
def test_a_box_stands_around_its_inside(thick: int) -> None:
    canvas = Canvas(60, 50)
    canvas.fill(0, 0, 60, 50, "blue")
    canvas.box(20, 15, 12, 9, "accent", thick)
    blue, accent = int(INKS["blue"][-1]), int(INKS["accent"][-1])
    ring = np.zeros((50, 60), bool)
    ring[15 - thick : 24 + thick, 20 - thick : 32 + thick] = True
    ring[15:24, 20:32] = False
    np.testing.assert_array_equal(canvas.pixels == accent, ring)
    edge = np.zeros((50, 60), bool)
    edge[15 - thick - 1 : 24 + thick + 1, 20 - thick - 1 : 32 + thick + 1] = True
    assert (canvas.pixels[~edge] == blue).all()
    edge[15 - thick : 24 + thick, 20 - thick : 32 + thick] = False
    assert (canvas.pixels[edge] == PAPER).all()
    assert (canvas.pixels[16:23, 21:31] == blue).all()


@pytest.mark.parametrize("zoom", [1, 2, 5])
def test_a_box_does_not_cover_what_it_frames(zoom: int) -> None:
    canvas = Canvas(60, 50)
    canvas.maps(20, 15, np.full((1, 5, 5), -0.5), SIGNED, zoom, [("c", 0, 0)])
    canvas.box(20, 15, 5 * zoom, 5 * zoom)
    np.testing.assert_allclose(canvas.claims[0].read(canvas.pixels), -0.5)
    assert (canvas.pixels[15 : 15 + 5 * zoom, 20 : 20 + 5 * zoom] == palette.indices([-0.5], SIGNED)).all()


def distance(points: np.ndarray, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """From the middle of every pixel to a straight line between two points."""
    a, way = np.array(start), np.subtract(end, start)
    share = ((points - a) @ way / max(way @ way, 1e-12)).clip(0, 1)
    return np.linalg.norm(points - a - share[..., None] * way, axis=-1)


GRID = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), -1)


@settings(deadline=None, max_examples=80)
@given(corners, corners, st.sampled_from([1, 1.5, 2, 3, 6]))
def test_a_line_runs_between_its_points_and_nowhere_else(
    start: tuple[float, float], end: tuple[float, float], thick: float
) -> None:
    pixels = painted(lambda c: c.line([start, end], "red", thick))
    away = distance(GRID, start, end)
    assert (pixels[away > thick / 2 + 1.2] == PAPER).all()
    length = np.hypot(*np.subtract(end, start))
    ends_ = np.minimum(*(np.linalg.norm(GRID - p, axis=-1) for p in (start, end)))
    core = (away < thick / 2 - 1.2) & (ends_ > thick / 2 + 1.2) & (length > thick)
    assert (pixels[core] == INKS["red"][-1]).all()
    assert set(np.unique(pixels).tolist()) <= set(INKS["red"].tolist())
    if thick > 1.5:
        assert (pixels[(away < 0.6) & (ends_ > thick / 2 + 1.2)] != PAPER).all()


def test_a_line_goes_through_all_its_points() -> None:
    points = [(5, 5), (30, 8), (12, 25)]
    pixels = painted(lambda c: c.line(points, "ink", 3))
    for x, y in points:
        assert (pixels[y - 1 : y + 1, x - 1 : x + 1] != PAPER).any()
    away = np.minimum(distance(GRID, points[0], points[1]), distance(GRID, points[1], points[2]))
    assert (pixels[away > 2.7] == PAPER).all()
    assert (pixels[away < 0.5] != PAPER).all()


def test_a_halo_parts_a_line_from_what_is_dark() -> None:
    canvas = Canvas(40, 30)
    canvas.fill(0, 0, 40, 30, "blue")
    canvas.line([(-5, 15), (45, 15)], "orange", 2, halo=True)
    blue = int(INKS["blue"][-1])
    column = canvas.pixels[:, 20]
    assert (canvas.pixels == column[:, None]).all()
    line = [int(y) for y in np.flatnonzero(np.isin(column, INKS["orange"][1:]))]
    assert {14, 15} <= set(line) <= {13, 14, 15, 16}
    assert (column[14:16] == INKS["orange"][-1]).any()
    assert column[line[0] - 1] == column[line[-1] + 1] == PAPER
    assert (column[:12] == blue).all()
    assert (column[18:] == blue).all()


@settings(deadline=None, max_examples=60)
@given(corners, corners)
def test_an_arrow_ends_where_it_points(start: tuple[float, float], end: tuple[float, float]) -> None:
    pixels = painted(lambda c: c.arrow(start, end, "accent", 2))
    assert (pixels[distance(GRID, start, end) > 2 * 2.2 + 1.2] == PAPER).all() or np.hypot(*np.subtract(end, start)) < 8
    assert set(np.unique(pixels).tolist()) <= set(INKS["accent"].tolist())


@pytest.mark.parametrize("way", [(20, 0), (-20, 0), (0, 20), (0, -20)])
def test_the_head_of_an_arrow_is_at_its_end(way: tuple[int, int]) -> None:
    dx, dy = way
    start, end = (40 - dx // 2, 40 - dy // 2), (40 + dx // 2, 40 + dy // 2)
    pixels = painted(lambda c: c.arrow(start, end, "ink", 2), 80, 80)
    left, top, right, bottom = touched(pixels)
    along, across = ((left, right), (top, bottom)) if dx else ((top, bottom), (left, right))
    assert along == pytest.approx((30, 49), abs=1.01)
    assert across == pytest.approx((40 - 4.4, 40 + 4.4 - 1), abs=1.01)
    inked = (pixels != PAPER).sum(0 if dx else 1)
    head = 49 - 8 if sum(way) > 0 else 30 + 8
    assert abs(int(inked.argmax()) - head) <= 2
    tail = 33 if sum(way) > 0 else 46
    assert 2 <= inked[tail] <= 3


@settings(deadline=None, max_examples=60)
@given(st.lists(corners, min_size=3, max_size=4), st.sampled_from([0, 1, 3]))
def test_coverage_is_drawn_where_the_points_are(points: list[tuple[float, float]], thick: int) -> None:
    left, top, soft = coverage(points, thick)
    for x, y in points:
        assert left <= x - thick / 2 <= x + thick / 2 <= left + soft.shape[1]
        assert top <= y - thick / 2 <= y + thick / 2 <= top + soft.shape[0]
    assert not soft[[0, -1]].any() or not thick  # nothing is cut off
    assert not soft[:, [0, -1]].any() or not thick


def test_a_filled_polygon_covers_its_area() -> None:
    _, _, soft = coverage([(3, 3), (23, 3), (23, 13), (3, 13)], 0)
    assert soft.sum() / 255 == pytest.approx(200, rel=0.05)


def test_woven_lines_stay_below_what_is_drawn() -> None:
    canvas = Canvas(20, 10)
    canvas.fill(8, 0, 4, 10, "blue")
    found = np.full((10, 9), PAPER, np.uint8)
    found[4] = INKS["red"][-1]
    canvas.weave(5, found)
    expected = np.full((10, 20), PAPER)
    expected[4, 5:14] = INKS["red"][-1]
    expected[:, 8:12] = INKS["blue"][-1]
    np.testing.assert_array_equal(canvas.pixels, expected)


@pytest.mark.parametrize("x", [-30, -3, 15, 30])
def test_woven_lines_are_cut_off_at_the_edges(x: int) -> None:
    canvas, found = Canvas(20, 10), np.full((10, 9), PAPER, np.uint8)
    found[4] = INKS["red"][-1]
    canvas.weave(x, found)
    expected = np.full((10, 20), PAPER)
    expected[4, max(x, 0) : max(x + 9, 0)] = INKS["red"][-1]
    np.testing.assert_array_equal(canvas.pixels, expected)


# ── edges, copies, sameness ───────────────────────────────────────────────────────────────────────────────

DRAWINGS: dict[str, Callable[[Canvas, int, int], object]] = {
    "maps": lambda c, x, y: c.maps(x, y, random(4, 3, 5), SIGNED, 2, columns=2),
    "cells": lambda c, x, y: c.cells(x, y, random(14), SIGNED, 2, 5, "fc1"),
    "number": lambda c, x, y: c.number(x, y, -1.5, ("right",)),
    "scale": lambda c, x, y: c.scale(x, y, SIGNED, 30, words="relu"),
    "text": lambda c, x, y: c.text(x, y, "conv", bold=True),
    "fill": lambda c, x, y: c.fill(x, y, 12, 7, "red"),
    "box": lambda c, x, y: c.box(x, y, 12, 7),
    "mark": lambda c, x, y: c.mark(x, y, 5),
    "rule": lambda c, x, y: c.rule(x, y, 12, 2, "rule"),
    "bar": lambda c, x, y: c.bar(x, y, 12, 7, 0.3),
    "line": lambda c, x, y: c.line([(x, y), (x + 9, y + 13), (x + 20, y)], "ink", 2, halo=True),
    "arrow": lambda c, x, y: c.arrow((x, y), (x + 20, y + 9)),
}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(DRAWINGS)), st.integers(-70, 60), st.integers(-60, 50))
def test_what_is_outside_is_cut_off_and_never_comes_in_on_the_other_side(kind: str, x: int, y: int) -> None:
    small = painted(lambda c: DRAWINGS[kind](c, x, y))
    large = painted(lambda c: DRAWINGS[kind](c, x + 100, y + 100), 300, 300)
    np.testing.assert_array_equal(small, large[100:130, 100:140])


@pytest.mark.parametrize("kind", DRAWINGS)
def test_the_same_calls_draw_the_same_pixels(kind: str) -> None:
    once, again = (painted(lambda c: DRAWINGS[kind](c, 3, 4)) for _ in range(2))
    assert once.tobytes() == again.tobytes()
    assert (once != PAPER).any()
    assert once.max() < palette.USED


def test_a_copy_goes_its_own_way() -> None:
    canvas = Canvas(40, 30)
    canvas.maps(0, 0, random(1, 4, 4), SIGNED, 3, [("c", 0, 0)])
    before = canvas.pixels.copy()
    twin = canvas.copy()
    np.testing.assert_array_equal(twin.pixels, before)
    assert twin.claims == canvas.claims
    twin.fill(0, 0, 40, 30, "red")
    assert (len(twin.claims), len(canvas.claims)) == (0, 1)
    np.testing.assert_array_equal(canvas.pixels, before)
    canvas.fill(0, 0, 40, 30, "blue")
    assert (twin.pixels == INKS["red"][-1]).all()


def test_a_frame_stays_as_it_was_when_the_canvas_goes_on() -> None:
    canvas = Canvas(40, 30)
    canvas.maps(0, 0, random(1, 4, 4), SIGNED, 3, [("c", 0, 0)])
    frame = canvas.frame(100, of=3)
    before = frame.pixels.copy()
    canvas.fill(0, 0, 40, 30, "red")
    np.testing.assert_array_equal(frame.pixels, before)
    assert (frame.ms, frame.of, [claim.source for claim in frame.claims]) == (100, 3, [("c", 0, 0)])
    assert np.abs(frame.claims[0].read(frame.pixels) - random(4, 4)).max() <= palette.half_step(SIGNED)


def test_a_new_canvas_is_blank_paper() -> None:
    canvas = Canvas(7, 4)
    assert canvas.pixels.shape == (4, 7)
    assert (PALETTE[canvas.pixels] == 255).all()
    assert canvas.claims == []


@pytest.mark.parametrize(
    "draw",
    [
        lambda c, ink: c.text(0, 0, "a", ink=ink), lambda c, ink: c.fill(0, 0, 5, 5, ink),
        lambda c, ink: c.box(5, 5, 9, 9, ink), lambda c, ink: c.mark(0, 0, 5, ink),
        lambda c, ink: c.rule(0, 0, 5, 5, ink), lambda c, ink: c.bar(0, 0, 5, 5, 0.5, ink),
        lambda c, ink: c.line([(0, 0), (5, 5)], ink), lambda c, ink: c.arrow((0, 0), (5, 5), ink),
        lambda c, ink: c.number(0, 0, 1.0, ("right",), ink=ink),
    ],
    ids=["text", "fill", "box", "mark", "rule", "bar", "line", "arrow", "number"],
)  # fmt: skip
def test_an_unknown_ink_is_refused_with_those_there_are(draw: Callable[[Canvas, str], object]) -> None:
    with pytest.raises(mv.MnistvizError, match="unknown ink") as caught:
        draw(Canvas(40, 30), "purple")
    assert "'purple'" in str(caught.value)
    assert ", ".join(INKS) in str(caught.value)


# ── moving ────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 300))
def test_a_movement_never_goes_back_and_arrives(moves: int) -> None:
    way = ease(moves)
    assert len(way) == moves
    assert way[-1] == 1
    assert all(a < b for a, b in zip([0.0, *way], way, strict=False))
    ahead = np.diff([0.0, *way])
    np.testing.assert_allclose(ahead, ahead[::-1], atol=1e-9)
    assert (np.diff(ahead[: (moves + 1) // 2]) > -1e-12).all()  # slow at the ends


def test_a_single_movement_is_a_jump() -> None:
    assert ease(1) == [1.0]


@pytest.mark.parametrize("moves", [0, -3])
def test_a_movement_without_frames_is_refused(moves: int) -> None:
    with pytest.raises(mv.MnistvizError, match="1 or more"):
        ease(moves)
