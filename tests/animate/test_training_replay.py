"""Scenes of several digits: ten one after another, a few through a training, many on one plane."""

import re
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refusals
from oracle import ACCENT, Fresh, lies, reads, texts_of
from torch import Tensor, nn
from zoo import seeded

import mnistviz as mv
from mnistviz.animate import palette
from mnistviz.animate.embedding_evolution import FIELD, plane
from mnistviz.look.capture import record
from mnistviz.look.diary import Moment
from mnistviz.look.projection import project
from mnistviz.look.trace import Trace

Several = tuple[list[Tensor], list[Trace], list[int]]
Judged = tuple[list[int], list[Moment]]


@pytest.fixture(scope="module")
def several(real, mnist) -> Several:
    pixels = [mnist.test[i].pixels for i in range(4)]
    return pixels, [record(real["compact"], x) for x in pixels], mnist.test.labels[:4].tolist()


@pytest.fixture(scope="module")
def lapse(few) -> tuple[mv.Timelapse, nn.Sequential]:
    """A compact network that learns from 600 digits, looked at a dozen times and more."""
    kept = mv.Timelapse.over(20, 14)
    with seeded(5):
        model = mv.models.build("compact")
    recipe = mv.recipes.published("compact").but(epochs=2, batch=64)
    mv.fit(model, few, None, recipe, device="cpu", callbacks=kept.callbacks, progress=False)
    return kept, model


@pytest.fixture(scope="module")
def probes(lapse, mnist) -> list[Moment]:
    return lapse[0].moments(lapse[1], mnist.test[[0, 1, 8]].pixels)


@pytest.fixture(scope="module")
def judged(lapse, mnist) -> Judged:
    return mnist.test.labels[:150].tolist(), lapse[0].moments(lapse[1], mnist.test[:150].pixels, "fc2")


@pytest.fixture(scope="module")
def afresh(lapse, mnist) -> list[Fresh]:
    """Every checkpoint in a new model, which sees the digits to watch, and its share of right answers."""
    passes = []
    for weights in lapse[0].checkpoints.values():
        model = mv.models.build("compact")
        model.load_state_dict(weights)
        answers = Fresh(model, mnist.test[:150].pixels).shares.argmax(1)
        right = float((answers == mnist.test.labels[:150]).double().mean())
        passes.append(Fresh(model, mnist.test[[0, 1, 8]].pixels, right))
    return passes


@pytest.mark.parametrize("name", ["compact", "simple", "deep", "sprint"])
def test_every_claim_of_a_demo_is_of_the_digit_it_names_and_mixed_up_digits_are_found(name, several, real, watch):
    pixels, _, labels = several
    fresh = [Fresh(real[name], x) for x in pixels]
    film = mv.animate.forward_propagation_demo([record(real[name], x) for x in pixels], labels, frames=1)
    answers = ", ".join(str(int(f.shares.argmax())) for f in fresh)
    assert film.alt == f"4 digits go through the network one after another; the answers are {answers}."
    frames = list(film)
    first, *order = [frame.of for frame in frames]  # the film opens with the frame it ends with
    assert first == 3
    assert order == sorted(order)
    assert set(order) == set(range(4))
    for frame in frames:
        assert frame.claims
        assert lies(frame, fresh[frame.of], watch) == []
        assert lies(frame, fresh[3 - frame.of], watch)


def test_all_digits_of_a_demo_share_channels_and_scales(several):
    _, traces, labels = several
    seen: dict[int, dict[Any, Any]] = {}
    for frame in mv.animate.forward_propagation_demo(traces, labels, frames=1):
        seen[frame.of] = {c.source: (c.x, c.y, c.scale) for c in frame.claims if c.zoom and c.source[0] != "input"}
    assert all(places == seen[0] for places in seen.values())
    for layer in {source[0] for source in seen[0]}:
        (scale,) = {place[2] for source, place in seen[0].items() if source[0] == layer}
        assert scale.high == pytest.approx(max(float(trace[layer].result.abs().max()) for trace in traces))


def test_answers_are_marked_by_sign_and_colour_and_the_true_digit_is_boxed(several, monkeypatch):
    _, traces, _ = several
    answers = [int(trace.output.argmax()) for trace in traces]
    labels = [answers[0], (answers[1] + 1) % 10, None, answers[3]]
    texts = texts_of(mv.animate.forward_propagation_demo(traces, labels, frames=1), monkeypatch)
    marked = [(f"{answers[0]} ✓", "green"), (f"{answers[1]} ✗", "red"), (f"{answers[3]} ✓", "green")]
    assert [text for text in texts if re.fullmatch(r"\d [✓✗]", text[0])] == marked
    assert (f"answer: {answers[1]}", "red") in texts
    assert (f"answer: {answers[2]}", "ink") in texts
    without = texts_of(mv.animate.forward_propagation_demo(traces, frames=1), monkeypatch)
    assert not [text for text, _ in without if re.search("[✓✗]", text)]
    for boxed in (3, None):
        *_, last = mv.animate.forward_propagation_demo(traces, [boxed] * 4, frames=1)
        bars = {c.source[2]: c for c in last.claims if c.source[0] == "probability"}
        left = bars[3].x - 118 - 33 - 8
        rows = np.nonzero((last.pixels[:, left : left + 40] == ACCENT).any(1))[0]
        assert bool(len(rows)) == (boxed is not None)
        if boxed is not None:
            assert bars[2].y - 5 < rows.min() < bars[3].y < rows.max() < bars[4].y + 5


def test_every_frame_of_a_replay_is_its_checkpoint_run_again_and_no_other(probes, judged, afresh, watch):
    film = mv.animate.training_replay(probes, judged[1], judged[0])
    frames = list(film)
    assert [frame.of for frame in frames] == [len(afresh) - 1, *range(len(afresh))]  # it opens with its last frame
    for frame in frames:
        assert {"weight", "input", "right", "probability"} <= {c.source[0] for c in frame.claims}
        assert sum(c.source == ("right",) for c in frame.claims) == 1
        assert lies(frame, afresh[frame.of], watch) == []
        assert not frame.of or lies(frame, afresh[frame.of - 1], watch)
    first, last = re.findall(r"([\d.]+ %)", film.alt)
    assert reads(first, afresh[0].right)
    assert reads(last, afresh[-1].right)
    assert afresh[-1].right > afresh[0].right
    assert film.alt.startswith(f"3 digits watched while a network learns for {probes[-1].step} steps")


def test_a_colour_means_the_same_number_from_the_first_frame_to_the_last(probes, judged, lapse):
    scales: dict[str, set[Any]] = {}
    places: dict[Any, set[tuple[int, int]]] = {}
    for frame in mv.animate.training_replay(probes, judged[1], judged[0]):
        for claim in frame.claims:
            if claim.zoom:
                scales.setdefault(claim.source[0], set()).add(claim.scale)
                places.setdefault(claim.source, set()).add((claim.x, claim.y))
    assert all(len(values) == 1 for values in (*scales.values(), *places.values()))
    weights = [w["conv1.weight"] for w in lapse[0].checkpoints.values()]
    assert scales["weight"].pop().high == pytest.approx(max(float(w.abs().max()) for w in weights))


def test_a_label_that_is_none_counts_neither_as_right_nor_as_wrong(probes, judged):
    labels, moments = judged
    *_, last = mv.animate.training_replay(probes, moments, [None, *labels[1:]])
    (text,) = {c.words for c in last.claims if c.source == ("right",)}
    answers = moments[-1].trace.output[1:].argmax(1)
    assert reads(text, float((answers.numpy() == np.array(labels[1:])).mean()))


def test_all_frames_lie_on_the_plane_of_the_last(judged):
    places, held = plane(judged[1])
    projection = project([moment.trace["fc2"].input for moment in judged[1]])
    low, high = (getattr(np.concatenate(projection.points), end)(0) for end in ("min", "max"))
    x, y, wide, tall = FIELD
    for dots, points in zip(places, projection.points, strict=True):
        across, down = ((points - low) / (high - low)).T
        assert np.abs(dots[:, 0] - (x + 6 + across * (wide - 12))).max() < 0.51
        assert np.abs(dots[:, 1] - (y + tall - 6 - down * (tall - 12))).max() < 0.51
    assert held == projection.held


def test_every_dot_is_at_its_place_in_the_colour_of_its_digit(judged):
    labels, moments = np.array(judged[0]), judged[1]
    places, _ = plane(moments)
    x0, y0, wide, tall = FIELD
    for frame in list(mv.animate.embedding_evolution(moments, judged[0]))[::3]:
        page = np.full(frame.pixels.shape, palette.PAPER, np.uint8)
        named = np.zeros(page.shape, bool)
        for d in range(10):  # later digits lie above earlier ones
            for (x, y), dy, dx in product(places[frame.of][labels == d], range(-2, 3), range(-2, 3)):
                if abs(dy) + abs(dx) < 4:
                    page[y + dy, x + dx] = palette.INKS[f"class {d}"][-1]
            x, y = np.median(places[frame.of][labels == d], axis=0).astype(int)
            named[y - 13 : y + 13, x - 12 : x + 12] = True
        inside = np.zeros(page.shape, bool)
        inside[y0 : y0 + tall, x0 : x0 + wide] = True
        np.testing.assert_array_equal(frame.pixels[inside & ~named], page[inside & ~named])
        assert (~named[places[frame.of][:, 1], places[frame.of][:, 0]]).mean() > 0.4


def test_the_share_of_right_answers_is_claimed_and_counted_again(judged, afresh, watch):
    film = mv.animate.embedding_evolution(judged[1], judged[0])
    for frame in film:
        assert [claim.source for claim in frame.claims] == [("right",)]
        assert lies(frame, afresh[frame.of], watch) == []
    first, last = re.findall(r"([\d.]+ %)", film.alt)
    assert reads(first, afresh[0].right)
    assert reads(last, afresh[-1].right)
    assert film.alt.startswith("150 digits as coloured points")
    assert "becomes 10 groups" in film.alt


def test_a_digit_without_a_label_is_framed_and_called_yours(judged, monkeypatch):
    film = mv.animate.embedding_evolution(judged[1], [*judged[0][:-1], None])
    places, _ = plane(judged[1])
    assert film.alt.startswith("149 digits")
    for frame in film:
        x, y = places[frame.of][-1]
        assert (frame.pixels[y - 8 : y + 9, x - 8] == ACCENT).all()
        assert (frame.pixels[y - 2 : y + 3, x - 2 : x + 3] == palette.INKS["ink"][-1]).all()
    texts = texts_of(film, monkeypatch)
    assert sum(words == "yours" for words, _ in texts) == len(judged[1])


def moments_at(*rows: list[list[float]]) -> list[Moment]:
    """Moments of a network that is one linear layer, with these rows going into it."""
    model = nn.Sequential(nn.Linear(2, 10))
    return [Moment(step, record(model, torch.tensor(points))) for step, points in enumerate(rows)]


def test_nothing_of_a_frame_stays_beside_the_plane_in_the_next():
    """Yours stands at every edge in turn; what is written next to it must be gone afterwards."""
    corners = [[0.0, 0.0], [10.0, 0.0], [0.0, 6.0], [10.0, 6.0], [5.0, 3.0]]
    rows = [[[0.0, 0.0], [10.0, 6.0], [10.0, 0.0], [0.0, 6.0], corner] for corner in corners]
    *_, last = mv.animate.embedding_evolution(moments_at(*rows), [0, 1, 2, 3, None])
    *_, alone = mv.animate.embedding_evolution(moments_at(*rows[-1:] * 2), [0, 1, 2, 3, None])
    x, y, wide, tall = FIELD
    for part in (np.s_[y : y + tall, x + wide : x + wide + 40], np.s_[:, :x]):
        np.testing.assert_array_equal(last.pixels[part], alone.pixels[part])


def test_a_class_is_named_once_no_other_name_would_lie_on_its_own(monkeypatch):
    """0 and 1 begin as one heap, and 2 far off; in the end all three are apart."""
    rows = [[[0.0, 0.0], [0.1, 0.1], [9.0, 9.0]], [[0.0, 5.0], [5.0, 0.0], [9.0, 9.0]]]
    first, both = (texts_of(evolution(moments_at(*rows[:k]), [0, 1, 2]), monkeypatch) for k in (1, 2))
    named = [[words for words, ink in texts if ink.startswith("class")] for texts in (first, both)]
    assert named == [["2"], ["2", "0", "1", "2"]]


demo = mv.animate.forward_propagation_demo
replay = mv.animate.training_replay
evolution = mv.animate.embedding_evolution
THREE = [[0.0, 1.0], [1.0, 1.0], [2.0, 2.0]]
BAD = {
    "no digits": (lambda *_: demo([]), "no digits to show"),
    "a label too few": (lambda s, *_: demo(s[1], [1, 2, 3]), "one label per trace", "4 traces, 3 labels"),
    "two networks": (lambda s, *_: demo([s[1][0], moments_at(THREE)[0].trace]), "different networks"),
    "a batch": (lambda t, p, j: demo([p[0].trace]), "one digit"),
    "other steps": (lambda t, p, j: replay(p[:-1], j[1], j[0]), "not of the same steps"),
    "a judged digit without a label": (lambda t, p, j: replay(p, j[1], j[0][:-1]), "150 digits, 149 labels"),
    "no moments": (lambda *_: replay([], [], []), "no moments of a training"),
    "moments of two networks": (
        lambda t, p, j: replay([*p[:-1], Moment(p[-1].step, moments_at(THREE)[0].trace)], j[1], j[0]),
        "different networks",
    ),
    "no label at all": (lambda t, p, j: replay(p, j[1], [None] * 150), "no digit has a label"),
    "no convolution": (lambda *_: list(replay(moments_at(THREE), moments_at(THREE), [0, 1, 2])), "convolution"),
    "two points": (lambda *_: evolution(moments_at(THREE[:2]), [0, 1]), "cannot be projected", "3 or more"),
    "not a number": (lambda *_: evolution(moments_at([*THREE, [np.nan, 0.0]]), [0, 1, 2, 3]), "cannot be projected"),
    "no moments of many": (lambda *_: evolution([], []), "no moments"),
    "a point without a label": (lambda *_: evolution(moments_at(THREE), [0, 1]), "one label per judged digit"),
    "many without a label": (lambda *_: evolution(moments_at(THREE), [None] * 3), "no digit has a label"),
    "no linear layer": (
        lambda *_: evolution([Moment(0, record(nn.Sequential(nn.Flatten()), torch.rand(3, 1, 2, 2)))], [0, 1, 2]),
        "no linear layer",
    ),
}
test_what_does_not_belong_together_or_cannot_be_shown_is_told = refusals(BAD, "several", "probes", "judged")
