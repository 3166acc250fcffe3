"""A training watched: what it does to activations and weights, and its weights at chosen steps, to look back from."""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnistviz.device import device_of
from mnistviz.errors import MnistvizError, refuse
from mnistviz.look.activity import Activity, Bins, watch
from mnistviz.look.capture import BATCH, record
from mnistviz.look.layers import Layers, undisturbed, unwrapped
from mnistviz.look.trace import Trace


class Diary:
    """What a training does to activations and weights: `fit(…, callbacks=diary.callbacks)`.

    Before the first epoch and after each, `pages` gains the activity over the same `inputs`; every so
    many steps `ratios` gains, for each weight, the length of its gradient and of its update over its own.
    """

    def __init__(self, inputs: Tensor, layers: Layers = None, bins: Bins | None = None, every: int = 10) -> None:
        refuse(every < 1, "steps between entries", given=every, allowed="1 or more")
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
        weights = state.model.named_parameters() if (self.steps + 1) % self.every == 0 else ()
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
        given, allowed = self.at or "none", "0 or more, at least one"
        refuse(not self.at or self.at[0] < 0, "steps to keep the weights at", given=given, allowed=allowed)
        self.checkpoints: dict[int, dict[str, Tensor]] = {}
        self._steps = 0

    @classmethod
    def over(cls, steps: int, count: int) -> "Timelapse":
        """`Timelapse.over(94, 24)`: the first, the last and 22 steps between, closer together at the start."""
        given = f"{steps} steps, {count} looks"
        refuse(count < 2 or steps < 1, "a training to look at", given=given, allowed="1 and 2 at least")
        return cls(round(steps * (k / (count - 1)) ** 1.7) for k in range(count))

    @property
    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        return {"start": self._start, "step": self._step}

    def _start(self, state: Any) -> None:
        self.checkpoints, self._steps = {}, -1
        self._step(state)

    def _step(self, state: Any) -> None:
        self._steps += 1
        if self._steps in self.at:
            weights = state.trained.state_dict()
            self.checkpoints[self._steps] = {name: w.detach().cpu().clone() for name, w in weights.items()}

    def moments(self, model: nn.Module, inputs: Tensor, layers: Layers = None) -> list[Moment]:
        """The trace of the same inputs for every checkpoint; the model itself is not touched."""
        refuse(not self.checkpoints, "nothing was kept yet", fix="give lapse.callbacks to fit, and train")
        twin = deepcopy(unwrapped(model)[0])
        seen = []
        for step, weights in self.checkpoints.items():
            try:
                twin.load_state_dict(weights)
            except RuntimeError as error:
                given, fix = type(model).__name__, "give the model that was trained, or one built the same way"
                raise MnistvizError("these checkpoints are of another network", given=given, fix=fix) from error
            seen.append(Moment(step, record(twin, inputs, layers)))
        return seen
