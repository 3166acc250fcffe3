"""A training watched and seen again: pages, ratios and kept weights are what was, and looking changes nothing."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import refusals
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import Answer, Heads, assert_equal, facts, layer_by_layer, record, seeded, unsettle

import mnistviz as mv
from mnistviz.learn.history import Fit, History
from mnistviz.look.diary import BATCH

RECIPE = mv.recipes.tuned("compact").but(epochs=2, batch=30, augment=None)
STEPS = 10  # of 150 digits in batches of 30, twice


def fresh() -> nn.Module:
    with seeded(3):
        return mv.models.compact()


def trained(few: mv.Digits, callbacks: dict | None = None, **changed: object) -> tuple[nn.Module, History]:
    model, recipe = fresh(), RECIPE.but(**changed)
    return model, mv.fit(model, few[:150], None, recipe, device="cpu", callbacks=callbacks, progress=False)


@pytest.fixture(scope="module")
def seen(few) -> tuple[mv.Timelapse, nn.Module, list[dict[str, Tensor]]]:
    """A training with a timelapse, and beside it a callback of its own that copies weights at every step."""
    lapse, copies = mv.Timelapse(iter([5, 0, 10, 1, 5, 99])), []

    def keep(state: Fit) -> None:
        copies.append({name: w.clone() for name, w in state.model.state_dict().items()})

    model, _ = trained(few, {event: [call, keep] for event, call in lapse.callbacks.items()})
    return lapse, model, copies


def test_a_diary_has_a_page_for_the_start_and_for_every_epoch(few):
    x = few[:150].pixels
    diary, twins = mv.Diary(x, "relu*", mv.activity.Bins(-1, 3, 16)), []
    keep = lambda state: twins.append(copy.deepcopy(state.model))  # noqa: E731
    trained(few, diary.callbacks | {event: [diary.callbacks[event], keep] for event in ("start", "epoch")})
    assert len(diary.pages) == len(twins) == RECIPE.epochs + 1
    assert diary.steps == STEPS
    for page, twin in zip(diary.pages, twins, strict=True):
        with mv.watch(twin.eval(), "relu*", mv.activity.Bins(-1, 3, 16)) as expected, torch.no_grad():
            for part in x.split(BATCH):
                twin(part)
        assert page.keys == ["relu1", "relu2", "relu3"]
        assert repr(page) == repr(expected)
        for layer in page:
            assert page[layer].mean == expected[layer].mean
            assert torch.equal(page[layer].histogram, expected[layer].histogram)
    assert len({page["relu3"].mean for page in diary.pages}) == len(diary.pages)


@pytest.mark.parametrize("change", [{}, {"average": 0.9}], ids=["plain", "averaged"])
def test_a_watched_training_ends_in_the_same_bits(change, few):
    diary, lapse = mv.Diary(few[:50].pixels, every=2), mv.Timelapse(range(STEPS + 1))
    both = {event: [call, lapse.callbacks.get(event, lambda _: None)] for event, call in diary.callbacks.items()}
    with seeded(11):
        state = torch.get_rng_state()
        (watched, history), (plain, other) = trained(few, both, **change), trained(few, **change)
        assert torch.equal(torch.get_rng_state(), state)
    assert_equal(watched.state_dict(), plain.state_dict())
    times = ["seconds", "images_per_second"]
    assert history.table.drop(columns=times, errors="ignore").equals(other.table.drop(columns=times, errors="ignore"))
    assert not any(held for m in watched.modules() for key, held in vars(m).items() if "hooks" in key)
    assert_equal(lapse.checkpoints[STEPS], dict(plain.state_dict()))  # of an averaged training the averaged weights
    assert (len(diary.ratios), len(lapse.checkpoints)) == (5 * 4, STEPS + 1)


@pytest.mark.parametrize("every", [1, 5])
def test_ratios_are_lengths_over_the_length_of_the_weights(every, few):
    """Plain gradient descent: an update is the gradient times the rate."""
    model = fresh().double()
    rate, diary, expected = 0.05, mv.Diary(few[:2].pixels.double(), every=every), []
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    state = SimpleNamespace(model=model)
    diary.callbacks["start"](state)
    for step, part in enumerate(few[:120].pixels.double().split(10), 1):
        optimiser.zero_grad()
        F.cross_entropy(model(part), few.labels[step * 10 - 10 : step * 10]).backward()
        before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
        optimiser.step()
        diary.callbacks["step"](state)
        for name, p in model.named_parameters():
            if step % every == 0 and name.endswith("weight"):
                size, moved = np.linalg.norm(before[name]), np.linalg.norm(p.detach().numpy() - before[name])
                expected.append((step, name.split(".")[0], np.linalg.norm(p.grad.numpy()) / size, moved / size))
    rows = [(row["step"], row["layer"], row["gradient"], row["update"]) for row in diary.ratios]
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2:] for row in rows], [row[2:] for row in expected], rtol=1e-9)
    np.testing.assert_allclose([row[3] for row in rows], [rate * row[2] for row in rows], rtol=1e-9)
    assert (diary.steps, len(diary.pages)) == (12, 1)


def test_ratios_of_what_has_no_gradient_or_no_length():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.requires_grad_(False)
    nn.init.zeros_(model[1].weight)
    diary, state = mv.Diary(torch.zeros(1, 2), every=2), SimpleNamespace(model=model)
    diary.step(state)
    model(torch.ones(1, 2)).sum().backward()
    diary.step(state)
    frozen, empty = diary.ratios
    assert (frozen["layer"], empty["layer"], frozen["update"]) == ("0", "1", 0)
    assert all(map(math.isnan, (frozen["gradient"], empty["gradient"], empty["update"])))


def test_weights_are_kept_at_the_steps_told_and_at_no_others(seen):
    lapse, model, copies = seen
    assert len(copies) == STEPS + 1  # before the training, and after each step
    assert lapse.at == [0, 1, 5, 10, 99]
    assert list(lapse.checkpoints) == [0, 1, 5, 10]
    for step, weights in lapse.checkpoints.items():
        assert_equal(weights, copies[step])
    assert len({w["conv1.weight"].sum().item() for w in copies}) == len(copies)
    assert_equal(lapse.checkpoints[0], dict(fresh().state_dict()))
    assert_equal(lapse.checkpoints[10], dict(model.state_dict()))
    kept = lapse.checkpoints[10]["conv1.weight"]
    assert kept.data_ptr() != model.get_parameter("conv1.weight").data_ptr()
    assert not kept.requires_grad


def test_a_second_training_begins_anew(few):
    lapse = mv.Timelapse([0, 3])
    trained(few, lapse.callbacks)
    first = dict(lapse.checkpoints)
    trained(few, lapse.callbacks)
    assert list(lapse.checkpoints) == [0, 3]
    assert_equal(lapse.checkpoints, first)


def test_every_moment_is_its_checkpoint_run_again_and_the_model_is_untouched(seen, few):
    lapse, model, x = seen[0], unsettle(copy.deepcopy(seen[1])), few.pixels[:5]
    with torch.no_grad():
        model.get_parameter("conv1.weight").add_(1.0)  # so that it is none of the checkpoints
    before = facts(model)
    moments = lapse.moments(model, x)
    assert facts(model) == before
    assert [moment.step for moment in moments] == [0, 1, 5, 10]
    for moment in moments:
        again = fresh().eval()
        again.load_state_dict(lapse.checkpoints[moment.step])
        assert torch.equal(moment.trace.input, x)
        assert torch.equal(moment.trace["conv1"].weight, lapse.checkpoints[moment.step]["conv1.weight"])
        for name, expected in layer_by_layer(again, x).items():
            torch.testing.assert_close(moment.trace[name].output, expected)


@pytest.mark.parametrize("count", [1, 2 * BATCH + 41])
def test_a_trace_joined_from_batches_is_that_of_one_whole_pass(count, seen, few):
    lapse, model, _ = seen
    joined, whole = lapse.moments(model, few.pixels[:count])[-1].trace, record(model, few.pixels[:count])
    assert joined.keys == whole.keys
    assert torch.equal(joined.input, whole.input)
    torch.testing.assert_close(joined.output, whole.output, rtol=1e-5, atol=1e-5)
    for part, step in zip(joined.steps, whole.steps, strict=True):
        assert (part.kind, part.sources, part.settings) == (step.kind, step.sources, step.settings)
        torch.testing.assert_close((part.input, part.output), (step.input, step.output), rtol=1e-5, atol=1e-5)
    assert mv.replay(joined).largest < 1e-4
    assert lapse.moments(model, few.pixels[:count], ["conv*", "fc1"])[0].trace.keys == ["conv1", "conv2", "fc1"]


def test_several_outputs_of_a_layer_are_joined_one_by_one():
    x = torch.randn(BATCH + 2, 4)
    for shape in (Answer, lambda a, b: (a, b), lambda a, b: [a, b], lambda a, b: {"a": a, "b": (b, None)}):
        lapse, model = mv.Timelapse([0]), Heads(shape)
        lapse.checkpoints[0] = model.state_dict()
        (moment,) = lapse.moments(model, x)
        with torch.no_grad():
            expected = model(x)
        assert type(moment.trace.output) is type(expected)
        torch.testing.assert_close(moment.trace.output, expected)


@given(st.integers(1, 5000), st.integers(2, 200))
def test_over_goes_from_the_first_to_the_last_step_closer_together_at_the_start(steps, count):
    at = mv.Timelapse.over(steps, count).at
    assert (at[0], at[-1]) == (0, steps)
    assert at == sorted(set(at))
    assert len(at) <= count
    if steps >= 30 * count:
        gaps = np.diff(at)
        assert len(at) == count
        assert gaps[0] <= gaps[-1]
        assert (np.diff(gaps) >= -1).all()


def unlike() -> object:
    lapse = mv.Timelapse([0])
    lapse.checkpoints[0] = dict(mv.models.light().state_dict())
    return lapse.moments(mv.models.compact(), torch.zeros(1, 1, 28, 28))


BAD = {
    "a diary every 0 steps": (lambda: mv.Diary(torch.zeros(1), every=0), "steps between entries", "0", "1 or more"),
    "no step at all": (lambda: mv.Timelapse([]), "steps to keep the weights at", "none", "at least one"),
    "a negative step": (lambda: mv.Timelapse([4, -1]), "steps to keep the weights at", "-1, 4"),
    "over no step": (lambda: mv.Timelapse.over(0, 10), "a training to look at", "0 steps, 10 looks", "1 and 2"),
    "no training yet": (lambda: mv.Timelapse([0]).moments(fresh(), torch.zeros(1)), "nothing was kept", "callbacks"),
    "of another network": (unlike, "checkpoints are of another network", "Sequential"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)
