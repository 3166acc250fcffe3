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
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

import mnistviz as mv
from mnistviz import kaggle
from mnistviz.learn import data
from mnistviz.learn.data import IDX, Digits, DigitSet, read_idx

EMBEDDED = REPOSITORY / "digit-recognizer"
LABELS = "t10k-labels-idx1-ubyte"


def numbered(count: int) -> Digits:
    """Images that carry their own number, labelled with its last digit."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 0, 0], images[:, 0, 1] = torch.arange(count) // 256, torch.arange(count) % 256
    return Digits(images, torch.arange(count) % 10, "numbered")


def numbers(images: Tensor) -> list[int]:
    pixels = images.reshape(-1, 784).float()
    return [round(int(a) * 256 + int(b)) for a, b in pixels[:, :2] * (1 if images.dtype == torch.uint8 else 255)]


def hashes(images: Tensor) -> Counter[bytes]:
    return Counter(hashlib.md5(image.tobytes()).digest() for image in images.numpy())


# The embedded files


@pytest.mark.parametrize("name", IDX)
def test_the_embedded_files_are_those_torchvision_reads(tmp_path: Path, name: str) -> None:
    raw = gzip.decompress((EMBEDDED / f"{name}.gz").read_bytes())
    assert hashlib.md5(raw).hexdigest() == IDX[name][2]
    (tmp_path / name).write_bytes(raw)
    theirs = (read_image_file if "images" in name else read_label_file)(str(tmp_path / name))
    ours = read_idx(EMBEDDED / f"{name}.gz")
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, theirs.numpy())


def test_mnist_is_60_000_and_10_000(mnist: DigitSet) -> None:
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    assert torch.equal(mnist.test.known_labels()[:5], torch.tensor([7, 2, 1, 0, 4]))
    assert not mnist.stand_in
    assert mnist.answers is None


# Digits


def test_pixels_are_the_images_over_255(few: Digits) -> None:
    assert few.pixels.shape == (600, 1, 28, 28)
    assert few.pixels.dtype == torch.float32
    assert np.array_equal(few.pixels[:, 0].numpy(), few.images.numpy().astype(np.float32) / np.float32(255))
    assert (float(few.pixels.min()), float(few.pixels.max())) == (0, 1)


def test_an_index_gives_digits_again() -> None:
    digits = numbered(40)
    for index in (7, -33, np.int64(7), [7], slice(7, 8), torch.tensor([7]), np.arange(40) == 7):
        assert numbers(digits[index].images) == [7], index
        assert digits[index].known_labels().tolist() == [7]
    assert numbers(digits[[3, 1, 3]].images) == [3, 1, 3]
    assert len(digits[40:]) == 0
    for index in (40, -41, np.int64(40)):
        with pytest.raises(mv.MnistvizError, match="allowed: 0 to 39"):
            digits[index]


def test_digits_can_be_walked_one_by_one() -> None:
    assert [numbers(digit.images) for digit in numbered(3)] == [[0], [1], [2]]


def test_digits_without_labels_say_so() -> None:
    digits = Digits(numbered(5).images, None, "Kaggle test.csv")
    assert digits[2:4].labels is None
    assert "no labels" in repr(digits)
    for ask in (digits.known_labels, lambda: next(digits.batches(2)), lambda: digits.split(0.5)):
        with pytest.raises(mv.MnistvizError, match=r"no labels\n.*Kaggle test.csv"):
            ask()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 28, 28), None, "allowed: torch.uint8"),
        (torch.zeros(3, 27, 28, dtype=torch.uint8), None, r"\(3, 27, 28\)"),
        (torch.zeros(3, 1, 28, 28, dtype=torch.uint8), None, r"\(3, 1, 28, 28\)"),
        (torch.zeros(28, 28, dtype=torch.uint8), None, "wrong form"),
        (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3), "torch.float32"),
        (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "one per image"),
        (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, 1, dtype=torch.int64), "one per image"),
        (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([0, 10, 1]), "given:   '0 to 10'"),
        (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([0, -1, 1]), "given:   '-1 to 1'"),
    ],
)
def test_digits_of_a_wrong_form_are_refused(images: Tensor, labels: Tensor | None, message: str) -> None:
    with pytest.raises(mv.MnistvizError, match=message):
        Digits(images, labels, "here")


def test_a_fingerprint_changes_with_any_pixel_or_label() -> None:
    digits = numbered(20)
    images, labels = digits.images.clone(), digits.known_labels().clone()
    assert Digits(images.clone(), labels.clone(), "else").fingerprint() == digits.fingerprint()
    images[19, 27, 27] += 1
    labels[0] += 1
    prints = {Digits(i, t, "").fingerprint() for i in (images, digits.images) for t in (labels, digits.labels, None)}
    assert len(prints) == 6


# Splitting


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(8, 40), min_size=10, max_size=10), share=st.floats(0.2, 0.8), seed=st.integers(0, 99)
)
def test_a_split_shares_every_digit_out_and_loses_none(counts: list[int], share: float, seed: int) -> None:
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(counts))
    digits = Digits(numbered(len(labels)).images, labels, "here")
    rest, part = digits.split(share, seed=seed)
    assert sorted(numbers(rest.images) + numbers(part.images)) == list(range(len(labels)))
    for half, fraction in ((rest, 1 - share), (part, share)):
        assert torch.equal(labels[numbers(half.images)], half.known_labels())
        found = np.bincount(half.known_labels(), minlength=10)
        assert np.abs(found - fraction * np.array(counts)).max() <= 1.5
    again = digits.split(share, seed=seed)
    assert torch.equal(again[0].images, rest.images)
    assert torch.equal(again[1].images, part.images)
    assert not torch.equal(digits.split(share, seed=seed + 1)[0].images, rest.images)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(mv.MnistvizError, match="not a fraction"):
        numbered(100).split(fraction)


def test_too_few_digits_for_a_fair_split_are_refused() -> None:
    for digits, fraction in ((numbered(100), 0.05), (numbered(10), 0.5), (numbered(0), 0.5)):
        with pytest.raises(mv.MnistvizError, match="too few digits"):
            digits.split(fraction)


def test_a_sample_is_fair_seeded_and_of_the_size_asked(few: Digits) -> None:
    sample = few.sample(100, seed=2)
    assert len(sample) == 100
    share = np.bincount(few.known_labels(), minlength=10) / 6
    assert np.abs(np.bincount(sample.known_labels(), minlength=10) - share).max() <= 1.5
    assert hashes(sample.images) <= hashes(few.images)
    assert torch.equal(few.sample(100, seed=2).images, sample.images)
    assert not torch.equal(few.sample(100, seed=3).images, sample.images)
    assert few.sample(None) is few
    assert few.sample(600) is few
    assert few.sample(10_000) is few
    with pytest.raises(mv.MnistvizError, match="too few digits"):
        few.sample(5)


def test_a_sample_needs_no_labels() -> None:
    digits = Digits(numbered(50).images, None, "here")
    sample = digits.sample(20, seed=1)
    assert len(set(numbers(sample.images))) == 20
    assert numbers(digits.sample(20, seed=1).images) == numbers(sample.images)
    assert numbers(digits.sample(20, seed=2).images) != numbers(sample.images)


# Batches


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 60), size=st.integers(1, 70), seed=st.integers(0, 99))
def test_batches_serve_every_image_once_with_its_label(count: int, size: int, seed: int) -> None:
    digits = numbered(count)

    def served(generator: torch.Generator | None) -> list[int]:
        batches = list(digits.batches(size, generator=generator))
        lengths = [len(x) for x, _ in batches]
        assert lengths == [min(size, count - start) for start in range(0, count, size)]
        for x, y in batches:
            assert x.dtype == torch.float32
            assert x.shape[1:] == (1, 28, 28)
            assert [number % 10 for number in numbers(x)] == y.tolist()
        return [number for x, _ in batches for number in numbers(x)]

    assert served(None) == list(range(count))
    shuffled = served(torch.Generator().manual_seed(seed))
    assert sorted(shuffled) == list(range(count))
    assert served(torch.Generator().manual_seed(seed)) == shuffled
    if count > 20:
        assert shuffled != list(range(count))
        assert served(torch.Generator().manual_seed(seed + 1)) != shuffled


def test_a_batch_holds_the_pixels(few: Digits) -> None:
    x, y = next(few.batches(600))
    assert torch.equal(x, few.pixels)
    assert torch.equal(y, few.known_labels())


def test_an_epoch_goes_on_where_its_generator_stands() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = ([numbers(x) for x, _ in numbered(50).batches(50, generator=generator)] for _ in range(2))
    assert first != second


def test_every_image_of_a_batch_is_augmented_by_itself(few: Digits) -> None:
    same = Digits(few.images[:1].expand(8, -1, -1), few.known_labels()[:1].expand(8), "one digit, eight times")
    x, _ = next(same.batches(8, generator=torch.Generator().manual_seed(0), augment=mv.Augment(rotation=20)))
    assert len({image.numpy().tobytes() for image in x}) == 8
    plain, _ = next(same.batches(8, generator=torch.Generator().manual_seed(0), augment=mv.Augment()))
    assert torch.equal(plain, same.pixels)


# Sources


@pytest.fixture(scope="module")
def dealt(mnist: DigitSet) -> DigitSet:
    return data.stand_in(mnist)


def test_the_stand_in_deals_out_exactly_the_70_000(dealt: DigitSet, mnist: DigitSet) -> None:
    assert dealt.stand_in
    assert (len(dealt.train), len(dealt.test)) == (42_000, 28_000)
    assert dealt.test.labels is None
    assert dealt.answers is not None
    every = hashes(torch.cat([mnist.train.images, mnist.test.images]))
    assert hashes(dealt.train.images) + hashes(dealt.test.images) == every

    def labelled(images: Tensor, labels: Tensor) -> set[tuple[bytes, int]]:
        return {(hashlib.md5(i.tobytes()).digest(), int(t)) for i, t in zip(images.numpy(), labels, strict=True)}

    known = labelled(mnist.train.images, mnist.train.known_labels())
    known |= labelled(mnist.test.images, mnist.test.known_labels())
    assert labelled(dealt.train.images, dealt.train.known_labels()) <= known
    assert labelled(dealt.test.images, dealt.answers) <= known


def test_the_stand_in_is_the_same_for_everybody(dealt: DigitSet, mnist: DigitSet) -> None:
    torch.manual_seed(99)
    np.random.seed(99)
    again = data.stand_in(mnist)
    assert torch.equal(again.train.images, dealt.train.images)
    assert torch.equal(again.test.images, dealt.test.images)
    assert torch.equal(again.answers, dealt.answers)
    assert [dealt.train.fingerprint(), dealt.test.fingerprint()] == [
        194_217_365,
        2_623_067_982,
    ]  # whatever the version of numpy


def test_15_percent_of_42_000_is_6_300(dealt: DigitSet) -> None:
    train, val = dealt.train.split(0.15, seed=0)
    assert (len(train), len(val)) == (35_700, 6_300)
    share = np.bincount(dealt.train.known_labels()) * 0.15
    assert np.abs(np.bincount(val.known_labels()) - share).max() <= 1


def test_the_stand_in_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str], mnist: DigitSet) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_mnist", lambda folder: mnist)
        digits = mv.load_digits("kaggle", folder=tmp_path, limit=200)
    assert digits.stand_in
    assert len(digits.train) == 200
    assert (len(digits.test), len(digits.answers)) == (28_000, 28_000)
    told = capsys.readouterr().out
    assert "stand-in" in told
    assert "not Kaggle's own rows" in told


def test_your_own_kaggle_files_come_first(tmp_path: Path, few: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    kaggle.write_csv(tmp_path / "train.csv", few.images[:30].numpy(), few.known_labels()[:30].numpy())
    kaggle.write_csv(tmp_path / "test.csv", few.images[30:50].numpy())
    digits = mv.load_digits("kaggle", folder=tmp_path)
    assert torch.equal(digits.train.images, few.images[:30])
    assert torch.equal(digits.train.known_labels(), few.known_labels()[:30])
    assert torch.equal(digits.test.images, few.images[30:50])
    assert digits.test.labels is None
    assert not digits.stand_in
    assert digits.answers is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("lone", "other"), [("train.csv", "test.csv"), ("test.csv", "train.csv")])
def test_one_kaggle_file_alone_is_an_error(tmp_path: Path, lone: str, other: str) -> None:
    (tmp_path / lone).touch()
    with pytest.raises(mv.MnistvizError, match=f"^{lone} is there without {other}"):
        mv.load_digits("kaggle", folder=tmp_path)


def test_an_unknown_data_set_lists_the_known() -> None:
    with pytest.raises(mv.MnistvizError, match=r"allowed: mnist, kaggle\n.*did you mean 'mnist'"):
        mv.load_digits("mnits")


def test_a_limit_keeps_a_fair_part_of_the_training_images(mnist: DigitSet) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_mnist", lambda folder: mnist)
        digits = mv.load_digits("mnist", limit=500)
    share = np.bincount(mnist.train.known_labels()) / 120
    assert np.abs(np.bincount(digits.train.known_labels()) - share).max() <= 1.5
    assert len(digits.test) == 10_000


def test_missing_files_are_downloaded_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mnist: DigitSet
) -> None:
    def fetch(root: str, download: bool) -> None:
        assert download
        raw = Path(root) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name in IDX:
            shutil.copy(EMBEDDED / f"{name}.gz", raw)

    monkeypatch.setattr("torchvision.datasets.MNIST", fetch)
    digits = mv.load_digits("mnist", folder=tmp_path)
    assert torch.equal(digits.test.images, mnist.test.images)
    assert torch.equal(digits.train.known_labels(), mnist.train.known_labels())
    assert "train-images-idx3-ubyte.gz is not in" in capsys.readouterr().out


def test_a_failed_download_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Error downloading")

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    for name in list(IDX)[:3]:
        shutil.copy(EMBEDDED / f"{name}.gz", tmp_path)
    with pytest.raises(mv.MnistvizError, match=f"Error downloading\n  given:   '{LABELS}.gz'\n"):
        mv.load_digits("mnist", folder=tmp_path)


# Files that are not what they should be


@pytest.fixture(scope="module")
def raw() -> bytes:
    return gzip.decompress((EMBEDDED / f"{LABELS}.gz").read_bytes())


def refused(tmp_path: Path, content: bytes, message: str, name: str = LABELS) -> None:
    path = tmp_path / f"{name}.gz"
    path.write_bytes(content)
    with pytest.raises(mv.MnistvizError, match=message) as caught:
        read_idx(path)
    assert path.name in str(caught.value)
    assert "git checkout digit-recognizer" in str(caught.value)


def test_what_is_no_gzip_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    whole = (EMBEDDED / f"{LABELS}.gz").read_bytes()
    refused(tmp_path, raw, "not a whole gzip file")
    for cut in (1, 10, len(whole) // 2, len(whole) - 1):
        refused(tmp_path, whole[:cut], "not a whole gzip file")
    refused(tmp_path, whole + b"more", "not a whole gzip file")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    refused(tmp_path, bytes(damaged), "not a whole gzip file|other content|wrong size")


@pytest.mark.parametrize("content", [b"", *(gzip.compress(c, mtime=0) for c in (b"", b"\0\0\x08", b"label,7\n"))])
def test_what_is_no_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, content, "is not an IDX file\n.*\n  allowed: magic number 2049")


def test_labels_in_the_place_of_images_are_refused(tmp_path: Path, raw: bytes) -> None:
    refused(tmp_path, gzip.compress(raw), "magic number 2049'\n  allowed: magic number 2051", "t10k-images-idx3-ubyte")


def test_wrong_sizes_are_refused(tmp_path: Path, raw: bytes) -> None:
    for content in (raw[:-1], raw + b"\0", raw[:4] + struct.pack(">I", 9_999) + raw[8:], raw[:4], raw[:6]):
        refused(tmp_path, gzip.compress(content), "wrong size")


@settings(max_examples=10, deadline=None)
@given(at=st.integers(8, 10_007), by=st.integers(1, 255))
def test_one_changed_byte_is_noticed(raw: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, by: int) -> None:
    changed = bytearray(raw)
    changed[at] = (changed[at] + by) % 256
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    refused(folder, gzip.compress(bytes(changed), 1), f"other content than MNIST\n.*\n  allowed: md5 {IDX[LABELS][2]}")


def test_missing_and_misnamed_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(mv.MnistvizError, match=f"{LABELS}.gz does not exist"):
        read_idx(tmp_path / f"{LABELS}.gz")
    with pytest.raises(mv.MnistvizError, match="unknown MNIST file"):
        read_idx(tmp_path / "t10k-labels.gz")
    (tmp_path / f"{LABELS}.gz").mkdir()
    with pytest.raises(mv.MnistvizError, match="not a whole gzip file"):
        read_idx(tmp_path / f"{LABELS}.gz")
