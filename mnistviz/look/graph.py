"""What autograd remembers of a pass: where each output stands in its graph, and what else used it."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from mnistviz.look.trace import Links, Trace


def followed(x: Tensor) -> Tensor:
    """An input as autograd follows it: itself, or a twin that has a gradient."""
    has = x.requires_grad or x.is_inference() or not x.is_floating_point() or not torch.is_grad_enabled()
    return x if has else x.detach().requires_grad_().clone()  # cloned, since a layer may change it in place


def links_of(outputs: list[Tensor], weights: dict[str, Tensor] | None = None) -> Links:
    edge = get_gradient_edge(outputs[0]) if outputs and outputs[0].requires_grad and torch.is_grad_enabled() else None
    return edge, {name: weight for name, weight in (weights or {}).items() if weight.requires_grad}


def open_ends(trace: Trace, loss: Tensor, from_labels: bool) -> set[Any]:
    """The places in autograd's graph that were also used where no recorded layer, nor the loss of labels, used them."""
    uses: Counter[Any] = Counter({(loss.grad_fn, loss.output_nr): 0})
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            uses.update(node.next_functions)
            ahead += [further for further, _ in node.next_functions]
    edges, known = [edge and edge[:2] for edge, _ in trace.graph], Counter[Any]()
    for step, edge, (_, own) in zip(trace.steps, edges[1:], trace.graph[1:], strict=True):
        for source in step.sources:
            if source is not None and edges[source + 1] != edge:  # else the layer handed on what it was given
                known[edges[source + 1]] += edge in uses
        known.update(get_gradient_edge(weight)[:2] for weight in own.values() if edge in uses)
    if from_labels:
        known[edges[trace.scores_at() + 1]] += 1
    taken = Counter(source + 1 for step in trace.steps for source in step.sources if source is not None)
    steps_at = Counter(edges)  # several, where a layer handed on what it was given; a fork there cannot be told apart
    forks = {edges[at] for at, times in taken.items() if times > 1 and steps_at[edges[at]] > 1}
    return {at for at in {*uses, *known} if uses[at] != known[at]} | forks
