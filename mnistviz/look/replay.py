"""The proof of a trace: every step computed once more, from the record alone, by plain torch functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistviz.errors import refuse
from mnistviz.look.trace import MODEL_INPUT, Step, Trace, tensors


@dataclass(frozen=True, eq=False)
class Replay:
    """How far each recomputed output lies from the recorded one: `replay(trace).largest`, `.output`."""

    differences: dict[str, float]  # by step, the largest absolute difference
    output: Any  # of the model, recomputed; None if it is not the output of a recorded layer
    skipped: tuple[str, ...]  # steps of a kind that is not known here, taken from the record
    restarted: tuple[str, ...]  # steps whose input came from between the layers, taken from the record

    @property
    def largest(self) -> float:
        return max(self.differences.values(), default=0.0)

    def __repr__(self) -> str:
        text = f"Replay: {len(self.differences)} steps recomputed, largest difference {self.largest:.2g}"
        for what, names in (("not recomputed", self.skipped), ("started from the record", self.restarted)):
            text += f"; {what}: {', '.join(names)}" if names else ""
        return text


@torch.no_grad()
def replay(trace: Trace) -> Replay:
    """`replay(trace)` feeds the recorded input through the recorded weights and compares at every step.

    >>> mv.replay(trace).output.shape
    torch.Size([1, 10])
    >>> mv.replay(trace).largest < 1e-4
    True
    >>> len(mv.replay(trace).differences), mv.replay(trace).skipped
    (17, ())
    """
    values: list[Any] = []
    differences: dict[str, float] = {}
    skipped, restarted = [], []
    for key, step in trace.items():
        inputs, altered = [], 0.0
        for given, source in zip(tensors(step.inputs), step.sources, strict=True):
            if source is None or (source != MODEL_INPUT and not isinstance(values[source], Tensor)):
                restarted.append(key)
                inputs.append(given)
            else:
                inputs.append(given if source == MODEL_INPUT else values[source])
                altered = max(altered, distance(given, inputs[-1]))
        again = _again(step, inputs)
        if again is None:
            skipped.append(key)
        else:
            differences[key] = max(distance(again, step.result), altered)
        values.append(step.output if again is None else again)
    output = next((value for value, step in zip(values, trace.steps, strict=True) if step.output is trace.output), None)
    return Replay(differences, output, tuple(skipped), tuple(dict.fromkeys(restarted)))


def distance(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; places where both are not a number, or the same infinity, agree."""
    if a is b:
        return 0.0
    if a.shape != b.shape:
        return torch.inf
    gap = (a.double() - b.double()).abs().masked_fill((a == b) | (a.isnan() & b.isnan()), 0.0)
    return float(gap.nan_to_num(nan=torch.inf).max()) if gap.numel() else 0.0


def _again(step: Step, inputs: list[Tensor]) -> Tensor | None:
    """The output of a step by its functional form; None where there is none for its kind or its circumstances."""
    formula = FORMULAS.get(step.kind)
    random = step.training and step.kind.startswith(("Dropout", "BatchNorm"))  # depends on more than the record
    if formula is None or random or len(inputs) != 1 or not isinstance(step.output, Tensor):
        return None
    try:
        return formula(inputs[0], step.weights, step.settings)
    except (KeyError, TypeError):  # settings its formula does not know, such as a softmax that finds its own axis
        return None


def padded(x: Tensor, s: dict[str, Any]) -> Tensor:
    """The input of a 2-D convolution as its kernel meets it, border included."""
    (top, bottom), (left, right) = margins(s)
    mode = "constant" if s["padding_mode"] == "zeros" else s["padding_mode"]
    return F.pad(x, (left, right, top, bottom), mode=mode) if top or bottom or left or right else x


def margins(s: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows added above and below, columns left and right, by a 2-D convolution or pooling."""
    padding = s["padding"]
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        extra = [d * (k - 1) for d, k in zip(s["dilation"], s["kernel_size"], strict=True)]
        return (extra[0] // 2, extra[0] - extra[0] // 2), (extra[1] // 2, extra[1] - extra[1] // 2)
    vertical, horizontal = pair(padding)
    return (vertical, vertical), (horizontal, horizontal)


def under_window(step: Step, axis: int, place: int) -> list[int]:
    """Rows (axis 0) or columns (1) of a step's input under its window at a place of the output; beyond it is border."""
    kernel, stride, gap = (pair(step.settings.get(name, 1))[axis] for name in ("kernel_size", "stride", "dilation"))
    return [place * stride + tap * gap - margins(step.settings)[axis][0] for tap in range(kernel)]


def place_of(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    """`place_of(50, (2, 7, 7))` is `(1, 0, 1)`: where a flattened value stood."""
    return tuple(map(int, torch.unravel_index(torch.tensor(number), tuple(shape))))


def check_index(index: Sequence[int], shape: Sequence[int], what: str) -> None:
    """An error that says how these are counted, unless there is one of that index."""
    inside = len(index) == len(shape) and all(0 <= i < n for i, n in zip(index, shape, strict=True))
    refuse(not inside, f"no such {what}", given=tuple(index), allowed=", ".join(f"0 to {n - 1}" for n in shape))


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """`pair(2)` is `(2, 2)`: a setting for rows and columns."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _batch_norm(x: Tensor, w: dict[str, Tensor], s: dict[str, Any]) -> Tensor:
    mean, var = w.get("running_mean"), w.get("running_var")
    return F.batch_norm(x, mean, var, w.get("weight"), w.get("bias"), mean is None, 0.0, s["eps"])


MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")  # settings in the order of their function
RESIZE = ("mode", "align_corners", "recompute_scale_factor")
AVG_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
FORMULAS: dict[str, Callable[[Tensor, dict[str, Tensor], dict[str, Any]], Tensor]] = {
    "Conv2d": lambda x, w, s: F.conv2d(
        padded(x, s), w["weight"], w.get("bias"), s["stride"], 0, s["dilation"], s["groups"]
    ),
    "Linear": lambda x, w, s: F.linear(x, w["weight"], w.get("bias")),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), _batch_norm),
    "LayerNorm": lambda x, w, s: F.layer_norm(x, s["normalized_shape"], w.get("weight"), w.get("bias"), s["eps"]),
    "GroupNorm": lambda x, w, s: F.group_norm(x, s["num_groups"], w.get("weight"), w.get("bias"), s["eps"]),
    "Normalise": lambda x, w, s: (x - s["mean"]) / s["sd"],
    "ReLU": lambda x, w, s: x.clamp(min=0),
    "ReLU6": lambda x, w, s: x.clamp(0, 6),
    "LeakyReLU": lambda x, w, s: F.leaky_relu(x, s["negative_slope"]),
    "GELU": lambda x, w, s: F.gelu(x, approximate=s["approximate"]),
    "SiLU": lambda x, w, s: F.silu(x),
    "Sigmoid": lambda x, w, s: x.sigmoid(),
    "Tanh": lambda x, w, s: x.tanh(),
    "Softmax": lambda x, w, s: x.softmax(int(s["dim"])),
    "LogSoftmax": lambda x, w, s: x.log_softmax(int(s["dim"])),
    "MaxPool2d": lambda x, w, s: F.max_pool2d(x, *(s[key] for key in MAX_POOL)),
    "AvgPool2d": lambda x, w, s: F.avg_pool2d(x, *(s[key] for key in AVG_POOL)),
    "AdaptiveAvgPool2d": lambda x, w, s: F.adaptive_avg_pool2d(x, s["output_size"]),
    "Flatten": lambda x, w, s: x.flatten(s["start_dim"], s["end_dim"]),
    "Identity": lambda x, w, s: x,
    "ZeroPad2d": lambda x, w, s: F.pad(x, s["padding"]),
    "Upsample": lambda x, w, s: F.interpolate(x, s["size"], s["scale_factor"], *(s[key] for key in RESIZE)),
    **{f"Dropout{n}": lambda x, w, s: x for n in ("", "1d", "2d")},  # evaluation: everything passes
}
