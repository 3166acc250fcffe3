"""What a unit is said to see is what can change it: found again by autograd, and by lighting up one pixel at a time."""

import copy
import random
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.field import Field
from mnistviz.look.trace import Trace

SAMPLE = 40  # units of each layer of the real models
SHIPPED = "deep, shipped"
Box = tuple[int, int, int, int]  # top, bottom, left, right


def record(model: nn.Module, x: Tensor) -> Trace:
    with mv.capture(model) as trace, torch.no_grad():
        model(x)
    return trace


def box_of(seen: Tensor) -> Box | None:
    """The smallest box around everything that is not zero or False in a picture (H, W)."""
    rows, columns = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
    return (rows[0], rows[-1], columns[0], columns[-1]) if rows else None


def box(field: Field) -> Box:
    return field.top, field.bottom, field.left, field.right


def within(small: Box, large: Box) -> bool:
    return small[0] >= large[0] and small[1] <= large[1] and small[2] >= large[2] and small[3] <= large[3]


def positive(model: nn.Module) -> nn.Module:
    """All weights 1 and no bias: whatever is seen can only push up, so nothing is hidden by a sign or a gate."""
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float(name.endswith("weight")))
    return model


def seen_after_each_layer(model: nn.Sequential, size: tuple[int, int]) -> dict[str, Tensor]:
    """(H, W, *units): which pixel, alone in the dark, reaches which unit of a positive network."""
    signals, found = torch.eye(size[0] * size[1]).double().view(-1, 1, *size), {}
    for name, layer in model.named_children():
        with torch.no_grad():
            signals = layer(signals).clamp(min=0)  # a max-pool that sees only its border gives -inf
        found[name] = (signals > 0).view(*size, *signals.shape[1:])
    return found


def check_every_unit(trace: Trace, seen: dict[str, Tensor]) -> None:
    """Equal boxes for every unit of every layer, and an error for those that see nothing."""
    for name, pixels in seen.items():
        if pixels.ndim == 5:
            of_place = pixels.any(2)  # a place is the same in every channel
            units: dict[tuple[int, ...], Tensor] = {
                (y, x): of_place[:, :, y, x] for y, x in product(*map(range, of_place.shape[2:]))
            }
        else:
            units = {(): pixels.any(2)}
        for unit, part in units.items():
            expected = box_of(part)
            if expected is None:
                with pytest.raises(mv.MnistvizError, match="sees only the border"):
                    mv.receptive_field(trace, name, *unit)
            else:
                assert box(mv.receptive_field(trace, name, *unit)) == expected, (name, unit)


# ——— the published architectures ———


def thin(model: nn.Sequential) -> nn.Sequential:
    """The same windows with one channel each, all positive: it sees exactly what the model sees."""
    layers, x = nn.Sequential(), torch.zeros(1, 1, 28, 28).double()
    for name, layer in model.named_children():
        match layer:
            case nn.Conv2d():
                new: nn.Module = nn.Conv2d(1, 1, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            case nn.Linear():
                new = nn.Linear(x.shape[1], 2)
            case nn.MaxPool2d() | nn.AdaptiveAvgPool2d() | nn.ReLU() | nn.Flatten():
                new = layer
            case _:
                new = nn.Identity()
        layers.add_module(name, positive(new))
        x = layers[-1](x)
    return layers


@pytest.fixture(scope="module")
def real() -> dict[str, nn.Sequential]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: build().eval() for name, build in mv.models.MODELS.items()} | {SHIPPED: mv.load_model("deep")}


@pytest.mark.parametrize("name", mv.models.MODELS)
def test_every_unit_of_every_model_sees_this_and_nothing_else(name: str, real: dict[str, nn.Sequential]) -> None:
    trace = record(real[name], torch.rand(1, 1, 28, 28))
    check_every_unit(trace, seen_after_each_layer(thin(real[name]), (28, 28)))


@pytest.mark.parametrize("name", [*mv.models.MODELS, SHIPPED])
def test_no_gradient_leaves_the_field_of_a_real_unit(
    name: str, real: dict[str, nn.Sequential], mnist: DigitSet
) -> None:
    """A sample of 40 units per layer, without replacement where there are so many; seed 7."""
    model, dice = copy.deepcopy(real[name]).double(), random.Random(7)
    pixels = mnist.test[0].pixels.double().expand(SAMPLE, -1, -1, -1).clone().requires_grad_()
    trace = record(model, pixels[:1].detach())
    out = pixels
    for layer, module in model.named_children():
        out = module(out)
        places = list(product(*map(range, out.shape[1:])))
        units = dice.sample(places, min(SAMPLE, len(places)))
        score = sum(out[(i, *unit)] for i, unit in enumerate(units))
        gradients = torch.autograd.grad(score, pixels, retain_graph=True)[0][:, 0]
        boxes = [box_of(gradient) for gradient in gradients[: len(units)]]
        assert sum(b is not None for b in boxes) >= min(5, len(places)), f"{layer}: too few gates are open to tell"
        for unit, found in zip(units, boxes, strict=True):
            at = unit[1:] if len(unit) == 3 else unit if isinstance(module, nn.Flatten) else ()
            assert found is None or within(found, box(mv.receptive_field(trace, layer, *at))), (layer, unit)


def test_known_fields_of_the_published_models(real: dict[str, nn.Sequential]) -> None:
    x = torch.zeros(1, 1, 28, 28)
    simple, deep = record(real["simple"], x), record(real["deep"], x)
    inner = mv.receptive_field(simple, "conv2", y=3, x=7)
    assert (box(inner), inner.size, inner.window) == ((6, 13, 14, 21), (8, 8), (6, 14))
    corner = mv.receptive_field(deep, "conv2", y=0, x=27)
    assert (box(corner), corner.size, corner.window) == ((0, 2, 25, 27), (5, 5), (-2, 25))
    assert box(mv.receptive_field(simple, "fc1")) == (0, 25, 0, 25)  # the last two rows are cut off by pooling
    assert box(mv.receptive_field(deep, "fc2")) == (0, 27, 0, 27)


# ——— small networks, every unit ———

SMALL = {
    "one convolution": (nn.Conv2d(1, 1, 3),),
    "border": (nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1)),
    "stride": (nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 2), nn.Conv2d(2, 1, 3, stride=2, padding=2)),
    "not square": (nn.Conv2d(1, 1, (2, 5), stride=(2, 1), padding=(0, 2)), nn.Conv2d(1, 1, (3, 1), padding=(1, 0))),
    "dilated": (nn.Conv2d(1, 1, 3, padding=2, dilation=2), nn.Conv2d(1, 1, 2, dilation=(1, 3))),
    "same": (nn.Conv2d(1, 1, 4, padding="same"), nn.Conv2d(1, 1, (1, 2), padding="same", dilation=(1, 3))),
    "average": (nn.Conv2d(1, 1, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3, padding=1)),
    "adaptive": (nn.Conv2d(1, 1, 2), nn.AdaptiveAvgPool2d((3, 4)), nn.Conv2d(1, 1, 2, padding=1)),
    "flat": (nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel", "ignore:Lazy modules")
@pytest.mark.parametrize("case", SMALL)
def test_the_gradient_of_every_unit_fills_its_field_exactly(case: str) -> None:
    model = nn.Sequential(*SMALL[case])
    model(torch.zeros(2, 1, 9, 10).to(next(model.parameters()).dtype))
    positive(model)
    x = torch.rand(1, 1, 9, 10, dtype=torch.float64) + 0.1
    trace = record(model, x)
    out = x.requires_grad_()
    for (name, layer), step in zip(model.named_children(), trace, strict=True):
        out = layer(out)
        for unit in product(*map(range, step.output.shape[1:])):
            gradient = torch.autograd.grad(out[(0, *unit)], x, retain_graph=True)[0][0, 0]
            assert (gradient >= 0).all()
            at = unit[1:] if len(unit) == 3 else unit if step.kind == "Flatten" else ()
            assert box(mv.receptive_field(trace, name, *at)) == box_of(gradient), (name, unit)


Pair = tuple[int, int]


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def stacks(draw: st.DrawFn, ordinary: bool = False) -> tuple[nn.Sequential, Pair]:
    """One to three layers and a size they fit on.

    Ordinary ones leave no pixel out between two windows, and put no window on the border alone.
    """
    size = draw(pairs(3, 12))
    model, x = nn.Sequential(), torch.zeros(1, 1, *size)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["conv", "max", "average", "adaptive", "relu"]))
        kernel, dilation = draw(pairs(1, 4)), (1, 1) if ordinary else draw(pairs(1, 3))
        stride = tuple(draw(st.integers(1, min(3, k) if ordinary else 3)) for k in kernel)
        border = tuple(draw(st.integers(0, min(2, k - 1) if ordinary else 2)) for k in kernel)
        half = tuple(min(b, k // 2) for b, k in zip(border, kernel, strict=True))
        match kind:
            case "conv":
                modes = ["zeros"] if ordinary else ["zeros", "zeros", "reflect", "replicate", "circular"]
                mode = draw(st.sampled_from(modes))
                layer: nn.Module = nn.Conv2d(1, 1, kernel, stride, border, dilation, padding_mode=mode)
            case "max":
                layer = nn.MaxPool2d(kernel, stride, half, dilation, ceil_mode=draw(st.booleans()))
            case "average":
                layer = nn.AvgPool2d(kernel, stride, half, ceil_mode=draw(st.booleans()))
            case "adaptive":
                layer = nn.AdaptiveAvgPool2d(draw(pairs(1, 4)))
            case _:
                layer = nn.ReLU()
        try:
            with torch.no_grad():
                x = layer(x)
        except RuntimeError:  # the window is larger than what is left
            assume(False)
        model.append(layer)
    return positive(model), size


def check_stack(model: nn.Sequential, size: Pair) -> None:
    trace = record(model, torch.rand(1, 1, *size, dtype=torch.float64))
    check_every_unit(trace, seen_after_each_layer(model, size))


@settings(max_examples=120, deadline=None)
@given(stack=stacks(ordinary=True))
def test_any_ordinary_stack_sees_exactly_its_fields(stack: tuple[nn.Sequential, Pair]) -> None:
    check_stack(*stack)


@settings(max_examples=200, deadline=None)
@given(stack=stacks())
def test_any_stack_sees_exactly_its_fields(stack: tuple[nn.Sequential, Pair]) -> None:
    """With dilation, strides that skip pixels, wide borders and every padding mode."""
    check_stack(*stack)


STRANGE = {
    "a dilated kernel half outside": (nn.Conv2d(1, 1, 3, padding=1, dilation=2),),
    "a stride that skips pixels": (nn.Conv2d(1, 1, 1, stride=3, padding=1), nn.Conv2d(1, 1, 2)),
    "on a border inside the network": (nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 1, padding=2)),
    "border that mirrors": (nn.Conv2d(1, 1, 1, padding=2, padding_mode="reflect"),),
    "border that repeats": (nn.Conv2d(1, 1, 1, padding=2, padding_mode="replicate"),),
    "border from the other side": (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_unit_at_the_border_sees_exactly_its_field(case: str) -> None:
    check_stack(positive(nn.Sequential(*STRANGE[case])), (6, 7))


def closed_form(layers: list[nn.Module], at: int, axis: int) -> Pair:
    """Where the window of a unit begins and how wide it is: r = 1 + Σ (k−1)·d·Πs, start = at·Πs − Σ p·Πs."""
    jump, width, before = 1, 1, 0
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            continue
        dilation = getattr(layer, "dilation", (1, 1))
        width += (layer.kernel_size[axis] - 1) * dilation[axis] * jump
        before += layer.padding[axis] * jump
        jump *= layer.stride[axis]
    return at * jump - before, width


@settings(max_examples=100, deadline=None)
@given(stack=stacks())
def test_the_whole_window_follows_the_closed_formula(stack: tuple[nn.Sequential, Pair]) -> None:
    model, size = stack
    assume(not any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in model))
    trace = record(model, torch.rand(1, 1, *size, dtype=torch.float64))
    last = trace.keys[-1]
    for y, x in product(*map(range, trace[last].output.shape[2:])):
        (top, height), (left, width) = (closed_form(list(model), at, axis) for axis, at in enumerate((y, x)))
        inside = top >= 0 and left >= 0 and top + height <= size[0] and left + width <= size[1]
        try:
            field = mv.receptive_field(trace, last, y, x)
        except mv.MnistvizError as error:
            assert "sees only the border" in str(error)  # noqa: PT017
            assert not inside
            continue
        assert (field.window, field.size) == ((top, left), (height, width))
        if inside and not any(getattr(layer, "padding_mode", "zeros") != "zeros" for layer in model):
            assert box(field) == (top, top + height - 1, left, left + width - 1)


# ——— flat layers ———


def test_flat_layers_see_what_all_their_inputs_see() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=3), nn.Flatten(), nn.Linear(18, 4), nn.ReLU(), nn.Linear(4, 2))
    trace = record(model, torch.rand(1, 1, 11, 10))
    for layer in ("1", "2", "3", "4"):
        field = mv.receptive_field(trace, layer)
        assert box(field) == (0, 8, 0, 8)  # three windows of three; the rest is cut off
        assert (field.height, field.width) == (9, 9)


def test_a_unit_of_a_flatten_is_the_unit_of_the_map_before() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Flatten())
    trace = record(model, torch.rand(1, 1, 8, 6))
    for unit, (_, y, x) in enumerate(product(range(2), range(4), range(3))):
        assert mv.receptive_field(trace, "2", unit) == mv.receptive_field(trace, "1", y, x)


def test_a_unit_of_a_flatten_that_comes_first_is_one_pixel() -> None:
    trace = record(nn.Sequential(nn.Flatten(), nn.Linear(30, 2)), torch.rand(1, 1, 5, 6))
    assert box(mv.receptive_field(trace, "1")) == (0, 4, 0, 5)
    assert box(mv.receptive_field(trace, "0", 13)) == (2, 2, 1, 1)


def test_a_layer_that_is_a_whole_model() -> None:
    trace = record(nn.Conv2d(1, 1, 3), torch.rand(1, 1, 5, 6))
    assert box(mv.receptive_field(trace, "", 2, 3)) == (2, 4, 3, 5)


def test_a_batch_has_the_fields_of_one_picture() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2))
    one, several = (record(model, torch.rand(n, 1, 8, 8)) for n in (1, 3))
    assert mv.receptive_field(one, "1", 3, 0) == mv.receptive_field(several, "1", 3, 0)


# ——— the field itself ———


def test_a_crop_is_what_the_unit_was_computed_from(mnist: DigitSet, real: dict[str, nn.Sequential]) -> None:
    pixels = mnist.test[0].pixels
    trace = record(real["simple"], pixels)
    field = mv.receptive_field(trace, "conv1", y=9, x=12)
    assert torch.equal(field.crop(pixels), pixels[:, :, 9:12, 12:15])
    seen = (field.crop(pixels) - 0.1307) / 0.3081
    weight, bias = trace["conv1"].weight, trace["conv1"].bias
    torch.testing.assert_close(F.conv2d(seen, weight, bias)[0, :, 0, 0], trace["conv1"].output[0, :, 9, 12])


@pytest.mark.parametrize("shape", [(28, 28), (5, 28, 28), (2, 3, 28, 28)])
def test_a_crop_takes_pictures_of_any_number(shape: tuple[int, ...]) -> None:
    field = Field(0, 2, 25, 27, (5, 5), (-2, 25))
    images = torch.rand(shape)
    part = field.crop(images)
    assert part.shape == (*shape[:-2], field.height, field.width) == (*shape[:-2], 3, 3)
    assert torch.equal(part, images[..., :3, -3:])


def test_a_printed_field_says_whether_it_was_clipped(real: dict[str, nn.Sequential]) -> None:
    trace = record(real["deep"], torch.zeros(1, 1, 28, 28))
    assert repr(mv.receptive_field(trace, "conv1", 5, 6)) == "Field(rows 4 to 6, columns 5 to 7: 3×3)"
    clipped = "Field(rows 0 to 1, columns 5 to 7: 2×3, clipped from 3×3)"
    assert repr(mv.receptive_field(trace, "conv1", 0, 6)) == clipped


# ——— what has no field ———


def test_a_unit_that_sees_only_padding_is_told() -> None:
    trace = record(nn.Sequential(nn.Conv2d(1, 1, 1, padding=2)), torch.rand(1, 1, 4, 4))
    assert box(mv.receptive_field(trace, "0", 2, 2)) == (0, 0, 0, 0)
    for place in ((0, 0), (1, 3), (3, 7)):
        with pytest.raises(mv.MnistvizError, match="unit of '0' sees only the border that padding adds"):
            mv.receptive_field(trace, "0", *place)


class Functional(nn.Module):
    """Something is computed between two layers, where no hook can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.conv1(x).relu()).flatten(1))


def test_a_functional_part_on_the_way_back_is_told() -> None:
    trace = record(Functional(), torch.rand(1, 1, 8, 8))
    assert box(mv.receptive_field(trace, "conv1", 1, 2)) == (1, 3, 2, 4)
    with pytest.raises(mv.MnistvizError, match=r"(?s)way back ends at 'conv2'.*as modules"):
        mv.receptive_field(trace, "conv2", 1, 2)
    with pytest.raises(mv.MnistvizError, match="way back ends at 'fc'"):
        mv.receptive_field(trace, "fc")


def test_a_layer_left_out_of_the_record_is_told(real: dict[str, nn.Sequential]) -> None:
    with mv.capture(real["simple"], ["conv1", "conv2"]) as trace:
        real["simple"](torch.zeros(1, 1, 28, 28))
    with pytest.raises(mv.MnistvizError, match=r"(?s)way back ends at 'conv2'.*record all layers"):
        mv.receptive_field(trace, "conv2", 0, 0)


@pytest.mark.parametrize("layer", [nn.GroupNorm(1, 2), nn.Softmax(dim=3), nn.ConvTranspose2d(2, 2, 2)])
def test_a_layer_that_is_not_known_is_told(layer: nn.Module) -> None:
    trace = record(nn.Sequential(nn.Conv2d(1, 2, 1), layer), torch.rand(1, 1, 4, 4))
    with pytest.raises(mv.MnistvizError, match=rf"(?s)what a {type(layer).__name__} lets through.*Conv2d, MaxPool2d"):
        mv.receptive_field(trace, "1", 0, 0)


def test_an_input_without_rows_is_told() -> None:
    trace = record(nn.Sequential(nn.Linear(4, 2)), torch.rand(1, 4))
    with pytest.raises(mv.MnistvizError, match="input has no rows and columns"):
        mv.receptive_field(trace, "0")


@pytest.mark.parametrize("place", [(11, 0), (0, 11), (-1, 0), (0, -1)])
def test_a_place_out_of_range_is_told(place: Pair, real: dict[str, nn.Sequential]) -> None:
    trace = record(real["simple"], torch.zeros(1, 1, 28, 28))
    with pytest.raises(mv.MnistvizError, match=r"(?s)no such unit in 'conv2'.*y 0 to 10, x 0 to 10; counted from 0"):
        mv.receptive_field(trace, "conv2", *place)


@pytest.mark.parametrize("place", [{}, {"y": 3}, {"x": 3}])
def test_a_place_needs_its_y_and_x(place: dict[str, int], real: dict[str, nn.Sequential]) -> None:
    trace = record(real["simple"], torch.zeros(1, 1, 28, 28))
    with pytest.raises(mv.MnistvizError, match=r"(?s)does not name one unit of 'conv2'.*give channel, y and x"):
        mv.receptive_field(trace, "conv2", **place)


@pytest.mark.parametrize("place", [(1600, None), (-1, None), (0, 0)])
def test_a_unit_of_a_flatten_out_of_range_is_told(
    place: tuple[int, int | None], real: dict[str, nn.Sequential]
) -> None:
    trace = record(real["simple"], torch.zeros(1, 1, 28, 28))
    with pytest.raises(mv.MnistvizError, match="0 to 1599"):
        mv.receptive_field(trace, "flatten", *place)


@pytest.mark.parametrize(("layer", "place"), [("flatten", {"x": 3}), ("fc1", {"y": 3, "x": 99}), ("fc2", {"y": 10})])
def test_a_place_in_a_flat_layer_is_not_silently_ignored(
    layer: str, place: dict[str, int], real: dict[str, nn.Sequential]
) -> None:
    trace = record(real["simple"], torch.zeros(1, 1, 28, 28))
    with pytest.raises(mv.MnistvizError, match=layer):
        mv.receptive_field(trace, layer, **place)


def test_an_unknown_layer_is_told_with_names_like_it(real: dict[str, nn.Sequential]) -> None:
    trace = record(real["simple"], torch.zeros(1, 1, 28, 28))
    with pytest.raises(mv.MnistvizError, match=r"(?s)unknown layer.*did you mean 'conv"):
        mv.receptive_field(trace, "conv9", 0, 0)
