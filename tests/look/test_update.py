"""What a step is said to be about to do to a weight is what the optimiser then does to it, with every option it has."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import refusals
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from zoo import seeded

import mnistviz as mv

DECAY: dict[str, Any] = {"weight_decay": 0.1, "maximize": True}
OPTIONS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "SGD": (SGD, {}),
    "SGD, decay": (SGD, DECAY),
    "SGD, momentum": (SGD, {"momentum": 0.9}),
    "SGD, dampening": (SGD, {"momentum": 0.8, "dampening": 0.3, **DECAY}),
    "SGD, Nesterov": (SGD, {"momentum": 0.9, "nesterov": True, **DECAY}),
    "Adam": (Adam, {}),
    "Adam, decay": (Adam, {"betas": (0.7, 0.9), "eps": 1e-3, "amsgrad": True, **DECAY}),
    "Adam, rate as a tensor": (Adam, {"lr": torch.tensor(0.03, dtype=torch.float64), "foreach": False}),
    "AdamW": (AdamW, {}),
    "AdamW, decay": (AdamW, {"betas": (0.8, 0.95), "eps": 1e-4, "amsgrad": True, **DECAY}),
}
KEPT = {"velocity μ·v + g": "momentum_buffer", "mean m": "exp_avg", "mean square v": "exp_avg_sq"}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_one_of_twenty_steps_is_as_foretold(name, dtype, tolerance):
    """Of four weights, one of them a tensor of its own and one with gradient 0, with rates that fall."""
    kind, options = OPTIONS[name]
    with seeded():
        several, few, alone = (torch.randn(shape, dtype=dtype).requires_grad_() for shape in ((2, 3, 2), (4,), ()))
        optimiser = kind([{"params": [several, alone], "lr": 0.02}, {"params": [few]}], **{"lr": 0.05, **options})
        for _ in range(20):
            for weights in (several, few, alone):
                weights.grad = torch.randn_like(weights)
            few.grad[3] = 0
            asked: list[tuple[Tensor, Any]] = [(several, (1, 0, 1)), (few, 2), (few, (3,)), (alone, ())]
            told = [mv.step_ledger(optimiser, weights, index) for weights, index in asked]
            before = [weights[index].item() for weights, index in asked]
            gradients = [float(weights.grad[index]) for weights, index in asked]
            optimiser.step()
            for ledger, (weights, index), was, gradient in zip(told, asked, before, gradients, strict=True):
                assert (ledger.optimiser, ledger.before, ledger.terms["gradient g"]) == (kind.__name__, was, gradient)
                assert ledger.after == pytest.approx(weights[index].item(), rel=tolerance, abs=tolerance / 10)
                moves = [value for term, value in ledger.terms.items() if "−lr" in term]
                assert ledger.move == pytest.approx(sum(moves), rel=1e-12, abs=1e-18)
                for term in KEPT.keys() & ledger.terms.keys():
                    kept = float(optimiser.state[weights][KEPT[term]][index])
                    assert ledger.terms[term] == pytest.approx(kept, rel=tolerance, abs=tolerance)
            for group in optimiser.param_groups:
                group["lr"] = group["lr"] * 0.9


def test_a_sparse_gradient_is_taken_apart_too():
    rows = nn.Embedding(5, 3, sparse=True)
    for momentum in (0, 0.9):
        optimiser = SGD(rows.parameters(), 0.1, momentum=momentum)
        for _ in range(3):
            optimiser.zero_grad()
            rows(torch.tensor([1, 2])).square().sum().backward()
            told = [mv.step_ledger(optimiser, rows.weight, (row, 0)) for row in (0, 2)]
            optimiser.step()
            assert [x.after for x in told] == pytest.approx([rows.weight[row, 0].item() for row in (0, 2)])


def test_a_step_is_printed(golden):
    """In halves and quarters, of which SGD makes no others."""
    weights = torch.tensor([[2.0, 4.0]]).requires_grad_()
    for optimiser in (SGD([weights], 0.25, momentum=0.5, weight_decay=0.125), AdamW([weights], 0.25, weight_decay=0.5)):
        for gradient in (1.0, 3.0):
            weights.grad = torch.full((1, 2), gradient)
            ledger = mv.step_ledger(optimiser, weights, (0, 1))
            optimiser.step()
        golden(ledger.optimiser, ledger)


class Own(SGD):
    """Somebody's own way of stepping."""


def ask(kind: Callable[..., Optimizer] = SGD, index: Any = (1, 2), grad: bool = True, foreign: bool = False) -> Any:
    layer = nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    optimiser = kind(layer.parameters(), 0.1)
    if not grad:
        optimiser.zero_grad()
    return mv.step_ledger(optimiser, nn.Linear(3, 2).weight if foreign else layer.weight, index)


BAD = {
    "RMSprop": (lambda: ask(RMSprop), "no formula is known for this optimiser", "RMSprop", "SGD, Adam, AdamW"),
    "a kind of SGD": (lambda: ask(Own), "no formula is known for this optimiser", "Own"),
    "foreign weights": (lambda: ask(foreign=True), "does not move these weights", "(2, 3)"),
    "no gradient": (lambda: ask(grad=False), "no gradient", "call loss.backward() before"),
    "an index too large": (lambda: ask(index=(2, 0)), "no such weight", "(2, 0)", "0 to 1, 0 to 2"),
    "a negative index": (lambda: ask(index=(0, -1)), "no such weight", "0 to 1, 0 to 2"),
    "one number of two": (lambda: ask(index=1), "no such weight", "(1,)"),
}
test_what_cannot_be_foretold_is_refused = refusals(BAD)
