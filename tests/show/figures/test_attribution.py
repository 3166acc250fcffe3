"""Which pixels mattered, read back from the page: every colour through its scale, every bar a number of the record."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import caption_of, scale_of, sheet_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from mnistviz import figures
from mnistviz.look.attribution import METHODS
from mnistviz.look.causes import Contrast
from mnistviz.show.colours import BLUE, FAINT, ORANGE
from mnistviz.show.scales import Scale


def assert_grey(axes: Axes, pixels: torch.Tensor) -> None:
    """These pixels, from 0, black, to 1, white."""
    np.testing.assert_allclose(sheet_of(axes), pixels)
    assert (axes.images[0].get_clim(), axes.images[0].get_cmap().name) == ((0, 1), "gray")


# ── attributions and their controls ───────────────────────────────────────────────────────────────────────


def test_each_map_is_drawn_about_zero_on_its_own_scale(records: Any) -> None:
    picture = figures.attributions(records.digit, records.attributions)
    digit, *maps = picture.axes
    assert_grey(digit, records.digit[0, 0])
    for axes, attribution in zip(maps, records.attributions, strict=True):
        largest = float(attribution.values.abs().max())
        expected = Scale(-largest, largest, "map").rgb(attribution.values)  # about 0 where nothing is negative too
        np.testing.assert_allclose(sheet_of(axes), expected, atol=1e-6)
    assert [axes.get_title(loc="left") for axes in maps] == list(METHODS)
    scales = ["±1.00", "±3.00\nresidual 1.2 %", "±1.00, 7×7 cells", "±1.00"]
    assert [axes.get_xlabel() for axes in maps] == scales


def test_a_map_of_zeros_is_drawn_flat(records: Any) -> None:
    zeros = replace(records.attributions[0], values=torch.zeros(28, 28, dtype=torch.double))
    sheet = sheet_of(figures.attributions(records.digit, [zeros]).axes[1])
    assert (sheet == sheet[0, 0]).all()


def test_maps_for_different_answers_are_told_apart(records: Any) -> None:
    seven = records.attributions[0]
    picture = figures.attributions(records.digit, [seven, replace(seven, target=3)])
    assert [axes.get_title(loc="left") for axes in picture.axes[1:]] == ["saliency for 7", "saliency for 3"]
    assert "spoke for 7 or 3" in picture.alt
    assert "spoke for 7 or 3" in caption_of(picture)


def test_each_check_is_a_map_its_controls_and_its_curves(records: Any) -> None:
    picture = figures.sanity(records.digit, records.checks)
    agreements = []
    for k, check in enumerate(records.checks):
        digit, mine, random, edges, curves = picture.axes[5 * k : 5 * k + 5]
        assert_grey(digit, records.digit[0, 0])
        maps = check.attribution.values, check.random.values, check.edges
        for axes, values in zip((mine, random, edges), maps, strict=True):
            np.testing.assert_allclose(sheet_of(axes), scale_of(values, scope="map").rgb(values), atol=1e-6)
        assert mine.get_title(loc="left") == check.attribution.method
        agreements += [random.get_xlabel(), edges.get_xlabel()]
        first, drawn = curves.lines
        for line, probability in ((first, check.probability), (drawn, check.at_random)):
            np.testing.assert_allclose(line.get_xdata(), check.shares)
            np.testing.assert_allclose(line.get_ydata(), probability)
        assert (to_hex(first.get_color()), to_hex(drawn.get_color())) == (BLUE, FAINT)
        assert curves.get_title(loc="left") == "probability of 7"
    assert agreements == [f"rank agreement {text}" for text in ("0.31", "−0.12", "none: flat", "0.50")]
    legends = [axes.get_legend() for axes in picture.axes[4::5]]
    assert [text.get_text() for text in legends[0].get_texts()] == ["named first", "drawn at random"]
    assert legends[1] is None  # once is enough


# ── dreams ────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_dream_stands_in_grey_levels_over_what_it_gave(records: Any) -> None:
    axes = np.reshape(figures.dreams(records.dreams, records.digit, "the score for 7").axes, (2, 4))
    below = ["−1.25 → 12.00", "0 → 900.00", "2.50 → 4.0e−03"]
    for row, (name, dreams) in zip(axes, records.dreams.items(), strict=True):
        count = len(dreams.pixels)
        assert row[0].get_ylabel() == name
        for ax, pixels in zip(row[:count], dreams.pixels, strict=True):
            assert_grey(ax, pixels[0])
        assert [ax.get_xlabel() for ax in row[:count]] == below[:count]
        assert not any(ax.images for ax in row[count:3])
        assert_grey(row[3], records.digit[0, 0])
        assert row[3].get_title(loc="left") == "a real digit"


# ── one mistake ───────────────────────────────────────────────────────────────────────────────────────────


def names_and_widths(axes: Axes) -> tuple[list[str], list[float]]:
    """Bars from top to bottom."""
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    (bars,) = axes.containers
    return [text.get_text() for text in axes.get_yticklabels()], [bar.get_width() for bar in bars]


def test_all_bars_sum_to_the_gap_between_two_scores(records: Any) -> None:
    contrast = records.cause.contrast
    image, axes = figures.cause(records.cause).axes[:2]
    assert_grey(image, records.cause.pixels[0, 0])
    assert image.get_title(loc="left") == "answered 9, is 4"
    gaps = [3 * np.sin(i / 2) - np.cos(i / 3) for i in range(20)]
    order = sorted(range(20), key=lambda i: -gaps[i])
    names, widths = names_and_widths(axes)
    assert names == [str(i) for i in order[:6] + order[-6:]] + ["8 others", "biases"]
    others = sum(gaps[i] for i in order[6:-6])
    assert widths == pytest.approx([gaps[i] for i in order[:6] + order[-6:]] + [others, 0.25])
    assert sum(widths) == pytest.approx(contrast.recorded)
    colours = [to_hex(bar.get_facecolor()) for bar in axes.containers[0]]
    assert colours == [ORANGE if width > 0 else BLUE for width in widths]
    assert axes.get_title(loc="left") == f"why 9 before 4: {contrast.recorded:+.2f}"


def test_the_channels_that_help_most_are_drawn_and_orange_where_they_turn_the_answer(records: Any) -> None:
    axes = figures.cause(records.cause).axes[2]
    names, widths = names_and_widths(axes)
    assert names == [f"relu2 {k}" for k in range(12)]
    assert widths == pytest.approx([1 - 0.4 * k for k in range(12)])
    assert [text.get_text().strip() for text in axes.texts] == ["4"] * 3 + ["9"] * 9
    assert [to_hex(bar.get_facecolor()) for bar in axes.containers[0]] == [ORANGE] * 3 + [FAINT] * 9


def test_neighbours_stand_below_with_label_and_distance(records: Any) -> None:
    neighbours = figures.cause(records.cause).axes[3:]
    for k, (axes, image) in enumerate(zip(neighbours, records.few[:6].pixels, strict=True)):
        assert_grey(axes, image[0])
        assert axes.get_xlabel() == f"a {int(records.few.labels[k])}, at {1.5 + k / 4:.1f}"


def test_few_features_and_channels_are_drawn_once_each(records: Any) -> None:
    features = torch.arange(8.0)
    few = Contrast("fc1", 9, 4, features, features.sin(), features.cos(), 0.25, 1.0)
    picture = figures.cause(replace(records.cause, contrast=few, silenced=records.cause.silenced[:5]))
    names, _ = names_and_widths(picture.axes[1])
    assert sorted(names) == [*"01234567", "biases"]
    assert names_and_widths(picture.axes[2])[0] == [f"relu2 {k}" for k in range(5)]
    assert "the 5 channels whose silence helps 4 most; of 5 tried, 3 turn" in caption_of(picture)
