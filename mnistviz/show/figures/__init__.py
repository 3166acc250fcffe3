"""Every static figure: a record comes in, a `Picture` with alt text comes out."""

from mnistviz.show.figures.digits import (
    class_balance,
    image_rows,
    ink_by_digit,
    mean_and_spread,
    pixel_histogram,
    sample_grid,
)
from mnistviz.show.figures.judgement import (
    confusion,
    mistakes,
    one_prediction,
    prediction_distribution,
    predictions,
    training_history,
)

__all__ = [
    # the digits
    "sample_grid", "class_balance", "mean_and_spread", "ink_by_digit", "pixel_histogram", "image_rows",
    # the judgement
    "training_history", "confusion", "predictions", "mistakes", "one_prediction", "prediction_distribution",
]  # fmt: skip
