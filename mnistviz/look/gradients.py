"""The way back: δ of every step, the ledger of every gradient, and the proof."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from mnistviz.errors import MnistvizError, one_of, refuse
from mnistviz.look import chain_rule
from mnistviz.look.arithmetic import unit_of
from mnistviz.look.graph import open_ends
from mnistviz.look.replay import Replay, check_index, distance, place_of
from mnistviz.look.trace import MODEL_INPUT, Index, Trace, tensors

Asked = Index | None


def backward(trace: Trace, loss: Tensor | None = None, *, labels: Any = None) -> Trace:
    """`backward(trace, labels=[7])`, or `backward(trace, loss)`: the way back, written into the trace.

    Afterwards `trace["conv2"].delta` is ∂loss/∂output, `trace["conv2"].gradients["weight"]` that of its weights,
    `trace.delta` that of the input. With labels the loss is their mean cross-entropy. `.grad` stays as it is.

    >>> with mv.capture(model, gradients=True) as trace:
    ...     scores = model(test[0].pixels)
    >>> mv.backward(trace, labels=[7])["conv2"].delta.shape
    torch.Size([1, 16, 14, 14])
    """
    whole = trace.input.ndim == 4 and not trace.input.is_floating_point()
    refuse(not trace.graph, "this trace holds no gradients", fix="with mv.capture(model, gradients=True) as trace: …")
    refuse(whole, "no gradient flows to whole numbers", given=trace.input.dtype, fix="pass digits.pixels, in [0, 1]")
    if isinstance(loss, Tensor) == (labels is not None):
        raise MnistvizError("say what to go back from: a loss, or the labels", fix="backward(trace, labels=[7])")
    if loss is None:
        last = trace.steps[trace.scores_at()]
        scores = last.result
        labels = torch.as_tensor(labels, device=scores.device).flatten().long()
        refuse(scores.ndim != 2, "labels need a row of scores for each digit", given=f"scores {tuple(scores.shape)}")
        refuse(len(labels) != len(scores), "one label for each digit", given=len(labels), allowed=str(len(scores)))
        one_of("label", labels.tolist(), scores.shape[1])
        assert last.live is not None
        with torch.enable_grad():
            loss = F.cross_entropy(last.live, labels)
    refuse(loss.numel() != 1, "a loss is one number", given=f"{tuple(loss.shape)}", fix="take its mean or its sum")
    edges = [edge for edge, _ in trace.graph]
    what = "this loss depends on nothing that was recorded"
    fix = "run the model outside torch.no_grad() and torch.inference_mode(), and make the loss of its output"
    refuse(loss.grad_fn is None or not any(edges), what, fix=fix)
    weights = list({id(w): w for _, own in trace.graph for w in own.values()}.values())
    wanted: Any = [*(edge for edge in edges if edge is not None), *weights]
    try:
        gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        why = str(error).split(":")[0].split(".")[0]
        order = "call backward before loss.backward() (or retain_graph=True) and before optimiser.step()"
        fix = f"{order}; build layers with inplace=False"
        raise MnistvizError(f"autograd cannot go back through this pass: {why}", fix=fix) from error
    refuse(all(gradient is None for gradient in gradients), what, fix=fix)
    at_edges = iter(gradients)  # tensors that autograd made for us alone: nothing to copy
    deltas = [None if edge is None else next(at_edges) for edge in edges]
    of = dict(zip(map(id, weights), at_edges, strict=True))
    ends = open_ends(trace, loss, labels is not None)
    for i, ((edge, own), delta) in enumerate(zip(trace.graph[1:], deltas[1:], strict=True)):
        arrived = {name: found for name, weight in own.items() if (found := of[id(weight)]) is not None}
        names = {"output": edge} | {name: get_gradient_edge(own[name]) for name in arrived}
        open_at = tuple(name for name, at in names.items() if (at and at[:2]) in ends)
        trace.steps[i] = replace(trace.steps[i], delta=delta, gradients=arrived, elsewhere=open_at)
    trace.delta, trace.elsewhere = deltas[0], (edges[0] and edges[0][:2]) in ends
    trace.loss, trace.labels = float(loss.detach()), labels
    return trace


@dataclass(frozen=True, eq=False)
class GradientLedger:
    """A gradient as a sum: `deltas * factors` is `products`, and `total` what autograd says, `recorded`.

    Of a weight: δ of its unit at each position of each digit, (N, height, width), and what it multiplied there.
    Of a unit: δ of each unit that it fed, named in `fed`, and how much that one rises with it.
    """

    layer: str
    what: str  # "weight", "bias" or "unit"
    index: tuple[int, ...]
    deltas: Tensor
    factors: Tensor
    recorded: float
    digits: int  # in the batch; a layer that ran twice has the products of its second call after those of its first
    fed: tuple[tuple[str, tuple[int, ...]], ...] = ()  # layer, and digit, channel, y, x there

    @property
    def products(self) -> Tensor:
        return self.deltas * self.factors

    @property
    def total(self) -> float:
        return float(self.products.sum())

    def __repr__(self) -> str:
        flat, factor = self.products.flatten(), "slope" if self.what == "unit" else "input"
        order = flat.abs().argsort(descending=True, stable=True).tolist()
        lines = [f"{self.layer}, {self.what} {self.index}: {flat.numel():,} product{'s' * (len(flat) != 1)} δ·{factor}"]
        for i in order[:4]:
            layer, place = self.fed[i] if self.fed else ("", place_of(i, self.products.shape))
            place = (place[0] % self.digits, *place[1:]) if place else place
            names = zip(("digit", "channel", "y", "x") if self.fed else ("digit", "y", "x"), place, strict=False)
            where = ", ".join(f"{name} {at}" for name, at in names)
            lines.append(f"  {f'{layer} {where}'.strip():<36} {flat[i]:+.3e}")
        if len(order) > 4:
            lines.append(f"  {f'{len(order) - 4:,} others':<36} {float(flat[order[4:]].sum()):+.3e}")
        return "\n".join([*lines, f"  {'total':<36} {self.total:+.3e}   autograd {self.recorded:+.3e}"])


def backward_ledger(
    trace: Trace, layer: str, weight: Asked = None, *, bias: Asked = None, unit: Asked = None, digit: int = 0
) -> GradientLedger:
    """`backward_ledger(trace, "conv2", weight=(5, 0, 1, 1))`, `bias=5`, or `unit=(5, 3, 7)` of one digit.

    A weight's index is that of `step.weight`: output channel, input channel, row, column; of a linear layer
    output and input; of a batch norm, whose weight is γ and whose bias β, the channel. Its sum is over all digits.

    >>> account = mv.backward_ledger(passed, "conv2", weight=(5, 0, 1, 1))
    >>> account.products.shape
    torch.Size([1, 14, 14])
    >>> abs(account.total - account.recorded) < 1e-6
    True
    """
    asked = {what: i for what, i in (("weight", weight), ("bias", bias), ("unit", unit)) if i is not None}
    fix = 'for example backward_ledger(trace, "conv2", weight=(5, 0, 1, 1))'
    refuse(len(asked) != 1, "name one weight, one bias or one unit", given=", ".join(asked) or "none", fix=fix)
    ((what, place),) = asked.items()
    step, index = trace[layer], (place,) if isinstance(place, int) else tuple(place)
    trace.delta_of(layer)
    if what == "unit":
        return _unit_ledger(trace, layer, index, digit)
    if what not in step.gradients:
        allowed, fix = list(step.gradients) or "none", "a frozen one needs requires_grad=True; see also the loss"
        raise MnistvizError(f"no gradient reached a {what} of {layer!r}", allowed=allowed, fix=fix)
    check_index(index, step.weights[what].shape, f"{what} in {layer!r}")
    gradient = step.gradients[what]
    why = f"each {what} of {layer!r} was also used where no recorded layer used it"
    refuse(what in step.elsewhere, why, fix="record all layers, and make a loss of outputs only")
    own = [(step, name, g) for step in trace.steps if step.delta is not None for name, g in step.gradients.items()]
    users = [(step, name) for step, name, g in own if g is gradient]  # several: it ran twice, or layers share it
    strange = [call.kind for call, _ in users if call.kind not in chain_rule.WEIGHTED or not chain_rule.is_known(call)]
    refuse(bool(strange), f"no formula is known for the gradients of {layer!r}", given=", ".join(strange))
    parts = [chain_rule.terms(call, name, index) for call, name in users]
    shapes = list({delta.shape[1:]: 0 for delta, _ in parts})
    refuse(len(shapes) > 1, f"{layer!r} ran on maps of several sizes, which are no one table", given=shapes)
    deltas, factors = (torch.cat(side) for side in zip(*parts, strict=True))
    return GradientLedger(layer, what, index, deltas, factors, float(gradient[index]), len(step.result))


def _unit_ledger(trace: Trace, layer: str, index: tuple[int, ...], digit: int) -> GradientLedger:
    at, step = trace.index(layer), trace[layer]
    refuse(not 0 < len(index) < 4, "a unit is channel, y, x", given=index, fix="name its digit apart: digit=0")
    channel, y, x = [*index, None, None][:3]
    where = (digit, *unit_of(step, layer, channel or 0, y, x))
    one_of("digit", digit, len(step.result))
    fix = "go back from labels, and write what lies between the layers as modules"
    refuse("output" in step.elsewhere, f"the output of {layer!r} also went where no recorded layer took it", fix=fix)
    deltas, factors, fed = [], [], []
    change = torch.zeros_like(step.result, dtype=torch.double)
    change[where] = 1
    for key, user in trace.items():
        if at in user.sources and user.delta is not None:
            refuse(not chain_rule.is_known(user), f"no formula is known for {key!r}, a {user.kind}, which this feeds")
            slopes = chain_rule.passed_on(user, change)
            reached = slopes.nonzero(as_tuple=True)
            deltas.append(user.delta.double()[reached])
            factors.append(slopes[reached])
            fed += [(key, tuple(place)) for place in torch.stack(reached, 1).tolist()]
    if trace.labels is not None and at == trace.scores_at():
        factors.append(_at_the_scores(trace)[where].view(1))
        deltas.append(torch.ones_like(factors[-1]))
        fed.append(("loss", ()))
    refuse(not deltas, f"no recorded layer took the output of {layer!r} itself", fix="ask the layer that hands it on")
    recorded, sides = float(trace.delta_of(layer)[where]), (torch.cat(deltas), torch.cat(factors))
    return GradientLedger(layer, "unit", index, *sides, recorded, len(step.result), tuple(fed))


def _at_the_scores(trace: Trace) -> Tensor:
    """δ of the model's output under the mean cross-entropy: (probability − 1 for the right answer, else 0) / N."""
    assert trace.labels is not None
    scores = trace.output.double()
    return (scores.softmax(1) - F.one_hot(trace.labels, scores.shape[1])) / len(scores)


@dataclass(frozen=True, eq=False)
class BackwardReplay(Replay):
    """`Replay` of the way back, by step and by weight (`conv1.weight`); `output` is the gradient of the input."""

    shares: dict[str, float]  # each difference as a share of the largest |δ| there, or of that layer's weight gradients

    @property
    def largest_share(self) -> float:
        return max(self.shares.values(), default=0.0)

    def __repr__(self) -> str:
        return f"Backward{super().__repr__().replace('steps', 'gradients')}; largest share {self.largest_share:.2g}"


@torch.no_grad()
def replay_backward(trace: Trace) -> BackwardReplay:
    """`replay_backward(trace)`: every gradient again by the chain rule, and how far it is from autograd's.

    It begins at the labels; where the record does not hold all that came back, it begins anew from autograd's δ.
    The share may be large where float32 has run out of digits, as in the p − 1 of a sure answer: use `double()`.

    >>> proof = mv.replay_backward(passed)
    >>> proof.largest < 1e-6
    True
    >>> proof.skipped, proof.restarted
    ((), ())
    """
    refuse(trace.loss is None, "nobody has gone back through this trace yet", fix="backward(trace, labels=[7])")
    arrived: dict[int, Tensor] = {}
    sums: dict[int, Tensor] = {}  # by the gradient that they should be: layers may share weights
    unknown = {MODEL_INPUT} if len(tensors(trace.inputs)) != 1 else set()  # and steps, and gradients, not known whole
    unknown |= {id(own) for step in trace.steps for name, own in step.gradients.items() if name in step.elsewhere}
    skipped, restarted = [], []
    compared: dict[str, list[Tensor]] = {}  # again; from autograd; what else gives the measure
    for at, key in reversed(list(enumerate(trace.keys))):
        step = trace.steps[at]
        if step.delta is None:
            continue
        if trace.labels is not None and at == trace.scores_at():
            arrived[at] = arrived.get(at, 0) + _at_the_scores(trace)
        if "output" in step.elsewhere or at in unknown or at not in arrived:
            restarted.append(key)
            arrived[at] = step.delta.double()
        else:
            compared[key] = [arrived[at], step.delta]
        if not chain_rule.is_known(step):
            skipped.append(key)
            unknown |= {*(source for source in step.sources if source is not None), *map(id, step.gradients.values())}
            continue
        again, (source,) = replace(step, delta=arrived[at]), step.sources
        for name, gradient in step.gradients.items():
            sums[id(gradient)] = sums.get(id(gradient), 0) + chain_rule.weight_gradient(again, name)
        if source is not None and source not in unknown:
            arrived[source] = arrived.get(source, 0) + chain_rule.BACK[step.kind](step, arrived[at])
    for step in trace.steps:
        made = {name: g for name, g in step.gradients.items() if id(g) in sums and id(g) not in unknown}
        compared |= {f"{step.name}.{name}": [sums[id(g)], g, *made.values()] for name, g in made.items()}
    at_input = arrived.get(MODEL_INPUT) if MODEL_INPUT not in unknown and not trace.elsewhere else None
    if at_input is not None and trace.delta is not None:
        compared["input"] = [at_input, trace.delta]
    differences = {key: distance(again, gradients[0]) for key, (again, *gradients) in compared.items()}
    sizes = {key: max(float(g.abs().max()) if g.numel() else 0.0 for g in own) for key, (_, *own) in compared.items()}
    shares = {key: difference / (sizes[key] or 1.0) for key, difference in differences.items()}
    return BackwardReplay(differences, at_input, tuple(skipped), tuple(restarted), shares)
