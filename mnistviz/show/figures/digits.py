"""Figures of the data: what the digits look like, how many there are, how they differ."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from mnistviz.errors import MnistvizError
from mnistviz.learn.data import Digits
from mnistviz.show.picture import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PAPER,
    Picture,
    bare,
    caption,
    mosaic,
    page,
    styled,
)


@styled
def sample_grid(digits: Digits, each: int = 12) -> Picture:
    """`sample_grid(train)`: the first dozen of every digit, a row per digit."""
    labels = digits.known_labels().cpu().numpy()
    rows = [np.flatnonzero(labels == d)[:each] for d in range(10)]
    images = [[digits.images[int(i)].cpu().numpy() for i in row] for row in rows]
    picture, axes = page(each * 0.62 + 0.7, 6.9)
    bare(axes).imshow(mosaic(images, each), cmap=GREY, vmin=0, vmax=255, interpolation="nearest")
    axes.set_yticks([14 + 30 * d for d in range(10)], [str(d) for d in range(10)])
    axes.tick_params(length=0, labelsize=13)
    caption(picture, f"The first {each} of each digit in {digits.source}. {PAPER.capitalize()}.")
    picture.alt = f"Handwritten digits, white on black: a row for each digit from 0 to 9, up to {each} in a row."
    return picture


@styled
def class_balance(parts: Mapping[str, Digits]) -> Picture:
    """`class_balance({"train": train, "validation": val})`: what share of each part every digit has."""
    empty = [name for name, digits in parts.items() if not len(digits)]
    if empty or not parts:
        raise MnistvizError("there are no digits to count", given=", ".join(empty) or "no parts")
    picture, axes = page(8.6, 3.6)
    width, shares = 0.8 / len(parts), []
    colours = (BLUE, ORANGE, GREEN, FAINT)
    for i, (name, digits) in enumerate(parts.items()):
        counts = np.bincount(digits.known_labels().cpu().numpy(), minlength=10)
        at = np.arange(10) + (i - (len(parts) - 1) / 2) * width
        shares += list(counts / len(digits))
        axes.bar(at, counts / len(digits), width * 0.92, color=colours[i % 4], hatch=("", "//", "..", "xx")[i % 4],
                 edgecolor="white", linewidth=0, label=f"{name}: {len(digits):,}")  # fmt: skip
        if len(parts) == 1:
            for digit, count in enumerate(counts):
                axes.text(digit, count / len(digits), f"{count:,}", ha="center", va="bottom", fontsize=9)
    axes.axhline(0.1, color=INK, linewidth=1, linestyle=":", label="one in ten")
    axes.set(title="Share of each digit", xlabel="digit", xticks=range(10), ylim=(0, max(0.135, max(shares) * 1.1)))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=len(parts) + 1)
    picture.alt = f"Bars: each digit's share of {', '.join(parts)}, between {min(shares):.1%} and {max(shares):.1%}."
    return picture


@styled
def mean_and_spread(digits: Digits) -> Picture:
    """`mean_and_spread(train)`: the average picture of each digit, and where its writers disagree."""
    labels = digits.known_labels()
    pixels = digits.images.float() / 255
    groups = [pixels[labels == d] for d in range(10)]
    empty = [d for d, group in enumerate(groups) if not len(group)]
    if empty:
        raise MnistvizError("some digits never occur here", given=empty, fix="take a larger or stratified sample")
    means = np.stack([g.mean(0).cpu().numpy() for g in groups])
    variances = np.stack([g.var(0, correction=0).cpu().numpy() for g in groups])
    picture, axes = page(10, 2.9, rows=2)
    for ax, values, name, colours, top in (
        (axes[0], means, "mean", GREY, 1.0),
        (axes[1], variances, "variance", "magma", float(variances.max())),
    ):
        drawn = bare(ax).imshow(mosaic([list(values)], 10, 0), cmap=colours, vmin=0, vmax=top, interpolation="nearest")
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
        bar = picture.colorbar(drawn, ax=ax, fraction=0.02, pad=0.01, shrink=0.75, ticks=[0, top], format="%.2g")
        bar.outline.set_visible(False)
    caption(
        picture,
        f"{len(digits):,} digits of {digits.source}, pixels in [0, 1]. One scale per row, shared by its ten maps.",
    )
    picture.alt = (
        "Two rows of ten maps. Above, the mean picture of each digit, a soft digit. Below, the variance of "
        "each pixel: bright along the edges of the strokes, where writers differ most."
    )
    return picture


@styled
def ink_by_digit(digits: Digits) -> Picture:
    """`ink_by_digit(train)`: how much of the paper each digit covers, writer by writer."""
    table = pd.DataFrame(
        {
            "digit": digits.known_labels().cpu().numpy(),
            "ink": digits.images.float().mean((1, 2)).cpu().numpy() / 255,
        }
    )
    picture, axes = page(8.6, 3.4)
    sns.boxplot(table, x="digit", y="ink", ax=axes, color="#9cc3e0", fliersize=1.2, linewidth=1, width=0.6)
    axes.set(title="Ink per picture", xlabel="digit", ylabel="mean pixel, 0 to 1")
    axes.grid(visible=False, axis="x")
    medians = table.groupby("digit")["ink"].median()
    picture.alt = (
        f"A box per digit of the mean pixel value. Digit {medians.idxmin()} uses least ink "
        f"(median {medians.min():.2f}) and digit {medians.idxmax()} most ({medians.max():.2f})."
    )
    return picture


@styled
def pixel_histogram(digits: Digits) -> Picture:
    """`pixel_histogram(train)`: how many pixels have each grey level, counted on a logarithmic scale."""
    counts = np.bincount(digits.images.cpu().numpy().ravel(), minlength=256)
    picture, axes = page(8.6, 3.0)
    axes.bar(np.arange(256), counts, width=1, color=BLUE)
    axes.set(
        title="Grey levels", xlabel="pixel value (0 black, 255 white)", ylabel="pixels", yscale="log", xlim=(-2, 257)
    )
    share = counts[0] / counts.sum()
    axes.annotate(f"{share:.0%} of all pixels are 0", (0, counts[0]), (14, counts[0]), va="center", color=INK)
    picture.alt = f"Histogram of the 256 grey levels on a log scale; {share:.0%} of pixels are exactly black."
    return picture


@styled
def image_rows(rows: Mapping[str, Tensor], note: str = "") -> Picture:
    """`image_rows({"original": x, "rotated": y})`: named rows of pictures, values in [0, 1], one grey scale."""
    images = {name: x.detach().cpu().reshape(-1, 28, 28).numpy() for name, x in rows.items()}
    columns = max(len(x) for x in images.values())
    side = 0.72 if columns > 4 else 1.4  # inches
    picture, axes = page(columns * side + 1.4, len(rows) * side + 0.5)
    sheet = mosaic([list(x) for x in images.values()], columns, paper=1.0)
    bare(axes).imshow(sheet, cmap=GREY, vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks([14 + 30 * i for i in range(len(rows))], list(images))
    axes.tick_params(length=0, labelsize=11)
    caption(picture, f"{note} Grey levels: 0 black, 1 white, one scale for all.".strip())
    picture.alt = f"Rows of handwritten digits: {', '.join(images)}."
    return picture
