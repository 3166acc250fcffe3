"""The oracle of films: a forward pass of its own, against which every number that a frame claims and shows is held."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistviz.animate import Canvas, Claim, Film, Frame, palette
from mnistviz.show.scales import Scale

ACCENT = int(palette.INKS["accent"][-1])  # of boxes, marks and paths


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
        self.patches: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]] = {}

    def border(self, layer: str) -> np.ndarray:
        """What goes into a convolution with its border, (C, H, W)."""
        if layer not in self.borders:
            conv, x = self.layers[layer], self.into[layer][0].double().numpy()
            if conv.padding == "same":
                extra = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
                around = [(0, 0), *((e // 2, e - e // 2) for e in extra)]
            else:
                around = [(0, 0), *((p, p) for p in ((0, 0) if conv.padding == "valid" else conv.padding))]
            modes = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
            self.borders[layer] = np.pad(x, around, mode=modes[conv.padding_mode])
        return self.borders[layer]

    def patch(self, layer: str, channel: int, y: int, x: int) -> tuple[np.ndarray, np.ndarray]:
        """What lies under the kernel at one output pixel, and the kernel."""
        unit = (layer, channel, y, x)
        if unit not in self.patches:
            conv = self.layers[layer]
            kernel = conv.weight[channel].detach().double().numpy()
            first = channel // (conv.out_channels // conv.groups) * len(kernel)
            patch = np.empty_like(kernel)
            for c, i, j in np.ndindex(*kernel.shape):
                down, across = (
                    n * s + k * d for n, s, k, d in zip((y, x), conv.stride, (i, j), conv.dilation, strict=True)
                )
                patch[c, i, j] = self.border(layer)[first + c, down, across]
            self.patches[unit] = patch, kernel
        return self.patches[unit]

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
            case ("weight", layer, *at):
                return self.layers[layer].weight[tuple(at)].detach().numpy()
            case ("bias", layer, o):
                bias = self.layers[layer].bias
                return np.zeros(()) if bias is None else bias[o].detach().numpy()
            case ("part", layer, 0, c, y, x):
                return self.out[layer][0, c, y : y + shape[0], x : x + shape[1]].numpy()
            case ("patch" | "kernel" | "products" as what, layer, channel, y, x, *at):
                patch, kernel = self.patch(layer, channel, y, x)
                return {"patch": patch, "kernel": kernel, "products": patch * kernel}[what][tuple(at)]
            case ("sum" | "others" as what, layer, channel, y, x, i):
                patch, kernel = self.patch(layer, channel, y, x)
                sums = (patch * kernel).sum((1, 2))
                return sums[i] if what == "sum" else sums.sum() - sums[i]
            case (layer, *at) if layer in self.out:
                return self.out[layer][tuple(at)].numpy()
        raise AssertionError(f"no such source: {source}")


class Returned(Fresh):
    """A fresh pass of one digit, its way back from a label by plain autograd, and behind it the pass after a step."""

    def __init__(self, model: nn.Sequential, x: Tensor, label: int, rate: float) -> None:
        super().__init__(model, x)
        network, ends = deepcopy(model).eval(), {"input": x.clone().requires_grad_()}
        value = ends["input"]
        for name, layer in network.named_children():
            value = ends[name] = layer(value)
            value.retain_grad()
        functional.cross_entropy(value, torch.tensor([label])).backward()
        self.deltas = {name: end.grad.numpy() for name, end in ends.items()}
        self.gradients = {name: w.grad.numpy().copy() for name, w in network.named_parameters()}
        torch.optim.SGD(network.parameters(), lr=rate).step()
        self.after, self.label = Fresh(network, x), label

    def __call__(self, source: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
        match source:
            case ("after", "loss"):
                return -self.after.shares[0, self.label].log().numpy()
            case ("after", *rest):
                return self.after(tuple(rest), shape)
            case ("loss",):
                return -self.shares[0, self.label].log().numpy()
            case ("delta", layer, *at):
                return self.deltas[layer][tuple(at)]
            case ("gradient", layer, *at):
                return self.gradients[f"{layer}.weight"][tuple(at)]
        return super().__call__(source, shape)


class Watch:
    """While scenes draw: what lies over the maps (boxes, lines, marks), and in which type numbers are written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.styles: dict[Claim, dict[str, Any]] = {}
        self.boxes: set[tuple[int, ...]] = set()
        self._above: dict[int, tuple[Any, np.ndarray]] = {}  # by the claims of a frame, which are kept with it
        self._busy = False  # a box is drawn with `rule`, and so is a filled rectangle, which hides no claim
        copy, frame, number = Canvas.copy, Canvas.frame, Canvas.number

        def above(canvas: Canvas) -> np.ndarray:
            if "above" not in vars(canvas):
                canvas.above = np.full(canvas.pixels.shape, palette.TRANSPARENT, np.uint8)
            return canvas.above

        def drawing(name: str) -> Callable[..., Any]:
            plain = getattr(Canvas, name)

            def draw(canvas: Canvas, *args: Any, **named: Any) -> Any:
                if self._busy:
                    return plain(canvas, *args, **named)
                if name == "box":
                    self.boxes.add(args[:4])
                before = None if name == "fill" else canvas.pixels.copy()
                self._busy = True
                result = plain(canvas, *args, **named)
                self._busy = False
                if before is not None:
                    changed = canvas.pixels != before
                    above(canvas)[changed] = canvas.pixels[changed]
                return result

            return draw

        def copied(canvas: Canvas) -> Canvas:
            twin = copy(canvas)
            twin.above = above(canvas).copy()
            return twin

        def framed(canvas: Canvas, *args: Any, **named: Any) -> Frame:
            made = frame(canvas, *args, **named)
            self._above[id(made.claims)] = made.claims, above(canvas).copy()
            return made

        def written(canvas: Canvas, x: int, y: int, value: float, source: Any, words: str = "", **style: Any) -> None:
            number(canvas, x, y, value, source, words, **style)
            self.styles[canvas.claims[-1]] = style

        for name in ("box", "rule", "line", "weave", "fill"):
            monkeypatch.setattr(Canvas, name, drawing(name))
        for name, double in (("copy", copied), ("frame", framed), ("number", written)):
            monkeypatch.setattr(Canvas, name, double)

    def above(self, frame: Frame) -> np.ndarray:
        """What was drawn on top, as palette numbers; TRANSPARENT where nothing was."""
        return self._above[id(frame.claims)][1]

    def forged(self, frame: Frame, **changes: Any) -> Frame:
        """The frame with something else in it, and the same on top."""
        made = replace(frame, **changes)
        self._above[id(made.claims)] = made.claims, self.above(frame)
        return made


def half_step(scale: Scale | None) -> float:
    """How far a value read from a picture may lie from its number: half the distance of two colours."""
    low, high, steps = (0.0, 1.0, 31) if scale is None else (scale.low, scale.high, 64 if scale.low < 0 else 63)
    return 0.5 * (high - low) / steps


def reads(words: str, value: float) -> bool:
    """Whether these words are this value, rounded as far as they say."""
    if share := re.match(r"([<>]?)([\d.]+) %", words):
        sign, percent = share[1], float(share[2])
        if sign:
            return 100 * value > percent if sign == ">" else 100 * value < percent
        return abs(100 * value - percent) <= 0.05 + 1e-4
    if words == "0":
        return value == 0
    digits, _, power = words.replace("−", "-").partition("e")
    step = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return abs(float(words.replace("−", "-")) - value) <= step * 0.5003


def stands(pixels: np.ndarray, above: np.ndarray, claim: Claim, style: dict[str, Any]) -> bool:
    """Whether the words of a claim, written again on an empty page, are the very pixels of the frame there."""
    page = Canvas(480, 80)
    page.pixels[:] = palette.TRANSPARENT
    page.text(240, 40, claim.words, **style)
    ys, xs = np.nonzero(page.pixels != palette.TRANSPARENT)
    letters, rows, columns = page.pixels[ys, xs], ys + claim.y - 40, xs + claim.x - 240
    if not len(ys) or not ((rows >= 0) & (rows < len(pixels)) & (columns < pixels.shape[1]) & (columns >= 0)).all():
        return False
    there = pixels[rows, columns]
    return bool(((there == letters) | (there == above[rows, columns])).all())


def lies(frame: Frame, fresh: Fresh, watch: Watch) -> list[str]:
    """Whatever a frame claims or shows that the fresh pass does not say."""
    lies: list[str] = []
    hidden = cells = 0
    scales: dict[str, Any] = {}
    for claim in frame.claims:
        true = np.asarray(fresh(claim.source, claim.values.shape), float)
        if true.shape != claim.values.shape and true.size == claim.values.size == 1:
            true = true.reshape(claim.values.shape)
        small = claim.source[0] in ("delta", "gradient", "loss", "after")  # may be; then as exact as the largest allows
        close = 1e-5 * np.abs(true).max() if small else 1e-5
        if true.shape != claim.values.shape or not np.allclose(claim.values, true, rtol=1e-5, atol=close):
            lies.append(f"{claim.source}: claimed numbers are not those computed")
        elif not claim.zoom:
            if not reads(claim.words, float(true)):
                lies.append(f"{claim.source}: {claim.words!r} is not {float(true)}")
            style = watch.styles[claim]
            if not stands(frame.pixels, watch.above(frame), claim, style):
                lies.append(f"{claim.source}: {claim.words!r} is not what stands there")
        else:
            high, wide = true.shape
            ys = claim.y + np.arange(high) * claim.zoom + claim.zoom // 2
            xs = claim.x + np.arange(wide) * claim.zoom + claim.zoom // 2
            covered = (watch.above(frame) == frame.pixels)[np.ix_(ys, xs)]
            right = np.abs(claim.read(frame.pixels) - true) <= half_step(claim.scale) * 1.001 + min(1e-6, close)
            hidden, cells = hidden + int((covered & ~right).sum()), cells + true.size
            if not (right | covered).all():
                lies.append(f"{claim.source}: {int((~right & ~covered).sum())} squares show another number")
            what, *at = (part for part in claim.source if part != "after")  # the kernels before a step and after it
            layer = at[0] if what == "part" else (what, at[0]) if what in ("delta", "gradient", "weight") else what
            if scales.setdefault(str(layer), claim.scale) != claim.scale:
                lies.append(f"{claim.source}: another scale than the rest of its layer")
    if hidden > 0.1 * cells:
        lies.append(f"{hidden} of {cells} squares lie under lines and boxes")
    return lies


def lies_of(film: Film, fresh: Fresh, watch: Watch, count: int = 8) -> list[str]:
    """The lies of the first frame, the last, and about so many between, by dice; the form of all frames is checked."""
    every: list[str] = []
    frame, shapes, dice = None, set(), np.random.default_rng(count)
    for frame in film:
        if not shapes or dice.random() < count / 36:
            every += lies(frame, fresh, watch)
        shapes.add(frame.pixels.shape)
        assert frame.claims
        assert frame.ms % 10 == 0
        assert 20 <= frame.ms <= 655_350
        assert frame.pixels.max() < palette.USED
    ((high, wide),) = shapes
    assert wide <= 1000
    assert high <= 1000
    return every + lies(frame, fresh, watch)


def texts_of(film: Film, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every line that a film writes, and its ink."""
    texts: list[tuple[str, str]] = []
    text = Canvas.text

    def write(canvas: Canvas, x: int, y: int, words: str, size: int = 18, ink: str = "ink", *rest: Any, **named: Any):
        texts.append((words, ink))
        return text(canvas, x, y, words, size, ink, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Canvas, "text", write)
        list(film._draw())  # each frame once; a film opens with its last
    return texts
