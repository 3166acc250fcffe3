"""Activation statistics over any number of passes, summed up inside the hook: nothing but totals is kept."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mnistviz.errors import MnistvizError
from mnistviz.look.layers import Layers, kind_of, pick, undisturbed, unwrapped
from mnistviz.look.totals import Bins, Totals
from mnistviz.look.trace import Trace, keys_of, plain, position, tensors


@dataclass(eq=False, repr=False)
class Activity:
    """`activity["relu1"].zeros`: the totals of every watched layer, in the order in which they ran."""

    known: tuple[str, ...] = ()
    bins: Bins | None = None
    totals: dict[tuple[str, int], Totals] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return keys_of(list(self.totals))

    def __getitem__(self, layer: str) -> Totals:
        at = position(layer, list(self.totals), self.known, "no pass called it" if self.totals else "nothing ran yet")
        return list(self.totals.values())[at]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.totals)

    def add(self, name: str, call: int, kind: str, output: Any) -> None:
        for x in tensors(output)[:1]:
            if x.is_floating_point() and plain(x) and x.ndim and x.numel():
                self.totals.setdefault((name, call), Totals(kind, self.bins)).add(x)

    def rows(self) -> list[dict[str, Any]]:
        """`pandas.DataFrame(activity.rows())`: a line per layer."""
        return [
            {
                "layer": key, "kind": t.kind, "digits": t.inputs, "mean": t.mean, "sd": t.sd, "zeros": t.zeros,
                "saturated": t.saturated, "silent units": t.silent_units, "units": t.units,
                "silent channels": len(t.silent_channels), "channels": t.channels,
            }
            for key, t in zip(self.keys, self.totals.values(), strict=True)
        ]  # fmt: skip

    def __repr__(self) -> str:
        width = max(map(len, self.keys), default=0)
        return "\n".join(f"{key:<{width}}  {self[key]!r}" for key in self.keys) or "Activity(nothing ran yet)"


@contextmanager
def watch(model: nn.Module, layers: Layers = None, bins: Bins | None = None) -> Iterator[Activity]:
    """`with watch(model) as activity: predict(model, digits)`; then `activity["relu1"].silent_units`.

    Sums up every pass made inside, however many; the model runs in whatever mode it is. A histogram is
    kept if `bins` are given.
    """
    model, compiled = unwrapped(model)
    chosen = pick(model, layers)
    activity = Activity(tuple(chosen), bins)
    calls: Counter[str] = Counter()

    def listener(name: str) -> Callable[..., None]:
        def hear(module: nn.Module, args: Any, output: Any) -> None:
            if module is chosen[name]:  # not a copy made meanwhile
                activity.add(name, calls[name], kind_of(module), output)
                calls[name] += 1

        return hear

    with ExitStack() as stack:
        if compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(model.register_forward_pre_hook(lambda *_: calls.clear()).remove)
        for name, module in chosen.items():
            stack.callback(module.register_forward_hook(listener(name)).remove)
        yield activity


def summarise(trace: Trace, bins: Bins | None = None) -> Activity:
    """`summarise(trace)["relu1"].silent_channels`: the same totals for the one pass of a trace."""
    activity = Activity(trace.chosen, bins)
    for step in trace:
        activity.add(step.name, step.call, step.kind, step.output)
    return activity


class Diary:
    """What a training does to activations and weights: `fit(…, callbacks=diary.callbacks)`.

    Before the first epoch and after each, `pages` gains the activity over the same `inputs`; every so
    many steps `ratios` gains, for each weight, the length of its gradient and of its update over its own.
    """

    def __init__(self, inputs: Tensor, layers: Layers = None, bins: Bins | None = None, every: int = 10) -> None:
        if every < 1:
            raise MnistvizError("steps between entries", given=every, allowed="1 or more")
        self.inputs, self.layers, self.bins, self.every = inputs, layers, bins or Bins(), every
        self.pages: list[Activity] = []
        self.ratios: list[dict[str, Any]] = []
        self.steps = 0
        self._before: dict[str, Tensor] = {}

    @property
    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        return {"start": self.start, "step": self.step, "epoch": self.page}

    def start(self, state: Any) -> None:
        """The first page, and the weights as they are if the first step is to be looked at."""
        self.page(state)
        self._remember(state)

    @torch.no_grad()
    def page(self, state: Any) -> None:
        """Write down how the model as it stands responds to the inputs."""
        device = next((p.device for p in state.model.parameters()), self.inputs.device)
        with undisturbed(state.model), watch(state.model, self.layers, self.bins) as activity:
            for batch in self.inputs.split(128):
                state.model(batch.to(device))
        self.pages.append(activity)

    @torch.no_grad()
    def step(self, state: Any) -> None:
        """Compare weights, gradients and what the step changed."""
        self.steps += 1
        weights = {name: p for name, p in state.model.named_parameters() if p.ndim > 1}
        for name, before in self._before.items():
            size, gradient = float(before.norm()), weights[name].grad
            slope = math.nan if gradient is None or not size else float(gradient.norm()) / size
            update = float((weights[name] - before).norm()) / size if size else math.nan
            layer = name.removesuffix(".weight")
            self.ratios.append({"step": self.steps, "layer": layer, "gradient": slope, "update": update})
        self._remember(state)

    def _remember(self, state: Any) -> None:
        """Keep the weights if the next step is one to be looked at."""
        due = (self.steps + 1) % self.every == 0
        weights = state.model.named_parameters() if due else ()
        self._before = {name: p.detach().clone() for name, p in weights if p.ndim > 1}

    def silent_since(self, layer: str) -> list[int]:
        """How many units have been silent on every page from page k to the last, for each k; page 0 is the start."""
        silent = torch.stack([page[layer].silent for page in self.pages])  # (pages, C, H, W)
        for k in range(len(silent) - 2, -1, -1):
            silent[k] &= silent[k + 1]
        return silent.flatten(1).sum(1).tolist()
