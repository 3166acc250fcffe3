"""The GIF says exactly what was drawn: these pixels, these colours, these times, and not a byte too much."""

import io
import shutil
import struct
import subprocess
from dataclasses import dataclass, field

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from mnistviz.animate.gif import Gif
from mnistviz.animate.palette import PALETTE, TRANSPARENT, USED

times = st.integers(2, 65_535).map(lambda n: 10 * n)


@dataclass
class Block:
    """One image of a GIF as it is stored."""

    ms: int
    disposal: int
    transparent: int | None
    left: int
    top: int
    width: int
    height: int
    codes: bytes
    least: int


@dataclass
class Parsed:
    width: int
    height: int
    table: bytes
    loop: int | None = None
    comment: bytes = b""
    images: list[Block] = field(default_factory=list)


def parse(content: bytes) -> Parsed:
    """The blocks of a GIF, one after another, by the book (GIF89a); nothing may be left over."""
    assert content[:6] == b"GIF89a"
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    assert flags & 0x87 == 0x87  # a global table of 256 colours
    found, at, control = Parsed(width, height, content[13:781]), 781, (0, 0, 0, 0)

    def blocks() -> bytes:
        nonlocal at
        parts = []
        while length := content[at]:
            parts.append(content[at + 1 : at + 1 + length])
            at += 1 + length
        at += 1
        return b"".join(parts)

    while content[at : at + 1] != b";":
        kind, at = content[at : at + 2], at + 2
        if kind == b"!\xf9":
            control = (*struct.unpack("<BHB", blocks()), 1)
        elif kind == b"!\xfe":
            found.comment = blocks()
        elif kind == b"!\xff":
            name = blocks()
            assert name[:11] == b"NETSCAPE2.0"
            found.loop = struct.unpack("<BH", name[11:])[1]
        else:
            assert kind[:1] == b","
            left, top, wide, high, own = struct.unpack_from("<HHHHB", content, at - 1)
            assert own == 0  # no table of its own, not interlaced
            least, at = content[at + 8], at + 9
            fields, delay, transparent, there = control
            assert there
            found.images.append(
                Block(
                    10 * delay,
                    fields >> 2 & 7,
                    transparent if fields & 1 else None,
                    left,
                    top,
                    wide,
                    high,
                    blocks(),
                    least,
                )
            )
    assert at == len(content) - 1
    return found


def unpacked(image: Block) -> np.ndarray:
    """LZW by the book, independent of any library."""
    clear, end = 1 << image.least, (1 << image.least) + 1
    bits, at, size, table, before, out = int.from_bytes(image.codes, "little"), 0, 0, [], b"", bytearray()
    size = image.least + 1
    while True:
        code, at = bits >> at & (1 << size) - 1, at + size
        if code == clear:
            table, size, before = [bytes([i]) for i in range(clear)] + [b"", b""], image.least + 1, b""
            continue
        if code == end:
            break
        entry = table[code] if code < len(table) else before + before[:1]
        out += entry
        if before and len(table) < 4096:
            table.append(before + entry[:1])
            if len(table) == 1 << size and size < 12:
                size += 1
        before = entry
    return np.frombuffer(bytes(out), np.uint8).reshape(image.height, image.width)


def composed(parsed: Parsed) -> list[np.ndarray]:
    """The frames as palette numbers, every image laid over the one before."""
    sheet, frames = np.zeros((parsed.height, parsed.width), np.uint8), []
    for image in parsed.images:
        assert image.disposal == 1  # leave in place
        part, place = (
            unpacked(image),
            sheet[image.top : image.top + image.height, image.left : image.left + image.width],
        )
        assert place.shape == part.shape
        drawn = np.ones_like(part, bool) if image.transparent is None else part != image.transparent
        place[drawn] = part[drawn]
        frames.append(sheet.copy())
    return frames


def made(frames: list[np.ndarray], ms: list[int] | None = None, **options: object) -> bytes:
    gif = Gif(frames[0].shape[1], frames[0].shape[0], **options)  # type: ignore[arg-type]
    for i, frame in enumerate(frames):
        gif.add(frame, ms[i] if ms else 100)
    content = gif.close()
    assert gif.size == len(content)
    return content


@st.composite
def films(draw: st.DrawFn) -> list[np.ndarray]:
    """Small films: noise or plain paper, then rectangles, single pixels, repetitions and new sheets."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colours = draw(st.sampled_from([1, 2, 7, USED]))
    frames = [random.integers(0, colours, (height, width), np.uint8)]
    for change in draw(
        st.lists(st.sampled_from(["rectangle", "plain", "pixel", "same", "all", "stripes"]), max_size=7)
    ):
        frame = frames[-1].copy()
        y, x = random.integers(height), random.integers(width)
        high, wide = random.integers(1, height - y + 1), random.integers(1, width - x + 1)
        if change == "rectangle":
            frame[y : y + high, x : x + wide] = random.integers(0, USED, (high, wide))
        elif change == "plain":
            frame[y : y + high, x : x + wide] = random.integers(0, USED)
        elif change == "pixel":
            frame[y, x] = (frame[y, x] + 1) % USED
        elif change == "all":
            frame = (frame + random.integers(1, USED - 1)).astype(np.uint8) % USED
        elif change == "stripes":
            frame[:, ::2] = random.integers(0, USED)
        frames.append(frame)
    return frames


def test_the_reader_in_this_file_reads_what_pillow_writes() -> None:
    picture = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12), "P")
    picture.putpalette(PALETTE.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", interlace=0, optimize=False, duration=70, loop=0, disposal=1)
    parsed = parse(buffer.getvalue())
    assert (parsed.width, parsed.height, parsed.images[0].ms) == (12, 8, 70)
    np.testing.assert_array_equal(PALETTE[composed(parsed)[0]], np.asarray(picture.convert("RGB")))


@settings(deadline=None, max_examples=120)
@given(films(), st.data())
def test_every_frame_is_read_back_to_the_pixel_by_three_readers(frames: list[np.ndarray], data: st.DataObject) -> None:
    ms = data.draw(st.lists(times, min_size=len(frames), max_size=len(frames)))
    content = made(frames, ms)
    expected = [PALETTE[frame] for frame in frames]

    parsed = parse(content)
    assert (parsed.height, parsed.width) == frames[0].shape
    assert parsed.table == PALETTE.tobytes()
    assert [image.ms for image in parsed.images] == ms
    np.testing.assert_array_equal(composed(parsed), frames)

    with Image.open(io.BytesIO(content)) as file:
        assert file.n_frames == len(frames)
        shown = [
            (round(frame.info["duration"]), np.asarray(frame.convert("RGB"))) for frame in ImageSequence.Iterator(file)
        ]
    assert [time for time, _ in shown] == ms
    np.testing.assert_array_equal([pixels for _, pixels in shown], expected)

    np.testing.assert_array_equal(iio.imread(content, plugin="pillow", index=..., mode="RGB"), expected)


@settings(deadline=None, max_examples=60)
@given(films())
def test_only_the_rectangle_that_changed_is_stored(frames: list[np.ndarray]) -> None:
    images = parse(made(frames)).images
    whole = frames[0].shape
    assert (images[0].left, images[0].top, images[0].height, images[0].width) == (0, 0, *whole)
    assert images[0].transparent is None
    for before, after, image in zip(frames, frames[1:], images[1:], strict=False):
        rows, columns = np.nonzero(before != after)
        if len(rows):
            assert (image.top, image.left) == (rows.min(), columns.min())
            assert (image.top + image.height - 1, image.left + image.width - 1) == (rows.max(), columns.max())
        else:
            assert (image.width, image.height) == (1, 1)
        assert image.transparent in (None, TRANSPARENT)


def test_equal_neighbours_stay_two_frames_with_their_own_times() -> None:
    frame = np.full((5, 6), 3, np.uint8)
    content = made([frame, frame, frame], [20, 650, 40])
    assert [image.ms for image in parse(content).images] == [20, 650, 40]
    with Image.open(io.BytesIO(content)) as file:
        assert [f.info["duration"] for f in ImageSequence.Iterator(file)] == [20, 650, 40]


def test_what_is_as_before_is_left_out_where_that_is_shorter() -> None:
    random = np.random.default_rng(0)
    before = random.integers(0, USED, (40, 60), np.uint8)
    after = before.copy()
    after[0, 0] = after[39, 59] = (before[0, 0] + 1) % USED
    after[39, 59] = (before[39, 59] + 1) % USED
    first, both = made([before]), made([before, after])
    assert len(both) - len(first) < len(first) / 10
    assert parse(both).images[1].transparent == TRANSPARENT


@pytest.mark.parametrize("gap", [1, 6, 10_000])
def test_a_stretch_between_two_changes_stays_as_it_was_however_long(gap: int) -> None:
    line = np.zeros((1, 2 * gap + 2), np.uint8)
    after = line.copy()
    after[0, [0, -1]] = 5
    np.testing.assert_array_equal(composed(parse(made([line, after])))[1], after)


def test_noise_of_more_than_all_codes_is_read_back_too() -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, USED, (130, 110), np.uint8) for _ in range(2)]
    content = made(frames)
    np.testing.assert_array_equal(composed(parse(content)), frames)
    np.testing.assert_array_equal(
        iio.imread(content, plugin="pillow", index=..., mode="RGB"), PALETTE[np.array(frames)]
    )


def test_equal_frames_are_equal_bytes() -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, USED, (20, 30), np.uint8) for _ in range(3)]
    assert made(frames, [20, 30, 40]) == made([frame.copy() for frame in frames], [20, 30, 40])
    assert made(frames) == made([np.asfortranarray(frame) for frame in frames])


def test_a_part_of_a_larger_sheet_can_be_a_frame() -> None:
    sheet = np.random.default_rng(0).integers(0, USED, (20, 30), np.uint8)
    cut = sheet[3:15:2, 4:20]
    assert made([cut, cut[::-1]]) == made([cut.copy(), cut[::-1].copy()])


def test_a_frame_may_be_drawn_over_once_it_was_added() -> None:
    sheet, gif = np.zeros((5, 6), np.uint8), Gif(6, 5)
    gif.add(sheet, 100)
    sheet[2, 3] = 9
    gif.add(sheet, 100)
    assert composed(parse(gif.close()))[1].tolist() == sheet.tolist()


@pytest.mark.parametrize(("plays", "stored"), [(0, 0), (1, None), (2, 1), (7, 6), (65_535, 65_534)])
def test_the_loop_block_counts_repeats(plays: int, stored: int | None) -> None:
    frames = [np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)]
    content = made(frames, plays=plays)
    assert parse(content).loop == stored
    assert (b"NETSCAPE2.0" in content) == (stored is not None)
    with Image.open(io.BytesIO(content)) as file:
        assert file.info.get("loop") == stored


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 510, 511, 1300])
def test_a_comment_of_any_length_is_kept_whole(length: int) -> None:
    text = ("Ziffer 7 → „Sieben“, " * 80).encode()[:length].decode(errors="ignore")
    content = made([np.zeros((2, 2), np.uint8)], comment=text)
    assert parse(content).comment.decode() == text
    assert (b"!\xfe" in content) == bool(text)
    with Image.open(io.BytesIO(content)) as file:
        assert file.info.get("comment", b"").decode() == text


def test_the_size_is_known_before_the_end() -> None:
    gif, random = Gif(30, 20, plays=3, comment="A film. " * 50), np.random.default_rng(0)
    for _ in range(4):
        gif.add(random.integers(0, USED, (20, 30), np.uint8), 40)
        assert gif.size == len(gif.close())


@pytest.mark.skipif(not shutil.which("gifsicle"), reason="gifsicle is not installed")
def test_gifsicle_finds_nothing_to_complain_about() -> None:
    frames = [np.zeros((20, 30), np.uint8)]
    for k in range(5):
        frames.append(frames[-1].copy())
        frames[-1][k * 2 : k * 3 + 4, k : 2 * k + 5] = k + 1
    content = made(frames, [20, 30, 40, 50, 60, 70], plays=3, comment="A film. " * 50)
    done = subprocess.run(["gifsicle", "--info"], input=content, capture_output=True, check=True)
    said = done.stdout.decode()
    assert done.stderr == b""
    assert "6 images" in said
    assert "logical screen 30x20" in said
    assert "loop count 2" in said
    assert [line.split("delay ")[1] for line in said.splitlines() if "delay" in line] == [
        "0.02s", "0.03s", "0.04s", "0.05s", "0.06s", "0.07s"
    ]  # fmt: skip
