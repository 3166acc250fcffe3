"""The figure of one mistake taken apart."""

from matplotlib.axes import Axes

from mnistviz.look.causes import Cause, Contrast, Silenced
from mnistviz.show.colours import BLUE, FAINT, INK, ORANGE
from mnistviz.show.picture import Picture, an
from mnistviz.show.tiles import draw_grey

SHOWN = 12  # features, and channels


def cause(cause: Cause) -> Picture:
    """`cause(mv.causes.explain(…))`: why the wrong score was larger, what would turn it, and the digits most alike."""
    contrast, silenced = cause.contrast, cause.silenced
    answer, truth = contrast.one, contrast.other
    picture = Picture(figsize=(11.2, 5.2), layout="constrained")
    grid = picture.add_gridspec(2, 3, width_ratios=[1.1, 2, 2], height_ratios=[1.6, 1])
    draw_grey(picture.add_subplot(grid[0, 0]), cause.pixels, f"answered {answer}, is {truth}")
    _draw_gaps(picture.add_subplot(grid[0, 1]), contrast)
    _draw_silenced(picture.add_subplot(grid[0, 2]), silenced[:SHOWN], answer, truth)
    below = grid[1, :].subgridspec(1, max(len(cause.neighbours), 1))
    for k, (image, label, distance) in enumerate(zip(cause.neighbours, cause.labels, cause.distances, strict=True)):
        ax = picture.add_subplot(below[0, k])
        draw_grey(ax, image)
        ax.set_xlabel(f"{an(label)}, at {distance:.1f}", fontsize=9)
    turned = sum(silence.answer == truth for silence in silenced)
    bars = f"Features in orange speak for {answer}, in blue for {truth}; all bars sum to the gap between the two scores"
    helpful = f"the {len(silenced[:SHOWN])} channels whose silence helps {truth} most"
    tried = f"beside it the answer then given; of {len(silenced)} tried, {turned} make it {truth} (orange)"
    picture.caption(f"{bars}. Right: {helpful}; {tried}. Below: the nearest training digits.")
    gap = f"the features behind the gap of {contrast.total:+.2f}"
    silent = f"the channels whose silence changes it ({turned} flip the answer)"
    labels = f"its nearest training digits, labelled {', '.join(map(str, cause.labels))}"
    return picture.told(f"A digit answered {answer} that is {an(truth)}: {gap}, {silent}, and {labels}.")


def _draw_gaps(axes: Axes, contrast: Contrast) -> None:
    """The features that speak most for either answer, and the sum of all others."""
    gaps, half = contrast.gaps, SHOWN // 2
    chosen = contrast.ranked[:half] + contrast.ranked[max(half, len(gaps) - half) :]
    bars = {str(i): float(gaps[i]) for i in chosen}
    if len(gaps) > len(chosen):
        bars[f"{len(gaps) - len(chosen)} others"] = float(gaps.sum()) - sum(bars.values())
    bars["biases"] = contrast.bias_gap
    _draw_bars(axes, bars, [ORANGE if v > 0 else BLUE for v in bars.values()])
    axes.set_title(f"why {contrast.one} before {contrast.other}: {contrast.total:+.2f}", fontsize=10.5)
    axes.set_xlabel(f"weight difference × feature of {contrast.layer}")


def _draw_silenced(axes: Axes, silenced: list[Silenced], answer: int, truth: int) -> None:
    """How far the right score stands above the other when a channel is silent, and what is then answered."""
    bars = {f"{s.layer} {s.channel}": s.gap for s in silenced}
    _draw_bars(axes, bars, [ORANGE if s.answer == truth else FAINT for s in silenced])
    axes.margins(x=0.2)  # for the words
    axes.set_title(f"one channel silenced: score {truth} − score {answer}", fontsize=10.5)
    for k, s in enumerate(silenced):
        axes.text(s.gap, k, f" then {s.answer} ", va="center", ha="left" if s.gap >= 0 else "right", fontsize=9)


def _draw_bars(axes: Axes, bars: dict[str, float], colours: list[str]) -> None:
    axes.barh(range(len(bars)), list(bars.values()), color=colours)
    axes.set_yticks(range(len(bars)), bars, fontsize=9)
    axes.invert_yaxis()
    axes.axvline(0, color=INK, linewidth=0.8)
