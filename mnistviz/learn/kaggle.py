"""Kaggle's files: `train.csv` and `test.csv` in, `submission.csv` out."""

import re
from collections.abc import Iterator
from itertools import chain, repeat, zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from mnistviz import project
from mnistviz.errors import MnistvizError, refuse

PIXELS = [f"pixel{i}" for i in range(784)]


def read_csv(path: str | Path, *, labelled: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """`images, labels = read_csv("train.csv", labelled=True)`: uint8 (N, 28, 28) and int64 (N,), all values checked."""
    fix = "put Kaggle's train.csv and test.csv in digit-recognizer/"
    refuse(not Path(path).exists(), f"{project.shown(path)} does not exist", fix=fix)
    images, labels = zip(*stream_csv(path, labelled=labelled), strict=True)
    return np.concatenate(images), np.concatenate(labels) if labelled else None


def stream_csv(
    path: str | Path, size: int = 4096, *, labelled: bool | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """`for images, labels in stream_csv("digits.csv")`: checked likewise, `size` digits at a time, however many.

    Labels are None where the file has none; `labelled=None` takes either kind.
    """
    path = Path(path)
    columns = _header(path, labelled)
    rest = np.empty((0, len(columns)), np.uint8)
    for values, least in chain(zip(_batches(path, columns), repeat(size)), [(rest, 1)]):  # at the end what is left
        rest = np.concatenate([rest, values])
        while len(rest) >= least:
            rows, rest = rest[:size], rest[size:]
            pixels = np.ascontiguousarray(rows[:, -784:]).reshape(-1, 28, 28)
            yield pixels, rows[:, 0].astype(np.int64) if "label" in columns else None


def _batches(path: Path, columns: list[str]) -> Iterator[np.ndarray]:
    """The rows as uint8 (N, 784 or 785), a few hundred at a time: none empty, none out of range."""
    import pyarrow as pa
    from pyarrow import csv

    name, rows = project.shown(path), 0
    most = np.array([9 if column == "label" else 255 for column in columns], np.int16)
    # it reads 32 blocks ahead; with several threads an error would not know its row
    reading = csv.ReadOptions(use_threads=False, column_names=columns, skip_rows=1, block_size=1 << 20)
    converting = csv.ConvertOptions(column_types={column: pa.int16() for column in columns})
    try:
        for batch in csv.open_csv(path, reading, convert_options=converting):
            try:
                values = batch.to_tensor().to_numpy()
            except pa.ArrowTypeError:
                column = next(column for column in columns if batch[column].null_count)
                given = f"row {rows + batch[column].to_pylist().index(None) + 1}, column {column}"
                raise MnistvizError(f"{name} has an empty value", given=given, allowed="a whole number") from None
            outside = (values < 0) | (values > most)
            if outside.any():
                row, at = np.argwhere(outside)[0]
                given = f"{values[row, at]} in row {rows + row + 1}, {columns[at]}"
                kind = columns[at].rstrip("0123456789")
                raise MnistvizError(f"{name} has a {kind} out of range", given=given, allowed=f"0 to {most[at]}")
            yield values.astype(np.uint8)
            rows += len(values)
    except pa.ArrowInvalid as error:
        if "Empty CSV file" not in str(error):
            said = re.sub(r"In CSV column #(\d+)", lambda found: columns[int(found[1])], str(error))
            said = re.sub(r"Row #(\d+)", lambda found: f"row {int(found[1]) - 1}", said)  # it counts the header
            allowed, fix = f"{len(columns)} whole numbers in every row", "download the file again, or mend that row"
            raise MnistvizError(f"{name} has a row that cannot be read: {said}", allowed=allowed, fix=fix) from error
    refuse(rows == 0, f"{name} has a header and no rows", fix="download the file again")


def _header(path: Path, labelled: bool | None) -> list[str]:
    """The names in the first line, if they are Kaggle's, with or without `label` as asked for."""
    try:
        with open(path, "rb") as file:
            header = file.readline(20_000).decode("utf-8-sig", "replace").strip().replace('"', "").split(",")
    except OSError as error:
        raise MnistvizError(f"{project.shown(path)} cannot be read: {error.strerror or error}") from error
    columns = [*(["label"] if labelled or (labelled is None and "label" in header) else []), *PIXELS]
    if header == columns:
        return columns
    missing = [column for column in columns if column not in header]
    extra = [column or "(no name)" for column in header if column not in columns]
    fix = "compare the first line of the file with Kaggle's"
    if missing == ["label"] and not extra:
        fix = "this looks like test.csv; train.csv has a label column"
    elif extra == ["label"] and not missing:
        fix = "this looks like train.csv; test.csv has no label column"
    parts = [f"missing {_few(missing)}" if missing else "", f"unexpected {_few(extra)}" if extra else ""]
    given = "; ".join(part for part in parts if part) or "the right names in another order"
    allowed = f"{columns[0]}, {columns[1]} … pixel783 ({len(columns)} columns)"
    raise MnistvizError(f"{project.shown(path)} does not have Kaggle's columns", given=given, allowed=allowed, fix=fix)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" … ({len(names)} in all)" if len(names) > 3 else "")


def write_csv(path: str | Path, images: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Write images in Kaggle's form: a `label` column if there are labels, then pixel0 … pixel783."""
    import pyarrow as pa
    from pyarrow import csv

    columns: dict[str, np.ndarray] = {} if labels is None else {"label": labels}
    columns |= dict(zip(PIXELS, images.reshape(len(images), 784).T, strict=True))
    with project.atomic(path) as part, open(part, "wb") as file:
        file.write(f"{','.join(columns)}\n".encode())  # pyarrow would put the names in quotes
        csv.write_csv(pa.table(columns), file, csv.WriteOptions(include_header=False))


def write_submission(path: str | Path, predictions: np.ndarray, *, rows: int = 28_000) -> pd.DataFrame:
    """`write_submission("submission.csv", predictions)`: `ImageId,Label`, 28,000 rows counted from 1.

    The file is read back and compared before this returns; the table is what it holds.
    """
    predictions = np.asarray(predictions)
    are_digits = predictions.dtype.kind in "iu" and np.isin(predictions, np.arange(10)).all()
    given, allowed = f"{predictions.dtype} of shape {predictions.shape}", f"{rows:,} whole numbers from 0 to 9"
    what, fix = "these are not predictions for Kaggle's test set", "predict the whole of digits.test, unshuffled"
    refuse(predictions.shape != (rows,) or not are_digits, what, given=given, allowed=allowed, fix=fix)
    table = pd.DataFrame({"ImageId": np.arange(1, rows + 1), "Label": predictions.astype(np.int64)})
    with project.atomic(path) as part:
        table.to_csv(part, index=False, lineterminator="\n")
        validate_submission(part, predictions)
    return table


def validate_submission(path: str | Path, predictions: np.ndarray) -> None:
    """Read a submission back as Kaggle would and compare it with the predictions, line by line."""
    lines = Path(path).read_text().split("\n")
    expected = ["ImageId,Label", *(f"{i},{label}" for i, label in enumerate(predictions, 1)), ""]
    what = f"{Path(path).name} does not hold these predictions"
    for number, (line, right) in enumerate(zip_longest(lines, expected, fillvalue="(the end of the file)"), 1):
        refuse(line != right, what, given=f"line {number}: {line!r}", allowed=repr(right))
