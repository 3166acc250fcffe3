"""Pictures that please a network do please it, stay pictures, and cost the network nothing."""

import pytest
import torch
from torch import Tensor, nn
from zoo import facts, unsettle

import mnistviz as mv
from mnistviz.look.dreams import Dreams, dream

STEPS = 50


@pytest.fixture(scope="module")
def compact() -> nn.Sequential:
    return mv.load_model("compact")


@torch.no_grad()
def excited(model: nn.Sequential, layer: str, channel: int, x: Tensor) -> Tensor:
    """What a channel gives, on average over its map; module by module."""
    for name, module in model.named_children():
        x = module(x)
        if name == layer:
            return x[:, channel].reshape(len(x), -1).mean(1)
    raise AssertionError(layer)


def roughness(pixels: Tensor) -> Tensor:
    return (pixels[:, :, 1:] - pixels[:, :, :-1]).abs().sum((1, 2, 3)) + (pixels[..., 1:] - pixels[..., :-1]).abs().sum(
        (1, 2, 3)
    )


def check(model: nn.Sequential, layer: str, channel: int, found: Dreams, seeds: int = 4) -> None:
    assert found.pixels.shape == (seeds, 1, 28, 28)
    assert found.start.shape == found.end.shape == (seeds,)
    assert ((found.pixels >= 0) & (found.pixels <= 1)).all()
    assert (found.end > found.start).all()
    torch.testing.assert_close(found.end, excited(model, layer, channel, found.pixels), rtol=1e-4, atol=1e-4)
    assert not any(t.requires_grad for t in vars(found).values())


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("digit", range(10))
def test_every_seed_raises_the_score(digit: int, priors: bool, compact: nn.Sequential) -> None:
    found = dream(compact, "fc2", digit, priors=priors, steps=STEPS)
    check(compact, "fc2", digit, found)


def test_in_the_end_the_network_reads_what_was_dreamt(compact: nn.Sequential) -> None:
    for digit in (0, 3, 9):
        assert (compact(dream(compact, "fc2", digit).pixels).argmax(1) == digit).all()


@pytest.mark.parametrize("layer", ["conv1", "conv2", "pool2", "fc1"])
def test_every_seed_raises_a_channel(layer: str, compact: nn.Sequential) -> None:
    """Of `fc1` one unit; of the others the mean of a map."""
    for channel in (0, 7, 9):
        found = dream(compact, layer, channel, priors=False, seeds=3, steps=30)
        check(compact, layer, channel, found, seeds=3)


def test_priors_let_a_channel_rise(compact: nn.Sequential) -> None:
    for layer, channel in (("conv1", 3), ("conv2", 0), ("relu2", 1)):
        check(compact, layer, channel, dream(compact, layer, channel, seeds=3), seeds=3)


def test_priors_let_every_channel_rise(compact: nn.Sequential) -> None:
    for layer, channel in (("conv1", 0), ("conv1", 5), ("conv2", 5), ("conv2", 9)):
        check(compact, layer, channel, dream(compact, layer, channel, seeds=2), seeds=2)


def test_batch_norm_and_dropout_do_not_matter() -> None:
    """In the modes of training the network is asked as it answers."""
    model, other = mv.load_model("deep"), mv.load_model("deep").train()
    a, b = (dream(m, "fc2", 3, seeds=2, steps=8) for m in (model, other))
    check(model, "fc2", 3, a, seeds=2)
    assert torch.equal(a.pixels, b.pixels)


@pytest.mark.parametrize("priors", [True, False])
def test_without_a_step_there_is_only_the_noise(priors: bool, compact: nn.Sequential) -> None:
    none, some = (dream(compact, "fc2", 5, priors=priors, steps=k) for k in (0, 3))
    assert torch.equal(none.start, none.end)
    assert torch.equal(none.start, some.start)
    torch.testing.assert_close(none.start, excited(compact, "fc2", 5, none.pixels), rtol=1e-4, atol=1e-4)
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 1, 28, 28, generator=dice) * 0.3 - 1
    torch.testing.assert_close(none.pixels, 1 / (1 + torch.exp(-noise)))


def test_priors_make_pictures_smoother_and_darker(compact: nn.Sequential) -> None:
    for digit in (0, 3, 7):
        with_them, without = (dream(compact, "fc2", digit, priors=p, steps=80).pixels for p in (True, False))
        assert (roughness(with_them) < 0.8 * roughness(without)).all()
        assert (with_them.mean((1, 2, 3)) < without.mean((1, 2, 3))).all()


def test_the_same_seed_dreams_the_same(compact: nn.Sequential) -> None:
    one, again, other = (dream(compact, "fc2", 2, seeds=2, steps=5, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.pixels, again.pixels)
    assert torch.equal(one.start, again.start)
    assert not torch.equal(one.pixels, other.pixels)
    assert not torch.equal(one.pixels[0], one.pixels[1])


@pytest.mark.parametrize("caller", [torch.enable_grad, torch.no_grad])
def test_a_dream_leaves_the_model_and_the_dice_as_they_were(caller: type) -> None:
    model = unsettle(mv.load_model("deep"))
    model.conv1.requires_grad_(False)
    with caller():
        before = facts(model)
        found = dream(model, "relu4", 9, seeds=2, steps=4)
        assert facts(model) == before
    assert (found.end > found.start).all()


@pytest.mark.parametrize(("layer", "channel", "last"), [("fc2", 10, 9), ("relu2", -1, 19), ("conv1", 12, 9)])
def test_a_channel_that_is_not_there_is_told(layer: str, channel: int, last: int, compact: nn.Sequential) -> None:
    before = facts(compact)
    with pytest.raises(mv.MnistvizError, match=rf"no such channel in '{layer}'[\s\S]*{channel}[\s\S]*0 to {last}"):
        dream(compact, layer, channel)
    assert facts(compact) == before


def test_a_layer_that_is_not_there_is_told(compact: nn.Sequential) -> None:
    before = facts(compact)
    with pytest.raises(mv.MnistvizError, match=r"unknown layer[\s\S]*'fc3'[\s\S]*conv1[\s\S]*did you mean 'fc"):
        dream(compact, "fc3", 0)
    assert facts(compact) == before
