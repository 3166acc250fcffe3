"""Numbers about a trained model: probabilities, accuracy with its interval, per digit, and the mistakes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor, nn

from mnistviz.errors import MnistvizError
from mnistviz.learn.data import Digits

BATCH = {"cpu": 128}  # its maps stay in cache; larger batches are slower on a CPU


@torch.inference_mode()
def logits(model: nn.Module, digits: Digits, batch: int | None = None) -> Tensor:
    """The model's ten scores for every digit, in order: float32 (N, 10), on the model's device.

    The model is put in evaluation mode for this and given back in the modes it had.
    """
    if not len(digits):
        raise MnistvizError("there are no digits to predict", given=digits)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    batch = batch or BATCH.get(device.type, 2000)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        chunks = (digits.images[i : i + batch].to(device) for i in range(0, len(digits), batch))
        return torch.cat([model(chunk.unsqueeze(1).float().div_(255)).float() for chunk in chunks])
    finally:
        for module, training in modes:
            module.training = training


def measure(model: nn.Module, digits: Digits) -> tuple[float, float]:
    """`loss, accuracy = measure(model, val)`: mean cross-entropy and the share that is right."""
    scores = logits(model, digits)
    labels = digits.known_labels().to(scores.device)
    return float(F.cross_entropy(scores, labels)), int((scores.argmax(1) == labels).sum()) / len(labels)


def predict(model: nn.Module, digits: Digits) -> np.ndarray:
    """`predict(model, test)`: ten probabilities per digit, (N, 10); `.argmax(1)` are the answers."""
    return logits(model, digits).softmax(1).cpu().numpy()


def evaluate(model: nn.Module, digits: Digits) -> "Report":
    """`report = evaluate(model, val)`; then `report.accuracy`, `report.per_digit`, `report.mistakes`."""
    labels = digits.known_labels().cpu().numpy()
    return Report(logits(model, digits).cpu().double().log_softmax(1).numpy(), labels, digits)


@dataclass(frozen=True, eq=False)
class Report:
    """A model's answers beside the truth, and what follows from them."""

    log_probabilities: np.ndarray  # (N, 10)
    labels: np.ndarray  # (N,)
    digits: Digits

    def __post_init__(self) -> None:
        if self.log_probabilities.shape != (len(self.labels), 10):
            raise MnistvizError(
                "predictions and labels do not match",
                given=f"{self.log_probabilities.shape} and {self.labels.shape}",
                allowed="(N, 10) and (N,)",
            )

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
        low, high = binomtest(self.correct, len(self.labels)).proportion_ci(method="wilson")
        return float(low), float(high)

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood: how surprised the model is by the truth, in nats."""
        return float(-self.log_probabilities[np.arange(len(self.labels)), self.labels].mean())

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts, (10, 10): row is the true digit, column the answer."""
        return confusion_matrix(self.labels, self.predictions, labels=range(10))

    @property
    def confusion_rates(self) -> np.ndarray:
        """Each row of the counts as shares of that digit; a digit that never occurs has a row of zeros."""
        counts = self.confusion
        return counts / counts.sum(1, keepdims=True).clip(min=1)

    @cached_property
    def per_digit(self) -> pd.DataFrame:
        """Precision, recall, F1 and support of each digit; not a number where a digit never occurs."""
        columns = precision_recall_fscore_support(self.labels, self.predictions, labels=range(10), zero_division=np.nan)
        table = pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), columns, strict=True)))
        return table.rename_axis("digit")

    @cached_property
    def mistakes(self) -> pd.DataFrame:
        """One row per wrong answer, the most confident first; `row` counts in the evaluated digits."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        table = pd.DataFrame(
            {
                "row": wrong,
                "label": self.labels[wrong],
                "prediction": self.predictions[wrong],
                "confidence": self.probabilities[wrong, self.predictions[wrong]],
                "given_to_label": self.probabilities[wrong, self.labels[wrong]],
            }
        )
        return table.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"Report({self.accuracy:.2%} of {len(self.labels):,} right, {len(self.labels) - self.correct} wrong; "
            f"95 % interval {low:.2%} to {high:.2%}; nll {self.nll:.4f}; {self.digits.source})"
        )
