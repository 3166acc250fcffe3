"""Figures of how far a model can be trusted: by digit, by confidence, by what it leaves unanswered."""

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from mnistviz.errors import some
from mnistviz.learn.evaluate import Report
from mnistviz.show.colours import BLUE, FAINT, INK, ORANGE, RULE, curve
from mnistviz.show.picture import Picture, notice, page, percent, shares_on

SOME = LinearSegmentedColormap.from_list("some", ["white", "#f9c9a4", ORANGE, "#5f2500"], N=96)


def per_digit(report: Report) -> Picture:
    """`per_digit(report)`: precision and recall of each digit, from the worst value up."""
    table = report.per_digit
    picture, ax = page(8.4, 3.4)
    place = np.arange(10)
    for shift, name, colour in ((-0.2, "precision", ORANGE), (0.2, "recall", BLUE)):
        ax.bar(place + shift, table[name], 0.36, color=colour, label=name)
    low = float(np.nanmin(table[["precision", "recall"]].to_numpy()))
    bottom = max(0.0, low - 0.3 * (1 - low) - 0.001)
    shares_on(ax.yaxis, 1 if low > 0.95 else 0)
    ax.set_xticks(place, [f"{d}\n{int(n):,}" for d, n in enumerate(table["support"])])
    ax.set(title="Precision and recall of each digit", xlabel="digit, and how many there are", ylim=(bottom, 1))
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    missing = ", ".join(str(d) for d in table.index[table["recall"].isna()])
    absent = f" No {missing} among these digits: no recall to give." if missing else ""
    cut = "The axis does not begin at 0." if bottom else ""
    precision, recall = "of the answers d, the share that is a d", "of the digits d, the share answered d"
    picture.caption(f"Precision: {precision}. Recall: {recall}. {cut}{absent}")
    lowest = f"the lowest recall is that of {table['recall'].idxmin()}, {table['recall'].min():.1%}"
    return picture.told(f"Bars of precision and recall for ten digits; {lowest}.")


def confusion_pairs(report: Report) -> Picture:
    """`confusion_pairs(report)`: counts of every confusion, and what share of its digit each is, as heat maps."""
    if not len(report.pairs):
        return notice(f"No answer is wrong: all {len(report.labels):,} digits were read rightly.")
    right = np.eye(10, dtype=bool)
    counts, shares = report.confusion, np.where(right, 0, report.confusion_rates * 100)

    in_shares = np.where(shares > 0, np.char.mod("%.1f", shares), "")
    style = {"mask": right, "fmt": "", "cmap": SOME, "vmin": 0, "square": True, "linewidths": 1.2}
    style |= {"linecolor": "white", "cbar_kws": {"shrink": 0.75}}
    picture, axes = page(11.4, 5.0, columns=2)
    sns.heatmap(np.where(right, 0, counts), ax=axes[0], annot=np.where(counts > 0, counts.astype(str), ""), **style)
    sns.heatmap(shares, ax=axes[1], annot=in_shares, annot_kws={"fontsize": 9}, **style)
    axes[0].collections[0].colorbar.set_ticks(MaxNLocator(integer=True))  # counts are whole
    for ax, title in zip(axes, ("How many", "Per cent of that digit"), strict=True):
        ax.set(title=title, xlabel="answer", ylabel="true digit")
        ax.grid(visible=False)
        ax.tick_params(length=0, rotation=0)
        ax.set_facecolor(RULE)
    wrong = len(report.labels) - report.correct
    picture.caption(f"The {wrong} wrong answers of {len(report.labels):,}; right answers are left out. White is none.")
    first = report.pairs.iloc[0]
    frequent = f"{first.label:.0f} taken for {first.prediction:.0f}, {first['count']:.0f} times"
    return picture.told(f"Two heat maps of the {wrong} wrong answers; most frequent: {frequent}.")


def reliability(reports: Mapping[str, Report], bins: int = 15) -> Picture:
    """`reliability({"as trained": report, "cooled": report.cooled(t)})`: confidence beside the share that is right."""
    some(reports, "reports to draw")
    picture, axes = page(4.0 * len(reports) + 0.4, 4.6, 2, len(reports), squeeze=False, height_ratios=[3, 1])
    errors = {name: repr(report.calibration_error(bins)) for name, report in reports.items()}
    for (above, below), (name, report) in zip(axes.T, reports.items(), strict=True):
        table = report.reliability(bins)
        middle, width, right = (table["from"] + table["to"]) / 2, 0.9 / bins, table["accuracy"]
        above.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2)
        above.bar(middle, right, width, color=BLUE, alpha=0.85)
        interval = [right - table["low"], table["high"] - right]
        above.errorbar(middle, right, interval, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        above.plot(table["confidence"], right, ".", color=ORANGE, clip_on=False)
        above.set(xlim=(0, 1), ylim=(0, 1.35), yticks=np.linspace(0, 1, 6), title=name)
        below.bar(middle, table["count"], width, color=FAINT)
        below.set(xlim=(0, 1), yscale="log", xlabel="confidence")
        text = errors[name].replace("; ", "\n").replace(", up", "\nup")
        above.text(0.03, 0.98, text, transform=above.transAxes, va="top", fontsize=9)
    axes[0, 0].set_ylabel("share that is right")
    axes[1, 0].set_ylabel("answers")
    bars = f"Bars: the share that is right in each of {bins} equal steps of confidence; lines: its 95 % interval"
    dots = "dots: the mean confidence. On the dashed line the two are equal"
    picture.caption(f"{bars}; {dots}. Below: how many answers, logarithmic.")
    picture.alt = "Right answers at each confidence: " + "; ".join(f"{name}: {error}" for name, error in errors.items())
    return picture


def coverage(reports: Mapping[str, Report]) -> Picture:
    """`coverage({"deep": a, "light": b})`: how many of the answers are wrong if only the surest are given."""
    some(reports, "reports to draw")
    picture, ax = page(7.4, 3.7)
    clean, first_errors = [], []
    for k, (name, report) in enumerate(reports.items()):
        table = report.coverage
        ax.plot(table["coverage"], table["error"], **curve(k), markersize=7, markevery=(0.025 * k, 0.1), label=name)
        without = table["coverage"][table["error"] == 0].max()
        clean.append(f"{name}: the surest {percent(0.0 if np.isnan(without) else float(without))} hold no error")
        first_errors.append(table["coverage"][table["error"] > 0].min())  # NaN: no error
    shares_on(ax.xaxis, None)
    shares_on(ax.yaxis, 2)
    first = np.fmin.reduce(first_errors)
    left, top = 0.0 if np.isnan(first) else max(0.0, first - 0.25 * (1 - first)), ax.get_ylim()[1]
    ax.set(xlabel="share of digits answered, the surest first", ylabel="wrong among them")
    ax.set(title="Error against coverage", xlim=(left, 1), ylim=(-0.03 * top, top))
    ax.legend(loc="upper left")
    picture.caption("To the right all digits are answered; further left only those of which the model is surest.")
    return picture.told(f"Curves of error against coverage. {'; '.join(clean)}.")
