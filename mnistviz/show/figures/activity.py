"""Figures of many passes: activation statistics, and how they change while a network learns."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnistviz.errors import MnistvizError
from mnistviz.look.activity import Activity
from mnistviz.show.picture import (
    COLOURS,
    INK,
    Picture,
    caption,
    page,
    percent,
    styled,
)  # fmt: skip
from mnistviz.show.scales import POSITIVE, short


def _some(layers: Iterable[str]) -> list[str]:
    names = list(layers)
    if not names:
        raise MnistvizError("no layers to show", fix='name some: ["relu1", "relu2"]')
    return names


@styled
def activation_analysis(activity: Activity | Mapping[str, Activity], layers: Iterable[str] | None = None) -> Picture:
    """`activation_analysis({"trained": a, "at the start": b})`: mean and spread, zeros, silent units, by layer."""
    parts = {"": activity} if isinstance(activity, Activity) else dict(activity)
    if not parts or not all(map(len, parts.values())):
        raise MnistvizError("nothing was watched", fix="with mv.watch(model) as activity: mv.predict(model, digits)")
    names = _some(layers if layers is not None else next(iter(parts.values())))
    places = np.arange(len(names))
    height = 0.78 / len(parts)
    picture, axes = page(11, 0.3 * len(names) * max(1, len(parts) * 0.62) + 1.75, columns=3, sharey=True)
    for k, (part, one) in enumerate(parts.items()):
        totals, at = [one[name] for name in names], places + (k - (len(parts) - 1) / 2) * height
        style = {"color": COLOURS[k % 4], "height": height * 0.9, "label": part}
        axes[0].errorbar([t.mean for t in totals], at, xerr=[t.sd for t in totals], fmt="o", markersize=4.5,
                         color=COLOURS[k % 4], elinewidth=1.6, capsize=2.5, label=part)  # fmt: skip
        axes[1].barh(at, [t.zeros for t in totals], **style)
        bars = axes[2].barh(at, [t.silent_units / t.units for t in totals], **style)
        said = [f"{t.silent_units:,} of {t.units:,}" for t in totals]
        axes[2].bar_label(bars, said, padding=4, fontsize=8 if len(parts) == 1 else 7, color=INK)
    axes[0].set(title="mean ± standard deviation", yticks=places, yticklabels=names)
    axes[0].axvline(0, color=INK, linewidth=0.8)
    axes[0].invert_yaxis()
    most = max(one[n].silent_units / one[n].units for one in parts.values() for n in names)
    axes[1].set(title="share of zeros", xlim=(0, 1))
    axes[2].set(title="silent units", xlim=(0, max(most * 1.5, 0.02)))
    for ax in axes[1:]:
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if ax is axes[1] or most > 0.05 else 1))
    for ax in axes:
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
    if len(parts) > 1:
        handles, said = axes[1].get_legend_handles_labels()
        picture.legend(handles, said, loc="outside upper right", ncols=len(parts))
    counts = {part: f"{one[names[0]].inputs:,}" for part, one in parts.items()}
    seen = " and ".join(dict.fromkeys(counts.values()))
    caption(picture, f"Over {seen} digits. Silent: exactly 0 for every one of them.")
    first = next(iter(parts.values()))
    worst = max(names, key=lambda n: first[n].silent_units / first[n].units)
    picture.alt = (
        f"Mean and spread, share of zeros and silent units of {len(names)} layers over {seen} digits; most silent is "
        f"{worst} with {first[worst].silent_units:,} of {first[worst].units:,} units."
    )
    return picture


@styled
def histograms(pages: Sequence[Activity], layers: Sequence[str], names: Sequence[str] | None = None) -> Picture:
    """`histograms(diary.pages, ["conv1", "relu1"])`: how the values of a layer are spread, page after page."""
    if not pages:
        raise MnistvizError("there are no pages to draw", fix="mv.fit(…, callbacks=diary.callbacks)")
    layers = _some(layers)
    tallies = {layer: np.stack([np.asarray(p[layer].histogram.cpu(), float) for p in pages], 1) for layer in layers}
    bins = pages[0].bins
    if bins is None:
        raise MnistvizError("no histograms were kept", fix="give mv.Diary or mv.watch bins=mv.activity.Bins(-6, 6, 48)")
    shares = {layer: t / t.sum(0).clip(min=1) for layer, t in tallies.items()}
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    picture, axes = page(3.4 * columns + 0.9, 2.7 * rows + 0.75, rows=rows, columns=columns, squeeze=False)
    edges = np.asarray(bins.edges)
    norm = LogNorm(1e-5, 1.0)
    for ax in axes.flat[len(layers) :]:
        ax.remove()
    used = list(axes.flat[: len(layers)])
    for ax, (layer, share) in zip(used, shares.items(), strict=True):
        drawn = ax.pcolormesh(np.arange(len(pages) + 1) - 0.5, edges, np.where(share[1:-1] > 0, share[1:-1], np.nan),
                              cmap=POSITIVE, norm=norm)  # fmt: skip
        ax.set_facecolor("black")
        outside = tallies[layer][[0, -1]].sum() / tallies[layer].sum()
        ax.set_title(layer + (f"   ({percent(outside)} outside)" if outside else ""))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if names is not None:
            ax.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0, fontsize=8.5)
        else:
            ax.set_xlabel("epoch (0: before training)")
        ax.grid(visible=False)
    used[0].set_ylabel("value")
    bar = picture.colorbar(drawn, ax=used, label="share of all values", fraction=0.03, pad=0.015)
    bar.outline.set_visible(False)
    seen = pages[0][layers[0]].inputs
    caption(
        picture,
        f"Each column is a histogram over {seen:,} digits, {bins.count} bins from {short(bins.low)} to "
        f"{short(bins.high)}, brightness logarithmic, the same for all; black is fewer than 1 in 100,000. "
        "Titles count what lies beyond.",
    )
    picture.alt = (
        f"Histograms of the values of {', '.join(layers)} over {len(pages)} moments, as columns of a heat map."
    )
    return picture
