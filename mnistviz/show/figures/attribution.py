"""Figures of which pixels mattered, beside what they must be compared with; and of what pleases a network."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from torch import Tensor

from mnistviz.errors import some
from mnistviz.look.attribution import Attribution, Sanity
from mnistviz.look.dreams import Dreams
from mnistviz.look.trace import times
from mnistviz.show.colours import BLUE, FAINT
from mnistviz.show.picture import Picture, bare, beside, page, percent
from mnistviz.show.scales import Scale, short
from mnistviz.show.tiles import draw_grey, draw_map


def attributions(pixels: Tensor, attributions: Sequence[Attribution]) -> Picture:
    """`attributions(digit.pixels, [attribute(model, digit.pixels, m) for m in METHODS])`: one picture per method."""
    some(attributions, "attributions to draw")
    columns = len(attributions) + 1
    picture, axes = page(2.35 * columns, 3.1, columns=columns)
    targets = list(dict.fromkeys(str(a.target) for a in attributions))
    answers = " or ".join(targets)
    draw_grey(axes[0], pixels, "input")
    for ax, a in zip(axes[1:], attributions, strict=True):
        target = f" for {a.target}" if len(targets) > 1 else ""
        largest = _draw_map(ax, a.values, a.method + target)
        coarse = "" if a.cells.shape == a.values.shape else f", {times(a.cells.shape)} cells"
        residual = "" if a.residual is None else f"\nresidual {percent(a.residual)}"
        ax.set_xlabel(f"±{short(largest)}{coarse}{residual}", fontsize=9)
    scales = "Each map has its own scale, given below it: compare patterns, not strengths. Baseline is black, 0"
    picture.caption(f"Which pixels spoke for {answers} (orange) or against it (blue). {scales}.")
    picture.alt = f"The digit, and where {', '.join(a.method for a in attributions)} find what spoke for {answers}."
    return picture


def _draw_map(axes: Axes, values: Tensor, title: str) -> float:
    """A map about zero, white, on a scale of its own, and the end of that scale."""
    scale = Scale.about_zero(values, "map")
    draw_map(axes, values, scale)
    axes.set_title(title, fontsize=10)
    return scale.high


def sanity(pixels: Tensor, checks: Sequence[Sanity]) -> Picture:
    """`sanity(digit.pixels, [mv.attribution.sanity(model, digit.pixels, m) …])`: methods beside their controls."""
    some(checks, "checks to draw")
    rows, ratios = len(checks), [1, 1, 1, 1, 1.5]
    picture, axes = page(11.2, 2.5 * rows + 0.8, rows, 5, squeeze=False, width_ratios=ratios)
    agreements = []
    for (digit, mine, random, edges, curves), check in zip(axes, checks, strict=True):
        with_random, with_edges = _agreement(check.with_random), _agreement(check.with_edges)
        agreements.append(f"{check.attribution.method}: {with_random} with random weights, {with_edges} with edges")
        draw_grey(digit, pixels, "the digit")
        _draw_map(mine, check.attribution.values, check.attribution.method)
        _draw_map(random, check.random.values, "with random weights")
        _draw_map(edges, check.edges, "edges: no model at all")
        random.set_xlabel(f"rank agreement {with_random}", fontsize=9)
        edges.set_xlabel(f"rank agreement {with_edges}", fontsize=9)
        curves.plot(check.shares, check.probability, color=BLUE, label="named first")
        curves.plot(check.shares, check.at_random, color=FAINT, linestyle="--", label="drawn at random")
        curves.set(ylim=(-0.02, 1.02), xlim=(0, 1), xlabel="share of inked pixels turned black")
        curves.set_title(f"probability of {check.attribution.target}", fontsize=10)
    axes[0, 4].legend(fontsize=9, loc="lower left", handlelength=1.4)
    honest = "An honest map changes when the weights do, and names pixels whose loss hurts more than that of others"
    rank = "Rank agreement is Spearman's, on inked pixels; 1 is the same order"
    picture.caption(f"{honest}. {rank}. Every map has its own scale, white at 0.")
    return picture.told(f"Attributions beside their controls; rank agreement {'; '.join(agreements)}.")


def _agreement(value: float) -> str:
    return "none: flat" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def dreams(dreams: Mapping[str, Dreams], real: Tensor, aim: str) -> Picture:
    """`dreams({"without priors": a, "with priors": b}, best, "the score for 7")`: rows of them beside a real digit."""
    some(dreams, "dreams to draw")
    columns = max(len(dream.pixels) for dream in dreams.values()) + 1
    picture, axes = page(1.5 * columns + 1.2, 1.85 * len(dreams) + 0.7, len(dreams), columns, squeeze=False)
    for row, (name, dream) in zip(axes, dreams.items(), strict=True):
        for ax in row:
            bare(ax)
        for ax, pixels, start, end in zip(row, dream.pixels, dream.start.tolist(), dream.end.tolist(), strict=False):
            draw_grey(ax, pixels)
            ax.set_xlabel(f"{short(start)} → {short(end)}", fontsize=9)
        beside(row[0], name)
        draw_grey(row[-1], real)
        row[-1].set_title("a real digit", fontsize=9)
    below = "below, its value at first and at the end"
    picture.caption(f"Made to raise {aim}, from noise, each from its own seed; {below}.")
    return picture.told(f"Pictures made to raise {aim}: {', '.join(dreams)}, beside a real digit.")
