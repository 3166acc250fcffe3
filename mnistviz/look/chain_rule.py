"""The chain rule, layer by layer: how each kind hands a gradient back (`BACK`), and what makes a weight's own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistviz.look.field import WINDOWS, taps
from mnistviz.look.replay import FORMULAS, MAX_POOL, padded
from mnistviz.look.trace import Step

LINEAR = ("Conv2d", "Linear", "AvgPool2d", "AdaptiveAvgPool2d", "Flatten")  # without its bias, each is linear


def is_known(step: Step) -> bool:
    """Whether there is a formula for a step of this kind, called in this way."""
    made_up = step.kind in ("Conv2d", "Linear") and step.weight is None  # anew for each pass, from a mask or a norm
    if step.kind not in BACK or made_up or len(step.sources) != 1 or not isinstance(step.output, Tensor):
        return False
    rows_and_columns = step.input.ndim == 4 or step.kind not in (*WINDOWS, "AdaptiveAvgPool2d")
    return rows_and_columns and step.input.ndim > 1 and step.settings.get("dim", 1) is not None


def passed_on(step: Step, change: Tensor) -> Tensor:
    """How a step's output changes with a small change of its input, to first order."""
    if step.kind in LINEAR:
        weights = {} if step.weight is None else {"weight": step.weight.double()}
        return FORMULAS[step.kind](change, weights, step.settings)
    if step.kind == "MaxPool2d":
        return change.flatten(2).gather(2, winners(step).flatten(2)).view(step.result.shape)
    if step.kind == "LogSoftmax":
        return change - (step.result.double().exp() * change).sum(step.settings["dim"], keepdim=True)
    return BACK[step.kind](step, change)  # the derivatives of all others are the same read either way


def terms(step: Step, name: str, index: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """δ and what a weight multiplied, at each position of each digit: the products add up to its gradient."""
    channels = 1 if step.kind != "Linear" else -1
    assert step.delta is not None
    delta = step.delta.double().select(channels, index[0])
    if name == "bias":
        return delta, torch.ones_like(delta)
    if step.kind == "Linear":
        return delta, step.input.double()[..., index[1]]
    if step.kind == "Conv2d":
        out, into, row, column = index
        first = out // (len(step.weights["weight"]) // step.settings["groups"]) * step.weights["weight"].shape[1]
        return delta, windows(step, step.input[:, [first + into]])[:, 0, row, column].view_as(delta)
    return delta, _normalised(step)[0].select(1, index[0])


def weight_gradient(step: Step, name: str) -> Tensor:
    """The gradient of all weights, or biases, of a step in `WEIGHTED`: `terms` for each, multiplied and summed."""
    assert step.delta is not None
    delta = step.delta.double()
    if step.kind == "Linear":
        delta = delta.flatten(0, -2)
        return delta.sum(0) if name == "bias" else delta.T @ step.input.double().flatten(0, -2)
    others = [axis for axis in range(delta.ndim) if axis != 1]
    if name == "bias":
        return delta.sum(others)
    if step.kind != "Conv2d":
        return (delta * _normalised(step)[0]).sum(others)
    groups = step.settings["groups"]
    parts = zip(delta.flatten(2).chunk(groups, 1), windows(step, step.input).chunk(groups, 1), strict=True)
    return torch.cat([torch.einsum("nop,niyxp->oiyx", d, a) for d, a in parts])


def windows(step: Step, x: Tensor) -> Tensor:
    """What each tap of a convolution's kernel meets of x: (N, channels, its rows, its columns, positions)."""
    s = step.settings
    met = F.unfold(padded(x.double(), s), s["kernel_size"], s["dilation"], 0, s["stride"])
    return met.unflatten(1, (x.shape[1], *s["kernel_size"]))


def winners(step: Step) -> Tensor:
    """For every output of a max-pool, where in the flattened map the largest value stood; of equals, the first."""
    return F.max_pool2d(step.input.contiguous(), *(step.settings[key] for key in MAX_POOL), return_indices=True)[1]


def _normalised(step: Step) -> tuple[Tensor, Tensor, bool]:
    """What a batch norm made before γ and β, the slope γ/√(σ² + ε), and whether its statistics are this batch's own."""
    x, own = step.input.double(), step.training or step.weights.get("running_mean") is None
    shape, others = (1, -1, *[1] * (x.ndim - 2)), [axis for axis in range(x.ndim) if axis != 1]
    if own:
        mean, var = x.mean(others), x.var(others, correction=0)
    else:
        mean, var = step.weights["running_mean"].double(), step.weights["running_var"].double()
    scale = (var + step.settings["eps"]).rsqrt()
    gain = scale if step.weight is None else step.weight.double() * scale
    return (x - mean.view(shape)) * scale.view(shape), gain.view(shape), own


def _convolution(step: Step, delta: Tensor) -> Tensor:
    """Each δ times the kernel, laid over the input that the kernel had met; what falls on the border is nobody's."""
    s, x = step.settings, step.input
    pixels = x.shape[2] * x.shape[3]
    numbers = torch.arange(1.0, pixels + 1, device=x.device).view(1, 1, *x.shape[2:])
    frame = padded(numbers, s)  # whose pixel stands where
    weight, apart = step.weights["weight"].double(), {"groups": s["groups"], "dilation": s["dilation"]}
    back = F.conv_transpose2d(delta, weight, stride=s["stride"], **apart)
    height, width = frame.shape[2:]
    back = F.pad(back, (0, width - back.shape[3], 0, height - back.shape[2]))
    sums = back.new_zeros(*x.shape[:2], pixels + 1)
    sums.index_add_(2, frame.flatten().long(), back.flatten(2))
    return sums[:, :, 1:].view(x.shape)


def _average(step: Step, delta: Tensor) -> Tensor:
    """Each δ in equal shares to the values that were averaged."""
    sides = [delta.new_zeros(step.result.shape[2 + axis], step.input.shape[2 + axis]) for axis in (0, 1)]
    for axis, side in enumerate(sides):
        for place, row in enumerate(side):
            row[list(taps(step, axis, [place]))] = 1
    summed, ones = sides[0].sum(1)[:, None] * sides[1].sum(1), delta.new_ones(step.input.shape[2:])
    of = (summed / FORMULAS[step.kind](ones[None], {}, step.settings)[0]).round()  # what each sum is divided by
    return sides[0].T @ (delta / of) @ sides[1]


def _max_pool(step: Step, delta: Tensor) -> Tensor:
    back = delta.new_zeros(step.input.flatten(2).shape)
    return back.scatter_add_(2, winners(step).flatten(2), delta.flatten(2)).view(step.input.shape)


def _batch_norm(step: Step, delta: Tensor) -> Tensor:
    """γ/σ times δ; in training less what δ does through the batch's own mean and variance."""
    normal, gain, own = _normalised(step)
    if own:
        others = [axis for axis in range(delta.ndim) if axis != 1]
        mean, along = delta.mean(others, keepdim=True), (delta * normal).mean(others, keepdim=True)
        delta = delta - mean - normal * along
    return gain * delta


WEIGHTED = ("Conv2d", "Linear", "BatchNorm1d", "BatchNorm2d")
BACK: dict[str, Callable[[Step, Tensor], Tensor]] = {  # from δ of a step's output to that of its input
    "Linear": lambda step, delta: delta @ step.weights["weight"].double(),
    "Conv2d": _convolution,
    "MaxPool2d": _max_pool,
    **dict.fromkeys(("AvgPool2d", "AdaptiveAvgPool2d"), _average),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), _batch_norm),
    "ReLU": lambda step, delta: delta * (step.input > 0),
    "LeakyReLU": lambda step, delta: torch.where(step.input > 0, delta, delta * step.settings["negative_slope"]),
    "Sigmoid": lambda step, delta: delta * step.result.double() * (1 - step.result.double()),
    "Tanh": lambda step, delta: delta * (1 - step.result.double() ** 2),
    "Softmax": lambda step, d: step.result * (d - (step.result * d).sum(step.settings["dim"], keepdim=True)),
    "LogSoftmax": lambda step, d: d - step.result.double().exp() * d.sum(step.settings["dim"], keepdim=True),
    "Normalise": lambda step, delta: delta / step.settings["sd"],
    "Flatten": lambda step, delta: delta.reshape(step.input.shape),
    "Identity": lambda step, delta: delta,
    **{f"Dropout{n}": lambda step, d: d if step.mask is None else d * step.mask for n in ("", "1d", "2d")},
}
