"""The whole network on one stage: links as strong as the products, columns of the strongest maps, the path that won."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import ACCENT, Fresh, reads, texts_of
from torch import nn
from zoo import flow_by_hand

import mnistviz as mv
from mnistviz.animate import palette, stage
from mnistviz.animate.mnist_forward_propagation import LINKS, MAPS, Stage
from mnistviz.look.capture import record

SIDES = st.integers(1, 28)  # of a map


def flows_of(fresh: Fresh, layer: str, channels: int) -> np.ndarray:
    """What each channel of the stage before gave each output; one that was flattened is several features."""
    return (
        flow_by_hand(fresh.layers[layer], fresh.into[layer])
        .reshape(-1, channels, fresh.into[layer].shape[1] // channels)
        .sum(2)
    )


def mixing(fresh: Fresh) -> list[str]:
    return [name for name, layer in fresh.layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]


def test_links_are_as_strong_as_the_products_between_two_maps(passes):
    fresh, trace = passes
    shown = Stage(trace, mv.winning_path(trace))
    assert len(shown.flows) == len(mixing(fresh))
    drawn = iter(sorted(shown.links(), key=lambda link: link[1][0][0]))
    for layer, flows, (before, after) in zip(mixing(fresh), shown.flows, pairwise(shown.columns), strict=True):
        by_hand = flows_of(fresh, layer, len(before.values))
        np.testing.assert_allclose(flows, by_hand, rtol=1e-4, atol=1e-4)
        part = by_hand[np.ix_(after.shown, before.shown)]
        largest = np.abs(part).max()
        strongest = np.sort(np.abs(part), axis=None)[::-1][:LINKS] / largest
        gap = [next(drawn) for _ in strongest]
        np.testing.assert_allclose(sorted((abs(s) for s, _, _ in gap), reverse=True), strongest, atol=1e-4)
        for strength, way, thick in gap:
            i = min(range(len(before.shown)), key=lambda k: abs(before.middle(before.shown[k]) - way[0][1]))
            meant = [part[k, i] for k, o in enumerate(after.shown) if abs(after.middle(o) - way[-1][1]) < 1e-6]
            if before.columns == 1:
                assert np.abs(np.array(meant) / largest - strength).min() < 1e-4
            assert thick == pytest.approx(max(1.0, 5 * abs(strength)))


@pytest.mark.parametrize("name", ["light", "compact"])
def test_the_strongest_link_of_all_is_drawn_darkest_in_the_colour_of_its_sign(name, traces):
    trace = traces[name]
    strength, way, _ = Stage(trace, mv.winning_path(trace)).links()[-1]
    assert abs(strength) == 1
    before_the_path = next(f for f in mv.animate.mnist_forward_propagation(trace, frames=1) if f.ms == 1200)
    x, y = way[len(way) // 2]
    assert before_the_path.pixels[round(y), round(x)] == palette.RAMPS[True][-1 if strength > 0 else 0]


def test_columns_hold_the_path_and_the_maps_that_hand_on_most(passes):
    fresh, trace = passes
    path = {stop.layer: stop.unit for stop in mv.winning_path(trace)}
    *_, last = mv.animate.mnist_forward_propagation(trace, frames=1)
    shown: dict[str, set[int]] = {}
    for claim in last.claims:
        if claim.zoom and claim.values.shape != (1, 1) and claim.source[0] != "input":
            shown.setdefault(claim.source[0], set()).add(claim.source[2])
    order = list(fresh.layers)
    for layer, channels in shown.items():
        assert path[layer][0] in channels
        after = next(n for n in mixing(fresh) if order.index(n) > order.index(layer))
        handed_on = np.abs(flows_of(fresh, after, fresh.out[layer].shape[1])).sum(0)
        assert len(channels) == min(MAPS, len(handed_on))
        rest = np.delete(handed_on, list(channels))
        assert not len(rest) or min(handed_on[list(channels - {path[layer][0]})]) >= rest.max() * (1 - 1e-4)


def test_the_path_that_is_drawn_is_the_winning_path(passes, watch):
    trace = passes[1]
    path = mv.winning_path(trace)
    *_, last = mv.animate.mnist_forward_propagation(trace, frames=1)
    places = {claim.source: claim for claim in last.claims if claim.zoom}
    expected = set()
    for stop in path:
        claim = places.get((stop.layer or "input", 0, stop.unit[0]))
        if claim is not None:
            y, x = stop.unit[1:] or (0, 0)
            assert float(claim.values[y, x]) == pytest.approx(stop.value, rel=1e-5, abs=1e-6)
            expected.add((claim.x + x * claim.zoom, claim.y + y * claim.zoom, claim.zoom, claim.zoom))
    assert watch.boxes == expected
    assert len(expected) == len(Stage(trace, path).columns)
    for x, y, wide, high in expected:
        assert (last.pixels[y - 2 : y + high + 2, x - 2 : x + wide + 2] == ACCENT).sum() >= 4


def test_the_network_says_where_the_path_ends(traces, monkeypatch):
    texts = texts_of(mv.animate.mnist_forward_propagation(traces["deep"], frames=1), monkeypatch)
    pixel = mv.winning_path(traces["deep"])[-1]
    row, column, value = re.search(r"pixel row (\d+), column (\d+), whose value is (\S+)", texts[-1][0]).groups()
    assert (int(row), int(column)) == pixel.unit[1:]
    assert reads(value, pixel.value)


def test_forward_propagation_shows_every_value_and_ends_with_ten_probabilities(passes):
    trace, shown = passes[1], set()
    for frame in mv.animate.forward_propagation(trace, frames=2):
        shown |= {(c.source[0], c.source[2]) for c in frame.claims if c.zoom}
    for key, step in trace.items():
        if not step.kind.startswith(("Dropout", "Flatten")):
            assert {(key, c) for c in range(step.result.shape[1])} <= shown
    assert [c.source for c in frame.claims if not c.zoom] == [("probability", 0, d) for d in range(10)]
    (digit,) = (c for c in frame.claims if c.source[0] == "input")
    around = frame.pixels[digit.y - 8 : digit.y + 28 * digit.zoom + 8, digit.x - 8 : digit.x + 28 * digit.zoom + 8]
    assert not (around == ACCENT).any()  # it is boxed only while something is said of what a layer sees


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 140), SIDES, SIDES, st.integers(200, 800), st.integers(200, 500), st.integers(0, 8))
def test_many_maps_fit_their_field_and_no_larger_zoom_would(count, high, wide, across, down, gap):
    columns, zoom = stage.fitting(count, high, wide, across, down, gap)

    def fits(n: int, z: int) -> bool:
        rows = -(-count // n)
        return n * (wide * z + gap) - gap <= across and rows * (high * z + gap) - gap <= down

    assert 1 <= columns <= count
    if any(fits(n, 1) for n in range(1, count + 1)):
        assert fits(columns, zoom)
        assert not any(fits(n, zoom + 1) for n in range(1, count + 1))


def test_probabilities_are_right_even_for_large_scores_and_after_a_softmax():
    scores = torch.tensor([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]])
    expected = [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0], [1 / 3] * 3]
    for end, near in ((nn.Identity(), 1e-12), (nn.LogSoftmax(1), 1e-6), (nn.Softmax(1), 1e-6)):
        found = record(nn.Sequential(end), scores).probabilities()
        np.testing.assert_allclose(found, expected, rtol=near, atol=1e-29)
