"""What excites a channel is shown as it is in the digits: these pixels, this place, these classes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from test_maps import assert_fit_to_be_seen, at_once, caption_of, sheet_of  # noqa: F401

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.examples import Examples
from mnistviz.show.figures.examples import BEYOND
from mnistviz.show.picture import Picture

K = 9
LAYERS = {"relu1": [0, 31], "relu2": [3, 0, 7], "pool2": [5, 60], "relu5": [1, 100], "fc2": [9, 4]}


@pytest.fixture(scope="module")
def digits(few: mv.Digits) -> mv.Digits:
    return few[100:180]


@pytest.fixture(scope="module")
def strongest(digits: mv.Digits) -> Callable[[str], Examples]:
    model = mv.load_model("deep")
    return {layer: mv.top_examples(model, digits.pixels, layer, k=K) for layer in LAYERS}.__getitem__


@pytest.fixture(scope="module")
def pictures(strongest: Callable[[str], Examples], digits: mv.Digits) -> dict[str, Picture]:
    return {layer: figures.top_examples(strongest(layer), digits, iter(LAYERS[layer])) for layer in LAYERS}


def rows_of(axes: list[Axes]) -> list[list[Axes]]:
    return [axes[i : i + 3] for i in range(0, len(axes), 3)]


@pytest.mark.parametrize("layer", ["relu2", "relu5"])
def test_the_strongest_examples_are_fit_to_be_seen(
    layer: str, strongest: Callable[[str], Examples], digits: mv.Digits
) -> None:
    examples = strongest(layer)
    assert_fit_to_be_seen(lambda: figures.top_examples(examples, digits, LAYERS[layer]), examples, digits)


def test_a_few_examples_leave_room_for_all_words(digits: mv.Digits) -> None:
    examples = mv.top_examples(mv.load_model("deep"), digits.pixels, "relu2", k=3)
    assert_fit_to_be_seen(lambda: figures.top_examples(examples, digits, [3]), examples)


@pytest.mark.parametrize("layer", LAYERS)
def test_crops_are_the_pixels_that_the_unit_sees_and_pale_blue_beyond_the_border(
    layer: str, strongest: Callable[[str], Examples], digits: mv.Digits, pictures: dict[str, Picture]
) -> None:
    examples = strongest(layer)
    picture = pictures[layer]
    for (left, _, _), channel in zip(rows_of(picture.axes), LAYERS[layer], strict=True):
        sheet = sheet_of(left)
        fields = [examples.field(channel, place) for place in range(K)]
        high, wide = fields[0].size
        gap, odd = divmod(sheet.shape[1] - K * wide, K - 1)
        assert gap > 0
        assert odd == 0
        assert len(sheet) == high
        for place, field in enumerate(fields):
            image = digits.images[int(examples.rows[channel, place])].numpy() / 255
            tile = sheet[:, place * (wide + gap) : place * (wide + gap) + wide]
            window = np.full((high, wide, 3), BEYOND)
            for i, j in np.ndindex(high, wide):
                y, x = field.window[0] + i, field.window[1] + j
                if 0 <= y < 28 and 0 <= x < 28:
                    window[i, j] = image[y, x]
            np.testing.assert_allclose(tile, window, atol=1e-6)
            assert (np.abs(tile - BEYOND) > 1e-6).any(-1).sum() == field.crop(torch.from_numpy(image)).numel()
        paper = np.delete(sheet, [x for p in range(K) for x in range(p * (wide + gap), p * (wide + gap) + wide)], 1)
        assert (paper == 1).all()
        assert left.get_ylabel() == f"channel {channel}"
        ends = [float(v) for v in left.get_xlabel().split(" … ")]
        assert ends == pytest.approx(examples.values[channel, [0, -1]].tolist(), abs=0.00501)


def test_some_windows_do_cross_the_border(strongest: Callable[[str], Examples]) -> None:
    """Else the test above would not see what lies beyond it."""
    fields = [strongest("relu5").field(c, k) for c in LAYERS["relu5"] for k in range(K)]
    assert any((f.height, f.width) != f.size for f in fields)
    assert min(np.abs(np.array(BEYOND) - grey).max() for grey in np.linspace(0, 1, 256)) > 0.03


@pytest.mark.parametrize("layer", ["relu2", "relu5"])
def test_a_crop_makes_the_unit_as_strong_as_is_written(
    layer: str, strongest: Callable[[str], Examples], digits: mv.Digits
) -> None:
    """Only what is shown counts: the network, given nothing else, gives the same value there."""
    examples, model = strongest(layer), mv.load_model("deep")
    channel = LAYERS[layer][0]
    field = examples.field(channel, 0)
    pixels = digits[int(examples.rows[channel, 0])].pixels
    alone = pixels * 0 + 0.5
    alone[..., field.top : field.bottom + 1, field.left : field.right + 1] = field.crop(pixels)
    with mv.capture(model, layer) as trace:
        model(alone)
    y, x = int(examples.y[channel, 0]), int(examples.x[channel, 0])
    assert float(trace[layer].output[0, channel, y, x]) == pytest.approx(float(examples.values[channel, 0]), rel=1e-4)


@pytest.mark.parametrize("layer", ["relu2", "relu5", "fc2"])
def test_the_first_is_shown_whole_with_the_frame_of_its_unit(
    layer: str, strongest: Callable[[str], Examples], digits: mv.Digits, pictures: dict[str, Picture]
) -> None:
    examples = strongest(layer)
    picture = pictures[layer]
    for (_, middle, _), channel in zip(rows_of(picture.axes), LAYERS[layer], strict=True):
        np.testing.assert_array_equal(sheet_of(middle), digits.images[int(examples.rows[channel, 0])].numpy())
        assert middle.images[0].get_clim() == (0, 255)
        field = examples.field(channel, 0)
        (frame,) = middle.patches
        assert (frame.get_x(), frame.get_y()) == (field.left - 0.5, field.top - 0.5)
        assert (frame.get_width(), frame.get_height()) == (field.width, field.height)


@pytest.mark.parametrize("layer", ["relu2", "fc2"])
def test_the_bars_count_the_classes_of_the_examples(
    layer: str, strongest: Callable[[str], Examples], digits: mv.Digits, pictures: dict[str, Picture]
) -> None:
    examples = strongest(layer)
    picture = pictures[layer]
    for (_, _, right), channel in zip(rows_of(picture.axes), LAYERS[layer], strict=True):
        labels = digits.labels[examples.rows[channel]].tolist()
        assert [bar.get_height() for bar in right.containers[0]] == [labels.count(d) for d in range(10)]
        assert right.get_ylim() == (0, K)
        assert [t.get_text() for t in right.get_xticklabels()] == list("0123456789")


def test_the_words_state_layer_count_and_window(
    strongest: Callable[[str], Examples], pictures: dict[str, Picture]
) -> None:
    examples, picture = strongest("relu2"), pictures["relu2"]
    said = caption_of(picture)
    assert "relu2: for each channel the 9 of 80 digits with its highest value" in said
    assert "A unit sees 5×5 pixels" in said
    assert "one scale for all" in said
    for channel in LAYERS["relu2"]:
        assert f"{channel} (to {examples.values[channel, 0]:.2f})" in picture.alt
    titles = [ax.get_title(loc="left") for ax in picture.axes[:3]]
    assert titles == ["the strongest, cropped to what the unit sees", "the first", "their classes"]


@pytest.mark.parametrize("channels", [[-1], [0, 32], []], ids=str)
def test_channels_that_are_not_there_are_refused(
    channels: list[int], strongest: Callable[[str], Examples], digits: mv.Digits
) -> None:
    with pytest.raises(mv.MnistvizError, match=r"no such channel in 'relu2'[\s\S]*0 to 31"):
        figures.top_examples(strongest("relu2"), digits, channels)


def test_other_digits_than_those_looked_at_are_refused(strongest: Callable[[str], Examples], digits: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"other digits[\s\S]*10 digits"):
        figures.top_examples(strongest("relu2"), digits[:10], [0])


def test_without_labels_there_are_no_classes_to_count(strongest: Callable[[str], Examples], digits: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="no labels"):
        figures.top_examples(strongest("relu2"), mv.Digits(digits.images, None, "mine"), [0])
