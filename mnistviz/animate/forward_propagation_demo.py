"""Ten digits, one after another: the same maps for all, and ten probability bars for each."""

from collections.abc import Iterator, Sequence

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, ease
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, footer, input_scale, probabilities, softmax, sources, title
from mnistviz.errors import MnistvizError
from mnistviz.look.trace import Trace
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array

HIGH, TOP, SIDE = 604, 116, 56  # SIDE: of a map on the stage
GATHERED = TOP + 6 * (SIDE + 6) + 6  # where the answers so far are gathered


def forward_propagation_demo(traces: Sequence[Trace], labels: Sequence[int | None] | None = None, *, frames: int = 8) -> Film:
    """`forward_propagation_demo([trace_of_0, …, trace_of_9], range(10)).save("forward_propagation_demo.gif")`

    The same channels are shown for every digit, those that differ most among them, on scales that hold
    across all. With labels, a box marks the true digit among the bars; None is for a digit nobody has named.
    """
    if not traces:
        raise MnistvizError("there are no digits to show", given="no traces")
    if labels is not None and len(labels) != len(traces):
        raise MnistvizError("one label per trace is needed", given=f"{len(traces)} traces, {len(labels)} labels")
    if any(trace.keys != traces[0].keys for trace in traces):
        raise MnistvizError("these traces are of different networks, or of different layers")
    for trace in traces:
        trace.one_digit()
    answers = [int(softmax(trace)[0].argmax()) for trace in traces]
    said = ", ".join(map(str, answers))
    alt = f"{len(traces)} digits go through the network one after another; the answers are {said}."
    return Film(lambda: _frames(traces, labels, frames), alt, poster=400)


class _Column:
    """One stage of the network on the screen: a few maps, or all values of a flat layer, at a place."""

    def __init__(self, traces: Sequence[Trace], index: int, x: int, rows: int) -> None:
        self.index, self.x, self.key = index, x, traces[0].keys[index]
        results = [array(trace.steps[index].result[0]) for trace in traces]
        self.scale = Scale.over(results, "across inputs")
        self.flat = results[0].ndim != 3
        if self.flat:
            self.values = [r.ravel() for r in results]
            count = len(self.values[0])
            self.columns = -(-count // 64)
            self.zoom = max(2, rows * (SIDE + 6) // -(-count // self.columns))
        else:
            differ = np.stack([np.abs(r) for r in results]).std(0).mean((1, 2))
            self.channels = sorted(np.argsort(-differ, kind="stable")[:rows].tolist())
            self.values = [r[self.channels] for r in results]
            self.zoom = max(1, SIDE // max(results[0].shape[1:]))

    def draw(self, canvas: Canvas, n: int) -> None:
        if self.flat:
            canvas.cells(self.x, TOP, self.values[n], self.scale, self.zoom, self.columns, self.key)
        else:
            gap = SIDE + 6 - self.values[n].shape[-1] * self.zoom
            canvas.maps(self.x, TOP, self.values[n], self.scale, self.zoom, sources(self.key, self.channels), 1, gap)


def _frames(traces: Sequence[Trace], labels: Sequence[int | None] | None, moves: int) -> Iterator[Frame]:
    canvas, first, rows = Canvas(WIDE, HIGH), traces[0], 6
    stages = first.stages()[:-1]
    bars, start = WIDE - EDGE - 250, EDGE + 150
    pitch = (bars - 40 - start) // max(len(stages), 1)
    columns = [_Column(traces, first.result_of(stage), start + k * pitch, rows) for k, stage in enumerate(stages)]
    names = {10: "Ten digits", 1: "One digit"}
    title(
        canvas,
        f"{names.get(len(traces), f'{len(traces)} digits')} through one network",
        "the same maps each time, on the same scales: what changes is the digit",
    )
    canvas.text(EDGE, TOP - 8, "input", 17, anchor="ls")
    for column in columns:
        canvas.text(column.x, TOP - 8, column.key, 17, anchor="ls")
    zero = "0 is black, or white among signs"
    footer(canvas, f"The channels that differ most. One scale per layer, across all inputs; {zero}.")
    for n, trace in enumerate(traces):
        shares = softmax(trace)[0]
        answer = int(shares.argmax())
        canvas.fill(start - 10, TOP, WIDE, GATHERED - TOP)
        pixels = array(trace.input[0, :1])
        canvas.maps(EDGE, TOP, pixels, input_scale(trace), 112 // max(pixels.shape[1:]), sources("input", [0]))
        yield canvas.frame(90, n)
        for column in columns:
            column.draw(canvas, n)
            yield canvas.frame(90, n)
        mark = None if labels is None else labels[n]
        for grown in ease(max(1, moves // 2)):
            probabilities(canvas, bars, TOP - 4, shares, width=118, pitch=37, grown=grown, mark=mark)
            yield canvas.frame(60, n)
        verdict, ink = _verdict(answer, mark)
        x = EDGE + n * min(92, (WIDE - EDGE) // len(traces))
        canvas.maps(x, GATHERED + 12, pixels, input_scale(trace), 1, sources("input", [0]))
        canvas.text(x + 34, GATHERED + 26, verdict, 20, ink, "lm", bold=True)
        canvas.text(EDGE, TOP + 124, f"answer: {answer}", 19, ink, bold=True)
        canvas.text(EDGE, TOP + 150, percent(float(shares[answer])), 17, "faint")
        yield canvas.frame(1000, n)
        canvas.fill(EDGE, TOP + 120, 124, 56)
        canvas.claims = []


def _verdict(answer: int, label: int | None) -> tuple[str, str]:
    if label is None:
        return str(answer), "ink"
    return (f"{answer} ✓", "green") if answer == label else (f"{answer} ✗", "red")
