"""One loop trains any model, exactly as written out by hand, and gives everything borrowed back."""

import copy
import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from torch import Tensor, nn
from zoo import same, seeded

import mnistviz as mv
from mnistviz.learn.attacks import Attack
from mnistviz.learn.augment import Augment
from mnistviz.learn.checkpoint import BEST, FINAL
from mnistviz.learn.history import Fit, History
from mnistviz.learn.recipes import Recipe
from mnistviz.learn.train import EVENTS

PLAIN = Recipe("", epochs=2, batch=50, lr=0.01, precision="float32", seed=3)
STILL = PLAIN.but(optimiser="sgd", lr=1e-12, epochs=1)  # weights as good as still


def tiny(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """784 → 16 → 10, the same weights for the same seed."""
    with seeded(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 10))


def train(model: nn.Module, part: mv.Digits, val: mv.Digits | None = None, recipe: Recipe = PLAIN, **more) -> History:
    return mv.fit(model, part, val, recipe, device="cpu", progress=False, **more)


@pytest.fixture(scope="module")
def part(few) -> mv.Digits:
    return few[:220]  # four batches of 50 and one of 20


@pytest.fixture(scope="module")
def val(few) -> mv.Digits:
    return few[400:]


@pytest.mark.parametrize("attack", [None, Attack(0.1)], ids=["plain", "under attack"])
def test_fit_equals_the_loop_written_by_hand(attack, part):
    """Bit for bit. Under attack each batch is first changed against the model as it stands, judging."""
    model, by_hand = tiny(dropout=0.3), tiny(dropout=0.3)
    history = train(model, part, recipe=PLAIN.but(attack=attack, label_smoothing=0.1))
    optimiser = torch.optim.Adam(by_hand.parameters(), lr=0.01, fused=True)
    for epoch in (1, 2):
        torch.manual_seed(3 * 100_003 + epoch)
        total = 0.0
        for x, y in part.batches(50, generator=torch.Generator().manual_seed(3 * 100_003 + epoch)):
            if attack:
                x.requires_grad_()
                F.cross_entropy(by_hand.eval()(x), y, reduction="sum").backward()
                assert x.grad is not None
                x = (x.detach() + 0.1 * x.grad.sign()).clamp(0, 1)
            loss = F.cross_entropy(by_hand.train()(x), y, label_smoothing=0.1)
            optimiser.zero_grad()  # what the attack left in the parameters does not count
            loss.backward()
            optimiser.step()
            total += loss.item() * len(x)
        assert history.table.loss[epoch] == pytest.approx(total / 220, rel=1e-6)
    for result, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(result, expected, rtol=1e-4, atol=1e-5) if attack else torch.equal(result, expected)
    assert not any(module.training for module in model.modules())


def test_the_numbers_of_an_epoch_are_those_of_its_digits(part, val):
    """A short last batch weighs by its size; smoothed labels are of the training alone."""
    model = tiny()
    rows = train(model, part, val, STILL.but(label_smoothing=0.2)).rows
    for digits, prefix in ((part, ""), (val, "val_")):
        logs = model(digits.pixels).detach().log_softmax(1)
        truth = logs[torch.arange(len(digits)), digits.labels]
        loss = -truth.mean() if prefix else -(0.8 * truth + 0.2 * logs.mean(1)).mean()
        right = (logs.argmax(1) == digits.labels).double().mean()
        assert rows[0][f"{prefix}loss"] == pytest.approx(float(loss), rel=1e-5)
        assert rows[0][f"{prefix}accuracy"] == pytest.approx(float(right))


def test_a_taught_network_follows_the_differences_of_the_softmaxes(part, reference):
    """The gradient at its scores is (1 - a) (p - y) + a T (p_T - q_T), by hand; q is the mean of two teachers."""
    share, hot, seen = 0.7, 3.0, []

    class Scores(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x)
            if self.training:
                scores.register_hook(lambda slope: seen.append((x.detach(), scores.detach(), slope)))
            return scores

    recipe = STILL.but(teachers=("light", "simple"), distil=share, temperature=hot, batch=220)
    recipe = recipe.but(augment=Augment(rotation=10, mixup=0.5))
    history = train(Scores(*tiny()), part, recipe=recipe)
    ((x, scores, slope),) = seen
    generator = torch.Generator().manual_seed(3 * 100_003 + 1)
    ((moved, labels),) = part.batches(220, generator=generator, augment=recipe.augment)
    assert torch.equal(x, moved)  # the teachers are asked about the very pictures that the student sees
    with torch.no_grad():
        taught = sum(reference[name](moved).softmax(1) for name in recipe.teachers) / 2
    warm = taught ** (1 / hot) / (taught ** (1 / hot)).sum(1, keepdim=True)
    ours = (scores / hot).softmax(1)
    by_hand = (1 - share) * (scores.softmax(1) - labels) + share * hot * (ours - warm)
    torch.testing.assert_close(slope, by_hand / 220, rtol=1e-4, atol=1e-8)
    plain = -(labels * scores.log_softmax(1)).sum(1).mean()
    divergence = (warm * (warm / ours).log()).sum(1).mean()
    assert history.rows[0]["loss"] == pytest.approx(float((1 - share) * plain + share * hot**2 * divergence), rel=1e-4)
    assert not any(p.grad is not None for name in recipe.teachers for p in reference[name].parameters())


@pytest.mark.parametrize("change", [{}, {"precision": "bfloat16", "augment": Augment(mixup=0.4, rotation=8)}])
def test_learning_helps(change, few, val):
    model = tiny()
    history = train(model, few[:400], val, PLAIN.but(epochs=4, batch=20, **change))
    assert history.table.val_accuracy.iloc[-1] > 0.6
    assert history.table.accuracy.between(0, 1).all()
    assert history.table.loss.iloc[-1] < history.table.loss.iloc[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(value.is_contiguous() for value in history.best.values())


@pytest.mark.parametrize("change", [{}, {"precision": "bfloat16", "attack": Attack(0.1, steps=2, random_start=True)}])
def test_the_seed_decides_and_the_caller_s_random_numbers_are_neither_used_nor_moved(change, part):
    recipe = PLAIN.but(augment=Augment(rotation=10, shift=0.1, mixup=0.5), **change)
    models = [tiny(dropout=0.3) for _ in range(3)]
    for i, (model, seed) in enumerate(zip(models, (3, 3, 4), strict=True)):
        torch.manual_seed(i)
        before = torch.get_rng_state()
        train(model, part, recipe=recipe.but(seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_the_dropout_of_a_recipe_is_that_of_its_training_and_no_longer(part):
    changed, seen = [tiny(dropout=0.9) for _ in range(3)], []
    for model, share in zip(changed, (0.0, 0.3, None), strict=True):
        train(model, part, recipe=PLAIN.but(dropout=share), callbacks={"step": lambda fit: seen.append(fit.model[3].p)})
        own = tiny(dropout=0.9 if share is None else share)
        train(own, part)
        assert same(model, own)
    assert seen == [0.0] * 10 + [0.3] * 10 + [0.9] * 10

    with pytest.raises(ZeroDivisionError):
        train(changed[0], part, recipe=PLAIN.but(dropout=0.1), callbacks={"step": lambda _: 1 / 0})
    assert [model[3].p for model in changed] == [0.9] * 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_attack_that_may_change_nothing_leaves_the_training_as_it_was(precision, part):
    """Its passes through the model leave no trace: not in dropout's draws, nor in what autocast keeps."""
    plain, under = tiny(dropout=0.3), tiny(dropout=0.3)
    recipe = PLAIN.but(precision=precision, augment=Augment(shift=0.1))
    train(plain, part, recipe=recipe)
    train(under, part, recipe=recipe.but(attack=Attack(0, steps=3)))
    assert same(plain, under)


def test_callbacks_hear_every_event_in_order_and_see_the_whole_training(part):
    model, heard, losses = tiny(), [], []

    def listen(state: Fit) -> None:
        assert state.model is model
        assert state.steps_per_epoch == 5
        losses.append(float(state.loss))

    callbacks = {e: lambda state, e=e: heard.append((e, state.epoch, state.step)) for e in EVENTS}
    history = train(model, part, callbacks=callbacks | {"step": [callbacks["step"], listen]})
    epochs = [[*(("step", epoch, step) for step in range(1, 6)), ("epoch", epoch, 5)] for epoch in (1, 2)]
    assert heard == [("start", 0, 0), *epochs[0], *epochs[1], ("end", 2, 5)]
    weighted = sum(loss * n for loss, n in zip(losses[:5], (50, 50, 50, 50, 20), strict=True)) / 220
    assert history.table.loss[1] == pytest.approx(weighted, rel=1e-6)


def test_rates_move_every_step_or_after_every_epoch(part):
    seen = []
    listener = {"step": lambda state: seen.append(state.optimiser.param_groups[0]["lr"])}
    train(tiny(), part, recipe=PLAIN.but(schedule="one-cycle", warm_up=0.5, lr=0.02), callbacks=listener)
    top = seen.index(max(seen))
    assert 2 <= top <= 6
    assert seen == sorted(seen[: top + 1]) + sorted(seen[top + 1 :], reverse=True)
    assert len(set(seen)) == 10
    assert min(seen) < 0.0001 < max(seen) <= 0.02
    table = train(tiny(), part, recipe=PLAIN.but(epochs=3, lr=0.1, schedule="step", step_every=1, factor=0.5)).table
    assert list(table.lr) == pytest.approx([0.1, 0.05, 0.025])


def test_plateau_watches_the_validation_loss(part, val):
    recipe = PLAIN.but(epochs=12, lr=0.03, schedule="plateau", plateau_patience=1, factor=0.5)
    table = train(tiny(), part[:100], val, recipe).table
    rate, best, waited, expected = 0.03, math.inf, 0, []
    for loss in table.val_loss:
        expected.append(rate)
        waited = 0 if loss < best * (1 - 1e-4) else waited + 1
        best = min(best, loss)
        if waited > 1:
            rate, waited = rate / 2, 0
    assert list(table.lr) == pytest.approx(expected)
    assert expected[-1] < 0.03  # it was reduced, though the training loss kept falling
    assert table.loss.is_monotonic_decreasing


def test_training_stops_once_patience_is_used_up(part, val):
    still = STILL.but(epochs=9, stop_after=3)  # epoch 1 stays the best
    history = train(tiny(), part, val, still)
    assert list(history.table.index) == [1, 2, 3, 4]
    assert history.best_epoch == 1
    assert not history.interrupted
    assert len(train(tiny(), part, None, still).table) == 9  # nothing to judge by: runs on


@pytest.mark.parametrize(("keep", "pick"), [("accuracy", "idxmax"), ("loss", "idxmin")])
def test_the_best_epoch_is_the_first_with_the_best_value(keep, pick, part, val):
    model, snapshots = tiny(), {}

    def spoil(state: Fit) -> None:
        snapshots[state.epoch] = mv.checkpoint.weights(state.model)
        if state.epoch == 4:
            state.optimiser.param_groups[0]["lr"] = 3.0

    history = train(model, part, val, PLAIN.but(epochs=6, keep=keep), callbacks={"epoch": spoil})
    column = history.table[f"val_{keep}"]
    assert 1 < history.best_epoch == getattr(column, pick)() < 6
    assert history.best_value == column[history.best_epoch]
    assert same(history.best, snapshots[history.best_epoch])
    assert same(model, snapshots[6])


def test_averaged_weights_equal_the_average_worked_out_by_hand(part, val):
    decay, steps = 0.4, []
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    listener = {"step": lambda state: steps.append(copy.deepcopy(state.model.state_dict()))}
    history = train(model, part, val, PLAIN.but(average=decay), callbacks=listener)
    average = {key: value.double() for key, value in steps[0].items()}
    for count, current in enumerate(steps[1:], 1):
        keep = min(decay, (1 + count) / (10 + count))
        average = {key: keep * value + (1 - keep) * current[key].double() for key, value in average.items()}
    for name, value in model.state_dict().items():
        expected = steps[-1][name] if "num_batches" in name else average[name].to(value.dtype)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(model[1].weight, steps[-1]["1.weight"])
    assert (1 + 1) / (10 + 1) < decay < (1 + 9) / (10 + 9)  # both sides of the warm-up were used
    report = mv.evaluate(model, val)  # validation was of the averaged weights
    assert history.rows[-1]["val_accuracy"] == pytest.approx(report.accuracy)
    assert history.rows[-1]["val_loss"] == pytest.approx(report.nll, rel=1e-5)


AVERAGED = PLAIN.but(epochs=4, average=0.5)
TAUGHT = PLAIN.but(epochs=4, teachers=("light",), distil=0.5, temperature=2.0)
ATTACKED = PLAIN.but(epochs=4, attack=Attack(0.1, steps=2, random_start=True))
FALLING = AVERAGED.but(schedule="step", step_every=3, factor=0.3)
PLATEAU = AVERAGED.but(schedule="plateau", plateau_patience=0, factor=0.3, lr=0.05)
INTERRUPTIONS = {
    "averaged, step": ("step", 3, AVERAGED),
    "rates that fall, epoch": ("epoch", 0, FALLING),
    "plateau, start": ("start", 0, PLATEAU),
    "attacked": ("step", 5, ATTACKED),
    "taught": ("step", 4, TAUGHT),
    "plateau": ("step", 2, PLATEAU),
    "one-cycle": ("step", 1, AVERAGED.but(schedule="one-cycle", optimiser="adamw")),
    "milestones, sgd": ("epoch", 0, PLAIN.but(epochs=4, schedule="milestones", milestones=(3,), optimiser="sgd")),
}


@pytest.mark.parametrize(("event", "step", "recipe"), INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interruption_ends_cleanly_and_resumes_to_the_files_of_an_unbroken_run(
    event, step, recipe, part, val, tmp_path
):
    unbroken, broken = tiny(dropout=0.3), tiny(dropout=0.3)
    whole = train(unbroken, part, val, recipe, folder=tmp_path / "whole")
    folder = tmp_path / "broken"

    def interrupt(state: Fit) -> None:
        if event == "start" or (state.epoch == 3 and step in (0, state.step)):
            raise KeyboardInterrupt

    first = train(broken, part, val, recipe, folder=folder, callbacks={event: interrupt})
    assert first.interrupted
    assert len(first.rows) == {"step": 2, "epoch": 3, "start": 0}[event]
    assert "interrupted" in repr(first)
    assert not any(module.training for module in broken.modules())
    columns = ["loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    if first.rows:
        pd.testing.assert_frame_equal(first.table[columns], whole.table[columns].iloc[: len(first.rows)])

    again = tiny(seed=9 if first.rows else 0, dropout=0.3)  # once begun, the weights come from the folder
    second = train(again, part, val, recipe, folder=folder, resume=True)
    assert not second.interrupted
    assert same(again, unbroken)
    pd.testing.assert_frame_equal(second.table[columns], whole.table[columns])
    assert (second.best_epoch, second.best_value) == (whole.best_epoch, whole.best_value)
    for name in (BEST, FINAL):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (folder / "resume.pt").exists()


def test_an_interruption_while_judging_leaves_no_half_measured_epoch(part, val):
    class Impatient(nn.Sequential):
        judged = 0

        def forward(self, x: Tensor) -> Tensor:
            self.judged += 0 if self.training else len(x)
            if self.judged > 2 * len(val):
                raise KeyboardInterrupt
            return super().forward(x)

    history = train(Impatient(*tiny()), part, val, PLAIN.but(epochs=5))
    assert history.interrupted
    assert len(history.table) == 2
    assert history.table.notna().all(axis=None)


def test_a_loss_that_is_no_number_stops_and_leaves_the_files_of_earlier_epochs(part, val, tmp_path):
    model, kept = tiny(), {}

    def spoil(state: Fit) -> None:
        if (state.epoch, state.step) == (3, 2):
            state.model[-1].bias.data.fill_(math.nan)

    def snapshot(state: Fit) -> None:
        kept.update({path.name: path.read_bytes() for path in tmp_path.iterdir()})

    more = {"folder": tmp_path, "callbacks": {"step": spoil, "epoch": snapshot}}
    refused(lambda: train(model, part, val, PLAIN.but(epochs=4), **more), "epoch 3, step 3", "learning rate")
    assert {"best_mnist_model.pth", "best_mnist_model.json", "history.csv", "resume.pt"} == set(kept)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert not model.training


def test_the_history_is_a_table_and_a_csv_with_the_same_numbers(part, val, tmp_path):
    history = train(tiny(), part, val, PLAIN.but(model="deep"), folder=tmp_path / "run")
    table, path = history.table, tmp_path / "history.csv"
    assert list(table.columns) == ["loss", "accuracy", "lr", "seconds", "val_loss", "val_accuracy"]
    assert (table.index.name, list(table.index)) == ("epoch", [1, 2])
    assert history.seconds == pytest.approx(table.seconds.sum())
    history.save(path)
    assert b"\r" not in path.read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(path, index_col="epoch"), table)
    assert (tmp_path / "run" / "history.csv").read_bytes() == path.read_bytes()
    assert "deep" in repr(history)
    assert f"in epoch {history.best_epoch}" in repr(history)


def test_without_validation_the_last_epoch_is_the_best(part, tmp_path):
    model = tiny()
    history = train(model, part, folder=tmp_path)
    assert list(history.table.columns) == ["loss", "accuracy", "lr", "seconds"]
    assert history.best_epoch == 2
    assert math.isnan(history.best_value)
    assert same(history.best, model)
    assert (tmp_path / "best_mnist_model.pth").read_bytes() == (tmp_path / "final_mnist_model.pth").read_bytes()


def test_each_epoch_is_one_printed_line(part, val, capsys):
    history = mv.fit(tiny(), part, val, device="cpu")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # epochs, without a recipe
    for line, row in zip(lines, history.rows, strict=True):
        assert line.startswith(f"epoch {row['epoch']:2d}/3  loss {row['loss']:.4f}")
        assert f"val accuracy {row['val_accuracy']:7.2%}" in line
    train(tiny(), part)
    assert capsys.readouterr().out == ""


DIGITS = mv.Digits(torch.zeros(10, 28, 28, dtype=torch.uint8), torch.arange(10), "ten black pages")
UNKNOWN, UNTOUCHED = mv.Digits(DIGITS.images, None, "Kaggle test.csv"), tiny()
BAD = {
    "nothing to learn from": (lambda: train(UNTOUCHED, DIGITS[:0]), "no digits"),
    "nothing to judge by": (lambda: train(UNTOUCHED, DIGITS, DIGITS[:0]), "no digits"),
    "no labels": (lambda: train(UNTOUCHED, UNKNOWN), "no labels", "Kaggle test.csv"),
    "no labels to judge by": (lambda: train(UNTOUCHED, DIGITS, UNKNOWN), "no labels"),
    "an unknown event": (lambda: train(UNTOUCHED, DIGITS, callbacks={"epochs": print}), "did you mean 'epoch'"),
    "a teacher of another deal": (lambda: train(UNTOUCHED, DIGITS, recipe=TAUGHT), "'light' may have learned", "pages"),
    "no teacher": (lambda: train(UNTOUCHED, DIGITS, recipe=TAUGHT.but(teachers=("x.pth",))), "x.json is missing"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_the_first_epoch(case):
    refused(*case)
    assert same(UNTOUCHED, tiny())
