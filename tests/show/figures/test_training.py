"""Figures of a training: points and lines are the rows of its history and its diary."""

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mnistviz import figures
from mnistviz.learn.history import History


def test_training_history_draws_the_table_and_rings_the_best_epoch(records: Any) -> None:
    history = records.history
    picture = figures.training_history(history)
    for axes, measure in zip(picture.axes, ("loss", "accuracy"), strict=True):
        for line, column in zip(axes.lines, (measure, f"val_{measure}"), strict=False):
            assert list(line.get_xdata()) == [row["epoch"] for row in history.rows]
            assert list(line.get_ydata()) == [row[column] for row in history.rows]
        assert len({line.get_marker() for line in axes.lines[:2]}) == 2
    left, right = picture.axes
    assert len(left.lines) == 2
    assert (right.lines[2].get_xdata()[0], right.lines[2].get_ydata()[0]) == (5, history.best_value)
    by_loss = History(history.recipe.but(keep="loss"), history.rows, best_epoch=4, best_value=0.425)
    left, right = figures.training_history(by_loss).axes
    assert (left.lines[2].get_xdata()[0], left.lines[2].get_ydata()[0], len(right.lines)) == (4, 0.425, 2)


def test_half_as_many_errors_is_the_same_step_anywhere(records: Any) -> None:
    """The scale of accuracy is logarithmic in its errors, and undone by its inverse."""
    axes = figures.training_history(records.history).axes[1]
    heights = axes.yaxis.get_transform().transform(np.array([0.2, 0.6, 0.8, 0.9, 0.95]))
    assert np.diff(heights) == pytest.approx(np.log10(2))
    back = axes.yaxis.get_transform().inverted().transform(heights)
    assert back == pytest.approx([0.2, 0.6, 0.8, 0.9, 0.95])


def test_the_lines_are_the_ratios_of_the_diary(records: Any) -> None:
    diary = records.diary
    picture = figures.weight_ratios(diary)
    layers = list(dict.fromkeys(row["layer"] for row in diary.ratios))
    looks = []
    for axes, measure in zip(picture.axes, ("gradient", "update"), strict=True):
        assert axes.get_yscale() == "log"
        assert axes.get_title(loc="left") == f"{measure} / weight"
        for line, layer in zip(axes.lines, layers, strict=False):
            rows = [row for row in diary.ratios if row["layer"] == layer]
            assert list(line.get_xdata()) == [row["step"] for row in rows]
            assert list(line.get_ydata()) == pytest.approx([row[measure] for row in rows])
            looks.append((line.get_color(), line.get_linestyle(), line._dash_pattern))
    assert looks[:8] == looks[8:]
    assert len(set(map(str, looks[:8]))) == 8
    legend = picture.axes[1].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == layers
    assert [handle.get_color() for handle in legend.legend_handles] == [colour for colour, *_ in looks[:8]]
    *_, guide = picture.axes[1].lines
    (label,) = picture.axes[1].texts
    assert list(guide.get_ydata()) == [1e-3, 1e-3]
    assert (label.get_text(), to_hex(label.get_color())) == ("1 in 1,000", to_hex(guide.get_color()))
    last = [row["update"] for row in diary.ratios[-8:]]
    assert f"between {min(last):.1e} and {max(last):.1e} of" in picture.alt
