"""Every static figure: a record comes in, a `Picture` with alt text comes out."""

from mnistviz.show.figures.activity import activation_analysis, histograms, silent_units, weight_ratios
from mnistviz.show.figures.digits import (
    class_balance,
    image_rows,
    ink_by_digit,
    mean_and_spread,
    pixel_histogram,
    sample_grid,
)
from mnistviz.show.figures.embedding import embedding
from mnistviz.show.figures.judgement import (
    confusion,
    mistakes,
    one_prediction,
    prediction_distribution,
    predictions,
    training_history,
)
from mnistviz.show.figures.maps import all_maps, complete_prediction, feature_maps, filters, map_rows
from mnistviz.show.figures.network import network
from mnistviz.show.figures.numbers import gates, ledger, receptive_fields, winners, winning_paths
from mnistviz.show.figures.pixels import attributions, cause, dreams, sanity
from mnistviz.show.figures.plane import decisions
from mnistviz.show.figures.robustness import adversarial_pairs, attack_curves, robustness
from mnistviz.show.figures.strongest import top_examples
from mnistviz.show.figures.trust import confusion_pairs, coverage, per_digit, reliability

__all__ = [
    # the digits
    "sample_grid", "class_balance", "mean_and_spread", "ink_by_digit", "pixel_histogram", "image_rows",
    # the judgement
    "training_history", "confusion", "predictions", "mistakes", "one_prediction", "prediction_distribution",
    "per_digit", "confusion_pairs", "reliability", "coverage",
    # one forward pass
    "network", "filters", "feature_maps", "all_maps", "map_rows", "complete_prediction",
    # one number
    "ledger", "receptive_fields", "winners", "gates", "winning_paths",
    # many passes
    "activation_analysis", "histograms", "weight_ratios", "silent_units", "top_examples", "embedding",
    # which pixels mattered, and what pleases
    "attributions", "sanity", "dreams", "cause",
    # what breaks a network
    "robustness", "attack_curves", "adversarial_pairs",
    # a network of two inputs
    "decisions",
]  # fmt: skip
