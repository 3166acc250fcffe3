"""Why one answer and not another: sums by a loop, channels silenced by hand, neighbours by brute force."""

from collections.abc import Callable
from copy import deepcopy
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import facts, unsettle

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.causes import Silenced, contrast, nearest, silenced
from mnistviz.look.trace import Trace

LAYERS = ["relu1", "relu2", "relu3"]  # of compact


def record(model: nn.Module, x: Tensor, layers: list[str] | None = None) -> Trace:
    with mv.capture(model, layers) as trace, torch.no_grad():
        model(x)
    return trace


@torch.no_grad()
def by_hand(model: nn.Sequential, x: Tensor, edit: Callable[[str, Tensor], Tensor] = lambda name, t: t) -> Tensor:
    """Module by module, no hooks; `edit` may change what comes out of each."""
    for name, layer in model.named_children():
        x = edit(name, layer(x))
    return x


def hushed(layer: str, channel: int) -> Callable[[str, Tensor], Tensor]:
    def edit(name: str, out: Tensor) -> Tensor:
        if name == layer:
            out = out.clone()
            out[:, channel] = 0
        return out

    return edit


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Sequential]:
    """The shipped ones, and `sprint` as it begins."""
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, build in mv.models.MODELS.items():
            found[name] = build().eval() if name == "sprint" else mv.load_model(name)
    return found


@pytest.fixture(scope="module")
def compact(models: dict[str, nn.Sequential]) -> nn.Sequential:
    return models["compact"]


every_model = pytest.mark.parametrize("name", mv.models.MODELS)


# ── two scores ────────────────────────────────────────────────────────────────────────────────────────────


@every_model
def test_features_and_biases_sum_to_the_gap_of_every_pair(
    name: str, models: dict[str, nn.Sequential], mnist: DigitSet
) -> None:
    """Log-softmax takes the same from all scores, so `light` keeps its gaps."""
    model = models[name]
    for i in range(3):
        trace, scores = record(model, mnist.test[i].pixels), by_hand(model, mnist.test[i].pixels)[0].double()
        for one, other in product(range(10), repeat=2):
            found = contrast(trace, one, other)
            assert (found.one, found.other) == (one, other)
            assert found.total == pytest.approx(float(scores[one] - scores[other]), abs=1e-4)
            assert found.recorded == pytest.approx(float(scores[one] - scores[other]), abs=1e-4)
            assert found.total == pytest.approx(found.recorded, abs=1e-4)


@every_model
def test_each_feature_gives_weight_times_value(name: str, models: dict[str, nn.Sequential], mnist: DigitSet) -> None:
    model, x = models[name], mnist.test[4].pixels
    layer = [key for key, module in model.named_children() if isinstance(module, nn.Linear)][-1]
    last, inputs = deepcopy(model.get_submodule(layer)).requires_grad_(False), x
    for key, module in model.named_children():
        if key == layer:
            break
        inputs = module(inputs).detach()
    found = contrast(record(model, x), 9, 4)
    assert found.layer == layer
    assert len(found.features) == len(found.gaps) == last.in_features
    for i in range(last.in_features):
        value = float(inputs[0, i])
        assert float(found.features[i]) == pytest.approx(value, rel=1e-5, abs=1e-6)
        assert float(found.for_one[i]) == pytest.approx(float(last.weight[9, i]) * value, rel=1e-5, abs=1e-6)
        assert float(found.for_other[i]) == pytest.approx(float(last.weight[4, i]) * value, rel=1e-5, abs=1e-6)
    assert found.bias_gap == pytest.approx(float(last.bias[9]) - float(last.bias[4]), abs=1e-9)


@every_model
def test_the_other_way_round_every_sign_turns(name: str, models: dict[str, nn.Sequential], mnist: DigitSet) -> None:
    trace = record(models[name], mnist.test[2].pixels)
    for one, other in permutations((1, 4, 9), 2):
        there, back = contrast(trace, one, other), contrast(trace, other, one)
        assert torch.equal(there.gaps, -back.gaps)
        assert (there.bias_gap, there.recorded) == (-back.bias_gap, -back.recorded)
        assert there.total == pytest.approx(-back.total, abs=1e-12)


def test_an_answer_against_itself_has_no_gap(compact: nn.Sequential, mnist: DigitSet) -> None:
    found = contrast(record(compact, mnist.test[0].pixels), 7, 7)
    assert not found.gaps.any()
    assert (found.total, found.recorded) == (0, 0)


@every_model
def test_features_are_ranked_by_what_they_give(name: str, models: dict[str, nn.Sequential], mnist: DigitSet) -> None:
    found = contrast(record(models[name], mnist.test[1].pixels), 2, 3)
    gaps = found.gaps.tolist()
    assert found.ranked == sorted(range(len(gaps)), key=lambda i: -gaps[i])
    first, last = found.ranked[0], found.ranked[-1]
    assert f"for: {first} {gaps[first]:+.2f}," in repr(found)
    assert f"against: {last} {gaps[last]:+.2f}," in repr(found)
    assert repr(found).startswith(f"Contrast(2 over 3: {found.total:+.3f} from {len(gaps)} features of {found.layer};")


def test_a_layer_without_biases_has_no_gap_of_biases() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 2, 3, 4], [0, 1, 0, 1], [-1, 0, 5, 0]]))
    found = contrast(record(model, torch.tensor([[[[1.0, 0], [2, -1]]]])), 2, 0)
    assert found.gaps.tolist() == [-2, 0, 4, 4]
    assert (found.bias_gap, found.total, found.recorded) == (0, 6, 6)
    assert found.ranked == [2, 3, 1, 0]


def test_the_last_linear_layer_counts(compact: nn.Sequential, mnist: DigitSet) -> None:
    x = mnist.test[0].pixels
    assert contrast(record(compact, x), 1, 2).layer == "fc2"
    assert contrast(record(compact, x, ["fc2"]), 1, 2).total == contrast(record(compact, x), 1, 2).total


@pytest.mark.parametrize("pair", [(10, 0), (0, 10), (-1, 3), (3, -1)], ids=str)
def test_answers_that_do_not_exist_are_refused(pair: tuple[int, int], compact: nn.Sequential, mnist: DigitSet) -> None:
    with pytest.raises(mv.MnistvizError, match=r"no such answer[\s\S]*given: +(10|-1)\n.*0 to 9"):
        contrast(record(compact, mnist.test[0].pixels), *pair)


def test_a_contrast_needs_one_digit_and_a_linear_layer(compact: nn.Sequential, mnist: DigitSet) -> None:
    with pytest.raises(mv.MnistvizError, match="one digit"):
        contrast(record(compact, mnist.test[:2].pixels), 1, 2)
    with pytest.raises(mv.MnistvizError, match=r"no linear layer was recorded[\s\S]*conv1, relu1"):
        contrast(record(compact, mnist.test[0].pixels, ["conv1", "relu1"]), 1, 2)
    with pytest.raises(mv.MnistvizError, match="more than one row of features"):
        contrast(record(nn.Linear(5, 3), torch.ones(1, 4, 5)), 1, 2)


# ── channels in turn ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def mistakes(compact: nn.Sequential, mnist: DigitSet) -> list[tuple[Tensor, int, int, list[Silenced]]]:
    """Real ones: the digit, what it is, what the network says, and each channel silent in turn."""
    test = mnist.test[:3000]
    rows = [(int(m.row), int(m.label), int(m.prediction)) for m in mv.evaluate(compact, test).mistakes.itertuples()]
    assert len(rows) > 20
    chosen = rows[:2] + rows[-6:]
    return [
        (test[i].pixels, right, wrong, silenced(compact, test[i].pixels, right, LAYERS)) for i, right, wrong in chosen
    ]


def test_every_channel_of_the_named_layers_is_silent_once(mistakes: list) -> None:
    wanted = {("relu1", c) for c in range(10)} | {("relu2", c) for c in range(20)} | {("relu3", c) for c in range(50)}
    for *_, rows in mistakes:
        assert {(row.layer, row.channel) for row in rows} == wanted
        assert len(rows) == len(wanted)


def test_a_silent_channel_is_zero_in_a_pass_by_hand_and_in_ablate(compact: nn.Sequential, mistakes: list) -> None:
    for x, right, wrong, rows in mistakes:
        for row in rows:
            scores = by_hand(compact, x, hushed(row.layer, row.channel))[0].double()
            with mv.ablate(compact, row.layer, row.channel), torch.no_grad():
                again = compact(x)[0].double()
            assert row.answer == int(scores.argmax()) == int(again.argmax())
            assert row.gap == pytest.approx(float(scores[right] - scores[wrong]), abs=1e-5)
            assert row.gap == pytest.approx(float(again[right] - again[wrong]), abs=1e-12)


def test_what_helps_most_stands_first(mistakes: list) -> None:
    for *_, rows in mistakes:
        assert [row.gap for row in rows] == sorted((row.gap for row in rows), reverse=True)


def test_one_silent_channel_can_turn_a_mistake_into_the_right_answer(compact: nn.Sequential, mistakes: list) -> None:
    turned = 0
    for x, right, wrong, rows in mistakes:
        assert int(by_hand(compact, x).argmax()) == wrong != right
        for row in rows:
            if row.answer == right:
                turned += 1
                assert row.gap > 0
                assert int(by_hand(compact, x, hushed(row.layer, row.channel)).argmax()) == right
                assert f"answer {right}, gap +" in repr(row)
    assert turned >= 3


def test_a_right_answer_has_a_gap_of_zero(compact: nn.Sequential, mnist: DigitSet) -> None:
    x = mnist.test[0].pixels
    assert {row.gap for row in silenced(compact, x, int(compact(x).argmax()), ["relu2"])} == {0.0}


def test_silences_leave_the_model_as_it_was(mnist: DigitSet) -> None:
    model, x = unsettle(mv.load_model("pooled")), mnist.test[0].pixels
    before = facts(model)
    rows = silenced(model, x, 3, ["relu1", "relu4"])
    assert facts(model) == before
    assert rows == silenced(mv.load_model("pooled"), x, 3, ["relu1", "relu4"])


def test_silences_need_one_digit_and_known_layers(compact: nn.Sequential, mnist: DigitSet) -> None:
    before = facts(compact)
    with pytest.raises(mv.MnistvizError, match=r"one digit[\s\S]*2 inputs"):
        silenced(compact, mnist.test[:2].pixels, 3, ["relu2"])
    with pytest.raises(mv.MnistvizError, match=r"unknown layer[\s\S]*'relu9'[\s\S]*conv1[\s\S]*did you mean 'relu"):
        silenced(compact, mnist.test[0].pixels, 3, ["relu2", "relu9"])
    assert facts(compact) == before


def test_a_right_answer_that_does_not_exist_is_refused(compact: nn.Sequential, mnist: DigitSet) -> None:
    for right in (10, -1):
        with pytest.raises(mv.MnistvizError, match="no such answer"):
            silenced(compact, mnist.test[0].pixels, right, ["relu3"])


def test_a_layer_named_twice_is_silent_once(compact: nn.Sequential, mnist: DigitSet) -> None:
    assert len(silenced(compact, mnist.test[0].pixels, 3, ["relu2", "relu2"])) == 20


# ── neighbours ────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 6), st.integers(0, 999), st.data())
def test_neighbours_are_those_of_brute_force(mine: int, many: int, width: int, seed: int, data: st.DataObject) -> None:
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


def test_neighbours_of_real_features_are_in_order(compact: nn.Sequential, mnist: DigitSet) -> None:
    known = record(compact, mnist.train[:300].pixels)["relu3"].output
    rows, distances = nearest(known[:5], known)
    brute = np.linalg.norm(known[:5].double().numpy()[:, None] - known.double().numpy()[None], axis=2)
    assert rows[:, 0].tolist() == list(range(5))  # a digit is nearest to itself
    assert rows.tolist() == brute.argsort(1, kind="stable")[:, :8].tolist()
    np.testing.assert_allclose(distances, np.sort(brute, 1)[:, :8], atol=1e-5)


@pytest.mark.parametrize("count", [0, -1, 4])
def test_more_neighbours_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(mv.MnistvizError, match="1 to 3"):
        nearest(torch.ones(2, 5), torch.ones(3, 5), count)


@pytest.mark.parametrize("shapes", [((2, 5), (3, 4)), ((5,), (3, 5)), ((2, 5), (3, 5, 1))], ids=str)
def test_rows_must_be_of_the_same_length(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(mv.MnistvizError, match="rows of the same length"):
        nearest(*map(torch.ones, shapes), 1)
