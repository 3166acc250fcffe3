"""A training watched: what it does to activations and weights, and its weights at chosen steps, to look back from."""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mnistviz.device import device_of
from mnistviz.errors import MnistvizError
from mnistviz.look.activity import Activity, Bins, watch
from mnistviz.look.capture import capture
from mnistviz.look.layers import Layers, undisturbed, unwrapped
from mnistviz.look.trace import Trace

BATCH = 128  # maps of so many digits stay in the cache


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
        with undisturbed(state.model), watch(state.model, self.layers, self.bins) as activity:
            for batch in self.inputs.split(BATCH):
                state.model(batch.to(device_of(state.model)))
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


@dataclass(frozen=True, eq=False)
class Moment:
    """What the network did after so many steps of training; 0 is before the first."""

    step: int
    trace: Trace


class Timelapse:
    """`fit(…, callbacks=lapse.callbacks)` keeps the weights after the steps it is told: `Timelapse([0, 10, 100])`.

    Afterwards `lapse.moments(model, digits.pixels)` lets each of them look at the same inputs.
    """

    def __init__(self, at: Iterable[int]) -> None:
        self.at = sorted(set(at))
        if not self.at or self.at[0] < 0:
            raise MnistvizError(
                "steps to keep the weights at", given=self.at or "none", allowed="0 or more, at least one"
            )
        self.checkpoints: dict[int, dict[str, Tensor]] = {}
        self._steps = 0

    @classmethod
    def over(cls, steps: int, count: int) -> "Timelapse":
        """`Timelapse.over(94, 24)`: the first, the last and 22 steps between, closer together at the start."""
        if count < 2 or steps < 1:
            raise MnistvizError(
                "a training to look at", given=f"{steps} steps, {count} looks", allowed="1 and 2 at least"
            )
        return cls(round(steps * (k / (count - 1)) ** 1.7) for k in range(count))

    @property
    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        return {"start": self._start, "step": self._step}

    def _start(self, state: Any) -> None:
        self.checkpoints.clear()
        self._steps = 0
        self._keep(state)

    def _step(self, state: Any) -> None:
        self._steps += 1
        self._keep(state)

    def _keep(self, state: Any) -> None:
        if self._steps in self.at:
            weights = state.trained.state_dict()
            self.checkpoints[self._steps] = {name: w.detach().cpu().clone() for name, w in weights.items()}

    @torch.no_grad()
    def moments(self, model: nn.Module, inputs: Tensor, layers: Layers = None) -> list[Moment]:
        """The trace of the same inputs for every checkpoint; the model itself is not touched."""
        if not self.checkpoints:
            raise MnistvizError("nothing was kept yet", fix="give lapse.callbacks to fit, and train")
        twin = deepcopy(unwrapped(model)[0])
        seen = []
        for step, weights in self.checkpoints.items():
            try:
                twin.load_state_dict(weights)
            except RuntimeError as error:
                raise MnistvizError(
                    "these checkpoints are of another network", given=type(model).__name__,
                    fix="give the model that was trained, or one built the same way",
                ) from error  # fmt: skip
            parts = []
            for batch in inputs.split(BATCH):
                with capture(twin, layers) as trace:
                    twin(batch)
                parts.append(trace)
            seen.append(Moment(step, _joined(parts)))
        return seen


def _joined(parts: list[Trace]) -> Trace:
    """One trace of all inputs from those of their batches."""
    if len(parts) == 1:
        return parts[0]
    steps = [
        replace(row[0], inputs=_end_to_end([s.inputs for s in row]), output=_end_to_end([s.output for s in row]))
        for row in zip(*(part.steps for part in parts), strict=True)
    ]
    inputs, output = _end_to_end([part.inputs for part in parts]), _end_to_end([part.output for part in parts])
    return replace(parts[0], steps=steps, inputs=inputs, output=output)


def _end_to_end(values: list[Any]) -> Any:
    """Tensors of all batches one after the other, in tuples, lists and dictionaries too."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        return {key: _end_to_end([v[key] for v in values]) for key in first}
    if isinstance(first, tuple | list):
        columns = [_end_to_end(list(column)) for column in zip(*values, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else type(first)(columns)
    return first
