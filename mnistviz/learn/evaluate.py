"""Numbers about a trained model: probabilities, accuracy with its interval, mistakes, and how far to trust it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy  # loads its parts when they are first used
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistviz.device import device_of, evaluation_mode
from mnistviz.errors import MnistvizError, refuse, some
from mnistviz.learn.attacks import Attack, attacked
from mnistviz.learn.data import Digits
from mnistviz.learn.models import log_probabilities

BATCH = {"cpu": 128}  # its maps stay in cache; larger batches are slower on a CPU


@torch.inference_mode()
def logits(model: nn.Module, digits: Digits | Tensor, batch: int | None = None) -> Tensor:
    """The ten scores of every digit, or of pixels (N, 1, 28, 28), in order: float32 (N, 10), on the model's device."""
    some(digits, "digits to predict")
    device, images = device_of(model), digits.images if isinstance(digits, Digits) else digits
    batch = batch or BATCH.get(device.type, 2000)
    chunks = (images[i : i + batch].to(device) for i in range(0, len(images), batch))
    if images.dtype == torch.uint8:
        chunks = (chunk.unsqueeze(1).float().div_(255) for chunk in chunks)
    with evaluation_mode(model):
        return torch.cat([model(chunk).float() for chunk in chunks])


def measure(model: nn.Module, digits: Digits) -> tuple[float, float]:
    """`loss, accuracy = measure(model, val)`: mean cross-entropy and the share that is right."""
    scores = logits(model, digits)
    labels = digits.known_labels().to(scores.device)
    return float(F.nll_loss(log_probabilities(scores), labels)), int((scores.argmax(1) == labels).sum()) / len(labels)


def predict(model: nn.Module, digits: Digits) -> np.ndarray:
    """`predict(model, test)`: ten probabilities per digit, (N, 10); `.argmax(1)` are the answers.

    >>> mv.predict(model, test[:3]).shape
    (3, 10)
    >>> mv.predict(model, test[:3]).argmax(1)
    array([7, 2, 1])
    >>> mv.predict(model, test[0]).sum().round(3)
    np.float32(1.0)
    """
    return log_probabilities(logits(model, digits)).exp().cpu().numpy()


def evaluate(model: nn.Module, digits: Digits, *, attack: Attack | None = None, seed: int = 0) -> "Report":
    """`report = evaluate(model, val)`; then `report.accuracy`, `report.per_digit`, `report.mistakes`.

    With an attack, `evaluate(model, val, attack=mv.attacks.PGD)`, the digits are first changed against this model.

    >>> report = mv.evaluate(model, test[:200])
    >>> report.confusion.shape, report.per_digit.shape
    ((10, 10), (10, 4))
    >>> report.accuracy > 0.95
    True
    >>> mv.evaluate(model, test[:200], attack=mv.attacks.FGSM).accuracy < report.accuracy
    True
    """
    labels = digits.known_labels().cpu().numpy()
    scores = logits(model, digits if attack is None else attacked(model, digits, attack, seed))
    return Report(log_probabilities(scores.cpu().double()).numpy(), labels, digits)


@dataclass(frozen=True, eq=False)
class Report:
    """A model's answers beside the truth, and what follows from them."""

    log_probabilities: np.ndarray  # (N, 10)
    labels: np.ndarray  # (N,)
    digits: Digits
    # Five people each were asked again; fewer than three confirmed these labels of MNIST's test set (C. Northcutt and
    # others, Pervasive label errors in test sets, 2021).
    disputed = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)

    def __post_init__(self) -> None:
        if self.log_probabilities.shape != (len(self.labels), 10):
            given = f"{self.log_probabilities.shape} and {self.labels.shape}"
            raise MnistvizError("predictions and labels do not match", given=given, allowed="(N, 10) and (N,)")

    @cached_property
    def probabilities(self) -> np.ndarray:
        return np.exp(self.log_probabilities)

    @cached_property
    def predictions(self) -> np.ndarray:
        return self.log_probabilities.argmax(1)

    @property
    def correct(self) -> int:
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        return self.correct / len(self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true accuracy lies with 95 % confidence (Wilson), given this many digits."""
        return wilson(self.correct, len(self.labels))

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood: how surprised the model is by the truth, in nats."""
        return float(-self.log_probabilities[np.arange(len(self.labels)), self.labels].mean())

    @property
    def brier(self) -> float:
        """Mean squared distance between the ten probabilities and the truth: 0 is perfect, 0.9 knows nothing."""
        return float(((self.probabilities - np.eye(10)[self.labels]) ** 2).sum(1).mean())

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts, (10, 10): row is the true digit, column the answer."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.labels, self.predictions, labels=range(10))

    @property
    def confusion_rates(self) -> np.ndarray:
        """Each row of the counts as shares of that digit; a digit that never occurs has a row of zeros."""
        counts = self.confusion
        return counts / counts.sum(1, keepdims=True).clip(min=1)

    @cached_property
    def per_digit(self) -> pd.DataFrame:
        """Precision, recall, F1 and support of each digit; not a number where a digit never occurs."""
        from sklearn.metrics import precision_recall_fscore_support

        values = precision_recall_fscore_support(self.labels, self.predictions, labels=range(10), zero_division=np.nan)
        columns = zip(("precision", "recall", "f1", "support"), values, strict=True)
        return pd.DataFrame(dict(columns)).rename_axis("digit")

    @cached_property
    def mistakes(self) -> pd.DataFrame:
        """One row per wrong answer, the most confident first; `row` counts in the evaluated digits."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        label, prediction = self.labels[wrong], self.predictions[wrong]
        table = pd.DataFrame({"row": wrong, "label": label, "prediction": prediction})
        table["confidence"] = self.probabilities[wrong, prediction]
        table["given_to_label"] = self.probabilities[wrong, label]
        return table.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Which digit is taken for which, the most frequent first: count, and share of that digit."""
        label, prediction = at = np.nonzero(np.where(np.eye(10, dtype=bool), 0, self.confusion))
        sizes = {"count": self.confusion[at], "rate": self.confusion_rates[at]}
        table = pd.DataFrame({"label": label, "prediction": prediction} | sizes)
        return table.sort_values("count", ascending=False, kind="stable", ignore_index=True)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of each answer."""
        return self.probabilities.max(1)

    def reliability(self, bins: int = 15) -> pd.DataFrame:
        """Confidence beside the share that is right, in equal steps of confidence; empty steps are left out."""
        place, rows = _step(self.confidence, bins), []
        for k in np.unique(place):
            part = self.take(place == k)
            ends, count = (k / bins, (k + 1) / bins), len(part.labels)
            rows.append((*ends, count, part.confidence.mean(), part.accuracy, *part.interval))
        return pd.DataFrame(rows, columns=["from", "to", "count", "confidence", "accuracy", "low", "high"])

    def calibration_error(self, bins: int = 15, draws: int = 500, seed: int = 0) -> "CalibrationError":
        """`report.calibration_error()`: the ECE, beside the one that chance alone would give.

        A model whose confidences are exactly right still has an error above 0 on finitely many digits; how
        much, is drawn here: answers right or wrong with just the probability that was stated.
        """
        refuse(draws < 1, "draws of what chance gives", given=draws, allowed="1 or more")
        confidence, place, sizes = self.confidence, _step(self.confidence, bins), len(self.labels)

        def gap(right: np.ndarray) -> float:
            return float(np.abs(np.bincount(place, right - confidence, bins)).sum() / sizes)

        random = np.random.default_rng(seed)
        chance = [gap(random.random(sizes) < confidence) for _ in range(draws)]
        return CalibrationError(gap(self.predictions == self.labels), *map(float, np.quantile(chance, [0.5, 0.95])))

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """If only the surest answers are given, the share of them that is wrong: one row per digit, surest first."""
        order = np.argsort(-self.confidence, kind="stable")
        given = np.arange(1, len(order) + 1)
        error = np.cumsum((self.predictions != self.labels)[order]) / given
        return pd.DataFrame({"coverage": given / len(order), "error": error, "threshold": self.confidence[order]})

    def take(self, rows: np.ndarray | list[int]) -> "Report":
        """The same report for some of its digits; `row` of its mistakes counts anew."""
        rows = np.array(rows)  # a copy: torch warns of arrays it may not write to
        refuse(not rows.size, "no digits to take", given=rows, allowed="one row or more")
        return Report(self.log_probabilities[rows], self.labels[rows], self.digits[rows])

    def cooled(self, temperature: float) -> "Report":
        """All scores divided by a temperature: above 1 the model is less sure; no answer changes."""
        if not 1e-3 <= temperature <= 1e3:  # beyond, differences are lost in double precision
            raise MnistvizError("not a temperature", given=temperature, allowed="0.001 to 1000")
        scores = torch.from_numpy(self.log_probabilities) / temperature
        return Report(scores.log_softmax(1).numpy(), self.labels, self.digits)

    def best_temperature(self) -> float:
        """`test.cooled(val.best_temperature())`: the temperature at which the truth surprises least here."""
        bounded = {"bounds": (-4, 4), "method": "bounded", "options": {"xatol": 1e-6}}
        best = scipy.optimize.minimize_scalar(lambda log: self.cooled(np.exp(log)).nll, **bounded)
        return float(np.exp(best.x))

    def __repr__(self) -> str:
        (low, high), count = self.interval, len(self.labels)
        answers = f"{self.accuracy:.2%} of {count:,} right, {count - self.correct} wrong"
        return f"Report({answers}; 95 % interval {low:.2%} to {high:.2%}; nll {self.nll:.4f}; {self.digits.source})"


@dataclass(frozen=True)
class CalibrationError:
    """The mean gap between confidence and accuracy, and what it would be by chance alone."""

    value: float
    by_chance: float  # the median of a model that is calibrated exactly
    limit: float  # 95 % of such models stay below

    def __repr__(self) -> str:
        verdict = "within" if self.value <= self.limit else "above"
        return f"ECE {self.value:.2%}; by chance {self.by_chance:.2%}, up to {self.limit:.2%}: {verdict} the noise"


def _step(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Which of the equal steps of confidence each answer falls into; 1 belongs to the last."""
    if not isinstance(bins, int) or bins < 1:
        raise MnistvizError("steps of confidence", given=bins, allowed="a whole number, 1 or more")
    return np.minimum((confidence * bins).astype(int), bins - 1)


def wilson(correct: int, count: int) -> tuple[float, float]:
    """`wilson(99, 100)`: where the true share lies with 95 % confidence, given so many right answers."""
    low, high = scipy.stats.binomtest(correct, count).proportion_ci(method="wilson")
    return float(low), float(high)
