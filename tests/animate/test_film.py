"""A film is written whole, as drawn and at its pace, or not at all."""

import gc
import io
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

import mnistviz as mv
from mnistviz.animate.canvas import Canvas, Frame
from mnistviz.animate.film import FORMATS, Film, Slider, keyframes
from mnistviz.animate.palette import PALETTE

TIMES = [100, 20, 300, 50, 20, 500, 40]


def scene(times: list[int], width: int = 26, height: int = 18, still: bool = False) -> Callable[[], Iterator[Frame]]:
    """A square that goes its way, one frame per time."""

    def draw() -> Iterator[Frame]:
        canvas = Canvas(width, height)
        for i, ms in enumerate(times):
            if not still:
                canvas.fill(2 * i % width, i % height, 4, 3, ["ink", "red", "blue"][i % 3])
            yield canvas.frame(ms, of=i)

    return draw


def film(times: list[int] = TIMES, **options: object) -> Film:
    return Film(scene(times, **options), "A square goes from left to right.")  # type: ignore[arg-type]


def save(made: Film, path: Path, **options: object) -> Path:
    return made.save(path, progress=False, **options)  # type: ignore[arg-type]


def decoded(path: Path) -> tuple[list[np.ndarray], list[int]]:
    pictures, times = [], []
    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            pictures.append(np.asarray(frame.convert("RGB")))
            times.append(round(frame.info["duration"]))
    return pictures, times


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*"))


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_what_is_written_is_what_was_drawn(suffix: str, tmp_path: Path) -> None:
    path = save(film(), tmp_path / f"square{suffix}")
    assert path == tmp_path / f"square{suffix}"
    pictures, times = decoded(path)
    assert times == [*TIMES[:-1], 2000]
    np.testing.assert_array_equal(pictures, [PALETTE[frame.pixels] for frame in film()])
    assert names(tmp_path) == sorted([f"square{suffix}", "square_sheet.png"])


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_frames_that_look_the_same_keep_their_time(suffix: str, tmp_path: Path) -> None:
    def draw() -> Iterator[Frame]:
        canvas = Canvas(8, 6)
        for ink in ("red", "red", "red", "blue", "blue"):
            canvas.fill(0, 0, 4, 6, ink)
            yield canvas.frame(100)

    pictures, times = decoded(save(Film(draw, ""), tmp_path / f"a{suffix}", hold=200))
    shown = [tuple(picture[0, 0]) for picture, ms in zip(pictures, times, strict=True) for _ in range(ms // 100)]
    assert shown == [tuple(PALETTE[frame.pixels[0, 0]]) for frame in Film(draw, "")] + [shown[-1]]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize("times", [[100], [100, 40, 60]], ids=["one frame", "three the same"])
def test_a_film_in_which_nothing_moves_can_be_saved(suffix: str, times: list[int], tmp_path: Path) -> None:
    path = save(film(times, still=True), tmp_path / f"a{suffix}")
    with Image.open(path) as file:
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), np.full((18, 26, 3), 255))


def test_an_mp4_is_as_long_as_the_film_and_nearly_as_drawn(tmp_path: Path) -> None:
    pytest.importorskip("av")
    import imageio.v3 as iio

    path = save(film([100, 60, 200], width=31, height=17), tmp_path / "a.mp4", hold=300)
    shown = iio.imread(path, plugin="pyav")
    assert shown.shape == (2 * (5 + 3 + 15) // 2, 18, 32, 3)  # at 20 ms, sides made even
    assert iio.immeta(path, plugin="pyav")["duration"] == pytest.approx(0.46, abs=0.02)
    frames = [PALETTE[frame.pixels].astype(int) for frame in film([100, 60, 200], width=31, height=17)]
    for at, frame in ((0, 0), (4, 0), (5, 1), (7, 1), (8, 2), (22, 2)):
        assert np.abs(shown[at, :17, :31] - frames[frame]).mean() < 12
    assert names(tmp_path) == ["a.mp4", "a_sheet.png"]


def test_without_a_codec_an_mp4_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "imageio.plugins.pyav", raising=False)  # it may have found the codec before
    with pytest.raises(mv.MnistvizError, match=r'pip install "mnistviz\[video\]", or write \.gif, \.webp or \.png'):
        save(film(), tmp_path / "a.mp4")
    assert names(tmp_path) == []


def test_the_kind_of_file_is_told_from_its_name_in_either_case(tmp_path: Path) -> None:
    assert save(film(), tmp_path / "A.GIF").read_bytes() == save(film(), tmp_path / "a.gif").read_bytes()


def test_the_folder_is_made_and_a_name_may_be_a_string(tmp_path: Path) -> None:
    assert film().save(str(tmp_path / "deep" / "er" / "a.gif"), progress=False) == tmp_path / "deep" / "er" / "a.gif"
    assert names(tmp_path / "deep" / "er") == ["a.gif", "a_sheet.png"]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    made = film()
    one, two = save(made, tmp_path / "one.gif"), save(made, tmp_path / "two.gif")
    again = save(film(), tmp_path / "again.gif")
    assert one.read_bytes() == two.read_bytes() == again.read_bytes()
    sheets = {(tmp_path / f"{name}_sheet.png").read_bytes() for name in ("one", "two", "again")}
    assert len(sheets) == 1


def test_saving_over_an_older_file_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"old")
    save(film(), tmp_path / "a.gif", sheet=False)
    assert decoded(tmp_path / "a.gif")[1] == [*TIMES[:-1], 2000]
    assert names(tmp_path) == ["a.gif"]


def test_the_description_is_inside_the_gif(tmp_path: Path) -> None:
    with Image.open(save(film(), tmp_path / "a.gif")) as file:
        assert file.info["comment"].decode() == "A square goes from left to right."


def test_nothing_is_said_unless_a_terminal_or_notebook_is_watching(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film().save(tmp_path / "a.gif")
    assert capsys.readouterr() == ("", "")


# ── times and loops ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("last", "hold", "stands"), [(40, 2000, 2000), (40, 20, 40), (3000, 2000, 3000), (40, 40, 40)])
@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_the_last_frame_is_held(last: int, hold: int, stands: int, suffix: str, tmp_path: Path) -> None:
    path = save(film([100, 20, last]), tmp_path / f"a{suffix}", hold=hold)
    assert decoded(path)[1] == [100, 20, stands]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_the_longest_and_the_shortest_time_are_kept(suffix: str, tmp_path: Path) -> None:
    path = save(film([20, 655_350, 20]), tmp_path / f"a{suffix}", hold=655_350)
    assert decoded(path)[1] == [20, 655_350, 655_350]


@pytest.mark.parametrize(
    ("loop", "gif", "other"),
    [("forever", 0, 0), ("once", None, 1), (1, None, 1), (3, 2, 3), (65_535, 65_534, 65_535)],
)
def test_a_film_plays_as_often_as_told(loop: str | int, gif: int | None, other: int, tmp_path: Path) -> None:
    for suffix, stored in ((".gif", gif), (".png", other)):
        with Image.open(save(film(), tmp_path / f"a{suffix}", loop=loop)) as file:
            assert file.info.get("loop") == stored


@pytest.mark.parametrize("loop", ["twice", "", 0, -1, True, False, 65_536, 1.5, None])
def test_a_loop_that_is_none_is_refused(loop: object, tmp_path: Path) -> None:
    with pytest.raises(mv.MnistvizError, match="cannot play like that") as caught:
        save(film(), tmp_path / "a.gif", loop=loop)
    assert '"forever", "once", or 1 to 65535' in str(caught.value)
    assert names(tmp_path) == []


# ── whole or not at all ───────────────────────────────────────────────────────────────────────────────────


def sizes() -> Iterator[Frame]:
    yield Canvas(8, 6).frame(100)
    yield Canvas(8, 6).frame(100)
    yield Canvas(9, 6).frame(100)


REFUSED: dict[str, tuple[Film, dict[str, object], list[str]]] = {
    "unequal sizes": (Film(sizes, ""), {}, ["frame 2 has another size", "9×6", "8×6", "copy of one canvas"]),
    "no frames": (film([]), {}, ["no frames", "canvas.frame(100)"]),
    "too short": (film([100, 10]), {}, ["frame 1", "10 ms", "20 to 655,350", "take 20"]),
    "nothing": (film([0, 100]), {}, ["frame 0", "0 ms", "take 20"]),
    "negative": (film([-100, 100]), {}, ["frame 0", "-100 ms"]),
    "between steps": (film([100, 100, 47]), {}, ["frame 2", "47 ms", "steps of 10", "take 50"]),
    "too long": (film([655_360]), {}, ["frame 0", "655360 ms", "take 655350"]),
    "hold too short": (film(), {"hold": 0}, ["hold of the last frame", "0 ms", "take 20"]),
    "hold between steps": (film(), {"hold": 2001}, ["hold of the last frame", "2001 ms", "take 2000"]),
    "hold too long": (film(), {"hold": 700_000}, ["hold of the last frame", "take 655350"]),
    "budget": (film(), {"budget": 100}, ["too large", "bytes by frame", "100 bytes", "fewer frames", "budget=…"]),
    "no budget": (film(), {"budget": 0}, ["too large", "0 bytes"]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_and_leaves_no_file(case: str, suffix: str, tmp_path: Path) -> None:
    made, options, said = REFUSED[case]
    with pytest.raises(mv.MnistvizError) as caught:
        save(made, tmp_path / f"a{suffix}", **options)
    for words in said:
        assert words in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_film_leaves_older_files_as_they_were(case: str, tmp_path: Path) -> None:
    for name in ("a.gif", "a_sheet.png"):
        (tmp_path / name).write_bytes(b"old")
    with pytest.raises(mv.MnistvizError):
        save(REFUSED[case][0], tmp_path / "a.gif", **REFUSED[case][1])
    assert names(tmp_path) == ["a.gif", "a_sheet.png"]
    assert all(file.read_bytes() == b"old" for file in tmp_path.iterdir())


def test_the_budget_is_to_the_byte_and_none_allows_any(tmp_path: Path) -> None:
    size = save(film(), tmp_path / "a.gif", budget=None).stat().st_size
    assert save(film(), tmp_path / "b.gif", budget=size).stat().st_size == size
    with pytest.raises(mv.MnistvizError, match=f"{size:,} bytes by frame 7"):
        save(film(), tmp_path / "c.gif", budget=size - 1)
    assert not (tmp_path / "c.gif").exists()


def test_a_gif_that_grows_too_large_is_given_up_at_once(tmp_path: Path) -> None:
    drawn = []

    def draw() -> Iterator[Frame]:
        random = np.random.default_rng(0)
        for i in range(1000):
            drawn.append(i)
            yield Frame(random.integers(0, 200, (40, 40), np.uint8), 50)

    with pytest.raises(mv.MnistvizError, match="too large"):
        save(Film(draw, ""), tmp_path / "a.gif", budget=10_000)
    assert len(drawn) < 15


@pytest.mark.parametrize("name", ["a.avi", "a.jpg", "a", "gif", "a.gif.part"])
def test_an_unknown_kind_of_file_is_refused_with_those_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(mv.MnistvizError, match="unknown kind of film") as caught:
        save(film(), tmp_path / name)
    assert ", ".join(FORMATS) in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_where_nothing_can_be_written_the_folder_is_named(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(mv.MnistvizError, match="cannot write") as caught:
            save(film(), folder / f"a{suffix}")
        assert str(folder) in str(caught.value)
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_film_whose_sheet_cannot_be_written_is_not_written_either(tmp_path: Path) -> None:
    (tmp_path / "a_sheet.png").mkdir()
    with pytest.raises(mv.MnistvizError, match="cannot write a_sheet"):
        save(film(), tmp_path / "a.gif")
    assert names(tmp_path) == ["a_sheet.png"]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("error", [RuntimeError("half-way"), KeyboardInterrupt()], ids=["error", "interrupted"])
def test_a_scene_that_breaks_off_leaves_no_file(suffix: str, error: BaseException, tmp_path: Path) -> None:
    def draw() -> Iterator[Frame]:
        yield from scene([100] * 4)()
        raise error

    (tmp_path / "old.gif").write_bytes(b"old")
    with pytest.raises(type(error)):
        save(Film(draw, ""), tmp_path / f"a{suffix}")
    assert names(tmp_path) == ["old.gif"]


@pytest.mark.parametrize("draw", [sizes, scene([100, 45]), scene([])], ids=["size", "time", "empty"])
def test_iterating_alone_finds_what_is_wrong(draw: Callable[[], Iterator[Frame]]) -> None:
    with pytest.raises(mv.MnistvizError):
        list(Film(draw, ""))


@pytest.mark.parametrize("hold", ["2000", float("nan"), float("inf"), None])
def test_a_hold_that_is_no_time_is_refused(hold: object, tmp_path: Path) -> None:
    with pytest.raises(mv.MnistvizError, match="the hold of the last frame"):
        save(film(), tmp_path / "a.gif", hold=hold)


def test_a_time_that_is_no_whole_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mv.MnistvizError, match="frame 0 cannot stand that long"):
        save(film([100.5, 50]), tmp_path / "a.gif")  # type: ignore[list-item]
    assert names(tmp_path) == []


# ── lazily ────────────────────────────────────────────────────────────────────────────────────────────────


def test_frames_are_made_one_after_another_and_not_kept(tmp_path: Path) -> None:
    alive: list[weakref.ref[Frame]] = []
    most = 0

    def draw() -> Iterator[Frame]:
        nonlocal most
        for made in scene([50] * 60)():
            alive.append(weakref.ref(made))
            most = max(most, sum(ref() is not None for ref in alive))
            yield made
            del made

    gc.collect()
    save(Film(draw, ""), tmp_path / "a.gif", sheet=False)
    assert len(alive) == 60
    assert most <= 4


def test_a_film_can_be_run_as_often_as_one_likes_and_draws_only_when_asked() -> None:
    drawn = []

    def draw() -> Iterator[Frame]:
        for made in scene([50] * 5)():
            drawn.append(made.of)
            yield made

    made = Film(draw, "")
    assert drawn == []
    next(iter(made))
    assert drawn == [0]
    assert [frame.of for frame in made] == [frame.of for frame in made] == [0, 1, 2, 3, 4]


# ── on paper ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sheet_is_a_small_picture_with_its_description(tmp_path: Path) -> None:
    save(film([100] * 40), tmp_path / "square.gif")
    content = (tmp_path / "square_sheet.png").read_bytes()
    assert content == film([100] * 40).sheet()
    with Image.open(io.BytesIO(content)) as page:
        assert page.size == (3 * 13 + 2 * 8, 3 * 9 + 2 * 8)
        assert page.text["Description"] == "A square goes from left to right."  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("frames", "count", "columns"),
    [(40, 9, 3), (40, 4, 2), (5, 9, 3), (1, 9, 3), (2, 9, 3), (40, 1, 3), (40, 5, 4)],
)
def test_the_sheet_shows_its_frames_in_order_the_last_one_last(frames: int, count: int, columns: int) -> None:
    made = film([100] * frames)
    page = np.asarray(Image.open(io.BytesIO(made.sheet(count, columns))).convert("RGB"))
    chosen = keyframes([100] * frames, count)
    assert page.shape == (-(-len(chosen) // columns) * 17 - 8, min(columns, len(chosen)) * 21 - 8, 3)
    pictures = [PALETTE[frame.pixels] for frame in made]
    assert chosen[-1] == frames - 1
    for place, k in enumerate(chosen):
        half = pictures[k].reshape(9, 2, 13, 2, 3).mean((1, 3))
        x, y = place % columns * 21, place // columns * 17
        assert np.abs(page[y : y + 9, x : x + 13] - half).max() < 1


@given(st.lists(st.sampled_from([20, 50, 100, 400, 2000]), min_size=1, max_size=40), st.integers(1, 12))
def test_keyframes_are_few_in_order_and_end_with_the_last(times: list[int], count: int) -> None:
    chosen = keyframes(times, count)
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == len(times) - 1
    assert chosen[0] >= 0
    assert len(chosen) <= count
    middle = sorted(times)[len(times) // 2]
    standing = {k for k in range(len(times) - 1) if times[k] > middle}
    if len(standing) > 1:
        assert set(chosen[:-1]) <= standing
    if 1 < len(standing) < count:
        assert standing <= set(chosen)


def test_keyframes_are_spread_over_a_film_of_equal_times() -> None:
    assert keyframes([50] * 9, 9) == list(range(9))
    assert keyframes([50] * 102, 5) == [0, 33, 67, 100, 101]
    assert keyframes([20, 20, 900, 20, 20, 900, 20, 20, 20], 9) == [2, 5, 8]
    assert keyframes([50], 3) == [0]


# ── by hand ───────────────────────────────────────────────────────────────────────────────────────────────


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize(("start", "shown"), [(-1, 6), (0, 0), (3, 3), (-7, 0), (6, 6)])
@pytest.mark.parametrize("widgets", [True, False])
def test_a_slider_shows_a_plain_picture_with_its_description(
    start: int, shown: int, widgets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if widgets:
        pytest.importorskip("ipywidgets")
    else:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    slider = film().slider(start)
    data, about = slider._repr_mimebundle_(include=None, exclude=None)
    np.testing.assert_array_equal(pixels(data["image/png"]), PALETTE[list(film())[shown].pixels])
    assert about == {"image/png": {"alt": "A square goes from left to right."}}
    assert data["text/plain"] == "Film: A square goes from left to right."
    assert ("application/vnd.jupyter.widget-view+json" in data) == widgets


def test_moving_the_knob_changes_the_picture() -> None:
    widgets = pytest.importorskip("ipywidgets")
    from ipywidgets.widgets.widget import _instances

    data, _ = film().slider(2)._repr_mimebundle_()
    box = _instances[data["application/vnd.jupyter.widget-view+json"]["model_id"]]
    (play, knob), shown = box.children[0].children, box.children[1]
    assert isinstance(play, widgets.Play)
    assert (knob.min, knob.max, knob.value) == (play.min, play.max, play.value) == (0, 6, 2)
    frames = [PALETTE[frame.pixels] for frame in film()]
    for k in (2, 5, 0, 6):
        knob.value = k
        np.testing.assert_array_equal(pixels(shown.value), frames[k])


def test_a_slider_over_one_frame_stands_still() -> None:
    data, _ = film([100]).slider()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("start", [7, -8, 99])
def test_a_slider_cannot_start_where_there_is_no_frame(start: int) -> None:
    with pytest.raises(mv.MnistvizError, match="0 to 6, or -1"):
        film().slider(start)


def test_a_slider_takes_pictures_as_they_are() -> None:
    frames = [np.full((2, 3), k, np.uint8) for k in range(3)]
    data, _ = Slider(frames, "Three.", 1)._repr_mimebundle_()
    np.testing.assert_array_equal(pixels(data["image/png"]), PALETTE[frames[1]])
