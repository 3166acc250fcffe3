"""Kaggle's CSV files are read value by value, kept in a cache, and written as Kaggle wants them."""

import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mnistviz as mv
from mnistviz import kaggle

Rows = list[list[str]]
HEADER = ["label", *(f"pixel{i}" for i in range(784))]


def write(path: Path, rows: Rows, *, end: str = "\n", start: str = "") -> Path:
    """A CSV written by Python's own module, which the library does not use."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(start)
        csv.writer(file, lineterminator=end).writerows(rows)
    return path


@pytest.fixture
def rows(few: mv.Digits) -> Rows:
    """Kaggle's header and twelve labelled digits."""
    values = torch.cat([few.known_labels()[:12, None], few.images[:12].reshape(12, 784)], dim=1)
    return [HEADER, *([str(value) for value in row] for row in values.tolist())]


def same(few: mv.Digits, images: np.ndarray, labels: np.ndarray | None) -> bool:
    assert images.dtype == np.uint8
    assert labels is None or labels.dtype == np.int64
    known = labels is None or np.array_equal(labels, few.known_labels()[:12].numpy())
    return known and np.array_equal(images, few.images[:12].numpy())


def cached(path: Path) -> Path:
    return path.with_name(f".{path.name}.cache.npz")


# Reading


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_train_csv_is_read(project_root: Path, few: mv.Digits, rows: Rows, end: str, start: str) -> None:
    assert same(few, *kaggle.read_csv(write(project_root / "train.csv", rows, end=end, start=start), labelled=True))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_test_csv_is_read(project_root: Path, few: mv.Digits, rows: Rows, end: str) -> None:
    path = write(project_root / "test.csv", [row[1:] for row in rows], end=end)
    images, labels = kaggle.read_csv(path, labelled=False)
    assert labels is None
    assert same(few, images, labels)


@pytest.mark.parametrize(
    "header", [",".join(f'"{name}"' for name in HEADER), f" {','.join(HEADER)} "], ids=["quoted", "spaced"]
)
def test_a_dressed_up_header_is_read(project_root: Path, few: mv.Digits, rows: Rows, header: str) -> None:
    path = write(project_root / "train.csv", rows[1:], start=f"{header}\n")
    assert same(few, *kaggle.read_csv(path, labelled=True))


def test_a_last_line_may_lack_its_end(project_root: Path, few: mv.Digits, rows: Rows) -> None:
    path = write(project_root / "train.csv", rows)
    path.write_bytes(path.read_bytes().rstrip())
    assert same(few, *kaggle.read_csv(path, labelled=True))


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 5), seed=st.integers(0, 1000), labelled=st.booleans())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int, labelled: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / "digits.csv"
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, count) if labelled else None
    kaggle.write_csv(path, images, labels)
    again, known = kaggle.read_csv(path, labelled=labelled)
    assert np.array_equal(again, images)
    assert (known is None) if labels is None else np.array_equal(known, labels)
    table = pd.read_csv(path)  # and pandas reads the same
    assert np.array_equal(table[[f"pixel{i}" for i in range(784)]].to_numpy(), images.reshape(count, 784))
    assert labels is None or np.array_equal(table["label"], labels)


def test_the_form_written_is_kaggle_s_to_the_byte(project_root: Path, rows: Rows, few: mv.Digits) -> None:
    ours, theirs = project_root / "ours.csv", project_root / "theirs.csv"
    kaggle.write_csv(ours, few.images[:12].numpy(), few.known_labels()[:12].numpy())
    assert ours.read_bytes() == write(theirs, rows).read_bytes()
    assert ours.read_bytes().startswith(b"label,pixel0,pixel1,")
    kaggle.write_csv(ours, few.images[:12].numpy())
    assert ours.read_bytes() == write(theirs, [row[1:] for row in rows]).read_bytes()
    assert ours.read_bytes().startswith(b"pixel0,pixel1,")


# The cache


@pytest.fixture
def train_csv(project_root: Path, rows: Rows) -> Path:
    """A `train.csv` that has been read once."""
    path = write(project_root / "train.csv", rows)
    kaggle.read_csv(path, labelled=True)
    return path


class ParsedError(Exception):
    """The CSV itself was read."""


@pytest.fixture
def no_parsing(train_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on."""

    def parse(*_: object) -> None:
        raise ParsedError

    monkeypatch.setattr(kaggle, "_parse", parse)


@pytest.mark.usefixtures("no_parsing")
def test_a_second_reading_comes_from_the_cache(train_csv: Path, few: mv.Digits) -> None:
    assert same(few, *kaggle.read_csv(train_csv, labelled=True))


def test_test_csv_is_cached_too(project_root: Path, rows: Rows, few: mv.Digits) -> None:
    path = write(project_root / "test.csv", [row[1:] for row in rows])
    kaggle.read_csv(path, labelled=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kaggle, "_parse", None)
        images, labels = kaggle.read_csv(path, labelled=False)
    assert labels is None
    assert same(few, images, None)


@pytest.mark.usefixtures("no_parsing")
def test_a_changed_csv_makes_its_cache_void(train_csv: Path, rows: Rows) -> None:
    stat = train_csv.stat()
    os.utime(train_csv, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(ParsedError):
        kaggle.read_csv(train_csv, labelled=True)
    write(train_csv, rows[:-1])
    os.utime(train_csv, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ParsedError):
        kaggle.read_csv(train_csv, labelled=True)


def test_a_changed_csv_is_read_anew(train_csv: Path, rows: Rows) -> None:
    rows[1][0] = str((int(rows[1][0]) + 1) % 10)
    labels = kaggle.read_csv(write(train_csv, rows), labelled=True)[1]
    assert labels is not None
    assert labels.tolist() == [int(row[0]) for row in rows[1:]]


@pytest.mark.usefixtures("no_parsing")
def test_a_cache_with_labels_does_not_serve_a_file_without(train_csv: Path) -> None:
    with pytest.raises(ParsedError):
        kaggle.read_csv(train_csv, labelled=False)


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut it, replace it, or flip one bit: anywhere, or in the directory that ends a zip file."""
    kind, size = rng.integers(4), len(content)
    if kind == 0:
        return content[: rng.integers(size)]
    if kind == 1:
        return rng.bytes(rng.integers(1, 2000))
    place = rng.integers(0 if kind == 2 else size - 300, size)
    return content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]


def test_a_damaged_cache_is_passed_over(train_csv: Path, few: mv.Digits) -> None:
    rng = np.random.default_rng(0)
    cache = cached(train_csv)
    whole = cache.read_bytes()
    for _ in range(150):
        cache.write_bytes(damage(whole, rng))
        assert same(few, *kaggle.read_csv(train_csv, labelled=True))


def test_a_cache_cut_short_inside_is_passed_over(train_csv: Path, few: mv.Digits) -> None:
    """numpy reads no further than the shape says, so only a look at the whole file finds this."""
    big = np.zeros((42_000, 28, 28), np.uint8)
    stat = train_csv.stat()
    np.savez(cached(train_csv), stamp=np.array([stat.st_size, stat.st_mtime_ns, 1]), images=big, labels=np.zeros(2))
    content = cached(train_csv).read_bytes()
    cached(train_csv).write_bytes(content.replace(b"(42000, 28, 28)", b"(12000, 28, 28)"))
    assert same(few, *kaggle.read_csv(train_csv, labelled=True))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 1000])
def test_a_cache_that_is_none_is_replaced(train_csv: Path, few: mv.Digits, content: bytes) -> None:
    cached(train_csv).write_bytes(content)
    assert same(few, *kaggle.read_csv(train_csv, labelled=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kaggle, "_parse", None)
        assert same(few, *kaggle.read_csv(train_csv, labelled=True))


def test_a_cache_of_another_kind_is_passed_over(train_csv: Path, few: mv.Digits) -> None:
    with open(cached(train_csv), "wb") as file:
        np.save(file, np.zeros(3))
    assert same(few, *kaggle.read_csv(train_csv, labelled=True))
    with open(cached(train_csv), "wb") as file:
        np.savez(file, other=np.zeros(3))
    assert same(few, *kaggle.read_csv(train_csv, labelled=True))


def test_a_folder_that_cannot_hold_the_cache_still_reads(project_root: Path, rows: Rows, few: mv.Digits) -> None:
    path = write(project_root / "train.csv", rows)
    cached(path).mkdir()
    for _ in range(2):
        assert same(few, *kaggle.read_csv(path, labelled=True))
    assert sorted(p.name for p in project_root.iterdir()) == sorted([path.name, cached(path).name, "digit-recognizer"])


# Files that are not Kaggle's


def refused(path: Path, message: str, *, labelled: bool = True) -> None:
    with pytest.raises(mv.MnistvizError, match=message) as caught:
        kaggle.read_csv(path, labelled=labelled)
    assert str(caught.value).startswith(path.name)
    assert not cached(path).exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a", "'a'"),
        ("1.5", "'1.5'"),
        ("1e2", "'1e2'"),
        ("70000", "'70000'"),
        ("-70000", "'-70000'"),
        ("256", "pixel out of range\n  given:   '256 in row 3, pixel9'\n  allowed: 0 to 255"),
        ("-1", "pixel out of range\n  given:   '-1 in row 3, pixel9'"),
        ("", "empty value\n  given:   'row 3, column pixel9'"),
        ("NaN", "empty value\n  given:   'row 3, column pixel9'"),
    ],
)
def test_a_value_that_is_no_pixel_is_refused(project_root: Path, rows: Rows, value: str, message: str) -> None:
    rows[3][10] = value
    refused(write(project_root / "train.csv", rows), message)
    refused(write(project_root / "test.csv", [row[1:] for row in rows]), message, labelled=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("10", "label out of range\n  given:   '10 in row 3'\n  allowed: 0 to 9"),
        ("-1", "label out of range\n  given:   '-1 in row 3'"),
        ("", "empty value\n  given:   'row 3, column label'"),
        ("seven", "'seven'"),
    ],
)
def test_a_value_that_is_no_label_is_refused(project_root: Path, rows: Rows, value: str, message: str) -> None:
    rows[3][0] = value
    refused(write(project_root / "train.csv", rows), message)


def test_a_row_of_another_length_is_refused(project_root: Path, rows: Rows) -> None:
    for row, found in ((rows[3][:-1], 784), ([*rows[3], "0"], 786), (["1", "2"], 2)):
        path = write(project_root / "train.csv", [*rows[:3], row, *rows[4:]])
        refused(path, f"Expected 785 columns, got {found}")


def test_other_columns_are_refused(project_root: Path, rows: Rows) -> None:
    path = project_root / "train.csv"
    refused(write(path, [row[:-2] for row in rows]), "given:   'missing pixel782, pixel783'")
    refused(write(path, [[*row, "0"] for row in rows]), "given:   'unexpected 0'")
    refused(write(path, [[row[1], row[0], *row[2:]] for row in rows]), "right names in another order")
    refused(write(path, rows[1:]), r"missing label, pixel0, pixel1 … \(785 in all\)")


def test_train_and_test_mixed_up_are_told_apart(project_root: Path, rows: Rows) -> None:
    refused(write(project_root / "train.csv", [row[1:] for row in rows]), "this looks like test.csv")
    refused(write(project_root / "test.csv", rows), "this looks like train.csv", labelled=False)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_header_alone_is_refused(project_root: Path, end: str) -> None:
    path = project_root / "train.csv"
    path.write_bytes((",".join(HEADER) + end).encode())
    refused(path, "has a header and no rows|too short")


@pytest.mark.parametrize("content", [b"", b"\n", bytes(5000), np.random.default_rng(0).bytes(50_000), b"PK\x03\x04"])
def test_what_is_no_csv_is_refused(project_root: Path, content: bytes) -> None:
    path = project_root / "train.csv"
    path.write_bytes(content)
    refused(path, "does not have Kaggle's columns")


def test_garbage_below_a_good_header_is_refused(project_root: Path) -> None:
    path = project_root / "train.csv"
    for garbage in (np.random.default_rng(0).bytes(20_000), b'"' + b"1," * 784 + b"1\n"):
        path.write_bytes(",".join(HEADER).encode() + b"\n" + garbage)
        refused(path, "has a row that cannot be read")


def test_a_missing_file_and_a_folder_are_refused(project_root: Path) -> None:
    refused(project_root / "train.csv", "does not exist")
    (project_root / "test.csv").mkdir()
    refused(project_root / "test.csv", "cannot be read", labelled=False)


# The submission


def test_a_submission_is_kaggle_s_form_to_the_byte(tmp_path: Path) -> None:
    predictions = np.random.default_rng(0).integers(0, 10, 28_000)
    table = kaggle.write_submission(tmp_path / "submission.csv", predictions)
    rows = [["ImageId", "Label"], *([str(i + 1), str(label)] for i, label in enumerate(predictions.tolist()))]
    assert len(rows) == 28_001
    assert (tmp_path / "submission.csv").read_bytes() == write(tmp_path / "theirs.csv", rows).read_bytes()
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "submission.csv"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_a_submission_takes_any_whole_numbers(tmp_path: Path, dtype: type) -> None:
    kaggle.write_submission(tmp_path / "s.csv", np.array([3, 0, 9], dtype), rows=3)
    assert (tmp_path / "s.csv").read_bytes() == b"ImageId,Label\n1,3\n2,0\n3,9\n"
    kaggle.write_submission(tmp_path / "s.csv", torch.tensor([9, 9, 1]), rows=3)
    assert (tmp_path / "s.csv").read_bytes() == b"ImageId,Label\n1,9\n2,9\n3,1\n"


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(27_999, np.int64),
        np.zeros(28_001, np.int64),
        np.zeros((28_000, 1), np.int64),
        np.full(28_000, 10),
        np.full(28_000, -1),
        np.zeros(28_000),
        np.zeros(28_000, bool),
        np.full(28_000, np.nan),
        np.full(28_000, "7"),
        np.zeros((28_000, 10)),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_what_are_no_predictions_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    path = tmp_path / "submission.csv"
    for before in ([], ["submission.csv"]):
        with pytest.raises(mv.MnistvizError, match=r"not predictions for Kaggle's test set\n.*\n  allowed: 28,000"):
            kaggle.write_submission(path, wrong)
        assert [p.name for p in tmp_path.iterdir()] == before
        path.write_text("mine")
    assert path.read_text() == "mine"


def test_a_submission_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("mine")
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda table, part, **_: Path(part).write_text("ImageId,Label\n1,3\n"))
    with pytest.raises(mv.MnistvizError, match="does not hold these predictions"):
        kaggle.write_submission(path, np.array([3, 3]), rows=2)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


GOOD = "ImageId,Label\n1,3\n2,4\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("ImageID,Label\n1,3\n2,4\n", 1),
        ("ImageId,Label\n1,3\n", 3),
        ("ImageId,Label\n1,3\n2,5\n", 3),
        ("ImageId,Label\n0,3\n1,4\n", 2),
        ("ImageId,Label\n1,3.0\n2,4\n", 2),
        (GOOD + "3,4\n", 4),
        (GOOD + "\n", 5),
        (GOOD.rstrip(), 4),
    ],
)
def test_a_submission_is_compared_line_by_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(GOOD)
    kaggle.validate_submission(path, np.array([3, 4]))
    path.write_text(text)
    with pytest.raises(mv.MnistvizError, match=f"submission.csv does not hold these predictions\n.*line {line}: "):
        kaggle.validate_submission(path, np.array([3, 4]))
