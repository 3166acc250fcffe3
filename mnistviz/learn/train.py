"""`fit`: one training loop that knows nothing of the model it trains."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mnistviz import project
from mnistviz.device import pick_device, pick_precision
from mnistviz.errors import MnistvizError, choose
from mnistviz.learn import checkpoint
from mnistviz.learn.data import Digits
from mnistviz.learn.evaluate import measure
from mnistviz.learn.recipes import CRITERIA, Recipe
from mnistviz.progress import Log

EVENTS = ("start", "step", "epoch", "end")
Callback = Callable[["Fit"], None]


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
    epoch: int = 0  # the current epoch, counted from 1
    step: int = 0  # steps done in this epoch
    loss: Tensor = field(default_factory=lambda: torch.tensor(math.nan))  # of the last batch

    @property
    def trained(self) -> nn.Module:
        """The model to judge and keep: the averaged one if the recipe averages."""
        return self.averaged.module if self.averaged is not None else self.model


def fit(
    model: nn.Module,
    train: Digits,
    val: Digits | None = None,
    recipe: Recipe | None = None,
    *,
    device: str | torch.device | None = None,
    callbacks: Mapping[str, Callback | Iterable[Callback]] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """`history = fit(model, train, val, recipes.tuned("deep"), folder="models/mine")`

    Afterwards `model` holds the final weights and `history.best` those of the best epoch. With a
    folder, both are saved there with their cards, and a run that was killed goes on with `resume=True`
    to the very weights it would have reached. Events for callbacks: start, step, epoch, end.
    """
    recipe = recipe or Recipe("", epochs=3)
    place = pick_device(device)
    autocast_to, memory_format = pick_precision(recipe.precision, place)
    listeners = {event: _as_list(functions) for event, functions in (callbacks or {}).items()}
    for event in listeners:
        choose("training event", event, dict.fromkeys(EVENTS))
    for digits in (train,) if val is None else (train, val):
        if not len(digits.known_labels()):
            raise MnistvizError("there are no digits to learn from or to judge by", given=digits)
    log = Log(progress)

    model.to(place, memory_format=memory_format)  # type: ignore[call-overload]
    train, val = train.to(place), val.to(place) if val is not None else None
    optimiser = recipe.make_optimiser(model)
    steps = math.ceil(len(train) / recipe.batch)
    averaged = None
    if recipe.average:
        averaged = AveragedModel(model, multi_avg_fn=_moving_average(recipe.average), use_buffers=True)
    state = Fit(model, recipe, History(recipe), optimiser, recipe.make_schedule(optimiser, steps), averaged, steps)
    store = checkpoint.Store(folder, state, train, val) if folder is not None else None
    if store is not None:
        store.begin(resume)

    def tell(event: str) -> None:
        for listener in listeners.get(event, ()):
            listener(state)

    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        try:
            tell("start")
            for epoch in range(len(state.history.rows) + 1, recipe.epochs + 1):
                waited = epoch - 1 - state.history.best_epoch
                if val is not None and recipe.stop_after and waited >= recipe.stop_after:
                    log.line(f"stopped: no better validation {recipe.keep} for {waited} epochs")
                    break
                state.epoch = epoch
                row = _train_epoch(state, train, autocast_to, memory_format, tell, log)
                improved = _judge(state, row, val)
                log.line(_epoch_line(state, improved))
                if store is not None:
                    store.save(improved)
                tell("epoch")
        except KeyboardInterrupt:
            state.history.interrupted = True
            log.line(f"interrupted after {len(state.history.rows)} whole epochs")
        finally:
            log.close()
            if averaged is not None and state.history.rows:
                model.load_state_dict(averaged.module.state_dict())
            model.eval()
    if store is not None and not state.history.interrupted:
        store.finish()
    tell("end")
    return state.history


def _train_epoch(
    state: Fit,
    train: Digits,
    autocast_to: torch.dtype | None,
    memory_format: torch.memory_format,
    tell: Callable[[str], None],
    log: Log,
) -> dict[str, float]:
    """One pass over the shuffled digits; everything random in it follows from the seed and the epoch."""
    model, recipe, place = state.model, state.recipe, train.images.device
    seed = recipe.seed * 100_003 + state.epoch
    torch.manual_seed(seed)  # dropout
    generator = torch.Generator(place).manual_seed(seed)  # order and augmentation
    autocast = torch.autocast(place.type, autocast_to) if autocast_to else nullcontext()
    check_every = 1 if place.type == "cpu" else 50  # looking at a loss makes a GPU wait
    losses = torch.zeros(state.steps_per_epoch, device=place)
    correct = torch.zeros((), device=place)
    seen, started, drawn = 0, time.perf_counter(), 0.0
    model.train()

    for state.step, (x, y) in enumerate(train.batches(recipe.batch, generator=generator, augment=recipe.augment), 1):
        # forward
        with autocast:
            if recipe.attack is not None:
                x = recipe.attack(model, x, y, generator)
            scores = model(x.to(memory_format=memory_format))
        loss = F.cross_entropy(scores.float(), y, label_smoothing=recipe.label_smoothing)
        state.loss = losses[state.step - 1] = loss.detach()
        if state.step % check_every == 0 or state.step == state.steps_per_epoch:
            _stop_if_not_finite(losses, state.epoch, state.step, check_every)
        # backward and update
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        if state.averaged is not None:
            state.averaged.update_parameters(model)
        if recipe.schedule == "one-cycle":
            state.schedule.step()
        # bookkeeping
        correct += (scores.detach().argmax(1) == (y if y.ndim == 1 else y.argmax(1))).sum()
        seen += len(x)
        tell("step")
        now = time.perf_counter()
        if now - drawn > 0.2:
            drawn = now
            log.live(_live_line(state, seen, len(train), now - started))

    return {
        "epoch": state.epoch,
        "loss": float(losses[:-1].sum() * recipe.batch + losses[-1] * len(x)) / seen,  # a short last batch weighs less
        "accuracy": float(correct) / seen,
        "lr": state.optimiser.param_groups[0]["lr"],
        "seconds": time.perf_counter() - started,
    }


def _judge(state: Fit, row: dict[str, float], val: Digits | None) -> bool:
    """Measure on the validation digits, step an epoch-wise schedule, and say whether this is the best yet."""
    history, recipe, improved = state.history, state.recipe, True
    if val is not None:
        started = time.perf_counter()
        row["val_loss"], row["val_accuracy"] = measure(state.trained, val)
        row["seconds"] += time.perf_counter() - started
        value, better = row[f"val_{recipe.keep}"], CRITERIA[recipe.keep]
        improved = not history.best_epoch or (
            value != history.best_value and better(value, history.best_value) == value
        )
        history.best_value = value if improved else history.best_value
    history.rows.append(row)  # whole: an interruption before this leaves no half-measured epoch
    if recipe.schedule == "plateau":
        state.schedule.step(row.get("val_loss", row["loss"]))
    elif recipe.schedule in ("step", "milestones"):
        state.schedule.step()
    if improved:
        history.best_epoch = state.epoch
        history.best = checkpoint.weights(state.trained)
    return improved


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average that forgets quickly at first, so that it never drags early weights along."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, count: Any) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - keep)
        else:  # batch norm counts its batches in whole numbers
            torch._foreach_copy_(averaged, current)

    return update


def _stop_if_not_finite(losses: Tensor, epoch: int, step: int, since: int) -> None:
    """Look at the losses of the last `since` steps, up to this one."""
    for at, loss in enumerate(losses[max(step - since, 0) : step].tolist(), max(step - since, 0) + 1):
        if not math.isfinite(loss):
            raise MnistvizError(
                f"the loss is no longer a number: training stopped in epoch {epoch}, step {at}",
                given=loss,
                fix="lower the learning rate or check the input; checkpoints of earlier epochs are as they were",
            )


def _live_line(state: Fit, seen: int, total: int, seconds: float) -> str:
    rate = seen / seconds
    whole = (total - seen + (state.recipe.epochs - state.epoch) * total) / rate
    return (
        f"epoch {state.epoch:2d}/{state.recipe.epochs}  {seen / total:4.0%}  loss {state.loss.item():.3f}  "
        f"{rate:,.0f} images/s  {_clock(whole)} left"
    )


def _epoch_line(state: Fit, improved: bool) -> str:
    row = state.history.rows[-1]
    text = f"epoch {state.epoch:2d}/{state.recipe.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:7.2%}"
    if "val_loss" in row:
        text += (
            f"  |  val loss {row['val_loss']:.4f}  val accuracy {row['val_accuracy']:7.2%} {'*' if improved else ' '}"
        )
    return text + f"  |  {row['seconds']:5.1f} s"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _as_list(functions: Callback | Iterable[Callback]) -> list[Callback]:
    return [functions] if callable(functions) else list(functions)
