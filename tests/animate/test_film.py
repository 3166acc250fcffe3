"""A film is written whole, as drawn and at its pace, or not at all."""

import base64
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from helpers import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from mnistviz.animate.canvas import Canvas, Frame
from mnistviz.animate.film import FORMATS, Film, keyframes
from mnistviz.animate.palette import PALETTE, USED

TIMES = [100, 20, 300, 50, 20, 500, 40]
ALT = "A square goes from left to right: „7“."
SUFFIXES = [".gif", ".webp", ".png"]


def scene(times: list[int], width: int = 26, height: int = 18) -> Iterator[Frame]:
    """A square that goes its way, one frame per time."""
    canvas = Canvas(width, height)
    for i, ms in enumerate(times):
        canvas.fill(2 * i % width, i % height, 4, 3, ["ink", "red", "blue"][i % 3])
        yield canvas.frame(ms, of=i)


def film(times: list[int] = TIMES, poster: int = 0, **size: int) -> Film:
    return Film(lambda: scene(times, **size), ALT, poster)


def save(made: Film, path: Path, **options: object) -> Path:
    return made.save(path, progress=False, **options)  # type: ignore[arg-type]


def colours(frames: list[Frame] | Film) -> np.ndarray:
    return np.array([PALETTE[frame.pixels] for frame in frames])


def decoded(path: Path) -> tuple[np.ndarray, list[int]]:
    """Pictures and milliseconds, as Pillow reads them."""
    with Image.open(path) as file:
        shown = [(np.asarray(f.convert("RGB")), round(f.info.get("duration", 0))) for f in ImageSequence.Iterator(file)]
    return np.array([picture for picture, _ in shown]), [ms for _, ms in shown]


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*"))


@st.composite
def drawn_films(draw: st.DrawFn) -> list[Frame]:
    """Small films of noise or plain paper, then rectangles, single pixels, repetitions and new sheets."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sheets = [random.integers(0, draw(st.sampled_from([1, 2, 7, USED])), (height, width), np.uint8)]
    changes = st.sampled_from(["noise", "plain", "pixel", "same", "all", "stripes"])
    for change in draw(st.lists(changes, max_size=7)):
        sheet = sheets[-1].copy()
        y, x = random.integers(height), random.integers(width)
        part = sheet[y : random.integers(y, height) + 1, x : random.integers(x, width) + 1]
        if change == "noise":
            part[:] = random.integers(0, USED, part.shape)
        elif change == "plain":
            part[:] = random.integers(0, USED)
        elif change == "pixel":
            sheet[y, x] = (sheet[y, x] + 1) % USED
        elif change == "all":
            sheet = (sheet + random.integers(1, USED - 1)).astype(np.uint8) % USED
        elif change == "stripes":
            sheet[:, ::2] = random.integers(0, USED)
        sheets.append(sheet)
    return [Frame(sheet, 10 * draw(st.integers(2, 5000))) for sheet in sheets]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None, max_examples=40)
@given(frames=drawn_films())
def test_every_frame_is_read_back_to_the_pixel_and_stands_as_long_as_drawn(suffix, frames, tmp_path_factory):
    path = save(Film(lambda: frames, ALT), tmp_path_factory.getbasetemp() / f"a{suffix}", hold=20, sheet=False)
    expected = [frames[0]]
    for before, frame in pairwise(frames):
        if np.array_equal(before.pixels, frame.pixels):  # stored once, its time kept
            expected[-1] = replace(expected[-1], ms=expected[-1].ms + frame.ms)
        else:
            expected.append(frame)
    pictures, times = decoded(path)
    np.testing.assert_array_equal(pictures, colours(expected))
    assert times == [frame.ms for frame in expected] or len(times) == 1  # a single picture may know no time


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_another_decoder_reads_the_same_pixels(suffix, tmp_path):
    pytest.importorskip("av")
    random = np.random.default_rng(0)
    noise = [Frame(random.integers(0, USED, (130, 110), np.uint8), 50) for _ in range(2)]  # more than all GIF codes
    corners = replace(noise[1], pixels=noise[1].pixels.copy())  # in between all stays as it was
    corners.pixels[[0, -1], [0, -1]] = (corners.pixels[[0, -1], [0, -1]] + 1) % USED
    made = Film(lambda: [*noise, corners, *noise, *scene(TIMES, 110, 130)], ALT)
    path = save(made, tmp_path / f"a{suffix}", sheet=False)
    np.testing.assert_array_equal(iio.imread(path, plugin="pyav"), colours(made))


def test_an_mp4_is_as_long_as_the_film_and_nearly_as_drawn(tmp_path):
    pytest.importorskip("av")
    made = film([100, 60, 200], width=31, height=17)
    path = save(made, tmp_path / "a.mp4", hold=300)
    shown = iio.imread(path, plugin="pyav")
    assert shown.shape == (5 + 3 + 15, 18, 32, 3)  # at 20 ms, sides made even
    assert iio.immeta(path, plugin="pyav")["duration"] == pytest.approx(0.46, abs=0.02)
    expected = colours(made).astype(int)
    for at, frame in ((0, 0), (4, 0), (5, 1), (7, 1), (8, 2), (22, 2)):
        assert np.abs(shown[at, :17, :31] - expected[frame]).mean() < 12
    assert min(shown[:, 17:].min(), shown[:, :, 31:].min()) > 200  # paper
    assert names(tmp_path) == ["a.mp4", "a_sheet.png"]


def test_without_a_codec_an_mp4_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    way_out = 'pip install "mnistviz[video]", or write .gif, .webp or .png'
    refused(lambda: save(film(), tmp_path / "a.mp4"), "video codec", way_out)
    assert names(tmp_path) == []


def test_a_new_folder_is_made_an_older_file_replaced_and_nothing_printed(tmp_path, capsys):
    path = tmp_path / "deep" / "er" / "a.GIF"
    assert film([50]).save(str(path)) == path
    assert film().save(path) == path
    assert decoded(path)[1] == [*TIMES[:-1], 2000]
    assert names(path.parent) == ["a.GIF", "a_sheet.png"]
    assert capsys.readouterr() == ("", "")


def test_the_description_is_inside_the_files(tmp_path):
    long = ALT * 40  # more than one block of a GIF
    made = Film(lambda: scene(TIMES), long)
    with Image.open(save(made, tmp_path / "a.gif")) as gif, Image.open(save(made, tmp_path / "b.png")) as png:
        assert gif.info["comment"].decode() == long
        assert png.info["Description"] == long
    with Image.open(tmp_path / "a_sheet.png") as sheet:
        assert sheet.info["Description"] == long


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("longest", "hold", "last"), [(20, 2000, 2000), (20, 20, 40), (655_350, 655_350, 655_350)])
def test_the_last_frame_is_held(longest, hold, last, suffix, tmp_path):
    path = save(film([20, longest, 40]), tmp_path / f"a{suffix}", hold=hold, sheet=False)
    assert decoded(path)[1] == [20, longest, last]


@pytest.mark.parametrize(
    ("loop", "gif", "other"), [("forever", 0, 0), ("once", None, 1), (1, None, 1), (3, 2, 3), (65_535, 65_534, 65_535)]
)
def test_a_film_plays_as_often_as_told(loop, gif, other, tmp_path):
    for suffix, stored in ((".gif", gif), (".png", other), (".webp", other)):
        with Image.open(save(film(), tmp_path / f"a{suffix}", loop=loop, sheet=False)) as file:
            assert file.info.get("loop") == stored


def test_with_a_poster_the_last_frame_also_comes_first_but_not_on_the_sheet(tmp_path):
    path = save(film(poster=700), tmp_path / "a.gif")
    pictures, times = decoded(path)
    plain = colours(film())
    np.testing.assert_array_equal(pictures, [plain[-1], *plain])
    assert times == [700, *TIMES[:-1], 2000]
    assert (tmp_path / "a_sheet.png").read_bytes() == film().sheet() == film(poster=700).sheet()


def test_a_film_is_drawn_only_when_asked_and_once_to_be_saved(tmp_path):
    drawn: list[int] = []

    def draw() -> Iterator[Frame]:
        for frame in scene([50] * 5):
            drawn.append(frame.of)
            yield frame

    made = Film(draw, "")
    assert drawn == []
    next(iter(made))
    assert drawn == [0]
    assert [frame.of for frame in made] == [frame.of for frame in made] == [0, 1, 2, 3, 4]
    drawn.clear()
    save(Film(draw, "", poster=500), tmp_path / "a.gif")
    assert drawn == [0, 1, 2, 3, 4]


def unequal() -> Iterator[Frame]:
    for width in (8, 8, 9):
        yield Canvas(width, 6).frame(100)


def gif(folder: Path, times: list[int] = TIMES, **options: object) -> Path:
    return save(film(times), folder / "a.gif", **options)


STILL = Film(lambda: [Canvas(8, 6).frame(400_000)] * 2, "Nothing moves.")
HOLD, LOOP, KINDS = "the hold of the last frame", '"forever", "once", or 1 to 65535', ", ".join(FORMATS)
SIZES = ("frame 2 has another size", "9×6", "8×6", "copies of one canvas")
BAD: dict[str, tuple[Callable[[Path], object], *tuple[str, ...]]] = {
    "unequal sizes": (lambda folder: save(Film(unequal, ""), folder / "a.gif"), *SIZES),
    "unequal sizes, only drawn": (lambda _: list(Film(unequal, "")), *SIZES),
    "no frames": (lambda folder: gif(folder, []), "no frames", "canvas.frame(100)"),
    "too short": (lambda folder: gif(folder, [100, 10]), "frame 1", "10 ms", "20 to 655,350", "take 20"),
    "between steps": (lambda folder: gif(folder, [100, 47]), "frame 1", "47 ms", "steps of 10", "take 50"),
    "too long": (lambda folder: gif(folder, [655_360]), "frame 0", "655360 ms", "take 655350"),
    "too long together": (lambda folder: save(STILL, folder / "a.png"), "does not change", "800000 ms"),
    "part of a millisecond": (lambda folder: gif(folder, [100.5]), "frame 0 cannot stand", "whole number"),
    "hold 0": (lambda folder: gif(folder, hold=0), HOLD, "0 ms", "take 20"),
    "hold 2001": (lambda folder: gif(folder, hold=2001), HOLD, "2001 ms", "take 2000"),
    "hold '2000'": (lambda folder: gif(folder, hold="2000"), HOLD),
    "hold nan": (lambda folder: gif(folder, hold=float("nan")), HOLD, "whole number"),
    "loop 'twice'": (lambda folder: gif(folder, loop="twice"), "cannot play like that", "'twice'", LOOP),
    "loop 0": (lambda folder: gif(folder, loop=0), "cannot play like that", LOOP),
    "loop True": (lambda folder: gif(folder, loop=True), "cannot play like that", LOOP),
    "loop 65,536": (lambda folder: gif(folder, loop=65_536), "cannot play like that", LOOP),
    "budget 100": (lambda folder: gif(folder, budget=100), "too large", "100 bytes", "fewer than 7 frames"),
    "budget 0": (lambda folder: save(film(), folder / "a.webp", budget=0), "too large", "0 bytes", "budget=…"),
    ".avi": (lambda folder: save(film(), folder / "a.avi"), "unknown kind of film", "'.avi'", KINDS),
    "slider from 7": (lambda _: film().slider(7), "no such frame", "7", "0 to 6, or -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_leaves_no_file_and_older_files_as_they_were(name, tmp_path):
    call, *words = BAD[name]
    refused(lambda: call(tmp_path), *words)
    assert names(tmp_path) == []
    older = ["a.gif", "a.png", "a.webp", "a_sheet.png"]
    for file in older:
        (tmp_path / file).write_bytes(b"old")
    refused(lambda: call(tmp_path), *words)
    assert names(tmp_path) == older
    assert all(file.read_bytes() == b"old" for file in tmp_path.iterdir())


def test_the_budget_is_to_the_byte_and_none_allows_any(tmp_path):
    size = save(film(), tmp_path / "a.gif", budget=None).stat().st_size
    assert save(film(), tmp_path / "b.gif", budget=size).stat().st_size == size
    refused(lambda: save(film(), tmp_path / "c.gif", budget=size - 1), f"{size:,} bytes", f"{size - 1:,} bytes")
    assert not (tmp_path / "c.gif").exists()


def test_where_film_or_sheet_cannot_be_written_neither_is(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        refused(lambda folder=folder: gif(folder), "cannot write", str(folder))
    (tmp_path / "a_sheet.png").mkdir()
    refused(lambda: gif(tmp_path), "cannot write a_sheet.png")
    assert names(tmp_path) == ["a_sheet.png", "file"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_lost_a_frame_is_not_written(suffix, tmp_path, monkeypatch):
    module = sys.modules[Film.__module__]  # its name in the room is that of the function
    whole = module._through_pillow
    monkeypatch.setattr(module, "_through_pillow", lambda frames, *others: whole(frames[1:], *others))
    refused(lambda: save(film(), tmp_path / f"a{suffix}"), "did not come out as drawn", "6 frames", "7 frames")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError("half-way"), KeyboardInterrupt()], ids=["error", "interrupted"])
def test_a_scene_that_breaks_off_leaves_no_file(error, tmp_path):
    def draw() -> Iterator[Frame]:
        yield from scene([100] * 4)
        raise error

    with pytest.raises(type(error)):
        save(Film(draw, ""), tmp_path / "a.gif")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("frames", "count", "columns"), [(40, 9, 3), (5, 9, 3), (1, 9, 3), (40, 1, 3), (40, 5, 4)])
def test_the_sheet_shows_its_frames_in_order_at_half_size(frames, count, columns):
    made = film([100] * frames)
    page = pixels_of(made.sheet(count, columns))
    chosen = keyframes([100] * frames, count)
    assert page.shape == (-(-len(chosen) // columns) * 17 - 8, min(columns, len(chosen)) * 21 - 8, 3)
    halves = colours(made).reshape(frames, 9, 2, 13, 2, 3).mean((2, 4))
    for place, k in enumerate(chosen):
        x, y = place % columns * 21, place // columns * 17
        assert np.abs(page[y : y + 9, x : x + 13] - halves[k]).max() < 1


@given(st.lists(st.sampled_from([20, 50, 100, 400, 2000]), min_size=1, max_size=40), st.integers(1, 12))
def test_keyframes_are_those_that_stand_long_in_order_up_to_the_last(times, count):
    chosen = keyframes(times, count)
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] == len(times) - 1
    assert len(chosen) <= count
    median = sorted(times)[len(times) // 2]
    standing = {k for k in range(len(times) - 1) if times[k] > median}
    if len(standing) > 1:
        assert set(chosen[:-1]) <= standing
    if 1 < len(standing) < count:
        assert standing <= set(chosen)


def test_keyframes_are_spread_over_a_film_of_equal_times():
    assert keyframes([50] * 9, 9) == list(range(9))
    assert keyframes([50] * 102, 5) == [0, 33, 67, 100, 101]
    assert keyframes([20, 20, 900, 20, 20, 900, 20, 20, 20], 9) == [2, 5, 8]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".mp4", None])
def test_in_a_notebook_a_film_plays_as_it_was_saved_and_its_last_frame_is_the_plain_picture(suffix, tmp_path):
    made = film()
    content = save(made, tmp_path / f"a{suffix}").read_bytes() if suffix else b""
    data, about = made._repr_mimebundle_(include=None, exclude=None)
    np.testing.assert_array_equal(pixels_of(data["image/png"]), colours(film())[-1])
    assert (data["text/plain"], about) == (f"Film: {ALT}", {"image/png": {"alt": ALT, "width": 26, "height": 18}})
    if suffix == ".mp4":
        assert "text/html" not in data
        return
    kind, shown = re.fullmatch(
        r'<img src="data:image/(\w+);base64,(\S+)" alt="A square .+" width="26">', data["text/html"]
    ).groups()
    assert kind == (suffix or ".gif")[1:]
    assert base64.b64decode(shown).startswith(content or b"GIF89a")


@pytest.mark.parametrize(("start", "shown"), [(-1, 6), (0, 0), (-7, 0)])
def test_a_slider_without_widgets_is_a_plain_picture_with_its_description(start, shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    data, about = film().slider(start)._repr_mimebundle_(include=None, exclude=None)
    assert sorted(data) == ["image/png", "text/plain"]
    np.testing.assert_array_equal(pixels_of(data["image/png"]), colours(film())[shown])
    assert data["text/plain"] == f"Film: {ALT}"
    assert about == {"image/png": {"alt": ALT, "width": 26, "height": 18}}


def test_moving_the_knob_changes_the_picture():
    widgets = pytest.importorskip("ipywidgets")
    from ipywidgets.widgets.widget import _instances

    data, about = film().slider(2)._repr_mimebundle_()
    np.testing.assert_array_equal(pixels_of(data["image/png"]), colours(film())[2])
    assert (data["text/plain"], about["image/png"]["width"]) == (f"Film: {ALT}", 26)
    box = _instances[data["application/vnd.jupyter.widget-view+json"]["model_id"]]
    (play, knob), shown = box.children[0].children, box.children[1]
    assert isinstance(play, widgets.Play)
    assert (shown.width, shown.height) == ("26", "18")
    assert (knob.min, knob.max, knob.value) == (play.min, play.max, play.value) == (0, 6, 2)
    for k in (2, 5, 0, 6):
        knob.value = k
        np.testing.assert_array_equal(pixels_of(shown.value), colours(film())[k])
