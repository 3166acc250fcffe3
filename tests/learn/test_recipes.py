"""The recipes are the published ones, and what they make learns at the rates they state."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import refusals, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnistviz.learn import recipes
from mnistviz.learn.attacks import Attack
from mnistviz.learn.augment import Augment
from mnistviz.learn.models import MODELS
from mnistviz.learn.recipes import OPTIMISERS, PUBLISHED, TABLES, TUNED, Recipe, distilled, published, robust, tuned

# What each README states; what it leaves open is not listed.
STATED = {
    "simple": {"epochs": 8, "augment": None, "schedule": "constant"},
    "light": {"lr": 0.002, "batch": 64, "epochs": 5, "augment": Augment(rotation=15, crop=(22, 0.1))}
    | {"optimiser": "adam", "schedule": "step", "step_every": 15, "factor": 0.1},
    "deep": {"lr": 0.001, "batch": 128, "epochs": 30, "augment": None, "seed": 42, "keep": "accuracy", "stop_after": 0}
    | {"optimiser": "adam", "schedule": "plateau", "factor": 0.5, "plateau_patience": 3},
    "compact": {"lr": 0.0003, "batch": 128, "epochs": 10, "augment": Augment(rotation=5), "keep": "accuracy"}
    | {"optimiser": "adam", "schedule": "constant"},
    "pooled": {"optimiser": "adam", "schedule": "milestones", "keep": "loss"},
}


@pytest.mark.parametrize("name", STATED)
def test_a_published_recipe_has_every_figure_its_system_states(name):
    recipe, stated = published(name), STATED[name]
    assert {key: getattr(recipe, key) for key in stated} == stated
    assert recipe.weight_decay == recipe.average == 0
    assert (recipe.label_smoothing > 0) == (recipe.stop_after > 0) == bool(recipe.milestones) == (name == "pooled")
    if name == "pooled":
        assert recipe.augment.rotation > 0
        assert recipe.augment.shift > 0


def test_there_is_a_recipe_for_every_model_under_its_own_name():
    assert set(TUNED) == set(MODELS)
    assert set(PUBLISHED) == set(STATED) == set(MODELS) - {"sprint", "tiny", "small"}  # ours alone
    for kind, table in TABLES.items():
        for model, settings_ in table.items():
            recipe = getattr(recipes, kind)(model)
            assert recipe.model == model
            assert recipes.from_table(model, settings_) == recipes.from_table(model, recipes.to_table(recipe)) == recipe
    assert robust("simple").attack == Attack(0.3, steps=6, step=0.1, random_start=True)
    assert distilled("light").but(teachers=(), distil=0.0, temperature=1.0) == tuned("light")


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_learns_with_the_settings_it_is_given(name):
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    model = nn.Linear(5, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    recipe = Recipe("", epochs=1, optimiser=name, lr=0.05, momentum=0.5, weight_decay=1e-4)
    optimiser = recipe.make_optimiser(model)
    (group,) = optimiser.param_groups
    assert (group.get("momentum", 0.5), group["lr"], group["weight_decay"]) == (0.5, 0.05, 1e-4)
    for _ in range(40):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
    assert loss < 0.7 * math.log(2)


def rates(recipe: Recipe, count: int, losses: list[float] | None = None, steps_per_epoch: int = 10) -> list[float]:
    """The first learning rates of a schedule: of each epoch, or of each step for one-cycle."""
    optimiser = recipe.make_optimiser(nn.Linear(2, 2))
    schedule = recipe.make_schedule(optimiser, steps_per_epoch)
    seen = [optimiser.param_groups[0]["lr"]]
    for i in range(count - 1):
        optimiser.step()
        schedule.step(*([losses[i]] if losses else []))
        seen.append(optimiser.param_groups[0]["lr"])
    return seen


def test_reductions_come_when_they_should():
    step = Recipe("", epochs=7, lr=0.8, schedule="step", step_every=3, factor=0.5)
    assert rates(step, 7) == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2])
    milestones = Recipe("", epochs=6, lr=1.0, schedule="milestones", milestones=(1, 4), factor=0.1)
    assert rates(milestones, 6) == pytest.approx([1, 0.1, 0.1, 0.1, 0.01, 0.01])
    plateau = Recipe("", epochs=9, lr=1.0, schedule="plateau", factor=0.5, plateau_patience=2)
    losses = [5.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.5, 3.5, 3.5]
    # best after epoch 2; worse in 3, 4 and 5, one more than the patience of 2: halved for epoch 6
    assert rates(plateau, 9, losses) == pytest.approx([1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.5, 1.0]))
def test_one_cycle_lasts_any_training_and_never_exceeds_its_rate(epochs, steps, warm_up):
    recipe = Recipe("", epochs=epochs, lr=0.01, schedule="one-cycle", warm_up=warm_up)
    seen = rates(recipe, epochs * steps + 1, steps_per_epoch=steps)
    assert 0 < min(seen) <= max(seen) <= 0.01 * (1 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PUBLISHED)), st.integers(0, 2**31), st.integers(1, 50))
def test_a_run_sets_the_seed_and_caps_the_epochs_and_nothing_else(name, seed, epochs):
    for table in (published, tuned):
        plain = table(name)
        sized = table(name, SimpleNamespace(seed=seed, epochs=epochs))
        assert sized.seed == seed
        assert sized.epochs == min(plain.epochs, epochs)
        assert sized.but(seed=plain.seed, epochs=plain.epochs) == plain


OUT_OF_RANGE = {
    "epochs": [0],
    "batch": [0],
    "lr": [0.0, -1.0, math.nan],
    "average": [1.0, -0.1],
    "label_smoothing": [1.0, -0.1],
    "dropout": [1.0, -0.1],
    "step_every": [0],
    "factor": [0.0, 1.0],
    "warm_up": [1.5, -0.1],
    "distil": [1.5, -0.1],
    "temperature": [0.0, -1.0],
    "momentum": [-0.5, 1.0],
    "weight_decay": [-1.0],
    "plateau_patience": [-1],
    "stop_after": [-1],
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(name):
    for value in OUT_OF_RANGE[name]:
        refused(lambda setting={name: value}: published("deep").but(**setting), repr(name), "allowed:", str(value))


BAD = {
    "an optimiser": (lambda: Recipe("", epochs=1, optimiser="adm"), "did you mean 'adam'", "rmsprop"),
    "a schedule": (lambda: Recipe("", epochs=1, schedule="plateu"), "did you mean 'plateau'", "one-cycle"),
    "a precision": (lambda: Recipe("", epochs=1, precision="bfloat"), "did you mean 'bfloat16'"),
    "what to keep": (lambda: Recipe("", epochs=1, keep="los"), "did you mean 'loss'"),
    "a tuned one": (lambda: tuned("kompact"), "unknown tuned recipe", "did you mean 'compact'"),
    "a robust one": (lambda: robust("simpel"), "unknown robust recipe", "did you mean 'simple'"),
    "one for hands": (lambda: recipes.hands("simpel"), "unknown recipe for hands", "did you mean 'simple'"),
    "a distilled one": (lambda: distilled("lihgt"), "unknown distilled recipe", "did you mean 'light'"),
    "teachers not listened to": (lambda: Recipe("", epochs=1, teachers=("deep",)), "('deep',) and 0.0", "distil"),
    "a seed": (lambda: Recipe("", epochs=1, seed=2**32), "seed", "4294967296", "0 to 4294967295"),
    "a share for nobody": (lambda: Recipe("", epochs=1, distil=0.5), "() and 0.5", "teachers"),
}
test_bad_input_is_refused = refusals(BAD)
