"""Train a small CNN on handwritten digits, then see, truthfully, every number it computes."""

from mnistviz.device import pick_device
from mnistviz.errors import MnistvizError
from mnistviz.learn import kaggle, models, recipes
from mnistviz.learn.augment import Augment
from mnistviz.learn.checkpoint import load_model, load_weights, read_card, save_model, unseen, weights
from mnistviz.learn.data import Digits, DigitSet, load_digits
from mnistviz.learn.evaluate import Report, evaluate, predict
from mnistviz.learn.handwriting import read_digit
from mnistviz.learn.train import Fit, History, fit
from mnistviz.run import Profile, Run, start
from mnistviz.show import figures

__version__ = "0.1.0"

__all__ = [
    # begin
    "start", "Run", "Profile", "pick_device", "MnistvizError",
    # digits
    "load_digits", "Digits", "DigitSet", "Augment", "read_digit", "kaggle",
    # train
    "models", "recipes", "fit", "Fit", "History",
    # keep
    "load_model", "load_weights", "save_model", "weights", "read_card", "unseen",
    # judge
    "predict", "evaluate", "Report",
    # see
    "figures",
]  # fmt: skip
