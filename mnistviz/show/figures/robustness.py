"""Figures of what breaks a network: corruptions, attacks, and the pictures after them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from mnistviz.errors import refuse, some
from mnistviz.learn.data import Digits
from mnistviz.show.colours import curve
from mnistviz.show.picture import Picture, beside, only, page, percent, shares_on
from mnistviz.show.scales import Scale, array, short
from mnistviz.show.tiles import draw_grey, draw_map


def robustness(tables: Mapping[str, pd.DataFrame]) -> Picture:
    """`robustness({"deep": mv.corruptions.robustness(model, digits), …})`: accuracy against strength, by corruption."""
    some(tables, "tables to draw")
    kinds = list(dict.fromkeys(kind for table in tables.values() for kind in table["corruption"]))
    some(kinds, "corruptions in these tables")
    columns = min(4, len(kinds))
    rows = -(-len(kinds) // columns)
    picture, axes = page(11.0, 1.95 * rows + 0.9, rows, columns, squeeze=False, sharex=True, sharey=True)
    used = only(axes, len(kinds))
    for ax, kind in zip(used, kinds, strict=True):
        for k, (name, table) in enumerate(tables.items()):
            part = table[table["corruption"] == kind]
            ax.plot(part["strength"], part["accuracy"], **curve(k), markersize=6, label=name.lstrip("_"))
        ax.set_title(kind, fontsize=10)
        ax.set_ylim(0, 1.02)
        shares_on(ax.yaxis)
    for ax in used[-columns:]:  # the lowest of each column
        ax.tick_params(labelbottom=True)
    used[0].legend(fontsize=9, loc="lower left")
    own = "These corruptions are this project's own, seeded; their figures cannot be compared with published ones."
    picture.caption(f"Share of right answers against strength, 0 (none) to 5. {own}")
    lowest = "; ".join(f"{name}: {percent(float(table['accuracy'].min()))}" for name, table in tables.items())
    return picture.told(f"Accuracy against strength for {len(kinds)} corruptions; lowest values: {lowest}.")


def attack_curves(curves: Mapping[str, Mapping[float, float]]) -> Picture:
    """`attack_curves({"deep, FGSM": {0.0: 0.996, 0.1: 0.93, …}, …})`: accuracy against how far a pixel may move."""
    some(curves, "curves to draw")
    for name, points in curves.items():
        some(points, f"points in the curve {name!r}")
    picture, ax = page(7.4, 3.7)
    ends = []
    for k, (name, points) in enumerate(curves.items()):
        sizes = sorted(points)
        ax.plot(sizes, [points[size] for size in sizes], **curve(k), markersize=8, label=name.lstrip("_"))
        ends.append(f"{name} {percent(points[sizes[-1]])} at ε {sizes[-1]:g}")
    ax.set(xlabel="ε: how far each pixel may move, of 1", ylabel="right answers", ylim=(-0.02, 1.02))
    ax.set_title("Accuracy under attack")
    shares_on(ax.yaxis)
    ax.legend(loc="best", fontsize=9.5)
    picture.caption("Each attack is made against the network it is shown for.")
    return picture.told(f"Curves of accuracy against the size of an attack: {'; '.join(ends)}.")


def adversarial_pairs(digits: Digits, changed: Tensor, before: Sequence[int], after: Sequence[int]) -> Picture:
    """`adversarial_pairs(digits, attacked, answers, answers_after)`: the digit, what was added, and the sum."""
    count = len(digits)
    what = "one changed picture, and two answers, per digit are needed"
    given = f"{count} digits, {len(changed)} changed, {len(before)} and {len(after)} answers"
    refuse(not 0 < count == len(changed) == len(before) == len(after), what, given=given)
    pixels = digits.pixels.cpu()
    added = array(changed - pixels)[:, 0]
    largest = np.abs(added).max(axis=(1, 2))
    scale = Scale.about_zero(added, "across inputs")
    picture, axes = page(1.3 * count + 1.5, 4.9, rows=3, columns=count, squeeze=False)
    for k, (above, middle, below) in enumerate(axes.T):
        draw_grey(above, pixels[k])
        draw_map(middle, added[k], scale)
        draw_grey(below, changed[k])
        above.set_xlabel(f"answer {before[k]}", fontsize=9.5)
        middle.set_xlabel(f"at most {short(largest[k])}", fontsize=9.5)
        below.set_xlabel(f"answer {after[k]}", fontsize=9.5)
    for ax, name in zip(axes[:, 0], ("digit", "added", "sum"), strict=True):
        beside(ax, name)
    scale.bar(axes[1].tolist())
    colours = f"Orange: made lighter; blue: made darker; {scale}"
    picture.caption(f"{colours}. Digits and sums: grey levels, 0 black, 1 white.")
    turned = int((np.asarray(before) != np.asarray(after)).sum())
    return picture.told(f"{count} digits before and after an attack, and what it added; {turned} answers changed.")
