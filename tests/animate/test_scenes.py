"""Scenes: what every frame says is what a fresh forward pass, run without any recording, computes again."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import refusals, refused
from oracle import Fresh, half_step, lies, lies_of, reads
from PIL import Image
from torch import nn
from zoo import same, seeded

import mnistviz as mv
from mnistviz import project
from mnistviz.animate import Claim, Film, palette, scenes
from mnistviz.look.capture import record
from mnistviz.show.scales import Scale

FORGED = {  # in which layer of "light" a number is changed
    "mnist_data_flow": "relu3",
    "forward_propagation": "relu3",
    "mnist_forward_propagation": "mix1",
    "convolution": "conv1",
    "max_pooling": "pool1",
}
SCENES: dict[str, Callable[..., Film]] = {scene: getattr(mv.animate, scene) for scene in FORGED}
every_scene = pytest.mark.parametrize("scene", SCENES)


def assert_same(film: Film, other: Film) -> None:
    """The same frames, times, subjects and claims."""
    for one, two in zip(film, other, strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
        assert (one.ms, one.of, [c.source for c in one.claims]) == (two.ms, two.of, [c.source for c in two.claims])


@every_scene
def test_every_claim_of_a_frame_that_fits_a_slide_is_what_a_fresh_pass_computes(scene, passes, traces, watch):
    fresh, trace = passes
    film = SCENES[scene](trace, frames=8 if trace is traces["compact"] else 2)
    assert lies_of(film, fresh, watch) == []


@every_scene
def test_a_forged_record_is_found(scene, real, seven, watch):
    """One value of one layer, a quarter of the largest too high; the oracle must not sleep."""
    trace, layer = record(real["light"], seven), FORGED[scene]
    output = trace[layer].output
    channel = int(output[0].double().clamp(min=0).std((1, 2)).argmax())
    if scene == "mnist_forward_propagation":
        channel = {stop.layer: stop.unit[0] for stop in mv.winning_path(trace)}[layer]
    output[0, channel, 1, 1] += float(output.abs().max()) / 4
    fresh = Fresh(real["light"], seven)
    assert [lie for f in SCENES[scene](trace, frames=1) for lie in lies(f, fresh, watch) if layer in lie]


def test_a_forged_picture_and_forged_words_are_found(real, traces, seven, watch):
    fresh, frame = Fresh(real["light"], seven), next(iter(mv.animate.convolution(traces["light"], frames=2)))
    assert lies(frame, fresh, watch) == []
    tile = next(c for c in frame.claims if c.source[0] == "padded")
    text = next(c for c in frame.claims if c.source[0] == "kernel")
    pixels = frame.pixels.copy()
    pixels[tile.y + 20 * tile.zoom + tile.zoom // 2, tile.x + 20 * tile.zoom + tile.zoom // 2] ^= 1
    (lie,) = lies(watch.forged(frame, pixels=pixels), fresh, watch)
    assert lie.endswith("1 squares show another number")
    pixels = frame.pixels.copy()
    pixels[text.y - 8 : text.y + 8, text.x - 12 : text.x] = palette.PAPER
    assert any("not what stands there" in lie for lie in lies(watch.forged(frame, pixels=pixels), fresh, watch))
    for source, words, lie in ((text.source, "9.99", "'9.99' is not"), ((*text.source[:-1], 1), text.words, "numbers")):
        claim = Claim(source, text.values, text.x, text.y, words=words)
        watch.styles[claim] = watch.styles[text]
        assert any(lie in other for other in lies(watch.forged(frame, claims=(claim,)), fresh, watch))


def test_the_check_of_words_and_colours_knows_right_from_wrong():
    assert all(reads(w, v) for w, v in [("0.12", 0.1249), ("−1.5", -1.46), ("1.2e−03", 0.00123), ("0", 0.0)])
    assert all(reads(w, v) for w, v in [(">99.9 %", 0.9998), ("<0.1 %", 0.0), ("12.3 % of 60 right", 0.123)])
    assert not any(reads(w, v) for w, v in [("0.12", 0.13), ("0", 0.1), (">99.9 %", 0.99), ("1.2e−03", 0.0013)])
    for scale in (None, Scale(-3.0, 3.0, "layer"), Scale(0.0, 2.0, "layer")):
        ramp = palette.GREYS if scale is None else palette.RAMPS[scale.signed]
        np.testing.assert_allclose(np.diff(palette.values(ramp, scale)), 2 * half_step(scale))


@every_scene
def test_a_film_is_the_same_each_time_and_one_frame_per_movement_is_enough(scene, real, seven, tmp_path):
    film, again = (SCENES[scene](record(real["compact"], seven), frames=1) for _ in range(2))
    assert_same(film, film)
    assert len(list(film)) > 3
    paths = [film.save(tmp_path / "a.gif", progress=False), again.save(tmp_path / "b.gif", progress=False)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert (tmp_path / "a_sheet.png").exists()


def test_the_largest_film_of_the_deep_network_is_within_the_budget(traces, tmp_path):
    film = mv.animate.forward_propagation(traces["deep"])
    path = film.save(tmp_path / "film.gif", sheet=False, progress=False)
    *_, last = film
    with Image.open(path) as file:
        file.seek(file.n_frames - 1)
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), palette.PALETTE[last.pixels])


@every_scene
def test_a_batch_is_not_one_digit(scene, real, few):
    trace = record(real["light"], few.pixels[:2])
    refused(lambda: SCENES[scene](trace), "one digit", "2 inputs")


def test_wide_layers_have_room_or_are_refused(seven, watch):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 4096), nn.ReLU(), nn.Linear(4096, 10))
    assert lies_of(mv.animate.forward_propagation(record(flat, seven), frames=1), Fresh(flat, seven), watch) == []
    many = record(nn.Sequential(nn.Conv2d(1, 512, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)), seven)
    refused(lambda: list(mv.animate.forward_propagation(many, frames=1)), "512 maps", "no room")
    late = record(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.ReLU(), nn.Linear(2704, 10)), seven)
    refused(lambda: list(mv.animate.mnist_forward_propagation(late)), "'0' and '2'", "before the flatten")


def test_alt_texts_tell_the_answer_and_the_sizes(passes):
    fresh, trace = passes
    alt = {scene: make(trace).alt for scene, make in SCENES.items()}
    answer, pixel = int(fresh.shares.argmax()), mv.winning_path(trace)[-1].unit[1:]
    mixing = [n for n, layer in fresh.layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert alt["forward_propagation"].endswith(f"the answer is {answer}.")
    for words in (f"the answer is {answer}", str(pixel), f" {len(mixing) - 1} stages"):
        assert words in alt["mnist_forward_propagation"]
    sizes = re.findall(r"\d[\d×]*", alt["mnist_data_flow"])
    assert (sizes[0], sizes[-1], len(sizes)) == ("1×28×28", "10", 1 + len(mixing))
    assert set(sizes[1:]) <= {"×".join(map(str, out.shape[1:])) for out in fresh.out.values()}
    shown = int(fresh.out["conv1"][0].double().clamp(min=0).std((1, 2)).argmax())
    assert f"map of channel {shown} " in alt["convolution"]
    assert alt["convolution"].startswith(f"A {'×'.join(map(str, fresh.layers['conv1'].kernel_size))} kernel")
    pool = fresh.out["pool1"][0].double()
    assert f"channel {int(pool.std((1, 2)).argmax())} " in alt["max_pooling"]
    assert alt["max_pooling"].endswith(f"{pool.shape[1]}×{pool.shape[2]}.")


Training = tuple[nn.Module, mv.Timelapse]


@pytest.fixture(scope="module")
def training(loaded_once) -> Training:
    return scenes.trained("light", images=200, looks=4, epochs=1)


@pytest.fixture
def short(training, monkeypatch) -> dict[str, object]:
    """Trainings of a film are short here, and few digits judged; what was asked for is written down."""
    asked: dict[str, object] = {}

    def trained(model: str, looks: int) -> Training:
        asked.update(model=model, looks=looks)
        return training

    monkeypatch.setattr(scenes, "trained", trained)
    monkeypatch.setattr(scenes, "JUDGED", 80)
    return asked


@pytest.fixture
def mine(mnist) -> mv.Digits:
    return mv.Digits(mnist.test[2].images, None, "my drawing")


def test_an_example_is_the_first_of_its_kind_among_the_test_digits(mnist):
    for of in range(10):
        digit = scenes.example(of)
        assert torch.equal(digit.images[0], mnist.test.images[mnist.test.labels.tolist().index(of)])
        assert digit.labels.tolist() == [of]


@every_scene
def test_a_scene_of_one_pass_shows_the_digit_given_or_else_a_seven(scene, real, seven, mine):
    assert_same(mv.animate.film(scene, "light", frames=2), SCENES[scene](record(real["light"], seven), frames=2))
    expected = SCENES[scene](record(real["compact"], mine.pixels), frames=1)
    assert_same(mv.animate.film(scene, "compact", mine, frames=1), expected)


def test_a_film_is_of_eight_frames_a_movement_unless_told(traces):
    assert_same(mv.animate.film("convolution", "light"), mv.animate.convolution(traces["light"], frames=8))


def test_a_demo_is_of_ten_digits_and_of_yours(real, mine):
    digits = [scenes.example(d) for d in range(10)]
    traces = [record(real["compact"], digit.pixels) for digit in [*digits, mine]]
    ten = mv.animate.forward_propagation_demo(traces[:10], range(10), frames=1)
    assert_same(mv.animate.film("forward_propagation_demo", "compact", frames=1), ten)
    eleven = mv.animate.forward_propagation_demo(traces, [*range(10), None], frames=1)
    assert_same(mv.animate.film("forward_propagation_demo", "compact", mine, frames=1), eleven)
    assert eleven.alt.startswith("11 digits")


@pytest.mark.parametrize("own", [False, True])
def test_a_replay_watches_five_probes_or_yours_instead_of_the_first(own, short, training, mnist, mine):
    film = mv.animate.film("training_replay", "compact", mine if own else None, frames=2)
    assert short == {"model": "compact", "looks": 12}
    (model, lapse), probes = training, mnist.test.pixels[list(scenes.PROBES)]
    watched = lapse.moments(model, torch.cat([mine.pixels, probes[1:]]) if own else probes)
    judged = lapse.moments(model, mnist.test.pixels[:80], "fc1")
    assert_same(film, mv.animate.training_replay(watched, judged, mnist.test.labels[:80].tolist()))


def test_a_plane_of_many_digits_has_yours_as_one_more_without_a_label(short, training, mnist, mine):
    film = mv.animate.film("embedding_evolution", "light", mine, frames=1)
    assert short == {"model": "light", "looks": 6}
    model, lapse = training
    moments = lapse.moments(model, torch.cat([mnist.test.pixels[:80], mine.pixels]), "fc1")
    assert_same(film, mv.animate.embedding_evolution(moments, [*mnist.test.labels[:80].tolist(), None]))
    assert film.alt.startswith("80 digits")


BAD = {
    "a digit that is none": (lambda: scenes.example(10), "no such digit", "10", "0 to 9"),
    "an unknown scene": (lambda: mv.animate.film("convolutions"), "unknown scene", "did you mean 'convolution'"),
    "no scene": (lambda: mv.animate.film(""), "unknown scene", *scenes.SCENES),
    "no frames": (lambda: mv.animate.film("convolution", "light", frames=0), "frames for a movement", "1 or more"),
    "an unknown model": (lambda: mv.animate.film("convolution", "depp"), "depp"),
    "an unknown model in a demo": (lambda: mv.animate.film("forward_propagation_demo", "depp"), "depp"),
}
test_what_cannot_be_made_is_told = refusals(BAD)


def test_a_training_starts_afresh_ends_with_its_last_step_and_leaves_the_dice_of_others(training):
    torch.manual_seed(99)
    np.random.seed(99)
    before, other = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    path = project.models_folder() / "light" / "best_mnist_model.pth"  # of a file, its architecture is trained
    _, again = scenes.trained(str(path), images=200, looks=4, epochs=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(other, np.random.get_state()[1])
    (model, lapse), recipe = training, mv.recipes.tuned("light")
    assert all(same(weights, again.checkpoints[step]) for step, weights in lapse.checkpoints.items())
    with seeded(recipe.seed):
        fresh = mv.models.build("light")
    first, last = lapse.checkpoints[0], lapse.checkpoints[-(-200 // recipe.batch)]
    assert (min(lapse.checkpoints), max(lapse.checkpoints)) == (0, -(-200 // recipe.batch))
    assert same(fresh, first)
    assert same(model, last)
    assert not same(first, last)
