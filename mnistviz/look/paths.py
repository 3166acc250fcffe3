"""Which way the numbers went: winners of max-pools, open ReLU gates, the path from a score back to a pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mnistviz.errors import MnistvizError, refuse
from mnistviz.look.arithmetic import WEIGHTED, unit_of
from mnistviz.look.chain_rule import BACK, is_known, windows, winners
from mnistviz.look.field import source_of
from mnistviz.look.replay import place_of
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, sizes


@dataclass(frozen=True, eq=False)
class Winners:
    """For every output of a max-pool, where in its input the largest value stood: `winners.y[n, c, i, j]`."""

    y: Tensor
    x: Tensor


def pool_winners(trace: Trace, layer: str) -> Winners:
    """`pool_winners(trace, "pool1")`: the true winner of every window; of equals, the first."""
    step = trace.step_of_kind(layer, ("MaxPool2d",), " and has no winners", "no layer of this trace is a MaxPool2d")
    at, width = winners(step), step.input.shape[-1]
    return Winners(at // width, at % width)


def relu_gates(trace: Trace, layer: str) -> Tensor:
    """`relu_gates(trace, "relu1")`: True where the ReLU let its input through, False where it made a zero."""
    step = trace.step_of_kind(layer, ("ReLU",), " and has no gates", "no layer of this trace is a ReLU")
    return step.input > 0


def flow(trace: Trace, layer: str, back: bool = False) -> Tensor:
    """`flow(trace, "conv2")[o, i]`: all that input channel i gives to output channel o, its products w·a summed.

    Of a convolution that is the sum over the whole map, so a row, with the bias once for each of its
    pixels, adds up to the sum of that output map; of a linear layer it is the products themselves.
    With `back`, after `backward`, it is what came back from o to i, w·δ: a column adds up to that input map's δ.
    """
    trace.one_digit()
    step = trace.step_of_kind(layer, WEIGHTED, ": no weights mix its channels", "no layer of this trace")
    refuse("weight" not in step.weights, f"{layer!r} makes its weight anew in each pass")
    weight = step.weights["weight"].double()
    if step.kind == "Linear" and step.input.ndim != 2:
        raise MnistvizError(f"{layer!r} is applied to more than one row of features", given=sizes(step.inputs))
    delta = trace.delta_of(layer)[0].double() if back else None
    if step.kind == "Linear":
        return weight * (step.input[0].double() if delta is None else delta[:, None])
    met = windows(step, step.input if delta is None else torch.ones_like(step.input))[0]
    if delta is None:
        seen, sums = met.sum(3), "oiyx,iyx->oi"
    else:  # δ wherever a tap lies on the map
        seen, sums = torch.einsum("yxp,op->oyx", met[0], delta.flatten(1)), "oiyx,oyx->oi"
    groups, flows = step.settings["groups"], weight.new_zeros(len(weight), len(met))
    for g in range(groups):
        rows, columns = (slice(g * n // groups, (g + 1) * n // groups) for n in flows.shape)
        flows[rows, columns] = torch.einsum(sums, weight[rows], seen[columns if delta is None else rows])
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
    index, key, scores = len(trace) - 1, trace.keys[-1], trace.steps[-1].result
    refuse(scores.ndim != 2, "the trace does not end in a row of scores", given=sizes(trace.steps[-1].output))
    answer = int(scores[0].argmax()) if answer is None else answer
    unit, slope = unit_of(trace.steps[-1], key, answer, None, None), 1.0
    path = [Stop(key, unit, float(scores[(0, *unit)]), slope)]
    while index != MODEL_INPUT:
        step, source = trace.steps[index], source_of(trace, index)
        own = step.training or "running_var" not in step.weights
        if (step.training and step.kind.startswith("Dropout")) or (own and step.kind.startswith("BatchNorm")):
            state = "in training mode" if step.training else "without running statistics"
            fix = "capture without as_is: evaluation mode is the default" if step.training else ""
            what = f"a {step.kind} {state} depends on more than this digit"
            raise MnistvizError(what, given=trace.keys[index], fix=fix)
        refuse(not is_known(step), f"no path is known through a {step.kind}", given=trace.keys[index], allowed=BACK)
        if step.kind != "LogSoftmax":
            unit, slope = _through(step, unit, slope, rank if step.kind in WEIGHTED else 0)
            rank = 0 if step.kind in WEIGHTED else rank  # only the first weighted layer branches
        index = source
        name = "" if index == MODEL_INPUT else trace.keys[index]
        path.append(Stop(name, unit, float(step.input[(0, *unit)]), slope))
    return path


def _through(step: Step, unit: tuple[int, ...], slope: float, rank: int) -> tuple[tuple[int, ...], float]:
    """To the input that pushes the score most through this unit, or the one of that rank; and its slope."""
    one = torch.zeros_like(step.result, dtype=torch.double)
    one[(0, *unit)] = 1
    slopes = BACK[step.kind](step, one)[0]
    reached = slopes != 0
    if step.kind not in WEIGHTED and not reached.any():  # behind a closed gate, or where a curve is flat
        return unit, 0.0
    count = int(reached.sum())
    allowed = f"0 to {count - 1}" if count else "none: this unit sees only the border, or all its weights are 0"
    refuse(not 0 <= rank < count, "no path of this rank", given=rank, allowed=allowed)
    pushes = (slopes * slope * step.input[0]).masked_fill(~reached, -torch.inf)
    place = place_of(int(pushes.flatten().argsort(descending=True, stable=True)[rank]), pushes.shape)
    return place, slope * float(slopes[place])
