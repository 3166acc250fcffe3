"""Which pixels mattered, read back from the page: every colour through its scale, every bar a number of the record."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from test_maps import assert_fit_to_be_seen, at_once, caption_of, seen, sheet_of, words_of  # noqa: F401
from torch import nn

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.attribution import METHODS, Attribution, Sanity, attribute
from mnistviz.look.attribution import sanity as checked
from mnistviz.look.causes import Contrast, Silenced, contrast, nearest, silenced
from mnistviz.look.dreams import Dreams, dream
from mnistviz.show.figures.attribution import attributions, cause, dreams, sanity
from mnistviz.show.picture import BLUE, ORANGE, Picture, percent
from mnistviz.show.scales import Scale, short


@pytest.fixture(scope="module")
def compact() -> nn.Sequential:
    return mv.load_model("compact")


@pytest.fixture(scope="module")
def digit(mnist: DigitSet) -> torch.Tensor:
    return mnist.test[0].pixels


@pytest.fixture(scope="module")
def found(compact: nn.Sequential, digit: torch.Tensor) -> list[Attribution]:
    return [attribute(compact, digit, method) for method in METHODS]


def assert_coloured(axes: Axes, values: torch.Tensor) -> None:
    """Zero is white between blue and orange; a map without signs may also run from black."""
    numbers = values.numpy()
    largest, signed = np.abs(numbers).max(), (numbers < 0).any()
    scales = [Scale(-largest, largest, "map"), *([] if signed else [Scale(0.0, largest, "map")])]
    assert any(np.allclose(sheet_of(axes), scale.rgb(numbers), atol=1e-6) for scale in scales)


# ── attributions ──────────────────────────────────────────────────────────────────────────────────────────


def test_attributions_are_fit_to_be_seen(found: list[Attribution], digit: torch.Tensor) -> None:
    assert_fit_to_be_seen(lambda: attributions(digit, found), digit, found)


def test_each_map_is_drawn_on_its_own_scale(found: list[Attribution], digit: torch.Tensor) -> None:
    picture = attributions(digit, found)
    np.testing.assert_allclose(sheet_of(picture.axes[0]), digit[0, 0])
    assert len(picture.axes) == len(found) + 1
    for axes, one in zip(picture.axes[1:], found, strict=True):
        assert_coloured(axes, one.values)
        assert axes.get_title(loc="left") == one.method
        said = axes.get_xlabel()
        assert re.match(rf"(±|to ){re.escape(short(float(one.values.abs().max())))}(?!\d)", said)
        assert said.startswith("±") or not (one.values < 0).any()
        assert ("residual" in axes.get_xlabel()) == (one.method == "integrated gradients")
        assert ("8×8 cells" in axes.get_xlabel()) == (one.method == "grad-cam")
    assert f"\nresidual {percent(found[1].residual)}" in picture.axes[2].get_xlabel()
    assert "spoke for 7" in caption_of(picture)
    assert picture.alt.endswith("saliency, integrated gradients, grad-cam, occlusion find what spoke for 7.")


def test_a_map_of_zeros_is_drawn_flat(found: list[Attribution], digit: torch.Tensor) -> None:
    nothing = replace(found[2], values=torch.zeros(28, 28, dtype=torch.double))
    picture = assert_fit_to_be_seen(lambda: attributions(digit, [nothing]))
    assert not np.ptp(sheet_of(picture.axes[1]).reshape(-1, 3), axis=0).any()


def test_without_attributions_or_checks_there_is_nothing_to_draw(digit: torch.Tensor) -> None:
    with pytest.raises(mv.MnistvizError, match="no attributions to draw"):
        attributions(digit, [])
    with pytest.raises(mv.MnistvizError, match="no checks to draw"):
        sanity(digit, [])
    with pytest.raises(mv.MnistvizError, match="no dreams to draw"):
        dreams({}, digit, "the score for 7")


def test_the_caption_tells_what_the_colours_of_a_map_without_signs_mean(
    compact: nn.Sequential, digit: torch.Tensor
) -> None:
    cam = attribute(compact, digit, "grad-cam", layer="conv1")
    assert cam.values.any()
    assert not (cam.values < 0).any()
    picture = attributions(digit, [cam])
    sheet, strongest = sheet_of(picture.axes[1]), np.unravel_index(int(cam.values.argmax()), (28, 28))
    orange = sheet[strongest][0] > sheet[strongest][2] + 0.2 and np.allclose(
        sheet[cam.values.numpy() == 0], 1, atol=0.01
    )
    assert orange == ("(orange)" in caption_of(picture))


def test_maps_for_different_answers_are_told_apart(compact: nn.Sequential, digit: torch.Tensor) -> None:
    both = [attribute(compact, digit, "saliency", target) for target in (7, 3)]
    picture = attributions(digit, both)
    assert re.search(r"for 3\b", words_of(picture))
    assert re.search(r"\b7\b.*\b3\b", picture.alt)


# ── sanity ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def checks(compact: nn.Sequential, digit: torch.Tensor) -> list[Sanity]:
    return [checked(compact, digit), checked(compact, digit, "grad-cam", layer="conv1")]


def test_sanity_checks_are_fit_to_be_seen(checks: list[Sanity], digit: torch.Tensor) -> None:
    assert_fit_to_be_seen(lambda: sanity(digit, checks), checks, digit)


def test_each_row_is_a_map_its_controls_and_its_curves(checks: list[Sanity], digit: torch.Tensor) -> None:
    picture = sanity(digit, checks)
    for k, check in enumerate(checks):
        image, mine, random, edge, curve = picture.axes[5 * k : 5 * k + 5]
        np.testing.assert_allclose(sheet_of(image), digit[0, 0])
        for axes, values in ((mine, check.attribution.values), (random, check.random.values), (edge, check.edges)):
            assert_coloured(axes, values)
        assert mine.get_title(loc="left") == check.attribution.method
        assert random.get_xlabel().replace("−", "-") == f"rank agreement {check.with_random:.2f}"
        assert edge.get_xlabel().replace("−", "-") == f"rank agreement {check.with_edges:.2f}"
        named, drawn = curve.lines
        for line, values in ((named, check.probability), (drawn, check.at_random)):
            np.testing.assert_allclose(line.get_xdata(), check.shares)
            np.testing.assert_allclose(line.get_ydata(), values)
        if k == 0:  # said once
            assert [t.get_text() for t in curve.get_legend().get_texts()] == ["named first", "drawn at random"]
        assert to_hex(named.get_color()) == BLUE
        assert curve.get_title(loc="left") == "probability of 7"
        said = f"{check.with_random:.2f} with random weights, {check.with_edges:.2f} with edges"
        assert f"{check.attribution.method}: {said}" in picture.alt.replace("−", "-")


def test_the_caption_does_not_speak_of_sizes(checks: list[Sanity], digit: torch.Tensor) -> None:
    check = checks[0]
    inked = digit[0, 0] > 0
    sizes = [torch.argsort(torch.argsort(m.values[inked].abs())) for m in (check.attribution, check.random)]
    by_size = float(np.corrcoef(*(s.numpy() for s in sizes))[0, 1])
    of_sizes = "of sizes" in caption_of(sanity(digit, checks))
    assert of_sizes == (abs(check.with_random - by_size) < 0.01)


def test_an_agreement_that_is_not_a_number_is_said_in_words(checks: list[Sanity], digit: torch.Tensor) -> None:
    picture = sanity(digit, [replace(checks[1], with_random=float("nan"))])
    assert "nan" not in words_of(picture) + picture.alt


# ── dreams ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def dreamt(compact: nn.Sequential) -> dict[str, Dreams]:
    return {
        "without priors": dream(compact, "fc2", 7, priors=False, steps=20, seeds=3),
        "with priors": dream(compact, "fc2", 7, steps=20, seeds=2),
    }


def test_dreams_are_fit_to_be_seen(dreamt: dict[str, Dreams], digit: torch.Tensor) -> None:
    assert_fit_to_be_seen(lambda: dreams(dreamt, digit, "the score for 7"), dreamt, digit)
    one = {"with priors": dreamt["with priors"]}
    assert_fit_to_be_seen(lambda: dreams(one, digit, "the score for 7"), one)


def test_each_dream_stands_in_grey_levels_over_what_it_gave(dreamt: dict[str, Dreams], digit: torch.Tensor) -> None:
    picture = dreams(dreamt, digit, "the score for 7")
    assert len(picture.axes) == 2 * 4
    for k, (name, one) in enumerate(dreamt.items()):
        row = picture.axes[4 * k : 4 * k + 4]
        assert row[0].get_ylabel() == name
        for axes, pixels, start, end in zip(row, one.pixels, one.start.tolist(), one.end.tolist(), strict=False):
            np.testing.assert_allclose(sheet_of(axes), pixels[0])
            assert axes.get_xlabel() == f"{short(start)} → {short(end)}"
        assert all(not axes.images for axes in row[len(one.pixels) : 3])
        np.testing.assert_allclose(sheet_of(row[3]), digit[0, 0])
        assert row[3].get_title(loc="left") == "a real digit"
        assert all(axes.images[0].get_clim() == (0, 1) for axes in row if axes.images)
        assert all(axes.images[0].get_cmap().name == "gray" for axes in row if axes.images)
    assert "Made to raise the score for 7" in caption_of(picture)
    assert picture.alt == "Pictures made to raise the score for 7: without priors, with priors, beside a real digit."


# ── one mistake ───────────────────────────────────────────────────────────────────────────────────────────

Sheet = tuple[torch.Tensor, Contrast, list[Silenced], torch.Tensor, list[int], list[float]]


@pytest.fixture(scope="module")
def mistake(compact: nn.Sequential, mnist: DigitSet) -> Sheet:
    """A real one that a silent channel would turn."""
    test, train = mnist.test[:3000], mnist.train[:200]
    known = seen(compact, train.pixels)["relu3"].output
    for row in mv.evaluate(compact, test).mistakes.itertuples():
        x = test[int(row.row)].pixels
        rows = silenced(compact, x, int(row.label), ["relu2", "relu3"])
        if 2 <= sum(one.answer == row.label for one in rows) < 12:
            trace = seen(compact, x)
            near, distances = nearest(trace["relu3"].output, known, 6)
            found = contrast(trace, int(row.prediction), int(row.label))
            labels = train.labels[near[0]].tolist()
            return x, found, rows, train.pixels[near[0]], labels, distances[0].tolist()
    raise AssertionError("no such mistake")


def test_a_mistake_is_fit_to_be_seen(mistake: Sheet) -> None:
    assert_fit_to_be_seen(lambda: cause(*mistake), *mistake)


def test_a_hopeless_mistake_is_fit_to_be_seen(mistake: Sheet) -> None:
    """All bars to the left, as where no channel helps."""
    x, found, rows, *rest = mistake
    hopeless = [replace(row, gap=-4 - 0.1 * i, answer=found.one) for i, row in enumerate(rows)]
    picture = assert_fit_to_be_seen(lambda: cause(x, found, hopeless, *rest))
    assert "of 70 tried, 0 turn the answer" in caption_of(picture)


def test_all_bars_sum_to_the_gap_between_two_scores(mistake: Sheet) -> None:
    x, found, *_ = mistake
    picture = cause(*mistake)
    image, axes = picture.axes[:2]
    np.testing.assert_allclose(sheet_of(image), x[0, 0])
    assert image.get_title(loc="left") == f"answered {found.one}, is {found.other}"
    gaps, bars = (found.for_one - found.for_other).tolist(), axes.containers[0]
    widths = [bar.get_width() for bar in bars]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert sum(widths) == pytest.approx(found.recorded, abs=1e-4)
    order = sorted(range(len(gaps)), key=lambda i: -gaps[i])
    chosen = order[:6] + order[-6:]
    assert names == [str(i) for i in chosen] + [f"{len(gaps) - 12} others", "biases"]
    assert widths[:12] == pytest.approx([gaps[i] for i in chosen])
    assert widths[12] == pytest.approx(sum(gaps[i] for i in order[6:-6]))
    assert widths[13] == pytest.approx(found.bias_gap)
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [ORANGE if w > 0 else BLUE for w in widths]
    assert axes.get_title(loc="left") == f"why {found.one} before {found.other}: {found.recorded:+.2f}"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the strongest on top


def test_the_channels_that_help_most_are_drawn_and_flips_are_orange(mistake: Sheet) -> None:
    _, found, rows, *_ = mistake
    picture = cause(*mistake)
    axes = picture.axes[2]
    assert [bar.get_width() for bar in axes.containers[0]] == [row.gap for row in rows[:12]]
    assert [t.get_text() for t in axes.get_yticklabels()] == [f"{row.layer} {row.channel}" for row in rows[:12]]
    assert [t.get_text().strip() for t in axes.texts] == [str(row.answer) for row in rows[:12]]
    orange = [to_hex(bar.get_facecolor()) == ORANGE for bar in axes.containers[0]]
    assert orange == [row.answer == found.other for row in rows[:12]]
    assert any(orange)
    assert not all(orange)
    count = sum(row.answer == found.other for row in rows)
    assert f"of 70 tried, {count} turn the answer into {found.other} (orange)" in caption_of(picture)
    assert f"({count} flip the answer)" in picture.alt


def test_neighbours_stand_below_with_label_and_distance(mistake: Sheet) -> None:
    _, found, _, neighbours, labels, distances = mistake
    picture = cause(*mistake)
    for axes, image, label, distance in zip(picture.axes[3:], neighbours, labels, distances, strict=True):
        np.testing.assert_allclose(sheet_of(axes), image[0])
        assert axes.get_xlabel() == f"a {label}, at {distance:.1f}"
    assert picture.alt.startswith(f"A digit answered {found.one} that is a {found.other}:")
    assert f"gap of {found.recorded:+.2f}" in picture.alt
    assert picture.alt.endswith(f"labelled {', '.join(map(str, labels))}.")


def small_contrast() -> Contrast:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(80.0).view(10, 8).sin())
    return contrast(seen(model, torch.linspace(0.1, 1, 8).view(1, 1, 2, 4)), 3, 5)


def test_few_features_are_drawn_once_each(mistake: Sheet) -> None:
    picture: Picture = cause(mistake[0], small_contrast(), *mistake[2:])
    names = [t.get_text() for t in picture.axes[1].get_yticklabels()]
    assert sorted(name for name in names if name.isdigit()) == [str(i) for i in range(8)]
    assert "-4 others" not in names


def test_few_channels_are_not_said_to_be_twelve(mistake: Sheet) -> None:
    x, found, rows, *rest = mistake
    assert "twelve" not in caption_of(cause(x, found, rows[:5], *rest))


def test_a_neighbour_without_a_label_is_told(mistake: Sheet) -> None:
    *given, labels, distances = mistake
    with pytest.raises(mv.MnistvizError):
        cause(*given, labels[:-1], distances)
