"""Writes what the teacher's pages take from the notebooks, so that times, questions and answers cannot drift.

    python docs/teaching/fill.py            writes the generated parts anew; a lesson without a page gets an empty one
    python docs/teaching/fill.py --check    writes nothing, and fails if a page would change

A page is called like its notebook. What stands between `<!-- head -->` and `<!-- /head -->`, and between
`<!-- predict 1 -->` and `<!-- /predict 1 -->`, is generated; the rest is written by hand, in these sections:

    ## What it is for       two or three sentences
    ## 45 minutes           a table, | minutes | where | what to do |; the minutes add up to 45
    ## 90 minutes           the same for 90
    ## On the board         the sketch, with true numbers
    ## The Predicts         below each generated block two lines: "- **If wrong:** …" and "- **Ask next:** …"
    ## Five misconceptions  1. to 5., each naming the cell that dispels it
    ## Quiz                 1. to 5., each with <details><summary>Answer</summary>, an empty line, answer, </details>

A cell is named by its section and the beginning of its first line, or of its second where two begin alike: 1.5
`values =`, or several of a section, 1.5 `values =`, `pixels =`. tests/test_teaching.py checks all this.
"""

import os
import re
import sys
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent.parent / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
TIMES = r"Class: (?P<minutes>\d+) minutes.*quick (?P<quick>\d+ \w+), full (?P<full>\d+ \w+)"
SECTIONS = [f"## {name}" for name in re.findall(r"^    ## (.+?)  ", __doc__, flags=re.M)]


def from_here(text: str) -> str:
    """The same text, with links that lead from this folder to where they led from the notebook."""
    return re.sub(r"\]\((?!http|#)([^)]+)\)", lambda link: f"]({os.path.relpath(NOTEBOOKS / link[1], HERE)})", text)


def text_of(lesson: Path) -> list[str]:
    return [from_here(cell.source) for cell in nbformat.read(lesson, 4).cells if cell.cell_type == "markdown"]


def header(lesson: Path) -> dict:
    """What the first cell of a lesson says: title, promise, goals, minutes of class, times of a run."""
    source = text_of(lesson)[0]
    rows = [row.strip("| ").split(" | ") for row in source.splitlines() if row.startswith("| ")][1:]
    return {
        "title": source.splitlines()[0][2:],
        "promise": source.splitlines()[2],
        "goals": [row[0].rstrip(" |") for row in rows],
        "needs": [cell for row in rows for cell in row[1:] if cell and not re.match("Class|Runs|Writes", cell)],
        **re.search(TIMES, source, flags=re.S).groupdict(),
    }


def head(lesson: Path) -> str:
    told = header(lesson)
    parts = (
        f"# {told['title']}: for the teacher\n\n{told['promise']}",
        f"The lesson: [{lesson.name}]({os.path.relpath(lesson, HERE)}). Class: {told['minutes']} minutes. "
        f"A run on one slow core: quick {told['quick']}, full {told['full']}.  \n" + ". ".join(told["needs"]) + ".",
        "It promises: *you will be able to*\n\n" + ";\n".join(f"- {goal}" for goal in told["goals"]) + ".",
        "[All lessons](README.md)",
    )
    return "\n\n".join(parts)


def predicts(lesson: Path) -> list[str]:
    """Each question with the section it stands in, and the answer that is folded after its result."""
    found, section = [], ""
    parts = r"^## (\d+\.\d+)|\*\*Predict\.\*\* (.+?)(?=\n\n|\Z)|<summary>Answer</summary>\s+(.+?)\s+</details>"
    for number, question, answer in re.findall(parts, "\n\n".join(text_of(lesson)), flags=re.M | re.S):
        section = number or section
        if question:
            found.append(f"**Predict {len(found) + 1}, section {section}.** {question}")
        elif answer:
            found[-1] += "\n\n" + re.sub("^", "> ", answer, flags=re.M)
    return found


def index() -> str:
    """A row for each lesson; then the pages that belong to none."""
    rows = ["| Lesson | Class, minutes | Run, quick | Run, full |", "|---|---:|---:|---:|"]
    for path in LESSONS:
        told = header(path)
        where = f"[{told['title']}]({path.stem}.md) ([notebook]({os.path.relpath(path, HERE)}))"
        rows.append(f"| {where} | {told['minutes']} | {told['quick']} | {told['full']} |")
    others = {page.name: page.read_text("utf-8").splitlines()[0][2:] for page in sorted(HERE.glob("[a-z]*.md"))}
    return "\n".join([*rows, "", *(f"- [{title}]({name})" for name, title in others.items())]).strip()


def marked(name: str, text: str = "") -> str:
    return f"<!-- {name} -->\n{text}<!-- /{name} -->"


def filled(page: Path) -> str:
    """The page with its generated parts anew; what is written by hand stays."""
    parts = {"index": index()}
    if page.name != "README.md":
        lesson = NOTEBOOKS / f"{page.stem}.ipynb"
        parts = {"head": head(lesson)} | {f"predict {i}": text for i, text in enumerate(predicts(lesson), 1)}
    first, *rest = map(marked, parts)
    empty = "\n\n".join([first, *SECTIONS[:5], *rest, *SECTIONS[5:], ""])
    text = page.read_text("utf-8") if page.exists() else empty
    marks = re.findall(r"<!-- (index|head|predict \d+) -->", text)
    if marks != list(parts):
        sys.exit(f"{page.name} has the marks {marks}, its notebook asks for {list(parts)}: change them by hand")
    for name, part in parts.items():
        text = re.sub(marked(name, ".*?"), marked(name, part + "\n").replace("\\", r"\\"), text, flags=re.S)
    return text


if __name__ == "__main__":
    new = {page: filled(page) for page in [*(HERE / f"{lesson.stem}.md" for lesson in LESSONS), HERE / "README.md"]}
    changed = [page for page in new if not page.exists() or page.read_text("utf-8") != new[page]]
    if "--check" in sys.argv:
        sys.exit(f"would change: {', '.join(page.name for page in changed)}" if changed else 0)
    for page in changed:
        page.write_text(new[page], "utf-8", newline="\n")
