"""What a newcomer reads is true: links, pictures, commands, tables, code; and what a release says of itself agrees."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

import mnistviz as mv
from mnistviz.__main__ import parser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES += [path for room in ("docs", "studies", "digit-recognizer") for path in sorted((ROOT / room).rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(marker: str) -> list[list[str]]:
    """The cells of the table that follows a text, without its head."""
    rows = re.search(r"(?:\|.*\n)+", README[README.index(marker) :])[0].splitlines()[2:]
    return [[cell.strip() for cell in row.replace("\u00a0", " ").strip("|").split(" | ")] for row in rows]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_and_pictures_of_every_page_are_there(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.S)
    for alt, link in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text):
        assert len(alt) > 15, f"{link} has no alt text"
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, part = link.partition("#")
        if "://" not in link:
            aim = (path.parent / name).resolve() if name else path
            assert aim.exists(), link
            assert not part or part in anchors(aim), link


def test_commands_and_targets_of_every_page_exist() -> None:
    seen = 0
    for path in PAGES:
        text = path.read_text()
        assert set(re.findall(r"(?:`|^)make ([a-z]+)\b", text, flags=re.M)) <= TARGETS, named(path)
        for line in re.findall(r"python -m mnistviz ([a-z][^`\n]*)", text):
            command = re.split(r"  +", line)[0]  # what it does follows after a gap
            if "|" not in command:
                parser().parse_args(shlex.split(command))  # ends the test where it is none
                seen += 1
    assert seen > 20


def test_the_table_of_lessons_says_what_their_headers_say() -> None:
    for number, lesson, _, minutes, runs in table("## The lessons"):
        title, name = re.fullmatch(r"\[(.+)\]\((.+)\)", lesson).groups()
        header = nbformat.read(ROOT / name, as_version=4).cells[0].source
        assert header.startswith(f"# {number} · {title}\n")
        assert f"Class: {minutes.removesuffix(' min')} minutes" in header
        spoken = [time.replace(" min", " minutes") for time in runs.split(" / ")]
        times = [re.search(rf"{profile} (\d+ (?:s|minutes))", header)[1] for profile in ("quick", "full")]
        assert spoken == times, lesson


def test_results_are_quoted_as_they_were_measured() -> None:
    rows = subprocess.run([sys.executable, "-m", "benchmarks.published"], check=True, capture_output=True, text=True)
    for row in rows.stdout.splitlines()[2:]:
        assert row in README
    results = (ROOT / "docs" / "results.md").read_text()
    card = mv.read_card(ROOT / "models" / "deep" / "best_mnist_model.pth")
    assert f"the other 9,000, best epoch | {card['metrics']['val_accuracy']:.2%} right" in results
    assert re.search(r"`deep`, (.+?%) of the test digits", README)[1] in results
    measured = (ROOT / "benchmarks" / "results.md").read_text().splitlines()
    quoted = [line for line in README.splitlines() if line.count("|") == 6 and "×" in line]
    assert quoted
    assert set(quoted) <= set(measured)


def test_the_code_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert 'save("maps.png")' in code
    given: dict[str, object] = {}
    exec(code.replace("maps.png", (tmp_path / "maps.png").as_posix()), given)
    assert (tmp_path / "maps.png").stat().st_size > 10_000
    assert int(re.search(r"the (\d+) products", code)[1]) == given["trace"]["conv2"].weight[5].numel()


def test_the_page_to_try_is_of_todays_code_and_weights(tmp_path: Path) -> None:
    fresh = mv.page(mv.load_model("simple_hands"), tmp_path / "lab.html", title="simple_hands").read_text()
    ours = (ROOT / "docs" / "lab.html").read_text()
    data = re.compile(r'<script type="application/json" id="network">(.*?)</script>', flags=re.S)
    assert data.sub("", ours) == data.sub("", fresh)
    kept, made = (json.loads(data.search(page)[1]) for page in (ours, fresh))
    for each in (kept, made):
        each.pop("reference")  # sums of another processor may differ in their last digits
    assert kept == made


def test_the_picture_of_the_house_is_what_the_imports_say() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "house.py", "--check"], check=True)


# ── a release ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_release_has_one_version_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version, date = re.search(r"^## (\S+), (\S+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M).groups()
    assert version == PROJECT["version"] == mv.__version__ == cited["version"]
    assert date == str(cited["date-released"])


def test_a_wheel_holds_every_file_of_the_library() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    held = {path for glob in settings["package-data"]["mnistviz"] for path in (ROOT / "mnistviz").glob(glob)}
    kinds = (".pyi", ".toml", ".mplstyle", ".js", ".css", ".html", ".typed", ".json")
    assert {
        path for path in (ROOT / "mnistviz").rglob("*.*") if path.suffix in kinds or path.name == "py.typed"
    } == held


def test_what_runs_elsewhere_names_targets_extras_and_pythons_that_exist() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make .venv/lessons"
    assert "$(LESSONS): pyproject.toml" in (ROOT / "Makefile").read_text()
    pythons = [container["image"].removeprefix("python:")]
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        pythons += re.findall(r'"(3\.\d+)"', text)
        assert set(re.findall(r"make ([a-z]+)", text)) <= TARGETS
        for extras in re.findall(r'-e "\.\[(.+?)\]"', text + (ROOT / "docs" / "install.md").read_text()):
            assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
        for name in re.findall(r"[\w/.]+\.(?:ipynb|txt|py)\b|tests/\w+", text):
            assert (ROOT / name).exists(), name
    wanted = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert all(wanted.contains(version) for version in pythons)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["entry"].split()[0].rpartition("/")[2] for hook in hooks} == {"ruff", "mypy", "python"}
