"""Records to draw: made by hand where that is quick and exact, else real passes of the shipped weights."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from zoo import record, whole_numbers, whole_pixels

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.learn.evaluate import Report
from mnistviz.learn.history import History
from mnistviz.learn.recipes import Recipe
from mnistviz.look.attribution import METHODS, Attribution, Sanity
from mnistviz.look.causes import Cause, Contrast, Silenced
from mnistviz.look.dreams import Dreams
from mnistviz.look.trace import Trace

BINS = mv.activity.Bins(-20.0, 30.0, 20)


class Records:
    """One of each, made when it is first asked for; not to be changed by anybody."""

    def __init__(self, mnist: DigitSet, few: mv.Digits, models: Mapping[str, nn.Module], passes: Mapping[str, Trace]):
        self.test, self.few, self.digits, self.models, self.passes = mnist.test, few, few[:200], models, passes
        self.trace, self.digit = passes["deep"], mnist.test[0].pixels

    @staticmethod
    def report_of(digits: mv.Digits, answers: np.ndarray | Tensor, confidence: float | np.ndarray = 0.9) -> Report:
        """These answers, each with this confidence."""
        confidence = np.broadcast_to(confidence, len(digits))
        shares = np.repeat(((1 - confidence) / 9)[:, None], 10, axis=1)
        shares[np.arange(len(digits)), np.asarray(answers)] = confidence
        return Report(np.log(shares), digits.labels.numpy(), digits)

    @cached_property
    def report(self) -> Report:
        """600 answers of every confidence, some of them wrong."""
        dice, labels = np.random.default_rng(0), self.few.labels.numpy()
        confidence = dice.beta(4, 1, 600) * 0.85 + 0.14
        right = dice.random(600) < 0.5 + confidence / 2
        return self.report_of(self.few, np.where(right, labels, dice.integers(0, 10, 600)), confidence)

    @cached_property
    def perfect(self) -> Report:
        return self.report_of(self.few[:50], self.few.labels[:50])

    @cached_property
    def some_absent(self) -> Report:
        """No 3 and no 7, neither as digits nor as answers, and a single mistake."""
        digits = self.few[(self.few.labels != 3) & (self.few.labels != 7)]
        answers = digits.labels.clone()
        answers[0] = (answers[0] + 1) % 3
        return self.report_of(digits, answers)

    @cached_property
    def history(self) -> History:
        rows = []
        for e in range(1, 7):
            row = {"epoch": e, "loss": 1 / e, "accuracy": 1 - 0.3 / e, "lr": 0.1, "seconds": 1.0}
            rows.append(row | {"val_loss": 0.9 / e + e / 20, "val_accuracy": 0.9 + 0.01 * e - 0.001 * e * e})
        return History(Recipe("deep", epochs=6), rows, best_epoch=5, best_value=rows[4]["val_accuracy"])

    @cached_property
    def other(self) -> Trace:
        """A second pass of the same network."""
        return record(self.models["deep"], self.few[9].pixels)

    @cached_property
    def exact(self) -> Trace:
        """A pass in whole numbers, whose every sum is the same on every machine."""
        return record(whole_numbers(), whole_pixels(self.few[5]))

    @cached_property
    def many(self) -> Trace:
        """The same network, and 48 digits at once."""
        return record(whole_numbers(), whole_pixels(self.few[:48]))

    @cached_property
    def gone_back(self) -> Trace:
        """Three digits through the same network, and back from the sum of all its outputs, in whole numbers too."""
        with mv.capture(model := whole_numbers(), gradients=True) as trace:
            scores = model(whole_pixels(self.few[:3]))
        return mv.backward(trace, scores.sum())

    @cached_property
    def activity(self) -> Any:
        return mv.activity.summarise(self.many, BINS)

    @cached_property
    def activities(self) -> dict[str, Any]:
        """Two, over different numbers of digits."""
        others = record(whole_numbers(), whole_pixels(self.few[48:108]))
        return {"these": self.activity, "others": mv.activity.summarise(others)}

    @cached_property
    def diary(self) -> mv.Diary:
        """Three pages."""
        diary = mv.Diary(self.few[:48].pixels, bins=BINS)
        others = mv.activity.summarise(record(whole_numbers(), whole_pixels(self.few[48:96])), BINS)
        diary.pages = [self.activity, others, self.activity]
        return diary

    @cached_property
    def examples(self) -> Any:
        return mv.top_examples(self.models["deep"], self.digits.pixels, "relu2")

    @cached_property
    def features(self) -> Tensor:
        return record(self.models["deep"], self.few[:150].pixels)["relu6"].output

    @cached_property
    def attributions(self) -> list[Attribution]:
        """One of each method: Grad-CAM in cells, occlusion without signs."""
        values = torch.arange(784.0, dtype=torch.double).reshape(28, 28).sin()
        cells = values[:7, :7].contiguous()
        blocks = cells.repeat_interleave(4, 0).repeat_interleave(4, 1)
        maps = [(values, values), (values * 3, values * 3, 0.0123), (blocks, cells), (values.abs(), values.abs())]
        return [Attribution(method, 7, *numbers) for method, numbers in zip(METHODS, maps, strict=True)]

    @cached_property
    def checks(self) -> list[Sanity]:
        """Two rows of controls; one agreement is no number, as where a map is flat."""
        shares = torch.linspace(0, 1, 25)
        curves = shares, (-5 * shares).exp(), 1 - shares
        first, _, third, fourth = self.attributions
        edges = fourth.values.flip(0)
        return [Sanity(first, third, edges, 0.31, -0.12, *curves), Sanity(third, first, edges, torch.nan, 0.5, *curves)]

    @cached_property
    def dreams(self) -> dict[str, Dreams]:
        """Three pictures and two."""
        pixels = torch.linspace(0, 1, 3 * 784).reshape(3, 1, 28, 28)
        start, end = torch.tensor([-1.25, 0.0, 2.5]), torch.tensor([12.0, 900.0, 0.004])
        return {"without priors": Dreams(pixels, start, end), "with priors": Dreams(pixels[:2] / 2, start[:2], end[:2])}

    @cached_property
    def cause(self) -> Cause:
        """A 4 taken for a 9: twenty features, thirty silenced channels, three of which would turn the answer."""
        features = torch.arange(20.0, dtype=torch.double)
        for_one, for_other = (features / 2).sin() * 3, (features / 3).cos()
        gap = float((for_one - for_other).sum()) + 0.25
        contrast = Contrast("fc1", 9, 4, features, for_one, for_other, 0.25, gap)
        silenced = [Silenced("relu2", k, 4 if k < 3 else 9, 1.0 - 0.4 * k) for k in range(30)]
        near, distances = self.few[:6], [1.5 + k / 4 for k in range(6)]
        return Cause(self.few[7].pixels, contrast, silenced, near.pixels, near.labels.tolist(), distances)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Any accuracies of three networks, falling with the strength of twelve corruptions."""
        return {name: self.table(k) for k, name in enumerate(("deep", "light", "compact"))}

    def table(self, seed: int, kinds: list[str] | None = None) -> pd.DataFrame:
        dice, rows = np.random.default_rng(seed), []
        for kind in mv.corruptions.CORRUPTIONS if kinds is None else kinds:
            rows += [(kind, s, right) for s, right in enumerate(np.sort(dice.random(6) * 0.7 + 0.3)[::-1])]
        return pd.DataFrame(rows, columns=["corruption", "strength", "accuracy"])

    @cached_property
    def curves(self) -> dict[str, dict[float, float]]:
        fgsm, pgd = {0.0: 0.98, 0.1: 0.71, 0.2: 0.31, 0.3: 0.1}, {0.1: 0.48, 0.0: 0.98, 0.3: 0.0, 0.2: 0.02}
        return {"compact, FGSM": fgsm, "compact, PGD": pgd}

    @cached_property
    def pairs(self) -> tuple[mv.Digits, Tensor, list[int], list[int]]:
        """Five digits before and after an attack that left the first as it was and turned two answers."""
        digits = self.few[:5]
        changed = digits.pixels + 0.15 * torch.arange(784.0).reshape(28, 28).sin().sign()
        changed[0] = digits.pixels[0]
        return digits, changed.clamp(0, 1), [1, 2, 3, 4, 5], [1, 2, 3, 0, 0]

    @cached_property
    def plane(self) -> tuple[Tensor, Tensor, Tensor]:
        """Three points, their classes, and probabilities that rise from below."""
        points = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, -2.0]])
        return points, torch.tensor([1, 0, 0]), torch.linspace(0, 1, 25).reshape(5, 5)


@pytest.fixture(scope="session")
def records(mnist, few, reference, passes) -> Records:
    return Records(mnist, few, reference, passes)
