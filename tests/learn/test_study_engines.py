"""Every engine gives the same table, also when its workers are killed; what is wrong with one is said."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import tasks
from helpers import refused

import mnistviz as mv
from mnistviz.learn import engines, kaggle, study
from mnistviz.learn.engines import spread

pytest.importorskip("joblib")
distributed = pytest.importorskip("distributed")
NUMBERS = ["learned_from", "best_epoch", "epochs", "val_final", "val_kept"]
FILE = """
models = ["compact"]
recipes = ["tuned"]
seeds = [0, 1, 2]
data = ["kaggle"]
validation = 0.2
but = { epochs = 3 }
keep = [2]
"""
LOCAL = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
pytestmark = pytest.mark.filterwarnings(
    "ignore:Port 8787", "ignore:.*tasks which were still being processed", "ignore:.*ExecutorManagerThread"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory, mnist) -> Iterator[Path]:
    """A project with small files of Kaggle's form, which worker processes read as anybody's."""
    root = tmp_path_factory.mktemp("project")
    (root / "digit-recognizer").mkdir()
    digits = mnist.train.sample(500, seed=3)
    kaggle.write_csv(root / "digit-recognizer" / "train.csv", digits.images.numpy(), digits.known_labels().numpy())
    kaggle.write_csv(root / "digit-recognizer" / "test.csv", digits.images[:50].numpy())
    (root / "small.toml").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNISTVIZ_ROOT", str(root))
        yield root


@pytest.fixture(scope="module")
def cluster(place) -> Iterator["distributed.LocalCluster"]:
    """Two workers, each a process of one thread."""
    with distributed.LocalCluster(n_workers=2, **LOCAL) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def table(place) -> pd.DataFrame:
    """What this process makes of the study."""
    return study.study(place / "small.toml", engine="here")


@pytest.fixture(scope="module", autouse=True)
def no_workers_left() -> Iterator[None]:
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_a_worker_killed_in_the_middle_of_a_run_changes_no_number(engine, place, table, cluster, monkeypatch):
    address = cluster.scheduler_address if engine == "dask" else None
    folder, killed = place / engine, []

    def kill() -> None:
        """The first worker that has finished an epoch of its run."""
        while not killed:
            for work in folder.glob(".*.claim.*.work/whole.pt"):
                claim = folder / work.parent.name[1:].removesuffix(".work")
                killed.append(int(claim.read_text().split()[1]))
                os.kill(killed[0], signal.SIGKILL)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    again = study.study(place / "small.toml", folder=folder, engine=engine, workers=2, address=address)
    assert killed
    assert killed[0] != os.getpid()
    pd.testing.assert_frame_equal(again[NUMBERS], table[NUMBERS])
    assert again.error.isna().all()
    assert len(list(folder.glob("*.json"))) == 3
    assert not [path.name for path in folder.iterdir() if ".claim." in path.name]
    for weights in (place / "small" / "weights").glob("*.pth"):
        assert (folder / "weights" / weights.name).read_bytes() == weights.read_bytes()


def given(engine: str, cluster: object) -> dict[str, object]:
    address = {"address": cluster.scheduler_address} if engine == "dask" else {}
    return {"engine": engine, "workers": None if engine == "here" else 2} | address


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_all_answers_come_and_an_error_comes_too(engine, cluster):
    settings = given(engine, cluster)
    assert sorted(spread(tasks.square, [1, 2, 3], **settings)) == [1, 4, 9]
    refused(lambda: list(spread(tasks.refuse_two, [1, 2, 3], **settings)), "no room for this number", "2")
    assert sorted(spread(tasks.square, [4, 5], **settings)) == [16, 25]


@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_a_worker_that_dies_once_is_replaced_and_one_that_always_dies_is_said(engine, cluster, tmp_path, monkeypatch):
    settings, mark = given(engine, cluster), str(tmp_path / "died")
    assert set(spread(tasks.die_once, [(number, mark) for number in (1, 2, 3)], **settings)) == {1, 2, 3}
    assert Path(mark).exists()
    monkeypatch.setattr(engines, "ATTEMPTS", 2)
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    refused(lambda: list(spread(tasks.die_at_two, [1, 2, 3], **settings)), "died", engine, "memory")


def test_a_generator_left_early_leaves_nothing_in_the_way(cluster):
    for engine in ("processes", "dask"):
        answers = spread(tasks.square, list(range(20)), **given(engine, cluster))
        assert next(answers) in [n * n for n in range(20)]
        answers.close()
        assert sorted(spread(tasks.square, [1, 2], **given(engine, cluster))) == [1, 4]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "dusk"}, ("unknown engine", "did you mean 'dask'")),
        ({"engine": "processes", "workers": 0}, ("number of workers", "0", "1 or more")),
        ({"engine": "here", "address": "tcp://a:1"}, ("is for the engine 'dask'", "tcp://a:1")),
        ({"engine": "dask", "address": "tcp://127.0.0.1:9"}, ("no Dask scheduler", "tcp://127.0.0.1:9", "dask worker")),
        ({"engine": "dask", "address": "nowhere://x"}, ("no Dask scheduler", "nowhere://x", "dask worker")),
    ],
)
def test_an_engine_that_cannot_be_is_said_in_clear_words(settings, words, monkeypatch):
    monkeypatch.setattr(engines, "TIMEOUT", 1)
    refused(lambda: list(spread(tasks.square, [1], **settings)), *words)


def test_a_scheduler_without_workers_and_one_that_goes_away_are_said(monkeypatch):
    monkeypatch.setattr(engines, "TIMEOUT", 1)
    with distributed.LocalCluster(n_workers=0, processes=False, **LOCAL) as empty:
        settings = {"engine": "dask", "address": empty.scheduler_address}
        refused(lambda: list(spread(tasks.square, [1], **settings)), "no Dask scheduler with a worker", "inproc")
        empty.scale(1)
        empty.wait_for_workers(1)
        threading.Timer(2, empty.close).start()
        refused(lambda: list(spread(time.sleep, [4, 4, 4], **settings)), "no Dask scheduler with a worker")


def test_an_address_that_takes_the_call_and_says_nothing_is_left(monkeypatch):
    monkeypatch.setattr(engines, "TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {"engine": "dask", "address": f"tcp://127.0.0.1:{silent.getsockname()[1]}"}
        refused(lambda: list(spread(tasks.square, [1], **settings)), "no Dask scheduler", "127.0.0.1", "dask worker")


@pytest.mark.parametrize("error", ["ImportError", "OSError"])
def test_a_worker_without_torch_is_said(error, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text(f"raise {error}('there is no torch here')")
    monkeypatch.syspath_prepend(str(tmp_path))  # worker processes inherit the path
    with distributed.LocalCluster(n_workers=1, **LOCAL) as bare:
        settings = {"engine": "dask", "address": bare.scheduler_address}
        refused(lambda: list(spread(study.take, [1], **settings)), "no torch here", "mnistviz.learn.study", "install")


def test_without_its_packages_dask_is_asked_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask.distributed", None)
    refused(lambda: list(spread(tasks.square, [1], engine="dask")), "mnistviz[study]")


def test_the_table_of_this_process_is_that_of_a_plain_training(place, table):
    train, val = mv.load_digits("kaggle").train.split(0.2, seed=42)
    recipe = mv.recipes.tuned("compact").but(epochs=3, seed=2)
    mv.learn.study.torch.manual_seed(2)
    history = mv.fit(mv.models.compact(), train, val, recipe, progress=False)
    assert table.val_final.iloc[2] == history.rows[-1]["val_accuracy"]
    kept = json.loads((place / "small" / f"{table.index[2]}.json").read_text())
    assert [row["loss"] for row in kept["epochs"]] == [row["loss"] for row in history.rows]
