"""The architectures are the published ones, layer by layer, and compute what their layers say."""

import re

import numpy as np
import pytest
import torch
import zoo
from helpers import refused
from torch import nn

import mnistviz as mv
from mnistviz.learn.models import MODELS, Ensemble, Normalise, build, count_parameters, layer_table

# Each published table row, written out by hand: convolution (in, out, kernel, padding), linear (in, out).
PUBLISHED = {
    "simple": "normalise conv(1,32,3,0) relu pool2 conv(32,64,3,0) relu pool2 flatten linear(1600,128) relu "
    "linear(128,10)",
    "light": "normalise conv(1,8,3,1) relu pool2 conv(8,16,3,1) relu pool2 conv(16,8,1,0) conv(8,16,3,1) relu "
    "conv(16,16,1,0) conv(16,32,3,1) relu conv(32,32,1,0) flatten linear(1568,10) logsoftmax",
    "deep": "conv(1,32,3,1) bn2d(32) relu conv(32,32,3,1) bn2d(32) relu pool2 dropout(0.25) "
    "conv(32,64,3,1) bn2d(64) relu conv(64,64,3,1) bn2d(64) relu pool2 dropout(0.25) "
    "conv(64,128,3,1) bn2d(128) relu pool2 dropout(0.25) "
    "flatten linear(1152,256) bn1d(256) relu dropout(0.5) linear(256,10)",
    "compact": "normalise conv(1,10,5,0) pool2 relu conv(10,20,5,0) pool2 relu dropout2d(0.5) flatten "
    "linear(320,50) relu dropout(0.3) linear(50,10)",
    "pooled": "normalise conv(1,32,3,1) bn2d(32) relu pool2 dropout(0.25) conv(32,64,3,1) bn2d(64) relu pool2 "
    "dropout(0.25) conv(64,128,3,1) bn2d(128) relu pool2 dropout(0.25) average(1) flatten linear(128,512) bn1d(512) "
    "relu dropout(0.5) linear(512,10)",
}
SIZES = (225_034, 24_210, 437_738, 21_840, 165_322, 132_546, 7_923, 18_234)
PARAMETERS = dict(zip((*PUBLISHED, "sprint", "tiny", "small"), SIZES, strict=True))

every_model = pytest.mark.parametrize("name", MODELS)


def spelled(layer: nn.Module) -> str:
    """One layer in the shorthand of the table above."""
    match layer:
        case nn.Conv2d():
            assert layer.stride == (1, 1)
            return f"conv({layer.in_channels},{layer.out_channels},{layer.kernel_size[0]},{layer.padding[0]})"
        case nn.Linear():
            return f"linear({layer.in_features},{layer.out_features})"
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return f"{type(layer).__name__.replace('BatchNorm', 'bn')}({layer.num_features})"
        case nn.MaxPool2d():
            assert layer.stride == layer.kernel_size
            return f"pool{layer.kernel_size}"
        case nn.Dropout() | nn.Dropout2d():
            return f"{type(layer).__name__.lower()}({layer.p})"
        case nn.AdaptiveAvgPool2d():
            return f"average({layer.output_size})"
        case nn.LogSoftmax():
            assert layer.dim == 1
            return "logsoftmax"
    return type(layer).__name__.lower()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_layers_are_the_published_ones_in_their_order(name):
    assert " ".join(map(spelled, build(name))) == PUBLISHED[name]


@every_model
def test_a_model_is_a_flat_row_of_leaves_that_turns_a_digit_into_ten_numbers(name):
    model = build(name).eval()
    assert type(model) is nn.Sequential
    names = [name for name, _ in model.named_children()]
    assert len(set(names)) == len(model) == len(list(model.modules())) - 1  # no layer serves twice
    assert all(re.fullmatch(r"[a-z]+\d?", name) for name in names)
    normalises = [isinstance(layer, Normalise) for layer in model]
    assert normalises == [name != "deep"] + [False] * (len(model) - 1)
    assert count_parameters(model) == PARAMETERS[name]
    assert f"{PARAMETERS[name]:,}" in MODELS[name].__doc__
    for n in (1, 5):
        x = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        for layer in model:
            before = x.clone()
            after = layer(x)
            assert torch.equal(x, before)  # no layer overwrites the output of the one before
            x = after
        assert x.shape == (n, 10)
        assert x.dtype == torch.float32


def test_frozen_parameters_are_not_counted():
    model = build("simple").requires_grad_(False)
    model.fc2.requires_grad_(True)
    assert count_parameters(model) == 128 * 10 + 10


def test_normalise_uses_the_mean_and_deviation_of_the_training_pixels(mnist):
    counts = torch.bincount(mnist.train.images.flatten(), minlength=256).double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * levels).sum() / counts.sum()
    sd = ((counts * (levels - mean) ** 2).sum() / counts.sum()).sqrt()
    layer = build("simple").normalise
    assert (layer.mean, layer.sd) == (round(float(mean), 4), round(float(sd), 4))


@every_model
def test_the_layer_table_has_a_row_for_every_layer_and_adds_up(name):
    model = build(name).train()
    before = zoo.facts(model)
    table = layer_table(model)
    assert zoo.facts(model) == before
    assert list(table.index) == [*(name for name, _ in model.named_children()), "total"]
    assert table.parameters["total"] == count_parameters(model)
    for column in table.columns[3:]:
        assert table[column][:-1].sum() == pytest.approx(table[column]["total"])
    x = torch.rand(1, 1, 28, 28)
    for key, layer in model.eval().named_children():
        incoming, x = x.shape, layer(x)
        row, multiply_adds = table.loc[key], 0
        if isinstance(layer, nn.Conv2d):  # each output number: kernel × kernel × channels in, and perhaps a bias
            products = layer.kernel_size[0] * layer.kernel_size[1] * incoming[1] // layer.groups
            multiply_adds = x.numel() * (products + (layer.bias is not None))
            assert row["kernel"] == "×".join(map(str, layer.kernel_size))
        elif isinstance(layer, nn.Linear):
            multiply_adds = x.numel() * (incoming[1] + 1)
        assert row["multiply-adds"] == multiply_adds
        assert row["kind"] == type(layer).__name__
        assert row["output"] == "×".join(map(str, x.shape[1:]))
        assert row["parameters"] == sum(p.numel() for p in layer.parameters())
        assert row["output kB"] == pytest.approx(x.numel() * 4 / 1000)
        assert row["weights kB"] == pytest.approx(row["parameters"] * 4 / 1000)


def test_an_ensemble_answers_with_the_mean_of_its_members_probabilities(reference, few):
    """Averaged in numpy; of members that put out scores (pooled, simple) and log-probabilities (light)."""
    members = [reference[name] for name in ("pooled", "light", "simple")]
    ensemble, part = Ensemble(members).eval(), few[:80]
    mean = np.mean([mv.predict(member, part) for member in members], axis=0)
    np.testing.assert_allclose(mv.predict(ensemble, part), mean, atol=1e-6)
    np.testing.assert_allclose(ensemble(part.pixels).detach().exp().sum(1), 1, rtol=1e-5)  # no longer mere scores
    truth = mean[np.arange(80), part.labels.numpy()]
    assert mv.evaluate(ensemble, part).nll == pytest.approx(-np.log(truth).mean(), abs=1e-5)
    with mv.capture(ensemble) as trace:
        ensemble(part[:1].pixels)
    names = [f"members.{i}.{name}" for i, member in enumerate(members) for name, _ in member.named_children()]
    assert [step.name for step in trace.steps] == names


def test_an_ensemble_has_members_and_one_device():
    refused(lambda: Ensemble([]), "no members of an ensemble")
    away = nn.Linear(784, 10, device="meta")
    refused(lambda: Ensemble([build("light"), away]), "different devices", "cpu", "meta", ".to(device)")
