"""Attacks that follow the gradient: pictures changed a little, so that a network errs."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistviz.device import device_of, evaluation_mode
from mnistviz.errors import check, some
from mnistviz.learn.data import Digits


@dataclass(frozen=True)
class Attack:
    """`Attack(0.3, steps=40, step=0.01)(model, x, y)`: no pixel changes by more than 0.3, and the loss rises.

    Each step moves every pixel by `step` in the direction in which the loss grows, then back into the allowed range
    and into 0 to 1. One step of the whole size is FGSM, many are PGD. The model is left as it was.
    """

    epsilon: float
    steps: int = 1
    step: float | None = None  # None: epsilon for one step, else 2.5 · epsilon / steps
    random_start: bool = False

    def __post_init__(self) -> None:
        kind = "attack setting"
        check(kind, self, "epsilon", lambda x: 0 <= x <= 1, "0 to 1, in pixels that run from 0 to 1")
        check(kind, self, "steps", lambda n: isinstance(n, int) and n >= 1, "a whole number, 1 or more")
        check(kind, self, "step", lambda x: x is None or 0 < x < math.inf, "more than 0")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The same pictures, changed against the model, (N, 1, 28, 28) in [0, 1]."""
        size = self.step or (self.epsilon if self.steps == 1 else 2.5 * self.epsilon / self.steps)
        with evaluation_mode(model), torch.inference_mode(False), torch.enable_grad():
            x, y = x.detach().clone(), y.clone()
            attacked = x.clone()
            if self.random_start:
                attacked += torch.empty_like(x).uniform_(-self.epsilon, self.epsilon, generator=generator)
                attacked.clamp_(0, 1)
            for _ in range(self.steps):
                attacked.requires_grad_()
                loss = F.cross_entropy(model(attacked).float(), y, reduction="sum")
                (slope,) = torch.autograd.grad(loss, attacked)
                attacked = attacked.detach() + size * slope.sign()
                attacked = torch.minimum(torch.maximum(attacked, x - self.epsilon), x + self.epsilon).clamp_(0, 1)
        return attacked


FGSM = Attack(0.3)
PGD = Attack(0.3, steps=40, step=0.01, random_start=True)


def attacked(model: nn.Module, digits: Digits, attack: Attack, seed: int = 0, batch: int = 128) -> Tensor:
    """`x = attacked(model, digits, PGD)`: the pictures of all digits after the attack, (N, 1, 28, 28)."""
    some(digits, "digits to attack")
    device, batches = device_of(model), digits.batches(batch)
    generator = torch.Generator(device).manual_seed(seed)
    return torch.cat([attack(model, x.to(device), y.to(device), generator) for x, y in batches]).cpu()
