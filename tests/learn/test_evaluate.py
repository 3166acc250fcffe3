"""The numbers about a model equal those worked out by other means, and the model is left as it was."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo
from helpers import refusals, wilson
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.attacks import FGSM, PGD, Attack, attacked
from mnistviz.learn.evaluate import Report, logits, measure


@pytest.fixture(scope="module")
def trained(few) -> nn.Sequential:
    """Right on most digits, wrong on some."""
    with zoo.seeded():
        model = mv.models.compact()
    recipe = mv.recipes.tuned("compact").but(epochs=4, batch=25, augment=None)
    mv.fit(model, few[:300], None, recipe, device="cpu", progress=False)
    return model


@pytest.fixture(scope="module")
def report(trained, few) -> Report:
    return mv.evaluate(trained, few)


def report_from(scores: np.ndarray, labels: np.ndarray, source: str = "made up") -> Report:
    """A report of these scores, which need not be normalised."""
    images = torch.zeros(len(labels), 28, 28, dtype=torch.uint8)
    logs = torch.from_numpy(np.asarray(scores, dtype=np.float64)).log_softmax(1).numpy()
    return Report(logs, labels, mv.Digits(images, torch.from_numpy(labels), source))


def report_of(labels: list[int], answers: list[int], share: float = 0.5) -> Report:
    """A report in which each answer has this probability and the other nine share the rest."""
    rows = np.full((len(labels), 10), (1 - share) / 9)
    rows[np.arange(len(labels)), answers] = share
    return report_from(np.log(rows), np.array(labels, dtype=np.int64))


def random_report(count: int, seed: int, spread: float = 2.0, *, honest: bool = False) -> Report:
    """Scores drawn at random; honest: each label is drawn with just the probabilities that are stated."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, spread, (count, 10))
    labels = random.integers(0, 10, count)
    if honest:
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        labels = (p.cumsum(1) < random.random((count, 1))).sum(1).clip(max=9)
    return report_from(scores, labels)


sizes, seeds, spreads = st.integers(1, 60), st.integers(0, 10_000), st.floats(0.1, 8)
random_reports = st.builds(random_report, sizes, seeds, spreads, honest=st.booleans())
outcomes = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=80)
sometimes = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("name", ["deep", "light"])
def test_predictions_are_the_softmax_of_the_plain_forward(name, few):
    model = mv.models.build(name)  # "light" puts out log-probabilities, which the softmax leaves as they are
    probabilities = mv.predict(model, few[:40])
    with torch.no_grad():
        x = few.images[:40].reshape(40, 1, 28, 28).float() / 255
        for layer in model.eval():
            x = layer(x)
        expected = (x.exp() / x.exp().sum(1, keepdim=True)).numpy()
    assert probabilities.shape == (40, 10)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        mv.predict(nn.Sequential(model, nn.Softmax(1)), few[:40]), expected, rtol=1e-4, atol=1e-6
    )


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 70), order=st.permutations(range(20)))
def test_neither_batch_size_nor_order_changes_an_answer(batch, order, trained, few):
    expected = logits(trained, few[:60])
    torch.testing.assert_close(logits(trained, few[:60], batch), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(trained, few[:20][order]), expected[order], rtol=1e-4, atol=1e-4)


def test_it_judges_in_evaluation_mode_and_leaves_the_model_as_it_was(few):
    model, some = mv.models.deep(), few[:10]
    expected = [logits(model.eval(), some), mv.evaluate(model, some, attack=FGSM).log_probabilities]
    zoo.unsettle(model.train())  # mixed modes, and a gradient on every second parameter
    before = zoo.facts(model)
    scores = logits(model, some)
    assert not scores.requires_grad
    assert torch.equal(scores, expected[0])
    np.testing.assert_array_equal(mv.evaluate(model, some, attack=FGSM).log_probabilities, expected[1])
    assert zoo.facts(model) == before


def test_measure_and_nll_are_the_cross_entropy(trained, report, few):
    with torch.no_grad():
        scores = trained.eval()(few.pixels)
    expected = pytest.approx(float(F.cross_entropy(scores.double(), few.labels)), rel=1e-5)
    assert measure(trained, few) == (expected, int((scores.argmax(1) == few.labels).sum()) / 600)
    assert report.nll == expected


def test_nll_stays_finite_where_a_probability_underflows(few):
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([2000.0] + [0.0] * 9).repeat(len(x), 1)

    report = mv.evaluate(Sure(), few)
    assert report.nll == pytest.approx(2000 * float((few.labels != 0).double().mean()), rel=1e-6)


def test_a_report_agrees_with_scikit_learn(report, trained, few):
    truth, answers = few.labels.numpy(), mv.predict(trained, few).argmax(1)
    assert 0 < report.correct < 600
    assert report.accuracy == metrics.accuracy_score(truth, answers)
    np.testing.assert_array_equal(report.predictions, answers)
    expected = np.transpose(metrics.precision_recall_fscore_support(truth, answers))
    np.testing.assert_allclose(report.per_digit[["precision", "recall", "f1", "support"]], expected)
    briers = [metrics.brier_score_loss(truth == digit, report.probabilities[:, digit]) for digit in range(10)]
    assert report.brier == pytest.approx(sum(briers), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(outcomes)
def test_counting_by_hand_gives_confusion_pairs_and_interval(outcome):
    report, n = report_of(*map(list, zip(*outcome, strict=True))), len(outcome)
    expected = [[outcome.count((true, answer)) for answer in range(10)] for true in range(10)]
    assert report.confusion.tolist() == expected
    assert report.correct == sum(a == b for a, b in outcome) == round(report.accuracy * n)
    np.testing.assert_allclose(report.confusion_rates, [[k / max(1, sum(row)) for k in row] for row in expected])
    wrong = sorted({(a, b) for a, b in outcome if a != b}, key=lambda pair: (-outcome.count(pair), pair))
    rows = [[a, b, expected[a][b], expected[a][b] / sum(expected[a])] for a, b in wrong]
    assert report.pairs.to_numpy().tolist() == rows  # the most frequent first
    assert report.interval == pytest.approx(wilson(report.correct, n), abs=1e-12)


def test_mistakes_are_all_the_wrong_answers_the_surest_first(report):
    table = report.mistakes
    assert sorted(table.row) == [i for i in range(600) if report.predictions[i] != report.labels[i]]
    assert table.confidence.is_monotonic_decreasing
    for row in table.itertuples():
        assert row.label == report.labels[row.row] == report.digits.labels[row.row]
        assert row.prediction == report.predictions[row.row]
        assert row.confidence == report.probabilities[row.row].max()
        assert row.given_to_label == report.probabilities[row.row, row.label]


@sometimes
@given(report=random_reports, bins=st.integers(1, 40))
def test_reliability_and_the_calibration_error_are_counted_step_by_step(report, bins):
    steps: dict[int, list[int]] = {}
    for i, p in enumerate(report.confidence):
        for k in range(bins):
            if k / bins <= p < (k + 1) / bins or (k == bins - 1 and p >= 1):
                steps.setdefault(k, []).append(i)
    table, gap = report.reliability(bins), 0.0
    assert len(table) == len(steps)
    for row, k in zip(table.to_dict("records"), sorted(steps), strict=True):
        n, right = len(steps[k]), sum(int(report.predictions[i] == report.labels[i]) for i in steps[k])
        confidence = sum(report.confidence[i] for i in steps[k]) / n
        expected = (k / bins, (k + 1) / bins, n, confidence, right / n, *wilson(right, n))
        assert tuple(row.values()) == pytest.approx(expected, abs=1e-12)
        gap += abs(right - confidence * n) / len(report.labels)
    assert list(table.columns) == ["from", "to", "count", "confidence", "accuracy", "low", "high"]
    error = report.calibration_error(bins, draws=3)
    assert error.value == pytest.approx(gap, abs=1e-12)
    assert 0 <= error.by_chance <= error.limit <= 1 + 1e-9


def test_an_answer_on_an_edge_belongs_to_the_step_above_and_certainty_to_the_last():
    sure = np.full((1, 10), -1e4)
    sure[:, 3] = 0
    table = report_from(sure, np.array([3])).reliability(10)
    assert table[["from", "to", "count", "accuracy"]].to_numpy().tolist() == [[0.9, 1.0, 1, 1.0]]
    half = np.log(np.array([[0.5, 0.25, 0.25] + [1e-300] * 7]))
    assert report_from(half, np.array([0])).reliability(4)["from"].tolist() == [0.5]


def test_honest_confidences_stay_within_the_limit_95_times_of_100():
    reports = [random_report(300, seed, honest=True) for seed in range(100)]
    errors = [report.calibration_error(draws=100, seed=seed) for seed, report in enumerate(reports)]
    assert 91 < sum(error.value <= error.limit for error in errors) <= 98
    assert 40 < sum(error.value <= error.by_chance for error in errors) < 60
    assert "within the noise" in repr(next(error for error in errors if error.value <= error.limit))
    again, other = (reports[0].calibration_error(draws=100, seed=seed) for seed in (0, 1))
    assert again == errors[0]
    assert other.limit != again.limit
    many = random_report(10_000, 0, honest=True)
    assert many.calibration_error(draws=50).limit < again.limit / 4  # chance gives less with more digits


@sometimes
@given(random_reports)
def test_coverage_gives_the_surest_first(report):
    table, n = report.coverage, len(report.labels)
    assert table.coverage.tolist() == pytest.approx([(i + 1) / n for i in range(n)])
    order = sorted(range(n), key=lambda i: -report.confidence[i])  # stable
    assert table.threshold.tolist() == [report.confidence[i] for i in order]
    wrong = np.cumsum([report.predictions[i] != report.labels[i] for i in order])
    assert table.error.tolist() == pytest.approx([wrong[i] / (i + 1) for i in range(n)])


@sometimes
@given(report=random_reports, data=st.data())
def test_take_keeps_those_rows_in_that_order(report, data):
    rows = data.draw(st.lists(st.integers(0, len(report.labels) - 1), min_size=1, max_size=20))
    for chosen in (rows, np.array(rows)):
        part = report.take(chosen)
        np.testing.assert_array_equal(part.log_probabilities, report.log_probabilities[rows])
        assert part.digits.known_labels().tolist() == part.labels.tolist() == report.labels[rows].tolist()
        assert part.digits.source == report.digits.source


def test_mistakes_are_taken_with_their_pictures_and_without_a_warning(report, few):
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            part = report.take(report.mistakes.row)
    finally:
        torch.set_warn_always(False)
    assert torch.equal(part.digits.images, few.images[report.mistakes.row.tolist()])
    assert report.take(report.predictions == report.labels).correct == report.correct
    assert part.mistakes.row.tolist() == list(range(600 - report.correct))  # they were in order of confidence


@sometimes
@given(report=random_reports, temperature=st.floats(0.02, 50))
def test_a_temperature_divides_the_scores_and_changes_no_answer(report, temperature):
    cooled = report.cooled(temperature)
    np.testing.assert_array_equal(cooled.predictions, report.predictions)
    p = report.probabilities ** (1 / temperature)
    np.testing.assert_allclose(cooled.probabilities, p / p.sum(1, keepdims=True), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("honest", [True, False])
def test_the_best_temperature_is_that_of_a_search_through_many(honest):
    report = random_report(200, 0, honest=honest)
    best, tried = report.best_temperature(), np.exp(np.linspace(-4, 4, 161))
    surprise = [metrics.log_loss(report.labels, report.cooled(t).probabilities, labels=range(10)) for t in tried]
    assert report.cooled(best).nll <= min(surprise) + 1e-7
    assert abs(math.log(best) - math.log(tried[int(np.argmin(surprise))])) < 0.051


def test_honest_confidences_need_no_cooling_and_cooling_one_that_boasts_helps():
    assert random_report(20_000, 0, honest=True).best_temperature() == pytest.approx(1, abs=0.03)
    val, test = (random_report(3000, seed, honest=True).cooled(0.5) for seed in (1, 2))
    before, after = test.calibration_error(draws=100), test.cooled(val.best_temperature()).calibration_error(draws=100)
    assert before.value > 2 * before.limit
    assert after.value < before.value / 3
    assert "above the noise" in repr(before)
    for number in (before.value, before.by_chance, before.limit):
        assert f"{number:.2%}" in repr(before)


def certain(labels: np.ndarray, answers: np.ndarray) -> Report:
    """Sure beyond double precision: all other probabilities underflow to 0."""
    scores = np.full((len(labels), 10), -5000.0)
    scores[np.arange(len(labels)), answers] = 0
    return report_from(scores, labels)


DIGITS = np.arange(20) % 10
EXTREME = {
    "perfect": report_of([*range(10)], [*range(10)], 0.9),
    "certain": certain(DIGITS, DIGITS),
    "certain and sometimes wrong": certain((DIGITS + np.arange(20) // 15) % 10, DIGITS),
    "a single digit, wrong": report_of([3], [5], 0.7),
    "digits that never occur": report_of([1, 1, 7], [1, 7, 7]),
}


@pytest.mark.parametrize("name", EXTREME)
def test_every_number_can_be_had_without_a_warning(name):
    report = EXTREME[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.calibration_error(draws=20)
        assert report.reliability()["count"].sum() == report.per_digit.support.sum() == len(report.labels)
        assert report.coverage.error.iloc[-1] == pytest.approx(1 - report.accuracy)
        assert report.pairs["count"].sum() == len(report.mistakes) == len(report.labels) - report.correct
        assert 0 < report.best_temperature() < math.inf
        assert math.isfinite(report.brier)
        assert math.isfinite(report.cooled(report.best_temperature()).nll)
        assert f"{report.accuracy:.2%} of {len(report.labels)} right" in repr(report)


def test_the_numbers_of_extreme_reports():
    perfect, wrong = EXTREME["perfect"], EXTREME["a single digit, wrong"]
    assert (perfect.accuracy, perfect.interval[1], len(perfect.mistakes), len(perfect.pairs)) == (1, 1, 0, 0)
    assert list(perfect.mistakes.columns) == ["row", "label", "prediction", "confidence", "given_to_label"]
    assert list(perfect.pairs.columns) == ["label", "prediction", "count", "rate"]
    numbers = "100.00% of 10 right, 0 wrong; 95 % interval 72.25% to 100.00%; nll 0.1054"  # −log 0.9
    assert repr(perfect) == f"Report({numbers}; made up)"
    assert perfect.calibration_error().value == pytest.approx(0.1)
    assert perfect.cooled(perfect.best_temperature()).nll < 1e-12  # surer would be better
    assert wrong.pairs.to_numpy().tolist() == [[3, 5, 1, 1.0]]
    assert wrong.coverage.to_numpy().tolist() == [[1.0, 1.0, pytest.approx(0.7)]]
    assert EXTREME["digits that never occur"].per_digit.loc[9, ["precision", "recall", "f1"]].isna().all()
    assert report_of([3, 4], [3, 4], 0.1).brier == pytest.approx(0.9)  # knows nothing
    assert (EXTREME["certain"].brier, certain(DIGITS, (DIGITS + 1) % 10).brier) == (0, 2)


def test_a_report_under_attack_is_of_the_attacked_pictures(trained, few):
    some, attack = few[:40], Attack(0.05, steps=2, random_start=True)
    report, pictures = mv.evaluate(trained, some, attack=attack, seed=4), attacked(trained, some, attack, seed=4)
    with torch.no_grad():
        expected = trained(pictures).log_softmax(1)
    np.testing.assert_allclose(report.log_probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(report.labels, some.known_labels())


def test_the_shipped_robust_network_resists(reference, mnist):
    some = mnist.test[:2000]
    assert mv.evaluate(reference["simple_robust"], some).accuracy > 0.975
    assert mv.evaluate(reference["simple_robust"], some[:100], attack=PGD).accuracy > 0.85


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_is_judged_under_attack(trained, few):
    expected = mv.evaluate(trained, few, attack=FGSM).accuracy
    on_gpu = copy.deepcopy(trained).cuda()
    for digits in (few, few.to("cuda")):
        assert mv.evaluate(on_gpu, digits, attack=FGSM).accuracy == pytest.approx(expected, abs=0.05)


SIX, MODEL = report_of([*range(6)], [*range(6)]), nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
UNKNOWN = mv.Digits(SIX.digits.images, None, "Kaggle test.csv")
BAD = {
    "nothing to predict": (lambda: mv.predict(MODEL, SIX.digits[:0]), "no digits"),
    "nothing to judge": (lambda: mv.evaluate(MODEL, SIX.digits[:0]), "no digits"),
    "no labels": (lambda: mv.evaluate(MODEL, UNKNOWN), "no labels", "Kaggle test.csv"),
    "half a step": (lambda: SIX.reliability(2.5), "steps of confidence", "given:   2.5", "1 or more"),
    "no steps of an error": (lambda: SIX.calibration_error(-1), "steps of confidence"),
    "no draws": (lambda: SIX.calibration_error(draws=0), "draws", "1 or more"),
    "no rows": (lambda: SIX.take([]), "no digits to take"),
}
for shape in ((5, 10), (6, 9), (6,), (10, 6)):
    BAD[f"predictions {shape}"] = (lambda s=shape: Report(np.zeros(s), SIX.labels, SIX.digits), "do not match", "(6,)")
for number in (0, -1, 1e20, math.nan, math.inf, -math.inf):
    BAD[f"temperature {number}"] = (lambda t=number: SIX.cooled(t), "not a temperature", "0.001 to 1000")
test_bad_input_is_refused = refusals(BAD)
