"""What several scenes share: a title, ten probability bars, a size for many maps, numbers of a trace."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mnistviz.animate.canvas import Canvas, Source, width_of
from mnistviz.errors import MnistvizError
from mnistviz.look.trace import Trace
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array

Number = tuple[float, Source, str]  # a value, where it comes from, how it reads
WIDE, EDGE = 960, 24  # of a frame, and the margin on all its sides


def title(canvas: Canvas, words: str, *below: str | Number) -> None:
    """The heading of a frame, and under it words and numbers in a line; whatever stood there is wiped away."""
    canvas.fill(0, 16, canvas.pixels.shape[1], 66)
    canvas.text(EDGE, 16, words, 24, bold=True)
    x = EDGE
    for part in below:
        if isinstance(part, str):
            canvas.text(x, 54, part, 18, "faint")
        else:
            canvas.number(x, 54, *part, size=18)
        x += width_of(part if isinstance(part, str) else part[2])


def footer(canvas: Canvas, words: str) -> None:
    """A line at the bottom; what stood there is wiped away."""
    high, wide = canvas.pixels.shape
    canvas.fill(0, high - 44, wide, 44)
    canvas.text(EDGE, high - 28, words, 17, "faint", "lm")


def bars(
    canvas: Canvas, x: int, y: int, shares: np.ndarray, *, width: int, pitch: int, grown: float, mark: int | None = None
) -> None:
    """Ten bars, one below the other, the largest in blue; `grown` lets them rise, the numbers stay the true ones."""
    canvas.fill(x - 6, y - 4, width + 118, len(shares) * pitch + 4)
    for d, share in enumerate(shares):
        top, best = y + d * pitch, d == shares.argmax()
        middle, ink = top + pitch // 2 - 1, "ink" if best else "faint"
        canvas.text(x + 8, middle, str(d), 20, ink, "mm", bold=best)
        canvas.bar(x + 26, top + 4, width, pitch - 10, share * grown, "blue" if best else "grey")
        if grown == 1:
            source, style = ("probability", 0, d), {"size": 17, "ink": ink, "anchor": "lm", "bold": best}
            canvas.number(x + width + 33, middle, share, source, percent(share), **style)
    if mark is not None:
        canvas.box(x - 2, y + mark * pitch + 1, 24, pitch - 4)


def rounded(value: float, decimals: int) -> str:
    """`rounded(-0.004, 2)` is `0.00`: no zero has a sign."""
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}".replace("-", "−")


def input_scale(trace: Trace) -> Scale | None:
    """Grey levels for pixels from 0 to 1, a scale for any other input."""
    pixels = array(trace.input)
    return None if pixels.min() >= 0 and pixels.max() <= 1 else Scale.over([pixels], "layer")


def as_maps(result: Any) -> np.ndarray:
    """Maps (K, H, W) as they are; of a flat layer each value is a map."""
    return array(result) if result.ndim == 3 else array(result).reshape(-1, 1, 1)


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


def same_layers(traces: Sequence[Trace]) -> None:
    """An error unless all traces are of one network, with the same layers recorded."""
    if any(trace.keys != traces[0].keys for trace in traces):
        raise MnistvizError("these traces are of different networks, or of different layers")
