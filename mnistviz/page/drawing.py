"""Strokes become a picture and a digit in Python too, as `pad.js` draws them in a browser."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mnistviz.errors import MnistvizError, refuse
from mnistviz.learn.data import Digits
from mnistviz.learn.handwriting import read_digit

SIDE, PEN, INK = 280, 1 / 14, (22, 22, 29)  # as in pad.js
FINER = 4  # drawn so much larger, then averaged: soft edges
MOST = 20_000  # points: an hour of scribbling
PAGE = Path(__file__).parent
SCRIPT, STYLE = (PAGE / "pad.js").read_text() + (PAGE / "box.js").read_text(), (PAGE / "pad.css").read_text()
Strokes = Sequence[Sequence[Sequence[float]]]
STORED = "29,27 37,24 44,24 52,24 60,24 69,24 72,27 68,34 63,42 58,50 54,59 49,69 46,81"  # x,y in hundredths of the pad
SEVEN = [[[int(number) / 100 for number in point.split(",")] for point in STORED.split()]]


def drawn(strokes: Strokes, side: int = SIDE) -> Image.Image:
    """`drawn([[(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]])` is a 7, dark on white; points from 0 to 1, y down.

    Like the pad's, each stroke is a curve through the middles of neighbouring points, and one of a single point a dot.
    """
    large, radius = side * FINER, side * FINER * PEN / 2
    sheet = Image.new("RGB", (large, large), "white")
    draw = ImageDraw.Draw(sheet)
    for stroke in checked(strokes):
        curve = [(float(x), float(y)) for x, y in _curve(stroke * large)]
        draw.line(curve, INK, round(2 * radius))
        for x, y in curve:  # round joints and ends
            draw.ellipse([x - radius + 0.5, y - radius + 0.5, x + radius - 0.5, y + radius - 0.5], INK)
    return sheet.reduce(FINER)


def _curve(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """Quadratic curves from middle to middle, each bent towards the point between; the last half is straight."""
    if len(points) < 3:
        return points
    middles = np.concatenate([points[:1], (points[1:-1] + points[2:]) / 2])
    t = np.linspace(0, 1, steps + 1)[:, None, None]
    curves = (1 - t) ** 2 * middles[:-1] + 2 * t * (1 - t) * points[1:-1] + t**2 * middles[1:]
    return np.concatenate([curves.swapaxes(0, 1).reshape(-1, 2), points[-1:]])


def checked(strokes: Any) -> list[np.ndarray]:
    """Each stroke as an array (points, 2); what comes out of a browser may be anything."""
    allowed = f"lists of points [x, y], 0 to 1, {MOST:,} of them at most"
    try:
        arrays = [np.asarray(stroke, np.float64).reshape(-1, 2) for stroke in strokes if len(stroke)]
        fine = sum(map(len, arrays)) <= MOST and all(((a >= 0) & (a <= 1)).all() for a in arrays)
    except (TypeError, ValueError) as error:
        raise MnistvizError("these are no strokes", given=str(strokes)[:60], allowed=allowed) from error
    refuse(not fine, "these strokes are no drawing", given=str(strokes)[:60], allowed=allowed)
    return arrays


def digit_of(strokes: Strokes, name: str = "your drawing") -> Digits:
    """`predict(model, digit_of(strokes))`: the drawing as `read_digit` reads it; an empty pad and a dot are refused."""
    points = np.concatenate([np.empty((0, 2)), *checked(strokes)])
    refuse(not len(points), "the pad is empty", fix="draw a digit on it")
    size = float(np.ptp(points, axis=0).max())
    given, allowed = f"{size:.0%} of the pad", f"{2 * PEN:.0%} of it or more, in height or in width"
    refuse(size < 2 * PEN, "this is a dot, and no digit", given=given, allowed=allowed, fix="draw the digit larger")
    file = io.BytesIO()
    drawn(strokes).save(file, "PNG")
    file.name = name
    return read_digit(file)
