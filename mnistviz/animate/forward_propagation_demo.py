"""Ten digits, one after another: the same maps for all, and ten probability bars for each."""

from collections.abc import Iterator, Sequence

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, ease
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, as_maps, bars, footer, input_scale, same_layers, title
from mnistviz.errors import MnistvizError, some
from mnistviz.look.trace import Trace
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array

HIGH, TOP, SIDE, ROWS = 604, 116, 56, 6  # SIDE: of a map on the stage
GATHERED = TOP + ROWS * (SIDE + 6) + 6  # where the answers so far are gathered
NAMES = {10: "Ten digits", 1: "One digit"}


def forward_propagation_demo(
    traces: Sequence[Trace], labels: Sequence[int | None] | None = None, *, frames: int = 8
) -> Film:
    """`forward_propagation_demo([trace_of_0, …, trace_of_9], range(10)).save("forward_propagation_demo.gif")`

    The same channels are shown for every digit, those that differ most among them, on scales that hold
    across all. With labels, a box marks the true digit among the bars; None is for a digit nobody has named.
    """
    some(traces, "digits to show")
    if labels is not None and len(labels) != len(traces):
        raise MnistvizError("one label per trace is needed", given=f"{len(traces)} traces, {len(labels)} labels")
    same_layers(traces)
    for trace in traces:
        trace.one_digit()
    answers = ", ".join(str(int(trace.probabilities().argmax())) for trace in traces)
    alt = f"{len(traces)} digits go through the network one after another; the answers are {answers}."
    known = [None] * len(traces) if labels is None else labels
    return Film(lambda: _frames(traces, known, frames), alt, poster=400)


class _Column:
    """One stage of the network on the screen: a few maps, or all values of a flat layer, at a place."""

    def __init__(self, traces: Sequence[Trace], index: int, x: int, side: int) -> None:
        self.x, self.key = x, traces[0].keys[index]
        results = [as_maps(trace.steps[index].result[0]) for trace in traces]
        self.scale = Scale.over(results, "across inputs")
        if traces[0].steps[index].result.ndim == 4:
            variation = np.stack([np.abs(result) for result in results]).std(0).mean((1, 2))
            self.channels = sorted(np.argsort(-variation, kind="stable")[:ROWS].tolist())
            self.zoom, self.columns = max(1, side // max(results[0].shape[1:])), 1
            self.gap = SIDE + 6 - results[0].shape[2] * self.zoom
        else:
            self.channels = list(range(results[0].size))
            self.columns, self.gap = -(-len(self.channels) // 64), 0
            self.zoom = max(2, ROWS * (SIDE + 6) // -(-len(self.channels) // self.columns))
        self.values = [result[self.channels] for result in results]

    def draw(self, canvas: Canvas, n: int) -> None:
        claimed = [(self.key, 0, c) for c in self.channels]
        canvas.maps(self.x, TOP, self.values[n], self.scale, self.zoom, claimed, self.columns, self.gap)


def _frames(traces: Sequence[Trace], labels: Sequence[int | None], moves: int) -> Iterator[Frame]:
    canvas, stages = Canvas(WIDE, HIGH), traces[0].stages()[:-1]
    start, end = EDGE + 150, WIDE - EDGE - 250  # of the columns; the bars stand right of them
    pitch = (end - 40 - start) // max(len(stages), 1)
    side = min(SIDE, pitch - 4)  # of a map
    columns = [_Column(traces, traces[0].result_of(stage), start + k * pitch, side) for k, stage in enumerate(stages)]
    heading = f"{NAMES.get(len(traces), f'{len(traces)} digits')} through one network"
    title(canvas, heading, "the same maps each time, on the same scales: what changes is the digit")
    canvas.text(EDGE, TOP - 8, "input", 17, anchor="ls")
    for column in columns:
        canvas.text(column.x, TOP - 8, column.key, 17, anchor="ls")
    zero = "0 is black, or white among signs"
    footer(canvas, f"The channels that differ most. One scale per layer, across all inputs; {zero}.")
    for n, (trace, label) in enumerate(zip(traces, labels, strict=True)):
        shares, digit, scale = array(trace.probabilities()[0]), array(trace.input[0, :1]), input_scale(trace)
        answer = int(shares.argmax())
        canvas.fill(start - 10, TOP, WIDE, GATHERED - TOP)
        canvas.maps(EDGE, TOP, digit, scale, 112 // max(digit.shape[1:]), [("input", 0, 0)])
        yield canvas.frame(90, n)
        for column in columns:
            column.draw(canvas, n)
            yield canvas.frame(90, n)
        for grown in ease(max(1, moves // 2)):
            bars(canvas, end, TOP - 4, shares, width=118, pitch=37, grown=grown, mark=label)
            yield canvas.frame(60, n)
        verdict, ink = str(answer), "ink"
        if label is not None:
            verdict, ink = (f"{answer} ✓", "green") if answer == label else (f"{answer} ✗", "red")
        x = EDGE + n * min(92, (WIDE - EDGE) // len(traces))
        canvas.maps(x, GATHERED + 12, digit, scale, 1, [("input", 0, 0)])
        canvas.text(x + 34, GATHERED + 26, verdict, 20, ink, "lm", bold=True)
        canvas.text(EDGE, TOP + 124, f"answer: {answer}", 19, ink, bold=True)
        canvas.text(EDGE, TOP + 150, percent(float(shares[answer])), 17, "faint")
        yield canvas.frame(1000, n)
        canvas.fill(EDGE, TOP + 120, 124, 56)
        canvas.claims = []
