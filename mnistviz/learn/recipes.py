"""How each architecture is trained, as data: the published recipe and a tuned one."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnistviz.device import PRECISIONS
from mnistviz.errors import check, choose, refuse
from mnistviz.learn.attacks import Attack
from mnistviz.learn.augment import Augment
from mnistviz.run import Run

KNOWN = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop)
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {kind.__name__.lower(): kind for kind in KNOWN}
SCHEDULES = ("constant", "step", "milestones", "plateau", "one-cycle")
CRITERIA = ("accuracy", "loss")  # validation measures: the larger, and the smaller, is the better one


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
    dropout: float | None = None  # what every dropout layer drops in this training; None: the architecture's own share
    augment: Augment | None = None
    attack: Attack | None = None  # training under attack: every batch is changed against the model as it stands
    teachers: tuple[str, ...] = ()  # distillation: names or paths for load_model; their mean probability teaches
    distil: float = 0.0  # share of the loss that compares with the teachers; the rest compares with the labels
    temperature: float = 1.0  # by which both sides' scores are divided before they are compared
    average: float = 0.0  # decay of the moving average of the weights; 0 keeps the weights themselves
    keep: str = "accuracy"  # the validation measure that "best" means
    stop_after: int = 0  # epochs without a better one before training stops; 0 never stops early
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        choose("optimiser", self.optimiser, OPTIMISERS)
        choose("schedule", self.schedule, dict.fromkeys(SCHEDULES))
        choose("precision", self.precision, dict.fromkeys(PRECISIONS))
        choose("criterion to keep", self.keep, dict.fromkeys(CRITERIA))
        kind = "recipe setting"
        check(kind, self, "epochs batch step_every", lambda n: n >= 1, "1 or more")
        check(kind, self, "weight_decay plateau_patience stop_after", lambda x: x >= 0, "0 or more")
        check(kind, self, "momentum average label_smoothing", lambda x: 0 <= x < 1, "0 up to but not including 1")
        check(kind, self, "dropout", lambda x: x is None or 0 <= x < 1, "0 up to but not including 1, or nothing")
        check(kind, self, "lr temperature", lambda x: x > 0, "more than 0")
        check(kind, self, "factor", lambda x: 0 < x < 1, "between 0 and 1")
        check(kind, self, "warm_up distil", lambda x: 0 <= x <= 1, "0 to 1")
        check(kind, self, "seed", lambda n: 0 <= n < 2**32, "0 to 4294967295")
        what, given = "teachers and their share of the loss, distil, go together", f"{self.teachers} and {self.distil}"
        refuse(bool(self.teachers) != (self.distil > 0), what, given=given)

    def but(self, **changes: Any) -> "Recipe":
        return replace(self, **changes)

    @contextmanager
    def dropping(self, model: nn.Module) -> Iterator[None]:
        """Inside, dropout layers drop the recipe's share; afterwards their own, whatever happened."""
        own = [(layer, layer.p) for layer in model.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]
        try:
            for layer, share in own:
                layer.p = share if self.dropout is None else self.dropout
            yield
        finally:
            for layer, share in own:
                layer.p = share

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


def from_table(model: str, table: dict[str, Any]) -> Recipe:
    """A recipe from its table in `recipes.toml`, where a list stands for a tuple."""
    parts = {"augment": Augment, "attack": Attack}
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    for name in parts.keys() & given.keys():
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in given[name].items()}
        given[name] = parts[name](**values)
    return Recipe(model, **given)


def to_table(part: Any) -> dict[str, Any]:
    """The way back: the settings of a recipe, or of a part of it, that differ from their defaults."""
    values = {field.name: getattr(part, field.name) for field in fields(part) if field.name != "model"}
    return {
        name: to_table(value) if is_dataclass(value) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != type(part).__dataclass_fields__[name].default
    }


TABLES = tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8"))
RECIPES = {kind: {name: from_table(name, table) for name, table in TABLES[kind].items()} for kind in TABLES}
PUBLISHED, TUNED = RECIPES["published"], RECIPES["tuned"]


def published(name: str, run: Run | None = None) -> Recipe:
    """`published("deep")`: the recipe of that system's README. With a run: its seed, and its cap on epochs."""
    return _sized(choose("published recipe", name, RECIPES["published"]), run)


def tuned(name: str, run: Run | None = None) -> Recipe:
    """`tuned("deep", run)`: our recipe for that architecture, chosen by validation accuracy."""
    return _sized(choose("tuned recipe", name, RECIPES["tuned"]), run)


def longer(name: str, run: Run | None = None) -> Recipe:
    """`longer("light")`: for the small networks, more epochs than `tuned` has, and averaged weights."""
    return _sized(choose("longer recipe", name, RECIPES["longer"]), run)


def robust(name: str, run: Run | None = None) -> Recipe:
    """`robust("simple", run)`: training under attack; slower by the number of its steps."""
    return _sized(choose("robust recipe", name, RECIPES["robust"]), run)


def hands(name: str, run: Run | None = None) -> Recipe:
    """`hands("simple")`: for digits that people draw or photograph; other pens, other slants, softer edges."""
    return _sized(choose("recipe for hands", name, RECIPES["hands"]), run)


def distilled(name: str, run: Run | None = None) -> Recipe:
    """`distilled("light", run)`: the tuned one, taught by other networks' probabilities as well as by the labels."""
    return _sized(choose("distilled recipe", name, RECIPES["distilled"]), run)


def _sized(recipe: Recipe, run: Run | None) -> Recipe:
    return recipe if run is None else recipe.but(seed=run.seed, epochs=min(recipe.epochs, run.epochs))
