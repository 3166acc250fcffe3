"""Figures of many passes: activation statistics, and how the values of a layer are spread while a network learns."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from mnistviz.errors import MnistvizError, some
from mnistviz.look.activity import Activity
from mnistviz.show.colours import COLOURS, INK
from mnistviz.show.picture import Picture, colour_bar, names_down, only, page, percent, shares_on
from mnistviz.show.scales import POSITIVE, array, short


def activation_analysis(activity: Activity | Mapping[str, Activity], layers: Iterable[str] | None = None) -> Picture:
    """`activation_analysis({"trained": a, "at the start": b})`: mean and spread, zeros, silent units, by layer."""
    parts = {"": activity} if isinstance(activity, Activity) else dict(activity)
    if not parts or not all(map(len, parts.values())):
        raise MnistvizError("nothing was watched", fix="with mv.watch(model) as activity: mv.predict(model, digits)")
    names = list(next(iter(parts.values())) if layers is None else layers)
    some(names, "layers to show", 'name some: ["relu1", "relu2"]')
    places, height, several = np.arange(len(names)), 0.78 / len(parts), len(parts) > 1
    picture, axes = page(11, 0.3 * len(names) * max(1, len(parts) * 0.62) + 1.75, columns=3, sharey=True)
    (means, zeros, silent), largest = axes, 0.0
    for k, (part, watched) in enumerate(parts.items()):
        totals = [watched[name] for name in names]
        at, colour = places + (k - (len(parts) - 1) / 2) * height, COLOURS[k % len(COLOURS)]
        down = [max(min(t.sd, t.mean - array(t.low).min()), 0) for t in totals]  # a ReLU puts out nothing below 0
        up = [max(min(t.sd, array(t.high).max() - t.mean), 0) for t in totals]
        spread = {"xerr": [down, up], "elinewidth": 1.6, "capsize": 2.5}
        means.errorbar([t.mean for t in totals], at, fmt="o", markersize=4.5, color=colour, label=part, **spread)
        zeros.barh(at, [t.zeros for t in totals], height * 0.9, color=colour, label=part)
        shares = [t.silent_units / t.units for t in totals]
        bars = silent.barh(at, shares, height * 0.9, color=colour)
        silent.bar_label(bars, [f"{t.silent_units:,} of {t.units:,}" for t in totals], padding=4, fontsize=9, color=INK)
        largest = max(largest, *shares)
    means.set(title="mean ± standard deviation", yticks=places, yticklabels=names)
    means.axvline(0, color=INK, linewidth=0.8)
    zeros.set(title="share of zeros", xlim=(0, 1))
    silent.set(title="silent units", xlim=(0, max(largest * 1.5, 0.02)))
    shares_on(zeros.xaxis)
    shares_on(silent.xaxis, 0 if largest > 0.05 else 1)
    names_down(*axes)
    if several:
        picture.legend(*zeros.get_legend_handles_labels(), loc="outside upper right", ncols=len(parts))
    digits = " and ".join(dict.fromkeys(f"{watched[names[0]].inputs:,}" for watched in parts.values()))
    ends = "Lines reach one standard deviation to each side, but not past the smallest and the largest value seen"
    picture.caption(f"Over {digits} digits. {ends}. Silent: exactly 0 for every digit.")
    first = next(iter(parts.values()))
    worst = max(names, key=lambda name: first[name].silent_units / first[name].units)
    most_silent = f"{worst} with {first[worst].silent_units:,} of {first[worst].units:,} units"
    statistics = f"Mean and spread, share of zeros and silent units of {len(names)} layers over {digits} digits"
    return picture.told(f"{statistics}; most silent is {most_silent}.")


def histograms(pages: Sequence[Activity], layers: Sequence[str], names: Sequence[str] | None = None) -> Picture:
    """`histograms(diary.pages, ["conv1", "relu1"])`: how the values of a layer are spread, page after page."""
    some(pages, "pages to draw", "mv.fit(…, callbacks=diary.callbacks)")
    some(layers, "layers to show", 'name some: ["relu1", "relu2"]')
    counts = {layer: np.stack([array(p[layer].histogram) for p in pages], axis=1) for layer in layers}
    bins = pages[0].bins
    assert bins is not None  # there are histograms
    wide = min(3, len(layers))
    high = -(-len(layers) // wide)
    picture, axes = page(3.4 * wide + 0.9, 2.7 * high + 0.75, high, wide, squeeze=False)
    used = only(axes, len(layers))
    edges, columns = array(bins.edges), np.arange(len(pages) + 1) - 0.5
    logarithmic = LogNorm(1e-5, 1.0)  # one for all

    for ax, (layer, tally) in zip(used, counts.items(), strict=True):
        shares = (tally / tally.sum(0).clip(min=1))[1:-1]
        shares[shares == 0] = np.nan  # drawn as the black behind it
        mesh = ax.pcolormesh(columns, edges, shares, cmap=POSITIVE, norm=logarithmic)
        ax.set_facecolor("black")
        outside = tally[[0, -1]].sum() / tally.sum()
        ax.set_title(layer + (f"   ({percent(outside)} outside)" if outside else ""))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if names is None:
            ax.set_xlabel("epoch (0: before training)")
        else:
            ax.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0, fontsize=9)
        ax.grid(visible=False)
    used[0].set_ylabel("value")
    colour_bar(mesh, list(used), label="share of all values")
    counted = f"{pages[0][layers[0]].inputs:,} digits, {bins.count} bins from {short(bins.low)} to {short(bins.high)}"
    brightness = "brightness logarithmic, the same for all; black is fewer than 1 in 100,000"
    picture.caption(f"Each column is a histogram over {counted}, {brightness}. Titles count what lies beyond.")
    moments = f"{len(pages)} moments, as columns of a heat map"
    return picture.told(f"Histograms of the values of {', '.join(layers)} over {moments}.")
