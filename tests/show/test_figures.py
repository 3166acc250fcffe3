"""What holds for every figure: fit to be seen, the same bytes each time, told in words, and refused with a way out."""

import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import assert_fit_to_be_seen, caption_of, content, refusals, words_of
from torch import nn
from zoo import Residual, record, seeded

import mnistviz as mv
from mnistviz import figures as fig
from mnistviz.learn.history import History
from mnistviz.look.trace import Trace
from mnistviz.show import picture as page
from mnistviz.show.picture import Picture
from mnistviz.show.scales import Scale

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # seaborn's to mend


def unlabelled(r: Any) -> mv.Digits:
    return mv.Digits(r.few.images, None, "Kaggle test.csv")


def blur() -> nn.Module:
    conv = nn.Conv2d(1, 2, 3)
    nn.init.constant_(conv.weight, 1 / 9)
    return conv


def changed(history: History) -> dict[str, History]:
    """The same training kept by its loss, and its first epoch without validation."""
    row = {key: value for key, value in history.rows[0].items() if not key.startswith("val")}
    by_loss = History(history.recipe.but(keep="loss"), history.rows, best_epoch=4, best_value=0.425)
    return {"by loss": by_loss, "unvalidated": History(history.recipe, [row], best_epoch=1)}


def fresh(make: Callable[[], nn.Module]) -> nn.Module:
    """With weights of its own dice."""
    with seeded():
        return make()


def convolutions() -> Trace:
    """Eight channels into four, in quarters: every sum is exact."""
    model = fresh(lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3)))
    with seeded(), torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape) / 4)
    return record(model, (torch.arange(64.0) % 5).reshape(1, 1, 8, 8) / 4)


def some_nan(r: Any) -> Trace:
    """One of four channels is no number, and so is every score."""
    conv = nn.Conv2d(1, 4, 3)
    with torch.no_grad():
        conv.bias[1] = torch.nan
    return record(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)), r.digit)


def batch(r: Any) -> Trace:
    return record(r.models["deep"], r.few[:2].pixels)


UNITS = [("conv1", 14, 14), ("conv2", 0, 0), ("conv5", 3, 3)]
STUDIED = pd.DataFrame(
    {"parameters": [8_000, 400_000], "mean": [0.994, 0.997], "sd": [0.0005, torch.nan], "runs": [5, 1]}, ["a", "b"]
)
DRAWN: dict[str, Callable[[Any], Picture]] = {  # each public figure, and what is laid out in another way
    "sample_grid": lambda r: fig.sample_grid(r.digits, each=4),
    "class_balance": lambda r: fig.class_balance({"train": r.few[:450], "validation": r.few[450:]}),
    "mean_and_spread": lambda r: fig.mean_and_spread(r.few),
    "ink_by_digit": lambda r: fig.ink_by_digit(r.few),
    "pixel_histogram": lambda r: fig.pixel_histogram(r.few),
    "image_rows": lambda r: fig.image_rows({"as it is": r.digit, "darker": r.few[:2].pixels / 2}, "Two."),
    "confusion": lambda r: fig.confusion(r.report),
    "predictions": lambda r: fig.predictions(r.report, range(5), columns=3),
    "mistakes": lambda r: fig.mistakes(r.report, count=4),
    "one_prediction": lambda r: fig.one_prediction(r.few[0], r.report.probabilities[0]),
    "prediction_distribution": lambda r: fig.prediction_distribution(r.report.predictions, r.few),
    "training_history": lambda r: fig.training_history(r.history),
    "per_digit": lambda r: fig.per_digit(r.report),
    "confusion_pairs": lambda r: fig.confusion_pairs(r.report),
    "reliability": lambda r: fig.reliability({"as trained": r.report, "perfect": r.perfect}),
    "coverage": lambda r: fig.coverage({"as trained": r.report, "perfect": r.perfect}),
    "network": lambda r: fig.network(r.trace),
    "network past its layers": lambda r: fig.network(record(fresh(Residual), r.digit)),
    "network of a sequence": lambda r: fig.network(record(fresh(lambda: nn.LSTM(4, 3)), torch.ones(5, 2, 4))),
    "networks": lambda r: fig.networks({"light, small": r.passes["light"], "deep": r.trace}),
    "filters": lambda r: fig.filters(r.trace, "conv1"),
    "filters of many channels": lambda r: fig.filters(r.trace, "conv2"),
    "feature_maps": lambda r: fig.feature_maps(r.trace, "conv3", "map"),
    "feature_maps, many": lambda r: fig.feature_maps(r.trace, "pool3"),
    "feature_maps of a flat layer": lambda r: fig.feature_maps(r.trace, "fc2"),
    "all_maps": lambda r: fig.all_maps(r.passes["compact"]),
    "map_rows": lambda r: fig.map_rows({"a seven": r.trace, "another": r.other}, "relu2"),
    "complete_prediction": lambda r: fig.complete_prediction(r.trace, label=7),
    "ledger": lambda r: fig.ledger(mv.ledger(convolutions(), "1", 2, 3, 3)),
    "ledger of one channel": lambda r: fig.ledger(mv.ledger(r.exact, "0", 3, 10, 11)),
    "ledger of a linear layer": lambda r: fig.ledger(mv.ledger(r.exact, "4", 7)),
    "receptive_fields": lambda r: fig.receptive_fields(r.trace, UNITS),
    "pool_winners": lambda r: fig.pool_winners(r.exact, "2", 3),
    "relu_gates": lambda r: fig.relu_gates(r.exact, "1", 3),
    "winning_paths": lambda r: fig.winning_paths(r.trace, [mv.winning_path(r.trace, rank=k) for k in range(2)]),
    "gradient_maps": lambda r: fig.gradient_maps(r.gone_back, "1", digit=2),
    "gradient_maps of a flat layer": lambda r: fig.gradient_maps(r.gone_back, "4"),
    "gradient_ledger": lambda r: fig.gradient_ledger(mv.backward_ledger(r.gone_back, "0", (1, 0, 1, 1)), digit=1),
    "gradient_ledger of a unit": lambda r: fig.gradient_ledger(mv.backward_ledger(r.gone_back, "3", unit=50)),
    "gradient_sizes": lambda r: fig.gradient_sizes({"these": r.gone_back, "others": [r.gone_back] * 2}),
    "activation_analysis": lambda r: fig.activation_analysis(r.activities),
    "histograms": lambda r: fig.histograms(r.diary.pages, ["0", "1", "4", "5"]),
    "top_examples": lambda r: fig.top_examples(r.examples, r.digits, [3, 0, 7]),
    "embedding": lambda r: fig.embedding(r.features[:60], r.few[:60], "tsne"),
    "attributions": lambda r: fig.attributions(r.digit, r.attributions),
    "sanity": lambda r: fig.sanity(r.digit, r.checks),
    "dreams": lambda r: fig.dreams(r.dreams, r.digit, "the score for 7"),
    "cause": lambda r: fig.cause(r.cause),
    "robustness": lambda r: fig.robustness({name: table[:30] for name, table in r.tables.items()}),  # five of them
    "attack_curves": lambda r: fig.attack_curves(r.curves),
    "adversarial_pairs": lambda r: fig.adversarial_pairs(*r.pairs),
    "decisions": lambda r: fig.decisions(*r.plane[:2], {"a": r.plane[2], "b": r.plane[2].T}),
    "frontier": lambda r: fig.frontier(STUDIED, pd.DataFrame({"parameters": [900, 30_000], "accuracy": [0.99, 0.995]})),
}
TOLD: dict[str, Callable[[Any], Picture]] = {  # what says something else in its words
    "sample_grid of one class": lambda r: fig.sample_grid(r.few[r.few.labels == 3]),
    "class_balance of one part": lambda r: fig.class_balance({"train": r.few}),
    "confusion without mistakes": lambda r: fig.confusion(r.perfect),
    "predictions of no rows": lambda r: fig.predictions(r.report, []),
    "mistakes of a perfect model": lambda r: fig.mistakes(r.perfect),
    "one_prediction of an unknown digit": lambda r: fig.one_prediction(unlabelled(r)[:1], r.report.probabilities[1]),
    "training_history of the loss": lambda r: fig.training_history(changed(r.history)["by loss"]),
    "training_history without validation": lambda r: fig.training_history(changed(r.history)["unvalidated"]),
    "per_digit with absent digits": lambda r: fig.per_digit(r.some_absent),
    "confusion_pairs of a perfect model": lambda r: fig.confusion_pairs(r.perfect),
    "filters that are all positive": lambda r: fig.filters(record(blur(), r.digit), ""),
    "filters without biases": lambda r: fig.filters(record(nn.Conv2d(1, 2, 3, bias=False), r.digit), ""),
    "feature_maps of some NaN": lambda r: fig.feature_maps(some_nan(r), "1"),
    "feature_maps of nothing but NaN": lambda r: fig.feature_maps(some_nan(r), "3"),
    "feature_maps past its layers": lambda r: fig.feature_maps(record(Residual(), r.digit), "conv2"),
    "all_maps with scales of their own": lambda r: fig.all_maps(r.passes["light"], "map", each=3),
    "all_maps on one scale": lambda r: fig.all_maps(r.passes["light"], "network", each=3),
    "complete_prediction of NaN": lambda r: fig.complete_prediction(some_nan(r)),
    "receptive_fields inside": lambda r: fig.receptive_fields(r.trace, UNITS[:1]),
    "activation_analysis of one": lambda r: fig.activation_analysis(r.activity),
    "embedding by PCA": lambda r: fig.embedding(r.features, r.few[:150]),
    "frontier of our own": lambda r: fig.frontier(STUDIED),
    "embedding of equal rows": lambda r: fig.embedding(torch.ones(30, 5), r.few[:30]),
}

BAD: dict[str, tuple[Any, ...]] = {
    "no parts": (lambda r: fig.class_balance({}), "no digits to count", "no parts"),
    "an empty part": (lambda r: fig.class_balance({"train": r.few, "rest": r.few[:0]}), "no digits", "rest"),
    "digits missing": (lambda r: fig.mean_and_spread(r.few[r.few.labels < 8]), "never occur", "[8, 9]"),
    "a grid without labels": (lambda r: fig.sample_grid(unlabelled(r)), "no labels"),
    "a row before the first": (lambda r: fig.predictions(r.report, [0, -1]), "no such row", "-1", "0 to 599"),
    "a row after the last": (lambda r: fig.predictions(r.report, [0, 600]), "no such row", "600", "0 to 599"),
    "two digits": (lambda r: fig.one_prediction(r.few[:2], np.zeros(10)), "one digit", "2 digits", "digits[7]"),
    "shares, not answers": (lambda r: fig.prediction_distribution(np.zeros((3, 10)), r.few), "not answers", "argmax"),
    "an answer of ten": (lambda r: fig.prediction_distribution(np.array([3, 10]), r.few), "from 0 to 9"),
    "no epochs": (lambda r: fig.training_history(History(r.history.recipe)), "no epochs"),
    "reliability of nothing": (lambda r: fig.reliability({}), "no reports to draw"),
    "filters of a ReLU": (lambda r: fig.filters(r.trace, "relu1"), "'relu1' is a ReLU", "conv1, conv2, conv3, conv4"),
    "filters of no network": (lambda r: fig.filters(r.exact, "4"), "is a Linear and has no filters", "allowed: 0"),
    "filter 32": (lambda r: fig.filters(r.trace, "conv1", [3, 32]), "channel in 'conv1'", "32", "0 to 31"),
    "no filters": (lambda r: fig.filters(r.trace, "conv1", []), "no channels of 'conv1'"),
    "an unknown layer": (lambda r: fig.feature_maps(r.trace, "relu9"), "did you mean 'relu"),
    "an unknown scope": (lambda r: fig.feature_maps(r.trace, "relu1", "layers"), "map, layer, network, across inputs"),
    "maps of a batch": (lambda r: fig.feature_maps(batch(r), "relu1"), "one digit"),
    "the answer to a batch": (lambda r: fig.complete_prediction(batch(r)), "one digit"),
    "channel -1": (lambda r: fig.feature_maps(r.trace, "relu1", channels=[-1]), "channel in 'relu1'", "0 to 31"),
    "channel 32": (lambda r: fig.map_rows({"a": r.trace}, "relu1", [3, 32]), "channel in 'relu1'", "32", "0 to 31"),
    "no channels": (lambda r: fig.feature_maps(r.trace, "relu1", channels=[]), "no channels of 'relu1'"),
    "rows of nothing": (lambda r: fig.map_rows({}, "relu1"), "no traces"),
    "a network without maps": (lambda r: fig.all_maps(record(nn.Linear(4, 2), torch.ones(1, 4))), "has maps"),
    "no scores": (lambda r: fig.complete_prediction(record(nn.Conv2d(1, 2, 3), r.digit)), "row of scores"),
    "no units": (lambda r: fig.receptive_fields(r.trace, []), "no units", "layer, y, x"),
    "winners of channel 32": (lambda r: fig.pool_winners(r.trace, "pool1", 32), "no such channel", "0 to 31"),
    "flat gates": (lambda r: fig.relu_gates(r.trace, "relu6", 0), "'relu6' has no maps", "a layer with maps"),
    "no paths": (lambda r: fig.winning_paths(r.trace, []), "no paths", "winning_path(trace)"),
    "δ of no layer": (lambda r: fig.gradient_maps(r.gone_back, "6"), "unknown layer", "0, 1, 2, 3, 4, 5"),
    "δ of digit 3": (lambda r: fig.gradient_maps(r.gone_back, "0", digit=3), "no such digit", "3", "0 to 2"),
    "δ of channel 4": (lambda r: fig.gradient_maps(r.gone_back, "0", [4]), "no such channel in '0'", "0 to 3"),
    "sizes of nothing": (lambda r: fig.gradient_sizes({}), "no traces to compare", 'gradient_sizes({"deep": trace})'),
    "sizes of no traces": (lambda r: fig.gradient_sizes({"a": []}), "no gradients in 'a'", "layers with weights"),
    "sizes of a pass": (lambda r: fig.gradient_sizes({"a": [r.exact]}), "nobody has gone back", "backward(trace"),
    "sizes of biases": (lambda r: fig.gradient_sizes({"a": r.gone_back}, "biases"), "'biases'", "outputs, weights"),
    "nothing watched": (lambda r: fig.activation_analysis({}), "nothing was watched", "predict(model, digits)"),
    "one watched nothing": (lambda r: fig.activation_analysis({"a": mv.activity.Activity()}), "nothing was watched"),
    "a layer not watched": (lambda r: fig.activation_analysis(r.activity, ["relu8"]), "unknown layer", "0, 1, 2"),
    "statistics of no layers": (lambda r: fig.activation_analysis(r.activity, []), "no layers to show"),
    "no pages": (lambda r: fig.histograms([], ["conv1"]), "no pages", "callbacks"),
    "histograms of no layers": (lambda r: fig.histograms(r.diary.pages, []), "no layers to show"),
    "examples of channel 32": (lambda r: fig.top_examples(r.examples, r.digits, [0, 32]), "in 'relu2'", "0 to 31"),
    "examples of no channel": (lambda r: fig.top_examples(r.examples, r.digits, []), "no channels to show"),
    "other digits": (lambda r: fig.top_examples(r.examples, r.digits[:10], [0]), "other digits", "10 digits"),
    "rows without digits": (lambda r: fig.embedding(r.features, r.few[:149]), "one row", "150 rows, 149 digits"),
    "points without labels": (lambda r: fig.embedding(r.features[:20], unlabelled(r)[:20]), "no labels"),
    "no attributions": (lambda r: fig.attributions(r.digit, []), "no attributions to draw"),
    "no checks": (lambda r: fig.sanity(r.digit, []), "no checks to draw"),
    "no dreams": (lambda r: fig.dreams({}, r.digit, "a score"), "no dreams to draw"),
    "no tables": (lambda r: fig.robustness({}), "no tables to draw"),
    "no corruptions": (lambda r: fig.robustness({"deep": r.table(0, [])}), "no corruptions"),
    "no curves": (lambda r: fig.attack_curves({}), "no curves to draw"),
    "a curve of nothing": (lambda r: fig.attack_curves({"PGD": {}}), "no points in the curve 'PGD'"),
    "no pairs": (lambda r: fig.adversarial_pairs(r.few[:0], r.digit[:0], [], []), "one changed picture", "0 digits"),
    "an answer missing": (lambda r: fig.adversarial_pairs(*r.pairs[:3], [1]), "per digit", "5 and 1 answers"),
    "points on a line": (lambda r: fig.decisions(r.plane[0][:, :1], r.plane[1], {"a": r.plane[2]}), "(N, 2)"),
    "no grids": (lambda r: fig.decisions(*r.plane[:2], {}), "at least one grid"),
    "no rows": (lambda r: fig.image_rows({}), "no pictures"),
    "a scope of one's own": (lambda r: Scale(0, 1, "mine"), "colour scope", "map, layer, network"),
    "no networks": (lambda r: fig.networks({}), "no networks"),
    "no runs": (lambda r: fig.frontier(STUDIED[:0]), "no networks", "has a run"),
    "a row for a grid": (lambda r: fig.decisions(*r.plane[:2], {"a": r.plane[2][0]}), "grids [(5,)]"),
}


def test_every_public_figure_is_drawn_here():
    assert DRAWN.keys() >= set(fig.__all__)


@pytest.fixture(scope="module")
def kept(records) -> dict[str, object]:
    """Every number of every record, before anything is drawn."""
    for name in dir(records):
        getattr(records, name)
    return {name: content(value) for name, value in vars(records).items() if name not in ("models", "test")}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_fit_to_be_seen_told_in_words_and_changes_nothing(name, records, kept, golden):
    picture = assert_fit_to_be_seen(lambda: DRAWN[name](records), again=name in fig.__all__[::4])
    golden(name, f"{picture.alt}\n{caption_of(picture)}")
    assert "nan" not in words_of(picture) + picture.alt
    assert not [key for key, numbers in kept.items() if content(getattr(records, key)) != numbers]


@pytest.mark.parametrize("name", TOLD)
def test_words_fit_what_is_drawn(name, records, golden, monkeypatch):
    monkeypatch.setattr(page, "_settled", lambda picture: picture)  # words do not depend on their places
    with warnings.catch_warnings(), seeded():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=mpl.MatplotlibDeprecationWarning)  # seaborn's to mend
        picture = TOLD[name](records)
    golden(name, f"{picture.alt}\n{caption_of(picture)}".strip())
    assert "nan" not in words_of(picture) + picture.alt


test_what_cannot_be_drawn_is_refused = refusals(BAD, "records")


def test_the_frontier_stands_where_its_numbers_are_and_no_name_covers_a_point():
    crowd = pd.DataFrame({"parameters": [6_000, 11_000], "accuracy": [0.994, 0.994]})  # to the left and right of a
    (ax,) = fig.frontier(STUDIED, crowd).axes
    others = ax.transData.transform(ax.collections[-1].get_offsets())
    assert not any(text.get_window_extent().count_contains(others) for text in ax.texts if text.get_visible())
    drawn = {line.get_xydata()[0].tolist()[0]: line.get_xydata()[0][1] for line in ax.lines if line.get_marker() == "o"}
    assert drawn == pytest.approx({8_000: 0.6, 400_000: 0.3})
    bars = [segment[:, 1] for bar in ax.containers for lines in bar.lines[2] for segment in lines.get_segments()]
    assert np.ptp(np.concatenate(bars)) == pytest.approx(2 * 0.05)  # one run has no bar
