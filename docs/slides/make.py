"""Every lesson as HTML slides that need no network: python docs/slides/make.py, or with numbers, such as 02 06.

A deck shows the outputs of your own full run (notebooks/_full) where its code is that of the lesson, else those that
the lesson is shipped with. Which cell starts a slide stands in the cell's metadata, `slideshow.slide_type`; long cells
are cut between paragraphs, and every question and its answer get a slide of their own.
"""

import argparse
import html
import importlib.util
import re
from pathlib import Path

import nbformat
from formulas import drawn
from nbconvert.exporters import SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pages import Deck
from pygments.formatters import HtmlFormatter

import mnistviz as mv
from mnistviz import project
from mnistviz.errors import choose, refuse

HERE = Path(__file__).resolve().parent


class Renderer(IPythonRenderer):
    """Markdown with formulas as pictures and links to other decks; a link that leads nowhere here is plain text."""

    def text(self, text: str) -> str:
        return super().text(text).replace(" %", "\u00a0%")

    def inline_math(self, body: str) -> str:
        return drawn(body)

    def block_math(self, body: str) -> str:
        return f'<div class="formula">{drawn(body, alone=True)}</div>'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        deck = re.fullmatch(r"(\d\d_\w+)\.ipynb", url)
        return f'<a href="{deck[1]}.html">{text}</a>' if deck else super().link(text, url) if ":" in url else text


class Slides(SlidesExporter):
    """nbconvert's reveal export with the template beside this file."""

    def __init__(self) -> None:
        super().__init__(template_name="deck", extra_template_basedirs=[str(HERE)])

    def markdown2html(self, source: str) -> str:  # type: ignore[override]
        return MarkdownWithMath(renderer=Renderer(escape=False, exclude_anchor_links=True)).render(source)


def lesson(path: Path, target: Path) -> nbformat.NotebookNode:
    """A lesson with the outputs of your own full run, if its code is the same; its films are copied beside the deck."""
    book, films, own = nbformat.read(path, 4), project.root() / "animations", path.parent / "_full" / path.name
    if own.exists():
        ran = {cell.id: cell for cell in nbformat.read(own, 4).cells}
        code = [cell for cell in book.cells if cell.cell_type == "code"]
        if all(cell.id in ran and ran[cell.id].source == cell.source for cell in code):
            films /= "_full"
            for cell in code:
                cell.outputs = ran[cell.id].outputs
    for cell in book.cells:
        film = re.search(r'"(\w+\.gif)"', cell.source)
        for output in cell.get("outputs", []):
            if film and output.get("data", {}).get("text/plain", "").startswith("Film:") and (films / film[1]).exists():
                project.write_bytes(target / "films" / film[1], (films / film[1]).read_bytes())
                output.metadata["film"] = f"films/{film[1]}"
    return book


def assets(target: Path) -> None:
    """What all decks share: reveal.js, type and colours, and the page of a network."""
    found = importlib.util.find_spec("pyreveal")  # carries the files of reveal.js; it is never imported
    refuse(found is None, "the slides need reveal.js", fix='python -m pip install "mnistviz[slides]"')
    reveal = Path(found.origin).parent / "revealjs"
    style = (HERE / "deck.css").read_text() + HtmlFormatter(style="default").get_style_defs(".highlight")
    files = {path.name: path.read_bytes() for path in (HERE / "deck.js", *reveal.glob("LICENSE"))}
    files |= {name: (reveal / "dist" / name).read_bytes() for name in ("reveal.js", "reveal.css")}
    files |= {"notes.js": (reveal / "dist/plugin/notes.js").read_bytes(), "deck.css": style.encode()}
    for name, content in files.items():
        project.write_bytes(target / "assets" / name, content)
    mv.page(mv.load_model("light"), target / "network.html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="of lessons, such as 02 06; default: all")
    parser.add_argument("--to", type=Path, default=project.root() / "notebooks" / "_slides", help="a folder")
    options = parser.parse_args()
    books = {path.name[:2]: path for path in sorted((project.root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    assets(options.to)
    for number in options.numbers or books:
        path = choose("lesson", number, books)
        deck, _ = Slides().from_notebook_node(Deck(lesson(path, options.to), number).book)
        project.write_bytes(options.to / f"{path.stem}.html", deck.encode())
        print(project.shown(options.to / f"{path.stem}.html"), flush=True)
    decks = [(path, nbformat.read(path, 4).cells[0].source.split("\n\n")[:2]) for path in books.values()]
    made = [(path, *told) for path, told in decks if (options.to / f"{path.stem}.html").exists()]
    lines = [
        f'<h2><a href="{p.stem}.html">{html.escape(t[2:])}</a></h2><p>{html.escape(w[1:-1])}</p>' for p, t, w in made
    ]
    style = "body { font: 22px/1.5 Arial, sans-serif; margin: 2em auto; max-width: 40em; } h2, p { margin: 0.3em 0; }"
    head = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Slides</title><style>{style}</style>'
    keys = "<p>Arrow keys turn pages, S shows notes, O all slides; ?print-pdf behind a deck's name prints it.</p>"
    index = f"{head}<h1>Slides of the lessons</h1>{keys}{''.join(lines)}</html>"
    project.write_bytes(options.to / "index.html", index.encode())
    print(f"open {project.shown(options.to / 'index.html')}")


if __name__ == "__main__":
    main()
