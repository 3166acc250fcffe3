"""What a film costs: milliseconds per frame and bytes, beside matplotlib's own animation and gifsicle."""

import shutil
import statistics as stats
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio.v3 as iio
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from PIL import Image

import mnistviz as mv
from benchmarks.common import interleaved
from mnistviz import animate
from mnistviz.animate.palette import PALETTE
from mnistviz.animate.scenes import JUDGED, PROBES, SCENES, trained
from mnistviz.learn.data import DigitSet

Row = tuple[str, str, str, str, str]  # what, here, beside, ratio, goal
FRAMES = 20


def _digits_through_relu3(digits: DigitSet) -> list[np.ndarray]:
    """The 64 maps, 14×14 each, of layer relu3 for some digits."""
    model = mv.load_model("deep")
    with mv.capture(model, "relu3") as trace:
        model(digits.test[:FRAMES].pixels)
    return list(trace["relu3"].output.numpy())


def grid(digits: DigitSet) -> list[Row]:
    """An 8×8 grid of maps with a caption, a digit per frame: drawn and written by us and by matplotlib."""
    maps = _digits_through_relu3(digits)
    scale = mv.Scale.over(maps, "across inputs")
    folder = Path(tempfile.mkdtemp())

    def draw() -> Iterator[animate.Frame]:
        canvas = animate.Canvas(600, 640)
        for n, values in enumerate(maps):
            canvas.fill(0, 0, 600, 60)
            canvas.text(24, 16, f"relu3, digit {n}: 64 maps", 24, bold=True)
            sources = [("relu3", n, c) for c in range(64)]
            canvas.maps(24, 60, values, scale, 4, sources, 8, gap=12)
            canvas.scale(24, 606, scale, words=str(scale))
            yield canvas.frame(100)

    def ours() -> None:
        film = animate.Film(draw, "64 maps of relu3 for some digits.")
        film.save(folder / "ours.gif", hold=100, sheet=False, progress=False)

    def by_matplotlib(many: bool) -> Callable[[], None]:
        def run() -> None:
            figure, axes = plt.subplots(8, 8, figsize=(6, 6.4), dpi=100) if many else plt.subplots(figsize=(6, 6.4))
            cells = axes.flat if many else [axes]
            sheets = maps if many else [_one_sheet(values) for values in maps]
            first = sheets[0] if many else [sheets[0]]
            images = [a.imshow(m, cmap="magma", vmin=0, vmax=scale.high) for a, m in zip(cells, first, strict=True)]
            for a in cells:
                a.set_axis_off()

            def update(n: int) -> list[object]:
                for image, values in zip(images, sheets[n] if many else [sheets[n]], strict=True):
                    image.set_data(values)
                return [*images, figure.suptitle(f"relu3, digit {n}: 64 maps")]

            film = FuncAnimation(figure, update, frames=FRAMES)
            film.save(folder / f"matplotlib_{many}.gif", writer=PillowWriter(fps=10))
            plt.close(figure)

        return run

    seconds = interleaved(3, ours=ours, axes=by_matplotlib(True), one=by_matplotlib(False))
    each = {name: [1000 * s / FRAMES for s in values] for name, values in seconds.items()}
    rows: list[Row] = []
    for name, said in (("axes", "an axes per map"), ("one", "all maps as one image")):
        ratio = stats.median(each[name]) / stats.median(each["ours"])
        beside = f"`FuncAnimation`, `PillowWriter`, {said}: {stats.median(each[name]):.1f} ms"
        here = f"{stats.median(each['ours']):.2f} ms ({min(each['ours']):.2f} to {max(each['ours']):.2f})"
        rows.append(
            ("a frame of 64 maps with caption, drawn and written", here, beside, f"{ratio:.0f}×", "25×, aim 100×")
        )
    ours_size, theirs = ((folder / f"{name}.gif").stat().st_size for name in ("ours", "matplotlib_True"))
    rows.append(("the film of those frames", f"{ours_size:,} bytes", f"matplotlib's: {theirs:,} bytes",
                 f"{ours_size / theirs:.2f}", ""))  # fmt: skip
    shutil.rmtree(folder)
    return rows


def _one_sheet(maps: np.ndarray) -> np.ndarray:
    padded = np.pad(maps, ((0, 0), (0, 3), (0, 3)), constant_values=np.nan)
    return padded.reshape(8, 8, 17, 17).transpose(0, 2, 1, 3).reshape(8 * 17, 8 * 17)


def scenes(digits: DigitSet) -> list[Row]:
    """All scenes: seconds, bytes, the same pixels through Pillow, and what gifsicle can save."""
    started = time.perf_counter()
    model, lapse = trained("deep")
    judged = digits.test[:JUDGED]
    few = lapse.moments(model, digits.test[list(PROBES)].pixels)
    many = lapse.moments(model, judged.pixels, few[0].trace.last_linear())
    labels = judged.known_labels().tolist()
    prepared = time.perf_counter() - started
    films = dict.fromkeys(SCENES) | {
        "training_replay": animate.training_replay(few, many, labels),
        "embedding_evolution": animate.embedding_evolution(many, labels),
    }
    rows: list[Row] = []
    spent, sizes = 0.0, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for scene, made in films.items():
            started = time.perf_counter()
            film = made or animate.film(scene)
            path = film.save(folder / f"{scene}.gif", budget=None, progress=False)
            spent += time.perf_counter() - started
            sizes[scene] = (path.stat().st_size, _through_pillow(film, path), _squeezed(path))
    total = f"{prepared + spent:.1f} s: training {prepared:.1f} s, drawing and writing {spent:.1f} s"
    rows.append(("all scenes of `deep`, with sheets", total, "", "", "under 60 s"))
    largest = max(sizes, key=lambda scene: sizes[scene][0])
    rows.append(("the largest of them", f"{sizes[largest][0] / 1000:,.0f} kB", f"`{largest}`", "", "1,500 kB"))
    ours, pillow, squeezed = (sum(values) for values in zip(*sizes.values(), strict=True))
    each = [s[0] / s[1] for s in sizes.values()]
    rows.append(("bytes of all scenes", f"{ours:,}", f"`PillowWriter`, the same pixels: {pillow:,}",
                 f"{ours / pillow:.2f} ({min(each):.2f} to {max(each):.2f})", "at most 0.33"))  # fmt: skip
    if squeezed:
        more = [s[0] / s[2] - 1 for s in sizes.values()]
        rows.append(("bytes of all scenes", f"{ours:,}", f"after `gifsicle -O3`: {squeezed:,}",
                     f"{ours / squeezed - 1:+.1%} ({min(more):+.1%} to {max(more):+.1%})", "within 10 %"))  # fmt: skip
    return rows


def _through_pillow(film: animate.Film, ours: Path) -> int:
    """The size that matplotlib's PillowWriter gives the same pixels; both files decode to them."""
    pictures = [PALETTE[frame.pixels] for frame in film]
    changes = [picture for i, picture in enumerate(pictures) if not i or (picture != pictures[i - 1]).any()]
    for drawn, decoded in zip(changes, iio.imiter(ours), strict=True):
        assert np.array_equal(drawn, decoded[..., :3])
    path = ours.with_name("pillow.gif")
    frames = [Image.fromarray(picture) for picture in pictures]  # what PillowWriter.finish does with opaque frames
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)
    return path.stat().st_size


def _squeezed(path: Path) -> int:
    """The size after gifsicle -O3; 0 where it is not installed."""
    if shutil.which("gifsicle") is None:
        return 0
    out = path.with_name("squeezed.gif")
    subprocess.run(["gifsicle", "-O3", str(path), "-o", str(out)], check=True, stderr=subprocess.DEVNULL)
    return out.stat().st_size
