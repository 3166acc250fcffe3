"""Kaggle's CSV files are read value by value, and written as Kaggle wants them."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import refused
from hypothesis import given, settings
from hypothesis import strategies as st

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
def rows(few) -> Rows:
    """Kaggle's header and twelve labelled digits."""
    values = torch.cat([few.known_labels()[:12, None], few.images[:12].reshape(12, 784)], dim=1)
    return [HEADER, *([str(value) for value in row] for row in values.tolist())]


@pytest.fixture
def path(project_root) -> Path:
    return project_root / "train.csv"


QUOTED, SPACED = ",".join(f'"{name}"' for name in HEADER), f" {','.join(HEADER)} "


def test_the_files_are_read_however_their_lines_end_and_their_header_is_dressed(path, few, rows):
    def reads(labelled: bool = True) -> None:
        images, labels = kaggle.read_csv(path, labelled=labelled)
        assert images.dtype == np.uint8
        assert np.array_equal(images, few.images[:12].numpy())
        assert np.array_equal(labels, few.known_labels()[:12]) if labelled else labels is None

    for end in ("\n", "\r\n"):
        write(path, [row[1:] for row in rows], end=end)
        reads(labelled=False)
        for start in ("", "\ufeff"):
            write(path, rows, end=end, start=start)
            reads()
    path.write_bytes(path.read_bytes().rstrip())  # the last line may lack its end
    reads()
    for header in (QUOTED, SPACED):
        write(path, rows[1:], start=f"{header}\n")
        reads()


@settings(max_examples=8, deadline=None)
@given(count=st.integers(1, 5), seed=st.integers(0, 1000), labelled=st.booleans())
def test_what_is_written_is_kaggle_s_form_to_the_byte_and_read_back(tmp_path_factory, count, seed, labelled):
    folder, rng = tmp_path_factory.mktemp("csv"), np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, count) if labelled else None
    kaggle.write_csv(folder / "ours.csv", images, labels)
    again, known = kaggle.read_csv(folder / "ours.csv", labelled=labelled)
    assert np.array_equal(again, images)
    assert np.array_equal(known, labels) if labelled else known is None
    columns = images.reshape(count, 784).tolist()
    rows = [[str(value) for value in ([labels[i], *row] if labelled else row)] for i, row in enumerate(columns)]
    theirs = write(folder / "theirs.csv", [HEADER if labelled else HEADER[1:], *rows])
    assert (folder / "ours.csv").read_bytes() == theirs.read_bytes()


def not_read(path: Path, *words: str, labelled: bool = True) -> None:
    refused(lambda: kaggle.read_csv(path, labelled=labelled), path.name, *words)


VALUES = {
    "a": ["'a'"],
    "1.5": ["'1.5'"],
    "70000": ["'70000'"],
    "256": ["pixel out of range", "256 in row 3, pixel9", "allowed: 0 to 255"],
    "-1": ["pixel out of range", "-1 in row 3, pixel9"],
    "": ["empty value", "row 3, column pixel9"],
    "NaN": ["empty value", "row 3, column pixel9"],
}
LABELS = {
    "10": ["label out of range", "10 in row 3", "allowed: 0 to 9"],
    "-1": ["label out of range", "-1 in row 3"],
    "": ["empty value", "row 3, column label"],
    "seven": ["'seven'"],
}


def test_a_value_that_is_no_pixel_or_no_label_is_refused(path, rows):
    pixel = rows[3][10]
    for value, words in VALUES.items():
        rows[3][10] = value
        not_read(write(path, rows), *words)
        not_read(write(path, [row[1:] for row in rows]), *words, labelled=False)
    rows[3][10] = pixel
    for value, words in LABELS.items():
        rows[3][0] = value
        not_read(write(path, rows), *words)


def test_other_rows_and_columns_are_refused(path, rows):
    for row, length in ((rows[3][:-1], 784), ([*rows[3], "0"], 786), (["1", "2"], 2)):
        not_read(write(path, [*rows[:3], row, *rows[4:]]), f"Expected 785 columns, got {length}")
    not_read(write(path, [row[:-2] for row in rows]), "given:   'missing pixel782, pixel783'")
    not_read(write(path, [[*row, "0"] for row in rows]), "given:   'unexpected 0'")
    not_read(write(path, [[row[1], row[0], *row[2:]] for row in rows]), "right names in another order")
    not_read(write(path, rows[1:]), "missing label, pixel0, pixel1 … (785 in all)")
    not_read(write(path, [row[1:] for row in rows]), "this looks like test.csv")
    not_read(write(path, rows), "this looks like train.csv", labelled=False)


def test_a_stream_deals_in_pieces_and_counts_rows_through_all_of_them(path, few):
    kaggle.write_csv(path, few.images.numpy(), few.known_labels().numpy())
    pieces = list(kaggle.stream_csv(path, 250))
    assert [len(images) for images, _ in pieces] == [250, 250, 100]
    assert np.array_equal(np.concatenate([images for images, _ in pieces]), few.images)
    assert np.array_equal(np.concatenate([labels for _, labels in pieces]), few.known_labels())
    black = ",".join("0" * 784)
    for wrong, words in {**VALUES, "0,0": ["row 2950: Expected 784 columns, got 785"]}.items():
        lines = [",".join(HEADER[1:]), *[black] * 3000]  # more than are read at once
        lines[2950] = ",".join([*"0" * 9, wrong, *"0" * 774])
        path.write_text("\n".join(lines))
        stream, where = kaggle.stream_csv(path, 1000), [word.replace("row 3", "row 2950") for word in words]
        assert len(next(stream)[0]) == 1000
        refused(lambda stream=stream: list(stream), "pixel9" if "," not in wrong else "", "row 2950", *where)


GOOD_HEADER, NOISE = ",".join(HEADER).encode(), np.random.default_rng(0).bytes(50_000)
NO_CSV = {
    "nothing": (b"", "does not have Kaggle's columns"),
    "noise": (NOISE, "does not have Kaggle's columns"),
    "a header alone, from Windows": (GOOD_HEADER + b"\r\n", "has a header and no rows"),
    "a header and noise": (GOOD_HEADER + b"\n" + NOISE, "has a row that cannot be read"),
    "a quote that never ends": (GOOD_HEADER + b'\n"' + b"1," * 784 + b"1\n", "has a row that cannot be read"),
}


@pytest.mark.parametrize("case", NO_CSV.values(), ids=NO_CSV)
def test_what_is_no_csv_is_refused(case, path):
    content, words = case
    path.write_bytes(content)
    not_read(path, words)


def test_a_missing_file_and_a_folder_are_refused(path):
    not_read(path, "does not exist", "digit-recognizer/")
    path.mkdir()
    not_read(path, "cannot be read")


def test_a_submission_is_kaggle_s_form_to_the_byte(tmp_path):
    path, predictions = tmp_path / "submission.csv", np.random.default_rng(0).integers(0, 10, 28_000)
    table = kaggle.write_submission(path, predictions)
    rows = [["ImageId", "Label"], *([str(i), str(label)] for i, label in enumerate(predictions.tolist(), 1))]
    assert path.read_bytes() == write(tmp_path / "theirs.csv", rows).read_bytes()
    pd.testing.assert_frame_equal(table, pd.read_csv(path))
    for whole in (np.array([3, 0, 9], np.uint8), np.array([3, 0, 9], np.int32), torch.tensor([3, 0, 9])):
        kaggle.write_submission(path, whole, rows=3)
        assert path.read_bytes() == b"ImageId,Label\n1,3\n2,0\n3,9\n"


NO_PREDICTIONS = {
    "one too few": np.zeros(27_999, int),
    "a column": np.zeros((28_000, 1), int),
    "tens": np.full(28_000, 10),
    "below zero": np.full(28_000, -1),
    "floats": np.zeros(28_000),
    "texts": np.full(28_000, "7"),
}


@pytest.mark.parametrize("wrong", NO_PREDICTIONS.values(), ids=NO_PREDICTIONS)
def test_what_are_no_predictions_is_refused_and_nothing_written(wrong, tmp_path):
    path = tmp_path / "submission.csv"
    refused(lambda: kaggle.write_submission(path, wrong), "not predictions for Kaggle's test set", "28,000")
    assert not list(tmp_path.iterdir())


def test_a_submission_that_fails_leaves_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / "submission.csv"
    path.write_text("mine")
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda table, part, **_: Path(part).write_text("ImageId,Label\n1,3\n"))
    refused(lambda: kaggle.write_submission(path, np.array([3, 3]), rows=2), "does not hold these predictions")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


GOOD = "ImageId,Label\n1,3\n2,4\n"
CHANGED = {
    "": 1,
    "ImageID,Label\n1,3\n2,4\n": 1,
    "ImageId,Label\n1,3\n": 3,
    "ImageId,Label\n1,3\n2,5\n": 3,
    "ImageId,Label\n0,3\n1,4\n": 2,
    "ImageId,Label\n1,3.0\n2,4\n": 2,
    GOOD + "3,4\n": 4,
    GOOD + "\n": 5,
    GOOD.rstrip(): 4,
}


def test_a_submission_is_compared_line_by_line(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text(GOOD)
    kaggle.validate_submission(path, np.array([3, 4]))
    for text, line in CHANGED.items():
        path.write_text(text)
        words = "submission.csv does not hold these predictions", f"line {line}: "
        refused(lambda: kaggle.validate_submission(path, np.array([3, 4])), *words)
