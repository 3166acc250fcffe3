"""The numbers about a model equal those worked out by other means, and the model is left as it was."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.evaluate import Report, logits, measure


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
