"""Every lesson as HTML slides that need no network: python docs/slides/make.py, or with numbers, such as 02 06.

A deck shows the outputs of your own full run (notebooks/_full) where its code is that of the lesson, else those that
the lesson is shipped with. Which cell starts a slide stands in the cell's metadata, `slideshow.slide_type`; long cells
are cut between paragraphs, and every question and its answer get a slide of their own.
"""

import argparse
import html
import importlib.util
import math
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

import mnistviz as mv
from mnistviz import project
from mnistviz.errors import choose, refuse

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from formulas import drawn  # noqa: E402

PROSE, WIDTH, ROOM = 30, 1180, 570  # px of type, of a line, and of what stands under the head of a slide
BLOCK = re.compile(r"<details>.*?</details>|```.*?```|\$\$.*?\$\$|\S(?:(?!\n\n).)*", re.S)
FOLDED = re.compile(r"<details><summary>(\w+)</summary>\s*(.*?)\s*</details>", re.S)
PAGE_IN = "06"  # the lesson with the page of a network, before its recap
IFRAME = (
    '<iframe data-src="network.html" title="A network that computes in this page: draw a digit, tap a map"></iframe>'
)


class Renderer(IPythonRenderer):
    """Markdown with formulas as pictures and links to other decks; a link that leads nowhere here is plain text."""

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


class Deck:
    """The cells of a lesson cut into pages: `Deck(book, "06").book` is what nbconvert makes slides of."""

    def __init__(self, book: nbformat.NotebookNode, number: str) -> None:
        self.cells: list[nbformat.NotebookNode] = []
        self.number, self.section, self.question = number, book.cells[0].source.splitlines()[0][2:], ""
        for cell in book.cells:
            self.kind = cell.metadata.slideshow.slide_type
            if cell is book.cells[0]:
                self.title(cell.source)
            elif self.kind == "notes":
                self.add(cell)
            elif self.kind != "skip":
                self.code(cell) if cell.cell_type == "code" else self.text(cell.source)
        self.book = nbformat.v4.new_notebook(
            cells=self.cells, metadata={"title": book.cells[0].source.splitlines()[0][2:]}
        )

    def add(self, cell: nbformat.NotebookNode, layout: str = "", kind: str = "") -> None:
        """A cell as the next part; with a layout it begins a slide, under the name of its section."""
        where = "" if cell.source.startswith(("# ", "## ")) else self.section
        data = {name: text for name, text in (("layout", layout), ("where", where)) if layout and text}
        cell.metadata["slideshow"] = {"slide_type": kind or self.kind, "data": data}
        self.cells.append(cell)
        self.kind = self.kind if kind else "subslide"

    def page(self, layout: str, *parts: str | tuple[str, str]) -> None:
        """A slide of several parts, plain or ("fragment", text) or ("notes", text)."""
        for i, part in enumerate(parts):
            kind, text = ("-", part) if isinstance(part, str) else part
            self.add(nbformat.v4.new_markdown_cell(text), "" if i else layout, kind if i else "")
        spare = (0.8 * ROOM / max(1, sum(map(height, parts)))) ** 0.5  # short text is set larger
        if layout in ("text", "answer"):
            self.cells[-len(parts)].metadata.slideshow.data["size"] = str(30 + 6 * min(2, max(0, int(5 * spare - 5))))

    def title(self, source: str) -> None:
        title, promise, _, table, *more = source.split("\n\n")
        goals = [f"- {row.split('|')[1].strip()}" for row in table.splitlines()[2:]]
        start = "\n".join([title, "", promise, "", "**You will be able to**", "", *goals])
        self.page("title", start, ("notes", "\n\n".join([table, *more])))

    def text(self, source: str) -> None:
        waiting: list[str | tuple[str, str]] = []
        for block in map(str.strip, BLOCK.findall(source)):
            folded = FOLDED.fullmatch(block)
            exercise = self.section == "Exercises" and re.match(r"\d\. \*\*", block)
            if block.startswith("## "):
                self.flush(waiting)
                if block == "## Further reading":
                    return
                if block == "## Recap" and self.number == PAGE_IN:
                    self.section = "The network itself: draw a digit, then tap a map"
                    self.page("page", IFRAME)
                self.section, self.kind = block[3:], "slide" if self.kind != "skip" else "skip"
                waiting.append(block)
            elif folded and folded[1] == "Answer":
                self.flush(waiting)
                waiting += [f"> {self.question}", ("fragment", f"### Answer\n\n{folded[2]}")]
            elif folded:
                label = f"**{folded[1]}.** " if folded[1] == "Hint" else ""
                waiting.append(("fragment" if label else "notes", label + folded[2]))
            elif "**Predict.**" in block:
                self.flush(waiting)
                lead, self.question = (part.strip() for part in block.split("**Predict.**"))
                self.page("predict", *[lead][: bool(lead)], f"### Predict\n\n{self.question}")
            elif not block.startswith("Worked answers"):
                if exercise and waiting and not str(waiting[-1]).startswith("## "):
                    self.flush(waiting)
                if block.startswith("$$") and waiting:
                    block = f"{waiting.pop()}\n\n{block}"
                waiting.append(block)
        self.flush(waiting)

    def flush(self, waiting: list[str | tuple[str, str]]) -> None:
        """The blocks so far as pages, as few as there can be and about equally full."""
        least = math.ceil(sum(map(height, waiting)) / ROOM)
        limits = range(sum(map(height, waiting)) // max(1, least), ROOM + 20, 20)
        for page in next((pages for limit in limits if len(pages := packed(waiting, limit)) <= least), packed(waiting)):
            self.page("answer" if str(page[0]).startswith("> ") else "text", *page)
        waiting.clear()

    def code(self, cell: nbformat.NotebookNode) -> None:
        """Code and what it shows on one slide where both are large enough there, else on two."""
        outputs, text = merged(cell.outputs), cell.source
        said, above = "\n".join(map(plain, outputs)), 26 * rows(text) + 20
        picture = next((o.metadata.get("image/png", {}) for o in outputs if "image/png" in o.get("data", {})), None)
        together = above + 26 * rows(said) <= ROOM
        if picture is not None:
            shape, left = picture.get("width", 1) / picture.get("height", 1), ROOM - above - 26 * rows(said)
            together = min(WIDTH, left * shape) >= 0.85 * min(WIDTH, ROOM * shape)
        room = 26 * rows(text + said) if picture and together else ROOM
        size = type_size(f"{text}\n{said}" if together else text, room)
        about = {"size": size, "said": size}
        self.add(nbformat.v4.new_code_cell(text, metadata=about, outputs=outputs if together else []), "code")
        if not together:
            about["said"] = type_size(said, ROOM // 4 if picture else ROOM, least=15)
            self.add(nbformat.v4.new_code_cell("", metadata=about, outputs=outputs), "output")


def height(part: str | tuple[str, str]) -> int:
    """About how many pixels a block of Markdown takes, in Arial."""
    kind, text = part if isinstance(part, tuple) else ("", part)
    if kind == "notes":
        return 0
    tall = 0
    for block in BLOCK.findall(text):
        if block.startswith("$$"):
            tall += 150 if "frac" in block or "sum" in block else 90
        elif block.startswith("```"):
            tall += 28 * len(block.splitlines()) + 10
        else:
            words = re.sub(r"\]\([^)]*\)|[*`$\\]", "", block)
            tall += sum(42 * math.ceil(len(line) / 77) + 4 for line in words.splitlines()) + 20
    return tall


def packed(blocks: list[Any], limit: int = ROOM) -> list[list[Any]]:
    """Blocks on pages of at most `limit` pixels; a heading never stands alone at the foot of one."""
    pages: list[list[Any]] = []
    for block in blocks:
        alone = pages and len(pages[-1]) == 1 and str(pages[-1][0]).startswith(("## ", "> "))
        if not pages or (sum(map(height, pages[-1])) + height(block) > limit and not alone):
            pages.append([])
        pages[-1].append(block)
    return pages


def merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs, those printed one after the other as one."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if "text" in output and kept and "text" in kept[-1]:
            kept[-1].text += output.text
        else:
            kept.append(nbformat.NotebookNode(output))
    return kept


def plain(output: nbformat.NotebookNode) -> str:
    """What an output prints; for a table as many lines as it is tall."""
    data = output.get("data", {})
    table = "\n" * round(1.1 * data.get("text/html", "").count("<tr"))
    return output.get("text") or table or ("" if "image/png" in data else data.get("text/plain", "")) or ""


def rows(text: str) -> int:
    return sum(max(1, math.ceil(len(line) / 110)) for line in text.splitlines())


def type_size(text: str, room: int, least: int = 18) -> float:
    """In em of the slide: so large that the text fits, from `least` to 32 px."""
    widest = max(map(len, text.splitlines()), default=1)
    pixels = min(32, room / 1.35 / (rows(text) + 1), 1205 / 0.605 / max(1, widest))
    return round(max(least, pixels) / PROSE, 3)


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
    lines = [f"<li><a href={p.stem}.html>{html.escape(p.stem[3:].replace('_', ' '))}</a>" for p in books.values()]
    style = "body { font: 24px/1.6 Arial, sans-serif; margin: 2em auto; max-width: 30em; }"
    head = f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Slides</title><style>{style}</style>"
    index = f"{head}<h1>Slides</h1><ol>{''.join(lines)}</ol>"
    project.write_bytes(options.to / "index.html", index.encode())
    print(f"open {project.shown(options.to / 'index.html')}")


if __name__ == "__main__":
    main()
