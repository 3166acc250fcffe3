"""The page computes what PyTorch computes: every score, every step, and what an edit makes of them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from zoo import record

import mnistviz as mv
from mnistviz.learn.evaluate import logits

SYSTEMS = ("simple", "light", "deep", "compact", "pooled")
ALL = (*SYSTEMS, "tiny", "odd", "strided", "mlp")
Networks = dict[str, nn.Sequential]


@pytest.mark.parametrize("name", SYSTEMS)
def test_logits_of_1000_digits_are_those_of_pytorch(name, networks, open_page, mnist):
    digits = mnist.test[:1000]
    tab = open_page(networks[name])
    each = "Array.from(lab.forward(x.subarray(784 * i, 784 * i + 784)).logits)"
    here = tab.numbers(f"Array.from({{length: 1000}}, (_, i) => {each}).flat()", x=digits.pixels).reshape(-1, 10)
    assert np.abs(here - logits(networks[name], digits).numpy()).max() < 1e-4
    assert tab.value("document.title") == name


@pytest.mark.parametrize("name", ALL)
def test_every_step_of_ten_digits_is_that_of_pytorch(name, networks, engine, mnist):
    model, tab, digits = networks[name], engine(networks[name]), mnist.test[:10].pixels
    passes = "Array.from({length: 10}, (_, i) => forward(net, x.slice(784 * i, 784 * i + 784)))"
    tab.value(f"(window.passes = {passes}).length", x=digits)
    trace = record(model, digits)
    assert len(trace) == tab.value("net.layers.length")
    for k, step in enumerate(trace.steps):
        assert tab.value("passes[0].steps[k].shape", k=k) == list(step.result.shape[1:])
        here = tab.numbers("passes.flatMap(({steps}) => Array.from(steps[k].values))", k=k)
        np.testing.assert_allclose(here, step.result.flatten(), atol=1e-4, err_msg=f"{name}: {step}")


@pytest.mark.parametrize(
    ("name", "layer"), [("light", "relu2"), ("deep", "bn4"), ("deep", "relu6"), ("compact", "fc1")]
)
def test_a_channel_of_scale_0_is_one_that_ablate_silences(name, layer, networks, engine, mnist):
    model, tab, x = networks[name], engine(networks[name]), mnist.test[3].pixels
    step = list(dict(model.named_children())).index(layer)
    edits = [{"step": step, "channel": channel, "scale": 0, "shift": 0} for channel in (2, 5)]
    with mv.ablate(model, layer, [2, 5]):
        expected = logits(model, x)
    given = {"x": x.flatten(), "edits": edits}
    whole = tab.numbers("forward(net, x, edits).logits", **given)
    np.testing.assert_allclose(whole, expected[0], atol=1e-4)
    kept = "(() => { const a = forward(net, x), b = a.steps.map(({values}) => values.slice()); forward(net, x, edits); "
    kept += "return a.steps.every(({values}, i) => values.every((v, k) => v === b[i][k])); })()"
    assert tab.value(kept, **given)  # a pass that was returned stays as it was


def test_an_edit_scales_and_shifts_one_channel_after_its_layer(networks, engine, mnist):
    model, tab, x = networks["light"], engine(networks["light"]), mnist.test[3].pixels

    def change(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output[:, :4], -1.5 * output[:, 4:5] + 0.25, output[:, 5:]], 1)

    hook = model.conv2.register_forward_hook(change)
    expected = logits(model, x)
    hook.remove()
    here = tab.numbers("forward(net, x, [{step: 4, channel: 4, scale: -1.5, shift: 0.25}]).logits", x=x.flatten())
    np.testing.assert_allclose(here, expected[0], atol=1e-4)
