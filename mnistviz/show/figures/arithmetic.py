"""The figure of one number: the products that make it, and the whole sum."""

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from mnistviz.look.arithmetic import Ledger
from mnistviz.show.colours import BLUE, FAINT, GREEN, INK, ORANGE
from mnistviz.show.picture import Picture, bare, names_down, page
from mnistviz.show.scales import Scale, array, short


def ledger(ledger: Ledger, rows: int = 3) -> Picture:
    """`ledger(mv.ledger(trace, "conv2", 5, 3, 7))`: patch, kernel and products in numbers, then the whole sum."""
    rows = max(rows, 1)
    if ledger.patch.ndim == 1:
        return _linear_ledger(ledger, 4 * rows)
    sums = array(ledger.sums)
    strongest = np.argsort(-np.abs(sums), kind="stable")[:rows]
    channel, y, x = ledger.unit
    side = max(1.4, 0.47 * ledger.patch.shape[-1])
    several = len(sums) > 1
    width, last = (side * 3.6 + 4.0, 3.4) if several else (side * 3.6 + 1.6, 1.2)
    height, ratios = len(strongest) * (side + 0.25) + 1.25, [side, side, side, last]
    picture, axes = page(width, height, len(strongest), 4, squeeze=False, width_ratios=ratios)
    parts = {"patch": ledger.patch, "× kernel": ledger.kernel, "= products": ledger.products}
    scales = {name: Scale.over([values]) for name, values in parts.items()}
    for ax, name in zip(axes[0], parts, strict=False):
        ax.set_title(name, loc="center")
    for line, c in zip(axes, strongest.tolist(), strict=True):
        for ax, (name, values) in zip(line, parts.items(), strict=False):
            _numbers(ax, array(values[c]), scales[name])
        line[0].set_ylabel(f"input\nchannel {ledger.inputs[c]}", fontsize=9.5)
        line[2].set_xlabel(f"sum {short(sums[c])}", fontsize=10, color=INK)
    if several:
        for ax in axes[:, 3]:
            ax.remove()
        _waterfall(picture.add_subplot(axes[0, 3].get_gridspec()[:, 3]), ledger)
    else:
        bare(axes[0, 3]).set_xlim(0, 1)
        lines = f"  sum {short(sums[0])}\n+ bias {short(ledger.bias)}\n= {short(ledger.total)}"
        axes[0, 3].text(0.1, 0.5, lines, fontsize=12.5, va="center", linespacing=1.8, color=INK)
    shown = f"The {len(strongest)} of {len(sums)} input channels that weigh most. " * (len(strongest) < len(sums))
    ends = (f"{name.lstrip('×= ')} to {'±' * s.signed}{short(s.high)}" for name, s in scales.items())
    unit = f"{ledger.layer}, channel {channel}, y {y}, x {x}"
    total = f"Recorded value {ledger.recorded:.6f}, sum of all products plus bias {ledger.total:.6f}"
    picture.caption(f"{unit}. {shown}{total}. Colours: one scale per column ({', '.join(ends)}).")
    pixel, products = f"The pixel at y {y}, x {x} of channel {channel}", f"{ledger.patch.numel()} products"
    result = f"the bias {short(ledger.bias)} make {short(ledger.total)}; recorded {short(ledger.recorded)}"
    return picture.told(f"{pixel} in {ledger.layer} as a sum: {products} and {result}.")


def _numbers(axes: Axes, values: np.ndarray, scale: Scale) -> None:
    """A small table of coloured cells with their numbers in them."""
    colours = scale.rgb(values)
    bare(axes).imshow(colours, interpolation="nearest")
    for (i, j), value in np.ndenumerate(values):
        ink = "white" if colours[i, j] @ (0.3, 0.59, 0.11) < 0.5 else INK
        text = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−") if value else "0"
        axes.text(j, i, text, ha="center", va="center", fontsize=9, color=ink)


def _waterfall(axes: Axes, ledger: Ledger) -> None:
    """Every channel's sum, one after another, from 0 to the total."""
    sums = np.append(array(ledger.sums), ledger.bias)
    ends, bias = np.cumsum(sums), len(sums) - 1
    colours = [ORANGE if s >= 0 else BLUE for s in sums[:bias]] + [FAINT]
    axes.bar(range(len(sums)), sums, bottom=ends - sums, color=colours, width=0.8)
    axes.axhline(ledger.total, color=GREEN, linewidth=1.4, linestyle="--")
    axes.axhline(0, color=INK, linewidth=0.8)
    low, high = min(ends.min(), 0.0), max(ends.max(), 0.0)
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    places = range(0, bias - len(sums) // 9, max(1, len(sums) // 6))  # none so late that it runs into the bias
    axes.set_xticks([*places, bias], [*(str(ledger.inputs[i]) for i in places), "bias"])
    axes.set(title=f"added up: {short(ledger.total)}", xlabel="input channel", ylabel="running sum")
    axes.grid(visible=False, axis="x")


def _linear_ledger(ledger: Ledger, most: int) -> Picture:
    labels = [f"feature {i}" for i in ledger.inputs]
    title = f"{ledger.layer}, unit {ledger.unit[0]}: {len(labels)} products + bias = {short(ledger.total)}"
    picture = product_bars(ledger.patch, ledger.kernel, labels, title, most, ledger.bias)
    picture.caption(f"Value × weight of each feature. Sum {ledger.total:.6f}, recorded {ledger.recorded:.6f}.")
    parts = f"{len(labels)} products and the bias {short(ledger.bias)}"
    result = f"{short(ledger.total)}; recorded {short(ledger.recorded)}"
    return picture.told(f"Unit {ledger.unit[0]} of {ledger.layer} as a sum of {parts}: {result}.")


def product_bars(a: Tensor, b: Tensor, labels: list[str], title: str, most: int, bias: float | None = None) -> Picture:
    """Lying bars of the largest products a × b, what the others come to, and the bias."""
    products = array(a) * array(b)
    strongest = np.argsort(-np.abs(products), kind="stable")[:most].tolist()
    bars = {f"{short(float(a[i]))} × {short(float(b[i]))}   {labels[i]}": products[i] for i in strongest}
    if len(strongest) < len(products):
        bars[f"{len(products) - len(strongest):,} others"] = products.sum() - products[strongest].sum()
    if bias is not None:
        bars["bias"] = bias
    picture, axes = page(8.2, 0.27 * len(bars) + 1.3)
    colours = [ORANGE if v >= 0 else BLUE for v in bars.values()]
    drawn = axes.barh(list(bars), list(bars.values()), color=colours, height=0.72)
    axes.bar_label(drawn, [short(v) for v in bars.values()], padding=4, fontsize=9, color=INK)
    names_down(axes)
    axes.margins(x=0.2)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_title(title)
    return picture
