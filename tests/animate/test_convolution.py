"""A kernel slides, a window hands on its winner: every position and every number is torch's own."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import refusals
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import ACCENT, Fresh, Watch, lies, texts_of
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.animate import Frame
from mnistviz.look.capture import record
from mnistviz.look.trace import Trace

SMALL = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def light(traces) -> Trace:
    return traces["light"]


def boxed(frame: Frame, left: int, right: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of what stands inside the green box between two columns of pixels."""
    ys, xs = np.nonzero(frame.pixels[:, left:right] == ACCENT)
    x, y = int(xs.min()) + left + 3, int(ys.min()) + 3
    return x, y, int(xs.max()) + left - 2 - x, int(ys.max()) - 2 - y


def with_weights(seed: int, *layers: nn.Module) -> nn.Sequential:
    """Fresh weights from a seed."""
    model, dice = nn.Sequential(*layers).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=dice) / 2)
    return model


def check_convolution(model: nn.Sequential, x: Tensor, channel: int | None, watch: Watch | None = None) -> None:
    """Boxes stand where torch's kernel and its output are, every row is visited, and the map is whole in the end."""
    fresh, conv = Fresh(model, x), model[0]
    border, bias = torch.from_numpy(fresh.border("0"))[None], None if conv.bias is None else conv.bias.detach().double()
    weight = conv.weight.detach().double()
    out = F.conv2d(border, weight, bias, conv.stride, 0, conv.dilation, conv.groups)[0].numpy()
    shown = int(out.clip(0).std((1, 2)).argmax()) if channel is None else channel
    film = mv.animate.convolution(record(model, x), "0", channel, frames=1)
    assert f"channel {shown} " in film.alt
    high, wide = ((k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
    positions = []
    for frame in film:
        if watch is not None:
            assert lies(frame, fresh, watch) == []
        (before,) = (c for c in frame.claims if c.source[0] == "padded")
        (made,) = (c for c in frame.claims if c.source[0] == "0")
        parts = [c for c in frame.claims if c.source[0] == "part"]
        _, _, c, row, column = made.source
        assert c == shown
        positions.append((row, column))
        z, after = before.zoom, min(part.x for part in parts)
        inside = before.x + before.values.shape[1] * z + 5
        place = before.x + column * conv.stride[1] * z, before.y + row * conv.stride[0] * z
        assert boxed(frame, 0, inside) == (*place, wide * z, high * z)
        assert boxed(frame, after - 4, frame.pixels.shape[1]) == (after + column * z, before.y + row * z, z, z)
    assert {row for row, _ in positions} == set(range(out.shape[1]))
    assert positions[-1] == divmod(int(fresh.out["0"][0, shown].argmax()), out.shape[2])
    whole = np.full(out.shape[1:], np.nan)
    for part in parts:
        y, left = part.source[4:]
        assert (part.x - after, part.y - before.y) == (left * z, y * z)
        whole[y : y + part.values.shape[0], left : left + part.values.shape[1]] = part.values
    np.testing.assert_allclose(whole, out[shown], rtol=1e-4, atol=1e-5)


CONVOLUTIONS = {
    "no border, no bias": nn.Conv2d(1, 4, 3, bias=False),
    "groups": nn.Conv2d(4, 6, 3, groups=2, padding=1),
    "several of 5×5": nn.Conv2d(3, 2, 5, stride=2, padding=2),
    "uneven": nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "same": nn.Conv2d(2, 3, (2, 4), padding="same"),
    "reflect": nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
    "replicate": nn.Conv2d(1, 2, 3, padding=1, padding_mode="replicate"),
    "circular": nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_any_convolution_is_gone_through_and_shown_whole_in_the_end(case, watch):
    conv = CONVOLUTIONS[case]
    x = torch.rand(1, conv.in_channels, 9, 8, generator=torch.Generator().manual_seed(2))
    check_convolution(with_weights(1, conv, nn.Flatten()), x, None, watch)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_kernel_of_any_kind_stands_where_its_output_came_from(data):
    two = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = data.draw(two), data.draw(two), data.draw(two)
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    groups, seed = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(0, 99))
    size = data.draw(st.tuples(st.integers(3, 9), st.integers(3, 9)))
    assume(all((k - 1) * d < n + 2 * p for k, d, n, p in zip(kernel, dilation, size, padding, strict=True)))
    conv = nn.Conv2d(2 * groups, 2 * groups, kernel, stride, padding, dilation, groups)
    x = torch.rand(1, 2 * groups, *size, generator=torch.Generator().manual_seed(seed))
    check_convolution(with_weights(seed, conv, nn.Flatten()), x, data.draw(st.integers(0, 2 * groups - 1)))


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_a_border_is_called_zero_only_if_it_is(mode, monkeypatch):
    model = with_weights(0, nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode), nn.Flatten())
    texts = texts_of(mv.animate.convolution(record(model, SMALL), "0", frames=1), monkeypatch)
    assert any("border 0" in words for words, _ in texts) == (mode == "zeros")


def test_of_several_input_channels_the_one_with_the_largest_weights_is_taken(real, traces):
    heaviest = int(real["light"].conv2.weight[5].detach().abs().sum((1, 2)).argmax())
    frame = next(iter(mv.animate.convolution(traces["light"], "conv2", 5, frames=1)))
    assert {c.source[3] for c in frame.claims if c.source[0] == "padded"} == {heaviest}
    assert {c.source[5] for c in frame.claims if c.source[0] in ("patch", "kernel", "products")} == {heaviest}
    assert [c.source[0] for c in frame.claims][-4:] == ["sum", "others", "bias", "conv2"]
    frame = next(iter(mv.animate.convolution(traces["light"], "conv1", 0, frames=1)))  # of one input channel
    assert "others" not in {c.source[0] for c in frame.claims}
    assert sum(c.source[0] == "products" for c in frame.claims) == 9


def test_a_small_negative_number_is_never_called_minus_zero():
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(4, 10))
    for parameter in model.parameters():
        nn.init.constant_(parameter, -0.001)
    trace = record(model, torch.ones(1, 1, 3, 3))
    for film in (mv.animate.convolution(trace, "0", frames=1), mv.animate.forward_propagation(trace, frames=1)):
        words = {claim.words for frame in film for claim in frame.claims} - {""}
        assert words & {"0.00", "0.0"}
        assert not {text for text in words if text.startswith("−0.0") and float(text.replace("−", "-")) == 0}


POOLS = {
    "2": nn.MaxPool2d(2),
    "3, stride 2, border": nn.MaxPool2d(3, 2, 1),
    "overlapping": nn.MaxPool2d(3, 1),
    "large": nn.MaxPool2d(5),
    "uneven": nn.MaxPool2d((2, 3), (3, 2), (1, 0)),
    "cut off": nn.MaxPool2d(2, ceil_mode=True),
}


def two(setting: int | tuple[int, int]) -> tuple[int, int]:
    return (setting, setting) if isinstance(setting, int) else setting


@pytest.mark.parametrize(("case", "frames"), [(case, 8 if case == "2" else 2) for case in POOLS])
def test_every_window_hands_on_the_winner_of_torch_until_all_are_there(case, frames, watch):
    pool, x = POOLS[case], torch.randn(1, 2, 11, 9, generator=torch.Generator().manual_seed(3))
    fresh = Fresh(nn.Sequential(pool, nn.Flatten()), x)
    settings_ = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    out, at = F.max_pool2d(x, *settings_, return_indices=True)
    (high, wide), (down, across), (up, left) = two(pool.kernel_size), two(pool.stride), two(pool.padding)
    slow, visited = int(out[0, 1].argmax()) // out.shape[3], set()
    for frame in mv.animate.max_pooling(record(nn.Sequential(pool, nn.Flatten()), x), frames=frames, channel=1):
        assert lies(frame, fresh, watch) == []
        handed_on = next((c for c in frame.claims if c.source[0] == "0" and not c.zoom), None)
        if handed_on is None:  # a winner on its way lies over the numbers
            continue
        i, j = handed_on.source[3:]
        visited.add((i, j))
        corner = i * down - up, j * across - left
        window = {(corner[0] + a, corner[1] + b) for a, b in product(range(high), range(wide))}
        window = {(y, x_) for y, x_ in window if 0 <= y < 11 and 0 <= x_ < 9}
        numbers = {c.source[4:]: c for c in frame.claims if c.source[0] == "into" and not c.zoom}
        assert set(numbers) <= window
        if len(numbers) < len(window):  # again: covered by the moving pixel
            continue
        won = divmod(int(at[0, 1, i, j]), 9)
        assert {unit for unit, c in numbers.items() if watch.styles[c]["bold"]} == {won}
        claim = numbers[won]
        assert (frame.pixels[claim.y - 25 : claim.y + 25, claim.x - 40 : claim.x + 40] == ACCENT).any()
        assert float(claim.values) == float(handed_on.values) == float(out[0, 1, i, j])
    assert {(slow, j) for j in range(0, out.shape[3], 8 // frames)} <= visited
    assert {y for y, _ in visited} == set(range(out.shape[2]))
    assert {c.source[4:] for c in frame.claims if c.source[0] == "part"} == set(np.ndindex(*out.shape[2:]))


@pytest.mark.parametrize("case", ["2", "3, stride 2, border"])
def test_green_corners_mark_all_winners_and_no_others_in_the_end(case):
    pool, x = POOLS[case], torch.randn(1, 1, 10, 10, generator=torch.Generator().manual_seed(4))
    _, at = F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, return_indices=True)
    *_, last = mv.animate.max_pooling(record(nn.Sequential(pool, nn.Flatten()), x), frames=1)
    (before,) = (c for c in last.claims if c.source[0] == "into" and c.zoom)
    left, top, wide, high = boxed(last, 0, before.x + 10 * before.zoom + 3)
    for i in range(100):
        y, x_ = before.y + i // 10 * before.zoom, before.x + i % 10 * before.zoom
        if not (left - 5 <= x_ <= left + wide + 5 and top - 5 <= y <= top + high + 5):  # the window's box is green too
            assert (last.pixels[y + 2, x_ + 2] == ACCENT) == (i in at.flatten().tolist())


BAD = {
    "not a convolution": (lambda t: mv.animate.convolution(t, "relu1"), "ReLU", "slides no kernel", "conv1, conv2, m"),
    "an unknown layer": (lambda t: mv.animate.convolution(t, "conv9"), "unknown layer", "conv9"),
    "a channel below zero": (lambda t: mv.animate.convolution(t, channel=-1), "'conv1'", "channel -1", "0 to 7"),
    "a large kernel": (
        lambda t: mv.animate.convolution(record(nn.Conv2d(1, 2, 7), SMALL), ""),
        *("too large to be written out", "7×7", "up to 5×5"),
    ),
    "not a max-pool": (lambda t: mv.animate.max_pooling(t, "conv1"), "Conv2d and has no winners", "pool1, pool2"),
    "no max-pool at all": (lambda t: mv.animate.max_pooling(record(nn.Conv2d(1, 2, 3), SMALL)), "no layer of this tr"),
    "a pooled channel not there": (lambda t: mv.animate.max_pooling(t, channel=8), "'pool1'", "8", "0 to 7"),
    "large windows": (lambda t: mv.animate.max_pooling(record(nn.MaxPool2d(6), SMALL)), "too large", "6×6", "to 5×5"),
    "windows with gaps": (lambda t: mv.animate.max_pooling(record(nn.MaxPool2d(2, 2, dilation=2), SMALL)), "gaps", "2"),
}
test_what_cannot_be_shown_is_told_at_once = refusals(BAD, "light")
