"""Weights on disk: a state dict beside a JSON card, and the file from which a killed run goes on."""

import hashlib
import io
import json
import platform
import zipfile
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnistviz import project
from mnistviz.errors import MnistvizError, refuse
from mnistviz.learn import models
from mnistviz.learn.data import Digits
from mnistviz.learn.history import Fit
from mnistviz.learn.recipes import to_table

BEST, FINAL, HISTORY, RESUME = "best_mnist_model.pth", "final_mnist_model.pth", "history.csv", "resume.pt"
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # numbers that are counted, not learned


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict on the CPU, laid out plainly: what is saved is the same for every device."""
    state, plain = model.state_dict(), {"memory_format": torch.contiguous_format}
    return {name: value.detach().cpu().contiguous(**plain).clone() for name, value in state.items()}


def save_model(path: str | Path, state: dict[str, Tensor], card: dict[str, Any]) -> dict[str, Any]:
    """`save_model("models/mine/a.pth", weights(model), {"architecture": "deep"})` writes a.pth and a.json."""
    path = Path(path)
    content = _to_bytes(state)
    card = {
        **card,
        "parameters": sum(value.numel() for name, value in state.items() if not name.endswith(BUFFERS)),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": versions(),
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    project.write_bytes(path, content)
    project.write_bytes(path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    return card


def load_model(name: str | Path, device: str | torch.device = "cpu") -> nn.Sequential:
    """`load_model("deep")` is the reference under `models/deep/`, or any other folder there; a path loads that file.

    A card keeps the layers of an `nn.Sequential` of your own, so `load_model("_full/mine")` builds it again.
    The model comes in evaluation mode. Only tensors are read: a file with anything else is refused.

    >>> mv.load_model("light").conv1
    Conv2d(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    >>> mv.load_model("light")(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    >>> mv.load_model("deep").training
    False
    """
    path = find(name)
    card = read_card(path)
    model = models.build(card["architecture"], card.get("layers"))
    load_weights(model, path)
    return model.to(device).eval()


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put a checkpoint's weights into your own model; one that does not fit raises and changes nothing."""
    path, name = Path(path), project.shown(path)
    content = _read(path)
    if path.with_suffix(".json").exists():
        expected, actual = read_card(path).get("sha256"), hashlib.sha256(content).hexdigest()
        what = f"{name} is not the file its card describes (damaged, truncated or replaced)"
        given, allowed = f"sha256 {actual[:16]}…, {len(content):,} bytes", f"sha256 {str(expected)[:16]}…"
        fix = "restore both files together, or train again"
        refuse(expected != actual, what, given=given, allowed=allowed, fix=fix)
    state = _from_bytes(content, path)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise MnistvizError(f"{name} does not hold a state dict", given=type(state).__name__)
    shapes, wanted = ({key: tuple(value.shape) for key, value in part.items()} for part in (state, model.state_dict()))
    wrong = sorted((key for key in shapes.keys() | wanted.keys() if shapes.get(key) != wanted.get(key)), key=str)
    if wrong:
        given, allowed = (f"{wrong[0]}: {part.get(wrong[0], 'nothing')}" for part in (shapes, wanted))
        what = f"{name} belongs to another architecture ({len(wrong)} tensors differ)"
        fix = "load it with load_model, which reads the architecture from the card"
        raise MnistvizError(what, given=given, allowed=allowed, fix=fix)
    model.load_state_dict(state)


def read_card(name: str | Path) -> dict[str, Any]:
    """`read_card("deep")`, or the path of a `.pth`: architecture, recipe, data, metrics, versions, sha256."""
    kept = name in models.MODELS or (project.models_folder() / name / BEST).exists()
    path = Path(find(name) if kept else name).with_suffix(".json")
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        fix = "a checkpoint needs its card; to use bare weights, build the model and call load_weights(model, path)"
        raise MnistvizError(f"{project.shown(path)} is missing", fix=fix) from None
    except (OSError, ValueError) as error:
        raise MnistvizError(f"{project.shown(path)} is not a readable card: {error}") from error
    if not isinstance(card, dict) or not isinstance(card.get("architecture"), str):
        raise MnistvizError(f"{project.shown(path)} names no architecture", fix="restore the card that was saved")
    return card


def unseen(card: dict[str, Any], digits: Digits) -> bool:
    """`unseen(read_card("deep"), digits.test)`: False if these digits may be among those learned from.

    MNIST, Kaggle's files and the stand-in deal the same 70,000 images differently, so the test part of
    one holds training images of another: only the test part of the same deal is surely unseen.
    """
    learned = str(card.get("data", {}).get("train", "")).partition(", ")[2]
    return bool(learned) and learned.rpartition(" ")[0] == digits.source.rpartition(" ")[0]


def versions() -> dict[str, str]:
    loaded = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return loaded | {"torchvision": version("torchvision")}  # which takes seconds to import


def dated(folder: Path) -> list[Path]:
    """`dated(Path("models/_mine/light"))`: what a training left there, renamed by date and time, to stay for good."""
    now, weights = f"{datetime.now():%Y-%m-%d_%H-%M-%S}", [folder / BEST, folder / FINAL]
    left = [*weights, *(path.with_suffix(".json") for path in weights), folder / HISTORY]
    return [path.rename(path.with_stem(f"{path.stem}_{now}")) for path in left]


class Store:
    """Where one `fit` keeps itself: best and final weights, the history, and a file to go on from."""

    def __init__(self, folder: str | Path, fit: Fit, train: Digits, val: Digits | None) -> None:
        self.folder = Path(folder)
        self.fit = fit
        self.sources = {"train": train, "validation": val}
        self.teachers = {name: read_card(name)["sha256"] for name in fit.recipe.teachers}

    def begin(self, resume: bool) -> dict[str, Any] | None:
        """Make sure that the folder can be written to, and read what to go on from if that is asked for."""
        project.write_bytes(self.folder / ".probe.part", b"")  # find out now, not after the first epoch
        for stale in filter(Path.is_file, self.folder.glob(".*.part")):  # the probe, and what a killed process left
            stale.unlink(missing_ok=True)
        path = self.folder / RESUME
        if not resume:
            path.unlink(missing_ok=True)
        if not path.exists():
            return None
        kept: dict[str, Any] = _from_bytes(_read(path), path)
        changed = [name for name, value in self._contract.items() if kept["contract"].get(name) != value]
        given, fix = " and ".join(changed), "resume with the same recipe and data, or start afresh with resume=False"
        refuse(changed, f"{project.shown(path)} is from a different training", given=f"another {given}", fix=fix)
        return kept

    def save(self, improved: bool) -> None:
        """After each epoch: the best so far, the history, and last the file to go on from."""
        history = self.fit.history
        if improved:
            save_model(self.folder / BEST, history.best, self._card(history.best_epoch))
        history.save(self.folder / HISTORY)
        project.write_bytes(self.folder / RESUME, _to_bytes({"contract": self._contract} | self.fit.state_dict()))

    def finish(self) -> None:
        """The last weights and the best, once more, and no way on: this training is complete."""
        self.save(improved=True)
        save_model(self.folder / FINAL, weights(self.fit.trained), self._card(len(self.fit.history.rows)))
        (self.folder / RESUME).unlink(missing_ok=True)

    @cached_property
    def _contract(self) -> dict[str, str]:
        """What must be the same for a resumed run to end where an unbroken one would."""
        data = {name: digits.fingerprint() if digits is not None else None for name, digits in self.sources.items()}
        recipe = json.dumps([self.fit.recipe.model, to_table(self.fit.recipe)])  # without what a later version may add
        return {"recipe": recipe, "data": json.dumps(data), "teachers": json.dumps(self.teachers)}

    def _card(self, epoch: int) -> dict[str, Any]:
        row, name = self.fit.history.rows[epoch - 1], self.fit.recipe.model
        own = None if name in models.MODELS else models.written(self.fit.trained)
        return {
            "architecture": name,
            **({"layers": own} if own else {}),
            "epoch": epoch,
            "metrics": {k: row[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy") if k in row},
            "data": {k: f"{len(d):,} images, {d.source}" for k, d in self.sources.items() if d is not None},
            "seed": self.fit.recipe.seed,
            "recipe": asdict(self.fit.recipe),
            **({"teachers": self.teachers} if self.teachers else {}),
            "device": str(next(self.fit.model.parameters()).device),
        }


def find(name: str | Path) -> Path:
    """Where the weights of this name lie: `find("deep")` is `models/deep/best_mnist_model.pth`."""
    reference = project.models_folder() / name / BEST
    if isinstance(name, str) and reference.exists():
        return reference
    if isinstance(name, str) and name in models.MODELS:
        raise MnistvizError(
            f"there are no reference weights for {name!r} in {project.shown(project.models_folder())}",
            allowed=sorted(p.parent.name for p in project.models_folder().glob(f"[!_]*/{BEST}")) or None,
            fix="work in the repository, which holds them (or set MNISTVIZ_ROOT to it), or train your own: "
            f"python -m mnistviz train {name}, then load models/_mine/{name}/{BEST}",
        )
    allowed = "a path to a .pth file, or one of " + ", ".join(models.MODELS)
    refuse(not Path(name).is_file(), "no such checkpoint", given=str(name), allowed=allowed)
    return Path(name)


def _to_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()  # a file would write its own name into the archive, and equal weights differ
    torch.save(content, buffer)
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MnistvizError(f"cannot read {project.shown(path)}: {error.strerror}") from error


def _from_bytes(content: bytes, path: Path) -> Any:
    try:
        file = io.BytesIO(content)
        if zipfile.is_zipfile(file) and (bad := zipfile.ZipFile(file).testzip()):  # torch reads over this
            raise zipfile.BadZipFile(f"{bad} does not match its checksum")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the reader raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        what, given = f"{project.shown(path)} is not a file of tensors: refused", f"{len(content):,} bytes; {reason}"
        allowed = "a state dict saved by torch, whole, with no code in it"
        fix = "get the file again from where it came, or train again"
        raise MnistvizError(what, given=given, allowed=allowed, fix=fix) from error
