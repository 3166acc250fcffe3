"""The figure of many trainings: what accuracy costs in parameters."""

import pandas as pd
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from mnistviz.errors import refuse
from mnistviz.show.colours import BLUE, ORANGE
from mnistviz.show.picture import Picture, page


def frontier(measured: pd.DataFrame, published: pd.DataFrame | None = None) -> Picture:
    """`frontier(measured)`: errors against parameters, a row a network: parameters, mean, sd, runs (of accuracies).

    `published`, with parameters and accuracy, is drawn hollow: single figures, of which the source is to be named.
    """
    refuse(measured.empty, "there are no networks to draw", fix="give a row to each network that has a run")
    picture, ax = page(9.0, 4.6)
    ours = measured.assign(errors=100 * (1 - measured["mean"]), bar=100 * measured["sd"].where(measured["runs"] > 1, 0))
    theirs = ours[:0] if published is None else published.assign(errors=100 * (1 - published["accuracy"]))
    points = pd.concat([ours, theirs])
    for _, row in ours.iterrows():
        ax.errorbar(row["parameters"], row["errors"], row["bar"] or None, fmt="o", color=BLUE, capsize=3)
    ax.scatter(theirs["parameters"], theirs["errors"], facecolors="none", edgecolors=ORANGE, marker="D", s=34)
    ax.margins(x=0.2)  # room for a name on either side
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="errors, %")
    ax.xaxis.set(major_formatter="{x:,.0f}", minor_formatter=NullFormatter())
    ticks = FixedLocator([0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5])
    ax.yaxis.set(major_locator=ticks, minor_locator=NullLocator(), major_formatter="{x:g}")
    hollow = " Orange, hollow: published single figures." if len(theirs) else ""
    picture.caption(f"Blue: mean of the runs named, bars ± their standard deviation.{hollow} Both scales logarithmic.")
    picture.draw_without_rendering()  # only now is it known what a name would cover
    ends = [[(x, y - bar), (x, y + bar)] for x, y, bar in points[["parameters", "errors", "bar"]].fillna(0).to_numpy()]
    taken = [Bbox(ax.transData.transform(pair)).padded(6) for pair in ends]
    for k, (name, row) in enumerate(ours.iterrows()):
        note, (x, high) = f"{name}, {row['runs']:.0f} run{'s' if row['runs'] > 1 else ''}", ends[k][1]
        ways = [
            ((8, 0), row["errors"], "left", "center"),
            ((-8, 0), row["errors"], "right", "center"),
            ((0, 5), high, "center", "bottom"),
        ]
        style = {"textcoords": "offset points", "fontsize": 9}
        names = [ax.annotate(note, (x, y), way, ha=ha, va=va, **style) for way, y, ha, va in ways]
        best = min(names, key=lambda text: text.get_window_extent().count_overlaps(taken))
        taken.append(best.get_window_extent())
        for text in names:
            text.set_visible(text is best)
    told = [f"{name} {row['parameters']:,.0f} parameters, {row['mean']:.2%}" for name, row in measured.iterrows()]
    beside = f"; beside them {len(theirs)} published single figures" if len(theirs) else ""
    return picture.told(f"Errors against parameters: {'; '.join(told)}{beside}.")
