"""Pictures that please a network do please it, stay pictures, and cost the network nothing."""

import pytest
import torch
from helpers import refused
from torch import Tensor, nn
from zoo import facts, layer_by_layer, unsettle

import mnistviz as mv
from mnistviz.look.dreams import Dreams, dream


def check(model: nn.Sequential, layer: str, channel: int, dreams: Dreams, seeds: int) -> None:
    """Pictures, each of which excites more than at first, by as much as a pass without hooks says."""
    assert dreams.pixels.shape == (seeds, 1, 28, 28)
    assert ((dreams.pixels >= 0) & (dreams.pixels <= 1)).all()
    assert dreams.start.shape == (seeds,)
    assert (dreams.end > dreams.start).all()
    excited = layer_by_layer(model, dreams.pixels)[layer][:, channel].reshape(seeds, -1).mean(1)
    torch.testing.assert_close(dreams.end, excited, rtol=1e-4, atol=1e-4)
    assert not any(t.requires_grad for t in vars(dreams).values())


def roughness(pixels: Tensor) -> Tensor:
    return pixels.diff(dim=2).abs().sum((1, 2, 3)) + pixels.diff(dim=3).abs().sum((1, 2, 3))


@pytest.mark.parametrize("digit", [0, 9])
def test_every_seed_is_read_as_what_was_dreamt_and_priors_make_it_smoother_and_darker(digit, reference):
    light = reference["light"]
    with_them, without = (dream(light, "fc1", digit, priors=priors, steps=100) for priors in (True, False))
    for dreams in (with_them, without):
        check(light, "fc1", digit, dreams, seeds=4)
        assert (light(dreams.pixels).argmax(1) == digit).all()
    assert (roughness(with_them.pixels) < 0.8 * roughness(without.pixels)).all()
    assert (with_them.pixels.mean((1, 2, 3)) < without.pixels.mean((1, 2, 3))).all()


@pytest.mark.parametrize("priors", [False, True])
def test_every_seed_raises_a_channel(priors, compact):
    """Of `fc1` one unit; of the others the mean of a map."""
    for layer, channel in (("conv1", 0), ("relu2", 1)) if priors else (("pool2", 9), ("fc1", 0)):
        dreams = dream(compact, layer, channel, priors=priors, seeds=2, steps=160 if priors else 30)
        check(compact, layer, channel, dreams, seeds=2)


def test_without_a_step_there_is_only_the_noise_of_the_seed(compact):
    none, again, some, other = (dream(compact, "fc2", 5, steps=k, seed=s) for k, s in ((0, 0), (3, 0), (3, 0), (3, 1)))
    assert torch.equal(none.start, none.end)
    assert torch.equal(none.start, some.start)
    noise = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.3 - 1
    torch.testing.assert_close(none.pixels, 1 / (1 + torch.exp(-noise)))
    assert torch.equal(some.pixels, again.pixels)
    assert not torch.equal(some.pixels, other.pixels)


@pytest.mark.parametrize("caller", [torch.enable_grad, torch.no_grad])
def test_a_dream_leaves_the_model_and_the_dice_as_they_were_and_does_not_depend_on_modes(caller):
    model, plain = unsettle(mv.load_model("deep")), mv.load_model("deep")
    model.conv1.requires_grad_(False)
    with caller():
        before = facts(model)
        dreams = dream(model, "relu4", 9, seeds=2, steps=4)
        assert facts(model) == before
    check(plain, "relu4", 9, dreams, seeds=2)
    assert torch.equal(dreams.pixels, dream(plain, "relu4", 9, seeds=2, steps=4).pixels)


def test_a_relu_in_place_behind_the_layer_spoils_nothing():
    layers = nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2704, 10)
    plain, in_place = (nn.Sequential(layers[0], nn.ReLU(inplace), *layers[1:]) for inplace in (False, True))
    check(plain, "0", 1, dream(in_place, "0", 1, seeds=2, steps=10), seeds=2)


MODEL = mv.models.compact()
BAD = {
    "a negative channel": (lambda: dream(MODEL, "relu2", -1), "no such channel", "'relu2'", "-1", "0 to 19"),
    "a misspelt layer": (lambda: dream(MODEL, "fc3", 0), "unknown layer", "'fc3'", "conv1", "did you mean 'fc"),
    "not a model": (lambda: dream("deep", "fc2", 0), "not a model", "str"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused_and_leave_the_model_as_it_was(name):
    before = facts(MODEL)
    refused(*BAD[name])
    assert facts(MODEL) == before
