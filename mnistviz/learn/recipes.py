"""How each architecture is trained, as data: the published recipe and a tuned one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mnistviz.device import PRECISIONS
from mnistviz.errors import check, choose
from mnistviz.learn.attacks import Attack
from mnistviz.learn.augment import Augment
from mnistviz.run import Run

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
SCHEDULES = ("constant", "step", "milestones", "plateau", "one-cycle")
CRITERIA = {"accuracy": max, "loss": min}  # which value of a validation measure is the better one


@dataclass(frozen=True)
class Recipe:
    """Every choice of one training. `recipe.but(epochs=3)` is the same with one thing changed."""

    model: str  # the architecture's name, kept in the checkpoint's card
    epochs: int
    batch: int = 128
    optimiser: str = "adam"
    lr: float = 0.001
    momentum: float = 0.0  # of sgd and rmsprop
    weight_decay: float = 0.0
    schedule: str = "constant"
    step_every: int = 15  # step: epochs between two reductions
    milestones: tuple[int, ...] = ()  # milestones: the epochs after which the rate is reduced
    factor: float = 0.1  # what a reduction multiplies the rate by
    plateau_patience: int = 3  # plateau: epochs without a better validation loss before a reduction
    warm_up: float = 0.25  # one-cycle: share of the steps in which the rate rises
    label_smoothing: float = 0.0
    augment: Augment | None = None
    attack: Attack | None = None  # training under attack: every batch is changed against the model as it stands
    average: float = 0.0  # decay of the moving average of the weights; 0 keeps the weights themselves
    keep: str = "accuracy"  # the validation measure that "best" means
    stop_after: int = 0  # epochs without a better one before training stops; 0 never stops early
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        choose("optimiser", self.optimiser, OPTIMISERS)
        choose("schedule", self.schedule, dict.fromkeys(SCHEDULES))
        choose("precision", self.precision, dict.fromkeys(PRECISIONS))
        choose("criterion to keep", self.keep, CRITERIA)
        check(
            "recipe setting",
            self,
            epochs=(self.epochs >= 1, "1 or more"),
            batch=(self.batch >= 1, "1 or more"),
            lr=(self.lr > 0, "more than 0"),
            momentum=(0 <= self.momentum < 1, "0 up to but not including 1"),
            weight_decay=(self.weight_decay >= 0, "0 or more"),
            step_every=(self.step_every >= 1, "1 or more"),
            factor=(0 < self.factor < 1, "between 0 and 1"),
            plateau_patience=(self.plateau_patience >= 0, "0 or more"),
            warm_up=(0 <= self.warm_up <= 1, "0 to 1"),
            stop_after=(self.stop_after >= 0, "0 or more"),
            average=(0 <= self.average < 1, "0 up to but not including 1"),
            label_smoothing=(0 <= self.label_smoothing < 1, "0 up to but not including 1"),
        )

    def but(self, **changes: Any) -> "Recipe":
        return replace(self, **changes)

    def make_optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        settings: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if self.optimiser in ("sgd", "rmsprop"):
            settings["momentum"] = self.momentum
        if self.optimiser != "rmsprop" and next(model.parameters()).device.type in ("cpu", "cuda"):
            settings["fused"] = True  # one pass over all weights instead of one per weight and operation
        return OPTIMISERS[self.optimiser](model.parameters(), **settings)

    def make_schedule(self, optimiser: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
        """A torch scheduler, or None; `one-cycle` advances every step, the others every epoch."""
        schedules = torch.optim.lr_scheduler
        if self.schedule == "step":
            return schedules.StepLR(optimiser, self.step_every, self.factor)
        if self.schedule == "milestones":
            return schedules.MultiStepLR(optimiser, list(self.milestones), self.factor)
        if self.schedule == "plateau":
            return schedules.ReduceLROnPlateau(optimiser, factor=self.factor, patience=self.plateau_patience)
        if self.schedule == "one-cycle":
            steps = self.epochs * steps_per_epoch + 1
            rising = max(self.warm_up, 2 / steps)  # one step at least, however short the training
            return schedules.OneCycleLR(optimiser, self.lr, total_steps=steps, pct_start=rising, cycle_momentum=False)
        return None


# As far as each README states it; "open" marks what it leaves out and the ordinary thing chosen here.
PUBLISHED = {
    "simple": Recipe("simple", epochs=8, batch=64),  # open: optimiser (Adam 0.001) and batch (64)
    "light": Recipe(
        "light", epochs=5, batch=64, lr=0.002, schedule="step", step_every=15, factor=0.1,
        augment=Augment(rotation=15, crop=(22, 0.1)),
    ),
    "deep": Recipe(
        "deep", epochs=30, batch=128, lr=0.001, schedule="plateau", factor=0.5, plateau_patience=3, seed=42
    ),
    "compact": Recipe("compact", epochs=10, batch=128, lr=0.0003, augment=Augment(rotation=5)),
    "pooled": Recipe(  # open: rate, batch, milestones, smoothing, patience and the augmentation's sizes
        "pooled", epochs=30, batch=128, lr=0.001, schedule="milestones", milestones=(15, 22), factor=0.1,
        label_smoothing=0.1, augment=Augment(rotation=10, shift=0.1), keep="loss", stop_after=5,
    ),
}  # fmt: skip

_CYCLE = Recipe("", epochs=1, optimiser="adamw", schedule="one-cycle", weight_decay=0.01)
_SMALL_MOVES = Augment(rotation=10, shift=0.07, zoom=0.1)

TUNED = {
    "simple": _CYCLE.but(model="simple", epochs=6, batch=128, lr=0.004, augment=_SMALL_MOVES),
    "light": _CYCLE.but(model="light", epochs=10, batch=128, lr=0.01, augment=_SMALL_MOVES),
    "deep": _CYCLE.but(
        model="deep", epochs=20, batch=128, lr=0.003, average=0.999,
        augment=Augment(rotation=12, shift=0.08, zoom=0.12),
    ),
    "compact": _CYCLE.but(model="compact", epochs=10, batch=128, lr=0.005, augment=_SMALL_MOVES),
    "pooled": _CYCLE.but(model="pooled", epochs=16, batch=128, lr=0.005, augment=_SMALL_MOVES, average=0.998),
    "sprint": _CYCLE.but(model="sprint", epochs=1, batch=96, lr=0.01, label_smoothing=0.1),
}  # fmt: skip

# Training under attack: every batch is changed against the network as it stands, in six steps.
ROBUST = {
    "simple": TUNED["simple"].but(
        epochs=24, warm_up=0.4, augment=None, average=0.998,
        attack=Attack(0.3, steps=6, step=0.1, random_start=True),
    ),
}  # fmt: skip


def published(name: str, run: Run | None = None) -> Recipe:
    """`published("deep")`: the recipe of that system's README. With a run: its seed, and its cap on epochs."""
    return _sized(choose("published recipe", name, PUBLISHED), run)


def tuned(name: str, run: Run | None = None) -> Recipe:
    """`tuned("deep", run)`: our recipe for that architecture, chosen by validation accuracy."""
    return _sized(choose("tuned recipe", name, TUNED), run)


def robust(name: str, run: Run | None = None) -> Recipe:
    """`robust("simple", run)`: training under attack; slower by the number of its steps."""
    return _sized(choose("robust recipe", name, ROBUST), run)


def _sized(recipe: Recipe, run: Run | None) -> Recipe:
    if run is None:
        return recipe
    return recipe.but(seed=run.seed, epochs=min(recipe.epochs, run.epochs or recipe.epochs))
