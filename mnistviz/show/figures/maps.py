"""Figures of one forward pass: filters, feature maps, and the whole way from the digit to ten probabilities."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes

from mnistviz.errors import MnistvizError
from mnistviz.look.field import receptive_field
from mnistviz.look.trace import Step, Trace, sizes
from mnistviz.show.picture import (
    BLUE,
    FAINT,
    GREY,
    INK,
    Picture,
    bare,
    caption,
    notice,
    page,
    percent,
    styled,
)  # fmt: skip
from mnistviz.show.scales import Scale, array, short, strange
from mnistviz.show.tiles import tile_cells, tile_maps


@styled
def filters(trace: Trace, layer: str) -> Picture:
    """`filters(trace, "conv1")`: every kernel of a convolution; each has one picture per input channel."""
    step = trace[layer]
    if step.weight is None or step.weight.ndim != 4:
        have = [k for k, s in trace.items() if s.weight is not None and s.weight.ndim == 4]
        raise MnistvizError(
            f"{layer!r} is a {step.kind} and has no filters", allowed=", ".join(have) or "no layer here"
        )
    kernels = array(step.weight)
    out, into, height, width = kernels.shape
    scale = Scale.over([kernels])
    if into == 1:
        columns = min(out, 16)
        rows = -(-out // columns)
        picture, axes = page(columns * 0.62 + 0.6, rows * 0.78 + 0.75)
        tile_maps(axes, kernels[:, 0], scale, columns, [str(i) for i in range(out)], size=8)
    else:
        tall = out * (height + 1) / (into * (width + 1))  # of the table, in widths
        side = min(6.4, 8.0 / tall, max(3.4, into * (width + 1) / 16))
        picture, axes = page(side + 1.3, max(side * tall, 1.2) + 0.9)
        down, across = tile_maps(axes, kernels.reshape(-1, height, width), scale, into)
        high, wide, _ = axes.images[0].get_array().shape
        for axis, n, pitch, end in ((axes.xaxis, into, across, wide), (axes.yaxis, out, down, high)):
            side, shown = end - (n - 1) * pitch, range(0, n, max(1, n // 8))
            axis.set_ticks([i * pitch + (side - 1) / 2 for i in shown], map(str, shown))
        axes.tick_params(length=0, labelsize=8.5)
        axes.set(xlabel="input channel", ylabel="filter (output channel)")
    scale.bar(axes, "weight")
    axes.set_title(f"{layer}: {out} filters, each {into}×{height}×{width}", pad=8)
    caption(picture, f"{step.weight.numel():,} weights and {_biases(step)}. Colours: {scale}; white is 0.")
    picture.alt = (
        f"The {out * into:,} kernels of {layer}, {height}×{width} each, weights from {short(kernels.min())} to "
        f"{short(kernels.max())}, blue below zero and orange above."
    )
    return picture


def _biases(step: Step) -> str:
    return "no biases" if step.bias is None else f"{step.bias.numel():,} biases"


@styled
def feature_maps(
    trace: Trace, layer: str, scale: str | Scale = "layer", channels: Iterable[int] | None = None
) -> Picture:
    """`feature_maps(trace, "conv2")`: the digit and every map of a layer, or the `channels` named.

    Colours have one scale per layer; `scale` may be "map", "layer", "network" or a `Scale` of your own.
    """
    digit, step = trace.one_digit(), trace[layer]
    chosen = Scale.for_layer(trace, layer, scale)
    maps, labels = _maps(step, layer, channels)
    many = len(maps) if step.result.ndim == 4 else 0
    columns, side = (16, 0.66) if many > 32 else (8, 1.0) if many > 4 else (max(many, 1), 1.7)
    rows, wide = max(-(-many // columns), 1), max(columns * side, 4.5 * (not many))
    picture, (left, right) = page(
        wide + 2.5, max(rows * side * 1.13, 1.6) + 0.95, columns=2, width_ratios=[1.4, wide + 0.6]
    )
    draw_input(left, digit)
    if step.result.ndim == 4:
        tile_maps(right, maps, chosen, columns, labels, size=6.5 if many > 32 else 8)
    else:
        tile_cells(right, maps, chosen, 64 if maps.size > 64 else 16)
    right.set_title(f"{layer or step.kind}: {sizes(step.output)}", pad=6)
    if chosen.scope != "map":
        chosen.bar(right)
    caption(picture, about(trace, layer) + f" Colours: {chosen}." + strange(maps))
    what = (
        f"{len(maps)} maps, {maps.shape[1]}×{maps.shape[2]} each," if step.result.ndim == 4 else f"{maps.size} values"
    )
    ends = f"from {short(np.nanmin(maps))} to {short(np.nanmax(maps))}" if not np.isnan(maps).all() else "none a number"
    picture.alt = f"{what} of layer {layer} for the digit at the left, {ends}; {_constant(maps)} constant."
    return picture


def _maps(step: Step, layer: str, channels: Iterable[int] | None = None) -> tuple[np.ndarray, list[str]]:
    """The maps (K, H, W) of a layer with their numbers; a flat layer is one row of values per map."""
    values = array(step.result[0])
    values = values if values.ndim == 3 else values.reshape(1, 1, -1)
    wanted = list(range(len(values))) if channels is None else list(channels)
    outside = [c for c in wanted if not 0 <= c < len(values)]
    if outside or not wanted:
        raise MnistvizError(
            f"no such channel in {layer!r}", given=outside or "none", allowed=f"0 to {len(values) - 1}, counted from 0"
        )
    return values[wanted], [str(c) for c in wanted]


def _constant(maps: np.ndarray) -> str:
    count = int((maps.min((1, 2)) == maps.max((1, 2))).sum()) if maps[0].size > 1 else 0
    return str(count) if count else "none"


def about(trace: Trace, layer: str) -> str:
    """A caption's facts: shape, what each value sees of the digit, how many weights."""
    step = trace[layer]
    shape = step.result.shape[1:]
    text = f"{layer} ({step.kind}), {sizes(step.output)}"
    try:
        middle = [n // 2 for n in shape[1:]] if len(shape) == 3 else []
        high, wide = receptive_field(trace, layer, *middle).size
        seen = trace.input.shape[-2:]
        text += f"; each value sees {min(high, seen[0])}×{min(wide, seen[1])} pixels"
    except MnistvizError:
        text += "; its receptive field cannot be followed"  # a network with parts that are no modules
    return f"{text}; {step.parameters:,} parameters."


def draw_input(axes: Axes, digit: object, title: str = "input") -> None:
    """The model's input as grey levels, 0 black and 1 white."""
    x = array(digit)
    image = x.reshape(x.shape[-2:]) if x.size == x.shape[-1] * x.shape[-2] else x[0].mean(0)
    bare(axes).imshow(image, cmap=GREY, vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title)


@styled
def all_maps(trace: Trace, scale: str | Scale = "layer", each: int = 16) -> Picture:
    """`all_maps(trace)`: every layer with maps on one page, a row per layer, the first 16 channels of each."""
    trace.one_digit()
    rows = [
        (key, step)
        for key, step in trace.items()
        if step.result.ndim == 4 and not step.kind.startswith(("Dropout", "Identity"))
    ]
    if not rows:
        raise MnistvizError("no layer of this trace has maps", given=", ".join(trace.keys))
    picture, axes = page(each * 0.45 + 2.6, len(rows) * 0.48 + 0.7, rows=len(rows), squeeze=False)
    for ax, (key, step) in zip(axes[:, 0], rows, strict=True):
        chosen = Scale.for_layer(trace, key, scale)
        maps = array(step.result[0])[:each]
        tile_maps(ax, maps, chosen, each)
        ax.text(-0.012, 0.5, key, transform=ax.transAxes, ha="right", va="bottom", fontsize=8.5, fontweight="bold")
        ax.text(-0.012, 0.46, sizes(step.output), transform=ax.transAxes, ha="right", va="top", fontsize=8.5)
        if chosen.scope != "map":
            ends = f"{short(chosen.low)} … {short(chosen.high)}"
            ax.text(1.005, 0.5, ends, transform=ax.transAxes, ha="left", va="center", fontsize=8.5, color=FAINT)
    scope = Scale.for_layer(trace, rows[0][0], scale).scope
    each_own = {"layer": "each layer has its own scale, given at the right", "map": "each map has its own scale"}
    colours = each_own.get(scope, "one scale for all, given at the right")
    caption(
        picture,
        f"The first {each} channels of every layer. Colours: {colours}; "
        "with signs blue is below 0, white is 0, orange above; without, black is 0.",
    )
    picture.alt = f"Feature maps of {len(rows)} layers, one row each: {', '.join(key for key, _ in rows)}."
    return picture


@styled
def map_rows(traces: Mapping[str, Trace], layer: str, channels: Iterable[int] | None = None) -> Picture:
    """`map_rows({"a 3": t, "an 8": u}, "relu2", range(8))`: the same channels for several inputs, on one scale."""
    if not traces:
        raise MnistvizError("there are no traces to compare")
    some = list(traces.values())
    chosen = Scale.over([t[layer].result for t in some], "across inputs")
    wanted = list(range(min(8, some[0][layer].result.shape[1]))) if channels is None else list(channels)
    side = 0.98 if len(wanted) > 4 else 1.7
    picture, axes = page(
        len(wanted) * side + 2.6, len(some) * side * 1.17 + 0.55, rows=len(some), columns=2, squeeze=False,
        width_ratios=[1, len(wanted)],
    )  # fmt: skip
    for row, (name, trace) in zip(axes, traces.items(), strict=True):
        draw_input(row[0], trace.one_digit(), "")
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10.5)
        maps, labels = _maps(trace[layer], layer, wanted)
        tile_maps(row[1], maps, chosen, len(wanted), labels, size=8)
    chosen.bar(axes[:, 1].tolist())
    caption(picture, about(some[0], layer) + f" Colours: {chosen}.")
    picture.alt = f"Channels {', '.join(map(str, wanted))} of layer {layer}, a row for each of: {', '.join(traces)}."
    return picture


@styled
def complete_prediction(trace: Trace, label: int | None = None, each: int = 8) -> Picture:
    """`complete_prediction(trace, label=7)`: the digit, what each stage made of it, and ten probabilities."""
    digit = trace.one_digit()
    scores = array(trace.steps[-1].result[0])
    if scores.ndim != 1:
        raise MnistvizError("the trace does not end in a row of scores", given=sizes(trace.steps[-1].output))
    if not np.isfinite(scores).all():
        return notice(f"No answer: {int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite numbers.")
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    answer = int(shares.argmax())
    stages = trace.stages()[:-1]
    widths = [1.5, *([1.12] * len(stages)), 2.1]
    picture, axes = page(sum(widths) + 0.6, 4.3, columns=len(widths), width_ratios=widths)
    picture.get_layout_engine().set(wspace=0.16)  # type: ignore
    draw_input(axes[0], digit, "input" if label is None else f"input: a {label}")
    for ax, stage in zip(axes[1:-1], stages, strict=True):
        result = trace.result_of(stage)
        _draw_stage(ax, trace, result, each)
        done = " → ".join(trace.keys[i] for i in stage if i <= result)
        ax.set_title(done.replace(" → ", "\n"), fontsize=8, fontweight="normal", color=FAINT, loc="center", pad=4)
    bars = axes[-1].barh(
        range(len(shares)), shares, color=[BLUE if i == answer else "#b9c2d0" for i in range(len(shares))]
    )
    axes[-1].bar_label(bars, [percent(p) for p in shares], padding=3, fontsize=8.5, color=INK)
    axes[-1].set(xlim=(0, 1.42), yticks=range(len(shares)), xticks=[], title=f"answer: {answer}")
    axes[-1].invert_yaxis()
    axes[-1].grid(visible=False)
    axes[-1].tick_params(axis="y", length=0, labelsize=10.5)
    axes[-1].spines["bottom"].set_visible(False)
    caption(
        picture,
        f"Each column is what a stage hands on: the {each} maps with the largest sums of sizes, strongest first "
        "(numbers are channels), or all values of a flat layer. Each column has its own scale: black is 0; with "
        "signs white is 0, blue below, orange above.",
    )
    stages_said = ", ".join(trace.keys[trace.result_of(s)] for s in stages)
    picture.alt = (
        f"A digit, the strongest maps after {stages_said}, and ten probabilities; the answer is {answer} with "
        f"{percent(shares[answer])}."
    )
    return picture


def _draw_stage(axes: Axes, trace: Trace, index: int, each: int) -> None:
    """The strongest maps of a stage in two columns, or a flat layer as a block of cells read row by row."""
    step = trace.steps[index]
    values, scale = array(step.result[0]), Scale.over([step.result])
    if values.ndim == 3:
        strongest = np.argsort(-np.abs(values).sum((1, 2)), kind="stable")[:each]
        tile_maps(axes, values[strongest], scale, 2, [str(c) for c in strongest], size=6.5)
        under = f"{sizes(step.output)}\n{'±' if scale.signed else 'to '}{short(scale.high)}"
    else:
        tile_cells(axes, values, scale, 8 if values.size <= 256 else 16)
        under = f"{values.size} values\n{'±' if scale.signed else 'to '}{short(scale.high)}"
    axes.set_xlabel(under, fontsize=8.5, color=INK)
