"""The promises every notebook keeps: header, order, links, tags, outputs."""

import base64
import json
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
ALL = LESSONS + SOLUTIONS


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def outputs(path: Path):
    return [(cell["id"], output) for cell in code(path) for output in cell.outputs]


def test_the_readme_lists_exactly_the_lessons_there_are():
    listed = re.findall(r"\]\((notebooks/\d\d_\w+\.ipynb)\)", (ROOT / "README.md").read_text())
    assert sorted(set(listed)) == [p.relative_to(ROOT).as_posix() for p in LESSONS]
    assert len(LESSONS) >= 3


def test_every_lesson_has_solutions_and_every_solution_a_lesson():
    assert [p.stem.removesuffix("_solutions") for p in SOLUTIONS] == [p.stem for p in LESSONS]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_opens_with_the_header(path):
    header, settings, start = read(path).cells[:3]
    number = int(path.name[:2])
    assert re.match(rf"# {number} · \S.*\n\n\*.+\*\n", header.source), "number, title and a one-sentence promise"
    navigation = next(line for line in header.source.splitlines() if line.count("](") + line.count("**") > 1)
    assert re.findall(r"\((\d\d_\w+\.ipynb)\)", navigation) == [p.name for p in LESSONS if p != path]
    assert f"**{number} " in navigation, "the current lesson stands bold"
    assert "| You will be able to | Before you start |" in header.source
    for word in ("quick", "full", "Writes:"):
        assert word in header.source
    assert settings.metadata.tags == ["parameters"]
    assert re.fullmatch(r"# Run settings\nPROFILE = None  # .+\nSEED = \d+", settings.source)
    assert "run = mv.start(PROFILE, seed=SEED)" in start.source


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_asks_closes_and_numbers_its_sections(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    number = int(path.name[:2])
    sections = re.findall(r"^## (\d+)\.(\d+) ", text, flags=re.M)
    assert sections == [(str(number), str(i)) for i in range(1, len(sections) + 1)]
    assert text.count("**Predict.**") >= 2
    for part in ("## Recap", "## Exercises", "## Further reading", f"solutions/{path.stem}_solutions.ipynb"):
        assert part in text
    exercises = re.findall(r"^\d\. \*\*", text.split("## Exercises")[1], flags=re.M)
    assert 4 <= len(exercises) <= 6
    solved = [c.source for c in read(ROOT / "notebooks/solutions" / f"{path.stem}_solutions.ipynb").cells]
    assert sum(bool(re.match(r"## \d\. ", source)) for source in solved) == len(exercises)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_cells_are_short_and_know_nothing_of_profiles_or_paths(path):
    for cell in code(path):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 15, cell["id"]
        assert not re.search(r"profile(\.name)? *(==|!=|in)|sys\.path|\bif CI\b|tqdm|plt\.show|%pip|!pip", cell.source)
    assert "allow_errors" not in path.read_text()
    assert not {tag for cell in code(path) for tag in cell.metadata.get("tags", [])} - {"parameters"}


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_metadata_is_plain_and_ids_are_stable_words(path):
    book = read(path)
    assert book.metadata.kernelspec.name == "python3"
    assert set(book.metadata) <= {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in book.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9-]+", i) and not re.fullmatch(r"[0-9a-f]{8}", i) for i in ids)
    assert all("execution" not in cell.metadata for cell in book.cells)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_stored_outputs_are_of_one_full_run_from_top_to_bottom(path):
    cells = [cell for cell in code(path) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    started = next(o for _, o in outputs(path) if o.output_type == "stream" and "profile" in o.text)
    assert re.search(r"^profile +full ", started.text, flags=re.M)
    assert "models, visualizations, animations" in started.text, "stored outputs come from `make release`"


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_stored_outputs_are_small_and_show_on_any_page(path):
    assert path.stat().st_size <= 400_000
    for where, output in outputs(path):
        assert output.output_type != "error", where
        assert output.get("name") != "stderr", where
        data = output.get("data", {})
        assert not [mime for mime in data if "widget" in mime or "svg" in mime or "pdf" in mime], where
        assert len(data.get("text/html", "")) <= 20_000, where
        text = json.dumps([output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")])
        assert not re.search(r"/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\|\\r", text), where


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_stored_picture_is_a_png_with_alt_text(path):
    for where, output in outputs(path):
        if "image/png" in output.get("data", {}):
            assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG"), where
            assert len(output.metadata["image/png"]["alt"]) > 15, where
