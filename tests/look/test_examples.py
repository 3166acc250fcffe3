"""The strongest inputs of every channel are those that sorting all activations by hand puts first."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.look.examples import Examples

LAYERS = ["conv1", "relu1", "conv2", "bn3", "relu4", "pool2", "pool3", "flatten", "fc1", "relu6", "fc2"]


def seeded(build: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


@pytest.fixture(scope="module")
def deep() -> nn.Module:
    """With channels that never rise, so that all inputs are level there."""
    model = seeded(mv.models.deep)
    with torch.no_grad():
        for layer in (model.bn1, model.bn4, model.bn6):
            layer.weight[::7] = 0
            layer.bias[::7] = -1
    return model


@pytest.fixture(scope="module")
def twice(few: mv.Digits) -> Tensor:
    """40 digits, the first 15 of them again: these tie with themselves."""
    return torch.cat([few[:40].pixels, few[:15].pixels])


@torch.no_grad()
def output_of(model: nn.Sequential, x: Tensor, layer: str) -> np.ndarray:
    for name, module in model.named_children():
        x = module(x)
        if name == layer:
            return x.numpy()
    raise KeyError(layer)


def by_hand(output: np.ndarray, k: int) -> dict[str, list[list[float]]]:
    """Channel by channel and input by input, with Python's own sort."""
    found: dict[str, list[list[float]]] = {name: [] for name in ("rows", "values", "y", "x")}
    for c in range(output.shape[1]):
        ranks = []
        for row, maps in enumerate(output):
            numbers, width = (maps[c], maps.shape[-1]) if maps.ndim > 1 else (maps[c : c + 1, None], 1)
            flat = numbers.ravel().tolist()
            top = max(flat)
            ranks.append((-top, row, *divmod(flat.index(top), width)))
        best = sorted(ranks)[:k]
        for name, column in zip(("values", "rows", "y", "x"), zip(*best, strict=True), strict=True):
            found[name].append([-v for v in column] if name == "values" else list(column))
    return found


def assert_equal(found: Examples, expected: dict[str, list[list[float]]]) -> None:
    for name in expected:
        np.testing.assert_array_equal(getattr(found, name), expected[name], err_msg=name)


def assert_alike(found: Examples, expected: Examples) -> None:
    assert_equal(found, {name: getattr(expected, name).tolist() for name in ("rows", "values", "y", "x")})
    assert found.fields == expected.fields


@pytest.mark.parametrize("k", [1, 9, 55])
@pytest.mark.parametrize("layer", LAYERS)
def test_sorting_all_activations_by_hand_finds_the_same(layer: str, k: int, deep: nn.Sequential, twice: Tensor) -> None:
    output = output_of(deep, twice, layer)
    found = mv.top_examples(deep, twice, layer, k)
    assert found.layer == layer
    assert found.rows.shape == found.values.shape == found.y.shape == found.x.shape == (output.shape[1], k)
    assert_equal(found, by_hand(output, k))


def test_the_values_are_found_at_their_places(deep: nn.Sequential, twice: Tensor) -> None:
    output, found = output_of(deep, twice, "conv2"), mv.top_examples(deep, twice, "conv2", 5)
    for channel in range(32):
        for row, value, y, x in zip(*(t[channel] for t in (found.rows, found.values, found.y, found.x)), strict=True):
            assert output[row, channel, y, x] == value == output[row, channel].max()


def test_level_inputs_keep_their_order_and_point_at_the_first_unit(deep: nn.Sequential, twice: Tensor) -> None:
    found = mv.top_examples(deep, twice, "relu1", 6)
    assert found.rows[7].tolist() == list(range(6))
    assert not any(t[7].any() for t in (found.values, found.y, found.x))


def test_of_equal_units_the_first_row_by_row_is_named() -> None:
    x = torch.zeros(4, 1, 5, 6)
    x[0, 0, 3, 1] = x[0, 0, 2, 4] = 1  # one row higher comes first, though further right
    x[1, 0, 4, 5] = x[1, 0, 4, 2] = 2
    x[2, 0, 1, 1] = x[2, 0, 1, 0] = x[2, 0, 4, 0] = 1
    x[3] = -3
    for layout in (torch.contiguous_format, torch.channels_last):
        conv = nn.Conv2d(1, 2, 1, bias=False).to(memory_format=layout)
        with torch.no_grad():
            conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        found = mv.top_examples(nn.Sequential(conv), x.contiguous(memory_format=layout), "0", 4)
        assert found.rows.tolist() == [[1, 0, 2, 3], [3, 0, 1, 2]]
        assert found.values.tolist() == [[2, 1, 1, -3], [3, 0, 0, 0]]
        assert found.y.tolist() == [[4, 2, 1, 0], [0, 0, 0, 0]]
        assert found.x.tolist() == [[2, 4, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("layer", ["conv1", "relu2", "pool2", "conv5", "fc1"])
def test_each_example_knows_what_its_unit_sees(layer: str, deep: nn.Sequential, twice: Tensor) -> None:
    found = mv.top_examples(deep, twice, layer, 4)
    with torch.no_grad(), mv.capture(deep) as trace:
        deep(twice[:1])
    flat = output_of(deep, twice[:1], layer).ndim == 2
    places = set()
    for channel in range(len(found.rows)):
        for i in range(4):
            y, x = int(found.y[channel, i]), int(found.x[channel, i])
            places.add((y, x))
            expected = mv.receptive_field(trace, layer) if flat else mv.receptive_field(trace, layer, y, x)
            assert found.field(channel, i) == expected
    assert set(found.fields) == places


def test_changing_what_lies_outside_the_field_changes_nothing(deep: nn.Sequential, twice: Tensor) -> None:
    found = mv.top_examples(deep, twice, "conv3", 1)
    for channel in range(8, 16):
        seen, row = found.field(channel, 0), int(found.rows[channel, 0])
        other = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(channel))
        seen.crop(other).copy_(seen.crop(twice[row : row + 1]))
        value = output_of(deep, other, "conv3")[0, channel, found.y[channel, 0], found.x[channel, 0]]
        assert value == pytest.approx(float(found.values[channel, 0]), abs=1e-6)


def whole_numbers() -> nn.Sequential:
    """Small whole weights and few levels of grey: no rounding anywhere, and ties everywhere."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(507, 4), nn.ReLU())
    draw = np.random.default_rng(5)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(draw.integers(-1, 2, p.shape)))
    return model


@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 70), k=st.integers(1, 60), layer=st.sampled_from("01234"))
def test_the_batch_size_changes_nothing(batch: int, k: int, layer: str, few: mv.Digits) -> None:
    model, x = whole_numbers(), (few[:60].images // 128).float().unsqueeze(1)
    found = mv.top_examples(model, x, layer, k, batch=batch)
    assert_equal(found, by_hand(output_of(model, x, layer), k))
    assert_alike(found, mv.top_examples(model, x, layer, k))


@pytest.mark.parametrize("layer", ["conv2", "fc1"])
def test_the_batch_size_does_not_matter_to_a_real_model(layer: str, deep: nn.Sequential, few: mv.Digits) -> None:
    """Values may differ in their last digit, as convolutions round differently, but not which inputs are shown."""
    expected = mv.top_examples(deep, few[:100].pixels, layer, 3)
    found = mv.top_examples(deep, few[:100].pixels, layer, 3, batch=7)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-5, atol=1e-5)
    assert (found.rows == expected.rows).double().mean() > 0.95


@pytest.mark.parametrize("k", [0, -1, 6])
def test_as_many_examples_as_there_are_inputs(k: int, deep: nn.Module, few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=f"given: *{k}[\\s\\S]*1 to 5"):
        mv.top_examples(deep, few[:5].pixels, "relu2", k)
    assert sorted(mv.top_examples(deep, few[:5].pixels, "relu2", 5).rows[0].tolist()) == [0, 1, 2, 3, 4]


def test_an_unknown_layer_is_refused(deep: nn.Module, few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"unknown layer[\s\S]*'relu22'[\s\S]*did you mean 'relu2'"):
        mv.top_examples(deep, few[:9].pixels, "relu22")


def test_each_call_of_a_layer_that_runs_twice_can_be_asked_for(few: mv.Digits) -> None:
    """By the names that the error without them gives."""
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(1, 3, 3), relu, nn.Conv2d(3, 2, 3), relu)
    with pytest.raises(mv.MnistvizError, match="1:0, 1:1"):
        mv.top_examples(model, few[:20].pixels, "1")
    with torch.no_grad():
        first = model[:2](few[:20].pixels).numpy()
        second = model(few[:20].pixels).numpy()
    for layer, output in (("1:0", first), ("1:1", second)):
        assert_equal(mv.top_examples(model, few[:20].pixels, layer, 3), by_hand(output, 3))


@pytest.mark.parametrize("layer", ["relu2", "nonsense"])
def test_the_model_is_left_as_it_was(layer: str, few: mv.Digits) -> None:
    """And answers as it does when judged, even in the middle of a training."""
    model = seeded(mv.models.deep)
    expected = mv.top_examples(model, few[:20].pixels, "relu2", 3)
    model.train()
    model.bn1.eval()
    model(few[:4].pixels).sum().backward()
    model.load_state_dict(seeded(mv.models.deep).state_dict())

    def marks() -> dict[str, Any]:
        held = {name: value.tolist() for name, value in model.state_dict().items()}
        held |= {f"grad of {name}": p.grad.tolist() for name, p in model.named_parameters()}
        held |= {f"mode of {name}": module.training for name, module in model.named_modules()}
        hooks = [len(value) for m in model.modules() for key, value in vars(m).items() if "hooks" in key]
        return held | {"hooks": hooks, "random": torch.get_rng_state().tolist()}

    before = marks()
    if layer == "nonsense":
        with pytest.raises(mv.MnistvizError):
            mv.top_examples(model, few[:20].pixels, layer, 3)
    else:
        assert_alike(mv.top_examples(model, few[:20].pixels, layer, 3), expected)
    assert marks() == before


def test_examples_hold_no_gradients_and_say_what_they_are(deep: nn.Module, few: mv.Digits) -> None:
    found = mv.top_examples(deep, few[:12].pixels, "relu2")
    assert not found.values.requires_grad
    assert repr(found) == "Examples('relu2': the 9 strongest inputs for each of 32 channels)"
