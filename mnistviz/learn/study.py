"""Studies: many trainings described by one file; each is run once, by whoever comes first, and kept on disk."""

import io
import json
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
import torch

from mnistviz import project
from mnistviz.device import device_of
from mnistviz.errors import MnistvizError
from mnistviz.learn import checkpoint, models
from mnistviz.learn.claims import alive, busy, claimed, lost
from mnistviz.learn.data import DigitSet, load_digits
from mnistviz.learn.engines import at_once, spread
from mnistviz.learn.evaluate import evaluate
from mnistviz.learn.history import Fit
from mnistviz.learn.plan import Config, read
from mnistviz.learn.train import fit
from mnistviz.progress import Log

SPLIT_SEED = 42  # the digits held out for validation are the same in every run
SEEN_WITHIN = 60  # seconds: a shared disk may show late what a worker wrote
_ONE = Lock()  # run at a time in a process: torch has one random state and one number of threads


def run(config: Config, folder: Path | None = None, each_step: Callable[[Fit], None] | None = None) -> dict[str, Any]:
    """Train once as `config` says and judge once; its numbers follow from its argument alone.

    With a folder, a run that was killed goes on there from its last whole epoch.
    """
    digits, recipe = _digits(config), config.recipe
    train, val = digits.train.split(config.validation, SPLIT_SEED) if config.validation else (digits.train, None)
    train = train.sample(config.images)
    torch.manual_seed(recipe.seed)
    model = models.build(recipe.model)
    watched: dict[str, Any] = {"step": each_step} if each_step else {}
    if folder:  # `fit` ends by removing what it goes on from, and a kill may still come before the result is kept
        on, copy = folder / checkpoint.RESUME, folder / "whole.pt"
        watched["epoch"] = lambda _: shutil.copyfile(on, copy)
        if copy.exists() and not on.exists():
            copy.rename(on)
    history = fit(model, train, val, recipe, callbacks=watched, folder=folder, resume=bool(folder), progress=False)
    if history.interrupted:
        raise KeyboardInterrupt
    result: dict[str, Any] = {"epochs": history.rows, "best_epoch": history.best_epoch, "learned_from": len(train)}
    if digits.answers is not None or digits.test.labels is not None:  # nobody knows those of Kaggle's own test digits
        final = evaluate(model, digits.judged)
        model.load_state_dict(history.best)
        best = evaluate(model, digits.judged) if val is not None else None
        result |= {"test_final": final.accuracy, "nll_final": final.nll, "test_kept": best and best.accuracy}
    where = {"device": str(device_of(model)), "instructions": torch.backends.cpu.get_cpu_capability()}
    return result | {"seconds": history.seconds, "on": where | checkpoint.versions()}


def _digits(config: Config) -> DigitSet:
    with redirect_stdout(io.StringIO()):  # without the note about the stand-in in every run
        return load_digits(config.data)


def take(task: tuple[Config, Path]) -> tuple[str, str]:
    """Do one run and keep its result, unless somebody has done it or is at it.

    The answer is the run's name, and: done, failed, there or elsewhere.
    """
    config, folder = task
    name, threads = config.name, torch.get_num_threads()
    with _ONE, claimed(folder, name) as claim:
        if claim is None or there(config, folder):
            return name, "there" if claim else "elsewhere"
        work = folder / f".{claim.name}.work"  # a process that lost its claim cannot spoil what another one does
        try:
            for left in folder.glob(f".{name}.claim.*.work"):  # a killed run goes on
                shutil.rmtree(left, ignore_errors=True) if work.exists() and left != work else left.rename(work)
            torch.set_num_threads(1)  # on every engine, so that none gives other numbers
            result = run(config, work, lambda _: alive(claim))
            for suffix in (".json", ".pth") if config.keep else ():
                content = (work / checkpoint.FINAL).with_suffix(suffix).read_bytes()
                project.write_bytes(folder / "weights" / f"{name}{suffix}", content)
        except Exception as error:
            if isinstance(error.__cause__ or error, OSError) and not lost(claim):  # a full disk is not the run's fault
                if isinstance(error, MnistvizError):
                    raise
                fix = "make room on the disk, and start the study again: it goes on where it was"
                raise MnistvizError(f"{name}: {error}", fix=fix) from error
            result = {"error": f"{type(error).__name__}: {error}"}
        finally:
            torch.set_num_threads(threads)
        if lost(claim):
            return name, "elsewhere"
        record = json.dumps({"config": config.settings} | result, indent=1) + "\n"
        project.write_bytes(folder / f"{name}.json", record.encode())
        shutil.rmtree(work, ignore_errors=True)
    return name, "failed" if "error" in result else "done"


def there(config: Config, folder: Path) -> bool:
    """Whether a run has its result, and its weights if they are to be kept; a failed one counts."""
    kept = _kept(config, folder)
    weights = folder / "weights" / f"{config.name}.pth"
    return bool(kept) and ("error" in kept or not config.keep or weights.exists())


def _kept(config: Config, folder: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError, NotADirectoryError, ValueError, TypeError):  # a damaged one is not there
        return dict(json.loads((folder / f"{config.name}.json").read_text(encoding="utf-8")))
    return {}


def study(
    path: str | Path, *, folder: str | Path | None = None, retry: bool = False, engine: str = "processes",
    workers: int | None = None, address: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """`study("studies/published.toml")`: all its runs, each in a file of `studies/published/`, and the table of them.

    A study that was stopped or killed goes on where it was, and other processes may work on it too. A run that failed
    stands in the table with its error, and is tried again with `retry`.
    """
    runs, log = {config.name: config for config in read(path)}, Log()
    folder = Path(folder or Path(path).with_suffix("")).resolve()
    for name, config in runs.items() if retry else ():
        if "error" in _kept(config, folder):
            (folder / f"{name}.json").unlink(missing_ok=True)
    done = sum(there(config, folder) for config in runs.values())
    log.line(f"{project.shown(folder)}: {len(runs)} runs, of which {done} are there")
    while waiting := [config for config in runs.values() if not there(config, folder)]:
        free = [(config, folder) for config in waiting if not busy(folder, config.name)]
        for name, state in spread(take, free, engine, workers, address) if free else ():
            if state != "elsewhere":
                _see(runs[name], folder)
            if state in ("done", "failed"):
                log.line(_outcome(runs[name], list(runs.values()), folder, at_once(engine, workers)))
        if all(busy(folder, config.name) for config, _ in free):
            log.live(f"{len(waiting)} runs are being done elsewhere")
            time.sleep(2)
    log.close()
    for name in runs:  # what those left who were killed at the very end
        for left in (*folder.rglob(f".{name}.*"), *folder.glob(f"{name}.claim.*")):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    table = results(list(runs.values()), folder)
    with project.atomic(folder.parent / f"{folder.name}.csv") as part:
        table.to_csv(part, lineterminator="\n")
    return table


def _see(config: Config, folder: Path) -> None:
    """Wait until a result that a worker has kept is seen here too."""
    for _ in range(SEEN_WITHIN):
        if there(config, folder):
            return
        time.sleep(1)
    fix = "give a folder (--out) on a disk that this machine and all workers share"
    raise MnistvizError("a worker has kept a result where it cannot be seen from here", given=str(folder), fix=fix)


def results(configs: list[Config], folder: Path) -> pd.DataFrame:
    """A row a run: what it was, its accuracies and its seconds; a run that is not there has no numbers."""
    rows, numbers = [], ["learned_from", "best_epoch", "test_final", "test_kept", "nll_final", "seconds"]
    for config in configs:
        kept = _kept(config, folder)
        row: dict[str, Any] = {"run": config.name, "model": config.recipe.model, "recipe": config.kind}
        row |= {"changes": config.changes, "data": config.data, "seed": config.recipe.seed}
        val = [epoch.get("val_accuracy") for epoch in kept.get("epochs", [])]
        row |= {name: kept.get(name) for name in numbers} | {"epochs": len(val), "val_final": val[-1] if val else None}
        row |= {"val_kept": val[kept["best_epoch"] - 1] if val else None, "error": kept.get("error")}
        rows.append(row | kept.get("on", {}))
    kinds = dict.fromkeys([*numbers, "val_final", "val_kept"], "float") | dict.fromkeys(numbers[:2], "Int64")
    return pd.DataFrame(rows).set_index("run").astype(kinds)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation over the seeds of what is otherwise the same: at the last epoch, and the one kept."""
    shown = {"val_final": "validation", "val_kept": "validation, kept", "test_final": "test", "test_kept": "test, kept"}
    groups = table.groupby(["model", "recipe", "changes", "data"], sort=False)
    columns: dict[str, Any] = {"runs": groups["seconds"].count(), "failed": groups["error"].count()}
    for name, title in shown.items():
        told = [f"{mean:.3%} ± {sd:.3%}" for mean, sd in groups[name].agg(["mean", "std"]).to_numpy(float)]
        columns[title] = [text.removesuffix(" ± nan%").replace("nan%", "") for text in told]  # of one run; of none
    columns["seconds"] = groups["seconds"].mean().round(1)
    return pd.DataFrame(columns).reset_index()


def _outcome(config: Config, configs: list[Config], folder: Path, workers: int) -> str:
    """What a run came to, and how long the others will take if they are as slow as those of their kind."""
    table, kept = results(configs, folder), _kept(config, folder)
    waiting = table["seconds"].isna() & table["error"].isna()
    usual = table.groupby(["model", "recipe", "changes"])["seconds"].transform("mean").fillna(table["seconds"].mean())
    part = "test" if "test_final" in kept else "val"
    score = float(table[f"{part}_final"][config.name])
    came = kept.get("error") or f"{part} {score:.2%} after {kept['seconds']:,.0f} s"
    left = max(usual[waiting].sum() / workers, usual[waiting].max()) if waiting.any() else 0
    then = f"about {time_of(left)} left" if waiting.any() else "all are there"
    return f"{len(table) - int(waiting.sum())}/{len(table)}  {config.name}: {came}; {then}"


def planned(file: str | Path, folder: str | Path | None, workers: int) -> str:
    """What a study has still to do, and about how long that takes; none of it is done."""
    configs, folder = read(file), Path(folder or Path(file).with_suffix("")).resolve()
    missing = [config for config in configs if not there(config, folder)]
    lines, seconds = [f"{len(configs)} runs, of which {len(configs) - len(missing)} are there"], [0.0]
    for _, runs in groupby(missing, lambda config: replace(config, recipe=config.recipe.but(seed=0), keep=False)):
        like, *others = runs
        seconds += [estimate(like)] * (1 + len(others))
        named = ", ".join(filter(None, (f"{like.recipe.model} {like.kind}", like.changes, like.data)))
        lines.append(f"  {named}: {1 + len(others)} runs of about {time_of(seconds[-1])}")
    left = time_of(max(sum(seconds) / workers, max(seconds)))
    return "\n".join([*lines, f"about {left} with {workers} at a time, on machines as fast and as busy as this one"])


def time_of(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"


def estimate(config: Config) -> float:
    """About how many seconds a run takes here, on one thread, from six of its batches."""
    digits, recipe, threads = _digits(config).train, config.recipe.but(epochs=1), torch.get_num_threads()
    count = min(config.images or len(digits), round(len(digits) * (1 - config.validation)))
    part = digits[: 6 * recipe.batch]
    val = part[: round(len(digits) * config.validation / count * len(part))] if config.validation else None
    try:
        torch.set_num_threads(1)
        for _ in range(2):  # the first time warms up
            history = fit(models.build(recipe.model), part, val, recipe, progress=False)
    finally:
        torch.set_num_threads(threads)
    return history.seconds * count / len(part) * config.recipe.epochs
