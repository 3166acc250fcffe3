"""From the name of a scene to its film: the model, the digits and the training it needs, gathered."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mnistviz.animate.convolution import convolution
from mnistviz.animate.embedding_evolution import embedding_evolution
from mnistviz.animate.film import Film
from mnistviz.animate.forward_propagation import forward_propagation
from mnistviz.animate.forward_propagation_demo import forward_propagation_demo
from mnistviz.animate.max_pooling import max_pooling
from mnistviz.animate.mnist_data_flow import mnist_data_flow
from mnistviz.animate.mnist_forward_propagation import mnist_forward_propagation
from mnistviz.animate.training_replay import training_replay
from mnistviz.errors import MnistvizError, choose
from mnistviz.learn import models, recipes
from mnistviz.learn.checkpoint import load_model, read_card
from mnistviz.learn.data import Digits, load_digits
from mnistviz.learn.train import fit
from mnistviz.look.capture import capture
from mnistviz.look.diary import Moment, Timelapse
from mnistviz.look.trace import Trace

PROBES = (0, 1, 8, 18, 61)  # of MNIST's test digits, to be watched in training: two easy ones, three that take longer
JUDGED = 1_000  # test digits that are looked at in a training


def record(model: nn.Module, digit: Digits) -> Trace:
    """`record(model, digits.test[0])`: the trace of one digit."""
    with capture(model) as trace, torch.no_grad():
        model(digit.pixels)
    return trace


def example(of: int) -> Digits:
    """`example(7)`: the first 7 among MNIST's test digits."""
    test = load_digits("mnist").test
    found = np.flatnonzero(test.known_labels().numpy() == of)
    if not len(found):
        raise MnistvizError("no such digit", given=of, allowed="0 to 9")
    return test[int(found[0])]


@dataclass
class Training:
    """A training to be shown: `Training("deep").moments(inputs)`; short, for a film and not for a prize."""

    architecture: str
    images: int = 12_000
    looks: int = 48
    epochs: int = 2

    def __post_init__(self) -> None:
        train = load_digits("mnist").train.sample(self.images)
        recipe = recipes.tuned(self.architecture).but(epochs=self.epochs)
        self.lapse = Timelapse.over(self.epochs * math.ceil(len(train) / recipe.batch), self.looks)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.model = models.build(self.architecture)
        fit(self.model, train, None, recipe, callbacks=self.lapse.callbacks)
        self.model.cpu()

    def moments(self, digits: Digits, layers: str | None = None) -> list[Moment]:
        return self.lapse.moments(self.model, digits.pixels, layers)

    @property
    def last(self) -> str:
        """The layer that makes the scores."""
        return [name for name, module in self.model.named_modules() if isinstance(module, nn.Linear)][-1]


@dataclass(frozen=True)
class Order:
    """What somebody asked for: a model, perhaps a digit of their own, and how smooth it shall move."""

    model: str
    digit: Digits | None
    frames: int

    def trace(self) -> Trace:
        return record(load_model(self.model), example(7) if self.digit is None else self.digit)

    def training(self) -> Training:
        name = self.model if self.model in models.MODELS else read_card(self.model)["architecture"]
        return Training(name, looks=6 * self.frames)


def _demo(order: Order) -> Film:
    model, test = load_model(order.model), load_digits("mnist").test
    shown = [test[int((test.known_labels() == d).nonzero()[0])] for d in range(10)]
    labels: list[int | None] = list(range(10))
    if order.digit is not None:
        shown, labels = [*shown, order.digit], [*labels, None]
    return forward_propagation_demo([record(model, digit) for digit in shown], labels, frames=order.frames)


def _training_replay(order: Order) -> Film:
    training, test = order.training(), load_digits("mnist").test
    probes = test[list(PROBES)]
    if order.digit is not None:
        probes = Digits(torch.cat([order.digit.images, probes.images[1:]]), None, order.digit.source)
    judged = test[:JUDGED]
    watched, all_of_them = training.moments(probes), training.moments(judged, training.last)
    return training_replay(watched, all_of_them, judged.known_labels().tolist())


def _embedding_evolution(order: Order) -> Film:
    training, judged = order.training(), load_digits("mnist").test[:JUDGED]
    labels: list[int | None] = judged.known_labels().tolist()
    if order.digit is not None:
        judged, labels = Digits(torch.cat([judged.images, order.digit.images]), None, judged.source), [*labels, None]
    return embedding_evolution(training.moments(judged, training.last), labels)


SCENES: dict[str, Callable[[Order], Film]] = {
    "mnist_data_flow": lambda order: mnist_data_flow(order.trace(), frames=order.frames),
    "forward_propagation": lambda order: forward_propagation(order.trace(), frames=order.frames),
    "forward_propagation_demo": _demo,
    "mnist_forward_propagation": lambda order: mnist_forward_propagation(order.trace(), frames=order.frames),
    "convolution": lambda order: convolution(order.trace(), frames=order.frames),
    "max_pooling": lambda order: max_pooling(order.trace(), frames=order.frames),
    "training_replay": _training_replay,
    "embedding_evolution": _embedding_evolution,
}


def film(scene: str, model: str = "deep", digit: Digits | None = None, *, frames: int = 8) -> Film:
    """`film("convolution", "light", mv.read_digit("my_seven.png")).save("mine.gif")`

    Without a digit of yours it is the first 7 of MNIST's test digits. The two scenes of a training train
    the model's architecture anew, for seconds; there a digit of yours is watched among the others.
    """
    make = choose("scene", scene, SCENES)
    if frames < 1:
        raise MnistvizError("frames for a movement", given=frames, allowed="1 or more; 8 is smooth")
    return make(Order(model, digit, frames))
