"""What a study is made of: the runs that its file describes, each named by all that its numbers follow from."""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, get_args

from mnistviz import project
from mnistviz.errors import MnistvizError, choose, refuse
from mnistviz.learn import checkpoint, models, recipes
from mnistviz.learn.attacks import Attack
from mnistviz.learn.augment import Augment
from mnistviz.learn.recipes import Recipe

# the keys of a grid: lists of which every combination is a run, then what all of its runs share
AXES: dict[str, Any] = {"models": models.MODELS, "recipes": recipes.TABLES, "data": {"mnist": 0, "kaggle": 0}}
SHARED: dict[str, Any] = {"validation": 0.0, "images": None, "but": {}, "keep": []}
KINDS: dict[Any, Any] = {int: (int,), str: (str,)} | dict.fromkeys((float, float | None), (float, int))  # in TOML
KINDS |= dict.fromkeys((Augment | None, Attack | None), (dict,))
SETTINGS = {field.name: field.type for field in fields(Recipe) if field.name not in ("model", "seed")}


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
    runs: dict[str, Config] = {}
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        grids = content.pop("grid", [{}])
        _must(_list(grids, dict), "grid", grids, "tables, each under [[grid]]")
        for run in (run for grid in grids for run in _combinations(content | grid)):
            runs[run.name] = run if run.keep else runs.get(run.name, run)
    except OSError as error:
        fix = "give the path of a study's file, such as studies/published.toml"
        raise MnistvizError(f"cannot read {project.shown(path)}: {error.strerror}", fix=fix) from error
    except ValueError as error:  # a MnistvizError is one
        raise MnistvizError(f"{project.shown(path)} is not a study: {error}") from error
    return list(runs.values())


def _combinations(given: dict[str, Any]) -> Iterator[Config]:
    keys: dict[str, Any] = {"data": ["mnist"], **SHARED, **given}
    for key in keys:
        choose("key", key, {**AXES, "seeds": 0, **SHARED})
    for key, table in AXES.items():
        _must(_list(keys.get(key), str), key, keys.get(key), f"a list of some of: {', '.join(table)}")
        for entry in keys[key]:
            choose(f"entry in {key!r}", entry, table)
    validation, images, changes, keep = (keys[key] for key in SHARED)
    for key in ("seeds", "keep"):
        fine = (keys.get(key) == [] and key == "keep") or (_list(keys.get(key), int) and min(keys[key]) >= 0)
        _must(fine, key, keys.get(key), "a list of whole numbers, 0 or more")
    fine = type(validation) in (int, float) and 0 <= validation < 1
    _must(fine, "validation", validation, "a share, 0 up to but not including 1")
    fine = images is None or (type(images) is int and images >= 100)
    _must(fine, "images", images, "a whole number, 100 or more")
    _must(isinstance(changes, dict), "but", changes, "a table of recipe settings, such as { epochs = 3 }")
    for name, value in changes.items():
        kind = choose("recipe setting in 'but'", name, SETTINGS)
        if kind in KINDS:
            _must(type(value) in KINDS[kind], f"but.{name}", value, " or ".join(each.__name__ for each in KINDS[kind]))
        else:  # tuple[int, ...] or tuple[str, ...]
            _must(_list(value, get_args(kind)[0]), f"but.{name}", value, f"a list of {get_args(kind)[0].__name__}")
    label = ", ".join(f"{name} {value}" for name, value in changes.items())
    for model, kind, data, seed in product(*(keys[key] for key in (*AXES, "seeds"))):
        table = choose(f"{kind} recipe", model, recipes.TABLES[kind]) | changes | {"seed": seed}
        try:
            recipe = recipes.from_table(model, table)
        except (TypeError, IndexError) as error:
            raise MnistvizError(f"'but' has a table that does not fit: {error}", given=changes) from error
        for teacher in recipe.teachers:
            checkpoint.find(teacher)
        yield Config(kind, recipe, data, float(validation), images, label, seed in keep)


def _list(given: Any, kind: type) -> bool:
    return isinstance(given, list) and bool(given) and all(type(entry) is kind for entry in given)


def _must(fine: bool, key: str, given: Any, allowed: str) -> None:
    refuse(not fine, f"{key!r} is wrong", given="nothing" if given is None else given, allowed=allowed)
