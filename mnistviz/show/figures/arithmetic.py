"""The figure of one number: the products that make it, and the whole sum."""


import numpy as np
from matplotlib.axes import Axes

from mnistviz.look.arithmetic import Ledger
from mnistviz.show.picture import BLUE, FAINT, GREEN, INK, ORANGE, Picture, bare, caption, page, styled
from mnistviz.show.scales import Scale, array, short


@styled
def ledger(book: Ledger, rows: int = 3) -> Picture:
    """`ledger(mv.ledger(trace, "conv2", 5, 3, 7))`: patch, kernel and products in numbers, then the whole sum."""
    return _linear_ledger(book, 4 * max(rows, 1)) if book.patch.ndim == 1 else _patch_ledger(book, rows)


def _patch_ledger(book: Ledger, rows: int) -> Picture:
    sums = array(book.sums)
    order = np.argsort(-np.abs(sums), kind="stable")[: max(rows, 1)]
    channel, y, x = book.unit
    side = max(1.35, 0.42 * book.patch.shape[-1])
    wide = len(sums) > 1
    picture, axes = page(
        side * 3.6 + (4.0 if wide else 1.6), len(order) * (side + 0.25) + 1.25, rows=len(order), columns=4,
        squeeze=False, width_ratios=[side, side, side, 3.4 if wide else 1.2],
    )  # fmt: skip
    parts = {"patch": book.patch, "× kernel": book.kernel, "= products": book.products}
    scales = {name: Scale.over([values]) for name, values in parts.items()}
    for ax, name in zip(axes[0], parts, strict=False):
        ax.set_title(name, loc="center")
    for line, c in zip(axes, order, strict=True):
        for ax, (name, values) in zip(line, parts.items(), strict=False):
            _numbers(ax, array(values[int(c)]), scales[name])
        line[0].set_ylabel(f"input\nchannel {book.inputs[int(c)]}", fontsize=9.5)
        line[2].set_xlabel(f"sum {short(sums[c])}", fontsize=10, color=INK)
    if wide:
        grid = axes[0, 3].get_gridspec()
        for ax in axes[:, 3]:
            ax.remove()
        _waterfall(picture.add_subplot(grid[:, 3]), book)
    else:
        bare(axes[0, 3]).set_xlim(0, 1)
        said = f"  sum {short(sums[0])}\n+ bias {short(book.bias)}\n= {short(book.total)}"
        axes[0, 3].text(0.1, 0.5, said, fontsize=12.5, va="center", linespacing=1.8, color=INK)
    shown = f"The {len(order)} of {len(sums)} input channels that weigh most. " if len(order) < len(sums) else ""
    colours = ", ".join(
        f"{name.lstrip('×= ')} to {'±' if s.signed else ''}{short(s.high)}" for name, s in scales.items()
    )
    caption(
        picture,
        f"{book.layer}, channel {channel}, y {y}, x {x}. {shown}Recorded value {book.recorded:.6f}, "
        f"sum of all products plus bias {book.total:.6f}. Colours: one scale per column ({colours}).",
    )
    picture.alt = (
        f"The pixel at y {y}, x {x} of channel {channel} in {book.layer} as a sum: {book.patch.numel()} products "
        f"and the bias {short(book.bias)} make {short(book.total)}; recorded {short(book.recorded)}."
    )
    return picture


def _numbers(axes: Axes, values: np.ndarray, scale: Scale) -> None:
    """A small table of coloured cells with their numbers in them."""
    colours = scale.rgb(values)
    bare(axes).imshow(colours, interpolation="nearest")
    size = 8.5 if values.shape[1] <= 3 else 6.5
    for (i, j), value in np.ndenumerate(values):
        ink = "white" if colours[i, j] @ (0.3, 0.59, 0.11) < 0.5 else INK
        text = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−") if value else "0"
        axes.text(j, i, text, ha="center", va="center", fontsize=size, color=ink)


def _waterfall(axes: Axes, book: Ledger) -> None:
    """Every channel's sum, one after another, from 0 to the total."""
    sums = np.append(array(book.sums), book.bias)
    ends = np.cumsum(sums)
    colours = [ORANGE if s >= 0 else BLUE for s in sums]
    colours[-1] = FAINT
    axes.bar(range(len(sums)), sums, bottom=ends - sums, color=colours, width=0.8)
    axes.axhline(book.total, color=GREEN, linewidth=1.4, linestyle="--")
    axes.axhline(0, color=INK, linewidth=0.8)
    low, high = min(ends.min(), 0.0), max(ends.max(), 0.0)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    places = [i for i in range(len(sums) - 1) if i % max(1, len(sums) // 6) == 0 and i < len(sums) - 1 - len(sums) // 9]
    axes.set_xticks([*places, len(sums) - 1], [*(str(book.inputs[i]) for i in places), "bias"])
    axes.set(title=f"added up: {short(book.total)}", xlabel="input channel", ylabel="running sum")
    axes.grid(visible=False, axis="x")


def _linear_ledger(book: Ledger, most: int) -> Picture:
    sums = array(book.sums)
    order = np.argsort(-np.abs(sums), kind="stable")[:most]
    names = [
        f"{short(float(book.patch[i]))} × {short(float(book.kernel[i]))}   feature {book.inputs[i]}"
        for i in map(int, order)
    ]
    rest = sums.sum() - sums[order].sum()
    values = [*sums[order], *([rest] if len(order) < len(sums) else []), book.bias]
    names += [f"{len(sums) - len(order)} others"] * (len(order) < len(sums)) + ["bias"]
    picture, axes = page(8.2, 0.27 * len(values) + 1.3)
    bars = axes.barh(names, values, color=[ORANGE if v >= 0 else BLUE for v in values], height=0.72)
    axes.bar_label(bars, [short(v) for v in values], padding=4, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{book.layer}, unit {book.unit[0]}: {len(sums)} products + bias = {short(book.total)}")
    caption(picture, f"Value × weight of each feature. Sum {book.total:.6f}, recorded {book.recorded:.6f}.")
    picture.alt = (
        f"Unit {book.unit[0]} of {book.layer} as a sum of {len(sums)} products and the bias {short(book.bias)}: "
        f"{short(book.total)}; recorded {short(book.recorded)}."
    )
    return picture
