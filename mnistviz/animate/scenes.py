"""From the name of a scene to its film: the model, the digits and the training it needs, gathered."""

import math
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mnistviz.animate.backward_propagation import RATE
from mnistviz.animate.film import Film
from mnistviz.errors import choose, refuse
from mnistviz.learn import models, recipes
from mnistviz.learn.checkpoint import load_model, read_card
from mnistviz.learn.data import Digits, load_digits
from mnistviz.learn.train import fit
from mnistviz.look.capture import capture, record
from mnistviz.look.diary import Timelapse
from mnistviz.look.gradients import backward
from mnistviz.look.trace import Trace

PROBES = (0, 1, 8, 18, 61)  # of MNIST's test digits, to be watched in training: two easy ones, three that take longer
UNSURE = 2771  # a 4 among them that the five systems read rightly, none of them surely: its error can be seen
JUDGED = 1_000  # test digits that are looked at in a training


def example(of: int) -> Digits:
    """`example(7)`: the first 7 among MNIST's test digits."""
    test = load_digits("mnist").test
    labels = test.known_labels().tolist()
    refuse(of not in labels, "no such digit", given=of, allowed="0 to 9")
    return test[labels.index(of)]


def trained(model: str, images: int = 12_000, looks: int = 48, epochs: int = 2) -> tuple[nn.Module, Timelapse]:
    """`network, lapse = trained("deep")`: a short training, of an architecture or that on the card of a file."""
    card = {"architecture": model} if model in models.MODELS else read_card(model)
    train = load_digits("mnist").train.sample(images)
    recipe = recipes.TUNED.get(card["architecture"], recipes.TUNED["simple"]).but(epochs=epochs)
    lapse = Timelapse.over(epochs * math.ceil(len(train) / recipe.batch), looks)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = models.build(card["architecture"], card.get("layers"))
    fit(network, train, None, recipe, callbacks=lapse.callbacks)
    return network.cpu(), lapse


Draw = Callable[..., Film]  # a scene's function


def _one_pass(draw: Draw, model: str, digit: Digits | None, frames: int) -> Film:
    """A scene of one forward pass: of a digit of yours, or else of a 7."""
    return draw(record(load_model(model), (example(7) if digit is None else digit).pixels), frames=frames)


def one_step(model: nn.Module, pixels: Tensor, label: int, rate: float = RATE) -> tuple[Trace, Trace]:
    """`before, after = one_step(model, digit.pixels, 7)`: a pass gone back through, and that of a copy after a step."""
    with capture(model, gradients=True) as before:
        model(pixels)
    backward(before, labels=[label])
    moved = deepcopy(model).eval()
    cross_entropy(moved(pixels), torch.tensor([label], device=pixels.device)).backward()
    torch.optim.SGD(moved.parameters(), rate).step()
    return before, record(moved, pixels)


def _way_back(draw: Draw, model: str, digit: Digits | None, frames: int, label: int | None = None) -> Film:
    """From the label asked for, or the digit's own, or else the network's answer."""
    network, digit = load_model(model), load_digits("mnist").test[UNSURE] if digit is None else digit
    if label is None:
        label = int((network(digit.pixels).argmax(1) if digit.labels is None else digit.labels)[0])
    return draw(*one_step(network, digit.pixels, label), frames=frames)


def _demo(draw: Draw, model: str, digit: Digits | None, frames: int) -> Film:
    network, test = load_model(model), load_digits("mnist").test
    known = test.known_labels().tolist()
    digits = [test[known.index(d)] for d in range(10)]
    labels: list[int | None] = list(range(10))
    if digit is not None:
        digits, labels = [*digits, digit], [*labels, None]
    return draw([record(network, one.pixels) for one in digits], labels, frames=frames)


def _training_replay(draw: Draw, model: str, digit: Digits | None, frames: int) -> Film:
    network, lapse = trained(model, looks=6 * frames)
    test = load_digits("mnist").test
    probes, judged = test[list(PROBES)], test[:JUDGED]
    if digit is not None:
        probes = Digits(torch.cat([digit.images, probes.images[1:]]), None, digit.source)
    watched = lapse.moments(network, probes.pixels)
    many = lapse.moments(network, judged.pixels, watched[0].trace.last_linear())
    return draw(watched, many, judged.known_labels().tolist())


def _embedding_evolution(draw: Draw, model: str, digit: Digits | None, frames: int) -> Film:
    network, lapse = trained(model, looks=6 * frames)
    judged = load_digits("mnist").test[:JUDGED]
    labels: list[int | None] = judged.known_labels().tolist()
    if digit is not None:
        judged, labels = Digits(torch.cat([judged.images, digit.images]), None, judged.source), [*labels, None]
    last = record(network, judged[0].pixels).last_linear()
    return draw(lapse.moments(network, judged.pixels, last), labels)


SCENES: dict[str, Draw] = {
    "mnist_data_flow": _one_pass,
    "forward_propagation": _one_pass,
    "forward_propagation_demo": _demo,
    "mnist_forward_propagation": _one_pass,
    "backward_propagation": _way_back,
    "convolution": _one_pass,
    "max_pooling": _one_pass,
    "training_replay": _training_replay,
    "embedding_evolution": _embedding_evolution,
}


def film(
    scene: str, model: str = "deep", digit: Digits | None = None, *, frames: int = 8, label: int | None = None
) -> Film:
    """`film("convolution", "light", mv.read_digit("my_seven.png")).save("mine.gif")`

    Without a digit of yours it is the first 7 of MNIST's test digits, or, in `backward_propagation`, one that
    is read less surely. That scene goes back from the digit's label or, if nobody has named it, from the network's
    answer; another `label` turns the error round. The two scenes of a training train the model's architecture
    anew, for seconds; there a digit of yours is watched among the others.
    """
    make = choose("scene", scene, SCENES)
    refuse(frames < 1, "frames for a movement", given=frames, allowed="1 or more; 8 is smooth")
    none, fix = label is None or make is _way_back, "leave it out, or take backward_propagation"
    refuse(not none, f"{scene} goes back from no label", given=label, fix=fix)
    draw = getattr(import_module(f"mnistviz.animate.{scene}"), scene)  # file and function have the scene's name
    return make(draw, model, digit, frames) if label is None else make(draw, model, digit, frames, label)
