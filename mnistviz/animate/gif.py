"""GIF, frame by frame: palette numbers go in as they are, and only the rectangle that changed is stored."""

import struct

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import getdata

from mnistviz.animate.palette import PALETTE, TRANSPARENT

GAPS = (6, 14, 28)  # tried for every frame; what promises to come out smallest is stored


class Gif:
    """`gif = Gif(960, 540); gif.add(pixels, 100); …; content = gif.close()`: equal frames make equal bytes."""

    def __init__(self, width: int, height: int, plays: int = 0, comment: str = "") -> None:
        self._parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), PALETTE.tobytes()]
        if plays != 1:  # 0 is for ever; the file counts repeats after the first time
            self._parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", max(plays - 1, 0), 0))
        if comment:
            text = comment.encode()
            blocks = [text[i : i + 255] for i in range(0, len(text), 255)]
            self._parts.append(b"!\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0")
        self.size = sum(map(len, self._parts)) + 1
        self._before: np.ndarray | None = None

    def add(self, pixels: np.ndarray, ms: int) -> None:
        """Store a frame that stands for `ms` milliseconds; what is as before is left out."""
        left, top, part = _changed(self._before, pixels)
        ways = [part]
        if self._before is not None:
            ways += _left_out(part, self._before[top : top + part.shape[0], left : left + part.shape[1]] == part)
        best = min(ways, key=_turns)
        data, transparent = _compressed(best), best is not part
        # extension, leave in place (+ transparency), delay in hundredths of a second
        control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 1 << 2 | transparent, ms // 10, TRANSPARENT, 0)
        place = struct.pack("<BHHHHB", 0x2C, left, top, part.shape[1], part.shape[0], 0)
        self._parts += [control, place, data]
        self.size += len(control) + len(place) + len(data)
        self._before = pixels.copy()

    def close(self) -> bytes:
        return b"".join([*self._parts, b";"])


def _left_out(part: np.ndarray, same: np.ndarray) -> list[np.ndarray]:
    """The part in a few ways, with transparency for what is as before where that makes long runs.

    A pixel as before is drawn all the same if fewer than a gap of them stand together, or if it carries on
    a run of its own colour in which something did change.
    """
    flat, kept = part.ravel(), same.ravel()
    if not kept.any():
        return []
    length, _ = _stretches(kept)
    run, starts = _stretches(flat)
    place = np.arange(flat.size)
    first = np.minimum.reduceat(np.where(kept, flat.size, place), starts)  # the first change in each run of a colour
    carried_on = ~kept | (place >= np.repeat(first, run))
    alone = np.repeat(length, length)
    return [np.where(carried_on | (alone < gap), flat, np.uint8(TRANSPARENT)).reshape(part.shape) for gap in GAPS]


def _stretches(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How long each stretch of equal neighbours is, and where it begins."""
    begins = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return np.diff(begins, append=flat.size), begins


def _turns(part: np.ndarray) -> int:
    """How often a pixel differs from the one before: the fewer, the shorter the code, within a per cent of the best."""
    flat = part.ravel()
    return int(np.count_nonzero(flat[1:] != flat[:-1]))


def _changed(before: np.ndarray | None, pixels: np.ndarray) -> tuple[int, int, np.ndarray]:
    """The smallest rectangle that holds all changes: left, top, pixels; one pixel if there are none."""
    if before is None:
        return 0, 0, pixels
    differs = before != pixels
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return 0, 0, pixels[:1, :1]
    return int(columns[0]), int(rows[0]), pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _compressed(part: np.ndarray) -> bytes:
    """The size of a code, then the blocks of Pillow's LZW coder, up to the empty one."""
    blocks = b"".join(getdata(Image.fromarray(np.ascontiguousarray(part), "L")))
    return blocks[10:]  # after Pillow's own descriptor of place and size
