"""Which way the numbers went: winners of max-pools, open ReLU gates, the path from a score back to a pixel."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistviz.errors import MnistvizError
from mnistviz.look.arithmetic import ledger, unit_of
from mnistviz.look.field import no_way_back, taps
from mnistviz.look.replay import margins, padded
from mnistviz.look.trace import MODEL_INPUT, Trace, sizes


@dataclass(frozen=True, eq=False)
class Winners:
    """For every output of a max-pool, where in its input the largest value stood: `winners.y[n, c, i, j]`."""

    y: Tensor
    x: Tensor


def pool_winners(trace: Trace, layer: str) -> Winners:
    """`pool_winners(trace, "pool1")`: the true winner of every window; of equals, the first."""
    step, s = trace[layer], trace[layer].settings
    if step.kind != "MaxPool2d":
        raise MnistvizError(f"{layer!r} is a {step.kind} and has no winners", allowed=_of_kind(trace, "MaxPool2d"))
    keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    _, at = F.max_pool2d(step.input.contiguous(), *(s[key] for key in keys), return_indices=True)
    width = step.input.shape[-1]
    return Winners(at // width, at % width)


def relu_gates(trace: Trace, layer: str) -> Tensor:
    """`relu_gates(trace, "relu1")`: True where the ReLU let its input through, False where it made a zero."""
    step = trace[layer]
    if step.kind != "ReLU":
        raise MnistvizError(f"{layer!r} is a {step.kind} and has no gates", allowed=_of_kind(trace, "ReLU"))
    return step.input > 0


def _of_kind(trace: Trace, kind: str) -> str:
    found = [key for key, step in trace.items() if step.kind == kind]
    return ", ".join(found) or f"no layer of this trace is a {kind}"


def flow(trace: Trace, layer: str) -> Tensor:
    """`flow(trace, "conv2")[o, i]`: all that input channel i gives to output channel o, its products w·a summed.

    Of a convolution that is the sum over the whole map, so a row, with the bias once for each of its
    pixels, adds up to the sum of that output map; of a linear layer it is the products themselves.
    """
    trace.one_digit()
    step = trace[layer]
    if step.kind not in ("Conv2d", "Linear") or step.weight is None:
        raise MnistvizError(f"{layer!r} is a {step.kind}: no weights mix its channels",
                            allowed=f"{_of_kind(trace, 'Conv2d')}; {_of_kind(trace, 'Linear')}")  # fmt: skip
    weight = step.weight.double()
    if step.kind == "Linear" and step.input.ndim != 2:
        raise MnistvizError(f"{layer!r} is applied to more than one row of features", given=sizes(step.inputs))
    if step.kind == "Linear":
        return weight * step.input[0].double()
    s = step.settings
    windows = F.unfold(padded(step.input.double(), s), s["kernel_size"], s["dilation"], 0, s["stride"])
    seen = windows[0].sum(1).view(step.input.shape[1], *weight.shape[2:])  # by each tap of the kernel, of each channel
    out, groups = len(weight), s["groups"]
    flows = weight.new_zeros(out, step.input.shape[1])
    for g in range(groups):
        rows, columns = (slice(g * n // groups, (g + 1) * n // groups) for n in flows.shape)
        flows[rows, columns] = torch.einsum("oiyx,iyx->oi", weight[rows], seen[columns])
    return flows


@dataclass(frozen=True)
class Stop:
    """One station of a winning path: a unit, its value, and how strongly the score rises with it."""

    layer: str  # "" is the model's input
    unit: tuple[int, ...]
    value: float
    slope: float  # ∂score/∂value along this path; a log-softmax only shifts scores, and counts as 1

    @property
    def push(self) -> float:
        """What this unit adds to the score along this path: its value times the slope."""
        return self.value * self.slope


def winning_path(trace: Trace, answer: int | None = None, rank: int = 0) -> list[Stop]:
    """`winning_path(trace, 7)`: from the score for 7 back to one pixel, by what pushed it up most.

    At each weighted layer the path takes the largest product of weight and value (times what lies above
    it), at each max-pool the pixel that won, and at a ReLU it passes where the gate is open. `rank` 1, 2 …
    start from the second, third … largest product. By default the answer is the model's own.
    """
    trace.one_digit()
    index = trace.index(trace.keys[-1])
    scores = trace.steps[index].result
    if scores.ndim != 2:
        raise MnistvizError("the trace does not end in a row of scores", given=sizes(trace.steps[index].output))
    unit = unit_of(
        trace.steps[index], trace.keys[index], int(scores[0].argmax()) if answer is None else answer, None, None
    )
    path, slope = [Stop(trace.keys[index], unit, float(scores[(0, *unit)]), 1.0)], 1.0
    while True:
        step = trace.steps[index]
        if len(step.sources) != 1 or step.sources[0] is None:
            raise no_way_back(trace, index)
        if step.kind not in BACKWARD:
            known = ", ".join(BACKWARD)
            raise MnistvizError(f"no path is known through a {step.kind}", given=trace.keys[index], allowed=known)
        if step.training and step.kind.startswith(("Dropout", "BatchNorm")):
            raise MnistvizError(
                f"a {step.kind} in training mode depends on more than this digit", given=trace.keys[index],
                fix="capture without as_is: evaluation mode is the default",
            )  # fmt: skip
        weighted = step.kind in ("Linear", "Conv2d")
        unit, slope = BACKWARD[step.kind](trace, index, unit, slope, rank if weighted else 0)
        rank = 0 if weighted else rank  # only the first weighted layer branches
        value = float(step.input[(0, *unit)])
        index = step.sources[0]
        path.append(Stop("" if index == MODEL_INPUT else trace.keys[index], unit, value, slope))
        if index == MODEL_INPUT:
            return path


Backward = Callable[[Trace, int, tuple[int, ...], float, int], tuple[tuple[int, ...], float]]


def _through_weights(
    trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int
) -> tuple[tuple[int, ...], float]:
    """To the input whose product with its weight pushes the score most (or the one of that rank)."""
    book, s = ledger(trace, trace.keys[index], *unit), trace.steps[index].settings
    pushes = (book.products * slope).flatten()
    inside = torch.ones_like(book.patch, dtype=torch.bool)
    if book.patch.ndim == 3:  # a zero of the border is nobody's output
        rows, columns = (
            at * stride - before + torch.arange(k) * gap
            for at, stride, (before, _), k, gap in zip(
                unit[1:], s["stride"], margins(s), s["kernel_size"], s["dilation"], strict=True
            )
        )
        height, width = trace.steps[index].input.shape[2:]
        inside &= ((rows >= 0) & (rows < height)).view(-1, 1) & ((columns >= 0) & (columns < width))
    if not 0 <= rank < int(inside.sum()):
        allowed = f"0 to {int(inside.sum()) - 1}" if inside.any() else "none: this unit sees only the border"
        raise MnistvizError("no path of this rank", given=rank, allowed=allowed)
    order = pushes.masked_fill(~inside.flatten(), -torch.inf).argsort(descending=True, stable=True)
    chosen = tuple(map(int, torch.unravel_index(order[rank], book.patch.shape)))
    slope *= float(book.kernel[chosen])
    if len(chosen) == 1:
        return chosen, slope
    return (book.inputs[chosen[0]], int(rows[chosen[1]]), int(columns[chosen[2]])), slope


def _through_pool(
    trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int
) -> tuple[tuple[int, ...], float]:
    winners = pool_winners(trace, trace.keys[index])
    return (unit[0], int(winners.y[(0, *unit)]), int(winners.x[(0, *unit)])), slope


def _through_average(
    trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int
) -> tuple[tuple[int, ...], float]:
    step = trace.steps[index]
    rows, columns = taps(step, 0, [unit[1]]), taps(step, 1, [unit[2]])
    part = step.input[0, unit[0], rows][:, columns]
    row, column = map(int, torch.unravel_index((part * slope).argmax(), part.shape))
    return (unit[0], rows[row], columns[column]), slope / part.numel()


def _through_gate(
    trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int
) -> tuple[tuple[int, ...], float]:
    return unit, slope * float(trace.steps[index].input[(0, *unit)] > 0)


def _through_norm(
    trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int
) -> tuple[tuple[int, ...], float]:
    step = trace.steps[index]
    if "running_var" not in step.weights:
        raise MnistvizError(f"a {step.kind} without running statistics has no slope of its own", given=step.name)
    gain = float(step.weight[unit[0]]) if step.weight is not None else 1.0
    return unit, slope * gain / math.sqrt(float(step.weights["running_var"][unit[0]]) + step.settings["eps"])


def _unflatten(
    trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int
) -> tuple[tuple[int, ...], float]:
    return tuple(map(int, torch.unravel_index(torch.tensor(unit[0]), trace.steps[index].input.shape[1:]))), slope


def _same(trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int) -> tuple[tuple[int, ...], float]:
    return unit, slope


def _through_scale(
    trace: Trace, index: int, unit: tuple[int, ...], slope: float, rank: int
) -> tuple[tuple[int, ...], float]:
    return unit, slope / trace.steps[index].settings["sd"]


BACKWARD: dict[str, Backward] = {
    "Conv2d": _through_weights,
    "Linear": _through_weights,
    "MaxPool2d": _through_pool,
    "AdaptiveAvgPool2d": _through_average,
    "ReLU": _through_gate,
    "BatchNorm1d": _through_norm,
    "BatchNorm2d": _through_norm,
    "Flatten": _unflatten,
    "Normalise": _through_scale,
    **dict.fromkeys(("Dropout", "Dropout2d", "Identity", "LogSoftmax"), _same),  # evaluation; scores only shift
}
