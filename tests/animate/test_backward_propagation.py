"""The way back: every δ, gradient, loss and weight on a frame is what plain autograd and a real step of SGD give."""

import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers import refused
from oracle import ACCENT, Returned, lies, lies_of, texts_of
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d
from zoo import seeded

import mnistviz as mv
from mnistviz.animate import Film, palette, scenes
from mnistviz.animate.mnist_forward_propagation import Stage
from mnistviz.look.capture import record

RATE = 0.01


@pytest.fixture(scope="session")
def unsure(mnist) -> Tensor:
    return mnist.test[scenes.UNSURE].pixels


def film_of(model: nn.Module, x: Tensor, label: int, frames: int = 1) -> Film:
    return mv.animate.backward_propagation(*scenes.one_step(model, x, label), frames=frames)


def own() -> nn.Sequential:
    """A network that somebody wrote, of other layers than the systems have; it has learned nothing yet."""
    with seeded(3):
        parts = [nn.Conv2d(1, 4, 7, stride=2, padding=3), nn.Tanh(), nn.Conv2d(4, 9, 3), nn.BatchNorm2d(9)]
        return nn.Sequential(*parts, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(324, 10)).eval()


@pytest.mark.parametrize("name", ["simple", "light", "deep", "compact", "pooled"])
def test_every_claim_is_what_a_fresh_pass_back_and_a_real_step_give(name, real, unsure, watch):
    film = film_of(real[name], unsure, 7, frames=3 if name == "compact" else 1)
    assert lies_of(film, Returned(real[name], unsure, 7, RATE), watch, count=4) == []


@pytest.mark.parametrize("label", [7, 3])
def test_a_right_label_has_tiny_deltas_and_a_wrong_one_large_ones_and_both_are_true(label, real, seven, watch):
    film, fresh = film_of(real["light"], seven, label), Returned(real["light"], seven, label, RATE)
    *_, last = film
    assert lies(last, fresh, watch) == []
    largest = max(np.abs(claim.values).max() for claim in last.claims if claim.source[0] == "delta")
    assert (largest < 1e-3) if label == 7 else (largest > 0.9)
    assert f"with the label {label} its loss is" in film.alt


@pytest.mark.parametrize("make", [own, lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))])
def test_a_network_of_ones_own_is_shown_as_truly(make, seven, watch):
    network = make()
    assert lies_of(film_of(network, seven, 4), Returned(network, seven, 4, RATE), watch) == []


def test_another_delta_gradient_label_or_step_is_found(real, unsure, watch):
    *_, last = film_of(real["light"], unsure, 7)
    fresh = Returned(real["light"], unsure, 7, RATE)
    assert {claim.source[0] for claim in last.claims} == {"delta", "weight", "gradient", "after", "loss", "probability"}
    forged = deepcopy(fresh), deepcopy(fresh)
    forged[0].deltas["relu4"] *= -1
    forged[1].gradients["conv1.weight"] *= 1.1
    for wrong in (*forged, Returned(real["light"], unsure, 3, RATE), Returned(real["light"], unsure, 7, 2 * RATE)):
        assert lies(last, wrong, watch)


def test_columns_turn_into_delta_from_right_to_left(real, unsure):
    order: list[object] = []
    for frame in film_of(real["compact"], unsure, 7)._draw():
        order += {c.source[1] for c in frame.claims if c.zoom and c.source[0] == "delta"} - set(order)
    assert order == ["fc2", "relu3", "relu2", "relu1", "input"]


def test_links_are_as_strong_as_what_came_back(real, unsure):
    stage = Stage(scenes.one_step(real["light"], unsure, 7)[0], back=True)
    fresh = Returned(real["light"], unsure, 7, RATE)
    for layer, flows in zip(("conv2", "mix1", "conv3", "mix2", "conv4", "mix3"), stage.flows[1:-1], strict=True):
        weight, delta = fresh.layers[layer].weight.detach(), torch.as_tensor(fresh.deltas[layer])
        for o in range(0, len(flows), 3):  # what one output alone hands back to each map
            back = conv_transpose2d(delta[:, [o]], weight[[o]], padding=fresh.layers[layer].padding)
            np.testing.assert_allclose(flows[o], back[0].sum((1, 2)), rtol=1e-3, atol=1e-5)
    strength, way, _ = stage.links()[-1]
    x, y = way[len(way) // 2]
    *_, last = film_of(real["light"], unsure, 7)
    assert last.pixels[round(y), round(x)] == palette.RAMPS[True][-1 if strength > 0 else 0]


def test_words_state_the_loss_the_scales_and_the_step(real, unsure, monkeypatch):
    film, fresh = film_of(real["deep"], unsure, 3), Returned(real["deep"], unsure, 3, RATE)
    texts = [words for words, _ in texts_of(film, monkeypatch)]
    losses = [f"{float(fresh(source, ())):.4g}" for source in (("loss",), ("after", "loss"))]
    assert {"How wrong is that, if it is a 3?", *losses} <= set(texts)
    assert all(loss in film.alt for loss in losses)
    ends = [float(text[1:]) for text in texts if re.fullmatch(r"±[\d.]+", text)]
    keys = ("fc2", "relu6", "pool3", "pool2", "relu3", "pool1", "relu1", "input")
    assert ends == pytest.approx([np.abs(fresh.deltas[key]).max() for key in keys], abs=0.005)
    assert "One digit, one step of SGD with learning rate 0.01; batch norm in evaluation mode." in texts


def test_the_label_is_boxed_and_the_steepest_weight_written_out(real, unsure):
    *_, last = film_of(real["compact"], unsure, 5)
    numbers = {c.source: c for c in last.claims if not c.zoom}
    five = numbers["delta", "fc2", 0, 5]
    assert (last.pixels[five.y - 16 : five.y + 16, five.x - 34 : five.x - 3] == ACCENT).sum() > 200
    ((place, slope),) = ((source[2:], c.values) for source, c in numbers.items() if source[0] == "gradient")
    assert abs(slope) == np.abs(Returned(real["compact"], unsure, 5, RATE).gradients["conv1.weight"]).max()
    assert {("weight", "conv1", *place), ("after", "weight", "conv1", *place)} <= set(numbers)


def test_the_label_is_that_asked_for_or_the_digits_or_the_networks(reference, mnist, unsure):
    model, digit = reference["compact"], mnist.test[2597]  # a 5 that it reads as a 3
    nameless = mv.Digits(digit.images, None, "drawn")
    cases = [(None, None, unsure, 4), (digit, None, digit.pixels, 5), (nameless, None, digit.pixels, 3)]
    for given, label, pixels, expected in [*cases, (digit, 2, digit.pixels, 2)]:
        film = mv.animate.film("backward_propagation", "compact", given, label=label)
        assert film.alt == film_of(model, pixels, expected).alt


def test_what_cannot_be_shown_is_told(real, seven, few):
    make, film = mv.animate.backward_propagation, mv.animate.film
    before, after = scenes.one_step(real["light"], seven, 3)
    refused(lambda: make(record(real["light"], seven), after), "nobody has gone back", "mv.backward(trace, labels=[7])")
    refused(lambda: make(record(real["light"], few.pixels[:2]), after), "one digit", "2 inputs")
    refused(lambda: make(before, after, rate=0.02), "not of 'conv1' after this step", "rate 0.02", "scenes.one_step")
    refused(lambda: film("backward_propagation", "light", label=10), "no such label", "10", "0 to 9")
    refused(lambda: film("convolution", "light", label=3), "convolution goes back from no label", "3", "leave it out")
