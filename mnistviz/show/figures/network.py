"""The network itself: drawn to scale from a trace, or, with two inputs, what it answers on the whole plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from torch import Tensor

from mnistviz.errors import MnistvizError
from mnistviz.look.replay import pair
from mnistviz.look.trace import MODEL_INPUT, Trace
from mnistviz.show.picture import BLUE, FAINT, GREY, INK, ORANGE, Picture, bare, caption, page, styled
from mnistviz.show.scales import SIGNED, array

DEPTH = 0.2  # of one channel, in pixels of a map, drawn slanting
GAP, PITCH = 10.0, 21.0  # between blocks, and between their middles at least


@styled
def network(trace: Trace) -> Picture:
    """`network(trace)`: every stage as a block to the scale of its tensor, with its layers, shape and parameters."""
    blocks = [Block(tuple(trace.input.shape[1:]), ["input"], 0)]
    place = {MODEL_INPUT: 0}  # of every step, the block it belongs to
    for number, stage in enumerate(trace.stages(), 1):
        shape = tuple(trace.steps[trace.result_of(stage)].result.shape[1:])
        learned = sum(trace.steps[i].parameters for i in stage)
        blocks.append(Block(shape, [_name(trace, i) for i in stage], learned))
        place |= dict.fromkeys(stage, number)
    steps = [max(a.width / 2 + GAP + b.width / 2, PITCH) for a, b in pairwise(blocks)]
    centres = np.cumsum([0.0, *steps])
    left = -blocks[0].width / 2 - 4
    wide = float(centres[-1]) + PITCH / 2 + 2 - left
    inch = min(11.2 / wide, 0.06)  # of one unit
    line, lines = 0.15 / inch, max(len(block.names) for block in blocks) + 1
    half = max(block.height for block in blocks) / 2
    top, bottom = half + 6, -half - 3 - (lines + 1.6) * line
    picture, ax = page(wide * inch + 0.2, (top - bottom) * inch + 0.65)
    bare(ax)
    for centre, block in zip(centres, blocks, strict=True):
        block.draw(ax, centre)
        if block is blocks[0] and len(block.shape) == 3 and block.shape[0] == 1:  # its face is the digit
            edges = (left + 4, left + 4 + block.shape[2], -block.height / 2, block.shape[1] - block.height / 2)
            ax.imshow(
                array(trace.input)[0, 0], cmap=GREY, vmin=0, vmax=1, extent=edges, interpolation="nearest", zorder=3
            )
        ax.text(centre, -half - 3, _times(block.shape), ha="center", va="top", fontsize=9.5, fontweight="bold")
        note = "\n".join([*block.names, f"{block.learned:,}"] if block.learned else block.names)
        below = -half - 3 - 1.5 * line
        ax.text(centre, below, note, ha="center", va="top", fontsize=8, color=FAINT, linespacing=1.3)
    _connect(ax, trace, place, centres, blocks)
    ax.set(aspect="equal", xlim=(left, left + wide), ylim=(bottom, top))
    caption(
        picture,
        f"{sum(block.learned for block in blocks):,} parameters, the numbers below the blocks. Faces are to scale, and "
        f"so is depth: {1 / DEPTH:.0f} channels are as deep as a pixel is wide. Flat layers are bars; their height "
        "grows with the square root of their size.",
    )
    picture.alt = "The network as blocks: " + ", then ".join(
        f"{_times(block.shape)} after {', '.join(block.names)}" for block in blocks[1:]
    )
    return picture


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _name(trace: Trace, index: int) -> str:
    """A layer's name, and the size of its window if it has one."""
    size = trace.steps[index].settings.get("kernel_size")
    return trace.keys[index] + ("" if size is None else " " + _times(pair(size)))


@dataclass(frozen=True)
class Block:
    """A tensor as a slanting box whose maps face the reader, or a flat one as a bar; sizes in pixels of a map."""

    shape: tuple[int, ...]
    names: list[str]  # of the layers that made it
    learned: int

    @property
    def slant(self) -> tuple[float, float]:
        depth = self.shape[0] * DEPTH if len(self.shape) == 3 else 0.0
        return depth * 0.8, depth * 0.5

    @property
    def width(self) -> float:
        return self.shape[2] + self.slant[0] if len(self.shape) == 3 else 4.0

    @property
    def height(self) -> float:
        return self.shape[1] + self.slant[1] if len(self.shape) == 3 else float(np.sqrt(np.prod(self.shape))) * 1.4

    def draw(self, axes: Axes, centre: float) -> None:
        left, bottom = centre - self.width / 2, -self.height / 2
        if len(self.shape) != 3:
            axes.add_patch(Rectangle((left, bottom), self.width, self.height, facecolor="#f3c9a8", edgecolor=INK))
            return
        _, high, wide = self.shape
        dx, dy = self.slant
        right, top = left + wide, bottom + high
        roof = [(left, top), (right, top), (right + dx, top + dy), (left + dx, top + dy)]
        side = [(right, bottom), (right + dx, bottom + dy), (right + dx, top + dy), (right, top)]
        face = [(left, bottom), (right, bottom), (right, top), (left, top)]
        for corners, colour in ((roof, "#d3e5f3"), (side, "#7fb2d8"), (face, "#a9cfea")):
            axes.add_patch(Polygon(corners, facecolor=colour, edgecolor=INK, linewidth=0.9))


def _connect(axes: Axes, trace: Trace, place: dict[int, int], centres: np.ndarray, blocks: list[Block]) -> None:
    """An arrow for each hand-over between blocks; dashed where what lies between is no layer."""
    links = set()
    for index, step in enumerate(trace.steps):
        for source in step.sources:
            start = place[index] - 1 if source is None else place[source]
            if start != place[index]:
                links.add((start, place[index], source is None))
    for start, end, unknown in sorted(links):
        far = end - start > 1
        ends = ((centres[start] + blocks[start].width / 2 + 1.5, 0), (centres[end] - blocks[end].width / 2 - 1.5, 0))
        axes.add_patch(
            FancyArrowPatch(
                *ends, arrowstyle="-|>", mutation_scale=11, color=FAINT, linewidth=1.2,
                linestyle="--" if unknown else "-", connectionstyle="arc3,rad=-0.3" if far else "arc3",
            )
        )  # fmt: skip


@styled
def decisions(points: Tensor, labels: Tensor, answers: Mapping[str, Tensor], reach: float = 3.0) -> Picture:
    """`decisions(points, labels, {"with ReLU": p})`: p, (G, G), is the probability of class 1 on a grid.

    The grid runs from -reach to reach, its rows along y from below, its columns along x.
    """
    x, y = array(points), array(labels)
    grids = {name: array(p) for name, p in answers.items()}
    if x.ndim != 2 or x.shape[1] != 2 or len(x) != len(y) or any(g.ndim != 2 for g in grids.values()) or not grids:
        raise MnistvizError(
            "these are not decisions on a plane",
            given=f"points {x.shape}, labels {y.shape}, grids {[g.shape for g in grids.values()]}",
            allowed="points (N, 2), labels (N,), at least one grid (G, G)",
        )
    picture, axes = page(4.3 * len(grids) + 0.4, 4.9, columns=len(grids), squeeze=False)
    for ax, (name, grid) in zip(axes[0], grids.items(), strict=True):
        extent = (-reach, reach, -reach, reach)
        colours = SIGNED(0.32 + 0.36 * grid)  # light enough for the points to stand out
        bare(ax).imshow(colours, origin="lower", extent=extent, interpolation="nearest")
        if grid.min() < 0.5 < grid.max():
            ax.contour(np.linspace(-reach, reach, grid.shape[1]), np.linspace(-reach, reach, grid.shape[0]), grid,
                       levels=[0.5], colors=[INK], linewidths=1.6)  # fmt: skip
        for value, colour, mark in ((0, BLUE, "o"), (1, ORANGE, "^")):
            mine = x[y == value]
            ax.scatter(mine[:, 0], mine[:, 1], s=16, color=colour, marker=mark, edgecolors="white", linewidths=0.5)
        ax.set(title=name, xlim=(-reach, reach), ylim=(-reach, reach))
    caption(
        picture, "Background: probability of a triangle, from 0, blue, to 1, orange. The line is where it is one half."
    )
    picture.alt = f"{len(x)} points of two classes on a plane and the regions answered by: {', '.join(grids)}."
    return picture
