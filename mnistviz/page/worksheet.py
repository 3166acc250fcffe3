"""Worksheets for a class: every pupil's own numbers of one network, on paper, and the answers at the end."""

import re
import textwrap
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from mnistviz import project
from mnistviz.errors import choose, refuse
from mnistviz.learn.data import load_digits
from mnistviz.page.exercises import TASKS, Sheet, Table, Task, exercises
from mnistviz.show.picture import STYLE

PAPERS = {"a4": (210, 297), "letter": (216, 279)}  # millimetres
PRINT: Any = {"pdf.fonttype": 42, "text.color": "black", "text.parse_math": False}  # fonts go in, and text stays text
WIDTH, TOP, LINE, HEAD = 182, 9, 4.1, 4.5  # of the print; its upper margin; from line to line; words above a table


def worksheets(
    model: nn.Module, path: str | Path, pupils: int = 30, *, seed: int = 0, paper: str = "a4", title: str = "my network"
) -> Path:
    """`worksheets(model, "worksheets.pdf", 30)` writes a sheet for each pupil and the answers, and returns the path.

    The numbers are the model's own for digits of MNIST's test part. `paper` is a4 or letter.
    """
    size, path = choose("paper", paper, PAPERS), Path(path)
    refuse(not 1 <= pupils <= 200, "no such number of pupils", given=pupils, allowed="1 to 200")
    refuse(path.suffix.lower() != ".pdf", "worksheets are a PDF", given=path.name, allowed="a name that ends in .pdf")
    sheets = exercises(model, load_digits("mnist").test, pupils, seed)
    for missing in [task for task in TASKS if task not in sheets[0].tasks]:
        print(f"“{missing}” is left out: this network has no {TASKS[missing][1]}")
    about: Any = {"Title": f"Worksheets: {title}", "CreationDate": None}
    with mpl.rc_context(STYLE | PRINT), project.atomic(path) as part, PdfPages(part, metadata=about) as pdf:
        for number, sheet in enumerate(sheets, 1):
            pdf.savefig(_page(size, sheet, f"Sheet {number} of {pupils}", title).figure)
        for page in _answers(size, sheets, f"{title}, seed {seed}"):
            pdf.savefig(page.figure)
    return path


class Page:
    """A page whose places are millimetres from the top left of what is printed on."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.figure, left = Figure(figsize=(size[0] / 25.4, size[1] / 25.4)), (size[0] - WIDTH) / 2
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(-left, size[0] - left), ylim=(size[1] - TOP, -TOP))
        self.axes.axis("off")

    def words(self, x: float, y: float, text: object, size: float = 9, **how: Any) -> None:
        """Text that stands on the line y, with a true minus."""
        self.axes.text(x, y, re.sub(r"(?<!\w)-(?=\d)", "−", f"{text}"), fontsize=size, **how)

    def lines(self, y: float, text: str, letters: int) -> float:
        """Sentences from this line on; returns where they end."""
        lines = textwrap.wrap(text, letters)
        for i, line in enumerate(lines):
            self.words(0, y + LINE * i, line)
        return y + LINE * len(lines) - 2.4

    def rule(self, x: float, y: float, end: float) -> None:
        self.axes.hlines(y, x, end, color="black", linewidth=0.6)

    def box(self, x: float, y: float, wide: float, high: float, line: float, **how: Any) -> None:
        self.axes.add_patch(Rectangle((x, y), wide, high, fill=False, linewidth=line, **how))

    def table(self, x: float, y: float, table: Table) -> None:
        """Heads, printed numbers, and boxes to fill in, which have thicker lines."""
        rows, wide, high, y = table.cells, table.wide, table.high, y + HEAD
        small = {"size": 7.5, "family": "DejaVu Sans Mono"} if high < 6 else {"size": 10}
        self.words(x - 4.5, y + len(rows) * high / 2 + 1.5, table.sign, 14, ha="center")
        for i, head in enumerate(table.heads):
            self.words(x + (i + 0.5) * wide * len(rows[0]) / len(table.heads), y - 1.5, head, 8.5, ha="center")
        for (i, row), j in product(enumerate(rows), range(len(rows[0]))):
            if not isinstance(row[j], str):
                self.box(x + j * wide, y + i * high, wide, high, 1 if row[j] is None else 0.4)
            if row[j] is not None:
                self.words(x + (j + 0.5) * wide, y + (i + 0.5) * high + 1.2, row[j], ha="center", **small)
        down, across = table.block or (len(rows), len(rows[0]))
        for i, j in product(range(0, len(rows), down), range(0, len(rows[0]), across)) if table.block else ():
            self.box(x + j * wide, y + i * high, across * wide, down * high, 1.6)

    def task(self, y: float, title: str, task: Task) -> float:
        """A task from here on, its tables from left to right; returns where it ends."""
        self.rule(0, y, WIDTH)
        self.words(0, y + 6, title, 11, weight="bold")
        y = self.lines(y + 11, task.about, 110)
        x = high = 0.0
        for table in task.tables:
            across, left = table.wide * len(table.cells[0]), x + 9 * bool(x)
            if left + across > WIDTH:
                self.room(left, y, high)
                y, left, high = y + high + 1, 0.0, 0.0
            self.table(left, y, table)
            x, high = left + across, max(high, HEAD + table.high * len(table.cells))
        self.room(x + 9, y, high)
        return y + high + 3

    def room(self, x: float, y: float, high: float) -> None:
        """Squares of 5 mm to calculate on, up to the right edge, if there is room for some."""
        columns, rows = int((WIDTH - x) / 5), int((high - HEAD) / 5)
        if columns > 4 and rows > 1:
            left, right, top, foot = WIDTH - 5 * columns, WIDTH, y + HEAD, y + HEAD + 5 * rows
            self.axes.vlines([left + 5 * i for i in range(columns + 1)], top, foot, color="0.75", linewidth=0.4)
            self.axes.hlines([top + 5 * i for i in range(rows + 1)], left, right, color="0.75", linewidth=0.4)


def _page(size: tuple[int, int], sheet: Sheet, number: str, title: str) -> Page:
    page = Page(size)
    heading = f"Inside the network “{title}”"
    page.words(0, 5, heading, min(13, 430 / len(heading)), weight="bold")  # left of the number, however long it is
    page.words(140, 5, number, 13, ha="right", weight="bold")
    page.words(0, 16, "Name")
    page.rule(11, 16.5, 140)
    about = f"Your digit is number {sheet.digit} of MNIST's test part. {_said(sheet)} All numbers are the network's "
    about += "own for it, rounded for paper. Channels, rows, columns and features count from 0."
    page.lines(23, about, 84)
    _digit(page, sheet, WIDTH - 36, 0, 36)
    y = 37.0
    for i, (name, task) in enumerate(sheet.tasks.items(), 1):
        y = page.task(y, f"{i}  {name}", task)
    if task.why:
        page.words(0, y + 2, "The weight goes  ☐ up  ☐ down, because")
        page.rule(66, y + 2.5, WIDTH)
    page.room(0, y + 2, size[1] - 2 * TOP - y - 2)
    return page


def _said(sheet: Sheet) -> str:
    right = "right" if sheet.answer == sheet.label else "wrong"
    return f"It is labelled {sheet.label}; the network answers {sheet.answer}, which is {right}."


def _digit(page: Page, sheet: Sheet, x: float, y: float, side: float) -> None:
    """The digit in black squares, the larger the more ink; and what the first two tasks see of it, in frames."""
    cell, squares = side / 28, []
    for i, j in sheet.image.nonzero().tolist():
        ink = cell * (int(sheet.image[i, j]) / 255) ** 0.5
        squares.append(Rectangle((x + (j + 0.5) * cell - ink / 2, y + (i + 0.5) * cell - ink / 2), ink, ink))
    page.axes.add_collection(PatchCollection(squares, color="black", linewidth=0))
    page.box(x, y, side, side, 0.4)
    for i, task in enumerate(sheet.tasks.values(), 1):
        if task.seen:
            first, last = task.seen[0], task.seen[-1]
            left, top = x + first.left * cell, y + first.top * cell
            wide, high = (last.right + 1 - first.left) * cell, (last.bottom + 1 - first.top) * cell
            for colour, line in (("white", 2.6), ("black", 1)):
                page.box(left, top, wide, high, line, edgecolor=colour, linestyle="-" if i == 1 else (0, (2, 1)))
            halo = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
            page.words(left - 1, top + high / 2 + 1, i, 8, ha="right", weight="bold", bbox=halo)


def _answers(size: tuple[int, int], sheets: list[Sheet], title: str) -> Iterator[Page]:
    """The key: of every sheet all results, those on paper above those of the network."""
    page, y = Page(size), 13.0
    page.words(0, 5, f"Answers: {title}", 13, weight="bold")
    legend = "paper: what the printed numbers give; network: what the network computes. They differ by rounding."
    page.words(0, 11, legend)
    for number, sheet in enumerate(sheets, 1):
        lines = [f"Sheet {number}, digit {sheet.digit}. {_said(sheet)}"]
        for i, task in enumerate(sheet.tasks.values(), 1):
            for start in range(0, len(task.results), 13):
                names, paper, network = zip(*task.results[start : start + 13], strict=True)
                rows = {f"{i}": names, "paper": paper, "network": [f"{value:.4f}" for value in network]}
                lines += [f"{head:<7}" + "".join(f"{cell!s:>9}" for cell in cells) for head, cells in rows.items()]
            lines += [f"{'':<9}{task.why}"] * bool(task.why)
        if y + 2.9 * len(lines) + 3 > size[1] - 2 * TOP:
            yield page
            page, y = Page(size), 0.0
        y += 3
        for i, line in enumerate(lines):
            page.words(0, y + 2.9 * i, line, 7, family="DejaVu Sans Mono", weight="normal" if i else "bold")
        y += 2.9 * len(lines)
    yield page
