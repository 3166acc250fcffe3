"""One loop trains any model, exactly as written out by hand, and gives everything borrowed back."""

import copy
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.attacks import Attack
from mnistviz.learn.augment import Augment
from mnistviz.learn.history import History
from mnistviz.learn.recipes import Recipe
from mnistviz.learn.train import Fit

PLAIN = Recipe("", epochs=2, batch=50, lr=0.01, precision="float32", seed=3)


def tiny(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """784 → 16 → 10, the same weights for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 10))


def train(
    model: nn.Module, part: mv.Digits, val: mv.Digits | None = None, recipe: Recipe = PLAIN, **more
) -> History:
    return mv.fit(model, part, val, recipe, device="cpu", progress=False, **more)


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def part(few: mv.Digits) -> mv.Digits:
    return few[:220]  # four batches of 50 and one of 20


@pytest.fixture(scope="module")
def val(few: mv.Digits) -> mv.Digits:
    return few[400:]


def raise_at(epoch: int, step: int = 0, error: type[BaseException] = KeyboardInterrupt):
    """A callback that interrupts the training there."""

    def listener(state: Fit) -> None:
        if state.epoch == epoch and (not step or state.step == step):
            raise error

    return listener


def test_fit_equals_the_loop_written_by_hand_bit_for_bit(part: mv.Digits) -> None:
    model, by_hand = tiny(dropout=0.3), tiny(dropout=0.3)
    history = train(model, part)

    optimiser = torch.optim.Adam(by_hand.parameters(), lr=0.01, fused=True)
    by_hand.train()
    for epoch in (1, 2):
        torch.manual_seed(3 * 100_003 + epoch)
        generator = torch.Generator().manual_seed(3 * 100_003 + epoch)
        total = 0.0
        for x, y in part.batches(50, generator=generator):
            loss = F.cross_entropy(by_hand(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(x)
        assert history.table.loss[epoch] == pytest.approx(total / 220, rel=1e-6)
    assert same(model, by_hand)


def test_learning_helps(few: mv.Digits, val: mv.Digits) -> None:
    history = train(tiny(), few[:400], val, PLAIN.but(epochs=5, batch=20))
    assert history.table.val_accuracy.iloc[-1] > 0.7
    assert history.table.loss.is_monotonic_decreasing


def test_a_short_last_batch_weighs_by_its_size(part: mv.Digits) -> None:
    model = tiny()
    scores = model(part.pixels).detach()
    history = train(model, part, recipe=PLAIN.but(optimiser="sgd", lr=1e-12, epochs=1))  # weights as good as still
    row = history.table.loc[1]
    assert row.loss == pytest.approx(float(F.cross_entropy(scores, part.labels)), rel=1e-5)
    assert row.accuracy == pytest.approx(float((scores.argmax(1) == part.labels).double().mean()))


def test_validation_is_measured_after_each_epoch(part: mv.Digits, val: mv.Digits) -> None:
    model = tiny()
    seen = []

    def judge(state: Fit) -> None:
        scores = state.model.eval()(val.pixels).detach()
        right = (scores.argmax(1) == val.labels).double().mean()
        seen.append((float(F.cross_entropy(scores, val.labels)), float(right)))

    table = train(model, part, val, callbacks={"epoch": judge}).table
    for (loss, accuracy), row in zip(seen, table.itertuples(), strict=True):
        assert row.val_loss == pytest.approx(loss, rel=1e-5)
        assert row.val_accuracy == pytest.approx(accuracy)


def test_the_seed_decides(part: mv.Digits) -> None:
    one, again, other = tiny(dropout=0.2), tiny(dropout=0.2), tiny(dropout=0.2)
    moves = PLAIN.but(augment=Augment(rotation=10, shift=0.1))
    for model, recipe in ((one, moves), (again, moves), (other, moves.but(seed=4))):
        train(model, part, recipe=recipe)
    assert same(one, again)
    assert not same(one, other)


def test_the_callers_random_numbers_are_left_alone(part: mv.Digits) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(tiny(dropout=0.5), part, recipe=PLAIN.but(augment=Augment(rotation=5)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_outcome_does_not_depend_on_the_callers_random_numbers(part: mv.Digits) -> None:
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(tiny(dropout=0.5))
        train(models[-1], part)
    assert same(*models)


class Nested(nn.Module):
    """A model with a branch, a reused layer and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"conv": nn.Conv2d(1, 4, 5, stride=2), "shared": nn.Linear(24, 24)})
        self.head = nn.Sequential(nn.LazyLinear(24), nn.ReLU(inplace=True))
        self.out = nn.Linear(24, 10)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(F.relu(self.body["conv"](x)).flatten(1))
        return self.out(self.body["shared"](x) + self.body["shared"](x * self.scale))


def test_any_module_can_be_trained(part: mv.Digits, val: mv.Digits) -> None:
    torch.manual_seed(0)
    model = Nested()
    model(part.pixels[:1])
    scale = model.scale.detach().clone()
    history = train(model, part, val, PLAIN.but(epochs=4))
    assert history.table.loss.iloc[-1] < history.table.loss.iloc[0] / 2
    assert not torch.equal(model.scale, scale)


def test_callbacks_hear_every_event_in_order(part: mv.Digits) -> None:
    heard = []
    listeners = {e: lambda state, e=e: heard.append((e, state.epoch, state.step)) for e in ("start", "epoch", "end")}
    listeners["step"] = [lambda state: heard.append(("step", state.epoch, state.step)), lambda state: None]
    train(tiny(), part, callbacks=listeners)
    steps = [[*(("step", e, s) for s in range(1, 6)), ("epoch", e, 5)] for e in (1, 2)]
    assert heard == [("start", 0, 0), *steps[0], *steps[1], ("end", 2, 5)]


def test_callbacks_see_the_loss_and_the_whole_training(part: mv.Digits) -> None:
    model, losses = tiny(), []

    def listen(state: Fit) -> None:
        assert state.model is model
        assert state.steps_per_epoch == 5
        losses.append(float(state.loss))

    history = train(model, part, recipe=PLAIN.but(epochs=1), callbacks={"step": listen})
    weighted = sum(loss * n for loss, n in zip(losses, (50, 50, 50, 50, 20), strict=True)) / 220
    assert history.table.loss[1] == pytest.approx(weighted, rel=1e-6)


def test_an_unknown_event_suggests_the_nearest_before_anything_is_trained(part: mv.Digits) -> None:
    model = tiny()
    with pytest.raises(mv.MnistvizError, match="did you mean 'epoch'"):
        train(model, part, callbacks={"epochs": print})
    assert same(model, tiny())


def test_training_stops_once_patience_is_used_up(part: mv.Digits, val: mv.Digits) -> None:
    still = PLAIN.but(optimiser="sgd", lr=1e-12, epochs=9, stop_after=3)  # epoch 1 stays the best
    history = train(tiny(), part, val, still)
    assert list(history.table.index) == [1, 2, 3, 4]
    assert history.best_epoch == 1
    assert not history.interrupted
    assert len(train(tiny(), part, None, still).table) == 9  # nothing to judge by: runs on


@pytest.mark.parametrize(("keep", "pick"), [("accuracy", "idxmax"), ("loss", "idxmin")])
def test_the_best_epoch_is_the_first_with_the_best_value(keep: str, pick: str, part: mv.Digits, val: mv.Digits) -> None:
    model, snapshots = tiny(), {}

    def spoil(state: Fit) -> None:
        snapshots[state.epoch] = mv.checkpoint.weights(state.model)
        if state.epoch == 4:
            state.optimiser.param_groups[0]["lr"] = 3.0

    history = train(model, part, val, PLAIN.but(epochs=6, keep=keep), callbacks={"epoch": spoil})
    column = history.table[f"val_{keep}"]
    assert 1 < history.best_epoch == getattr(column, pick)() < 6
    assert history.best_value == column[history.best_epoch]
    assert all(torch.equal(history.best[k], v) for k, v in snapshots[history.best_epoch].items())
    assert all(torch.equal(model.state_dict()[k], v) for k, v in snapshots[6].items())


def test_averaged_weights_equal_the_average_worked_out_by_hand(part: mv.Digits, val: mv.Digits) -> None:
    decay, steps = 0.4, []
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    history = train(
        model, part, val, PLAIN.but(average=decay),
        callbacks={"step": lambda state: steps.append(copy.deepcopy(state.model.state_dict()))},
    )  # fmt: skip
    average = {k: v.double() for k, v in steps[0].items()}
    for count, current in enumerate(steps[1:], 1):
        keep = min(decay, (1 + count) / (10 + count))
        average = {k: keep * v + (1 - keep) * current[k].double() for k, v in average.items()}
    for name, value in model.state_dict().items():
        expected = steps[-1][name] if "num_batches" in name else average[name].to(value.dtype)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(model[1].weight, steps[-1]["1.weight"])
    assert (1 + 1) / (10 + 1) < decay < (1 + 9) / (10 + 9)  # both sides of the warm-up were used
    report = mv.evaluate(model, val)  # validation was of the averaged weights
    assert history.table.val_accuracy[2] == pytest.approx(report.accuracy)
    assert history.table.val_loss[2] == pytest.approx(report.nll, rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing": 0.2},
        {"augment": Augment(mixup=0.4)},
        {"augment": Augment(rotation=8), "label_smoothing": 0.1},
    ],
)
def test_smoothed_and_mixed_labels_are_learned_from(change: dict, few: mv.Digits, val: mv.Digits) -> None:
    history = train(tiny(), few[:400], val, PLAIN.but(epochs=4, batch=20, **change))
    assert history.table.val_accuracy.iloc[-1] > 0.6
    assert history.table.accuracy.between(0, 1).all()


def test_label_smoothing_is_the_formula(part: mv.Digits) -> None:
    model = tiny()
    logs = model(part.pixels).detach().log_softmax(1)
    truth = logs[torch.arange(220), part.labels]
    expected = -(0.8 * truth + 0.2 * logs.mean(1)).mean()
    history = train(model, part, recipe=PLAIN.but(optimiser="sgd", lr=1e-12, epochs=1, label_smoothing=0.2))
    assert history.table.loss[1] == pytest.approx(float(expected), rel=1e-5)


def test_one_cycle_moves_the_rate_every_step(part: mv.Digits) -> None:
    seen = []
    train(
        tiny(), part, recipe=PLAIN.but(schedule="one-cycle", warm_up=0.5, lr=0.02),
        callbacks={"step": lambda state: seen.append(state.optimiser.param_groups[0]["lr"])},
    )  # fmt: skip
    assert len(set(seen)) == 10
    top = seen.index(max(seen))
    assert 2 <= top <= 6
    assert seen[: top + 1] == sorted(seen[: top + 1])
    assert seen[top:] == sorted(seen[top:], reverse=True)
    assert max(seen) <= 0.02
    assert min(seen) < 0.0001


def test_the_table_has_the_rate_each_epoch_was_trained_at(part: mv.Digits) -> None:
    table = train(tiny(), part, recipe=PLAIN.but(epochs=3, lr=0.1, schedule="step", step_every=1, factor=0.5)).table
    assert list(table.lr) == pytest.approx([0.1, 0.05, 0.025])


def test_plateau_watches_the_validation_loss(part: mv.Digits, val: mv.Digits) -> None:
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


def test_bfloat16_trains_and_comes_back_as_plain_float32(part: mv.Digits, val: mv.Digits) -> None:
    torch.manual_seed(0)
    model = mv.models.compact()
    history = train(model, part, val, PLAIN.but(precision="bfloat16", epochs=3))
    assert history.table.loss.iloc[-1] < history.table.loss.iloc[0]
    for p in model.parameters():
        assert p.dtype == torch.float32
    assert all(v.is_contiguous() for v in history.best.values())
    assert not model.training


def test_the_model_ends_in_evaluation_mode_also_after_an_error(part: mv.Digits) -> None:
    for error in (None, KeyboardInterrupt, RuntimeError):
        model = tiny().train()
        calls = {} if error is None else {"step": raise_at(1, 2, error)}
        if error is RuntimeError:
            with pytest.raises(RuntimeError):
                train(model, part, callbacks=calls)
        else:
            train(model, part, callbacks=calls)
        assert not any(m.training for m in model.modules())


@pytest.mark.parametrize(("event", "step"), [("step", 3), ("step", 5), ("epoch", 0), ("start", 0)])
def test_an_interruption_ends_cleanly_and_resumes_to_the_unbroken_weights(
    event: str, step: int, part: mv.Digits, val: mv.Digits, tmp_path: Path
) -> None:
    recipe = PLAIN.but(epochs=4, average=0.5)
    unbroken, broken = tiny(dropout=0.3), tiny(dropout=0.3)
    whole = train(unbroken, part, val, recipe)
    epoch = 0 if event == "start" else 3
    first = train(broken, part, val, recipe, folder=tmp_path, callbacks={event: raise_at(epoch, step)})
    assert first.interrupted
    assert len(first.rows) == {"step": 2, "epoch": 3, "start": 0}[event]
    assert "interrupted" in repr(first)
    columns = ["loss", "accuracy", "val_loss", "val_accuracy", "lr"]
    if first.rows:
        pd.testing.assert_frame_equal(first.table[columns], whole.table[columns].iloc[: len(first.rows)])

    again = tiny(seed=9, dropout=0.3)  # its own weights do not matter: they come from the folder
    again = again if first.rows else tiny(dropout=0.3)
    second = train(again, part, val, recipe, folder=tmp_path, resume=True)
    assert not second.interrupted
    assert same(again, unbroken)
    pd.testing.assert_frame_equal(second.table[columns], whole.table[columns])
    assert (second.best_epoch, second.best_value) == (whole.best_epoch, whole.best_value)


def test_an_interruption_while_judging_leaves_no_half_measured_epoch(part: mv.Digits, val: mv.Digits) -> None:
    class Impatient(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training and sum(self.seen) == 2 * len(val):
                raise KeyboardInterrupt
            if not self.training:
                self.seen.append(len(x))
            return super().forward(x)

    model = Impatient(*tiny())
    model.seen = []
    history = train(model, part, val, PLAIN.but(epochs=5))
    assert history.interrupted
    assert len(history.table) == 2
    assert history.table.notna().all(axis=None)


class Breaks(nn.Module):
    """Its scores are not numbers from the given training step on."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__()
        self.inner, self.left, self.value = tiny(), step, value

    def forward(self, x: Tensor) -> Tensor:
        scores = self.inner(x)
        if self.training:
            self.left -= 1
        return scores * self.value if self.left == 0 else scores


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_leaves_the_files_of_earlier_epochs(
    value: float, part: mv.Digits, val: mv.Digits, tmp_path: Path
) -> None:
    model, kept = Breaks(5 + 5 + 3, value), {}

    def snapshot(state: Fit) -> None:
        if state.epoch == 2:
            kept.update({f.name: f.read_bytes() for f in tmp_path.iterdir()})

    with pytest.raises(mv.MnistvizError, match="epoch 3, step 3") as error:
        train(model, part, val, PLAIN.but(epochs=4), folder=tmp_path, callbacks={"epoch": snapshot})
    assert "learning rate" in str(error.value)
    assert {"best_mnist_model.pth", "best_mnist_model.json", "history.csv", "resume.pt"} == set(kept)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == kept


def test_the_history_is_a_table_and_a_csv_with_the_same_numbers(
    part: mv.Digits, val: mv.Digits, tmp_path: Path
) -> None:
    history = train(tiny(), part, val, PLAIN.but(model="deep"), folder=tmp_path / "run")
    table = history.table
    assert list(table.columns) == ["loss", "accuracy", "lr", "seconds", "val_loss", "val_accuracy"]
    assert list(table.index) == [1, 2]
    assert table.index.name == "epoch"
    assert history.seconds == pytest.approx(table.seconds.sum())
    history.save(tmp_path / "history.csv")
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv", index_col="epoch"), table)
    assert (tmp_path / "run" / "history.csv").read_bytes() == (tmp_path / "history.csv").read_bytes()
    assert "deep" in repr(history)
    assert f"in epoch {history.best_epoch}" in repr(history)


def test_without_validation_the_last_epoch_is_the_best(part: mv.Digits, tmp_path: Path) -> None:
    model = tiny()
    history = train(model, part, folder=tmp_path)
    assert list(history.table.columns) == ["loss", "accuracy", "lr", "seconds"]
    assert history.best_epoch == 2
    assert math.isnan(history.best_value)
    assert all(torch.equal(history.best[k], v) for k, v in model.state_dict().items())
    assert (tmp_path / "best_mnist_model.pth").read_bytes() == (tmp_path / "final_mnist_model.pth").read_bytes()


def test_without_a_recipe_it_trains_three_epochs(part: mv.Digits) -> None:
    assert len(mv.fit(tiny(), part, progress=False, device="cpu").rows) == 3


def test_each_epoch_is_one_printed_line(part: mv.Digits, val: mv.Digits, capsys: pytest.CaptureFixture) -> None:
    history = mv.fit(tiny(), part, val, PLAIN, device="cpu")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line, row in zip(lines, history.rows, strict=True):
        assert line.startswith(f"epoch {row['epoch']:2d}/2  loss {row['loss']:.4f}")
        assert f"val accuracy {row['val_accuracy']:7.2%}" in line
    train(tiny(), part)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("which", ["train", "val"])
@pytest.mark.parametrize("lack", ["labels", "digits"])
def test_digits_that_cannot_be_used_are_refused_before_the_first_epoch(
    which: str, lack: str, part: mv.Digits, val: mv.Digits
) -> None:
    bad = mv.Digits(part.images, None, "Kaggle test.csv") if lack == "labels" else part[:0]
    model = tiny()
    with pytest.raises(mv.MnistvizError, match="no labels" if lack == "labels" else "no digits"):
        train(model, *((bad, val) if which == "train" else (part, bad)))
    assert same(model, tiny())


# Training under attack


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_training_under_attack_equals_the_loop_written_by_hand(smoothing: float, part: mv.Digits) -> None:
    """Each batch is changed against the model as it stands, judging; then learned from as ever."""
    recipe = PLAIN.but(attack=Attack(0.1), label_smoothing=smoothing)
    model, by_hand, unharmed = (tiny(dropout=0.3) for _ in range(3))
    history = train(model, part, recipe=recipe)
    train(unharmed, part, recipe=recipe.but(attack=None))

    optimiser = torch.optim.Adam(by_hand.parameters(), lr=0.01, fused=True)
    for epoch in (1, 2):
        torch.manual_seed(3 * 100_003 + epoch)
        total = 0.0
        for x, y in part.batches(50, generator=torch.Generator().manual_seed(3 * 100_003 + epoch)):
            x.requires_grad_()
            F.cross_entropy(by_hand.eval()(x), y, reduction="sum").backward()
            assert x.grad is not None
            changed = (x.detach() + 0.1 * x.grad.sign()).clamp(0, 1)
            loss = F.cross_entropy(by_hand.train()(changed), y, label_smoothing=smoothing)
            optimiser.zero_grad()  # what the attack left in the parameters does not count
            loss.backward()
            optimiser.step()
            total += loss.item() * len(x)
        assert history.table.loss[epoch] == pytest.approx(total / 220, rel=1e-5)
    for found, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not same(model, unharmed)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_under_attack_is_seeded(precision: str, part: mv.Digits) -> None:
    attack = Attack(0.1, steps=2, random_start=True)
    recipe = PLAIN.but(attack=attack, precision=precision, augment=Augment(shift=0.1, mixup=0.5))
    one, again, other = (tiny(dropout=0.3) for _ in range(3))
    torch.manual_seed(11)
    before = torch.get_rng_state()
    for model, seed in ((one, 3), (again, 3), (other, 4)):
        train(model, part, recipe=recipe.but(seed=seed))
    assert same(one, again)
    assert not same(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_in_training_the_attack_changes_neither_slopes_nor_modes(part: mv.Digits) -> None:
    """Seen from within: before, the slopes of the last step; after, the same, and the model still learns."""
    seen = []

    class Watched(Attack):
        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
            def look() -> tuple[list[Tensor], list[Tensor]]:
                slopes = [p.grad.clone() for p in model.parameters() if p.grad is not None]
                return slopes, [value.clone() for value in model.state_dict().values()]

            before = look()
            found = super().__call__(model, x, y, generator)
            for one, other in zip(before, look(), strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
            assert all(module.training for module in model.modules())
            assert generator is not None  # the epoch's own, as for order and augmentation
            seen.append((len(before[0]), float((found - x).abs().max())))
            return found

    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    train(model, part, recipe=PLAIN.but(attack=Watched(0.1, steps=2)))
    assert len(seen) == 10
    assert [count for count, _ in seen] == [0] + [6] * 9
    assert all(0.05 < change <= 0.1 + 1e-6 for _, change in seen)


def test_an_interrupted_training_under_attack_resumes_to_the_unbroken_weights(
    part: mv.Digits, val: mv.Digits, tmp_path: Path
) -> None:
    recipe = PLAIN.but(epochs=3, model="deep", attack=Attack(0.1, steps=2, random_start=True))
    unbroken, again = tiny(dropout=0.3), tiny(seed=9, dropout=0.3)
    train(unbroken, part, val, recipe)
    first = train(tiny(dropout=0.3), part, val, recipe, folder=tmp_path, callbacks={"step": raise_at(3, 2)})
    assert first.interrupted
    with pytest.raises(mv.MnistvizError, match="another recipe"):
        train(again, part, val, recipe.but(attack=Attack(0.1)), folder=tmp_path, resume=True)
    train(again, part, val, recipe, folder=tmp_path, resume=True)
    assert same(again, unbroken)
    card = mv.read_card(tmp_path / "best_mnist_model.pth")
    assert card["recipe"]["attack"] == {"epsilon": 0.1, "steps": 2, "step": None, "random_start": True}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_attack_that_may_change_nothing_leaves_the_training_as_it_was(precision: str, part: mv.Digits) -> None:
    """Its passes through the model leave no trace: not in dropout's draws, nor in what autocast keeps."""
    plain, under = tiny(dropout=0.3), tiny(dropout=0.3)
    recipe = PLAIN.but(precision=precision, augment=Augment(shift=0.1))
    train(plain, part, recipe=recipe)
    train(under, part, recipe=recipe.but(attack=Attack(0, steps=3)))
    assert same(plain, under)
