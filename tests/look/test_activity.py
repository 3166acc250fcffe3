"""Totals kept inside the hook equal those over all activations at once, and watching changes nothing."""

import copy
import math
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.history import Fit
from mnistviz.look.activity import Activity, Totals
from mnistviz.look.trace import Trace

Marks = tuple[dict[str, Any], dict[str, Tensor], Tensor]
COUNTS = ("inputs", "count", "nonzero", "nan", "silent_units", "units", "silent_channels", "channels")


def seeded(build: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


@pytest.fixture(scope="module")
def light() -> nn.Module:
    return seeded(mv.models.light)


@pytest.fixture
def deep() -> nn.Module:
    return seeded(mv.models.deep)


@torch.no_grad()
def by_hand(model: nn.Module, pixels: Tensor, batch: int) -> Iterator[tuple[str, np.ndarray]]:
    """Layer after layer, all that comes out of it, over all inputs at once."""
    parts = list(pixels.split(batch))
    for name, layer in model.named_children():
        parts = [layer(x) for x in parts]
        yield name, np.concatenate([x.numpy() for x in parts])


def watched(output: Tensor, bins: mv.activity.Bins | None = None) -> Totals:
    """The totals of a layer that puts out just this."""
    model = nn.Sequential(nn.Identity())
    with mv.watch(model, bins=bins) as activity:
        model(output)
    return activity["0"]


def assert_same(found: Totals, expected: Totals) -> None:
    """Counts to the last one; mean and deviation to a millionth of the values' size."""
    assert [getattr(found, name) for name in COUNTS] == [getattr(expected, name) for name in COUNTS]
    assert torch.equal(found.low, expected.low)
    assert torch.equal(found.high, expected.high)
    size = math.hypot(expected.mean, expected.sd)
    assert found.mean == pytest.approx(expected.mean, rel=1e-6, abs=1e-6 * size)
    assert found.sd == pytest.approx(expected.sd, rel=1e-6, abs=1e-6 * size)
    if expected.tally is not None:
        assert torch.equal(found.histogram, expected.histogram)


def assert_equals_numpy(found: Totals, values: np.ndarray) -> None:
    assert found.inputs == len(values)
    assert found.count == found.numbers == values.size
    size = np.sqrt(np.square(values, dtype=np.float64).mean())
    assert found.mean == pytest.approx(values.mean(dtype=np.float64), abs=1e-6 * size)
    assert found.sd == pytest.approx(values.std(dtype=np.float64), rel=1e-6, abs=1e-6 * size)
    assert found.nonzero == np.count_nonzero(values)
    assert found.zeros == pytest.approx((values == 0).mean(), abs=1e-15)
    np.testing.assert_array_equal(found.low, values.min(0))
    np.testing.assert_array_equal(found.high, values.max(0))
    silent = (values == 0).all(0)
    assert (found.silent_units, found.units) == (silent.sum(), silent.size)
    dead = [c for c in range(values.shape[1]) if not np.count_nonzero(values[:, c])]
    assert (found.silent_channels, found.channels) == (dead, values.shape[1])


# ---------------------------------------------------------------- against numpy


@pytest.mark.parametrize("name", ["deep", "light"])
def test_every_layer_has_the_totals_that_numpy_finds(name: str, few: mv.Digits) -> None:
    model, digits, bins = seeded(mv.models.MODELS[name]), few[:300], mv.activity.Bins(-1, 1, 16)
    with torch.no_grad():  # batch norms that have seen digits, and channels that never rise
        model.train()(digits.pixels[:100])
        for layer in (layer for layer in model if isinstance(layer, nn.BatchNorm2d | nn.Conv2d)):
            layer.weight[::5] = 0
            layer.bias[::5] = -0.25
    with mv.watch(model.eval(), bins=bins) as activity:
        mv.predict(model, digits)
    assert list(activity) == activity.keys == [n for n, _ in model.named_children()]
    assert len(activity) == len(model)
    for layer, values in by_hand(model, digits.pixels, 128):
        assert activity[layer].kind == type(getattr(model, layer)).__name__
        assert_equals_numpy(activity[layer], values)
        below = activity[layer].histogram.cumsum(0)
        assert below[-1] == values.size
        for edge, count in zip(bins.edges.tolist(), below.tolist(), strict=False):  # give or take rounding
            assert (values < edge - 1e-6).sum() <= count <= (values < edge + 1e-6).sum()
    assert activity["relu1"].silent_channels
    assert activity["relu1"].zeros > 0.2


@pytest.mark.parametrize(
    ("layer", "low", "high"),
    [
        (nn.Sigmoid(), 0.01, 0.99),
        (nn.Tanh(), -0.98, 0.98),
        (nn.Hardtanh(), -1, 1),
        (nn.ReLU6(), -math.inf, 6),
        (nn.Hardsigmoid(), 0, 1),
        (nn.Softmax(dim=1), 0.01, 0.99),
    ],
    ids=lambda value: type(value).__name__,
)
def test_saturated_is_the_share_at_an_end_of_the_range(layer: nn.Module, low: float, high: float) -> None:
    x = torch.linspace(-9, 9, 4000).view(40, 100)
    model = nn.Sequential(layer)
    with mv.watch(model) as activity:
        values = model(x).numpy()
    share = ((values <= low) | (values >= high)).mean()
    assert 0.05 < share < 1
    assert activity["0"].saturated == pytest.approx(share, abs=1e-15)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Identity(), nn.LogSoftmax(dim=1)])
def test_a_range_without_ends_has_no_saturation(layer: nn.Module) -> None:
    model = nn.Sequential(layer)
    with mv.watch(model) as activity:
        model(torch.ones(2, 3))
    assert math.isnan(activity["0"].saturated)


@pytest.mark.parametrize(("mean", "sd"), [(0.7, 0), (3.3, 0), (100, 1), (-1000, 1)])
def test_values_far_from_zero_keep_their_deviation(mean: float, sd: float) -> None:
    x = torch.randn(64, 16, 28, 28, generator=torch.Generator().manual_seed(0)).mul_(sd).add_(mean)
    assert watched(x).sd == pytest.approx(float(x.double().std(correction=0)), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_summed_as_they_are(dtype: torch.dtype) -> None:
    x = torch.randn(30, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    model = nn.Sequential(nn.ReLU())
    with mv.watch(model, bins=mv.activity.Bins()) as activity:
        values = model(x).double().numpy()
    assert_equals_numpy(activity["0"], values)
    assert int(activity["0"].histogram.sum()) == values.size
    if dtype == torch.float64:
        assert activity["0"].mean == pytest.approx(values.mean(), rel=1e-13)
        assert activity["0"].sd == pytest.approx(values.std(), rel=1e-13)


def test_autocast_does_not_coarsen_the_totals() -> None:
    x = torch.randn(100, 3, 30, 30, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = watched(x)
    assert_equals_numpy(found, x.numpy())


LAYOUTS = {
    "in order": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every second": lambda x: x.repeat_interleave(2, 0)[::2],
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}
numbers = st.one_of(st.just(0.0), *(st.floats(a, b, width=32) for a, b in ((2**-20, 1e6), (-1e6, -(2**-20)))))
maps = hnp.arrays(np.float32, st.tuples(*(st.integers(1, n) for n in (6, 4, 3, 5))), elements=numbers)


@settings(deadline=None, max_examples=60)
@given(maps)
@example(np.full((2, 3, 4, 5), 0.7, np.float32))
@example(np.ones((1, 1, 1, 1), np.float32))
def test_the_layout_in_memory_changes_nothing(values: np.ndarray) -> None:
    x = torch.from_numpy(values)
    for layout in LAYOUTS.values():
        found = watched(layout(x), mv.activity.Bins())
        assert found.silent.shape == found.low.shape == values.shape[1:]
        assert found.low.is_contiguous()
        assert_equals_numpy(found, values)
        assert_same(found, watched(x, mv.activity.Bins()))


@pytest.mark.parametrize("shape", [(50,), (20, 7), (6, 5, 4), (4, 3, 2, 5, 2)])
def test_outputs_of_any_rank(shape: tuple[int, ...]) -> None:
    """A number for each input, without a unit to its name, is a layer of one unit."""
    values = np.random.default_rng(0).integers(-2, 3, (*shape, 1)[: max(2, len(shape))]).astype(np.float32)
    values[:, -1] = 0
    found = watched(torch.from_numpy(values).reshape(shape))
    assert found.silent_channels == [values.shape[1] - 1]
    assert_equals_numpy(found, values.reshape(values.shape))
    assert f"of {math.prod(shape[1:])} units, 1 of {found.channels} channels" in repr(found)


# ---------------------------------------------------------------- batches and passes


def whole_numbers() -> nn.Sequential:
    """Small whole weights: every sum is exact, in whatever order it is made."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 12), nn.ReLU()
    )
    draw = np.random.default_rng(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(draw.integers(-2, 3, p.shape)))
        model[0].weight[2] = 0
        model[4].weight[5] = 0
        for layer, dead in ((model[0], 2), (model[4], 5)):
            layer.bias[dead] = -1
    return model


def small_pixels(digits: mv.Digits) -> Tensor:
    return (digits.images // 64).float().unsqueeze(1)


@torch.no_grad()
def in_batches(model: nn.Module, x: Tensor, batch: int, bins: mv.activity.Bins | None = None) -> Activity:
    with mv.watch(model, bins=bins) as activity:
        for part in x.split(batch):
            model(part)
    return activity


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_the_batch_size_changes_nothing(batch: int, few: mv.Digits) -> None:
    model, x, bins = whole_numbers(), small_pixels(few[:200]), mv.activity.Bins(-16, 16, 64)
    whole, parts = in_batches(model, x, 200, bins), in_batches(model, x, batch, bins)
    assert parts.keys == whole.keys
    for layer in whole:
        assert_same(parts[layer], whole[layer])


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_the_batch_size_changes_nothing_for_a_real_model(batch: int, light: nn.Module, few: mv.Digits) -> None:
    """Convolutions themselves round a little differently in batches of another size."""
    whole, parts = (in_batches(light, few[:200].pixels, size) for size in (200, batch))
    for layer in whole:
        found, expected = parts[layer], whole[layer]
        assert (found.count, found.inputs, found.units) == (expected.count, 200, expected.units)
        assert found.nonzero == pytest.approx(expected.nonzero, abs=1e-5 * expected.count)
        assert found.mean == pytest.approx(expected.mean, abs=1e-6 * math.hypot(expected.mean, expected.sd))
        assert found.sd == pytest.approx(expected.sd, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(maps, st.lists(st.integers(1, 5), max_size=4))
@example(np.full((3, 1, 1, 1), 12371, np.float32), [1])
def test_any_cut_into_batches_gives_the_same_totals(values: np.ndarray, cuts: list[int]) -> None:
    model, x, bins = nn.Sequential(nn.Identity()), torch.from_numpy(values), mv.activity.Bins(-4, 4, 8)
    with mv.watch(model, bins=bins) as activity:
        for part in x.tensor_split(sorted({c for c in cuts if c < len(x)})):
            model(part)
    assert_equals_numpy(activity["0"], values)
    assert_same(activity["0"], watched(x, bins))


def test_several_passes_and_predictions_add_up(light: nn.Module, few: mv.Digits) -> None:
    with mv.watch(light, ["relu1", "fc1"]) as activity:
        mv.predict(light, few[:150])
        light(few[150:151].pixels)
        mv.predict(light, few[151:200])
    assert activity.keys == ["relu1", "fc1"]
    for layer, values in by_hand(light, few[:200].pixels, 128):
        if layer in activity.keys:
            found = activity[layer]
            assert (found.inputs, found.count) == (200, values.size)
            assert found.mean == pytest.approx(values.mean(dtype=np.float64), rel=1e-5)
            np.testing.assert_allclose(found.high, values.max(0), atol=1e-5)


def test_two_watches_at_once_hear_the_same(light: nn.Module, few: mv.Digits) -> None:
    with mv.watch(light) as outer:
        mv.predict(light, few[:5])
        with mv.watch(light, "conv*", mv.activity.Bins()) as inner:
            mv.predict(light, few[:7])
    assert inner.keys == ["conv1", "conv2", "conv3", "conv4"]
    assert all(outer[layer].inputs == 12 and inner[layer].inputs == 7 for layer in inner)


def test_the_table_and_the_text_say_the_totals(light: nn.Module, few: mv.Digits) -> None:
    with mv.watch(light) as activity:
        assert "nothing ran yet" in repr(activity)
        mv.predict(light, few[:30])
    rows = activity.rows()
    assert [row["layer"] for row in rows] == activity.keys
    for row in rows:
        t = activity[row["layer"]]
        assert row["kind"] == t.kind
        assert (row["digits"], row["mean"], row["sd"], row["zeros"]) == (30, t.mean, t.sd, t.zeros)
        assert (row["silent units"], row["units"]) == (t.silent_units, t.units)
        assert (row["silent channels"], row["channels"]) == (len(t.silent_channels), t.channels)
        assert math.isnan(row["saturated"])
        assert f"silent {t.silent_units:,} of {t.units:,} units" in repr(activity)


# ---------------------------------------------------------------- histograms


@settings(deadline=None)
@given(
    values=hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32)),
    low=st.floats(-1e3, 1e3),
    width=st.floats(1e-3, 1e6),
    count=st.integers(1, 100),
)
@example(np.array([np.inf, -np.inf, 3e38, -3e38, 0], np.float32), -6.0, 12.0, 48)
@example(np.array([np.nan, np.nan], np.float32), -6.0, 12.0, 48)
def test_no_value_is_lost(values: np.ndarray, low: float, width: float, count: int) -> None:
    found = watched(torch.from_numpy(values)[:, None], mv.activity.Bins(low, low + width, count))
    assert found.nan == np.isnan(values).sum()
    assert found.histogram.shape == (count + 2,)
    assert int(found.histogram.sum()) == found.numbers == values.size - found.nan
    slack = 1e-5 * (abs(low) + width)
    for counted, far, near in (
        (found.histogram[0], values < low - slack, values < low + slack),
        (found.histogram[-1], values > low + width + slack, values > low + width - slack),
    ):
        assert far.sum() <= int(counted) <= near.sum()


@settings(deadline=None)
@given(
    sixteenths=hnp.arrays(np.int16, st.integers(1, 60), elements=st.integers(-400, 400)),
    low=st.integers(-20, 20),
    eighths=st.integers(1, 100),
    count=st.sampled_from([1, 2, 4, 8, 16]),
)
@example(np.array([-96, 95, 96], np.int16), -6, 96, 16)  # at the first edge, before the last, at the last
@example(np.array([0, 41, 82], np.int16), 0, 41, 2)  # at the edges 0, 2.5625 and 5.125
def test_dyadic_bins_count_as_numpy_does(sixteenths: np.ndarray, low: int, eighths: int, count: int) -> None:
    """All edges and values are exact in binary; numpy's last bin would hold the last edge too."""
    values, high = sixteenths.astype(np.float32) / 16, low + eighths / 8
    bins = mv.activity.Bins(low, high, count)
    inside = values[(values >= low) & (values < high)]
    expected = np.histogram(inside, bins=count, range=(low, high))
    found = watched(torch.from_numpy(values)[:, None], bins).histogram.tolist()
    np.testing.assert_array_equal(bins.edges, expected[1])
    assert found == [(values < low).sum(), *expected[0], (values >= high).sum()]


def test_the_default_bins_hold_quarters_from_their_lower_edge() -> None:
    values = torch.tensor([-7.0, -6.001, -6, -5.76, -5.75, 0, 0.2, 0.25, 5.99, 6, 100, math.inf, -math.inf])
    counts = dict(enumerate(watched(values[:, None], mv.activity.Bins()).histogram.tolist()))
    assert {at: n for at, n in counts.items() if n} == {0: 3, 1: 2, 2: 1, 25: 2, 26: 1, 48: 1, 49: 3}


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [
        (1, 1, 4),
        (2, 1, 4),
        (0, 1, 0),
        (0, 1, -3),
        (-math.inf, 1, 4),
        (0, math.inf, 4),
        (math.nan, 1, 4),
        (0, math.nan, 4),
    ],
)
def test_bad_bins_are_refused(low: float, high: float, count: int) -> None:
    with pytest.raises(mv.MnistvizError, match="no bins"):
        mv.activity.Bins(low, high, count)


def test_without_bins_there_is_no_histogram() -> None:
    with pytest.raises(mv.MnistvizError, match=r"no histogram was kept[\s\S]*mv.activity.Bins"):
        _ = watched(torch.ones(2, 3)).histogram


# ---------------------------------------------------------------- silence, at three scopes


def four_channels() -> nn.Sequential:
    """Channels: the picture itself, silent, always 1, only ink above one half. Then three units, the middle silent."""
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(1, 4, 3, padding=1))
    model.add_module("relu", nn.ReLU())
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(4 * 784, 3))
    model.add_module("relu2", nn.ReLU())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model.conv.weight[[0, 3], 0, 1, 1] = 1.0
        model.conv.bias.copy_(torch.tensor([0.0, -1.0, 1.0, -0.5]))
        model.fc.bias.copy_(torch.tensor([1.0, -1.0, 2.0]))
    return model.eval()


def expected_silence(digits: mv.Digits) -> np.ndarray:
    """From the pixels alone: (4, 28, 28)."""
    ink = digits.images.numpy().max(0)
    return np.stack([ink == 0, np.full((28, 28), True), np.full((28, 28), False), ink <= 127])


def assert_silence(activity: Activity, digits: mv.Digits) -> None:
    expected = expected_silence(digits)
    np.testing.assert_array_equal(activity["relu"].silent, expected)
    assert (activity["relu"].silent_units, activity["relu"].units) == (expected.sum(), 4 * 784)
    assert (activity["relu"].silent_channels, activity["relu"].channels) == ([1], 4)
    assert (activity["relu2"].silent_units, activity["relu2"].units) == (1, 3)
    assert (activity["relu2"].silent_channels, activity["relu2"].channels) == ([1], 3)
    assert activity["conv"].silent_channels == []
    assert activity["fc"].silent_channels == []
    for text in (f"silent {expected.sum():,} of 3,136 units, 1 of 4 channels", "silent 1 of 3 units, 1 of 3 channels"):
        assert text in repr(activity)


def test_silence_for_this_digit(few: mv.Digits) -> None:
    model = four_channels()
    for digit in few[:5]:
        with mv.capture(model) as trace:
            model(digit.pixels)
        assert_silence(mv.activity.summarise(trace), digit)


def test_silence_over_a_whole_set(few: mv.Digits) -> None:
    model = four_channels()
    with mv.watch(model) as activity:
        mv.predict(model, few)
    assert_silence(activity, few)
    assert expected_silence(few).sum() < expected_silence(few[:1]).sum()


def test_silence_since_an_epoch(few: mv.Digits) -> None:
    model, diary = four_channels(), mv.Diary(few[:20].pixels)
    state, biases = SimpleNamespace(model=model), model.conv.bias
    tale = [
        [0, -1, 1, -0.5],  # as it was
        [-9, -1, 1, -0.5],  # the picture goes silent
        [0, 1, 1, -0.5],  # it comes back, and so does the second channel
        [0, -1, -9, -0.5],  # the second dies again, and the third for the first time
        [0, -1, -9, -0.5],
    ]
    for values in tale:
        with torch.no_grad():
            biases.copy_(torch.tensor(values))
        diary.page(state)
    assert [page["relu"].silent_channels for page in diary.pages] == [[1], [0, 1], [], [1, 2], [1, 2]]
    paper, faint = (int(expected_silence(few[:20])[c].sum()) for c in (0, 3))
    always = paper + faint  # of the picture and of its ink above one half, where no digit has any
    assert diary.silent_since("relu") == [always, always, always, always + 2 * 784, always + 2 * 784]
    assert diary.silent_since("relu2") == [1, 1, 1, 1, 1]
    assert {page["relu"].units for page in diary.pages} == {4 * 784}


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), *(st.integers(1, 3) for _ in range(3)))))
def test_silent_since_counts_units_silent_from_then_on(silent: np.ndarray) -> None:
    diary, before = mv.Diary(torch.zeros(1, 1, 28, 28)), silent.copy()
    for page in silent:
        top = torch.from_numpy(~page).float()
        diary.pages.append(
            Activity(("relu",), None, {("relu", 0): Totals("ReLU", low=torch.zeros_like(top), high=top)})
        )
    found = diary.silent_since("relu")
    units = silent.reshape(len(silent), -1).T
    assert found == [sum(all(unit[k:]) for unit in units) for k in range(len(silent))]
    np.testing.assert_array_equal([page["relu"].silent.numpy() for page in diary.pages], before)


def test_a_negative_unit_is_not_silent() -> None:
    assert watched(torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 0.0]])).silent.tolist() == [True, False, True]


# ---------------------------------------------------------------- traces and what is unusual


def test_a_summary_of_a_trace_is_a_watch_over_one_pass(light: nn.Module, few: mv.Digits) -> None:
    bins = mv.activity.Bins(-2, 2, 8)
    with mv.watch(light, bins=bins) as activity, torch.no_grad(), mv.capture(light) as trace:
        light(few[:20].pixels)
    summary = mv.activity.summarise(trace, bins)
    assert summary.keys == activity.keys == trace.keys
    for layer, step in zip(summary, trace, strict=True):
        assert_same(summary[layer], activity[layer])
        np.testing.assert_array_equal(summary[layer].high, step.result.amax(0))


@pytest.mark.parametrize("bins", [None, mv.activity.Bins()])
def test_values_that_are_not_numbers_are_counted_and_left_out(bins: mv.activity.Bins | None) -> None:
    x = torch.tensor([[1.0, math.nan, 0.0, 0.0], [math.nan, -3.0, 0.0, math.nan], [2.0, 5.0, 0.0, 0.0]])
    model = nn.Sequential(nn.Identity())
    with mv.watch(model, bins=bins) as activity:
        model(x)
    found, values = activity["0"], x.numpy()[~np.isnan(x.numpy())]
    assert (found.nan, found.count, found.numbers) == (3, 12, 9)
    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std())
    assert found.zeros == pytest.approx(5 / 9)
    assert found.silent.tolist() == [False, False, True, False]
    if bins:
        assert int(found.histogram.sum()) == 9


def test_values_that_are_not_numbers_are_spoken_of() -> None:
    said = repr(watched(torch.tensor([[1.0, math.nan, 0.0, math.nan], [math.nan, 2.0, 0.0, 1.0]])))
    assert re.search(r"(?i)\b3\b[^,;]*(nan|not a number|not numbers|not finite)", said)


def test_nothing_but_values_that_are_not_numbers() -> None:
    found = watched(torch.full((2, 3), math.nan), mv.activity.Bins())
    assert (found.nan, found.numbers, found.silent_units) == (6, 0, 0)
    assert all(map(math.isnan, (found.mean, found.sd, found.zeros)))
    assert int(found.histogram.sum()) == 0


class Odd(nn.Module):
    """One ReLU run twice, a layer with two outputs, one that puts out whole numbers, and one that never runs."""

    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x + 1, x * 100

    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1)

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.two, self.largest, self.unused = nn.ReLU(), self.Two(), self.Largest(), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, _ = self.two(self.relu(x))
        return self.relu(-first), self.largest(x)


@pytest.fixture
def odd() -> tuple[Activity, Trace, Tensor]:
    model, x = Odd(), torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    with mv.watch(model) as activity:
        for part in (x[:4], x[4:]):
            model(part)
    with mv.capture(model) as trace:
        model(x)
    return activity, trace, x


def test_calls_of_a_layer_that_runs_twice_are_kept_apart(odd: tuple[Activity, Trace, Tensor]) -> None:
    activity, trace, x = odd
    assert activity.keys == ["relu:0", "two", "relu:1"]
    assert activity.keys == [key for key in trace.keys if key != "largest"]
    assert_equals_numpy(activity["relu:0"], x.relu().numpy())
    assert_equals_numpy(activity["relu:1"], np.zeros((6, 3), np.float32))
    assert [row["layer"] for row in activity.rows()] == activity.keys
    assert mv.activity.summarise(trace).keys == activity.keys


def test_which_call_is_asked_for_where_there_were_several(odd: tuple[Activity, Trace, Tensor]) -> None:
    with pytest.raises(mv.MnistvizError, match=r"relu:0[\s\S]*relu:1") as caught:
        _ = odd[0]["relu"]
    assert "no call seen" not in str(caught.value)


def test_of_several_outputs_the_first_is_summed(odd: tuple[Activity, Trace, Tensor]) -> None:
    assert_equals_numpy(odd[0]["two"], odd[2].relu().numpy() + 1)


def test_the_model_itself_can_be_watched() -> None:
    with mv.watch(model := Odd(), "") as activity:
        model(torch.ones(2, 3))
    assert activity[""].kind == "Odd"


@pytest.mark.parametrize(
    ("layer", "why"),
    [("unused", "no call seen for layer 'unused'"), ("tow", "did you mean 'two'"), ("conv1", "unknown layer")],
)
def test_a_layer_without_totals_is_named(layer: str, why: str, odd: tuple[Activity, Trace, Tensor]) -> None:
    with pytest.raises(mv.MnistvizError, match=why):
        _ = odd[0][layer]


@pytest.mark.parametrize("layers", ["conv9", ["conv1", "nope"], "x*"])
def test_an_unknown_layer_is_refused_at_once(layers: str | list[str], light: nn.Module) -> None:
    before = marks(light)
    with pytest.raises(mv.MnistvizError, match="unknown layer"), mv.watch(light, layers):
        pytest.fail("it should not have begun")
    assert_unmarked(marks(light), before)


def test_silence_of_nothing_is_refused() -> None:
    with pytest.raises(mv.MnistvizError, match="nothing was seen yet"):
        _ = Totals("ReLU").silent


def test_a_pass_that_broke_does_not_shift_the_calls() -> None:
    class Breaks(Odd):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x) if len(x) > 1 else self.relu(x).view(7)

    model = Breaks()
    with mv.watch(model) as activity:
        with pytest.raises(RuntimeError):
            model(torch.ones(1, 3))
        model(torch.ones(5, 3))
    assert activity.keys == ["relu:0", "two", "relu:1"]
    assert [activity[key].inputs for key in activity] == [6, 5, 5]


# ---------------------------------------------------------------- leaving no mark


def marks(model: nn.Module) -> Marks:
    """Modes and hooks of every module; weights, gradients and buffers; the random state."""
    modules = {
        name: (module.training, {key: len(held) for key, held in vars(module).items() if "hooks" in key})
        for name, module in model.named_modules()
    }
    held = {name: p.detach().clone() for name, p in [*model.named_parameters(), *model.named_buffers()]}
    held |= {f"grad of {name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return modules, held, torch.get_rng_state()


def assert_unmarked(after: Marks, before: Marks) -> None:
    modules, held, state = after
    assert modules == before[0]
    assert held.keys() == before[1].keys()
    assert all(torch.equal(held[name], before[1][name]) for name in held)
    assert torch.equal(state, before[2])


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails: bool, deep: nn.Module, few: mv.Digits) -> None:
    deep.train()
    deep.bn2.eval()
    deep.relu1.register_forward_hook(lambda *_: None)
    F.cross_entropy(deep(few[:4].pixels), few[:4].labels).backward()
    before = marks(deep)
    with suppress(ZeroDivisionError), mv.watch(deep, bins=mv.activity.Bins()) as activity:
        mv.predict(deep, few[:3])
        _ = 1 / (not fails)
    assert activity["fc2"].inputs == 3
    assert_unmarked(marks(deep), before)


def test_training_passes_run_as_if_nobody_watched(deep: nn.Module, few: mv.Digits) -> None:
    """Dropout draws the same, batch norms take in the same, and gradients flow."""
    twin = copy.deepcopy(deep)
    results = []
    for model in (deep.train(), twin.train()):
        torch.manual_seed(7)
        with mv.watch(model, bins=mv.activity.Bins()) if model is deep else torch.enable_grad():
            scores = model(few[:8].pixels)
            F.cross_entropy(scores, few[:8].labels).backward()
        results.append((scores.detach(), marks(model)))
    (scores, after), (expected, unwatched) = results
    assert torch.equal(scores, expected)
    assert_unmarked(after, unwatched)


def test_a_copy_made_meanwhile_is_not_heard() -> None:
    """As `fit` makes one when it averages weights."""
    model, x = nn.Sequential(nn.ReLU()), torch.ones(2, 3)
    with mv.watch(model) as activity:
        model(x)
        twin = copy.deepcopy(model)
        twin(x)
    twin(x)
    assert activity["0"].inputs == 2


def test_a_compiled_model_is_seen_layer_by_layer(light: nn.Module, few: mv.Digits) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model, x = torch.compile(copy.deepcopy(light), backend=backend), few[:10].pixels
    with torch.no_grad():
        outside = model(x)
        assert len(graphs) == 1
        with mv.watch(model) as activity:
            assert torch.equal(model(x), outside)
        expected = in_batches(light, x, 10)
        assert activity.keys == expected.keys
        for layer in expected:
            assert_same(activity[layer], expected[layer])
        assert torch.equal(model(x), outside)
    assert len(graphs) == 1  # the compiled graph is still in use, and was never made anew
    assert activity["conv1"].inputs == 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process its own peak")
def test_all_layers_of_many_digits_are_watched_in_little_memory() -> None:
    """Kept whole, the activations of 2,000 digits would take two gigabytes."""
    script = """
        import re, torch, mnistviz as mv
        torch.set_num_threads(1)
        peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 2**10
        images = torch.randint(256, (2000, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        digits, model = mv.Digits(images, None, "noise"), mv.models.deep()
        mv.predict(model, digits[:512])
        plain = peak()
        with mv.watch(model) as activity:
            mv.predict(model, digits)
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for layer in activity
                for t in vars(activity[layer]).values() if isinstance(t, torch.Tensor)}
        print(peak() - plain, sum(held.values()) / 2**20, min(activity[layer].inputs for layer in activity))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    growth, held, inputs = map(float, run.stdout.split())
    assert inputs == 2000
    assert growth < 200
    assert 1 < held < 5


# ---------------------------------------------------------------- the diary of a training


RECIPE = mv.recipes.tuned("compact").but(epochs=3, batch=30, augment=None)  # four steps an epoch of 120 digits


def train(few: mv.Digits, callbacks: dict[str, Any], recipe: mv.recipes.Recipe = RECIPE) -> nn.Module:
    model = seeded(mv.models.compact)
    mv.fit(model, few[:120], few[120:180], recipe, device="cpu", callbacks=callbacks, progress=False)
    return model


def test_a_diary_has_a_page_for_the_start_and_for_every_epoch(few: mv.Digits) -> None:
    diary, twins = mv.Diary(few[:150].pixels, "relu*", mv.activity.Bins(-1, 3, 16)), []
    keep = lambda state: twins.append(copy.deepcopy(state.model))  # noqa: E731
    own = diary.callbacks
    train(few, own | {"start": [own["start"], keep], "epoch": [own["epoch"], keep]})
    assert len(diary.pages) == len(twins) == RECIPE.epochs + 1
    for page, twin in zip(diary.pages, twins, strict=True):
        assert page.keys == ["relu1", "relu2", "relu3"]
        with mv.watch(twin, "relu*", mv.activity.Bins(-1, 3, 16)) as expected:
            mv.predict(twin, few[:150])
        for layer in page:
            assert_same(page[layer], expected[layer])
    assert len({page["relu3"].mean for page in diary.pages}) == len(diary.pages)
    assert diary.steps == 4 * RECIPE.epochs
    assert diary.silent_since("relu3")[-1] == diary.pages[-1]["relu3"].silent_units


@pytest.mark.parametrize("change", [{}, {"average": 0.9}], ids=["plain", "averaged"])
def test_a_training_with_a_diary_ends_in_the_same_bits(change: dict[str, float], few: mv.Digits) -> None:
    recipe = RECIPE.but(**change)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        state = torch.get_rng_state()
        diary = mv.Diary(few[:50].pixels, every=2)
        written, plain = train(few, diary.callbacks, recipe), train(few, {}, recipe)
        assert torch.equal(torch.get_rng_state(), state)
    assert diary.ratios
    assert len(diary.pages) == recipe.epochs + 1
    for name, weights in plain.state_dict().items():
        assert torch.equal(written.state_dict()[name], weights), name
    assert all(not any(len(held) for key, held in vars(m).items() if "hooks" in key) for m in written.modules())


def test_a_watch_within_a_callback(few: mv.Digits) -> None:
    seen = []

    def look(state: Fit) -> None:
        with mv.watch(state.model) as activity:
            mv.predict(state.model, few[:20])
        seen.append(activity)

    watched_one, plain = train(few, {"step": look}), train(few, {})
    assert [activity["fc2"].inputs for activity in seen] == [20] * 4 * RECIPE.epochs
    assert all(torch.equal(a, b) for a, b in zip(watched_one.parameters(), plain.parameters(), strict=True))
    with mv.watch(plain) as last:
        mv.predict(plain, few[:20])
    assert_same(seen[-1]["fc2"], last["fc2"])


@pytest.mark.parametrize("training", [False, True])
def test_a_page_leaves_the_model_as_it_is(training: bool, deep: nn.Module, few: mv.Digits) -> None:
    deep.train(training)
    F.cross_entropy(deep(few[:4].pixels), few[:4].labels).backward()
    before, diary = marks(deep), mv.Diary(few[:130].pixels, ["relu1", "drop1"])
    diary.page(SimpleNamespace(model=deep))
    assert_unmarked(marks(deep), before)
    assert diary.pages[0]["drop1"].inputs == 130
    with mv.watch(deep, "drop1") as expected:
        mv.predict(deep, few[:130])
    assert_same(diary.pages[0]["drop1"], expected["drop1"])


@pytest.mark.parametrize("every", [1, 2, 5, 10])
def test_ratios_are_lengths_over_the_length_of_the_weights(every: int, few: mv.Digits) -> None:
    """Plain gradient descent: an update is the gradient times the rate."""
    model = seeded(mv.models.light).double().train()
    rate, diary, expected = 0.05, mv.Diary(few[:2].pixels.double(), every=every), []
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    state = SimpleNamespace(model=model)
    diary.callbacks["start"](state)
    for step, part in enumerate(few[:120].pixels.double().split(10), 1):
        optimiser.zero_grad()
        F.nll_loss(model(part), few.labels[step * 10 - 10 : step * 10]).backward()
        before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
        optimiser.step()
        diary.callbacks["step"](state)
        for name, p in model.named_parameters():
            if step % every == 0 and name.endswith("weight"):
                size, moved = np.linalg.norm(before[name]), np.linalg.norm(p.detach().numpy() - before[name])
                expected.append((step, name.split(".")[0], np.linalg.norm(p.grad.numpy()) / size, moved / size))
    found = [(row["step"], row["layer"], row["gradient"], row["update"]) for row in diary.ratios]
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2:] for row in found], [row[2:] for row in expected], rtol=1e-9)
    for row in diary.ratios:
        assert row["gradient"] > 0
        assert row["update"] == pytest.approx(rate * row["gradient"], rel=1e-9)
    assert diary.steps == 12
    assert len(diary.pages) == 1


def test_ratios_of_what_has_no_gradient_or_no_length() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.requires_grad_(False)
    nn.init.zeros_(model[1].weight)
    diary, state = mv.Diary(torch.zeros(1, 2), every=2), SimpleNamespace(model=model)
    diary.step(state)
    model(torch.ones(1, 2)).sum().backward()
    diary.step(state)
    frozen, empty = diary.ratios
    assert (frozen["layer"], empty["layer"]) == ("0", "1")
    assert math.isnan(frozen["gradient"])
    assert frozen["update"] == 0
    assert math.isnan(empty["gradient"])
    assert math.isnan(empty["update"])


@pytest.mark.parametrize("every", [0, -1])
def test_a_diary_writes_every_so_many_steps(every: int) -> None:
    with pytest.raises(mv.MnistvizError, match=f"given: *{every}[\\s\\S]*1 or more"):
        mv.Diary(torch.zeros(1, 1, 28, 28), every=every)
