"""Digits as tensors: where they come from, how they are checked, split and served in batches."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from mnistviz import project
from mnistviz.errors import MnistvizError, choose, refuse
from mnistviz.learn import kaggle
from mnistviz.learn.augment import Augment


@dataclass(frozen=True, eq=False)
class Digits:
    """Images and their labels: `digits[:5]`, `len(digits)`, `digits.pixels`, `digits.split(0.15, seed=0)`.

    images: uint8 (N, 28, 28), 0 is black paper and 255 full ink · labels: int64 (N,), or None if unknown.
    """

    images: Tensor
    labels: Tensor | None
    source: str

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.shape[1:] != (28, 28):
            given, allowed = f"{images.dtype} {tuple(images.shape)}", "torch.uint8 (N, 28, 28)"
            raise MnistvizError("digit images have the wrong form", given=given, allowed=allowed)
        if labels is None:
            return
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            given, allowed = f"{labels.dtype} {tuple(labels.shape)}", f"torch.int64 ({len(images)},), one per image"
            raise MnistvizError("digit labels have the wrong form", given=given, allowed=allowed)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
            given = f"{int(labels.min())} to {int(labels.max())}"
            raise MnistvizError(f"labels in {self.source} are not digits", given=given, allowed="0 to 9")

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> "Iterator[Digits]":
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | np.integer | slice | list[int] | np.ndarray | Tensor) -> "Digits":
        """Always Digits again, also for a single index: `digits[7].pixels` is (1, 1, 28, 28)."""
        if isinstance(index, int | np.integer):
            refuse(not -len(self) <= index < len(self), "no such digit", given=index, allowed=f"0 to {len(self) - 1}")
            index = [int(index)]
        if isinstance(index, list):
            index = np.array(index, dtype=np.int64)  # an empty list too
        keep = index if isinstance(index, slice) else torch.as_tensor(index, device=self.images.device)
        return Digits(self.images[keep], None if self.labels is None else self.labels[keep], self.source)

    def __repr__(self) -> str:
        known = "no labels" if self.labels is None else "labels 0–9"
        return f"Digits({len(self):,} images 28×28, {known}, from {self.source})"

    @property
    def pixels(self) -> Tensor:
        """What a model takes: float32 in [0, 1], shape (N, 1, 28, 28)."""
        return self.images.unsqueeze(1).float().div_(255)

    def known_labels(self) -> Tensor:
        """The labels, or an error if this set has none."""
        if self.labels is None:
            fix = "use a labelled set, such as .train; Kaggle's test.csv has none"
            raise MnistvizError("these digits have no labels", given=self.source, fix=fix)
        return self.labels

    def to(self, device: torch.device | str) -> "Digits":
        return Digits(self.images.to(device), None if self.labels is None else self.labels.to(device), self.source)

    def split(self, fraction: float, seed: int = 0) -> "tuple[Digits, Digits]":
        """`train, val = digits.split(0.15, seed=0)`: disjoint, every digit in the same proportion."""
        refuse(not 0 < fraction < 1, "not a fraction to split off", given=fraction, allowed="between 0 and 1")
        return self._divide(fraction, seed)

    def sample(self, count: int | None, seed: int = 0) -> "Digits":
        """`digits.sample(1000)`: that many, every digit in proportion; None or enough keeps them all."""
        if count is None or count >= len(self):
            return self
        if self.labels is None:
            return self[np.random.default_rng(seed).permutation(len(self))[:count]]
        return self._divide(count, seed)[1]

    def _divide(self, share: float | int, seed: int) -> "tuple[Digits, Digits]":
        from sklearn.model_selection import train_test_split  # takes long to load

        labels = self.known_labels().cpu().numpy()
        try:
            rest, part = train_test_split(np.arange(len(self)), test_size=share, stratify=labels, random_state=seed)
        except ValueError as error:
            what = "too few digits for a split that keeps every digit in proportion"
            fix = "take more images; each of the ten digits is needed on both sides"
            raise MnistvizError(what, given=f"{share} of {len(self)}", fix=fix) from error
        return self[rest], self[part]

    def batches(
        self, size: int, *, generator: torch.Generator | None = None, augment: Augment | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`for x, y in digits.batches(128, generator=g)`: float (B, 1, 28, 28) and labels, on the device.

        With a generator the order is shuffled and augmentation drawn from it; without, the order is kept.
        """
        refuse(size < 1, "a batch needs at least one digit", given=size, allowed="1 or more")
        labels = self.known_labels()
        device = self.images.device
        order = None if generator is None else torch.randperm(len(self), generator=generator, device=device)
        for start in range(0, len(self), size):
            chosen = slice(start, start + size) if order is None else order[start : start + size]
            x, y = self.images[chosen].unsqueeze(1).float().div_(255), labels[chosen]
            yield augment(x, y, generator) if augment else (x, y)

    def fingerprint(self) -> int:
        """A number that changes when any pixel or label does; a resumed run compares it."""
        crc = zlib.crc32(self.images.cpu().numpy().tobytes())
        return crc if self.labels is None else zlib.crc32(self.labels.cpu().numpy().tobytes(), crc)


@dataclass(frozen=True, eq=False)
class DigitSet:
    """What `load_digits` returns: `.train` and `.test`, and `.answers` where honest labels exist for the test."""

    train: Digits
    test: Digits
    stand_in: bool = False
    answers: Tensor | None = field(default=None, repr=False)

    @property
    def judged(self) -> Digits:
        """The test digits with their labels, or with the answers that were kept apart, to judge a model by."""
        judged = self.test if self.answers is None else replace(self.test, labels=self.answers)
        fix = "judge by MNIST's (--data mnist), or let Kaggle judge a submission (--submission)"
        refuse(judged.labels is None, f"{judged.source} has no labels to judge by", fix=fix)
        return judged


# name: (magic number, shape, md5 of the uncompressed bytes)
IDX = {
    "train-images-idx3-ubyte": (2051, (60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (2049, (60_000,), "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (2051, (10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (2049, (10_000,), "27ae3e4e09519cfbb04c329615203637"),
}
STAND_IN_SEED = 42  # fixes the stand-in's rows for everybody, whatever seed a run has


def load_digits(name: str = "mnist", *, folder: str | Path | None = None, limit: int | None = None) -> DigitSet:
    """`digits = load_digits("mnist")` or `load_digits("kaggle")`; then `digits.train`, `digits.test`.

    "mnist" is the 60,000 / 10,000 split from the embedded files, else downloaded by torchvision.
    "kaggle" is your own `train.csv` and `test.csv` if both lie in `digit-recognizer/`, else a stand-in:
    the embedded 70,000 images dealt into 42,000 / 28,000. `limit` keeps that many training images.

    >>> mv.load_digits("mnist").train
    Digits(60,000 images 28×28, labels 0–9, from MNIST train)
    >>> mv.load_digits("mnist", limit=1000).train.pixels.shape
    torch.Size([1000, 1, 28, 28])
    >>> mv.load_digits("mnist").test[:3].labels
    tensor([7, 2, 1])
    """
    load = choose("data set", name, {"mnist": load_mnist, "kaggle": load_kaggle})
    digits = load(Path(folder) if folder else project.data_folder())
    return replace(digits, train=digits.train.sample(limit))


def load_mnist(folder: Path) -> DigitSet:
    paths = [folder / f"{name}.gz" for name in IDX]
    if missing := [path for path in paths if not path.exists()]:
        _download(folder, missing)
    parts = [torch.from_numpy(read_idx(path)) for path in paths]
    return DigitSet(Digits(parts[0], parts[1].long(), "MNIST train"), Digits(parts[2], parts[3].long(), "MNIST test"))


def load_kaggle(folder: Path) -> DigitSet:
    train, test = folder / "train.csv", folder / "test.csv"
    if train.exists() and test.exists():
        images, labels = map(torch.from_numpy, kaggle.read_csv(train, labelled=True))
        unknown = torch.from_numpy(kaggle.read_csv(test, labelled=False)[0])
        return DigitSet(Digits(images, labels, "Kaggle train.csv"), Digits(unknown, None, "Kaggle test.csv"))
    if train.exists() or test.exists():
        lone, other = (train.name, test.name) if train.exists() else (test.name, train.name)
        fix = f"put {other} beside it, or move {lone} away to use the embedded stand-in"
        raise MnistvizError(f"{lone} is there without {other}", given=project.shown(folder), fix=fix)
    print(
        "Kaggle's train.csv and test.csv are not in digit-recognizer/. Using a stand-in: the embedded 70,000\n"
        "digits dealt into 42,000 and 28,000. These are not Kaggle's own rows; a submission made from them\n"
        "has the right form but cannot be scored there. Its 28,000 labels are kept apart for an honest score here."
    )
    return stand_in(load_mnist(folder))


def stand_in(mnist: DigitSet) -> DigitSet:
    """The 70,000 images in one fixed random order: 42,000 with labels, 28,000 whose labels are kept apart."""
    images = torch.cat([mnist.train.images, mnist.test.images])
    labels = torch.cat([mnist.train.known_labels(), mnist.test.known_labels()])
    order = torch.from_numpy(np.random.default_rng(STAND_IN_SEED).permutation(len(images)))
    train, test = order[:42_000], order[42_000:]
    known = Digits(images[train], labels[train], "Kaggle stand-in train")
    return DigitSet(known, Digits(images[test], None, "Kaggle stand-in test"), stand_in=True, answers=labels[test])


def read_idx(path: str | Path) -> np.ndarray:
    """Read one gzip-compressed MNIST file: magic, sizes and md5 are checked before a pixel is used."""
    path = Path(path)
    magic, shape, md5 = choose("MNIST file", path.name.removesuffix(".gz"), IDX)
    name = project.shown(path)
    fix = "restore the file (git checkout digit-recognizer), or delete it to download"
    refuse(not path.exists(), f"{name} does not exist", fix=fix)
    try:
        raw = gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        raise MnistvizError(f"{name} is not a whole gzip file: {error}", fix=fix) from error
    start = 4 + 4 * len(shape)  # magic number and one size per axis, big-endian
    number, *axes = struct.unpack(f">{1 + len(shape)}I", raw[:start].ljust(start, b"\0"))
    length, size = f"{len(raw):,} bytes", start + math.prod(shape)
    given = f"{length}, magic number {number}"
    refuse(number != magic, f"{name} is not an IDX file", given=given, allowed=f"magic number {magic}", fix=fix)
    what, given = f"{name} has the wrong size", f"shape {tuple(axes)}, {length}"
    wrong, allowed = (*axes, len(raw)) != (*shape, size), f"shape {shape}, {size:,} bytes"
    refuse(wrong, what, given=given, allowed=allowed, fix=fix)
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    refuse(digest != md5, f"{name} has other content than MNIST", given=f"md5 {digest}", allowed=f"md5 {md5}", fix=fix)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def _download(folder: Path, missing: list[Path]) -> None:
    """torchvision fetches the files; those that are missing move to their place, or nothing is left behind."""
    from torchvision.datasets import MNIST

    print(f"{missing[0].name} is not in {project.shown(folder)}: downloading MNIST with torchvision")
    with TemporaryDirectory() as away:
        try:
            MNIST(away, download=True)
        except Exception as error:  # torchvision lets whatever its mirrors raise come through
            fix = "work in the repository, which holds it (or set MNISTVIZ_ROOT to it), or try again with a connection"
            what = f"MNIST is not here and could not be downloaded ({type(error).__name__})"
            raise MnistvizError(what, given=project.shown(folder), fix=fix) from None
        for path in missing:
            project.write_bytes(path, Path(away, "MNIST", "raw", path.name).read_bytes())
