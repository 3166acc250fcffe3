"""What excites a channel is shown as it is in the digits: these pixels, this place, these classes."""

from typing import Any

import numpy as np
import pytest
from helpers import sheet_of
from matplotlib.axes import Axes

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.examples import Examples
from mnistviz.show.figures.examples import BEYOND

K = 9


def assert_crops(axes: Axes, examples: Examples, digits: mv.Digits, channel: int) -> None:
    """One window after another: pixels of the digit, and beyond its border pale blue."""
    height, width = examples.field(channel, 0).size
    sheet = sheet_of(axes)
    gap, odd = divmod(sheet.shape[1] - K * width, K - 1)
    assert gap > 0
    assert odd == 0
    inside = np.arange(sheet.shape[1]) % (width + gap) < width
    assert (sheet[:, ~inside] == 1).all()
    for place, crop in enumerate(np.split(sheet[:, inside], K, axis=1)):
        top, left = examples.field(channel, place).window
        image = digits.images[int(examples.rows[channel, place])].numpy() / 255
        expected = np.full((height, width, 3), BEYOND)
        for i, j in np.ndindex(height, width):
            if 0 <= top + i < 28 and 0 <= left + j < 28:
                expected[i, j] = image[top + i, left + j]
        np.testing.assert_allclose(crop, expected, atol=1e-6)
    assert axes.get_ylabel() == f"channel {channel}"
    ends = [float(value) for value in axes.get_xlabel().split(" … ")]
    assert ends == pytest.approx(examples.values[channel, [0, -1]].tolist(), abs=0.00501)


@pytest.mark.parametrize(("layer", "channels"), [("relu2", [3, 0, 7]), ("relu5", [1, 100]), ("fc2", [9, 4])])
def test_each_channel_has_its_crops_the_first_digit_framed_and_all_classes_counted(
    layer: str, channels: list[int], records: Any
) -> None:
    digits = records.few[100:180]
    examples = mv.top_examples(records.models["deep"], digits.pixels, layer, K)
    axes = figures.top_examples(examples, digits, iter(channels)).axes
    fields = [examples.field(channel, place) for channel in channels for place in range(K)]
    assert any((field.height, field.width) != field.size for field in fields) == (layer != "relu2")  # at a border
    for (crops, first, classes), channel in zip(np.reshape(axes, (-1, 3)), channels, strict=True):
        assert_crops(crops, examples, digits, channel)
        rows, field = examples.rows[channel], examples.field(channel, 0)
        np.testing.assert_array_equal(sheet_of(first), digits.images[int(rows[0])].numpy())
        assert first.images[0].get_clim() == (0, 255)
        (frame,) = first.patches
        assert frame.get_xy() == (field.left - 0.5, field.top - 0.5)
        assert (frame.get_width(), frame.get_height()) == (field.width, field.height)
        labels = digits.labels[rows].tolist()
        assert [bar.get_height() for bar in classes.containers[0]] == [labels.count(d) for d in range(10)]
        assert classes.get_ylim() == (0, K)
        assert [text.get_text() for text in classes.get_xticklabels()] == list("0123456789")
