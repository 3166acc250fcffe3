"""Fifty recorded drawings, five of each digit, are read as a person reads them; what is no digit is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from strokes import DRAWINGS

import mnistviz as mv
from mnistviz import project
from mnistviz.learn.handwriting import UNREAD, how_sure
from mnistviz.page import drawing


def read(folder: Path, drawings: list[list]) -> mv.Digits:
    images = []
    for strokes in drawings:
        drawing.drawn(strokes).save(folder / "drawing.png")
        images.append(mv.read_digit(folder / "drawing.png").images)
    return mv.Digits(torch.cat(images), None, "drawings")


def test_the_drawings_are_five_of_each_digit():
    assert sorted(one["digit"] for one in DRAWINGS) == sorted([*range(10)] * 5)
    assert len({json.dumps(one["strokes"]) for one in DRAWINGS}) == 50


@pytest.mark.parametrize("pen", [1 / 14, 1 / 30])
def test_the_network_for_hands_reads_them(reference, tmp_path, pen, monkeypatch):
    monkeypatch.setattr(drawing, "PEN", pen)
    digits = read(tmp_path, [one["strokes"] for one in DRAWINGS])
    answers = mv.predict(reference[project.DEFAULT], digits)
    right = answers.argmax(1) == [one["digit"] for one in DRAWINGS]
    assert right.mean() >= 0.98, [one["note"] for one, fine in zip(DRAWINGS, right, strict=True) if not fine]
    assert np.mean([how_sure(digits.pixels[i], answers[i]) == UNREAD for i in range(50)]) <= 0.02


def test_hardly_a_digit_is_refused_and_what_holds_too_little_or_too_much_ink_is(reference, mnist, tmp_path):
    model, some = reference[project.DEFAULT], mnist.test[:2000]
    said = [how_sure(digit, p) for digit, p in zip(some.pixels, mv.predict(model, some), strict=True)]
    assert said.count(UNREAD) <= 20
    assert said.count("sure") >= 1800
    nine = np.linspace(0.05, 0.95, 9).tolist()
    grid = [[[at, 0.05], [at, 0.95]] for at in nine] + [[[0.05, at], [0.95, at]] for at in nine]
    filled = [[[0.15, 0.15 + 0.03 * i], [0.85, 0.15 + 0.03 * i]] for i in range(24)]
    strange = {"a dot": [[[0.5, 0.5]]], "two dots": [[[0.3, 0.3]], [[0.7, 0.7]]], "a grid": grid, "all black": filled}
    digits = read(tmp_path, [*strange.values()])
    for name, pixels, probabilities in zip(strange, digits.pixels, mv.predict(model, digits), strict=True):
        assert how_sure(pixels, probabilities) == UNREAD, name
    seven = read(tmp_path, [DRAWINGS[35]["strokes"]]).pixels
    sure = [how_sure(seven, np.array([1 - p, p])) for p in (0.999, 0.95, 0.85, 0.7, np.nan)]
    assert sure == ["sure", "fairly sure", "unsure", UNREAD, UNREAD]
