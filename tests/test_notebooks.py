"""The promises every notebook keeps: header, order, words, links, questions and answers, outputs."""

import base64
import html
import io
import json
import os
import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from itertools import groupby
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))
from execute import keep_stills, relink, tidy  # noqa: E402

LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
ALL = LESSONS + SOLUTIONS


@cache
def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def outputs(path: Path):
    return [(cell["id"], output) for cell in code(path) for output in cell.outputs]


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


TERMS = {anchor(line[4:]) for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line.startswith("### ")}
SETTINGS = """# Run settings
PROFILE = None  # "quick", "full", or None: use $MNISTVIZ_PROFILE, else "full"
SEED = 42
DATA = "mnist"  # "kaggle": your own train.csv and test.csv in digit-recognizer/
MODEL = "deep"  # the reference weights; "_full/mine": your own network, trained in lesson 04"""
FORMULAS = {  # by what is written in them, and what the code beside them calls
    "02": ("softmax", "convolution", "batch norm"),
    "03": ("gradient step", "chain rule", "convolution", "Adam"),
    "04": ("cross-entropy", "gradient step"),
    "05": ("Wilson",),
    "06": ("receptive field",),
    "10": ("integrated gradients",),
    "11": ("FGSM",),
    "12": ("multiply-adds", "standard deviation", "ensemble"),
    "13": ("bilinear", "softmax regression", "fine-tuning"),
}


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
    assert re.search(r"Class: (4[5-9]|5\d|60) minutes", header.source)
    assert re.search(r"quick \d+ s.*full \d+ (s|minutes)", header.source)
    assert "Writes:" in header.source
    assert settings.metadata.tags == ["parameters"]
    assert "run = mv.start(PROFILE, seed=SEED)" in start.source
    if path.name[:2] not in ("01", "02", "04"):
        assert "mv.load_model(MODEL)" in "".join(cell.source for cell in code(path))


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_the_settings_are_the_same_everywhere(path):
    settings = [cell.source for cell in code(path) if cell.metadata.get("tags")]
    assert settings == [SETTINGS]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_asks_closes_and_numbers_its_sections(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    number = int(path.name[:2])
    sections = re.findall(r"^## (\d+)\.(\d+) ", text, flags=re.M)
    assert sections == [(str(number), str(i)) for i in range(1, len(sections) + 1)]
    asked = re.findall(r"\*\*(Predict)\.\*\*|<summary>(Answer)</summary>", text.split("## Exercises")[0])
    assert [question or answer for question, answer in asked] == ["Predict", "Answer"] * (len(asked) // 2)
    assert len(asked) >= 4
    for part in ("## Recap", "## Exercises", "## Further reading", f"solutions/{path.stem}_solutions.ipynb"):
        assert part in text
    tasks = text.split("## Exercises")[1]
    exercises = re.findall(r"^\d\. \*\*", tasks, flags=re.M)
    assert 4 <= len(exercises) <= 6
    assert "**Pencil and paper" in tasks
    assert tasks.count("<summary>Hint</summary>") >= 2
    assert tasks.count("<summary>Check</summary>") == len(exercises)
    assert all("assert " in check for check in re.findall(r"```python\n(.*?)```", tasks, flags=re.S))
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


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_fits_into_an_hour(path):
    cells = read(path).cells
    assert len(cells) <= 45
    for kind, stretch in groupby(cells, lambda cell: cell.cell_type):
        if kind == "markdown":
            last = list(stretch)
            if last[-1] is not cells[-1]:  # recap and exercises are looked up, not read in one go
                assert sum(len(cell.source.splitlines()) for cell in last) <= 60


@pytest.mark.parametrize("number", FORMULAS)
def test_the_formulas_stand_beside_the_code_that_computes_them(number):
    cells = read(next(p for p in LESSONS if p.name.startswith(number))).cells
    shown = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and "$$" in cell.source]
    for name in FORMULAS[number]:
        near = [i for i in shown if re.search(name, cells[i].source, flags=re.I)]
        assert near, name
        assert all("code" in {cell.cell_type for cell in cells[i + 1 : i + 3]} for i in near), name


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_terms_are_linked_where_they_first_occur_and_are_in_the_glossary(path):
    told = "\n\n".join(cell.source for cell in read(path).cells[1:] if cell.cell_type == "markdown")
    text = re.sub(r"```.*?```|\$\$.*?\$\$|^[#|][^\n]*$|`[^`\n]*`", "", told, flags=re.M | re.S)
    linked = re.findall(r"\[([^\]]+)\]\(\.\./docs/glossary\.md#([\w-]+)\)", text)
    assert len(linked) >= 8
    assert len({term for _, term in linked}) == len(linked), "only the first use is a link"
    assert {term for _, term in linked} <= TERMS
    for words, term in linked:
        before = text[: text.index(f"[{words}](../docs/glossary.md#{term})")]
        before = re.sub(r"\[[^\]]+\]\([^)]+\)", "", before)
        early = re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-]| norm)", before, flags=re.I)
        assert not early, f"{words!r} before its link: …{before[max(0, early.start() - 40) : early.end() + 40]}…"


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_links_lead_somewhere_also_out_of_an_executed_copy(path):
    copy = deepcopy(read(path))
    target = ROOT / "notebooks" / "_full" / path.relative_to(ROOT / "notebooks")
    relink(copy, path, target)
    copies = {ROOT / "notebooks" / "_full" / p.relative_to(ROOT / "notebooks") for p in ALL}
    for book, place in ((read(path), path), (copy, target)):
        for cell in book.cells:
            links = re.findall(r"\]\(([^)\s]+)\)", cell.source) if cell.cell_type == "markdown" else []
            for link in links:
                name, _, part = link.partition("#")
                aim = Path(os.path.normpath(place.parent / name))
                assert link.startswith("http") or aim.exists() or aim in copies, link
                if part and name.endswith(".md"):
                    assert part in {anchor(h) for h in re.findall(r"^#+ (.+)$", aim.read_text(), flags=re.M)}, link
                assert not re.match(r"\.\./(animations|visualizations|models)", link), (
                    "a lesson shows what its run made"
                )


def test_what_is_shipped_keeps_a_plain_picture_of_each_film_and_no_empty_line():
    bundles = [{"text/plain": name, "text/html": "<img>", "image/png": ""} for name in ("Film: a 7", "Picture: a 7")]
    outputs = [nbformat.v4.new_output("display_data", data=bundle) for bundle in ({"text/plain": ""}, *bundles)]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("film", outputs=outputs)])
    tidy(book)
    keep_stills(book)
    kept = [sorted(output.data) for output in book.cells[0].outputs]
    assert kept == [["image/png", "text/plain"], [*sorted(bundles[1])]]


@pytest.mark.parametrize("path", [p for p in LESSONS if not p.name.startswith("05")], ids=lambda p: p.stem)
def test_only_lesson_5_uses_the_test_digits_without_a_word(path):
    section = ""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            section = cell.source if cell.source.startswith("## ") else section + cell.source
        elif re.search(r"\.test\b", cell.source):
            assert re.search(r"test[- ](digit|set|image|part)|judged", section), cell["id"]


def test_the_html_of_a_lesson_keeps_the_alt_text(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs/html/install.py", tmp_path], check=True)
    places = {"JUPYTER_CONFIG_PATH": str(tmp_path / "etc/jupyter"), "JUPYTER_PATH": str(tmp_path / "share/jupyter")}
    command = [sys.executable, "-m", "nbconvert", "--to", "html", f"--output-dir={tmp_path}", str(LESSONS[0])]
    subprocess.run(command, env=os.environ | places, check=True, capture_output=True)
    page = (tmp_path / f"{LESSONS[0].stem}.html").read_text()
    told = [html.unescape(text) for text in re.findall(r'<img[^>]*? alt="([^"]*)"', page)]
    assert told == [o.metadata["image/png"]["alt"] for _, o in outputs(LESSONS[0]) if "image/png" in o.get("data", {})]


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
    assert "models/_full, visualizations, animations" in started.text, "stored outputs come from `make release`"


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_stored_outputs_are_small_and_show_on_any_page(path):
    assert path.stat().st_size <= 450_000
    for where, output in outputs(path):
        assert output.output_type != "error", where
        assert output.get("name") != "stderr", where
        data = output.get("data", {})
        assert data != {"text/plain": ""}, where
        assert not [mime for mime in data if "widget" in mime or "svg" in mime or "pdf" in mime], where
        assert len(data.get("text/html", "")) <= 20_000, where
        text = json.dumps([output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")])
        assert not re.search(r"/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\|\\r", text), where


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_stored_picture_is_a_png_with_alt_text_and_two_pixels_for_one_on_the_page(path):
    for where, output in outputs(path):
        if "image/png" in output.get("data", {}):
            about = output.metadata["image/png"]
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            assert picture.format == "PNG", where
            assert len(about["alt"]) > 15, where
            if output.data["text/plain"].startswith("Picture:"):
                assert picture.width == pytest.approx(2 * about["width"], abs=2), where
