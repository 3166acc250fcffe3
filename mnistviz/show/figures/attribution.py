"""Figures of which pixels mattered, beside what they must be compared with; and of what pleases a network."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mnistviz.errors import MnistvizError
from mnistviz.look.attribution import Attribution, Sanity
from mnistviz.look.dreams import Dreams
from mnistviz.show.figures.maps import draw_input
from mnistviz.show.picture import BLUE, FAINT, GREY, Picture, bare, caption, page, percent, styled
from mnistviz.show.scales import Scale, array, short


def _map(axes, values: Tensor, scale: Scale, title: str) -> None:  # type: ignore[no-untyped-def]
    bare(axes).imshow(scale.rgb(values), interpolation="nearest")
    axes.set_title(title, fontsize=10)


@styled
def attributions(pixels: Tensor, found: Sequence[Attribution]) -> Picture:
    """`attributions(digit.pixels, [attribute(model, digit.pixels, m) for m in METHODS])`: one picture per method."""
    if not found:
        raise MnistvizError("there are no attributions to draw")
    picture, axes = page(2.35 * (len(found) + 1), 3.1, columns=len(found) + 1)
    targets = list(dict.fromkeys(str(one.target) for one in found))
    several, answers = len(targets) > 1, " or ".join(targets)
    draw_input(axes[0], pixels)
    for ax, one in zip(axes[1:], found, strict=True):
        largest = float(one.values.abs().max())
        _map(ax, one.values, Scale(-largest, largest, "map"), one.method + (f" for {one.target}" if several else ""))
        ends = f"±{short(largest)}"
        sized = "" if one.cells.shape == one.values.shape else f", {one.cells.shape[0]}×{one.cells.shape[1]} cells"
        residual = "" if one.residual is None else f"\nresidual {percent(one.residual)}"
        ax.set_xlabel(ends + sized + residual, fontsize=9)
    caption(
        picture,
        f"Which pixels spoke for {answers} (orange) or against it (blue). Methods have different units, so "
        "each has its own scale, given below it; baseline is black, 0.",
    )
    picture.alt = f"The digit, and where {', '.join(one.method for one in found)} find what spoke for {answers}."
    return picture


def _said(agreement: float) -> str:
    return "none: flat" if agreement != agreement else f"{agreement:.2f}".replace("-", "−")


@styled
def sanity(pixels: Tensor, checks: Sequence[Sanity]) -> Picture:
    """`sanity(digit.pixels, [mv.attribution.sanity(model, digit.pixels, m) for m in …])`: a row per method, with its controls."""
    if not checks:
        raise MnistvizError("there are no checks to draw")
    rows = len(checks)
    picture, axes = page(11.2, 2.5 * rows + 0.8, rows=rows, columns=5, squeeze=False, width_ratios=[1, 1, 1, 1, 1.5])
    for row, check in zip(axes, checks, strict=True):
        one = check.attribution
        draw_input(row[0], pixels, "the digit")
        row[0].title.set_fontsize(10)
        _map(row[1], one.values, Scale.over([one.values], "map"), one.method)
        _map(row[2], check.random.values, Scale.over([check.random.values], "map"), "with random weights")
        row[2].set_xlabel(f"rank agreement {_said(check.with_random)}", fontsize=9)
        _map(row[3], check.edges, Scale.over([check.edges], "map"), "edges: no model at all")
        row[3].set_xlabel(f"rank agreement {_said(check.with_edges)}", fontsize=9)
        row[4].plot(check.shares, check.probability, color=BLUE, label="named first")
        row[4].plot(check.shares, check.at_random, color=FAINT, linestyle="--", label="drawn at random")
        row[4].set(ylim=(-0.02, 1.02), xlim=(0, 1), xlabel="share of inked pixels turned black")
        row[4].set_title(f"probability of {one.target}", fontsize=10)
    axes[0, 4].legend(fontsize=8, loc="upper right", handlelength=1.4)
    caption(
        picture,
        "An honest map changes when the weights do, and names pixels whose loss hurts more than that of others. Rank "
        "agreement is Spearman's, on inked pixels; 1 is the same order. Every map has its own scale.",
    )
    said = [
        f"{c.attribution.method}: {_said(c.with_random)} with random weights, {_said(c.with_edges)} with edges"
        for c in checks
    ]
    picture.alt = "Attributions beside their controls; rank agreement " + "; ".join(said) + "."
    return picture


@styled
def dreams(found: Mapping[str, Dreams], real: Tensor, said: str) -> Picture:
    """`dreams({"without priors": a, "with priors": b}, best, "the score for 7")`: rows of them beside a real digit."""
    if not found:
        raise MnistvizError("there are no dreams to draw")
    most = max(len(d.pixels) for d in found.values())
    picture, axes = page(
        1.5 * (most + 1) + 1.2, 1.85 * len(found) + 0.7, rows=len(found), columns=most + 1, squeeze=False
    )
    for row, (name, one) in zip(axes, found.items(), strict=True):
        for ax in row:
            bare(ax)
        for ax, pixels, start, end in zip(row, one.pixels, one.start.tolist(), one.end.tolist(), strict=False):
            ax.imshow(array(pixels[0]), cmap=GREY, vmin=0, vmax=1, interpolation="nearest")
            ax.set_xlabel(f"{short(start)} → {short(end)}", fontsize=9)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10.5)
        row[-1].imshow(array(real).reshape(28, 28), cmap=GREY, vmin=0, vmax=1, interpolation="nearest")
        row[-1].set_title("a real digit", fontsize=9)
    caption(
        picture, f"Made to raise {said}, from noise, each from its own seed; below, its value at first and at the end."
    )
    picture.alt = f"Pictures made to raise {said}: {', '.join(found)}, beside a real digit."
    return picture
