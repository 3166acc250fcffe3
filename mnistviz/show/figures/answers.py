"""Figures of answers: single predictions, mistakes, the confusion matrix, how often each digit is answered."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.ticker import PercentFormatter

from mnistviz.errors import MnistvizError
from mnistviz.learn.data import Digits
from mnistviz.learn.evaluate import Report
from mnistviz.show.picture import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    PAPER,
    RIGHT,
    WRONG,
    Picture,
    bare,
    caption,
    notice,
    page,
    percent,
    styled,
)  # fmt: skip


@styled
def confusion(report: Report) -> Picture:
    """`confusion(report)`: counts in every cell, mistakes coloured by their share of the true digit."""
    counts, rates = report.confusion, report.confusion_rates * 100
    off = ~np.eye(10, dtype=bool)
    top = max(float(rates[off].max()), 0.01)
    picture, axes = page(7.6, 6.4)
    sns.heatmap(
        np.where(off, rates, 0), mask=~off, ax=axes, annot=np.where(counts > 0, counts.astype(str), ""), fmt="",
        cmap="Blues", vmin=0, vmax=top, linewidths=1, linecolor="white", square=True,
        cbar_kws={"label": "share of the true digit's row, %", "shrink": 0.8},
    )  # fmt: skip
    for d in range(10):
        recall = f"{rates[d, d]:.1f} %" if counts[d].sum() else "none"
        axes.text(d + 0.5, d + 0.42, f"{counts[d, d]:,}", ha="center", va="center", fontsize=9, color=INK)
        axes.text(d + 0.5, d + 0.74, recall, ha="center", va="center", fontsize=6.5, color=FAINT)
    low, high = report.interval
    wrong = len(report.labels) - report.correct
    axes.set_title(f"{report.accuracy:.2%} right, {wrong:,} of {len(report.labels):,} wrong", pad=10)
    axes.set(xlabel="answer of the network", ylabel="true digit")
    axes.tick_params(length=0, rotation=0)
    axes.grid(visible=False)
    caption(
        picture,
        f"{report.digits.source}. Interval {low:.2%} to {high:.2%} (95 %). One scale for all off-diagonal cells.",
    )
    if wrong:
        true, answer = np.unravel_index(np.argmax(np.where(off, counts, -1)), counts.shape)
        said = f"the most frequent mistake is {true} read as {answer}, {counts[true, answer]} times"
    else:
        said = "there are no mistakes"
    picture.alt = f"Confusion matrix of ten digits: {report.accuracy:.2%} on the diagonal; {said}."
    return picture


@styled
def predictions(report: Report, rows: Sequence[int] | np.ndarray, columns: int = 8) -> Picture:
    """`predictions(report, range(24))`: those digits with the answer, its probability, and ✓ or ✗."""
    chosen = [int(i) for i in rows]
    if not chosen:
        return notice("No digits to show: the list of rows is empty.")
    outside = [i for i in chosen if not 0 <= i < len(report.labels)]
    if outside:
        raise MnistvizError("no such row in this report", given=outside[:5], allowed=f"0 to {len(report.labels) - 1}")
    columns = min(columns, len(chosen))
    lines = -(-len(chosen) // columns)
    picture, axes = page(max(columns * 1.22, 4.0), lines * 1.62 + 0.3, rows=lines, columns=columns, squeeze=False)
    for ax in axes.flat:
        bare(ax)
    for ax, i in zip(axes.flat, chosen, strict=False):
        answer, truth = int(report.predictions[i]), int(report.labels[i])
        mark, colour = RIGHT if answer == truth else WRONG
        ax.imshow(report.digits.images[i].cpu().numpy(), cmap=GREY, vmin=0, vmax=255, interpolation="nearest")
        said = f"{mark} {answer}  {percent(report.probabilities[i, answer])}"
        ax.set_title(said, color=colour, fontsize=10.5, pad=3, loc="center")
        ax.set_xlabel(f"row {i}" + (f", is {truth}" if answer != truth else ""), fontsize=8.5, color=INK, labelpad=2)
    caption(picture, f"✓ right, ✗ wrong; answer and its probability above. {PAPER.capitalize()}.")
    wrong = int(sum(report.predictions[i] != report.labels[i] for i in chosen))
    picture.alt = f"{len(chosen)} digits with the network's answers: {len(chosen) - wrong} right, {wrong} wrong."
    return picture


@styled
def mistakes(report: Report, count: int = 24) -> Picture:
    """`mistakes(report)`: the wrong answers the model was surest of; a perfect model gets a page that says so."""
    rows = report.mistakes["row"].to_numpy()[:count]
    if not len(rows):
        return notice(f"No mistakes: all {len(report.labels):,} digits of {report.digits.source} are read right.")
    return predictions(report, rows)


@styled
def one_prediction(digit: Digits, probabilities: np.ndarray) -> Picture:
    """`one_prediction(test[7], predict(model, test[7]))`: a digit and its ten probabilities."""
    if len(digit) != 1 or np.shape(probabilities) not in ((10,), (1, 10)):
        raise MnistvizError(
            "this figure shows one digit",
            given=f"{len(digit)} digits, probabilities {np.shape(probabilities)}",
            allowed="one digit and its ten probabilities",
            fix="take one: digits[7]",
        )
    shares = np.asarray(probabilities, float).reshape(10)
    answer = int(shares.argmax())
    truth = None if digit.labels is None else int(digit.labels[0])
    mark, colour = ("", BLUE) if truth is None else RIGHT if truth == answer else WRONG
    picture, (left, right) = page(8.2, 3.3, columns=2, width_ratios=[1, 1.75])
    bare(left).imshow(digit.images[0].cpu().numpy(), cmap=GREY, vmin=0, vmax=255, interpolation="nearest")
    left.set_title("what goes in" + ("" if truth is None else f": a {truth}"))
    bars = right.barh(range(10), shares, color=[colour if d == answer else "#b9c2d0" for d in range(10)], height=0.72)
    right.bar_label(bars, [percent(p) for p in shares], padding=4, fontsize=9, color=INK)
    right.set(xlim=(0, 1.16), yticks=range(10), title=f"what comes out: {mark} {answer}".replace("  ", " "))
    right.set_xticks([0, 0.25, 0.5, 0.75, 1])
    right.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.invert_yaxis()
    right.grid(visible=False, axis="y")
    right.tick_params(axis="y", length=0, labelsize=11)
    caption(picture, "28×28 grey levels, 0 black to 255 white; the ten probabilities sum to 100 %.")
    known = "" if truth is None else f" It is a {truth}."
    picture.alt = (
        f"A handwritten digit and ten probability bars; the answer is {answer} with {percent(shares[answer])}.{known}"
    )
    return picture


@styled
def prediction_distribution(predictions: np.ndarray, expected: Digits) -> Picture:
    """`prediction_distribution(answers, train)`: how often each digit was answered, beside its training share."""
    answers = np.asarray(predictions)
    if answers.ndim != 1 or not len(answers) or not np.isin(answers, np.arange(10)).all():
        raise MnistvizError(
            "these are not answers", given=f"{answers.dtype} of shape {answers.shape}",
            allowed="whole numbers from 0 to 9", fix="predict(model, digits).argmax(1)",
        )  # fmt: skip
    counts = np.bincount(answers, minlength=10)
    share = np.bincount(expected.known_labels().cpu().numpy(), minlength=10) / len(expected) * len(answers)
    picture, axes = page(8.6, 3.5)
    axes.bar(range(10), counts, color=BLUE, width=0.66, label="answers")
    for digit, (count, due) in enumerate(zip(counts, share, strict=True)):
        axes.annotate(
            f"{count:,}", (digit, max(count, due)), (0, 4), textcoords="offset points", ha="center", fontsize=9
        )
    axes.plot(range(10), share, linestyle="", marker="_", markersize=34, markeredgewidth=2.2, color=ORANGE,
              label=f"expected from {expected.source}")  # fmt: skip
    axes.set(
        title=f"{len(answers):,} answers",
        xlabel="digit",
        xticks=range(10),
        ylim=(0, max(counts.max(), share.max()) * 1.16),
    )
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    worst = int(np.abs(counts - share).argmax())
    picture.alt = (
        f"Bars of how often each digit was answered, with a tick at the number expected; the largest difference "
        f"is {counts[worst] - share[worst]:+.0f}, at digit {worst}."
    )
    return picture
