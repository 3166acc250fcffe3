"""A training seen again: weights kept at the steps that were told, and looking changes nothing."""

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.history import Fit, History
from mnistviz.look.diary import BATCH


def trained(few: mv.Digits, callbacks: dict | None = None, **changed: object) -> tuple[nn.Module, History]:
    """Ten steps of a light network on 300 digits, in two epochs."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = mv.models.build("light")
    recipe = mv.recipes.published("light").but(epochs=2, batch=64, **changed)
    history = mv.fit(model, few[:300], None, recipe, device="cpu", callbacks=callbacks, progress=False)
    return model, history


@pytest.fixture(scope="module")
def seen(few: mv.Digits) -> tuple[mv.Timelapse, nn.Module, dict[int, dict[str, Tensor]]]:
    """A training with a timelapse, and beside it a callback of its own that counts steps and copies weights."""
    lapse, copies = mv.Timelapse([0, 1, 4, 5, 10, 99]), {}

    def copy(state: Fit) -> None:
        copies[len(copies)] = {name: w.clone() for name, w in state.model.state_dict().items()}

    both = {event: [call, copy] for event, call in lapse.callbacks.items()}
    model, _ = trained(few, both)
    return lapse, model, copies


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_weights_are_kept_at_the_steps_told_and_at_no_others(seen) -> None:
    lapse, model, copies = seen
    assert len(copies) == 11  # before training, and after each of 2 · 5 steps
    assert list(lapse.checkpoints) == [0, 1, 4, 5, 10]
    for step, weights in lapse.checkpoints.items():
        assert same(weights, copies[step])
        assert not any(same(weights, copies[other]) for other in copies if other != step)
    assert same(lapse.checkpoints[10], model.state_dict())


def test_step_0_is_before_the_training(seen) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        fresh = mv.models.build("light")
    assert same(seen[0].checkpoints[0], fresh.state_dict())


def test_what_was_kept_does_not_change_with_the_model(seen) -> None:
    lapse, model, _ = seen
    kept = lapse.checkpoints[10]["conv1.weight"]
    assert kept.data_ptr() != model.get_parameter("conv1.weight").data_ptr()
    assert not kept.requires_grad


def test_looking_changes_nothing(few: mv.Digits, seen) -> None:
    plain, history = trained(few)
    looked, again = trained(few, mv.Timelapse(range(11)).callbacks)
    assert same(plain.state_dict(), looked.state_dict())
    assert same(plain.state_dict(), seen[1].state_dict())
    times = ["seconds", "images_per_second"]
    one, two = (h.table.drop(columns=times, errors="ignore") for h in (history, again))
    assert one.equals(two)


def test_a_second_training_begins_anew(few: mv.Digits) -> None:
    lapse = mv.Timelapse([0, 3])
    trained(few, lapse.callbacks)
    first = dict(lapse.checkpoints)
    trained(few, lapse.callbacks)
    assert list(lapse.checkpoints) == [0, 3]
    for step in (0, 3):
        assert same(first[step], lapse.checkpoints[step])
        assert first[step] is not lapse.checkpoints[step]


def test_of_an_averaged_training_the_averaged_weights_are_kept(few: mv.Digits) -> None:
    lapse = mv.Timelapse([10])
    model, _ = trained(few, lapse.callbacks, average=0.9)
    assert same(lapse.checkpoints[10], model.state_dict())


def test_every_moment_is_its_checkpoint_run_again(seen, few: mv.Digits) -> None:
    lapse, model, _ = seen
    moments = lapse.moments(model, few.pixels[:5])
    assert [moment.step for moment in moments] == [0, 1, 4, 5, 10]
    for moment in moments:
        fresh = mv.models.build("light").eval()
        fresh.load_state_dict(lapse.checkpoints[moment.step])
        x = few.pixels[:5]
        assert torch.equal(moment.trace.input, x)
        with torch.no_grad():
            for name, layer in fresh.named_children():
                x = layer(x)
                torch.testing.assert_close(moment.trace[name].output, x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(moment.trace["conv1"].weight, lapse.checkpoints[moment.step]["conv1.weight"])
        torch.testing.assert_close(moment.trace.output, x, rtol=1e-5, atol=1e-5)


def test_moments_leave_the_model_untouched(seen, few: mv.Digits) -> None:
    lapse, model = seen[0], deepcopy(seen[1])
    with torch.no_grad():
        model.get_parameter("conv1.weight").add_(1.0)  # so that it is none of the checkpoints
    before = {name: w.clone() for name, w in model.state_dict().items()}
    dice = torch.random.get_rng_state()
    for mode in (True, False):
        model.train(mode)
        lapse.moments(model, few.pixels[:3])
        assert model.training == mode
        assert all(layer.training == mode for layer in model.children())
    assert same(before, model.state_dict())
    assert torch.equal(dice, torch.random.get_rng_state())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1, 2 * BATCH + 41])
def test_a_trace_joined_from_batches_is_that_of_one_whole_pass(count: int, seen, few: mv.Digits) -> None:
    lapse, model, _ = seen
    x = few.pixels[:count]
    moment = lapse.moments(model, x)[-1]
    with mv.capture(model) as whole, torch.no_grad():
        model(x)
    assert moment.trace.keys == whole.keys
    assert torch.equal(moment.trace.input, x)
    torch.testing.assert_close(moment.trace.output, whole.output, rtol=1e-5, atol=1e-5)
    for joined, step in zip(moment.trace, whole, strict=True):
        assert joined.output.shape == step.output.shape
        assert joined.input.shape == step.input.shape
        assert (joined.kind, joined.sources, joined.settings) == (step.kind, step.sources, step.settings)
        torch.testing.assert_close(joined.output, step.output, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(joined.input, step.input, rtol=1e-5, atol=1e-5)
    assert repr(moment.trace) == repr(whole)
    assert mv.replay(moment.trace).largest < 1e-4


def test_only_the_layers_asked_for_are_recorded(seen, few: mv.Digits) -> None:
    lapse, model, _ = seen
    for moment in lapse.moments(model, few.pixels[:140], ["conv*", "fc1"]):
        assert moment.trace.keys == ["conv1", "conv2", "conv3", "conv4", "fc1"]
        assert moment.trace["fc1"].input.shape == (140, 1568)
    with pytest.raises(mv.MnistvizError, match="unknown layer"):
        lapse.moments(model, few.pixels[:2], "fc9")


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class Several(nn.Module):
    """A layer that gives its input back in some form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.weight = form, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> object:
        y = x * self.weight
        forms = {"tuple": (x, y), "list": [x, y], "dictionary": {"x": x, "y": (y, None)}, "named": Pair(x, y)}
        return forms[self.form]


@pytest.mark.parametrize("form", ["tuple", "list", "dictionary", "named"])
def test_several_outputs_of_a_layer_are_joined_one_by_one(form: str) -> None:
    lapse, model = mv.Timelapse([0]), Several(form)
    lapse.checkpoints[0] = {"weight": torch.tensor([2.0])}
    x = torch.rand(BATCH + 2, 3)
    (moment,) = lapse.moments(model, x)
    found = moment.trace.steps[0].output
    assert type(found) is type(model(x))
    if form == "dictionary":
        assert torch.equal(found["x"], x)
        assert torch.equal(found["y"][0], 2 * x)
        assert found["y"][1] is None
    else:
        assert torch.equal(found[0], x)
        assert torch.equal(found[1], 2 * x)


@given(st.integers(1, 5000), st.integers(2, 200))
def test_over_goes_from_the_first_to_the_last_step_closer_together_at_the_start(steps: int, count: int) -> None:
    at = mv.Timelapse.over(steps, count).at
    assert (at[0], at[-1]) == (0, steps)
    assert at == sorted(set(at))
    assert len(at) <= count
    if steps >= 30 * count:
        assert len(at) == count
        gaps = np.diff(at)
        assert gaps[0] <= gaps[-1]
        assert (np.diff(gaps) >= -1).all()


@pytest.mark.parametrize(("steps", "count"), [(0, 10), (10, 1), (-3, 5), (10, 0)])
def test_over_needs_a_step_and_two_looks(steps: int, count: int) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s)training to look at.*{steps} steps, {count} looks.*1 and 2"):
        mv.Timelapse.over(steps, count)


def test_steps_are_sorted_and_each_is_kept_once() -> None:
    assert mv.Timelapse(iter([7, 0, 7, 3])).at == [0, 3, 7]


@pytest.mark.parametrize(("at", "said"), [([], "none"), ([-1, 4], "-1, 4")])
def test_there_must_be_a_step_and_none_is_negative(at: list[int], said: str) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s)steps to keep the weights at.*{said}"):
        mv.Timelapse(at)


def test_without_a_training_there_are_no_moments(few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)nothing was kept yet.*lapse.callbacks"):
        mv.Timelapse([0]).moments(mv.models.build("light"), few.pixels[:1])


def test_moments_through_a_model_of_another_architecture_are_told(seen, few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError):
        seen[0].moments(mv.models.build("compact"), few.pixels[:1])
