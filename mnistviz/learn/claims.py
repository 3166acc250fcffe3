"""Claims: one process at a time does a piece of work, on one machine or on several that share a disk."""

import os
import socket
import time
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
    if taken and _held(taken[-1]):
        yield None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(claim, "x") as file:
            file.write(f"{socket.gethostname()} {os.getpid()}")
    except FileExistsError:
        yield None
        return
    except OSError as error:
        claim.unlink(missing_ok=True)
        fix = "choose a folder you may write to, with room on its disk; results that are there stay"
        raise MnistvizError(f"cannot claim a run: {error.strerror}", given=project.shown(folder), fix=fix) from error
    try:
        yield claim
    finally:
        for old in (*taken, claim):
            old.unlink(missing_ok=True)


def _claims(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.claim.*"), key=lambda path: int(path.suffix[1:]))


def _held(claim: Path) -> bool:
    """Whether the process behind a claim still lives: on this machine by its number, elsewhere by its last sign."""
    with suppress(OSError, ValueError):  # just being written, or just gone
        host, process = claim.read_text().split()
        if host == socket.gethostname() and os.name == "posix":
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                return False
        return time.time() - claim.stat().st_mtime < LEASE
    return claim.exists() and time.time() - claim.stat().st_mtime < LEASE


def alive(claim: Path) -> None:
    """A sign of life, now and then; and the end, if another process has outbid this claim."""
    with suppress(FileNotFoundError):
        if time.time() - claim.stat().st_mtime < LEASE / 20:
            return
        os.utime(claim)
    if _claims(claim.parent, claim.stem.removesuffix(".claim"))[-1:] != [claim]:
        raise LostClaimError
