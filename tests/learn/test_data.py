"""Digits come from checked files, are split fairly and served whole."""

import gzip
import hashlib
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refusals, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

import mnistviz as mv
from mnistviz import kaggle
from mnistviz.learn import data
from mnistviz.learn.data import IDX, Digits, read_idx

LABELS = "t10k-labels-idx1-ubyte"


def numbered(count: int) -> Digits:
    """Images that carry their own number, labelled with its last digit."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 0, 0], images[:, 0, 1] = torch.arange(count) // 256, torch.arange(count) % 256
    return Digits(images, torch.arange(count) % 10, "numbered")


def numbers(images: Tensor) -> list[int]:
    pixels = images.reshape(-1, 784).float()
    return [round(int(a) * 256 + int(b)) for a, b in pixels[:, :2] * (1 if images.dtype == torch.uint8 else 255)]


def hashes(images: Tensor, labels: Tensor | None = None) -> Counter:
    """How often each image occurs, or each image with its label."""
    digests = [hashlib.md5(image.tobytes()).digest() for image in images.numpy()]
    return Counter(digests if labels is None else zip(digests, labels.tolist(), strict=True))


@pytest.fixture(scope="session")
def embedded(repository) -> Path:
    return repository / "digit-recognizer"


def test_pixels_are_the_images_over_255(few):
    assert (few.pixels.shape, few.pixels.dtype) == ((600, 1, 28, 28), torch.float32)
    assert np.array_equal(few.pixels[:, 0].numpy(), few.images.numpy().astype(np.float32) / np.float32(255))


def test_an_index_gives_digits_again():
    digits = numbered(40)
    assert repr(digits) == "Digits(40 images 28×28, labels 0–9, from numbered)"
    assert "no labels" in repr(UNKNOWN)
    for index in (7, -33, np.int64(7), [7], slice(7, 8), torch.tensor([7]), np.arange(40) == 7):
        assert numbers(digits[index].images) == [7], index
        assert digits[index].known_labels().tolist() == [7]
    assert numbers(digits[[3, 1, 3]].images) == [3, 1, 3]
    assert len(digits[40:]) == len(digits[[]]) == 0
    assert [numbers(digit.images) for digit in numbered(3)] == [[0], [1], [2]]


def test_a_fingerprint_changes_with_any_pixel_or_label():
    digits = numbered(20)
    images, labels = digits.images.clone(), digits.known_labels().clone()
    assert Digits(images.clone(), labels.clone(), "else").fingerprint() == digits.fingerprint()
    images[19, 27, 27] += 1
    labels[0] += 1
    prints = {Digits(i, t, "").fingerprint() for i in (images, digits.images) for t in (labels, digits.labels, None)}
    assert len(prints) == 6


@settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.integers(8, 40), min_size=10, max_size=10), share=st.floats(0.2, 0.8), seed=st.integers(0, 99)
)
def test_a_split_shares_every_digit_out_and_loses_none(counts, share, seed):
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(counts))
    digits = Digits(numbered(len(labels)).images, labels, "here")
    rest, part = digits.split(share, seed=seed)
    assert sorted(numbers(rest.images) + numbers(part.images)) == list(range(len(labels)))
    for half, fraction in ((rest, 1 - share), (part, share)):
        assert torch.equal(labels[numbers(half.images)], half.known_labels())
        of_each = np.bincount(half.known_labels(), minlength=10)
        assert np.abs(of_each - fraction * np.array(counts)).max() <= 1.5
    assert torch.equal(digits.split(share, seed=seed)[0].images, rest.images)
    assert not torch.equal(digits.split(share, seed=seed + 1)[0].images, rest.images)


def test_a_sample_is_fair_seeded_and_of_the_size_asked(few):
    sample = few.sample(100, seed=2)
    assert len(sample) == 100
    share = np.bincount(few.known_labels(), minlength=10) / 6
    assert np.abs(np.bincount(sample.known_labels(), minlength=10) - share).max() <= 1.5
    assert hashes(sample.images, sample.labels) <= hashes(few.images, few.labels)
    assert torch.equal(few.sample(100, seed=2).images, sample.images)
    assert not torch.equal(few.sample(100, seed=3).images, sample.images)
    assert few.sample(None) is few.sample(600) is few.sample(10_000) is few
    unknown = Digits(numbered(50).images, None, "here")
    some = numbers(unknown.sample(20, seed=1).images)
    assert len(set(some)) == 20
    assert numbers(unknown.sample(20, seed=1).images) == some != numbers(unknown.sample(20, seed=2).images)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(0, 60), size=st.integers(1, 70), seed=st.integers(0, 99))
def test_batches_serve_every_image_once_with_its_label(count, size, seed):
    digits = numbered(count)

    def served(generator: torch.Generator | None) -> list[int]:
        batches = list(digits.batches(size, generator=generator))
        assert [len(x) for x, _ in batches] == [min(size, count - start) for start in range(0, count, size)]
        for x, y in batches:
            assert (x.dtype, x.shape[1:]) == (torch.float32, (1, 28, 28))
            assert [number % 10 for number in numbers(x)] == y.tolist()
        return [number for x, _ in batches for number in numbers(x)]

    assert served(None) == list(range(count))
    generator = torch.Generator().manual_seed(seed)
    shuffled, next_epoch = served(generator), served(generator)
    assert sorted(shuffled) == list(range(count))
    assert served(torch.Generator().manual_seed(seed)) == shuffled
    if count > 20:
        assert list(range(count)) != shuffled != next_epoch  # the next epoch goes on where the generator stands
        assert served(torch.Generator().manual_seed(seed + 1)) != shuffled


def test_each_image_of_a_batch_is_augmented_by_itself(few):
    same = Digits(few.images[:1].expand(8, -1, -1), few.known_labels()[:1].expand(8), "one digit, eight times")
    x, _ = next(same.batches(8, generator=torch.Generator().manual_seed(0), augment=mv.Augment(rotation=20)))
    assert len({image.numpy().tobytes() for image in x}) == 8


def test_mnist_is_60_000_and_10_000_as_torchvision_reads_them(mnist, embedded, tmp_path):
    theirs = []
    for name, (_, _, md5) in IDX.items():
        raw = gzip.decompress((embedded / f"{name}.gz").read_bytes())
        assert hashlib.md5(raw).hexdigest() == md5
        (tmp_path / name).write_bytes(raw)
        theirs.append((read_image_file if "images" in name else read_label_file)(str(tmp_path / name)))
    ours = [mnist.train.images, mnist.train.labels, mnist.test.images, mnist.test.labels]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    assert mnist.test.known_labels()[:5].tolist() == [7, 2, 1, 0, 4]
    assert (mnist.stand_in, mnist.answers) == (False, None)
    assert torch.equal(mnist.judged.known_labels(), mnist.test.known_labels())


def test_the_stand_in_deals_out_exactly_the_70_000(mnist):
    dealt = data.stand_in(mnist)
    assert dealt.stand_in
    assert (len(dealt.train), len(dealt.test)) == (42_000, 28_000)
    assert dealt.test.labels is None
    train, test = mnist.train, mnist.test
    every = hashes(train.images, train.labels) + hashes(test.images, test.labels)
    judged = dealt.judged
    assert hashes(dealt.train.images, dealt.train.labels) + hashes(judged.images, judged.labels) == every
    assert torch.equal(judged.images, dealt.test.images)
    assert torch.equal(judged.known_labels(), dealt.answers)
    assert judged.source == dealt.test.source

    torch.manual_seed(99)
    np.random.seed(99)
    again = data.stand_in(mnist)  # the same for everybody, whatever the version of numpy
    assert [part.fingerprint() for part in (again.train, again.test)] == [194_217_365, 2_623_067_982]
    assert torch.equal(again.answers, dealt.answers)


def test_the_stand_in_is_announced_and_your_own_kaggle_files_come_first(tmp_path, few, mnist, capsys, monkeypatch):
    monkeypatch.setattr(data, "load_mnist", lambda folder: mnist)
    digits = mv.load_digits("kaggle", folder=tmp_path, limit=200)
    assert digits.stand_in
    assert (len(digits.train), len(digits.test), len(digits.answers)) == (200, 28_000, 28_000)
    assert "not Kaggle's own rows" in capsys.readouterr().out

    kaggle.write_csv(tmp_path / "train.csv", few.images[:30].numpy(), few.known_labels()[:30].numpy())
    refused(lambda: mv.load_digits("kaggle", folder=tmp_path), "train.csv is there without test.csv")
    kaggle.write_csv(tmp_path / "test.csv", few.images[30:50].numpy())
    digits = mv.load_digits("kaggle", folder=tmp_path)
    assert torch.equal(digits.train.images, few.images[:30])
    assert torch.equal(digits.train.known_labels(), few.known_labels()[:30])
    assert torch.equal(digits.test.images, few.images[30:50])
    assert digits.test.labels is digits.answers is None
    assert not digits.stand_in
    refused(lambda: digits.judged, "no labels", "Kaggle test.csv")
    assert capsys.readouterr().out == ""
    (tmp_path / "train.csv").unlink()
    refused(lambda: mv.load_digits("kaggle", folder=tmp_path), "test.csv is there without train.csv")


def test_missing_files_are_downloaded_and_checked(tmp_path, embedded, mnist, capsys, monkeypatch):
    def fail(root: str, download: bool) -> None:
        raise RuntimeError("Error downloading")

    def fetch(root: str, download: bool) -> None:
        assert download
        shutil.copytree(embedded, Path(root) / "MNIST" / "raw")

    for name in list(IDX)[:3]:
        shutil.copy(embedded / f"{name}.gz", tmp_path)
    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    refused(lambda: mv.load_digits("mnist", folder=tmp_path), "could not be downloaded", tmp_path.name)
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr("torchvision.datasets.MNIST", fetch)
    mv.load_digits("mnist", folder=tmp_path)
    assert f"{LABELS}.gz is not in" in capsys.readouterr().out
    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    digits = mv.load_digits("mnist", folder=tmp_path)  # it is there now
    assert digits.test.fingerprint() == mnist.test.fingerprint()


@pytest.fixture(scope="module")
def raw(embedded) -> bytes:
    return gzip.decompress((embedded / f"{LABELS}.gz").read_bytes())


def not_read(folder: Path, content: bytes, *words: str, name: str = LABELS) -> None:
    path = folder / f"{name}.gz"
    path.write_bytes(content)
    refused(lambda: read_idx(path), path.name, "git checkout digit-recognizer", *words)


def test_what_is_no_whole_gzip_file_is_refused(tmp_path, embedded, raw):
    whole = (embedded / f"{LABELS}.gz").read_bytes()
    for content in (raw, whole[:1], whole[:10], whole[: len(whole) // 2], whole[:-1], whole + b"more"):
        not_read(tmp_path, content, "not a whole gzip file")
    for place in range(20, len(whole), len(whole) // 10):
        not_read(tmp_path, whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])


def test_another_magic_number_and_wrong_sizes_are_refused(tmp_path, raw):
    for content in (b"", gzip.compress(b""), gzip.compress(b"\0\0\x08"), gzip.compress(b"label,7\n")):
        not_read(tmp_path, content, "is not an IDX file", "allowed: magic number 2049")
    labels = "magic number 2049'\n  allowed: magic number 2051"
    not_read(tmp_path, gzip.compress(raw), labels, name="t10k-images-idx3-ubyte")
    for content in (raw[:-1], raw + b"\0", raw[:4] + struct.pack(">I", 9_999) + raw[8:], raw[:4], raw[:6]):
        not_read(tmp_path, gzip.compress(content), "wrong size")


@settings(max_examples=10, deadline=None)
@given(at=st.integers(8, 10_007), by=st.integers(1, 255))
def test_one_changed_byte_is_noticed(raw, tmp_path_factory, at, by):
    changed = raw[:at] + bytes([(raw[at] + by) % 256]) + raw[at + 1 :]
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    not_read(folder, gzip.compress(changed, 1), "other content than MNIST", f"allowed: md5 {IDX[LABELS][2]}")


BYTES, WHOLE = torch.uint8, torch.int64
THREE = torch.zeros(3, 28, 28, dtype=BYTES)
UNKNOWN = Digits(THREE, None, "Kaggle test.csv")
BAD = {
    "float images": (lambda: Digits(THREE.float(), None, "here"), "wrong form", "torch.float32", "torch.uint8"),
    "a small image": (lambda: Digits(THREE[:, 1:], None, "here"), "wrong form", "(3, 27, 28)"),
    "a channel": (lambda: Digits(THREE[:, None], None, "here"), "wrong form", "(3, 1, 28, 28)"),
    "float labels": (lambda: Digits(THREE, torch.zeros(3), "here"), "wrong form", "torch.float32"),
    "two labels": (lambda: Digits(THREE, torch.zeros(2, dtype=WHOLE), "here"), "(3,), one per image"),
    "a column": (lambda: Digits(THREE, torch.zeros(3, 1, dtype=WHOLE), "here"), "(3, 1)", "one per image"),
    "a ten": (lambda: Digits(THREE, torch.tensor([0, 10, 1]), "here"), "labels in here", "given:   '0 to 10'"),
    "below zero": (lambda: Digits(THREE, torch.tensor([0, -1, 1]), "here"), "given:   '-1 to 1'"),
    "index 40": (lambda: numbered(40)[40], "given:   40", "allowed: 0 to 39"),
    "no labels": (UNKNOWN.known_labels, "no labels\n", "Kaggle test.csv", ".train"),
    "no labels to batch": (lambda: next(UNKNOWN.batches(2)), "no labels\n", "Kaggle test.csv"),
    "all split off": (lambda: numbered(100).split(1), "not a fraction", "given:   1"),
    "nothing split off": (lambda: numbered(100).split(0), "not a fraction", "between 0 and 1"),
    "a part too small": (lambda: numbered(100).split(0.05), "too few digits", "0.05 of 100"),
    "a small sample": (lambda: numbered(100).sample(5), "too few digits", "5 of 100"),
    "an empty batch": (lambda: next(numbered(5).batches(0)), "a batch needs", "given:   0"),
    "a data set": (lambda: mv.load_digits("mnits"), "allowed: mnist, kaggle", "did you mean 'mnist'"),
    "no file": (lambda: read_idx(f"nowhere/{LABELS}.gz"), f"{LABELS}.gz does not exist", "git checkout"),
    "a file": (lambda: read_idx("t10k-labels.gz"), "unknown MNIST file", LABELS),
}
test_bad_input_is_refused = refusals(BAD)
