"""The strongest inputs of every channel are those that sorting all activations by hand puts first."""

import numpy as np
import pytest
import torch
from helpers import refusals, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo import facts, layer_by_layer, record, unsettle, whole_numbers, whole_pixels

import mnistviz as mv
from mnistviz.look.examples import Examples


def by_hand(output: np.ndarray, k: int) -> dict[str, list[list[float]]]:
    """Channel by channel and input by input, with Python's own sort."""
    table: dict[str, list[list[float]]] = {name: [] for name in ("rows", "values", "y", "x")}
    for c in range(output.shape[1]):
        ranks = []
        for row, maps in enumerate(output):
            numbers, width = (maps[c], maps.shape[-1]) if maps.ndim > 1 else (maps[c : c + 1, None], 1)
            flat = numbers.ravel().tolist()
            top = max(flat)
            ranks.append((-top, row, *divmod(flat.index(top), width)))
        for name, column in zip(("values", "rows", "y", "x"), zip(*sorted(ranks)[:k], strict=True), strict=True):
            table[name].append([-v for v in column] if name == "values" else list(column))
    return table


def assert_equal(examples: Examples, expected: dict[str, list[list[float]]]) -> None:
    for name in expected:
        np.testing.assert_array_equal(getattr(examples, name), expected[name], err_msg=name)


@pytest.mark.parametrize("layer", ["relu2", "conv5", "fc1"])
def test_each_example_knows_what_its_unit_sees(layer, reference, few):
    deep, x = reference["deep"], few[:30].pixels
    examples, trace = mv.top_examples(deep, x, layer, 4), record(deep, x[:1])
    assert_equal(examples, by_hand(layer_by_layer(deep, x)[layer].numpy(), 4))
    assert not examples.values.requires_grad
    places = list(zip(examples.y.flatten().tolist(), examples.x.flatten().tolist(), strict=True))
    sees = {place: mv.receptive_field(trace, layer, *(place if layer != "fc1" else ())) for place in set(places)}
    assert examples.fields == sees
    assert [examples.field(i // 4, i % 4) for i in range(len(places))] == [sees[place] for place in places]


@settings(deadline=None, max_examples=15)
@given(
    batch=st.integers(1, 50),
    k=st.integers(1, 40),
    layer=st.sampled_from("0245"),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_neither_batch_size_nor_layout_changes_anything(batch, k, layer, layout, few):
    """Whole numbers: no rounding anywhere, and ties everywhere; of equal units the first, row by row, is named."""
    model = whole_numbers().to(memory_format=layout)
    x = whole_pixels(few[:40]).contiguous(memory_format=layout)
    examples = mv.top_examples(model, x, layer, k, batch=batch)
    assert_equal(examples, by_hand(layer_by_layer(model, x)[layer].numpy(), k))
    assert examples.fields == mv.top_examples(model, x, layer, k).fields


def test_each_call_of_a_layer_that_runs_twice_can_be_asked_for(few):
    """By the names that the error without them gives."""
    relu = nn.ReLU()
    model, x = nn.Sequential(nn.Conv2d(1, 3, 3), relu, nn.Conv2d(3, 2, 3), relu), few[:20].pixels
    refused(lambda: mv.top_examples(model, x, "1"), "1:0, 1:1")
    with torch.no_grad():
        first, second = model[:2](x).numpy(), model(x).numpy()
    for layer, output in (("1:0", first), ("1:1", second)):
        assert_equal(mv.top_examples(model, x, layer, 3), by_hand(output, 3))


def test_the_model_is_left_as_it_was_and_answers_as_when_it_is_judged(few):
    model = unsettle(mv.load_model("deep"))
    before = facts(model)
    examples = mv.top_examples(model, few[:20].pixels, "relu2", 3)
    refused(lambda: mv.top_examples(model, few[:20].pixels, "nonsense", 3), "unknown layer")
    assert facts(model) == before
    plain = mv.top_examples(mv.load_model("deep"), few[:20].pixels, "relu2", 3)
    assert torch.equal(examples.rows, plain.rows)
    assert torch.equal(examples.values, plain.values)
    assert repr(examples) == "Examples('relu2': the 3 strongest inputs for each of 32 channels)"


def top(layer: str = "relu2", k: int = 3) -> object:
    return mv.top_examples(mv.models.compact(), torch.zeros(5, 1, 28, 28), layer, k)


BAD = {
    "no example": (lambda: top(k=0), "how many examples", "0", "1 to 5"),
    "more than there are": (lambda: top(k=6), "how many examples", "6", "1 to 5"),
    "a misspelt layer": (lambda: top("relu22"), "unknown layer", "'relu22'", "did you mean 'relu2'"),
    "no channels": (lambda: mv.top_examples(nn.Linear(2, 3), torch.zeros(5, 4, 2), "", 1), "has no channels", "4×3"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)
