"""A film: frames made one after another, and the files they become."""

import io
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageSequence
from PIL.PngImagePlugin import PngInfo

from mnistviz import project
from mnistviz.animate.canvas import Frame
from mnistviz.animate.gif import Gif
from mnistviz.animate.palette import PALETTE, PAPER, USED
from mnistviz.errors import MnistvizError, choose
from mnistviz.progress import Log
from mnistviz.show.picture import indexed

SHORTEST, LONGEST = 20, 655_350  # milliseconds: below, viewers make up their own pace; above, the format ends
BUDGET = 1_500_000  # bytes


class Film:
    """`film.save("convolution.gif")`: a scene, ready to be drawn frame by frame as often as needed.

    Iterating gives its frames; nothing is kept of them. `film.alt` says what is to be seen. With `poster`
    the last frame also comes first, for so many milliseconds: what is seen where films stand still.
    """

    def __init__(self, draw: Callable[[], Iterable[Frame]], alt: str, poster: int = 0) -> None:
        self._draw, self.alt, self.poster = draw, alt, poster

    def __iter__(self) -> Iterator[Frame]:
        """The frames; one of another size, or that stands for no possible time, is an error that names it."""
        size, count = None, 0
        for count, frame in enumerate(self._frames(), 1):
            size = size or frame.pixels.shape
            if frame.pixels.shape != size:
                raise MnistvizError(
                    f"frame {count - 1} has another size than the first",
                    given="×".join(map(str, frame.pixels.shape[::-1])), allowed="×".join(map(str, size[::-1])),
                    fix="draw every frame of a film on a copy of one canvas",
                )  # fmt: skip
            _check_time(frame.ms, f"frame {count - 1}")
            yield frame
        if not count:
            raise MnistvizError("this film has no frames", fix="yield at least one: canvas.frame(100)")

    def _frames(self) -> Iterator[Frame]:
        if self.poster:
            for last in deque(self._draw(), maxlen=1):
                yield replace(last, ms=self.poster)
        yield from self._draw()

    def save(
        self, path: str | Path, *, budget: int | None = BUDGET, hold: int = 2000, loop: str | int = "forever",
        sheet: bool = True, progress: bool = True,
    ) -> Path:  # fmt: skip
        """Write .gif, .webp, .png (animated) or .mp4, whole or not at all, and a still sheet of frames beside it.

        The last frame stands for `hold` milliseconds at least. `loop` is "forever", "once" or how often it
        plays. More bytes than `budget` are an error, never a shortened film; None allows any.
        """
        path, plays = Path(path), _plays(loop)
        write = choose("kind of film", path.suffix.lower(), FORMATS)
        _check_time(hold, "the hold of the last frame")
        times: list[int] = []
        log = Log(progress)
        try:
            content = write(self._watched(times, hold, path.name, log), plays, self.alt, budget)
        finally:
            log.close()
        if budget is not None and len(content) > budget:
            raise _too_large(path.name, len(content), budget, len(times))
        _read_back(content, path, times)
        if sheet:  # first: if it cannot be written, nothing was
            project.write_bytes(path.with_name(f"{path.stem}_sheet.png"), self.sheet())
        project.write_bytes(path, content)
        return path

    def sheet(self, count: int = 9, columns: int = 3) -> bytes:
        """A PNG of `count` frames that stand long, in their order, at half size: the film on paper."""
        film = Film(self._draw, self.alt)  # without its poster
        chosen = keyframes([frame.ms for frame in film], count)
        pictures = [_picture(frame.pixels).convert("RGB").reduce(2) for i, frame in enumerate(film) if i in chosen]
        (width, height), gap = pictures[0].size, 8
        columns = min(columns, len(pictures))
        rows = -(-len(pictures) // columns)
        page = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "#d8dce4")
        for i, picture in enumerate(pictures):
            page.paste(picture, (i % columns * (width + gap), i // columns * (height + gap)))
        about, buffer = PngInfo(), io.BytesIO()
        about.add_itxt("Description", self.alt)
        indexed(np.asarray(page), PALETTE[:USED]).save(buffer, "PNG", optimize=True, pnginfo=about)
        return buffer.getvalue()

    def slider(self, start: int = -1) -> "Slider":
        """In a notebook: step through the frames by hand; what stays stored is one of them, as a plain picture."""
        return Slider([frame.pixels for frame in self], self.alt, start)

    def _watched(self, times: list[int], hold: int, name: str, log: Log) -> Iterator[Frame]:
        """The frames as they go to a file: the last one held, their times written down, progress shown."""
        started = time.perf_counter()
        frames = iter(self)
        frame = next(frames)
        for following in frames:
            times.append(frame.ms)
            log.live(f"{name}: {len(times)} frames, {time.perf_counter() - started:.0f} s")
            yield frame
            frame = following
        times.append(max(frame.ms, hold))
        yield Frame(frame.pixels, times[-1], frame.claims, frame.of)


class Slider:
    """A slider over frames where a notebook is alive, one plain picture where it is only read."""

    def __init__(self, pictures: list[np.ndarray], alt: str, start: int = -1) -> None:
        self._pictures, self.alt = [_png(p) for p in pictures], alt
        if not -len(pictures) <= start < len(pictures):
            raise MnistvizError("no such frame", given=start, allowed=f"0 to {len(pictures) - 1}, or -1 for the last")
        self.start = start % len(pictures)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data: dict[str, Any] = {"image/png": self._pictures[self.start], "text/plain": f"Film: {self.alt}"}
        try:
            import ipywidgets
        except ImportError:  # the picture alone, then
            return data, {"image/png": {"alt": self.alt}}
        shown = ipywidgets.Image(value=self._pictures[self.start], format="png")
        last = len(self._pictures) - 1
        knob = ipywidgets.IntSlider(self.start, 0, last, description="frame", layout={"width": "480px"})
        play = ipywidgets.Play(value=self.start, min=0, max=last, interval=200)
        ipywidgets.jslink((play, "value"), (knob, "value"))
        knob.observe(lambda change: setattr(shown, "value", self._pictures[change["new"]]), "value")
        box = ipywidgets.VBox([ipywidgets.HBox([play, knob]), shown])
        return {**box._repr_mimebundle_(), **data}, {"image/png": {"alt": self.alt}}


def keyframes(times: list[int], count: int) -> list[int]:
    """Which frames tell the film in `count` pictures: those that stand longest, and always the last."""
    standing = [i for i in range(len(times) - 1) if times[i] > sorted(times)[len(times) // 2]]
    if len(standing) < 2:  # an even pace: any frame is as good as another
        standing = list(range(len(times) - 1))
    if len(standing) > count - 1:  # more than fit: spread over the film
        standing = [standing[round(k * (len(standing) - 1) / max(count - 2, 1))] for k in range(count - 1)]
    return sorted({*standing, len(times) - 1})


# ── formats: each takes frames, plays (0 for ever), a description and a budget, and gives a file's content ──────


def _gif(frames: Iterator[Frame], plays: int, about: str, budget: int | None) -> bytes:
    first = next(frames)
    gif = Gif(first.pixels.shape[1], first.pixels.shape[0], plays, about)
    gif.add(first.pixels, first.ms)
    for count, frame in enumerate(frames, 2):
        gif.add(frame.pixels, frame.ms)
        if budget is not None and gif.size > budget:
            raise _too_large("this GIF", gif.size, budget, count)
    return gif.close()


def _through_pillow(kind: str, mode: str, **options: Any) -> Callable[..., bytes]:
    def write(frames: Iterator[Frame], plays: int, about: str, budget: int | None) -> bytes:
        pictures, times = [], []
        for frame in frames:
            pictures.append(_picture(frame.pixels).convert(mode))
            times.append(frame.ms)
        text, buffer = PngInfo(), io.BytesIO()
        text.add_itxt("Description", about)
        pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], duration=times, loop=plays,
                         pnginfo=text, **options)  # fmt: skip
        return buffer.getvalue()

    return write


def _mp4(frames: Iterator[Frame], plays: int, about: str, budget: int | None) -> bytes:
    """H.264 through imageio, at the one pace that fits all durations."""
    if find_spec("av") is None:
        raise MnistvizError(
            "an MP4 needs a video codec, and none is installed",
            fix='python -m pip install "mnistviz[video]", or write .gif, .webp or .png',
        )
    kept = list(frames)
    pace = math.gcd(*(frame.ms for frame in kept))
    buffer = io.BytesIO()
    with iio.imopen(buffer, "w", plugin="pyav", extension=".mp4") as file:
        file.init_video_stream("libx264", fps=1000 / pace)
        for frame in kept:
            height, width = (n + n % 2 for n in frame.pixels.shape)  # the codec wants even sides
            even = np.full((height, width), PAPER, np.uint8)
            even[: frame.pixels.shape[0], : frame.pixels.shape[1]] = frame.pixels
            for _ in range(frame.ms // pace):
                file.write_frame(PALETTE[even])
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Iterator[Frame], int, str, int | None], bytes]] = {
    ".gif": _gif,
    ".webp": _through_pillow("WEBP", "RGB", lossless=True, quality=60, method=2),
    ".png": _through_pillow("PNG", "P"),
    ".mp4": _mp4,
}


def _read_back(content: bytes, path: Path, times: list[int]) -> None:
    """Read the file again and compare its times with those asked for; equal neighbours may have become one."""
    if path.suffix.lower() == ".mp4":
        found = [round(1000 * float(iio.immeta(content, plugin="pyav", extension=".mp4")["duration"]), -1)]
        right = abs(found[0] - sum(times)) <= 100
    else:
        with Image.open(io.BytesIO(content)) as file:
            # a WebP knows a frame's time only once it is decoded
            found = [round(f.info.get("duration", 0)) for f in ImageSequence.Iterator(file) if f.load()]
        exact = path.suffix.lower() == ".gif"
        right = found == times if exact else sum(found) == sum(times) and len(found) <= len(times)
        right = right or (not exact and found == [0])  # nothing moves: such a file knows no times
    if not right:
        raise MnistvizError(
            f"{path.name} did not come out as drawn, and was not written",
            given=f"{len(found)} frames, {sum(found):.0f} ms", allowed=f"{len(times)} frames, {sum(times)} ms",
        )  # fmt: skip


def _plays(loop: str | int) -> int:
    """How often a film plays, 0 for ever."""
    if isinstance(loop, int) and not isinstance(loop, bool) and 1 <= loop <= 65_535:
        return loop
    if loop in ("forever", "once"):
        return 0 if loop == "forever" else 1
    raise MnistvizError("a film cannot play like that", given=loop, allowed='"forever", "once", or 1 to 65535 times')


def _check_time(ms: Any, what: str) -> None:
    whole = isinstance(ms, int | np.integer) and not isinstance(ms, bool)
    if not whole or ms % 10 or not SHORTEST <= ms <= LONGEST:
        raise MnistvizError(
            f"{what} cannot stand that long",
            given=f"{ms} ms",
            allowed=f"{SHORTEST} to {LONGEST:,} ms in steps of 10: the clock of a GIF",
            fix=f"take {min(max(round(ms / 10) * 10, SHORTEST), LONGEST)}" if whole else "give a whole number",
        )


def _too_large(what: str, size: int, budget: int, count: int) -> MnistvizError:
    return MnistvizError(
        f"{what} is too large, and was not written",
        given=f"{size:,} bytes by frame {count}",
        allowed=f"{budget:,} bytes",
        fix="draw fewer frames (frames=2), or allow more (budget=…, or None)",
    )


def _picture(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels, "P")
    picture.putpalette(PALETTE.tobytes())
    return picture


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    _picture(pixels).save(buffer, "PNG")
    return buffer.getvalue()
