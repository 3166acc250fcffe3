"""Figures of one pass show what was recorded: read back from the page, colours are outputs and bars are shares."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor, nn

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.trace import Trace
from mnistviz.show import picture as page_of
from mnistviz.show.picture import BLUE, Picture, percent
from mnistviz.show.scales import NOT_A_NUMBER, SCOPES, Scale

MODELS = list(mv.models.MODELS)
SETTLED = page_of._settled


# ── what holds for every figure; the other files of this folder use it too ────────────────────────────────


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Iterator[None]:
    """No number depends on the layout of its page, which takes longest; whoever looks at places asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_of, "_settled", lambda picture: picture)
        yield


def content(record: object) -> object:
    """Every number of a record, bit for bit."""
    if isinstance(record, Tensor | np.ndarray):
        values = record.detach().numpy() if isinstance(record, Tensor) else record
        return str(record.dtype), values.shape, values.tobytes()
    if isinstance(record, dict):
        return {key: content(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [content(value) for value in record]
    return content(vars(record)) if hasattr(record, "__dict__") else repr(record)


@contextmanager
def words_drawn() -> Iterator[list[tuple[str, Bbox]]]:
    """Every word that reaches the page inside, and its place there in pixels."""
    words: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def recorded(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            words.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", recorded)
        yield words


def assert_fit_to_be_seen(draw: Callable[[], Picture], *records: object) -> Picture:
    """Words inside the page and apart, square pixels, equal bytes, no warning; all else is as it was."""
    before = content(records), dict(mpl.rcParams), plt.get_fignums()
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr(page_of, "_settled", SETTLED)
        picture = draw()
        with words_drawn() as words:
            png = picture._png()
        assert draw()._png() == png
    assert (content(records), dict(mpl.rcParams), plt.get_fignums()) == before
    assert isinstance(picture, Picture)
    assert len(picture.alt) > 30
    assert all(image.get_interpolation() == "nearest" for ax in picture.axes for image in ax.images)
    assert words
    outside = [text for text, box in words if min(box.min) < -1 or (box.max > picture.bbox.max + 1).any()]
    assert not outside
    shared = [
        (a, b, np.minimum(one.max, two.max) - np.maximum(one.min, two.min))
        for i, (a, one) in enumerate(words)
        for b, two in words[:i]
    ]
    assert not [(a, b) for a, b, common in shared if (common > 3).all()]
    page = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert (np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]]) == 255).all()  # nothing is cut off
    return picture


def seen(model: nn.Module, pixels: Tensor) -> Trace:
    with mv.capture(model) as trace:
        model(pixels)
    return trace


def fresh(name: str) -> nn.Module:
    """A model of the library with the same random weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mv.models.build(name)


def caption_of(picture: Picture) -> str:
    return picture.get_supxlabel().replace("\n", " ")


def words_of(picture: Picture) -> str:
    return "\n".join(text.get_text() for text in picture.findobj(Text))


def sheet_of(axes: Axes) -> np.ndarray:
    (image,) = axes.images
    return np.asarray(image.get_array())


# ── reading maps back ─────────────────────────────────────────────────────────────────────────────────────


def corners(axes: Axes, count: int, height: int, width: int, columns: int = 0) -> tuple[np.ndarray, int]:
    """Row and column where each tile begins, as its label says or in `columns`, and the image pixels to one of its."""
    zoom = max(1, 28 // max(height, width)) if count <= 256 else 1
    labels = np.array([text.get_position() for text in axes.texts if text.get_ha() == "left"])
    if columns:
        rows, (high, wide) = -(-count // columns), sheet_of(axes).shape[:2]
        across = width * zoom + (wide - columns * width * zoom) // max(columns - 1, 1)
        down = height * zoom + (high - rows * height * zoom) // max(rows - 1, 1)
        return np.array([(i // columns * down, i % columns * across) for i in range(count)]), zoom
    assert len(labels) == count
    return np.rint((labels - labels[0])[:, ::-1]).astype(int), zoom


def assert_tiles(axes: Axes, maps: Tensor, scale: Scale, columns: int = 0) -> None:
    """Each tile has the colours of its map."""
    count, height, width = maps.shape
    sheet = sheet_of(axes)
    places, zoom = corners(axes, count, height, width, columns)
    for (y, x), values in zip(places, maps, strict=True):
        drawn = sheet[y : y + height * zoom : zoom, x : x + width * zoom : zoom]
        np.testing.assert_allclose(drawn, scale.rgb(values), atol=1e-6)


def scale_of(*values: Tensor, scope: str = "layer") -> Scale:
    """Written out once more: about 0 if anything is negative, else from 0."""
    high = max(float(x.abs().max()) for x in values)
    return Scale(-high if any(bool((x < 0).any()) for x in values) else 0.0, high, scope)


@pytest.fixture(scope="module")
def trace(few: mv.Digits) -> Trace:
    return seen(mv.load_model("deep"), few[5].pixels)


@pytest.fixture(scope="module")
def other(few: mv.Digits) -> Trace:
    return seen(mv.load_model("deep"), few[9].pixels)


@pytest.fixture(scope="module")
def traces(few: mv.Digits, trace: Trace) -> dict[str, Trace]:
    return {name: trace if name == "deep" else seen(fresh(name), few[7].pixels) for name in MODELS}


def broken(channels: list[int], pixels: Tensor) -> Trace:
    """A pass in which these of four channels are not numbers."""
    conv, fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 26 * 26, 10)
    with torch.no_grad():
        conv.bias[channels] = torch.nan
    return seen(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), fc), pixels)


class Residual(nn.Module):
    """An addition between the layers, which no layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(x + x.relu())


DRAWN: dict[str, Callable[[Trace, Trace], Picture]] = {
    "filters, one channel": lambda a, b: figures.filters(a, "conv1"),
    "filters, many channels": lambda a, b: figures.filters(a, "conv2"),
    "feature_maps": lambda a, b: figures.feature_maps(a, "conv1"),
    "feature_maps, many": lambda a, b: figures.feature_maps(a, "pool3"),
    "feature_maps, own scales": lambda a, b: figures.feature_maps(a, "conv3", "map"),
    "feature_maps, two": lambda a, b: figures.feature_maps(a, "relu4", "network", [5, 2]),
    "feature_maps, flat": lambda a, b: figures.feature_maps(a, "fc2"),
    "all_maps": lambda a, b: figures.all_maps(a),
    "map_rows": lambda a, b: figures.map_rows({"one": a, "another": b}, "relu2"),
    "complete_prediction": lambda a, b: figures.complete_prediction(a, label=7),
}


@pytest.fixture(scope="module")
def predictions(traces: dict[str, Trace]) -> dict[str, Picture]:
    return {name: figures.complete_prediction(trace) for name, trace in traces.items()}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_of_one_pass_is_fit_to_be_seen(name: str, trace: Trace, other: Trace) -> None:
    assert_fit_to_be_seen(lambda: DRAWN[name](trace, other), trace, other)


# ── filters ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_filters_are_the_weights_and_have_their_numbers(trace: Trace) -> None:
    picture = figures.filters(trace, "conv1")
    axes, bar = picture.axes
    weights = trace["conv1"].weight
    assert_tiles(axes, weights[:, 0], scale_of(weights))
    assert [t.get_text() for t in axes.texts] == [str(i) for i in range(32)]
    ends = f"{float(weights.abs().max()):.2f}"
    assert [t.get_text() for t in bar.get_yticklabels()] == [f"−{ends}", "0", ends]
    assert caption_of(picture) == f"288 weights and 32 biases. Colours: {scale_of(weights)}; white is 0."
    assert axes.get_title(loc="left") == "conv1: 32 filters, each 1×3×3"


def test_no_filter_is_collapsed_over_its_input_channels(trace: Trace) -> None:
    """One kernel for each of the 1,024 pairs of channels, a row per filter."""
    weights = trace["conv2"].weight
    picture = figures.filters(trace, "conv2")
    assert_tiles(picture.axes[0], weights.reshape(1024, 3, 3), scale_of(weights), columns=32)
    assert sheet_of(picture.axes[0]).shape == (32 * 4 - 1, 32 * 4 - 1, 3)
    assert "9,216 weights and 32 biases" in caption_of(picture)
    assert "The 1,024 kernels of conv2, 3×3 each" in picture.alt


@pytest.mark.parametrize(("name", "layer"), [("light", "mix1"), ("compact", "conv2")])
def test_kernels_of_other_sizes_are_the_weights_too(name: str, layer: str, traces: dict[str, Trace]) -> None:
    weights = traces[name][layer].weight
    axes = figures.filters(traces[name], layer).axes[0]
    assert_tiles(axes, weights.flatten(0, 1), scale_of(weights), columns=weights.shape[1])


@pytest.mark.parametrize(
    ("name", "layer"), [("light", "mix1"), ("light", "conv2"), ("compact", "conv2"), ("deep", "conv2")]
)
def test_a_channels_number_stands_beside_its_kernels(name: str, layer: str, traces: dict[str, Trace]) -> None:
    weights = traces[name][layer].weight
    out, into, height, width = weights.shape
    axes = figures.filters(traces[name], layer).axes[0]
    places, zoom = corners(axes, out * into, height, width, columns=into)
    places = places.reshape(out, into, 2)
    for axis, starts, size in ((axes.yaxis, places[:, 0, 0], height), (axes.xaxis, places[0, :, 1], width)):
        said = [int(t.get_text()) for t in axis.get_ticklabels()]
        assert said == list(range(0, len(starts), max(1, len(starts) // 8)))
        assert list(axis.get_ticklocs()) == pytest.approx([starts[i] + (size * zoom - 1) / 2 for i in said])


def test_a_convolution_without_biases_is_said_to_have_none(few: mv.Digits) -> None:
    trace = seen(nn.Sequential(nn.Conv2d(1, 2, 3, bias=False)), few[5].pixels)
    assert "18 weights and no biases" in caption_of(figures.filters(trace, "0"))


@pytest.mark.parametrize(("layer", "kind"), [("relu1", "ReLU"), ("fc1", "Linear"), ("bn1", "BatchNorm2d")])
def test_a_layer_without_filters_names_those_that_have_some(layer: str, kind: str, trace: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match="has no filters") as caught:
        figures.filters(trace, layer)
    assert f"{layer!r} is a {kind}" in str(caught.value)
    assert "conv1, conv2, conv3, conv4, conv5" in str(caught.value)


def test_a_network_without_convolutions_has_no_filters_at_all() -> None:
    with pytest.raises(mv.MnistvizError, match="no layer here"):
        figures.filters(seen(nn.Sequential(nn.Linear(4, 2)), torch.ones(1, 4)), "0")


# ── the maps of a layer ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("layer", "scope"),
    [*(("conv1", scope) for scope in SCOPES), ("relu3", "map"), ("relu3", "network"), ("pool2", "layer"),
     ("bn5", "layer"), ("conv1", Scale(-1.0, 1.0, "across inputs"))],
    ids=str,
)  # fmt: skip
def test_feature_maps_have_the_colours_of_the_recorded_outputs(layer: str, scope: str | Scale, trace: Trace) -> None:
    picture = figures.feature_maps(trace, layer, scope)
    output = trace[layer].output[0]
    labels = [t.get_text() for t in picture.axes[1].texts if t.get_ha() == "left"]
    assert [label.split()[0] for label in labels] == [str(i) for i in range(len(output))]
    if scope == "map":
        sheet, (places, zoom) = sheet_of(picture.axes[1]), corners(picture.axes[1], *output.shape)
        for (y, x), values, label in zip(places, output, labels, strict=True):
            own = scale_of(values)
            drawn = sheet[y::zoom, x::zoom][: values.shape[0], : values.shape[1]]
            np.testing.assert_allclose(drawn, own.rgb(values), atol=1e-6)
            assert label.endswith(f"{own.high:.2f}") or values.min() == values.max()
        assert len(picture.axes) == 2  # no bar could be true for all
        assert "Colours: each map has its own scale." in caption_of(picture)
        return
    outputs = [step.output for step in trace] if scope == "network" else [output]
    scale = scope if isinstance(scope, Scale) else scale_of(*outputs, scope=scope)
    assert_tiles(picture.axes[1], output, scale)
    assert f"Colours: {scale}." in caption_of(picture)
    high = f"{scale.high:.2f}"
    assert [t.get_text() for t in picture.axes[2].get_yticklabels()] == [f"−{high}"] * scale.signed + ["0", high]


def test_the_numbers_can_be_read_from_the_colours(trace: Trace) -> None:
    """Without the library's own arithmetic: each colour is looked up in the map of colours."""
    axes = figures.feature_maps(trace, "conv1", channels=range(8)).axes[1]
    output = trace["conv1"].output[0, :8].numpy()
    high = float(trace["conv1"].output.abs().max())
    colours = scale_of(trace["conv1"].output).colours
    steps = np.linspace(-1, 1, colours.N)
    known = colours((steps + 1) / 2)[:, :3]
    places, _ = corners(axes, 8, 28, 28)
    for (y, x), values in zip(places, output, strict=True):
        drawn = sheet_of(axes)[y : y + 28, x : x + 28]
        read = steps[np.abs(drawn[:, :, None] - known).sum(-1).argmin(-1)] * high
        assert np.abs(read - values).max() <= 2 * high / colours.N


@pytest.mark.parametrize("name", ["feature_maps", "map_rows"])
def test_the_file_has_the_colours_that_were_drawn(name: str, trace: Trace, other: Trace) -> None:
    """Looked up in the PNG, at the middle of every pixel of every image."""
    picture = DRAWN[name](trace, other)
    png = np.asarray(Image.open(io.BytesIO(picture._png())).convert("RGB")) / 255
    for axes in (ax for ax in picture.axes if ax.images):
        sheet = sheet_of(axes)
        colours = sheet if sheet.ndim == 3 else np.dstack([sheet] * 3)
        places = np.argwhere((colours < 1).any(-1))  # words may stand on the paper
        x, y = axes.transData.transform(places[:, ::-1]).astype(int).T
        assert np.abs(png[len(png) - 1 - y, x] - colours[tuple(places.T)]).max() < 8 / 255


def test_the_digit_stands_at_the_left_in_grey_levels(trace: Trace, few: mv.Digits) -> None:
    left = figures.feature_maps(trace, "pool3", channels=[0]).axes[0]
    np.testing.assert_allclose(sheet_of(left), few.images[5].numpy() / 255, atol=1e-7)
    assert left.images[0].get_clim() == (0, 1)
    assert left.images[0].get_cmap().name == "gray"


@pytest.mark.parametrize(
    "channels", [[7, 3], [5], range(4, 16, 2), iter([31, 0])], ids=["list", "one", "range", "iterator"]
)
def test_only_the_channels_asked_for_are_drawn_in_their_order(channels, trace: Trace) -> None:
    wanted = list(channels)
    axes = figures.feature_maps(trace, "relu2", channels=wanted).axes[1]
    assert [t.get_text() for t in axes.texts if t.get_ha() == "left"] == [str(c) for c in wanted]
    assert_tiles(axes, trace["relu2"].output[0, wanted], scale_of(trace["relu2"].output))


@pytest.mark.parametrize(("layer", "columns"), [("flatten", 64), ("relu6", 64), ("fc2", 16)])
def test_a_flat_layer_is_drawn_as_cells(layer: str, columns: int, trace: Trace) -> None:
    picture = figures.feature_maps(trace, layer)
    output = trace[layer].output
    sheet = sheet_of(picture.axes[1])
    assert sheet.shape == (-(-output.numel() // columns), columns, 3)
    np.testing.assert_allclose(sheet.reshape(-1, 3)[: output.numel()], scale_of(output).rgb(output[0]), atol=1e-6)
    assert (sheet.reshape(-1, 3)[output.numel() :] == 1).all()
    assert picture.alt.startswith(f"{output.numel()} values of layer {layer}")
    assert len(picture.axes) == 3


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("conv1", "conv1 (Conv2d), 32×28×28; each value sees 3×3 pixels; 320 parameters."),
        ("relu2", "relu2 (ReLU), 32×28×28; each value sees 5×5 pixels; 0 parameters."),
        ("pool2", "pool2 (MaxPool2d), 64×7×7; each value sees 16×16 pixels; 0 parameters."),
        ("fc1", "fc1 (Linear), 256; each value sees 28×28 pixels; 295,168 parameters."),
    ],
)
def test_the_caption_states_shape_receptive_field_and_parameters(layer: str, said: str, trace: Trace) -> None:
    picture = figures.feature_maps(trace, layer, channels=[0])
    assert caption_of(picture).startswith(said + " Colours: one scale for the layer, ")
    assert picture.axes[1].get_title(loc="left").startswith(f"{layer}: ")


def test_a_field_that_cannot_be_followed_is_not_invented(few: mv.Digits) -> None:
    trace = seen(Residual(), few[5].pixels)
    assert "; its receptive field cannot be followed; 148 parameters." in caption_of(
        figures.feature_maps(trace, "conv2")
    )


def test_dead_maps_are_counted_and_named(trace: Trace) -> None:
    output = trace["pool3"].output[0]
    dead = [c for c in range(128) if not output[c].any()]
    picture = figures.feature_maps(trace, "pool3")
    assert dead
    assert picture.alt.endswith(f"{len(dead)} constant.")
    assert words_of(picture).count("constant\n0.00") == len(dead)


@pytest.mark.parametrize("layer", ["0", "1"])
def test_values_that_are_not_numbers_are_said_and_drawn_green(layer: str, few: mv.Digits) -> None:
    trace = broken([1], few[5].pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = figures.feature_maps(trace, layer)
    assert caption_of(picture).endswith(" 676 values are not numbers (NaN) and drawn green.")
    axes = picture.axes[1]
    places, _ = corners(axes, 4, 26, 26)
    green = np.isclose(sheet_of(axes), NOT_A_NUMBER, atol=1e-6).all(-1)
    assert [green[y : y + 26, x : x + 26].mean() for y, x in places] == [0, 1, 0, 0]
    assert "nan" not in picture.alt


@pytest.mark.parametrize("layer", ["0", "3"])
def test_a_layer_without_a_single_number_is_drawn_without_a_warning(layer: str, few: mv.Digits) -> None:
    trace = broken([0, 1, 2, 3], few[5].pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = figures.feature_maps(trace, layer)
    assert f"{trace[layer].output.numel():,} values are not numbers" in caption_of(picture)


@pytest.mark.parametrize("channels", [[-1], [3, 32], []], ids=str)
def test_channels_that_are_not_there_are_refused(channels: list[int], trace: Trace, other: Trace) -> None:
    for call in (
        lambda: figures.feature_maps(trace, "relu1", channels=channels),
        lambda: figures.map_rows({"a": trace, "b": other}, "relu1", channels),
    ):
        with pytest.raises(mv.MnistvizError, match=r"no such channel in 'relu1'[\s\S]*0 to 31"):
            call()


def test_an_unknown_layer_and_an_unknown_scope_are_refused(trace: Trace) -> None:
    with pytest.raises(mv.MnistvizError, match="did you mean 'relu"):
        figures.feature_maps(trace, "relu9")
    for figure in (figures.all_maps, lambda t, s: figures.feature_maps(t, "relu1", s)):
        with pytest.raises(mv.MnistvizError, match="map, layer, network, across inputs"):
            figure(trace, "layers")


def test_a_batch_is_refused_where_one_digit_is_drawn(few: mv.Digits) -> None:
    batch = seen(mv.load_model("deep"), few[:3].pixels)
    for figure in (
        lambda: figures.feature_maps(batch, "relu1"),
        lambda: figures.all_maps(batch),
        lambda: figures.map_rows({"a": batch}, "relu1"),
        lambda: figures.complete_prediction(batch),
    ):
        with pytest.raises(mv.MnistvizError, match="one digit"):
            figure()


# ── all layers ────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(picture: Picture) -> dict[str, Axes]:
    """The axes of each layer by the name written beside it."""
    return {ax.texts[0].get_text(): ax for ax in picture.axes}


@pytest.mark.parametrize("name", ["deep", "light", "pooled"])
def test_every_layer_with_maps_has_a_row_with_its_first_channels(name: str, traces: dict[str, Trace]) -> None:
    trace = traces[name]
    rows = rows_of(figures.all_maps(trace, each=6))
    spatial = [step.name for step in trace if step.output.ndim == 4 and not step.name.startswith("drop")]
    assert list(rows) == spatial
    for layer, axes in rows.items():
        output = trace[layer].output
        assert_tiles(axes, output[0, :6], scale_of(output), columns=6)
        _, size, ends = (t.get_text() for t in axes.texts)
        assert size == "×".join(map(str, output.shape[1:]))
        low, high = (float(end.replace("−", "-")) for end in ends.split(" … "))
        assert (low, high) == pytest.approx((scale_of(output).low, scale_of(output).high), abs=0.0051)


def test_a_row_of_few_channels_has_tiles_of_the_same_size(traces: dict[str, Trace]) -> None:
    """`light` has 1, 8 and 16 channels."""
    picture, sizes = figures.all_maps(traces["light"]), {}
    picture.draw_without_rendering()
    for layer, axes in rows_of(picture).items():
        count, height, width = traces["light"][layer].output.shape[1:]
        _, zoom = corners(axes, min(count, 16), height, width, columns=16)
        left, right = axes.transData.transform([(0, 0), (width * zoom, 0)])[:, 0]
        sizes[layer] = right - left
    assert min(sizes.values()) > 0.9 * max(sizes.values())


@pytest.mark.parametrize("scope", ["map", "network"])
def test_the_rows_may_have_other_scales(scope: str, traces: dict[str, Trace]) -> None:
    trace = traces["compact"]
    picture = figures.all_maps(trace, scope, each=3)
    for layer, axes in rows_of(picture).items():
        output = trace[layer].output[0, :3]
        if scope == "network":
            assert_tiles(axes, output, scale_of(*(step.output for step in trace)), columns=3)
            continue
        (places, zoom), (height, width) = corners(axes, len(output), *output.shape[1:], columns=3), output.shape[1:]
        for (y, x), values in zip(places, output, strict=True):
            drawn = sheet_of(axes)[y : y + height * zoom : zoom, x : x + width * zoom : zoom]
            np.testing.assert_allclose(drawn, scale_of(values).rgb(values), atol=1e-6)
    said = {"map": "each map has its own scale", "network": "one scale for all, given at the right"}
    assert said[scope] in caption_of(picture)


def test_a_network_without_maps_has_no_page_of_them() -> None:
    with pytest.raises(mv.MnistvizError, match="has maps"):
        figures.all_maps(seen(nn.Sequential(nn.Linear(4, 2)), torch.ones(1, 4)))


# ── several inputs ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("layer", "channels"), [("relu2", None), ("conv4", [9, 4, 40]), ("pool3", [0])])
def test_rows_of_maps_share_one_scale(layer: str, channels: list[int] | None, trace: Trace, other: Trace) -> None:
    both = {"a nought": trace, "an eight": other}
    picture = figures.map_rows(both, layer, channels)
    scale = scale_of(*(t[layer].output for t in both.values()), scope="across inputs")
    wanted = list(range(8)) if channels is None else channels
    panels = picture.axes[:4]
    for i, (name, one) in enumerate(both.items()):
        left, right = panels[2 * i : 2 * i + 2]
        np.testing.assert_allclose(sheet_of(left), one.input[0, 0])
        assert left.get_ylabel() == name
        assert [t.get_text() for t in right.texts if t.get_ha() == "left"] == [str(c) for c in wanted]
        assert_tiles(right, one[layer].output[0, wanted], scale)
    assert f"Colours: {scale}." in caption_of(picture)
    assert "one scale across all inputs shown" in caption_of(picture)
    assert len(picture.axes) == 5  # one bar for both
    assert all(name in picture.alt for name in both)


def test_the_same_number_has_the_same_colour_in_both_rows(trace: Trace) -> None:
    """A digit moved aside gives the same numbers in other places."""
    moved = seen(mv.load_model("deep"), trace.input.roll(2, 3))
    panels = figures.map_rows({"here": trace, "there": moved}, "conv1", [3]).axes[1:4:2]
    colours: list[dict[float, tuple[float, ...]]] = []
    for axes, one in zip(panels, (trace, moved), strict=True):
        values = one["conv1"].output[0, 3].flatten().tolist()
        colours.append(dict(zip(values, map(tuple, sheet_of(axes).reshape(-1, 3)), strict=True)))
    common = colours[0].keys() & colours[1].keys()
    assert len(common) > 50
    assert all(colours[0][value] == colours[1][value] for value in common)


def test_rows_need_a_trace() -> None:
    with pytest.raises(mv.MnistvizError, match="no traces"):
        figures.map_rows({}, "relu1")


# ── the whole way ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MODELS)
def test_the_bars_are_the_softmax_of_the_recorded_scores(
    name: str, traces: dict[str, Trace], predictions: dict[str, Picture]
) -> None:
    trace, picture = traces[name], predictions[name]
    shares = torch.softmax(list(trace)[-1].output[0].double(), 0)
    answer = int(shares.argmax())
    axes = picture.axes[-1]
    (bars,) = axes.containers
    assert [bar.get_width() for bar in bars] == pytest.approx(shares.tolist(), abs=1e-12)
    assert sum(bar.get_width() for bar in bars) == pytest.approx(1)
    assert [t.get_text() for t in axes.texts] == [percent(float(p)) for p in shares]
    assert [i for i, bar in enumerate(bars) if to_hex(bar.get_facecolor()) == BLUE] == [answer]
    assert [t.get_text() for t in axes.get_yticklabels()] == [str(d) for d in range(10)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # 0 on top
    assert axes.get_title(loc="left") == f"answer: {answer}"
    assert f"the answer is {answer} with {percent(float(shares[answer]))}" in picture.alt


@pytest.mark.parametrize("name", MODELS)
def test_each_column_is_what_a_stage_hands_on(
    name: str, traces: dict[str, Trace], predictions: dict[str, Picture]
) -> None:
    trace, picture = traces[name], predictions[name]
    stages = trace.stages()[:-1]
    assert len(picture.axes) == len(stages) + 2
    np.testing.assert_allclose(sheet_of(picture.axes[0]), trace.input[0, 0])
    for axes, stage in zip(picture.axes[1:-1], stages, strict=True):
        layers = axes.get_title().split("\n")
        result = trace[layers[-1]].output
        assert layers == [trace.keys[i] for i in stage][: len(layers)]
        assert all(re.match("drop|flatten", trace.keys[i]) for i in stage[len(layers) :])
        if result.ndim == 4:
            sums = result[0].double().abs().sum((1, 2))
            labels = [int(t.get_text()) for t in axes.texts if t.get_ha() == "left"]
            assert len(set(labels)) == 8
            assert sums[labels].tolist() == sorted(sums.tolist(), reverse=True)[:8]
            assert_tiles(axes, result[0, labels], scale_of(result), columns=2)
            assert axes.get_xlabel().startswith("×".join(map(str, result.shape[1:])))
        else:
            cells = sheet_of(axes).reshape(-1, 3)
            np.testing.assert_allclose(cells[: result.numel()], scale_of(result).rgb(result[0]), atol=1e-6)
            assert (cells[result.numel() :] == 1).all()
            assert axes.get_xlabel().startswith(f"{result.numel()} values")


def test_the_label_is_shown_if_it_is_known(traces: dict[str, Trace], predictions: dict[str, Picture]) -> None:
    assert figures.complete_prediction(traces["sprint"], label=7).axes[0].get_title(loc="left") == "input: a 7"
    assert predictions["sprint"].axes[0].get_title(loc="left") == "input"


def test_a_pass_that_does_not_end_in_scores_is_refused(few: mv.Digits) -> None:
    trace = seen(nn.Sequential(nn.Conv2d(1, 2, 3)), few[5].pixels)
    with pytest.raises(mv.MnistvizError, match="row of scores"):
        figures.complete_prediction(trace)


def test_scores_that_are_not_numbers_are_no_answer(few: mv.Digits) -> None:
    assert "the answer is 0" not in figures.complete_prediction(broken([1], few[5].pixels)).alt
