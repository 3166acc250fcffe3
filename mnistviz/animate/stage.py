"""What several scenes share: a title, ten probability bars, a size for many maps, numbers of a trace."""

from collections.abc import Sequence

import numpy as np

from mnistviz.animate.canvas import Canvas, Source
from mnistviz.errors import MnistvizError
from mnistviz.look.diary import Moment
from mnistviz.look.trace import Step, Trace
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array

WIDE, EDGE = 960, 24  # of a frame, and the margin on all its sides


def title(canvas: Canvas, words: str, below: str = "", y: int = 16) -> None:
    """The heading of a frame and a line under it; whatever stood there is wiped away."""
    wide = canvas.pixels.shape[1]
    canvas.fill(0, y, wide, 66)
    canvas.text(EDGE, y, words, 24, bold=True)
    canvas.text(EDGE, y + 38, below, 18, "faint")


def footer(canvas: Canvas, words: str) -> None:
    """A line at the bottom; what stood there is wiped away."""
    high, wide = canvas.pixels.shape
    canvas.fill(0, high - 44, wide, 44)
    canvas.text(EDGE, high - 28, words, 17, "faint", "lm")


def probabilities(
    canvas: Canvas, x: int, y: int, shares: np.ndarray, *, width: int = 120, pitch: int = 34, grown: float = 1.0,
    n: int = 0, mark: int | None = None,
) -> None:  # fmt: skip
    """Ten bars, one below the other, the largest in blue; `grown` lets them rise, the numbers stay the true ones."""
    answer, count = int(shares.argmax()), len(shares)
    canvas.fill(x - 6, y - 4, width + 118, count * pitch + 4)
    for d, share in enumerate(shares):
        top, best = y + d * pitch, d == answer
        canvas.text(x + 8, top + pitch // 2 - 1, str(d), 20, "ink" if best else "faint", "mm", bold=best)
        canvas.bar(x + 26, top + 4, width, pitch - 10, share * grown, "blue" if best else "grey")
        if grown == 1:
            style = {"size": 17, "ink": "ink" if best else "faint", "anchor": "lm", "bold": best}
            middle = top + pitch // 2 - 1
            canvas.number(x + width + 33, middle, share, ("probability", n, d), percent(share), **style)
    if mark is not None:
        canvas.box(x - 2, y + mark * pitch + 1, 24, pitch - 4)


def softmax(trace: Trace) -> np.ndarray:
    """The probabilities a trace ends in, (N, 10); of a log-softmax they are the same."""
    scores = array(trace.steps[-1].result)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def input_scale(trace: Trace) -> Scale | None:
    """Grey levels for pixels from 0 to 1, a scale for any other input."""
    pixels = array(trace.input)
    return None if pixels.min() >= 0 and pixels.max() <= 1 else Scale.over([pixels], "layer")


def sources(layer: str, channels: list[int] | range, n: int = 0) -> list[Source]:
    return [(layer, n, c) for c in channels]


def fitting(count: int, height: int, width: int, wide: int, high: int, gap: int = 4) -> tuple[int, int]:
    """Columns and zoom with which `count` maps come out largest in a field, in full rows if that costs nothing."""
    best = (1, False, 1)
    for columns in range(1, count + 1):
        rows = -(-count // columns)
        zoom = min(((wide + gap) // columns - gap) // width, ((high + gap) // rows - gap) // height)
        best = max(best, (zoom, count % columns == 0, columns))
    return best[2], best[0]


def spaced(length: int, count: int) -> set[int]:
    """`count` of the numbers below `length`, evenly apart, with the last."""
    count = min(count, length)
    return {round((k + 1) * length / count) - 1 for k in range(count)}


def times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def last_linear(trace: Trace) -> Step:
    """The layer that makes the ten scores: what goes into it is the last thing the network knows of a digit."""
    found = [step for step in trace.steps if step.kind == "Linear"]
    if not found:
        raise MnistvizError(
            "no linear layer was recorded", given=", ".join(trace.keys), fix="record the last one as well"
        )
    return found[-1]


def same_layers(moments: Sequence[Moment]) -> None:
    """An error unless there are moments, all of one network and with the same layers recorded."""
    if not moments:
        raise MnistvizError("there are no moments of a training to show", fix="take them from Timelapse.moments")
    if any(moment.trace.keys != moments[0].trace.keys for moment in moments):
        raise MnistvizError("these moments are of different networks, or of different layers")
