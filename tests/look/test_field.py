"""What a unit is said to see is what can change it: found again by lighting up one pixel at a time."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from helpers import refusals, refused
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import Residual, images, layer_by_layer, pairs, record

import mnistviz as mv
from mnistviz.look.field import Field
from mnistviz.look.trace import Trace

Box = tuple[int, int, int, int]  # top, bottom, left, right


def box_of(seen: Tensor) -> Box | None:
    """The smallest box around everything that is not zero or False in a picture (H, W)."""
    rows, columns = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
    return (rows[0], rows[-1], columns[0], columns[-1]) if rows else None


def box(field: Field) -> Box:
    return field.top, field.bottom, field.left, field.right


def positive(model: nn.Module) -> nn.Module:
    """All weights 1 and no bias: whatever is seen can only push up, so nothing is hidden by a sign or a gate."""
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float(name.endswith("weight")))
    return model


def check_every_unit(trace: Trace, model: nn.Sequential, size: tuple[int, int]) -> None:
    """Each pixel alone in the dark: the units of a positive network that it reaches are those that see it.

    Equal boxes for every unit of every layer, and an error for those that see nothing.
    """
    pixels = torch.eye(size[0] * size[1]).double().view(-1, 1, *size)
    # a max-pool that sees only its border gives -inf
    for name, signals in layer_by_layer(model, pixels, lambda name, t: t.clamp(min=0)).items():
        seen = (signals > 0).any(1).view(*size, *signals.shape[2:])  # a place is the same in every channel
        for place in product(*map(range, seen.shape[2:])):
            expected = box_of(seen[(..., *place)])
            if expected is None:
                refused(lambda name=name, place=place: mv.receptive_field(trace, name, *place), "sees only the border")
            else:
                assert box(mv.receptive_field(trace, name, *place)) == expected, (name, place)


Stack = tuple[nn.Sequential, tuple[int, int]]


def stack(*layers: nn.Module, size: tuple[int, int] = (6, 7)) -> Stack:
    return positive(nn.Sequential(*layers)), size


@st.composite
def stacks(draw: st.DrawFn) -> Stack:
    """One to three layers and a size they fit on: any dilation, strides that skip pixels, borders of every kind."""
    size = draw(pairs(3, 12))
    model, x = nn.Sequential(), torch.zeros(1, 1, *size)
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride, dilation, border = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3)), draw(pairs(0, 2))
        half = tuple(min(b, k // 2) for b, k in zip(border, kernel, strict=True))
        match draw(st.sampled_from(["conv", "max", "average", "adaptive", "relu"])):
            case "conv":
                mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
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


THRICE = [layer for _ in range(3) for layer in (nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=70, deadline=None)
@given(drawn=stacks())
@example(drawn=stack(nn.Conv2d(1, 1, 3, padding=1, dilation=2)))  # a dilated kernel half outside
@example(drawn=stack(nn.Conv2d(1, 1, 1, stride=3, padding=1), nn.Conv2d(1, 1, 2)))  # a stride that skips pixels
@example(drawn=stack(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 1, padding=2)))  # a border inside the network
@example(drawn=stack(nn.Conv2d(1, 1, 4, padding="same"), nn.Conv2d(1, 1, (1, 2), padding="same", dilation=(1, 3))))
@example(drawn=stack(nn.Conv2d(1, 1, 1, padding=2, padding_mode="reflect")))
@example(drawn=stack(nn.Conv2d(1, 1, 1, padding=2, padding_mode="replicate")))
@example(drawn=stack(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")))
@example(drawn=stack(nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(12, 3)))
@example(drawn=stack(*THRICE, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2), size=(24, 20)))  # deep
def test_any_stack_sees_exactly_its_fields(drawn):
    model, size = drawn
    trace = record(model, torch.rand(1, 1, *size, dtype=torch.float64))
    check_every_unit(trace, model, size)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=25, deadline=None)
@given(drawn=stacks())
@example(drawn=stack(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 2, groups=2), nn.Softmax(3)))
@example(drawn=stack(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(40, 3)))
@example(drawn=stack(nn.Flatten(), nn.LogSoftmax(-1)))
def test_a_pixel_reaches_what_is_no_number_when_it_is_none(drawn):
    """A NaN goes everywhere that its pixel goes, whatever the weights."""
    model, size = drawn
    trace = record(model, torch.rand(1, 1, *size, dtype=torch.float64))
    pixels = torch.rand(size[0] * size[1], 1, *size, dtype=torch.float64)
    pixels.flatten(1).fill_diagonal_(torch.nan)
    for name, signals in layer_by_layer(model, pixels, lambda name, t: t.clamp(min=0)).items():
        for reached, (y, x) in zip(signals.isnan(), product(*map(range, size)), strict=True):
            assert torch.equal(mv.projective_field(trace, y, x, name), reached), (name, y, x)


def test_a_batch_norm_without_running_statistics_sees_the_whole_map():
    x = torch.rand(1, 1, 7, 6, requires_grad=True)
    trace = record(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)), x)
    assert mv.receptive_field(trace, "1", 0, 0).size == (7, 6)
    assert all(mv.projective_field(trace, y, x, "1").all() for y in (0, 6) for x in (0, 5))


def closed_form(layers: list[nn.Module], at: int, axis: int) -> tuple[int, int]:
    """Where the window of a unit begins and how wide it is: r = 1 + Σ (k−1)·d·Πs, start = at·Πs − Σ p·Πs."""
    jump, width, before = 1, 1, 0
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            continue
        width += (layer.kernel_size[axis] - 1) * getattr(layer, "dilation", (1, 1))[axis] * jump
        before += layer.padding[axis] * jump
        jump *= layer.stride[axis]
    return at * jump - before, width


@settings(max_examples=30, deadline=None)
@given(drawn=stacks())
def test_the_whole_window_follows_the_closed_formula(drawn):
    model, size = drawn
    assume(not any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in model))
    trace = record(model, torch.rand(1, 1, *size, dtype=torch.float64))
    for y, x in product(*map(range, trace[-1].output.shape[2:])):
        (top, height), (left, width) = (closed_form(list(model), at, axis) for axis, at in enumerate((y, x)))
        inside = top >= 0 and left >= 0 and top + height <= size[0] and left + width <= size[1]
        try:
            field = mv.receptive_field(trace, trace.keys[-1], y, x)
        except mv.MnistvizError:  # it sees only the border
            assert not inside
            continue
        assert (field.window, field.size) == ((top, left), (height, width))


def test_flat_layers_see_what_all_their_inputs_see_and_a_unit_of_a_flatten_what_the_map_saw():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=3), nn.Flatten(), nn.Linear(18, 4), nn.ReLU(), nn.Linear(4, 2))
    trace, batch = record(model, torch.rand(1, 1, 11, 10)), record(model, torch.rand(3, 1, 11, 10))
    for layer in ("1", "2", "3", "4"):
        assert box(mv.receptive_field(trace, layer)) == (0, 8, 0, 8)  # three windows of three; the rest is cut off
    for unit, (_, y, x) in enumerate(product(range(2), range(3), range(3))):
        expected = mv.receptive_field(trace, "0", y, x)
        assert mv.receptive_field(trace, "1", unit) == mv.receptive_field(batch, "1", unit) == expected
    first = record(nn.Sequential(nn.Flatten(), nn.Linear(30, 2)), torch.rand(1, 1, 5, 6))
    assert box(mv.receptive_field(first, "1")) == (0, 4, 0, 5)
    assert box(mv.receptive_field(first, "0", 13)) == (2, 2, 1, 1)
    assert box(mv.receptive_field(record(Residual(), images()), "conv1", 1, 0)) == (0, 2, 0, 1)  # before a function


def test_a_crop_is_what_the_unit_was_computed_from(mnist, passes):
    pixels, trace = mnist.test[0].pixels, passes["simple"]
    field = mv.receptive_field(trace, "conv1", y=9, x=12)
    assert torch.equal(field.crop(pixels), pixels[:, :, 9:12, 12:15])
    seen = (field.crop(pixels) - 0.1307) / 0.3081
    expected = F.conv2d(seen, trace["conv1"].weight, trace["conv1"].bias)[0, :, 0, 0]
    torch.testing.assert_close(trace["conv1"].output[0, :, 9, 12], expected)
    clipped, images = Field(0, 2, 25, 27, (5, 5), (-2, 25)), torch.rand(2, 3, 28, 28)
    for several in (images, images[0], images[0, 0]):
        assert torch.equal(clipped.crop(several), several[..., :3, -3:])


def test_a_printed_field_says_whether_it_was_clipped(passes, golden):
    golden("a whole field", mv.receptive_field(passes["deep"], "conv1", 5, 6))
    golden("a clipped field", mv.receptive_field(passes["deep"], "conv1", 0, 6))


def blank(**options: object) -> Trace:
    return record(mv.models.simple(), torch.zeros(1, 1, 28, 28), **options)


def simple(layer: str, y: int | None = None, x: int | None = None, **options: object) -> object:
    return mv.receptive_field(blank(**options), layer, y, x)


def functional(layer: str, *place: int) -> object:
    return mv.receptive_field(record(Residual(), images()), layer, *place)


def after(layer: nn.Module, *place: int, size: tuple[int, ...] = (1, 4, 4)) -> object:
    return mv.receptive_field(record(nn.Sequential(layer), torch.rand(1, *size)), "0", *place)


def reached(model: nn.Module, x: Tensor, layer: str = "") -> Tensor:
    return mv.projective_field(record(model, x), 1, 2, layer)


PLACES = ("no such unit in 'conv2'", "y 0 to 10, x 0 to 10; counted from 0")
UNNAMED = ("does not name one unit of 'conv2'", "give channel, y and x")
BAD = {
    "only padding": (lambda: after(nn.Conv2d(1, 1, 1, padding=2), 0, 0), "unit of '0' sees only the border"),
    "a function before it": (lambda: functional("conv2", 1, 2), "way back ends at 'conv2'", "as modules"),
    "a function before a flat one": (lambda: functional("fc"), "way back ends at 'fc'"),
    "a layer left out": (lambda: simple("conv2", 0, 0, layers="conv*"), "ends at 'conv2'", "record all layers"),
    "a group norm": (lambda: after(nn.GroupNorm(1, 1), 0, 0), "what a GroupNorm lets through", "Conv2d, MaxPool2d"),
    "no rows": (lambda: after(nn.Linear(4, 2), size=(4,)), "input has no rows and columns"),
    "a row too many": (lambda: simple("conv2", 11, 0), *PLACES),
    "no place": (lambda: simple("conv2"), *UNNAMED),
    "a unit too many": (lambda: simple("flatten", 1600), "0 to 1599"),
    "a unit with a column": (lambda: simple("flatten", 0, 0), "does not name one unit of 'flatten'", "0 to 1599"),
    "a flat layer with a place": (lambda: simple("fc1", 3, 99), "'fc1'"),
    "a pixel too low": (lambda: mv.projective_field(blank(), 28, 0, "fc1"), "no such pixel", "(28, 0)", "rows 0 to 27"),
    "a pixel left of all": (lambda: mv.projective_field(blank(), 0, -1, "fc1"), "no such pixel", "columns 0 to 27"),
    "reached through a function": (lambda: reached(Residual(), images(), "conv2"), "ends at 'conv2'", "as modules"),
    "reached through a group norm": (lambda: reached(nn.GroupNorm(1, 1), images()), "a GroupNorm leads is not known"),
    "no rows to begin with": (lambda: reached(nn.Linear(4, 2), torch.rand(1, 4)), "input has no rows and columns"),
}
test_what_has_no_field_is_told = refusals(BAD)
