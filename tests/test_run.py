"""`start()` settles profile, seed, device and folders, and says so."""

import dataclasses
import os
import platform
import random
from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest
import torch
from helpers import refused

import mnistviz as mv
from mnistviz.run import PROFILES


@pytest.fixture(autouse=True)
def clean(project_root, monkeypatch) -> Iterator[None]:
    for name in ("MNISTVIZ_PROFILE", "MNISTVIZ_RELEASE", "CI"):
        monkeypatch.delenv(name, raising=False)
    with matplotlib.rc_context():
        yield


def test_the_argument_beats_the_variable_beats_full(monkeypatch):
    assert mv.start().name == "full"
    monkeypatch.setenv("MNISTVIZ_PROFILE", "quick")
    assert mv.start().name == "quick"
    assert mv.start("full").name == "full"
    monkeypatch.setenv("MNISTVIZ_PROFILE", "")
    assert mv.start().name == "full"
    refused(lambda: mv.start("fast"), "allowed: quick, full")
    monkeypatch.setenv("MNISTVIZ_PROFILE", "ful")
    refused(mv.start, "did you mean 'full'")


def test_profiles_differ_in_sizes_only():
    for name, profile in PROFILES.items():
        sizes = dataclasses.asdict(profile)
        assert sizes.pop("name") == name
        assert all(size is None or isinstance(size, (int, float)) for size in sizes.values())
    assert PROFILES["quick"].dpi < PROFILES["full"].dpi
    assert PROFILES["quick"].floor < PROFILES["full"].floor
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROFILES["quick"].epochs = 100


@pytest.mark.parametrize("name", PROFILES)
def test_a_run_passes_its_profile_on_and_writes_below_its_name(name, project_root):
    run, profile = mv.start(name), PROFILES[name]
    folders = {kind: project_root / kind / f"_{name}" for kind in ("models", "visualizations", "animations")}
    assert {kind: getattr(run, kind) for kind in folders} == folders
    assert (run.images, run.epochs, run.floor) == (profile.images, profile.epochs, profile.floor)
    assert matplotlib.rcParams["figure.dpi"] == profile.dpi


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_seed_fixes_every_generator():
    mv.start(seed=3)
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    mv.start(seed=3)
    assert draws() == first
    mv.start(seed=4)
    assert all(a != b for a, b in zip(first, draws(), strict=True))


def test_only_a_full_release_writes_the_shipped_files(project_root, monkeypatch):
    monkeypatch.setenv("MNISTVIZ_RELEASE", "1")
    full, quick = mv.start("full"), mv.start("quick")
    assert [full.visualizations, full.animations] == [project_root / "visualizations", project_root / "animations"]
    assert full.models == project_root / "models" / "_full"  # weights are refreshed by the command line alone
    assert quick.models == project_root / "models" / "_quick"


def test_a_ci_machine_changes_nothing(monkeypatch, capsys):
    before, printed = mv.start(), capsys.readouterr().out
    for name in ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "BUILD_ID"):
        monkeypatch.setenv(name, "true")
    assert mv.start() == before
    assert capsys.readouterr().out == printed


def told(text: str) -> dict[str, str]:
    return {line[:10].strip(): line[10:] for line in text.splitlines()}


def test_start_says_what_a_run_depends_on(capsys):
    mv.start("quick", seed=12, device="cpu")
    rows = told(capsys.readouterr().out)
    assert list(rows) == ["profile", "seed", "device", "versions", "data", "writes to"]
    assert rows["profile"].startswith("quick ")
    assert rows["seed"] == "12"
    assert rows["device"].startswith("cpu, ")
    versions = set(rows["versions"].replace(",", "").split())
    assert {platform.python_version(), torch.__version__, np.__version__} <= versions
    assert rows["writes to"] == "models/_quick, visualizations/_quick, animations/_quick"


def test_start_says_where_the_data_comes_from(project_root):
    data = project_root / "digit-recognizer"
    run = mv.start("quick")
    assert told(repr(run))["data"] == "MNIST to be downloaded, Kaggle stand-in"
    (data / "t10k-labels-idx1-ubyte.gz").touch()
    (data / "train.csv").touch()
    assert told(repr(run))["data"] == "MNIST embedded, Kaggle stand-in"
    (data / "test.csv").touch()
    assert told(repr(run))["data"] == "MNIST embedded, Kaggle your train.csv and test.csv"


def test_start_writes_no_file_and_no_variable(project_root):
    variables = dict(os.environ)
    mv.start("quick")
    assert dict(os.environ) == variables
    assert [path.name for path in project_root.iterdir()] == ["digit-recognizer"]
