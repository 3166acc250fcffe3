"""Why one answer and not another: sums by a loop, channels silenced by hand, neighbours by brute force."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import facts, layer_by_layer, record, silencing, unsettle

import mnistviz as mv
from mnistviz.look.causes import Silenced, contrast, explain, nearest, silenced

LAYERS = ["relu1", "relu2", "relu3"]  # of compact, with 10, 20 and 50 channels


def scores_of(model: nn.Module, x: Tensor, edit: Callable[[str, Tensor], Tensor] = lambda name, t: t) -> Tensor:
    """Module by module, no hooks; `edit` may change what comes out of each."""
    *_, scores = layer_by_layer(model, x, edit).values()
    return scores[0].double()


def test_each_feature_gives_weight_times_value_and_is_ranked_by_it(reference, passes, mnist):
    """They sum to the gap between the scores, also of `light`: log-softmax takes the same from all of them."""
    for name, trace in passes.items():
        model = reference[name]
        scores = scores_of(model, mnist.test[0].pixels)
        for one, other in ((9, 4), (0, 7), (3, 3)):
            result, gap = contrast(trace, one, other), float(scores[one] - scores[other])
            assert (result.one, result.other) == (one, other)
            assert (result.total, result.recorded) == pytest.approx((gap, gap), abs=1e-4)
        layer = [key for key, module in model.named_children() if isinstance(module, nn.Linear)][-1]
        before = [key for key, _ in model.named_children()]
        features = layer_by_layer(model, mnist.test[0].pixels)[before[before.index(layer) - 1]][0]
        result, last = contrast(trace, 9, 4), copy.deepcopy(model.get_submodule(layer)).requires_grad_(False)
        assert result.layer == layer
        for i in range(last.in_features):
            value, nine, four = float(features[i]), float(last.weight[9, i]), float(last.weight[4, i])
            numbers = (float(result.features[i]), float(result.for_one[i]), float(result.for_other[i]))
            assert numbers == pytest.approx((value, nine * value, four * value), rel=1e-5, abs=1e-6)
        assert result.bias_gap == pytest.approx(float(last.bias[9] - last.bias[4]), abs=1e-6)
        gaps = result.gaps.tolist()
        assert result.ranked == sorted(range(len(gaps)), key=lambda i: -gaps[i])


def test_a_contrast_worked_out_on_paper(golden):
    """The last of the linear layers counts, and it has no biases."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False))
    nn.init.eye_(model[1].weight)
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[1.0, 2, 3, 4], [0, 1, 0, 1], [-1, 0, 5, 0]]))
    result = contrast(record(model, torch.tensor([[[[1.0, 0], [2, -1]]]])), 2, 0)
    assert result.gaps.tolist() == [-2, 0, 4, 4]
    assert (result.layer, result.bias_gap, result.total, result.recorded) == ("2", 0, 6, 6)
    assert result.ranked == [2, 3, 1, 0]
    golden("a contrast", result)
    golden("a silence", Silenced("relu2", 3, 9, 0.25))


@pytest.fixture(scope="module")
def mistakes(compact, mnist) -> list[tuple[Tensor, int, int, list[Silenced]]]:
    """Real ones: the digit, what it is, what the network says, and each channel silent in turn."""
    test = mnist.test[:3000]
    rows = [(int(m.row), int(m.label), int(m.prediction)) for m in mv.evaluate(compact, test).mistakes.itertuples()]
    return [
        (test[i].pixels, right, wrong, silenced(compact, test[i].pixels, right, LAYERS))
        for i, right, wrong in rows[:1] + rows[-4:]
    ]


def test_each_channel_is_silent_once_as_in_a_pass_by_hand_and_what_helps_most_stands_first(compact, mistakes):
    wanted = [(layer, c) for layer, count in zip(LAYERS, (10, 20, 50), strict=True) for c in range(count)]
    turned = 0
    for x, right, wrong, rows in mistakes:
        assert int(scores_of(compact, x).argmax()) == wrong != right
        assert sorted((row.layer, row.channel) for row in rows) == wanted
        assert [row.gap for row in rows] == sorted((row.gap for row in rows), reverse=True)
        for row in rows:
            scores = scores_of(compact, x, silencing(row.layer, row.channel))
            assert row.answer == int(scores.argmax())
            assert row.gap == pytest.approx(float(scores[right] - scores[wrong]), abs=1e-5)
            turned += row.answer == right
    assert turned >= 3  # one silent channel can turn a mistake into the right answer


def test_silences_leave_the_model_as_it_was_and_a_layer_named_twice_is_silent_once(mnist):
    model, x = unsettle(mv.load_model("compact")), mnist.test[0].pixels
    before = facts(model)
    rows = silenced(model, x, 3, ["relu1", "relu1"])
    assert facts(model) == before
    assert rows == silenced(mv.load_model("compact"), x, 3, ["relu1"])
    assert {row.gap for row in silenced(model, x, 7, ["relu2"])} == {0.0}  # 7 is the answer already


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 6), st.integers(0, 999), st.data())
def test_neighbours_are_those_of_brute_force(mine, many, width, seed, data):
    """Small whole numbers, so that there are ties: any of them may stand for the others, none twice."""
    dice = np.random.default_rng(seed)
    a, b = dice.integers(-2, 3, (mine, width)).astype(float), dice.integers(-2, 3, (many, width)).astype(float)
    count = data.draw(st.integers(1, many))
    rows, distances = nearest(torch.from_numpy(a), torch.from_numpy(b), count)
    brute = np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))
    assert rows.shape == distances.shape == (mine, count)
    np.testing.assert_allclose(distances, np.sort(brute, axis=1)[:, :count], atol=1e-7)
    np.testing.assert_allclose(np.take_along_axis(brute, rows.numpy(), 1), distances, atol=1e-7)
    assert all(len(set(row)) == count for row in rows.tolist())


def test_an_explanation_is_its_parts_and_its_neighbours_those_of_a_loop_by_hand(compact, mistakes, few):
    x, right, wrong, rows = mistakes[0]
    model = unsettle(mv.load_model("compact"))
    before = facts(model)
    cause = explain(model, x, right, LAYERS, few.pixels, few.labels, count=5)
    assert facts(model) == before
    assert torch.equal(cause.pixels, x)
    assert cause.silenced == rows
    expected = contrast(record(compact, x), wrong, right)
    assert (cause.contrast.one, cause.contrast.other, cause.contrast.layer) == (wrong, right, expected.layer)
    assert torch.equal(cause.contrast.gaps, expected.gaps)
    assert cause.contrast.total == expected.total > 0  # the wrong score is the larger

    def features(pixels: Tensor) -> np.ndarray:
        return layer_by_layer(compact, pixels)["drop2"][0].double().numpy()

    mine = features(x)
    apart = [float(np.sqrt(((features(few[i].pixels) - mine) ** 2).sum())) for i in range(len(few))]
    nearest_rows = sorted(range(len(few)), key=apart.__getitem__)[:5]
    assert torch.equal(cause.neighbours, few.pixels[nearest_rows])
    assert cause.labels == few.labels[nearest_rows].tolist()
    assert cause.distances == pytest.approx([apart[i] for i in nearest_rows], rel=1e-4)


DIGIT, MODEL = torch.zeros(1, 1, 28, 28), mv.models.compact()


def answers(one: int, other: int) -> object:
    return contrast(record(MODEL, DIGIT), one, other)


def cause(right: int = 3, layer: str = "relu2", known: int = 9, n_labels: int = 9, n: int = 1) -> object:
    labels = torch.zeros(n_labels, dtype=torch.long)
    return explain(MODEL, torch.zeros(n, 1, 28, 28), right, [layer], torch.zeros(known, 1, 28, 28), labels)


ROWS = "rows of the same length"
BAD = {
    "a negative answer": (lambda: answers(3, -1), "no such answer", "-1", "0 to 9"),
    "a batch": (lambda: contrast(record(MODEL, DIGIT.repeat(2, 1, 1, 1)), 1, 2), "one digit"),
    "no linear layer": (lambda: contrast(record(MODEL, DIGIT, layers="conv*"), 1, 2), "no linear layer", "conv1"),
    "several rows": (lambda: contrast(record(nn.Linear(5, 3), torch.ones(1, 4, 5)), 1, 2), "no units", "4×3"),
    "too many": (lambda: nearest(torch.ones(2, 5), torch.ones(3, 5), 4), "how many neighbours", "1 to 3"),
    "rows of other lengths": (lambda: nearest(torch.ones(2, 5), torch.ones(3, 4), 1), ROWS),
    "a label too few": (lambda: cause(n_labels=8), "one label per known digit", "9 digits, 8 labels"),
    "two mistakes": (lambda: cause(n=2), "one digit"),
    "a right answer that is none": (lambda: cause(right=10), "no such answer", "0 to 9"),
    "a layer that is not there": (lambda: cause(layer="relu4"), "unknown layer", "'relu4'"),
    "not a model": (lambda: explain("deep", DIGIT, 3, ["relu2"], DIGIT, torch.zeros(1)), "not a model"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)
