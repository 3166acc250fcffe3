"""The whole forward pass, layer by layer: every map, every value of a flat layer, ten probabilities."""

from collections.abc import Iterator

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, ease, width_of
from mnistviz.animate.film import Film
from mnistviz.animate.stage import (
    EDGE,
    WIDE,
    fitting,
    input_scale,
    probabilities,
    softmax,
    sources,
    times,
    title,
)  # fmt: skip
from mnistviz.errors import MnistvizError
from mnistviz.look.field import receptive_field
from mnistviz.look.trace import Trace, sizes
from mnistviz.show.scales import Scale, array

HIGH = 574
LEFT, TOP = 190, 96  # of the field where the layers appear
SEEN = TOP + 196  # of the words under the digit
FIELD = (WIDE - LEFT - EDGE, 418)


def forward_propagation(trace: Trace, *, frames: int = 8) -> Film:
    """`forward_propagation(trace).save("forward_propagation.gif")`: every layer of the pass, one after another.

    What only changes the form of its input, or does nothing outside training, is named and not drawn again.
    """
    trace.one_digit()
    answer = int(softmax(trace)[0].argmax())
    layers = [key for key, step in trace.items() if not _idle(step.kind)]
    alt = (
        f"A digit goes through {', '.join(layers)}: all maps of every layer light up, then ten probabilities; "
        f"the answer is {answer}."
    )
    return Film(lambda: _frames(trace, frames), alt, poster=400)


def _idle(kind: str) -> bool:
    return kind.startswith(("Dropout", "Flatten", "Identity"))


def _frames(trace: Trace, moves: int) -> Iterator[Frame]:
    canvas, shares = Canvas(WIDE, HIGH), softmax(trace)[0]
    rail = [i for i, step in enumerate(trace.steps) if not _idle(step.kind)]
    about = "every value of every layer, from one recorded forward pass"
    title(canvas, "A digit on its way through the network", about)
    _digit(canvas, trace)
    _rail(canvas, trace, rail, -1)
    yield canvas.frame(1200)
    for before, index in zip([-1, *rail], rail, strict=False):
        step = trace.steps[index]
        shape, idle = tuple(step.result.shape[1:]), trace.keys[before + 1 : index]
        passed = f"   (after {' and '.join(idle)}, which change no number)" if idle else ""
        title(canvas, f"{trace.keys[index]} · {step.kind}", _what(sizes(step.output), shape, step.parameters) + passed)
        _rail(canvas, trace, rail, index)
        _digit(canvas, trace, index)
        yield from (_maps if len(shape) == 3 else _cells)(canvas, trace, index, moves)
        yield canvas.frame(640)
    title(canvas, f"The answer is {int(shares.argmax())}", "softmax turns the ten scores into probabilities")
    _rail(canvas, trace, rail, len(trace.steps))
    _digit(canvas, trace)
    for grown in ease(moves):
        probabilities(canvas, LEFT + 60, TOP + 6, shares, width=420, pitch=36, grown=grown)
        yield canvas.frame(60)


def _digit(canvas: Canvas, trace: Trace, index: int | None = None) -> None:
    """An empty stage with the digit at its left; on it, what one value from the middle of a layer sees."""
    canvas.fill(0, TOP, WIDE, HIGH - 46 - TOP)
    zoom = 140 // max(trace.input.shape[2:])
    canvas.text(EDGE, TOP + 12, "the digit")
    canvas.maps(EDGE, TOP + 40, array(trace.input[0, :1]), input_scale(trace), zoom, sources("input", [0]))
    if index is None:
        return
    try:
        middle = (n // 2 for n in trace.steps[index].result.shape[2:])
        field = receptive_field(trace, trace.keys[index], *middle)
    except MnistvizError:  # a network with parts that are no modules
        return
    high, wide = field.height, field.width
    canvas.box(EDGE + field.left * zoom, TOP + 40 + field.top * zoom, wide * zoom, high * zoom, thick=2)
    canvas.text(EDGE, SEEN, "one value here sees", 15, "faint")
    canvas.text(EDGE, SEEN + 20, f"{times((high, wide))} of its pixels", 15, "faint")


def _what(size: str, shape: tuple[int, ...], learned: int) -> str:
    weights = f"{learned:,} learned weights" if learned else "nothing learned"
    return f"{size} = {int(np.prod(shape)):,} numbers, {weights}" if len(shape) > 1 else f"{size} numbers, {weights}"


def _maps(canvas: Canvas, trace: Trace, index: int, moves: int) -> Iterator[Frame]:
    """Rows of maps light up, one row after another."""
    key, step = trace.keys[index], trace.steps[index]
    maps, scale = array(step.result[0]), Scale.over([step.result])
    count, height, width = maps.shape
    columns, zoom = fitting(count, height, width, FIELD[0], FIELD[1] - 40)
    down, across = height * zoom + 4, width * zoom + 4
    rows = -(-count // columns)
    left = LEFT + (FIELD[0] - columns * across) // 2
    canvas.scale(LEFT, TOP + FIELD[1] - 28, scale, words=f"one scale for all of {key}")
    for k in range(count):
        canvas.fill(left + k % columns * across, TOP + k // columns * down, width * zoom, height * zoom, "shade")
    together = -(-rows // moves)  # rows at a time
    for row in range(0, rows, together):
        part = range(row * columns, min((row + together) * columns, count))
        canvas.maps(left, TOP + row * down, maps[part.start : part.stop], scale, zoom, sources(key, part), columns)
        yield canvas.frame(80)


def _cells(canvas: Canvas, trace: Trace, index: int, moves: int) -> Iterator[Frame]:
    """The values of a flat layer, row by row as one reads; ten or fewer with their numbers."""
    key, step = trace.keys[index], trace.steps[index]
    values, scale = array(step.result[0]).ravel(), Scale.over([step.result])
    few = len(values) <= 16
    columns = len(values) if few else 32 if len(values) >= 256 else 16
    rows = -(-len(values) // columns)
    pitch = min(FIELD[0] // columns, (FIELD[1] - 40) // rows, 64)
    left, top = LEFT + (FIELD[0] - columns * pitch) // 2, TOP + max((FIELD[1] - 40 - rows * pitch) // 2, 0)
    canvas.scale(LEFT, TOP + FIELD[1] - 28, scale, words=f"one scale for all of {key}")
    together = max(1, len(values) // moves) if few else columns * -(-rows // moves)  # cells at a time
    for start in range(0, len(values), together):
        part = range(start, min(start + together, len(values)))
        at = left + start % columns * pitch, top + start // columns * pitch
        squares = values[part.start : part.stop].reshape(-1, 1, 1)
        canvas.maps(*at, squares, scale, pitch - 3, sources(key, part), len(part) if few else columns, 3)
        for k in part if few else ():
            middle = left + k * pitch + pitch // 2
            canvas.text(middle, top - 18, str(k), 18, "faint", "mm")
            canvas.number(middle, top + pitch + 17, values[k], (key, 0, k), _tenth(values[k]), size=17, anchor="mm")
        yield canvas.frame(80)


def _tenth(value: float) -> str:
    return f"{round(float(value), 1) + 0.0:.1f}".replace("-", "−")  # + 0.0: minus zero is zero


def _rail(canvas: Canvas, trace: Trace, rail: list[int], now: int) -> None:
    """The layers as a row of names at the bottom, as many as have room around the one that is shown."""
    canvas.fill(0, HIGH - 42, WIDE, 42)
    names = ["digit", *(trace.keys[i] for i in rail), "answer"]
    at = 0 if now < 0 else len(names) - 1 if now >= len(trace.steps) else rail.index(now) + 1
    lengths = [width_of(name, 16, k == at) + 22 for k, name in enumerate(names)]
    first = 0
    while sum(lengths[first : at + 3]) > WIDE - 2 * EDGE:
        first += 1
    x = EDGE
    for k in range(first, len(names)):
        if x + lengths[k] > WIDE - 8:
            break
        ink = "ink" if k == at else "faint" if k < at else "grey"
        canvas.text(x, HIGH - 20, names[k], 16, ink, "lm", bold=k == at)
        if k == at:
            canvas.fill(x, HIGH - 8, lengths[k] - 22, 3, "accent")
        x += lengths[k]
