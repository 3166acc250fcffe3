"""Figures of answers, read back from the page: every count, share and mark is that of the report."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from helpers import sheet_of, words_of

import mnistviz as mv
from mnistviz import figures
from mnistviz.show.colours import BLUE, GREEN, RED
from mnistviz.show.picture import percent

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # seaborn's to mend


def test_confusion_writes_every_count_and_colours_mistakes_by_their_share(records: Any) -> None:
    report = records.report
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (report.labels, report.predictions), 1)
    picture = figures.confusion(report)
    axes, written = picture.axes[0], {}
    for text in axes.texts:
        x, y = text.get_position()
        if text.get_text() and "%" not in text.get_text():
            written[int(y), int(x)] = int(text.get_text())
    assert {cell: n for cell, n in written.items() if n} == {(t, a): counts[t, a] for t, a in np.argwhere(counts)}
    values = axes.collections[0].get_array().reshape(10, 10)
    assert (np.ma.getmaskarray(values) == np.eye(10, dtype=bool)).all()
    shares = 100 * counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(values.filled(0), np.where(np.eye(10), 0, shares))
    wrong = counts.sum() - counts.trace()
    assert f"{1 - wrong / 600:.2%} right, {wrong} of 600 wrong" in words_of(picture)
    assert all(f"{shares[d, d]:.1f} %" in words_of(picture) for d in range(10))
    true, answer = np.unravel_index((counts - np.diag(counts.diagonal())).argmax(), counts.shape)
    assert f"{true} read as {answer}, {counts[true, answer]} times" in picture.alt


def test_confusion_of_digits_that_never_occur(records: Any) -> None:
    sevens = records.few[records.few.labels == 7]
    words = words_of(figures.confusion(records.report_of(sevens, sevens.labels))).split("\n")
    assert words.count("none") == 9
    assert "100.0 %" in words


def test_predictions_mark_right_and_wrong_with_sign_and_colour(records: Any) -> None:
    report = records.report
    wrong, right = (np.flatnonzero((report.predictions == report.labels) == fine).tolist() for fine in (False, True))
    rows = [wrong[0], right[0], wrong[1], *right[1:3]]
    picture = figures.predictions(report, rows, columns=3)
    for axes, i in zip(picture.axes, rows, strict=False):
        answer, right = report.predictions[i], report.predictions[i] == report.labels[i]
        assert axes.get_title() == f"{'✓' if right else '✗'} {answer}  {percent(report.probabilities[i, answer])}"
        assert axes.title.get_color() == (GREEN if right else RED)
        assert axes.get_xlabel() == (f"row {i}" if right else f"row {i}, is {report.labels[i]}")
        np.testing.assert_array_equal(sheet_of(axes), report.digits.images[i].numpy())
        assert axes.images[0].get_clim() == (0, 255)
    assert [len(axes.images) for axes in picture.axes] == [1, 1, 1, 1, 1, 0]  # the last line is not full
    assert "5 digits with the network's answers: 3 right, 2 wrong" in picture.alt


def test_mistakes_show_the_surest_wrong_answers_first(records: Any) -> None:
    report = records.report
    wrong = [i for i in range(600) if report.predictions[i] != report.labels[i]]
    surest = sorted(wrong, key=lambda i: -report.probabilities[i].max())[:3]
    picture = figures.mistakes(report, count=3)
    assert [axes.get_xlabel().split(",")[0] for axes in picture.axes] == [f"row {i}" for i in surest]
    assert all(axes.get_title().startswith("✗") for axes in picture.axes)


@pytest.mark.parametrize(("mark", "colour"), [("✓", GREEN), ("✗", RED), ("", BLUE)], ids=["right", "wrong", "unknown"])
def test_one_prediction_draws_the_ten_probabilities_and_marks_the_answer(mark: str, colour: str, records: Any) -> None:
    few = records.few
    digit = mv.Digits(few.images[5:6], None, "mine") if colour == BLUE else few[5]
    answer = (int(few.labels[5]) + (colour == RED)) % 10
    shares = np.full(10, 0.02)
    shares[answer] = 0.82
    left, right = figures.one_prediction(digit, shares[None]).axes
    bars = right.containers[0]
    assert [bar.get_width() for bar in bars] == pytest.approx(shares)
    assert mpl.colors.to_hex(bars[answer].get_facecolor()) == colour
    assert right.get_title(loc="left") == f"what comes out: {mark} {answer}".replace("  ", " ")
    assert [t.get_text() for t in right.texts].count("82.0 %") == 1
    assert right.get_ylim()[0] > right.get_ylim()[1]  # 0 on top, as it is read
    np.testing.assert_array_equal(sheet_of(left), few.images[5].numpy())


def test_prediction_distribution_draws_answers_beside_what_was_expected(records: Any) -> None:
    answers = np.array([0] * 30 + [1] * 10 + [7] * 20)
    picture = figures.prediction_distribution(answers, records.few)
    (axes,) = picture.axes
    assert [bar.get_height() for bar in axes.containers[0]] == [30, 10, 0, 0, 0, 0, 0, 20, 0, 0]
    due = [float((records.few.labels == d).double().mean()) * 60 for d in range(10)]
    assert list(axes.lines[0].get_ydata()) == pytest.approx(due)
    assert axes.get_ylim()[1] > 30
    assert f"{30 - due[0]:+.0f}, at digit 0" in picture.alt
