"""Where things live, and writing there so that nobody ever sees half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident

from mnistviz.errors import MnistvizError

MARKER = "digit-recognizer"  # the folder that makes a directory the project's root
DEFAULT = "simple_hands"  # the reference weights that read whatever people hand in, unless others are named


def root(start: Path | None = None) -> Path:
    """The project's folder: `$MNISTVIZ_ROOT`, else the nearest parent with a `digit-recognizer/`.

    Looked for from the working directory upwards, then from this file; else it is the working directory itself.
    """
    if "MNISTVIZ_ROOT" in os.environ:
        return Path(os.environ["MNISTVIZ_ROOT"]).resolve()
    here = (start or Path.cwd()).resolve()
    for folder in [here, *here.parents, *Path(__file__).resolve().parents]:
        if (folder / MARKER).is_dir():
            return folder
    return here


def data_folder() -> Path:
    """Embedded MNIST, and the place for Kaggle's `train.csv` and `test.csv`."""
    return root() / MARKER


def models_folder() -> Path:
    """The reference weights: one folder per architecture."""
    return root() / "models"


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """`with atomic("a.csv") as part: part.write_text(…)` — `a.csv` appears whole or stays as it was.

    The text goes to a hidden neighbour that replaces the target in one step; an error removes it.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.part")  # no two writers share one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        given, fix = path.parent, "choose a folder you may write to, with room on its disk; nothing there was changed"
        raise MnistvizError(f"cannot write {path.name}: {error.strerror or error}", given=given, fix=fix) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a whole file at once, through `atomic`."""
    with atomic(path) as part:
        part.write_bytes(content)


def shown(path: str | os.PathLike[str]) -> str:
    """A path as a reader wants it: relative to the project where it lies inside, with forward slashes."""
    path = Path(path).resolve()
    return (path.relative_to(root()) if path.is_relative_to(root()) else path).as_posix()
