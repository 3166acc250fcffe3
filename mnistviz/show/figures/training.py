"""Figures of a training: loss and accuracy by epoch, and how large each step is beside the weights it changes."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from mnistviz.errors import MnistvizError
from mnistviz.learn.history import History
from mnistviz.look.diary import Diary
from mnistviz.show.picture import BLUE, COLOURS, FAINT, ORANGE, Picture, caption, page, styled


@styled
def training_history(history: History) -> Picture:
    """`training_history(history)`: loss and accuracy of every epoch, training and validation."""
    table = history.table
    if table.empty:
        raise MnistvizError("this history has no epochs to draw", given=history, fix="train for at least one epoch")
    picture, axes = page(10, 3.7, columns=2)
    for ax, measure in zip(axes, ("loss", "accuracy"), strict=True):
        ax.plot(table.index, table[measure], color=FAINT, linestyle="--", marker="s", markersize=4, label="training")
        if f"val_{measure}" in table:
            ax.plot(table.index, table[f"val_{measure}"], color=BLUE, marker="o", markersize=5, label="validation")
        ax.set(title=measure.capitalize(), xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0].set_ylabel("cross-entropy, nats")
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[1].set_yscale("function", functions=(_stretch, _shrink))
    axes[1].yaxis.set_major_locator(FixedLocator([0.1, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1]))
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))
    said = ""
    if f"val_{history.recipe.keep}" in table:
        ax = axes[0] if history.recipe.keep == "loss" else axes[1]
        shown = f"{history.best_value:.2%}" if ax is axes[1] else f"{history.best_value:.4f}"
        said = f"best validation {history.recipe.keep} {shown} in epoch {history.best_epoch}"
        ax.plot(history.best_epoch, history.best_value, marker="o", markersize=12, fillstyle="none",
                markeredgewidth=1.8, color=ORANGE, linestyle="", label=said)  # fmt: skip
    for ax in axes:
        ax.legend(loc="best", fontsize=9.5)
    recipe = history.recipe
    averaged = "; validation is of the averaged weights" if recipe.average else ""
    where = "; training is measured while weights move, with dropout and augmentation on" if recipe.augment else ""
    axis = "Both vertical scales are logarithmic, accuracy in its errors: half as many is the same step anywhere."
    caption(picture, f"{recipe.model or 'model'}, {len(table)} epochs{averaged}{where}. {axis}")
    first, last = table.iloc[0], table.iloc[-1]
    picture.alt = (
        f"Curves over {len(table)} epochs: training loss from {first.loss:.3f} to {last.loss:.3f}, training accuracy "
        f"from {first.accuracy:.1%} to {last.accuracy:.1%}; {said or 'no validation set'}."
    )
    return picture


def _stretch(accuracy: np.ndarray) -> np.ndarray:
    """Accuracy on a scale of its errors; fewer than one in 10,000 counts as that."""
    return -np.log10(np.clip(1 - accuracy, 1e-4, None))


def _shrink(stretched: np.ndarray) -> np.ndarray:
    return 1 - 10.0**-stretched


@styled
def weight_ratios(diary: Diary) -> Picture:
    """`weight_ratios(diary)`: how long gradients and updates are, measured in the length of the weights they change."""
    if not diary.ratios:
        raise MnistvizError("the diary has no ratios", fix="mv.fit(…, callbacks=diary.callbacks), with more steps")
    table = pd.DataFrame(diary.ratios)
    palette = [COLOURS[i % 4] for i in range(table["layer"].nunique())]
    picture, axes = page(10.4, 3.9, columns=2, sharex=True)
    for ax, measure in zip(axes, ("gradient", "update"), strict=True):
        style = {"hue": "layer", "style": "layer", "palette": palette, "linewidth": 1.6, "errorbar": None}
        sns.lineplot(table, x="step", y=measure, ax=ax, legend=ax is axes[1], **style)
        ax.set(title=f"{measure} / weight", yscale="log", ylabel="")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1].axhline(1e-3, color=ORANGE, linestyle=":", linewidth=1.6)
    within = axes[1].get_yaxis_transform()
    axes[1].text(0.01, 1.05e-3, "1 in 1,000", color=ORANGE, fontsize=9, va="bottom", transform=within)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    caption(
        picture, f"Euclidean lengths, every {diary.every} steps; the update is what one step of the optimiser changed."
    )
    last = table.groupby("layer")["update"].last()
    picture.alt = (
        f"Ratio of gradient to weight and of update to weight over {diary.steps} steps; at the end one update changes "
        f"between {last.min():.1e} and {last.max():.1e} of a layer's weights."
    )
    return picture
