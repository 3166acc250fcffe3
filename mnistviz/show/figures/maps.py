"""Figures of one forward pass: filters, feature maps, and the whole way from the digit to ten probabilities."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from mnistviz.errors import MnistvizError, one_of, refuse, some
from mnistviz.look.field import receptive_field
from mnistviz.look.trace import Step, Trace, sizes, times
from mnistviz.show.colours import BLUE, FAINT, INK, PALE
from mnistviz.show.picture import Picture, an, beside, names_down, notice, page, percent
from mnistviz.show.scales import Scale, array, short
from mnistviz.show.tiles import draw_grey, outline, tile_cells, tile_maps


def filters(trace: Trace, layer: str, channels: Iterable[int] | None = None) -> Picture:
    """`filters(trace, "conv1")`: every kernel of a convolution, or of these `channels`; a picture per input channel."""
    step = trace[layer]
    if step.weight is None or step.weight.ndim != 4:
        known = ", ".join(k for k, s in trace.items() if s.weight is not None and s.weight.ndim == 4)
        raise MnistvizError(f"{layer!r} is a {step.kind} and has no filters", allowed=known or "no layer here")
    scale, chosen = Scale.about_zero(step.weight), _chosen(layer, channels, len(step.weight))
    kernels = array(step.weight)[chosen]
    out, into, height, width = kernels.shape
    if into == 1:
        columns = min(out, 16)
        picture, axes = page(columns * 0.7 + (0.6 if columns > 8 else 1.2), -(-out // columns) * 0.95 + 0.8)
        tile_maps(axes, kernels[:, 0], scale, columns, list(map(str, chosen)), room=0.4)
    else:
        sides = [("filter (output channel)", chosen), ("input channel", range(into))]  # down, across
        if out > 4 * into:  # lying down, or it would be a ribbon
            sides, kernels = sides[::-1], kernels.swapaxes(0, 1)
        along = sides[1][1]
        tall = len(sides[0][1]) * (height + 1) / (len(along) * (width + 1))  # of the table, in widths
        side = min(6.4 if tall > 0.5 else 9.6, 8.0 / tall, max(3.4, len(along) * (width + 1) / 16))
        picture, axes = page(side + 1.3, max(side * tall, 1.2) + 0.9)
        down, across = tile_maps(axes, kernels.reshape(-1, height, width), scale, len(along))
        rows, columns = axes.images[0].get_size()
        for axis, k, pitch, end in ((axes.yaxis, 0, down, rows), (axes.xaxis, 1, across, columns)):
            what, names = sides[k]
            tile, numbered = end - (len(names) - 1) * pitch, range(0, len(names), max(1, len(names) // 8))
            axis.set_ticks([i * pitch + (tile - 1) / 2 for i in numbered], [str(names[i]) for i in numbered])
            axis.set_label_text(what)
        axes.tick_params(length=0, labelsize=9)
    scale.bar(axes, "weight")
    count = f"{out} of {len(step.weight)}" if channels is not None else out
    axes.set_title(f"{layer}: {count} filters, each {times(step.weight.shape[1:])}", pad=8)
    biases = "no biases" if step.bias is None else f"{step.bias.numel():,} biases"
    picture.caption(f"{step.weight.numel():,} weights and {biases}. Colours: {scale}; white is 0.")
    ends = f"from {short(kernels.min())} to {short(kernels.max())}, blue below zero and orange above"
    return picture.told(f"The {out * into:,} kernels of {layer}, {height}×{width} each, weights {ends}.")


def feature_maps(
    trace: Trace, layer: str, scale: str | Scale = "layer", channels: Iterable[int] | None = None
) -> Picture:
    """`feature_maps(trace, "conv2")`: the digit and every map of a layer, or the `channels` named.

    Colours have one scale per layer; `scale` may be "map", "layer", "network" or a `Scale` of your own.
    """
    digit, step = trace.one_digit(), trace[layer]
    title, colours = f"{layer or step.kind}: {sizes(step.output)}", Scale.for_layer(trace, layer, scale)
    return maps_beside(digit, step.result[0], layer, title, colours, about(trace, layer), channels)


def maps_beside(
    digit: Tensor, values: Tensor, layer: str, title: str, colours: Scale, facts: str, channels: Iterable[int] | None
) -> Picture:
    """A digit and, at its right, numbers of a layer for it: its maps, or the cells of a flat one."""
    maps, labels = _maps(values, layer, channels)
    spatial = values.ndim == 3
    count = len(maps) if spatial else 0
    columns, side = (16, 0.66) if count > 32 else (8, 1.0) if count > 4 else (max(count, 1), 1.7)
    if colours.scope == "map" and count > 4:
        columns, side = 8, 1.2  # each has the end of its scale beside its number
    rows, width = max(-(-count // columns), 1), columns * side if spatial else 4.5
    size = width + 2.5, max(rows * side * 1.13, 1.6) + 0.95
    picture, (left, right) = page(*size, columns=2, width_ratios=[1.4, width + 0.6])
    draw_grey(left, digit, "input")
    if spatial:
        tile_maps(right, maps, colours, columns, labels)
        what = f"{count} map{'s' * (count > 1)}, {times(maps.shape[1:])} each,"
    else:
        columns = min(maps.size, 64 if maps.size > 64 else 16)
        tile_cells(right, maps, colours, columns)
        if colours.signed:  # zero is white, as the paper is
            outline(right, [(i % columns, i // columns) for i in range(maps.size)], 1, 1)
        what = f"{maps.size} values"
    right.set_title(title, pad=6)
    if colours.scope != "map":
        colours.bar(right)
    n_nan = int(np.isnan(maps).sum())
    green = f" {n_nan:,} values are not numbers (NaN) and drawn green." if n_nan else ""
    picture.caption(f"{facts} Colours: {colours}.{green}")
    ends = "none a number" if np.isnan(maps).all() else f"from {short(np.nanmin(maps))} to {short(np.nanmax(maps))}"
    constant = int((maps.min((1, 2)) == maps.max((1, 2))).sum()) if maps[0].size > 1 else 0
    return picture.told(f"{what} of layer {layer} for the digit at the left, {ends}; {constant or 'none'} constant.")


def _maps(values: Tensor, layer: str, channels: Iterable[int] | None = None) -> tuple[np.ndarray, list[str]]:
    """The maps (K, H, W) of a layer for one digit, with their numbers; a flat layer is one row of values per map."""
    maps = array(values) if values.ndim == 3 else array(values).reshape(1, 1, -1)
    chosen = _chosen(layer, channels, len(maps))
    return maps[chosen], list(map(str, chosen))


def _chosen(layer: str, channels: Iterable[int] | None, count: int) -> list[int]:
    """The channels named, or all there are."""
    chosen = list(range(count) if channels is None else channels)
    some(chosen, f"channels of {layer!r} to show", "name some: [0, 3, 7]")
    one_of(f"channel in {layer!r}", chosen, count)
    return chosen


def about(trace: Trace, layer: str) -> str:
    """A caption's facts: shape, what each value sees of the digit, how many weights."""
    step = trace[layer]
    try:
        field = receptive_field(trace, layer, *(n // 2 for n in step.result.shape[2:])).size
        sees = f"each value sees {times(map(min, field, trace.input.shape[-2:]))} pixels"
    except MnistvizError:
        sees = "its receptive field cannot be followed"  # a network with parts that are no modules
    return f"{layer} ({step.kind}), {sizes(step.output)}; {sees}; {step.parameters:,} parameters."


def all_maps(trace: Trace, scale: str | Scale = "layer", each: int = 16) -> Picture:
    """`all_maps(trace)`: every layer with maps on one page, a row per layer, the first 16 channels of each."""
    trace.one_digit()
    changed = {key: step for key, step in trace.items() if not step.kind.startswith(("Dropout", "Identity"))}
    spatial = {key: step for key, step in changed.items() if step.result.ndim == 4}
    refuse(not spatial, "no layer of this trace has maps", given=", ".join(trace.keys))
    picture, axes = page(each * 0.56 + 2.6, len(spatial) * 0.58 + 0.7, rows=len(spatial), squeeze=False)
    for ax, (key, step) in zip(axes[:, 0], spatial.items(), strict=True):
        colours = Scale.for_layer(trace, key, scale)
        tile_maps(ax, array(step.result[0])[:each], colours, each)
        ax.text(-0.012, 0.5, key, transform=ax.transAxes, ha="right", va="bottom", fontsize=9, fontweight="bold")
        ax.text(-0.012, 0.46, sizes(step.output), transform=ax.transAxes, ha="right", va="top", fontsize=9)
        if colours.scope != "map":
            ends = f"{short(colours.low)} … {short(colours.high)}"
            ax.text(1.005, 0.5, ends, transform=ax.transAxes, ha="left", va="center", fontsize=9, color=FAINT)
    scopes = {"layer": "each layer has its own scale, given at the right", "map": "each map has its own scale"}
    meaning = scopes.get(str(scale), "one scale for all, given at the right")
    signs = "with signs blue is below 0, white is 0, orange above; without, black is 0"
    picture.caption(f"The first {each} channels of every layer. Colours: {meaning}; {signs}.")
    return picture.told(f"Feature maps of {len(spatial)} layers, one row each: {', '.join(spatial)}.")


def map_rows(traces: Mapping[str, Trace], layer: str, channels: Iterable[int] | None = None) -> Picture:
    """`map_rows({"a 3": t, "an 8": u}, "relu2", range(8))`: the same channels for several inputs, on one scale."""
    some(traces, "traces to compare")
    first, steps = next(iter(traces.values())), [trace[layer] for trace in traces.values()]
    scale = Scale.over([step.result for step in steps], "across inputs")
    chosen = list(range(min(8, steps[0].result.shape[1])) if channels is None else channels)
    side = 0.98 if len(chosen) > 4 else 1.7
    size, ratios = (len(chosen) * side + 2.6, len(steps) * side * 1.17 + 0.55), [1, max(len(chosen), 1)]
    picture, axes = page(*size, len(steps), 2, squeeze=False, width_ratios=ratios)
    for (left, right), (name, trace) in zip(axes, traces.items(), strict=True):
        draw_grey(left, trace.one_digit())
        beside(left, name)
        maps, labels = _maps(trace[layer].result[0], layer, chosen)
        tile_maps(right, maps, scale, len(chosen), labels)
    scale.bar(axes[:, 1].tolist())
    picture.caption(f"{about(first, layer)} Colours: {scale}.")
    picture.alt = f"Channels {', '.join(map(str, chosen))} of layer {layer}, a row for each of: {', '.join(traces)}."
    return picture


def complete_prediction(trace: Trace, label: int | None = None, each: int = 8) -> Picture:
    """`complete_prediction(trace, label=7)`: the digit, what each stage made of it, and ten probabilities."""
    digit = trace.one_digit()
    scores = array(trace.steps[-1].result[0])
    refuse(scores.ndim != 1, "the trace does not end in a row of scores", given=sizes(trace.steps[-1].output))
    if not np.isfinite(scores).all():
        return notice(f"No answer: {int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite numbers.")
    shares = array(trace.probabilities()[0])
    answer = int(shares.argmax())
    stages = trace.stages()[:-1]
    widths = [1.5, *([1.12] * len(stages)), 2.1]
    picture, axes = page(sum(widths) + 0.6, 4.6, columns=len(widths), width_ratios=widths)
    picture.get_layout_engine().set(wspace=0.16)  # type: ignore
    draw_grey(axes[0], digit, "input" if label is None else f"input: {an(label)}")
    results = [trace.result_of(stage) for stage in stages]
    for ax, stage, result in zip(axes[1:-1], stages, results, strict=True):
        _draw_stage(ax, trace.steps[result], each)
        names = "\n".join(trace.keys[i] for i in stage if i <= result)
        ax.set_title(names, fontsize=9, fontweight="normal", color=FAINT, loc="center", pad=4)
    last, places = axes[-1], range(len(shares))
    bars = last.barh(places, shares, color=[BLUE if i == answer else PALE for i in places])
    last.bar_label(bars, [percent(p) for p in shares], padding=3, fontsize=9, color=INK)
    last.set(xlim=(0, 1.42), yticks=places, xticks=[], title=f"answer: {answer}")
    names_down(last)
    last.tick_params(axis="y", labelsize=10.5)
    last.spines["bottom"].set_visible(False)
    maps = f"the {each} maps with the largest sums of sizes, strongest first (numbers are channels)"
    scales = "Each column has its own scale: black is 0; with signs white is 0, blue below, orange above"
    picture.caption(f"Each column is what a stage hands on: {maps}, or all values of a flat layer. {scales}.")
    names, surest = ", ".join(trace.keys[i] for i in results), f"{answer} with {percent(shares[answer])}"
    return picture.told(f"A digit, the strongest maps after {names}, and ten probabilities; the answer is {surest}.")


def _draw_stage(axes: Axes, step: Step, each: int) -> None:
    """The strongest maps of a stage in two columns, or a flat layer as a block of cells read row by row."""
    values, scale = array(step.result[0]), Scale.over([step.result])
    if values.ndim == 3:
        strongest = np.argsort(-np.abs(values).sum((1, 2)), kind="stable")[:each]
        tile_maps(axes, values[strongest], scale, 2, [str(c) for c in strongest], room=0.4)
    else:
        tile_cells(axes, values, scale, 8 if values.size <= 256 else 16)
    size = sizes(step.output) if values.ndim == 3 else f"{values.size} values"
    axes.set_xlabel(f"{size}\n{'±' if scale.signed else 'to '}{short(scale.high)}", fontsize=9, color=INK)
