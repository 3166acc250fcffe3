"""Figures of how far a model can be trusted: by digit, by confidence, by what it leaves unanswered."""

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import PercentFormatter

from mnistviz.errors import MnistvizError
from mnistviz.learn.evaluate import Report
from mnistviz.show.picture import BLUE, FAINT, INK, ORANGE, RULE, Picture, caption, notice, page, percent, styled

SOME = LinearSegmentedColormap.from_list("some", ["white", "#f9c9a4", ORANGE, "#5f2500"])


@styled
def per_digit(report: Report) -> Picture:
    """`per_digit(report)`: precision and recall of each digit, from the worst value up."""
    table = report.per_digit
    known = table.dropna(subset=["recall"])
    picture, ax = page(8.4, 3.4)
    place = np.arange(10)
    for shift, name, colour in ((-0.2, "precision", ORANGE), (0.2, "recall", BLUE)):
        ax.bar(place + shift, table[name], 0.36, color=colour, label=name)
    low = float(np.nanmin(table[["precision", "recall"]].to_numpy()))
    ax.set_ylim(max(0.0, low - 0.3 * (1 - low) - 0.001), 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=1 if low > 0.95 else 0))
    ax.set_xticks(place, [f"{d}\n{int(n):,}" for d, n in enumerate(table["support"])])
    ax.set(xlabel="digit, and how many there are", title="Precision and recall of each digit")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    missing = [str(d) for d in table.index if d not in known.index]
    absent = f" No {', '.join(missing)} among these digits: no recall to give." if missing else ""
    caption(
        picture,
        "Precision: of the answers d, the share that is a d. Recall: of the digits d, the share answered d. "
        f"{'The axis does not begin at 0.' if ax.get_ylim()[0] else ''}{absent}",
    )
    worst, least = known["recall"].idxmin(), known["recall"].min()
    picture.alt = f"Bars of precision and recall for ten digits; the lowest recall is that of {worst}, {least:.1%}."
    return picture


@styled
def confusion_pairs(report: Report) -> Picture:
    """`confusion_pairs(report)`: counts of every confusion, and what share of its digit each is, as heat maps."""
    if not len(report.pairs):
        return notice(f"No answer is wrong: all {len(report.labels):,} digits were read rightly.")
    counts, rates = report.confusion, report.confusion_rates
    right = np.eye(10, dtype=bool)
    picture, axes = page(11.4, 5.0, columns=2)
    written = np.where(counts > 0, counts.astype(str), "")
    common = {"mask": right, "square": True, "linewidths": 1.2, "linecolor": "white", "cbar_kws": {"shrink": 0.75}}
    sns.heatmap(np.where(right, 0, counts), ax=axes[0], annot=written, fmt="", cmap=SOME, vmin=0, **common)
    shares = np.where(right, 0, rates * 100)
    said = np.where(shares > 0, np.char.mod("%.1f", shares), "")
    sns.heatmap(shares, ax=axes[1], annot=said, fmt="", cmap=SOME, vmin=0, annot_kws={"fontsize": 8}, **common)
    for ax, title in zip(axes, ("How many", "Per cent of that digit"), strict=True):
        ax.set(title=title, xlabel="answer", ylabel="true digit")
        ax.grid(visible=False)
        ax.tick_params(length=0)
        ax.tick_params(axis="y", rotation=0)
        ax.set_facecolor(RULE)
    wrong = int((report.labels != report.predictions).sum())
    caption(picture, f"The {wrong} wrong answers of {len(report.labels):,}; right answers are left out. White is none.")
    first = report.pairs.iloc[0]
    picture.alt = (
        f"Two heat maps of the {wrong} wrong answers; most frequent: {first.label:.0f} taken for "
        f"{first.prediction:.0f}, {first['count']:.0f} times."
    )
    return picture


@styled
def reliability(reports: Mapping[str, Report], bins: int = 15) -> Picture:
    """`reliability({"as trained": report, "cooled": report.cooled(t)})`: confidence beside the share that is right."""
    if not reports:
        raise MnistvizError("there are no reports to draw")
    picture, axes = page(
        4.0 * len(reports) + 0.4, 4.6, rows=2, columns=len(reports), squeeze=False, height_ratios=[3, 1]
    )
    for (above, below), (name, report) in zip(axes.T, reports.items(), strict=True):
        table = report.reliability(bins)
        middle, wide = (table["from"] + table["to"]) / 2, 0.9 / bins
        above.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2)
        above.bar(middle, table["accuracy"], wide, color=BLUE, alpha=0.85)
        errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
        above.errorbar(middle, table["accuracy"], errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        above.plot(table["confidence"], table["accuracy"], ".", color=ORANGE, clip_on=False)
        above.set(xlim=(0, 1), ylim=(0, 1.02), title=name)
        below.bar(middle, table["count"], wide, color=FAINT)
        below.set(xlim=(0, 1), yscale="log", xlabel="confidence")
        above.text(0.03, 0.95, repr(report.calibration_error(bins)).replace("; ", "\n").replace(", up", "\nup"),
                   transform=above.transAxes, va="top", fontsize=8.5,
                   bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.9})  # fmt: skip
    axes[0, 0].set_ylabel("share that is right")
    axes[1, 0].set_ylabel("answers")
    caption(
        picture,
        f"{bins} equal steps of confidence; lines are 95 % intervals, dots stand at the mean confidence. On the dashed "
        "line confidence is what it says. Below: how many answers there are, on a logarithmic scale.",
    )
    picture.alt = "Reliability diagrams: " + "; ".join(
        f"{n}: {r.calibration_error(bins)!r}" for n, r in reports.items()
    )
    return picture


@styled
def coverage(reports: Mapping[str, Report]) -> Picture:
    """`coverage({"deep": a, "light": b})`: how many of the answers are wrong if only the surest are given."""
    if not reports:
        raise MnistvizError("there are no reports to draw")
    picture, ax = page(7.4, 3.7)
    said = []
    for k, (name, report) in enumerate(reports.items()):
        table = report.coverage
        ax.plot(table["coverage"], table["error"], color=f"C{k}", label=name)
        clean = table["coverage"][table["error"] == 0].max()
        said.append(f"{name}: the surest {percent(0.0 if np.isnan(clean) else float(clean))} hold no error")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=2))
    ax.set(xlabel="share of digits answered, the surest first", ylabel="wrong among them", ylim=(0, None))
    first = min(r.coverage["coverage"][r.coverage["error"] > 0].min() for r in reports.values())  # NaN: no error
    ax.set(title="Error against coverage", xlim=(0 if np.isnan(first) else max(0.0, first - 0.25 * (1 - first)), 1))
    ax.legend(loc="upper left")
    caption(picture, "To the right all digits are answered; further left only those of which the model is surest.")
    picture.alt = "Curves of error against coverage. " + "; ".join(said) + "."
    return picture
