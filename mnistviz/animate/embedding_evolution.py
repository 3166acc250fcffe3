"""What the last hidden layer knows of many digits, while the network learns to tell them apart."""

from collections.abc import Iterator, Sequence

import numpy as np

from mnistviz.animate.canvas import Canvas, Frame
from mnistviz.animate.film import Film
from mnistviz.animate.palette import INKS
from mnistviz.animate.stage import EDGE, WIDE, footer, title
from mnistviz.animate.training_replay import Labels, chart, shares_right
from mnistviz.look.diary import Moment
from mnistviz.look.projection import project
from mnistviz.show.picture import percent

HIGH, TOP = 660, 96
FIELD = (EDGE, TOP, 640, 510)  # x, y, width, height of the plane
SIDE = FIELD[0] + FIELD[2] + 40  # where what stands beside it begins
DOT = np.array([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]], bool)


def embedding_evolution(moments: Sequence[Moment], labels: Labels, *, ms: int = 120) -> Film:
    """`embedding_evolution(lapse.moments(model, digits.pixels, "fc2"), digits.labels)`

    What goes into the last linear layer is one point per digit, on the two directions that hold most of
    its variance in the end: one PCA, one pair of axes for all frames. Nothing between moments is invented.
    A digit whose label is None is framed: yours.
    """
    right = shares_right(moments, labels)
    known = np.array([-1 if label is None else label for label in labels])
    places, held = plane(moments)
    count, classes = int((known >= 0).sum()), len(np.unique(known[known >= 0]))
    points = f"{count:,} digits as coloured points while a network learns for {moments[-1].step} steps"
    answers = f"{percent(right[0])} are read rightly at first, {percent(right[-1])} in the end"
    alt = f"{points}: one cloud becomes {classes} groups; {answers}."
    layer = moments[0].trace[moments[0].trace.last_linear()]
    about = f"{count:,} digits, {layer.input[0].numel():,} numbers each, on two directions that hold {percent(held)}"
    steps = [moment.step for moment in moments]
    return Film(lambda: _frames(steps, places, known, right, f"{about} of their last variance.", ms), alt, poster=400)


def plane(moments: Sequence[Moment]) -> tuple[list[np.ndarray], float]:
    """The middle of each dot, in pixels, for every moment; and the share of the last variance they hold."""
    projection = project([moment.trace[moment.trace.last_linear()].input for moment in moments])
    points = projection.points
    low, high = np.min([p.min(0) for p in points], axis=0), np.max([p.max(0) for p in points], axis=0)
    x, y, wide, tall = FIELD
    places = []
    for shares in [(p - low) / np.where(high > low, high - low, 1) for p in points]:
        dots = np.stack([x + 6 + shares[:, 0] * (wide - 12), y + tall - 6 - shares[:, 1] * (tall - 12)], 1)
        places.append(dots.round().astype(int))
    return places, projection.held or 0.0  # where all digits are the same there is no variance to hold


def _frames(
    steps: list[int], places: list[np.ndarray], labels: np.ndarray, right: list[float], about: str, ms: int
) -> Iterator[Frame]:
    canvas = Canvas(WIDE, HIGH)
    canvas.text(SIDE, TOP + 20, "answers that are right", 18)
    canvas.text(SIDE, TOP + 300, "the true digit", 18)
    for d in range(10):
        x, y = SIDE + d % 5 * 46, TOP + 336 + d // 5 * 44
        canvas.fill(x, y, 34, 34, f"class {d}")
        canvas.text(x + 17, y + 17, str(d), 20, "white", "mm", bold=True)
    footer(canvas, about)
    for n, dots in enumerate(places):
        heading = f"Ten kinds of digits come apart: step {steps[n]} of {steps[-1]}"
        title(canvas, heading, "each point is a digit as the last hidden layer sees it; classes are named once apart")
        canvas.fill(FIELD[0] - 20, FIELD[1] - 14, FIELD[2] + 40, FIELD[3] + 30)  # labels reach over the edge
        chart(canvas, (SIDE + 44, TOP + 70, WIDE - EDGE - SIDE - 50, 130), steps, right, n)
        canvas.fill(SIDE, TOP + 216, WIDE - SIDE, 30)
        canvas.number(SIDE, TOP + 216, right[n], ("right",), percent(right[n]), size=22, bold=True)
        classes = np.unique(labels[labels >= 0])
        for d in classes:
            for dy, dx in np.argwhere(DOT) - 2:
                canvas.pixels[dots[labels == d, 1] + dy, dots[labels == d, 0] + dx] = INKS[f"class {d}"][-1]
        middles = np.array([np.median(dots[labels == d], axis=0) for d in classes]).astype(int)
        for d, (x, y) in zip(classes, middles.tolist(), strict=True):
            if (np.abs(middles - (x, y)) < (20, 22)).all(axis=1).sum() > 1:
                continue  # one name would lie on another, and both on the points
            canvas.box(x - 9, y - 10, 18, 20, f"class {d}", 2)
            canvas.rule(x - 9, y - 10, 18, 20)
            canvas.text(x, y, str(d), 18, f"class {d}", "mm", bold=True)
        for x, y in dots[labels < 0].tolist():
            canvas.box(x - 5, y - 5, 11, 11)
            canvas.rule(x - 2, y - 2, 5, 5, "ink")
            inward, anchor = (x + 14, "lm") if x < SIDE - 120 else (x - 14, "rm")
            canvas.text(inward, y, "yours", 18, "ink", anchor, bold=True)
        yield canvas.frame(ms if n else 1000, n)
