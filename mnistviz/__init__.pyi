"""The table of contents: verbs of several lessons by their own names, subjects as modules."""

# begin
from . import animate, page
from .errors import MnistvizError

# train, keep, judge
from .learn import attacks, checkpoint, corruptions, handwriting, kaggle, models, recipes, transfer
from .learn.augment import Augment
from .learn.checkpoint import load_model, read_card

# digits
from .learn.data import Digits, load_digits
from .learn.evaluate import evaluate, predict
from .learn.handwriting import read_digit
from .learn.train import fit

# ask why
from .look import activity, attribution, causes, dreams, paths

# look inside: many passes
from .look.activity import watch
from .look.arithmetic import describe, ledger, shape_formula

# look inside: one pass
from .look.capture import ablate, capture
from .look.diary import Diary, Timelapse
from .look.examples import top_examples
from .look.field import projective_field, receptive_field

# look inside: the way back
from .look.gradients import backward, backward_ledger, replay_backward
from .look.paths import flow, winning_path
from .look.replay import replay
from .look.update import step_ledger
from .page.notebook import pad
from .run import start
from .show import figures

# see
from .show.scales import Scale

__version__: str
__all__ = [
    "start", "MnistvizError",
    "load_digits", "Digits", "Augment", "read_digit", "handwriting", "kaggle",
    "models", "recipes", "fit", "load_model", "read_card", "checkpoint",
    "predict", "evaluate", "attacks", "corruptions", "transfer",
    "capture", "ablate", "replay", "describe", "shape_formula", "ledger", "receptive_field",
    "projective_field", "winning_path", "flow", "backward", "backward_ledger", "replay_backward", "step_ledger",
    "paths", "watch", "activity", "top_examples", "Diary", "Timelapse",
    "attribution", "causes", "dreams",
    "Scale", "figures", "animate", "page", "pad",
]  # fmt: skip
