"""Studies: many trainings described by one file; each is run once, by whoever comes first, and kept on disk."""

import hashlib
import io
import json
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mnistviz import project
from mnistviz.device import device_of
from mnistviz.errors import MnistvizError, choose, refuse
from mnistviz.learn import checkpoint, models, recipes
from mnistviz.learn.claims import LostClaimError, alive, claimed
from mnistviz.learn.data import DigitSet, load_digits
from mnistviz.learn.engines import at_once, spread
from mnistviz.learn.evaluate import evaluate
from mnistviz.learn.history import Fit
from mnistviz.learn.recipes import Recipe
from mnistviz.learn.train import fit
from mnistviz.progress import Log

# the keys of a grid: lists of which every combination is a run, then what all of its runs share
AXES: dict[str, Any] = {"models": models.MODELS, "recipes": recipes.TABLES, "data": {"mnist": 0, "kaggle": 0}}
SHARED: dict[str, Any] = {"validation": 0.0, "images": None, "but": {}, "keep": []}
SPLIT_SEED = 42  # the digits held out for validation are the same in every run


@dataclass(frozen=True)
class Config:
    """Everything that the numbers of one run follow from."""

    kind: str  # published, tuned …
    recipe: Recipe  # with its seed
    data: str = "mnist"
    validation: float = 0.0  # share of the training digits held out; 0 trains on all of them
    images: int | None = None  # learn from at most this many
    changes: str = ""  # of the recipe, as the file has them: a label for tables
    keep: bool = False  # the final weights too

    @property
    def settings(self) -> dict[str, Any]:
        given = {"kind": self.kind, "data": self.data, "validation": self.validation, "images": self.images}
        return {"model": self.recipe.model, **given, "recipe": recipes.to_table(self.recipe)}

    @property
    def name(self) -> str:
        """`light_tuned_0_` and a hash of the settings: two configurations never share a file."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.recipe.model}_{self.kind}_{self.recipe.seed}_{digest}"


def read(path: str | Path) -> list[Config]:
    """`read("studies/published.toml")`: the runs it describes; a mistake in it is refused before anything runs.

    A file has tables `[[grid]]` with lists of `models`, `recipes`, `seeds` and perhaps `data`, of which every
    combination is a run; for all of these, perhaps: `validation` and `images`, changes of the recipe under `but`, and
    under `keep` the seeds whose weights are kept. What stands above the grids holds for each of them.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        grids = content.pop("grid", [{}])
        return list({run.name: run for grid in grids for run in _combinations(content | grid)}.values())
    except OSError as error:
        raise MnistvizError(f"cannot read {project.shown(path)}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:  # a MnistvizError is a ValueError
        raise MnistvizError(f"{project.shown(path)} is not a study: {error}") from error


def _combinations(given: dict[str, Any]) -> Iterator[Config]:
    keys: dict[str, Any] = {"data": ["mnist"], **SHARED, **given}
    for key in keys:
        choose("key", key, {**AXES, "seeds": 0, **SHARED})
    for key, allowed in {**AXES, "seeds": "whole numbers, 0 or more"}.items():
        what = f"{key!r} is not a list with something in it"
        refuse(
            not isinstance(keys.get(key), list) or not keys[key], what, given=keys.get(key, "nothing"), allowed=allowed
        )
    for key, table in AXES.items():
        for entry in keys[key]:
            choose(f"entry in {key!r}", str(entry), table)
    for seed in (*keys["seeds"], *keys["keep"]):
        refuse(type(seed) is not int or seed < 0, "no such seed", given=seed, allowed="a whole number, 0 or more")
    validation, images, changes, keep = (keys[key] for key in SHARED)
    wrong = isinstance(validation, bool) or not 0 <= validation < 1
    refuse(wrong, "'validation' is not a share", given=validation, allowed="0 up to but not including 1")
    wrong = images is not None and (type(images) is not int or images < 100)
    refuse(wrong, "'images' is not a number of digits", given=images, allowed="a whole number, 100 or more")
    label = ", ".join(f"{name} {value}" for name, value in changes.items())
    for model, kind, data, seed in product(*(keys[key] for key in (*AXES, "seeds"))):
        recipe = recipes.from_table(
            model, choose(f"{kind} recipe", model, recipes.TABLES[kind]) | changes | {"seed": seed}
        )
        yield Config(kind, recipe, data, float(validation), images, label, seed in keep)


def run(config: Config, folder: Path | None = None, each_step: Callable[[Fit], None] | None = None) -> dict[str, Any]:
    """Train once as `config` says and judge once; its numbers follow from its argument alone.

    With a folder, a run that was killed goes on there from its last whole epoch.
    """
    digits, recipe = _digits(config), config.recipe
    train, val = digits.train.split(config.validation, SPLIT_SEED) if config.validation else (digits.train, None)
    train = train.sample(config.images)
    torch.manual_seed(recipe.seed)
    model = models.build(recipe.model)
    watched = {"step": each_step} if each_step else {}
    history = fit(model, train, val, recipe, callbacks=watched, folder=folder, resume=bool(folder), progress=False)
    if history.interrupted:
        raise KeyboardInterrupt
    result: dict[str, Any] = {"epochs": history.rows, "best_epoch": history.best_epoch, "learned_from": len(train)}
    if digits.stand_in or digits.test.labels is not None:  # nobody here knows the labels of Kaggle's own test digits
        final = evaluate(model, digits.judged)
        model.load_state_dict(history.best)
        best = evaluate(model, digits.judged) if val is not None else None
        result |= {"test_final": final.accuracy, "nll_final": final.nll, "test_kept": best and best.accuracy}
    on = {"device": str(device_of(model)), "instructions": torch.backends.cpu.get_cpu_capability()}
    return result | {"seconds": history.seconds, "on": on | checkpoint.versions()}


def _digits(config: Config) -> DigitSet:
    with redirect_stdout(io.StringIO()):  # without the note about the stand-in in every run
        return load_digits(config.data)


def take(task: tuple[Config, Path]) -> tuple[str, str]:
    """Do one run and keep its result, unless somebody has done it or is at it.

    The answer is the run's name, and: done, failed, there or elsewhere.
    """
    config, folder = task
    name, threads = config.name, torch.get_num_threads()
    with claimed(folder, name) as claim:
        if claim is None or there(config, folder):
            return name, "there" if claim else "elsewhere"
        work = folder / f".{claim.name}.work"  # a process that lost its claim cannot spoil what another one does
        for left in folder.glob(f".{name}.claim.*.work"):
            left.rename(work)  # a killed run goes on
        try:
            torch.set_num_threads(1)  # on every engine, so that none gives other numbers
            result = run(config, work, lambda _: alive(claim))
            for suffix in (".json", ".pth") if config.keep else ():
                content = (work / checkpoint.FINAL).with_suffix(suffix).read_bytes()
                project.write_bytes(folder / "weights" / f"{name}{suffix}", content)
        except LostClaimError:
            return name, "elsewhere"
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        finally:
            torch.set_num_threads(threads)
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
    with suppress(FileNotFoundError):
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
    configs, log = read(path), Log()
    folder = Path(folder or Path(path).with_suffix("")).resolve()
    for config in configs if retry else ():
        if "error" in _kept(config, folder):
            (folder / f"{config.name}.json").unlink()
    done = sum(there(config, folder) for config in configs)
    log.line(f"{project.shown(folder)}: {len(configs)} runs, of which {done} are there")
    while waiting := [config for config in configs if not there(config, folder)]:
        for name, state in spread(take, [(config, folder) for config in waiting], engine, workers, address):
            if state in ("done", "failed"):
                log.line(_outcome(name, results(configs, folder), at_once(engine, workers)))
        if not any(there(config, folder) for config in waiting):
            time.sleep(2)  # others are at them
    table = results(configs, folder)
    with project.atomic(folder.with_suffix(".csv")) as part:
        table.to_csv(part, lineterminator="\n")
    return table


def results(configs: list[Config], folder: Path) -> pd.DataFrame:
    """A row a run: what it was, its accuracies and its seconds; a run that is not there has no numbers."""
    rows = []
    for config in configs:
        kept = _kept(config, folder)
        row: dict[str, Any] = {"run": config.name, "model": config.recipe.model, "recipe": config.kind}
        row |= {"changes": config.changes, "data": config.data, "seed": config.recipe.seed}
        row |= {name: kept.get(name) for name in ("learned_from", "best_epoch", "test_final", "test_kept", "nll_final")}
        val = [epoch.get("val_accuracy") for epoch in kept.get("epochs", [])]
        row |= {"epochs": len(val), "val_final": val[-1] if val else None}
        row |= {"val_kept": val[kept["best_epoch"] - 1] if val else None}
        row |= {"seconds": kept.get("seconds"), "error": kept.get("error")} | kept.get("on", {})
        rows.append(row)
    return pd.DataFrame(rows).set_index("run")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation over the seeds of what is otherwise the same: at the last epoch, and the one kept."""
    shown = {"val_final": "validation", "val_kept": "validation, kept", "test_final": "test", "test_kept": "test, kept"}
    groups = table.groupby(["model", "recipe", "changes", "data"], sort=False)
    columns: dict[str, Any] = {"runs": groups["seconds"].count(), "failed": groups["error"].count()}
    for name, title in shown.items():
        both = groups[name].agg(["mean", "std"])
        columns[title] = [f"{mean:.3%} ± {sd:.3%}" if mean == mean else "" for mean, sd in both.to_numpy(float)]
    columns["seconds"] = groups["seconds"].mean().round(1)
    return pd.DataFrame(columns).reset_index()


def _outcome(name: str, table: pd.DataFrame, workers: int) -> str:
    """What a run came to, and how long the others will take if they are as slow as those of their kind."""
    row, waiting = table.loc[name], table["seconds"].isna() & table["error"].isna()
    usual = table.groupby(["model", "recipe", "changes"])["seconds"].transform("mean").fillna(table["seconds"].mean())
    came = row["error"] or f"test {row['test_final']:.2%} after {row['seconds']:,.0f} s"
    left = f"about {usual[waiting].sum() / workers / 60:,.0f} min left" if waiting.any() else "all are there"
    return f"{len(table) - waiting.sum()}/{len(table)}  {name}: {came}; {left}"


def estimate(config: Config) -> float:
    """About how many seconds a run takes here, on one thread, from six of its batches."""
    train, recipe = _digits(config).train, config.recipe.but(epochs=1)
    for _ in range(2):  # the first time warms up
        history = fit(models.build(recipe.model), train[: 6 * recipe.batch], None, recipe, progress=False)
    count = min(config.images or len(train), round(len(train) * (1 - config.validation)))
    return history.seconds * count / (6 * recipe.batch) * config.recipe.epochs
