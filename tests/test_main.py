"""Every command does from a terminal what it says, and a mistake gives one readable message."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import mnistviz as mv
from mnistviz.__main__ import main, parser
from mnistviz.animate import Film, palette, scenes
from mnistviz.commands import MODELS, RECIPES, SCENES
from mnistviz.learn import data as sources
from mnistviz.learn import kaggle
from mnistviz.learn.data import DigitSet

COMMANDS = ("train", "evaluate", "predict", "study", "animate", "page", "worksheet", "app", "data", "models")


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch, project_root: Path, mnist: DigitSet) -> DigitSet:
    """The commands find 900 training and 100 test digits; Kaggle's stand-in is dealt 700 / 300 from them."""
    small = DigitSet(mnist.train[:900], mnist.test[:100])
    images = torch.cat([small.train.images, small.test.images])
    labels = torch.cat([small.train.labels, small.test.labels])
    dealt = DigitSet(
        mv.Digits(images[:700], labels[:700], "Kaggle stand-in train"),
        mv.Digits(images[700:], None, "Kaggle stand-in test"),
        stand_in=True,
        answers=labels[700:],
    )
    monkeypatch.setattr(sources, "load_mnist", lambda folder: small)
    monkeypatch.setattr(sources, "stand_in", lambda mnist: dealt)
    monkeypatch.setattr(kaggle.write_submission, "__kwdefaults__", {"rows": 300})
    return dealt


@pytest.fixture
def checkpoint(project_root: Path) -> Path:
    """The weights of a compact network that has had a short training on the stand-in."""
    return trained_on("kaggle", project_root / "mine")


@pytest.fixture
def with_light(project_root: Path) -> Path:
    """A project that has the reference weights of `light`."""
    shutil.copytree(Path(mv.__file__).parent.parent / "models" / "light", project_root / "models" / "light")
    return project_root


TRAINED: dict[str, dict[str, bytes]] = {}  # the files of one training on each of the data


def trained_on(data: str, folder: Path) -> Path:
    if data not in TRAINED:
        assert run("train", "compact", "--epochs", "2", "--out", folder, "--device", "cpu", "--data", data) == 0
        TRAINED[data] = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.mkdir(exist_ok=True)
    for name, content in TRAINED[data].items():
        (folder / name).write_bytes(content)
    return folder / "best_mnist_model.pth"


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_models_lists_every_architecture_with_its_size(capsys: pytest.CaptureFixture) -> None:
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    for line, (name, make) in zip(lines, mv.models.MODELS.items(), strict=True):
        assert line.startswith(name)
        assert f"{mv.models.count_parameters(make()):,} parameters" in line


def test_models_deep_shows_it_layer_by_layer(capsys: pytest.CaptureFixture) -> None:
    assert run("models", "deep") == 0
    out = capsys.readouterr().out
    for name, _ in mv.models.deep().named_children():
        assert re.search(rf"^{name}\s", out, re.MULTILINE)
    assert "437738" in out.replace(",", "")


def test_data_counts_the_digits(capsys: pytest.CaptureFixture, mnist: DigitSet) -> None:
    assert run("data") == 0
    out = capsys.readouterr().out
    assert "900 images" in out
    assert "100 images" in out
    for digit in range(10):
        assert f"{digit}:{int((mnist.train.labels[:900] == digit).sum())}" in out


def test_data_writes_the_stand_in_as_kaggles_files(small_sets: DigitSet, tmp_path: Path, capsys) -> None:
    assert run("data", "--kaggle-csv", "--out", tmp_path / "csv") == 0
    assert "not Kaggle's own rows" in capsys.readouterr().out
    images, labels = kaggle.read_csv(tmp_path / "csv" / "train.csv", labelled=True)
    np.testing.assert_array_equal(images, small_sets.train.images)
    np.testing.assert_array_equal(labels, small_sets.train.labels)
    images, labels = kaggle.read_csv(tmp_path / "csv" / "test.csv", labelled=False)
    np.testing.assert_array_equal(images, small_sets.test.images)
    assert labels is None
    answers = pd.read_csv(tmp_path / "csv" / "answers.csv")
    np.testing.assert_array_equal(answers.Label, small_sets.answers)
    np.testing.assert_array_equal(answers.ImageId, range(1, 301))


def test_data_writes_into_the_data_folder_unless_told(project_root: Path) -> None:
    assert run("data", "--kaggle-csv") == 0
    found = {f.name for f in (project_root / "digit-recognizer" / "stand-in").iterdir()}
    assert found == {"train.csv", "test.csv", "answers.csv"}


@pytest.mark.parametrize("recipe", ["tuned", "published"])
def test_train_keeps_weights_cards_and_history(recipe: str, project_root: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("train", "compact", "--images", 400, "--epochs", 1, "--recipe", recipe, "--seed", 5) == 0
    folder = project_root / "models" / "_mine" / "compact"
    out = capsys.readouterr().out
    assert "400 digits to learn from, 135 to judge by" in out
    assert "models/_mine/compact: best and final weights" in out
    table = pd.read_csv(folder / "history.csv")
    card = mv.read_card(folder / "final_mnist_model.pth")
    assert len(table) == 1
    assert card["metrics"]["val_accuracy"] == table.val_accuracy[0]
    assert card["recipe"]["lr"] == getattr(mv.recipes, recipe)("compact").lr
    assert (card["seed"], card["recipe"]["epochs"]) == (5, 1)
    assert "MNIST train" in card["data"]["train"]


def test_every_tuned_recipe_survives_a_training_of_a_few_steps(tmp_path: Path) -> None:
    for name in mv.models.MODELS:
        assert run("train", name, "--images", 150, "--epochs", 1, "--out", tmp_path / name) == 0


def test_train_twice_gives_the_same_weights_and_resume_goes_on(
    project_root: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("train", "compact", "--images", 300, "--epochs", 3, "--device", "cpu", "--out")
    assert run(*common, project_root / "whole") == 0
    assert run(*common, project_root / "again") == 0
    fit = mv.fit

    def interrupted(*args, **kwargs):
        def stop(state) -> None:
            if state.epoch == 2:
                raise KeyboardInterrupt

        return fit(*args, **kwargs, callbacks={"step": stop})

    monkeypatch.setattr(mv, "fit", interrupted)
    run(*common, project_root / "broken")
    assert "go on with --resume" in capsys.readouterr().out
    assert not (project_root / "broken" / "final_mnist_model.pth").exists()
    monkeypatch.setattr(mv, "fit", fit)
    assert run(*common, project_root / "broken", "--resume") == 0
    assert "epoch  1/3" not in capsys.readouterr().out
    files = [(project_root / run / "final_mnist_model.pth").read_bytes() for run in ("whole", "again", "broken")]
    assert files[0] == files[1] == files[2]


@pytest.fixture
def small_study(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    text = 'models = ["compact"]\nrecipes = ["tuned"]\nseeds = [0, 1]\nimages = 300\n'
    path.write_text(text + "[[grid]]\nbut = { epochs = 2 }\n[[grid]]\nvalidation = 0.5\nbut = { epochs = 1 }")
    return path


def test_study_says_how_far_it_is_and_ends_with_a_table(small_study: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("study", small_study, "--engine", "here") == 0
    out = capsys.readouterr().out
    assert "4 runs, of which 0 are there" in out
    kept = pd.read_csv(small_study.with_suffix(".csv"))
    for place, row in enumerate(kept.itertuples(), 1):
        left = "all are there" if place == 4 else r"about \d+ s left"
        assert re.search(rf"^{place}/4  {row.run}: test {row.test_final:.2%} after \d+ s; {left}$", out, re.MULTILINE)
    assert f"{kept.test_final[:2].mean():.3%} ± {kept.test_final[:2].std():.3%}" in out.split("all are there")[1]
    assert run("study", small_study, "--engine", "here") == 0
    assert out.split("all are there")[1] in capsys.readouterr().out.replace("4 are there", "all are there")


def test_study_dry_run_says_what_there_is_to_do_and_does_none_of_it(small_study: Path, capsys) -> None:
    assert run("study", small_study, "--dry-run", "--workers", 2) == 0
    out = capsys.readouterr().out
    assert "4 runs, of which 0 are there" in out
    for changes in ("epochs 2", "epochs 1"):
        assert re.search(rf"compact tuned, {changes}, mnist: 2 runs of about \d+ (s|min)\b", out)
    assert re.search(r"^about \d+ (s|min) with 2 at a time", out, re.MULTILINE)
    assert list(small_study.parent.glob("small*")) == [small_study]


def test_study_lists_what_failed_and_retry_tries_it_again(small_study: Path, capsys, monkeypatch) -> None:
    from mnistviz.learn import study

    fit = study.fit
    monkeypatch.setattr(study, "fit", lambda *_, **__: 1 / 0)
    assert run("study", small_study, "--engine", "here") == 1
    assert capsys.readouterr().err.count(" failed: ZeroDivisionError") == 4
    monkeypatch.setattr(study, "fit", fit)
    assert run("study", small_study, "--engine", "here", "--retry", "--out", small_study.with_suffix("")) == 0
    assert "failed: " not in capsys.readouterr().out


def test_an_interrupted_study_ends_with_130_and_goes_on(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnistviz.learn import study

    def interrupt(claim: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study, "alive", interrupt)
        assert run("study", small_study, "--engine", "here") == 130
    assert not list(small_study.with_suffix("").glob("compact*"))  # neither a claim nor a result
    assert run("study", small_study, "--engine", "here") == 0


def test_evaluate_judges_by_the_test_digits(tmp_path: Path, mnist: DigitSet, capsys) -> None:
    checkpoint = trained_on("mnist", tmp_path / "on_mnist")
    capsys.readouterr()
    assert run("evaluate", checkpoint, "--mistakes", 3, "--device", "cpu") == 0
    out = capsys.readouterr().out
    report = mv.evaluate(mv.load_model(checkpoint), mnist.test[:100])
    assert repr(report) in out
    assert f"{report.accuracy:.2%} of 100 right" in out
    first = report.mistakes.iloc[0]
    assert re.search(rf"^\s*{first.row:.0f}\s+{first.label:.0f}\s+{first.prediction:.0f}\s", out, re.MULTILINE)
    assert len(out.split("surest of:")[1].strip().splitlines()) == 1 + 3


def test_evaluate_on_the_stand_in_uses_the_answers_kept_apart(checkpoint: Path, small_sets, capsys) -> None:
    capsys.readouterr()
    assert run("evaluate", checkpoint, "--data", "kaggle", "--device", "cpu") == 0
    answers = mv.predict(mv.load_model(checkpoint), small_sets.test).argmax(1)
    share = (answers == small_sets.answers.numpy()).mean()
    assert f"{share:.2%} of 300 right" in capsys.readouterr().out


def test_a_model_is_never_judged_on_digits_it_may_have_learned_from(checkpoint: Path, tmp_path: Path, capsys) -> None:
    assert run("evaluate", checkpoint) == 1
    assert "a score would mean nothing" in capsys.readouterr().err
    assert run("predict", "--submission", tmp_path / "s.csv", "--model", trained_on("mnist", tmp_path / "other")) == 1
    assert "learned from 765 images, MNIST train" in capsys.readouterr().err
    assert not (tmp_path / "s.csv").exists()


def test_evaluate_says_that_kaggles_own_test_has_no_labels(checkpoint: Path, small_sets, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sources, "load_kaggle", lambda folder: DigitSet(small_sets.train, small_sets.test))
    assert run("evaluate", checkpoint, "--data", "kaggle") == 1
    assert "no labels to judge by" in capsys.readouterr().err


def test_a_student_is_not_judged_by_what_its_teachers_learned(repository, mnist, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MNISTVIZ_ROOT", str(repository))
    monkeypatch.setattr(sources, "load_mnist", lambda folder: mnist)
    call = ("train", "light", "--recipe", "distilled", "--images", 500, "--epochs", 1, "--out", tmp_path)
    for wrong in (("--validation", 0.3), ("--data", "kaggle")):
        assert run(*call, *wrong) == 1
        assert "would judge their student" in capsys.readouterr().err
    assert run(*call) == 0


def test_predict_reads_a_picture(checkpoint: Path, few: mv.Digits, repository: Path, tmp_path: Path, capsys) -> None:
    picture = tmp_path / "digit.png"
    dark_on_light = 255 - few.images[0].numpy()
    Image.fromarray(dark_on_light).resize((140, 140)).save(picture)
    capsys.readouterr()
    label = few.known_labels()[0]
    shipped = repository / "models/light/best_mnist_model.pth"
    for path, said in ((checkpoint, "I cannot read this"), (shipped, f"{label}, sure")):  # one learned for seconds
        assert run("predict", picture, picture, "--model", path, "--device", "cpu") == 0
        lines = capsys.readouterr().out.splitlines()
        shares = mv.predict(mv.load_model(path), mv.read_digit(picture))[0]
        first, second, third = (f"{digit} {shares[digit]:.1%}" for digit in np.argsort(-shares)[:3])
        assert lines == [f"{picture}: {said}  ({first}, then {second}, {third})"] * 2


def test_predict_writes_a_submission(checkpoint: Path, small_sets: DigitSet, tmp_path: Path, capsys) -> None:
    path = tmp_path / "submission.csv"
    assert run("predict", "--submission", path, "--model", checkpoint, "--device", "cpu") == 0
    table = pd.read_csv(path)
    assert list(table.columns) == ["ImageId", "Label"]
    np.testing.assert_array_equal(table.Label, mv.predict(mv.load_model(checkpoint), small_sets.test).argmax(1))
    assert "300 rows" in capsys.readouterr().out


def test_predict_answers_files_and_folders(checkpoint: Path, small_sets: DigitSet, tmp_path: Path, capsys) -> None:
    assert run("data", "--kaggle-csv", "--out", tmp_path / "csv") == 0
    (tmp_path / "pictures").mkdir()
    Image.fromarray(255 - small_sets.train.images[0].numpy()).resize((140, 140)).save(tmp_path / "pictures" / "1.png")
    files = [tmp_path / "csv" / f"{name}.csv" for name in ("train", "test")]
    capsys.readouterr()
    call = ("predict", tmp_path / "pictures", "--csv", *files, "--model", checkpoint, "--device", "cpu")
    assert run(*call) == 0
    model, out = mv.load_model(checkpoint), capsys.readouterr().out
    for path, digits in zip(files, (small_sets.train, small_sets.test), strict=True):
        table = pd.read_csv(path.with_name(f"{path.stem}_answers.csv"))
        np.testing.assert_array_equal(table.ImageId, range(1, len(digits) + 1))
        np.testing.assert_array_equal(table.Label, mv.predict(model, digits).argmax(1))
    share = (mv.predict(model, small_sets.train).argmax(1) == small_sets.train.labels.numpy()).mean()
    assert "csv/train_answers.csv: 700 digits, " in out
    assert f"{share:.2%} right by the labels" in out
    label = mv.predict(model, mv.read_digit(tmp_path / "pictures" / "1.png")).argmax()
    assert (tmp_path / "pictures_answers.csv").read_text().startswith(f"file,Label,Probability,error\n1.png,{label},")
    assert run(*call) == 0
    assert capsys.readouterr().out.count("already done") == 3


def test_predict_goes_on_behind_a_file_that_it_cannot_read(checkpoint: Path, tmp_path: Path, capsys) -> None:
    kaggle.write_csv(tmp_path / "good.csv", np.zeros((2, 28, 28), np.uint8))
    (tmp_path / "bad.csv").write_text("a,b\n")
    files = (tmp_path / "bad.csv", tmp_path / "good.csv")
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(tmp_path / "good.png")
    pictures = (tmp_path / "bad.csv", tmp_path / "good.png")
    assert run("predict", *pictures, "--csv", *files, "--model", checkpoint, "--out", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert f"{tmp_path / 'good.png'}: " in told.out
    for wrong in ("bad.csv cannot be read as a picture", "bad.csv does not have Kaggle's columns"):
        assert wrong in told.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good_answers.csv", "good_answers.json"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("models", "depp"), "did you mean 'deep'"),
        (("train", "depp"), "allowed: simple, light"),
        (("train", "sprint", "--recipe", "published"), "unknown published recipe"),
        (("train", "compact", "--epochs", "0"), "'epochs' is out of range"),
        (("train", "compact", "--images", "5"), "too few digits"),
        (("train", "compact", "--validation", "1.5"), "not a fraction"),
        (("train", "compact", "--device", "tpu"), "device"),
        (("evaluate", "deep"), "train deep"),
        (("evaluate", "nothing.pth"), "no such checkpoint"),
        (("predict", "seven.png", "--model", "nothing.pth"), "no such checkpoint"),
        (("predict", "seven.png"), "given:   'simple_hands'"),
        (("study", "none.toml"), "none.toml: No such file"),
        (("study", "none.toml", "--dry-run"), "none.toml: No such file"),
        (("animate", "flight"), "allowed: mnist_data_flow, forward_propagation"),
        (("animate", "convolutions"), "did you mean 'convolution'"),
        (("animate", "convolution", "--model", "depp"), "depp"),
        (("animate", "convolution", "--model", "nothing.pth"), "no such checkpoint"),
        (("animate", "convolution", "--model", "deep"), "train deep"),
        (("animate", "training_replay", "--model", "nothing.pth"), "nothing.json is missing"),
        (("animate", "convolution", "--digit", "12"), "no such digit"),
        (("animate", "convolution", "--digit", "-1"), "no such digit"),
        (("animate", "convolution", "--image", "missing.png"), "no such picture"),
        (("animate", "convolution", "--model", "light", "--label", "3"), "goes back from no label"),
        (("animate", "backward_propagation", "--model", "light", "--digit", "3", "--label", "12"), "no such label"),
        (("animate", "convolution", "--model", "light", "--frames", "0"), "frames for a movement"),
        (("animate", "convolution", "--model", "light", "--frames", "1", "--out", "x.bmp"), "unknown kind of film"),
    ],
)
def test_a_mistake_gives_one_message_and_the_exit_status_1(
    arguments: tuple, said: str, with_light: Path, capsys
) -> None:
    assert run(*arguments) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("mnistviz: ")
    assert said in streams.err
    assert "Traceback" not in streams.err + streams.out
    assert not list(with_light.rglob("*.gif"))


def test_a_missing_picture_and_a_folder_in_the_way_are_mistakes_too(checkpoint: Path, tmp_path: Path, capsys) -> None:
    assert run("predict", tmp_path / "none.png", "--model", checkpoint) == 1
    assert "no such picture" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run("train", "compact", "--images", 200, "--out", tmp_path / "file" / "run") == 1
    assert "cannot write" in capsys.readouterr().err


WRONG = ["", "predict", "fly", "train", "train deep --recipe best", "animate", "animate convolution --digit three",
         "animate convolution --digit 3 --image x.png"]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_call_says_how_it_is_used(arguments: str, capsys) -> None:
    with pytest.raises(SystemExit) as exit_status:
        run(*arguments.split())
    assert exit_status.value.code == 2
    assert "usage: mnistviz" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_ends_in_an_example_that_parses(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as exit_status:
        run(command, "--help")
    assert exit_status.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    example = re.search(rf"example: python -m mnistviz ({command}\b.*)$", out)
    assert example
    assert parser().parse_args(example[1].split()).run.__name__ == command
    assert command != "animate" or all(scene in out.replace(" ", "") for scene in scenes.SCENES)


def test_an_interruption_outside_training_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mv, "load_digits", interrupt)
    assert run("data") == 130


def test_python_m_mnistviz_runs_and_returns_the_status(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["mnistviz", "models", "depp"])
    with pytest.raises(SystemExit) as exit_status:
        runpy.run_path(str(Path(mv.__file__).parent / "__main__.py"), run_name="__main__")
    assert exit_status.value.code == 1
    assert "did you mean 'deep'" in capsys.readouterr().err


def test_the_command_line_knows_the_names_without_loading_the_library() -> None:
    assert tuple(mv.models.MODELS) == MODELS
    assert set(mv.recipes.TABLES) == set(RECIPES)
    assert tuple(scenes.SCENES) == SCENES
    code = "import sys, mnistviz.__main__ as m; m.parser(); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CONVOLUTION = ("animate", "convolution", "--model", "light", "--frames", 1)


def test_animate_writes_the_film_and_its_sheet(with_light: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.gif"
    assert run("animate", "convolution", "--model", "light", "--digit", 3, "--frames", 2, "--out", path) == 0
    out = capsys.readouterr().out
    film = mv.animate.film("convolution", "light", scenes.example(3), frames=2)
    with Image.open(path) as file:
        assert file.n_frames == len(list(film))
        first = np.asarray(file.convert("RGB"))
    np.testing.assert_array_equal(first, palette.PALETTE[next(iter(film)).pixels])
    assert film.alt in out
    assert f"x.gif: {path.stat().st_size / 1000:,.0f} kB" in out
    assert "x_sheet.png" in out
    with Image.open(tmp_path / "x_sheet.png") as sheet:
        assert sheet.format == "PNG"
    assert {f.name for f in tmp_path.iterdir() if f.is_file()} == {"x.gif", "x_sheet.png"}


def test_animate_takes_a_picture_of_yours_and_keeps_the_film_with_your_things(
    with_light: Path, few: mv.Digits, tmp_path: Path, capsys
) -> None:
    picture = tmp_path / "digit.png"
    Image.fromarray(255 - few.images[0].numpy()).resize((140, 140)).save(picture)
    assert run(*CONVOLUTION, "--image", picture) == 0
    path = with_light / "animations" / "_mine" / "convolution.gif"
    assert "animations/_mine/convolution.gif: " in capsys.readouterr().out
    film = mv.animate.film("convolution", "light", mv.read_digit(picture), frames=1)
    with Image.open(path) as file:
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), palette.PALETTE[next(iter(film)).pixels])


def test_animate_goes_back_from_the_label_given(with_light: Path, tmp_path: Path, capsys) -> None:
    what = ("animate", "backward_propagation", "--model", "light", "--digit", 3, "--frames", 1)
    assert run(*what, "--label", 5, "--out", tmp_path / "x.webp") == 0
    assert mv.animate.film("backward_propagation", "light", scenes.example(3), label=5).alt in capsys.readouterr().out


def test_animate_stops_at_3_megabytes_unless_any_size_will_do(with_light: Path, monkeypatch, capsys) -> None:
    asked = []

    def save(film: Film, path: Path, *, budget: int | None) -> Path:
        asked.append(budget)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path

    monkeypatch.setattr(Film, "save", save)
    assert run(*CONVOLUTION) == 0
    assert run(*CONVOLUTION, "--any-size") == 0
    assert asked == [3_000_000, None]


def test_animate_says_where_it_cannot_write(with_light: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert run(*CONVOLUTION, "--out", tmp_path / "file" / "x.gif") == 1
    assert "cannot write x" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == ""
