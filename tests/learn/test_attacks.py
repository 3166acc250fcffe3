"""An attack stays within its bounds, follows the slope as worked out by hand, and leaves the model as it was."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.attacks import FGSM, PGD, Attack
from mnistviz.learn.data import DigitSet


@pytest.fixture(scope="module")
def linear() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()


@pytest.fixture(scope="module")
def curved() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.ReLU(), nn.Linear(24, 10)).eval()


@pytest.fixture(scope="module")
def shipped() -> nn.Sequential:
    return mv.load_model("deep")


@pytest.fixture(scope="module")
def x(few: mv.Digits) -> Tensor:
    return few.pixels[:12]


@pytest.fixture(scope="module")
def y(few: mv.Digits) -> Tensor:
    return few.known_labels()[:12]


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One loss for each picture, in double precision."""
    with torch.no_grad():
        return F.cross_entropy(copy.deepcopy(model).double()(x.double()), y, reduction="none")


def slope(model: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """How the loss of scores Wx + b grows with each pixel: Wᵀ(p − truth), in double precision."""
    weight, bias = model[1].weight.detach().double(), model[1].bias.detach().double()
    p = (x.flatten(1).double() @ weight.T + bias).softmax(1)
    truth = torch.eye(10, dtype=torch.float64)[y] if y.ndim == 1 else y.double()
    return ((p - truth) @ weight).view_as(x)


class Fails(nn.Module):
    """Fails in the second step of an attack."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("broken")
        return x


def a_look_inside(model: nn.Module) -> dict:
    """All that an attack must not touch."""
    return {
        "modes": {name: module.training for name, module in model.named_modules()},
        "learns": {name: p.requires_grad for name, p in model.named_parameters()},
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "slopes": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
    }


def same(a: dict, b: dict) -> bool:
    def equal(one: Tensor | None, other: Tensor | None) -> bool:
        return one is other is None or (one is not None and other is not None and torch.equal(one, other))

    return (
        a["modes"] == b["modes"]
        and a["learns"] == b["learns"]
        and all(a[part].keys() == b[part].keys() for part in ("state", "slopes"))
        and all(equal(a[part][k], b[part][k]) for part in ("state", "slopes") for k in a[part])
    )


# Bounds and the way taken

attacks = st.builds(
    Attack,
    epsilon=st.floats(0, 1),
    steps=st.integers(1, 6),
    step=st.none() | st.floats(1e-4, 3),
    random_start=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(attack=attacks, seed=st.integers(0, 99))
def test_no_pixel_changes_by_more_than_allowed_nor_leaves_0_to_1(
    attack: Attack, seed: int, curved: nn.Module, x: Tensor, y: Tensor
) -> None:
    found = attack(curved, x, y, torch.Generator().manual_seed(seed))
    assert found.shape == x.shape
    assert found.dtype == torch.float32
    assert float((found - x).abs().max()) <= attack.epsilon + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert not found.requires_grad


@settings(max_examples=20, deadline=None)
@given(epsilon=st.floats(0, 1))
def test_one_step_is_the_closed_form(epsilon: float, linear: nn.Sequential, x: Tensor, y: Tensor) -> None:
    steep = slope(linear, x, y)
    expected = (x + epsilon * steep.sign()).clamp(0, 1)
    sure = steep.abs() > 1e-6
    assert sure.double().mean() > 0.99
    assert torch.allclose(Attack(epsilon)(linear, x, y)[sure].double(), expected[sure], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(epsilon=st.floats(0.01, 0.5), steps=st.integers(1, 5), step=st.none() | st.floats(0.005, 0.3))
def test_many_steps_are_the_loop_written_by_hand(
    epsilon: float, steps: int, step: float | None, linear: nn.Sequential, x: Tensor, y: Tensor
) -> None:
    size = step if step is not None else epsilon if steps == 1 else 2.5 * epsilon / steps
    expected = x.double()
    for _ in range(steps):
        expected = expected + size * slope(linear, expected, y).sign()
        expected = expected.clamp(x.double() - epsilon, x.double() + epsilon).clamp(0, 1)
    found = Attack(epsilon, steps=steps, step=step)(linear, x, y)
    assert float(((found - expected).abs() > 1e-5).double().mean()) < 0.01  # a slope next to 0 may have either sign


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_nothing_allowed_is_nothing_changed(
    steps: int, random_start: bool, curved: nn.Module, x: Tensor, y: Tensor
) -> None:
    for step in (None, 0.1):
        assert torch.equal(Attack(0, steps=steps, step=step, random_start=random_start)(curved, x, y), x)


@settings(max_examples=25, deadline=None)
@given(epsilon=st.floats(0, 1), steps=st.integers(1, 6), step=st.none() | st.floats(1e-3, 1))
def test_the_loss_of_a_linear_model_falls_for_no_picture(
    epsilon: float, steps: int, step: float | None, linear: nn.Module, x: Tensor, y: Tensor
) -> None:
    found = Attack(epsilon, steps=steps, step=step)(linear, x, y)
    assert (losses(linear, found, y) >= losses(linear, x, y) - 1e-5).all()


def test_each_picture_is_attacked_for_itself(curved: nn.Module, x: Tensor, y: Tensor) -> None:
    attack = Attack(0.1, steps=3)
    alone = torch.cat([attack(curved, x[i : i + 1], y[i : i + 1]) for i in range(12)])
    assert float((attack(curved, x, y) - alone).abs().max(1).values.gt(1e-5).double().mean()) < 0.01


def test_steps_are_of_the_size_named_and_every_picture_on_the_way_is_one(curved: nn.Module, y: Tensor) -> None:
    """Seen by the model itself: from 0.5 on, 2.5 · 0.2 / 5 a step; and no start beyond black or white."""
    seen: list[Tensor] = []
    hook = curved.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    try:
        Attack(0.2, steps=5)(curved, torch.full((12, 1, 28, 28), 0.5), y)
        assert len(seen) == 5
        assert torch.allclose((seen[1] - seen[0]).abs(), torch.tensor(0.1), atol=1e-6)
        seen.clear()
        Attack(0.2, steps=2, random_start=True)(curved, torch.zeros(12, 1, 28, 28), y)
        assert all(0 <= float(picture.min()) <= float(picture.max()) <= 1 for picture in seen)
    finally:
        hook.remove()


def test_the_named_attacks_are_what_their_names_say() -> None:
    assert (FGSM.epsilon, FGSM.steps, FGSM.step, FGSM.random_start) == (0.3, 1, None, False)
    assert (PGD.epsilon, PGD.steps, PGD.step, PGD.random_start) == (0.3, 40, 0.01, True)


# Labels, draws, and what the caller has switched on


def test_ten_probabilities_serve_as_a_label(linear: nn.Sequential, x: Tensor, y: Tensor) -> None:
    off = FGSM(linear, x, F.one_hot(y, 10).float()) != FGSM(linear, x, y)
    assert off.double().mean() < 0.01  # a slope next to 0 may have either sign
    mixed = 0.7 * F.one_hot(y, 10).float() + 0.3 * F.one_hot(y.flip(0), 10)
    steep = slope(linear, x, mixed)
    sure = steep.abs() > 1e-6
    assert torch.allclose(FGSM(linear, x, mixed)[sure].double(), (x + 0.3 * steep.sign()).clamp(0, 1)[sure], atol=1e-6)


def test_labels_after_mixup_work(curved: nn.Module, x: Tensor, y: Tensor) -> None:
    mixed, labels = mv.Augment(mixup=1.0)(x, y, torch.Generator().manual_seed(0))
    found = Attack(0.1, steps=3)(curved, mixed, labels)
    assert losses(curved, found, labels.double()).mean() > losses(curved, mixed, labels.double()).mean()


def test_the_seed_decides_where_it_starts(curved: nn.Module, x: Tensor, y: Tensor) -> None:
    attack = Attack(0.2, steps=2, random_start=True)
    before = torch.get_rng_state()
    one, again, other = (attack(curved, x, y, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_random_start_nothing_is_drawn(curved: nn.Module, x: Tensor, y: Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    Attack(0.2, steps=2)(curved, x, y, generator)
    assert torch.equal(generator.get_state(), before)


def test_a_random_start_is_spread_over_the_whole_range(linear: nn.Module) -> None:
    grey, label = torch.full((20, 1, 28, 28), 0.5), torch.zeros(20, dtype=torch.int64)
    moved = Attack(0.2, step=1e-9, random_start=True)(linear, grey, label, torch.Generator().manual_seed(0)) - 0.5
    assert abs(float(moved.mean())) < 0.005
    assert float(moved.std()) == pytest.approx(0.4 / 12**0.5, rel=0.02)
    assert float(moved.max()) == pytest.approx(0.2, abs=0.001)
    assert float(moved.min()) == pytest.approx(-0.2, abs=0.001)


def test_it_works_where_the_caller_records_no_gradients(curved: nn.Module, x: Tensor, y: Tensor) -> None:
    expected = Attack(0.1, steps=3)(curved, x, y)
    with torch.no_grad():
        found = Attack(0.1, steps=3)(curved, x, y)
        assert not torch.is_grad_enabled()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["numbers", "probabilities"])
def test_under_inference_mode_it_works_or_says_why_not(kind: str, curved: nn.Module, x: Tensor, y: Tensor) -> None:
    attack = Attack(0.1, steps=3)
    expected = attack(curved, x, y)
    with torch.inference_mode():
        made_here = x.clone(), y.clone() if kind == "numbers" else F.one_hot(y, 10).float()
        try:
            found = attack(curved, *made_here)
        except mv.MnistvizError:
            return
    assert torch.equal(found, expected)


def test_pictures_that_record_gradients_give_pictures_that_do_not(curved: nn.Module, x: Tensor, y: Tensor) -> None:
    found = Attack(0.1, steps=3)(curved, x.clone().requires_grad_(), y)
    assert torch.equal(found, Attack(0.1, steps=3)(curved, x, y))
    assert not found.requires_grad


@pytest.mark.parametrize("attack", [Attack(0.2), Attack(0.2, steps=3, random_start=True)])
def test_the_pictures_given_are_left_alone(attack: Attack, curved: nn.Module, x: Tensor, y: Tensor) -> None:
    mine = x.clone()
    found = attack(curved, mine, y)
    assert torch.equal(mine, x)
    assert not mine.requires_grad
    assert mine.grad is None
    assert found.data_ptr() != mine.data_ptr()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_the_model_is_left_as_it_was(fails: bool, recorded: bool, x: Tensor, y: Tensor) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mv.models.deep().train()
    if fails:
        model.add_module("bad", Fails())
    model.bn2.eval()
    model.drop1.eval()
    model.conv1.requires_grad_(False)
    if recorded:
        for p in model.parameters():
            p.grad = torch.ones_like(p) if p.requires_grad else None
    before = a_look_inside(model)
    with pytest.raises(RuntimeError, match="broken") if fails else nullcontext():
        Attack(0.1, steps=3, random_start=True)(model, x, y)
    assert len(set(before["modes"].values())) == 2
    assert same(a_look_inside(model), before)


def test_it_attacks_the_model_in_evaluation_mode(x: Tensor, y: Tensor) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mv.models.deep()
    attack = Attack(0.1, steps=2)
    assert torch.equal(attack(model.train(), x, y), attack(model.eval(), x, y))


def test_a_model_that_learns_nothing_can_be_attacked(curved: nn.Module, x: Tensor, y: Tensor) -> None:
    frozen = copy.deepcopy(curved).requires_grad_(False)
    assert torch.equal(FGSM(frozen, x, y), FGSM(curved, x, y))


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", -0.1),
        ("epsilon", 1.1),
        ("epsilon", float("nan")),
        ("epsilon", float("inf")),
        ("steps", 0),
        ("steps", -1),
        ("step", 0),
        ("step", -0.1),
        ("step", float("nan")),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(mv.MnistvizError, match=f"'{name}'"):
        Attack(**{"epsilon": 0.1, name: value})


def test_an_endless_step_is_refused() -> None:
    with pytest.raises(mv.MnistvizError, match="'step'"):
        Attack(0.1, step=float("inf"))


def test_steps_that_are_not_whole_are_refused() -> None:
    with pytest.raises(mv.MnistvizError, match="'steps'"):
        Attack(0.1, steps=1.5)  # type: ignore[arg-type]


# What it does to the reference


def share_right(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


def test_one_step_breaks_the_reference(shipped: nn.Module, mnist: DigitSet) -> None:
    some = mnist.test.sample(200, seed=1)
    x, y = some.pixels, some.known_labels()
    assert share_right(shipped, x, y) > 0.97
    assert share_right(shipped, Attack(0.3)(shipped, x, y), y) < 0.4


def test_forty_steps_leave_nearly_nothing_of_it(shipped: nn.Module, mnist: DigitSet) -> None:
    some = mnist.test.sample(60, seed=1)
    x, y = some.pixels, some.known_labels()
    found = Attack(0.3, steps=40, step=0.01)(shipped, x, y)
    assert share_right(shipped, found, y) < 0.05
    assert float((found - x).abs().max()) <= 0.3 + 1e-6


def test_random_changes_of_that_size_do_far_less(shipped: nn.Module, mnist: DigitSet) -> None:
    some = mnist.test.sample(200, seed=1)
    x, y = some.pixels, some.known_labels()
    sign = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    chance, aimed = (x + 0.1 * sign).clamp(0, 1), Attack(0.1)(shipped, x, y)
    assert share_right(shipped, chance, y) > share_right(shipped, aimed, y) + 0.02
