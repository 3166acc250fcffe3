"""Each published system on the data its README names, by its published recipe and by our tuned one.

python -m benchmarks.published            both, about half an hour on two cores
python -m benchmarks.published tuned      one of them, into results/tuned.json
"""

import json
import sys

import torch

import mnistviz as mv
from benchmarks.common import RESULTS, hardware
from mnistviz import project
from mnistviz.learn.history import Fit

# model: (system, data, share for validation, published figure)
SYSTEMS = {
    "simple": ("A", "kaggle", 0.15, "validation 98.64 %, Kaggle 98.73 %"),
    "light": ("B", "mnist", None, "98.16 % after 5 epochs, 97.06 % after 1"),
    "deep": ("C", "kaggle", 0.15, "validation 99.49 % best, 99.44 % final"),
    "compact": ("D", "mnist", 0.15, "none given"),
    "pooled": ("E", "mnist", 0.20, "over 99 % on the test images"),
}


def measure(name: str, kind: str) -> dict[str, object]:
    system, data, share, figure = SYSTEMS[name]
    recipe = mv.recipes.published(name) if kind == "published" else mv.recipes.tuned(name).but(seed=42)
    digits = mv.load_digits(data)
    train, val = digits.train.split(share, seed=42) if share else (digits.train, None)
    torch.manual_seed(recipe.seed)
    model = mv.models.build(name)
    after_first: list[float] = []
    test = digits.judged

    def look(fit: Fit) -> None:
        if fit.epoch == 1 and val is None:
            after_first.append(mv.evaluate(fit.model, test).accuracy)

    history = mv.fit(model, train, val, recipe, callbacks={"epoch": look})
    final = mv.evaluate(model, test).accuracy
    measured = [f"test {final:.2%} after {len(history.rows)} epochs"]
    if after_first:
        measured.append(f"{after_first[0]:.2%} after 1")
    if val is not None:
        last = history.table["val_accuracy"].iloc[-1]
        best = history.table["val_accuracy"].loc[history.best_epoch]
        chosen = "best" if recipe.keep == "accuracy" else "at the lowest loss"
        measured.insert(0, f"validation {best:.2%} {chosen}, {last:.2%} final")
    return {
        "system": system,
        "model": name,
        "published": figure,
        "measured": "; ".join(measured),
        "judged_on": (f"{len(val):,} validation and " if val is not None else "")
        + f"{len(test):,} {test.source} digits",
        "seconds": history.seconds,
    }


def main(*kinds: str) -> None:
    for kind in kinds or ("published", "tuned"):
        result = {"systems": [measure(name, kind) for name in SYSTEMS], "hardware": hardware()}
        project.write_bytes(RESULTS / f"{kind}.json", (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
