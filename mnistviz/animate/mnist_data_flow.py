"""The digit's tensor on its way: blocks to scale, shape by shape, with true values on every face."""

from collections.abc import Iterator
from itertools import product

from mnistviz.animate.canvas import Canvas, Frame, ease, width_of
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, as_maps, footer, title
from mnistviz.look.trace import Step, Trace, sizes, times
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array, short

HIGH, MIDDLE = 468, 230
ROOM = WIDE - 2 * EDGE - 30  # for all blocks and the gaps between them


def mnist_data_flow(trace: Trace, *, frames: int = 8) -> Film:
    """`mnist_data_flow(trace).save("mnist_data_flow.gif")`: what each layer makes of the digit, as blocks to scale.

    A map is drawn in its true size, every channel one step behind the one before; the front is leafed
    through, so that values of many channels come to the face. Flat layers are columns of cells.
    """
    trace.one_digit()
    shapes = ", then ".join(times(trace.steps[trace.result_of(s)].result.shape[1:]) for s in trace.stages())
    alt = f"A digit becomes blocks of numbers, drawn to scale: 1×28×28, then {shapes}."
    return Film(lambda: _frames(trace, frames), alt, poster=400)


class _Block:
    """The digit, or the result of a step: maps stacked slanting to the back, or a column of cells if it is flat."""

    def __init__(self, trace: Trace, index: int | None, zoom: int, depth: float) -> None:
        self.key, self.scale, result = "input", None, trace.input
        if index is not None:
            self.key, result = trace.keys[index], trace.steps[index].result
            self.scale = Scale.over([result])
        self.zoom, self.depth = zoom, depth
        self.flat, self.values = result.ndim != 4, as_maps(result[0])
        count, high, wide = self.values.shape
        if self.flat:
            self.columns = 1 if count <= 16 else -(-count // 64)
            self.zoom = 20 if count <= 16 else max(2, 256 // min(64, count))
            self.width, self.height = self.columns * self.zoom, -(-count // self.columns) * self.zoom
        else:
            self.slant = round((count - 1) * depth)
            self.width, self.height = wide * zoom + self.slant, high * zoom + self.slant
        self.top = MIDDLE - self.height // 2

    def draw(self, canvas: Canvas, x: int, size: str, front: int = 0) -> None:
        """Draw it with its left edge at x, and its name below; `front` is the channel that faces us."""
        if self.flat:
            claimed = [(self.key, 0, k) for k in range(len(self.values))]
            canvas.maps(x, self.top, self.values, self.scale, self.zoom, claimed, self.columns, 0)
        else:
            count, y = len(self.values), self.top + self.slant
            for behind in range(count - 1, -1, -1):
                channel, away = (front + behind) % count, round(behind * self.depth)
                values = self.values[channel : channel + 1]
                canvas.maps(x + away, y - away, values, self.scale, self.zoom, [(self.key, 0, channel)])
            # an edge around the front map, so that it stands off from those behind
            wide, high = self.values.shape[2] * self.zoom, self.values.shape[1] * self.zoom
            canvas.rule(x - 1, y - 1, wide + 2, 1)
            canvas.rule(x + wide, y - 1, 1, high + 2)
        left, below = min(x, WIDE - 8 - width_of(self.key, 17, bold=True)), MIDDLE + self.height // 2 + 14
        canvas.text(left, below, self.key, 17, bold=True)
        canvas.text(left, below + 22, size, 16, "faint")
        if not self.flat and len(self.values) > 1:
            canvas.text(left, below + 42, f"front: {front}", 16, "faint")


def _frames(trace: Trace, moves: int) -> Iterator[Frame]:
    stages, canvas, x = trace.stages(), Canvas(WIDE, HIGH), EDGE
    zoom, depth, gap = _fitting(trace, stages)
    title(canvas, "The digit as a block of numbers", "28 × 28 pixels, one channel")
    footer(canvas, "Blocks to scale: one map behind the other, the liveliest in front. Each layer has its own scale.")
    digit = _Block(trace, None, zoom, depth)
    digit.draw(canvas, x, "1×28×28")
    yield canvas.frame(1200)
    x += digit.width
    for stage in stages:
        result = trace.result_of(stage)
        drawn = [i for i in stage if i <= result and not trace.steps[i].kind.startswith(("Dropout", "Flatten"))]
        for way in ease(moves):  # the last arrow stays
            sheet = canvas.copy()
            sheet.arrow((x + 5, MIDDLE), (x + 6 + (gap - 12) * way, MIDDLE))
            yield sheet.frame(40)
        x += gap
        for i in drawn:
            step, block = trace.steps[i], _Block(trace, i, zoom, depth)
            liveliest = int(block.values.std((1, 2)).argmax())
            count = 1 if block.flat else len(block.values)
            leaves = min(moves if i == result else moves // 2, count)
            for k in [*range(leaves), 0]:
                canvas = sheet.copy()
                title(canvas, f"{trace.keys[i]} · {step.kind}", _about(step))
                block.draw(canvas, x, sizes(step.output), (liveliest + k * count // max(leaves, 1)) % count)
                yield canvas.frame(80)
            yield canvas.frame(400)
        x += block.width
    shares = array(trace.probabilities()[0])
    best = int(shares.argmax())
    below = f"softmax makes it a probability of {percent(shares[best])}"
    title(canvas, f"The largest of ten scores: the answer is {best}", below)
    for k in range(len(shares)):  # the last block holds the scores
        middle, ink = block.top + k * block.zoom + block.zoom // 2, "ink" if k == best else "faint"
        canvas.text(x + 8, middle, str(k), 17, ink, "lm", bold=k == best)
    canvas.box(x - block.width, block.top + best * block.zoom, block.width, block.zoom)
    yield canvas.frame(2000)


def _about(step: Step) -> str:
    low, high = float(step.result.min()), float(step.result.max())
    numbers = f"{step.result[0].numel():,} numbers from {short(low)} to {short(high)}"
    return f"{sizes(step.output)}: {numbers}; {f'{step.parameters:,}' if step.parameters else 'no'} weights"


def _fitting(trace: Trace, stages: list[list[int]]) -> tuple[int, float, int]:
    """The largest zoom, and the deepest slant, with which all blocks have room beside one another; and the gap."""
    results = [trace.result_of(stage) for stage in stages]
    for zoom, depth in [*product((5, 4, 3, 2), (2.0, 1.5, 1.0, 0.75, 0.5)), (1, 0.5)]:
        room = ROOM - sum(_Block(trace, i, zoom, depth).width for i in [None, *results])
        if room >= 44 * len(stages):
            break
    return zoom, depth, min(max(room // len(stages), 20), 150)
