"""The page takes a value apart as the library does, and every slope it tells is the one that autograd finds."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from zoo import record

import mnistviz as mv
from mnistviz.look.replay import place_of

NAMES = ("light", "deep", "pooled", "tiny", "odd", "strided", "mlp")
UNITS = 12  # of each layer


@pytest.fixture(scope="module", params=NAMES)
def case(request, networks, engine, mnist) -> Any:
    """A network in its tab, where `pass` is that of a digit; the trace of the same digit; some units of every step."""
    model, digit = networks[request.param], mnist.test[2]
    tab, trace = engine(model), record(model, digit.pixels)
    tab.value("window.now = forward(net, x), 0", x=digit.pixels.flatten())
    random = np.random.default_rng(0)
    units = {k: random.integers(0, step.result.numel(), UNITS).tolist() for k, step in enumerate(trace.steps)}
    return model, tab, trace, {k: [*some, 0, trace.steps[k].result.numel() - 1] for k, some in units.items()}


def explained(tab: Any, step: int, units: list[int]) -> list[dict[str, Any]]:
    return tab.value("units.map((at) => explain(net, now, step, at))", step=step, units=units)


def test_what_an_input_gives_a_value_is_the_slope_of_autograd(case):
    model, tab, trace, units = case
    for k, layer in enumerate(model):
        x = trace.steps[k].input.clone().requires_grad_()
        y = layer.eval()(x).flatten()
        for at, told in zip(units[k], explained(tab, k, units[k]), strict=True):
            slopes = torch.autograd.grad(y[at], x, retain_graph=True)[0].flatten()
            here = torch.zeros_like(slopes)
            for part in told["inputs"]:
                here[part["at"]] += part["weight"]
                assert part["value"] == pytest.approx(float(x.detach().flatten()[part["at"]]), abs=1e-4)
                assert part["product"] == pytest.approx(part["value"] * part["weight"])
            np.testing.assert_allclose(here, slopes, atol=1e-4, rtol=1e-3, err_msg=f"{layer}, {at}")
            assert told["place"] == list(place_of(at, trace.steps[k].result.shape[1:]))
            assert told["value"] == pytest.approx(float(y[at].detach()), abs=1e-4)


def test_every_form_makes_its_value(case):
    formulas = {
        "sum": lambda f: sum(group["sum"] for group in f["groups"]) + f["bias"],
        "affine": lambda f: (f["x"] - f["mean"]) / f["sd"] * f["weight"] + f["bias"],
        "max": lambda f: max(part["value"] for part in f["window"]),
        "mean": lambda f: sum(part["value"] for part in f["window"]) / f["divisor"],
        "move": lambda f: f["x"],
        "softmax": lambda f: np.exp(f["x"]) / f["sum"],
        "logsoftmax": lambda f: f["x"] - np.log(f["sum"]),
    }
    _, tab, trace, units = case
    for k in range(len(trace)):
        for told in explained(tab, k, units[k]):
            if told["form"] != "gate":
                assert formulas[told["form"]](told) == pytest.approx(told["value"], abs=1e-5), told["layer"]
            elif told["kind"] == "ReLU":
                assert told["value"] == (told["x"] if told["open"] else 0)


def test_a_sum_has_the_products_of_the_ledger(case):
    _, tab, trace, units = case
    for k, (key, step) in enumerate(trace.items()):
        if step.kind not in ("Conv2d", "Linear"):
            continue
        for told in explained(tab, k, units[k]):
            ledger = mv.ledger(trace, key, *told["place"])
            parts = [group["products"] for group in told["groups"]]
            np.testing.assert_allclose(np.concatenate(parts), ledger.products.flatten(), atol=1e-5)
            assert told["total"] == pytest.approx(ledger.total, abs=1e-4)
            if step.kind == "Conv2d":
                assert [group["channel"] for group in told["groups"]] == list(ledger.inputs)
                assert (told["groups"][0]["h"], told["groups"][0]["w"]) == ledger.kernel.shape[1:]


def test_a_linear_layer_behind_maps_is_grouped_by_their_channels(networks, engine):
    tab = engine(networks["light"])
    shape = "(({groups}) => [groups.length, groups[5].h, groups[5].w, groups[5].at[0]])"
    assert tab.value(f"{shape}(explain(net, forward(net, new Float32Array(784)), 15, 3))") == [32, 7, 7, 5 * 49]


def test_a_value_sees_what_receptive_field_says(case):
    _, tab, trace, units = case
    for k, key in enumerate(trace.keys):
        boxes = tab.value("units.map((at) => fieldOf(net, now, k, at))", k=k, units=units[k])
        for at, here in zip(units[k], boxes, strict=True):
            place = place_of(at, trace.steps[k].result.shape[1:])
            place = place[1:] if len(place) == 3 else place
            if here is None:
                refused(lambda key=key, place=place: mv.receptive_field(trace, key, *place), "sees only the border")
                continue
            field = mv.receptive_field(trace, key, *place)
            assert here == {side: getattr(field, side) for side in ("top", "bottom", "left", "right")}, (key, at)


def test_the_winning_path_is_that_of_the_library(case):
    _, tab, trace, _ = case
    whole = 0
    for digit in range(10):
        here = tab.value("winningPath(net, now, digit)", digit=digit)
        path = mv.winning_path(trace, digit)
        assert len(here) == len(path)
        for step, stop, other in zip(range(len(trace) - 1, -2, -1), here, path, strict=True):
            assert stop["step"] == step
            assert stop["value"] == pytest.approx(other.value, abs=1e-4)
            assert stop["slope"] == pytest.approx(other.slope, rel=1e-3, abs=1e-6)
            shape = (trace.steps[step].result if step >= 0 else trace.input).shape[1:]
            if place_of(stop["at"], shape) != other.unit:  # of two that are equal but for rounding, either may lead on
                break
        else:
            whole += 1
    assert whole >= 5
