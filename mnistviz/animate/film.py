"""A film: frames made one after another, and the files they become."""

import base64
import html
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageColor, ImageSequence

from mnistviz import project
from mnistviz.animate.canvas import Frame
from mnistviz.animate.palette import PALETTE, PAPER, TRANSPARENT, USED
from mnistviz.errors import MnistvizError, choose, refuse
from mnistviz.look.trace import times
from mnistviz.progress import Log
from mnistviz.show.colours import RULE
from mnistviz.show.png import encoded, indexed
from mnistviz.show.tiles import mosaic

FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".mp4": "MP4"}
SHORTEST, LONGEST = 20, 655_350  # milliseconds: below, viewers make up their own pace; above, the format ends
BUDGET = 1_500_000  # bytes


class Film:
    """`film.save("convolution.gif")`: a scene, ready to be drawn frame by frame as often as needed.

    Iterating draws its frames anew. `film.alt` says what is to be seen. With `poster` the last frame also
    comes first, for so many milliseconds: what is seen where films stand still. In a notebook a film plays
    as it was saved; where a page is only read, its last frame stands as a plain picture.
    """

    def __init__(self, draw: Callable[[], Iterable[Frame]], alt: str, poster: int = 0) -> None:
        self._draw, self.alt, self.poster = draw, alt, poster
        self._saved: tuple[str, bytes, np.ndarray] | None = None  # kind, content, the last frame

    def __iter__(self) -> Iterator[Frame]:
        """The frames; one of another size, or that stands for no possible time, is an error that names it."""
        size, frames = None, self._draw()
        if self.poster:
            drawn = list(frames)
            frames = [replace(frame, ms=self.poster) for frame in drawn[-1:]] + drawn
        for number, frame in enumerate(frames):
            size = size or frame.pixels.shape
            what, fix = f"frame {number} has another size than the first", "draw all on copies of one canvas"
            given, allowed = times(frame.pixels.shape[::-1]), times(size[::-1])
            refuse(frame.pixels.shape != size, what, given=given, allowed=allowed, fix=fix)
            _check_time(frame.ms, f"frame {number}")
            yield frame
        refuse(size is None, "this film has no frames", fix="yield at least one: canvas.frame(100)")

    def save(
        self,
        path: str | Path,
        *,
        budget: int | None = BUDGET,
        hold: int = 2000,
        loop: str | int = "forever",
        sheet: bool = True,
        progress: bool = True,
    ) -> Path:
        """Write .gif, .webp, .png (animated) or .mp4, whole or not at all, and a still sheet of frames beside it.

        The last frame stands for `hold` milliseconds at least. `loop` is "forever", "once" or how often it
        plays. More bytes than `budget` are an error, never a shortened film; None allows any.
        """
        path, plays = Path(path), _plays(loop)
        kind = choose("kind of film", path.suffix.lower(), FORMATS)
        _check_time(hold, "the hold of the last frame")
        with closing(Log(progress)) as log:
            started, frames = time.perf_counter(), []
            for frame in Film(self._draw, self.alt):  # without its poster
                frames.append(frame)
                log.live(f"{path.name}: {len(frames)} frames, {time.perf_counter() - started:.0f} s")
            opening = [replace(frames[-1], ms=self.poster)] if self.poster else []
            held = [*opening, *frames[:-1], replace(frames[-1], ms=max(frames[-1].ms, hold))]
            runs = [list(run) for _, run in groupby(held, lambda frame: frame.pixels.tobytes())]
            stored = [replace(run[0], ms=sum(frame.ms for frame in run)) for run in runs]  # repeats are stored as one
            for frame in stored:
                _check_time(frame.ms, "a picture that does not change")
            content = _mp4(stored) if kind == "MP4" else _through_pillow(stored, kind, plays, self.alt)
        if budget is not None and len(content) > budget:
            problem, given = f"{path.name} is too large, and was not written", f"{len(content):,} bytes"
            fix = f"draw fewer than {len(held)} frames (frames=2), or allow more (budget=…, or None)"
            raise MnistvizError(problem, given=given, allowed=f"{budget:,} bytes", fix=fix)
        _read_back(content, path, [frame.ms for frame in stored])
        if sheet:  # first: if it cannot be written, nothing was
            project.write_bytes(path.with_name(f"{path.stem}_sheet.png"), Film(lambda: frames, self.alt).sheet())
        project.write_bytes(path, content)
        self._saved = kind, content, frames[-1].pixels
        return path

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._saved is None:
            with tempfile.TemporaryDirectory() as folder:
                self.save(Path(folder) / "film.gif", budget=None, sheet=False, progress=False)
        assert self._saved is not None
        kind, content, last = self._saved
        data: dict[str, Any] = {"image/png": encoded(_picture(last)), "text/plain": f"Film: {self.alt}"}
        if kind != "MP4":
            source = f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"
            data["text/html"] = f'<img src="{source}" alt="{html.escape(self.alt)}" width="{last.shape[1]}">'
        return data, {"image/png": {"alt": self.alt, "width": last.shape[1], "height": last.shape[0]}}

    def sheet(self, count: int = 9, columns: int = 3) -> bytes:
        """A PNG of `count` frames that stand long, in their order, at half size: the film on paper."""
        frames = list(Film(self._draw, self.alt))
        chosen = keyframes([frame.ms for frame in frames], count)
        pictures = [np.asarray(_picture(frames[i].pixels).convert("RGB").reduce(2)) for i in chosen]
        rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
        page = mosaic(rows, len(rows[0]), gap=8, paper=ImageColor.getrgb(RULE)).astype(np.uint8)
        return encoded(indexed(page, PALETTE[:USED]), self.alt, optimize=True)

    def slider(self, start: int = -1) -> "Slider":
        """In a notebook: step through the frames by hand; what stays stored is one of them, as a plain picture."""
        return Slider([frame.pixels for frame in self], self.alt, start)


class Slider:
    """A slider over frames where a notebook is alive, one plain picture where it is only read."""

    def __init__(self, pictures: list[np.ndarray], alt: str, start: int = -1) -> None:
        self._pictures, self.alt = [encoded(_picture(pixels)) for pixels in pictures], alt
        self._size = dict(zip(("height", "width"), pictures[0].shape, strict=True))
        if not -len(pictures) <= start < len(pictures):
            raise MnistvizError("no such frame", given=start, allowed=f"0 to {len(pictures) - 1}, or -1 for the last")
        self.start = start % len(pictures)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data: dict[str, Any] = {"image/png": self._pictures[self.start], "text/plain": f"Film: {self.alt}"}
        about: dict[str, Any] = {"image/png": {"alt": self.alt, **self._size}}
        try:
            import ipywidgets
        except ImportError:  # the picture alone, then
            return data, about
        shown = ipywidgets.Image(value=self._pictures[self.start], format="png", **self._size)
        last = len(self._pictures) - 1
        knob = ipywidgets.IntSlider(self.start, 0, last, description="frame", layout={"width": "480px"})
        play = ipywidgets.Play(value=self.start, min=0, max=last, interval=200)
        ipywidgets.jslink((play, "value"), (knob, "value"))
        knob.observe(lambda change: setattr(shown, "value", self._pictures[change["new"]]), "value")
        box = ipywidgets.VBox([ipywidgets.HBox([play, knob]), shown])
        return {**box._repr_mimebundle_(), **data}, about


def keyframes(durations: list[int], count: int) -> list[int]:
    """Which frames tell the film in `count` pictures: those that stand longest, and always the last."""
    last, median = len(durations) - 1, sorted(durations)[len(durations) // 2]
    standing = [i for i in range(last) if durations[i] > median]
    standing = standing if len(standing) > 1 else list(range(last))  # an even pace: any is as good as another
    if len(standing) > count - 1:  # more than fit: spread over the film
        standing = [standing[round(k * (len(standing) - 1) / max(count - 2, 1))] for k in range(count - 1)]
    return sorted({*standing, last})


def _through_pillow(frames: list[Frame], kind: str, plays: int, alt: str) -> bytes:
    """GIF, WebP or animated PNG from pictures in the one palette: small, and every colour stays as it is."""
    options: dict[str, Any] = {"loop": plays}
    if kind == "WEBP":
        options |= {"lossless": True, "quality": 60, "method": 2}
    if kind == "GIF":  # stored is the rectangle that changed, with transparency for what is as before
        repeats = {0: 0, 1: None}.get(plays, plays - 1)  # after the first time
        options = {"loop": repeats, "comment": alt, "palette": PALETTE[:USED].tobytes(), "disposal": 1}
        options |= {"optimize": True, "transparency": TRANSPARENT}
    first, *others = [_picture(frame.pixels) for frame in frames]
    options |= {"save_all": True, "append_images": others, "duration": [frame.ms for frame in frames]}
    return encoded(first, alt, kind, **options)  # a WebP has no place for words


def _mp4(frames: list[Frame]) -> bytes:
    """H.264 through imageio, at the one pace that fits all durations."""
    fix = 'python -m pip install "mnistviz[video]", or write .gif, .webp or .png'
    refuse(find_spec("av") is None, "an MP4 needs a video codec, and none is installed", fix=fix)
    buffer, pace = io.BytesIO(), math.gcd(*(frame.ms for frame in frames))
    with iio.imopen(buffer, "w", plugin="pyav", extension=".mp4") as file:
        file.init_video_stream("libx264", fps=1000 / pace)
        for frame in frames:
            height, width = frame.pixels.shape  # the codec wants even sides
            even = np.pad(frame.pixels, ((0, height % 2), (0, width % 2)), constant_values=PAPER)
            for _ in range(frame.ms // pace):
                file.write_frame(PALETTE[even])
    return buffer.getvalue()


def _read_back(content: bytes, path: Path, durations: list[int]) -> None:
    """Read the file again and compare its times with those asked for."""
    if path.suffix.lower() == ".mp4":
        stored = [round(1000 * float(iio.immeta(content, plugin="pyav", extension=".mp4")["duration"]), -1)]
        right = abs(stored[0] - sum(durations)) <= 100
    else:
        with Image.open(io.BytesIO(content)) as file:
            # a WebP knows a frame's time only once it is decoded
            stored = [round(f.info.get("duration", 0)) for f in ImageSequence.Iterator(file) if f.load()]
        right = stored == durations or (len(durations) == 1 and stored == [0])  # a single picture may know no time
    given, allowed = (f"{len(ms)} frames, {sum(ms):.0f} ms" for ms in (stored, durations))
    refuse(not right, f"{path.name} did not come out as drawn, and was not written", given=given, allowed=allowed)


def _plays(loop: str | int) -> int:
    """How often a film plays, 0 for ever."""
    if loop in ("forever", "once"):
        return 0 if loop == "forever" else 1
    if isinstance(loop, int) and not isinstance(loop, bool) and 1 <= loop <= 65_535:
        return loop
    raise MnistvizError("a film cannot play like that", given=loop, allowed='"forever", "once", or 1 to 65535 times')


def _check_time(ms: Any, what: str) -> None:
    whole = isinstance(ms, int | np.integer) and not isinstance(ms, bool)
    if not whole or ms % 10 or not SHORTEST <= ms <= LONGEST:
        allowed = f"{SHORTEST} to {LONGEST:,} ms in steps of 10: the clock of a GIF"
        fix = f"take {min(max(round(ms / 10) * 10, SHORTEST), LONGEST)}" if whole else "give a whole number"
        raise MnistvizError(f"{what} cannot stand that long", given=f"{ms} ms", allowed=allowed, fix=fix)


def _picture(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels, "P")
    picture.putpalette(PALETTE[:USED].tobytes())
    return picture
