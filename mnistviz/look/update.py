"""One step of an optimiser, taken apart for one weight."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mnistviz.errors import MnistvizError, refuse
from mnistviz.look.replay import check_index
from mnistviz.look.trace import Index

KNOWN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


@dataclass(frozen=True)
class StepLedger:
    """One weight's move in one step: `terms` by name, in order; `before` + `move` is `after`."""

    optimiser: str
    terms: dict[str, float]
    before: float
    move: float

    @property
    def after(self) -> float:
        return self.before + self.move

    def __repr__(self) -> str:
        rows = self.terms | {"before": self.before, "move": self.move, "after": self.after}
        lines = [f"  {name:<28} {value:+.6e}" for name, value in rows.items()]
        return "\n".join([f"{self.optimiser}, one step of one weight", *lines])


def step_ledger(optimiser: torch.optim.Optimizer, weights: Tensor, index: Index) -> StepLedger:
    """`step_ledger(optimiser, model.conv1.weight, (5, 0, 1, 1))`: what `optimiser.step()` is about to do to it.

    After `loss.backward()`, before `step()`. Of SGD, with momentum or without, Adam and AdamW.
    """
    kind, index = type(optimiser).__name__, (index,) if isinstance(index, int) else tuple(index)
    what, allowed = "no formula is known for this optimiser", ", ".join(known.__name__ for known in KNOWN)
    refuse(type(optimiser) not in KNOWN, what, given=kind, allowed=allowed)
    groups = [group for group in optimiser.param_groups if any(p is weights for p in group["params"])]
    refuse(not groups, "this optimiser does not move these weights", given=tuple(getattr(weights, "shape", ())))
    if weights.grad is None:
        raise MnistvizError("these weights have no gradient", fix="call loss.backward() before")
    check_index(index, weights.shape, "weight")
    (group,), state = groups, optimiser.state.get(weights, {})
    held = {name: float(old[index]) for name, old in state.items() if name != "step" and torch.is_tensor(old)}
    before, gradient = float(weights.detach()[index]), float(weights.grad[index])
    rate, decay, terms = float(group["lr"]), group["weight_decay"], {"gradient g": gradient}
    push = -gradient if group["maximize"] else gradient
    decoupled = group.get("decoupled_weight_decay", kind == "AdamW")
    if decay and not decoupled:
        terms["weight decay λ·w"] = decay * before
        push += decay * before
    if kind == "SGD":
        momentum = group["momentum"]
        if momentum:
            old = held.get("momentum_buffer")
            velocity = push if old is None else momentum * old + (1 - group["dampening"]) * push
            terms |= {"velocity before v": old or 0.0, "velocity μ·v + g": velocity}
            push = push + momentum * velocity if group["nesterov"] else velocity
        terms["−lr · direction"] = -rate * push
        return StepLedger(kind, terms, before, -rate * push)
    (first, second), count = group["betas"], float(state["step"]) + 1 if state else 1.0
    mean = first * held.get("exp_avg", 0.0) + (1 - first) * push
    square = second * held.get("exp_avg_sq", 0.0) + (1 - second) * push**2
    terms |= {"mean m": mean, "mean square v": square}
    largest = max(square, held.get("max_exp_avg_sq", 0.0)) if group["amsgrad"] else square
    mean, square = mean / (1 - first**count), largest / (1 - second**count)
    terms |= {"M = m / (1 − β₁ᵗ)": mean, "V = v / (1 − β₂ᵗ)": square}
    moves = {"−lr · M / (√V + ε)": -rate * mean / (math.sqrt(square) + group["eps"])}
    if decay and decoupled:
        moves = {"decay −lr·λ·w": -rate * decay * before} | moves
    return StepLedger(kind, terms | moves, before, sum(moves.values()))
