"""Figures of the way back: colours, bars and lines once more, from plain autograd and from sums by hand."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import caption_of, refused, sheet_of
from matplotlib.colors import to_hex
from torch import Tensor, nn
from zoo import seeded, slopes_by_hand

import mnistviz as mv
from mnistviz import figures
from mnistviz.show.colours import BLUE, MARKERS, ORANGE
from mnistviz.show.scales import Scale, short


def both_ways(model: nn.Sequential, x: Tensor, labels: Tensor) -> tuple[Any, dict[str, Tensor]]:
    """A trace gone back through; and every gradient of its loss, by name, without a capture."""
    with mv.capture(model, gradients=True) as trace:
        model(x)
    return mv.backward(trace, labels=labels), slopes_by_hand(model.eval(), x, labels)


@pytest.fixture(scope="module")
def passed(records) -> Any:
    given = records.few[:4].pixels, (records.few.labels[:4] + torch.arange(4)) % 10  # three are wrong: much comes back
    return {name: both_ways(records.models[name], *given) for name in ("deep", "light")}


def assert_colours(drawn: np.ndarray, values: Tensor, within: Tensor, signed: object = True) -> None:
    high = float(within.abs().max())  # in float32 it may fall on the next step of colour
    np.testing.assert_allclose(drawn, Scale(-high if signed else 0.0, high, "map").rgb(values), atol=0.03)


@pytest.mark.parametrize("shown", ["deep conv1", "deep relu3 9 2", "light conv2", "deep input"])
def test_maps_have_the_colours_of_delta_beside_their_digit(shown, passed):
    name, layer, *channels = shown.split()
    trace, delta = passed[name][0], passed[name][1][layer][2]
    some = list(map(int, channels)) or list(range(len(delta)))
    picture = figures.gradient_maps(trace, layer, some if channels else None, digit=2)
    left, right, bar = picture.axes
    labels, zoom = [text for text in right.texts if text.get_ha() == "left"], 28 // delta.shape[-1]
    for text, channel in zip(labels, some, strict=True):
        x, y = np.rint(np.subtract(text.get_position(), labels[0].get_position())).astype(int)
        assert_colours(sheet_of(right)[y : y + 28 : zoom, x : x + 28 : zoom], delta[channel], delta)
        assert text.get_text() == str(channel)
    np.testing.assert_allclose(sheet_of(left), trace.input[2, 0])
    high, name = short(delta.abs().max()), f"digit 2: a {int(trace.labels[2])}"
    assert [left.get_title(loc="left"), *(t.get_text() for t in bar.get_yticklabels())] == [name, f"−{high}", "0", high]
    assert f"The loss of the batch of 4, {trace.loss:.3g}, rises with an orange value" in caption_of(picture)
    assert caption_of(picture).endswith(f"one scale for the layer, −{high} to {high}.")
    assert f"the loss: {len(some)} map" in picture.alt


def test_a_flat_layer_is_cells_and_nothing_but_zeros_is_white(records):
    trace, gradients = both_ways(records.models["deep"], records.digit, torch.tensor([7]))
    _, right, _ = figures.gradient_maps(trace, "fc2").axes
    assert_colours(sheet_of(right), gradients["fc2"], gradients["fc2"])
    assert len(right.collections[0].get_paths()) == 10  # each has an outline
    account = mv.backward_ledger(trace, "fc2", unit=7)  # probability − 1, in which float32 loses digits
    assert f"= {account.total:+.4g}, autograd: {account.recorded:+.4g}." in figures.gradient_ledger(account).alt
    trace["fc2"].delta.zero_()
    assert (sheet_of(figures.gradient_maps(trace, "fc2").axes[1]) == 1).all()


@pytest.mark.parametrize("shown", ["conv2 weight 5 3 0 2", "mix1 weight 2 3 0 0", "conv5 bias 46", "bn2 weight 5"])
def test_delta_times_what_it_met_is_the_products_and_bars_are_their_sums(shown, passed):
    layer, what, *numbers = shown.split()
    (trace, gradients), index = passed["light" if layer == "mix1" else "deep"], tuple(map(int, numbers))
    step, delta, factors = trace[layer], gradients[layer][:, index[0]], torch.ones(4, 7, 7)
    if layer == "bn2":
        factors = ((step.output - step.bias[:, None, None]) / step.weight[:, None, None])[:, index[0]]
    elif what == "weight":
        border, (row, column), (height, width) = step.weight.shape[-1] // 2, index[2:], step.input.shape[2:]
        factors = F.pad(step.input, [border] * 4)[:, index[1], row : row + height, column : column + width]
    *maps, bars = figures.gradient_ledger(mv.backward_ledger(trace, layer, **{what: index}), digit=1).axes
    for axes, values, signed in zip(maps, (delta, factors, delta * factors), (1, layer == "bn2", 1), strict=True):
        assert_colours(sheet_of(axes), values[1], values[1], signed)
        assert axes.get_xlabel() == f"{'±' if signed else '0 to '}{short(values[1].abs().max())}"
    sums = (delta * factors).flatten(1).sum(1)
    assert [bar.get_height() for bar in bars.patches] == pytest.approx(sums.tolist(), rel=1e-3, abs=1e-9)
    assert [to_hex(bar.get_facecolor()) for bar in bars.patches] == [BLUE if s < 0 else ORANGE for s in sums]
    sizes = sums.abs() / sums.abs().max()
    named = {i for i in sizes.topk(3).indices.tolist() if sizes[i] > 0.05}
    assert {i for i, t in enumerate(bars.texts) if t.get_text()} == named
    start, *told = caption_of(bars.figure).split(". Maps")[0].replace(", autograd: ", " = ").split(" = ")
    assert start == f"{layer}, {what} {', '.join(numbers)}: sum of {delta.numel():,} products"
    assert list(map(float, told)) == pytest.approx([float(gradients[f"{layer}.{what}"][index])] * 2, rel=1e-3)


def test_a_flat_layer_or_a_unit_is_lying_bars_of_the_largest_products(passed):
    trace, delta = passed["deep"][0], passed["deep"][1]["fc2"]
    accounts = mv.backward_ledger(trace, "fc2", (7, 3)), mv.backward_ledger(trace, "drop4", unit=12, digit=2)
    products = delta[:, 7] * trace["fc2"].input[:, 3], delta[2] * trace["fc2"].weight[:, 12]
    for account, values, name in zip(accounts, products, ("digit {}", "fc2 (2, {})"), strict=True):
        axes, order = figures.gradient_ledger(account).axes[0], values.abs().argsort(descending=True, stable=True)
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(values[order].tolist(), rel=1e-3, abs=1e-12)
        assert [text.get_text().split("   ")[1] for text in axes.get_yticklabels()] == [name.format(i) for i in order]


@pytest.mark.parametrize("of", ["outputs", "weights"])
def test_lines_are_medians_of_root_mean_squares_and_zeros_are_told(of, passed):
    runs = []
    for seed in range(3):
        with seeded(seed):
            model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
            nn.init.constant_(model[2].bias, -99.0 if seed else 0.1)  # in two of three nothing comes back from behind
            runs.append(both_ways(model, torch.randn(5, 6), torch.arange(5) % 3))
    keys = ["0", "2", "4"] if of == "outputs" else ["0.weight", "2.weight", "4.weight"]
    table = np.array([[float(gradients[key].square().mean().sqrt()) for key in keys] for _, gradients in runs])
    axes = figures.gradient_sizes({"three": [trace for trace, _ in runs], "one": runs[0][0]}, of).axes[0]
    for k, rows in enumerate((table, table[:1])):
        line, band, middle = axes.lines[k], axes.collections[k].get_paths()[0].vertices, np.median(rows, 0)
        assert list(line.get_ydata()) == pytest.approx(np.where(middle > 0, middle, np.nan), rel=1e-4, nan_ok=True)
        ends = [(heights.min(), heights.max()) for heights in (band[band[:, 0] == at, 1] for at in (1, 2, 3))]
        np.testing.assert_allclose(ends, np.stack([rows.min(0), rows.max(0)], 1), rtol=1e-4)
        assert (line.get_marker(), line.get_label()) == (MARKERS[k], ("three", "one")[k])
    assert (axes.get_yscale(), [text.get_text() for text in axes.get_xticklabels()]) == ("log", ["0", "2", "4"])
    assert min(text.get_fontsize() for text in axes.get_yticklabels(which="both")) * 0.7 > 9  # of exponents
    zero = [f"all zero at {key} of three ({n} of 3)" for key, n in zip("024", (table == 0).sum(0), strict=True) if n]
    assert f"Not on this scale: {'; '.join(zero)}." in caption_of(axes.figure)
    assert f"one from {short(table[0, 0])} to {short(table[0, 2])}." in axes.figure.alt
    others = figures.gradient_sizes({name: trace for name, (trace, _) in passed.items()}, of).axes[0]
    assert [text.get_text() for text in others.get_xticklabels()] == list("12345678")


def test_a_unit_behind_a_closed_gate_has_nothing_to_draw(passed):
    trace, _ = passed["light"]
    closed = (trace["conv2"].output[0] < 0).nonzero()[0].tolist()
    refused(lambda: figures.gradient_ledger(mv.backward_ledger(trace, "conv2", unit=closed)), "no products", "closed")
