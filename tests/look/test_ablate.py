"""Silencing changes exactly the channels named, in every mode and order, and ends with its block."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from helpers import refusals, refused
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from zoo import GRAD_MODES, assert_equal, by_hand, entering, facts, make, record, silencing, unsettle

import mnistviz as mv


@torch.no_grad()
def silenced(model: nn.Module, x: Tensor, layer: str, channels: Any) -> Tensor:
    with mv.ablate(model, layer, channels):
        return model(x)


@pytest.mark.parametrize(
    ("layer", "channels"),
    [("conv1", [3, 1]), ("relu1", [0, 1, 2, 3]), ("relu2", [2, 2]), ("pool", [0, 5]), ("fc1", [0, 7]), ("fc2", [7])],
)
def test_silenced_channels_are_zero_and_the_others_as_they_were(layer, channels, model, x):
    unsettle(model)
    for grad in GRAD_MODES.values():
        with grad():
            before = facts(model)
            with mv.capture(model) as plain:
                model(x)
            with mv.ablate(model, layer, channels), mv.capture(model) as trace:
                out = model(x)
            assert facts(model) == before
            expected = by_hand(model, x, silencing(layer, channels))
        others = [c for c in range(trace[layer].output.shape[1]) if c not in channels]
        assert (trace[layer].output[:, channels] == 0).all()
        assert_equal(trace[layer].output[:, others], plain[layer].output[:, others])
        for earlier in trace.keys[: trace.index(layer)]:
            assert_equal(trace[earlier].output, plain[earlier].output)
        torch.testing.assert_close(out, expected)
        assert not torch.equal(trace.output, plain.output)


def test_channels_are_a_number_or_any_iterable_or_what_argmax_and_topk_give(model, x):
    expected = by_hand(model, x, silencing("conv2", [2, 4]))
    for channels in ([2, 4], (4, 2), (c for c in (2, 4)), {2, 4}, np.array([2, 4]), torch.tensor([2, 4])):
        torch.testing.assert_close(silenced(model, x, "conv2", channels), expected)
    one = by_hand(model, x, silencing("conv2", 2))
    for channel in (2, [2], np.int64(2), torch.tensor(2), torch.tensor([2])):
        torch.testing.assert_close(silenced(model, x, "conv2", channel), one)
    assert (one - expected).abs().max() > 1e-3


def test_a_capture_sees_the_silence_inside_it(model, x):
    unsettle(model)
    before = facts(model)
    with mv.capture(model) as trace, mv.ablate(model, "relu1", [0, 2]):
        out = model(x)
    assert facts(model) == before
    assert (trace["relu1"].output[:, [0, 2]] == 0).all()
    assert_equal(trace["relu1"].output[:, [1, 3]], trace["conv1"].output[:, [1, 3]].clamp(min=0))
    assert_equal(trace["conv2"].input, trace["relu1"].output)
    torch.testing.assert_close(out, by_hand(model, x, silencing("relu1", [0, 2])))


def test_a_gradient_does_not_pass_through_a_silenced_channel(model, x):
    with mv.ablate(model, "relu1", [1]):
        model(x).sum().backward()
    assert (model.conv1.weight.grad[1] == 0).all()
    assert (model.conv1.weight.grad[[0, 2, 3]] != 0).any()


def test_what_is_not_a_number_is_silenced_too(model, x):
    with torch.no_grad():
        model.conv1.bias[1] = torch.nan
        assert model(x).isnan().any()
        result = silenced(model, x, "conv1", 1)
        model.conv1.bias[1] = 0
    torch.testing.assert_close(result, by_hand(model, x, silencing("conv1", 1)))


def test_every_call_of_a_layer_under_any_of_its_names_is_silenced():
    case = make("alias")
    with torch.no_grad(), mv.ablate(case.model, "also_relu", [0, 3]), mv.capture(case.model) as trace:
        case()
        first = case.model.fc1(case.args[0]).clamp(min=0)
        first[:, [0, 3]] = 0
        second = case.model.fc2(first).clamp(min=0)
        second[:, [0, 3]] = 0
    assert_equal(trace["relu:0"].output, first)
    assert_equal(trace["relu:1"].output, second)


@pytest.mark.parametrize("name", ["scripted_part", "traced_part"])
def test_a_model_with_a_scripted_part_can_be_silenced_there_and_after_it(name):
    case = make(name)
    unsettle(case.model)
    before = facts(case.model)
    plain = record(case.model, *case.args)
    with mv.ablate(case.model, "0", 1), mv.ablate(case.model, "2", [0, 4]):
        trace = record(case.model, *case.args)
    assert facts(case.model) == before
    kept = plain["0"].output * torch.tensor([1.0, 0.0]).view(2, 1, 1)
    assert_equal(trace["0"].output, kept)
    expected = case.model[2](kept.flatten(1)) * torch.tensor([0.0, 1, 1, 1, 0])
    torch.testing.assert_close(trace.output, expected.detach())


@pytest.mark.parametrize("name", ["bare_conv", "scripted_model"])
def test_a_whole_model_can_be_silenced(name):
    case = make(name)
    case.model.eval()
    plain, result = case(), silenced(case.model, *case.args, "", 2)
    assert not result[:, 2].any()
    assert_equal(result[:, [0, 1]], plain[:, [0, 1]].detach())
    assert not any(zoo.hooks(case.model).values())


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(nn.PReLU(), id="PReLU has one weight for all channels"),
        pytest.param(nn.ConvTranspose2d(5, 6, 3), id="ConvTranspose2d has its outputs second"),
        pytest.param(nn.Sequential(nn.ReLU(), nn.ReLU()), id="a container"),
        pytest.param(nn.Linear(8, 6), id="the units of a linear layer are its last axis"),
    ],
)
def test_the_channels_are_those_of_the_output(layer):
    model, x, axis = nn.Sequential(layer), zoo.images(2, 5), -1 if isinstance(layer, nn.Linear) else 1
    with torch.no_grad():
        plain = model(x)
    last = plain.shape[axis] - 1
    result = silenced(model, x, "0", last)
    assert not result.select(axis, last).any()
    assert_equal(result.narrow(axis, 0, last), plain.narrow(axis, 0, last))
    refused(lambda: silenced(model, x, "0", last + 1), f"0 to {last}")


def test_silence_ends_when_the_model_or_the_caller_raises(model):
    unsettle(model)
    before = facts(model)
    with pytest.raises(ZeroDivisionError), mv.ablate(model, "conv1", 0):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError), mv.ablate(model, "conv1", 0):
        model(torch.zeros(1, 784))
    assert facts(model) == before


def test_silence_leaves_a_computed_weight_as_it_was():
    """Merely reading a spectrally normed weight in training mode moves its buffers."""
    model = nn.Sequential(spectral_norm(nn.Conv2d(1, 3, 3))).train()
    before = facts(model)
    with mv.ablate(model, "0", 1):
        pass
    assert facts(model) == before


silence = partial(entering, mv.ablate)
BAD = {
    "a channel too many": (lambda: silence("conv1", 4), "no such channel in layer 'conv1'", "4", "0 to 3"),
    "a negative channel": (lambda: silence("fc1", -1), "no such channel in layer 'fc1'", "0 to 7"),
    "no channel": (lambda: silence("conv1", []), "no such channel", "none"),
    "seen as it runs": (lambda: silence("relu1", 4, runs=True), "no such channel in layer 'relu1'", "0 to 3"),
    "a misspelt layer": (lambda: silence("cnov1", 0), "unknown layer", "conv1, relu1", "did you mean 'conv1'"),
    "a pattern": (lambda: silence("conv*", 0), "unknown layer", "conv1, relu1"),
    "several outputs": (lambda: silence("", 0, name="lstm", runs=True), "no channels to silence"),
    "not a model": (lambda: silenced("deep", torch.ones(1), "conv1", 0), "not a model", "str"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)
