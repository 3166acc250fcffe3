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

A cell is named by its section and how its first line begins (its second, where two begin alike): 1.5 `values =`, or
several, 1.5 `values =`, `pixels =`. tests/test_teaching.py checks all this.
"""

import json
import posixpath
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent.parent / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
SECTIONS = [f"## {name}" for name in re.findall(r"^    ## (.+?)  ", __doc__, flags=re.M)]


def cells(lesson: Path) -> list[tuple[str, str]]:
    """The cells of a notebook: of what kind each is, and its text."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(lesson.read_text("utf-8"))["cells"]]


def text_of(lesson: Path) -> str:
    """What a lesson tells; links lead from this folder to where they led from the notebook."""
    text = "\n\n".join(source for kind, source in cells(lesson) if kind == "markdown")
    inside = r"\]\((?!http|#)([^)]+)\)"
    return re.sub(inside, lambda link: f"]({posixpath.relpath('/notebooks/' + link[1], '/docs/teaching')})", text)


def header(lesson: Path) -> dict:
    """What the first cell of a lesson says: title, promise, goals, minutes of class, times of a run."""
    source = text_of(lesson).split("\n## ")[0]
    times = re.search(r"Class: (?P<minutes>\d+).*quick (?P<quick>\d+ \w+), full (?P<full>\d+ \w+)", source, re.S)
    rows = [row.strip("| ").split(" | ") for row in source.splitlines() if row.startswith("| ")][1:]
    return {
        "title": source.split("\n")[0][2:],
        "promise": source.split("\n")[2],
        "goals": [row[0].rstrip(" |") for row in rows],
        "needs": [cell for row in rows for cell in row[1:] if cell and not re.match("Class|Runs|Writes", cell)],
        **times.groupdict(),
    }


def head(lesson: Path) -> str:
    told = header(lesson)
    parts = (
        f"# {told['title']}: for the teacher\n\n{told['promise']}",
        f"The lesson: [{lesson.name}](../../notebooks/{lesson.name}). Class: {told['minutes']} minutes. "
        f"A run on one slow core: quick {told['quick']}, full {told['full']}.\n\n" + ". ".join(told["needs"]) + ".",
        "It promises: *you will be able to*\n\n" + ";\n".join(f"- {goal}" for goal in told["goals"]) + ".",
        "[All lessons](README.md)",
    )
    return "\n\n".join(parts)


def predicts(lesson: Path) -> list[str]:
    """Each question with the section it stands in, and the answer that is folded after its result."""
    found, section = [], ""
    parts = r"^## (\d+\.\d+)|\*\*Predict\.\*\* (.+?)(?=\n\n|\Z)|<summary>Answer</summary>\s+(.+?)\s+</details>"
    for number, question, answer in re.findall(parts, text_of(lesson), flags=re.M | re.S):
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
        told = header(path) | {"stem": path.stem, "book": f"../../notebooks/{path.name}"}
        rows.append("| [{title}]({stem}.md) ([notebook]({book})) | {minutes} | {quick} | {full} |".format(**told))
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
    top, *rest = map(marked, parts)
    text = page.read_text("utf-8") if page.exists() else "\n\n".join([top, *SECTIONS[:5], *rest, *SECTIONS[5:], ""])
    marks = re.findall(r"<!-- (index|head|predict \d+) -->", text)
    if marks != list(parts):
        sys.exit(f"{page.name} has the marks {marks}, its notebook asks for {list(parts)}: change them by hand")
    for name, part in parts.items():
        text = re.sub(marked(name, ".*?"), marked(name, part + "\n").replace("\\", r"\\"), text, flags=re.S)
    return text


if __name__ == "__main__":
    new = {page: filled(page) for page in [*(HERE / f"{lesson.stem}.md" for lesson in LESSONS), HERE / "README.md"]}
    changed = [page for page in new if not page.exists() or page.read_text("utf-8") != new[page]]
    if "--check" in sys.argv and changed:
        sys.exit("would change: " + ", ".join(page.name for page in changed))
    for page in changed:
        page.write_text(new[page], "utf-8", newline="\n")
