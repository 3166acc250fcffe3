"""How far a model can be trusted, read back from the page: bars, cells and curves are the numbers of the report."""

import re

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from test_maps import assert_fit_to_be_seen, at_once, caption_of, words_of  # noqa: F401

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.learn.evaluate import Report
from mnistviz.show.figures.evaluation import confusion_pairs, coverage, per_digit, reliability
from mnistviz.show.picture import BLUE, ORANGE, Picture


def told(labels: list[int] | np.ndarray, answers: list[int] | np.ndarray, sure: float | np.ndarray = 0.9) -> Report:
    """A report of these answers, each with this confidence."""
    labels, answers = np.asarray(labels), np.asarray(answers)
    sure = np.broadcast_to(sure, len(labels))
    shares = np.repeat(((1 - sure) / 9)[:, None], 10, axis=1)
    shares[np.arange(len(labels)), answers] = sure
    digits = mv.Digits(torch.zeros(len(labels), 28, 28, dtype=torch.uint8), torch.from_numpy(labels), "made up")
    return Report(np.log(shares), labels, digits)


@pytest.fixture(scope="module")
def report() -> Report:
    """800 answers, a tenth of them wrong, of every confidence."""
    dice = np.random.default_rng(0)
    labels, sure = dice.integers(0, 10, 800), dice.beta(4, 1, 800) * 0.85 + 0.14
    answers = np.where(dice.random(800) < 0.5 + sure / 2, labels, dice.integers(0, 10, 800))
    return told(labels, answers, sure)


@pytest.fixture(scope="module")
def perfect() -> Report:
    return told(np.arange(100) % 10, np.arange(100) % 10)


@pytest.fixture(scope="module")
def real(mnist: DigitSet) -> Report:
    return mv.evaluate(mv.load_model("compact"), mnist.test[:1500])


def arrays(*reports: Report) -> list[np.ndarray]:
    """What a report is made of; what it counts from that, it keeps."""
    return [x for one in reports for x in (one.log_probabilities, one.labels, one.digits.images.numpy())]


def bars_of(axes: Axes) -> list[list[float]]:
    return [[bar.get_height() for bar in c] for c in axes.containers if isinstance(c, BarContainer)]


# ── digit by digit ────────────────────────────────────────────────────────────────────────────────────────


def test_bars_of_each_digit_are_fit_to_be_seen(real: Report) -> None:
    assert_fit_to_be_seen(lambda: per_digit(real), arrays(real))


def test_bars_are_precision_and_recall_counted_by_hand(report: Report, real: Report) -> None:
    for one in (report, real):
        picture = per_digit(one)
        (axes,) = picture.axes
        precision, recall = bars_of(axes)
        for d in range(10):
            both = ((one.labels == d) & (one.predictions == d)).sum()
            assert precision[d] == pytest.approx(both / (one.predictions == d).sum())
            assert recall[d] == pytest.approx(both / (one.labels == d).sum())
            assert axes.get_xticklabels()[d].get_text() == f"{d}\n{(one.labels == d).sum()}"
        assert [to_hex(c[0].get_facecolor()) for c in axes.containers] == [ORANGE, BLUE]
        assert [t.get_text() for t in axes.get_legend().get_texts()] == ["precision", "recall"]
        low, high = axes.get_ylim()
        assert 0 < low < min(precision + recall)
        assert high == 1
        worst = int(np.argmin(recall))
        assert f"the lowest recall is that of {worst}, {recall[worst]:.1%}." in picture.alt
        for place, container in zip((-0.2, 0.2), axes.containers, strict=True):
            middles = [bar.get_x() + bar.get_width() / 2 for bar in container]
            np.testing.assert_allclose(middles, np.arange(10) + place)


def test_a_digit_that_never_occurs_has_no_bar_of_recall() -> None:
    labels = np.array([0, 1, 2, 4, 5, 6, 8, 9] * 10)
    answers = labels.copy()
    answers[0] = 1  # and 3 and 7 are never answered either
    picture = assert_fit_to_be_seen(lambda: per_digit(told(labels, answers)))
    precision, recall = bars_of(picture.axes[0])
    assert [d for d in range(10) if np.isnan(recall[d])] == [3, 7]
    assert [d for d in range(10) if np.isnan(precision[d])] == [3, 7]
    assert "No 3, 7 among these digits: no recall to give." in caption_of(picture)
    assert picture.alt.endswith("the lowest recall is that of 0, 90.0%.")


def test_a_perfect_model_has_full_bars(perfect: Report) -> None:
    picture = assert_fit_to_be_seen(lambda: per_digit(perfect), arrays(perfect))
    assert bars_of(picture.axes[0]) == [[1.0] * 10] * 2
    assert "100.0%" in picture.alt


def test_an_axis_that_begins_at_zero_is_not_said_to_begin_elsewhere() -> None:
    labels = np.array([0, 1, 2, 4, 5, 6, 7, 8, 9] * 10)
    answers = labels.copy()
    answers[0] = 3  # its precision is 0
    picture = per_digit(told(labels, answers))
    assert picture.axes[0].get_ylim()[0] == 0
    assert "does not begin at 0" not in caption_of(picture)


def test_no_bar_lies_behind_the_legend(real: Report) -> None:
    picture = per_digit(real)
    picture.draw_without_rendering()
    (axes,) = picture.axes
    words = [text.get_window_extent() for text in axes.get_legend().get_texts()]
    bars = [bar.get_window_extent() for container in axes.containers for bar in container]
    assert not any(word.overlaps(bar) for word in words for bar in bars)


# ── confusions ────────────────────────────────────────────────────────────────────────────────────────────


def cells_of(axes: Axes) -> np.ndarray:
    """What is written in each cell."""
    cells = np.full((10, 10), "", dtype=object)
    for text in axes.texts:
        x, y = text.get_position()
        cells[int(y), int(x)] = text.get_text()
    return cells


def test_confusions_are_fit_to_be_seen(real: Report) -> None:
    assert_fit_to_be_seen(lambda: confusion_pairs(real), arrays(real))


def test_cells_are_the_counts_and_their_shares(report: Report, real: Report) -> None:
    for one in (report, real):
        picture = confusion_pairs(one)
        counts = np.zeros((10, 10), int)
        np.add.at(counts, (one.labels, one.predictions), 1)
        shares = counts / counts.sum(1, keepdims=True) * 100
        wrong = counts * (1 - np.eye(10, dtype=int))
        for axes, values, said in ((picture.axes[0], counts, "{:d}"), (picture.axes[1], shares, "{:.1f}")):
            (mesh,) = axes.collections
            drawn = mesh.get_array().reshape(10, 10)
            assert (np.ma.getmaskarray(drawn) == np.eye(10, dtype=bool)).all()
            np.testing.assert_allclose(drawn.filled(0), np.where(wrong > 0, values, 0))
            expected = np.where(wrong > 0, np.vectorize(said.format)(values), "")
            assert (cells_of(axes) == expected).all()
            assert mesh.get_clim() == pytest.approx((0, np.where(wrong > 0, values, 0).max()))
            assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "true digit")
            assert axes.get_ylim()[0] > axes.get_ylim()[1]  # 0 on top
            for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
                assert [t.get_text() for t in ticks] == [str(d) for d in range(10)]
        assert f"The {wrong.sum()} wrong answers of {len(one.labels):,};" in caption_of(picture)
        label, answer, times = map(
            int, re.search(r"frequent: (\d) taken for (\d), (\d+) times\.$", picture.alt).groups()
        )
        assert times == wrong[label, answer] == wrong.max()
        assert f"the {wrong.sum()} wrong answers" in picture.alt


def test_a_perfect_model_has_no_confusions_to_draw(perfect: Report) -> None:
    picture = assert_fit_to_be_seen(lambda: confusion_pairs(perfect), arrays(perfect))
    assert picture.alt == "No answer is wrong: all 100 digits were read rightly."
    assert picture.alt in words_of(picture)


def test_a_single_mistake_and_absent_digits_are_drawn() -> None:
    picture = assert_fit_to_be_seen(lambda: confusion_pairs(told([4, 4, 9], [4, 9, 9])))
    assert {t for t in cells_of(picture.axes[0]).ravel() if t} == {"1"}
    assert cells_of(picture.axes[1])[4, 9] == "50.0"
    assert picture.alt.endswith("4 taken for 9, 1 times.")


def test_white_is_none(report: Report) -> None:
    (mesh,) = confusion_pairs(report).axes[0].collections
    assert to_hex(mesh.to_rgba(0.0)) == "#ffffff"


# ── reliability ───────────────────────────────────────────────────────────────────────────────────────────


def test_reliability_is_fit_to_be_seen(report: Report, real: Report) -> None:
    assert_fit_to_be_seen(lambda: reliability({"as trained": report, "another": real}), arrays(report, real))


@pytest.mark.parametrize("bins", [7])
def test_bars_are_the_share_that_is_right_at_each_confidence(bins: int, report: Report, real: Report) -> None:
    reports = {"one": report, "two": real}
    picture = reliability(reports, bins)
    above, below = picture.axes[:2], picture.axes[2:]
    for up, down, (name, one) in zip(above, below, reports.items(), strict=True):
        sure, right = one.probabilities.max(1), one.predictions == one.labels
        inside = [(sure >= k / bins) & ((sure < (k + 1) / bins) | (k == bins - 1)) for k in range(bins)]
        filled = [k for k in range(bins) if inside[k].any()]
        assert bars_of(up)[0] == pytest.approx([right[inside[k]].mean() for k in filled])
        assert bars_of(down)[0] == [inside[k].sum() for k in filled]
        for axes in (up, down):
            (bars,) = (c for c in axes.containers if isinstance(c, BarContainer))
            assert [b.get_x() + b.get_width() / 2 for b in bars] == pytest.approx([(k + 0.5) / bins for k in filled])
        dots = [line for line in up.lines if line.get_marker() == "."]
        assert dots[0].get_xdata() == pytest.approx([sure[inside[k]].mean() for k in filled])
        assert dots[0].get_ydata() == pytest.approx([right[inside[k]].mean() for k in filled])
        (errors,) = (c for c in up.containers if isinstance(c, ErrorbarContainer))
        for (low, high), k in zip((s[:, 1] for s in errors.lines[2][0].get_segments()), filled, strict=True):
            n, p, z = inside[k].sum(), right[inside[k]].mean(), 1.959963984540054  # Wilson by hand
            middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            expected = ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
            assert (low, high) == pytest.approx(expected, abs=1e-9)
        assert down.get_yscale() == "log"
        assert up.get_title(loc="left") == name
        gap = sum(abs(right[inside[k]].mean() - sure[inside[k]].mean()) * inside[k].mean() for k in filled)
        assert f"ECE {gap:.2%}" in up.texts[0].get_text()
        assert f"{name}: ECE {gap:.2%}" in picture.alt
    assert caption_of(picture).startswith(f"{bins} equal steps of confidence;")


def test_one_report_is_drawn_alone(perfect: Report) -> None:
    assert len(assert_fit_to_be_seen(lambda: reliability({"perfect": perfect}), arrays(perfect)).axes) == 2


@pytest.mark.parametrize("figure", [reliability, coverage])
def test_without_reports_there_is_nothing_to_draw(figure) -> None:
    with pytest.raises(mv.MnistvizError, match="no reports to draw"):
        figure({})


# ── coverage ──────────────────────────────────────────────────────────────────────────────────────────────


def test_coverage_is_fit_to_be_seen(report: Report, real: Report) -> None:
    assert_fit_to_be_seen(lambda: coverage({"compact": real, "made up": report}), arrays(real, report))


def test_curves_are_the_errors_among_the_surest(report: Report, real: Report) -> None:
    reports = {"made up": report, "compact": real}
    picture = coverage(reports)
    (axes,) = picture.axes
    assert len(axes.lines) == 2
    for line, (name, one) in zip(axes.lines, reports.items(), strict=True):
        order = sorted(range(len(one.labels)), key=lambda i: -one.probabilities[i].max())
        x, y, wrong, clean = line.get_xdata(), line.get_ydata(), 0, 0.0
        for k, i in enumerate(order, 1):
            wrong += one.predictions[i] != one.labels[i]
            assert x[k - 1] == pytest.approx(k / len(order))
            assert y[k - 1] == pytest.approx(wrong / k)
            clean = clean if wrong else k / len(order)
        said = "<0.1 %" if clean < 0.001 else f"{clean * 100:.1f} %"
        assert f"{name}: the surest {said} hold no error" in picture.alt
        assert line.get_label() == name
    assert [t.get_text() for t in axes.get_legend().get_texts()] == list(reports)


def test_a_perfect_model_has_no_error_at_any_coverage(perfect: Report) -> None:
    picture: Picture = assert_fit_to_be_seen(lambda: coverage({"perfect": perfect}), arrays(perfect))
    assert not picture.axes[0].lines[0].get_ydata().any()
    assert picture.alt.endswith("perfect: the surest >99.9 % hold no error.")
