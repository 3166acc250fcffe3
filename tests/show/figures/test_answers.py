"""Figures of digits, of a training and of its answers: every pixel, point and count once more, by hand."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from helpers import caption_of, sheet_of, wilson, words_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from PIL import Image

import mnistviz as mv
from mnistviz import figures
from mnistviz.learn.evaluate import Report
from mnistviz.learn.history import History
from mnistviz.show.colours import BLUE, GREEN, ORANGE, RED
from mnistviz.show.picture import percent

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # seaborn's to mend


def test_sample_grid_shows_the_pixels_of_the_first_of_each_digit(records):
    few = records.few
    axes = figures.sample_grid(few, each=3).axes[0]
    sheet = sheet_of(axes)
    assert sheet.shape == (10 * 30 - 2, 3 * 30 - 2)
    for digit in range(10):
        first = [i for i in range(len(few)) if few.labels[i] == digit][:3]
        for column, i in enumerate(first):
            cut = sheet[digit * 30 : digit * 30 + 28, column * 30 : column * 30 + 28]
            np.testing.assert_array_equal(cut, few.images[i].numpy())
    assert (sheet[28:30] == 255).all()
    assert axes.images[0].get_clim() == (0, 255)
    without_fours = sheet_of(figures.sample_grid(few[few.labels != 4], each=2).axes[0])
    assert (without_fours[4 * 30 : 4 * 30 + 28] == 255).all()


def test_class_balance_draws_the_shares_counts_a_single_part_and_cuts_no_bar_off(records):
    few, parts = records.few, {"train": records.few[:450], "validation": records.few[450:]}
    axes = figures.class_balance(parts).axes[0]
    for container, digits in zip(axes.containers, parts.values(), strict=True):
        shares = [float((digits.labels == d).double().mean()) for d in range(10)]
        assert [bar.get_height() for bar in container] == pytest.approx(shares)
    assert {"train: 450", "validation: 150"} < {t.get_text() for t in axes.get_legend().get_texts()}
    assert len({bars[0].get_hatch() for bars in axes.containers}) == 2  # told apart without colour
    words = words_of(figures.class_balance({"train": few})).split("\n")
    assert all(str(int((few.labels == digit).sum())) in words for digit in range(10))
    assert figures.class_balance({"ones": few[few.labels == 1]}).axes[0].get_ylim()[1] > 1


def test_mean_and_spread_are_the_mean_and_the_variance(records):
    few = records.few
    above, below = (sheet_of(axes) for axes in figures.mean_and_spread(few).axes[:2])
    assert above.shape == below.shape == (28, 280)
    for digit in range(10):
        group = few.images[few.labels == digit].numpy() / 255
        cut = slice(28 * digit, 28 * digit + 28)
        np.testing.assert_allclose(above[:, cut], group.mean(0), atol=1e-6)
        np.testing.assert_allclose(below[:, cut], group.var(0), atol=1e-6)


def test_medians_of_ink_are_drawn_and_every_grey_level_is_counted(records):
    few = records.few
    medians = [np.median(few.images[few.labels == d].numpy().mean((1, 2)) / 255) for d in range(10)]
    picture = figures.ink_by_digit(few)
    assert f"Digit {np.argmin(medians)} uses least ink (median {min(medians):.2f})" in picture.alt
    assert f"digit {np.argmax(medians)} most ({max(medians):.2f})" in picture.alt
    level = [line.get_ydata()[0] for line in picture.axes[0].lines if len(set(line.get_ydata())) == 1]
    assert all(min(abs(y - median) for y in level) < 1e-6 for median in medians)
    counts = [int((few.images == level).sum()) for level in range(256)]
    assert [bar.get_height() for bar in figures.pixel_histogram(few).axes[0].containers[0]] == counts


def test_image_rows_show_the_pixels_under_their_names(records):
    x, y = records.few.pixels[:3], records.few.pixels[5:7] * 0.5
    picture = figures.image_rows({"as they are": x, "darker": y}, note="Half as bright.")
    (axes,) = picture.axes
    sheet = sheet_of(axes)
    np.testing.assert_allclose(sheet[:28, 30:58], x[1, 0])
    np.testing.assert_allclose(sheet[30:58, 30:58], y[1, 0])
    assert (sheet[30:58, 60:] == 1).all()  # the shorter row ends in white
    assert axes.images[0].get_clim() == (0, 1)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["as they are", "darker"]
    assert caption_of(picture).startswith("Half as bright. ")
    assert picture.alt.endswith("a row for each of: as they are (3), darker (2).")
    (frames,) = axes.collections  # white paper would end nowhere
    corners = [(path.vertices.min(0) + 0.5).tolist() for path in frames.get_paths()]
    assert corners == [[0, 0], [30, 0], [60, 0], [0, 30], [30, 30]]


def test_confusion_writes_every_count_and_colours_mistakes_by_their_share(records):
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
    assert words_of(figures.confusion(records.some_absent)).split("\n").count("none") == 2  # no 3 and no 7


def test_predictions_mark_right_and_wrong_with_sign_and_colour_and_mistakes_begin_with_the_surest(records):
    report = records.report
    wrong, right = (np.flatnonzero((report.predictions == report.labels) == which).tolist() for which in (False, True))
    rows = [wrong[0], right[0], wrong[1], *right[1:3]]
    picture = figures.predictions(report, rows, columns=3)
    for axes, i in zip(picture.axes, rows, strict=False):
        answer, fine = report.predictions[i], report.predictions[i] == report.labels[i]
        assert axes.get_title() == f"{'✓' if fine else '✗'} {answer}  {percent(report.probabilities[i, answer])}"
        assert axes.title.get_color() == (GREEN if fine else RED)
        assert axes.get_xlabel() == (f"row {i}" if fine else f"row {i}, is {report.labels[i]}")
        np.testing.assert_array_equal(sheet_of(axes), report.digits.images[i].numpy())
        assert axes.images[0].get_clim() == (0, 255)
    assert [len(axes.images) for axes in picture.axes] == [1, 1, 1, 1, 1, 0]  # the last line is not full
    surest = sorted(wrong, key=lambda i: -report.probabilities[i].max())[:3]
    mistakes = figures.mistakes(report, count=3)
    assert [axes.get_xlabel().split(",")[0] for axes in mistakes.axes] == [f"row {i}" for i in surest]


@pytest.mark.parametrize(("mark", "colour"), [("✓", GREEN), ("✗", RED), ("", BLUE)], ids=["right", "wrong", "unknown"])
def test_one_prediction_draws_the_ten_probabilities_and_marks_the_answer(mark, colour, records):
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


def test_prediction_distribution_draws_answers_beside_what_was_expected(records):
    answers = np.array([0] * 30 + [1] * 10 + [7] * 20)
    picture = figures.prediction_distribution(answers, records.few)
    (axes,) = picture.axes
    assert [bar.get_height() for bar in axes.containers[0]] == [30, 10, 0, 0, 0, 0, 0, 20, 0, 0]
    due = [float((records.few.labels == d).double().mean()) * 60 for d in range(10)]
    assert list(axes.lines[0].get_ydata()) == pytest.approx(due)
    assert axes.get_ylim()[1] > 30
    assert f"{30 - due[0]:+.0f}, at digit 0" in picture.alt


def test_training_history_draws_the_table_and_rings_the_best_epoch(records):
    history = records.history
    picture = figures.training_history(history)
    for axes, measure in zip(picture.axes, ("loss", "accuracy"), strict=True):
        for line, column in zip(axes.lines, (measure, f"val_{measure}"), strict=False):
            assert list(line.get_xdata()) == [row["epoch"] for row in history.rows]
            assert list(line.get_ydata()) == [row[column] for row in history.rows]
        assert len({line.get_marker() for line in axes.lines[:2]}) == 2
    left, right = picture.axes
    assert len(left.lines) == 2
    assert (right.lines[2].get_xdata()[0], right.lines[2].get_ydata()[0]) == (5, history.best_value)
    heights = right.yaxis.get_transform().transform(np.array([0.2, 0.6, 0.8, 0.9, 0.95]))
    assert np.diff(heights) == pytest.approx(np.log10(2))  # half as many errors is the same step anywhere
    assert right.yaxis.get_transform().inverted().transform(heights) == pytest.approx([0.2, 0.6, 0.8, 0.9, 0.95])
    by_loss = History(history.recipe.but(keep="loss"), history.rows, best_epoch=4, best_value=0.425)
    left, right = figures.training_history(by_loss).axes
    assert (left.lines[2].get_xdata()[0], left.lines[2].get_ydata()[0], len(right.lines)) == (4, 0.425, 2)


def bars_of(axes: Axes) -> list[BarContainer]:
    return [container for container in axes.containers if isinstance(container, BarContainer)]


def heights(bars: BarContainer) -> list[float]:
    return [bar.get_height() for bar in bars]


def middles(bars: BarContainer) -> list[float]:
    return [bar.get_x() + bar.get_width() / 2 for bar in bars]


def share(part: np.ndarray, whole: np.ndarray) -> float:
    """How much of the whole is in the part too; NaN of nothing."""
    return (part & whole).sum() / whole.sum() if whole.any() else np.nan


@pytest.mark.parametrize("name", ["report", "perfect", "some_absent"])
def test_bars_are_precision_and_recall_counted_by_hand(name, records):
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


def test_an_axis_is_said_not_to_begin_at_zero_only_where_that_is_so(records):
    digits = records.few[records.few.labels != 3]
    answers = digits.labels.clone()
    answers[0] = 3  # its precision is 0
    for report, cut in ((records.report_of(digits, answers), False), (records.report, True)):
        picture = figures.per_digit(report)
        assert (picture.axes[0].get_ylim()[0] > 0) == cut == ("does not begin at 0" in caption_of(picture))


def cells_of(axes: Axes) -> np.ndarray:
    """What is written in each cell."""
    cells = np.full((10, 10), "", dtype=object)
    for text in axes.texts:
        x, y = text.get_position()
        cells[int(y), int(x)] = text.get_text()
    return cells


@pytest.mark.parametrize("name", ["report", "some_absent"])
def test_cells_are_the_counts_and_their_shares_and_white_is_none(name, records):
    report: Report = getattr(records, name)
    picture = figures.confusion_pairs(report)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (report.labels, report.predictions), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1) * 100
    right = np.eye(10, dtype=bool)
    wrong = (counts > 0) & ~right
    assert all(float(tick.get_text()).is_integer() for tick in picture.axes[2].get_yticklabels())
    assert Image.open(io.BytesIO(picture._png())).mode == "P"
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


@pytest.mark.parametrize("names", [["report"], ["report", "perfect"]])
def test_bars_are_the_share_that_is_right_at_each_confidence(names, records):
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


def test_curves_are_the_errors_among_the_surest(records):
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
