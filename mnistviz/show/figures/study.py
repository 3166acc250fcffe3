"""The figure of many trainings: what accuracy costs in parameters."""

import pandas as pd
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from mnistviz.errors import refuse
from mnistviz.show.colours import BLUE, ORANGE
from mnistviz.show.picture import Picture, page


def frontier(measured: pd.DataFrame, published: pd.DataFrame | None = None) -> Picture:
    """`frontier(measured)`: errors against parameters, a row a network: parameters, mean, sd, runs (of accuracies).

    `published`, with parameters and accuracy, is drawn hollow: single figures, of which the source is to be named.
    """
    refuse(measured.empty, "there are no networks to draw", fix="give a row to each network that has a run")
    picture, ax = page(9.0, 4.6)
    for k, (name, row) in enumerate(measured.sort_values("parameters").iterrows()):
        mean, several = 100 * (1 - row["mean"]), row["runs"] > 1
        ax.errorbar(row["parameters"], mean, 100 * row["sd"] if several else None, fmt="o", color=BLUE, capsize=3)
        note = f"{name}, {row['runs']:.0f} run{'s' if several else ''}"
        place = {"xytext": ((-7, 6), (7, -13))[k % 2], "textcoords": "offset points", "ha": ("right", "left")[k % 2]}
        ax.annotate(note, (row["parameters"], mean), fontsize=9, **place)
    if published is not None:
        hollow = {"facecolors": "none", "edgecolors": ORANGE, "marker": "D", "s": 34}
        ax.scatter(published["parameters"], 100 * (1 - published["accuracy"]), label="published", **hollow)
    ax.margins(x=0.1)
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="errors, %")
    ax.xaxis.set(major_formatter="{x:,.0f}", minor_formatter=NullFormatter())
    errors = FixedLocator([0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5])
    ax.yaxis.set(major_locator=errors, minor_locator=NullLocator(), major_formatter="{x:g}")
    theirs = "" if published is None else " Orange, hollow: published single figures."
    picture.caption(f"Blue: mean of the runs named, bars ± their standard deviation.{theirs} Both scales logarithmic.")
    told = [f"{name} {row['parameters']:,.0f} parameters, {row['mean']:.2%}" for name, row in measured.iterrows()]
    return picture.told(f"Errors against parameters: {'; '.join(told)}.")
