"""Figures of single numbers: the products behind a pixel, what it sees, who won a pool, which gate was open."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mnistviz.errors import MnistvizError
from mnistviz.look.arithmetic import Ledger
from mnistviz.look.field import receptive_field
from mnistviz.look.routes import Stop, pool_winners, relu_gates
from mnistviz.look.trace import Trace
from mnistviz.show.figures.maps import draw_input
from mnistviz.show.picture import BLUE, FAINT, GREEN, INK, ORANGE, RULE, Picture, bare, caption, page, percent, styled
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


@styled
def receptive_fields(trace: Trace, units: Sequence[tuple[str, int, int]]) -> Picture:
    """`receptive_fields(trace, [("conv1", 14, 14), ("conv5", 3, 3)])`: what each unit sees, framed on the digit."""
    if not units:
        raise MnistvizError("no units to show", fix='units=[("conv2", 3, 7)]: layer, y, x')
    digit = array(trace.one_digit())[0]
    fields = [receptive_field(trace, *unit) for unit in units]
    picture, axes = page(len(units) * 1.75 + 0.3, 2.75, columns=len(units), squeeze=False)
    for ax, (layer, y, x), field in zip(axes[0], units, fields, strict=True):
        draw_input(ax, digit, "")
        outer = np.full((*digit.shape[-2:], 4), (1.0, 1.0, 1.0, 0.38))
        outer[field.top : field.bottom + 1, field.left : field.right + 1] = 0
        ax.imshow(outer, interpolation="nearest")
        box = (field.left - 0.5, field.top - 0.5), field.width, field.height
        ax.add_patch(Rectangle(*box, fill=False, edgecolor=ORANGE, linewidth=2))
        ax.set_title(layer, pad=4)
        clipped = f" of {field.size[0]}×{field.size[1]}" if (field.height, field.width) != field.size else ""
        said = f"unit y {y}, x {x}\nsees {field.height}×{field.width}{clipped}"
        ax.set_xlabel(said, fontsize=9, color=INK)
    cut = " Where the window crosses the border the smaller number is what is left of it." * any(
        (f.height, f.width) != f.size for f in fields
    )
    caption(picture, f"Inside the frame: every pixel that can change the unit.{cut} Grey levels: 0 black, 1 white.")
    picture.alt = "One digit, framed where a unit sees it: " + "; ".join(
        f"{layer} y {y} x {x} sees {f.height}×{f.width}" for (layer, y, x), f in zip(units, fields, strict=True)
    )
    return picture


@styled
def winners(trace: Trace, layer: str, channel: int) -> Picture:
    """`winners(trace, "pool1", channel=3)`: the map before a max-pool, its windows, and the pixel that won each."""
    trace.one_digit()
    step, won = trace[layer], pool_winners(trace, layer)
    before, after = _channel(trace, layer, step.input, channel), _channel(trace, layer, step.result, channel)
    scale = Scale.over([before])
    picture, (left, right) = page(9.0, 4.55, columns=2)
    for ax, values, title in ((left, before, f"before {layer}"), (right, after, f"after {layer}")):
        bare(ax).imshow(scale.rgb(values), interpolation="nearest")
        ax.set_title(f"{title}: {values.shape[0]}×{values.shape[1]}")
    size = step.settings["kernel_size"]
    high, wide = (size, size) if isinstance(size, int) else size
    stride = step.settings["stride"]
    if stride == size and not step.settings["padding"]:  # windows that tile the map are drawn as a grid
        for edge in range(0, before.shape[1] + 1, wide):
            left.axvline(edge - 0.5, color="white", linewidth=0.5, alpha=0.55)
        for edge in range(0, before.shape[0] + 1, high):
            left.axhline(edge - 0.5, color="white", linewidth=0.5, alpha=0.55)
    decided = after > after.min()
    left.scatter(
        array(won.x[0, channel])[decided], array(won.y[0, channel])[decided], s=11, color="#46d5ff", edgecolors=INK,
        linewidths=0.4,
    )  # fmt: skip
    scale.bar([left, right])
    caption(
        picture,
        f"Channel {channel}. A dot marks the pixel that won its {high}×{wide} window; {int((~decided).sum())} windows "
        f"whose largest value is {short(after.min())} are left unmarked. Colours: {scale}, the same on both sides.",
    )
    picture.alt = (
        f"Channel {channel} before and after {layer}: {before.shape[0]}×{before.shape[1]} with the winners of "
        f"{after.size} windows marked, and the {after.shape[0]}×{after.shape[1]} map they make."
    )
    return picture


@styled
def gates(trace: Trace, layer: str, channel: int) -> Picture:
    """`gates(trace, "relu1", channel=3)`: a map before a ReLU, which of its gates are open, and what comes through."""
    trace.one_digit()
    step, gate = trace[layer], relu_gates(trace, layer)
    before, after = _channel(trace, layer, step.input, channel), _channel(trace, layer, step.result, channel)
    is_open = _channel(trace, layer, gate, channel)
    scale = Scale.over([before])
    picture, axes = page(10.4, 4.0, columns=3)
    for ax, colours, title in (
        (axes[0], scale.rgb(before), "before"),
        (axes[1], np.where(is_open[..., None] > 0, 1.0, 0.25) * np.ones(3), f"gates: {percent(is_open.mean())} open"),
        (axes[2], scale.rgb(after), "after"),
    ):
        bare(ax).imshow(colours, interpolation="nearest")
        ax.set_title(title)
    for ax in axes:
        ax.add_patch(Rectangle((-0.5, -0.5), *before.shape[::-1], fill=False, edgecolor=RULE, linewidth=1))
    scale.bar(axes.tolist())
    caption(
        picture, f"{layer}, channel {channel}. Open gates white, closed ones dark. Colours: {scale}, on both sides."
    )
    picture.alt = (
        f"Channel {channel} around {layer}: the map, its gates, {percent(is_open.mean())} of them open, and the result."
    )
    return picture


def _channel(trace: Trace, layer: str, values: object, channel: int) -> np.ndarray:
    maps = array(values)[0]
    if maps.ndim != 3 or not 0 <= channel < len(maps):
        allowed = f"0 to {len(maps) - 1}, counted from 0" if maps.ndim == 3 else "a layer with maps"
        raise MnistvizError(f"no such channel in {layer!r}", given=channel, allowed=allowed)
    return maps[channel]


@styled
def winning_paths(trace: Trace, paths: Iterable[Sequence[Stop]]) -> Picture:
    """`winning_paths(trace, [mv.winning_path(trace, rank=r) for r in range(3)])`: a row per path, pixel to score."""
    digit, rows = trace.one_digit(), [list(path) for path in paths]
    if not rows:
        raise MnistvizError("no paths to show", fix="paths=[mv.winning_path(trace)]")
    stages = [trace.keys[trace.result_of(s)] for s in trace.stages()]
    spatial = [k for k in stages if trace[k].result.ndim == 4]
    flat = [k for k in stages if trace[k].result.ndim == 2]
    picture, axes = page(
        1.5 * (len(spatial) + 1) + 2.2, 1.72 * len(rows) + 0.8, rows=len(rows), columns=len(spatial) + 2, squeeze=False
    )
    scales = {key: Scale.over([trace[key].result]) for key in spatial}
    for line, path in zip(axes, rows, strict=True):
        at = {stop.layer: stop for stop in path}
        draw_input(line[0], digit, "")
        _mark(line[0], at[""].unit, f"pixel = {short(at[''].value)}")
        for ax, key in zip(line[1:-1], spatial, strict=True):
            stop = at[key]
            bare(ax).imshow(scales[key].rgb(trace[key].result[0, stop.unit[0]]), interpolation="nearest")
            _mark(ax, stop.unit, f"channel {stop.unit[0]} = {short(stop.value)}")
        said = "\n".join(f"{key} {at[key].unit[0]} = {short(at[key].value)}" for key in flat)
        bare(line[-1]).text(0, 0.5, said, va="center", fontsize=9.5, transform=line[-1].transAxes, linespacing=1.7)
    for ax, title in zip(axes[0], ["input", *spatial, "score"], strict=True):
        ax.set_title(title)
    caption(
        picture,
        "Read from right to left: from the score to the value that pushed it up most, through open gates and pool "
        "winners, down to one pixel. Each column has one scale for its layer; black is 0.",
    )
    picture.alt = f"{len(rows)} paths from the score back to pixels of the digit: " + "; ".join(
        f"pixel y {p[-1].unit[1]} x {p[-1].unit[2]}" for p in rows
    )
    return picture


def _mark(axes: Axes, unit: tuple[int, ...], said: str) -> None:
    """A frame around one pixel, and its value below."""
    axes.add_patch(Rectangle((unit[2] - 0.5, unit[1] - 0.5), 1, 1, fill=False, edgecolor="#46d5ff", linewidth=1.8))
    axes.set_xlabel(said, fontsize=8.5, color=INK, labelpad=3)
