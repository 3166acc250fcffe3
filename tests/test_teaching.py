"""The promises of the teacher's pages: true to the notebooks, whole, and every place they name can be found."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "teaching"
sys.path.insert(0, str(PAGES))
import fill  # noqa: E402

each_lesson = pytest.mark.parametrize("lesson", fill.LESSONS, ids=lambda path: path.stem)
PLACE = re.compile(r"(\d+\.\d+)\s+((?:`[^`]+`(?:,\s+)?)+)")  # 1.5 `values =`, `pixels =`


def by_hand(lesson: Path) -> str:
    """The page without what is generated."""
    page = (PAGES / f"{lesson.stem}.md").read_text("utf-8")
    return re.sub(r"<!-- (head|predict \d+) -->.*?<!-- /\1 -->", r"<!-- \1 -->", page, flags=re.S)


def part(page: str, title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S)[1]


def first_lines(lesson: Path) -> dict[str, list[str]]:
    """By section, the first two lines of each code cell."""
    found: dict[str, list[list[str]]] = {}
    section = ""
    for cell in nbformat.read(lesson, 4).cells:
        if cell.cell_type == "code":
            found.setdefault(section, []).append(cell.source.splitlines()[:2])
        for heading in re.findall(r"^## (\S+)", cell.source, flags=re.M) if cell.cell_type == "markdown" else []:
            section = heading
            found.setdefault(section, [])
    return found


SECTIONS = {name: lines for lesson in fill.LESSONS for name, lines in first_lines(lesson).items()}


@pytest.mark.parametrize("page", [*(f"{p.stem}.md" for p in fill.LESSONS), "README.md"])
def test_a_page_says_what_its_notebook_says(page):
    assert (PAGES / page).exists()
    assert (PAGES / page).read_text("utf-8") == fill.filled(PAGES / page), "run python docs/teaching/fill.py"


@each_lesson
def test_a_page_has_its_parts_in_order(lesson):
    page = by_hand(lesson)
    assert re.findall(r"^## .+$", page, flags=re.M) == fill.SECTIONS
    assert all(part(page, title[3:]).strip() for title in fill.SECTIONS)
    for below in re.split(r"<!-- predict \d+ -->", part(page, "The Predicts"))[1:]:
        assert re.match(r"\s*- \*\*If wrong:\*\* \S.*?^- \*\*Ask next:\*\* \S", below, flags=re.M | re.S), below
    for title in ("Five misconceptions", "Quiz"):
        entries = re.split(r"^(\d)\. ", part(page, title), flags=re.M)[1:]
        assert entries[::2] == list("12345"), title
        for text in entries[1::2]:
            wanted = PLACE if title != "Quiz" else re.compile(r"<summary>Answer</summary>\n\n +\S[^<]*</details>")
            assert len(wanted.findall(text)) >= 1, text


@each_lesson
@pytest.mark.parametrize("minutes", [45, 90])
def test_a_plan_takes_its_minutes(lesson, minutes):
    rows = re.findall(r"^\| *(\d+) *\|(.*)\|(.*)\|$", part(by_hand(lesson), f"{minutes} minutes"), flags=re.M)
    assert sum(int(first) for first, _, _ in rows) == minutes
    assert all(PLACE.search(where) or re.fullmatch(r" (Recap|Exercises?[ \d,and]*) ", where) for _, where, _ in rows)


@each_lesson
def test_every_cell_and_section_that_is_named_exists(lesson):
    page, own = by_hand(lesson), first_lines(lesson)
    for section, cells in PLACE.findall(page):
        for beginning in re.findall(r"`([^`]+)`", cells):
            cells_there = SECTIONS.get(section, [])
            fits = [c for c in cells_there if any(line.startswith(beginning) for line in c)]
            assert len(fits) == 1, f"{section} `{beginning}` fits {fits} of {cells_there}"
    plans = part(page, "45 minutes") + part(page, "90 minutes")
    assert {section for section, _ in PLACE.findall(plans)} <= set(own), "a plan keeps to its own lesson"
    named = re.findall(r"[Ss]ections? (\d+\.\d+)(?:(?:,| and| to) (\d+\.\d+))?", page)
    assert {section for pair in named for section in pair if section} <= set(SECTIONS)
    exercises = len(re.findall(r"^\d\. \*\*", nbformat.read(lesson, 4).cells[-1].source, flags=re.M))
    asked = [
        int(n) for run in re.findall(r"[Ee]xercises? (\d(?:(?:, | and )\d)*)", page) for n in re.findall(r"\d", run)
    ]
    assert all(1 <= number <= exercises for number in asked), f"{asked} of {exercises}"
    predicts = len(fill.predicts(lesson))
    assert all(int(number) <= predicts for number in re.findall(r"Predicts? (\d+)", page))


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_links_lead_somewhere(page):
    anchors = {
        re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-")
        for h in re.findall(r"^#+ (.+)$", (ROOT / "docs/glossary.md").read_text("utf-8"), flags=re.M)
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        name, _, anchor = link.partition("#")
        assert link.startswith("https://") or (page.parent / name).exists(), link
        assert not name.endswith("glossary.md") or anchor in anchors, link
