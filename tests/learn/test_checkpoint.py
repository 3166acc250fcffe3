"""What is saved comes back exactly, what is damaged is refused, and a killed run ends where it would have."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import random
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import mnistviz as mv
from mnistviz.learn.recipes import Recipe

BEST, FINAL = "best_mnist_model.pth", "final_mnist_model.pth"
RECIPE = Recipe("compact", epochs=4, batch=50, lr=0.005, precision="float32")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mnistviz", "hypothesis", "pytest"])  # imported once for all processes below

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # told of files that are refused


def compact(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mv.models.compact()


def unchanged(model: nn.Module) -> bool:
    return all(torch.equal(v, w) for v, w in zip(model.state_dict().values(), compact().state_dict().values()))  # noqa: B905


def refused(path: Path, *said: str) -> None:
    """Loading this file raises, says why, and leaves the model as it was."""
    model = compact()
    with pytest.raises(mv.MnistvizError) as error:
        mv.checkpoint.load_weights(model, path)
    assert unchanged(model)
    assert path.name in str(error.value)
    for part in said:
        assert part in str(error.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.pth"
    mv.checkpoint.save_model(path, mv.checkpoint.weights(compact()), {"architecture": "compact", "seed": 7})
    return path


@pytest.fixture
def bare(saved: Path) -> Path:
    """The same weights without their card."""
    saved.with_suffix(".json").unlink()
    return saved


@pytest.mark.parametrize("name", mv.models.MODELS)
def test_a_saved_model_comes_back_with_the_same_answers(name: str, tmp_path: Path, few: mv.Digits) -> None:
    model = mv.models.build(name)
    model(few.pixels[:50])  # moves the running statistics of batch norm
    mv.checkpoint.save_model(tmp_path / "a.pth", mv.checkpoint.weights(model), {"architecture": name})
    again = mv.load_model(tmp_path / "a.pth")
    assert not any(m.training for m in again.modules())
    assert torch.equal(again(few.pixels[:9]), model.eval()(few.pixels[:9]))
    card = mv.read_card(tmp_path / "a.pth")
    assert card["parameters"] == mv.models.count_parameters(model)


def test_the_card_says_what_the_file_is(saved: Path) -> None:
    content = saved.read_bytes()
    card = json.loads(saved.with_suffix(".json").read_text())
    assert card == mv.read_card(saved)
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["bytes"] == len(content)
    assert card["parameters"] == 21_840
    assert (card["architecture"], card["seed"]) == ("compact", 7)
    assert card["versions"]["torch"] == torch.__version__


def test_a_training_writes_two_models_with_cards_and_its_history(few: mv.Digits, tmp_path: Path) -> None:
    model = compact()
    history = mv.fit(model, few[:150], few[400:], RECIPE, folder=tmp_path, device="cpu", progress=False)
    assert {f.name for f in tmp_path.iterdir()} == {BEST, FINAL, "history.csv"} | {
        n.replace(".pth", ".json") for n in (BEST, FINAL)
    }
    for name, epoch, weights in ((BEST, history.best_epoch, history.best), (FINAL, 4, model.state_dict())):
        card, row = mv.read_card(tmp_path / name), history.table.loc[epoch]
        assert card["epoch"] == epoch
        assert card["metrics"] == {k: row[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy")}
        assert card["recipe"]["lr"] == 0.005
        assert card["seed"] == RECIPE.seed
        assert "150 images, MNIST train" in card["data"]["train"]
        loaded = mv.load_model(tmp_path / name)
        assert all(torch.equal(v, weights[k]) for k, v in loaded.state_dict().items())
        assert mv.evaluate(loaded, few[400:]).accuracy == pytest.approx(row.val_accuracy)


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        mv.checkpoint.save_model(tmp_path / folder / f"{folder}.pth", mv.checkpoint.weights(compact(seed)), {"architecture": "compact"})
    one, two, three = ((tmp_path / f / f"{f}.pth").read_bytes() for f in ("one", "two", "three"))
    assert one == two != three


def test_weights_are_a_plain_copy() -> None:
    model = compact().to(memory_format=torch.channels_last)
    kept = mv.checkpoint.weights(model)
    assert kept["conv2.weight"].stride() == (250, 25, 5, 1)
    with torch.no_grad():
        model.conv2.weight.zero_()
    assert kept["conv2.weight"].abs().sum() > 0


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    for name in set(mv.models.MODELS) - {"compact"}:
        mv.checkpoint.save_model(tmp_path / f"{name}.pth", mv.checkpoint.weights(mv.models.build(name)), {"architecture": name})
        refused(tmp_path / f"{name}.pth", "another architecture", "given:", "allowed:", "load_model")


def test_one_wrong_shape_is_named(bare: Path) -> None:
    torch.save({**mv.checkpoint.weights(compact()), "fc2.bias": torch.zeros(11)}, bare)
    refused(bare, "1 tensors differ", "fc2.bias: (11,)", "fc2.bias: (10,)")


@pytest.mark.parametrize("card", [True, False], ids=["with its card", "bare"])
def test_a_truncated_file_is_refused_at_every_length(card: bool, saved: Path) -> None:
    if not card:
        saved.with_suffix(".json").unlink()
    content = saved.read_bytes()
    lengths = {0, 1, 2, 3, 64, len(content) - 1, len(content) - 22, *range(0, len(content), len(content) // 120)}
    for length in lengths:
        saved.write_bytes(content[:length])
        refused(saved, "truncated" if card else "not a file of tensors")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused(at: float, flip: int, saved: Path) -> None:
    content = saved.read_bytes()
    damaged = bytearray(content)
    damaged[int(at * len(content))] ^= flip
    try:
        saved.write_bytes(damaged)
        refused(saved, "damaged")
    finally:
        saved.write_bytes(content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(at=st.integers(0, 90_000), bit=st.integers(0, 7))
def test_without_a_card_a_changed_byte_changes_no_weight_unnoticed(at: int, bit: int, bare: Path) -> None:
    content = bare.read_bytes()
    damaged = bytearray(content)
    damaged[at % len(content)] ^= 1 << bit
    model = compact()
    try:
        bare.write_bytes(damaged)
        mv.checkpoint.load_weights(model, bare)  # a byte that nothing reads may change
    except mv.MnistvizError:
        pass
    finally:
        bare.write_bytes(content)
    assert unchanged(model)


class Attack:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("form", ["pickle", "torch", "torch, beside tensors", "torch, in the old format"])
def test_a_pickle_with_code_is_refused_and_the_code_not_run(form: str, bare: Path, tmp_path: Path) -> None:
    marker = tmp_path / "run"
    if form == "pickle":
        bare.write_bytes(pickle.dumps(Attack(marker)))
    else:
        content = {**mv.checkpoint.weights(compact()), "more": Attack(marker)} if "beside" in form else Attack(marker)
        torch.save(content, bare, _use_new_zipfile_serialization="old" not in form)
    refused(bare, "refused")
    assert not marker.exists()
    torch.load(bare, weights_only=False) if form != "pickle" else pickle.loads(bare.read_bytes())
    assert marker.exists()  # the attack was a real one


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), [torch.zeros(3)], {"conv1.weight": 3}, {"a": {"b": torch.zeros(1)}}, 7, {1: torch.zeros(1)}, {}],
    ids=str,
)
def test_what_is_no_state_dict_of_this_model_is_refused(content: object, bare: Path) -> None:
    torch.save(content, bare)
    refused(bare)


@pytest.mark.parametrize("content", [b"not a model", b"\x80\x02}q\x00.", b"PK\x05\x06" + b"\0" * 18])
def test_another_kind_of_file_is_refused(content: bytes, bare: Path) -> None:
    bare.write_bytes(content)
    refused(bare)


def test_bare_weights_go_into_a_model_of_ones_own(bare: Path) -> None:
    model = compact(seed=5)
    mv.checkpoint.load_weights(model, bare)
    assert unchanged(model)
    with pytest.raises(mv.MnistvizError, match=r"a\.json is missing[\s\S]*load_weights"):
        mv.load_model(bare)


@pytest.mark.parametrize(
    "card",
    [b"", b"{", b"\xff\xfe", b"[]", b"3", b"{}", b'{"architecture": null}', b'{"architecture": ["compact"]}'],
    ids=repr,
)
def test_an_unreadable_card_is_refused(card: bytes, saved: Path) -> None:
    saved.with_suffix(".json").write_bytes(card)
    with pytest.raises(mv.MnistvizError, match=r"a\.json"):
        mv.load_model(saved)
    model = compact()
    with pytest.raises(mv.MnistvizError, match=r"a\.json"):
        mv.checkpoint.load_weights(model, saved)
    assert unchanged(model)


def test_a_card_without_its_checksum_or_with_an_unknown_architecture_is_refused(saved: Path) -> None:
    card = saved.with_suffix(".json")
    card.write_text('{"architecture": "compact"}')
    refused(saved, "sha256")
    card.write_text('{"architecture": "compakt"}')
    with pytest.raises(mv.MnistvizError, match="did you mean 'compact'"):
        mv.load_model(saved)


def test_an_unknown_name_and_missing_reference_weights_say_what_there_is(project_root: Path) -> None:
    with pytest.raises(mv.MnistvizError, match="no such checkpoint") as error:
        mv.load_model("depp")
    assert "deep" in str(error.value)
    with pytest.raises(mv.MnistvizError, match=r"no reference weights for 'deep'[\s\S]*train deep"):
        mv.load_model("deep")
    mv.checkpoint.save_model(project_root / "models" / "compact" / BEST, mv.checkpoint.weights(compact()), {"architecture": "compact"})
    assert unchanged(mv.load_model("compact"))
    with pytest.raises(mv.MnistvizError, match="allowed: compact"):
        mv.load_model("deep")


def test_a_folder_that_cannot_be_written_is_found_before_the_first_epoch(few: mv.Digits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for resume in (False, True):
        with pytest.raises(mv.MnistvizError, match="cannot write"):
            mv.fit(
                compact(), few[:100], None, RECIPE, folder=tmp_path / "file" / "run", resume=resume, progress=False,
                callbacks={"start": lambda state: pytest.fail("began to train")},
            )  # fmt: skip
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_leaves_the_earlier_files_whole(few: mv.Digits, tmp_path: Path, monkeypatch) -> None:
    kept = {}

    def full(state) -> None:
        kept.update({f.name: f.read_bytes() for f in tmp_path.iterdir()})
        monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    with pytest.raises(mv.MnistvizError, match="No space left"):
        mv.fit(compact(), few[:100], few[400:], RECIPE, folder=tmp_path, progress=False, callbacks={"epoch": full})
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == kept


def interrupted(folder: Path, few: mv.Digits, recipe: Recipe = RECIPE, epoch: int = 2) -> None:
    """A training in this folder that was broken off after so many epochs."""

    def stop(state) -> None:
        if state.epoch == epoch:
            raise KeyboardInterrupt

    mv.fit(
        compact(), few[:120], few[400:], recipe, folder=folder, device="cpu", progress=False, callbacks={"epoch": stop}
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": RECIPE.but(lr=0.006)}, "another recipe"),
        ({"recipe": RECIPE.but(epochs=5)}, "another recipe"),
        ({"train": slice(0, 121)}, "another data"),
        ({"val": slice(401, 600)}, "another data"),
        ({"recipe": RECIPE.but(seed=1), "train": slice(1, 121)}, "another recipe and data"),
    ],
)
def test_another_training_is_not_resumed(changed: dict, said: str, few: mv.Digits, tmp_path: Path) -> None:
    interrupted(tmp_path, few)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    with pytest.raises(mv.MnistvizError, match=said):
        mv.fit(
            compact(), few[changed.get("train", slice(0, 120))], few[changed.get("val", slice(400, 600))],
            changed.get("recipe", RECIPE), folder=tmp_path, resume=True, progress=False,
        )  # fmt: skip
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "attack"])
def test_a_damaged_way_on_is_refused(damage: str, few: mv.Digits, tmp_path: Path) -> None:
    interrupted(tmp_path / "run", few)
    path = tmp_path / "run" / "resume.pt"
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(
        {
            "truncated": content[:half],
            "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
            "empty": b"",
            "attack": pickle.dumps(Attack(tmp_path / "run" / "marker")),
        }[damage]
    )
    with pytest.raises(mv.MnistvizError, match=r"resume\.pt"):
        mv.fit(compact(), few[:120], few[400:], RECIPE, folder=tmp_path / "run", resume=True, progress=False)
    assert not (tmp_path / "run" / "marker").exists()


SCHEDULES = {
    "step": {"schedule": "step", "step_every": 3, "factor": 0.3},
    "milestones": {"schedule": "milestones", "milestones": (3,), "factor": 0.3},
    "plateau": {"schedule": "plateau", "plateau_patience": 0, "factor": 0.3, "lr": 0.05},
    "one-cycle": {"schedule": "one-cycle", "optimiser": "adamw"},
    "constant": {"optimiser": "sgd", "momentum": 0.9},
}


@pytest.mark.parametrize("average", [0.0, 0.6])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_resumed_run_leaves_the_files_of_an_unbroken_one(
    schedule: str, average: float, few: mv.Digits, tmp_path: Path
) -> None:
    recipe = RECIPE.but(average=average, **SCHEDULES[schedule])
    parts = few[:120], few[400:]
    mv.fit(compact(), *parts, recipe, folder=tmp_path / "whole", device="cpu", progress=False)
    interrupted(tmp_path / "broken", few, recipe)
    history = mv.fit(compact(4), *parts, recipe, folder=tmp_path / "broken", resume=True, device="cpu", progress=False)
    assert len(history.rows) == 4
    for name in (BEST, FINAL):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rates = [pd.read_csv(tmp_path / run / "history.csv").drop(columns="seconds") for run in ("broken", "whole")]
    pd.testing.assert_frame_equal(*rates)
    assert not (tmp_path / "broken" / "resume.pt").exists()


# ── killed ────────────────────────────────────────────────────────────────────────────────────────────────

KILLED = Recipe(
    "small", epochs=6, batch=32, lr=0.01, average=0.5, schedule="plateau", plateau_patience=0, factor=0.5,
    precision="float32",
)  # fmt: skip


def train_here(folder: str, images: np.ndarray, labels: np.ndarray, recipe: Recipe, begun=None, die_at=None) -> None:
    """One training in this process; with `die_at` it kills itself at that moment of writing."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1152, 10)
    )
    digits = mv.Digits(torch.from_numpy(images), torch.from_numpy(labels), "digits")
    if die_at is not None:
        moments = count(1)

        def deadly(function: Callable) -> Callable:
            def wrapped(*args):
                if next(moments) == die_at:
                    if function is write:
                        write(args[0], args[1][: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args)

            return wrapped

        write = Path.write_bytes
        Path.write_bytes = deadly(write)
        os.fsync, os.replace, os.unlink = map(deadly, (os.fsync, os.replace, os.unlink))
    mv.fit(
        model, digits[:300], digits[300:], recipe, folder=folder, resume=True, device="cpu", progress=False,
        callbacks={"start": lambda state: begun.set()} if begun else None,
    )  # fmt: skip


def whole_files(folder: Path) -> None:
    """Everything visible in the folder can be read from its first byte to its last."""
    for path in folder.iterdir():
        if path.name.endswith(".part"):
            assert path.name.startswith(".")
        elif path.suffix in (".pth", ".pt"):
            assert torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
        elif path.suffix == ".json":
            assert json.loads(path.read_text())["sha256"]
        else:
            assert path.name == "history.csv"
            assert len(pd.read_csv(path)) >= 1


@pytest.fixture(scope="module")
def material(few: mv.Digits) -> tuple[np.ndarray, np.ndarray]:
    return few.images[:400].numpy(), few.labels[:400].numpy()


def test_a_run_killed_at_any_moment_resumes_to_the_same_files(material, tmp_path: Path) -> None:
    train_here(str(tmp_path / "whole"), *material, KILLED)
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in (BEST, FINAL)}
    chance = random.Random(5)

    def start(folder: Path):
        begun = PROCESSES.Event()
        process = PROCESSES.Process(target=train_here, args=(str(folder), *material, KILLED, begun))
        process.start()
        assert begun.wait(60)
        return process

    process = start(tmp_path / "timed")
    began = time.perf_counter()
    process.join()
    seconds = time.perf_counter() - began

    killed, epochs_done = 0, set()
    for i in range(30):
        folder = tmp_path / str(i)
        process = start(folder)
        time.sleep(seconds * (i % 20 + chance.random()) / 20 * 0.95)
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            continue  # it was quicker this time
        killed += 1
        whole_files(folder)
        epochs_done.add(len(pd.read_csv(folder / "history.csv")) if (folder / "history.csv").exists() else 0)
        (folder / ".stale.123.part").write_bytes(b"half")
        train_here(str(folder), *material, KILLED)
        assert {name: (folder / name).read_bytes() for name in expected} == expected
        assert not list(folder.glob(".*.part"))
        assert not (folder / "resume.pt").exists()
        if killed == 20:
            break
    assert killed == 20
    assert len(epochs_done) >= 4  # early, late and in between


def test_a_run_killed_at_every_single_write_resumes_to_the_same_files(material, tmp_path: Path) -> None:
    recipe = KILLED.but(lr=1e-6, batch=100, stop_after=1)  # too slow for an answer to change
    train_here(str(tmp_path / "whole"), *material, recipe)
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in (BEST, FINAL)}
    assert len(pd.read_csv(tmp_path / "whole" / "history.csv")) == 2  # stops early, after a kill too
    for moment in count(1):
        folder = tmp_path / str(moment)
        process = PROCESSES.Process(target=train_here, args=(str(folder), *material, recipe, None, moment))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        whole_files(folder)
        train_here(str(folder), *material, recipe)
        assert {name: (folder / name).read_bytes() for name in expected} == expected
        assert not list(folder.glob(".*.part"))
    assert moment > 20  # a training writes this often


@pytest.mark.parametrize("deal", ["MNIST", "Kaggle stand-in", "Kaggle"])
def test_only_the_test_part_of_the_same_deal_counts_as_unseen(few: mv.Digits, deal: str) -> None:
    parts = {"MNIST": "MNIST test", "Kaggle stand-in": "Kaggle stand-in test", "Kaggle": "Kaggle test.csv"}
    learned = {"MNIST": "MNIST train", "Kaggle stand-in": "Kaggle stand-in train", "Kaggle": "Kaggle train.csv"}
    card = {"data": {"train": f"35,700 images, {learned[deal]}"}}
    for name, source in parts.items():
        assert mv.checkpoint.unseen(card, mv.Digits(few.images, None, source)) == (name == deal)
    assert not mv.checkpoint.unseen({}, mv.Digits(few.images, None, parts[deal]))


def test_the_reference_weights_have_not_seen_the_stand_ins_test_part(few: mv.Digits) -> None:
    card = mv.read_card(Path(__file__).parents[2] / "models" / "deep" / BEST)
    assert mv.checkpoint.unseen(card, mv.Digits(few.images, None, "Kaggle stand-in test"))
    assert not mv.checkpoint.unseen(card, mv.Digits(few.images, None, "MNIST test"))
