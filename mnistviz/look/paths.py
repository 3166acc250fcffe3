"""Which way the numbers went: winners of max-pools, open ReLU gates, the path from a score back to a pixel."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistviz.errors import MnistvizError, refuse
from mnistviz.look.arithmetic import WEIGHTED, ledger_of, unit_of
from mnistviz.look.field import no_way_back, taps
from mnistviz.look.replay import MAX_POOL, padded, place_of, under_window
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, sizes


@dataclass(frozen=True, eq=False)
class Winners:
    """For every output of a max-pool, where in its input the largest value stood: `winners.y[n, c, i, j]`."""

    y: Tensor
    x: Tensor


def pool_winners(trace: Trace, layer: str) -> Winners:
    """`pool_winners(trace, "pool1")`: the true winner of every window; of equals, the first."""
    return winners_of(_of_kind(trace, layer, "MaxPool2d", "winners"))


def relu_gates(trace: Trace, layer: str) -> Tensor:
    """`relu_gates(trace, "relu1")`: True where the ReLU let its input through, False where it made a zero."""
    return _of_kind(trace, layer, "ReLU", "gates").input > 0


def _of_kind(trace: Trace, layer: str, kind: str, what: str) -> Step:
    step = trace[layer]
    allowed = ", ".join(trace.of_kind(kind)) or f"no layer of this trace is a {kind}"
    refuse(step.kind != kind, f"{layer!r} is a {step.kind} and has no {what}", allowed=allowed)
    return step


def winners_of(step: Step) -> Winners:
    """The same for a step, whose kind is known."""
    _, at = F.max_pool2d(step.input.contiguous(), *(step.settings[key] for key in MAX_POOL), return_indices=True)
    width = step.input.shape[-1]
    return Winners(at // width, at % width)


def flow(trace: Trace, layer: str, back: bool = False) -> Tensor:
    """`flow(trace, "conv2")[o, i]`: all that input channel i gives to output channel o, its products w·a summed.

    Of a convolution that is the sum over the whole map, so a row, with the bias once for each of its
    pixels, adds up to the sum of that output map; of a linear layer it is the products themselves.
    With `back`, after `backward`, it is what came back from o to i, w·δ: a column adds up to that δ map of the input.
    """
    trace.one_digit()
    step = trace[layer]
    if step.kind not in WEIGHTED or step.weight is None:
        allowed = ", ".join(trace.of_kind(*WEIGHTED)) or "no layer of this trace"
        raise MnistvizError(f"{layer!r} is a {step.kind}: no weights mix its channels", allowed=allowed)
    weight = step.weight.double()
    if back and step.delta is None:
        raise MnistvizError(f"nothing has come back to {layer!r}", fix="backward(trace, labels=[7])")
    if step.kind == "Linear" and step.input.ndim != 2:
        raise MnistvizError(f"{layer!r} is applied to more than one row of features", given=sizes(step.inputs))
    delta = step.delta[0].double() if back and step.delta is not None else None
    if step.kind == "Linear":
        return weight * (step.input[0].double() if delta is None else delta[:, None])
    s, into = step.settings, step.input.shape[1]
    x = step.input.double() if delta is None else torch.ones_like(step.input).double()
    windows = F.unfold(padded(x, s), s["kernel_size"], s["dilation"], 0, s["stride"])
    windows = windows[0].view(into, *weight.shape[2:], -1)  # what each tap of the kernel meets, position by position
    if delta is None:
        met, sums = windows.sum(3), "oiyx,iyx->oi"
    else:  # δ wherever the tap lies on the map
        met, sums = torch.einsum("yxp,op->oyx", windows[0], delta.flatten(1)), "oiyx,oyx->oi"
    groups, flows = s["groups"], weight.new_zeros(len(weight), into)
    for g in range(groups):
        rows, columns = (slice(g * n // groups, (g + 1) * n // groups) for n in flows.shape)
        flows[rows, columns] = torch.einsum(sums, weight[rows], met[columns if delta is None else rows])
    return flows


@dataclass(frozen=True)
class Stop:
    """One station of a winning path: a unit, its value, and how strongly the score rises with it."""

    layer: str  # "" is the model's input
    unit: tuple[int, ...]
    value: float
    slope: float  # ∂score/∂value along this path; a log-softmax only shifts scores, and counts as 1


def winning_path(trace: Trace, answer: int | None = None, rank: int = 0) -> list[Stop]:
    """`winning_path(trace, 7)`: from the score for 7 back to one pixel, by what pushed it up most.

    At each weighted layer the path takes the largest product of weight and value (times what lies above
    it), at each max-pool the pixel that won, and at a ReLU it passes where the gate is open. `rank` 1, 2 …
    start from the second, third … largest product. By default the answer is the model's own.
    """
    trace.one_digit()
    index = trace.index(trace.keys[-1])
    last, key = trace.steps[index], trace.keys[index]
    scores = last.result
    refuse(scores.ndim != 2, "the trace does not end in a row of scores", given=sizes(last.output))
    answer = int(scores[0].argmax()) if answer is None else answer
    unit, slope = unit_of(last, key, answer, None, None), 1.0
    path = [Stop(key, unit, float(scores[(0, *unit)]), slope)]
    while True:
        step = trace.steps[index]
        if len(step.sources) != 1 or step.sources[0] is None:
            raise no_way_back(trace, index)
        if step.training and step.kind.startswith(("Dropout", "BatchNorm")):
            what = f"a {step.kind} in training mode depends on more than this digit"
            fix = "capture without as_is: evaluation mode is the default"
            raise MnistvizError(what, given=trace.keys[index], fix=fix)
        if step.kind in WEIGHTED:
            unit, slope = _through_weights(step, unit, slope, rank)
            rank = 0  # only the first weighted layer branches
        elif step.kind in BACKWARD:
            unit, slope = BACKWARD[step.kind](step, unit, slope)
        else:
            known = ", ".join((*WEIGHTED, *BACKWARD))
            raise MnistvizError(f"no path is known through a {step.kind}", given=trace.keys[index], allowed=known)
        value = float(step.input[(0, *unit)])
        index = step.sources[0]
        path.append(Stop("" if index == MODEL_INPUT else trace.keys[index], unit, value, slope))
        if index == MODEL_INPUT:
            return path


Unit = tuple[int, ...]


def _through_weights(step: Step, unit: Unit, slope: float, rank: int) -> tuple[Unit, float]:
    """To the input whose product with its weight pushes the score most (or the one of that rank)."""
    ledger = ledger_of(step, unit)
    pushes = (ledger.products * slope).flatten()
    on_map = torch.ones_like(ledger.patch, dtype=torch.bool)
    if on_map.ndim == 3:  # a zero of the border is nobody's output
        rows, columns = under_window(step, 0, unit[1]), under_window(step, 1, unit[2])
        height, width = step.input.shape[2:]
        on_map[:, [not 0 <= row < height for row in rows]] = False
        on_map[:, :, [not 0 <= column < width for column in columns]] = False
    count = int(on_map.sum())
    allowed = f"0 to {count - 1}" if count else "none: this unit sees only the border"
    refuse(not 0 <= rank < count, "no path of this rank", given=rank, allowed=allowed)
    order = pushes.masked_fill(~on_map.flatten(), -torch.inf).argsort(descending=True, stable=True)
    chosen = place_of(int(order[rank]), ledger.patch.shape)
    slope *= float(ledger.kernel[chosen])
    if len(chosen) == 1:
        return chosen, slope
    channel, i, j = chosen
    return (ledger.inputs[channel], rows[i], columns[j]), slope


def _through_pool(step: Step, unit: Unit, slope: float) -> tuple[Unit, float]:
    winners = winners_of(step)
    return (unit[0], int(winners.y[(0, *unit)]), int(winners.x[(0, *unit)])), slope


def _through_average(step: Step, unit: Unit, slope: float) -> tuple[Unit, float]:
    rows, columns = taps(step, 0, [unit[1]]), taps(step, 1, [unit[2]])
    part = step.input[0, unit[0], rows][:, columns]
    row, column = place_of(int((part * slope).argmax()), part.shape)
    return (unit[0], rows[row], columns[column]), slope / part.numel()


def _through_batch_norm(step: Step, unit: Unit, slope: float) -> tuple[Unit, float]:
    if "running_var" not in step.weights:
        raise MnistvizError(f"a {step.kind} without running statistics has no slope of its own", given=step.name)
    gain = float(step.weight[unit[0]]) if step.weight is not None else 1.0
    return unit, slope * gain / math.sqrt(float(step.weights["running_var"][unit[0]]) + step.settings["eps"])


BACKWARD: dict[str, Callable[[Step, Unit, float], tuple[Unit, float]]] = {
    "MaxPool2d": _through_pool,
    "AdaptiveAvgPool2d": _through_average,
    "BatchNorm1d": _through_batch_norm,
    "BatchNorm2d": _through_batch_norm,
    "ReLU": lambda step, unit, slope: (unit, slope if step.input[(0, *unit)] > 0 else 0.0),
    "Normalise": lambda step, unit, slope: (unit, slope / step.settings["sd"]),
    "Flatten": lambda step, unit, slope: (place_of(unit[0], step.input.shape[1:]), slope),
    # dropout does nothing in evaluation, and a log-softmax only shifts the scores
    **dict.fromkeys(("Dropout", "Dropout2d", "Identity", "LogSoftmax"), lambda step, unit, slope: (unit, slope)),
}
