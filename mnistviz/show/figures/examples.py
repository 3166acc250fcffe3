"""The figure of what excites a filter most."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from mnistviz.errors import MnistvizError
from mnistviz.learn.data import Digits
from mnistviz.look.examples import Examples
from mnistviz.show.picture import BLUE, FAINT, GREY, ORANGE, Picture, bare, caption, mosaic, page, styled

BEYOND = to_rgb("#dce8f5")  # beyond the border of the picture there is nothing to see


@styled
def top_examples(examples: Examples, digits: Digits, channels: Iterable[int]) -> Picture:
    """`top_examples(examples, test, [0, 3, 7])`: what excites each channel most, cropped to what its unit sees."""
    chosen, (count, k) = list(channels), examples.rows.shape
    outside = [c for c in chosen if not 0 <= c < count]
    if outside or not chosen:
        allowed = f"0 to {count - 1}, counted from 0"
        raise MnistvizError(f"no such channel in {examples.layer!r}", given=outside or "none", allowed=allowed)
    if int(examples.rows.max()) >= len(digits):
        fix = "hand over the digits that the examples were looked for in"
        raise MnistvizError("these are other digits", given=f"{len(digits):,} digits", fix=fix)
    wide = max(k * 0.92, 4.0)  # room for the title
    picture, axes = page(
        wide + 3.3, len(chosen) * 0.98 + 1.15, rows=len(chosen), columns=3, squeeze=False,
        width_ratios=[wide, 1.0, 1.5],
    )  # fmt: skip
    for (left, middle, right), channel in zip(axes, chosen, strict=True):
        _crops(left, examples, digits, channel)
        _whole(middle, examples, digits, channel)
        _classes(right, examples, digits, channel)
    titles = "the strongest, cropped to what the unit sees", "the first", "their classes"
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=10.5)
    high, wide = examples.field(chosen[0], 0).size
    caption(
        picture,
        f"{examples.layer}: for each channel the {k} of {len(digits):,} digits with its highest value, falling from "
        f"left to right as written below. A unit sees {high}×{wide} pixels; beyond the border is pale blue. "
        "Grey levels: 0 black, 255 white, one scale for all.",
    )
    said = ", ".join(f"{c} (to {examples.values[c, 0]:.2f})" for c in chosen)
    picture.alt = f"The {k} digits that most excite each of these channels of {examples.layer}, cropped: {said}."
    return picture


def _crops(axes: Axes, examples: Examples, digits: Digits, channel: int) -> None:
    """What each winning unit sees, all windows of one size."""
    crops, k = [], examples.rows.shape[1]
    for place in range(k):
        field = examples.field(channel, place)
        crop = np.full((*field.size, 3), BEYOND)
        y, x = field.top - field.window[0], field.left - field.window[1]
        image = field.crop(digits.images[int(examples.rows[channel, place])]).cpu().numpy() / 255
        crop[y : y + field.height, x : x + field.width] = image[..., None]
        crops.append(crop)
    gap = max(1, crops[0].shape[1] // 7)
    bare(axes).imshow(mosaic([crops], k, gap, paper=1.0), interpolation="nearest")
    axes.set_ylabel(f"channel {channel}", rotation=0, ha="right", va="center", fontsize=10)
    ends = f"{examples.values[channel, 0]:.2f} … {examples.values[channel, -1]:.2f}"
    axes.set_xlabel(ends, fontsize=8, color=FAINT, labelpad=2)


def _whole(axes: Axes, examples: Examples, digits: Digits, channel: int) -> None:
    """The strongest digit, and on it the frame of its unit."""
    field, image = examples.field(channel, 0), digits.images[int(examples.rows[channel, 0])].cpu().numpy()
    bare(axes).imshow(image, cmap=GREY, vmin=0, vmax=255, interpolation="nearest")
    corner = field.left - 0.5, field.top - 0.5
    axes.add_patch(Rectangle(corner, field.width, field.height, fill=False, edgecolor=ORANGE, linewidth=2))


def _classes(axes: Axes, examples: Examples, digits: Digits, channel: int) -> None:
    """How many of the examples are each digit."""
    labels = digits.known_labels().cpu().numpy()[examples.rows[channel].numpy()]
    axes.bar(range(10), np.bincount(labels, minlength=10), color=BLUE, width=0.8)
    axes.set(xticks=range(10), yticks=[], ylim=(0, len(labels)), xlim=(-0.6, 9.6))
    axes.tick_params(length=0, labelsize=7.5)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
