"""Figures of what breaks a network: corruptions, attacks, and the pictures after them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from mnistviz.errors import MnistvizError
from mnistviz.learn.data import Digits
from mnistviz.show.picture import GREY, Picture, bare, caption, page, percent, styled
from mnistviz.show.scales import Scale, array, short


@styled
def robustness(tables: Mapping[str, pd.DataFrame]) -> Picture:
    """`robustness({"deep": mv.corruptions.robustness(model, digits), …})`: accuracy against strength, a panel per corruption."""
    if not tables:
        raise MnistvizError("there are no tables to draw")
    kinds = list(dict.fromkeys(kind for table in tables.values() for kind in table["corruption"]))
    if not kinds:
        raise MnistvizError("the tables hold no corruption")
    columns = min(4, len(kinds))
    rows = -(-len(kinds) // columns)
    picture, axes = page(11.0, 1.95 * rows + 0.9, rows=rows, columns=columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(kinds) :]:
        ax.set_visible(False)
    for ax, kind in zip(axes.flat, kinds, strict=False):
        for k, (name, table) in enumerate(tables.items()):
            part = table[table["corruption"] == kind]
            ax.plot(part["strength"], part["accuracy"], marker="o", markersize=3.5, color=f"C{k}", label=name)
        ax.set_title(kind, fontsize=10)
        ax.set_ylim(0, 1.02)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for ax in axes.flat[max(0, len(kinds) - columns) : len(kinds)]:
        ax.tick_params(labelbottom=True)
    axes[0, 0].legend(fontsize=9, loc="lower left")
    own = "These corruptions are this project's own, seeded; their figures cannot be compared with published ones."
    caption(picture, f"Share of right answers against strength, 0 (none) to 5. {own}")
    worst = [f"{name}: {percent(float(t['accuracy'].min()))}" for name, t in tables.items()]
    picture.alt = f"Accuracy against strength for {len(kinds)} corruptions; lowest values: {'; '.join(worst)}."
    return picture


@styled
def attack_curves(curves: Mapping[str, Mapping[float, float]]) -> Picture:
    """`attack_curves({"deep, FGSM": {0.0: 0.996, 0.1: 0.93, …}, …})`: accuracy against how far a pixel may move."""
    if not curves:
        raise MnistvizError("there are no curves to draw")
    if not all(curves.values()):
        raise MnistvizError("a curve has no points", given=", ".join(n for n, c in curves.items() if not c))
    curves = {name: dict(sorted(curve.items())) for name, curve in curves.items()}
    picture, ax = page(7.4, 3.7)
    for k, (name, curve) in enumerate(curves.items()):
        ax.plot(list(curve), list(curve.values()), marker="o", color=f"C{k}", label=name)
    ax.set(xlabel="ε: how far each pixel may move, of 1", ylabel="right answers", ylim=(-0.02, 1.02))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_title("Accuracy under attack")
    ax.legend(loc="best", fontsize=9.5)
    ends = [(name, list(curve.items())[-1]) for name, curve in curves.items()]
    said = [f"{name} {percent(right)} at ε {epsilon:g}" for name, (epsilon, right) in ends]
    caption(picture, "Each attack is made against the network it is shown for.")
    picture.alt = f"Curves of accuracy against the size of an attack: {'; '.join(said)}."
    return picture


@styled
def adversarial_pairs(digits: Digits, changed: Tensor, before: Sequence[int], after: Sequence[int]) -> Picture:
    """`adversarial_pairs(digits, attacked, answers, answers_after)`: the digit, what was added, and the sum."""
    if not len(digits) or not len(digits) == len(changed) == len(before) == len(after):
        given = f"{len(digits)} digits, {len(changed)} changed, {len(before)} and {len(after)} answers"
        raise MnistvizError("one changed picture, and two answers, per digit are needed", given=given)
    added = array(changed - digits.pixels.cpu())[:, 0]
    most = float(np.abs(added).max())
    scale = Scale(-most, most, "across inputs")
    count = len(digits)
    picture, axes = page(1.3 * count + 1.5, 4.9, rows=3, columns=count, squeeze=False)
    for k in range(count):
        for ax, shown, said in (
            (axes[0, k], array(digits.pixels[k, 0]), f"answer {before[k]}"),
            (axes[2, k], array(changed[k, 0]), f"answer {after[k]}"),
        ):
            bare(ax).imshow(shown, cmap=GREY, vmin=0, vmax=1, interpolation="nearest")
            ax.set_xlabel(said, fontsize=9.5)
        bare(axes[1, k]).imshow(scale.rgb(added[k]), interpolation="nearest")
        axes[1, k].set_xlabel(f"at most {short(float(np.abs(added[k]).max()))}", fontsize=9.5)
    for ax, name in zip(axes[:, 0], ("digit", "added", "sum"), strict=True):
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10.5)
    scale.bar(axes[1].tolist())
    turned = sum(a != b for a, b in zip(before, after, strict=True))
    caption(
        picture, f"Orange: made lighter; blue: made darker; {scale}. Digits and sums: grey levels, 0 black, 1 white."
    )
    picture.alt = f"{count} digits before and after an attack, and what it added; {turned} answers changed."
    return picture
