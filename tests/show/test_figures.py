"""Every figure draws the numbers of its record, says in words what it shows, and leaves no trace."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import mnistviz as mv
from mnistviz import figures
from mnistviz.learn.evaluate import Report
from mnistviz.learn.recipes import Recipe
from mnistviz.learn.train import History
from mnistviz.show.picture import BLUE, GREEN, RED, Picture, mosaic, percent

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # seaborn's to mend


def report_of(digits: mv.Digits, answers: torch.Tensor, share: float = 0.7) -> Report:
    """A report in which each answer has this probability, a little less in later rows."""
    shares = np.linspace(share, share - 0.1, len(digits))
    rows = np.repeat((1 - shares)[:, None] / 9, 10, axis=1)
    rows[np.arange(len(digits)), answers.numpy()] = shares
    return Report(np.log(rows), digits.labels.numpy(), digits)


@pytest.fixture(scope="module")
def report(few: mv.Digits) -> Report:
    """200 digits; every seventh is read as the next one, the others rightly."""
    digits = few[:200]
    wrong = torch.arange(200) % 7 == 3
    return report_of(digits, torch.where(wrong, (digits.labels + 1) % 10, digits.labels))


@pytest.fixture(scope="module")
def perfect(few: mv.Digits) -> Report:
    return report_of(few[:50], few.labels[:50])


@pytest.fixture(scope="module")
def history() -> History:
    rows = [
        {
            "epoch": e, "loss": 1 / e, "accuracy": 1 - 0.3 / e, "lr": 0.1, "seconds": 1.0,
            "val_loss": 0.9 / e + e / 20, "val_accuracy": 0.9 + 0.01 * e - 0.001 * e * e,
        }
        for e in range(1, 7)
    ]  # fmt: skip
    return History(Recipe("deep", epochs=6), rows, best_epoch=5, best_value=rows[4]["val_accuracy"])


@pytest.fixture(scope="module")
def drawn(few: mv.Digits, report: Report, history: History) -> dict[str, Callable[[], Picture]]:
    """Every public figure, with something to draw."""
    digits, calls = few[:200], {}
    calls["sample_grid"] = lambda: figures.sample_grid(digits, each=4)
    calls["class_balance"] = lambda: figures.class_balance({"train": few[:300], "validation": few[300:]})
    calls["mean_and_spread"] = lambda: figures.mean_and_spread(digits)
    calls["ink_by_digit"] = lambda: figures.ink_by_digit(digits)
    calls["pixel_histogram"] = lambda: figures.pixel_histogram(digits)
    calls["image_rows"] = lambda: figures.image_rows({"one": digits[:3].pixels, "two": digits[3:5].pixels})
    calls["training_history"] = lambda: figures.training_history(history)
    calls["confusion"] = lambda: figures.confusion(report)
    calls["predictions"] = lambda: figures.predictions(report, range(5), columns=3)
    calls["mistakes"] = lambda: figures.mistakes(report, count=4)
    calls["one_prediction"] = lambda: figures.one_prediction(digits[0], report.probabilities[0])
    calls["prediction_distribution"] = lambda: figures.prediction_distribution(report.predictions, few)
    return calls


OWN = ("digits", "judgement")  # the files whose figures are tested here; the others have a tests file each
PUBLIC = [name for name in figures.__all__ if getattr(figures, name).__module__.endswith(OWN)]


@pytest.fixture(params=PUBLIC)
def draw(request: pytest.FixtureRequest, drawn: dict[str, Callable[[], Picture]]) -> Callable[[], Picture]:
    return drawn[request.param]


def text_of(picture: Picture) -> str:
    """Every word on the page."""
    return "\n".join(t.get_text() for t in picture.findobj(mpl.text.Text))


def image_of(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_every_figure_is_a_picture_in_words_too_and_leaves_no_trace(draw, tmp_path: Path) -> None:
    settings, open_figures = dict(mpl.rcParams), plt.get_fignums()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=mpl.MatplotlibDeprecationWarning)  # seaborn's to mend
        picture = draw()
        path = picture.save(tmp_path / "a.png")
    assert isinstance(picture, Picture)
    assert len(picture.alt) > 20
    assert Image.open(path).text["Description"] == picture.alt
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == open_figures
    image = np.asarray(Image.open(path).convert("L"))
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (edge == 255).all()  # no word is cut off


def test_every_figure_is_the_same_bytes_each_time(draw) -> None:
    picture = draw()
    first = picture._png()
    data, about = picture._repr_mimebundle_()
    assert data["image/png"] == first
    assert about["image/png"]["alt"] == picture.alt
    assert draw()._png() == first


def test_sample_grid_shows_the_pixels_of_the_first_of_each_digit(few: mv.Digits) -> None:
    sheet = image_of(figures.sample_grid(few, each=3).axes[0])
    assert sheet.shape == (10 * 30 - 2, 3 * 30 - 2)
    for digit in range(10):
        first = [i for i in range(len(few)) if few.labels[i] == digit][:3]
        for column, i in enumerate(first):
            cut = sheet[digit * 30 : digit * 30 + 28, column * 30 : column * 30 + 28]
            np.testing.assert_array_equal(cut, few.images[i].numpy())
    assert (sheet[28:30] == 255).all()


def test_sample_grid_has_one_scale_and_no_smoothing(few: mv.Digits) -> None:
    drawn = figures.sample_grid(few, each=2).axes[0].images[0]
    assert drawn.get_clim() == (0, 255)
    assert drawn.get_interpolation() == "nearest"


def test_a_digit_with_too_few_samples_ends_in_white(few: mv.Digits) -> None:
    sheet = image_of(figures.sample_grid(few[few.labels != 4], each=2).axes[0])
    assert (sheet[4 * 30 : 4 * 30 + 28] == 255).all()


def test_class_balance_draws_the_shares(few: mv.Digits) -> None:
    parts = {"train": few[:450], "validation": few[450:]}
    axes = figures.class_balance(parts).axes[0]
    for container, digits in zip(axes.containers, parts.values(), strict=True):
        shares = [float((digits.labels == d).double().mean()) for d in range(10)]
        assert [bar.get_height() for bar in container] == pytest.approx(shares)
    assert {"train: 450", "validation: 150"} < {t.get_text() for t in axes.get_legend().get_texts()}


def test_class_balance_writes_the_counts_of_a_single_part(few: mv.Digits) -> None:
    words = text_of(figures.class_balance({"train": few})).split("\n")
    for digit in range(10):
        assert str(int((few.labels == digit).sum())) in words


def test_class_balance_cuts_no_bar_off_and_claims_no_balance(few: mv.Digits) -> None:
    ones = few[few.labels == 1]
    picture = figures.class_balance({"ones": ones})
    assert picture.axes[0].get_ylim()[1] > 1
    assert "between 0.0% and 100.0%" in picture.alt


@pytest.mark.parametrize("parts", [{}, {"train": slice(0, 0)}])
def test_class_balance_of_nothing_is_refused(parts: dict, few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="no digits"):
        figures.class_balance({name: few[cut] for name, cut in parts.items()})


def test_mean_and_spread_are_the_mean_and_the_variance(few: mv.Digits) -> None:
    above, below = (image_of(ax) for ax in figures.mean_and_spread(few).axes[:2])
    assert above.shape == below.shape == (28, 280)
    for digit in range(10):
        group = few.images[few.labels == digit].numpy() / 255
        cut = slice(28 * digit, 28 * digit + 28)
        np.testing.assert_allclose(above[:, cut], group.mean(0), atol=1e-6)
        np.testing.assert_allclose(below[:, cut], group.var(0), atol=1e-6)


def test_mean_and_spread_name_the_digits_that_are_missing(few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"\[4, 7\]"):
        figures.mean_and_spread(few[(few.labels != 4) & (few.labels != 7)])


def test_ink_by_digit_says_which_digit_uses_least_and_most(few: mv.Digits) -> None:
    medians = [np.median(few.images[few.labels == d].numpy().mean((1, 2)) / 255) for d in range(10)]
    picture = figures.ink_by_digit(few)
    assert f"Digit {np.argmin(medians)} uses least ink (median {min(medians):.2f})" in picture.alt
    assert f"digit {np.argmax(medians)} most ({max(medians):.2f})" in picture.alt
    lines = [sorted(set(line.get_ydata())) for line in picture.axes[0].lines]
    for median in medians:
        assert any(len(y) == 1 and y[0] == pytest.approx(median, abs=1e-6) for y in lines)


def test_pixel_histogram_counts_every_grey_level(few: mv.Digits) -> None:
    picture = figures.pixel_histogram(few)
    counts = [int((few.images == level).sum()) for level in range(256)]
    assert [bar.get_height() for bar in picture.axes[0].containers[0]] == counts
    assert sum(counts) == 600 * 784
    assert f"{counts[0] / sum(counts):.0%} of pixels are exactly black" in picture.alt


def test_image_rows_show_the_pixels_under_their_names(few: mv.Digits) -> None:
    x, y = few.pixels[:3], few.pixels[5:7] * 0.5
    picture = figures.image_rows({"as they are": x, "darker": y}, note="Half as bright.")
    sheet = image_of(picture.axes[0])
    np.testing.assert_allclose(sheet[:28, 30:58], x[1, 0])
    np.testing.assert_allclose(sheet[30:58, 30:58], y[1, 0])
    assert (sheet[30:58, 60:] == 1).all()  # the shorter row ends in white
    assert picture.axes[0].images[0].get_clim() == (0, 1)
    assert [t.get_text() for t in picture.axes[0].get_yticklabels()] == ["as they are", "darker"]
    assert "Half as bright." in text_of(picture)


def test_training_history_draws_the_table_and_rings_the_best_epoch(history: History) -> None:
    picture = figures.training_history(history)
    for ax, measure in zip(picture.axes, ("loss", "accuracy"), strict=True):
        for line, column in zip(ax.lines, (measure, f"val_{measure}"), strict=False):
            np.testing.assert_array_equal(line.get_xdata(), range(1, 7))
            np.testing.assert_array_equal(line.get_ydata(), history.table[column])
    ring = picture.axes[1].lines[2]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (5, history.best_value)
    assert len(picture.axes[0].lines) == 2
    assert "best validation accuracy 92.50% in epoch 5" in picture.alt
    assert "loss from 1.000 to 0.167" in picture.alt


def test_training_history_rings_the_loss_where_that_is_what_is_kept(history: History) -> None:
    by_loss = History(history.recipe.but(keep="loss"), history.rows, best_epoch=4, best_value=0.425)
    picture = figures.training_history(by_loss)
    assert len(picture.axes[0].lines) == 3
    assert "best validation loss 0.4250 in epoch 4" in picture.alt


def test_training_history_without_validation_draws_what_there_is(history: History) -> None:
    rows = [{k: v for k, v in row.items() if not k.startswith("val")} for row in history.rows[:1]]
    picture = figures.training_history(History(history.recipe, rows, best_epoch=1, best_value=math.nan))
    assert [len(ax.lines) for ax in picture.axes] == [1, 1]
    assert "no validation set" in picture.alt
    with pytest.raises(mv.MnistvizError, match="no epochs"):
        figures.training_history(History(history.recipe))


def test_confusion_writes_every_count_and_colours_mistakes_by_their_share(report: Report) -> None:
    axes = figures.confusion(report).axes[0]
    written = {}
    for text in axes.texts:
        x, y = text.get_position()
        if text.get_text() and "%" not in text.get_text():
            written[int(y), int(x)] = int(text.get_text())
    expected = {(int(t), int(a)): int(report.confusion[t, a]) for t, a in np.argwhere(report.confusion > 0)}
    assert {cell: n for cell, n in written.items() if n} == expected
    values = axes.collections[0].get_array()
    assert np.ma.getmaskarray(values).reshape(10, 10).diagonal().all()
    for t in range(10):
        for a in set(range(10)) - {t}:
            share = 100 * report.confusion[t, a] / report.confusion[t].sum()
            assert values.reshape(10, 10)[t, a] == pytest.approx(share)


def test_confusion_says_the_accuracy_its_interval_and_the_commonest_mistake(report: Report) -> None:
    picture = figures.confusion(report)
    low, high = report.interval
    words = text_of(picture)
    wrong = sum(i % 7 == 3 for i in range(200))
    assert f"{1 - wrong / 200:.2%} right, {wrong} of 200 wrong" in words
    assert f"{low:.2%} to {high:.2%}" in words
    off = report.confusion - np.diag(report.confusion.diagonal())
    t, a = np.unravel_index(off.argmax(), off.shape)
    assert f"{t} read as {a}, {off.max()} times" in picture.alt
    for digit in range(10):
        assert f"{100 * report.confusion[digit, digit] / report.confusion[digit].sum():.1f} %" in words


def test_confusion_of_a_perfect_model_and_of_digits_that_never_occur(perfect: Report, few: mv.Digits) -> None:
    assert "no mistakes" in figures.confusion(perfect).alt
    sevens = few[few.labels == 7]
    words = text_of(figures.confusion(report_of(sevens, sevens.labels))).split("\n")
    assert words.count("none") == 9
    assert "100.0 %" in words


def test_predictions_mark_right_and_wrong_with_sign_and_colour(report: Report) -> None:
    rows = [3, 0, 10, 1]
    picture = figures.predictions(report, rows, columns=4)
    for ax, i in zip(picture.axes, rows, strict=True):
        answer, right = report.predictions[i], report.predictions[i] == report.labels[i]
        assert ax.get_title() == f"{'✓' if right else '✗'} {answer}  {percent(report.probabilities[i, answer])}"
        assert ax.title.get_color() == (GREEN if right else RED)
        assert ax.get_xlabel() == (f"row {i}" if right else f"row {i}, is {report.labels[i]}")
        np.testing.assert_array_equal(image_of(ax), report.digits.images[i].numpy())
    assert "4 digits with the network's answers: 2 right, 2 wrong" in picture.alt


def test_predictions_of_no_rows_say_so_and_of_bad_rows_are_refused(report: Report) -> None:
    assert "empty" in figures.predictions(report, []).alt
    for bad in (-1, 200):
        with pytest.raises(mv.MnistvizError, match=rf"no such row[\s\S]*\[{bad}\][\s\S]*0 to 199"):
            figures.predictions(report, [0, bad])


def test_a_single_prediction_in_the_grid_and_an_unfinished_last_line_are_fine(report: Report) -> None:
    assert len(figures.predictions(report, [0]).axes) == 1
    axes = figures.predictions(report, range(5), columns=3).axes
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 1, 1, 0]


def test_mistakes_show_the_surest_wrong_answers_first(report: Report) -> None:
    picture = figures.mistakes(report, count=3)
    expected = list(report.mistakes.row[:3])
    assert expected == [3, 10, 17]  # earlier rows are surer
    assert [ax.get_xlabel().split(",")[0] for ax in picture.axes] == [f"row {i}" for i in expected]
    assert all(ax.get_title().startswith("✗") for ax in picture.axes)


def test_a_perfect_model_gets_a_page_that_says_so(perfect: Report) -> None:
    picture = figures.mistakes(perfect)
    assert "No mistakes: all 50 digits of MNIST train" in picture.alt
    assert picture.alt in text_of(picture)


def test_one_prediction_draws_the_ten_probabilities(few: mv.Digits) -> None:
    digit = few[5]
    truth = int(digit.labels[0])
    shares = np.full(10, 0.02)
    shares[truth] = 0.82
    picture = figures.one_prediction(digit, shares[None])
    bars = picture.axes[1].containers[0]
    assert [bar.get_width() for bar in bars] == pytest.approx(shares)
    assert mpl.colors.to_hex(bars[truth].get_facecolor()) == GREEN
    np.testing.assert_array_equal(image_of(picture.axes[0]), digit.images[0].numpy())
    assert f"✓ {truth}" in picture.axes[1].get_title(loc="left")
    assert "82.0 %" in text_of(picture)
    assert f"the answer is {truth} with 82.0 %. It is a {truth}." in picture.alt
    low, high = picture.axes[1].get_ylim()
    assert low > high  # 0 on top, as it is read


def test_one_prediction_marks_a_wrong_answer_and_leaves_an_unknown_one_unmarked(few: mv.Digits) -> None:
    shares = np.zeros(10)
    answer = (int(few.labels[5]) + 1) % 10
    shares[answer] = 1
    wrong = figures.one_prediction(few[5], shares)
    assert f"✗ {answer}" in wrong.axes[1].get_title(loc="left")
    assert mpl.colors.to_hex(wrong.axes[1].containers[0][answer].get_facecolor()) == RED
    unknown = figures.one_prediction(mv.Digits(few.images[5:6], None, "mine"), shares)
    assert unknown.axes[1].get_title(loc="left") == f"what comes out: {answer}"
    assert mpl.colors.to_hex(unknown.axes[1].containers[0][answer].get_facecolor()) == BLUE
    assert "It is a" not in unknown.alt


@pytest.mark.parametrize(("count", "shape"), [(2, (10,)), (1, (9,)), (1, (2, 10)), (0, (10,))])
def test_one_prediction_takes_one_digit_and_ten_probabilities(count: int, shape: tuple, few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="one digit"):
        figures.one_prediction(few[:count], np.zeros(shape))


def test_prediction_distribution_draws_answers_beside_what_was_expected(few: mv.Digits) -> None:
    answers = np.array([0] * 30 + [1] * 10 + [7] * 20)
    picture = figures.prediction_distribution(answers, few)
    axes = picture.axes[0]
    assert [bar.get_height() for bar in axes.containers[0]] == [30, 10, 0, 0, 0, 0, 0, 20, 0, 0]
    due = [float((few.labels == d).double().mean()) * 60 for d in range(10)]
    assert list(axes.lines[0].get_ydata()) == pytest.approx(due)
    assert axes.get_ylim()[1] > 30
    assert f"{30 - due[0]:+.0f}, at digit 0" in picture.alt


@pytest.mark.parametrize("answers", [np.zeros((3, 10)), np.array([]), np.array([3, 10]), np.array([-1])])
def test_what_are_no_answers_have_no_distribution(answers: np.ndarray, few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"not answers[\s\S]*argmax"):
        figures.prediction_distribution(answers, few)


def test_unlabelled_digits_are_refused_where_labels_are_drawn(few: mv.Digits) -> None:
    unknown = mv.Digits(few.images[:20], None, "Kaggle test.csv")
    for figure in (figures.sample_grid, figures.mean_and_spread, figures.ink_by_digit):
        with pytest.raises(mv.MnistvizError, match="no labels"):
            figure(unknown)
    figures.pixel_histogram(unknown)  # needs none


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (1.0, ">99.9 %"), (0.9999, ">99.9 %"), (0.9995, ">99.9 %"), (0.9994, "99.9 %"), (0.5, "50.0 %"),
        (0.001, "0.1 %"), (0.0009, "<0.1 %"), (0.0, "<0.1 %"),
    ],
)  # fmt: skip
def test_a_percentage_never_rounds_a_doubt_away(share: float, said: str) -> None:
    assert percent(share) == said


def test_a_mosaic_puts_each_picture_in_its_place() -> None:
    ones, twos = np.ones((28, 28)), np.full((28, 28), 2.0)
    sheet = mosaic([[ones, twos], [twos]], columns=2, gap=1, paper=9)
    assert sheet.shape == (57, 57)
    assert (sheet[:28, :28] == 1).all()
    assert (sheet[:28, 29:] == 2).all()
    assert (sheet[29:, :28] == 2).all()
    assert (sheet[28] == 9).all()
    assert (sheet[29:, 28:] == 9).all()
