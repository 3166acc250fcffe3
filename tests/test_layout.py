"""What must stay true of the repository as a whole."""

import ast
import csv
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import mnistviz as mv

REPOSITORY = Path(__file__).resolve().parent.parent
LIBRARY = REPOSITORY / "mnistviz"
FILES = sorted(LIBRARY.rglob("*.py"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    re.sub(r"[-_.]+", "-", name).lower(): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
}


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imports(path: Path) -> Iterator[str]:
    """The full name of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("part", "barred"),
    [
        ("learn", ("mnistviz.look", "mnistviz.show", "matplotlib", "seaborn", "PIL.ImageDraw", "imageio")),
        ("look", ("mnistviz.learn", "mnistviz.show", "matplotlib", "seaborn", "imageio")),
    ],
)
def test_imports_point_one_way(part: str, barred: tuple[str, ...]) -> None:
    for path in (LIBRARY / part).rglob("*.py"):
        for name in imports(path):
            assert not any(f"{name}.".startswith(f"{b}.") for b in barred), f"{named(path)} imports {name}"
            assert name != "mnistviz", f"{named(path)} imports the whole library"


def test_pictures_never_run_a_model() -> None:
    runs = {"predict", "evaluate", "logits", "measure", "fit", "load_model", "build", "forward", "no_grad"}
    for path in (LIBRARY / "show").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in runs | {"model"}, f"{named(path)} calls {called}"
        for name in imports(path):
            assert not name.startswith(("torch.nn", "mnistviz.learn.models", "mnistviz.learn.train.fit"))


def test_library_files_can_be_read_in_one_sitting() -> None:
    long = {named(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 300}
    assert not long


def test_every_library_file_says_what_it_is() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), named(path)


def test_every_public_name_exists_once() -> None:
    assert len(set(mv.__all__)) == len(mv.__all__)
    for name in mv.__all__:
        assert getattr(mv, name) is not None
    assert mv.__version__ == PROJECT["version"]


def test_every_tests_file_mirrors_a_library_file_or_a_folder() -> None:
    tests = REPOSITORY / "tests"
    for path in tests.rglob("test_*.py"):
        about, folder = path.stem.removeprefix("test_"), LIBRARY / path.parent.relative_to(tests)
        candidates = [folder / f"{about}.py", folder / f"__{about}__.py", folder / about, REPOSITORY / about]
        assert any(c.exists() for c in candidates) or path == Path(__file__).resolve(), named(path)


def test_every_library_file_has_its_tests_file() -> None:
    for path in FILES:
        if path.name != "__init__.py":
            folder = REPOSITORY / "tests" / path.parent.relative_to(LIBRARY)
            own = folder / f"test_{path.stem.strip('_')}.py"
            package = folder.with_name(f"test_{folder.name}.py")  # a package of files may be tested by one file
            assert own.exists() or package.exists(), f"{named(path)} has no tests"


def test_tests_have_names_of_their_own() -> None:
    names = [path.name for path in (REPOSITORY / "tests").rglob("*.py")]
    assert len(set(names)) == len(names)


# ── installing ────────────────────────────────────────────────────────────────────────────────────────────


def environment() -> tuple[dict[str, str], list[str]]:
    """What environment.yml takes from conda, by name, and the lines it hands to pip."""
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    conda = {re.match(r"[\w.-]+", entry)[0]: entry for entry in listed if isinstance(entry, str)}
    return conda, next(entry["pip"] for entry in listed if isinstance(entry, dict))


def test_environment_and_pyproject_ask_for_the_same_python() -> None:
    conda, _ = environment()
    assert conda["python"] == f"python{PROJECT['requires-python']}"
    lowest = PROJECT["requires-python"].removeprefix(">=")
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    assert settings["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert settings["mypy"]["python_version"] == lowest


def test_environment_lists_the_packages_and_ranges_of_pyproject_at_the_tested_versions() -> None:
    conda, pip = environment()
    assert set(conda) == {"python", "pip"}
    assert pip[0] == "-c constraints.txt"
    assert pip[-1] == "-e ."
    assert pip[1:-1] == PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]


@pytest.mark.parametrize("group", ["dependencies", *EXTRAS])
def test_the_tested_versions_satisfy_every_range(group: str) -> None:
    for line in PROJECT["dependencies"] if group == "dependencies" else EXTRAS[group]:
        wanted = Requirement(line)
        pin = PINS.get(re.sub(r"[-_.]+", "-", wanted.name).lower())
        assert pin, f"{wanted.name} is not in constraints.txt"
        assert wanted.specifier.contains(pin), f"{wanted} does not allow {pin}"
        assert wanted.specifier, f"{wanted} has no lowest version"


def test_torch_and_torchvision_are_pinned_as_a_pair() -> None:
    floors = {(r := Requirement(line)).name: str(r.specifier).removeprefix(">=") for line in PROJECT["dependencies"]}
    pairs = {"2.6": "0.21", "2.15": "0.29"}  # as torchvision's own releases state them
    for versions in (PINS, floors):
        torch, vision = Version(versions["torch"]), Version(versions["torchvision"])
        assert pairs[f"{torch.major}.{torch.minor}"] == f"{vision.major}.{vision.minor}"
        assert torch.local is vision.local is None  # +cpu would not match the registry's torchvision


def test_every_third_party_import_is_a_stated_dependency() -> None:
    stated = {Requirement(line).name.lower() for line in PROJECT["dependencies"]}
    called = {"sklearn": "scikit-learn", "PIL": "pillow", "scipy": "scikit-learn", "IPython": None, "ipywidgets": None}
    for path in FILES:
        for name in imports(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top == "mnistviz":
                continue
            package = called.get(top, top.lower())
            assert package is None or package in stated, f"{named(path)} imports {top}"


# ── reference weights ─────────────────────────────────────────────────────────────────────────────────────

SHIPPED = sorted(p for p in (REPOSITORY / "models").glob("[!_]*/*.pth"))


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_shipped_weights_are_what_their_card_says(path: Path) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["architecture"] == path.parent.name.removesuffix("_robust")
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    model = mv.load_model(path)
    assert card["parameters"] == mv.models.count_parameters(model)
    with (path.parent / "history.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if int(r["epoch"]) == card["epoch"])
    for measure, value in card["metrics"].items():
        assert float(row[measure]) == value


def test_the_best_shipped_weights_are_of_the_best_epoch() -> None:
    for path in SHIPPED:
        if path.name.startswith("best_"):
            card = mv.read_card(path)
            keep = card["recipe"]["keep"]
            with (path.parent / "history.csv").open() as file:
                values = [float(r[f"val_{keep}"]) for r in csv.DictReader(file)]
            assert card["metrics"][f"val_{keep}"] == (max if keep == "accuracy" else min)(values)


def test_no_unfinished_file_is_shipped() -> None:
    for folder in ("models", "visualizations", "animations"):
        for path in (REPOSITORY / folder).glob("[!_]*/*"):
            assert not path.name.endswith((".part", "resume.pt")), named(path)


# ── figures quoted ────────────────────────────────────────────────────────────────────────────────────────


def test_the_readme_quotes_the_measured_results_as_they_were_measured() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    results = REPOSITORY / "benchmarks" / "results"
    kinds = [json.loads((results / f"{kind}.json").read_text())["systems"] for kind in ("published", "tuned")]
    for theirs, ours in zip(*kinds, strict=True):
        cells = [theirs["published"], *(f"{s['measured']} ({s['seconds']:.0f} s)" for s in (theirs, ours))]
        assert f"| {' | '.join(cells)} |" in readme
    deep = json.loads((results / "accuracy.json").read_text())
    assert f"{deep['mean']:.2%} ± {deep['sd']:.2%}" in readme
    card = mv.read_card(REPOSITORY / "models" / "deep" / "best_mnist_model.pth")
    assert f"{card['metrics']['val_accuracy']:.2%} (published: 99.49 %)" in readme
    measured = (REPOSITORY / "benchmarks" / "results.md").read_text().splitlines()
    quoted = [line for line in readme.splitlines() if line.count("|") == 6 and "×" in line]
    assert quoted
    assert set(quoted) <= set(measured)
