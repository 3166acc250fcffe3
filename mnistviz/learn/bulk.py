"""Any number of digits answered in bounded memory: read piece by piece, written as it goes, resumed after a kill."""

import csv
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from mnistviz import project
from mnistviz.device import pick_device
from mnistviz.errors import MnistvizError, refuse, some
from mnistviz.learn.checkpoint import load_model, read_card
from mnistviz.learn.data import Digits
from mnistviz.learn.engines import spread
from mnistviz.learn.evaluate import predict
from mnistviz.learn.handwriting import read_digit
from mnistviz.learn.kaggle import stream_csv
from mnistviz.progress import Log

ENDING, PICTURES = "_answers.csv", (".png", ".jpg", ".jpeg")
ROWS, FILES = 4096, 512  # in memory at a time: whole batches of `predict` on a CPU, as if all were answered at once


class Job(NamedTuple):
    """A CSV file or a folder of pictures and where its answers go; afterwards, what became of it, in one line."""

    source: str
    out: str
    model: str
    device: str | None = None
    live: bool = False
    digits: int = 0
    right: int | None = None  # None where there are no labels
    unread: int = 0
    rate: float = 0.0  # digits a second; 0 if nothing was left to do
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        rate = f"{self.rate:,.0f} a second" if self.rate else "already done"
        right = "" if self.right is None else f"; {self.right / self.digits:.2%} right by the labels in the file"
        unread = f"; {self.unread:,} could not be read: see the column error" if self.unread else ""
        return f"{project.shown(self.out)}: {self.digits:,} digits, {rate}{right}{unread}"


def predict_files(
    sources: Iterable[str | Path], model: str, *, out: str | Path | None = None, device: str | None = None,
    progress: bool = True, engine: str = "here", workers: int | None = None, address: str | None = None,
) -> Iterator[Job]:  # fmt: skip
    """`for done in predict_files(["a.csv", "pictures"], "light"): print(done)`, each when it is whole.

    A CSV file has Kaggle's columns, with labels or without; in a folder, and in those within, PNG and JPEG files are
    read. Answers come to a_answers.csv beside a.csv, or in the folder `out`, and a card, a_answers.json, says whose
    they are. If they are there, by this model of this input, nothing is done; what was interrupted goes on.
    """
    read_card(model)  # an unknown one is refused once, not for each file
    jobs: dict[Path, Job] = {}
    for path in map(Path, map(os.path.abspath, sources)):
        if not path.name.endswith(ENDING):  # *.csv also finds the answers of last time
            target = Path(os.path.abspath(out or path.parent), (path.name if path.is_dir() else path.stem) + ENDING)
            given = f"{jobs[target].source} and {path}" if target in jobs else None
            refuse(given, f"two inputs would be answered in {target.name}", given=given, fix="name each once")
            jobs[target] = Job(str(path), str(target), model, device, progress and engine == "here")
    some(jobs, f"digits to answer: what ends in {ENDING} is taken for answers")
    yield from spread(attempt, list(jobs.values()), engine, workers, address)


def attempt(job: Job) -> Job:
    """Answer one file or folder, or what is left of it; an error becomes part of the result, and stops no other."""
    out = Path(job.out)
    work = out.with_name(f".{out.name}.part")  # a folder for what is not whole yet
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            try:
                return _answer(job, Path(job.source), out, work)
            finally:
                with suppress(OSError):  # if there is something to go on from, the folder stays
                    (work / "lock").unlink()
                    work.rmdir()
    except Timeout:
        return job._replace(error=f"{project.shown(out)} is being written by another process: left to it")
    except (MnistvizError, RuntimeError) as error:  # of torch: no memory, a device that fails
        return job._replace(error=str(error) if isinstance(error, MnistvizError) else f"{job.source}: {error}")
    except OSError as error:  # no such file, no room, not allowed
        what = f"{project.shown(job.source)} is not answered: {error.strerror or error}: {error.filename or out}"
        return job._replace(error=f"{what}; mend that, or choose another folder `out`")


def _answer(job: Job, source: Path, out: Path, work: Path) -> Job:
    """Rows are added to a file; a note says how far it is whole. After a kill it is cut off there, and goes on."""
    card, part, note = out.with_suffix(".json"), work / "answers.csv", work / "note.json"
    about = _about(job)
    state, done = _kept(note, about, part), _kept(card, about, out)
    if done and out.stat().st_size == done["bytes"]:
        return job._replace(**{name: done[name] for name in ("digits", "right", "unread")})
    what = f"{project.shown(out)} is there, and no card says that it holds answers"
    refuse(out.exists() and not card.exists() and not note.exists(), what, fix="move it, or choose another `out`")
    model, log, start = load_model(job.model, pick_device(job.device)), Log(job.live), time.perf_counter()
    pieces = (_from_folder if source.is_dir() else _from_csv)(source, state.get("digits", 0))
    first = list(islice(pieces, 1))  # what cannot be read at all is refused before anything is written
    if not state:
        head = b"file,Label,Probability,error\n" if source.is_dir() else b"ImageId,Label,Probability\n"
        state = {"about": about, "digits": 0, "right": None, "unread": 0, "bytes": len(head)}
        project.write_bytes(part, head)
        project.write_bytes(note, json.dumps(state, indent=2).encode())
    before, rate = state["digits"], 0.0
    with open(part, "r+b") as file:
        file.truncate(state["bytes"])
        file.seek(state["bytes"])
        for names, digits, errors in chain(first, pieces):
            probabilities = predict(model, digits)
            answers, sure = probabilities.argmax(1), [f"{share:.6f}" for share in probabilities.max(1).tolist()]
            file.write(_lines(names, answers.tolist(), sure, errors))
            file.flush()
            os.fsync(file.fileno())
            if digits.labels is not None:
                state["right"] = (state["right"] or 0) + int((answers == digits.labels.numpy()).sum())
            state["digits"] += len(names)
            state |= {"unread": state["unread"] + sum(map(bool, errors)), "bytes": file.tell()}
            project.write_bytes(note, json.dumps(state, indent=2).encode())
            rate = (state["digits"] - before) / (time.perf_counter() - start)
            log.live(f"{source.name}: {state['digits']:,} digits, {rate:,.0f} a second")
    log.close()
    what = f"{project.shown(source)} or the model was changed meanwhile"
    refuse(_about(job) != about, what, fix="call again: all is answered afresh")
    card.unlink(missing_ok=True)  # at no moment does a card speak of other answers
    os.replace(part, out)
    os.replace(note, card)
    shutil.rmtree(work, ignore_errors=True)
    return job._replace(digits=state["digits"], right=state["right"], unread=state["unread"], rate=rate)


Piece = tuple[Sequence[object], Digits, Sequence[str]]  # names, digits, and why one could not be read: it is blank here


def _from_csv(path: Path, done: int) -> Iterator[Piece]:
    for piece, (images, labels) in enumerate(stream_csv(path, ROWS)):
        if (before := piece * ROWS) >= done:
            known = None if labels is None else torch.from_numpy(labels)
            yield range(before + 1, before + len(images) + 1), Digits(torch.from_numpy(images), known, path.name), ()


def _from_folder(folder: Path, done: int) -> Iterator[Piece]:
    refuse(not any(_pictures(folder)), f"no pictures in {project.shown(folder)}", allowed=", ".join(PICTURES))
    names = islice(_pictures(folder), done, None)
    while piece := list(islice(names, FILES)):
        images, errors = torch.zeros(len(piece), 28, 28, dtype=torch.uint8), [""] * len(piece)
        for i, name in enumerate(piece):
            try:
                images[i] = read_digit(folder / name).images[0]
            except MnistvizError as error:
                errors[i] = str(error).splitlines()[0]
        yield piece, Digits(images, None, folder.name), errors


def _pictures(folder: Path) -> Iterator[str]:
    """Their paths within the folder, one folder after another, in order of name; what is hidden is left out."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        names = sorted(name for name in files if name[0] != "." and name.lower().endswith(PICTURES))
        yield from (Path(here, name).relative_to(folder).as_posix() for name in names)


def _lines(names: Sequence[object], answers: list[int], sure: list[str], errors: Sequence[str]) -> bytes:
    rows: Iterable[Sequence[object]] = zip(names, answers, sure, strict=True)
    if errors:
        rows = ((row[0], "", "", error) if error else (*row, "") for row, error in zip(rows, errors, strict=True))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")  # names of files need not be UTF-8


def _about(job: Job) -> dict[str, str]:
    """What answers follow from: the input (by names, sizes and times of change, not every byte) and the weights."""
    source, digest = Path(job.source), hashlib.sha256()
    for name in _pictures(source) if source.is_dir() else ("",):
        stat = (source / name).stat()
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    card = read_card(job.model)
    model = f"{card['architecture']}, sha256 {card.get('sha256')}"
    return {"input": source.name, "fingerprint": digest.hexdigest(), "model": model}


def _kept(path: Path, about: dict[str, str], answers: Path) -> dict[str, Any]:
    """A note or card, if it is about this, and its file is there to the length it says."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept: dict[str, Any] = json.loads(path.read_bytes())
        return kept if kept["about"] == about and kept["bytes"] <= answers.stat().st_size else {}
    return {}
