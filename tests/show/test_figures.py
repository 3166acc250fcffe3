"""What holds for every figure: fit to be seen, the same bytes each time, told in words, and refused with a way out."""

import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers import assert_fit_to_be_seen, caption_of, content, refused, words_of
from torch import Tensor, nn
from zoo import Residual, record, seeded

import mnistviz as mv
from mnistviz import figures
from mnistviz.learn.history import History
from mnistviz.look.activity import Activity
from mnistviz.look.trace import Trace
from mnistviz.show import picture as page
from mnistviz.show.picture import Picture

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # seaborn's to mend


def unlabelled(r: Any) -> mv.Digits:
    return mv.Digits(r.few.images, None, "Kaggle test.csv")


def by_loss(history: History) -> History:
    return History(history.recipe.but(keep="loss"), history.rows, best_epoch=4, best_value=0.425)


def unvalidated(history: History) -> History:
    rows = [{k: v for k, v in row.items() if not k.startswith("val")} for row in history.rows[:1]]
    return History(history.recipe, rows, best_epoch=1)


def exact_convolutions() -> Trace:
    """Eight channels into four, in quarters: every sum is exact."""
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3))
    with seeded(), torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape) / 4)
    return record(model, (torch.arange(64.0) % 5).reshape(1, 1, 8, 8) / 4)


def idle(r: Any) -> Activity:
    with mv.watch(r.models["light"]) as activity:
        return activity


def batch(r: Any) -> Trace:
    return record(r.models["deep"], r.few[:2].pixels)


def some_nan(r: Any) -> Trace:
    """One of four channels is no number, and so is every score."""
    conv = nn.Conv2d(1, 4, 3)
    with torch.no_grad():
        conv.bias[1] = torch.nan
    return record(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)), r.digit)


def spoilt(features: Tensor, value: float) -> Tensor:
    features = features.clone()
    features[3, 7] = value
    return features


UNITS = [("conv1", 14, 14), ("conv2", 0, 0), ("conv5", 3, 3)]
DRAWN: dict[str, Callable[[Any], Picture]] = {  # each public figure, and what is laid out in another way
    "sample_grid": lambda r: figures.sample_grid(r.digits, each=4),
    "class_balance": lambda r: figures.class_balance({"train": r.few[:450], "validation": r.few[450:]}),
    "mean_and_spread": lambda r: figures.mean_and_spread(r.few),
    "ink_by_digit": lambda r: figures.ink_by_digit(r.few),
    "pixel_histogram": lambda r: figures.pixel_histogram(r.few),
    "image_rows": lambda r: figures.image_rows(
        {"as it is": r.digits[:3].pixels, "again": r.digits[3:5].pixels}, "Two."
    ),
    "confusion": lambda r: figures.confusion(r.report),
    "predictions": lambda r: figures.predictions(r.report, range(5), columns=3),
    "mistakes": lambda r: figures.mistakes(r.report, count=4),
    "one_prediction": lambda r: figures.one_prediction(r.few[0], r.report.probabilities[0]),
    "prediction_distribution": lambda r: figures.prediction_distribution(r.report.predictions, r.few),
    "training_history": lambda r: figures.training_history(r.history),
    "weight_ratios": lambda r: figures.weight_ratios(r.diary),
    "per_digit": lambda r: figures.per_digit(r.report),
    "confusion_pairs": lambda r: figures.confusion_pairs(r.report),
    "reliability": lambda r: figures.reliability({"as trained": r.report, "perfect": r.perfect}),
    "coverage": lambda r: figures.coverage({"as trained": r.report, "perfect": r.perfect}),
    "network": lambda r: figures.network(r.trace),
    "network past its layers": lambda r: figures.network(record(Residual(), r.digit)),
    "network of a sequence": lambda r: figures.network(record(nn.LSTM(4, 3), torch.ones(5, 2, 4))),
    "filters": lambda r: figures.filters(r.trace, "conv1"),
    "filters of many channels": lambda r: figures.filters(r.trace, "conv2"),
    "feature_maps": lambda r: figures.feature_maps(r.trace, "conv3", "map"),
    "feature_maps, many": lambda r: figures.feature_maps(r.trace, "pool3"),
    "feature_maps, two": lambda r: figures.feature_maps(r.trace, "relu4", "network", [5, 2]),
    "feature_maps of a flat layer": lambda r: figures.feature_maps(r.trace, "fc2"),
    "all_maps": lambda r: figures.all_maps(r.passes["compact"]),
    "map_rows": lambda r: figures.map_rows({"a seven": r.trace, "another": r.other}, "relu2"),
    "complete_prediction": lambda r: figures.complete_prediction(r.trace, label=7),
    "ledger": lambda r: figures.ledger(mv.ledger(exact_convolutions(), "1", 2, 3, 3)),
    "ledger of one channel": lambda r: figures.ledger(mv.ledger(r.exact, "0", 3, 10, 11)),
    "ledger of a linear layer": lambda r: figures.ledger(mv.ledger(r.exact, "4", 7)),
    "receptive_fields": lambda r: figures.receptive_fields(r.trace, UNITS),
    "pool_winners": lambda r: figures.pool_winners(r.exact, "2", 3),
    "relu_gates": lambda r: figures.relu_gates(r.exact, "1", 3),
    "winning_paths": lambda r: figures.winning_paths(r.trace, [mv.winning_path(r.trace, rank=k) for k in range(2)]),
    "activation_analysis": lambda r: figures.activation_analysis(r.activities),
    "histograms": lambda r: figures.histograms(r.diary.pages, ["0", "1", "4", "5"]),
    "top_examples": lambda r: figures.top_examples(r.examples, r.digits, [3, 0, 7]),
    "embedding": lambda r: figures.embedding(r.features[:60], r.few[:60], "tsne"),
    "attributions": lambda r: figures.attributions(r.digit, r.attributions),
    "sanity": lambda r: figures.sanity(r.digit, r.checks),
    "dreams": lambda r: figures.dreams(r.dreams, r.digit, "the score for 7"),
    "cause": lambda r: figures.cause(r.cause),
    "robustness": lambda r: figures.robustness({name: table[:30] for name, table in r.tables.items()}),  # five of them
    "attack_curves": lambda r: figures.attack_curves(r.curves),
    "adversarial_pairs": lambda r: figures.adversarial_pairs(*r.pairs),
    "decisions": lambda r: figures.decisions(*r.plane[:2], {"a": r.plane[2], "b": r.plane[2].T}),
}
TOLD: dict[str, Callable[[Any], Picture]] = {  # what says something else in its words
    "class_balance of one part": lambda r: figures.class_balance({"train": r.few}),
    "confusion without mistakes": lambda r: figures.confusion(r.perfect),
    "predictions of no rows": lambda r: figures.predictions(r.report, []),
    "mistakes of a perfect model": lambda r: figures.mistakes(r.perfect),
    "one_prediction of an unknown digit": lambda r: figures.one_prediction(
        unlabelled(r)[:1], r.report.probabilities[1]
    ),
    "training_history of the loss": lambda r: figures.training_history(by_loss(r.history)),
    "training_history without validation": lambda r: figures.training_history(unvalidated(r.history)),
    "per_digit with absent digits": lambda r: figures.per_digit(r.some_absent),
    "confusion_pairs of one mistake": lambda r: figures.confusion_pairs(r.some_absent),
    "confusion_pairs of a perfect model": lambda r: figures.confusion_pairs(r.perfect),
    "coverage of a perfect model": lambda r: figures.coverage({"perfect": r.perfect}),
    "filters without biases": lambda r: figures.filters(record(nn.Conv2d(1, 2, 3, bias=False), r.digit), ""),
    "feature_maps of some NaN": lambda r: figures.feature_maps(some_nan(r), "1"),
    "feature_maps of nothing but NaN": lambda r: figures.feature_maps(some_nan(r), "3"),
    "feature_maps past its layers": lambda r: figures.feature_maps(record(Residual(), r.digit), "conv2"),
    "all_maps with scales of their own": lambda r: figures.all_maps(r.passes["light"], "map", each=3),
    "all_maps on one scale": lambda r: figures.all_maps(r.passes["light"], "network", each=3),
    "complete_prediction of NaN": lambda r: figures.complete_prediction(some_nan(r)),
    "receptive_fields inside": lambda r: figures.receptive_fields(r.trace, UNITS[:1]),
    "activation_analysis of one": lambda r: figures.activation_analysis(r.activity),
    "embedding by PCA": lambda r: figures.embedding(r.features, r.few[:150]),
    "embedding of equal rows": lambda r: figures.embedding(torch.ones(30, 5), r.few[:30]),
    "robustness to twelve": lambda r: figures.robustness(r.tables),
}

BAD: dict[str, tuple[Any, ...]] = {
    "no parts": (lambda r: figures.class_balance({}), "no digits to count", "no parts"),
    "an empty part": (lambda r: figures.class_balance({"train": r.few, "rest": r.few[:0]}), "no digits", "rest"),
    "digits missing": (lambda r: figures.mean_and_spread(r.few[r.few.labels < 8]), "never occur", "[8, 9]"),
    "a grid without labels": (lambda r: figures.sample_grid(unlabelled(r)), "no labels"),
    "means without labels": (lambda r: figures.mean_and_spread(unlabelled(r)), "no labels"),
    "ink without labels": (lambda r: figures.ink_by_digit(unlabelled(r)), "no labels"),
    "a row before the first": (lambda r: figures.predictions(r.report, [0, -1]), "no such row", "-1", "0 to 599"),
    "a row after the last": (lambda r: figures.predictions(r.report, [0, 600]), "no such row", "600", "0 to 599"),
    "two digits": (lambda r: figures.one_prediction(r.few[:2], np.zeros(10)), "one digit", "2 digits", "digits[7]"),
    "nine shares": (lambda r: figures.one_prediction(r.few[:1], np.zeros(9)), "one digit", "(9,)"),
    "shares, not answers": (
        lambda r: figures.prediction_distribution(np.zeros((3, 10)), r.few),
        "not answers",
        "argmax",
    ),
    "no answers": (lambda r: figures.prediction_distribution(np.array([]), r.few), "not answers"),
    "an answer of ten": (lambda r: figures.prediction_distribution(np.array([3, 10]), r.few), "from 0 to 9"),
    "no epochs": (lambda r: figures.training_history(History(r.history.recipe)), "no epochs"),
    "an empty diary": (lambda r: figures.weight_ratios(mv.Diary(r.digit)), "no ratios", "callbacks"),
    "reliability of nothing": (lambda r: figures.reliability({}), "no reports to draw"),
    "coverage of nothing": (lambda r: figures.coverage({}), "no reports to draw"),
    "filters of a ReLU": (
        lambda r: figures.filters(r.trace, "relu1"),
        "'relu1' is a ReLU",
        "conv1, conv2, conv3, conv4",
    ),
    "filters of no network": (lambda r: figures.filters(r.exact, "4"), "is a Linear and has no filters", "allowed: 0"),
    "an unknown layer": (lambda r: figures.feature_maps(r.trace, "relu9"), "did you mean 'relu"),
    "an unknown scope": (
        lambda r: figures.feature_maps(r.trace, "relu1", "layers"),
        "map, layer, network, across inputs",
    ),
    "an unknown scope of all": (lambda r: figures.all_maps(r.trace, "each"), "map, layer, network, across inputs"),
    "maps of a batch": (lambda r: figures.feature_maps(batch(r), "relu1"), "one digit"),
    "all maps of a batch": (lambda r: figures.all_maps(batch(r)), "one digit"),
    "rows of a batch": (lambda r: figures.map_rows({"a": batch(r)}, "relu1"), "one digit"),
    "the answer to a batch": (lambda r: figures.complete_prediction(batch(r)), "one digit"),
    "winners of a batch": (lambda r: figures.pool_winners(batch(r), "pool1", 0), "one digit"),
    "gates of a batch": (lambda r: figures.relu_gates(batch(r), "relu1", 0), "one digit"),
    "channel -1": (lambda r: figures.feature_maps(r.trace, "relu1", channels=[-1]), "channel in 'relu1'", "0 to 31"),
    "channel 32": (lambda r: figures.map_rows({"a": r.trace}, "relu1", [3, 32]), "channel in 'relu1'", "32", "0 to 31"),
    "no channels": (lambda r: figures.feature_maps(r.trace, "relu1", channels=[]), "no channels of 'relu1'"),
    "rows of no channels": (lambda r: figures.map_rows({"a": r.trace}, "relu1", []), "no channels of 'relu1'"),
    "rows of nothing": (lambda r: figures.map_rows({}, "relu1"), "no traces"),
    "a network without maps": (lambda r: figures.all_maps(record(nn.Linear(4, 2), torch.ones(1, 4))), "has maps"),
    "no scores": (lambda r: figures.complete_prediction(record(nn.Conv2d(1, 2, 3), r.digit)), "row of scores"),
    "no units": (lambda r: figures.receptive_fields(r.trace, []), "no units", "layer, y, x"),
    "no such unit": (lambda r: figures.receptive_fields(r.trace, [("pool3", 3, 0)]), "no such unit in 'pool3'"),
    "winners of a layer": (lambda r: figures.pool_winners(r.trace, "conv1", 0), "is a Conv2d", "pool1, pool2, pool3"),
    "gates of a layer": (
        lambda r: figures.relu_gates(r.trace, "conv1", 0),
        "is a Conv2d",
        "relu1, relu2, relu3, relu4",
    ),
    "winners of channel 32": (lambda r: figures.pool_winners(r.trace, "pool1", 32), "no such channel", "0 to 31"),
    "gates of channel -1": (lambda r: figures.relu_gates(r.trace, "relu1", -1), "no such channel", "0 to 31"),
    "flat gates": (lambda r: figures.relu_gates(r.trace, "relu6", 0), "'relu6' has no maps", "a layer with maps"),
    "no paths": (lambda r: figures.winning_paths(r.trace, []), "no paths", "winning_path(trace)"),
    "nothing watched": (lambda r: figures.activation_analysis({}), "nothing was watched", "predict(model, digits)"),
    "one watched nothing": (
        lambda r: figures.activation_analysis({"a": r.activity, "b": idle(r)}),
        "nothing was watched",
    ),
    "a layer not watched": (lambda r: figures.activation_analysis(r.activity, ["relu8"]), "unknown layer", "0, 1, 2"),
    "statistics of no layers": (lambda r: figures.activation_analysis(r.activity, []), "no layers to show"),
    "no pages": (lambda r: figures.histograms([], ["conv1"]), "no pages", "callbacks"),
    "histograms of no layers": (lambda r: figures.histograms(r.diary.pages, []), "no layers to show"),
    "histograms of an unknown layer": (lambda r: figures.histograms([r.activity], ["9"]), "unknown layer", "0, 1, 2"),
    "pages without bins": (
        lambda r: figures.histograms([r.activities["others"]], ["0"]),
        "no histogram was kept",
        "bins=",
    ),
    "examples of channel 32": (lambda r: figures.top_examples(r.examples, r.digits, [0, 32]), "in 'relu2'", "0 to 31"),
    "examples of no channel": (lambda r: figures.top_examples(r.examples, r.digits, []), "no channels to show"),
    "other digits": (lambda r: figures.top_examples(r.examples, r.digits[:10], [0]), "other digits", "10 digits"),
    "examples without labels": (lambda r: figures.top_examples(r.examples, unlabelled(r), [0]), "no labels"),
    "rows without digits": (lambda r: figures.embedding(r.features, r.few[:149]), "one row", "150 rows, 149 digits"),
    "features that are NaN": (lambda r: figures.embedding(spoilt(r.features, torch.nan), r.few[:150]), "finite: False"),
    "endless features": (
        lambda r: figures.embedding(spoilt(r.features, torch.inf), r.few[:150], "tsne"),
        "finite: False",
    ),
    "two rows": (lambda r: figures.embedding(r.features[:2], r.few[:2]), "cannot be projected", "3 or more rows"),
    "one column": (lambda r: figures.embedding(r.features[:, :1], r.few[:150]), "cannot be projected"),
    "an unknown projection": (lambda r: figures.embedding(r.features, r.few[:150], "umap"), "'umap'", "pca, tsne"),
    "points without labels": (lambda r: figures.embedding(r.features[:20], unlabelled(r)[:20]), "no labels"),
    "no attributions": (lambda r: figures.attributions(r.digit, []), "no attributions to draw"),
    "no checks": (lambda r: figures.sanity(r.digit, []), "no checks to draw"),
    "no dreams": (lambda r: figures.dreams({}, r.digit, "a score"), "no dreams to draw"),
    "no tables": (lambda r: figures.robustness({}), "no tables to draw"),
    "no corruptions": (lambda r: figures.robustness({"deep": r.table(0, [])}), "no corruptions"),
    "no curves": (lambda r: figures.attack_curves({}), "no curves to draw"),
    "a curve of nothing": (lambda r: figures.attack_curves({"PGD": {}}), "no points in the curve 'PGD'"),
    "no pairs": (
        lambda r: figures.adversarial_pairs(r.few[:0], r.digit[:0], [], []),
        "one changed picture",
        "0 digits",
    ),
    "an answer missing": (lambda r: figures.adversarial_pairs(*r.pairs[:3], [1]), "per digit", "5 and 1 answers"),
    "points on a line": (lambda r: figures.decisions(r.plane[0][:, :1], r.plane[1], {"a": r.plane[2]}), "(N, 2)"),
    "a point without label": (
        lambda r: figures.decisions(r.plane[0], r.plane[1][:2], {"a": r.plane[2]}),
        "labels (2,)",
    ),
    "no grids": (lambda r: figures.decisions(*r.plane[:2], {}), "at least one grid"),
    "a row for a grid": (lambda r: figures.decisions(*r.plane[:2], {"a": r.plane[2][0]}), "grids [(5,)]"),
}


def test_every_public_figure_is_drawn_here() -> None:
    assert DRAWN.keys() >= set(figures.__all__)


@pytest.fixture(scope="module")
def kept(records: Any) -> dict[str, object]:
    """Every number of every record, before anything is drawn."""
    for name in dir(records):
        getattr(records, name)
    return {name: content(value) for name, value in vars(records).items() if name not in ("models", "test")}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_fit_to_be_seen_told_in_words_and_changes_nothing(
    name: str, records: Any, kept: dict[str, object], golden: Callable[..., None]
) -> None:
    with seeded():
        picture = assert_fit_to_be_seen(lambda: DRAWN[name](records))
    if name in figures.__all__:
        assert DRAWN[name](records)._png() == picture._png()
    golden(name, f"{picture.alt}\n{caption_of(picture)}")
    assert "nan" not in words_of(picture) + picture.alt
    assert not [key for key, numbers in kept.items() if content(getattr(records, key)) != numbers]


@pytest.mark.parametrize("name", TOLD)
def test_words_fit_what_is_drawn(
    name: str, records: Any, golden: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_settled", lambda picture: picture)  # words do not depend on their places
    with warnings.catch_warnings(), seeded():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=mpl.MatplotlibDeprecationWarning)  # seaborn's to mend
        picture = TOLD[name](records)
    golden(name, f"{picture.alt}\n{caption_of(picture)}".strip())
    assert "nan" not in words_of(picture) + picture.alt


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_is_refused(name: str, records: Any) -> None:
    call, *words = BAD[name]
    refused(lambda: call(records), *words)
