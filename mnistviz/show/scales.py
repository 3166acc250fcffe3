"""Numbers to colours: zero in the middle if there are signs, nothing hidden, and the scope always stated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from torch import Tensor

from mnistviz.errors import choose
from mnistviz.look.trace import Trace
from mnistviz.show.colours import BLUE, GREEN, ORANGE
from mnistviz.show.picture import colour_bar

# blue and orange are told apart by every kind of colour vision; an odd number of steps puts white on zero;
# so many steps as an indexed picture has room for beside its greys
DARK_BLUE_TO_BROWN = ["#002847", BLUE, "#a9cfea", "white", "#f9c9a4", ORANGE, "#5f2500"]
SIGNED = LinearSegmentedColormap.from_list("signed", DARK_BLUE_TO_BROWN, N=129)
POSITIVE = colormaps["magma"].resampled(96)  # zero is black, as empty paper is in the digits
NOT_A_NUMBER = to_rgb(GREEN)
SCOPES = {
    "map": "each map has its own scale",
    "layer": "one scale for the layer",
    "network": "one scale for the whole network",
    "across inputs": "one scale across all inputs shown",
}


@dataclass(frozen=True)
class Scale:
    """What a colour means: `Scale.over([trace["conv2"].output])`; equal numbers get equal colours."""

    low: float
    high: float
    scope: str

    def __post_init__(self) -> None:
        choose("colour scope", self.scope, SCOPES)

    @classmethod
    def over(cls, values: Iterable[Any], scope: str = "layer") -> "Scale":
        """The scale of all these numbers: symmetric about 0 if any is negative, else from 0 to the largest."""
        finite = [x[np.isfinite(x)] for x in map(array, values)]
        largest = max((float(np.abs(x).max()) for x in finite if x.size), default=0.0)
        return cls(-largest if any((x < 0).any() for x in finite) else 0.0, largest, scope)

    @classmethod
    def about_zero(cls, values: Any, scope: str = "layer") -> "Scale":
        """Symmetric about 0 also where nothing is negative, as for gradients; where all is 0, all is white."""
        end = cls.over([values]).high or 1.0
        return cls(-end, end, scope)

    @classmethod
    def for_layer(cls, trace: Trace, layer: str, scope: "str | Scale" = "layer") -> "Scale":
        """A given scale as it is, or that of a layer's output, or of all outputs of the network."""
        if isinstance(scope, Scale):
            return scope
        steps = trace.steps if scope == "network" else [trace[layer]]
        return cls.over([step.result for step in steps], scope)

    @property
    def signed(self) -> bool:
        return self.low < 0

    @property
    def colours(self) -> Colormap:
        return SIGNED if self.signed else POSITIVE

    def rgb(self, values: Any) -> np.ndarray:
        """Colours, (…, 3) in [0, 1]; what is not a number is green."""
        x = array(values)
        shares = (x - self.low) / ((self.high - self.low) or 1.0)  # all zero: drawn flat
        colours = np.array(self.colours(np.nan_to_num(shares, posinf=1.0, neginf=0.0)))[..., :3]
        colours[np.isnan(x)] = NOT_A_NUMBER
        return colours

    def bar(self, axes: Axes | Sequence[Axes], label: str = "") -> None:
        """A colour bar beside the axes, or beside several that share the scale."""
        ends = [self.low, 0.0, self.high] if self.signed else [0.0, self.high or 1.0]
        colours = ScalarMappable(Normalize(self.low, self.high or 1.0), self.colours)
        bar = colour_bar(colours, axes, label=label, ticks=ends, shrink=0.8)
        bar.ax.set_yticklabels([short(v) for v in ends])
        bar.ax.tick_params(length=0, labelsize=9)

    def __str__(self) -> str:
        ends = "" if self.scope == "map" else f", {short(self.low)} to {short(self.high)}"
        return SCOPES[self.scope] + ends


def array(values: Any) -> np.ndarray:
    """Any tensor as float64 numbers in memory."""
    return values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, float)


def short(value: float) -> str:
    """A number as short as it can be read: `5.77`, `−0.42`, `0`."""
    if value == 0:
        return "0"
    text = f"{value:.2f}" if 0.01 <= abs(value) < 1000 else f"{value:.1e}"
    return text.replace("-", "−")
