"""A lesson cut into pages: which text, code and output stand on which slide, and how large."""

import math
import re
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PROSE, WIDTH, ROOM = 30, 1180, 570  # px of type, of a line, and of what stands under the head of a slide
BLOCK = re.compile(r"<details>.*?</details>|```.*?```|\$\$.*?\$\$|\S(?:(?!\n\n).)*", re.S)
FOLDED = re.compile(r"<details><summary>(\w+)</summary>\s*(.*?)\s*</details>", re.S)
PAGE_IN, PAGE_TITLE = "06", "The network itself: draw a digit, then tap a map"  # before the recap of this lesson
IFRAME = '<iframe data-src="network.html" title="A network that computes here: draw a digit, tap a map"></iframe>'

Part = str | tuple[str, str]  # Markdown, or ("fragment", Markdown) or ("notes", Markdown)


class Deck:
    """`Deck(book, "06").book` is the lesson as nbconvert needs it: a cell for each part of a slide, with its type."""

    def __init__(self, book: NotebookNode, number: str) -> None:
        self.cells: list[NotebookNode] = []
        self.number, self.section, self.question = number, book.cells[0].source.splitlines()[0][2:], ""
        self.book = new_notebook(cells=self.cells, metadata={"title": self.section})
        self.title(book.cells[0].source)
        for cell in book.cells[1:]:
            self.kind = cell.metadata.get("slideshow", {}).get("slide_type", "subslide")
            if self.kind == "notes":
                self.add(cell)
            elif self.kind != "skip":
                self.code(cell) if cell.cell_type == "code" else self.text(cell.source)

    def add(self, cell: NotebookNode, layout: str = "", kind: str = "") -> None:
        """A cell as the next part; with a layout it begins a slide, under the name of its section."""
        data = {"layout": layout} if layout else {}
        if layout and not cell.source.startswith(("# ", "## ")):
            data["where"] = re.sub("[`*]", "", self.section)
        cell.metadata["slideshow"] = {"slide_type": kind or self.kind, "data": data}
        self.cells.append(cell)
        self.kind = self.kind if kind else "subslide"

    def page(self, layout: str, *parts: Part) -> None:
        for i, part in enumerate(parts):
            kind, text = ("-", part) if isinstance(part, str) else part
            self.add(new_markdown_cell(text), "" if i else layout, kind if i else "")
        if layout in ("text", "answer"):  # little text is set larger
            spare = (0.9 * ROOM / max(1, sum(map(height, parts)))) ** 0.5
            size = PROSE + 6 * min(2, max(0, int(5 * spare - 5)))
            self.cells[-len(parts)].metadata.slideshow.data["size"] = str(size)

    def title(self, source: str) -> None:
        title, promise, _, table, *more = source.split("\n\n")
        goals = [f"- {row.split('|')[1].strip()}" for row in table.splitlines()[2:]]
        self.kind, start = "slide", [title, "", promise, "", "**You will be able to**", "", *goals]
        self.page("title", "\n".join(start), ("notes", "\n\n".join([table, *more])))

    def text(self, source: str) -> None:
        """The blocks of a cell: sections, questions, answers and exercises begin slides of their own."""
        waiting: list[Part] = []
        for block in map(str.strip, BLOCK.findall(source)):
            folded = FOLDED.fullmatch(block)
            if block.startswith("## "):
                self.flush(waiting)
                if block == "## Further reading":
                    return
                if block == "## Recap" and self.number == PAGE_IN:
                    self.section = PAGE_TITLE
                    self.page("page", IFRAME)
                self.section, self.kind = block[3:], "slide"
                waiting.append(block)
            elif folded and folded[1] == "Answer":
                self.flush(waiting)
                waiting += [f"> {self.question}", ("fragment", f"### Answer\n\n{folded[2]}")]
            elif folded:  # a hint is shown when asked for; a check is for those who paste it
                waiting.append(("fragment", f"**Hint.** {folded[2]}") if folded[1] == "Hint" else ("notes", folded[2]))
            elif "**Predict.**" in block:
                lead, self.question = map(str.strip, block.split("**Predict.**"))
                heading = [waiting.pop()] if len(waiting) == 1 and str(waiting[0]).startswith("## ") else []
                self.flush(waiting)
                self.page("predict", *heading, *[lead][: bool(lead)], f"### Predict\n\n{self.question}")
            elif not block.startswith("Worked answers"):
                exercise = self.section == "Exercises" and re.match(r"\d\. \*\*", block)
                if exercise and waiting != ["## Exercises"]:
                    self.flush(waiting)
                if block.startswith("$$") and waiting:  # a formula stays with the words before it
                    block = f"{waiting.pop()}\n\n{block}"
                waiting.append(block)
        self.flush(waiting)

    def flush(self, waiting: list[Part]) -> None:
        """The blocks so far as pages, as few as there can be and about equally full."""
        total = sum(map(height, waiting))
        least = math.ceil(total / ROOM)
        tries = (packed(waiting, limit) for limit in range(total // max(1, least), ROOM + 20, 20))
        for page in next((pages for pages in tries if len(pages) <= least), packed(waiting, ROOM)):
            self.page("answer" if str(page[0]).startswith("> ") else "text", *page)
        waiting.clear()

    def code(self, cell: NotebookNode) -> None:
        """Code and what it shows on one slide where both are large enough there, else on two or more."""
        outputs, text = merged(cell.outputs), cell.source
        said, above = "\n".join(map(plain, outputs)), 26 * rows(text) + 20
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        left = ROOM - above - 26 * rows(said)
        first, then = (outputs, []) if left >= 0 else ([], outputs)
        if pictures and first:
            about = pictures[0].metadata.get("image/png", {})
            shape = about.get("width", 1) / about.get("height", 1)
            if min(WIDTH, left * shape) < 0.85 * min(WIDTH, ROOM * shape):
                first, then = [output for output in outputs if output not in pictures], pictures
        shown = f"{text}\n{said}" if first else text
        size = type_size(shown, 26 * rows(shown) if pictures and not then else ROOM)
        self.add(new_code_cell(text, metadata={"size": size}, outputs=first), "code")
        said, room = "\n".join(map(plain, then)), ROOM // 4 if pictures else ROOM + 20
        fits = (rows(said) + 1) * 1.15 * 18 <= room
        for shown in [then] if then and fits else [[output] for output in then]:
            said = "\n".join(map(plain, shown))
            size = type_size(said, room if len(shown) > 1 else ROOM + 20, least=15, line=1.15)
            self.add(new_code_cell("", metadata={"size": size}, outputs=shown), "output")


def height(part: Part) -> int:
    """About how many pixels a block of Markdown takes in `PROSE`."""
    kind, text = part if isinstance(part, tuple) else ("", part)
    tall = 0
    for block in BLOCK.findall(text if kind != "notes" else ""):
        if block.startswith("$$"):
            tall += 150 if "frac" in block or "sum" in block else 90
        elif block.startswith("```"):
            tall += 28 * len(block.splitlines()) + 10
        else:
            words = re.sub(r"\]\([^)]*\)|[*`$\\]", "", block)
            tall += sum(42 * math.ceil(len(line) / 77) + 12 for line in words.splitlines()) + 16
    return tall


def packed(blocks: list[Part], limit: int) -> list[list[Part]]:
    """Blocks on pages of at most `limit` pixels; a heading or a question never stands alone at the foot of one."""
    pages: list[list[Any]] = []
    for block in blocks:
        alone = pages and len(pages[-1]) == 1 and str(pages[-1][0]).startswith(("## ", "> "))
        if not pages or (sum(map(height, pages[-1])) + height(block) > limit and not alone):
            pages.append([])
        pages[-1].append(block)
    return pages


def merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, those printed one after the other as one."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if "text" in output and kept and "text" in kept[-1]:
            kept[-1].text += output.text
        else:
            kept.append(NotebookNode(output))
    return kept


def plain(output: NotebookNode) -> str:
    """What an output prints; for a table as many lines as it is tall."""
    data = output.get("data", {})
    if "image/png" in data:
        return ""
    return output.get("text") or "\n" * round(1.36 * data.get("text/html", "").count("<tr")) or data["text/plain"]


def rows(text: str, size: float = 18) -> int:
    """How many lines a text has once those that are too long for a slide are broken."""
    columns = int((1234 / size - 1.4) / 0.605)
    return sum(max(1, math.ceil(len(line) / columns)) for line in text.splitlines())


def type_size(text: str, room: int, least: int = 18, line: float = 1.35) -> float:
    """In em of the slide: the largest type from `least` to 32 px that fits and breaks few lines."""
    lines = len(text.splitlines())
    for size in range(32, least, -1):
        if rows(text, size) - lines <= max(1, lines // 6) and (rows(text, size) + 1) * line * size <= room:
            return round(size / PROSE, 3)
    return round(least / PROSE, 3)
