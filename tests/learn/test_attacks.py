"""An attack stays within its bounds, follows the slope as worked out by hand, and leaves the model as it was."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
import zoo
from helpers import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.attacks import FGSM, PGD, Attack, attacked


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    with zoo.seeded():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()


@pytest.fixture(scope="module")
def curved() -> nn.Module:
    with zoo.seeded(1):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.ReLU(), nn.Linear(24, 10)).eval()


@pytest.fixture(scope="module")
def x(few) -> Tensor:
    return few.pixels[:12]


@pytest.fixture(scope="module")
def y(few) -> Tensor:
    return few.known_labels()[:12]


def slope(model: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """How the loss of scores Wx + b grows with each pixel: Wᵀ(p − truth), in double precision."""
    weight, bias = model[1].weight.detach().double(), model[1].bias.detach().double()
    p = (x.flatten(1).double() @ weight.T + bias).softmax(1)
    truth = torch.eye(10, dtype=torch.float64)[y] if y.ndim == 1 else y.double()
    return ((p - truth) @ weight).view_as(x)


def nearly_all_equal(a: Tensor, b: Tensor) -> bool:
    """But for 1 % of the pixels: where a slope is 0 except for rounding, its sign is not sure."""
    return float(((a - b).abs() > 1e-5).double().mean()) < 0.01


attacks = st.builds(Attack, st.floats(0, 1), st.integers(1, 6), st.none() | st.floats(1e-4, 3), st.booleans())


@settings(max_examples=50, deadline=None)
@given(attack=attacks, seed=st.integers(0, 99))
def test_no_pixel_changes_by_more_than_allowed_nor_leaves_0_to_1(attack, seed, curved, x, y):
    mine, seen = x.clone(), []
    hook = curved.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    result = attack(curved, mine, y, torch.Generator().manual_seed(seed))
    hook.remove()
    for pictures in (*seen, result):  # on the way too
        assert float((pictures - x).abs().max()) <= attack.epsilon + 1e-6
        assert 0 <= float(pictures.min()) <= float(pictures.max()) <= 1
    assert (result.shape, result.dtype, result.requires_grad) == (x.shape, torch.float32, False)
    assert torch.equal(mine, x)  # the pictures given are left alone


@settings(max_examples=25, deadline=None)
@given(epsilon=st.floats(0, 0.5), steps=st.integers(1, 5), step=st.none() | st.floats(0.005, 0.3))
def test_an_attack_is_the_loop_written_by_hand_and_no_loss_falls(epsilon, steps, step, linear, x, y):
    size = step if step is not None else epsilon if steps == 1 else 2.5 * epsilon / steps
    expected = x.double()
    for _ in range(steps):
        expected = expected + size * slope(linear, expected, y).sign()
        expected = expected.clamp(x.double() - epsilon, x.double() + epsilon).clamp(0, 1)
    result = Attack(epsilon, steps=steps, step=step)(linear, x, y)
    assert nearly_all_equal(result, expected)
    double = copy.deepcopy(linear).double()
    before, after = (F.cross_entropy(double(pixels.double()), y, reduction="none") for pixels in (x, result))
    assert (after >= before - 1e-5).all()


def test_one_step_is_the_closed_form_for_ten_probabilities(linear, x, y):
    truth = F.one_hot(y, 10).float()
    assert nearly_all_equal(FGSM(linear, x, truth), FGSM(linear, x, y))
    mixed = 0.7 * truth + 0.3 * truth.flip(0)
    assert nearly_all_equal(FGSM(linear, x, mixed), (x + 0.3 * slope(linear, x, mixed).sign()).clamp(0, 1))


def test_the_generator_decides_where_it_starts_and_only_a_random_start_draws(curved, x, y):
    attack = Attack(0.2, steps=2, random_start=True)
    before = torch.get_rng_state()
    first, again, other = (attack(curved, x, y, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(5)
    Attack(0.2, steps=2)(curved, x, y, generator)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(5).get_state())


def test_a_random_start_is_spread_over_the_whole_range(linear):
    grey, label = torch.full((20, 1, 28, 28), 0.5), torch.zeros(20, dtype=torch.int64)
    moved = Attack(0.2, step=1e-9, random_start=True)(linear, grey, label, torch.Generator().manual_seed(0)) - 0.5
    assert abs(float(moved.mean())) < 0.005
    assert float(moved.std()) == pytest.approx(0.4 / 12**0.5, rel=0.02)
    assert (float(moved.min()), float(moved.max())) == pytest.approx((-0.2, 0.2), abs=0.001)


def test_it_works_whatever_the_caller_records(curved, x, y):
    attack = Attack(0.1, steps=3)
    expected = attack(curved, x, y)
    for mode in zoo.GRAD_MODES.values():
        with mode():
            result = attack(curved, x.clone(), y.clone())
        assert torch.equal(result, expected)
    result = attack(curved, x.clone().requires_grad_(), y)
    assert torch.equal(result, expected)
    assert not result.requires_grad
    frozen = copy.deepcopy(curved).requires_grad_(False)  # a model that learns nothing
    assert torch.equal(attack(frozen, x, y), expected)


@pytest.mark.parametrize("fails", [False, True])
def test_it_judges_in_evaluation_mode_and_leaves_the_model_as_it_was(fails, x, y):
    attack, model, calls = Attack(0.1, steps=3), mv.load_model("deep"), []

    def fail_in_the_second_step(*_: object) -> None:
        calls.append("forward")
        if len(calls) == 2:
            raise RuntimeError("broken")

    expected = attack(model.eval(), x, y)
    model.conv1.requires_grad_(False)
    zoo.unsettle(model.train())  # mixed modes, and a gradient on every second parameter
    if fails:
        model[-1].register_forward_hook(fail_in_the_second_step)
    before = zoo.facts(model)
    with pytest.raises(RuntimeError, match="broken") if fails else nullcontext():
        assert torch.equal(attack(model, x, y), expected)
    assert zoo.facts(model) == before


def test_digits_are_attacked_batch_by_batch_with_draws_from_one_seed(curved, few):
    some, attack = few[:40], Attack(0.1, steps=2)
    expected = attack(curved, some.pixels, some.known_labels())
    for batch in (1, 7, 128):
        assert nearly_all_equal(attacked(curved, some, attack, batch=batch), expected)
    attack = Attack(0.1, steps=2, random_start=True)
    first, again, other = (attacked(curved, some, attack, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    halves = attacked(curved, some[[0] * 20], attack, batch=10)
    assert not torch.equal(halves[:10], halves[10:])  # the second batch has draws of its own


def test_it_breaks_the_reference_and_random_changes_do_far_less(reference, mnist):
    model, some = reference["simple"], mnist.test.sample(200, seed=1)

    def share_right(pixels: Tensor) -> float:
        with torch.no_grad():
            answers = model(pixels).argmax(1)
        return float((answers == some.known_labels()[: len(pixels)]).double().mean())

    assert share_right(some.pixels) > 0.97
    assert share_right(attacked(model, some, FGSM)) < 0.4
    assert Attack(0.3, steps=40, step=0.01, random_start=True) == PGD
    assert share_right(attacked(model, some[:40], PGD)) < 0.05
    sign = torch.randint(0, 2, (200, 1, 28, 28), generator=torch.Generator().manual_seed(0)) * 2 - 1
    by_chance = (some.pixels + 0.1 * sign).clamp(0, 1)
    assert share_right(by_chance) > share_right(attacked(model, some, Attack(0.1))) + 0.02


BLACK = mv.Digits(torch.zeros(3, 28, 28, dtype=torch.uint8), None, "unknown")
NONE = mv.Digits(BLACK.images[:0], torch.zeros(0, dtype=torch.int64), "nowhere")
NAN, INF = float("nan"), float("inf")
BAD = {
    "epsilon below 0": (lambda: Attack(-0.1), "'epsilon'", "-0.1", "0 to 1"),
    "epsilon above 1": (lambda: Attack(1.1), "'epsilon'"),
    "epsilon no number": (lambda: Attack(NAN), "'epsilon'"),
    "no steps": (lambda: Attack(0.1, steps=0), "'steps'", "1 or more"),
    "half a step": (lambda: Attack(0.1, steps=1.5), "'steps'", "whole number"),
    "a step of 0": (lambda: Attack(0.1, step=0), "'step'", "more than 0"),
    "a step that is no number": (lambda: Attack(0.1, step=NAN), "'step'"),
    "an endless step": (lambda: Attack(0.1, step=INF), "'step'"),
    "no digits": (lambda: attacked(nn.Flatten(), NONE, FGSM), "no digits to attack"),
    "no labels": (lambda: attacked(nn.Flatten(), BLACK, FGSM), "no labels", "unknown"),
}
test_bad_input_is_refused = refusals(BAD)
