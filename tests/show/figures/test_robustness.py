"""What breaks a network, read back from the page: every point is a row of the table, every colour what was added."""

from typing import Any

import numpy as np
import pytest
from helpers import sheet_of
from matplotlib.axes import Axes

import mnistviz as mv
from mnistviz import figures
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, short


def looks_of(axes: Axes) -> list[tuple[str, str]]:
    return [(line.get_color(), line.get_marker()) for line in axes.lines]


def test_each_panel_holds_the_rows_of_its_corruption(records: Any) -> None:
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


def test_tables_may_know_different_corruptions(records: Any) -> None:
    both = {"a": records.table(0, ["blur", "noise"]), "b": records.table(1, ["noise", "thin"])}
    picture = figures.robustness(both)
    lines = {axes.get_title(loc="left"): [len(line.get_xdata()) for line in axes.lines] for axes in picture.axes}
    assert lines == {"blur": [6, 0], "noise": [6, 6], "thin": [0, 6]}


@pytest.mark.parametrize("count", [1, 5])
def test_the_lowest_panel_of_each_column_has_numbers_below(count: int, records: Any) -> None:
    picture = figures.robustness({"deep": records.table(1, list(mv.corruptions.CORRUPTIONS)[:count])})
    picture.draw_without_rendering()
    panels = [axes for axes in picture.axes if axes.get_visible()]
    assert len(panels) == count
    for axes in panels[-4:]:
        assert any(t.get_visible() and t.get_text() for t in axes.get_xticklabels())


def test_points_of_the_curves_are_the_numbers_given_in_the_order_of_their_sizes(records: Any) -> None:
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


def test_each_column_is_a_digit_what_was_added_and_their_sum(records: Any) -> None:
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


def test_ink_that_was_only_added_is_orange_too(records: Any) -> None:
    digit = records.few[:1]
    lighter = (digit.pixels + 0.1).clamp(max=1)
    sheet = sheet_of(figures.adversarial_pairs(digit, lighter, [7], [7]).axes[1])
    red, _, blue = sheet[0, 0]  # paper became lighter, and the caption says orange
    assert red > blue + 0.3
    assert (sheet[digit.pixels[0, 0] == 1] == 1).all()
