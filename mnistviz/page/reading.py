"""What the app shows of one digit: the answer in words and bars, and figures, drawn beside it; each made once."""

import base64
import html
import io
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import nn

from mnistviz import project
from mnistviz.animate.scenes import film
from mnistviz.errors import MnistvizError, refuse
from mnistviz.learn.checkpoint import BEST, load_model
from mnistviz.learn.data import Digits, load_digits
from mnistviz.learn.handwriting import UNREAD, how_sure, read_digit
from mnistviz.look.arithmetic import ledger
from mnistviz.look.capture import record
from mnistviz.look.causes import nearest
from mnistviz.look.trace import Trace
from mnistviz.show import figures
from mnistviz.show.picture import Picture, an, page, percent
from mnistviz.show.tiles import draw_grey

MEGABYTES, MEGAPIXELS = 10, 25  # of a picture that is handed in
KNOWN = 2_000  # training digits among which the nearest are looked for
ONE_PASS = ("mnist_forward_propagation", "convolution", "max_pooling", "mnist_data_flow")
LOCK = Lock()  # a model records one pass at a time
BESIDE = ThreadPoolExecutor(1)  # figures are drawn here, so that the next stroke need not wait for one


def checkpoints() -> dict[str, Path]:
    """All weights below `models/` by what they are called there; the ones that are taken by default come first."""
    folder = project.models_folder()
    first = folder / project.DEFAULT / BEST
    paths = sorted(folder.glob("**/*.pth"), key=lambda path: (path != first, path.parent.name.startswith("_"), path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


@lru_cache(4)
def network(path: Path, changed: float) -> nn.Sequential:
    """`network(path, path.stat().st_mtime)`: a checkpoint that reads digits, or an error that says why it does not."""
    model, name = load_model(path), project.shown(path)
    wrong = [key for key, value in model.state_dict().items() if not value.isfinite().all()]
    given, fix = f"{len(wrong)} such tensors, {wrong[:1]}", "choose another, or train again: python -m mnistviz train"
    refuse(wrong, f"{name} holds weights that are not numbers", given=given, fix=fix)
    try:
        with torch.no_grad():
            shape = tuple(model(torch.zeros(1, 1, 28, 28)).shape)
    except RuntimeError as error:
        raise MnistvizError(f"{name} takes no digits of 28×28 pixels", given=str(error)[:120], fix=fix) from error
    refuse(shape != (1, 10), f"{name} gives no ten scores", given=f"an output of shape {shape}", fix=fix)
    return model


def handed_in(file: BinaryIO) -> Digits:
    """The digit of a picture that somebody hands in; its size is looked at before it is decoded."""
    name = Path(getattr(file, "name", "the picture")).name
    size = file.seek(0, io.SEEK_END)
    refuse(size > MEGABYTES * 10**6, f"{name} is too large", given=f"{size / 1e6:.3g} MB", allowed=f"{MEGABYTES} MB")
    try:
        file.seek(0)
        with Image.open(file) as picture:
            pixels = picture.width * picture.height / 1e6
    except Exception:  # a damaged file can make Pillow raise anything; `read_digit` says what it is
        pixels = 0
    given, allowed = f"{pixels:.3g} million pixels", f"{MEGAPIXELS} million"
    refuse(pixels > MEGAPIXELS, f"{name} is too large", given=given, allowed=allowed, fix="make it smaller, or cut it")
    file.seek(0)
    return read_digit(file)


@lru_cache(16)
def passed(path: Path, changed: float, image: bytes) -> Trace:
    """The recorded pass of one digit; of the same digit the same record."""
    digit = Digits(torch.frombuffer(bytearray(image), dtype=torch.uint8).view(1, 28, 28), None, "the app")
    with LOCK, torch.no_grad():
        return record(network(path, changed), digit.pixels)


def as_html(digit: Digits, shares: np.ndarray) -> str:
    """The answer, how sure it is, and ten bars."""
    first, second = (int(i) for i in np.argsort(-shares)[:2])
    sure, other = how_sure(digit.pixels, shares), f"{an(second)} with {percent(shares[second])}"
    answer, words = str(first), "It is sure." if sure == "sure" else f"It is {sure}; after that it thinks of {other}."
    if sure == UNREAD:
        answer, words = "?", f"{UNREAD}. It would guess {an(first)} with {percent(shares[first])}, or {other}."
    rows = "".join(
        f'<li{" class=best" if str(d) == answer else ""}><b>{d}</b><i><u style="width:{share:.1%}"></u></i>'
        f"<span>{percent(share)}</span></li>"
        for d, share in enumerate(shares)
    )
    file = io.BytesIO()
    Image.fromarray(digit.images[0].numpy()).save(file, "PNG")
    seen = tagged(file.getvalue(), "The digit as the network sees it, 28×28 pixels.")
    head = f'<div class=head><strong>{answer}</strong><p role="status">{words}</p>{seen}</div>'
    return f'<section class=answer aria-label="answer">{head}<ol>{rows}</ol></section>'


def tagged(content: bytes, alt: str, kind: str = "png", width: int | None = None) -> str:
    """A picture with its alt text as a piece of HTML."""
    size = f' width="{width}"' if width else ""
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return f'<img src="{source}" alt="{html.escape(alt)}"{size}>'


@lru_cache(64)
def figure(made: Callable[..., Picture], *given: Any) -> Future[str]:
    """`figure(sums, trace, "fc1", 7).result()`: HTML of a picture; asked for again, it is there already."""

    def draw() -> str:
        picture = made(*given)
        picture.set_dpi(144)  # two pixels for each one on the page
        data, about = picture._repr_mimebundle_()
        return tagged(data["image/png"], picture.alt, width=about["image/png"]["width"])

    return BESIDE.submit(draw)


def sums(trace: Trace, layer: str, *unit: int) -> Picture:
    return figures.ledger(ledger(trace, layer, *unit))


def neighbours(path: Path, changed: float, trace: Trace, count: int = 8) -> Picture:
    """The training digits whose last features lie nearest to this one's."""
    known, features, labels = _known(path, changed)
    rows, distances = nearest(trace[trace.last_linear()].input, features, count)
    names = [str(int(labels[row])) for row in rows[0]]
    picture, axes = page(count + 1.2, 1.9, columns=count + 1)
    draw_grey(axes[0], trace.input, "yours")
    for ax, row, name, distance in zip(axes[1:], rows[0], names, distances[0], strict=True):
        draw_grey(ax, known[row], an(name))
        ax.set_xlabel(f"at {distance:.1f}", fontsize=9)
    among = f"among {len(known):,} training digits"
    picture.caption(f"The {count} nearest {among}; distances between what goes into {trace.last_linear()}.")
    return picture.told(f"The digit, and the {count} nearest to it {among}, labelled {', '.join(names)}.")


@lru_cache(2)
def _known(path: Path, changed: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    digits, model = load_digits("mnist").train.sample(KNOWN), load_model(path)
    with torch.no_grad():
        last = record(model, digits[0].pixels).last_linear()
        features = record(model, digits.pixels, last)[last].input
    return digits.pixels, features, digits.known_labels()


def strongest(trace: Trace, layer: str) -> tuple[int, ...]:
    """Where the largest output of a layer is: channel, y and x, or the number of a linear layer's unit."""
    values = trace[layer].result[0]
    return tuple(int(i) for i in np.unravel_index(int(values.argmax()), values.shape))


def filmed(scene: str, path: Path, digit: Digits) -> tuple[bytes, str]:
    """A quick film of this very digit as the bytes of a GIF, and what is to be seen on it."""
    with tempfile.TemporaryDirectory() as folder:
        made = film(scene, str(path), digit, frames=2)
        return made.save(Path(folder) / "film.gif", budget=None, sheet=False, progress=False).read_bytes(), made.alt
