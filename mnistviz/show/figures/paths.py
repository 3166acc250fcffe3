"""Figures of which way the numbers went: what a unit sees, who won a pool, which gate was open, the winning path."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mnistviz.errors import MnistvizError
from mnistviz.look import paths
from mnistviz.look.field import receptive_field
from mnistviz.look.paths import Stop
from mnistviz.look.trace import Trace
from mnistviz.show.figures.maps import draw_input
from mnistviz.show.picture import INK, ORANGE, RULE, Picture, bare, caption, page, percent, styled
from mnistviz.show.scales import Scale, array, short


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
def pool_winners(trace: Trace, layer: str, channel: int) -> Picture:
    """`pool_winners(trace, "pool1", channel=3)`: the map before a max-pool, its windows, and the pixel that won each."""
    trace.one_digit()
    step, won = trace[layer], paths.pool_winners(trace, layer)
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
def relu_gates(trace: Trace, layer: str, channel: int) -> Picture:
    """`relu_gates(trace, "relu1", channel=3)`: a map before a ReLU, which of its gates are open, and what comes through."""
    trace.one_digit()
    step, gate = trace[layer], paths.relu_gates(trace, layer)
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
