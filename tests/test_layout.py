"""What must stay true of the repository as a whole."""

import ast
import csv
import doctest
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
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


# ── rooms ─────────────────────────────────────────────────────────────────────────────────────────────────

ROOMS = ("learn", "look", "show", "animate", "page")  # one floor each; the files beside them are the ground
MAY_IMPORT = {
    "ground": {"ground"},
    "learn": {"ground", "learn"},
    "look": {"ground", "look"},
    "show": {"ground", "learn", "look", "show"},
    "animate": {"ground", "learn", "look", "show", "animate"},
    "page": {"ground", "learn", "look", "show", "animate", "page"},
}


def room_of(path: Path) -> str:
    part = path.relative_to(LIBRARY).parts[0]
    return part if part in ROOMS else "ground"


def imported_files(path: Path) -> set[Path]:
    """The library's files that a file imports, wherever in it, for the type checker alone too."""
    files = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "mnistviz":
            continue
        candidates = (LIBRARY.joinpath(*parts[1:end]) for end in (len(parts), len(parts) - 1))
        files |= {f for c in candidates for f in (c.with_suffix(".py"), c / "__init__.py") if f.exists() and f != path}
    return {file for file in files if file.parent != LIBRARY or file.name != "__init__.py"}


def test_imports_point_only_downwards() -> None:
    for path in FILES:
        if path.name != "__main__.py":  # the command line stands on top of everything
            for other in imported_files(path):
                assert room_of(other) in MAY_IMPORT[room_of(path)], f"{named(path)} imports {named(other)}"
            assert "mnistviz" not in set(imports(path)), f"{named(path)} imports the whole library"


def test_no_imports_go_in_a_circle() -> None:
    edges = {path: imported_files(path) for path in FILES if path.name not in ("__init__.py", "__main__.py")}
    while leaves := {path for path, others in edges.items() if not others & edges.keys()}:
        edges = {path: others for path, others in edges.items() if path not in leaves}
    assert not edges, f"these import one another: {sorted(map(named, edges))}"


def test_learn_and_look_draw_nothing() -> None:
    barred = ("matplotlib", "seaborn", "imageio", "PIL.ImageDraw")
    for path in FILES:
        if room_of(path) in ("learn", "look"):
            assert not [name for name in imports(path) if f"{name}.".startswith(barred)], named(path)


def test_pictures_never_run_a_model() -> None:
    runs = {"predict", "evaluate", "logits", "measure", "fit", "load_model", "build", "forward", "no_grad"}
    for path in (LIBRARY / "show").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in runs | {"model"}, f"{named(path)} calls {called}"
        for name in imports(path):
            assert not name.startswith(("torch.nn", "mnistviz.learn.models", "mnistviz.learn.train.fit"))


def test_a_scene_has_one_name() -> None:
    from mnistviz import commands
    from mnistviz.animate.scenes import SCENES

    assert tuple(SCENES) == commands.SCENES
    for scene in SCENES:
        assert (LIBRARY / "animate" / f"{scene}.py").exists()
        assert callable(getattr(mv.animate, scene))
        assert (REPOSITORY / "animations" / f"{scene}.gif").exists()


# ── size ──────────────────────────────────────────────────────────────────────────────────────────────────

CORE = (  # what a learner opens first
    "learn/data", "learn/models", "learn/recipes", "learn/train", "learn/evaluate", "look/trace", "look/capture",
    "look/layers", "look/replay", "look/arithmetic", "look/activity", "show/picture", "show/scales", "show/tiles",
    "show/figures/maps",
)  # fmt: skip
WEB = [path for kind in ("html", "css", "js") for path in sorted((LIBRARY / "page").glob(f"*.{kind}"))]
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))


def lines(paths: Iterable[Path]) -> dict[str, int]:
    return {named(path): len(path.read_text().splitlines()) for path in paths}


def test_the_house_is_within_its_budgets() -> None:
    assert sum(lines(FILES).values()) <= 11_565
    assert sum(lines(LIBRARY / f"{name}.py" for name in CORE).values()) <= 3_200
    assert sum(lines(TESTS).values()) <= 16_545
    assert sum(lines(WEB).values()) <= 1_800
    assert not [
        name for path in WEB for line in path.read_text().splitlines() if len(line) > 120 and (name := named(path))
    ]
    assert not {name: n for name, n in lines(FILES).items() if n > 300}
    assert not {name: n for name, n in lines(TESTS).items() if n > 600}


def test_few_places_ask_the_formatter_to_look_away() -> None:
    python = [path for folder in ("mnistviz", "tests", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py*")]
    skips = {named(path): n for path in python if (n := path.read_text(errors="ignore").count("# fmt: " + "skip"))}
    assert sum(skips.values()) <= 15, skips


def test_every_library_file_says_what_it_is() -> None:
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), named(path)


# ── the table of contents ─────────────────────────────────────────────────────────────────────────────────


def test_public_names_are_few_exist_and_stand_in_the_stub() -> None:
    stub = ast.parse((LIBRARY / "__init__.pyi").read_text())
    listed = ast.literal_eval(stub.body[-1].value)  # __all__ stands last
    assert sorted(listed) == sorted(mv.__all__) == sorted(set(dir(mv)))
    assert 35 <= len(listed) <= 47
    for name in listed:
        assert getattr(mv, name) is not None
    assert mv.__version__ == PROJECT["version"]


def test_the_api_page_lists_every_public_name_with_a_line() -> None:
    listed = re.findall(r"^\| `(\w+)", (REPOSITORY / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(mv.__all__)


TAUGHT = "load_digits fit load_model predict evaluate capture watch replay ledger receptive_field".split()  # noqa: SIM905
WAY_BACK = ("backward", "backward_ledger", "replay_backward", "projective_field")  # taught in one lesson


@pytest.mark.parametrize("name", [*TAUGHT, *WAY_BACK])
def test_the_core_functions_have_examples_that_run(name: str, reference, passes, mnist, few) -> None:
    function = getattr(mv, name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    examples = {"mv": mv, "torch": torch, "model": reference["light"], "test": mnist.test, "few": few}
    examples["trace"] = passes["light"]
    with mv.capture(reference["light"], gradients=True) as examples["passed"]:
        reference["light"](mnist.test[0].pixels)
    mv.backward(examples["passed"], labels=[7])
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=examples)
    calls = [example for example in test.examples if example.want]
    assert len(calls) >= (3 if name in TAUGHT else 1)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


def test_importing_the_library_loads_no_heavy_part() -> None:
    heavy = ("torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib", "seaborn", "captum")
    code = f"import sys, mnistviz; sys.exit(' '.join(set({heavy}) & set(sys.modules)) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
    code = "import sys, mnistviz as mv; model = mv.load_model('light'); mv.predict(model, mv.load_digits().test[:9]); "
    late = ("torchvision", "sklearn", "scipy.stats", "matplotlib", "seaborn", "captum", "torchinfo")
    code += f"sys.exit(' '.join(set({late}) & set(sys.modules)) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


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
    pairs = {"2.8": "0.23", "2.15": "0.29"}  # as torchvision's own releases state them
    for versions in (PINS, floors):
        torch, vision = Version(versions["torch"]), Version(versions["torchvision"])
        assert pairs[f"{torch.major}.{torch.minor}"] == f"{vision.major}.{vision.minor}"
        assert torch.local is vision.local is None  # +cpu would not match the registry's torchvision


def test_every_third_party_import_is_a_stated_dependency() -> None:
    optional = (
        EXTRAS["study"] + EXTRAS["transfer"] + EXTRAS["app"] + EXTRAS["notebooks"]
    )  # a function that needs one says how to get it
    stated = {Requirement(line).name.lower().replace("-", "_") for line in PROJECT["dependencies"] + optional}
    called = {"sklearn": "scikit_learn", "PIL": "pillow", "scipy": "scikit_learn"}
    called |= dict.fromkeys(("IPython", "ipywidgets", "traitlets"))  # where they are needed, they are there
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
    assert card["architecture"] == path.parent.name.partition("_")[0]
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
