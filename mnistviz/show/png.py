"""A picture in a palette of 256 colours: less than half the bytes, and no colour that carries data is changed."""

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

PALETTE = 256  # colours a PNG can number
MOST_EXACT = 232  # so many of them may be exact: the others are for the soft edges of letters and lines
MOST_FREQUENT = 224  # up to this place the palette takes further colours by how often they occur
GREYS = np.linspace(0, 255, 64).round().astype(np.uint8)[:, None].repeat(3, axis=1)


def indexed(pixels: np.ndarray, exact: np.ndarray) -> Image.Image:
    """`indexed(pixels, exact)`: (H, W, 3) bytes with a palette, in which the (K, 3) `exact` colours stay as they are.

    Where these are too many, greys give way to the nearest of 64; where they still are, no palette is made.
    """
    if len(exact) > MOST_EXACT:
        is_grey = (exact == exact[:, :1]).all(axis=1)
        exact = np.concatenate([exact[~is_grey], GREYS])
    if len(exact) > MOST_EXACT:
        return Image.fromarray(pixels)
    numbers, places, counts = np.unique(_number(pixels), return_inverse=True, return_counts=True)
    colours = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=1).astype(np.uint8)
    counts[np.isin(numbers, _number(exact))] = 0  # these have their place already
    palette = _palette(exact, colours[np.argsort(-counts, kind="stable")])
    distances = ((colours[:, None].astype(np.int32) - palette) ** 2).sum(axis=2)
    nearest = distances.argmin(axis=1).astype(np.uint8)
    picture = Image.fromarray(nearest[places].reshape(pixels.shape[:2]), "P")
    picture.putpalette(palette.tobytes())
    return picture


def encoded(picture: Image.Image, alt: str | None = None, kind: str = "PNG", **options: Any) -> bytes:
    """`encoded(picture, "A seven.")`: a file's bytes; a PNG has the alt text inside it, if there is one."""
    about, buffer = PngInfo(), io.BytesIO()
    if alt is not None:
        about.add_itxt("Description", alt)
    picture.save(buffer, kind, pnginfo=about, **options)
    return buffer.getvalue()


def _number(colours: np.ndarray) -> np.ndarray:
    """Each colour as one whole number, so that equal ones can be counted."""
    return colours.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)


def _palette(exact: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The exact colours, then the first of the others as they are; all the rest share what is left."""
    room = max(MOST_FREQUENT - len(exact), 0)
    palette, rest = np.concatenate([exact, others[:room]]), others[room:]
    if len(rest):
        mixed = Image.fromarray(rest[None]).quantize(PALETTE - len(palette), Image.Quantize.MEDIANCUT)
        palette = np.concatenate([palette, np.array(mixed.getpalette(), np.uint8).reshape(-1, 3)])
    return palette[:PALETTE]
