"""Scenes: what every frame says is what a fresh forward pass, run here without any recording, computes again."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.animate import Canvas, Claim, Film, Frame, clusters, palette, parts
from mnistviz.animate.mnist_forward_propagation import LINKS, MAPS, _Stage
from mnistviz.learn.data import DigitSet
from mnistviz.look.diary import Moment
from mnistviz.look.trace import Trace

SCENES: dict[str, Callable[..., Film]] = {
    "data_flow": mv.animate.mnist_data_flow,
    "forward": mv.animate.forward_propagation,
    "network": mv.animate.mnist_forward_propagation,
    "convolution": mv.animate.convolution,
    "max_pooling": mv.animate.max_pooling,
}
BOX = int(palette.INKS["accent"][-1])
every_scene = pytest.mark.parametrize("scene", SCENES)
every_model = pytest.mark.parametrize("name", mv.models.MODELS)


# ——— the oracle: a forward pass of its own, and every source read from it ———


class Fresh:
    """The layers of a flat network one after another in evaluation, kept by name; nothing of the library looks on."""

    def __init__(self, model: nn.Sequential, x: Tensor, right: float | None = None) -> None:
        self.x, self.right, self.layers = x, right, dict(model.named_children())
        self.into: dict[str, Tensor] = {}
        self.out: dict[str, Tensor] = {}
        with torch.no_grad():
            for name, layer in model.eval().named_children():
                self.into[name] = x
                x = self.out[name] = layer(x)
        self.shares = torch.softmax(x.double(), 1)
        self.borders: dict[str, np.ndarray] = {}
        self.books: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]] = {}

    def border(self, layer: str) -> np.ndarray:
        """What goes into a convolution with its border, (C, H, W)."""
        if layer not in self.borders:
            self.borders[layer] = self._border(layer)
        return self.borders[layer]

    def _border(self, layer: str) -> np.ndarray:
        conv, x = self.layers[layer], self.into[layer][0].double().numpy()
        if conv.padding == "same":
            extra = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
            around = [(0, 0), *((e // 2, e - e // 2) for e in extra)]
        else:
            around = [(0, 0), *((p, p) for p in ((0, 0) if conv.padding == "valid" else conv.padding))]
        mode = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        return np.pad(x, around, mode=mode[conv.padding_mode])

    def book(self, *unit: Any) -> tuple[np.ndarray, np.ndarray]:
        """The patch under the kernel of one output pixel (layer, channel, y, x), and the kernel."""
        if unit not in self.books:
            self.books[unit] = self._book(*unit)
        return self.books[unit]

    def _book(self, layer: str, channel: int, y: int, x: int) -> tuple[np.ndarray, np.ndarray]:
        conv = self.layers[layer]
        kernel = conv.weight[channel].detach().double().numpy()
        per = len(kernel)
        group = channel // (conv.out_channels // conv.groups)
        patch = np.empty_like(kernel)
        for c, i, j in np.ndindex(*kernel.shape):
            down = y * conv.stride[0] + i * conv.dilation[0]
            across = x * conv.stride[1] + j * conv.dilation[1]
            patch[c, i, j] = self.border(layer)[group * per + c, down, across]
        return patch, kernel

    def __call__(self, source: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
        """The numbers behind a claim of this shape."""
        match source:
            case ("right",):
                return np.asarray(self.right)
            case ("probability", n, d):
                return self.shares[n, d].numpy()
            case ("input", n, c):
                return self.x[n, c].numpy()
            case ("into", layer, *at):
                return self.into[layer][tuple(at)].numpy()
            case ("padded", layer, 0, c):
                return self.border(layer)[c]
            case ("weight", layer, o, i):
                return self.layers[layer].weight[o, i].detach().numpy()
            case ("bias", layer, o):
                bias = self.layers[layer].bias
                return np.zeros(()) if bias is None else bias[o].detach().numpy()
            case ("part", layer, 0, start):
                return self.out[layer][0].flatten()[start : start + shape[1]].numpy()[None]
            case ("part", layer, 0, c, y, x):
                return self.out[layer][0, c, y : y + shape[0], x : x + shape[1]].numpy()
            case ("patch" | "kernel" | "products" as what, layer, channel, y, x, *at):
                patch, kernel = self.book(layer, channel, y, x)
                return {"patch": patch, "kernel": kernel, "products": patch * kernel}[what][tuple(at)]
            case ("sum" | "others" as what, layer, channel, y, x, i):
                patch, kernel = self.book(layer, channel, y, x)
                sums = (patch * kernel).sum((1, 2))
                return sums[i] if what == "sum" else sums.sum() - sums[i]
            case (layer, *at) if layer in self.out:
                return self.out[layer][tuple(at)].numpy()
        raise AssertionError(f"no such source: {source}")


class Watch:
    """While scenes draw: what lies over the maps (boxes, lines, marks), and in which type numbers are written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = np.zeros((0, 0), np.int16)  # of the last frame: what was drawn on top there, or −1
        self.styles: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        copy, frame, number = Canvas.copy, Canvas.frame, Canvas.number

        def above(canvas: Canvas) -> np.ndarray:
            if "above" not in vars(canvas):
                canvas.above = np.full(canvas.pixels.shape, -1, np.int16)
            return canvas.above

        def drawing(name: str) -> Callable[..., Any]:
            plain = getattr(Canvas, name)

            def draw(canvas: Canvas, *given_: Any, **named: Any) -> Any:
                self.calls.append((name, given_))
                before = canvas.pixels.copy()
                result = plain(canvas, *given_, **named)
                changed = canvas.pixels != before
                above(canvas)[changed] = canvas.pixels[changed]
                return result

            return draw

        def copied(canvas: Canvas) -> Canvas:
            twin = copy(canvas)
            twin.above = above(canvas).copy()
            return twin

        def framed(canvas: Canvas, *given_: Any, **named: Any) -> Frame:
            self.over = above(canvas).copy()
            return frame(canvas, *given_, **named)

        def written(canvas: Canvas, x: int, y: int, value: float, source: Any, said: str = "", **style: Any) -> None:
            number(canvas, x, y, value, source, said, **style)
            self.styles[x, y, canvas.claims[-1].words, source] = style

        for name in ("box", "mark", "rule", "line", "weave"):
            monkeypatch.setattr(Canvas, name, drawing(name))
        for name, double in (("copy", copied), ("frame", framed), ("number", written)):
            monkeypatch.setattr(Canvas, name, double)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def reads(words: str, value: float) -> bool:
    """Whether these words are this value, rounded as far as they say."""
    if share := re.match(r"([<>]?)([\d.]+) %", words):
        sign, said = share[1], float(share[2])
        if sign:
            return 100 * value > said if sign == ">" else 100 * value < said
        return abs(100 * value - said) <= 0.05 + 1e-4
    if words == "0":
        return value == 0
    digits, _, power = words.replace("−", "-").partition("e")
    step = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return abs(float(words.replace("−", "-")) - value) <= step * 0.5001 + 2e-6


def stands(pixels: np.ndarray, over: np.ndarray, claim: Claim, style: dict[str, Any]) -> bool:
    """Whether the words of a claim, written again on an empty page, are the very pixels of the frame there."""
    page = Canvas(480, 80)
    page.pixels[:] = palette.TRANSPARENT
    page.text(240, 40, claim.words, **style)
    ys, xs = np.nonzero(page.pixels != palette.TRANSPARENT)
    letters, rows, columns = page.pixels[ys, xs], ys + claim.y - 40, xs + claim.x - 240
    if not len(ys) or not ((rows >= 0) & (rows < len(pixels)) & (columns < pixels.shape[1]) & (columns >= 0)).all():
        return False
    there = pixels[rows, columns]
    return bool(((there == letters) | (there == over[rows, columns])).all())


def lies(frame: Frame, fresh: Fresh, watch: Watch) -> list[str]:
    """Whatever a frame claims or shows that the fresh pass does not say."""
    found: list[str] = []
    hidden = cells = 0
    scales: dict[str, Any] = {}
    for claim in frame.claims:
        true = np.asarray(fresh(claim.source, claim.values.shape), float)
        if true.shape != claim.values.shape and true.size == claim.values.size == 1:
            true = true.reshape(claim.values.shape)
        if true.shape != claim.values.shape or not np.allclose(claim.values, true, rtol=1e-5, atol=1e-5):
            found.append(f"{claim.source}: claimed numbers are not those computed")
        elif not claim.zoom:
            if not reads(claim.words, float(true)):
                found.append(f"{claim.source}: {claim.words!r} is not {float(true)}")
            style = watch.styles[claim.x, claim.y, claim.words, claim.source]
            if not stands(frame.pixels, watch.over, claim, style):
                found.append(f"{claim.source}: {claim.words!r} is not what stands there")
        else:
            high, wide = true.shape
            ys = claim.y + np.arange(high) * claim.zoom + claim.zoom // 2
            xs = claim.x + np.arange(wide) * claim.zoom + claim.zoom // 2
            covered = (watch.over == frame.pixels)[np.ix_(ys, xs)]
            seen = claim.read(frame.pixels)
            right = np.abs(seen - true) <= palette.half_step(claim.scale) * 1.001 + 1e-6
            hidden, cells = hidden + int((covered & ~right).sum()), cells + true.size
            if not (right | covered).all():
                found.append(f"{claim.source}: {int((~right & ~covered).sum())} squares show another number")
            layer = claim.source[1] if claim.source[0] == "part" else claim.source[0]
            if scales.setdefault(str(layer), claim.scale) != claim.scale:
                found.append(f"{claim.source}: another scale than the rest of its layer")
    if hidden > 0.1 * cells:
        found.append(f"{hidden} of {cells} squares lie under lines and boxes")
    return found


def texts_of(film: Film, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    said: list[tuple[str, dict[str, Any]]] = []
    text = Canvas.text

    def write(canvas: Canvas, x: int, y: int, words: str, size: int = 18, ink: str = "ink", *rest: Any, **named: Any):
        said.append((words, {"ink": ink}))
        return text(canvas, x, y, words, size, ink, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Canvas, "text", write)
        list(film._draw())  # each frame once; a film opens with its last
    return said


def record(model: nn.Module, x: Tensor) -> Trace:
    with mv.capture(model) as trace, torch.no_grad():
        model(x)
    return trace


@pytest.fixture(scope="module")
def seven(mnist: DigitSet) -> Tensor:
    return mnist.test[0].pixels


@pytest.fixture(scope="module")
def real() -> dict[str, nn.Sequential]:
    """The shipped weights; sprint has none and takes those of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {n: mv.load_model(n) if n != "sprint" else mv.models.build(n).eval() for n in mv.models.MODELS}


@pytest.fixture(scope="module")
def traces(real: dict[str, nn.Sequential], seven: Tensor) -> dict[str, Trace]:
    return {name: record(model, seven) for name, model in real.items()}


def accused(film: Film, fresh: Fresh, watch: Watch, count: int = 8) -> list[str]:
    """The lies of the first frame, the last, and about so many between, by dice; all frames are looked at for form."""
    found: list[str] = []
    frame, shapes, dice = None, set(), np.random.default_rng(count)
    for frame in film:
        if not shapes or dice.random() < count / 36:
            found += lies(frame, fresh, watch)
        shapes.add(frame.pixels.shape)
        assert frame.claims
        assert frame.ms % 10 == 0
        assert 20 <= frame.ms <= 655_350
        assert frame.pixels.max() < palette.USED
    ((high, wide),) = shapes
    assert wide <= 1000
    assert high <= 1000
    return found + lies(frame, fresh, watch)


# ——— every scene of one digit ———


@every_scene
@every_model
def test_every_claim_of_a_frame_that_fits_a_slide_is_what_a_fresh_pass_computes(
    name: str, scene: str, real: dict[str, nn.Sequential], traces: dict[str, Trace], seven: Tensor, watch: Watch
) -> None:
    assert accused(SCENES[scene](traces[name], frames=2), Fresh(real[name], seven), watch) == []


@pytest.mark.parametrize("scene", SCENES)
def test_every_claim_holds_at_full_smoothness_too(
    scene: str, real: dict[str, nn.Sequential], traces: dict[str, Trace], seven: Tensor, watch: Watch
) -> None:
    assert accused(SCENES[scene](traces["light"], frames=8), Fresh(real["light"], seven), watch, 16) == []


def test_a_number_that_something_was_painted_over_is_claimed_no_longer(watch: Watch) -> None:
    canvas = Canvas(200, 60)
    style = {"anchor": "lm", "size": 18}
    canvas.number(20, 30, 123.45, ("a", 0), **style)
    canvas.fill(40, 20, 100, 20, "shade")
    assert stands(canvas.pixels, np.full((60, 200), -1), Claim(("a", 0), np.asarray(123.45), 20, 30, words="123.45"),
                  style) == bool(canvas.claims)  # fmt: skip


def liveliest(output: Tensor) -> int:
    """The channel that varies most above zero."""
    return int(output[0].double().clamp(min=0).std((1, 2)).argmax())


FORGED = {"data_flow": "relu3", "forward": "relu3", "network": "mix1", "convolution": "conv1", "max_pooling": "pool1"}


@every_scene
def test_a_forged_record_is_found(scene: str, real: dict[str, nn.Sequential], seven: Tensor, watch: Watch) -> None:
    """One value of one layer, a quarter of the largest too high; the oracle above must not sleep."""
    trace = record(real["light"], seven)
    output = trace[FORGED[scene]].output
    channel = liveliest(output)
    if scene == "network":
        channel = {stop.layer: stop.unit[0] for stop in mv.winning_path(trace)}["mix1"]
    output[0, channel, 1, 1] += float(output.abs().max()) / 4
    found = [
        lie
        for frame in SCENES[scene](trace, frames=2)
        for lie in lies(frame, Fresh(real["light"], seven), watch)
        if FORGED[scene] in lie
    ]
    assert found


def test_a_forged_picture_and_forged_words_are_found(
    real: dict[str, nn.Sequential], traces: dict[str, Trace], seven: Tensor, watch: Watch
) -> None:
    fresh, frame = Fresh(real["light"], seven), next(iter(mv.animate.convolution(traces["light"], frames=2)))
    assert lies(frame, fresh, watch) == []
    tile = next(c for c in frame.claims if c.source[0] == "padded")
    text = next(c for c in frame.claims if c.source[0] == "kernel")
    painted = replace(frame, pixels=frame.pixels.copy())
    painted.pixels[tile.y + 20 * tile.zoom + tile.zoom // 2, tile.x + 20 * tile.zoom + tile.zoom // 2] ^= 1
    (lie,) = lies(painted, fresh, watch)
    assert lie.endswith("1 squares show another number")
    smeared = replace(frame, pixels=frame.pixels.copy())
    smeared.pixels[text.y - 8 : text.y + 8, text.x - 12 : text.x] = palette.PAPER
    assert any("not what stands there" in lie for lie in lies(smeared, fresh, watch))
    lied = replace(text, words="9.99")
    watch.styles[text.x, text.y, "9.99", text.source] = watch.styles[text.x, text.y, text.words, text.source]
    assert any("'9.99' is not" in lie for lie in lies(replace(frame, claims=(lied,)), fresh, watch))
    wrong_place = replace(text, source=(*text.source[:-1], 1 - text.source[-1]))
    assert lies(replace(frame, claims=(wrong_place,)), fresh, watch)


def test_the_check_of_words_knows_right_from_wrong() -> None:
    assert all(reads(w, v) for w, v in [("0.12", 0.1249), ("−1.5", -1.46), ("1.2e−03", 0.00123), ("0", 0.0)])
    assert all(reads(w, v) for w, v in [(">99.9 %", 0.9998), ("<0.1 %", 0.0), ("12.3 % of 60 right", 0.123)])
    assert not any(reads(w, v) for w, v in [("0.12", 0.13), ("0", 0.1), (">99.9 %", 0.99), ("1.2e−03", 0.0013)])


@every_scene
def test_a_film_can_be_watched_again(scene: str, traces: dict[str, Trace]) -> None:
    film = SCENES[scene](traces["light"], frames=2)
    for one, two in zip(film, film, strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
        assert (one.ms, one.of) == (two.ms, two.of)
        assert [c.source for c in one.claims] == [c.source for c in two.claims]


@every_scene
def test_one_frame_per_movement_is_enough(scene: str, traces: dict[str, Trace]) -> None:
    assert len(list(SCENES[scene](traces["compact"], frames=1))) > 3


@every_scene
def test_a_batch_is_not_one_digit(scene: str, real: dict[str, nn.Sequential], few: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)one digit.*2 inputs"):
        SCENES[scene](record(real["light"], few.pixels[:2]))


@every_model
def test_alt_texts_tell_the_answer_and_the_sizes(
    name: str, real: dict[str, nn.Sequential], traces: dict[str, Trace], seven: Tensor
) -> None:
    fresh, trace = Fresh(real[name], seven), traces[name]
    answer = int(fresh.shares.argmax())
    assert f"the answer is {answer}" in SCENES["forward"](trace).alt
    told = SCENES["network"](trace).alt
    assert f"the answer is {answer}" in told
    assert str(mv.winning_path(trace)[-1].unit[1:]) in told
    mixing = [n for n, layer in fresh.layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert f" {len(mixing) - 1} stages" in told
    told = SCENES["data_flow"](trace).alt
    sizes = re.findall(r"\d[\d×]*", told)
    assert sizes[0] == "1×28×28"
    shapes = {"×".join(map(str, out.shape[1:])) for out in fresh.out.values()}
    assert len(sizes) == 1 + len(mixing)
    assert set(sizes[1:]) <= shapes
    assert sizes[-1] == "10"
    told = SCENES["convolution"](trace).alt
    assert f"map of channel {liveliest(fresh.out['conv1'])} " in told
    assert f"A {'×'.join(map(str, fresh.layers['conv1'].kernel_size))} kernel" in told
    pool = fresh.out["pool1"][0]
    told = SCENES["max_pooling"](trace).alt
    assert re.search(rf"(map|channel) {int(pool.double().std((1, 2)).argmax())} ", told)
    assert told.endswith(f"{pool.shape[1]}×{pool.shape[2]}.")


# ——— files ———


@every_scene
def test_a_saved_film_of_the_deep_network_is_small_enough(
    scene: str, traces: dict[str, Trace], tmp_path: Path
) -> None:
    path = tmp_path / f"{scene}.gif"
    most = 3_000_000 if scene == "network" else 1_500_000
    SCENES[scene](traces["deep"], frames=8).save(path, budget=most, sheet=False, progress=False)
    assert path.stat().st_size <= most
    with Image.open(path) as file:
        assert file.n_frames > 20


@every_scene
def test_a_film_saved_twice_has_the_same_bytes(
    scene: str, real: dict[str, nn.Sequential], seven: Tensor, tmp_path: Path
) -> None:
    files = []
    for again in ("one.gif", "two.gif"):
        film = SCENES[scene](record(real["compact"], seven), frames=1)
        files.append(film.save(tmp_path / again, sheet=False, progress=False).read_bytes())
    assert files[0] == files[1]


def test_the_last_frame_of_a_file_is_the_last_of_the_film(traces: dict[str, Trace], tmp_path: Path) -> None:
    film = mv.animate.max_pooling(traces["compact"], frames=1)
    path = film.save(tmp_path / "film.gif", progress=False)
    assert (tmp_path / "film_sheet.png").exists()
    frames = list(film)
    with Image.open(path) as file:
        for i, frame in enumerate(frames):
            file.seek(i)
            np.testing.assert_array_equal(np.asarray(file.convert("RGB")), palette.PALETTE[frame.pixels])


# ——— every layer of the pass ———


@every_model
def test_forward_shows_every_value_of_every_layer(name: str, traces: dict[str, Trace]) -> None:
    trace, shown = traces[name], set()
    for frame in mv.animate.forward_propagation(trace, frames=2):
        shown |= {(c.source[0], c.source[2]) for c in frame.claims if c.zoom}
    for key, step in zip(trace.keys, trace.steps, strict=True):
        if not step.kind.startswith(("Dropout", "Flatten")):
            assert {(key, c) for c in range(step.result.shape[1])} <= shown


def test_forward_ends_with_the_digit_as_it_was_and_ten_probabilities(traces: dict[str, Trace]) -> None:
    *_, last = mv.animate.forward_propagation(traces["deep"], frames=2)
    assert [c.source for c in last.claims if not c.zoom] == [("probability", 0, d) for d in range(10)]
    assert sum(c.source[0] == "input" for c in last.claims) == 1


def test_forward_frames_the_digit_only_while_it_says_what_is_seen(traces: dict[str, Trace]) -> None:
    *_, last = mv.animate.forward_propagation(traces["deep"], frames=2)
    (digit,) = (c for c in last.claims if c.source[0] == "input")
    side = 28 * digit.zoom
    around = last.pixels[digit.y - 8 : digit.y + side + 8, digit.x - 8 : digit.x + side + 8]
    assert not (around == BOX).any()


@pytest.mark.parametrize("scene", ["forward", "convolution"])
def test_a_negative_number_is_never_called_minus_zero(scene: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(4, 10))
    for parameter in model.parameters():
        nn.init.constant_(parameter, -0.001)
    film = mv.animate.__dict__[scene]
    trace = record(model, torch.ones(1, 1, 3, 3))
    made = film(trace, "0", frames=1) if scene == "convolution" else film(trace, frames=1)
    said = {claim.words for frame in made for claim in frame.claims}
    assert not {words for words in said if re.fullmatch(r"−0\.0+", words)}


# ——— a kernel slides ———


def framed(frame: Frame, left: int, right: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of what stands inside the green frame between two columns of pixels."""
    ys, xs = np.nonzero(frame.pixels[:, left:right] == BOX)
    x, y = int(xs.min()) + left + 3, int(ys.min()) + 3
    return x, y, int(xs.max()) + left - 2 - x, int(ys.max()) - 2 - y


def check_convolution(model: nn.Sequential, x: Tensor, layer: str, channel: int | None, watch: Watch | None) -> None:
    fresh, conv = Fresh(model, x), dict(model.named_children())[layer]
    film = mv.animate.convolution(record(model, x), layer, channel, frames=1)
    out = F.conv2d(
        torch.from_numpy(fresh.border(layer))[None], conv.weight.detach().double(),
        None if conv.bias is None else conv.bias.detach().double(), conv.stride, 0, conv.dilation, conv.groups,
    )[0]  # fmt: skip
    shown = liveliest(fresh.out[layer]) if channel is None else channel
    assert f"channel {shown} " in film.alt
    positions = []
    for frame in film:
        if watch is not None:
            assert lies(frame, fresh, watch) == []
        (before,) = (c for c in frame.claims if c.source[0] == "padded")
        (made,) = (c for c in frame.claims if c.source[0] == layer)
        _, _, c, row, column = made.source
        assert c == shown
        positions.append((row, column))
        z, after = before.zoom, min(c.x for c in frame.claims if c.source[0] == "part")
        inside = before.x + before.values.shape[1] * z + 5
        high, wide = ((k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
        place = before.x + column * conv.stride[1] * z, before.y + row * conv.stride[0] * z
        assert framed(frame, 0, inside) == (*place, wide * z, high * z)
        assert framed(frame, after - 4, frame.pixels.shape[1]) == (after + column * z, before.y + row * z, z, z)
        assert column * conv.stride[1] + wide <= before.values.shape[1]
        assert row * conv.stride[0] + high <= before.values.shape[0]
    assert {row for row, _ in positions} == set(range(out.shape[1]))
    peak = divmod(int(fresh.out[layer][0, shown].argmax()), out.shape[2])
    assert positions[-1] == peak
    parts_ = [c for c in frame.claims if c.source[0] == "part"]
    whole = np.full(out.shape[1:], np.nan)
    for claim in parts_:
        y, x_ = claim.source[4:]
        assert (claim.x - after, claim.y - before.y) == (x_ * z, y * z)
        whole[y : y + claim.values.shape[0], x_ : x_ + claim.values.shape[1]] = claim.values
    np.testing.assert_allclose(whole, out[shown].numpy(), rtol=1e-4, atol=1e-5)


def small(seed: int, *layers: nn.Module) -> nn.Sequential:
    """Fresh weights from a seed."""
    model, dice = nn.Sequential(*layers).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=dice) / 2)
    return model


CONVOLUTIONS = {
    "no border": (1, 4, 3, {}),
    "border": (1, 4, 3, {"padding": 1}),
    "stride 2": (1, 4, 3, {"stride": 2}),
    "stride 2, border": (1, 4, 3, {"stride": 2, "padding": 1}),
    "dilation 2": (1, 4, 3, {"dilation": 2, "padding": 2}),
    "5×5": (1, 4, 5, {"padding": 2}),
    "1×1": (3, 4, 1, {}),
    "groups": (4, 6, 3, {"groups": 2, "padding": 1}),
    "each its own": (4, 4, 3, {"groups": 4}),
    "several": (3, 2, 5, {"stride": 2, "padding": 2}),
    "uneven": (2, 3, (3, 2), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    "same": (2, 3, (2, 4), {"padding": "same"}),
    "no bias": (1, 2, 3, {"bias": False}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_any_convolution_is_gone_through_and_shown_whole_in_the_end(case: str, watch: Watch) -> None:
    channels, out, kernel, named = CONVOLUTIONS[case]
    model = small(1, nn.Conv2d(channels, out, kernel, **named), nn.Flatten())
    x = torch.rand(1, channels, 9, 8, generator=torch.Generator().manual_seed(2))
    for channel in (None, out - 1):
        check_convolution(model, x, "0", channel, watch)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_kernel_of_any_kind_stands_where_its_output_came_from(data: st.DataObject) -> None:
    two = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = data.draw(two), data.draw(two), data.draw(two)
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    groups = data.draw(st.sampled_from([1, 2]))
    size = data.draw(st.tuples(st.integers(3, 9), st.integers(3, 9)))
    assume(all((k - 1) * d < n + 2 * p for k, d, n, p in zip(kernel, dilation, size, padding, strict=True)))
    conv = nn.Conv2d(2 * groups, 2 * groups, kernel, stride, padding, dilation, groups)
    seed = data.draw(st.integers(0, 99))
    x = torch.rand(1, 2 * groups, *size, generator=torch.Generator().manual_seed(seed))
    check_convolution(small(seed, conv, nn.Flatten()), x, "0", data.draw(st.integers(0, 2 * groups - 1)), None)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_border_that_is_not_zero_is_true_in_its_numbers(mode: str, watch: Watch) -> None:
    model = small(0, nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode), nn.Flatten())
    check_convolution(model, torch.rand(1, 1, 8, 8), "0", None, watch)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_a_border_is_called_zero_only_if_it_is(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(0, nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode), nn.Flatten())
    said = texts_of(mv.animate.convolution(record(model, torch.rand(1, 1, 8, 8)), "0", frames=1), monkeypatch)
    assert any("border 0" in words for words, _ in said) == (mode == "zeros")


def test_a_kernel_whose_numbers_have_no_room_is_refused() -> None:
    model = small(0, nn.Conv2d(1, 2, 7), nn.Flatten())
    with pytest.raises(mv.MnistvizError, match=r"(?s)too large to be written out.*7×7.*5×5"):
        mv.animate.convolution(record(model, torch.rand(1, 1, 28, 28)), "0")


def test_of_several_input_channels_the_one_with_the_largest_weights_is_taken(
    real: dict[str, nn.Sequential], traces: dict[str, Trace]
) -> None:
    weights = dict(real["light"].named_children())["conv2"].weight[5].detach()
    heaviest = int(weights.abs().sum((1, 2)).argmax())
    frame = next(iter(mv.animate.convolution(traces["light"], "conv2", 5, frames=1)))
    assert {c.source[3] for c in frame.claims if c.source[0] == "padded"} == {heaviest}
    assert {c.source[5] for c in frame.claims if c.source[0] in ("patch", "kernel", "products")} == {heaviest}
    assert [c.source[0] for c in frame.claims][-4:] == ["sum", "others", "bias", "conv2"]


def test_of_one_input_channel_there_are_no_others(traces: dict[str, Trace]) -> None:
    frame = next(iter(mv.animate.convolution(traces["light"], "conv1", 0, frames=1)))
    assert "others" not in {c.source[0] for c in frame.claims}
    assert sum(c.source[0] == "products" for c in frame.claims) == 9


@pytest.mark.parametrize("channel", [8, -1])
def test_a_channel_that_is_not_there_is_told_at_once(channel: int, traces: dict[str, Trace]) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s)no such unit in 'conv1'.*channel {channel}.*channel 0 to 7"):
        mv.animate.convolution(traces["light"], channel=channel)
    with pytest.raises(mv.MnistvizError, match=rf"(?s)no such channel in 'pool1'.*{channel}.*0 to 7"):
        mv.animate.max_pooling(traces["light"], channel=channel)


@pytest.mark.parametrize("layer", ["relu1", "fc1", "flatten", "pool1"])
def test_only_convolutions_slide_kernels(layer: str, traces: dict[str, Trace]) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s)'{layer}' is a .* slides no kernel.*conv1, conv2, mix1"):
        mv.animate.convolution(traces["light"], layer)


def test_an_unknown_layer_is_told(traces: dict[str, Trace]) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)unknown layer.*conv9"):
        mv.animate.convolution(traces["light"], "conv9")
    with pytest.raises(mv.MnistvizError, match=r"(?s)'conv1' is a Conv2d and has no winners.*pool1, pool2"):
        mv.animate.max_pooling(traces["light"], "conv1")
    no_pool = record(small(0, nn.Conv2d(1, 1, 3)), torch.rand(1, 1, 5, 5))
    with pytest.raises(mv.MnistvizError, match="no layer of this trace is a max-pool"):
        mv.animate.max_pooling(no_pool)


# ——— windows and winners ———

POOLS = {
    "2": nn.MaxPool2d(2),
    "3, stride 2, border": nn.MaxPool2d(3, 2, 1),
    "overlapping": nn.MaxPool2d(3, 1),
    "uneven": nn.MaxPool2d((2, 3), (3, 2), (1, 0)),
    "cut off": nn.MaxPool2d(2, ceil_mode=True),
}


def test_windows_with_gaps_are_refused() -> None:
    trace = record(nn.Sequential(nn.MaxPool2d(2, 2, dilation=2), nn.Flatten()), torch.rand(1, 1, 9, 9))
    with pytest.raises(mv.MnistvizError, match=r"(?s)have gaps.*dilation 2"):
        mv.animate.max_pooling(trace)


@pytest.mark.parametrize("case", POOLS)
def test_the_winner_of_every_window_is_that_of_torch(case: str, watch: Watch) -> None:
    pool = POOLS[case]
    x = torch.randn(1, 2, 11, 9, generator=torch.Generator().manual_seed(3))
    model = nn.Sequential(pool, nn.Flatten())
    fresh = Fresh(model, x)
    named = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    out, at = F.max_pool2d(x, *named, return_indices=True)
    film = mv.animate.max_pooling(record(model, x), frames=8, channel=1)
    across, down, (dy, dx) = parts_of(pool.stride)[1], parts_of(pool.stride)[0], parts_of(pool.dilation)
    high, wide = parts_of(pool.kernel_size)
    up, left = parts_of(pool.padding)
    slow, seen = int(out[0, 1].argmax()) // out.shape[3], set()
    for frame in film:
        assert lies(frame, fresh, watch) == []
        handed = next((c for c in frame.claims if c.source[0] == "0" and not c.zoom), None)
        if handed is None:  # a winner on its way lies over the numbers
            continue
        y, x_ = handed.source[3:]
        seen.add((y, x_))
        window = {
            (i, j)
            for a, b in product(range(high), range(wide))
            if 0 <= (i := y * down - up + a * dy) < 11 and 0 <= (j := x_ * across - left + b * dx) < 9
        }
        numbers = {c.source[4:]: c for c in frame.claims if c.source[0] == "into" and not c.zoom}
        assert set(numbers) <= window
        if len(numbers) < len(window):  # again: covered by the moving pixel
            continue
        won = divmod(int(at[0, 1, y, x_]), 9)
        bold = {unit for unit, c in numbers.items() if watch.styles[c.x, c.y, c.words, c.source]["bold"]}
        assert bold == {won}
        claim = numbers[won]
        ring = frame.pixels[claim.y - 25 : claim.y + 25, claim.x - 40 : claim.x + 40]
        assert (ring == BOX).any()
        assert float(claim.values) == float(handed.values) == float(out[0, 1, y, x_])
    assert {(slow, j) for j in range(out.shape[3])} <= seen
    assert {y for y, _ in seen} == set(range(out.shape[2]))


def parts_of(setting: int | tuple[int, int]) -> tuple[int, int]:
    return (setting, setting) if isinstance(setting, int) else setting


@pytest.mark.parametrize("case", ["2", "3, stride 2, border"])
def test_green_corners_mark_all_winners_and_no_others_in_the_end(case: str, watch: Watch) -> None:
    pool, x = POOLS[case], torch.randn(1, 1, 10, 10, generator=torch.Generator().manual_seed(4))
    _, at = F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, return_indices=True)
    trace = record(nn.Sequential(pool, nn.Flatten()), x)
    *_, last = mv.animate.max_pooling(trace, frames=1)
    (before,) = (c for c in last.claims if c.source[0] == "into" and c.zoom)
    box = framed(last, 0, before.x + 10 * before.zoom + 3)
    for i in range(100):
        top, left = before.y + i // 10 * before.zoom, before.x + i % 10 * before.zoom
        near = box[0] - 5 <= left <= box[0] + box[2] + 5 and box[1] - 5 <= top <= box[1] + box[3] + 5
        if not near:  # the window's own frame is green as well
            assert (last.pixels[top + 2, left + 2] == BOX) == (i in at.flatten().tolist())


def test_the_whole_pooled_map_is_handed_on_in_the_end(traces: dict[str, Trace], real, seven: Tensor) -> None:
    *_, last = mv.animate.max_pooling(traces["light"], "pool2", 3, frames=2)
    whole = np.full((7, 7), np.nan)
    for claim in last.claims:
        if claim.source[0] == "part":
            whole[claim.source[4:]] = claim.values.item()
    np.testing.assert_allclose(whole, Fresh(real["light"], seven).out["pool2"][0, 3], atol=1e-6)


# ——— the whole network on one stage ———


def flow_by_hand(fresh: Fresh, layer: str, channels: int) -> np.ndarray:
    """What each channel of the stage before gave each output, one convolution of one channel at a time."""
    module, x = fresh.layers[layer], fresh.into[layer].double()
    weight = module.weight.detach().double()
    found = np.zeros((len(weight), channels))
    if isinstance(module, nn.Linear):
        each = x.shape[1] // channels
        for o, i in np.ndindex(*found.shape):
            found[o, i] = float((weight[o] * x[0])[i * each : (i + 1) * each].sum())
        return found
    for i in range(channels):  # all outputs of one input channel: nothing else in the sum
        alone = F.conv2d(x[:, i : i + 1], weight[:, i : i + 1], None, module.stride, module.padding)
        found[:, i] = alone[0].sum((1, 2))
    return found


@every_model
def test_links_are_as_strong_as_the_products_between_two_maps(
    name: str, real: dict[str, nn.Sequential], traces: dict[str, Trace], seven: Tensor
) -> None:
    fresh, trace = Fresh(real[name], seven), traces[name]
    stage = _Stage(trace, mv.winning_path(trace))
    mixing = [n for n, layer in fresh.layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(stage.flows) == len(mixing)
    drawn = iter(sorted(stage.links(), key=lambda link: link[1][0][0]))
    for layer, flows, (before, after) in zip(mixing, stage.flows, pairwise(stage.columns), strict=True):
        by_hand = flow_by_hand(fresh, layer, len(before.values))
        np.testing.assert_allclose(flows, by_hand, rtol=1e-4, atol=1e-4)
        part = by_hand[np.ix_(after.shown, before.shown)]
        strongest = np.sort(np.abs(part), axis=None)[::-1][:LINKS] / np.abs(part).max()
        gap = [next(drawn) for _ in strongest]
        np.testing.assert_allclose(sorted((abs(s) for s, _, _ in gap), reverse=True), strongest, atol=1e-4)
        for strength, way, thick in gap:
            i = min(range(len(before.shown)), key=lambda k: abs(before.port(before.shown[k], True)[1] - way[0][1]))
            ends = {o: abs(after.port(o, False)[1] - way[-1][1]) for o in after.shown}
            meant = [part[k, i] for k, o in enumerate(after.shown) if ends[o] < 1e-6]
            if not before.flat or before.columns == 1:
                assert np.abs(np.array(meant) / np.abs(part).max() - strength).min() < 1e-4
            assert thick == pytest.approx(max(1.0, 5 * abs(strength)))


@pytest.mark.parametrize("name", ["light", "compact"])
def test_the_strongest_link_of_all_is_drawn_darkest_in_the_colour_of_its_sign(
    name: str, traces: dict[str, Trace]
) -> None:
    trace = traces[name]
    stage = _Stage(trace, mv.winning_path(trace))
    frames = list(mv.animate.mnist_forward_propagation(trace, frames=1))
    before_the_path = next(f for f in frames if f.ms == 1200)
    strength, way, _ = stage.links()[-1]
    assert abs(strength) == 1
    x, y = way[len(way) // 2]
    ramp = palette.RAMPS[True]
    assert before_the_path.pixels[round(y), round(x)] == (ramp[-1] if strength > 0 else ramp[0])


@every_model
def test_columns_hold_the_path_and_the_maps_that_hand_on_most(
    name: str, real: dict[str, nn.Sequential], traces: dict[str, Trace], seven: Tensor
) -> None:
    trace, fresh = traces[name], Fresh(real[name], seven)
    path = {stop.layer: stop.unit for stop in mv.winning_path(trace)}
    *_, last = mv.animate.mnist_forward_propagation(trace, frames=1)
    shown: dict[str, set[int]] = {}
    for claim in last.claims:
        if claim.zoom and claim.values.shape != (1, 1) and claim.source[0] != "part":
            shown.setdefault(claim.source[0], set()).add(claim.source[2])
    mixing = [n for n, layer in fresh.layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, channels in shown.items():
        if layer == "input":
            continue
        assert path[layer][0] in channels
        after = next(n for n in mixing if list(fresh.layers).index(n) > list(fresh.layers).index(layer))
        given_on = np.abs(flow_by_hand(fresh, after, fresh.out[layer].shape[1])).sum(0)
        assert len(channels) == min(MAPS, len(given_on))
        rest = np.delete(given_on, list(channels))
        kept = sorted(given_on[list(channels - {path[layer][0]})])
        assert not len(rest) or kept[0] >= rest.max() * (1 - 1e-4)


@every_model
def test_the_path_that_is_drawn_is_the_winning_path(name: str, traces: dict[str, Trace], watch: Watch) -> None:
    trace = traces[name]
    path = mv.winning_path(trace)
    frames = list(mv.animate.mnist_forward_propagation(trace, frames=1))
    last, boxes = frames[-1], {call[1][:4] for call in watch.calls if call[0] == "box"}
    expected = set()
    places = {c.source: c for c in frames[-1].claims if c.zoom}
    flat = [c for c in frames[-1].claims if c.source[0] == "part"]
    for stop in path:
        source = (stop.layer or "input", 0, stop.unit[0])
        if source in places:  # a map, or one of the ten scores
            claim = places[source]
            y, x = stop.unit[1:] if len(stop.unit) == 3 else (0, 0)
            if len(stop.unit) == 1 and claim.values.size > 1:
                continue
            assert float(claim.values[y, x]) == pytest.approx(stop.value, rel=1e-5, abs=1e-6)
            expected.add((claim.x + x * claim.zoom, claim.y + y * claim.zoom, claim.zoom, claim.zoom))
        for claim in flat:
            k = stop.unit[0] - claim.source[3]
            if claim.source[1] == stop.layer and len(stop.unit) == 1 and 0 <= k < claim.values.shape[1]:
                expected.add((claim.x + k * claim.zoom, claim.y, claim.zoom, claim.zoom))
    assert boxes == expected
    assert len(expected) == len(_Stage(trace, path).columns)
    for x, y, wide, high in expected:
        ring = last.pixels[y - 2 : y + high + 2, x - 2 : x + wide + 2]
        assert (ring == BOX).sum() >= 4


def test_the_network_says_where_the_path_ends(traces: dict[str, Trace], monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts_of(mv.animate.mnist_forward_propagation(traces["deep"], frames=1), monkeypatch)
    pixel = mv.winning_path(traces["deep"])[-1]
    told = re.search(r"pixel row (\d+), column (\d+), whose value is (\S+)", said[-1][0])
    assert (int(told[1]), int(told[2])) == pixel.unit[1:]
    assert reads(told[3], pixel.value)


# ——— ten digits ———


@pytest.fixture(scope="module")
def several(real: dict[str, nn.Sequential], mnist: DigitSet) -> tuple[list[Tensor], list[Trace], list[int]]:
    digits = [mnist.test[i] for i in range(4)]
    pixels = [digit.pixels for digit in digits]
    return pixels, [record(real["compact"], x) for x in pixels], mnist.test.labels[:4].tolist()


def test_every_claim_of_a_demo_is_of_the_digit_it_names(several, real: dict[str, nn.Sequential], watch: Watch) -> None:
    pixels, traces, labels = several
    fresh = [Fresh(real["compact"], x) for x in pixels]
    film = mv.animate.forward_propagation_demo(traces, labels, frames=2)
    frames = 0
    for frame in film:
        assert lies(frame, fresh[frame.of], watch) == []
        assert frame.claims
        frames += 1
    assert frames > 4 * 5
    last, *order = [frame.of for frame in film]  # the film opens with the frame it ends with
    assert last == 3
    assert order == sorted(order)
    assert set(order) == set(range(4))


def test_a_demo_of_mixed_up_digits_is_found(several, real: dict[str, nn.Sequential], watch: Watch) -> None:
    pixels, traces, labels = several
    fresh = [Fresh(real["compact"], x) for x in pixels[::-1]]
    assert all(lies(frame, fresh[frame.of], watch) for frame in mv.animate.forward_propagation_demo(traces, labels, frames=2))


@pytest.mark.parametrize("name", mv.models.MODELS)
def test_a_demo_is_true_for_every_architecture(name: str, real, mnist: DigitSet, watch: Watch) -> None:
    pixels = [mnist.test[i].pixels for i in (5, 8)]
    film = mv.animate.forward_propagation_demo([record(real[name], x) for x in pixels], frames=2)
    fresh = [Fresh(real[name], x) for x in pixels]
    assert [lie for frame in film for lie in lies(frame, fresh[frame.of], watch)] == []
    answers = ", ".join(str(int(f.shares.argmax())) for f in fresh)
    assert film.alt.endswith(f"the answers are {answers}.")
    shapes = {frame.pixels.shape for frame in film}
    assert len(shapes) == 1
    assert shapes.pop()[1] <= 1000


def test_all_digits_of_a_demo_share_channels_and_scales(several) -> None:
    _, traces, labels = several
    seen: dict[int, dict[Any, Any]] = {}
    for frame in mv.animate.forward_propagation_demo(traces, labels, frames=1):
        seen[frame.of] = {c.source: (c.x, c.y, c.scale) for c in frame.claims if c.zoom and c.source[0] != "input"}
    assert len({tuple(sorted(map(repr, places.items()))) for places in seen.values()}) == 1
    for layer in {source[0] for source in seen[0] if source[0] != "part"}:
        scales = {place[2] for source, place in seen[0].items() if source[0] == layer}
        assert len(scales) == 1
        largest = max(float(trace[layer].result.abs().max()) for trace in traces)
        assert scales.pop().high == pytest.approx(largest)


def test_wrong_answers_are_marked_as_wrong_by_sign_and_colour(several, monkeypatch: pytest.MonkeyPatch) -> None:
    _, traces, _ = several
    answers = [int(trace.output.argmax()) for trace in traces]
    told = [answers[0], (answers[1] + 1) % 10, None, answers[3]]
    said = texts_of(mv.animate.forward_propagation_demo(traces, told, frames=1), monkeypatch)
    verdicts = [(w, s["ink"]) for w, s in said if re.fullmatch(r"\d [✓✗]", w)]
    assert verdicts == [
        (f"{answers[0]} ✓", "green"), (f"{answers[1]} ✗", "red"), (f"{answers[3]} ✓", "green"),
    ]  # fmt: skip
    assert (f"answer: {answers[1]}", {"ink": "red"}) in said
    assert (f"answer: {answers[2]}", {"ink": "ink"}) in said
    unlabelled = texts_of(mv.animate.forward_propagation_demo(traces, frames=1), monkeypatch)
    assert not [w for w, _ in unlabelled if re.search("[✓✗]", w)]


def test_the_true_digit_is_boxed_among_the_bars_and_none_is_not(several) -> None:
    _, traces, _ = several
    for given_, wanted in (([3, 3, 3, 3], True), ([None] * 4, False), (None, False)):
        frame = [f for f in mv.animate.forward_propagation_demo(traces, given_, frames=1) if f.of == 0][-1]
        bars = {c.source[2]: c for c in frame.claims if c.source[0] == "probability"}
        left = bars[3].x - 118 - 33 - 8
        rows = np.nonzero((frame.pixels[:, left : left + 40] == BOX).any(1))[0]
        assert bool(len(rows)) == wanted
        if wanted:
            assert rows.min() < bars[3].y < rows.max()
            assert bars[2].y < rows.min() + 5
            assert rows.max() - 5 < bars[4].y


def test_a_demo_of_nothing_or_of_things_that_do_not_belong_together_is_told(several, real, seven: Tensor) -> None:
    _, traces, labels = several
    with pytest.raises(mv.MnistvizError, match="no digits to show"):
        mv.animate.forward_propagation_demo([])
    with pytest.raises(mv.MnistvizError, match=r"(?s)one label per trace.*4 traces, 3 labels"):
        mv.animate.forward_propagation_demo(traces, labels[:3])
    with pytest.raises(mv.MnistvizError, match="different networks"):
        mv.animate.forward_propagation_demo([traces[0], record(real["light"], seven)])
    with pytest.raises(mv.MnistvizError, match="one digit"):
        mv.animate.forward_propagation_demo([record(real["compact"], seven.repeat(2, 1, 1, 1))])


# ——— a training ———


@pytest.fixture(scope="module")
def lapse(few: mv.Digits) -> tuple[mv.Timelapse, nn.Sequential]:
    """A compact network that learns from 600 digits, looked at a dozen times and more."""
    kept = mv.Timelapse.over(20, 14)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = mv.models.build("compact")
    recipe = mv.recipes.published("compact").but(epochs=2, batch=64)
    mv.fit(model, few, None, recipe, device="cpu", callbacks=kept.callbacks, progress=False)
    return kept, model


@pytest.fixture(scope="module")
def probes(lapse, mnist: DigitSet) -> tuple[Tensor, list[Moment]]:
    pixels = mnist.test[[0, 1, 8]].pixels
    return pixels, lapse[0].moments(lapse[1], pixels)


@pytest.fixture(scope="module")
def judged(lapse, mnist: DigitSet) -> tuple[Tensor, list[int], list[Moment]]:
    digits = mnist.test[:150]
    return digits.pixels, digits.labels.tolist(), lapse[0].moments(lapse[1], digits.pixels, "fc2")


@pytest.fixture(scope="module")
def afresh(lapse, probes, judged) -> list[Fresh]:
    """Every checkpoint in a new model, which sees the digits to watch, and its share of right answers."""
    found = []
    for weights in lapse[0].checkpoints.values():
        model = mv.models.build("compact")
        model.load_state_dict(weights)
        scores = Fresh(model, judged[0]).shares
        right = float((scores.argmax(1).numpy() == np.array(judged[1])).mean())
        found.append(Fresh(model, probes[0], right))
    return found


def test_every_frame_of_a_replay_is_its_checkpoint_run_again(probes, judged, afresh: list[Fresh], watch: Watch) -> None:
    film = mv.animate.training_replay(probes[1], judged[2], judged[1])
    frames = list(film)
    last = len(afresh) - 1
    assert [frame.of for frame in frames] == [last, *range(last + 1)]  # the film opens with the frame it ends with
    for frame in film:
        assert {"weight", "input", "right", "probability"} <= {c.source[0] for c in frame.claims}
        assert lies(frame, afresh[frame.of], watch) == []


def test_a_replay_claims_only_what_it_still_shows(probes, judged) -> None:
    for frame in mv.animate.training_replay(probes[1], judged[2], judged[1]):
        assert sum(c.source == ("right",) for c in frame.claims) == 1


def test_a_replay_of_other_weights_is_found(probes, judged, afresh: list[Fresh], watch: Watch) -> None:
    film = mv.animate.training_replay(probes[1], judged[2], judged[1])
    assert all(lies(f, afresh[f.of - 1], watch) for f in film if f.of)


def test_a_colour_means_the_same_number_from_the_first_frame_to_the_last(probes, judged, lapse) -> None:
    frames = list(mv.animate.training_replay(probes[1], judged[2], judged[1]))
    scales: dict[str, set[Any]] = {}
    places: dict[Any, set[tuple[int, int]]] = {}
    colours: dict[tuple[str, float], set[int]] = {}
    for frame in frames:
        for claim in frame.claims:
            if claim.zoom:
                scales.setdefault(claim.source[0], set()).add(claim.scale)
                places.setdefault(claim.source, set()).add((claim.x, claim.y))
                cell = frame.pixels[claim.y + claim.zoom // 2, claim.x + claim.zoom // 2]
                colours.setdefault((claim.source[0], float(claim.values[0, 0])), set()).add(int(cell))
    assert all(len(found) == 1 for found in (*scales.values(), *places.values(), *colours.values()))
    weights = [w["conv1.weight"] for w in lapse[0].checkpoints.values()]
    assert scales["weight"].pop().high == pytest.approx(max(float(w.abs().max()) for w in weights))


def test_a_replay_tells_its_shares_in_words_and_in_its_alt_text(probes, judged, afresh: list[Fresh]) -> None:
    film = mv.animate.training_replay(probes[1], judged[2], judged[1])
    first, last = re.findall(r"([\d.]+ %)", film.alt)
    assert reads(first, afresh[0].right)
    assert reads(last, afresh[-1].right)
    assert afresh[-1].right > afresh[0].right
    assert film.alt.startswith(f"3 digits watched while a network learns for {probes[1][-1].step} steps")


def test_a_replay_says_what_does_not_belong_together(probes, judged, real, seven: Tensor) -> None:
    with pytest.raises(mv.MnistvizError, match="not of the same steps"):
        mv.animate.training_replay(probes[1][:-1], judged[2], judged[1])
    with pytest.raises(mv.MnistvizError, match=r"(?s)one label per judged digit.*150 digits, 149 labels"):
        mv.animate.training_replay(probes[1], judged[2], judged[1][:-1])
    with pytest.raises(mv.MnistvizError, match="no moments of a training"):
        mv.animate.training_replay([], [], [])
    mixed = [*probes[1][:-1], Moment(probes[1][-1].step, record(real["light"], seven))]
    with pytest.raises(mv.MnistvizError, match="different networks"):
        mv.animate.training_replay(mixed, judged[2], judged[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_without_a_single_label_no_share_can_be_told(probes, judged) -> None:
    for make in (
        lambda: mv.animate.training_replay(probes[1], judged[2], [None] * 150),
        lambda: mv.animate.embedding_evolution(judged[2], [None] * 150),
    ):
        with pytest.raises(mv.MnistvizError, match="label"):
            make()


def test_a_label_that_is_none_counts_neither_as_right_nor_as_wrong(probes, judged, afresh: list[Fresh]) -> None:
    labels = [None, *judged[1][1:]]
    film = mv.animate.training_replay(probes[1], judged[2], labels)
    last = list(film)[-1]
    (told,) = {c.words for c in last.claims if c.source == ("right",)}
    scores = judged[2][-1].trace.output
    assert reads(told, float((scores[1:].argmax(1).numpy() == np.array(judged[1][1:])).mean()))


# ——— one plane for many digits ———


def plane_by_hand(moments: Sequence[Moment]) -> list[np.ndarray]:
    """Coordinates on the first two right singular vectors of the last moment, for every moment; signs are open."""
    rows = [m.trace["fc2"].input.double().numpy() for m in moments]
    middle = rows[-1].mean(0)
    axes = np.linalg.svd(rows[-1] - middle, full_matrices=False)[2][:2]
    return [(r - middle) @ axes.T for r in rows]


def pixels_by_hand(moments: Sequence[Moment]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    points = plane_by_hand(moments)
    low, high = np.min(np.concatenate(points), 0), np.max(np.concatenate(points), 0)
    x, y, wide, tall = clusters.FIELD
    shares = [(p - low) / (high - low) for p in points]
    across = [x + 6 + s[:, 0] * (wide - 12) for s in shares], [x + 6 + (1 - s[:, 0]) * (wide - 12) for s in shares]
    upward = [y + tall - 6 - s[:, 1] * (tall - 12) for s in shares], [y + 6 + s[:, 1] * (tall - 12) for s in shares]
    places, _ = clusters.plane(moments)

    def nearest(options: tuple[list[np.ndarray], ...], axis: int) -> list[np.ndarray]:
        off = [max(np.abs(p[:, axis] - o).max() for p, o in zip(places, option, strict=True)) for option in options]
        assert min(off) < 0.51  # one and the same sign fits all frames
        return options[int(np.argmin(off))]

    return nearest(across, 0), nearest(upward, 1)


def test_all_frames_lie_on_one_plane_found_again_by_singular_values(judged) -> None:
    moments = judged[2]
    places, held = clusters.plane(moments)
    xs, ys = pixels_by_hand(moments)
    for place, x, y in zip(places, xs, ys, strict=True):
        assert np.abs(place - np.stack([x, y], 1)).max() < 0.51
    last = moments[-1].trace["fc2"].input.double().numpy()
    values = np.linalg.svd(last - last.mean(0), compute_uv=False) ** 2
    assert held == pytest.approx(values[:2].sum() / values.sum())


def test_every_dot_is_at_its_place_in_the_colour_of_its_digit(judged) -> None:
    moments, labels = judged[2], np.array(judged[1])
    places, _ = clusters.plane(moments)
    x0, y0, wide, tall = clusters.FIELD
    for frame in mv.animate.embedding_evolution(moments, judged[1]):
        page = np.full(frame.pixels.shape, palette.PAPER, np.uint8)
        named = np.zeros(page.shape, bool)
        for d in range(10):  # later digits lie above earlier ones
            for x, y in places[frame.of][labels == d]:
                for dy, dx in product(range(-2, 3), range(-2, 3)):
                    if abs(dy) + abs(dx) < 4:
                        page[y + dy, x + dx] = palette.INKS[f"class {d}"][-1]
            x, y = np.median(places[frame.of][labels == d], axis=0).astype(int)
            named[y - 13 : y + 13, x - 12 : x + 12] = True
        inside = np.zeros(page.shape, bool)
        inside[y0 : y0 + tall, x0 : x0 + wide] = True
        check = inside & ~named
        np.testing.assert_array_equal(frame.pixels[check], page[check])
        assert (~named[places[frame.of][:, 1], places[frame.of][:, 0]]).mean() > 0.4


def test_the_share_of_right_answers_is_claimed_and_counted_again(judged, afresh: list[Fresh], watch: Watch) -> None:
    film = mv.animate.embedding_evolution(judged[2], judged[1])
    for frame in film:
        (claim,) = frame.claims
        assert claim.source == ("right",)
        assert lies(frame, afresh[frame.of], watch) == []
    first, last = re.findall(r"([\d.]+ %)", film.alt)
    assert reads(first, afresh[0].right)
    assert reads(last, afresh[-1].right)
    assert film.alt.startswith("150 digits as coloured points")
    assert "becomes 10 groups" in film.alt


def test_a_digit_without_a_label_is_framed_and_called_yours(judged, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [*judged[1][:-1], None]
    film = mv.animate.embedding_evolution(judged[2], labels)
    places, _ = clusters.plane(judged[2])
    assert film.alt.startswith("149 digits")
    for frame in film:
        x, y = places[frame.of][-1]
        assert (frame.pixels[y - 8 : y + 9, x - 8] == BOX).all()
        assert (frame.pixels[y - 2 : y + 3, x - 2 : x + 3] == palette.INKS["ink"][-1]).all()
    said = texts_of(film, monkeypatch)
    assert sum(words == "yours" for words, _ in said) == len(judged[2])


def moments_at(*rows: list[list[float]]) -> list[Moment]:
    """Moments of a network that is one linear layer, with these rows going into it."""
    model = nn.Sequential(nn.Linear(2, 10))
    return [Moment(step, record(model, torch.tensor(points))) for step, points in enumerate(rows)]


def test_nothing_of_a_frame_stays_beside_the_plane_in_the_next() -> None:
    """Yours stands at every edge in turn; what is written next to it must be gone afterwards."""
    corners = [[0.0, 0.0], [10.0, 0.0], [0.0, 6.0], [10.0, 6.0], [5.0, 3.0]]
    others = [[0.0, 0.0], [10.0, 6.0], [10.0, 0.0], [0.0, 6.0]]
    rows = [[*others, corner] for corner in corners]
    labels = [0, 1, 2, 3, None]
    *_, last = mv.animate.embedding_evolution(moments_at(*rows), labels)
    *_, alone = mv.animate.embedding_evolution(moments_at(*rows[-1:] * 2), labels)
    x, y, wide, tall = clusters.FIELD
    beside = last.pixels[y : y + tall, x + wide : x + wide + 40], alone.pixels[y : y + tall, x + wide : x + wide + 40]
    np.testing.assert_array_equal(*beside)
    np.testing.assert_array_equal(last.pixels[:, :x], alone.pixels[:, :x])


def test_what_cannot_be_projected_is_told() -> None:
    with pytest.raises(mv.MnistvizError, match="cannot be projected"):
        mv.animate.embedding_evolution(moments_at([[0.0, 1.0], [1.0, 1.0]]), [0, 1])
    with pytest.raises(mv.MnistvizError, match="cannot be projected"):
        mv.animate.embedding_evolution(moments_at([[0.0, 1.0], [1.0, float("nan")], [2.0, 2.0]]), [0, 1, 2])
    with pytest.raises(mv.MnistvizError, match="no moments"):
        mv.animate.embedding_evolution([], [])
    with pytest.raises(mv.MnistvizError, match=r"(?s)one label per judged digit"):
        mv.animate.embedding_evolution(moments_at([[0.0, 1.0], [1.0, 1.0], [2.0, 2.0]]), [0, 1])
    flat = Moment(0, record(nn.Sequential(nn.Flatten()), torch.rand(3, 1, 2, 2)))
    with pytest.raises(mv.MnistvizError, match="no linear layer"):
        mv.animate.embedding_evolution([flat], [0, 1, 2])


@pytest.mark.parametrize("scene", ["demo", "training_replay", "embedding_evolution"])
def test_films_of_several_digits_are_small_and_the_same_every_time(
    scene: str, probes, judged, real, mnist: DigitSet, tmp_path: Path
) -> None:
    make = {
        "demo": lambda: mv.animate.forward_propagation_demo([record(real["deep"], d.pixels) for d in mnist.test[:10]], range(10)),
        "training_replay": lambda: mv.animate.training_replay(probes[1], judged[2], judged[1]),
        "embedding_evolution": lambda: mv.animate.embedding_evolution(judged[2], judged[1]),
    }[scene]
    film = make()
    path = film.save(tmp_path / "one.gif", sheet=False, progress=False)
    assert path.stat().st_size < 1_500_000
    if scene != "demo":
        assert make().save(tmp_path / "two.gif", sheet=False, progress=False).read_bytes() == path.read_bytes()
    frames = list(film)
    assert len({frame.pixels.shape for frame in frames}) == 1
    assert frames[0].pixels.shape[1] <= 1000
    assert all(frame.claims and frame.ms % 10 == 0 and frame.ms >= 20 for frame in frames)


# ——— parts ———


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 140), st.integers(1, 28), st.integers(1, 28), st.integers(200, 800), st.integers(200, 500),
    st.integers(0, 8),
)  # fmt: skip
def test_many_maps_fit_their_field_and_no_larger_zoom_would(
    count: int, high: int, wide: int, across: int, down: int, gap: int
) -> None:
    columns, zoom = parts.fitting(count, high, wide, across, down, gap)

    def fits(n: int, z: int) -> bool:
        rows = -(-count // n)
        return n * (wide * z + gap) - gap <= across and rows * (high * z + gap) - gap <= down

    assert 1 <= columns <= count
    if any(fits(n, 1) for n in range(1, count + 1)):
        assert fits(columns, zoom)
        assert not any(fits(n, zoom + 1) for n in range(1, count + 1))


@given(st.integers(1, 60), st.integers(1, 20))
def test_stops_are_as_many_as_asked_even_and_end_at_the_last(length: int, count: int) -> None:
    found = sorted(parts.spaced(length, count))
    assert found[-1] == length - 1
    assert found[0] >= 0
    if count <= length:
        assert len(found) == count
        gaps = {b - a for a, b in pairwise(found)}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_probabilities_are_those_of_torch_even_for_large_scores() -> None:
    scores = torch.tensor([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]])
    trace = record(nn.Sequential(nn.Identity()), scores)
    np.testing.assert_allclose(parts.softmax(trace), torch.softmax(scores.double(), 1), rtol=1e-12)
    logs = record(nn.Sequential(nn.LogSoftmax(1)), scores)
    np.testing.assert_allclose(parts.softmax(logs), torch.softmax(scores.double(), 1), rtol=1e-6)
