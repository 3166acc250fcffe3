"""Which pixels mattered for one score, by captum; and whether to believe it."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import lazy_loader
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistviz.errors import MnistvizError, choose, one_of, refuse
from mnistviz.look.layers import undisturbed, unwrapped

captum = lazy_loader.load("captum")  # takes long to load
DEFAULT = "integrated gradients"


@dataclass(frozen=True, eq=False)
class Attribution:
    """For one score, a number per pixel: above 0 it speaks for the answer, below 0 against it."""

    method: str
    target: int
    values: Tensor  # (28, 28)
    cells: Tensor  # as computed: (28, 28), or the few cells of the layer that Grad-CAM looks at
    residual: float | None = None  # integrated gradients: what the sum misses, as a share of what it should explain


def attribute(
    model: nn.Module, pixels: Tensor, method: str = DEFAULT, target: int | None = None, **options: Any
) -> Attribution:
    """`attribute(model, digit.pixels, "saliency", target=7).values`: by default for the model's own answer.

    What is "nothing" is black, 0 in pixels: the baseline of integrated gradients, and what occlusion puts in
    place of a patch. Modes, gradients and hooks of the model are as before.
    """
    compute = choose("method", method, METHODS)
    if len(pixels) != 1 or pixels.ndim != 4:
        raise MnistvizError("this looks at one digit", given=tuple(pixels.shape), fix="pass digits[i].pixels")
    model, _ = unwrapped(model)
    with undisturbed(model), torch.enable_grad():
        x = pixels.detach().clone().requires_grad_()
        scores = model(x)[0]
        target = int(scores.argmax()) if target is None else target
        one_of("answer", target, len(scores))
        cells, residual = compute(model, x, target, **options).detach()[0, 0].double(), None
        if method == "integrated gradients":
            with torch.no_grad():
                explained = float(model(x)[0, target].double() - model(torch.zeros_like(x))[0, target].double())
            residual = abs(float(cells.sum()) - explained) / (abs(explained) or 1.0)
    # each cell as a block of pixels: nothing is made smoother than it is
    values = F.interpolate(cells[None, None], tuple(x.shape[2:]), mode="nearest")[0, 0]
    return Attribution(method, target, values, cells, residual)


def _integrated(model: nn.Module, x: Tensor, target: int, steps: int = 512) -> Tensor:
    rule = {"n_steps": steps, "method": "gausslegendre", "internal_batch_size": 128}
    return captum.attr.IntegratedGradients(model).attribute(x, torch.zeros_like(x), target, **rule)


def _grad_cam(model: nn.Module, x: Tensor, target: int, layer: str | None = None) -> Tensor:
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    refuse(not convolutions, "Grad-CAM needs a convolution, and this model has none", given=type(model).__name__)
    module = choose("convolution", layer or list(convolutions)[-1], convolutions)
    return captum.attr.LayerGradCam(model, module).attribute(x, target, relu_attributions=True)


def _occlusion(model: nn.Module, x: Tensor, target: int, side: int = 4, stride: int = 2) -> Tensor:
    window, strides = (1, side, side), (1, stride, stride)
    with torch.no_grad():
        return captum.attr.Occlusion(model).attribute(x, window, strides, baselines=0.0, target=target)


METHODS: dict[str, Callable[..., Tensor]] = {
    "saliency": lambda model, x, target: captum.attr.Saliency(model).attribute(x, target, abs=False),
    "integrated gradients": _integrated,
    "grad-cam": _grad_cam,
    "occlusion": _occlusion,
}


def edges(pixels: Tensor) -> Tensor:
    """How strongly the grey level changes at each pixel (Sobel), (28, 28): a map that knows no model."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    both = F.conv2d(pixels.cpu().float(), torch.stack([across, across.T])[:, None], padding=1)
    return both.square().sum(1).sqrt()[0].double()


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with all weights drawn anew, as before any training."""
    twin = deepcopy(unwrapped(model)[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    own = dict(unwrapped(model)[0].named_parameters())
    kept = [name for name, p in twin.named_parameters() if p.ndim > 1 and torch.equal(p, own[name])]
    refuse(bool(kept), "these weights cannot be drawn anew", given=kept, fix="give their layers reset_parameters()")
    return twin


def agreement(a: Tensor, b: Tensor, pixels: Tensor) -> float:
    """How alike two maps order the inked pixels: Spearman's correlation, 1 for the same order, 0 for none.

    Paper is left out: some methods give it 0 whatever the network, and would agree with anything.
    """
    inked = pixels.flatten() > 0
    first, second = (values.flatten()[inked].cpu().double() for values in (a, b))
    if any(len(values.unique()) < 2 for values in (first, second)):  # a flat map orders nothing
        return float("nan")
    return float(scipy.stats.spearmanr(first, second).statistic)


@torch.no_grad()
def deletion(model: nn.Module, pixels: Tensor, values: Tensor, target: int, points: int = 25) -> tuple[Tensor, Tensor]:
    """`shares, probability = deletion(…)`: pixels turned black, those of the largest values first.

    A map that names what matters makes the probability fall early. Only inked pixels are counted: black stays black.
    """
    inked = pixels.flatten() > 0
    order = values.flatten().masked_fill(~inked, -torch.inf).argsort(descending=True, stable=True)
    shares = torch.linspace(0, 1, points, dtype=torch.double)
    pictures = pixels.repeat(points, 1, 1, 1)
    for k, share in enumerate(shares.tolist()):
        pictures[k].view(-1)[order[: round(share * int(inked.sum()))]] = 0
    with undisturbed(model):
        return shares, model(pictures).double().softmax(1)[:, target]


@dataclass(frozen=True, eq=False)
class Sanity:
    """An attribution beside what it must differ from, and how much it does."""

    attribution: Attribution
    random: Attribution  # of the same network with random weights
    edges: Tensor
    with_random: float  # rank agreement with the map of random weights; near 1 the map ignores what was learned
    with_edges: float
    shares: Tensor
    probability: Tensor  # while the pixels named first are turned black
    at_random: Tensor  # while as many are turned black in a drawn order, mean of several draws


def sanity(
    model: nn.Module, pixels: Tensor, method: str = DEFAULT, target: int | None = None, seed: int = 0, **options: Any
) -> Sanity:
    """`sanity(model, digit.pixels, "saliency")`: an attribution with its control experiments."""
    mine = attribute(model, pixels, method, target, **options)
    other = attribute(randomised(model, seed), pixels, method, mine.target, **options)
    shape, generator = edges(pixels), torch.Generator().manual_seed(seed)
    shares, falls = deletion(model, pixels, mine.values, mine.target)
    drawn = [torch.rand(mine.values.shape, generator=generator) for _ in range(8)]
    chance = torch.stack([deletion(model, pixels, order, mine.target)[1] for order in drawn]).mean(0)
    with_random, with_edges = (agreement(mine.values, control, pixels) for control in (other.values, shape))
    return Sanity(mine, other, shape, with_random, with_edges, shares, falls, chance)
