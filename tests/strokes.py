"""Digits that were drawn on the pad, and how to draw them again with the mouse."""

import json
from pathlib import Path
from typing import Any

DRAWINGS = json.loads((Path(__file__).parent / "page" / "drawings.json").read_text(encoding="utf-8"))
FEW_POINTS = (DRAWINGS[i] for i in (3, 18, 22, 39))  # which the mouse goes through quickly
RECORDED = {drawing["digit"]: drawing["strokes"] for drawing in FEW_POINTS}


def drag(page: Any, strokes: list[list[list[float]]]) -> None:
    """Draw with the mouse on the first canvas of the page."""
    box = page.locator("canvas").first.bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
