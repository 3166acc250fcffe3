"""Train a small CNN on handwritten digits, then see, truthfully, every number it computes."""

from mnistviz.device import pick_device
from mnistviz.errors import MnistvizError
from mnistviz.learn import kaggle, models, recipes
from mnistviz.learn.attack import FGSM, PGD, Attack
from mnistviz.learn.augment import Augment
from mnistviz.learn.checkpoint import load_model, load_weights, read_card, save_model, unseen, weights
from mnistviz.learn.data import Digits, DigitSet, load_digits
from mnistviz.learn.evaluate import DISPUTED, Report, evaluate, predict
from mnistviz.learn.handwriting import read_digit
from mnistviz.learn.robust import CORRUPTIONS, attacked, corrupt, digits_from_elsewhere, robustness, under_attack
from mnistviz.learn.train import Fit, History, fit
from mnistviz.look.arithmetic import Formula, Ledger, describe, ledger, shape_formula
from mnistviz.look.attribution import METHODS, Attribution, Sanity, agreement, attribute, edges, sanity
from mnistviz.look.causes import Contrast, Silenced, contrast, nearest, silenced
from mnistviz.look.dreams import Dreams, dream
from mnistviz.look.examples import Examples, top_examples
from mnistviz.look.field import Field, receptive_field
from mnistviz.look.hooks import ablate, capture
from mnistviz.look.replay import Replay, replay
from mnistviz.look.routes import Stop, Winners, flow, pool_winners, relu_gates, winning_path
from mnistviz.look.stats import Activity, Diary, summarise, watch
from mnistviz.look.timelapse import Moment, Timelapse
from mnistviz.look.totals import Bins
from mnistviz.look.trace import Step, Trace
from mnistviz.run import Profile, Run, start
from mnistviz.show import animate, figures
from mnistviz.show.scales import Scale
from mnistviz.studio import film

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
    "predict", "evaluate", "Report", "DISPUTED",
    "Attack", "FGSM", "PGD", "attacked", "under_attack",
    "corrupt", "CORRUPTIONS", "robustness", "digits_from_elsewhere",
    # look inside
    "capture", "Trace", "Step", "ablate", "replay", "Replay",
    "ledger", "Ledger", "shape_formula", "Formula", "describe",
    "receptive_field", "Field", "pool_winners", "Winners", "relu_gates", "winning_path", "Stop", "flow",
    "watch", "Activity", "Bins", "summarise", "Diary", "Timelapse", "Moment", "top_examples", "Examples",
    # ask why
    "contrast", "Contrast", "silenced", "Silenced", "nearest",
    "attribute", "Attribution", "METHODS", "sanity", "Sanity",
    "edges", "agreement", "dream", "Dreams",
    # see
    "figures", "animate", "film", "Scale",
]  # fmt: skip
