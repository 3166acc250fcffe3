"""What mattered, and what breaks a network: every colour through its scale, every bar and point a number given."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import caption_of, sheet_of
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import mnistviz as mv
from mnistviz import figures
from mnistviz.look.attribution import METHODS
from mnistviz.look.causes import Contrast
from mnistviz.show.colours import BLUE, FAINT, ORANGE
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, short


def assert_grey(axes: Axes, pixels: torch.Tensor) -> None:
    """These pixels, from 0, black, to 1, white."""
    np.testing.assert_allclose(sheet_of(axes), pixels)
    assert (axes.images[0].get_clim(), axes.images[0].get_cmap().name) == ((0, 1), "gray")


def test_each_map_is_drawn_about_zero_on_its_own_scale(records):
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
    zeros = replace(records.attributions[0], values=torch.zeros(28, 28, dtype=torch.double))
    assert (sheet_of(figures.attributions(records.digit, [zeros]).axes[1]) == 1).all()  # white, as 0 is elsewhere


def test_maps_for_different_answers_are_told_apart(records):
    seven = records.attributions[0]
    picture = figures.attributions(records.digit, [seven, replace(seven, target=3)])
    assert [axes.get_title(loc="left") for axes in picture.axes[1:]] == ["saliency for 7", "saliency for 3"]
    assert "spoke for 7 or 3" in picture.alt
    assert "spoke for 7 or 3" in caption_of(picture)


def test_each_check_is_a_map_its_controls_and_its_curves(records):
    picture = figures.sanity(records.digit, records.checks)
    agreements = []
    for k, check in enumerate(records.checks):
        digit, mine, random, edges, curves = picture.axes[5 * k : 5 * k + 5]
        assert_grey(digit, records.digit[0, 0])
        maps = check.attribution.values, check.random.values, check.edges
        for axes, values in zip((mine, random, edges), maps, strict=True):
            largest = float(values.abs().max()) or 1.0
            np.testing.assert_allclose(sheet_of(axes), Scale(-largest, largest, "map").rgb(values), atol=1e-6)
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


def test_each_dream_stands_in_grey_levels_over_what_it_gave(records):
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


def names_and_widths(axes: Axes) -> tuple[list[str], list[float]]:
    """Bars from top to bottom."""
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    (bars,) = axes.containers
    return [text.get_text() for text in axes.get_yticklabels()], [bar.get_width() for bar in bars]


def test_all_bars_sum_to_the_gap_between_two_scores(records):
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


def test_the_channels_that_help_most_are_drawn_and_orange_where_they_turn_the_answer(records):
    axes = figures.cause(records.cause).axes[2]
    names, widths = names_and_widths(axes)
    assert names == [f"relu2 {k}" for k in range(12)]
    assert widths == pytest.approx([1 - 0.4 * k for k in range(12)])
    assert [text.get_text().strip() for text in axes.texts] == ["then 4"] * 3 + ["then 9"] * 9
    assert [to_hex(bar.get_facecolor()) for bar in axes.containers[0]] == [ORANGE] * 3 + [FAINT] * 9


def test_neighbours_stand_below_with_label_and_distance(records):
    neighbours = figures.cause(records.cause).axes[3:]
    for k, (axes, image) in enumerate(zip(neighbours, records.few[:6].pixels, strict=True)):
        assert_grey(axes, image[0])
        assert axes.get_xlabel() == f"a {int(records.few.labels[k])}, at {1.5 + k / 4:.1f}"


def test_few_features_and_channels_are_drawn_once_each(records):
    features = torch.arange(8.0)
    few = Contrast("fc1", 9, 4, features, features.sin(), features.cos(), 0.25, 1.0)
    picture = figures.cause(replace(records.cause, contrast=few, silenced=records.cause.silenced[:5]))
    names, _ = names_and_widths(picture.axes[1])
    assert sorted(names) == [*"01234567", "biases"]
    assert names_and_widths(picture.axes[2])[0] == [f"relu2 {k}" for k in range(5)]
    assert (
        "the 5 channels whose silence helps 4 most; beside it the answer then given; of 5 tried, 3 make"
        in caption_of(picture)
    )


def looks_of(axes: Axes) -> list[tuple[str, str]]:
    return [(line.get_color(), line.get_marker()) for line in axes.lines]


def test_each_panel_holds_the_rows_of_its_corruption(records):
    picture = figures.robustness(records.tables)
    kinds = list(mv.corruptions.CORRUPTIONS)
    assert [axes.get_title(loc="left") for axes in picture.axes] == kinds
    for axes, kind in zip(picture.axes, kinds, strict=True):
        for line, table in zip(axes.lines, records.tables.values(), strict=True):
            rows = [row for row in table.itertuples() if row.corruption == kind]
            assert list(line.get_xdata()) == [row.strength for row in rows]
            assert list(line.get_ydata()) == [row.accuracy for row in rows]
        assert axes.get_ylim() == (0, 1.02)
        assert looks_of(axes) == looks_of(picture.axes[0])
    colours, markers = (set(look) for look in zip(*looks_of(picture.axes[0]), strict=True))
    assert len(colours) == len(markers) == 3  # told apart without colour too
    legend = picture.axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == list(records.tables)
    assert [(h.get_color(), h.get_marker()) for h in legend.legend_handles] == looks_of(picture.axes[0])
    for name, table in records.tables.items():
        assert f"{name}: {percent(min(table['accuracy']))}" in picture.alt


def test_tables_may_know_different_corruptions_and_the_lowest_panel_of_each_column_has_numbers(records):
    kinds = list(mv.corruptions.CORRUPTIONS)
    picture = figures.robustness({"a": records.table(0, kinds[:4]), "b": records.table(1, kinds[1:5])})
    picture.draw_without_rendering()
    panels = [axes for axes in picture.axes if axes.get_visible()]
    assert [[len(line.get_xdata()) for line in axes.lines] for axes in panels] == [[6, 0], *[[6, 6]] * 3, [0, 6]]
    assert all(any(t.get_visible() and t.get_text() for t in axes.get_xticklabels()) for axes in panels[-4:])


def test_points_of_the_curves_are_the_numbers_given_in_the_order_of_their_sizes(records):
    picture = figures.attack_curves(records.curves)
    (axes,) = picture.axes
    for line, (name, curve) in zip(axes.lines, records.curves.items(), strict=True):
        assert line.get_label() == name
        assert list(line.get_xdata()) == sorted(curve)
        assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == curve
    legend = axes.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == list(records.curves)
    assert [(h.get_color(), h.get_marker()) for h in legend.legend_handles] == looks_of(axes)
    assert len(set(looks_of(axes))) == 2


def test_each_column_is_a_digit_what_was_added_and_their_sum(records):
    digits, changed, before, after = records.pairs
    picture = figures.adversarial_pairs(*records.pairs)
    added = (changed - digits.pixels)[:, 0].double().numpy()
    limit = np.abs(added).max()
    scale = Scale(-limit, limit, "across inputs")
    for k, (first, middle, last) in enumerate(
        zip(*(picture.axes[5 * row : 5 * row + 5] for row in range(3)), strict=True)
    ):
        np.testing.assert_allclose(sheet_of(first), digits.images[k] / 255, atol=1e-6)
        np.testing.assert_allclose(sheet_of(last), changed[k, 0], atol=1e-6)
        np.testing.assert_allclose(sheet_of(middle), scale.rgb(added[k]), atol=1e-6)
        assert (first.get_xlabel(), last.get_xlabel()) == (f"answer {before[k]}", f"answer {after[k]}")
        assert middle.get_xlabel() == f"at most {short(np.abs(added[k]).max())}"
        for axes in (first, last):
            assert (axes.images[0].get_clim(), axes.images[0].get_cmap().name) == ((0, 1), "gray")
    assert (sheet_of(picture.axes[5]) == 1).all()  # nothing added is white
    assert [picture.axes[5 * row].get_ylabel() for row in range(3)] == ["digit", "added", "sum"]
    assert [t.get_text() for t in picture.axes[15].get_yticklabels()] == ["−0.15", "0", "0.15"]
    lighter = (digits[:1].pixels + 0.1).clamp(max=1)  # ink that was only added is orange too
    red, _, blue = sheet_of(figures.adversarial_pairs(digits[:1], lighter, [7], [7]).axes[1])[0, 0]
    assert red > blue + 0.3
