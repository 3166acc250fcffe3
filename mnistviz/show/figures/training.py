"""The figure of a training: loss and accuracy by epoch."""

import numpy as np
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from mnistviz.errors import refuse
from mnistviz.learn.history import History
from mnistviz.show.colours import BLUE, FAINT, ORANGE
from mnistviz.show.picture import Picture, page, shares_on

ACCURACIES = [0.1, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1]


def training_history(history: History) -> Picture:
    """`training_history(history)`: loss and accuracy of every epoch, training and validation."""
    table = history.table
    refuse(table.empty, "this history has no epochs to draw", given=history, fix="train for at least one epoch")
    picture, (left, right) = page(10, 3.7, columns=2)
    for ax, measure in ((left, "loss"), (right, "accuracy")):
        ax.plot(table.index, table[measure], color=FAINT, linestyle="--", marker="s", markersize=4, label="training")
        if f"val_{measure}" in table:
            ax.plot(table.index, table[f"val_{measure}"], color=BLUE, marker="o", markersize=5, label="validation")
        ax.set(title=measure.capitalize(), xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left.set(ylabel="cross-entropy, nats", yscale="log")
    left.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:g}")
    right.set_yscale("function", functions=(_stretch, lambda y: 1 - 10.0**-y))
    right.yaxis.set_major_locator(FixedLocator(ACCURACIES))
    shares_on(right.yaxis, None)
    recipe, best = history.recipe, ""
    if f"val_{recipe.keep}" in table:
        ax, form = (left, ".4f") if recipe.keep == "loss" else (right, ".2%")
        best = f"best validation {recipe.keep} {history.best_value:{form}} in epoch {history.best_epoch}"
        ring = {"marker": "o", "markersize": 12, "fillstyle": "none", "markeredgewidth": 1.8, "linestyle": ""}
        ax.plot(history.best_epoch, history.best_value, color=ORANGE, label=best, **ring)
    left.legend(loc="best", fontsize=9.5)
    right.legend(loc="best", fontsize=9.5)
    averaged = "; validation is of the averaged weights" if recipe.average else ""
    where = "; training is measured while weights move, with dropout and augmentation on" if recipe.augment else ""
    axis = "Both vertical scales are logarithmic, accuracy in its errors: half as many is the same step anywhere."
    picture.caption(f"{recipe.model or 'model'}, {len(table)} epochs{averaged}{where}. {axis}")
    first, last = table.iloc[0], table.iloc[-1]
    loss = f"training loss from {first.loss:.3f} to {last.loss:.3f}"
    accuracy = f"training accuracy from {first.accuracy:.1%} to {last.accuracy:.1%}"
    return picture.told(f"Curves over {len(table)} epochs: {loss}, {accuracy}; {best or 'no validation set'}.")


def _stretch(accuracy: np.ndarray) -> np.ndarray:
    """Accuracy on a scale of its errors; fewer than one in 10,000 counts as that."""
    return -np.log10(np.clip(1 - accuracy, 1e-4, None))
