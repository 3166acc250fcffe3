"""Fifty recorded drawings, five of each digit, are read as a person reads them; what is no digit is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

import mnistviz as mv
from mnistviz import project
from mnistviz.learn.data import DigitSet
from mnistviz.learn.handwriting import UNREAD, how_sure

DRAWINGS = json.loads(Path(__file__).with_name("drawings.json").read_text(encoding="utf-8"))
SIDE, FINER = 280, 4


def rendered(strokes: list, pen: float = 1 / 14) -> Image.Image:
    """Round dark ink on white paper, drawn four times as large and averaged."""
    side = SIDE * FINER
    page, radius = Image.new("L", (side, side), 255), pen * side / 2
    draw = ImageDraw.Draw(page)
    for stroke in strokes:
        points = [(x * side, y * side) for x, y in stroke]
        draw.line(points, fill=0, width=round(2 * radius))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return page.reduce(FINER)


def read(folder: Path, drawings: list[list], pen: float = 1 / 14) -> mv.Digits:
    images = []
    for strokes in drawings:
        rendered(strokes, pen).save(folder / "drawing.png")
        images.append(mv.read_digit(folder / "drawing.png").images)
    return mv.Digits(torch.cat(images), None, "drawings")


def test_the_drawings_are_five_of_each_digit_inside_the_pad() -> None:
    assert sorted(drawing["digit"] for drawing in DRAWINGS) == sorted([*range(10)] * 5)
    assert len({json.dumps(drawing["strokes"]) for drawing in DRAWINGS}) == 50
    points = np.array([point for drawing in DRAWINGS for stroke in drawing["strokes"] for point in stroke])
    assert ((points >= 0) & (points <= 1)).all()


@pytest.mark.parametrize("pen", [1 / 14, 1 / 30])
def test_the_network_for_hands_reads_them(reference: dict[str, nn.Module], tmp_path: Path, pen: float) -> None:
    digits = read(tmp_path, [drawing["strokes"] for drawing in DRAWINGS], pen)
    answers = mv.predict(reference[project.DEFAULT], digits)
    right = answers.argmax(1) == [drawing["digit"] for drawing in DRAWINGS]
    assert right.mean() >= 0.98, [drawing["note"] for drawing, fine in zip(DRAWINGS, right, strict=True) if not fine]
    assert np.mean([how_sure(digits.pixels[i], answers[i]) == UNREAD for i in range(50)]) <= 0.02


def test_hardly_a_digit_is_refused_and_what_holds_too_little_or_too_much_ink_is(
    reference: dict[str, nn.Module], mnist: DigitSet, tmp_path: Path
) -> None:
    model, some = reference[project.DEFAULT], mnist.test[:2000]
    said = [how_sure(digit, p) for digit, p in zip(some.pixels, mv.predict(model, some), strict=True)]
    assert said.count(UNREAD) <= 20
    assert said.count("sure") >= 1800
    nine = np.linspace(0.05, 0.95, 9).tolist()
    grid = [[[at, 0.05], [at, 0.95]] for at in nine] + [[[0.05, at], [0.95, at]] for at in nine]
    filled = [[[0.15 if i % 2 else 0.85, 0.15 + 0.03 * i] for i in range(24)]]
    strange = {
        "a dot": [[[0.5, 0.5]]],
        "two dots": [[[0.3, 0.3]], [[0.7, 0.7]]],
        "a grid": grid,
        "a filled page": filled,
    }
    digits = read(tmp_path, [*strange.values()])
    for name, pixels, probabilities in zip(strange, digits.pixels, mv.predict(model, digits), strict=True):
        assert how_sure(pixels, probabilities) == UNREAD, name
    seven = read(tmp_path, [DRAWINGS[35]["strokes"]]).pixels
    sure = [how_sure(seven, np.array([1 - p, p])) for p in (0.999, 0.95, 0.85, 0.7, np.nan)]
    assert sure == ["sure", "fairly sure", "unsure", UNREAD, UNREAD]
