"""What is saved comes back exactly, what is damaged is refused, and a killed run ends where it would have."""

import hashlib
import io
import json
import os
import pickle
import shutil
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tasks import deadly, deaths
from torch import nn
from zoo import same, seeded

import mnistviz as mv
from mnistviz.learn.attacks import Attack
from mnistviz.learn.checkpoint import BEST, FINAL, load_weights, save_model, unseen, weights
from mnistviz.learn.history import Fit, History
from mnistviz.learn.recipes import Recipe

RECIPE = Recipe("compact", epochs=4, batch=50, lr=0.005, precision="float32")

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # told of files that are refused


def compact(seed: int = 0) -> nn.Sequential:
    with seeded(seed):
        return mv.models.compact()


def not_loaded(path: Path, *words: str) -> None:
    """Refused by name, with these words, and the model is left as it was."""
    model = compact()
    refused(lambda: load_weights(model, path), path.name, *words)
    assert same(model.state_dict(), compact().state_dict())


def train(folder: Path, few: mv.Digits, recipe: Recipe = RECIPE, **more) -> History:
    settings = {"folder": folder, "device": "cpu", "progress": False} | more
    return mv.fit(settings.pop("model", compact()), few[:120], few[400:], recipe, **settings)


def interrupt(state: Fit) -> None:
    if state.epoch == 2:
        raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "a.pth"
    save_model(path, weights(compact()), {"architecture": "compact", "seed": 7})
    return path


@pytest.fixture
def bare(saved) -> Path:
    """The same weights without their card."""
    saved.with_suffix(".json").unlink()
    return saved


@pytest.mark.parametrize("name", mv.models.MODELS)
def test_a_saved_model_comes_back_with_the_same_answers(name, tmp_path, few):
    model, path = mv.models.build(name), tmp_path / "a.pth"
    model(few.pixels[:50])  # moves the running statistics of batch norm
    card = save_model(path, weights(model), {"architecture": name, "seed": 7})
    again = mv.load_model(path)
    assert not any(module.training for module in again.modules())
    assert torch.equal(again(few.pixels[:9]), model.eval()(few.pixels[:9]))
    assert card == mv.read_card(path) == json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["bytes"] == path.stat().st_size
    assert card["parameters"] == mv.models.count_parameters(model)
    assert (card["architecture"], card["seed"], card["versions"]["torch"]) == (name, 7, torch.__version__)


def test_a_training_writes_two_models_with_cards_and_its_history(few, tmp_path):
    model = compact()
    history = train(tmp_path, few, model=model)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {BEST, FINAL, BEST.replace(".pth", ".json"), FINAL.replace(".pth", ".json"), "history.csv"}
    for name, epoch, state in ((BEST, history.best_epoch, history.best), (FINAL, 4, model.state_dict())):
        card, row = mv.read_card(tmp_path / name), history.table.loc[epoch]
        assert (card["epoch"], card["seed"], card["recipe"]["lr"]) == (epoch, RECIPE.seed, 0.005)
        assert card["metrics"] == {key: row[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
        assert card["data"]["train"] == "120 images, MNIST train"
        loaded = mv.load_model(tmp_path / name)
        assert same(loaded.state_dict(), state)
        assert mv.evaluate(loaded, few[400:]).accuracy == pytest.approx(row.val_accuracy)


def test_the_card_names_the_teachers_and_a_resumed_student_needs_the_same(few, tmp_path):
    for seed in (1, 2):
        card = {"architecture": "compact", "data": {"train": "9 images, MNIST train"}}
        kept = save_model(tmp_path / f"{seed}.pth", weights(compact(seed)), card)
        if seed == 1:
            path, taught = str(tmp_path / "1.pth"), kept["sha256"]
    recipe = RECIPE.but(teachers=(path,), distil=0.5)
    train(tmp_path / "run", few, recipe, callbacks={"step": interrupt})
    assert mv.read_card(tmp_path / "run" / BEST)["teachers"] == {path: taught}
    assert "teachers" not in mv.read_card("deep")
    for suffix in (".pth", ".json"):
        (tmp_path / f"2{suffix}").replace(tmp_path / f"1{suffix}")
    refused(lambda: train(tmp_path / "run", few, recipe, resume=True), "another teachers")


def test_weights_are_a_plain_copy_and_equal_weights_are_equal_bytes(tmp_path):
    model = compact().to(memory_format=torch.channels_last)
    kept = weights(model)
    assert kept["conv2.weight"].stride() == (250, 25, 5, 1)
    for name, state in (("one", kept), ("two", weights(compact())), ("three", weights(compact(1)))):
        save_model(tmp_path / name / f"{name}.pth", state, {"architecture": "compact"})
    with torch.no_grad():
        model.conv2.weight.zero_()
    assert kept["conv2.weight"].abs().sum() > 0
    one, two, three = ((tmp_path / name / f"{name}.pth").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three


def test_bare_weights_go_into_a_model_of_ones_own(bare):
    model = compact(seed=5)
    load_weights(model, bare)
    assert same(model.state_dict(), compact().state_dict())
    refused(lambda: mv.load_model(bare), "a.json is missing", "load_weights(model, path)")


def own() -> nn.Sequential:
    layers = [nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.LeakyReLU(0.2)]
    layers += [nn.MaxPool2d((2, 1)), nn.AvgPool2d(2), nn.Dropout(0.3), nn.Flatten(), nn.Linear(84, 10)]
    layers += [nn.LogSoftmax(1), nn.Softmax(1), layers[2], nn.LogSoftmax(1)]  # one of them a second time
    return nn.Sequential(OrderedDict((f"layer{i}", layer) for i, layer in enumerate(layers)))


def test_a_network_of_ones_own_is_built_again_from_its_card(few, tmp_path):
    model = own()
    mv.fit(model, few[:200], few[200:300], RECIPE.but(model="mine", epochs=1), folder=tmp_path, progress=False)
    loaded = mv.load_model(tmp_path / FINAL)
    assert repr(loaded) == repr(model)
    assert same(loaded.state_dict(), model.state_dict())
    assert torch.equal(loaded(few[:50].pixels), model(few[:50].pixels))
    with mv.capture(loaded) as trace:
        loaded(few[:1].pixels)
    assert mv.replay(trace).largest == 0
    card = json.loads((tmp_path / FINAL).with_suffix(".json").read_text())
    for wrong, words in ((["a", "Conv9d", {}], "Conv2d"), (["a", "Conv2d", {"inputs": 1}], "inputs"), (["a", 7], "7")):
        damaged = card | {"layers": [wrong, *card["layers"][1:]]}
        (tmp_path / FINAL).with_suffix(".json").write_text(json.dumps(damaged))
        refused(lambda: mv.load_model(tmp_path / FINAL), "layer", words)


def test_a_network_of_layers_that_no_card_can_tell_says_so_when_loaded(few, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(784, 10)))
    mv.fit(model, few[:200], few[200:300], RECIPE.but(model="mine", epochs=1), folder=tmp_path, progress=False)
    assert "layers" not in mv.read_card(tmp_path / FINAL)
    refused(lambda: mv.load_model(tmp_path / FINAL), "mine", "compact")


@pytest.mark.parametrize("deal", ["MNIST {}", "Kaggle stand-in {}", "Kaggle {}.csv"])
def test_only_the_test_part_of_the_same_deal_counts_as_unseen(few, deal, repository):
    card = {"data": {"train": f"35,700 images, {deal.format('train')}"}}
    for other in ("MNIST {}", "Kaggle stand-in {}", "Kaggle {}.csv"):
        assert unseen(card, mv.Digits(few.images, None, other.format("test"))) == (other == deal)
    assert not unseen({}, mv.Digits(few.images, None, deal.format("test")))
    shipped = mv.read_card(repository / "models" / "deep" / BEST)
    assert unseen(shipped, mv.Digits(few.images, None, deal.format("test"))) == ("MNIST" in deal)


def test_weights_of_another_architecture_are_refused(bare):
    for name in set(mv.models.MODELS) - {"compact"}:
        torch.save(weights(mv.models.build(name)), bare)
        not_loaded(bare, "another architecture", "given:", "allowed:", "load_model")
    torch.save({**weights(compact()), "fc2.bias": torch.zeros(11)}, bare)
    not_loaded(bare, "1 tensors differ", "fc2.bias: (11,)", "fc2.bias: (10,)")


def test_a_truncated_file_is_refused_at_every_length(saved):
    content, bare = saved.read_bytes(), saved.with_name("bare.pth")
    for length in (0, 1, 2, 3, 64, len(content) - 1, len(content) - 22, *range(0, len(content), len(content) // 12)):
        for path, words in ((saved, "truncated"), (bare, "not a file of tensors")):
            path.write_bytes(content[:length])
            not_loaded(path, words)


def flipped(content: bytes, at: float, flip: int) -> bytes:
    place = int(at * len(content))
    return content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_and_without_a_card_changes_no_weight(at, flip, saved):
    with_card, bare = saved.with_name("damaged.pth"), saved.with_name("bare.pth")
    with_card.with_suffix(".json").write_bytes(saved.with_suffix(".json").read_bytes())
    for path in (with_card, bare):
        path.write_bytes(flipped(saved.read_bytes(), at, flip))
    not_loaded(with_card, "damaged", "sha256")
    model = compact()
    with suppress(mv.MnistvizError):
        load_weights(model, bare)  # a byte that nothing reads may change
    assert same(model.state_dict(), compact().state_dict())


class Malicious:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("form", ["pickle", "torch", "torch, beside tensors", "torch, in the old format"])
def test_a_pickle_with_code_is_refused_and_the_code_not_run(form, bare, tmp_path):
    marker = tmp_path / "run"
    content = {**weights(compact()), "more": Malicious(marker)} if "beside" in form else Malicious(marker)
    if form == "pickle":
        bare.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, bare, _use_new_zipfile_serialization="old" not in form)
    not_loaded(bare, "refused")
    assert not marker.exists()
    pickle.loads(bare.read_bytes()) if form == "pickle" else torch.load(bare, weights_only=False)
    assert marker.exists()  # the code was real


def test_what_is_no_state_dict_of_this_model_is_refused(bare):
    one = torch.zeros(1)
    for content in (one, [one], {"conv1.weight": 3}, {"a": {"b": one}}, 7, {1: one}, {}):
        torch.save(content, bare)
        not_loaded(bare)
    for junk in (b"not a model", b"\x80\x02}q\x00.", b"PK\x05\x06" + b"\0" * 18):
        bare.write_bytes(junk)
        not_loaded(bare)


def test_an_unreadable_or_incomplete_card_is_refused(saved):
    card, unnamed = saved.with_suffix(".json"), (b'{"architecture": null}', b'{"architecture": ["compact"]}')
    for content in (b"", b"{", b"\xff\xfe", b"[]", b"3", b"{}", *unnamed):
        card.write_bytes(content)
        refused(lambda: mv.load_model(saved), "a.json")
        refused(lambda: load_weights(compact(), saved), "a.json")
    card.write_text('{"architecture": "compact"}')
    not_loaded(saved, "sha256")
    card.write_text('{"architecture": "compakt"}')
    refused(lambda: mv.load_model(saved), "did you mean 'compact'")


def test_an_unknown_name_and_missing_reference_weights_say_what_there_is(project_root):
    refused(lambda: mv.load_model("depp"), "no such checkpoint", "deep")
    refused(lambda: mv.load_model("deep"), "no reference weights for 'deep'", "train deep")
    save_model(project_root / "models" / "compact" / BEST, weights(compact()), {"architecture": "compact"})
    assert same(mv.load_model("compact").state_dict(), compact().state_dict())
    refused(lambda: mv.load_model("deep"), "allowed: compact")


def test_a_folder_that_cannot_be_written_is_found_before_the_first_epoch(few, tmp_path):
    (tmp_path / "file").write_text("in the way")
    began = {"start": lambda state: pytest.fail("began to train")}
    for resume in (False, True):
        refused(lambda r=resume: train(tmp_path / "file" / "run", few, resume=r, callbacks=began), "cannot write")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_leaves_the_earlier_files_whole(few, tmp_path, monkeypatch):
    kept = {}

    def fail(file: int) -> None:
        raise OSError(28, "No space left on device")

    def fill(state: Fit) -> None:
        kept.update(contents(tmp_path))
        monkeypatch.setattr(os, "fsync", fail)

    refused(lambda: train(tmp_path, few, callbacks={"epoch": fill}), "No space left")
    assert contents(tmp_path) == kept


def test_another_training_is_not_resumed(few, tmp_path):
    train(tmp_path, few, callbacks={"epoch": interrupt})
    before = contents(tmp_path)

    def resumed(recipe: Recipe = RECIPE, start: int = 0, end: int = 600) -> None:
        mv.fit(compact(), few[start:120], few[400:end], recipe, folder=tmp_path, resume=True, progress=False)

    refused(lambda: resumed(RECIPE.but(lr=0.006)), "another recipe")
    refused(lambda: resumed(RECIPE.but(attack=Attack(0.1))), "another recipe")
    refused(lambda: resumed(start=1), "another data")
    refused(lambda: resumed(end=599), "another data")
    refused(lambda: resumed(RECIPE.but(seed=1), start=1), "another recipe and data")
    assert contents(tmp_path) == before


def test_a_setting_that_a_later_version_adds_stops_no_training(few, tmp_path):
    @dataclass(frozen=True)
    class Later(Recipe):
        more: float = 0.5

    later, models = Later(**vars(RECIPE)), [compact(), compact()]
    train(tmp_path, few, callbacks={"epoch": interrupt})
    for model, folder in zip(models, (tmp_path, None), strict=True):
        mv.fit(model, few[:120], few[400:], later, folder=folder, resume=folder is not None, progress=False)
    assert same(*models)
    train(tmp_path / "on", few, callbacks={"epoch": interrupt})
    fails = {"folder": tmp_path / "on", "resume": True, "progress": False}
    refused(lambda: mv.fit(compact(), few[:120], few[400:], later.but(more=0.6), **fails), "another recipe")


def test_a_damaged_way_on_is_refused(few, tmp_path):
    train(tmp_path, few, callbacks={"epoch": interrupt})
    path, marker = tmp_path / "resume.pt", tmp_path / "marker"
    content = path.read_bytes()
    half = content[: len(content) // 2]
    for damaged in (half, flipped(content, 0.5, 1), b"", pickle.dumps(Malicious(marker))):
        path.write_bytes(damaged)
        refused(lambda: train(tmp_path, few, resume=True), "resume.pt")
    assert not marker.exists()


KILLED = Recipe("small", epochs=6, batch=100, lr=1.0, average=0.5, stop_after=1, precision="float32")


def train_here(folder: str, images: np.ndarray, labels: np.ndarray, die_at: int | None = None) -> None:
    """One training in this process; with `die_at` it kills itself at that moment of writing."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    convolution = [nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    model = nn.Sequential(*convolution, nn.Flatten(), nn.Dropout(0.2), nn.Linear(1152, 10))
    digits = mv.Digits(torch.from_numpy(images), torch.from_numpy(labels), "digits")
    if die_at is not None:
        deadly(die_at)
    parts = digits[:300], digits[300:]
    mv.fit(model, *parts, KILLED, folder=folder, resume=True, device="cpu", progress=False)


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


def test_a_run_killed_at_every_single_write_resumes_to_the_same_files(few, tmp_path):
    material = few.images[:400].numpy(), few.known_labels()[:400].numpy()
    train_here(str(tmp_path / "whole"), *material)
    expected = [(tmp_path / "whole" / name).read_bytes() for name in (BEST, FINAL)]
    assert expected[0] != expected[1]
    assert len(pd.read_csv(tmp_path / "whole" / "history.csv")) == 2  # its steps are so large that it stops early
    for moment in deaths(train_here, str(folder := tmp_path / "killed"), *material):
        whole_files(folder)
        (folder / ".stale.123.part").write_bytes(b"half")
        train_here(str(folder), *material)
        assert [(folder / name).read_bytes() for name in (BEST, FINAL)] == expected, moment
        assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
        shutil.rmtree(folder)
    assert moment >= 20  # a training writes this often
