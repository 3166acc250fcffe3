"""The promises of the teacher's pages: true to the notebooks, whole, and every place they name can be found."""

import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "teaching"
sys.path.insert(0, str(PAGES))
import fill  # noqa: E402

each_lesson = pytest.mark.parametrize("lesson", fill.LESSONS, ids=lambda path: path.stem)
PLACE = re.compile(r"(\d+\.\d+)\s+((?:`[^`]+`(?:,\s+)?)+)")  # 1.5 `values =`, `pixels =`
IF_WRONG = re.compile(r"\s*- \*\*If wrong:\*\* \S.*?^- \*\*Ask next:\*\* \S", flags=re.M | re.S)
ANSWERED = re.compile(r"<summary>Answer</summary>\n\n +\S[^<]*</details>")


def by_hand(lesson: Path) -> str:
    """The page without what is generated."""
    page = (PAGES / f"{lesson.stem}.md").read_text("utf-8")
    return re.sub(r"<!-- (head|predict \d+) -->.*?<!-- /\1 -->", r"<!-- \1 -->", page, flags=re.S)


def part(page: str, title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S)[1]


@cache
def beginnings(lesson: Path) -> dict[str, list[list[str]]]:
    """By section, the first two lines of each code cell."""
    found, section = {"": []}, ""
    for kind, source in fill.cells(lesson):
        if kind == "code":
            found[section].append(source.splitlines()[:2])
            continue
        for section in re.findall(r"^## (\S+)", source, flags=re.M):
            found[section] = []
    return found


@cache
def sections() -> dict[str, list[list[str]]]:
    return {name: there for lesson in fill.LESSONS for name, there in beginnings(lesson).items()}


@pytest.mark.parametrize("page", [*(f"{lesson.stem}.md" for lesson in fill.LESSONS), "README.md"])
def test_a_page_says_what_its_notebook_says(page):
    assert (PAGES / page).read_text("utf-8") == fill.filled(PAGES / page), "run python docs/teaching/fill.py"


@each_lesson
def test_a_page_is_whole(lesson):
    page = by_hand(lesson)
    assert re.findall(r"^## .+$", page, flags=re.M) == fill.SECTIONS
    assert all(part(page, title[3:]).strip() for title in fill.SECTIONS)
    below = re.split(r"<!-- predict \d+ -->", part(page, "The Predicts"))[1:]
    assert all(IF_WRONG.match(lines) for lines in below)
    for title, wanted in {"Five misconceptions": PLACE, "Quiz": ANSWERED}.items():
        entries = re.split(r"^(\d)\. ", part(page, title), flags=re.M)[1:]
        assert entries[::2] == list("12345"), title
        assert all(wanted.search(text) for text in entries[1::2]), title


@each_lesson
@pytest.mark.parametrize("minutes", [45, 90])
def test_a_plan_takes_its_minutes_and_keeps_to_its_lesson(lesson, minutes):
    rows = re.findall(r"^\| *(\d+) *\|(.*)\|(.*)\|$", part(by_hand(lesson), f"{minutes} minutes"), flags=re.M)
    assert sum(int(first) for first, _, _ in rows) == minutes
    for _, where, _ in rows:
        assert PLACE.search(where) or re.fullmatch(r" (Recap|Exercises?[ \d,and]*) ", where), where
        assert {section for section, _ in PLACE.findall(where)} <= set(beginnings(lesson))


@each_lesson
def test_every_cell_section_exercise_and_predict_that_is_named_exists(lesson):
    page = by_hand(lesson)
    for section, cells in PLACE.findall(page):
        for beginning in re.findall(r"`([^`]+)`", cells):
            there = sections().get(section, [])
            fits = [lines for lines in there if any(line.startswith(beginning) for line in lines)]
            assert len(fits) == 1, f"{section} `{beginning}` fits {fits} of {there}"
    runs = re.findall(r"[Ss]ections? (\d+\.\d+(?:(?:,| and|, and| to) \d+\.\d+)*)", page)
    assert {name for run in runs for name in re.findall(r"\d+\.\d+", run)} <= set(sections())
    exercises = len(re.findall(r"^\d\. \*\*", fill.cells(lesson)[-1][1], flags=re.M))
    asked = re.findall(r"[Ee]xercises? (\d(?:(?:, | and )\d)*)", page)
    assert all(1 <= int(number) <= exercises for run in asked for number in re.findall(r"\d", run)), asked
    assert all(int(n) <= len(fill.predicts(lesson)) for n in re.findall(r"Predicts? (\d+)", page))


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_links_lead_somewhere(page):
    terms = re.findall(r"^### (.+)$", (ROOT / "docs/glossary.md").read_text("utf-8"), flags=re.M)
    anchors = {re.sub(r"[^\w\- ]", "", term.lower()).replace(" ", "-") for term in terms}
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        name, _, anchor = link.partition("#")
        assert link.startswith("https://") or (page.parent / name).exists(), link
        assert not name.endswith("glossary.md") or anchor in anchors, link
