"""How far a model can be trusted, read back from the page: bars, cells and curves are the numbers of the report."""

from typing import Any

import numpy as np
import pytest
from helpers import caption_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer

from mnistviz import figures
from mnistviz.learn.evaluate import Report
from mnistviz.show.colours import BLUE, ORANGE

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # seaborn's to mend


def bars_of(axes: Axes) -> list[BarContainer]:
    return [container for container in axes.containers if isinstance(container, BarContainer)]


def heights(bars: BarContainer) -> list[float]:
    return [bar.get_height() for bar in bars]


def middles(bars: BarContainer) -> list[float]:
    return [bar.get_x() + bar.get_width() / 2 for bar in bars]


def share(part: np.ndarray, whole: np.ndarray) -> float:
    """How much of the whole is in the part too; NaN of nothing."""
    return (part & whole).sum() / whole.sum() if whole.any() else np.nan


# ── digit by digit ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["report", "perfect", "some_absent"])
def test_bars_are_precision_and_recall_counted_by_hand(name: str, records: Any) -> None:
    report: Report = getattr(records, name)
    (axes,) = figures.per_digit(report).axes
    is_d, answered_d = (np.equal.outer(np.arange(10), of) for of in (report.labels, report.predictions))
    precision = [share(is_d[d], answered_d[d]) for d in range(10)]
    recall = [share(answered_d[d], is_d[d]) for d in range(10)]
    bars = bars_of(axes)
    assert heights(bars[0]) == pytest.approx(precision, nan_ok=True)
    assert heights(bars[1]) == pytest.approx(recall, nan_ok=True)
    assert np.isnan(recall).sum() == (2 if name == "some_absent" else 0)
    np.testing.assert_allclose([middles(both) for both in bars], np.add.outer([-0.2, 0.2], np.arange(10)))
    assert [to_hex(both[0].get_facecolor()) for both in bars] == [ORANGE, BLUE]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["precision", "recall"]
    assert [text.get_text() for text in axes.get_xticklabels()] == [f"{d}\n{is_d[d].sum()}" for d in range(10)]
    low, high = axes.get_ylim()
    assert 0 < low < np.nanmin(precision + recall)
    assert high == 1


def test_an_axis_is_said_not_to_begin_at_zero_only_where_that_is_so(records: Any) -> None:
    digits = records.few[records.few.labels != 3]
    answers = digits.labels.clone()
    answers[0] = 3  # its precision is 0
    for report, cut in ((records.report_of(digits, answers), False), (records.report, True)):
        picture = figures.per_digit(report)
        assert (picture.axes[0].get_ylim()[0] > 0) == cut == ("does not begin at 0" in caption_of(picture))


def test_no_bar_lies_behind_the_legend(records: Any) -> None:
    picture = figures.per_digit(records.report)
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


@pytest.mark.parametrize("name", ["report", "some_absent"])
def test_cells_are_the_counts_and_their_shares_and_white_is_none(name: str, records: Any) -> None:
    report: Report = getattr(records, name)
    picture = figures.confusion_pairs(report)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (report.labels, report.predictions), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1) * 100
    right = np.eye(10, dtype=bool)
    wrong = (counts > 0) & ~right
    for axes, values, form in ((picture.axes[0], counts, "{:d}"), (picture.axes[1], shares, "{:.1f}")):
        (mesh,) = axes.collections
        drawn = mesh.get_array().reshape(10, 10)
        np.testing.assert_array_equal(np.ma.getmaskarray(drawn), right)
        np.testing.assert_allclose(drawn.filled(0), np.where(wrong, values, 0))
        np.testing.assert_array_equal(cells_of(axes), np.where(wrong, np.vectorize(form.format)(values), ""))
        assert mesh.get_clim() == pytest.approx((0, values[wrong].max()))
        assert to_hex(mesh.to_rgba(0.0)) == "#ffffff"
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "true digit")
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # 0 on top
        for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
            assert [text.get_text() for text in ticks] == [str(d) for d in range(10)]


# ── confidence ────────────────────────────────────────────────────────────────────────────────────────────


def wilson(right: int, n: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a share, by hand."""
    p, z = right / n, 1.959963984540054
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


@pytest.mark.parametrize("names", [["report"], ["report", "perfect"]])
def test_bars_are_the_share_that_is_right_at_each_confidence(names: list[str], records: Any) -> None:
    bins, reports = 7, {name: getattr(records, name) for name in names}
    picture = figures.reliability(reports, bins)
    pairs = np.reshape(picture.axes, (2, -1)).T
    for (above, below), (name, report) in zip(pairs, reports.items(), strict=True):
        confidence, right = report.probabilities.max(1), report.predictions == report.labels
        step = (confidence * bins).astype(int).clip(max=bins - 1)
        filled = np.unique(step)
        accuracy = [right[step == k].mean() for k in filled]
        certainty = [confidence[step == k].mean() for k in filled]
        counts = [int((step == k).sum()) for k in filled]
        for axes, expected in ((above, accuracy), (below, counts)):
            (bars,) = bars_of(axes)
            assert heights(bars) == pytest.approx(expected)
            assert middles(bars) == pytest.approx((filled + 0.5) / bins)
        (dots,) = (line for line in above.lines if line.get_marker() == ".")
        np.testing.assert_allclose(dots.get_xydata(), np.column_stack([certainty, accuracy]))
        (errors,) = (container for container in above.containers if isinstance(container, ErrorbarContainer))
        ends = [segment[:, 1] for segment in errors.lines[2][0].get_segments()]
        np.testing.assert_allclose(ends, [wilson(right[step == k].sum(), (step == k).sum()) for k in filled])
        assert below.get_yscale() == "log"
        assert above.get_title(loc="left") == name
        gap = np.average(np.abs(np.subtract(accuracy, certainty)), weights=counts)
        assert f"ECE {gap:.2%}" in above.texts[0].get_text()
        assert f"{name}: ECE {gap:.2%}" in picture.alt


def test_curves_are_the_errors_among_the_surest(records: Any) -> None:
    reports = {"as trained": records.report, "perfect": records.perfect}
    (axes,) = figures.coverage(reports).axes
    for line, report in zip(axes.lines, reports.values(), strict=True):
        order = sorted(range(len(report.labels)), key=lambda i: -report.probabilities[i].max())
        wrong, expected = 0, []
        for k, i in enumerate(order, 1):
            wrong += report.predictions[i] != report.labels[i]
            expected.append((k / len(order), wrong / k))
        np.testing.assert_allclose(line.get_xydata(), expected)
    assert [line.get_label() for line in axes.lines] == list(reports)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(reports)
    colours, markers = ({getattr(line, f"get_{what}")() for line in axes.lines} for what in ("color", "marker"))
    assert len(colours) == len(markers) == 2
