"""The one palette of all animations, known before the first frame: every colour is a number from 0 to 255."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import TABLEAU_COLORS, Colormap, to_rgb

from mnistviz.show.colours import BLUE, FAINT, GREEN, INK, ORANGE, PALE, RED, RULE
from mnistviz.show.scales import POSITIVE, SIGNED, Scale, array

ACCENT = "#00a878"  # frames and paths: the one colour that is in neither scale
SHADE = "#f1f3f7"  # a place where something will appear
TRANSPARENT = 255  # never drawn: in a GIF it means "as in the frame before"
Shades = Scale | None  # of numbers: on a scale, or grey levels from 0 to 1

_colours: dict[tuple[int, ...], int] = {}  # each with its number


def _index(colour: Any) -> int:
    return _colours.setdefault(tuple(round(255 * part) for part in to_rgb(colour)), len(_colours))


def _ramp(colours: Colormap, steps: int) -> np.ndarray:
    return np.array([_index(colours(k / (steps - 1))[:3]) for k in range(steps)], np.uint8)


def _soft(colour: str, steps: int) -> np.ndarray:
    """From paper to this colour: the soft edges of letters and lines."""
    shares = np.linspace(0, 1, steps)[:, None]
    return np.array([_index(c) for c in (1 - shares) + shares * np.array(to_rgb(colour))], np.uint8)


GREYS = _ramp(colormaps["gray"], 32)  # a digit: 0 black, 1 white
RAMPS = {True: _ramp(SIGNED.resampled(65), 65), False: _ramp(POSITIVE.resampled(64), 64)}  # by Scale.signed
INKS = {
    "ink": _soft(INK, 8), "faint": _soft(FAINT, 6), "accent": _soft(ACCENT, 6), "blue": _soft(BLUE, 5),
    "orange": _soft(ORANGE, 5), "green": _soft(GREEN, 5), "red": _soft(RED, 5), "white": GREYS[3::4],
    "rule": _soft(RULE, 3), "shade": _soft(SHADE, 2), "grey": _soft(PALE, 3),
    **{f"class {d}": _soft(colour, 3) for d, colour in enumerate(TABLEAU_COLORS)},
}  # fmt: skip
PAPER = int(GREYS[-1])
NOT_A_NUMBER = _index(GREEN)
USED = len(_colours)
PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[:USED] = list(_colours)


def _ramp_of(scale: Shades) -> tuple[np.ndarray, float, float]:
    """The colours of a scale and the numbers at its ends."""
    return (GREYS, 0.0, 1.0) if scale is None else (RAMPS[scale.signed], scale.low, scale.high)


def indices(values: Any, scale: Shades) -> np.ndarray:
    """The palette's numbers for values on a scale, or for grey levels 0 to 1 without one."""
    ramp, low, high = _ramp_of(scale)
    x = array(values)
    shares = np.nan_to_num((x - low) / ((high - low) or 1.0), posinf=1.0, neginf=0.0).clip(0, 1)
    steps = np.rint(shares * (len(ramp) - 1)).astype(np.uint8)
    return np.where(np.isnan(x), np.uint8(NOT_A_NUMBER), ramp[steps])


def values(pixels: np.ndarray, scale: Shades) -> np.ndarray:
    """Back from the palette's numbers to values, true to half a step; NaN where the colour is not on the scale."""
    ramp, low, high = _ramp_of(scale)
    table = np.full(256, np.nan)
    table[ramp] = low + np.linspace(0, 1, len(ramp)) * (high - low)
    return table[pixels]
