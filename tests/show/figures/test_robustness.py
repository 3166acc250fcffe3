"""What breaks a network, read back from the page: every point is a row of the table, every colour what was added."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from test_maps import assert_fit_to_be_seen, at_once, caption_of, sheet_of  # noqa: F401

import mnistviz as mv
from mnistviz.learn.attacks import Attack
from mnistviz.learn.corruptions import CORRUPTIONS
from mnistviz.learn.corruptions import robustness as measured
from mnistviz.learn.data import DigitSet
from mnistviz.show.figures.robustness import adversarial_pairs, attack_curves, robustness
from mnistviz.show.picture import percent
from mnistviz.show.scales import Scale, short

CURVES = {
    "compact, FGSM": {0.0: 0.98, 0.1: 0.71, 0.2: 0.31, 0.3: 0.1},
    "compact, PGD": {0.0: 0.98, 0.1: 0.48, 0.2: 0.02, 0.3: 0.0},
}


def table(seed: int, kinds: list[str]) -> pd.DataFrame:
    """Any accuracies, falling with the strength."""
    dice = np.random.default_rng(seed)
    rows = [(kind, s, right) for kind in kinds for s, right in enumerate(np.sort(dice.random(6) * 0.7 + 0.3)[::-1])]
    return pd.DataFrame(rows, columns=["corruption", "strength", "accuracy"])


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: table(i, list(CORRUPTIONS)) for i, name in enumerate(("deep", "light", "compact"))}


# ── corruptions ───────────────────────────────────────────────────────────────────────────────────────────


def numbers(tables: dict[str, pd.DataFrame]) -> dict[str, object]:
    return {name: one.to_dict("list") for name, one in tables.items()}


def test_corruptions_are_fit_to_be_seen(tables: dict[str, pd.DataFrame]) -> None:
    before = numbers(tables)
    assert_fit_to_be_seen(lambda: robustness(tables))
    assert numbers(tables) == before


@pytest.mark.parametrize("count", [1, 5])
def test_some_corruptions_are_fit_to_be_seen(count: int) -> None:
    few = {"deep": table(1, list(CORRUPTIONS)[:count])}
    picture = assert_fit_to_be_seen(lambda: robustness(few))
    assert sum(axes.get_visible() for axes in picture.axes) == count


def test_each_panel_holds_the_rows_of_its_corruption(tables: dict[str, pd.DataFrame]) -> None:
    picture = robustness(tables)
    assert [axes.get_title(loc="left") for axes in picture.axes] == list(CORRUPTIONS)
    for axes, kind in zip(picture.axes, CORRUPTIONS, strict=True):
        assert [line.get_label() for line in axes.lines] == list(tables)
        for line, one in zip(axes.lines, tables.values(), strict=True):
            rows = [row for row in one.itertuples() if row.corruption == kind]
            assert list(line.get_xdata()) == [row.strength for row in rows]
            assert list(line.get_ydata()) == [row.accuracy for row in rows]
        assert axes.get_ylim() == (0, 1.02)
    assert len({tuple(line.get_color() for line in axes.lines) for axes in picture.axes}) == 1
    assert [t.get_text() for t in picture.axes[0].get_legend().get_texts()] == list(tables)
    assert picture.alt.startswith("Accuracy against strength for 12 corruptions;")
    for name, one in tables.items():
        assert f"{name}: {percent(min(one['accuracy']))}" in picture.alt
    assert "cannot be compared with published ones" in caption_of(picture)


def test_tables_may_know_different_corruptions() -> None:
    both = {"a": table(0, ["blur", "noise"]), "b": table(1, ["noise", "thin"])}
    picture = robustness(both)
    lines = {axes.get_title(loc="left"): [len(line.get_xdata()) for line in axes.lines] for axes in picture.axes}
    assert lines == {"blur": [6, 0], "noise": [6, 6], "thin": [0, 6]}


def test_what_was_measured_is_what_is_drawn(mnist: DigitSet) -> None:
    model, digits = mv.load_model("compact"), mnist.test[:60]
    one = measured(model, digits, ["blur", "cover"])
    picture = robustness({"compact": one})
    for axes in picture.axes:
        assert axes.lines[0].get_ydata()[0] == mv.evaluate(model, digits).accuracy  # strength 0 changes nothing
        kind = axes.get_title(loc="left")
        assert list(axes.lines[0].get_ydata()) == one[one["corruption"] == kind]["accuracy"].tolist()


def test_without_tables_curves_or_digits_there_is_nothing_to_draw(mnist: DigitSet) -> None:
    with pytest.raises(mv.MnistvizError, match="no tables to draw"):
        robustness({})
    with pytest.raises(mv.MnistvizError, match="no curves to draw"):
        attack_curves({})
    none = mnist.test[:0]
    with pytest.raises(
        mv.MnistvizError, match=r"one changed picture, and two answers, per digit[\s\S]*0 digits, 0 changed"
    ):
        adversarial_pairs(none, none.pixels, [], [])
    with pytest.raises(
        mv.MnistvizError, match=r"one changed picture, and two answers, per digit[\s\S]*2 digits, 3 changed"
    ):
        adversarial_pairs(mnist.test[:2], mnist.test[:3].pixels, [1, 2], [3, 4])


def test_an_empty_table_is_told() -> None:
    with pytest.raises(mv.MnistvizError):
        robustness({"deep": table(0, [])})


def test_the_lowest_panel_of_each_column_has_numbers_below() -> None:
    picture = robustness({"deep": table(1, list(CORRUPTIONS)[:5])})
    picture.draw_without_rendering()
    lowest = [axes for axes in picture.axes if axes.get_visible()][1:]
    assert all(any(t.get_visible() and t.get_text() for t in axes.get_xticklabels()) for axes in lowest)


# ── attacks ───────────────────────────────────────────────────────────────────────────────────────────────


def test_curves_under_attack_are_fit_to_be_seen() -> None:
    assert_fit_to_be_seen(lambda: attack_curves(CURVES), CURVES)


def test_points_of_the_curves_are_the_numbers_given() -> None:
    picture = attack_curves(CURVES)
    (axes,) = picture.axes
    for line, (name, curve) in zip(axes.lines, CURVES.items(), strict=True):
        assert line.get_label() == name
        assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == curve
        assert line.get_marker() == "o"
    assert [t.get_text() for t in axes.get_legend().get_texts()] == list(CURVES)
    assert "compact, FGSM 10.0 % at ε 0.3; compact, PGD <0.1 % at ε 0.3." in picture.alt


def test_the_order_of_the_sizes_does_not_matter() -> None:
    mixed = {name: dict(sorted(curve.items(), key=lambda pair: pair[1])) for name, curve in CURVES.items()}
    picture = attack_curves(mixed)
    assert all(list(line.get_xdata()) == sorted(line.get_xdata()) for line in picture.axes[0].lines)
    assert picture.alt == attack_curves(CURVES).alt


def test_a_curve_without_points_is_told() -> None:
    with pytest.raises(mv.MnistvizError):
        attack_curves({"compact": {}})


# ── before and after ──────────────────────────────────────────────────────────────────────────────────────

Pairs = tuple[mv.Digits, torch.Tensor, list[int], list[int]]


@pytest.fixture(scope="module")
def pairs(mnist: DigitSet) -> Pairs:
    model, digits = mv.load_model("compact"), mnist.test[:5]
    changed = Attack(0.15, steps=3)(model, digits.pixels, digits.labels)
    changed[0] = digits.pixels[0]  # one as it was
    with torch.no_grad():
        return digits, changed, *(model(x).argmax(1).tolist() for x in (digits.pixels, changed))


def test_attacked_digits_are_fit_to_be_seen(pairs: Pairs) -> None:
    assert_fit_to_be_seen(lambda: adversarial_pairs(*pairs), *pairs)
    digits, changed, before, after = pairs
    assert_fit_to_be_seen(lambda: adversarial_pairs(digits[1:2], changed[1:2], before[1:2], after[1:2]))


def test_each_column_is_a_digit_what_was_added_and_their_sum(pairs: Pairs) -> None:
    digits, changed, before, after = pairs
    picture = adversarial_pairs(*pairs)
    added = (changed - digits.pixels)[:, 0].double().numpy()
    limit = np.abs(added).max()
    assert limit == pytest.approx(0.15, abs=1e-6)
    scale = Scale(-limit, limit, "across inputs")
    for k in range(5):
        first, middle, last = (picture.axes[5 * row + k] for row in range(3))
        np.testing.assert_allclose(sheet_of(first), digits.images[k] / 255, atol=1e-6)
        np.testing.assert_allclose(sheet_of(last), changed[k, 0], atol=1e-6)
        np.testing.assert_allclose(sheet_of(middle), scale.rgb(added[k]), atol=1e-6)
        assert (first.get_xlabel(), last.get_xlabel()) == (f"answer {before[k]}", f"answer {after[k]}")
        assert middle.get_xlabel() == f"at most {short(np.abs(added[k]).max())}"
        for axes in (first, last):
            assert axes.images[0].get_clim() == (0, 1)
            assert axes.images[0].get_cmap().name == "gray"
    assert (sheet_of(picture.axes[5]) == 1).all()  # nothing added is white
    assert [picture.axes[5 * row].get_ylabel() for row in range(3)] == ["digit", "added", "sum"]
    assert [t.get_text() for t in picture.axes[15].get_yticklabels()] == ["−0.15", "0", "0.15"]
    assert "−0.15 to 0.15" in caption_of(picture)
    turned = sum(a != b for a, b in zip(before, after, strict=True))
    assert 0 < turned < 5
    assert picture.alt == f"5 digits before and after an attack, and what it added; {turned} answers changed."


def test_the_caption_says_that_all_digits_share_a_scale(pairs: Pairs) -> None:
    said = caption_of(adversarial_pairs(*pairs))
    assert "layer" not in said
    assert not re.search(r"\. [a-z]", said)  # a sentence begins with a capital


def test_ink_that_was_only_added_is_orange_too(pairs: Pairs) -> None:
    digits = pairs[0][:1]
    lighter = (digits.pixels + 0.1).clamp(max=1)
    picture = adversarial_pairs(digits, lighter, [7], [7])
    red, _, blue = sheet_of(picture.axes[1])[0, 0]  # paper became lighter, and the caption says orange
    assert red > blue + 0.3
    assert (sheet_of(picture.axes[1])[digits.pixels[0, 0] == 1] == 1).all()


def test_a_missing_answer_is_told(pairs: Pairs) -> None:
    digits, changed, before, after = pairs
    with pytest.raises(mv.MnistvizError):
        adversarial_pairs(digits, changed, before, after[:-1])
