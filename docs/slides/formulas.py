"""Formulas as pictures that need no script and no font: `drawn("e^{s_k}")` is an SVG with the TeX as its alt text."""

import html
import re
from functools import cache

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath, text_to_path

from mnistviz.errors import MnistvizError

UNIT = 100  # units of the drawing for one em
LETTERS = {TextPath.MOVETO: "M", TextPath.LINETO: "L", TextPath.CURVE3: "Q", TextPath.CURVE4: "C"}
POINTS = {TextPath.CURVE3: 2, TextPath.CURVE4: 3}
OTHERWISE = {  # what matplotlib's TeX calls otherwise, or asks to be in braces
    r"\\(le|ge)(?![a-z])": r"\\\1q",
    r"\\[bB]ig[lr]?(?![a-z])": "",
    r"\\[lr]vert": "|",
    r"\\[lr]Vert": r"\\Vert",
    r"\\(mathsf|mathrm) (\w)": r"\\mathrm{\2}",
    r"\\sqrt (\w)": r"\\sqrt{\1}",
    r"\\tfrac": r"\\frac",
    r"(\\sum_\{[^}]*\}(\^\{[^}]*\})?) ?": r"\1\\;",
    r"\\frac(\w)(\w)": r"\\frac{\1}{\2}",
}


@cache
def drawn(tex: str, alone: bool = False) -> str:
    """An SVG that stands on the line of the words around it; `alone`, fractions are large."""
    text = " ".join(tex.split())
    for pattern, instead in OTHERWISE.items():
        text = re.sub(pattern, instead, text)
    if alone:
        text = text.replace(r"\frac", r"\dfrac").replace(r"\binom", r"\genfrac{(}{)}{0}{0}")
    try:
        with mpl.rc_context({"mathtext.fontset": "cm"}):
            about = f"${text}$", FontProperties(size=UNIT), True
            (points, codes), (width, height, below) = (
                text_to_path.get_text_path(about[1], about[0], ismath=True),
                text_to_path.get_text_width_height_descent(*about),
            )
    except ValueError as error:
        fix = "write it with what matplotlib's mathtext knows, or add the command to OTHERWISE"
        raise MnistvizError("a formula that cannot be drawn", given=tex, fix=fix) from error
    size = f"width: {width / UNIT:.3f}em; height: {height / UNIT:.3f}em; vertical-align: {-below / UNIT:.3f}em"
    box = f"0 {below - height:.0f} {width:.0f} {height:.0f}"
    label = html.escape(" ".join(tex.split()))
    path = f'<path d="{_outline(np.asarray(points), codes)}"/>'
    return f'<svg class="tex" role="img" aria-label="{label}" style="{size}" viewBox="{box}">{path}</svg>'


def _outline(points: np.ndarray, codes: list[int]) -> str:
    parts, i = [], 0
    while i < len(codes):
        count = POINTS.get(codes[i], 1)
        if codes[i] == TextPath.CLOSEPOLY:
            parts.append("Z")
        else:
            parts.append(LETTERS[codes[i]] + " ".join(f"{x:.0f} {-y:.0f}" for x, y in points[i : i + count]))
        i += count
    return "".join(parts)
