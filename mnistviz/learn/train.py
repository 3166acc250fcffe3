"""`fit`: one training loop that knows nothing of the model it trains."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mnistviz.device import World, pick_device, pick_precision
from mnistviz.errors import MnistvizError, choose, refuse
from mnistviz.learn import checkpoint
from mnistviz.learn.data import Digits
from mnistviz.learn.evaluate import measure
from mnistviz.learn.history import Callbacks, Fit, History
from mnistviz.learn.models import Ensemble
from mnistviz.learn.recipes import Recipe
from mnistviz.progress import Log

EVENTS = ("start", "step", "epoch", "end")


def fit(
    model: nn.Module,
    train: Digits,
    val: Digits | None = None,
    recipe: Recipe | None = None,
    *,
    device: str | torch.device | None = None,
    callbacks: Callbacks | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """`history = fit(model, train, val, recipes.tuned("deep"), folder="models/mine")`

    Afterwards `model` holds the final weights and `history.best` those of the best epoch. With a
    folder, both are saved there with their cards, and a run that was killed goes on with `resume=True`
    to the very weights it would have reached. Events for callbacks: start, step, epoch, end.

    Inside `with device.together():` several processes train as one: each computes its share of every batch, with
    dropout of its own, and on the CPU with batch norm of its own share; the first one judges, prints and saves.

    >>> steps, recipe = [], mv.recipes.tuned("compact").but(epochs=2)
    >>> watched = {"step": lambda state: steps.append(state.step)}
    >>> history = mv.fit(mv.models.compact(), few, few[:100], recipe, callbacks=watched, progress=False)
    >>> history.table.shape  # epochs, measures
    (2, 6)
    >>> history.best["conv1.weight"].shape
    torch.Size([10, 1, 5, 5])
    >>> steps  # 600 digits in batches of 128, twice
    [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    """
    for digits in (train,) if val is None else (train, val):
        refuse(not len(digits.known_labels()), "there are no digits to learn from or to judge by", given=digits)
    state = _prepared(model, train, recipe or Recipe("", epochs=3), pick_device(device), callbacks or {}, progress)
    train, val = train.to(state.device), val.to(state.device) if val is not None else None
    history, recipe, world = state.history, state.recipe, World.here()
    store = checkpoint.Store(folder, state, train, val) if folder is not None and world.rank == 0 else None
    if kept := world.of_first(lambda: store.begin(resume) if store is not None else None):
        state.load_state_dict(kept)

    cuda = [state.device] if state.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), recipe.dropping(model):
        try:
            state.tell("start")
            for epoch in range(len(history.rows) + 1, recipe.epochs + 1):
                waited = len(history.rows) - history.best_epoch
                if val is not None and recipe.stop_after and waited >= recipe.stop_after:
                    state.log.line(f"stopped: no better validation {recipe.keep} for {waited} epochs")
                    break
                state.epoch = epoch
                row = _train_epoch(state, train)
                improved = _judge(state, row, val)
                state.log.line(state.epoch_line(improved))
                if store is not None:
                    store.save(improved)
                state.tell("epoch")
        except KeyboardInterrupt:
            history.interrupted = True
            state.log.line(f"interrupted after {len(history.rows)} whole epochs")
        finally:
            state.log.close()
            if state.averaged is not None and history.rows:
                model.load_state_dict(state.averaged.module.state_dict())
            model.eval()
    if store is not None and not history.interrupted:
        store.finish()
    state.tell("end")
    return history


def _prepared(
    model: nn.Module, train: Digits, recipe: Recipe, device: torch.device, callbacks: Callbacks, progress: bool
) -> Fit:
    """The training before its first step: model on its device, teacher, optimiser, schedule, moving average."""
    for event in callbacks:
        choose("training event", event, dict.fromkeys(EVENTS))
    listeners = {event: [given] if callable(given) else list(given) for event, given in callbacks.items()}
    precision, steps = pick_precision(recipe.precision, device), math.ceil(len(train) / recipe.batch)
    model.to(device, memory_format=precision.memory_format)  # type: ignore[call-overload]
    world, mean = World.here(), _moving_average(recipe.average)
    averaged = AveragedModel(model, multi_avg_fn=mean, use_buffers=True) if recipe.average else None
    optimiser, history, log = recipe.make_optimiser(model), History(recipe), Log(progress and world.rank == 0)
    schedule = recipe.make_schedule(optimiser, steps)
    calls = (world.joined(model), _teacher(recipe, train, device))
    return Fit(model, recipe, history, optimiser, schedule, averaged, steps, device, precision, listeners, log, *calls)


def _teacher(recipe: Recipe, train: Digits, device: torch.device) -> nn.Module | None:
    """The recipe's teachers as one model. None may know digits of the set that the student will be judged by."""
    for name in recipe.teachers:
        card = checkpoint.read_card(name)
        what, given = f"{name!r} may have learned from digits that its student is judged by", card.get("data")
        fix = f"take teachers that learned from the same deal as {train.source}"
        refuse(not checkpoint.unseen(card, train), what, given=given, fix=fix)
    return Ensemble(checkpoint.load_model(name, device) for name in recipe.teachers).eval() if recipe.teachers else None


def _train_epoch(state: Fit, train: Digits) -> dict[str, float]:
    """One pass over the shuffled digits; everything random in it follows from the seed and the epoch."""
    model, recipe, world = state.model, state.recipe, World.here()
    seed = recipe.seed * 100_003 + state.epoch
    torch.manual_seed(seed + world.rank * 10**9)  # dropout, and where an attack starts, if there are several processes
    generator = torch.Generator(state.device).manual_seed(seed)  # order and augmentation
    check_every = 1 if state.device.type == "cpu" else 50  # looking at a loss makes a GPU wait
    each = torch.zeros(2, state.steps_per_epoch, device=state.device)
    losses, right = each  # of each batch: the mean loss, and how many are right
    started, drawn = time.perf_counter(), 0.0
    state.forward.train()

    batches = train.batches(recipe.batch, generator=generator, augment=recipe.augment)
    for step, (x, y) in enumerate(batches, start=1):
        state.step = step
        images = len(x)
        x, y, weight = world.share(x, y)  # alone, all of it
        # forward
        with state.autocast:
            if recipe.attack is not None:
                x = recipe.attack(model, x, y, generator if world.size == 1 else None)
            scores = state.forward(x.to(memory_format=state.precision.memory_format))
        loss = weight * _loss(state, scores.float(), x, y)
        state.loss = losses[step - 1] = loss.detach()
        if step % check_every == 0 or step == state.steps_per_epoch:
            _stop_if_not_finite(losses, state.epoch, step, check_every)
        # backward and update
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        if state.averaged is not None:
            state.averaged.update_parameters(model)
        if recipe.schedule == "one-cycle":
            state.schedule.step()
        # bookkeeping
        truth = y if y.ndim == 1 else y.argmax(1)  # mixed-up labels are ten probabilities
        right[step - 1] = (scores.detach().argmax(1) == truth).sum() * (weight * images / len(y))
        state.tell("step")
        now = time.perf_counter()
        if now - drawn > 0.2:
            drawn = now
            state.log.live(state.live_line((step - 1) * recipe.batch + images, len(train), now - started))

    world.average([each, *model.buffers(), *(() if state.averaged is None else state.averaged.buffers())])
    losses[-1] *= images / recipe.batch  # a short last batch weighs less
    return {
        "epoch": state.epoch,
        "loss": float(losses.sum()) * recipe.batch / len(train),
        "accuracy": float(right.sum()) / len(train),
        "lr": state.optimiser.param_groups[0]["lr"],
        "seconds": time.perf_counter() - started,
    }


def _loss(state: Fit, scores: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with the labels and, if there is a teacher, divergence from what it says of the same pictures."""
    recipe = state.recipe
    loss = F.cross_entropy(scores, y, label_smoothing=recipe.label_smoothing)
    if state.teacher is None:
        return loss
    with torch.no_grad(), state.autocast:
        taught = state.teacher(x).float()
    ours, theirs = ((each / recipe.temperature).log_softmax(1) for each in (scores, taught))
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return (1 - recipe.distil) * loss + recipe.distil * recipe.temperature**2 * divergence


def _judge(state: Fit, row: dict[str, float], val: Digits | None) -> bool:
    """Measure on the validation digits, step an epoch-wise schedule, and say whether this is the best yet."""
    history, recipe, improved = state.history, state.recipe, True
    if val is not None:
        started = time.perf_counter()
        row["val_loss"], row["val_accuracy"] = World.here().of_first(measure, state.trained, val)
        row["seconds"] += time.perf_counter() - started
        value = row[f"val_{recipe.keep}"]
        beats = value > history.best_value if recipe.keep == "accuracy" else value < history.best_value
        improved = beats or not history.best_epoch  # the first one always does
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
            what = f"the loss is no longer a number: training stopped in epoch {epoch}, step {at}"
            fix = "lower the learning rate or check the input; checkpoints of earlier epochs are as they were"
            raise MnistvizError(what, given=loss, fix=fix)
