"""Figures of the data: what the digits look like, how many there are, how they differ."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from torch import Tensor

from mnistviz.errors import refuse, some
from mnistviz.learn.data import Digits
from mnistviz.show.colours import BLUE, COLOURS, HATCHES, INK
from mnistviz.show.picture import Picture, bare, beside, colour_bar, page, shares_on
from mnistviz.show.scales import POSITIVE
from mnistviz.show.tiles import GREY_LEVELS, draw_grey, mosaic, outline


def sample_grid(digits: Digits, each: int = 12) -> Picture:
    """`sample_grid(train)`: the first dozen of every digit, a row per digit."""
    labels, images = digits.known_labels().cpu().numpy(), digits.images.cpu().numpy()
    some(digits, "digits to show")
    picture, axes = page(each * 0.62 + 0.7, 6.9)
    draw_grey(axes, mosaic([list(images[labels == d][:each]) for d in range(10)], each), white=255)
    axes.set_yticks([14 + 30 * d for d in range(10)], [str(d) for d in range(10)])
    axes.tick_params(length=0, labelsize=13)
    picture.caption(f"The first {each} of each digit in {digits.source}. {GREY_LEVELS}")
    return picture.told(f"Handwritten digits, white on black: a row for each digit from 0 to 9, up to {each} in a row.")


def class_balance(parts: Mapping[str, Digits]) -> Picture:
    """`class_balance({"train": train, "validation": val})`: what share of each part every digit has."""
    empty = [name for name, digits in parts.items() if not len(digits)]
    refuse(empty or not parts, "there are no digits to count", given=", ".join(empty) or "no parts")
    picture, axes = page(8.6, 3.6)
    width, all_shares = 0.8 / len(parts), []
    for i, (name, digits) in enumerate(parts.items()):
        counts = np.bincount(digits.known_labels().cpu().numpy(), minlength=10)
        shares, at = counts / len(digits), np.arange(10) + (i - (len(parts) - 1) / 2) * width
        style = {"color": COLOURS[i % 4], "hatch": HATCHES[i % 4], "edgecolor": "white", "linewidth": 0}
        bars = axes.bar(at, shares, width * 0.92, label=f"{name}: {len(digits):,}", **style)
        if len(parts) == 1:
            axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=9)
        all_shares += shares.tolist()
    low, high = min(all_shares), max(all_shares)
    axes.axhline(0.1, color=INK, linewidth=1, linestyle=":", label="one in ten")
    axes.set(title="Share of each digit", xlabel="digit", xticks=range(10), ylim=(0, max(0.135, high * 1.1)))
    shares_on(axes.yaxis)
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=len(parts) + 1)
    return picture.told(f"Bars: each digit's share of {', '.join(parts)}, between {low:.1%} and {high:.1%}.")


def mean_and_spread(digits: Digits) -> Picture:
    """`mean_and_spread(train)`: the average picture of each digit, and where its writers disagree."""
    labels, pixels = digits.known_labels(), digits.images.float() / 255
    groups = [pixels[labels == d] for d in range(10)]
    empty = [d for d, group in enumerate(groups) if not len(group)]
    refuse(empty, "some digits never occur here", given=empty, fix="take a larger or stratified sample")

    variances = mosaic([[group.var(0, correction=0).cpu().numpy() for group in groups]], 10, gap=0)
    highest = float(variances.max())
    picture, (above, below) = page(10, 2.9, rows=2)
    grey = draw_grey(above, mosaic([[group.mean(0).cpu().numpy() for group in groups]], 10, gap=0))
    coloured = bare(below).imshow(variances, cmap=POSITIVE, vmin=0, vmax=highest, interpolation="nearest")
    for ax, image, name, top in ((above, grey, "mean", 1.0), (below, coloured, "variance", highest)):
        beside(ax, name, size=11)
        colour_bar(image, ax, fraction=0.02, pad=0.01, shrink=0.75, ticks=[0, top], format="%.2g")
    drawn = f"{len(digits):,} digits of {digits.source}, pixels in [0, 1]"
    picture.caption(f"{drawn}. One scale per row, shared by its ten maps.")
    spread = "the variance of each pixel: bright along the edges of the strokes, where writers differ most"
    return picture.told(f"Two rows of ten maps. Above, the mean picture of each digit, a soft digit. Below, {spread}.")


def ink_by_digit(digits: Digits) -> Picture:
    """`ink_by_digit(train)`: how much of the paper each digit covers, writer by writer."""
    ink = digits.images.float().mean((1, 2)).cpu().numpy() / 255
    table = pd.DataFrame({"digit": digits.known_labels().cpu().numpy(), "ink": ink})
    picture, axes = page(8.6, 3.4)
    sns.boxplot(table, x="digit", y="ink", ax=axes, color="#9cc3e0", fliersize=1.2, linewidth=1, width=0.6)
    axes.set(title="Ink per picture", xlabel="digit", ylabel="mean pixel, 0 to 1")
    axes.grid(visible=False, axis="x")
    medians = table.groupby("digit")["ink"].median()
    least = f"Digit {medians.idxmin()} uses least ink (median {medians.min():.2f})"
    most = f"digit {medians.idxmax()} most ({medians.max():.2f})"
    return picture.told(f"A box per digit of the mean pixel value. {least} and {most}.")


def pixel_histogram(digits: Digits) -> Picture:
    """`pixel_histogram(train)`: how many pixels have each grey level, counted on a logarithmic scale."""
    counts = np.bincount(digits.images.cpu().numpy().ravel(), minlength=256)
    picture, axes = page(8.6, 3.0)
    axes.bar(np.arange(256), counts, width=1, color=BLUE)
    axes.set(title="Grey levels", xlabel="pixel value (0 black, 255 white)", ylabel="pixels")
    axes.set(yscale="log", xlim=(-2, 257))
    share = counts[0] / counts.sum()
    axes.annotate(f"{share:.0%} of all pixels are 0", (0, counts[0]), (14, counts[0]), va="center", color=INK)
    return picture.told(f"Histogram of the 256 grey levels on a log scale; {share:.0%} of pixels are exactly black.")


def image_rows(rows: Mapping[str, Tensor], note: str = "") -> Picture:
    """`image_rows({"original": x, "rotated": y})`: named rows of pictures, values in [0, 1], one grey scale."""
    images = [list(pixels.detach().cpu().reshape(-1, 28, 28).numpy()) for pixels in rows.values()]
    columns = max(map(len, images), default=0)
    refuse(not columns, "there are no pictures to show", given=", ".join(rows) or "no rows")
    side = 0.72 if columns > 4 else 1.4  # inches
    picture, axes = page(columns * side + 1.4, len(rows) * side + 0.5)
    draw_grey(axes, mosaic(images, columns, paper=1.0))
    outline(axes, [(30 * c, 30 * r) for r, row in enumerate(images) for c in range(len(row))], 28, 28)
    axes.set_yticks([14 + 30 * i for i in range(len(rows))], list(rows))
    axes.tick_params(length=0, labelsize=11)
    picture.caption(f"{note} Grey levels: 0 black, 1 white, one scale for all.".strip())
    counted = ", ".join(f"{name} ({len(row)})" for name, row in zip(rows, images, strict=True))
    return picture.told(f"Pictures in grey levels, a row for each of: {counted}.")
