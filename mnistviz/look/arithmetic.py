"""The arithmetic of one number: which products make a pixel, and why a layer's output has the size it has."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mnistviz.errors import MnistvizError, refuse
from mnistviz.look.replay import margins, padded, pair, under_window
from mnistviz.look.trace import Step, Trace, sizes, times

WEIGHTED = ("Conv2d", "Linear")  # layers whose outputs are sums of products
GATES = ("ReLU", "LeakyReLU", "GELU", "SiLU", "Sigmoid", "Tanh", "Identity", "Dropout", "Dropout1d", "Dropout2d")
POINTWISE = ("Normalise", "BatchNorm1d", "BatchNorm2d", *GATES)  # layers that treat each value by itself


@dataclass(frozen=True, eq=False)
class Ledger:
    """One value as a sum: `patch * kernel` is `products`; `sums` of them by input channel, plus `bias`, is `total`."""

    layer: str
    kind: str
    unit: tuple[int, ...]  # channel, y, x; of a linear layer only its number
    patch: Tensor  # what the unit sees, (channels, height, width) or (features,); border included
    kernel: Tensor  # its weights, of the same shape
    bias: float
    recorded: float  # what the network computed
    inputs: range  # the input channels or features it reads

    @property
    def products(self) -> Tensor:
        return self.patch * self.kernel

    @property
    def sums(self) -> Tensor:
        """One per input channel, float64; of a linear layer the products themselves."""
        products = self.products.double()
        return products.sum((1, 2)) if products.ndim == 3 else products

    @property
    def total(self) -> float:
        return float(self.sums.sum()) + self.bias

    def __repr__(self) -> str:
        names = ("channel", "y", "x") if len(self.unit) == 3 else ("unit",)
        where = ", ".join(f"{name} {i}" for name, i in zip(names, self.unit, strict=True))
        part = "channel" if self.patch.ndim == 3 else "feature"
        order = self.sums.abs().argsort(descending=True, stable=True)
        lines = [f"{self.layer}, {where}: {self.patch.numel()} products in {len(self.sums)} {part} sums"]
        lines += [f"  {part} {self.inputs[int(i)]:<4d} {self.sums[i]:+.6f}" for i in order[:4]]
        if len(order) > 4:
            lines.append(f"  {f'{len(order) - 4} others':<{len(part) + 5}} {self.sums[order[4:]].sum():+.6f}")
        lines.append(f"  {'bias':<{len(part) + 5}} {self.bias:+.6f}")
        lines.append(f"  {'total':<{len(part) + 5}} {self.total:+.6f}   recorded {self.recorded:+.6f}")
        return "\n".join(lines)


def ledger(trace: Trace, layer: str, channel: int, y: int | None = None, x: int | None = None) -> Ledger:
    """`ledger(trace, "conv2", channel=5, y=3, x=7)`; of a linear layer `ledger(trace, "fc2", 7)`.

    Channel, y and x count from 0; y goes down from the top, x to the right.

    >>> mv.ledger(trace, "conv2", channel=5, y=3, x=7).products.shape
    torch.Size([8, 3, 3])
    >>> mv.ledger(trace, "fc1", 7).products.shape
    torch.Size([1568])
    >>> pixel = mv.ledger(trace, "conv2", channel=5, y=3, x=7)
    >>> abs(pixel.total - pixel.recorded) < 1e-4
    True
    """
    trace.one_digit()
    none, fix = "no layer of this trace", "ask one of these, convolutions and linear layers"
    step = trace.step_of_kind(layer, WEIGHTED, " and multiplies no weights with a patch", none, fix)
    unit = unit_of(step, layer, channel, y, x)
    what, fix = f"{layer!r} makes its weight anew in each pass", "make it a parameter: nn.utils.remove_weight_norm"
    refuse("weight" not in step.weights, what, fix=fix)
    if step.kind == "Linear" and len(unit) != 1:
        raise MnistvizError(f"{layer!r} is applied to more than one row of features", given=sizes(step.inputs))
    weight, recorded = step.weights["weight"], float(step.result[(0, *unit)])
    kernel, bias = weight[channel], 0.0 if step.bias is None else float(step.bias[channel])
    if len(unit) == 1:
        return Ledger(layer, step.kind, unit, step.input[0], kernel, bias, recorded, range(len(kernel)))
    first = channel // (len(weight) // step.settings["groups"]) * len(kernel)
    inputs = range(first, first + len(kernel))  # the input channels that its group reads
    (top, _), (left, _) = margins(step.settings)
    rows = [row + top for row in under_window(step, 0, unit[1])]
    columns = [column + left for column in under_window(step, 1, unit[2])]
    patch = padded(step.input, step.settings)[0, inputs.start : inputs.stop, rows][:, :, columns]
    return Ledger(layer, step.kind, unit, patch, kernel, bias, recorded, inputs)


def unit_of(step: Step, layer: str, channel: int, y: int | None, x: int | None) -> tuple[int, ...]:
    """The index of a unit in the output of one digit, or an error that says how units are counted here."""
    shape = step.result.shape[1:]
    given = [i for i in (channel, y, x) if i is not None]
    counted = ", ".join(f"{n} 0 to {size - 1}" for n, size in zip(("channel", "y", "x"), shape, strict=False))
    refuse(len(shape) not in (1, 3), f"the output of {layer!r} has no units to point at", given=sizes(step.output))
    what, fix = f"that does not name one unit of {layer!r}", "give channel, y and x; of a linear layer only its number"
    refuse(len(given) != len(shape), what, given=tuple(given), allowed=counted, fix=fix)
    if not all(0 <= i < size for i, size in zip(given, shape, strict=True)):
        what = f"no such unit in {layer!r}, whose output is {sizes(step.output)}"
        named = ", ".join(f"{n} {i}" for n, i in zip(("channel", "y", "x"), given, strict=False))
        raise MnistvizError(what, given=named, allowed=f"{counted}; counted from 0, y from the top")
    return tuple(given)


@dataclass(frozen=True)
class Formula:
    """Why an output has its size and how many weights that takes, with the layer's own numbers filled in."""

    size: str  # "(28 + 2·1 − 3) / 1 + 1 = 28"
    shape: tuple[int, ...]  # what the formula gives
    weights: str  # "32 · (1·3·3 + 1) = 320"
    parameters: int


def shape_formula(trace: Trace, layer: str) -> Formula:
    """`shape_formula(trace, "conv1").size` is `(28 + 2·1 − 3) / 1 + 1 = 28`, and `.weights` `32·(1·3·3 + 1) = 320`."""
    step = trace[layer]
    shape, s = tuple(step.input.shape[1:]), step.settings
    if step.kind in ("Conv2d", "MaxPool2d", "AvgPool2d"):
        (rows, high), (columns, wide) = (_side(step, axis) for axis in (0, 1))
        size = rows if rows == columns else f"rows {rows}; columns {columns}"
        shape = (s["out_channels"] if step.kind == "Conv2d" else shape[0], high, wide)
    elif step.kind == "Flatten":
        first, last = (d % step.input.ndim - 1 for d in (s["start_dim"], s["end_dim"]))
        part = shape[first : last + 1]
        size = f"{' · '.join(map(str, part))} = {math.prod(part)}"
        shape = (*shape[:first], math.prod(part), *shape[last + 1 :])
    elif step.kind == "Linear":
        size, shape = f"{s['in_features']} → {s['out_features']}", (*shape[:-1], s["out_features"])
    elif step.kind == "AdaptiveAvgPool2d":
        out = tuple(n or was for n, was in zip(pair(s["output_size"]), shape[1:], strict=True))
        size, shape = f"{times(shape[1:])} → {times(out)}", (shape[0], *out)
    else:
        given = f"{sizes(step.inputs)} → {sizes(step.output)}"
        what = f"no size formula is known for {layer!r}, a {step.kind}"
        refuse(step.input.shape != step.result.shape, what, given=given)
        size = "each value by itself: the size stays" if step.kind in POINTWISE else "the size stays"
    return Formula(size, shape, *_weights(step))


def _side(step: Step, axis: int) -> tuple[str, int]:
    """One side of a sliding window, rows (axis 0) or columns: the formula with its numbers, and what it gives."""
    s, n = step.settings, step.input.shape[2 + axis]
    before, after = margins(s)[axis]
    kernel, stride, dilation = (pair(s.get(name, 1))[axis] for name in ("kernel_size", "stride", "dilation"))
    strides, rest = divmod(n + before + after - dilation * (kernel - 1) - 1, stride)
    one_more = s.get("ceil_mode", False) and rest > 0 and (strides + 1) * stride < n + before  # if it begins inside
    out = strides + 1 + one_more
    window = str(kernel) if dilation == 1 else f"({dilation}·({kernel} − 1) + 1)"
    border = "" if not before + after else f" + 2·{before}" if before == after else f" + {before + after}"
    share = f"({n}{border} − {window}) / {stride}"
    if rest:
        share = f"⌈{share}⌉" if one_more else f"⌊{share}⌋"
    return f"{share} + 1 = {out}", out


def _weights(step: Step) -> tuple[str, int]:
    s, count = step.settings, step.parameters
    if step.kind in WEIGHTED:
        if step.kind == "Conv2d":
            (height, width), units = s["kernel_size"], s["out_channels"]
            sums = f"{s['in_channels'] // s['groups']}·{height}·{width}"
        else:
            sums, units = str(s["in_features"]), s["out_features"]
        return f"{units} · {sums if step.bias is None else f'({sums} + 1)'} = {count:,}", count
    plural = {"weight": "weights", "bias": "biases"}
    named = [f"{step.weights[name].numel()} {plural.get(name, name)}" for name in s["parameters"]]
    return (f"{' + '.join(named)} = {count:,}" if count else "none"), count


def describe(trace: Trace) -> list[dict[str, Any]]:
    """`pandas.DataFrame(describe(trace))`: every step with the formula of its size and of its parameters."""
    rows = []
    for key, step in trace.items():
        formula = shape_formula(trace, key)
        row = {"layer": key, "kind": step.kind, "input": sizes(step.inputs), "output": sizes(step.output)}
        rows.append(row | {"size": formula.size, "parameters": formula.weights})
    return rows
