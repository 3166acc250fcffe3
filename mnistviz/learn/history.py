"""What a training is while it runs, `Fit`, and what it leaves behind, `History`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mnistviz import project
from mnistviz.device import Precision
from mnistviz.learn.recipes import Recipe
from mnistviz.progress import Log

Callback = Callable[["Fit"], None]
Callbacks = Mapping[str, Callback | Iterable[Callback]]  # by event: start, step, epoch, end
PARTS = ("model", "optimiser", "schedule", "averaged")  # of a training: what has a state
KEPT = ("rows", "best", "best_epoch", "best_value")  # of its history


@dataclass(eq=False)
class History:
    """What a training left behind: `history.table`, `history.best_epoch`, `history.save("history.csv")`."""

    recipe: Recipe
    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # counted from 1; 0 before the first epoch ends
    best_value: float = math.nan
    best: dict[str, Tensor] = field(default_factory=dict, repr=False)  # weights of the best epoch
    interrupted: bool = False

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows).set_index("epoch") if self.rows else pd.DataFrame()

    @property
    def seconds(self) -> float:
        return sum(row["seconds"] for row in self.rows)

    def save(self, path: str | Path) -> None:
        with project.atomic(path) as part:
            self.table.to_csv(part, lineterminator="\n")

    def __repr__(self) -> str:
        state = "interrupted after" if self.interrupted else "trained for"
        text = f"History({self.recipe.model or 'model'} {state} {len(self.rows)} epochs, {self.seconds:.1f} s"
        if not math.isnan(self.best_value):
            text += f"; best {self.recipe.keep} {self.best_value:.4f} in epoch {self.best_epoch}"
        return text + ")"


@dataclass(eq=False)
class Fit:
    """A training under way; callbacks receive it whole."""

    model: nn.Module
    recipe: Recipe
    history: History
    optimiser: torch.optim.Optimizer
    schedule: Any
    averaged: AveragedModel | None
    steps_per_epoch: int
    device: torch.device
    precision: Precision
    listeners: Mapping[str, Sequence[Callback]]
    log: Log
    forward: nn.Module  # what a step calls: the model, or the model joined to those of other processes
    teacher: nn.Module | None  # whose probabilities the loss compares with
    epoch: int = 0  # the current epoch, counted from 1
    step: int = 0  # steps done in this epoch
    loss: Tensor = field(default_factory=lambda: torch.tensor(math.nan))  # of the last batch

    @property
    def trained(self) -> nn.Module:
        """The model to judge and keep: the averaged one if the recipe averages."""
        return self.averaged.module if self.averaged is not None else self.model

    @property
    def autocast(self) -> AbstractContextManager[Any]:
        """Where the forward pass is computed at the lower precision, if the hardware has one."""
        to = self.precision.autocast
        return torch.autocast(self.device.type, to) if to else nullcontext()

    def tell(self, event: str) -> None:
        for listener in self.listeners.get(event, ()):
            listener(self)

    def state_dict(self) -> dict[str, Any]:
        """All that a killed training needs to go on from its last whole epoch."""
        parts = {name: getattr(self, name) for name in PARTS}
        states = {name: None if part is None else part.state_dict() for name, part in parts.items()}
        return states | {name: getattr(self.history, name) for name in KEPT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in PARTS:
            if (part := getattr(self, name)) is not None:
                part.load_state_dict(state[name])
        for name in KEPT:
            setattr(self.history, name, state[name])

    def live_line(self, seen: int, total: int, seconds: float) -> str:
        """How far this epoch is, and how long the whole training will still take."""
        rate = seen / seconds
        left = int((total - seen + (self.recipe.epochs - self.epoch) * total) / rate)
        place = f"epoch {self.epoch:2d}/{self.recipe.epochs}  {seen / total:4.0%}  loss {self.loss.item():.3f}"
        return f"{place}  {rate:,.0f} images/s  {left // 60}:{left % 60:02d} left"

    def epoch_line(self, improved: bool) -> str:
        row, star = self.history.rows[-1], "*" if improved else " "
        text = f"epoch {self.epoch:2d}/{self.recipe.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:7.2%}"
        if "val_loss" in row:
            text += f"  |  val loss {row['val_loss']:.4f}  val accuracy {row['val_accuracy']:7.2%} {star}"
        return text + f"  |  {row['seconds']:5.1f} s"
