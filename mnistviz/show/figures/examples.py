"""The figure of what excites a filter most."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from mnistviz.errors import one_of, refuse, some
from mnistviz.learn.data import Digits
from mnistviz.look.examples import Examples
from mnistviz.look.trace import times
from mnistviz.show.colours import BLUE, FAINT, ORANGE
from mnistviz.show.picture import Picture, bare, beside, page
from mnistviz.show.tiles import GREY_LEVELS, draw_grey, frame, mosaic

BEYOND = to_rgb("#dce8f5")  # beyond the border of the picture there is nothing to see


def top_examples(examples: Examples, digits: Digits, channels: Iterable[int]) -> Picture:
    """`top_examples(examples, test, [0, 3, 7])`: what excites each channel most, cropped to what its unit sees."""
    chosen, (count, k) = list(channels), examples.rows.shape
    some(chosen, "channels to show", "name some: [0, 3, 7]")
    one_of(f"channel in {examples.layer!r}", chosen, count)
    beyond, fix = int(examples.rows.max()) >= len(digits), "hand over the digits that the examples were looked for in"
    refuse(beyond, "these are other digits", given=f"{len(digits):,} digits", fix=fix)
    wide = max(k * 0.92, 4.0)  # room for the title
    size, ratios = (wide + 3.3, len(chosen) * 0.98 + 1.15), [wide, 1.0, 1.5]
    picture, axes = page(*size, len(chosen), 3, squeeze=False, width_ratios=ratios)
    for (left, middle, right), channel in zip(axes, chosen, strict=True):
        _draw_crops(left, examples, digits, channel)
        field = examples.field(channel, 0)
        draw_grey(middle, digits.images[int(examples.rows[channel, 0])], white=255)
        frame(middle, field.top, field.left, field.height, field.width, ORANGE)
        _draw_classes(right, examples, digits, channel)
    titles = "the strongest, cropped to what the unit sees", "the first", "their classes"
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=10.5)
    order = f"the {k} of {len(digits):,} digits with its highest value, falling from left to right as written below"
    sees = f"A unit sees {times(field.size)} pixels; beyond the border is pale blue"
    picture.caption(f"{examples.layer}: for each channel {order}. {sees}. {GREY_LEVELS}")
    strongest = f"{examples.layer}, cropped: " + ", ".join(f"{c} (to {examples.values[c, 0]:.2f})" for c in chosen)
    return picture.told(f"The {k} digits that most excite each of these channels of {strongest}.")


def _draw_crops(axes: Axes, examples: Examples, digits: Digits, channel: int) -> None:
    """What each winning unit sees, all windows of one size."""
    crops = []
    for place, row in enumerate(examples.rows[channel].tolist()):
        field = examples.field(channel, place)
        crop = np.full((*field.size, 3), BEYOND)
        y, x = field.top - field.window[0], field.left - field.window[1]
        image = field.crop(digits.images[row]).cpu().numpy() / 255
        crop[y : y + field.height, x : x + field.width] = image[..., None]
        crops.append(crop)
    bare(axes).imshow(mosaic([crops], len(crops), max(1, crops[0].shape[1] // 7), paper=1.0), interpolation="nearest")
    beside(axes, f"channel {channel}", size=10)
    ends = f"{examples.values[channel, 0]:.2f} … {examples.values[channel, -1]:.2f}"
    axes.set_xlabel(ends, fontsize=9, color=FAINT, labelpad=2)


def _draw_classes(axes: Axes, examples: Examples, digits: Digits, channel: int) -> None:
    """How many of the examples are each digit."""
    labels = digits.known_labels().cpu().numpy()[examples.rows[channel].numpy()]
    axes.bar(range(10), np.bincount(labels, minlength=10), color=BLUE, width=0.8)
    axes.set(xticks=range(10), yticks=[], ylim=(0, len(labels)), xlim=(-0.6, 9.6))
    axes.tick_params(length=0, labelsize=9)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
