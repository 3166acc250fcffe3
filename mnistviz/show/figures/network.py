"""The network itself: drawn to scale from a trace, or, with two inputs, what it answers on the whole plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import Tensor

from mnistviz.errors import MnistvizError, some
from mnistviz.look.replay import pair
from mnistviz.look.trace import MODEL_INPUT, Trace, times
from mnistviz.show.colours import BLUE, FAINT, INK, ORANGE
from mnistviz.show.picture import Picture, bare, page
from mnistviz.show.scales import SIGNED, array
from mnistviz.show.tiles import draw_grey

DEPTH = 0.2  # of one channel, in pixels of a map, drawn slanting: so far across and up
ACROSS, UP = 0.8 * DEPTH, 0.5 * DEPTH
GAP, PITCH = 10.0, 21.0  # between blocks, and between their middles at least


def network(trace: Trace) -> Picture:
    """`network(trace)`: every stage as a block to the scale of its tensor, with its layers, shape and parameters."""
    row = _Row(trace, PITCH)
    blocks, left = row.blocks, -row.blocks[0].width / 2 - 4
    width = float(row.centres[-1]) + PITCH / 2 + 2 - left
    inch = min(11.2 / width, 0.06)  # of one unit
    line, lines = 0.165 / inch, max(len(block.names) for block in blocks) + 2
    half = max(block.height for block in blocks) / 2
    top, bottom = half + 6, -half - 3 - (lines + 1.6) * line
    picture, ax = page(width * inch + 0.2, (top - bottom) * inch + 0.65)
    row.draw(bare(ax))
    for centre, block in zip(row.centres, blocks, strict=True):
        ax.text(centre, -half - 3, times(block.shape), ha="center", va="top", fontsize=9.5, fontweight="bold")
        note = "\n".join([*block.names, f"{block.learned:,}\nparameters"] if block.learned else block.names)
        ax.text(centre, -half - 3 - 1.5 * line, note, ha="center", va="top", fontsize=9, color=FAINT, linespacing=1.3)
    ax.set(aspect="equal", xlim=(left, left + width), ylim=(bottom, top))
    numbers = f"{sum(block.learned for block in blocks):,} parameters in all"
    depth = f"so is depth: {1 / DEPTH:.0f} channels are as deep as a pixel is wide"
    flat = "Flat layers are bars; their height grows with the square root of their size"
    picture.caption(f"{numbers}. Faces are to scale, and {depth}. {flat}.")
    made = [f"{times(block.shape)} after {', '.join(block.names)}" for block in blocks[1:]]
    return picture.told(f"The network as blocks: {', then '.join(made)}")


def networks(traces: Mapping[str, Trace]) -> Picture:
    """`networks({"simple": trace, …})`: one under another and to one scale, with shapes and what mixes and pools."""
    some(traces, "networks to draw")
    rows, inch = {name: _Row(trace, 26) for name, trace in traces.items()}, 0.032  # of one unit
    width = max(float(row.centres[-1]) for row in rows.values()) + 44
    half = max(block.height for row in rows.values() for block in row.blocks) / 2
    high = 2 * half + 0.76 / inch
    picture, axes = page(width * inch, len(rows) * (high * inch + 0.3) + 0.5, len(rows), squeeze=False)
    for (name, row), ax in zip(rows.items(), axes[:, 0], strict=True):
        row.draw(bare(ax))
        ax.set(title=name, aspect="equal", xlim=(-22, width - 22), ylim=(half + 4 - high, half + 4))
        for centre, block in zip(row.centres, row.blocks, strict=True):
            leads = "\n".join([part for part in block.names if "×" in part] or block.names[:1])
            ax.text(centre, -half - 1.5, times(block.shape), ha="center", va="top", fontsize=9, fontweight="bold")
            ax.text(centre, -half - 7, leads, ha="center", va="top", fontsize=9, color=FAINT, linespacing=1.2)
    picture.caption("Faces and depths are to one scale, flat layers are bars. Named are the layers that mix or pool.")
    shapes = {name: ", then ".join(times(block.shape) for block in row.blocks) for name, row in rows.items()}
    return picture.told("Networks as blocks. " + ". ".join(f"{name}: {told}" for name, told in shapes.items()))


class _Row:
    """The stages of a network as blocks, of every step the block it belongs to, and where the blocks stand."""

    def __init__(self, trace: Trace, pitch: float) -> None:
        self.trace, self.place = trace, {MODEL_INPUT: 0}
        self.blocks = [Block(tuple(trace.input.shape[1:]), ["input"], 0)]
        for number, stage in enumerate(trace.stages(), 1):
            shape = tuple(trace.steps[trace.result_of(stage)].result.shape[1:])
            learned = sum(trace.steps[i].parameters for i in stage if not trace.steps[i].call)  # counted once
            self.blocks.append(Block(shape, [_name(trace, i) for i in stage], learned))
            self.place |= dict.fromkeys(stage, number)
        gaps = (max(a.width / 2 + GAP + b.width / 2, pitch) for a, b in pairwise(self.blocks))
        self.centres = np.cumsum([0.0, *gaps])

    def draw(self, axes: Axes) -> None:
        """The blocks, the digit on the first, and an arrow for each hand-over; dashed where no layer lies between."""
        trace, first = self.trace, self.blocks[0]
        for centre, block in zip(self.centres, self.blocks, strict=True):
            block.draw(axes, centre)
        if trace.input.ndim == 4 and trace.input.shape[1] == 1:
            left, floor, (high, wide) = -first.width / 2, -first.height / 2, trace.input.shape[2:]
            draw_grey(axes, trace.input[:1], extent=(left, left + wide, floor, floor + high), zorder=3)
        ways = {(self.place[i], source) for i, step in enumerate(trace.steps) for source in step.sources}
        links = {(end - 1 if source is None else self.place[source], end, source is None) for end, source in ways}
        for start, end, unknown in sorted(link for link in links if link[0] != link[1]):
            begins = (self.centres[start] + self.blocks[start].width / 2 + 1.5, 0)
            ends = (self.centres[end] - self.blocks[end].width / 2 - 1.5, 0)
            bend = "arc3,rad=-0.3" if end - start > 1 else "arc3"
            arrow = FancyArrowPatch(begins, ends, arrowstyle="-|>", mutation_scale=11, connectionstyle=bend)
            arrow.set(color=FAINT, linewidth=1.2, linestyle="--" if unknown else "-")
            axes.add_patch(arrow)


def _name(trace: Trace, index: int) -> str:
    """A layer's name, and the size of its window if it has one, or the size to which it pools."""
    name, settings = trace.keys[index], trace.steps[index].settings
    if (size := settings.get("kernel_size")) is not None:
        return f"{name} {times(size if isinstance(size, tuple) else pair(size))}"
    return f"{name} to {times(pair(settings['output_size']))}" if "output_size" in settings else name


@dataclass(frozen=True)
class Block:
    """A tensor as a slanting box whose maps face the reader, or a flat one as a bar; sizes in pixels of a map."""

    shape: tuple[int, ...]
    names: list[str]  # of the layers that made it
    learned: int

    @property
    def width(self) -> float:
        return self.shape[2] + self.shape[0] * ACROSS if len(self.shape) == 3 else 4.0

    @property
    def height(self) -> float:
        return self.shape[1] + self.shape[0] * UP if len(self.shape) == 3 else float(np.sqrt(np.prod(self.shape))) * 1.4

    def draw(self, axes: Axes, centre: float) -> None:
        left, bottom = centre - self.width / 2, -self.height / 2
        if len(self.shape) != 3:
            axes.add_patch(Rectangle((left, bottom), self.width, self.height, facecolor="#f3c9a8", edgecolor=INK))
            return
        deep, high, wide = self.shape
        right, top, dx, dy = left + wide, bottom + high, deep * ACROSS, deep * UP
        roof = [(left, top), (right, top), (right + dx, top + dy), (left + dx, top + dy)]
        side = [(right, bottom), (right + dx, bottom + dy), (right + dx, top + dy), (right, top)]
        face = [(left, bottom), (right, bottom), (right, top), (left, top)]
        for corners, colour in ((roof, "#d3e5f3"), (side, "#7fb2d8"), (face, "#a9cfea")):
            axes.add_patch(Polygon(corners, facecolor=colour, edgecolor=INK, linewidth=0.9))


def decisions(points: Tensor, labels: Tensor, answers: Mapping[str, Tensor], reach: float = 3.0) -> Picture:
    """`decisions(points, labels, {"with ReLU": p})`: p, (G, G), is the probability of class 1 on a grid.

    The grid runs from -reach to reach, its rows along y from below, its columns along x.
    """
    x, y = array(points), array(labels)
    grids = {name: array(p) for name, p in answers.items()}
    if x.ndim != 2 or x.shape[1] != 2 or len(x) != len(y) or any(g.ndim != 2 for g in grids.values()) or not grids:
        given = f"points {x.shape}, labels {y.shape}, grids {[g.shape for g in grids.values()]}"
        allowed = "points (N, 2), labels (N,), at least one grid (G, G)"
        raise MnistvizError("these are not decisions on a plane", given=given, allowed=allowed)
    picture, axes = page(4.3 * len(grids) + 0.4, 4.9, columns=len(grids), squeeze=False)
    for ax, (name, grid) in zip(axes[0], grids.items(), strict=True):
        colours = SIGNED(0.32 + 0.36 * grid)  # light enough for the points to stand out
        bare(ax).imshow(colours, origin="lower", extent=(-reach, reach, -reach, reach), interpolation="nearest")
        if grid.min() < 0.5 < grid.max():
            down, across = (np.linspace(-reach, reach, count) for count in grid.shape)
            ax.contour(across, down, grid, levels=[0.5], colors=[INK], linewidths=1.6)
        for value, colour, mark in ((0, BLUE, "o"), (1, ORANGE, "^")):
            group = x[y == value]
            ax.scatter(group[:, 0], group[:, 1], s=16, color=colour, marker=mark, edgecolors="white", linewidths=0.5)
        ax.set(title=name, xlim=(-reach, reach), ylim=(-reach, reach))
    background = "Background: probability of a triangle, from 0, blue, to 1, orange"
    picture.caption(f"{background}. The line is where it is one half.")
    return picture.told(f"{len(x)} points of two classes on a plane and the regions answered by: {', '.join(grids)}.")
