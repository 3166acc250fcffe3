"""What tests share: a project folder of their own, and a handful of real digits."""

from pathlib import Path

import pytest
import torch

import mnistviz as mv

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def mnist() -> mv.DigitSet:
    """The embedded 60,000 / 10,000, loaded once."""
    return mv.load_digits("mnist", folder=REPOSITORY / "digit-recognizer")


@pytest.fixture(scope="session")
def few(mnist: mv.DigitSet) -> mv.Digits:
    """600 training digits, sixty or so of each."""
    return mnist.train.sample(600, seed=1)


@pytest.fixture
def project_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project: the library reads and writes here and nowhere else."""
    (tmp_path / "digit-recognizer").mkdir()
    monkeypatch.setenv("MNISTVIZ_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny tensors on many threads are slower, and a fixed number keeps sums the same everywhere."""
    torch.set_num_threads(1)
