"""The figure of one mistake taken apart."""

from mnistviz.look.causes import Cause
from mnistviz.show.figures.maps import draw_input
from mnistviz.show.picture import BLUE, FAINT, GREY, INK, ORANGE, Picture, bare, caption, page, styled
from mnistviz.show.scales import array


@styled
def cause(cause: Cause) -> Picture:
    """`cause(mv.causes.explain(model, digit.pixels, right, …))`: one mistake on one sheet.

    What made the wrong score larger than the right one, which channels would have to be silent, and the
    known digits the network finds most alike.
    """
    contrast, silenced = cause.contrast, cause.silenced
    pixels, neighbours, labels, distances = cause.pixels, cause.neighbours, cause.labels, cause.distances
    picture = page(11.2, 5.2)[0]
    picture.clear()
    grid = picture.add_gridspec(2, 3, width_ratios=[1.1, 2, 2], height_ratios=[1.6, 1])
    draw_input(picture.add_subplot(grid[0, 0]), pixels, f"answered {contrast.one}, is {contrast.other}")
    ax, gaps = picture.add_subplot(grid[0, 1]), contrast.gaps
    chosen = contrast.ranked[:6] + contrast.ranked[max(6, len(gaps) - 6) :]
    values = [float(gaps[i]) for i in chosen]
    rest = float(gaps.sum()) - sum(values)
    names = [f"{i}" for i in chosen]
    if len(gaps) > len(chosen):
        names, values = [*names, f"{len(gaps) - len(chosen)} others"], [*values, rest]
    names, values = [*names, "biases"], [*values, contrast.bias_gap]
    ax.barh(range(len(values)), values, color=[ORANGE if v > 0 else BLUE for v in values])
    ax.set_yticks(range(len(values)), names, fontsize=8.5)
    ax.invert_yaxis()
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_title(f"why {contrast.one} before {contrast.other}: {contrast.total:+.2f}", fontsize=10.5)
    ax.set_xlabel(f"weight difference × feature of {contrast.layer}")
    ax, shown = picture.add_subplot(grid[0, 2]), list(silenced)[:12]
    flips = [one.answer == contrast.other for one in shown]
    ax.barh(range(len(shown)), [one.gap for one in shown], color=[ORANGE if f else FAINT for f in flips])
    ax.set_yticks(range(len(shown)), [f"{one.layer} {one.channel}" for one in shown], fontsize=8.5)
    ax.invert_yaxis()
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_title(f"silent, it would say … (score of {contrast.other} above {contrast.one})", fontsize=10.5)
    for k, one in enumerate(shown):
        ax.text(one.gap, k, f" {one.answer} ", va="center", ha="left" if one.gap >= 0 else "right", fontsize=8.5)
    below = grid[1, :].subgridspec(1, max(len(neighbours), 1))
    for k, (image, label, distance) in enumerate(zip(neighbours, labels, distances, strict=True)):
        near = bare(picture.add_subplot(below[0, k]))
        near.imshow(array(image).reshape(28, 28), cmap=GREY, vmin=0, vmax=1, interpolation="nearest")
        near.set_xlabel(f"a {label}, at {distance:.1f}", fontsize=9)
    count = sum(one.answer == contrast.other for one in silenced)
    caption(
        picture,
        f"Features in orange speak for {contrast.one}, in blue for {contrast.other}; all bars sum to the gap between "
        f"the two scores. Right: the {len(shown)} channels whose silence helps {contrast.other} most; of "
        f"{len(silenced)} tried, {count} turn the answer into {contrast.other} (orange). Below: the nearest "
        "training digits.",
    )
    picture.alt = (
        f"A digit answered {contrast.one} that is a {contrast.other}: the features behind the gap of "
        f"{contrast.total:+.2f}, the channels whose silence changes it ({count} flip the answer), and its nearest "
        f"training digits, labelled {', '.join(map(str, labels))}."
    )
    return picture
