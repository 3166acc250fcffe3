"""The way a number went: winners of pools, gates, and every step of a path, each found again without the library."""

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.paths import Stop
from mnistviz.look.trace import Trace

SHIPPED = "deep, shipped"
DIGITS = range(4)


def record(model: nn.Module, x: Tensor) -> Trace:
    with mv.capture(model) as trace, torch.no_grad():
        model(x)
    return trace


@pytest.fixture(scope="module")
def real() -> dict[str, nn.Sequential]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: build().eval() for name, build in mv.models.MODELS.items()} | {SHIPPED: mv.load_model("deep")}


@pytest.fixture(scope="module")
def traces(real: dict[str, nn.Sequential], mnist: DigitSet) -> dict[tuple[str, int], Trace]:
    return {(name, i): record(model, mnist.test[i].pixels) for name, model in real.items() for i in DIGITS}


every_model = pytest.mark.parametrize("name", [*mv.models.MODELS, SHIPPED])


# ——— winners of max-pools ———


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


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def pools(draw: st.DrawFn) -> tuple[nn.MaxPool2d, Tensor]:
    """Any max-pool, and small whole numbers, so that there are ties; half the time all of them negative."""
    kernel, dilation = draw(pairs(1, 4)), draw(pairs(1, 2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    pool = nn.MaxPool2d(kernel, draw(pairs(1, 4)), padding, dilation, ceil_mode=draw(st.booleans()))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *draw(pairs(1, 9)))
    # smaller maps do not hold a window, or a dilated one jumps over them and has no winner
    assume(all(n > (k - 1) * d - p for n, k, d, p in zip(shape[2:], kernel, dilation, padding, strict=True)))
    dice = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    x = torch.randint(-3, 3, shape, generator=dice).float()
    return pool, x - 4 if draw(st.booleans()) else x


def laid_out(x: Tensor) -> Iterator[Tensor]:
    """The same numbers in other orders of memory."""
    yield x
    yield x.to(memory_format=torch.channels_last)
    yield x.transpose(2, 3).contiguous().transpose(2, 3)
    yield torch.stack([x, x + 1], dim=-1)[..., 0]


@settings(max_examples=150, deadline=None)
@given(drawn=pools())
def test_winners_are_those_of_torch_and_of_a_loop_by_hand(drawn: tuple[nn.MaxPool2d, Tensor]) -> None:
    pool, x = drawn
    settings_of = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    reference = nn.MaxPool2d(*settings_of, ceil_mode=pool.ceil_mode, return_indices=True)
    out, at = reference(x.contiguous())
    for given_x in laid_out(x):
        trace = record(nn.Sequential(pool), given_x)
        winners = mv.paths.pool_winners(trace, "0")
        assert torch.equal(winners.y * x.shape[3] + winners.x, at)
        assert winners.y.shape == winners.x.shape == trace["0"].output.shape
        for n, c, i, j in product(*map(range, out.shape)):
            place = int(winners.y[n, c, i, j]), int(winners.x[n, c, i, j])
            assert place == winner_by_hand(pool, x, n, c, i, j)
            assert x[(n, c, *place)] == trace["0"].output[n, c, i, j]


def test_of_equals_the_first_wins_even_where_all_are_dark() -> None:
    trace = record(nn.MaxPool2d(2), torch.zeros(1, 1, 4, 4))
    winners = mv.paths.pool_winners(trace, "")
    assert winners.y.tolist() == [[[[0, 0], [2, 2]]]]
    assert winners.x.tolist() == [[[[0, 2], [0, 2]]]]


def test_a_border_never_wins_over_a_negative_pixel() -> None:
    winners = mv.paths.pool_winners(record(nn.MaxPool2d(3, padding=1), torch.full((1, 1, 3, 3), -5.0)), "")
    assert (int(winners.y), int(winners.x)) == (0, 0)


def test_a_value_that_is_not_a_number_wins() -> None:
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 1, 0] = torch.nan
    trace = record(nn.MaxPool2d(2), x)
    winners = mv.paths.pool_winners(trace, "")
    assert trace[""].output.isnan().all()
    assert (int(winners.y), int(winners.x)) == (1, 0)


@every_model
def test_the_winners_of_every_pool_hold_its_output(name: str, traces: dict[tuple[str, int], Trace]) -> None:
    trace = traces[name, 0]
    pools = [step for step in trace if step.kind == "MaxPool2d"]
    assert len(pools) >= 2
    for step in pools:
        winners = mv.paths.pool_winners(trace, step.name)
        channels = torch.arange(step.input.shape[1]).view(-1, 1, 1)
        assert torch.equal(step.input[0, channels, winners.y[0], winners.x[0]], step.output[0])
        rows = torch.arange(step.output.shape[2]).view(-1, 1)
        assert torch.equal(winners.y[0] // 2, rows.expand_as(winners.y[0]))  # all these pools are 2×2


def test_a_batch_has_winners_for_each_digit(real: dict[str, nn.Sequential], few: mv.Digits) -> None:
    together = mv.paths.pool_winners(record(real["compact"], few.pixels[:3]), "pool2")
    for i in range(3):
        alone = mv.paths.pool_winners(record(real["compact"], few[i].pixels), "pool2")
        assert torch.equal(together.y[i], alone.y[0])
        assert torch.equal(together.x[i], alone.x[0])


@pytest.mark.parametrize("layer", ["conv1", "relu1", "flatten", "fc2"])
def test_only_max_pools_have_winners(layer: str, traces: dict[tuple[str, int], Trace]) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s)'{layer}' is a .* and has no winners.*allowed: pool1, pool2$"):
        mv.paths.pool_winners(traces["simple", 0], layer)


def test_an_average_has_no_winner() -> None:
    trace = record(nn.Sequential(nn.AvgPool2d(2)), torch.rand(1, 1, 4, 4))
    with pytest.raises(mv.MnistvizError, match=r"(?s)is a AvgPool2d and has no winners.*no layer .* is a MaxPool2d"):
        mv.paths.pool_winners(trace, "0")


# ——— gates of ReLUs ———


@every_model
def test_a_gate_is_open_where_the_input_was_positive(name: str, traces: dict[tuple[str, int], Trace]) -> None:
    trace, open_and_shut = traces[name, 0], set()
    for step in trace:
        if step.kind == "ReLU":
            gate, before = mv.paths.relu_gates(trace, step.name), trace.steps[trace.index(step.name) - 1].output
            assert gate.dtype == torch.bool
            assert torch.equal(gate, before > 0)
            assert torch.equal(step.output, torch.where(gate, before, 0))
            open_and_shut |= set(gate.flatten().tolist())
    assert open_and_shut == {True, False}


def test_a_gate_at_zero_is_shut_and_in_place_makes_no_difference() -> None:
    x = torch.tensor([[-1.0, -0.0, 0.0, 1e-30, 2.0]])
    for inplace in (False, True):
        gates = mv.paths.relu_gates(record(nn.Sequential(nn.ReLU(inplace=inplace)), x.clone()), "0")
        assert gates.tolist() == [[False, False, False, True, True]]


@pytest.mark.parametrize("layer", ["conv1", "pool1", "normalise", "fc2"])
def test_only_relus_have_gates(layer: str, traces: dict[tuple[str, int], Trace]) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s)'{layer}' is a .* and has no gates.*: relu1, relu2, relu3$"):
        mv.paths.relu_gates(traces["simple", 0], layer)


def test_a_trace_without_relus_says_so() -> None:
    with pytest.raises(mv.MnistvizError, match="no layer of this trace is a ReLU"):
        mv.paths.relu_gates(record(nn.Sequential(nn.Tanh()), torch.ones(1, 2)), "0")


# ——— the winning path ———


def patch_of(layer: nn.Module, shape: tuple[int, ...], unit: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All units of the map or row before that this unit has a weight for; the border is none of them."""
    if isinstance(layer, nn.Linear):
        return [(i,) for i in range(shape[0])]
    channels = shape[0] // layer.groups
    first = unit[0] // (layer.out_channels // layer.groups) * channels
    found = []
    for c, i, j in product(range(channels), *map(range, layer.kernel_size)):
        y = unit[1] * layer.stride[0] - layer.padding[0] + i * layer.dilation[0]
        x = unit[2] * layer.stride[1] - layer.padding[1] + j * layer.dilation[1]
        if 0 <= y < shape[1] and 0 <= x < shape[2]:
            found.append((first + c, y, x))
    return found


def check_path(model: nn.Sequential, x: Tensor, path: list[Stop], answer: int, rank: int = 0) -> None:
    """Each step with nothing but the layer itself: its derivative by autograd, its choice by trying all."""
    inputs, layers = [], list(model.named_children())
    with torch.no_grad():
        for _, layer in layers:
            inputs.append(x)
            x = layer(x)
    assert [stop.layer for stop in path] == [name for name, _ in reversed(layers)] + [""]
    assert (path[0].unit, path[0].slope) == ((answer,), 1.0)
    assert path[0].value == pytest.approx(float(x[0, answer]), rel=1e-6)
    weighted = 0
    for (above, below), (_, layer), before in zip(pairwise(path), layers[::-1], inputs[::-1], strict=True):
        before = before.clone().requires_grad_()
        out = layer(before)[(0, *above.unit)]
        slopes = torch.autograd.grad(out, before)[0][0]
        values = before.detach()[0]
        assert out.item() == pytest.approx(above.value, rel=1e-5, abs=1e-6)
        assert float(values[below.unit]) == pytest.approx(below.value, rel=1e-5, abs=1e-6)
        if isinstance(layer, nn.LogSoftmax):  # all log-probabilities sink by the same; the score itself has slope 1
            assert (below.unit, below.slope) == (above.unit, above.slope)
            continue
        # ReLU, norm, scale, dropout, pool, flatten, weights alike: slopes multiply
        assert below.slope == pytest.approx(above.slope * float(slopes[below.unit]), rel=1e-4, abs=1e-12)
        assert below.push == pytest.approx(below.value * below.slope)
        pushes = (values.double() * slopes.double() * above.slope).numpy()
        match layer:
            case nn.Linear() | nn.Conv2d():
                allowed = patch_of(layer, values.shape, above.unit)
                assert below.unit in allowed
                ranked = sorted((pushes[unit] for unit in allowed), reverse=True)
                wanted = ranked[rank if weighted == 0 else 0]
                assert pushes[below.unit] == pytest.approx(wanted, rel=1e-5, abs=1e-9)
                weighted += 1
            case nn.MaxPool2d():
                pool = nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding, return_indices=True)
                at = int(pool(values[None])[1][(0, *above.unit)])
                assert below.unit == (above.unit[0], *map(int, np.unravel_index(at, values.shape[1:])))
                assert below.value == pytest.approx(above.value, rel=1e-6)
            case nn.AdaptiveAvgPool2d():
                assert below.unit[0] == above.unit[0]
                assert slopes[below.unit] > 0
                assert pushes[below.unit] == pytest.approx(pushes[slopes.numpy() > 0].max())
            case nn.Flatten():
                assert below.unit == tuple(map(int, np.unravel_index(above.unit[0], values.shape)))
                assert below.value == pytest.approx(above.value, rel=1e-6)
            case _:
                assert below.unit == above.unit


@every_model
@pytest.mark.parametrize("digit", DIGITS)
def test_every_step_of_a_path_is_right(
    name: str, digit: int, real: dict[str, nn.Sequential], mnist: DigitSet, traces: dict[tuple[str, int], Trace]
) -> None:
    trace, pixels = traces[name, digit], mnist.test[digit].pixels
    own = int(real[name](pixels).argmax())
    check_path(real[name], pixels, mv.winning_path(trace), own)
    for answer in (0, 7, 9):
        check_path(real[name], pixels, mv.winning_path(trace, answer), answer)


@every_model
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_other_ranks_begin_with_the_next_largest_products(
    name: str, rank: int, real: dict[str, nn.Sequential], mnist: DigitSet, traces: dict[tuple[str, int], Trace]
) -> None:
    check_path(real[name], mnist.test[1].pixels, mv.winning_path(traces[name, 1], 3, rank=rank), 3, rank)


@every_model
def test_the_values_of_a_path_are_the_recorded_ones(name: str, traces: dict[tuple[str, int], Trace]) -> None:
    for digit in DIGITS:
        trace = traces[name, digit]
        *stops, pixel = mv.winning_path(trace)
        assert [stop.layer for stop in stops] == trace.keys[::-1]
        for stop in stops:
            assert stop.value == float(trace[stop.layer].output[(0, *stop.unit)])
        assert (pixel.layer, len(pixel.unit)) == ("", 3)
        assert pixel.value == float(trace.input[(0, *pixel.unit)])


def test_a_path_worked_out_on_paper() -> None:
    """Two pixels and a weight each: 3·2 = 6 leads, 4·1 = 4 follows, and the closed gate pushes nothing."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[2.0, 1.0], [-1.0, -1.0]]))
        model[3].weight.copy_(torch.tensor([[0.5, 8.0], [-0.5, 8.0]]))
        for layer in (model[1], model[3]):
            layer.bias.zero_()
    trace = record(model, torch.tensor([[[[3.0, 4.0]]]]))
    assert [(s.layer, s.unit, s.value, s.slope) for s in mv.winning_path(trace)] == [
        ("3", (0,), 5.0, 1.0), ("2", (0,), 10.0, 0.5), ("1", (0,), 10.0, 0.5), ("0", (0,), 3.0, 1.0),
        ("", (0, 0, 0), 3.0, 1.0),
    ]  # fmt: skip
    shut = mv.winning_path(trace, 0, rank=1)
    assert [(s.unit, s.value, s.slope) for s in shut[1:3]] == [((1,), 0.0, 8.0), ((1,), -7.0, 0.0)]
    assert {s.push for s in shut[2:]} == {0.0}


def small(seed: int, *layers: nn.Module) -> nn.Sequential:
    """Fresh weights from a seed, and 10 scores by averaging 10 maps."""
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=dice, dtype=torch.float64))
    return model


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "settings_of",
    [
        {"padding": 1},
        {"padding": 2, "stride": 2},
        {"padding": (0, 3), "dilation": (1, 2)},
        {"padding": 1, "groups": 2, "stride": (2, 1)},
    ],
)
def test_a_path_through_any_convolution_stays_on_the_picture(settings_of: dict[str, object], seed: int) -> None:
    """Even where every real product is negative, and a zero of the border would be more."""
    model = small(seed, nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 10, 3, **settings_of))
    x = torch.rand(1, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    trace = record(model, x)
    for answer in range(10):
        check_path(model, x, mv.winning_path(trace, answer), answer)


def test_a_path_through_norms_without_weights_and_identities() -> None:
    model = small(1, nn.Conv2d(1, 10, 3), nn.BatchNorm2d(10, affine=False, eps=0.1), nn.Identity(), nn.Dropout2d())
    model[1].running_mean.fill_(0.3)
    model[1].running_var.fill_(4.0)
    x = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    trace = record(model, x)
    for answer in range(10):
        check_path(model, x, mv.winning_path(trace, answer), answer)


def test_a_layer_used_twice_is_on_the_path_twice() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 3), relu, nn.Linear(3, 3), relu, nn.Linear(3, 2))
    path = mv.winning_path(record(model, torch.rand(1, 3)))
    assert [stop.layer for stop in path] == ["4", "1:1", "2", "1:0", "0", ""]


# ——— paths that do not exist ———


@pytest.mark.parametrize("rank", [128, -1])
def test_a_rank_out_of_range_is_told(rank: int, traces: dict[tuple[str, int], Trace]) -> None:
    assert len(mv.winning_path(traces["simple", 0], 7, rank=127)) == 12
    with pytest.raises(mv.MnistvizError, match=rf"(?s)no path of this rank.*given:   {rank}.*0 to 127"):
        mv.winning_path(traces["simple", 0], 7, rank=rank)


def test_ranks_end_with_the_products_that_are_on_the_picture() -> None:
    """At a corner the kernel has nine weights and meets four pixels."""
    model = small(0, nn.Conv2d(1, 10, 3, padding=1))
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    corners = 0
    for answer in range(10):
        trace = record(model, x)
        unit = mv.winning_path(trace, answer)[2].unit
        inside = len(patch_of(model[0], (1, 4, 4), unit))
        corners += inside < 9
        pixels = [mv.winning_path(trace, answer, rank)[-1].unit for rank in range(inside)]
        assert sorted(pixels) == patch_of(model[0], (1, 4, 4), unit)
        if inside < 9:
            with pytest.raises(mv.MnistvizError, match=f"(?s)no path of this rank.*0 to {inside - 1}"):
                mv.winning_path(trace, answer, rank=inside)
    assert corners


def test_a_path_that_ends_on_a_border_has_no_pixel() -> None:
    """The largest value of a map of negative numbers is the zero that padding adds; no pixel made it."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, padding=2, bias=False), nn.MaxPool2d(8), nn.Flatten())
    nn.init.constant_(model[0].weight, -1.0)
    with pytest.raises(mv.MnistvizError, match=r"path|border"):
        mv.winning_path(record(model, torch.rand(1, 1, 4, 4)), 0)


@pytest.mark.parametrize("answer", [10, -1])
def test_an_answer_out_of_range_is_told(answer: int, traces: dict[tuple[str, int], Trace]) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)no such unit in 'fc2'.*0 to 9"):
        mv.winning_path(traces["simple", 0], answer)


def test_a_batch_is_not_one_digit(real: dict[str, nn.Sequential], few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)one digit.*2 inputs of 1×28×28"):
        mv.winning_path(record(real["compact"], few.pixels[:2]))


def test_a_model_that_does_not_end_in_scores_is_told(real: dict[str, nn.Sequential], mnist: DigitSet) -> None:
    trace = record(real["simple"][:5], mnist.test[0].pixels)
    with pytest.raises(mv.MnistvizError, match=r"(?s)does not end in a row of scores.*64×11×11"):
        mv.winning_path(trace)


class Functional(nn.Module):
    """Something is computed between two layers, where no hook can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x).relu())


def test_a_functional_part_on_the_way_back_is_told() -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)way back ends at 'fc2'.*as modules"):
        mv.winning_path(record(Functional(), torch.rand(1, 4)))


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.GELU(), nn.AvgPool2d(2), nn.LayerNorm(4)])
def test_a_layer_no_path_is_known_through_is_named_as_the_reason(layer: nn.Module) -> None:
    """Its input is recorded well enough; to say otherwise would send the reader the wrong way."""
    trace = record(nn.Sequential(nn.Conv2d(1, 1, 1), layer, nn.Flatten(), nn.LazyLinear(2)), torch.rand(1, 1, 4, 4))
    with pytest.raises(mv.MnistvizError, match=type(layer).__name__) as caught:
        mv.winning_path(trace)
    assert "not the output of a recorded layer" not in str(caught.value)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(10), nn.BatchNorm2d(10, track_running_stats=False), nn.Dropout2d(), nn.Dropout()]
)
def test_a_layer_in_training_has_no_slope_of_its_own(layer: nn.Module) -> None:
    """A norm by the batch's own statistics, or dice: not the slope that the layer has in evaluation."""
    model = small(0, nn.Conv2d(1, 10, 3), layer).train()
    with mv.capture(model, as_is=True) as trace, torch.no_grad():
        model(torch.rand(1, 1, 5, 5, dtype=torch.float64))
    with pytest.raises(mv.MnistvizError, match=type(layer).__name__):
        mv.winning_path(trace)


def test_a_norm_that_keeps_no_statistics_is_told() -> None:
    model = small(0, nn.Conv2d(1, 10, 3), nn.BatchNorm2d(10, track_running_stats=False))
    with pytest.raises(mv.MnistvizError, match="BatchNorm2d"):
        mv.winning_path(record(model, torch.rand(1, 1, 5, 5, dtype=torch.float64)))


# ——— flow: what one channel gives another ———


def flow_by_hand(model: nn.Sequential, name: str, x: Tensor) -> Tensor:
    """Every product of weight and value, one at a time, added to its pair of channels."""
    with torch.no_grad():
        for key, layer in model.named_children():
            if key == name:
                break
            x = layer(x)
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.Linear):
        rows = [[float(w) * float(v) for w, v in zip(row, x[0], strict=True)] for row in weight]
        return torch.tensor(rows, dtype=torch.float64)
    (kh, kw), (sy, sx), (dy, dx) = layer.kernel_size, layer.stride, layer.dilation
    around = [((k - 1) * d, layer.padding) for k, d in zip((kh, kw), (dy, dx), strict=True)]
    sides = [
        (e // 2, e - e // 2) if p == "same" else (0, 0) if p == "valid" else (p[i], p[i])
        for i, (e, p) in enumerate(around)
    ]
    mode = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[layer.padding_mode]
    seen = np.pad(x[0].double().numpy(), [(0, 0), *sides], mode=mode)
    per = weight.shape[1]
    total = torch.zeros(len(weight), x.shape[1], dtype=torch.float64)
    rows, columns = ((seen.shape[1] - (kh - 1) * dy - 1) // sy + 1, (seen.shape[2] - (kw - 1) * dx - 1) // sx + 1)
    for o, c, i, j, y, z in product(*map(range, (len(weight), per, kh, kw, rows, columns))):
        source = o // (len(weight) // layer.groups) * per + c
        total[o, source] += weight[o, c, i, j] * seen[source, y * sy + i * dy, z * sx + j * dx]
    return total


def check_flow(model: nn.Sequential, name: str, x: Tensor) -> None:
    trace = record(model, x)
    found, step = mv.flow(trace, name), trace[name]
    torch.testing.assert_close(found, flow_by_hand(model, name, x), rtol=1e-5, atol=1e-6)
    count = step.output[0, 0].numel()
    bias = 0 if step.bias is None else step.bias.double() * count
    out = step.output[0].double().flatten(1).sum(1) if step.output.ndim == 4 else step.output[0].double()
    torch.testing.assert_close(found.sum(1) + bias, out, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_flow_through_any_convolution_is_the_sum_of_its_products(data: st.DataObject) -> None:
    kernel, stride, dilation, groups = (
        data.draw(pairs(1, 3)),
        data.draw(pairs(1, 3)),
        data.draw(pairs(1, 2)),
        data.draw(st.sampled_from([1, 2])),
    )
    mode = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = data.draw(st.one_of(st.just("valid"), st.just("same"), pairs(0, 2)))
    stride = (1, 1) if padding == "same" else stride
    conv = nn.Conv2d(
        groups, 2 * groups, kernel, stride, padding, dilation, groups, data.draw(st.booleans()), padding_mode=mode
    )
    size = data.draw(pairs(5, 6))
    dice = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=dice))
    check_flow(nn.Sequential(conv), "0", torch.randn(1, groups, *size, generator=dice))


def test_flow_through_a_linear_layer_is_its_products() -> None:
    check_flow(nn.Sequential(nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)), "0", torch.randn(1, 7))
    check_flow(nn.Sequential(nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)), "2", torch.randn(1, 7))


@every_model
def test_the_flows_of_every_layer_add_up_to_its_output(name: str, traces: dict[str, Trace]) -> None:
    trace = traces[name, 0]
    for step in trace:
        if step.kind in ("Conv2d", "Linear"):
            found = mv.flow(trace, step.name)
            assert found.shape == (step.result.shape[1], step.input.shape[1])
            pixels = step.result[0, 0].numel()
            total = step.result[0].double().reshape(len(found), -1).sum(1)
            torch.testing.assert_close(found.sum(1) + pixels * step.bias.double(), total, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("layer", ["relu1", "pool1", "flatten", "bn1", "drop1"])
def test_only_layers_that_mix_channels_have_flows(layer: str, traces: dict[tuple[str, int], Trace]) -> None:
    told = rf"(?s)'{layer}' is a .*no weights mix.*allowed: conv1, conv2, conv3, conv4, conv5; fc1, fc2$"
    with pytest.raises(mv.MnistvizError, match=told):
        mv.flow(traces["deep", 0], layer)


def test_a_flow_is_of_one_digit(real: dict[str, nn.Sequential], few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)one digit.*2 inputs"):
        mv.flow(record(real["compact"], few.pixels[:2]), "conv1")


def test_a_linear_layer_on_many_rows_has_no_flow() -> None:
    trace = record(nn.Sequential(nn.Linear(4, 3)), torch.rand(1, 3, 4))
    with pytest.raises(mv.MnistvizError, match="more than one row"):
        mv.flow(trace, "0")
