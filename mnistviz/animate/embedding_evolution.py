"""What the last hidden layer knows of many digits, while the network learns to tell them apart."""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.decomposition import PCA

from mnistviz.animate.canvas import Canvas, Frame
from mnistviz.animate.film import Film
from mnistviz.animate.palette import INKS
from mnistviz.animate.stage import EDGE, WIDE, footer, last_linear, same_layers, title
from mnistviz.animate.training_replay import chart, shares_right
from mnistviz.errors import MnistvizError
from mnistviz.look.diary import Moment
from mnistviz.show.picture import percent
from mnistviz.show.scales import array

HIGH, TOP = 660, 96
FIELD = (EDGE, TOP, 640, 510)  # x, y, width, height of the plane
DOT = np.array([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]], bool)


def embedding_evolution(moments: Sequence[Moment], labels: Sequence[int | None], *, ms: int = 120) -> Film:
    """`embedding_evolution(lapse.moments(model, digits.pixels, "fc2"), digits.labels)`

    What goes into the last linear layer is one point per digit, on the two directions that hold most of
    its variance in the end: one PCA, one pair of axes for all frames. Nothing between moments is invented.
    A digit whose label is None is framed: yours.
    """
    same_layers(moments)
    right = shares_right(moments, labels)
    known = np.array([-1 if label is None else label for label in labels])
    places, held = plane(moments)
    count = int((known >= 0).sum())
    alt = (
        f"{count:,} digits as coloured points while a network learns for {moments[-1].step} steps: one cloud becomes "
        f"{len(np.unique(known[known >= 0]))} groups; {percent(right[0])} are read rightly at first, "
        f"{percent(right[-1])} in the end."
    )
    return Film(lambda: _frames(moments, places, known, right, held, ms), alt, poster=400)


def plane(moments: Sequence[Moment]) -> tuple[list[np.ndarray], float]:
    """The middle of each dot, in pixels, for every moment; and the share of the last variance they hold."""
    features = [array(last_linear(m.trace).input).reshape(len(m.trace.input), -1) for m in moments]
    if len(features[-1]) < 3 or not all(np.isfinite(f).all() for f in features):
        raise MnistvizError(
            "these cannot be projected", given=f"{features[-1].shape}", allowed="3 or more rows of finite numbers"
        )
    pca = PCA(2, svd_solver="full")
    pca.fit_transform(features[-1])
    points = [pca.transform(f) for f in features]
    low, high = (f([f(p, axis=0) for p in points], axis=0) for f in (np.min, np.max))
    x, y, wide, tall = FIELD
    share = [(p - low) / np.where(high > low, high - low, 1) for p in points]
    dots = [
        np.stack([x + 6 + s[:, 0] * (wide - 12), y + tall - 6 - s[:, 1] * (tall - 12)], 1).round().astype(int)
        for s in share
    ]
    return dots, float(pca.explained_variance_ratio_.sum())


def _frames(
    moments: Sequence[Moment], places: list[np.ndarray], labels: np.ndarray, right: list[float], held: float, ms: int
) -> Iterator[Frame]:  # fmt: skip
    canvas, steps = Canvas(WIDE, HIGH), [m.step for m in moments]
    side = FIELD[0] + FIELD[2] + 40
    area = (side + 44, TOP + 70, WIDE - EDGE - side - 50, 130)
    canvas.text(side, TOP + 20, "answers that are right", 18)
    canvas.text(side, TOP + 300, "the true digit", 18)
    for d in range(10):
        x, y = side + d % 5 * 46, TOP + 336 + d // 5 * 44
        canvas.fill(x, y, 34, 34, f"class {d}")
        canvas.text(x + 17, y + 17, str(d), 20, "white", "mm", bold=True)
    count, size = int((labels >= 0).sum()), last_linear(moments[0].trace).input[0].numel()
    said = (
        f"{count:,} digits, {size:,} numbers each, on two directions that hold {percent(held)} of their last variance."
    )
    footer(canvas, said)
    for n in range(len(moments)):
        title(
            canvas,
            f"Ten kinds of digits come apart: step {steps[n]} of {steps[-1]}",
            "each point is a digit as the last hidden layer sees it",
        )
        canvas.fill(FIELD[0] - 20, FIELD[1] - 14, FIELD[2] + 40, FIELD[3] + 30)  # labels reach over the edge
        chart(canvas, area, steps, right, n)
        canvas.fill(side, TOP + 216, WIDE - side, 30)
        canvas.number(side, TOP + 216, right[n], ("right",), percent(right[n]), size=22, bold=True)
        for d in np.unique(labels[labels >= 0]):
            colour = INKS[f"class {d}"][-1]
            for dy, dx in np.argwhere(DOT) - 2:
                canvas.pixels[places[n][labels == d, 1] + dy, places[n][labels == d, 0] + dx] = colour
        for d in np.unique(labels[labels >= 0]):
            x, y = (int(v) for v in np.median(places[n][labels == d], axis=0))
            canvas.box(x - 9, y - 10, 18, 20, f"class {d}", 2)
            canvas.rule(x - 9, y - 10, 18, 20)
            canvas.text(x, y, str(d), 18, f"class {d}", "mm", bold=True)
        for x, y in places[n][labels < 0].tolist():
            canvas.box(x - 5, y - 5, 11, 11)
            canvas.rule(x - 2, y - 2, 5, 5, "ink")
            inward = (x + 14, "lm") if x < FIELD[0] + FIELD[2] - 80 else (x - 14, "rm")
            canvas.text(inward[0], y, "yours", 18, "ink", inward[1], bold=True)
        yield canvas.frame(ms if n else 1000, n)
