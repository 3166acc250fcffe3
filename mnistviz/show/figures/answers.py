"""Figures of answers: single predictions, mistakes, the confusion matrix, how often each digit is answered."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns

from mnistviz.errors import MnistvizError, one_of
from mnistviz.learn.data import Digits
from mnistviz.learn.evaluate import Report
from mnistviz.show.colours import BLUE, FAINT, INK, ORANGE, PALE, RIGHT, WRONG
from mnistviz.show.picture import Picture, an, names_down, notice, only, page, percent, shares_on
from mnistviz.show.tiles import GREY_LEVELS, draw_grey


def confusion(report: Report) -> Picture:
    """`confusion(report)`: counts in every cell, mistakes coloured by their share of the true digit."""
    counts, rates = report.confusion, report.confusion_rates * 100
    off = ~np.eye(10, dtype=bool)
    largest, written = max(float(rates[off].max()), 0.01), np.where(counts > 0, counts.astype(str), "")
    bar = {"label": "share of the true digit's row, %", "shrink": 0.8}
    style = {"cmap": "Blues", "linewidths": 1, "linecolor": "white", "square": True, "cbar_kws": bar}
    picture, axes = page(7.6, 6.4)
    sns.heatmap(np.where(off, rates, 0), ax=axes, mask=~off, annot=written, fmt="", vmin=0, vmax=largest, **style)
    for d in range(10):
        recall = f"{rates[d, d]:.1f} %" if counts[d].sum() else "none"
        axes.text(d + 0.5, d + 0.42, f"{counts[d, d]:,}", ha="center", va="center", fontsize=9, color=INK)
        axes.text(d + 0.5, d + 0.74, recall, ha="center", va="center", fontsize=9, color=FAINT)
    (low, high), wrong = report.interval, len(report.labels) - report.correct
    axes.set_title(f"{report.accuracy:.2%} right, {wrong:,} of {len(report.labels):,} wrong", pad=10)
    axes.set(xlabel="answer of the network", ylabel="true digit")
    axes.tick_params(length=0, rotation=0)
    axes.grid(visible=False)
    interval = f"Interval {low:.2%} to {high:.2%} (95 %)"
    picture.caption(f"{report.digits.source}. {interval}. One scale for all off-diagonal cells.")
    true, answer = np.unravel_index(np.argmax(np.where(off, counts, -1)), counts.shape)
    frequent = f"the most frequent mistake is {true} read as {answer}, {counts[true, answer]} times"
    mistakes = frequent if wrong else "there are no mistakes"
    return picture.told(f"Confusion matrix of ten digits: {report.accuracy:.2%} on the diagonal; {mistakes}.")


def predictions(report: Report, rows: Sequence[int] | np.ndarray, columns: int = 8) -> Picture:
    """`predictions(report, range(24))`: those digits with the answer, its probability, and ✓ or ✗."""
    chosen = [int(i) for i in rows]
    if not chosen:
        return notice("No digits to show: the list of rows is empty.")
    one_of("row in this report", chosen, len(report.labels))
    columns = min(columns, len(chosen))
    lines = -(-len(chosen) // columns)
    picture, axes = page(max(columns * 1.22, 4.0), lines * 1.62 + 0.3, rows=lines, columns=columns, squeeze=False)
    for ax, i in zip(only(axes, len(chosen)), chosen, strict=True):
        answer, truth = int(report.predictions[i]), int(report.labels[i])
        mark, colour = RIGHT if answer == truth else WRONG
        draw_grey(ax, report.digits.images[i], white=255)
        title = f"{mark} {answer}  {percent(report.probabilities[i, answer])}"
        ax.set_title(title, color=colour, fontsize=10.5, pad=3, loc="center")
        ax.set_xlabel(f"row {i}" + (f", is {truth}" if answer != truth else ""), fontsize=9, color=INK, labelpad=2)
    picture.caption(f"✓ right, ✗ wrong; answer and its probability above. {GREY_LEVELS}")
    wrong = int((report.predictions[chosen] != report.labels[chosen]).sum())
    return picture.told(f"{len(chosen)} digits with the network's answers: {len(chosen) - wrong} right, {wrong} wrong.")


def mistakes(report: Report, count: int = 24) -> Picture:
    """`mistakes(report)`: the wrong answers the model was surest of; a perfect model gets a page that says so."""
    rows = report.mistakes["row"].to_numpy()[:count]
    if not len(rows):
        return notice(f"No mistakes: all {len(report.labels):,} digits of {report.digits.source} are read right.")
    return predictions(report, rows)


def one_prediction(digit: Digits, probabilities: np.ndarray) -> Picture:
    """`one_prediction(test[7], predict(model, test[7]))`: a digit and its ten probabilities."""
    if len(digit) != 1 or np.shape(probabilities) not in ((10,), (1, 10)):
        given, fix = f"{len(digit)} digits, probabilities {np.shape(probabilities)}", "take one: digits[7]"
        raise MnistvizError("this figure shows one digit and its ten probabilities", given=given, fix=fix)
    shares = np.asarray(probabilities, float).reshape(10)
    answer = int(shares.argmax())
    truth = None if digit.labels is None else int(digit.labels[0])
    mark, colour = ("", BLUE) if truth is None else RIGHT if truth == answer else WRONG
    picture, (left, right) = page(8.2, 3.3, columns=2, width_ratios=[1, 1.75])
    draw_grey(left, digit.images[0], "what goes in" + ("" if truth is None else f": {an(truth)}"), white=255)
    bars = right.barh(range(10), shares, color=[colour if d == answer else PALE for d in range(10)], height=0.72)
    right.bar_label(bars, [percent(share) for share in shares], padding=4, fontsize=9, color=INK)
    right.set(xlim=(0, 1.16), xticks=[0, 0.25, 0.5, 0.75, 1], yticks=range(10))
    right.set_title(f"what comes out: {mark} {answer}".replace("  ", " "))
    shares_on(right.xaxis)
    names_down(right)
    right.tick_params(axis="y", labelsize=11)
    picture.caption("28×28 grey levels, 0 black to 255 white; the ten probabilities sum to 100 %.")
    known = "" if truth is None else f" It is {an(truth)}."
    surest = f"the answer is {answer} with {percent(shares[answer])}"
    return picture.told(f"A handwritten digit and ten probability bars; {surest}.{known}")


def prediction_distribution(predictions: np.ndarray, expected: Digits) -> Picture:
    """`prediction_distribution(answers, train)`: how often each digit was answered, beside its training share."""
    answers = np.asarray(predictions)
    if answers.ndim != 1 or not len(answers) or not np.isin(answers, np.arange(10)).all():
        given, fix = f"{answers.dtype} of shape {answers.shape}", "predict(model, digits).argmax(1)"
        raise MnistvizError("these are not answers", given=given, allowed="whole numbers from 0 to 9", fix=fix)
    counts = np.bincount(answers, minlength=10)
    due = np.bincount(expected.known_labels().cpu().numpy(), minlength=10) / len(expected) * len(answers)
    highest = np.maximum(counts, due)
    picture, axes = page(8.6, 3.5)
    axes.bar(range(10), counts, color=BLUE, width=0.66, label="answers")
    for digit, count in enumerate(counts):
        place = (digit, highest[digit])
        axes.annotate(f"{count:,}", place, (0, 4), textcoords="offset points", ha="center", fontsize=9)
    tick = {"linestyle": "", "marker": "_", "markersize": 34, "markeredgewidth": 2.2, "color": ORANGE}
    axes.plot(range(10), due, label=f"expected from {expected.source}", **tick)
    axes.set(title=f"{len(answers):,} answers", xlabel="digit", xticks=range(10), ylim=(0, highest.max() * 1.16))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    farthest = int(np.abs(counts - due).argmax())
    difference = f"the largest difference is {counts[farthest] - due[farthest]:+.0f}, at digit {farthest}"
    return picture.told(f"Bars of how often each digit was answered, with a tick at the number expected; {difference}.")
