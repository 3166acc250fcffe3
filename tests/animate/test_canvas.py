"""A canvas shows exactly what it is given, where it is told to, and remembers which numbers that were."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from helpers import refusals
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from mnistviz.animate import palette
from mnistviz.animate.canvas import FONTS, Canvas, Claim, Point, ease, width_of
from mnistviz.animate.palette import INKS, PAPER, RAMPS
from mnistviz.show.scales import Scale

Rectangle = tuple[int, int, int, int]  # x, y, width, height
SIGNED, POSITIVE = Scale(-1.0, 1.0, "layer"), Scale(0.0, 1.0, "layer")
WIDTH, HEIGHT = 40, 30
MIDDLES = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), -1)  # of all pixels
BLUE, RED, ACCENT = (int(INKS[ink][-1]) for ink in ("blue", "red", "accent"))

RECTANGLES = st.tuples(st.integers(-9, 40), st.integers(-9, 30), st.integers(0, 30), st.integers(0, 30))
POINTS = st.tuples(st.floats(-20, 60), st.floats(-20, 50))
SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 4))  # maps, rows, columns
SCALES = st.sampled_from([None, SIGNED, POSITIVE])
TEXTS = st.text("abcgjyÄÉ0123456789.,−%→×()/ ", max_size=9)
ANY_INK = st.sampled_from(sorted(INKS))
ANCHORS = st.sampled_from([side + height for side in "lmr" for height in "amsbd"])


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def squares(values: np.ndarray, scale: Scale | None, zoom: int) -> np.ndarray:
    return np.kron(palette.indices(values, scale), np.ones((zoom, zoom), np.uint8))


def drawn(draw: Callable[[Canvas], object], width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    canvas = Canvas(width, height)
    draw(canvas)
    assert canvas.pixels.shape == (height, width)
    assert canvas.pixels.dtype == np.uint8
    return canvas.pixels


def cells(x: int, y: int, width: int, height: int) -> set[tuple[int, int]]:
    return {(i, j) for i in range(x, x + width) for j in range(y, y + height)}


def inside(x: int, y: int, width: int, height: int) -> np.ndarray:
    """Which pixels of the canvas lie in a rectangle."""
    covered = cells(x, y, width, height)
    return np.array([[(i, j) in covered for i in range(WIDTH)] for j in range(HEIGHT)])


def assert_read_back(claim: Claim, pixels: np.ndarray, values: np.ndarray) -> None:
    """What the pixels show are the values, or the scale's end where they lie beyond, to half a step."""
    scale = claim.scale
    low, high, steps = (0, 1, 31) if scale is None else (scale.low, scale.high, 64 if scale.signed else 63)
    np.testing.assert_array_equal(claim.values, values)
    assert np.abs(claim.read(pixels) - values.clip(low, high)).max() <= (high - low) / steps / 2 * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(1, 5), st.none() | st.integers(1, 8), st.integers(0, 5), SCALES)
def test_maps_are_exact_squares_in_rows_and_are_read_back_to_half_a_step(shape, zoom, columns, gap, scale):
    maps, (count, height, width) = random(*shape), shape
    sources = [("c", 0, k) for k in range(count)]
    canvas = Canvas(200, 200)
    canvas.maps(3, 2, maps, scale, zoom, sources, columns, gap)
    expected = np.full_like(canvas.pixels, PAPER)
    for k in range(count):
        row, column = divmod(k, columns or count)
        x, y = 3 + column * (width * zoom + gap), 2 + row * (height * zoom + gap)
        expected[y : y + height * zoom, x : x + width * zoom] = squares(maps[k], scale, zoom)
    np.testing.assert_array_equal(canvas.pixels, expected)
    assert [claim.source for claim in canvas.claims] == sources
    for k, claim in enumerate(canvas.claims):
        assert_read_back(claim, canvas.pixels, maps[k])


@pytest.mark.parametrize(("x", "y"), [(-4, 0), (0, -4), (8, 0), (0, 8)])
def test_a_claim_that_is_partly_outside_reads_no_number_there(x, y):
    canvas, values = Canvas(16, 16), random(6, 6)
    canvas.maps(x, y, values[None], SIGNED, 2, [("c", 0, 0)])
    read = canvas.claims[0].read(canvas.pixels)
    seen = np.zeros((6, 6), bool)
    seen[max(0, -y // 2) : (16 - y) // 2, max(0, -x // 2) : (16 - x) // 2] = True
    np.testing.assert_array_equal(np.isnan(read), ~seen)
    np.testing.assert_allclose(read[seen], values[seen], atol=1 / 64)


PAINTERS: dict[str, Callable[[Canvas, Rectangle], object]] = {
    "fill": lambda canvas, place: canvas.fill(*place),
    "bar": lambda canvas, place: canvas.bar(*place, 0.5),
    "maps": lambda canvas, place: canvas.maps(*place[:2], random(1, place[3], place[2]), SIGNED, 1),
}


@settings(deadline=None)
@given(st.sampled_from(sorted(PAINTERS)), RECTANGLES, ANCHORS)
@example("fill", (0, 0, 4, 30), "mm")  # up to the maps from the left,
@example("fill", (16, 0, 5, 30), "mm")  # from the right,
@example("fill", (0, 12, 16, 5), "mm")  # and just between the two
@example("maps", (4, 0, 12, 4), "mm")  # one row of a map,
@example("maps", (0, 3, 5, 9), "mm")  # and one column
def test_what_is_painted_over_is_claimed_no_longer_and_what_is_beside_or_only_marked_still_is(painter, place, anchor):
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.maps(4, 3, random(2, 3, 4), SIGNED, 3, [("c", 0, 0), ("c", 0, 1)], 1, 5)
    canvas.number(28, 15, 0.5, ("right",), size=9, anchor=anchor)
    left, top, right, bottom = Canvas(WIDTH, HEIGHT).text(28, 15, "0.50", 9, anchor=anchor)
    word = cells(left, top, right - left, bottom - top)
    places = {("c", 0, 0): cells(4, 3, 12, 9), ("c", 0, 1): cells(4, 17, 12, 9), ("right",): word}
    for mark in ("text", "box", "rule", "line", "arrow"):
        DRAWINGS[mark](canvas, 6, 5)
    assert [claim.source for claim in canvas.claims] == list(places)
    PAINTERS[painter](canvas, place)
    assert [claim.source for claim in canvas.claims] == [s for s in places if not places[s] & cells(*place)]


def test_a_copy_and_a_frame_stay_as_they_were_when_the_canvas_goes_on():
    canvas, values = Canvas(WIDTH, HEIGHT), random(4, 4)
    canvas.maps(0, 0, values[None], SIGNED, 3, [("c", 0, 0)])
    twin, frame, other = canvas.copy(), canvas.frame(100, of=3), canvas.copy()
    other.number(0, 20, 1.0, ("right",))
    other.fill(0, 0, WIDTH, HEIGHT, "red")
    assert (len(canvas.claims), len(other.claims)) == (1, 0)
    canvas.fill(0, 0, WIDTH, HEIGHT, "blue")
    assert (other.pixels == RED).all()
    assert (frame.ms, frame.of) == (100, 3)
    for kept in (twin, frame):
        (claim,) = kept.claims
        assert_read_back(claim, kept.pixels, values)


@settings(deadline=None, max_examples=80)
@given(TEXTS, st.integers(-60, 340), st.integers(-40, 140), st.integers(8, 40), ANCHORS, st.booleans(), ANY_INK)
def test_letters_are_pillows_own_at_every_anchor_and_cut_off_at_the_edges(words, x, y, size, anchor, bold, ink):
    font_file = FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    font = ImageFont.truetype(str(font_file), size, layout_engine=ImageFont.Layout.BASIC)
    sheet = Image.new("L", (500, 300))  # 100 pixels of margin on all sides
    ImageDraw.Draw(sheet).text((100 + x, 100 + y), words, 255, font, anchor=anchor)
    steps = np.rint(np.asarray(sheet) / 255 * (len(INKS[ink]) - 1)).astype(int)
    canvas = Canvas(300, 100)
    canvas.fill(0, 0, 300, 100, "blue")
    left, top, right, bottom = canvas.text(x, y, words, size, ink, anchor, bold)
    expected = np.where(steps, INKS[ink][steps], BLUE)[100:200, 100:400]
    np.testing.assert_array_equal(canvas.pixels, expected)
    steps[max(100 + top, 0) : 100 + bottom, max(100 + left, 0) : 100 + right] = 0
    assert not steps.any()  # no letter is outside what the text says it covers
    assert width_of(words, size, bold) == round(font.getlength(words))


def test_a_colour_bar_shows_the_whole_scale_and_writes_its_ends():
    signed = [(50, "−2.50", "la"), (115, "0", "ma"), (180, "2.50", "ra")]
    positive = [(50, "0", "la"), (180, "0.50", "ra")]
    for scale, marks in ((Scale(-2.5, 2.5, "layer"), signed), (Scale(0.0, 0.5, "layer"), positive)):
        canvas, expected = Canvas(400, 60), Canvas(400, 60)
        canvas.scale(50, 10, scale, 130, words="relu1")
        bar = canvas.pixels[10:24, 50:180]
        assert (bar == bar[0]).all()
        values, half_step = palette.values(bar[0], scale), (scale.high - scale.low) / 126
        assert (values[0], values[-1]) == (scale.low, scale.high)
        np.testing.assert_allclose(values, np.linspace(scale.low, scale.high, 130), atol=half_step)
        assert list(dict.fromkeys(bar[0].tolist())) == RAMPS[scale.signed].tolist()
        for x, words, anchor in [*marks, (194, "relu1", "lm")]:
            expected.text(x, 17 if words == "relu1" else 28, words, 16, "faint", anchor)
        expected.pixels[10:24, 50:180] = bar
        np.testing.assert_array_equal(canvas.pixels, expected.pixels)


@settings(deadline=None)
@given(RECTANGLES, ANY_INK)
def test_a_filled_rectangle_is_where_it_says_and_nowhere_else(place, ink):
    expected = np.where(inside(*place), INKS[ink][-1], PAPER)
    np.testing.assert_array_equal(drawn(lambda c: c.fill(*place, ink)), expected)
    np.testing.assert_array_equal(drawn(lambda c: c.rule(*place, ink)), expected)


@pytest.mark.parametrize(
    ("share", "filled"), [(0, 0), (0.5, 10), (0.26, 5), (1, 20), (-1, 0), (7, 20), (np.inf, 20), (np.nan, 0)]
)
def test_a_bar_is_filled_to_its_share_on_a_shaded_ground(share, filled):
    expected = np.where(inside(4, 3, 20, 6), INKS["shade"][-1], PAPER)
    expected[3:9, 4 : 4 + filled] = INKS["orange"][-1]
    np.testing.assert_array_equal(drawn(lambda c: c.bar(4, 3, 20, 6, share, "orange")), expected)


@pytest.mark.parametrize("thick", [1, 3])
def test_a_box_stands_around_its_inside_with_a_white_edge(thick):
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.fill(0, 0, WIDTH, HEIGHT, "blue")
    canvas.box(15, 12, 9, 7, "accent", thick)
    expected = np.full((HEIGHT, WIDTH), BLUE)
    for reach, colour in ((thick + 1, PAPER), (thick, ACCENT), (0, BLUE)):
        expected[inside(15 - reach, 12 - reach, 9 + 2 * reach, 7 + 2 * reach)] = colour
    np.testing.assert_array_equal(canvas.pixels, expected)


def distance(start: Point, end: Point) -> np.ndarray:
    """From the middle of every pixel to a straight line between two points."""
    way, from_start = np.subtract(end, start), MIDDLES - start
    share = (from_start @ way / max(way @ way, 1e-12)).clip(0, 1)
    return np.linalg.norm(from_start - share[..., None] * way, axis=-1)


@settings(deadline=None, max_examples=80)
@given(st.lists(POINTS, min_size=2, max_size=4), st.sampled_from([1, 1.5, 2, 3, 6]))
def test_a_line_runs_through_its_points_and_nowhere_else(points, thick):
    pixels = drawn(lambda c: c.line(points, "red", thick))
    assert np.isin(pixels, INKS["red"]).all()
    away = np.min([distance(*ends) for ends in pairwise(points)], axis=0)
    from_ends = np.min([np.linalg.norm(MIDDLES - point, axis=-1) for point in points], axis=0)
    between = from_ends > thick / 2 + 1.2
    assert (pixels[away > thick / 2 + 1.2] == PAPER).all()
    assert (pixels[between & (away < thick / 2 - 1.2)] == RED).all()
    if thick > 1.5:
        assert (pixels[between & (away < 0.6)] != PAPER).all()


def test_a_halo_parts_a_line_from_what_is_dark():
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.fill(0, 0, WIDTH, HEIGHT, "blue")
    canvas.line([(-5, 15), (45, 15)], "orange", 2, halo=True)
    column = canvas.pixels[:, 20]
    assert (canvas.pixels == column[:, None]).all()
    line = np.flatnonzero(np.isin(column, INKS["orange"][1:])).tolist()
    assert {14, 15} <= set(line) <= {13, 14, 15, 16}
    assert (column[14:16] == INKS["orange"][-1]).any()
    assert column[line[0] - 1] == column[line[-1] + 1] == PAPER
    assert (column[[*range(12), *range(18, HEIGHT)]] == BLUE).all()


@pytest.mark.parametrize("angle", range(0, 360, 60))
def test_an_arrow_ends_in_a_head_where_it_points(angle):
    ahead = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    start, end = (20, 15) - 12 * ahead, (20, 15) + 12 * ahead
    pixels = drawn(lambda c: c.arrow(tuple(start), tuple(end), "red", 2))
    assert np.isin(pixels, INKS["red"]).all()
    along, across = (MIDDLES - end) @ ahead, np.abs((MIDDLES - end) @ (-ahead[1], ahead[0]))
    head = (along > -6.8) & (across < 4.4 * -along / 8 - 1.2)  # 8 long, and 4.4 wide on either side where it begins
    assert (pixels[head] == RED).all()
    assert (pixels[(along > -22.8) & (along < -8) & (across < 0.5)] != PAPER).all()
    widest = np.where(along > -9.2, 4.4 * (1.2 - along) / 8, 1) + 1.2
    assert (pixels[(along > 1.2) | (along < -25.2) | (across > widest)] == PAPER).all()


def test_woven_lines_stay_below_what_is_drawn_and_between_their_columns():
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.fill(8, 0, 4, HEIGHT, "blue")
    sheet = np.full((HEIGHT, WIDTH), PAPER, np.uint8)
    sheet[4] = RED
    canvas.weave(sheet, 5, 30)
    expected = np.where(inside(5, 4, 25, 1), RED, PAPER)
    expected[:, 8:12] = BLUE
    np.testing.assert_array_equal(canvas.pixels, expected)


DRAWINGS: dict[str, Callable[[Canvas, int, int], object]] = {
    "maps": lambda c, x, y: c.maps(x, y, random(4, 3, 5), SIGNED, 2, columns=2),
    "number": lambda c, x, y: c.number(x, y, -1.5, ("right",)),
    "scale": lambda c, x, y: c.scale(x, y, SIGNED, 30, words="relu"),
    "text": lambda c, x, y: c.text(x, y, "conv", bold=True),
    "fill": lambda c, x, y: c.fill(x, y, 12, 7, "red"),
    "box": lambda c, x, y: c.box(x, y, 12, 7),
    "rule": lambda c, x, y: c.rule(x, y, 12, 2, "rule"),
    "bar": lambda c, x, y: c.bar(x, y, 12, 7, 0.3),
    "line": lambda c, x, y: c.line([(x, y), (x + 9, y + 13), (x + 20, y)], "ink", 2, halo=True),
    "arrow": lambda c, x, y: c.arrow((x, y), (x + 20, y + 9)),
}


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(DRAWINGS)), st.integers(-70, 60), st.integers(-60, 50))
def test_what_is_outside_is_cut_off_and_never_comes_in_on_the_other_side(kind, x, y):
    part = drawn(lambda c: DRAWINGS[kind](c, x, y))
    whole = drawn(lambda c: DRAWINGS[kind](c, x + 100, y + 100), 300, 300)
    np.testing.assert_array_equal(part, whole[100:130, 100:140])
    assert (whole != PAPER).any()
    assert whole.max() < palette.USED


@given(st.integers(1, 300))
def test_a_movement_never_goes_back_is_slow_at_both_ends_and_arrives(moves):
    shares = [0.0, *ease(moves)]
    assert len(shares) == moves + 1
    assert shares[-1] == 1
    steps = np.diff(shares)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[::-1], atol=1e-9)
    assert (np.diff(steps[: (moves + 1) // 2]) > -1e-12).all()


INK_WORDS = ("unknown ink", "'purple'", ", ".join(INKS))
BAD: dict[str, tuple[Callable[[], object], *tuple[str, ...]]] = {
    "text": (lambda: Canvas(40, 30).text(0, 0, "a", ink="purple"), *INK_WORDS),
    "bar": (lambda: Canvas(40, 30).bar(0, 0, 5, 5, 0.5, "purple"), *INK_WORDS),
    "arrow": (lambda: Canvas(40, 30).arrow((0, 0), (5, 5), "purple"), *INK_WORDS),
    "no frames": (lambda: ease(0), "frames for a movement", "0", "1 or more"),
}
test_what_cannot_be_drawn_is_refused = refusals(BAD)
