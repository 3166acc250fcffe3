"""Totals of one layer, put together from any number of parts; watch's own tests look at the rest."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mnistviz.look.totals import PART, Totals

import mnistviz as mv


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=40),
    cut=st.integers(1, 39),
    far=st.sampled_from([0.0, 1e3, -1e4]),
)
def test_mean_and_deviation_are_numpys_however_the_values_are_dealt(values: list[float], cut: int, far: float) -> None:
    x = (torch.tensor(values) + far)[:, None]
    totals = Totals("Linear")
    for part in x.tensor_split([min(cut, len(x) - 1)]):
        totals.add(part)
    size = float(x.abs().max()) or 1.0
    assert totals.mean == pytest.approx(float(x.double().mean()), abs=1e-6 * size)
    assert totals.sd == pytest.approx(float(x.double().std(correction=0)), rel=1e-5, abs=1e-6 * size)
    assert totals.zeros == pytest.approx(float((x == 0).double().mean()))


def test_more_values_than_are_looked_at_at_a_time() -> None:
    x = torch.randn(3, PART // 2 + 7, generator=torch.Generator().manual_seed(0)).relu()
    totals = Totals("ReLU")
    totals.add(x)
    values = x.double().numpy()
    assert totals.sd == pytest.approx(values.std(), rel=1e-7)
    assert totals.nonzero == np.count_nonzero(values)
    assert totals.count == x.numel()


def test_bins_lose_no_value() -> None:
    bins = mv.activity.Bins(-1, 1, 4)
    tally = bins.tally(torch.tensor([-torch.inf, -1.5, -1.0, -0.5, 0.0, 0.99, 1.0, torch.inf]))
    assert tally.tolist() == [2, 1, 1, 1, 1, 2]
    with pytest.raises(mv.MnistvizError, match="no bins"):
        mv.activity.Bins(1, 1, 4)
