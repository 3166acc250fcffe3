"""Draw the house from its own imports: rooms as floors, files as bricks, and from which rooms below their files import.

python docs/house.py            writes docs/house.svg
python docs/house.py --check    fails if that picture is no longer true
"""

import ast
import sys
from collections import Counter
from pathlib import Path

PICTURE = Path(__file__).resolve().with_suffix(".svg")
LIBRARY = PICTURE.parent.parent / "mnistviz"
ROOMS = {  # from the top down: what it holds, and its colour
    "page": ("the network in the reader's hands", "#b45309"),
    "animate": ("films, each frame from recorded numbers", "#a21caf"),
    "show": ("pictures of records; never runs a model", "#15803d"),
    "learn": ("a digit goes in, a trained model comes out", "#b91c1c"),
    "look": ("what happened inside, on any network", "#0369a1"),
    "ground": ("errors, places, devices, progress, settings", "#475569"),
}
FLOORS = (("page",), ("animate",), ("show",), ("learn", "look"), ("ground",))
WIDTH, EDGE, BRICK, GAP = 1000, 14, 22, 5  # pixels


def room_of(path: Path) -> str:
    part = path.relative_to(LIBRARY).parts[0]
    return part if part in ROOMS else "ground"


def sources(path: Path) -> set[str]:
    """The other rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [f"{node.module}.{name.name}" for name in node.names] if isinstance(node, ast.ImportFrom) else []
        for parts in (name.split(".") for name in names if name.startswith("mnistviz.")):
            found.add(parts[1] if parts[1] in ROOMS else "ground")
    return found - {room_of(path)}


def text(x: float, y: float, said: str, ink: str = "#0f172a", size: int = 12, weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{ink}">{said}</text>'


def box(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4" {style}/>'


def room(name: str, files: list[Path], x: float, y: float, width: float) -> tuple[list[str], float]:
    """A room, and its height: a brick is a file."""
    about, ink = ROOMS[name]
    drawn = [text(x + EDGE, y + 24, name, ink, 17, "bold")]
    drawn.append(text(x + EDGE + 11 * len(name) + 10, y + 24, f"{about}; {len(files)} files", "#334155", 13))
    across, down = x + EDGE, y + 36.0
    for path in files:
        wide = 7.6 * len(path.stem) + 14
        if across + wide > x + width - EDGE:
            across, down = x + EDGE, down + BRICK + GAP
        drawn.append(box(across, down, wide, BRICK, f'fill="{ink}" fill-opacity="0.14"'))
        drawn.append(text(across + 7, down + 15, path.stem))
        across += wide + GAP
    counts = Counter(other for path in files for other in sources(path))
    said = ", ".join(f"{counts[other]} import from {other}" for other in ROOMS if counts[other])
    drawn.append(text(x + EDGE, down + BRICK + 20, f"of these, {said}" if said else "imports no room", "#334155"))
    return drawn, down + BRICK + 32 - y


def house() -> str:
    files: dict[str, list[Path]] = {name: [] for name in ROOMS}
    for path in sorted(LIBRARY.rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            files[room_of(path)].append(path)
    drawn, y = [], EDGE
    for floor in FLOORS:
        width = (WIDTH - EDGE * (len(floor) + 1)) / len(floor)
        places = [EDGE + i * (width + EDGE) for i in range(len(floor))]
        rooms = [room(name, files[name], x, y, width) for name, x in zip(floor, places, strict=True)]
        height = max(tall for _, tall in rooms)
        for name, x, (parts, _) in zip(floor, places, rooms, strict=True):
            frame = f'fill="#ffffff" stroke="{ROOMS[name][1]}" stroke-width="1.5"'
            drawn += [box(x, y, width, height, frame), *parts]
        y += round(height) + EDGE
    alt = "The rooms of the library as floors: " + "; ".join(f"{name}, {about}" for name, (about, _) in ROOMS.items())
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="DejaVu Sans, Verdana"'
    paper = f'<rect width="{WIDTH}" height="{y}" fill="#f1f5f9"/>'
    return "\n".join([f'{head} role="img"><title>{alt}</title>', paper, *drawn, "</svg>", ""])


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PICTURE.write_text(house(), encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != house():
        sys.exit("docs/house.svg is not what the imports say: python docs/house.py")
