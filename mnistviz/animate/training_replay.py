"""A network while it learns: the same digits, its kernels, maps and answers, on scales that never change."""

from collections.abc import Iterator, Sequence

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame
from mnistviz.animate.film import Film
from mnistviz.animate.stage import EDGE, WIDE, input_scale, same_layers, title
from mnistviz.errors import refuse, some
from mnistviz.look.diary import Moment
from mnistviz.look.trace import Trace
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, array

TOP, ROW, SIDE = 238, 66, 56  # TOP: of the first digit; SIDE: of a picture
KERNELS, MAPS = 12, 8
CHART = (660, 92, 270, 70)  # x, y, width, height
Labels = Sequence[int | None]  # None: of a digit that nobody has named


def training_replay(probes: Sequence[Moment], judged: Sequence[Moment], labels: Labels, *, ms: int = 160) -> Film:
    """`training_replay(lapse.moments(model, five), lapse.moments(model, many), many_labels)`

    `probes` are the moments of a few digits to watch, `judged` those of many, from which the share of
    right answers is counted. A colour means the same number from the first frame to the last.
    """
    what, fix = "the two rows of moments are not of the same steps", "take both from one Timelapse"
    refuse([m.step for m in probes] != [m.step for m in judged], what, fix=fix)
    same_layers([moment.trace for moment in probes])
    right, count = shares_right(judged, labels), sum(label is not None for label in labels)
    watched = f"{len(probes[0].trace.input)} digits watched while a network learns for {probes[-1].step} steps"
    answers = f"of {count:,} digits {percent(right[0])} are read rightly at first, {percent(right[-1])} in the end"
    alt = f"{watched}: kernels, maps and probabilities; {answers}."
    return Film(lambda: _frames(probes, right, count, ms), alt, poster=400)


def shares_right(moments: Sequence[Moment], labels: Labels) -> list[float]:
    """The share of right answers at each moment, counted from the recorded scores; None is a digit without a label."""
    some(moments, "moments of a training to show", fix="take them from Timelapse.moments")
    same_layers([moment.trace for moment in moments])
    known = np.array([-1 if label is None else label for label in labels])
    refuse((known < 0).all(), "no digit has a label: right and wrong cannot be counted", given=f"{len(known)} digits")
    shares = []
    for moment in moments:
        scores = array(moment.trace[moment.trace.last_linear()].result)
        counts = f"{len(scores)} digits, {len(known)} labels"
        refuse(len(scores) != len(known), "one label per judged digit is needed", given=counts)
        shares.append(float((scores.argmax(1) == known)[known >= 0].mean()))
    return shares


def chart(canvas: Canvas, place: tuple[int, int, int, int], steps: list[int], right: list[float], now: int) -> None:
    """The share of right answers so far, from 0 to 100 %, over the steps."""
    x, y, wide, high = place
    canvas.fill(x - 4, y - 8, wide + 14, high + 16)
    canvas.rule(x, y + high, wide, 1, "grey")
    canvas.rule(x, y, wide, 1, "rule")
    canvas.text(x - 8, y, "100 %", 14, "faint", "rm")
    canvas.text(x - 8, y + high, "0", 14, "faint", "rm")
    points = [(x + wide * steps[n] / (steps[-1] or 1), y + high * (1 - right[n])) for n in range(now + 1)]
    if now:
        canvas.line(points, "blue", 2.5)
    left, top = (round(part) for part in points[-1])
    canvas.rule(left - 3, top - 3, 7, 7, "blue")


def _frames(probes: Sequence[Moment], right: list[float], judged: int, ms: int) -> Iterator[Frame]:
    first, traces, steps = probes[0].trace, [m.trace for m in probes], [m.step for m in probes]
    convolutions = list(first.of_kind("Conv2d"))
    some(convolutions, "convolutions in these traces")
    conv = convolutions[0]
    stage = next(stage for stage in first.stages() if first.index(conv) in stage)
    maps = [first.keys[i] for i in stage if first.steps[i].result.ndim == 4 and i <= first.result_of(stage)][-1]
    kernels = Scale.over([trace[conv].weight for trace in traces], "across inputs")
    values = Scale.over([trace[maps].result for trace in traces], "across inputs")
    variation = array(traces[-1][maps].result).std((0, 2, 3))  # in the end
    shown = sorted(np.argsort(-variation, kind="stable")[:MAPS].tolist())
    canvas = _stage(first, conv, maps, len(shown), kernels, values)
    for n, trace in enumerate(traces):
        heading = f"A network learns: step {steps[n]} of {steps[-1]}"
        title(canvas, heading, "the same digits, the same colour scales, from the first frame to the last")
        weight = array(trace[conv].weight)[:KERNELS, 0]
        zoom = 42 // max(weight.shape[1:])
        claimed = [("weight", conv, c, 0) for c in range(len(weight))]
        canvas.maps(EDGE, 132, weight, kernels, zoom, claimed, gap=48 - weight.shape[2] * zoom)
        x, below, wide = CHART[0], CHART[1] + CHART[3] + 10, CHART[2]
        canvas.fill(x, below + 2, wide, 26)
        canvas.number(x, below, right[n], ("right",), f"{percent(right[n])} of {judged:,} right", size=18, bold=True)
        chart(canvas, CHART, steps, right, n)
        result, shares = array(trace[maps].result), array(trace.probabilities())
        zoom = max(1, SIDE // max(result.shape[2:]))
        gap = SIDE + 4 - result.shape[3] * zoom
        for d in range(len(result)):
            y = TOP + d * ROW
            canvas.maps(EDGE + 76, y, result[d, shown], values, zoom, [(maps, d, c) for c in shown], gap=gap)
            _bars(canvas, 610, y, shares[d], d)
        yield canvas.frame(ms if n else 1000, n)


def _stage(first: Trace, conv: str, maps: str, shown: int, kernels: Scale, values: Scale) -> Canvas:
    """What stays: words, the digits, the scales."""
    count = len(first.input)
    canvas = Canvas(WIDE, TOP + count * ROW + 76)
    total = len(array(first[conv].weight))
    canvas.text(EDGE, 122, f"{min(KERNELS, total)} of {total} kernels of {conv}", 17, "faint", "ls")
    canvas.text(EDGE + 76, TOP - 8, f"{maps}, the {shown} liveliest maps", 17, "faint", "ls")
    canvas.text(610, TOP - 8, "probabilities, 0 to 9", 17, "faint", "ls")
    for d in range(count):
        digit = array(first.input[d, :1])
        canvas.maps(EDGE, TOP + d * ROW, digit, input_scale(first), SIDE // 28, [("input", d, 0)])
    y = TOP + count * ROW + 10
    canvas.scale(EDGE, y, kernels, 150, words="kernels")
    canvas.scale(EDGE + 330, y, values, 150, words=f"maps of {maps}")
    return canvas


def _bars(canvas: Canvas, x: int, y: int, shares: np.ndarray, d: int) -> None:
    """Ten upright bars, and the digit the largest stands for."""
    best = int(shares.argmax())
    canvas.fill(x, y, 330, ROW - 6)
    for k, share in enumerate(shares):
        high = round(48 * float(share))
        canvas.fill(x + k * 21, y + 4, 16, 48, "shade")
        canvas.fill(x + k * 21, y + 4 + 48 - high, 16, high, "blue" if k == best else "grey")
    canvas.text(x + 228, y + 28, str(best), 26, "ink", "lm", bold=True)
    share, source = shares[best], ("probability", d, best)
    canvas.number(x + 258, y + 29, share, source, percent(share), size=16, ink="faint", anchor="lm")
