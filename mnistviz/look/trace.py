"""The record of one forward pass: which layers ran, on what, with which weights, and what came out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, is_dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils._pytree import tree_leaves

from mnistviz.errors import MnistvizError, refuse

CALL = "with mv.capture(model) as trace: model(digit.pixels)"
Links = tuple[GradientEdge | None, dict[str, Tensor]]  # where in autograd's graph an output stands; the weights
Index = tuple[int, ...] | int  # of one weight or unit
MODEL_INPUT = -1  # a source that is not a step but the model's own input


@dataclass(frozen=True, eq=False)
class Step:
    """One call of one layer: `step.input`, `step.output`, `step.weight`, `step.settings["stride"]`.

    All tensors are copies made at the moment of the call; nothing that runs later can change them.
    """

    name: str
    call: int  # 0 for the first call of this layer in the pass, 1 for its second …
    kind: str  # the class of the layer: "Conv2d"
    inputs: tuple[Any, ...]  # arguments by position, then those by keyword
    output: Any
    weights: dict[str, Tensor]  # its own parameters and buffers
    settings: dict[str, Any]  # its other public attributes: stride, padding, eps …
    sources: tuple[int | None, ...]  # for each input the step it came from; None: from between the layers
    training: bool
    live: Tensor | None = field(default=None, repr=False)  # the output itself, for torch.autograd.grad
    mask: Tensor | None = None  # of a dropout in training, what it multiplied by; recorded with gradients
    delta: Tensor | None = None  # δ = ∂loss/∂output; after `backward`, as are …
    gradients: dict[str, Tensor] = field(default_factory=dict)  # … ∂loss/∂weight, by name
    elsewhere: tuple[str, ...] = ()  # "output" and weights that the loss also met where no recorded layer used them

    @property
    def input(self) -> Tensor:
        """The first tensor that went in."""
        return _only_tensor(self.inputs, f"the input of {self.name!r}")

    @property
    def result(self) -> Tensor:
        """The output as one tensor; the first, where a layer returns several."""
        return _only_tensor(self.output, f"the output of {self.name!r}")

    @property
    def weight(self) -> Tensor | None:
        return self.weights.get("weight")

    @property
    def bias(self) -> Tensor | None:
        return self.weights.get("bias")

    @property
    def parameters(self) -> int:
        """How many numbers of this layer are learned; running statistics are not."""
        return sum(w.numel() for name, w in self.weights.items() if name in self.settings["parameters"])

    def __repr__(self) -> str:
        again = f", call {self.call}" if self.call else ""
        return f"Step({self.name!r}{again}: {self.kind}, {sizes(self.inputs)} → {sizes(self.output)})"


@dataclass(eq=False, repr=False)
class Trace:
    """`trace["conv2"].output`: the steps of one forward pass in their order; printing it gives the table.

    A layer that ran several times has a step for every call: `trace["relu:0"]`, `trace["relu:1"]`.
    """

    known: tuple[str, ...]  # every layer the model has
    chosen: tuple[str, ...]  # those that are recorded
    steps: list[Step] = field(default_factory=list)
    inputs: tuple[Any, ...] | None = None  # of the model; None until it is called
    output: Any = None
    complete: bool = False  # the forward pass came to its end
    notes: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)  # other names of recorded layers
    graph: list[Links] = field(default_factory=list)  # for `backward`: of the input, then of each step
    loss: float | None = None  # what `backward` went back from …
    labels: Tensor | None = None  # … and the right answers, if it was their cross-entropy
    delta: Tensor | None = None  # ∂loss/∂input
    elsewhere: bool = False  # the input also went where no recorded layer took it

    @property
    def input(self) -> Tensor:
        """What the model was given, (N, …)."""
        refuse(self.inputs is None, "this trace is empty: the model was not called inside the capture", fix=CALL)
        return _only_tensor(self.inputs, "the model's input")

    @property
    def keys(self) -> list[str]:
        """What each step is called here, in order: its layer's name, with `:call` where there were several."""
        return keys_of([(step.name, step.call) for step in self.steps])

    def __getitem__(self, layer: str | int | tuple[str, int]) -> Step:
        return self.steps[self.index(layer)]

    def index(self, layer: str | int | tuple[str, int]) -> int:
        """Where a layer's step stands in `steps`; an error says what there is."""
        if isinstance(layer, int):
            refuse(not -len(self) <= layer < len(self), "no such step", given=layer, allowed=f"0 to {len(self) - 1}")
            return layer % len(self)
        name = ":".join(map(str, layer)) if isinstance(layer, tuple) else layer
        bare, colon, call = name.partition(":")
        name = self.aliases.get(bare, bare) + colon + call
        what = f"no call seen for layer {name!r}: the model was not called inside the capture"
        refuse(name in self.known and self.inputs is None and not self.steps, what, fix=CALL)
        why = "the pass did not call it" if name in self.chosen else "it was not among the layers to record"
        return position(name, [(step.name, step.call) for step in self.steps], self.known, why)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.steps)

    def items(self) -> list[tuple[str, Step]]:
        """Each step after its key, in order: `for key, step in trace.items()`."""
        return list(zip(self.keys, self.steps, strict=True))

    def of_kind(self, *kinds: str) -> dict[str, Step]:
        """`trace.of_kind("Conv2d", "Linear")`: the steps of these kinds, by key, in order."""
        return {key: step for key, step in self.items() if step.kind in kinds}

    def step_of_kind(self, layer: str, kinds: tuple[str, ...], lack: str, none: str, fix: str = "") -> Step:
        """A layer's step; if it is of no such kind, an error says what it lacks, and which layers are, or `none`."""
        step, allowed = self[layer], ", ".join(self.of_kind(*kinds)) or none
        refuse(step.kind not in kinds, f"{layer!r} is a {step.kind}{lack}", allowed=allowed, fix=fix)
        return step

    def delta_of(self, layer: str) -> Tensor:
        """δ of a layer's output, or an error that says why there is none."""
        refuse(self.loss is None, "nobody has gone back through this trace yet", fix="backward(trace, labels=[7])")
        delta = self[layer].delta
        if delta is None:
            fix = "make the loss of what this layer feeds, with no detach() or no_grad() between"
            raise MnistvizError(f"the loss does not depend on {layer!r}", fix=fix)
        return delta

    def last_linear(self) -> str:
        """The layer that makes the scores: what goes into it is the last thing the network knows of a digit."""
        linear = list(self.of_kind("Linear"))
        refuse(not linear, "no linear layer was recorded", given=", ".join(self.keys), fix="record the last one")
        return linear[-1]

    def scores_at(self) -> int:
        """The step whose output is the model's."""
        made = [i for i, step in enumerate(self.steps) if step.output is self.output]
        what = "the model's output is not that of a recorded layer"
        refuse(not made, what, fix="record all layers, or pass the loss itself")
        return made[-1]

    def probabilities(self) -> Tensor:
        """Of each digit, (N, 10): the softmax of what the pass ends in, or that itself if a softmax has made it."""
        last = self.steps[-1]
        return last.result.double() if last.kind == "Softmax" else last.result.double().softmax(1)

    def one_digit(self) -> Tensor:
        """The input, (1, …), or an error if several digits went through together."""
        count, what = len(self.input), "this looks at one digit, and the trace holds a batch"
        fix = "capture model(digits[i].pixels), which is a batch of one"
        refuse(count != 1, what, given=f"{count} inputs of {sizes(self.input)}", fix=fix)
        return self.input

    def stages(self) -> list[list[int]]:
        """The steps in groups, each led by a layer that mixes its inputs with weights: conv1 bn1 relu1, conv2 …"""
        groups: list[list[int]] = []
        for i, step in enumerate(self.steps):
            mixes = step.weight is not None and step.weight.ndim > 1
            if not groups or (mixes and any(self.steps[j].weight is not None for j in groups[-1])):
                groups.append([])
            groups[-1].append(i)
        return groups

    def result_of(self, stage: list[int]) -> int:
        """The step whose output stands for a stage: its last that is more than a change of form."""
        kept = [i for i in stage if not self.steps[i].kind.startswith(("Dropout", "Flatten", "Identity"))]
        return (kept or stage)[-1]

    def __repr__(self) -> str:
        if not self.steps:
            return "\n".join(["Trace(nothing recorded yet)", *(f"note: {note}" for note in self.notes)])
        rows = [("step", "kind", "output", "parameters", "values", "zeros")]
        for key, step in self.items():
            rows.append((key or "(model)", step.kind, sizes(step.output), f"{step.parameters:,}", *_range(step.output)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        sides = "<<<><>"  # the columns of numbers stand to the right
        line = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
        ends = f"{sizes(self.inputs)} → {sizes(self.output)}" if self.complete else "a pass that did not end"
        counts = [len(x) if x.ndim else 1 for x in tensors(self.inputs)]
        batch = "" if not counts else " of one input" if counts[0] == 1 else f" of {counts[0]} inputs"
        head = f"Trace{batch}: {ends}, {len(self.steps)} steps"
        table = [line.format(*row).rstrip() for row in rows]
        return "\n".join([head, *table, *(f"note: {note}" for note in self.notes)])


def keys_of(calls: list[tuple[str, int]]) -> list[str]:
    """`relu:0`, `relu:1` for a layer that ran twice, plain `conv1` for one that ran once."""
    count = Counter(name for name, _ in calls)
    return [f"{name}:{call}" if count[name] > 1 else name for name, call in calls]


def position(layer: str, calls: list[tuple[str, int]], known: tuple[str, ...], why: str) -> int:
    """Where a layer's call stands among those recorded; an error says what there is, or why it is not there."""
    keys = keys_of(calls)
    if layer in keys:
        return keys.index(layer)
    several = [key for key, (name, _) in zip(keys, calls, strict=True) if name == layer]
    refuse(len(several) > 1, f"layer {layer!r} ran {len(several)} times; say which", allowed=several)
    if layer.removesuffix(":0") in keys:
        return keys.index(layer.removesuffix(":0"))
    refuse(layer in known, f"no call seen for layer {layer!r}: {why}", allowed=keys or "nothing was recorded")
    raise unknown_layer(layer, keys)


def unknown_layer(name: str, names: list[str]) -> MnistvizError:
    near = " or ".join(map(repr, get_close_matches(name, names, n=2)))
    fix = f"did you mean {near}?" if near else "choose one of these names, or a pattern: 'conv*'"
    return MnistvizError("unknown layer", given=name, allowed=names or "none: there are no layers", fix=fix)


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a nest of tuples, lists and dictionaries, in order."""
    nest = dict(vars(value)) if is_dataclass(value) and not isinstance(value, type) else value
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def times(shape: Iterable[int]) -> str:
    """`times((32, 28, 28))` is `32×28×28`."""
    return "×".join(map(str, shape))


def sizes(value: Any) -> str:
    """Sizes without the batch: `32×28×28`; several tensors are joined by `, `."""
    return ", ".join(times(t.shape[1:]) or "1" for t in tensors(value)) or "no tensor"


def _only_tensor(value: Any, what: str) -> Tensor:
    first = tensors(value)[:1]
    refuse(not first, f"{what} holds no tensor", given=type(value).__name__)
    return first[0]


def _range(value: Any) -> tuple[str, str]:
    """Smallest and largest value and the share of zeros; values that are not numbers are counted, not hidden."""
    first = tensors(value)[:1]
    if not first or not first[0].numel():
        return "", ""
    x = (first[0].detach().abs() if first[0].is_complex() else first[0].detach()).double()
    finite = x[x.isfinite()]
    text = f"{finite.min():.2f} … {finite.max():.2f}" if len(finite) else "none"
    not_finite = x.numel() - len(finite)
    return text + (f", {not_finite:,} not finite" if not_finite else ""), f"{(x == 0).double().mean():.0%}"
