"""The digit's tensor on its way: blocks to scale, shape by shape, with true values on every face."""

from collections.abc import Iterator

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, ease, width_of
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, footer, softmax, times, title
from mnistviz.look.trace import Step, Trace, sizes
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array, short

HIGH, MIDDLE = 468, 230


def mnist_data_flow(trace: Trace, *, frames: int = 8) -> Film:
    """`mnist_data_flow(trace).save("mnist_data_flow.gif")`: what each layer makes of the digit, as blocks to scale.

    A map is drawn in its true size, every channel one step behind the one before; the front is leafed
    through, so that values of many channels come to the face. Flat layers are columns of cells.
    """
    trace.one_digit()
    shapes = ", then ".join(times(tuple(trace.steps[trace.result_of(s)].result.shape[1:])) for s in trace.stages())
    alt = f"A digit becomes blocks of numbers, drawn to scale: 1×28×28, then {shapes}."
    return Film(lambda: _frames(trace, frames), alt, poster=400)


class _Block:
    """A tensor at a place: maps stacked slanting to the back, or a flat layer as a column of cells."""

    def __init__(self, source: str, values: np.ndarray, scale: Scale | None, zoom: int, depth: float) -> None:
        self.source, self.values, self.scale = source, values, scale
        self.flat = values.ndim == 1
        self.zoom = zoom
        self.depth = 0.0 if self.flat else depth
        if self.flat:
            count = len(values)
            self.columns = 1 if count <= 16 else -(-count // 64)
            self.cell = 20 if count <= 16 else max(2, 256 // min(64, count))
            self.size = (self.columns * self.cell, -(-count // self.columns) * self.cell)
        else:
            slant = round((len(values) - 1) * depth)
            self.size = (values.shape[2] * self.zoom + slant, values.shape[1] * self.zoom + slant)

    @property
    def front(self) -> int:
        """The channel with the liveliest map."""
        return 0 if self.flat else int(self.values.std((1, 2)).argmax())

    def draw(self, canvas: Canvas, x: int, front: int = 0) -> None:
        """Draw it with its left edge at x and its middle at the stage's; `front` is the channel that faces us."""
        y = MIDDLE - self.size[1] // 2
        if self.flat:
            canvas.cells(x, y, self.values, self.scale, self.cell, self.columns, self.source)
            return
        count = len(self.values)
        slant = round((count - 1) * self.depth)
        for behind in range(count - 1, -1, -1):
            channel, away = (front + behind) % count, round(behind * self.depth)
            maps = self.values[channel : channel + 1]
            canvas.maps(x + away, y + slant - away, maps, self.scale, self.zoom, [(self.source, 0, channel)])
        # an edge around the front map, so that it stands off from those behind
        wide, high = self.values.shape[2] * self.zoom, self.values.shape[1] * self.zoom
        for part in ((x - 1, y + slant - 1, wide + 2, 1), (x + wide, y + slant - 1, 1, high + 2)):
            canvas.rule(*part)


def _frames(trace: Trace, moves: int) -> Iterator[Frame]:
    stages = trace.stages()
    zoom, depth = _fit(trace, stages)
    canvas = Canvas(WIDE, HIGH)
    title(canvas, "The digit as a block of numbers", "28 × 28 pixels, one channel")
    footer(canvas, "Blocks to scale: one map behind the other, the liveliest in front. Each layer has its own scale.")
    x = EDGE
    first = _Block("input", array(trace.input[0]), None, zoom, depth)
    first.draw(canvas, x)
    _label(canvas, x, first, "input", "1×28×28")
    yield canvas.frame(1200)
    x += first.size[0]
    gap = _gap(trace, stages, zoom, depth)
    for stage in stages:
        result = trace.result_of(stage)
        drawn = [i for i in stage if i <= result and not trace.steps[i].kind.startswith(("Dropout", "Flatten"))]
        blocks = {i: _block(trace, i, zoom, depth) for i in drawn}
        wide = max(block.size[0] for block in blocks.values())
        clean = canvas.copy()
        for way in ease(moves):
            sheet = clean.copy()
            sheet.arrow((x + 5, MIDDLE), (x + 6 + (gap - 12) * way, MIDDLE), "faint", 2)
            yield sheet.frame(40)
        clean.arrow((x + 5, MIDDLE), (x + gap - 6, MIDDLE), "faint", 2)
        x += gap
        for i in drawn:
            step, block = trace.steps[i], blocks[i]
            count = 1 if block.flat else len(block.values)
            leaves = min(moves if i == result else moves // 2, count)
            for k in [*range(leaves), 0]:
                canvas = clean.copy()
                title(canvas, f"{trace.keys[i]} · {step.kind}", _says(step))
                front = (block.front + k * count // max(leaves, 1)) % count
                block.draw(canvas, x, front)
                _label(canvas, x, block, trace.keys[i], sizes(step.output), front)
                yield canvas.frame(80)
            yield canvas.frame(400)
        x += blocks[result].size[0] if result in blocks else wide
    shares = softmax(trace)[0]
    best = int(shares.argmax())
    title(
        canvas,
        f"The largest of ten scores: the answer is {best}",
        f"softmax makes it a probability of {percent(shares[best])}",
    )
    end = _block(trace, len(trace.steps) - 1, zoom, depth)
    top = MIDDLE - end.size[1] // 2
    for k in range(len(end.values)):
        canvas.text(
            x + 8, top + k * end.cell + end.cell // 2, str(k), 17, "ink" if k == best else "faint", "lm", bold=k == best
        )
    canvas.box(x - end.size[0], top + best * end.cell, end.size[0], end.cell)
    yield canvas.frame(2000)


def _says(step: Step) -> str:
    shape = step.result.shape[1:]
    low, high = float(step.result.min()), float(step.result.max())
    weights = f"{step.parameters:,} weights" if step.parameters else "no weights"
    return f"{sizes(step.output)}: {int(np.prod(shape)):,} numbers from {short(low)} to {short(high)}; {weights}"


def _block(trace: Trace, index: int, zoom: int, depth: float) -> _Block:
    step = trace.steps[index]
    values = array(step.result[0])
    return _Block(
        trace.keys[index], values if values.ndim == 3 else values.ravel(), Scale.over([step.result]), zoom, depth
    )


def _label(canvas: Canvas, x: int, block: _Block, name: str, size: str, front: int = 0) -> None:
    y = MIDDLE + block.size[1] // 2 + 14
    x = min(x, WIDE - 8 - width_of(name, 17, bold=True))
    canvas.text(x, y, name, 17, bold=True)
    canvas.text(x, y + 22, size, 16, "faint")
    if not block.flat and len(block.values) > 1:
        canvas.text(x, y + 42, f"front: {front}", 16, "faint")


def _widths(trace: Trace, stages: list[list[int]], zoom: int, depth: float) -> int:
    total = _Block("input", array(trace.input[0]), None, zoom, depth).size[0]
    return total + sum(_block(trace, trace.result_of(s), zoom, depth).size[0] for s in stages)


def _gap(trace: Trace, stages: list[list[int]], zoom: int, depth: float) -> int:
    room = WIDE - 2 * EDGE - 30 - _widths(trace, stages, zoom, depth)
    return min(max(room // len(stages), 20), 150)


def _fit(trace: Trace, stages: list[list[int]]) -> tuple[int, float]:
    """The largest zoom, and the deepest slant, with which all blocks and gaps have room beside one another."""
    for zoom in (5, 4, 3, 2):
        for depth in (2.0, 1.5, 1.0, 0.75, 0.5):
            if _widths(trace, stages, zoom, depth) + 44 * len(stages) <= WIDE - 2 * EDGE - 30:
                return zoom, depth
    return 1, 0.5
