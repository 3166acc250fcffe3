"""The figure of one number: every number written and every bar is computed once more from the record."""

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import caption_of, scale_of, sheet_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from torch import Tensor, nn
from zoo import record

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.trace import Step
from mnistviz.show.colours import BLUE, ORANGE
from mnistviz.show.picture import Picture
from mnistviz.show.scales import Scale, short

LEDGERS = {
    "one channel, a corner": ("deep", "conv1", (31, 0, 0)),
    "many channels": ("deep", "conv2", (5, 3, 7)),
    "5×5, many channels": ("compact", "conv2", (3, 4, 4)),
    "1×1": ("light", "mix1", (1, 3, 3)),
}


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def close(value: float | list[float]) -> object:
    """Equal as far as two decimals can tell."""
    return pytest.approx(value, rel=0, abs=0.00501)


def assert_table(axes: Axes, values: Tensor, scale: Scale) -> None:
    """A number in each cell, and behind it the colour of that number."""
    np.testing.assert_allclose(sheet_of(axes), scale.rgb(values), atol=1e-6)
    written = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert written.keys() == set(np.ndindex(*values.shape))
    for place, text in written.items():
        assert number(text) == close(float(values[place]))
        assert (text == "0") == (values[place] == 0)
        assert not text.startswith("−0.00")


@pytest.fixture(scope="module", params=LEDGERS)
def drawn(request: pytest.FixtureRequest, records: Any) -> tuple[Step, tuple[int, ...], Picture]:
    name, layer, unit = LEDGERS[request.param]
    trace = records.passes[name]
    return trace[layer], unit, figures.ledger(mv.ledger(trace, layer, *unit))


def products_of(step: Step, unit: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Patch, kernel and products of a unit, cut out by hand."""
    kernel, border = step.weight[unit[0]], step.settings["padding"][0]
    high, wide = kernel.shape[1:]
    patch = F.pad(step.input[0], [border] * 4)[:, unit[1] : unit[1] + high, unit[2] : unit[2] + wide]
    return patch, kernel, patch * kernel


def test_a_ledger_writes_patch_kernel_and_products_of_the_channels_that_weigh_most(
    drawn: tuple[Step, tuple[int, ...], Picture],
) -> None:
    step, unit, picture = drawn
    parts = products_of(step, unit)
    sums = parts[2].double().sum((1, 2))
    order = sums.abs().argsort(descending=True, stable=True)[:3].tolist()
    columns = 4 if len(sums) == 1 else 3
    tables = np.array(picture.axes[: columns * len(order)]).reshape(len(order), columns)[:, :3]
    assert [axes.get_title() for axes in tables[0]] == ["patch", "× kernel", "= products"]
    for line, channel in zip(tables, order, strict=True):
        for axes, values in zip(line, parts, strict=True):
            assert_table(axes, values[channel], scale_of(values))
        assert line[0].get_ylabel() == f"input\nchannel {channel}"
        assert number(line[2].get_xlabel().removeprefix("sum ")) == close(float(sums[channel]))
    total, recorded = float(sums.sum() + step.bias[unit[0]].double()), float(step.output[(0, *unit)])
    written = re.search(r"Recorded value (\S+), sum of all products plus bias (\S+)\. ", caption_of(picture))
    assert [number(n) for n in written.groups()] == pytest.approx([recorded, total], abs=1e-6)
    assert (f"The 3 of {len(sums)} input channels that weigh most." in caption_of(picture)) == (len(sums) > 3)


def test_the_sums_and_the_bias_add_up_to_the_total(drawn: tuple[Step, tuple[int, ...], Picture]) -> None:
    """In words for one channel; as a waterfall from 0 where there are several."""
    step, unit, picture = drawn
    bias, total = float(step.bias[unit[0]]), float(step.output[(0, *unit)])
    sums = [*products_of(step, unit)[2].double().sum((1, 2)).tolist(), bias]
    if len(sums) == 2:
        lines = picture.axes[3].texts[0].get_text().split("\n")
        assert [line.split()[0] for line in lines] == ["sum", "+", "="]
        assert [number(line.split()[-1]) for line in lines] == close([total - bias, bias, total])
        return
    axes, ends = picture.axes[-1], list(itertools.accumulate(sums))
    (bars,) = axes.containers
    assert [bar.get_height() for bar in bars] == pytest.approx(sums, abs=1e-9)
    assert [bar.get_y() for bar in bars] == pytest.approx([0.0, *ends[:-1]], abs=1e-9)
    assert ends[-1] == pytest.approx(total, abs=1e-5)
    assert [to_hex(bar.get_facecolor()) for bar in bars][:-1] == [ORANGE if s >= 0 else BLUE for s in sums[:-1]]
    assert [line.get_ydata()[0] for line in axes.lines] == [pytest.approx(ends[-1]), 0]
    assert number(axes.get_title(loc="left").removeprefix("added up: ")) == close(ends[-1])
    low, high = axes.get_ylim()
    assert low < min(0, *ends) <= max(0, *ends) < high
    *places, last = zip(axes.get_xticks(), [t.get_text() for t in axes.get_xticklabels()], strict=True)
    assert last == (len(sums) - 1, "bias")
    assert all(int(text) == place for place, text in places)


def test_as_many_rows_as_asked_for_and_channels_of_a_group_keep_their_numbers(records: Any) -> None:
    ledger = mv.ledger(records.trace, "conv2", 5, 3, 7)
    picture = figures.ledger(ledger, rows=1)
    assert len(picture.axes) == 4
    assert picture.axes[0].get_ylabel() == f"input\nchannel {int(ledger.sums.abs().argmax())}"
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3, groups=2))
    picture = figures.ledger(mv.ledger(record(model, records.digit), "1", 3, 10, 10))
    assert {int(axes.get_ylabel().split()[-1]) for axes in picture.axes[:9:3]} <= {4, 5, 6, 7}
    assert [t.get_text() for t in picture.axes[-1].get_xticklabels()] == ["4", "5", "6", "7", "bias"]


def test_a_linear_ledger_has_a_bar_for_every_large_product_and_for_the_rest(records: Any) -> None:
    step = records.trace["fc2"]
    (axes,) = figures.ledger(mv.ledger(records.trace, "fc2", 7)).axes
    products, bias = (step.input[0] * step.weight[7]).double(), float(step.bias[7])
    order = products.abs().argsort(descending=True, stable=True)[:12]
    rest, total = float(products.sum() - products[order].sum()), float(step.output[0, 7])
    (bars,) = axes.containers
    widths = [bar.get_width() for bar in bars]
    assert widths == pytest.approx([*products[order].tolist(), rest, bias], abs=1e-7)
    assert sum(widths) == pytest.approx(total, abs=1e-4)
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [ORANGE if w >= 0 else BLUE for w in widths]
    assert [number(t.get_text()) for t in axes.texts] == close(widths)
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names[12:] == [f"{len(products) - 12} others", "bias"]
    for name, i in zip(names, order.tolist(), strict=False):
        value, _, weight, _, feature = name.split()
        assert (number(value), number(weight)) == close((float(step.input[0, i]), float(step.weight[7, i])))
        assert int(feature) == i
    assert axes.get_title(loc="left") == f"fc2, unit 7: {len(products)} products + bias = {short(total)}"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the largest on top
    short_ledger = mv.ledger(record(nn.Linear(4, 2), torch.ones(1, 4)), "", 1)
    assert len(figures.ledger(short_ledger).axes[0].containers[0]) == 5  # no rest
