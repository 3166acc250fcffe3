"""Claims: one process at a time does a piece of work, on one machine or on several that share a disk."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnistviz import project
from mnistviz.errors import MnistvizError

LEASE = 300.0  # seconds without a sign of life after which another machine's claim is stale


class LostClaimError(Exception):
    """Another process took a claim over, because this one gave no sign of life for too long."""


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[Path | None]:
    """An exclusive file while a run is under way, or None if somebody alive has one.

    Claims of a run are numbered and the highest counts. A stale one is outbid by the next number: only one process
    can make that file, and nobody removes a claim that may be another's.
    """
    taken = _claims(folder, name)
    claim = folder / f"{name}.claim.{int(taken[-1].suffix[1:]) + 1 if taken else 1}"
    free = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not busy(folder, name):
            with open(claim, "x") as file:
                file.write(_mine())
            free = True
    except OSError as error:
        if not isinstance(error, FileExistsError) or not folder.is_dir():
            with suppress(OSError):
                claim.unlink()
            fix = "choose a folder you may write to, with room on its disk; results that are there stay"
            what = f"cannot claim a run: {error.strerror}"
            raise MnistvizError(what, given=project.shown(folder), fix=fix) from error
    try:
        yield claim if free else None
    finally:
        for old in (*taken, claim) if free and not lost(claim) else ():
            old.unlink(missing_ok=True)


def busy(folder: Path, name: str) -> bool:
    """Whether the process behind a claim still lives: on this machine by its number, elsewhere by its last sign."""
    for claim in _claims(folder, name)[-1:]:
        with suppress(OSError, ValueError):  # just being written, or just gone
            host, process = claim.read_text().split()
            if host == _mine().split()[0] and os.name == "posix":
                try:
                    os.kill(int(process), 0)
                except ProcessLookupError:
                    return False
        with suppress(FileNotFoundError):
            return time.time() - claim.stat().st_mtime < LEASE
    return False


def lost(claim: Path) -> bool:
    """Whether another process has outbid this claim, or made it anew after it had gone."""
    with suppress(FileNotFoundError):
        name = claim.stem.removesuffix(".claim")
        return _claims(claim.parent, name)[-1:] != [claim] or claim.read_text() != _mine()
    return True


def alive(claim: Path) -> None:
    """A sign of life, now and then; and the end, if the claim is lost."""
    with suppress(FileNotFoundError):
        if time.time() - claim.stat().st_mtime < LEASE / 20:
            return
        os.utime(claim)
    if lost(claim):
        raise LostClaimError


def _mine() -> str:
    return f"{socket.gethostname()}-{uuid.getnode():x} {os.getpid()}"


def _claims(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.claim.*"), key=lambda path: int(path.suffix[1:]))
