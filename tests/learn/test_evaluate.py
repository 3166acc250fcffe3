"""The numbers about a model equal those worked out by other means, and the model is left as it was."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.learn.evaluate import DISPUTED, CalibrationError, Report, logits, measure


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mv.models.deep()


@pytest.fixture(scope="module")
def trained(few: mv.Digits) -> nn.Sequential:
    """Right on most digits, wrong on some."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mv.models.compact()
    recipe = mv.recipes.tuned("compact").but(epochs=4, batch=25, augment=None)
    mv.fit(model, few[:300], None, recipe, device="cpu", progress=False)
    return model


@pytest.fixture(scope="module")
def report(trained: nn.Module, few: mv.Digits) -> Report:
    return mv.evaluate(trained, few)


def report_of(labels: list[int], answers: list[int], share: float = 0.5) -> Report:
    """A report in which each answer has this probability and the other nine share the rest."""
    rows = np.full((len(labels), 10), (1 - share) / 9)
    rows[np.arange(len(labels)), answers] = share
    images = torch.zeros(len(labels), 28, 28, dtype=torch.uint8)
    truth = np.array(labels, dtype=np.int64)
    return Report(np.log(rows), truth, mv.Digits(images, torch.from_numpy(truth), "made up"))


outcomes = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=80)


def test_predictions_are_the_softmax_of_the_plain_forward(model: nn.Sequential, few: mv.Digits) -> None:
    found = mv.predict(model, few[:40])
    with torch.no_grad():
        x = few.images[:40].reshape(40, 1, 28, 28).float() / 255
        for layer in model.eval():
            x = layer(x)
        expected = (x.exp() / x.exp().sum(1, keepdim=True)).numpy()
    assert found.shape == (40, 10)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_log_probabilities_out_of_a_model_give_the_same_probabilities(few: mv.Digits) -> None:
    light = mv.models.light().eval()
    with torch.no_grad():
        expected = light(few.pixels[:30]).exp().numpy()
    np.testing.assert_allclose(mv.predict(light, few[:30]), expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 700))
def test_any_batch_size_gives_the_same_answers_in_the_same_order(
    batch: int, trained: nn.Module, few: mv.Digits
) -> None:
    torch.testing.assert_close(logits(trained, few[:60], batch), logits(trained, few[:60]), rtol=1e-4, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(20)))
def test_digits_in_another_order_have_their_answers_in_that_order(
    order: list[int], trained: nn.Module, few: mv.Digits
) -> None:
    straight = mv.predict(trained, few[:20])
    np.testing.assert_allclose(mv.predict(trained, few[:20][order]), straight[order], rtol=1e-4, atol=1e-6)


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("broken")


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_mode_back(fails: bool, few: mv.Digits) -> None:
    model = mv.models.deep().train()
    model.bn2.eval()
    model.drop1.eval()
    if fails:
        model.add_module("bad", Fails().train())
    modes = {name: module.training for name, module in model.named_modules()}
    statistics = model.bn1.running_mean.clone()
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            mv.predict(model, few[:3])
    else:
        mv.predict(model, few[:3])
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert len(set(modes.values())) == 2
    assert torch.equal(model.bn1.running_mean, statistics)


def test_predicting_uses_evaluation_mode_and_records_no_gradients(few: mv.Digits) -> None:
    model = mv.models.deep().train()  # with dropout on, two calls would differ
    np.testing.assert_array_equal(mv.predict(model, few[:10]), mv.predict(model, few[:10]))
    assert all(p.grad is None for p in model.parameters())
    assert not logits(model, few[:10]).requires_grad


def test_measure_is_cross_entropy_and_the_share_that_is_right(trained: nn.Module, few: mv.Digits) -> None:
    with torch.no_grad():
        scores = trained.eval()(few.pixels)
    loss, accuracy = measure(trained, few)
    assert loss == pytest.approx(float(F.cross_entropy(scores, few.labels)), rel=1e-5)
    assert accuracy == int((scores.argmax(1) == few.labels).sum()) / 600


def test_a_report_agrees_with_scikit_learn(report: Report, trained: nn.Module, few: mv.Digits) -> None:
    truth, answers = few.labels.numpy(), mv.predict(trained, few).argmax(1)
    assert 0 < report.correct < 600
    assert report.accuracy == metrics.accuracy_score(truth, answers)
    np.testing.assert_array_equal(report.predictions, answers)
    np.testing.assert_array_equal(report.confusion, metrics.confusion_matrix(truth, answers))
    np.testing.assert_allclose(report.confusion_rates, metrics.confusion_matrix(truth, answers, normalize="true"))
    expected = metrics.classification_report(truth, answers, output_dict=True)
    for digit in range(10):
        row, theirs = report.per_digit.loc[digit], expected[str(digit)]
        assert [row.precision, row.recall, row.f1, row.support] == pytest.approx(
            [theirs[k] for k in ("precision", "recall", "f1-score", "support")]
        )
    assert report.nll == pytest.approx(metrics.log_loss(truth, report.probabilities), rel=1e-6)


def test_nll_is_the_cross_entropy(report: Report, trained: nn.Module, few: mv.Digits) -> None:
    with torch.no_grad():
        expected = F.cross_entropy(trained.eval()(few.pixels).double(), few.labels)
    assert report.nll == pytest.approx(float(expected), rel=1e-5)


def test_nll_stays_finite_where_a_probability_underflows(few: mv.Digits) -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([2000.0] + [0.0] * 9).repeat(len(x), 1)

    report = mv.evaluate(Sure(), few)
    assert report.nll == pytest.approx(2000 * float((few.labels != 0).double().mean()), rel=1e-6)


@given(outcomes)
def test_counting_by_hand_gives_the_confusion_and_the_accuracy(pairs: list[tuple[int, int]]) -> None:
    report = report_of(*map(list, zip(*pairs, strict=True)))
    for true in range(10):
        for answer in range(10):
            assert report.confusion[true, answer] == pairs.count((true, answer))
    assert report.correct == sum(a == b for a, b in pairs)
    assert report.accuracy == report.correct / len(pairs)
    occurs = {true for true, _ in pairs}
    for digit in range(10):
        assert report.confusion_rates[digit].sum() == pytest.approx(1.0 if digit in occurs else 0.0)
        assert report.per_digit.support[digit] == sum(true == digit for true, _ in pairs)
        right = report.per_digit.recall[digit]
        assert math.isnan(right) == (digit not in occurs)
        if digit in occurs:
            assert right == pytest.approx(report.confusion[digit, digit] / report.confusion[digit].sum())


@given(outcomes)
def test_the_interval_is_wilsons_formula(pairs: list[tuple[int, int]]) -> None:
    report, n, z = report_of(*map(list, zip(*pairs, strict=True))), len(pairs), 1.959963984540054
    p = sum(a == b for a, b in pairs) / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert report.interval == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-12)
    assert report.interval[0] <= report.accuracy <= report.interval[1]


def test_the_interval_of_32_errors_in_6300() -> None:
    low, high = report_of([0] * 6300, [1] * 32 + [0] * 6268).interval
    assert (round(low, 4), round(high, 4)) == (0.9928, 0.9964)


def test_mistakes_are_all_the_wrong_answers_the_surest_first(report: Report) -> None:
    table = report.mistakes
    expected = {i for i in range(600) if report.predictions[i] != report.labels[i]}
    assert set(table.row) == expected
    assert len(table) == len(expected) == 600 - report.correct
    assert table.confidence.is_monotonic_decreasing
    for row in table.itertuples():
        assert row.label == report.labels[row.row] == report.digits.labels[row.row]
        assert row.prediction == report.predictions[row.row] != row.label
        assert row.confidence == report.probabilities[row.row].max()
        assert row.given_to_label == report.probabilities[row.row, row.label]


def test_a_digit_that_never_occurs_has_no_numbers_and_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    report = report_of([0, 0, 1, 2], [0, 1, 1, 2])
    table = report.per_digit
    assert table.loc[9, ["precision", "recall", "f1"]].isna().all()
    assert table.support[9] == 0
    assert (report.confusion_rates[9] == 0).all()
    assert table.recall[0] == 0.5
    assert not recwarn.list


def test_a_perfect_model_has_no_mistakes() -> None:
    report = report_of(list(range(10)), list(range(10)), 0.9)
    assert report.accuracy == 1
    assert report.mistakes.empty
    assert list(report.mistakes.columns) == ["row", "label", "prediction", "confidence", "given_to_label"]
    assert report.interval[1] == 1
    assert report.nll == pytest.approx(-math.log(0.9))
    assert "100.00% of 10 right, 0 wrong" in repr(report)


def test_the_report_says_its_numbers_and_its_source(report: Report) -> None:
    low, high = report.interval
    for said in (f"{report.accuracy:.2%} of 600 right", f"{low:.2%} to {high:.2%}", f"{report.nll:.4f}", "MNIST train"):
        assert said in repr(report)


@pytest.mark.parametrize("judge", [mv.predict, mv.evaluate, measure])
def test_no_digits_are_refused(judge, model: nn.Module, few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="no digits"):
        judge(model, few[:0])


def test_unlabelled_digits_are_predicted_but_not_judged(model: nn.Module, few: mv.Digits) -> None:
    unknown = mv.Digits(few.images[:5], None, "Kaggle test.csv")
    assert mv.predict(model, unknown).shape == (5, 10)
    with pytest.raises(mv.MnistvizError, match="no labels"):
        mv.evaluate(model, unknown)


@pytest.mark.parametrize("shape", [(5, 10), (6, 9), (6,), (10, 6)])
def test_predictions_that_do_not_match_the_labels_are_refused(shape: tuple[int, ...], few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="do not match"):
        Report(np.zeros(shape), few.labels[:6].numpy(), few[:6])


# How far to trust the answers


def report_from(scores: np.ndarray, labels: np.ndarray, source: str = "made up") -> Report:
    """A report of these scores, which need not be normalised."""
    images = torch.zeros(len(labels), 28, 28, dtype=torch.uint8)
    logs = torch.from_numpy(np.asarray(scores, dtype=np.float64)).log_softmax(1).numpy()
    return Report(logs, labels, mv.Digits(images, torch.from_numpy(labels), source))


def random_report(count: int, seed: int, spread: float = 2.0, *, honest: bool = False) -> Report:
    """Scores drawn at random; honest: each label is drawn with just the probabilities that are stated."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, spread, (count, 10))
    labels = random.integers(0, 10, count)
    if honest:
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        labels = (p.cumsum(1) < random.random((count, 1))).sum(1).clip(max=9)
    return report_from(scores, labels)


def wilson(right: int, count: int) -> tuple[float, float]:
    p, z = right / count, 1.959963984540054
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def steps_by_hand(report: Report, bins: int) -> dict[int, list[int]]:
    """The rows whose confidence lies in each step, found by looking at its two ends."""
    found: dict[int, list[int]] = {}
    for i, p in enumerate(report.probabilities):
        for k in range(bins):
            if k / bins <= max(p) < (k + 1) / bins or (k == bins - 1 and max(p) >= 1):
                found.setdefault(k, []).append(i)
    return found


random_reports = st.builds(
    random_report, st.integers(1, 60), st.integers(0, 10_000), st.floats(0.1, 8), honest=st.booleans()
)


def test_brier_is_scikit_learn_s(report: Report) -> None:
    expected = sum(
        metrics.brier_score_loss(report.labels == digit, report.probabilities[:, digit]) for digit in range(10)
    )
    assert report.brier == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(random_reports)
def test_brier_is_the_mean_squared_distance(report: Report) -> None:
    total = 0.0
    for p, label in zip(report.probabilities, report.labels, strict=True):
        total += sum((p[k] - (k == label)) ** 2 for k in range(10))
    assert report.brier == pytest.approx(total / len(report.labels))
    assert 0 <= report.brier <= 2 + 1e-9


def test_brier_of_knowing_nothing_and_of_being_sure() -> None:
    assert report_of([3, 4], [3, 4], 0.1).brier == pytest.approx(0.9)
    sure = np.full((2, 10), -1e4)
    sure[:, 3] = 0
    assert report_from(sure, np.array([3, 3])).brier == 0
    assert report_from(sure, np.array([4, 4])).brier == 2


@settings(deadline=None)
@given(random_reports)
def test_nll_is_scikit_learn_s_log_loss(report: Report) -> None:
    assume(report.probabilities.min() > 1e-12)  # below about 1e-16, scikit-learn cuts off
    expected = metrics.log_loss(report.labels, report.probabilities, labels=range(10))
    assert report.nll == pytest.approx(expected, rel=1e-6)


@settings(deadline=None)
@given(outcomes)
def test_pairs_are_the_confusions_the_most_frequent_first(outcome: list[tuple[int, int]]) -> None:
    report = report_of(*map(list, zip(*outcome, strict=True)))
    table = report.pairs
    assert list(table.columns) == ["label", "prediction", "count", "rate"]
    assert {(row.label, row.prediction) for row in table.itertuples()} == {(a, b) for a, b in outcome if a != b}
    assert table["count"].is_monotonic_decreasing
    assert table["count"].sum() == len(report.mistakes)
    theirs = metrics.confusion_matrix(report.labels, report.predictions, labels=range(10))
    for label, prediction, count, rate in table.itertuples(index=False):
        assert count == outcome.count((label, prediction)) == theirs[label, prediction] > 0
        assert rate == pytest.approx(count / sum(a == label for a, _ in outcome))
    for _, equals in table.groupby("count"):  # equally frequent ones in reading order
        assert list(zip(equals.label, equals.prediction, strict=True)) == sorted(
            zip(equals.label, equals.prediction, strict=True)
        )


@settings(deadline=None)
@given(random_reports)
def test_confidence_is_the_probability_of_the_answer(report: Report) -> None:
    for confidence, p, answer in zip(report.confidence, report.probabilities, report.predictions, strict=True):
        assert confidence == p[answer] == max(p)


@settings(deadline=None)
@given(report=random_reports, bins=st.integers(1, 40))
def test_reliability_is_counted_step_by_step(report: Report, bins: int) -> None:
    table, by_hand = report.reliability(bins), steps_by_hand(report, bins)
    assert list(table.columns) == ["from", "to", "count", "confidence", "accuracy", "low", "high"]
    assert table["count"].sum() == len(report.labels)
    assert [round(start * bins) for start in table["from"]] == sorted(by_hand)
    for row, k in zip(table.to_dict("records"), sorted(by_hand), strict=True):
        inside = by_hand[k]
        right = [int(report.predictions[i] == report.labels[i]) for i in inside]
        assert (row["from"], row["to"]) == pytest.approx((k / bins, (k + 1) / bins))
        assert row["count"] == len(inside)
        assert row["confidence"] == pytest.approx(sum(max(report.probabilities[i]) for i in inside) / len(inside))
        assert row["accuracy"] == pytest.approx(sum(right) / len(inside))
        assert (row["low"], row["high"]) == pytest.approx(wilson(sum(right), len(inside)), abs=1e-12)


def test_reliability_is_scikit_learn_s_calibration_curve(report: Report) -> None:
    share, confidence = calibration_curve(report.predictions == report.labels, report.confidence, n_bins=15)
    table = report.reliability()
    np.testing.assert_allclose(table.accuracy, share)
    np.testing.assert_allclose(table.confidence, confidence)


def test_an_answer_on_an_edge_belongs_to_the_step_above_and_certainty_to_the_last() -> None:
    sure = np.full((1, 10), -1e4)
    sure[:, 3] = 0
    table = report_from(sure, np.array([3])).reliability(10)
    assert table[["from", "to", "count", "accuracy"]].to_numpy().tolist() == [[0.9, 1.0, 1, 1.0]]
    half = np.log(np.array([[0.5, 0.25, 0.25] + [1e-300] * 7]))
    assert report_from(half, np.array([0])).reliability(4)["from"].tolist() == [0.5]


@settings(deadline=None)
@given(report=random_reports, bins=st.integers(1, 40))
def test_the_calibration_error_is_the_mean_gap(report: Report, bins: int) -> None:
    gap = 0.0
    for inside in steps_by_hand(report, bins).values():
        right = sum(report.predictions[i] == report.labels[i] for i in inside) / len(inside)
        sure = sum(max(report.probabilities[i]) for i in inside) / len(inside)
        gap += len(inside) / len(report.labels) * abs(right - sure)
    found = report.calibration_error(bins, draws=3)
    assert found.value == pytest.approx(gap, abs=1e-12)
    table = report.reliability(bins)
    again = (table["count"] * (table.accuracy - table.confidence).abs()).sum() / table["count"].sum()
    assert found.value == pytest.approx(again, abs=1e-12)
    assert 0 <= found.by_chance <= found.limit <= 1 + 1e-9


def test_honest_confidences_stay_within_the_limit_95_times_of_100() -> None:
    errors = [random_report(300, seed, honest=True).calibration_error(draws=200, seed=seed) for seed in range(300)]
    within = sum(error.value <= error.limit for error in errors)
    assert 0.91 * 300 < within < 0.985 * 300
    below = sum(error.value <= error.by_chance for error in errors)
    assert 0.41 * 300 < below < 0.59 * 300
    assert "within the noise" in repr(next(error for error in errors if error.value <= error.limit))


def test_one_that_boasts_is_beyond_the_limit() -> None:
    boasts = random_report(2000, 0, honest=True).cooled(0.4)
    error = boasts.calibration_error()
    assert error.value > 2 * error.limit
    assert "above the noise" in repr(error)
    for said in (f"{error.value:.2%}", f"{error.by_chance:.2%}", f"{error.limit:.2%}"):
        assert said in repr(error)


def test_what_chance_gives_shrinks_with_more_digits_and_follows_the_seed() -> None:
    few, many = (random_report(count, 0, honest=True) for count in (100, 10_000))
    one, again, other = (few.calibration_error(seed=seed) for seed in (1, 1, 2))
    assert isinstance(one, CalibrationError)
    assert one == again
    assert one.value == other.value
    assert one.limit != other.limit
    assert many.calibration_error(draws=50).limit < one.limit / 4


@pytest.mark.parametrize("bins", [0, -1, -15])
def test_no_steps_of_confidence_are_refused(bins: int, report: Report) -> None:
    with pytest.raises(mv.MnistvizError, match="steps of confidence"):
        report.reliability(bins)


@pytest.mark.parametrize("bins", [0, -1])
def test_no_steps_are_refused_for_the_calibration_error_too(bins: int, report: Report) -> None:
    with pytest.raises(mv.MnistvizError, match="steps of confidence"):
        report.calibration_error(bins, draws=3)


def test_steps_of_confidence_that_are_not_whole_are_refused(report: Report) -> None:
    with pytest.raises(mv.MnistvizError, match="steps of confidence"):
        report.reliability(2.5)  # type: ignore[arg-type]


def test_no_draws_are_refused(report: Report) -> None:
    with pytest.raises(mv.MnistvizError, match="draws"):
        report.calibration_error(draws=0)


@settings(deadline=None)
@given(random_reports)
def test_coverage_gives_the_surest_first(report: Report) -> None:
    table, n = report.coverage, len(report.labels)
    assert len(table) == n
    assert table.coverage.tolist() == pytest.approx([(i + 1) / n for i in range(n)])
    assert table.coverage.iloc[-1] == 1
    assert table.threshold.is_monotonic_decreasing
    assert table.error.iloc[-1] == pytest.approx(1 - report.accuracy)
    sure = sorted(range(n), key=lambda i: -max(report.probabilities[i]))  # stable
    for given_, row in enumerate(table.itertuples(), 1):
        wrong = sum(report.predictions[i] != report.labels[i] for i in sure[:given_])
        assert row.error == pytest.approx(wrong / given_)
        assert row.threshold == max(report.probabilities[sure[given_ - 1]])


@settings(deadline=None)
@given(report=random_reports, data=st.data())
def test_take_keeps_those_rows_in_that_order(report: Report, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(report.labels) - 1), min_size=1, max_size=20))
    for asked in (rows, np.array(rows)):
        part = report.take(asked)
        np.testing.assert_array_equal(part.log_probabilities, report.log_probabilities[rows])
        np.testing.assert_array_equal(part.labels, report.labels[rows])
        assert part.digits.known_labels().tolist() == [int(report.labels[i]) for i in rows]
        assert part.digits.source == report.digits.source
        assert part.correct == sum(report.predictions[i] == report.labels[i] for i in rows)


def test_take_keeps_the_pictures_too(report: Report, few: mv.Digits) -> None:
    wrong = report.mistakes.row.to_numpy().copy()
    part = report.take(wrong)
    assert torch.equal(part.digits.images, few.images[torch.from_numpy(wrong)])
    assert part.accuracy == 0
    assert sorted(part.mistakes.row) == list(range(len(wrong)))
    assert part.mistakes.row.tolist() == list(range(len(wrong)))  # they were in order of confidence
    mask = report.predictions == report.labels
    assert report.take(mask).accuracy == 1
    assert len(report.take(mask).labels) == report.correct


def test_taking_nothing_is_refused_or_gives_nothing(report: Report) -> None:
    try:
        part = report.take([])
    except mv.MnistvizError:
        return
    assert len(part.labels) == len(part.digits) == 0


def test_mistakes_are_taken_without_a_warning(report: Report) -> None:
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert report.take(report.mistakes.row).accuracy == 0
    finally:
        torch.set_warn_always(False)


DISPUTED_ROWS = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)


def numbered(count: int, source: str) -> Report:
    """Each score of the first column tells its row."""
    scores = np.zeros((count, 10))
    scores[:, 0] = np.arange(count) / count
    return report_from(scores, np.arange(count) % 10, source)


def test_undisputed_drops_those_15_rows_and_no_others() -> None:
    report = numbered(10_000, "MNIST test")
    part = report.undisputed()
    assert DISPUTED == DISPUTED_ROWS
    kept = [i for i in range(10_000) if i not in DISPUTED_ROWS]
    assert len(part.labels) == len(part.digits) == 9_985
    np.testing.assert_array_equal(part.log_probabilities, report.log_probabilities[kept])
    np.testing.assert_array_equal(part.labels, np.array(kept) % 10)
    assert len(report.labels) == 10_000


def test_the_disputed_labels_are_the_ones_in_the_embedded_set(mnist: DigitSet) -> None:
    """As the study printed them: 947 is labelled 8, 2130 is labelled 4, …"""
    assert mnist.test.known_labels()[list(DISPUTED)].tolist() == [8, 0, 9, 4, 2, 5, 6, 6, 5, 5, 0, 1, 4, 6, 5]
    assert mnist.test.source == "MNIST test"


@pytest.mark.parametrize(
    ("count", "source"),
    [(10_000, "MNIST train"), (10_000, "MNIST test, blur 1 of 5"), (9_985, "MNIST test"), (28_000, "Kaggle test.csv")],
)
def test_undisputed_is_refused_for_other_digits(count: int, source: str) -> None:
    with pytest.raises(mv.MnistvizError, match="disputed") as error:
        numbered(count, source).undisputed()
    assert 'mv.load_digits("mnist").test' in str(error.value)


# Temperature


@settings(deadline=None)
@given(report=random_reports, temperature=st.floats(0.02, 50))
def test_no_temperature_changes_an_answer(report: Report, temperature: float) -> None:
    cooled = report.cooled(temperature)
    np.testing.assert_array_equal(cooled.predictions, report.predictions)
    assert cooled.accuracy == report.accuracy
    np.testing.assert_allclose(cooled.probabilities.sum(1), 1)
    p = report.probabilities ** (1 / temperature)
    np.testing.assert_allclose(cooled.probabilities, p / p.sum(1, keepdims=True), rtol=1e-6, atol=1e-12)
    if temperature > 1:
        assert (cooled.confidence <= report.confidence + 1e-12).all()
    else:
        assert (cooled.confidence >= report.confidence - 1e-12).all()


@settings(deadline=None)
@given(random_reports)
def test_a_temperature_of_1_changes_nothing(report: Report) -> None:
    np.testing.assert_allclose(report.cooled(1).log_probabilities, report.log_probabilities, atol=1e-12)
    assert report.cooled(1).nll == pytest.approx(report.nll)


def test_temperatures_multiply(report: Report) -> None:
    twice = report.cooled(2).cooled(3)
    np.testing.assert_allclose(twice.log_probabilities, report.cooled(6).log_probabilities, atol=1e-9)


@pytest.mark.parametrize("temperature", [0, -1, -0.0, float("nan"), float("inf"), -float("inf")])
def test_what_is_no_temperature_is_refused(temperature: float, report: Report) -> None:
    with pytest.raises(mv.MnistvizError, match="not a temperature"):
        report.cooled(temperature)


def test_a_temperature_so_high_that_answers_are_lost_is_refused_or_loses_none(report: Report) -> None:
    try:
        cooled = report.cooled(1e20)
    except mv.MnistvizError:
        return
    np.testing.assert_array_equal(cooled.predictions, report.predictions)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_temperature_is_that_of_a_search_through_many(seed: int) -> None:
    for honest in (True, False):
        report = random_report(200, seed, honest=honest)
        best = report.best_temperature()
        tried = np.exp(np.linspace(-4, 4, 401))
        surprise = [metrics.log_loss(report.labels, report.cooled(t).probabilities, labels=range(10)) for t in tried]
        assert report.cooled(best).nll <= min(surprise) + 1e-7
        assert abs(math.log(best) - math.log(tried[int(np.argmin(surprise))])) < 0.021


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), factor=st.floats(0.2, 5))
def test_a_known_temperature_is_found_again(seed: int, factor: float) -> None:
    report = random_report(300, seed, honest=True)
    louder = report_from(report.log_probabilities * factor, report.labels)
    assert louder.best_temperature() == pytest.approx(report.best_temperature() * factor, rel=1e-3)
    assert louder.cooled(factor).nll == pytest.approx(report.nll)


def test_the_best_temperature_of_honest_confidences_is_1() -> None:
    assert random_report(20_000, 0, honest=True).best_temperature() == pytest.approx(1, abs=0.03)


def test_cooling_what_boasts_brings_it_within_the_noise() -> None:
    val, test = (random_report(3000, seed, honest=True).cooled(0.5) for seed in (1, 2))
    before, after = test.calibration_error(draws=100), test.cooled(val.best_temperature()).calibration_error(draws=100)
    assert before.value > before.limit
    assert after.value < before.value / 3


# Ends of the range


def judged(report: Report) -> None:
    """Every number that there is can be had, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.calibration_error(draws=20)
        assert report.reliability()["count"].sum() == len(report.labels)
        assert report.coverage.error.iloc[-1] == pytest.approx(1 - report.accuracy)
        assert report.pairs["count"].sum() == len(report.mistakes)
        assert 0 < report.best_temperature() < math.inf
        assert math.isfinite(report.brier)
        assert math.isfinite(report.cooled(report.best_temperature()).nll)
        assert report.per_digit.support.sum() == len(report.labels)
        repr(report)


def test_a_perfect_report_is_judged_without_warnings() -> None:
    report = report_of(list(range(10)) * 3, list(range(10)) * 3, 0.9)
    judged(report)
    assert report.pairs.empty
    assert list(report.pairs.columns) == ["label", "prediction", "count", "rate"]
    assert (report.coverage.error == 0).all()
    assert report.calibration_error().value == pytest.approx(0.1)
    assert report.cooled(report.best_temperature()).nll < 1e-12  # surer would be better


def test_one_that_is_sure_beyond_double_precision_is_judged_without_warnings() -> None:
    scores = np.full((20, 10), -5000.0)
    scores[np.arange(20), np.arange(20) % 10] = 0
    judged(report_from(scores, np.arange(20) % 10))
    judged(report_from(scores, (np.arange(20) + np.arange(20) // 15) % 10))


def test_a_single_digit_and_a_missing_class_are_judged_without_warnings() -> None:
    for report in (report_of([3], [3]), report_of([3], [5]), report_of([1, 1, 7], [1, 7, 7])):
        judged(report)
    wrong = report_of([3], [5], 0.7)
    assert wrong.pairs.to_numpy().tolist() == [[3, 5, 1, 1.0]]
    assert wrong.coverage.to_numpy().tolist() == [[1.0, 1.0, pytest.approx(0.7)]]
    assert wrong.calibration_error().value == pytest.approx(0.7)


def test_judging_changes_nothing_in_the_report(report: Report) -> None:
    before = copy.deepcopy((report.log_probabilities, report.labels, report.digits.images))
    judged(report)
    report.cooled(2)
    report.take([0, 1])
    np.testing.assert_array_equal(report.log_probabilities, before[0])
    np.testing.assert_array_equal(report.labels, before[1])
    assert torch.equal(report.digits.images, before[2])
