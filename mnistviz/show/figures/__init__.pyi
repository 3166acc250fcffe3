"""Every static figure, in reading order; each file bears the name of the record it draws."""

from .activity import activation_analysis, histograms
from .answers import confusion, mistakes, one_prediction, prediction_distribution, predictions
from .arithmetic import ledger
from .attribution import attributions, dreams, sanity
from .causes import cause
from .digits import class_balance, image_rows, ink_by_digit, mean_and_spread, pixel_histogram, sample_grid
from .embedding import embedding
from .evaluation import confusion_pairs, coverage, per_digit, reliability
from .examples import top_examples
from .gradients import gradient_ledger, gradient_maps, gradient_sizes
from .maps import all_maps, complete_prediction, feature_maps, filters, map_rows
from .network import decisions, network, networks
from .paths import pool_winners, receptive_fields, relu_gates, winning_paths
from .robustness import adversarial_pairs, attack_curves, robustness
from .study import frontier
from .training import training_history

__all__ = [
    "sample_grid", "class_balance", "mean_and_spread", "ink_by_digit", "pixel_histogram", "image_rows",
    "training_history", "confusion", "predictions", "mistakes", "one_prediction", "prediction_distribution",
    "per_digit", "confusion_pairs", "reliability", "coverage",
    "network", "networks", "filters", "feature_maps", "all_maps", "map_rows", "complete_prediction",
    "ledger", "receptive_fields", "pool_winners", "relu_gates", "winning_paths",
    "gradient_maps", "gradient_ledger", "gradient_sizes",
    "activation_analysis", "histograms", "top_examples", "embedding",
    "attributions", "sanity", "dreams", "cause",
    "robustness", "attack_curves", "adversarial_pairs",
    "decisions", "frontier",
]  # fmt: skip
