"""Figures of which way the numbers went: what a unit sees, who won a pool, which gate was open, the winning path."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from mnistviz.errors import one_of, refuse, some
from mnistviz.look import paths
from mnistviz.look.field import receptive_field
from mnistviz.look.paths import Stop
from mnistviz.look.replay import pair
from mnistviz.look.trace import Trace, times
from mnistviz.show.colours import INK, ORANGE, RULE
from mnistviz.show.picture import Picture, bare, page, percent
from mnistviz.show.scales import Scale, array, short
from mnistviz.show.tiles import draw_grey, draw_map, frame

CYAN = "#46d5ff"  # seen on every colour of a scale


def receptive_fields(trace: Trace, units: Sequence[tuple[str, int, int]]) -> Picture:
    """`receptive_fields(trace, [("conv1", 14, 14), ("conv5", 3, 3)])`: what each unit sees, framed on the digit."""
    some(units, "units to show", 'units=[("conv2", 3, 7)]: layer, y, x')
    digit = trace.one_digit()
    fields = [receptive_field(trace, *unit) for unit in units]
    cut = [(field.height, field.width) != field.size for field in fields]
    picture, axes = page(len(units) * 1.75 + 0.3, 2.75, columns=len(units), squeeze=False)
    for ax, (layer, y, x), field, is_cut in zip(axes[0], units, fields, cut, strict=True):
        draw_grey(ax, digit)
        veil = np.full((*digit.shape[-2:], 4), (1.0, 1.0, 1.0, 0.38))
        veil[field.top : field.bottom + 1, field.left : field.right + 1] = 0
        ax.imshow(veil, interpolation="nearest")
        frame(ax, field.top, field.left, field.height, field.width, ORANGE)
        ax.set_title(layer, pad=4)
        whole = f" of {times(field.size)}" if is_cut else ""
        ax.set_xlabel(f"unit y {y}, x {x}\nsees {field.height}×{field.width}{whole}", fontsize=9, color=INK)
    border = " Where the window crosses the border the smaller number is what is left of it." if any(cut) else ""
    picture.caption(f"Inside the frame: every pixel that can change the unit.{border} Grey levels: 0 black, 1 white.")
    seen = [f"{layer} y {y} x {x} sees {f.height}×{f.width}" for (layer, y, x), f in zip(units, fields, strict=True)]
    return picture.told(f"One digit, framed where a unit sees it: {'; '.join(seen)}")


def pool_winners(trace: Trace, layer: str, channel: int) -> Picture:
    """`pool_winners(trace, "pool1", channel=3)`: the map before a max-pool, and the pixel that won each window."""
    trace.one_digit()
    step, winners = trace[layer], paths.pool_winners(trace, layer)
    before, after = _map(layer, step.input, channel), _map(layer, step.result, channel)
    scale = Scale.over([before])
    picture, (left, right) = page(9.0, 4.55, columns=2)
    for ax, values, title in ((left, before, f"before {layer}"), (right, after, f"after {layer}")):
        draw_map(ax, values, scale)
        ax.set_title(f"{title}: {times(values.shape)}")
    high, wide = window = pair(step.settings["kernel_size"])
    if pair(step.settings["stride"]) == window and not any(pair(step.settings["padding"])):  # windows tile the map
        for rule, size, side in ((left.axvline, before.shape[1], wide), (left.axhline, before.shape[0], high)):
            for edge in range(0, size + 1, side):
                rule(edge - 0.5, color="white", linewidth=0.5, alpha=0.55)
    marked = after > after.min()
    x, y = (array(places[0, channel])[marked] for places in (winners.x, winners.y))
    left.scatter(x, y, s=11, color=CYAN, edgecolors=INK, linewidths=0.4)
    scale.bar([left, right])
    dots = f"A dot marks the pixel that won its {high}×{wide} window"
    others = f"{(~marked).sum()} windows whose largest value is {short(after.min())} are left unmarked"
    picture.caption(f"Channel {channel}. {dots}; {others}. Colours: {scale}, the same on both sides.")
    marks = f"before and after {layer}: {times(before.shape)} with the winners of {after.size} windows marked"
    return picture.told(f"Channel {channel} {marks}, and the {times(after.shape)} map they make.")


def relu_gates(trace: Trace, layer: str, channel: int) -> Picture:
    """`relu_gates(trace, "relu1", channel=3)`: a map before a ReLU, which gates are open, and what comes through."""
    trace.one_digit()
    step, gates = trace[layer], paths.relu_gates(trace, layer)
    before, after = _map(layer, step.input, channel), _map(layer, step.result, channel)
    is_open = _map(layer, gates, channel) > 0
    scale, share = Scale.over([before]), percent(is_open.mean())
    grey = np.where(is_open, 1.0, 0.25)[..., None].repeat(3, axis=-1)
    picture, axes = page(10.4, 4.0, columns=3)
    pictures = {"before": scale.rgb(before), f"gates: {share} open": grey, "after": scale.rgb(after)}
    for ax, (title, colours) in zip(axes, pictures.items(), strict=True):
        bare(ax).imshow(colours, interpolation="nearest")
        ax.set_title(title)
        frame(ax, 0, 0, before.shape[0], before.shape[1], RULE, line=1)
    scale.bar(axes.tolist())
    picture.caption(f"{layer}, channel {channel}. Open gates white, closed ones dark. Colours: {scale}, on both sides.")
    return picture.told(f"Channel {channel} around {layer}: the map, its gates, {share} of them open, and the result.")


def _map(layer: str, values: Tensor, channel: int) -> np.ndarray:
    """One map (H, W) of what went into a layer or came out of it."""
    maps = array(values)[0]
    refuse(maps.ndim != 3, f"{layer!r} has no maps", given=channel, allowed="a channel of a layer with maps")
    one_of(f"channel in {layer!r}", channel, len(maps))
    return maps[channel]


def winning_paths(trace: Trace, paths: Iterable[Sequence[Stop]]) -> Picture:
    """`winning_paths(trace, [mv.winning_path(trace, rank=r) for r in range(3)])`: a row per path, pixel to score."""
    digit, rows = trace.one_digit(), [{stop.layer: stop for stop in path} for path in paths]
    some(rows, "paths to show", "paths=[mv.winning_path(trace)]")
    stages = [trace.keys[trace.result_of(stage)] for stage in trace.stages()]
    spatial = [key for key in stages if trace[key].result.ndim == 4]
    flat = [key for key in stages if trace[key].result.ndim == 2]
    scales = {key: Scale.over([trace[key].result]) for key in spatial}
    size = 1.5 * (len(spatial) + 1) + 2.2, 1.72 * len(rows) + 0.8
    picture, axes = page(*size, len(rows), len(spatial) + 2, squeeze=False)
    for line, stops in zip(axes, rows, strict=True):
        draw_grey(line[0], digit)
        _mark(line[0], stops[""], "pixel")
        for ax, key in zip(line[1:-1], spatial, strict=True):
            channel = stops[key].unit[0]
            draw_map(ax, trace[key].result[0, channel], scales[key])
            _mark(ax, stops[key], f"channel {channel}")
        scores = "\n".join(f"{key} {stops[key].unit[0]} = {short(stops[key].value)}" for key in flat)
        last = bare(line[-1])
        last.text(0, 0.5, scores, va="center", fontsize=9.5, transform=last.transAxes, linespacing=1.7)
    for ax, title in zip(axes[0], ["input", *spatial, "score"], strict=True):
        ax.set_title(title)
    way = "from the score to the value that pushed it up most, through open gates and pool winners, down to one pixel"
    zero = "black is 0" + ", or white where there are signs" * any(scale.low for scale in scales.values())
    picture.caption(f"Read from right to left: {way}. Each column has one scale for its layer; {zero}.")
    pixels = "; ".join(f"pixel y {y} x {x}" for _, y, x in (stops[""].unit for stops in rows))
    return picture.told(f"{len(rows)} paths from the score back to pixels of the digit: {pixels}")


def _mark(axes: Axes, stop: Stop, name: str) -> None:
    """A frame around one pixel, and its value below."""
    _, y, x = stop.unit
    frame(axes, y, x, 1, 1, CYAN, line=1.8)
    axes.set_xlabel(f"{name} = {short(stop.value)}", fontsize=9, color=INK, labelpad=3)
