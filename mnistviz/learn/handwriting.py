"""Digits from elsewhere, brought into the form of MNIST: a photograph or drawing, and another collection."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mnistviz.errors import MnistvizError, refuse
from mnistviz.learn.data import Digits

UNREAD = "I cannot read this"
BOX, SIDE, MIDDLE = 20, 28, 14  # MNIST fits the ink into 20×20 and puts its centre of mass on pixel 14 of 28


def read_digit(path: str | Path | BinaryIO) -> Digits:
    """`digit = read_digit("seven.png")`, or of an open file: one unlabelled digit, ready for `predict`.

    Any size, colour or grey, dark ink on light paper or light on dark. Paper becomes black, the ink is
    fitted into 20×20 pixels and its centre of mass put in the middle, as the makers of MNIST did.
    """
    source = Path(path) if isinstance(path, str | Path) else path
    name = Path(getattr(source, "name", "the picture")).name
    try:
        with Image.open(source) as file:
            image = ImageOps.exif_transpose(file)
        if image.mode[0] == "I":  # 16-bit grey, which Pillow would cut off at 255
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        image = image.convert("RGBA")
    except FileNotFoundError:
        raise MnistvizError("no such picture", given=str(path)) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        what, allowed = f"{name} cannot be read as a picture", "PNG, JPEG and what else Pillow reads"
        given = "nothing that is known" if isinstance(error, UnidentifiedImageError) else str(error)[:120]
        raise MnistvizError(what, given=given, allowed=allowed) from error
    opaque = np.asarray(image.getchannel("A"), dtype=np.float32)
    drawn = np.average(np.asarray(image.convert("L")), weights=opaque) if opaque.any() else 0
    light_ink = drawn > 128 and opaque.mean() < 128  # light strokes on a page that is mostly transparent
    paper = Image.new("RGBA", image.size, "black" if light_ink else "white")
    grey = np.asarray(Image.alpha_composite(paper, image).convert("L"), dtype=np.float32)
    return Digits(torch.from_numpy(centre(ink(grey, name))).unsqueeze(0), None, name)


def ink(grey: np.ndarray, name: str = "the picture") -> np.ndarray:
    """How much ink each pixel holds, 0 to 1: the border is taken for paper, what differs from it for ink."""
    paper = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    away = (paper - grey) if paper > grey.mean() else (grey - paper)
    strongest = float(np.percentile(away, 99.8)) if away.size >= 500 else float(away.max())
    strongest = max(strongest, float(away.max()) * 0.5)
    given = f"the strongest mark differs from the paper by {max(strongest, 0):.0f} of 255 grey levels"
    allowed = "dark on light or light on dark, a difference of 25 or more"
    refuse(strongest < 25, f"no digit found in {name}", given=given, allowed=allowed)
    share = np.clip(away / strongest, 0, 1)
    return np.where(share < 0.2, 0, share)  # paper grain and shadows


def centre(share: np.ndarray) -> np.ndarray:
    """Ink of any size as MNIST has it: uint8 (28, 28), in a 20×20 box, centre of mass in the middle."""
    rows, columns = np.flatnonzero((share > 0.3).any(1)), np.flatnonzero((share > 0.3).any(0))
    cut = share[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX / max(cut.shape)
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    method = Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(cut.astype(np.float32)).resize(size, method))
    small = small / small.max()
    (h, w), mass = small.shape, small.sum()
    y = round(MIDDLE - float((small.sum(1) * np.arange(h)).sum() / mass))
    x = round(MIDDLE - float((small.sum(0) * np.arange(w)).sum() / mass))
    y, x = min(max(y, 0), SIDE - h), min(max(x, 0), SIDE - w)
    canvas = np.zeros((SIDE, SIDE), np.float32)
    canvas[y : y + h, x : x + w] = small
    return np.rint(canvas * 255).astype(np.uint8)


def how_sure(pixels: Tensor, probabilities: np.ndarray) -> str:
    """`how_sure(digit.pixels, mv.predict(model, digit)[0])`: "sure", "fairly sure", "unsure" or "I cannot read this".

    A network gives ten probabilities for anything, so this is no detector of digits: it refuses what the network
    itself finds doubtful, and what holds less ink than a thin 1 or more than a fat 0 or 8.
    """
    best, share = float(probabilities.max()), float(pixels.mean())
    if not (best >= 0.8 and 0.02 <= share <= 0.32):  # not a number is refused too
        return UNREAD
    return "sure" if best >= 0.99 else "fairly sure" if best >= 0.9 else "unsure"


def enlarged(share: np.ndarray) -> np.ndarray:
    """`enlarged(image)`: ink from 0 to 1 on a page of 8×8 pixels or so, as MNIST has it: uint8 (28, 28).

    It is enlarged on its black page and then read like any picture. Cut out of so few pixels, whole columns of
    faint ink would be cut off, and the strokes would end in walls.
    """
    page = np.pad(share, 1).astype(np.float32) * 255
    large = Image.fromarray(page).resize((page.shape[1] * 8, page.shape[0] * 8), Image.Resampling.LANCZOS)
    return centre(ink(np.asarray(large).clip(0, 255)))


def digits_from_elsewhere() -> Digits:
    """scikit-learn's 1,797 digits of 8×8 pixels, brought into the form of MNIST: other writers, another scanner."""
    from sklearn.datasets import load_digits

    small = load_digits()
    images = np.stack([enlarged(image / 16) for image in small.images])
    return Digits(torch.from_numpy(images), torch.from_numpy(small.target).long(), "scikit-learn digits, enlarged")
