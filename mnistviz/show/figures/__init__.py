"""Every static figure: a record comes in, a `Picture` with alt text comes out."""

from mnistviz.show.figures.activity import activation_analysis, histograms
from mnistviz.show.figures.answers import confusion, mistakes, one_prediction, prediction_distribution, predictions
from mnistviz.show.figures.arithmetic import ledger
from mnistviz.show.figures.attribution import attributions, dreams, sanity
from mnistviz.show.figures.causes import cause
from mnistviz.show.figures.digits import (
    class_balance,
    image_rows,
    ink_by_digit,
    mean_and_spread,
    pixel_histogram,
    sample_grid,
)
from mnistviz.show.figures.embedding import embedding
from mnistviz.show.figures.evaluation import confusion_pairs, coverage, per_digit, reliability
from mnistviz.show.figures.examples import top_examples
from mnistviz.show.figures.maps import all_maps, complete_prediction, feature_maps, filters, map_rows
from mnistviz.show.figures.network import decisions, network
from mnistviz.show.figures.paths import pool_winners, receptive_fields, relu_gates, winning_paths
from mnistviz.show.figures.robustness import adversarial_pairs, attack_curves, robustness
from mnistviz.show.figures.training import training_history, weight_ratios

__all__ = [
    "sample_grid", "class_balance", "mean_and_spread", "ink_by_digit", "pixel_histogram", "image_rows",
    "training_history", "confusion", "predictions", "mistakes", "one_prediction", "prediction_distribution",
    "per_digit", "confusion_pairs", "reliability", "coverage",
    "network", "filters", "feature_maps", "all_maps", "map_rows", "complete_prediction",
    "ledger", "receptive_fields", "pool_winners", "relu_gates", "winning_paths",
    "activation_analysis", "histograms", "weight_ratios", "top_examples", "embedding",
    "attributions", "sanity", "dreams", "cause",
    "robustness", "attack_curves", "adversarial_pairs",
    "decisions",
]  # fmt: skip
