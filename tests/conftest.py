"""What tests share: a project folder of their own, a handful of real digits, a model and its pass, golden texts."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.trace import Trace

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="write the golden texts anew, then look at the diff")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def mnist() -> DigitSet:
    """The embedded 60,000 / 10,000, loaded once."""
    return mv.load_digits("mnist", folder=REPOSITORY / "digit-recognizer")


@pytest.fixture(scope="session")
def few(mnist) -> mv.Digits:
    """600 training digits, sixty or so of each."""
    return mnist.train.sample(600, seed=1)


@pytest.fixture(scope="session")
def reference() -> dict[str, nn.Sequential]:
    """The shipped weights of all architectures; not to be changed by anybody."""
    folders = sorted((REPOSITORY / "models").glob("[!_]*/best_mnist_model.pth"))
    return {path.parent.name: mv.load_model(path) for path in folders}


@pytest.fixture(scope="session")
def passes(reference, mnist) -> dict[str, Trace]:
    """Of every architecture with shipped weights, the recorded pass of the first test digit, a 7."""
    traces = {}
    for name, model in reference.items():
        with mv.capture(model) as traces[name], torch.no_grad():
            model(mnist.test[0].pixels)
    return traces


@pytest.fixture
def project_root(tmp_path, monkeypatch) -> Path:
    """An empty project: the library reads and writes here and nowhere else."""
    (tmp_path / "digit-recognizer").mkdir()
    monkeypatch.setenv("MNISTVIZ_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def strict() -> Iterator[None]:
    """No division by zero, no overflow and no warning goes unseen."""
    with warnings.catch_warnings(action="error"), np.errstate(divide="raise", invalid="raise", over="raise"):
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny tensors on many threads are slower, and a fixed number keeps sums the same everywhere."""
    torch.set_num_threads(1)


_written: dict[Path, dict[str, str]] = {}  # golden files made anew in this run


@pytest.fixture
def golden(request) -> Callable[[str, object], None]:
    """`golden("confusion", picture.alt)`: the text that stands under this name in the golden file of the test's module.

    `make golden` writes the files anew; what has changed is then seen in the diff.
    """
    module = request.path.relative_to(Path(__file__).parent).with_suffix("")
    path = GOLDEN / f"{'_'.join(module.parts).replace('test_', '')}.txt"

    def check(name: str, text: object) -> None:
        if request.config.getoption("--golden"):
            _written.setdefault(path, {})[name] = str(text)
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"── {n}\n{t}\n" for n, t in sorted(_written[path].items())))
            return
        sections = path.read_text().split("── ")[1:] if path.exists() else []
        known = dict(section.split("\n", 1) for section in sections)
        assert f"{text}\n" == known.get(name), f"{name} in {path.name}; `make golden` if the change is meant"

    return check
