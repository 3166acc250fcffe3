"""The colours of the house, and the marks that say the same to those who cannot tell colours apart."""

from typing import Any

INK, FAINT, RULE = "#1d2433", "#667085", "#d8dce4"
BLUE, ORANGE, GREEN, RED = "#0065a3", "#d55e00", "#00795a", "#c22f1d"
PALE = "#b9c2d0"  # bars that are there for comparison
HOUSE = (INK, FAINT, RULE, BLUE, ORANGE, GREEN, RED)

RIGHT, WRONG = ("✓", GREEN), ("✗", RED)
COLOURS = (BLUE, ORANGE, GREEN, FAINT)  # of curves and bars, one after another
HATCHES = ("", "//", "..", "xx")
MARKERS, DASHES = ("o", "s", "^", "D", "v"), ("-", "--", ":")


def curve(k: int) -> dict[str, Any]:
    """`axes.plot(x, y, **curve(1))`: the k-th of several curves, with a marker of its own; dashed from the fifth on."""
    marker = {"marker": MARKERS[k % 5], "markeredgecolor": "white", "markeredgewidth": 0.7}
    return {"color": COLOURS[k % 4], "linestyle": DASHES[k // 4 % 3], **marker}
