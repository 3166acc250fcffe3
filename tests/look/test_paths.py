"""The way a number went: winners of pools, gates, and every step of a path, each found again without the library."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from helpers import refusals, refused
from hypothesis import given, settings
from torch import Tensor, nn
from zoo import convolutions, flow_by_hand, images, layer_by_layer, layers, make, noise, record, seeded

import mnistviz as mv
from mnistviz.look.paths import Stop
from mnistviz.look.trace import Trace


def winner_by_hand(pool: nn.MaxPool2d, x: Tensor, n: int, c: int, i: int, j: int) -> tuple[int, int]:
    """Row by row through the window, inside the map; only a larger value replaces the one that leads."""
    best: tuple[int, int] | None = None
    for a, b in product(range(pool.kernel_size[0]), range(pool.kernel_size[1])):
        y = i * pool.stride[0] - pool.padding[0] + a * pool.dilation[0]
        z = j * pool.stride[1] - pool.padding[1] + b * pool.dilation[1]
        inside = 0 <= y < x.shape[2] and 0 <= z < x.shape[3]
        if inside and (best is None or x[n, c, y, z] > x[(n, c, *best)]):
            best = y, z
    assert best is not None
    return best


@settings(max_examples=30, deadline=None)
@given(drawn=layers("max"))
def test_winners_are_those_of_a_loop_by_hand(drawn):
    """A border never wins, of equals the first does, for each digit of a batch, in any order of memory."""
    pool, x = drawn
    out = pool(x)
    expected = {at: winner_by_hand(pool, x, *at) for at in product(*map(range, out.shape))}
    assert all(x[(*at[:2], *place)] == out[at] for at, place in expected.items())
    for same in (x, x.to(memory_format=torch.channels_last), x.mT.contiguous().mT, torch.stack([x, x + 1], -1)[..., 0]):
        winners = mv.paths.pool_winners(record(nn.Sequential(pool), same), "0")
        assert {at: (int(winners.y[at]), int(winners.x[at])) for at in expected} == expected


def test_a_nan_wins_and_a_gate_at_zero_is_shut():
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 1, 0] = torch.nan
    winners = mv.paths.pool_winners(record(nn.MaxPool2d(2), x), "")
    assert (int(winners.y), int(winners.x)) == (1, 0)
    x = torch.tensor([[-1.0, -0.0, 0.0, 1e-30, 2.0]])
    for inplace in (False, True):
        gates = mv.paths.relu_gates(record(nn.Sequential(nn.ReLU(inplace=inplace)), x.clone()), "0")
        assert gates.tolist() == [[False, False, False, True, True]]


def slopes_of(layer: nn.Module, before: Tensor, unit: tuple[int, ...]) -> tuple[float, Tensor]:
    """The value of a unit, and its derivative by each number of the one digit that comes in."""
    before = before.clone().requires_grad_()
    out = layer(before)[(0, *unit)]
    return out.item(), torch.autograd.grad(out, before)[0][0]


def patch_of(slopes: Tensor) -> list[tuple[int, ...]]:
    """All units that a unit has a weight for; the border is none of them."""
    return [tuple(place) for place in slopes.nonzero().tolist()]


def check_path(model: nn.Sequential, x: Tensor, path: list[Stop], answer: int, rank: int = 0) -> None:
    """Each step with nothing but the layer itself: its derivative by autograd, its choice by trying all."""
    layers, values_by_layer = list(model.named_children()), [x, *layer_by_layer(model, x).values()]
    assert [stop.layer for stop in path] == [name for name, _ in reversed(layers)] + [""]
    assert (path[0].unit, path[0].slope) == ((answer,), 1.0)
    assert path[0].value == pytest.approx(float(values_by_layer.pop()[0, answer]), rel=1e-6)
    weighted = 0
    for (above, below), (_, layer), before in zip(pairwise(path), layers[::-1], values_by_layer[::-1], strict=True):
        (out, slopes), values = slopes_of(layer, before, above.unit), before[0]
        assert out == pytest.approx(above.value, rel=1e-5, abs=1e-6)
        assert float(values[below.unit]) == pytest.approx(below.value, rel=1e-5, abs=1e-6)
        if isinstance(layer, nn.LogSoftmax):  # all log-probabilities sink by the same; the score itself has slope 1
            assert (below.unit, below.slope) == (above.unit, above.slope)
            continue
        # ReLU, norm, scale, dropout, pool, flatten, weights alike: slopes multiply
        assert below.slope == pytest.approx(above.slope * float(slopes[below.unit]), rel=1e-4, abs=1e-12)
        pushes = (values.double() * slopes.double() * above.slope).numpy()
        match layer:
            case nn.Linear() | nn.Conv2d():
                patch = patch_of(slopes)
                assert below.unit in patch
                ranked = sorted((pushes[unit] for unit in patch), reverse=True)
                wanted = ranked[rank if weighted == 0 else 0]
                assert pushes[below.unit] == pytest.approx(wanted, rel=1e-5, abs=1e-9)
                weighted += 1
            case nn.MaxPool2d():
                pool = nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding, return_indices=True)
                at = int(pool(values[None])[1][(0, *above.unit)])
                assert below.unit == (above.unit[0], *map(int, np.unravel_index(at, values.shape[1:])))
            case nn.AdaptiveAvgPool2d():
                assert below.unit[0] == above.unit[0]
                assert slopes[below.unit] > 0
                assert pushes[below.unit] == pytest.approx(pushes[slopes.numpy() > 0].max())
            case nn.Flatten():
                assert below.unit == tuple(map(int, np.unravel_index(above.unit[0], values.shape)))
            case _:
                assert below.unit == above.unit


@pytest.mark.parametrize("name", ["simple", "light", "deep", "compact", "pooled"])
def test_every_step_of_a_path_is_right_and_its_values_are_the_recorded_ones(name, reference, mnist):
    model = reference[name]
    pixels = mnist.test[1].pixels
    trace = record(model, pixels)
    *stops, pixel = path = mv.winning_path(trace)
    check_path(model, pixels, path, int(model(pixels).argmax()))
    check_path(model, pixels, mv.winning_path(trace, 9), 9)
    for rank in (1, 5):
        check_path(model, pixels, mv.winning_path(trace, 3, rank=rank), 3, rank)
    assert all(stop.value == float(trace[stop.layer].output[(0, *stop.unit)]) for stop in stops)
    assert (pixel.layer, pixel.value) == ("", float(trace.input[(0, *pixel.unit)]))


def small(seed: int, *layers: nn.Module) -> nn.Sequential:
    """Fresh weights from a seed, and 10 scores by averaging 10 maps."""
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    with seeded(seed), torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    return model


NORM = nn.BatchNorm2d(10, affine=False, eps=0.1)
NORM.running_mean.fill_(0.3)
NORM.running_var.fill_(4.0)
UNUSUAL = {
    "border": (nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 10, 3, padding=2, stride=2)),
    "dilated": (nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 10, 3, padding=(0, 3), dilation=(1, 2))),
    "grouped": (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 3, padding=1, groups=2, stride=(2, 1))),
    "norm without weights": (nn.Conv2d(2, 10, 3), NORM, nn.Identity(), nn.Dropout2d()),
}


@pytest.mark.parametrize("layers", UNUSUAL.values(), ids=UNUSUAL)
def test_a_path_through_unusual_layers_stays_on_the_picture(layers):
    """Even where every real product is negative, and a zero of the border would be more."""
    for seed in range(2):
        model, x = small(seed, *layers), torch.rand(1, 2, 5, 6, dtype=torch.float64)
        trace = record(model, x)
        for answer in range(10):
            check_path(model, x, mv.winning_path(trace, answer), answer)


def test_ranks_end_with_the_products_that_are_on_the_picture():
    """At a corner the kernel has nine weights and meets four pixels."""
    model, x = small(0, nn.Conv2d(1, 10, 3, padding=1)), torch.rand(1, 1, 4, 4, dtype=torch.float64)
    trace, counts = record(model, x), set()
    for answer in range(10):
        patch = patch_of(slopes_of(model[0], x, mv.winning_path(trace, answer)[2].unit)[1])
        pixels = [mv.winning_path(trace, answer, rank)[-1].unit for rank in range(len(patch))]
        assert sorted(pixels) == patch
        last = len(patch) - 1
        refused(lambda: mv.winning_path(trace, answer, last + 1), "no path of this rank", f"0 to {last}")  # noqa: B023
        counts.add(len(patch))
    assert min(counts) < 9


def check_flow(layer: nn.Module, x: Tensor) -> None:
    """The sums of its products. A row, with the bias once for each pixel, adds up to the sum of its output map.

    Of the way back a column adds up to what came back to that map of the input.
    """
    with mv.capture(layer, gradients=True) as trace:
        out = layer(x)
    mv.backward(trace, out.square().sum())
    flow, back, step = mv.flow(trace, ""), mv.flow(trace, "", back=True), trace[""]
    bias = 0 if step.bias is None else step.bias * step.result[0, 0].numel()
    np.testing.assert_allclose(flow, flow_by_hand(layer, x), atol=1e-9)
    np.testing.assert_allclose(flow.sum(1) + bias, step.result[0].reshape(len(flow), -1).sum(1), atol=1e-9)
    np.testing.assert_allclose(back, flow_by_hand(layer, torch.ones_like(x), step.delta), atol=1e-9)
    np.testing.assert_allclose(back.sum(0), trace.delta[0].reshape(flow.shape[1], -1).sum(1), atol=1e-9)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=40, deadline=None)
@given(drawn=convolutions())
def test_flow_through_any_convolution_and_back_is_the_sum_of_its_products(drawn):
    check_flow(*drawn)


@pytest.mark.parametrize("bias", [False, True])
def test_flow_through_a_linear_layer_and_back_is_its_products(bias):
    check_flow(nn.Linear(7, 4, bias).double(), noise(1, 7))


def simple(n: int = 1) -> Trace:
    return record(mv.models.simple(), torch.rand(n, 1, 28, 28))


def through(layer: nn.Module, train: bool = False) -> object:
    """From 10 scores, averages of 10 maps, through this layer."""
    model = small(0, nn.Conv2d(1, 10, 3), layer).train(train)
    return mv.winning_path(record(model, torch.rand(1, 1, 5, 5, dtype=torch.float64), as_is=True))


def onto_the_border() -> object:
    """The largest value of a map of negative numbers is the zero that padding adds; no pixel made it."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, padding=2, bias=False), nn.MaxPool2d(8), nn.Flatten())
    nn.init.constant_(model[0].weight, -1.0)
    return mv.winning_path(record(model, torch.rand(1, 1, 4, 4)), 0)


def of(name: str) -> Trace:
    return record(make(name).model, images(1))


def alone(layer: nn.Module, *size: int) -> Trace:
    return record(nn.Sequential(layer), torch.rand(1, *size))


POOLS, GATES, MIXES = "allowed: pool1, pool2", "allowed: relu1, relu2, relu3", "conv1, conv2"
FORGETFUL = nn.BatchNorm2d(10, track_running_stats=False)
BAD = {
    "winners of a convolution": (lambda: mv.paths.pool_winners(simple(), "conv1"), "'conv1' is a Conv2d", POOLS),
    "of an average": (lambda: mv.paths.pool_winners(alone(nn.AvgPool2d(2), 1, 4, 4), "0"), "no winners", "no layer of"),
    "gates of a pool": (lambda: mv.paths.relu_gates(simple(), "pool1"), "'pool1' is a MaxPool2d", "no gates", GATES),
    "a rank too many": (lambda: mv.winning_path(simple(), 7, rank=128), "no path of this rank", "128", "0 to 127"),
    "an answer too many": (lambda: mv.winning_path(simple(), 10), "no such unit in 'fc2'", "0 to 9"),
    "a path of a batch": (lambda: mv.winning_path(simple(2)), "one digit", "2 inputs of 1×28×28"),
    "maps in the end": (lambda: mv.winning_path(alone(nn.ReLU(), 2, 3, 3)), "end in a row of scores", "2×3×3"),
    "a function between": (lambda: mv.winning_path(of("residual")), "way back ends at 'fc'", "as modules"),
    "a path onto the border": (onto_the_border, "this unit sees only the border"),
    "through a GELU": (lambda: through(nn.GELU()), "no path is known through a GELU", "Conv2d"),
    "a norm in training": (lambda: through(nn.BatchNorm2d(10), train=True), "a BatchNorm2d in training", "as_is"),
    "a norm without statistics": (lambda: through(FORGETFUL), "a BatchNorm2d without running statistics"),
    "a scripted part": (lambda: mv.winning_path(of("scripted_part")), "no path is known through a ScriptModule"),
    "flow of a ReLU": (lambda: mv.flow(simple(), "relu1"), "'relu1' is a ReLU", "no weights mix", MIXES),
    "flow of a batch": (lambda: mv.flow(simple(2), "conv1"), "one digit", "2 inputs"),
    "flow back before it": (lambda: mv.flow(simple(), "fc1", back=True), "nobody has gone back", "labels=[7]"),
    "flow of many rows": (lambda: mv.flow(alone(nn.Linear(4, 3), 3, 4), "0"), "more than one row"),
}
test_what_has_no_path_is_told = refusals(BAD)


def test_a_path_goes_on_where_a_curve_is_flat():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 3))
    with torch.no_grad():
        model[1].weight.fill_(1e4)
    path = mv.winning_path(record(model, torch.ones(1, 1, 2, 2)), 1)
    assert [stop.layer for stop in path] == ["3", "2", "1", "0", ""]
    assert [stop.slope for stop in path[2:]] == [0, 0, 0]
