"""A study does every run once, whatever is killed in the middle; a wrong file is refused before anything runs."""

import errno
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import refused
from tasks import PROCESSES, study_here

import mnistviz as mv
from mnistviz.learn import claims, study
from mnistviz.learn.data import DigitSet

SMALL = """
models = ["compact"]
recipes = ["tuned"]
seeds = [0, 1]
validation = 0.2
images = 300
but = { epochs = 2, batch = 60 }
"""
NUMBERS = ["learned_from", "best_epoch", "test_final", "test_kept", "nll_final", "epochs", "val_final", "val_kept"]


@pytest.fixture(scope="module")
def small(few) -> DigitSet:
    return DigitSet(mv.Digits(few.images[:400], few.labels[:400], "few train"), few[400:])


@pytest.fixture
def digits(small, monkeypatch) -> DigitSet:
    """The studies of this process find 400 training and 200 test digits, whatever they ask for."""
    monkeypatch.setattr(study, "load_digits", lambda name: small)
    return small


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory) -> pd.DataFrame:
    """The numbers of the study that nothing interrupts."""
    path = tmp_path_factory.mktemp("whole") / "small.toml"
    path.write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "load_digits", lambda name: small)
        return here(path)[NUMBERS]


def here(file: Path, **settings: object) -> pd.DataFrame:
    return study.study(file, engine="here", **settings)


def only(file: Path, **changes: object) -> tuple[study.Config, Path]:
    """The first run of a study, and where its result goes."""
    return study.read(file)[0], file.with_suffix("")


def left_in(folder: Path) -> set[str]:
    """What is neither a result nor weights."""
    return {path.name for path in folder.iterdir() if path.suffix != ".json" and path.name != "weights"}


def test_the_published_study_is_the_published_table(repository):
    runs = study.read(repository / "studies" / "published.toml")
    stated = {"simple": ("kaggle", 0.15, 8), "deep": ("kaggle", 0.15, 30), "light": ("mnist", 0.0, 5)}
    stated |= {"compact": ("mnist", 0.15, 10), "pooled": ("mnist", 0.2, 30)}
    whole = [run for run in runs if not run.changes]
    for model, (data, validation, epochs) in stated.items():
        of_model = [run for run in whole if run.recipe.model == model]
        assert [run.recipe.seed for run in of_model] == [0, 1, 2, 3, 4]
        for run in of_model:
            assert (run.data, run.validation, run.recipe.epochs, run.images) == (data, validation, epochs, None)
            assert run.recipe == mv.recipes.published(model).but(seed=run.recipe.seed)
            assert run.keep == (run.recipe.seed == 0)
    first = [run for run in runs if run.changes]  # B tells its first epoch too
    assert [run.recipe for run in first] == [mv.recipes.published("light").but(seed=s, epochs=1) for s in range(5)]
    assert len({run.name for run in runs}) == len(runs) == len(whole) + 5 == 30


def test_every_kept_result_is_named_by_what_its_study_says(repository):
    for file in (repository / "studies").glob("*.toml"):
        named = {run.name: run for run in study.read(file)}
        for path in file.with_suffix("").glob("*.json"):
            assert json.loads(path.read_text())["config"] == json.loads(json.dumps(named[path.stem].settings))
    assert study.read(repository / "studies" / "published.toml")[0].name == "simple_published_0_8878b769c932"


def test_every_setting_changes_the_name_and_keeping_weights_does_not(file):
    names = [only(file)[0].name]
    for change in ("validation = 0.25", "images = 301", 'data = ["kaggle"]', 'recipes = ["published"]', "seeds = [7]"):
        key = change.split(" =")[0]
        lines = [line for line in SMALL.splitlines() if not line.startswith(key)]
        file.write_text("\n".join([*lines, change]))
        names.append(only(file)[0].name)
    for change in ("lr = 0.02", "dropout = 0.1"):
        file.write_text(SMALL.replace("batch = 60", change))
        names.append(only(file)[0].name)
    assert len(set(names)) == len(names)
    file.write_text(SMALL + "keep = [0]\n[[grid]]\n[[grid]]\nkeep = []")  # the same runs twice
    assert [(run.name == names[0], run.keep) for run in study.read(file)] == [(True, True), (False, False)]


WRONG = {
    "no such file": (None, "cannot read", "small.toml"),
    "an empty one": ("", "'models'", "nothing", "simple, light"),
    "no TOML": ("models = [", "is not a study"),
    "an unknown key": (SMALL + "epoch = 3", "unknown key", "'epoch'", "seeds"),
    "no list of models": (SMALL.replace('["compact"]', '"compact"'), "'models' is wrong", "'compact'", "a list of"),
    "no models": (SMALL.replace('["compact"]', "[]"), "'models' is wrong", "[]", "a list of"),
    "an unknown model": (SMALL.replace("compact", "kompact"), "'models'", "did you mean 'compact'"),
    "an unknown recipe": (SMALL.replace("tuned", "tund"), "'recipes'", "'tund'", "published", "did you mean 'tuned'"),
    "unknown data": (SMALL + 'data = ["fashion"]', "'data'", "'fashion'", "mnist, kaggle"),
    "a recipe that the model has not": (SMALL.replace("tuned", "robust"), "robust recipe", "'compact'", "simple"),
    "a negative seed": (SMALL.replace("[0, 1]", "[0, -1]"), "'seeds' is wrong", "[0, -1]", "0 or more"),
    "a seed that is none": (SMALL.replace("[0, 1]", "[true]"), "'seeds' is wrong", "[True]", "whole numbers"),
    "too large a share": (SMALL.replace("0.2", "1.5"), "'validation' is wrong", "1.5", "0 up to but not including 1"),
    "no share": (SMALL.replace("0.2", "'a'"), "'validation' is wrong", "'a'"),
    "too few images": (SMALL.replace("300", "5"), "'images' is wrong", "5", "100 or more"),
    "weights of no seed": (SMALL + "keep = 0", "'keep' is wrong", "0", "a list of whole numbers"),
    "no table of changes": (SMALL.replace("{ epochs = 2, batch = 60 }", "3"), "'but' is wrong", "3", "epochs = 3"),
    "an unknown setting": (SMALL.replace("epochs = 2", "epocs = 2"), "'but'", "'epocs'", "did you mean 'epochs'"),
    "the seed among them": (SMALL.replace("epochs", "seed"), "'but'", "'seed'", "epochs, batch"),
    "half an epoch": (SMALL.replace("epochs = 2", "epochs = 1.5"), "'but.epochs' is wrong", "1.5", "int"),
    "an epoch in words": (SMALL.replace("epochs = 2", "epochs = 'two'"), "'but.epochs' is wrong", "'two'", "int"),
    "no epochs": (SMALL.replace("epochs = 2", "epochs = 0"), "'epochs' is out of range", "0", "1 or more"),
    "an augmentation that is none": (SMALL.replace("epochs = 2", "augment = { rot = 5 }"), "'but'", "'rot'"),
    "a milestone in words": (SMALL.replace("epochs = 2", "milestones = ['a']"), "but.milestones", "list of int"),
    "half a crop": (SMALL.replace("epochs = 2", "augment = { crop = [22] }"), "'but'", "does not fit"),
    "a teacher nobody knows": (SMALL.replace("epochs = 2", "distil = 0.5, teachers = ['nobody']"), "nobody"),
    "milestones in words": (SMALL.replace("epochs = 2", "milestones = 'late'"), "'but.milestones'", "'late'", "list"),
    "a table for a list of tables": (SMALL + "[grid]\nseeds = [3]", "'grid' is wrong", "[[grid]]"),
    "a number for a list of tables": (SMALL + "grid = 3", "'grid' is wrong", "3", "[[grid]]"),
    "no grid in the list": (SMALL + "grid = []", "'grid' is wrong", "[]", "[[grid]]"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_before_anything_runs(case, tmp_path):
    text, *words = case
    file = tmp_path / "small.toml"
    if text is not None:
        file.write_text(text)
    before = set(tmp_path.iterdir())
    refused(lambda: here(file), "small.toml", *words)
    assert set(tmp_path.iterdir()) == before


def test_a_run_is_a_training_and_one_judgement(digits, file):
    config = only(file)[0]
    train, val = digits.train.split(0.2, seed=42)
    torch.manual_seed(config.recipe.seed)
    model = mv.models.compact()
    recipe = mv.recipes.tuned("compact").but(epochs=2, batch=60, seed=0)
    history = mv.fit(model, train.sample(300), val, recipe, progress=False)
    torch.manual_seed(99)  # what stands before it is nothing to a run
    result = study.run(config)
    seconds = [row.pop("seconds") for row in result["epochs"]]
    assert result["epochs"] == [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]
    assert result["seconds"] == pytest.approx(sum(seconds))
    report = mv.evaluate(model, digits.test)
    assert (result["test_final"], result["nll_final"]) == (report.accuracy, report.nll)
    model.load_state_dict(history.best)
    assert (result["best_epoch"], result["test_kept"]) == (history.best_epoch, mv.evaluate(model, digits.test).accuracy)


def test_the_table_and_the_weights_are_those_of_the_results(digits, file):
    file.write_text(SMALL + "keep = [1]")
    table = here(file)
    assert [(row.model, row.recipe, row.seed, row.changes) for row in table.itertuples()] == [
        ("compact", "tuned", seed, "epochs 2, batch 60") for seed in (0, 1)
    ]
    for name, row in table.iterrows():
        kept = json.loads((file.with_suffix("") / f"{name}.json").read_text())
        assert row["val_final"] == kept["epochs"][-1]["val_accuracy"]
        assert row["val_kept"] == max(epoch["val_accuracy"] for epoch in kept["epochs"])
        assert (row["test_final"], row["seconds"]) == (kept["test_final"], kept["seconds"])
    written = pd.read_csv(file.with_suffix(".csv"), index_col="run")[NUMBERS]
    pd.testing.assert_frame_equal(written, table[NUMBERS], check_dtype=False)
    line = study.summary(table).iloc[0]
    mean, sd = table.test_final.mean(), table.test_final.std()
    assert (line["runs"], line["failed"], line["test"]) == (2, 0, f"{mean:.3%} ± {sd:.3%}")
    (weights,) = (file.with_suffix("") / "weights").glob("*.pth")
    assert weights.stem == table.index[1]
    assert mv.evaluate(mv.load_model(weights), digits.test).accuracy == table.test_final.iloc[1]
    assert left_in(file.with_suffix("")) == set()


def test_what_is_there_is_not_done_again(digits, file, monkeypatch):
    before = here(file)
    monkeypatch.setattr(study, "run", lambda *_: pytest.fail("a training"))
    pd.testing.assert_frame_equal(here(file), before)


def test_the_order_and_the_number_of_threads_change_nothing(digits, file, whole):
    file.write_text(SMALL.replace("[0, 1]", "[1, 0]"))
    torch.set_num_threads(2)
    try:
        other = here(file, folder=file.parent / "v1.2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    pd.testing.assert_frame_equal(other.loc[whole.index][NUMBERS], whole)
    assert (file.parent / "v1.2.csv").exists()


def test_kaggles_own_digits_are_judged_by_validation_alone(file, digits, monkeypatch, capsys):
    unlabelled = DigitSet(digits.train, mv.Digits(digits.test.images, None, "Kaggle test.csv"))
    monkeypatch.setattr(study, "load_digits", lambda name: unlabelled)
    table = here(file)
    assert table.test_final.isna().all()
    assert f"val {table.val_final.iloc[1]:.2%} after" in capsys.readouterr().out
    assert study.summary(table)["test"].tolist() == [""]


def arrays(few: mv.Digits) -> tuple[np.ndarray, np.ndarray]:
    return few.images.numpy(), few.labels.numpy()


def test_twenty_random_kills_cost_no_epoch_and_change_no_number(digits, few, file, tmp_path):
    longer = SMALL.replace("epochs = 2, batch = 60", "epochs = 4, batch = 20")
    file.write_text(longer.replace("[0, 1]", "[0, 1, 2, 3]").replace("300", "100"))
    log, folder, moments = tmp_path / "epochs", tmp_path / "killed", random.Random(0)
    for _ in range(20):
        at = moments.randint(1, 40)
        process = PROCESSES.Process(target=study_here, args=(str(file), str(folder), arrays(few), str(log), at))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        for path in folder.glob("*.json"):
            assert json.loads(path.read_text())["test_final"]
    table = here(file, folder=folder)
    epochs = [line.split()[:3] for line in log.read_text().splitlines()]
    assert len(epochs) >= 4
    assert len(epochs) == len({tuple(epoch) for epoch in epochs})  # none was done twice
    pd.testing.assert_frame_equal(table[NUMBERS], here(file, folder=tmp_path / "whole")[NUMBERS])
    assert left_in(folder) == set()


def test_a_run_killed_before_its_result_was_kept_is_not_trained_again(digits, file, monkeypatch):
    task, judge, trained = only(file), study.evaluate, []
    monkeypatch.setattr(study, "evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        study.take(task)
    monkeypatch.setattr(study, "evaluate", judge)
    monkeypatch.setattr(study, "alive", lambda _: trained.append(1))
    assert study.take(task) == (task[0].name, "done")
    assert not trained
    kept = json.loads((task[1] / f"{task[0].name}.json").read_text())
    assert kept["test_final"] == study.run(task[0])["test_final"]


def test_two_processes_at_once_do_each_run_once_and_both_have_the_table(few, file, tmp_path):
    file.write_text(SMALL.replace("[0, 1]", "[0, 1, 2, 3]"))
    log, folder = tmp_path / "epochs", tmp_path / "shared"
    args = (str(file), str(folder), arrays(few), str(log))
    both = [PROCESSES.Process(target=study_here, args=args) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    epochs = [line.split() for line in log.read_text().splitlines()]
    assert sorted((seed, epoch) for _, seed, epoch, _ in epochs) == [(s, e) for s in "0123" for e in "12"]
    assert len({process for *_, process in epochs}) == 2
    assert pd.read_csv(folder.parent / "shared.csv").test_final.notna().all()
    assert left_in(folder) == set()


def test_an_interruption_gives_the_claim_back_and_keeps_the_work(digits, file, whole, monkeypatch):
    seen = []

    def interrupt(claim: Path) -> None:
        seen.append(claim)
        if len(seen) == 8:  # of 5 steps an epoch
            raise KeyboardInterrupt

    (config, folder), alive = only(file), study.alive
    monkeypatch.setattr(study, "alive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        here(file)
    assert left_in(folder) == {f".{config.name}.claim.1.work"}
    assert not list(folder.glob("*.json"))
    monkeypatch.setattr(study, "alive", lambda claim: (seen.append(claim), alive(claim)))
    table = here(file)
    assert len(seen) == 8 + 5 + 10  # the second epoch of the first run, and the second run
    pd.testing.assert_frame_equal(table[NUMBERS], whole)


def test_who_was_outbid_stops_and_spoils_nothing(digits, file, monkeypatch):
    (config, folder), steps, first = only(file), [], []
    monkeypatch.setattr(claims, "LEASE", 0.0)  # every claim is stale at once

    def outbid(claim: Path) -> None:
        """While the first process is paused after its first epoch, another one does the run from there."""
        steps.append(claim.name)
        if len(steps) == 7:
            monkeypatch.setattr(study, "_ONE", study.Lock())  # as in another process
            monkeypatch.setattr(claims, "_mine", lambda: "elsewhere 1")
            first.append(study.take((config, folder)))
            monkeypatch.undo()
            monkeypatch.setattr(study, "load_digits", lambda name: digits)
            (folder / f".{claim.name}.work").mkdir()  # what the first one may have been writing
            claims.alive(claim)
            claims.os.utime(folder)
            monkeypatch.setattr(claims, "LEASE", 0.0)
            claims.alive(claim)
            pytest.fail("it went on")

    monkeypatch.setattr(study, "alive", outbid)
    assert study.take((config, folder)) == (config.name, "elsewhere")
    assert first == [(config.name, "done")]
    kept = (folder / f"{config.name}.json").read_text()
    assert json.loads(kept)["test_final"] == study.run(config)["test_final"]
    assert len(steps) == 10 + 2  # the second one did steps of the second epoch alone; two were done twice


def test_a_run_that_fails_is_kept_with_its_error_and_stops_no_other(digits, file, monkeypatch, capsys):
    file.write_text(SMALL.replace("[0, 1]", "[0, 1, 2]"))
    fit, broken = study.fit, [1]

    def failing(model, train, val, recipe, **settings):
        if recipe.seed in broken:
            raise MemoryError("not enough for this one")
        return fit(model, train, val, recipe, **settings)

    monkeypatch.setattr(study, "fit", failing)
    table = here(file)
    assert table.error.notna().tolist() == [False, True, False]
    assert table.error.iloc[1] == "MemoryError: not enough for this one"
    assert table.test_final.notna().tolist() == [True, False, True]
    assert "3/3" in capsys.readouterr().out
    assert study.summary(table)[["runs", "failed"]].to_numpy().tolist() == [[2, 1]]
    broken.clear()
    assert here(file).error.notna().any()  # not tried again
    again = here(file, retry=True)
    assert again.error.isna().all()
    assert again.seconds.iloc[0] == table.seconds.iloc[0]  # not done again
    broken += [0, 1, 2]
    table = here(file, folder=file.parent / "none")
    assert study.summary(table)["failed"].tolist() == [3]


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITTEN = ["whole.pt", "best_mnist_model.pth", "resume.pt", "final_mnist_model.json", "compact_tuned_1_*", "small.csv"]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk_stops_the_study_in_clear_words_and_loses_nothing(digits, file, whole, monkeypatch, name):
    replace, copyfile, written = os.replace, study.shutil.copyfile, []

    def until_full(write: Callable) -> Callable:
        def wrapped(source: Path, target: Path) -> None:
            written.append(target.name)
            if target.match(name) and written.count(target.name) == (2 if name == "resume.pt" else 1):
                raise FULL
            write(source, target)

        return wrapped

    folder, steps = file.with_suffix(""), []
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", until_full(replace))
        patch.setattr(study.shutil, "copyfile", until_full(copyfile))
        refused(lambda: here(file), "No space left on device", "fix:")
    assert not list(folder.glob("compact*.claim.*"))
    assert all("error" not in json.loads(path.read_text()) for path in folder.glob("*.json"))
    monkeypatch.setattr(study, "alive", lambda _: steps.append(1))
    table = here(file)
    done_again = {"best_mnist_model.pth": 20, "whole.pt": 15, "resume.pt": 15, "final_mnist_model.json": 10}
    assert len(steps) == done_again.get(name, 0)  # of 5 an epoch, 20 in all
    pd.testing.assert_frame_equal(table[NUMBERS], whole)


def test_a_folder_that_cannot_be_is_said(digits, file):
    (file.parent / "in_the_way").write_text("")
    refused(lambda: here(file, folder=file.parent / "in_the_way"), "cannot claim a run", "in_the_way", "fix:")
    refused(lambda: here(file, folder=file.parent / "in_the_way" / "x"), "cannot claim a run", "in_the_way/x", "fix:")
    assert (file.parent / "in_the_way").read_text() == ""


def test_a_result_that_a_worker_kept_elsewhere_is_missed(digits, file, monkeypatch):
    monkeypatch.setattr(study, "take", lambda task: (task[0].name, "done"))
    monkeypatch.setattr(study, "time", SimpleNamespace(sleep=lambda _: None))
    refused(lambda: here(file), "cannot be seen from here", "small", "a disk that")


def test_a_damaged_result_is_made_anew(digits, file, whole):
    file.with_suffix("").mkdir()
    (file.with_suffix("") / f"{whole.index[0]}.json").write_text('{"config"')
    pd.testing.assert_frame_equal(here(file)[NUMBERS], whole)


def test_the_estimate_grows_with_digits_epochs_and_validation(digits, file, monkeypatch):
    asked = []

    def fit(model, train, val, recipe, **settings):
        asked.append((len(train), val and len(val), recipe.epochs, torch.get_num_threads()))
        return SimpleNamespace(seconds=0.5)

    monkeypatch.setattr(study, "fit", fit)
    config = only(file)[0]
    assert study.estimate(config) == pytest.approx(0.5 * 300 / 360 * 2)
    assert asked == [(360, 96, 1, 1)] * 2  # 80 of 400 are held out, where 300 are learned from
