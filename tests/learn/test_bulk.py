"""Digits by the file and the folder: the answers are those of `predict`, whatever was killed, changed or broken."""

import csv
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers import refused
from PIL import Image
from tasks import deadly, deaths

import mnistviz as mv
from mnistviz.learn import bulk, kaggle
from mnistviz.learn.bulk import Job, predict_files

WEIGHTS = {
    name: str(Path(mv.__file__).parent.parent / f"models/{name}/best_mnist_model.pth") for name in ("light", "compact")
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch) -> None:
    monkeypatch.setattr(bulk, "ROWS", 128)
    monkeypatch.setattr(bulk, "FILES", 2)


@pytest.fixture
def path(few, tmp_path) -> Path:
    """600 labelled digits in Kaggle's form."""
    kaggle.write_csv(tmp_path / "digits.csv", few.images.numpy(), few.known_labels().numpy())
    return tmp_path / "digits.csv"


def answer(*sources: Path, model: str = "light", **more) -> list[Job]:
    return list(predict_files(sources, WEIGHTS[model], device="cpu", progress=False, **more))


def expected(digits: mv.Digits, model: str = "light") -> bytes:
    """All at once, and written by hand."""
    probabilities = mv.predict(mv.load_model(WEIGHTS[model]), digits)
    rows = [f"{i},{np.argmax(row)},{max(row):.6f}" for i, row in enumerate(probabilities, 1)]
    return "\n".join(["ImageId,Label,Probability", *rows, ""]).encode()


def test_a_file_is_answered_as_predict_answers_all_at_once(path, few, tmp_path):
    kaggle.write_csv(tmp_path / "unknown.csv", few.images[:3].numpy())
    first, second = answer(path, tmp_path / "unknown.csv", out=tmp_path / "there")
    assert (tmp_path / "there" / "digits_answers.csv").read_bytes() == expected(few)
    assert (tmp_path / "there" / "unknown_answers.csv").read_bytes() == expected(few[:3])
    right = int((mv.predict(mv.load_model(WEIGHTS["light"]), few).argmax(1) == few.known_labels().numpy()).sum())
    assert (first.digits, first.right, second.digits, second.right) == (600, right, 3, None)
    assert f"digits_answers.csv: 600 digits, {first.rate:,.0f} a second; {right / 600:.2%} right" in str(first)
    names = {f"{name}_answers.{kind}" for name in ("digits", "unknown") for kind in ("csv", "json")}
    assert {file.name for file in (tmp_path / "there").iterdir()} == names


def answer_here(path: str, die_at: int) -> None:
    """In a process of its own, which kills itself at that moment of writing."""
    torch.set_num_threads(1)
    bulk.ROWS = 128
    deadly(die_at)
    assert not answer(Path(path))[0].error


def test_killed_at_every_single_write_it_goes_on_to_the_same_bytes(path, few, tmp_path):
    names = "digits_answers.csv", "digits_answers.json", ".digits_answers.csv.part/answers.csv"
    out, card, part = (tmp_path / name for name in names)
    answers = {"light": expected(few[:200]), "compact": expected(few[:200], "compact")}
    kaggle.write_csv(path, few.images[:200].numpy())
    answer(path, model="compact")
    before = out.read_bytes(), card.read_bytes()
    for moment in deaths(answer_here, str(path)):
        if card.exists():
            assert out.read_bytes() == answers[json.loads(card.read_text())["about"]["model"].split(",")[0]]
        if part.exists():
            with open(part, "ab") as file:
                file.write(b"129,7,0.9")  # a row that was never finished
        assert answer(path)[0].digits == 200
        assert out.read_bytes() == answers["light"], moment
        assert answer(path)[0].rate == 0  # whole
        out.write_bytes(before[0]), card.write_bytes(before[1])
    assert moment >= 15  # so often is something written
    assert not list(tmp_path.glob(".*"))


def test_what_is_answered_is_not_answered_again(path, few, tmp_path, monkeypatch):
    asked = []

    def counted(model, digits: mv.Digits) -> np.ndarray:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(len(digits))
        return mv.predict(model, digits)

    monkeypatch.setattr(bulk, "predict", counted)
    with pytest.raises(KeyboardInterrupt):
        answer(path)
    assert not (tmp_path / "digits_answers.csv").exists()
    monkeypatch.setattr(bulk, "predict", lambda model, digits: asked.append(len(digits)) or mv.predict(model, digits))
    (again,) = answer(path)
    assert asked == [128] * 4 + [88]
    monkeypatch.setattr(bulk, "load_model", None)
    (done,) = answer(path)
    assert (done.digits, done.right, done.rate) == (600, again.right, 0)
    assert "600 digits, already done" in str(done)
    assert (tmp_path / "digits_answers.csv").read_bytes() == expected(few)


def test_answers_by_another_model_or_of_another_input_are_not_taken_for_these(path, few, tmp_path, monkeypatch):
    out = tmp_path / "digits_answers.csv"
    answer(path, model="compact")
    answer(path)
    assert out.read_bytes() == expected(few)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "_about", interrupted_at(2, bulk._about))  # the second look, when all is answered
        with pytest.raises(KeyboardInterrupt):
            answer(path, model="compact")
    assert (tmp_path / ".digits_answers.csv.part" / "answers.csv").exists()  # all of it by another model
    kaggle.write_csv(path, few.images[:200].numpy())
    assert answer(path)[0].right is None
    assert out.read_bytes() == expected(few[:200])
    out.write_bytes(out.read_bytes()[:-9])
    assert answer(path)[0].rate > 0
    assert out.read_bytes() == expected(few[:200])


def interrupted_at(call: int, function: Callable) -> Callable:
    calls = count(1)

    def wrapped(*args):
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*args)

    return wrapped


def test_an_input_that_changes_and_a_second_writer_are_refused(path, few, monkeypatch):
    def slow(model, digits: mv.Digits) -> np.ndarray:
        os.utime(path, ns=(0, 0))
        return mv.predict(model, digits)

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "predict", slow)
        assert "digits.csv or the model was changed meanwhile" in answer(path)[0].error
    with FileLock(path.with_name(".digits_answers.csv.part") / "lock"):
        assert "digits_answers.csv is being written by another process" in answer(path)[0].error
    assert not path.with_name("digits_answers.csv").exists()
    assert not answer(path)[0].error


def test_memory_does_not_grow_with_the_number_of_digits(tmp_path, monkeypatch):
    def peak(batches: int) -> int:
        monkeypatch.setattr(kaggle, "_batches", lambda *_: (np.zeros((500, 785), np.uint8) for _ in range(batches)))
        tracemalloc.start()
        (done,) = answer(tmp_path / "digits.csv", out=tmp_path / str(batches))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert done.digits == 500 * batches
        return most

    kaggle.write_csv(tmp_path / "digits.csv", np.zeros((1, 28, 28), np.uint8), np.zeros(1, int))
    monkeypatch.setattr(bulk, "ROWS", 1000)
    monkeypatch.setattr(bulk, "predict", lambda model, digits: np.eye(10)[digits.labels])
    peak(2)
    assert peak(30) < 1.1 * peak(8)


def folder_of_pictures(folder: Path, few: mv.Digits) -> dict[str, mv.Digits]:
    """Seven good pictures and five files that are none, in three folders."""
    names = ["a.png", "b,c.PNG", 'q"\n.jpg', "z.jpeg", "in/1.png", "in/2.png", "in/deep/3.png"]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - few.images[i].numpy()).resize((84, 84)).save(folder / name)
    Image.new("L", (40, 40), "white").save(folder / "in" / "blank.png")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:99])
    for other in ("notes.txt", ".hidden.png", "in/.cache/x.png"):
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).write_bytes(b"")
    return {name: mv.read_digit(folder / name) for name in names}


def test_a_folder_is_answered_picture_by_picture_and_a_broken_one_stops_none(few, tmp_path):
    pictures, model = folder_of_pictures(tmp_path / "mine", few), mv.load_model(WEIGHTS["light"])
    (done,) = answer(tmp_path / "mine")
    with open(tmp_path / "mine_answers.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    order = ["a.png", "b,c.PNG", "broken.png", 'q"\n.jpg', "z.jpeg", "in/1.png", "in/2.png", "in/blank.png"]
    assert [row["file"] for row in rows] == [*order, "in/deep/3.png"]
    for row in rows:
        if row["file"] in pictures:
            probabilities = mv.predict(model, pictures[row["file"]])[0]
            assert int(row["Label"]) == probabilities.argmax()
            assert float(row["Probability"]) == pytest.approx(probabilities.max(), abs=2e-6)
            assert row["error"] == ""
    said = {row["file"]: row["error"] for row in rows if row["Label"] == row["Probability"] == ""}
    expected = "broken.png cannot be read as a picture", "no digit found in blank.png"
    assert said == dict(zip(("broken.png", "in/blank.png"), expected, strict=True))
    assert (done.digits, done.unread) == (9, 2)
    assert "2 could not be read" in str(done)


def test_an_interrupted_folder_goes_on_behind_what_stands(few, tmp_path, monkeypatch):
    folder_of_pictures(tmp_path / "mine", few)
    answer(tmp_path / "mine", out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "read_digit", interrupted_at(6, mv.read_digit))
        with pytest.raises(KeyboardInterrupt):
            answer(tmp_path / "mine")
    monkeypatch.setattr(bulk, "read_digit", interrupted_at(6, mv.read_digit))  # five of nine are left
    (done,) = answer(tmp_path / "mine")
    assert (done.digits, done.unread) == (9, 2)
    assert (tmp_path / "mine_answers.csv").read_bytes() == (tmp_path / "whole" / "mine_answers.csv").read_bytes()


def test_of_many_a_bad_one_stops_no_other_and_leaves_nothing(path, tmp_path):
    (tmp_path / "bad.csv").write_text("ImageId,Label\n1,2\n")
    (tmp_path / "none").mkdir()
    done = answer(tmp_path / "bad.csv", tmp_path / "none", tmp_path / "missing.csv", path)
    errors = ("does not have Kaggle's columns", "no pictures in", "No such file or directory", "")
    for job, error in zip(done, errors, strict=True):
        assert error in job.error
        assert bool(job.error) == bool(error)
    assert {file.name for file in tmp_path.glob("*_answers.*")} == {"digits_answers.csv", "digits_answers.json"}
    assert not list(tmp_path.glob(".*"))
    (again,) = answer(*tmp_path.glob("digits*.csv"))  # its answers are no input
    assert (again.source, again.rate) == (str(path), 0)


def test_what_cannot_be_begun_is_refused(path, tmp_path):
    shutil.copytree(path.parent, tmp_path / "other", ignore=lambda *_: ["other"])
    refused(lambda: answer(path, tmp_path / "other" / "digits.csv", out=tmp_path), "two inputs", "digits_answers.csv")
    refused(lambda: list(predict_files([path], "nothing.pth")), "nothing.json is missing")
    refused(lambda: answer(path, engine="steam"), "engine", "steam")
    assert not list(tmp_path.glob("*answers*"))
    (tmp_path / "digits_answers.csv").write_text("somebody's own")
    assert "no card says that it holds answers" in answer(path)[0].error
    assert (tmp_path / "digits_answers.csv").read_text() == "somebody's own"
    refused(lambda: answer(tmp_path / "digits_answers.csv"), "digits to answer")
