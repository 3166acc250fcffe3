"""What several test files do: ask for a clear error, read a picture's words."""

import io
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor

import mnistviz as mv
from mnistviz.show.picture import Picture
from mnistviz.show.scales import Scale


def refused(call: Callable[[], object], *words: str) -> None:
    """The call raises the library's error, and its message holds all these words."""
    with pytest.raises(mv.MnistvizError) as caught:
        call()
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in:\n{caught.value}"


def refusals(cases: Mapping[str, tuple], *fixtures: str) -> Callable[..., None]:
    """A test for each case: a call, which is given these fixtures, and the words of its error."""

    @pytest.mark.parametrize("case", cases.values(), ids=cases)
    def each(case: tuple, request: pytest.FixtureRequest) -> None:
        call, *words = case
        refused(lambda: call(*map(request.getfixturevalue, fixtures)), *words)

    return each


def wilson(right: int, count: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a share, by hand."""
    p, z = right / count, 1.959963984540054
    middle, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return max(0.0, (middle - half) / (1 + z * z / count)), min(1.0, (middle + half) / (1 + z * z / count))


def caption_of(picture: Picture) -> str:
    """The caption as one line."""
    return picture.get_supxlabel().replace("\n", " ")


def words_of(picture: Picture) -> str:
    """Every word on the page."""
    return "\n".join(text.get_text() for text in picture.findobj(Text))


def sheet_of(axes: Axes) -> np.ndarray:
    """The numbers or colours of the one image on an axes."""
    (image,) = axes.images
    return np.asarray(image.get_array())


def scale_of(*values: Tensor, scope: str = "layer") -> Scale:
    """Written out once more: about 0 if anything is negative, else from 0."""
    high = max(float(x.abs().max()) for x in values)
    return Scale(-high if any(bool((x < 0).any()) for x in values) else 0.0, high, scope)


def content(record: object) -> object:
    """Every number of a record, bit for bit."""
    if isinstance(record, Tensor | np.ndarray):
        values = record.detach().numpy() if isinstance(record, Tensor) else record
        return str(record.dtype), values.shape, values.tobytes()
    if isinstance(record, dict):
        return {key: content(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [content(value) for value in record]
    if is_dataclass(record):  # not what it counts from its fields and keeps
        return {field.name: content(getattr(record, field.name)) for field in fields(record)}
    return content(vars(record)) if hasattr(record, "__dict__") else repr(record)


@contextmanager
def words_drawn() -> Iterator[list[tuple[str, Bbox]]]:
    """Every word that reaches the page inside, and its place there in pixels."""
    words: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def recorded(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            assert text.get_fontsize() >= 9, text.get_text()  # points on the page
            words.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", recorded)
        yield words


def chance() -> tuple[object, ...]:
    """The state of everybody's generators: what leaves it alone is the same each time."""
    return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()


def assert_fit_to_be_seen(draw: Callable[[], Picture], again: bool = False) -> Picture:
    """Words inside the page and apart, square pixels, no warning, and the reader's settings and dice untouched."""
    before = dict(mpl.rcParams), plt.get_fignums(), chance()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=mpl.MatplotlibDeprecationWarning)  # seaborn's to mend
        picture = draw()
        with words_drawn() as words:
            png = picture._png()
    assert (dict(mpl.rcParams), plt.get_fignums(), chance()) == before
    assert isinstance(picture, Picture)
    assert not again or draw()._png() == png
    assert len(picture.alt) > 30
    assert Image.open(io.BytesIO(png)).text["Description"] == picture.alt
    assert all(image.get_interpolation() == "nearest" for axes in picture.axes for image in axes.images)
    low, high = (np.array([getattr(box, end) for _, box in words]) for end in ("min", "max"))
    assert (low > -1).all()
    assert (high < picture.bbox.max + 1).all()
    shared = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low) > 3).all(2)
    assert not [(words[i][0], words[j][0]) for i, j in np.argwhere(np.triu(shared, 1))]
    page = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert (np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]]) == 255).all()  # nothing is cut off
    return picture
