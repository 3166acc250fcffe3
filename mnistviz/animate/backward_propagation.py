"""The way back on the same stage: the loss, δ of every layer from right to left, and one step of the weights."""

from collections.abc import Iterator
from copy import copy
from itertools import pairwise

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame, ease
from mnistviz.animate.film import Film
from mnistviz.animate.mnist_forward_propagation import ANSWER, BOTTOM, TOP, Column, Stage, woven
from mnistviz.animate.stage import EDGE, WIDE, footer, title
from mnistviz.errors import refuse
from mnistviz.look.trace import Trace
from mnistviz.show.picture import an, percent
from mnistviz.show.scales import Scale, array, short

HIGH, STRIP = 756, 588  # of a frame, and where the kernels begin
KERNELS, SIDE, PITCH, TRAY = 5, 45, 54, 261  # of each kind; a kernel, from one to the next, all of them
PLACES = (EDGE, EDGE + 351, EDGE + 651)  # of kernels before the step, their gradients, and kernels after it
RATE = 0.01  # of the step


def backward_propagation(trace: Trace, after: Trace, *, rate: float = RATE, frames: int = 8) -> Film:
    """`backward_propagation(*scenes.one_step(model, digit.pixels, 7)).save("backward_propagation.gif")`

    `trace` is the pass of a digit, gone back through from its label; `after` is its pass after one step of SGD.
    Maps turn into their δ, ∂loss/∂value, on one signed scale for each layer; links are coloured by what came
    back through them, all products w·δ summed (`flow`).
    """
    trace.one_digit()
    refuse(trace.labels is None, "nobody has gone back through this trace", fix="mv.backward(trace, labels=[7])")
    stage = _Stage(trace, after, rate)
    start = f"A digit goes through the network; with the label {stage.label} its loss is {stage.loss[0][2]}"
    way = f"δ lights up layer by layer, from ten scores back through {len(stage.stages) - 1} stages to the pixels"
    step = f"after one step of SGD with learning rate {rate:g} the loss is {stage.loss[1][2]}"
    return Film(lambda: stage.frames(frames), f"{start}; {way}; {step}.", poster=400)


class _Stage(Stage):
    """The stage of the forward pass, with a strip below: kernels, their gradients, and the kernels after the step."""

    def __init__(self, trace: Trace, after: Trace, rate: float) -> None:
        super().__init__(trace, back=True)
        assert trace.labels is not None
        self.label, self.rate = int(trace.labels[0]), rate
        self.shares, self.loss = [], []  # before the step, and after it
        for one, mark in ((trace, ()), (after, ("after",))):
            loss = 0.0 - float(one.steps[-1].result[0].double().log_softmax(0)[self.label])
            share = float(np.exp(-loss))
            self.shares.append((share, (*mark, "probability", 0, self.label), percent(share)))
            self.loss.append((loss, (*mark, "loss"), _digits(loss)))
        layer, step = next(item for item in trace.of_kind("Conv2d", "Linear").items() if "weight" in item[1].gradients)
        self.sources = [("weight", layer), ("gradient", layer), ("after", "weight", layer)]
        parts = [array(w) for w in (step.weight, step.gradients["weight"], after[layer].weight)]
        before, slope, moved = self.parts = [w.reshape(*w.shape[:2], *(w.shape[2:] or (1, 1))) for w in parts]
        what, fix = f"the second trace is not of {layer!r} after this step", "take both from scenes.one_step"
        refuse(not np.allclose(before - rate * slope, moved, rtol=1e-5, atol=1e-6), what, given=f"rate {rate}", fix=fix)
        steepest = np.abs(slope).max((2, 3))
        strongest = np.argsort(-steepest, axis=None, kind="stable")[:KERNELS].tolist()
        self.kernels = [divmod(at, steepest.shape[1]) for at in strongest]
        self.tap = divmod(int(np.abs(slope[self.kernels[0]]).argmax()), slope.shape[3])  # the steepest of all weights

    def frames(self, moves: int) -> Iterator[Frame]:
        canvas, label, scores = Canvas(WIDE, HIGH), self.label, self.columns[-1]
        self.open(canvas)
        for x in PLACES:
            canvas.fill(x, STRIP + 26, TRAY, SIDE, "shade")
        self._strip(canvas, 0)
        yield canvas.frame(1000)
        yield from self.forward(canvas, max(1, moves // 2), 50)
        yield canvas.frame(500)
        (p, source, _), heading = self.shares[0], f"How wrong is that, if it is {an(label)}?"
        share = (p, source, _digits(p, 7 if p > 0.99 else 4))
        title(canvas, heading, f"loss = −log p({label}) = −log ", share, " = ", self.loss[0])
        canvas.box(scores.x + scores.side + 7, round(scores.middle(label)) - 13, 20, 26)
        yield canvas.frame(2500)
        heading = f"The error runs back from label {label}: δ = ∂loss/∂value"
        title(canvas, heading, f"{scores.key}   δ of each score is its probability, and for the label 1 less")
        words = "Links behind the wave are w·δ, summed; a scale per gap. Orange raises the loss, blue lowers it."
        footer(canvas, words)
        self._errors(canvas, scores)
        left = scores.x + scores.side + 31
        canvas.fill(left, TOP, ANSWER, BOTTOM - TOP)
        for d, value in enumerate(array(self.trace[scores.key].delta).ravel().tolist()):
            y, source = round(scores.middle(d)), ("delta", scores.key, 0, d)
            canvas.number(left + 3, y, value, source, size=16, anchor="lm", bold=d == label)
        yield canvas.frame(2500)
        wave = woven(canvas.pixels.shape, self.links(self.flows))
        for before, column in reversed(list(pairwise(self.columns))):
            left, drawn = before.x + before.side, column.x - 1
            for way in ease(moves):  # the wave runs back through the gap
                edge = round(column.x - (column.x - left) * way)
                canvas.fill(edge, TOP, drawn - edge, BOTTOM - TOP)
                canvas.weave(wave, edge, drawn)
                drawn = min(drawn, edge)
                yield canvas.frame(50)
            title(canvas, heading, f"{before.key}   δ of {before.values.size:,} values; below, the ends of its scale")
            self._errors(canvas, before)
            yield canvas.frame(450 if before is not self.columns[0] else 1500)
        title(canvas, "Each weight moves against its gradient", f"w − {self.rate:g} · ∂loss/∂w, in every layer")
        for kind in range(3):
            self._strip(canvas, kind, written=True)
            yield canvas.frame(1500)
        norms = self.trace.of_kind("BatchNorm1d", "BatchNorm2d").values()
        mode = "; batch norm in evaluation mode" * any(not norm.training for norm in norms)
        footer(canvas, f"One digit, one step of SGD with learning rate {self.rate:g}{mode}.")
        (loss, loss_after), (share, share_after) = self.loss, self.shares
        below = "loss ", loss, " → ", loss_after, f",   p({label}) ", share, " → ", share_after
        title(canvas, f"After one step, for the label {label}", *below)
        yield canvas.frame(3000)

    def _errors(self, canvas: Canvas, column: Column) -> None:
        """δ in the place of a column's values, and below it the ends of its scale."""
        delta = array(self.trace.delta if column is self.columns[0] else self.trace[column.key].delta)[0]
        twin, scale = copy(column), Scale.about_zero(delta)
        twin.values, twin.scale, twin.source = delta.reshape(column.values.shape), scale, ("delta", column.key)
        for k in column.shown:  # a thin edge: what is near 0 is as white as the paper
            x, y = column.corner(k)
            canvas.fill(x - 1, y - 1, column.wide + 2, column.high + 2, "grey")
        twin.draw(canvas)
        x, anchor = (column.x, "la") if column is self.columns[-1] else (column.x + column.side // 2, "ma")
        canvas.fill(x - 40, BOTTOM + 4, 80, 20)
        canvas.text(x, BOTTOM + 6, f"±{short(scale.high)}", 15, "faint", anchor)

    def _strip(self, canvas: Canvas, kind: int, written: bool = False) -> None:
        """Kernels (0), their gradients (1), or the kernels after the step (2), and one weight of them in figures."""
        x, y, parts, source = PLACES[kind], STRIP + 26, self.parts[kind], self.sources[kind]
        (outputs, inputs, high, wide), weights = parts.shape, np.stack(self.parts[::2])
        scale = Scale.about_zero(parts if kind == 1 else weights)
        zoom, sort = max(1, SIDE // max(high, wide)), "kernels" if high * wide > 1 else "weights"
        maps, claimed = [parts[at] for at in self.kernels], [(*source, *at) for at in self.kernels]
        canvas.fill(x, y, TRAY, SIDE)
        for k in range(len(maps)):
            canvas.fill(x + k * PITCH - 1, y - 1, wide * zoom + 2, high * zoom + 2, "grey")
        canvas.maps(x, y, maps, scale, zoom, claimed, gap=PITCH - wide * zoom)
        names = f"{len(maps)} of {outputs * inputs:,} {sort} of {source[-1]}", "their gradients", "after the step"
        canvas.fill(x, STRIP, 270, 20)
        canvas.text(x, STRIP, f"{names[kind]}, ±{short(scale.high)}", 16, "faint")
        if written:
            (row, column), unit = self.tap, (*self.kernels[0], *self.tap)
            canvas.box(x + column * zoom, y + row * zoom, zoom, zoom, thick=2)
            words, place = _digits(parts[unit]), (*source, *(unit if high * wide > 1 else unit[:2]))
            canvas.number(x, y + SIDE + 18, parts[unit], place, words, size=17, anchor="lm", bold=True)
            for middle in (y + SIDE // 2, y + SIDE + 18):
                canvas.text(x - 9, middle, ("", f"− {self.rate:g} ·", "=")[kind], 16, anchor="rm")


def _digits(value: float, count: int = 4) -> str:
    return f"{value:.{count}g}".replace("-", "−")
