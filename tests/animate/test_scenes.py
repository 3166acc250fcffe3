"""From the name of a scene to its film: the right model, the right digits, a small training that disturbs nothing."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import mnistviz as mv
from mnistviz import studio
from mnistviz.animate import Film
from mnistviz.learn.data import DigitSet

ONE_PASS = ("mnist_data_flow", "forward_propagation", "mnist_forward_propagation", "convolution", "max_pooling")
LEARNING = ("training_replay", "embedding_evolution")


@pytest.fixture(autouse=True, scope="module")
def loaded_once(mnist: DigitSet) -> Iterator[None]:
    """The digits of the session instead of the files, every time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studio, "load_digits", {"mnist": mnist}.__getitem__)
        yield


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Trainings of a film are of 200 digits, one epoch and four looks here; what was asked for is written down."""
    asked: dict[str, object] = {}

    def training(architecture: str, looks: int) -> studio.Training:
        asked.update(architecture=architecture, looks=looks)
        return SMALL(architecture)

    monkeypatch.setattr(studio, "Training", training)
    monkeypatch.setattr(studio, "JUDGED", 80)
    return asked


SMALL: Callable[[str], studio.Training] = partial(studio.Training, images=200, looks=4, epochs=1)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What each scene of the library is given, as it is given."""
    seen: dict[str, tuple] = {}
    for name in ("data_flow", "forward", "network", "convolution", "max_pooling", *LEARNING, "demo"):
        plain = getattr(mv.animate, name)

        def call(*given: object, _name: str = name, _plain: Callable[..., Film] = plain, **named: object) -> Film:
            seen[_name] = (given, named)
            return _plain(*given, **named)

        monkeypatch.setattr(mv.animate, name, call)
    return seen


# ——— digits and records ———


@pytest.mark.parametrize("of", range(10))
def test_an_example_is_the_first_of_its_kind_among_the_test_digits(of: int, mnist: DigitSet) -> None:
    found = studio.example(of)
    where = next(i for i, label in enumerate(mnist.test.labels.tolist()) if label == of)
    assert len(found) == 1
    assert torch.equal(found.images[0], mnist.test.images[where])
    assert found.labels.tolist() == [of]


@pytest.mark.parametrize("of", [-1, 10, 12])
def test_there_are_examples_of_ten_digits_only(of: int) -> None:
    with pytest.raises(mv.MnistvizError, match=rf"(?s)no such digit.*{of}.*0 to 9"):
        studio.example(of)


def test_a_record_is_a_pass_without_gradients(mnist: DigitSet) -> None:
    model = mv.load_model("light")
    trace = studio.record(model, mnist.test[3])
    with torch.no_grad():
        assert torch.equal(trace.output, model(mnist.test[3].pixels))
    assert not any(step.result.requires_grad for step in trace)


# ——— scenes ———


@pytest.mark.parametrize("scene", ONE_PASS)
@pytest.mark.parametrize("own", [False, True])
def test_a_scene_of_one_pass_shows_the_digit_given_or_else_a_seven(
    scene: str, own: bool, drawn: dict[str, tuple], mnist: DigitSet
) -> None:
    digit = mv.Digits(mnist.test[2].images, None, "my drawing") if own else None
    film = mv.animate.film(scene, "light", digit, frames=2)
    ((trace,), named) = drawn.popitem()[1]
    assert not drawn
    assert named == {"frames": 2}
    expected = mnist.test[2] if own else studio.example(7)
    assert torch.equal(trace.input, expected.pixels)
    assert trace.keys == [name for name, _ in mv.models.light().named_children()]
    weights = mv.load_model("light").conv2.weight
    assert torch.equal(trace["conv2"].weight, weights)
    assert next(iter(film)).claims


def test_a_demo_is_of_ten_digits_and_of_yours(drawn: dict[str, tuple], mnist: DigitSet) -> None:
    mv.animate.film("forward_propagation_demo", "compact", frames=1)
    (traces, labels), _ = drawn["demo"]
    assert labels == list(range(10))
    for label, trace in enumerate(traces):
        assert torch.equal(trace.input, studio.example(label).pixels)
    mine = mv.Digits(mnist.test[2].images, None, "my drawing")
    film = mv.animate.film("forward_propagation_demo", "compact", mine, frames=1)
    (traces, labels), _ = drawn["demo"]
    assert labels == [*range(10), None]
    assert torch.equal(traces[-1].input, mine.pixels)
    assert film.alt.startswith("11 digits")
    assert {frame.of for frame in film} == set(range(11))


def test_a_replay_watches_five_probes_or_yours_instead_of_the_first(
    short: dict[str, object], drawn: dict[str, tuple], mnist: DigitSet
) -> None:
    film = mv.animate.film("training_replay", "compact", frames=2)
    assert short == {"architecture": "compact", "looks": 12}
    (watched, judged, labels), _ = drawn["training_replay"]
    assert torch.equal(watched[0].trace.input, mnist.test.pixels[list(studio.PROBES)])
    assert torch.equal(judged[0].trace.input, mnist.test.pixels[:80])
    assert labels == mnist.test.labels[:80].tolist()
    assert all(moment.trace.keys == ["fc2"] for moment in judged)
    assert len(judged[-1].trace.output) == 80
    assert [moment.step for moment in watched] == [0, 1, 2]
    assert {frame.of for frame in film} == {0, 1, 2}
    mine = mv.Digits(mnist.test[2].images, None, "my drawing")
    mv.animate.film("training_replay", "compact", mine, frames=1)
    (watched, _, _), _ = drawn["training_replay"]
    assert torch.equal(watched[0].trace.input[:1], mine.pixels)
    assert torch.equal(watched[0].trace.input[1:], mnist.test.pixels[list(studio.PROBES[1:])])


def test_a_plane_of_many_digits_has_yours_as_one_more_without_a_label(
    short: dict[str, object], drawn: dict[str, tuple], mnist: DigitSet
) -> None:
    mine = mv.Digits(mnist.test[2].images, None, "my drawing")
    film = mv.animate.film("embedding_evolution", "compact", mine, frames=1)
    (moments, labels), _ = drawn["embedding_evolution"]
    assert labels == [*mnist.test.labels[:80].tolist(), None]
    assert len(moments[0].trace.input) == 81
    assert torch.equal(moments[0].trace.input[-1:], mine.pixels)
    assert film.alt.startswith("80 digits")


def test_the_scenes_of_a_training_take_the_architecture_from_the_card_of_a_file(
    short: dict[str, object], drawn: dict[str, tuple]
) -> None:
    path = mv.project.models_folder() / "compact" / "best_mnist_model.pth"
    mv.animate.film("embedding_evolution", str(path), frames=3)
    assert short == {"architecture": "compact", "looks": 18}


def test_a_film_is_of_eight_frames_a_movement_unless_told(drawn: dict[str, tuple]) -> None:
    mv.animate.film("convolution", "light")
    assert drawn["convolution"][1] == {"frames": 8}


@pytest.mark.parametrize("scene", ["convolutions", "flight", ""])
def test_an_unknown_scene_lists_those_there_are(scene: str) -> None:
    with pytest.raises(mv.MnistvizError, match="unknown scene") as caught:
        mv.animate.film(scene)
    assert all(name in str(caught.value) for name in studio.SCENES)
    assert len(studio.SCENES) == 8


@pytest.mark.parametrize("scene", studio.SCENES)
def test_an_unknown_model_is_told_in_every_scene(scene: str) -> None:
    with pytest.raises(mv.MnistvizError, match=r"depp|no such"):
        mv.animate.film(scene, "depp")


@pytest.mark.parametrize("frames", [0, -1])
def test_a_movement_takes_a_frame_at_least(frames: int) -> None:
    with pytest.raises(mv.MnistvizError, match=r"(?s)frames for a movement.*1 or more"):
        mv.animate.film("convolution", "light", frames=frames)


# ——— a training for a film ———


@pytest.fixture(scope="module")
def training(loaded_once: None) -> studio.Training:
    return SMALL("light")


def test_a_training_leaves_the_dice_of_others_as_they_were() -> None:
    torch.manual_seed(123)
    np.random.seed(123)
    before, other = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    SMALL("compact")  # with dropout
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(other, np.random.get_state()[1])


def test_a_training_is_the_same_whatever_was_drawn_before(training: studio.Training) -> None:
    torch.manual_seed(99)
    again = SMALL("light")
    for step, weights in training.lapse.checkpoints.items():
        assert all(torch.equal(w, again.lapse.checkpoints[step][name]) for name, w in weights.items())


def test_a_training_is_looked_at_from_before_its_first_step_to_its_last(training: studio.Training) -> None:
    recipe = mv.recipes.tuned("light")
    steps = -(-200 // recipe.batch)
    kept = list(training.lapse.checkpoints)
    assert (kept[0], kept[-1]) == (0, steps)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        fresh = mv.models.build("light")
    first, last = training.lapse.checkpoints[0], training.lapse.checkpoints[steps]
    assert all(torch.equal(w, first[name]) for name, w in fresh.state_dict().items())
    assert all(torch.equal(w, last[name]) for name, w in training.model.state_dict().items())
    assert not all(torch.equal(first[name], last[name]) for name in first)


def test_moments_of_a_training_are_of_the_digits_given(training: studio.Training, mnist: DigitSet) -> None:
    moments = training.moments(mnist.test[:3], training.last)
    assert [moment.step for moment in moments] == list(training.lapse.checkpoints)
    assert all(torch.equal(moment.trace.input, mnist.test.pixels[:3]) for moment in moments)
    assert moments[0].trace.keys == ["fc1"]


@pytest.mark.parametrize("name", mv.models.MODELS)
def test_the_last_layer_is_the_one_that_makes_the_scores(name: str) -> None:
    hollow = studio.Training.__new__(studio.Training)
    hollow.model = mv.models.build(name)
    linear = [n for n, layer in hollow.model.named_children() if isinstance(layer, nn.Linear)]
    assert hollow.last == linear[-1]
