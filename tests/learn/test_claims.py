"""Of all who want a piece of work one gets it, and those who died, or fell silent, hold nothing."""

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import refused

from mnistviz.learn import claims
from mnistviz.learn.claims import LostClaimError, alive, busy, claimed, lost


def old(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def dead() -> int:
    """The number of a process that is no more."""
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    return process.pid


def test_one_of_many_gets_it_and_afterwards_nothing_is_left(tmp_path, dead):
    host = claims._mine().split()[0]

    def bid(name: str) -> bool:
        with claimed(tmp_path, name) as claim:
            time.sleep(0.05)
            return claim is not None

    with ThreadPoolExecutor(8) as pool:
        for work in range(10):
            if work % 2:  # a stale one lies there
                (tmp_path / f"{work}.claim.3").write_text(f"{host} {dead}")
            assert sum(pool.map(bid, [str(work)] * 8)) >= 1
            assert not list(tmp_path.iterdir())


def test_nobody_gets_what_somebody_alive_has(tmp_path):
    with claimed(tmp_path, "a") as mine, claimed(tmp_path, "a") as other, claimed(tmp_path, "b") as another:
        assert (mine.name, other, another.name) == ("a.claim.1", None, "b.claim.1")
        assert busy(tmp_path, "a")
        assert mine.exists()
    assert not list(tmp_path.iterdir())


HOLDERS = {  # who, how long ago the last sign, and whether the work is held
    "a dead process of this machine": ("HERE DEAD", 0, False),
    "this process": ("HERE SELF", 0, True),
    "this process, long silent": ("HERE SELF", 2 * claims.LEASE, False),
    "another machine": ("elsewhere-0 1", claims.LEASE / 2, True),
    "another machine, long silent": ("elsewhere-0 1", 2 * claims.LEASE, False),
    "somebody who is just writing": ("", 0, True),
    "somebody who wrote nothing": ("", 2 * claims.LEASE, False),
}


@pytest.mark.parametrize(("who", "silent", "held"), HOLDERS.values(), ids=HOLDERS)
def test_a_claim_holds_as_long_as_its_process_lives(tmp_path, dead, who, silent, held):
    claim = tmp_path / "a.claim.9"
    who = who.replace("HERE", claims._mine().split()[0]).replace("DEAD", str(dead)).replace("SELF", str(os.getpid()))
    claim.write_text(who)
    old(claim, silent)
    assert busy(tmp_path, "a") == held
    with claimed(tmp_path, "a") as mine:
        assert (mine is None) == held
        assert held or mine.name == "a.claim.10"
    assert claim.exists() == held


def test_where_process_numbers_cannot_be_asked_the_last_sign_counts(tmp_path, dead, monkeypatch):
    monkeypatch.setattr(claims, "os", SimpleNamespace(name="nt", getpid=os.getpid))  # there `kill` ends the process
    claim = tmp_path / "a.claim.1"
    claim.write_text(f"{claims._mine().split()[0]} {dead}")
    assert busy(tmp_path, "a")
    old(claim, 2 * claims.LEASE)
    assert not busy(tmp_path, "a")


def test_signs_of_life_are_given_now_and_then(tmp_path):
    with claimed(tmp_path, "a") as claim:
        old(claim, claims.LEASE / 2)
        alive(claim)
        signed = claim.stat().st_mtime
        assert time.time() - signed < claims.LEASE / 4
        alive(claim)
        assert claim.stat().st_mtime == signed


@pytest.mark.parametrize("how", ["outbid", "gone", "made anew"])
def test_who_lost_a_claim_is_told_and_removes_nothing(tmp_path, how):
    with ExitStack() as stack:
        claim = stack.enter_context(claimed(tmp_path, "a"))
        if how == "outbid":
            (tmp_path / "a.claim.2").write_text("elsewhere-0 1")
        elif how == "gone":
            claim.unlink()
        else:
            claim.write_text("elsewhere-0 1")
        if claim.exists():
            old(claim, claims.LEASE / 2)
        left = sorted(tmp_path.iterdir())
        assert lost(claim)
        with pytest.raises(LostClaimError):
            alive(claim)
    assert sorted(tmp_path.iterdir()) == left


def test_an_error_gives_the_claim_back(tmp_path):
    with pytest.raises(RuntimeError), claimed(tmp_path, "a"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(lambda at=folder: claimed(at, "a").__enter__(), "cannot claim a run", "file", "room on its disk")
    monkeypatch.setattr(claims, "_mine", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    refused(lambda: claimed(tmp_path, "a").__enter__(), "No space left on device", "room on its disk")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
