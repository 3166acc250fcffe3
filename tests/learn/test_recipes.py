"""The recipes are the published ones, and what they make learns at the rates they state."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mnistviz as mv
from mnistviz.learn.augment import Augment
from mnistviz.learn.models import MODELS
from mnistviz.learn.recipes import OPTIMISERS, PUBLISHED, TUNED, Recipe, published, tuned

every_recipe = pytest.mark.parametrize("recipe", [*PUBLISHED.values(), *TUNED.values()], ids=lambda r: r.model)


def rates(recipe: Recipe, epochs: int, losses: list[float] | None = None) -> list[float]:
    """The learning rate of each epoch when the schedule is stepped after every one."""
    optimiser = recipe.make_optimiser(nn.Linear(2, 2))
    schedule = recipe.make_schedule(optimiser, 10)
    seen = []
    for epoch in range(epochs):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step(*([losses[epoch]] if losses else []))
    return seen


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("simple", {"epochs": 8, "augment": None, "label_smoothing": 0.0, "schedule": "constant"}),
        (
            "light",
            {
                "optimiser": "adam", "lr": 0.002, "batch": 64, "epochs": 5, "schedule": "step", "step_every": 15,
                "factor": 0.1, "augment": Augment(rotation=15, crop=(22, 0.1)), "label_smoothing": 0.0,
            },
        ),
        (
            "deep",
            {
                "optimiser": "adam", "lr": 0.001, "batch": 128, "epochs": 30, "schedule": "plateau", "factor": 0.5,
                "plateau_patience": 3, "augment": None, "keep": "accuracy", "seed": 42, "label_smoothing": 0.0,
                "stop_after": 0,
            },
        ),
        (
            "compact",
            {
                "optimiser": "adam", "lr": 0.0003, "batch": 128, "epochs": 10, "schedule": "constant",
                "augment": Augment(rotation=5), "keep": "accuracy", "label_smoothing": 0.0,
            },
        ),
        ("pooled", {"optimiser": "adam", "schedule": "milestones", "keep": "loss"}),
    ],
)  # fmt: skip
def test_a_published_recipe_has_every_figure_its_system_states(name: str, stated: dict) -> None:
    recipe = published(name)
    assert {key: getattr(recipe, key) for key in stated} == stated
    assert recipe.weight_decay == recipe.average == 0


def test_pooled_smooths_moves_and_stops_early_as_published() -> None:
    recipe = published("pooled")
    assert recipe.label_smoothing > 0
    assert recipe.stop_after > 0
    assert recipe.milestones
    assert recipe.augment.rotation > 0
    assert recipe.augment.shift > 0


def test_there_is_a_recipe_for_every_model_under_its_own_name() -> None:
    assert set(TUNED) == set(MODELS)
    assert set(PUBLISHED) == set(MODELS) - {"sprint"}  # ours alone
    for table in (PUBLISHED, TUNED):
        assert {name: recipe.model for name, recipe in table.items()} == {name: name for name in table}


@every_recipe
def test_every_recipe_builds_its_optimiser_and_its_schedule(recipe: Recipe) -> None:
    model = mv.models.build(recipe.model)
    optimiser = recipe.make_optimiser(model)
    assert type(optimiser) is OPTIMISERS[recipe.optimiser]
    assert {id(p) for g in optimiser.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    assert optimiser.param_groups[0]["weight_decay"] == recipe.weight_decay
    schedule = recipe.make_schedule(optimiser, 10)
    assert (schedule is None) == (recipe.schedule == "constant")
    if recipe.schedule not in ("constant", "one-cycle"):
        assert optimiser.param_groups[0]["lr"] == recipe.lr


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_learns(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    y = (x[:, 0] > 0).long()
    model = nn.Linear(5, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimiser = Recipe("", epochs=1, optimiser=name, lr=0.05, momentum=0.5).make_optimiser(model)
    for _ in range(40):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
    assert loss < 0.7 * math.log(2)


def test_momentum_reaches_the_optimisers_that_have_it() -> None:
    for name in ("sgd", "rmsprop"):
        optimiser = Recipe("", epochs=1, optimiser=name, momentum=0.9).make_optimiser(nn.Linear(2, 2))
        assert optimiser.param_groups[0]["momentum"] == 0.9


def test_step_multiplies_the_rate_every_so_many_epochs() -> None:
    recipe = Recipe("", epochs=7, lr=0.8, schedule="step", step_every=3, factor=0.5)
    assert rates(recipe, 7) == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2])


def test_milestones_multiply_the_rate_after_those_epochs() -> None:
    recipe = Recipe("", epochs=6, lr=1.0, schedule="milestones", milestones=(1, 4), factor=0.1)
    assert rates(recipe, 6) == pytest.approx([1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_plateau_multiplies_the_rate_once_patience_is_used_up() -> None:
    recipe = Recipe("", epochs=9, lr=1.0, schedule="plateau", factor=0.5, plateau_patience=2)
    losses = [5.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.5, 3.5, 3.5]
    # best after epoch 2; worse in 3, 4 and 5, one more than the patience of 2: halved for epoch 6
    assert rates(recipe, 9, losses) == pytest.approx([1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])
    assert rates(recipe, 9, [5.0] * 9)[4] == pytest.approx(0.5)


def test_one_cycle_rises_on_a_cosine_and_falls_on_another() -> None:
    recipe = Recipe("", epochs=2, lr=1.0, schedule="one-cycle", warm_up=0.25)
    optimiser = recipe.make_optimiser(nn.Linear(2, 2))
    schedule = recipe.make_schedule(optimiser, 10)
    seen = []
    for _ in range(21):
        seen.append(optimiser.param_groups[0]["lr"])
        if len(seen) < 21:
            optimiser.step()
            schedule.step()
    peak, low, end = 0.25 * 21 - 1, 1 / 25, 1 / 25 / 10_000

    def cosine(a: float, b: float, share: float) -> float:
        return b + (a - b) * (1 + math.cos(math.pi * share)) / 2

    expected = [cosine(low, 1, t / peak) if t <= peak else cosine(1, end, (t - peak) / (20 - peak)) for t in range(21)]
    assert seen == pytest.approx(expected)


@given(st.integers(1, 6), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.5, 1.0]))
def test_one_cycle_lasts_any_training_and_never_exceeds_its_rate(epochs: int, steps: int, warm_up: float) -> None:
    recipe = Recipe("", epochs=epochs, lr=0.01, schedule="one-cycle", warm_up=warm_up)
    optimiser = recipe.make_optimiser(nn.Linear(2, 2))
    schedule = recipe.make_schedule(optimiser, steps)
    seen = []
    for _ in range(epochs * steps):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert min(seen) > 0
    assert max(seen) <= 0.01 * (1 + 1e-9)


def test_but_changes_one_thing_and_leaves_the_recipe_alone() -> None:
    recipe = published("deep")
    assert recipe.but(epochs=3) == Recipe(
        "deep", epochs=3, batch=128, lr=0.001, schedule="plateau", factor=0.5, plateau_patience=3, seed=42
    )
    assert recipe.epochs == 30


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0), ("batch", 0), ("lr", 0.0), ("lr", -1.0), ("lr", math.nan), ("average", 1.0), ("average", -0.1),
        ("label_smoothing", 1.0), ("label_smoothing", -0.1), ("step_every", 0), ("factor", 0.0), ("factor", 1.0),
        ("warm_up", 1.5), ("warm_up", -0.1), ("momentum", -0.5), ("weight_decay", -1.0), ("plateau_patience", -1),
        ("stop_after", -1),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named_with_what_is_allowed(setting: str, value: float) -> None:
    with pytest.raises(mv.MnistvizError) as error:
        published("deep").but(**{setting: value})
    for said in (repr(setting), "allowed:", str(value)):
        assert said in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value", "nearest"),
    [
        ("optimiser", "adm", "adam"),
        ("schedule", "plateu", "plateau"),
        ("precision", "bfloat", "bfloat16"),
        ("keep", "los", "loss"),
    ],
)
def test_an_unknown_choice_suggests_the_nearest(setting: str, value: str, nearest: str) -> None:
    with pytest.raises(mv.MnistvizError, match=f"did you mean '{nearest}'"):
        Recipe("", epochs=1, **{setting: value})


@pytest.mark.parametrize("table", [published, tuned])
def test_an_unknown_recipe_suggests_the_nearest(table) -> None:
    with pytest.raises(mv.MnistvizError, match="did you mean 'compact'"):
        table("kompact")


@given(st.sampled_from(sorted(TUNED)), st.integers(0, 2**31), st.none() | st.integers(1, 50))
def test_a_run_sets_the_seed_and_caps_the_epochs_and_nothing_else(name: str, seed: int, epochs: int | None) -> None:
    for table in (published, tuned) if name in PUBLISHED else (tuned,):
        plain = table(name)
        sized = table(name, SimpleNamespace(seed=seed, epochs=epochs))
        assert sized.seed == seed
        assert sized.epochs == (plain.epochs if epochs is None else min(plain.epochs, epochs))
        assert sized.but(seed=plain.seed, epochs=plain.epochs) == plain
