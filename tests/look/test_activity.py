"""Totals kept inside the hook equal those over all activations at once, and watching changes nothing."""

import copy
import math
import weakref
from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo
from helpers import refusals
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn
from zoo import assert_equal, entering, facts, layer_by_layer, make, record, seeded, unsettle

import mnistviz as mv
from mnistviz.look.activity import Activity, Bins, Totals, summarise


@torch.no_grad()
def in_batches(model: nn.Module, x: Tensor, batch: int, bins: Bins | None = None) -> Activity:
    with mv.watch(model, bins=bins) as activity:
        for part in x.split(batch):
            model(part)
    return activity


def outputs_of(model: nn.Module, x: Tensor, batch: int) -> dict[str, np.ndarray]:
    """All that comes out of each layer, in passes without hooks."""
    parts = [layer_by_layer(model, part) for part in x.split(batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def watched(output: Tensor, bins: Bins | None = None) -> Totals:
    """The totals of a layer that puts out just this."""
    return in_batches(nn.Sequential(nn.Identity()), output, len(output), bins)["0"]


def assert_equals_numpy(totals: Totals, values: np.ndarray) -> None:
    assert totals.inputs == len(values)
    assert totals.count == totals.numbers == values.size
    size = np.sqrt(np.square(values, dtype=np.float64).mean())
    assert totals.mean == pytest.approx(values.mean(dtype=np.float64), abs=1e-6 * size)
    assert totals.sd == pytest.approx(values.std(dtype=np.float64), rel=1e-6, abs=1e-6 * size)
    assert totals.nonzero == np.count_nonzero(values)
    assert totals.zeros == pytest.approx((values == 0).mean(), abs=1e-15)
    np.testing.assert_array_equal(totals.low, values.min(0))
    np.testing.assert_array_equal(totals.high, values.max(0))
    silent = (values == 0).all(0)
    np.testing.assert_array_equal(totals.silent, silent)
    assert (totals.silent_units, totals.units) == (silent.sum(), silent.size)
    dead = [c for c in range(values.shape[1]) if not np.count_nonzero(values[:, c])]
    assert (totals.silent_channels, totals.channels) == (dead, values.shape[1])


def test_every_layer_has_the_totals_that_numpy_finds(reference, few):
    model, x, bins = copy.deepcopy(reference["deep"]), few[:90].pixels, Bins(-1, 1, 16)
    with torch.no_grad():  # channels that never rise
        for layer in (layer for layer in model if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d)):
            layer.weight[::5], layer.bias[::5] = 0, -0.25
    activity = in_batches(model, x, 64, bins)
    assert list(activity) == activity.keys == [name for name, _ in model.named_children()]
    assert len(activity) == len(model)
    for layer, values in outputs_of(model, x, 64).items():
        assert activity[layer].kind == type(getattr(model, layer)).__name__
        assert_equals_numpy(activity[layer], values)
        below = activity[layer].histogram.cumsum(0)
        assert below[-1] == values.size
        for edge, count in zip(bins.edges.tolist(), below.tolist(), strict=False):  # give or take rounding
            assert (values < edge - 1e-6).sum() <= count <= (values < edge + 1e-6).sum()
    assert activity["relu1"].silent_channels
    assert activity["relu1"].zeros > 0.2


@pytest.mark.parametrize(("mean", "sd"), [(0.7, 0), (3.3, 0), (100, 1), (-1000, 1)])
def test_values_far_from_zero_keep_their_deviation(mean, sd):
    x = torch.randn(64, 16, 28, 28, generator=torch.Generator().manual_seed(0)).mul_(sd).add_(mean)
    assert watched(x).sd == pytest.approx(float(x.double().std(correction=0)), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_other_precisions_are_summed_as_they_are_under_autocast_too(dtype):
    x = torch.randn(30, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    values = x.double().numpy()
    with torch.autocast("cpu", torch.bfloat16):
        totals = watched(x, Bins())
    assert_equals_numpy(totals, values)
    assert int(totals.histogram.sum()) == values.size
    if dtype == torch.float64:
        assert (totals.mean, totals.sd) == pytest.approx((values.mean(), values.std()), rel=1e-13)


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
@given(values=maps, cuts=st.lists(st.integers(1, 5), max_size=4), layout=st.sampled_from(list(LAYOUTS)))
@example(values=np.full((2, 3, 4, 5), 0.7, np.float32), cuts=[], layout="batch last")
@example(values=np.full((3, 1, 1, 1), 12371, np.float32), cuts=[1], layout="in order")
def test_neither_layout_nor_batches_change_the_totals(values, cuts, layout):
    model, x, bins = nn.Sequential(nn.Identity()), torch.from_numpy(values), Bins(-4, 4, 8)
    with mv.watch(model, bins=bins) as activity:
        for part in LAYOUTS[layout](x).tensor_split(sorted({c for c in cuts if c < len(x)})):
            model(part)
    totals = activity["0"]
    assert totals.silent.shape == totals.low.shape == values.shape[1:]
    assert_equals_numpy(totals, values)
    assert torch.equal(totals.histogram, watched(x, bins).histogram)


@pytest.mark.parametrize("shape", [(50,), (20, 7), (6, 5, 4), (4, 3, 2, 5, 2)])
def test_outputs_of_any_rank(shape):
    """A number for each input, without a unit to its name, is a layer of one unit."""
    values = np.random.default_rng(0).integers(-2, 3, (*shape, 1)[: max(2, len(shape))]).astype(np.float32)
    values[:, -1] = 0
    totals = watched(torch.from_numpy(values).reshape(shape))
    assert totals.silent_channels == [values.shape[1] - 1]
    assert_equals_numpy(totals, values)


def test_the_text_says_the_totals(few, golden):
    model = zoo.whole_numbers()
    with mv.watch(model) as activity:
        golden("before a pass", activity)
        model(zoo.whole_pixels(few[:30]))
    golden("thirty digits", activity)
    golden("not all are numbers", watched(torch.tensor([[1.0, math.nan, 0.0], [math.nan, 2.0, 0.0]])))


@settings(deadline=None)
@given(
    values=hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32)),
    low=st.floats(-1e3, 1e3),
    width=st.floats(1e-3, 1e6),
    count=st.integers(1, 100),
)
@example(np.array([np.inf, -np.inf, 3e38, -3e38, 0], np.float32), -6.0, 12.0, 48)
@example(np.array([np.nan, np.nan], np.float32), -6.0, 12.0, 48)
def test_no_value_is_lost(values, low, width, count):
    totals = watched(torch.from_numpy(values)[:, None], Bins(low, low + width, count))
    assert totals.nan == np.isnan(values).sum()
    assert totals.histogram.shape == (count + 2,)
    assert int(totals.histogram.sum()) == totals.numbers == values.size - totals.nan
    slack = 1e-5 * (abs(low) + width)
    for counted, far, near in (
        (totals.histogram[0], values < low - slack, values < low + slack),
        (totals.histogram[-1], values > low + width + slack, values > low + width - slack),
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
def test_dyadic_bins_count_as_numpy_does(sixteenths, low, eighths, count):
    """All edges and values are exact in binary; numpy's last bin would hold the last edge too."""
    values, high = sixteenths.astype(np.float32) / 16, low + eighths / 8
    bins = Bins(low, high, count)
    inside = values[(values >= low) & (values < high)]
    expected = np.histogram(inside, bins=count, range=(low, high))
    np.testing.assert_array_equal(bins.edges, expected[1])
    histogram = watched(torch.from_numpy(values)[:, None], bins).histogram.tolist()
    assert histogram == [(values < low).sum(), *expected[0], (values >= high).sum()]


@pytest.mark.parametrize("bins", [None, Bins()])
def test_values_that_are_not_numbers_are_counted_and_left_out(bins):
    x = torch.tensor([[1.0, math.nan, 0.0, 0.0], [math.nan, -3.0, 0.0, math.nan], [2.0, 5.0, 0.0, 0.0]])
    totals, values = watched(x, bins), x.numpy()[~np.isnan(x.numpy())]
    assert (totals.nan, totals.count, totals.numbers) == (3, 12, 9)
    assert (totals.mean, totals.sd, totals.zeros) == pytest.approx((values.mean(), values.std(), 5 / 9))
    assert totals.silent.tolist() == [False, False, True, False]
    nothing = watched(torch.full((2, 3), math.nan), bins)
    assert (nothing.nan, nothing.numbers, nothing.silent_units) == (6, 0, 0)
    assert all(map(math.isnan, (nothing.mean, nothing.sd, nothing.zeros)))
    if bins:
        assert (int(totals.histogram.sum()), int(nothing.histogram.sum())) == (9, 0)


def test_a_summary_of_a_trace_is_a_watch_over_one_pass(reference, few):
    light, bins = reference["light"], Bins(-2, 2, 8)
    with mv.watch(light, bins=bins) as activity:
        trace = record(light, few[:20].pixels)
    summary = summarise(trace, bins)
    assert summary.keys == activity.keys == trace.keys
    for layer, totals in summary.items():
        assert_equal(vars(totals), vars(activity[layer]))
        np.testing.assert_array_equal(totals.high, trace[layer].result.amax(0))


def test_calls_are_kept_apart_of_several_outputs_the_first_counts_and_whole_numbers_do_not():
    case = make("reused_relu")
    activity, trace = in_batches(case.model, *case.args, 3), record(case.model, *case.args)
    assert activity.keys == trace.keys == ["fc1", "relu:0", "fc2", "relu:1"]
    for key, totals in activity.items():
        assert_equals_numpy(totals, trace[key].output.numpy())
    x = torch.randn(5, 1, 4, 4)
    pooled = in_batches(nn.Sequential(nn.MaxPool2d(2, return_indices=True)), x, 5)
    assert_equals_numpy(pooled["0"], F.max_pool2d(x, 2).numpy())
    assert in_batches(nn.Sequential(nn.Flatten()), torch.ones(2, 3, dtype=torch.long), 2).keys == []


def test_a_pass_that_broke_does_not_shift_the_calls():
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.BatchNorm1d(3), relu).train()
    with mv.watch(model) as activity, mv.watch(model, "") as itself:
        with pytest.raises(ValueError, match="more than 1 value"):  # of which there is no variance
            model(torch.ones(1, 3))
        model(torch.ones(5, 3))
    assert [(key, totals.inputs) for key, totals in activity.items()] == [("0:0", 6), ("1", 5), ("0:1", 5)]
    assert itself[""].kind == "Sequential"


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails, few):
    deep = unsettle(mv.models.deep())
    deep.relu1.register_forward_hook(lambda *_: None)
    before = facts(deep)
    with suppress(ZeroDivisionError), mv.watch(deep, bins=Bins()) as activity:
        mv.predict(deep, few[:3])
        _ = 1 / (not fails)
    assert activity["fc2"].inputs == 3
    assert facts(deep) == before


def test_training_passes_run_as_if_nobody_watched(few):
    """Dropout draws the same, batch norms take in the same, and gradients flow."""
    deep = mv.models.deep().train()
    twin, results = copy.deepcopy(deep), []
    for model in (deep, twin):
        with seeded(7), mv.watch(model, bins=Bins()) if model is deep else torch.enable_grad():
            scores = model(few[:8].pixels)
            F.cross_entropy(scores, few[:8].labels).backward()
            gradients = [p.grad for p in model.parameters()]
            results.append((scores.detach(), model.state_dict(), gradients, torch.get_rng_state()))
    assert_equal(*results)


def test_of_all_outputs_none_is_kept(few):
    """But for a lowest and a highest value of each unit, and the histogram."""
    model, outputs = mv.models.deep().eval(), []
    for layer in model:
        layer.register_forward_hook(lambda module, args, output: outputs.append(weakref.ref(output)))
    activity = in_batches(model, few[:20].pixels, 10, Bins())
    assert len(outputs) == 2 * len(model)
    assert not [output for output in outputs if output() is not None]
    for _, totals in activity.items():
        held = sum(t.untyped_storage().nbytes() for t in vars(totals).values() if isinstance(t, Tensor))
        assert held == 2 * 4 * totals.units + 8 * (Bins().count + 2)


def of(name: str) -> Activity:
    case = make(name)
    return in_batches(case.model, *case.args, 9)


BAD = {
    "an empty bin": (lambda: Bins(1, 1, 4), "no bins", "low < high"),
    "no bin": (lambda: Bins(0, 1, 0), "no bins", "a count above 0"),
    "a bin without an end": (lambda: Bins(0, math.inf, 4), "no bins", "finite"),
    "a histogram without bins": (lambda: watched(torch.ones(2, 3)).histogram, "no histogram was kept", "Bins(-6, 6"),
    "silence of nothing": (lambda: Totals("ReLU").silent, "nothing was seen yet", "mv.watch"),
    "which of two calls": (lambda: of("reused_relu")["relu"], "ran 2 times", "relu:0, relu:1"),
    "a layer that never ran": (lambda: of("module_list")["by_name.unused"], "'by_name.unused': no pass called it"),
    "nothing ran": (lambda: Activity(("relu",))["relu"], "no call seen for layer 'relu': nothing ran yet"),
    "a layer to watch": (lambda: entering(mv.watch, "conv9"), "unknown layer", "did you mean 'conv"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)
