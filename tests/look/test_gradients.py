"""Every gradient is the sum its ledger says: against plain autograd, finite differences and loops, on any model."""

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo
from helpers import refusals, refused
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils._pytree import tree_leaves, tree_map_only
from zoo import Case, assert_equal, facts, layers, make, noise, seeded, slopes_by_hand, unsettle

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.learn.models import Normalise
from mnistviz.look import chain_rule
from mnistviz.look.trace import Trace

EXACT = 1e-10  # in float64, as a share of the largest gradient of the layer
SIX = {"simple": 10, "light": 30, "deep": 4, "compact": 30, "pooled": 6, "sprint": 20}  # weights to move, in each mode


def there_and_back(model: nn.Module, *inputs: Tensor, loss: Callable | None = None, **options: object) -> Trace:
    """A pass gone back through, from labels or from a loss of what came out."""
    labels = options.pop("labels", None)
    with mv.capture(model, gradients=True, **options) as trace:
        out = model(*inputs)
    return mv.backward(trace, loss and loss(out), labels=labels)


def squares(out: object) -> Tensor:
    """A loss of all numbers in an answer of any form."""
    return sum(t.double().square().sum() for t in tree_leaves(out) if isinstance(t, Tensor) and t.requires_grad)


def places(shape: tuple[int, ...], count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """So many indices into this shape, by dice; all, if there are no more."""
    size = int(np.prod(shape))
    chosen = np.random.default_rng(seed).choice(size, min(count, size), replace=False)
    return [tuple(map(int, np.unravel_index(at, shape))) for at in chosen]


@dataclass
class Way:
    """A pass of one of the six, gone back through, and what it is measured by."""

    model: nn.Sequential
    x: Tensor
    labels: Tensor
    trace: Trace
    plain: dict[str, Tensor]  # by torch.autograd.grad, of a pass that nobody listened to

    def largest(self, layer: str) -> float:
        return max(float(self.plain[f"{layer}.{name}"].abs().max()) for name in self.trace[layer].gradients)


def gone(model: nn.Sequential, mnist: DigitSet) -> Way:
    """Three digits, and labels that are wrong, so that there is much to learn."""
    x, labels = mnist.test[:3].pixels.to(model.fc1.weight.dtype), (mnist.test[:3].known_labels() + 1) % 10
    with seeded(5):
        plain = slopes_by_hand(model, x, labels)
    with seeded(5):
        return Way(model, x, labels, there_and_back(model, x, labels=labels, as_is=True), plain)


@pytest.fixture(scope="module", params=[(name, training) for name in SIX for training in (False, True)], ids=str)
def way(request, reference, mnist) -> Way:
    name, training = request.param
    with seeded():
        model = copy.deepcopy(reference[name]) if name in reference else mv.models.build(name)
    return gone(model.double().train(training), mnist)


def check_way(way: Way, tolerance: float, count: int) -> None:
    """δ of every unit, every gradient, and the replay; then ledgers of so many weights and biases of each layer."""
    trace, plain = way.trace, way.plain
    for key, step in trace.items():
        assert (step.delta - plain[key]).abs().max() <= tolerance * plain[key].abs().max()
    proof = mv.replay_backward(trace)
    assert proof.differences.keys() == plain.keys()
    assert (proof.skipped, proof.restarted) == ((), ())
    assert proof.largest_share <= tolerance
    assert (proof.output - plain["input"]).abs().max() <= tolerance * plain["input"].abs().max()
    weighted = trace.of_kind("Conv2d", "Linear", "BatchNorm1d", "BatchNorm2d")
    assert 2 * len(weighted) == len(list(way.model.parameters()))
    for key, step in weighted.items():
        for name in ("weight", "bias"):
            expected, slack = plain[f"{key}.{name}"], tolerance * way.largest(key)
            assert (step.gradients[name] - expected).abs().max() <= slack
            for place in places(expected.shape, count):
                ledger = mv.backward_ledger(trace, key, **{name: place})
                assert ledger.recorded == float(step.gradients[name][place])
                assert abs(ledger.total - float(expected[place])) <= slack, (key, name, place)
                assert ledger.products.numel() * step.result.shape[1] == step.result.numel()


def test_every_delta_and_the_ledger_of_every_weight_are_those_of_plain_autograd(way, mnist):
    """In float32 too, where a batch norm over three digits takes nearly equal numbers from one another."""
    check_way(way, EXACT, 15)
    over_batch = any(step.training for step in way.trace.of_kind("BatchNorm2d").values())
    check_way(gone(copy.deepcopy(way.model).float(), mnist), 2e-4 if over_batch else 5e-6, 5)


def test_delta_of_a_unit_is_the_sum_over_what_it_fed(way):
    """The slopes are those of the next layer by finite difference; a batch norm in training is fed a whole channel."""
    layers = dict(way.model.named_children())
    following = dict(zip(way.trace.keys, [*way.trace.keys[1:], "loss"], strict=True))
    for key, step in way.trace.items():
        for place in places(step.result.shape, 3, seed=len(key)):
            ledger = mv.backward_ledger(way.trace, key, unit=place[1:], digit=place[0])
            assert abs(ledger.total - float(way.plain[key][place])) <= EXACT * float(way.plain[key].abs().max())
            assert ledger.recorded == float(step.delta[place])
            assert {layer for layer, _ in ledger.fed} <= {following[key]}
        if key == way.trace.keys[-1]:
            assert (ledger.deltas.tolist(), ledger.fed) == ([1.0], (("loss", ()),))
            continue
        after, fed = way.trace[following[key]], [place for _, place in ledger.fed]
        if after.training and after.kind.startswith("BatchNorm"):
            assert len(fed) == after.result[:, 0].numel()
            assert {channel for _, channel, *_ in fed} == {place[1]}
        if after.mask is not None or (after.kind == "MaxPool2d" and (step.result == step.result[place]).sum() > 1):
            continue  # chance, or of several equal values the first
        bump, layer = torch.zeros_like(step.result), layers[following[key]]
        bump[place] = 1e-5
        with torch.no_grad():
            slopes = (layer(step.result + bump) - layer(step.result - bump)) / 2e-5
        stated = torch.zeros_like(slopes)
        for at, factor in zip(fed, ledger.factors, strict=True):
            stated[at] = factor
        torch.testing.assert_close(stated, slopes, rtol=1e-6, atol=1e-6)


def test_moving_a_weight_changes_the_loss_as_its_ledger_says(way, request):
    """Central differences of 200 random weights in all, a hundred in evaluation and a hundred in training."""
    learned = [(key, name) for key, step in way.trace.items() for name in step.gradients]
    dice, (architecture, _) = np.random.default_rng(0), request.node.callspec.params["way"]
    for i in range(SIX[architecture]):
        key, name = learned[dice.integers(len(learned))]
        weights, losses = way.model.get_submodule(key).get_parameter(name).data, []
        (place,) = places(weights.shape, 1, seed=i)
        before = float(weights[place])
        for moved in (before + 1e-6, before - 1e-6):
            weights[place] = moved
            with seeded(5), torch.no_grad():
                losses.append(float(F.cross_entropy(way.model(way.x), way.labels)))
        weights[place] = before
        total = mv.backward_ledger(way.trace, key, **{name: place}).total
        assert abs(total - (losses[0] - losses[1]) / 2e-6) <= 1e-7 * way.largest(key), (key, name, place)


def check_layer(layer: nn.Module, x: Tensor) -> None:
    """What a layer hands back is autograd's; what it passes on is the other side of that; ledgers add up."""
    with seeded(5):
        trace = there_and_back(nn.Sequential(layer), x, loss=lambda out: (out * noise(*out.shape)).sum(), as_is=True)
    step, proof = trace["0"], mv.replay_backward(trace)
    back, change = chain_rule.BACK[step.kind](step, step.delta), noise(*x.shape, seed=1)
    torch.testing.assert_close(back, trace.delta, rtol=0, atol=1e-9)
    there, again = (chain_rule.passed_on(step, change) * step.delta).sum(), (change * back).sum()
    torch.testing.assert_close(there, again, rtol=1e-9, atol=1e-9)
    assert (proof.skipped, proof.restarted) == ((), ("0",))  # it begins at δ, since the loss is not of labels
    assert set(proof.differences) >= {f"0.{name}" for name in step.gradients}
    assert "input" in proof.differences or trace.elsewhere
    assert proof.largest <= 1e-9
    for name, gradient in step.gradients.items():
        for place in places(gradient.shape, 12):
            ledger = mv.backward_ledger(trace, "0", **{name: place})
            assert ledger.total == pytest.approx(float(gradient[place]), rel=1e-9, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=60, deadline=None)
@given(drawn=layers())
def test_any_convolution_pooling_and_norm_hands_back_what_autograd_does(drawn):
    check_layer(*drawn)


OTHERS = (
    *(nn.Linear(4, 2), nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False).eval(), Normalise(0.2, 0.4)),
    *(nn.ReLU(inplace=True), nn.LeakyReLU(0.3, inplace=True), nn.Sigmoid(), nn.Tanh(), nn.Identity()),
    *(softmax(dim) for softmax in (nn.Softmax, nn.LogSoftmax) for dim in (0, 1, -1)),
    *(nn.Flatten(), nn.Flatten(0, 1), nn.Flatten(2), nn.Dropout(0.5).eval(), nn.Dropout2d(0.5)),
    *(drop(p, flag) for drop in (nn.Dropout, nn.Dropout1d) for p in (0, 0.4, 1) for flag in (False, True)),
)


@pytest.mark.filterwarnings("ignore:dropout2d")
def test_so_does_a_layer_of_every_other_kind():
    kinds = {type(layer).__name__ for layer in OTHERS}
    assert kinds | {"Conv2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "BatchNorm2d"} == set(chain_rule.BACK)
    for layer in OTHERS:
        check_layer(layer.double(), noise(2, 3, 4))


def exact(name: str) -> Case:
    """In float64, except where the model is there for its precision."""
    case = make(name)
    if name != "bfloat16":
        case.model.double()
        wide = tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, (case.args, case.kwargs))
        case.args, case.kwargs = wide
    return case


@pytest.mark.parametrize("as_is", [False, True])
@pytest.mark.parametrize("name", zoo.ZOO)
def test_going_back_through_any_model_claims_nothing_false_and_leaves_no_mark(name, as_is):
    """With `as_is` what a plain pass leaves: buffers and random state of a twin."""
    twin, case = exact(name), exact(name)
    before, plain = facts(unsettle(case.model)), unsettle(twin.model) if as_is else twin.model.eval()
    with seeded(5):
        start, expected, end = torch.get_rng_state(), plain(*twin.args, **twin.kwargs), torch.get_rng_state()
    with seeded(5):
        with mv.capture(case.model, gradients=True, as_is=as_is) as trace:
            output = case()
        proof = mv.replay_backward(mv.backward(trace, squares(output)))
        assert torch.equal(torch.get_rng_state(), end if as_is else start)
    after = facts(case.model)
    if as_is:  # what the pass itself does to its buffers stays
        assert_equal(list(case.model.buffers()), list(twin.model.buffers()))
        del before["buffers"], after["buffers"]
        assert [step.training for step in trace.steps] == [before["modes"][step.name] for step in trace.steps]
    assert after == before
    assert_equal(output, expected)

    reached = {key for key, step in trace.items() if step.delta is not None}
    assert reached == {*proof.restarted, *(set(trace) & set(proof.differences))}
    assert set(proof.skipped) == {key for key in reached if not chain_rule.is_known(trace[key])}
    if name == "somebody_elses_hooks":  # one of them doubles what comes out of a layer
        doubled = trace["conv1"].gradients["weight"].abs().max()
        assert proof.differences["conv1.weight"] == pytest.approx(float(doubled) / 2)
    else:
        assert proof.largest_share <= 0.05 if name == "bfloat16" else proof.largest <= 1e-9


class Forked(nn.Sequential):  # a dropout in evaluation hands on the very tensor that another layer is given too
    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x)
        return self[2](x) + self[2](self[1](x))


MASKED = nn.Sequential(nn.Tanh(), prune.l1_unstructured(nn.Linear(6, 6), "weight", 3))
MORE = {  # uses than those of a recorded layer by the next
    "in the loss": lambda: (m := make("small").model, zoo.images(), lambda out: squares([out, *m.parameters()])),
    "in a layer left out": lambda: (make("tied_weights").model, torch.randn(2, 6), squares, "0"),
    "under a mask": lambda: (MASKED, torch.randn(2, 6), squares),
    "of one tensor": lambda: (Forked(nn.Linear(6, 6), nn.Dropout(), nn.Linear(6, 6)), torch.randn(2, 6), squares),
    "in a container": lambda: (make("nested").model, zoo.images(), squares, "*"),
}


@pytest.mark.parametrize("name", MORE)
def test_a_gradient_of_which_the_record_holds_a_part_is_not_claimed(name):
    """Either a sum is right, or it is refused."""
    model, x, loss, *layers = MORE[name]()
    trace = there_and_back(model.double(), x.double(), loss=loss, layers=layers or None)
    assert mv.replay_backward(trace).largest <= 1e-9
    for key, step in trace.items():
        questions = [{what: (0,) * step.gradients[what].ndim} for what in {"weight", "bias"} & set(step.gradients)]
        for question in [*questions, {"unit": (0,) * (step.result.ndim - 1)}]:
            with suppress(mv.MnistvizError):
                ledger = mv.backward_ledger(trace, key, **question)
                assert ledger.total == pytest.approx(ledger.recorded, abs=1e-9)


def test_a_ledger_covers_every_use_of_shared_weights_and_what_lies_between_layers_is_named():
    conv, tied, residual = nn.Conv2d(2, 2, 3, padding=1).double(), exact("tied_weights"), exact("residual")
    twice = there_and_back(nn.Sequential(conv, nn.Tanh(), conv), noise(3, 2, 4, 5), loss=squares)
    ends = there_and_back(tied.model, *tied.args, loss=squares)
    for trace, keys, place, shape in ((twice, ("0:0", "0:1"), (1, 0, 2, 1), (6, 4, 5)), (ends, "02", (3, 4), (4,))):
        first, second = (mv.backward_ledger(trace, key, weight=place) for key in keys)
        assert torch.equal(first.products, second.products)
        assert first.products.shape == shape
        assert first.total == pytest.approx(first.recorded, rel=1e-12)
        assert mv.replay_backward(trace).restarted == (keys[1],)  # where the loss begins
    trace = there_and_back(residual.model, *residual.args, labels=[0, 4])
    assert mv.replay_backward(trace).restarted == ("conv2", "conv1")
    for key, place in (("conv1", (1, 0, 2, 2)), ("conv2", (0, 1, 0, 1)), ("fc", (4, 1))):
        ledger = mv.backward_ledger(trace, key, weight=place)
        assert ledger.total == pytest.approx(ledger.recorded, rel=1e-12)
    refused(lambda: mv.backward_ledger(trace, "conv1", unit=(0, 3, 3)), "output of 'conv1' also went", "as modules")


def test_a_trace_can_be_gone_back_through_from_one_loss_after_another(model, x):
    with mv.capture(model, gradients=True) as trace:
        out = model(x)
    for labels in ([7, 1], torch.tensor([0, 3], dtype=torch.uint8), np.array([9, 9])):
        fresh = there_and_back(model, x, labels=labels)
        mv.backward(trace, labels=labels)
        for step, other in zip(trace.steps, fresh.steps, strict=True):
            assert_equal((step.delta, step.gradients), (other.delta, other.gradients))
        assert (trace.loss, trace.labels.tolist()) == (fresh.loss, list(labels))
    assert all(p.grad is None for p in model.parameters())
    loss = F.cross_entropy(out, torch.tensor([2, 5]), label_smoothing=0.1)
    mv.backward(trace, loss)
    assert (trace.loss, trace.labels) == (loss.item(), None)
    assert mv.replay_backward(trace).restarted == ("fc2",)
    loss.backward()
    for name, weights in model.named_parameters():
        layer, what = name.split(".")
        assert_equal(trace[layer].gradients[what], weights.grad)
    refused(lambda: mv.backward(trace, labels=[7, 1]), "a second time", "before loss.backward()", "retain_graph=True")


def test_ledgers_and_proofs_are_printed(golden, mnist):
    """With whole numbers, so that every sum is exact."""
    x, steps = zoo.whole_pixels(mnist.test[:2]), torch.arange(-6.0, 6)
    trace = there_and_back(zoo.whole_numbers(), x, loss=lambda out: (out * steps).sum())
    golden("a weight of a convolution", mv.backward_ledger(trace, "0", weight=(1, 0, 2, 1)))
    golden("a bias of a linear layer", mv.backward_ledger(trace, "4", bias=4))
    golden("a unit", mv.backward_ledger(trace, "3", unit=76, digit=1))
    golden("a proof", mv.replay_backward(trace))


def small(grad: Callable = torch.enable_grad, **options: object) -> Trace:
    """A pass that nobody has gone back through yet."""
    case = make("small")
    with grad(), mv.capture(case.model, **{"gradients": True, **options}) as trace:
        case()
    return trace


def back(loss: Callable | None = None, **labels: object) -> Callable[[], Trace]:
    return lambda: there_and_back(make("small").model, zoo.images(), loss=loss, **labels)


def ask(layer: str, model: nn.Module | None = None, x: Tensor | None = None, **what: object) -> Callable[[], object]:
    model, x = model or make("small").model, zoo.images() if x is None else x
    return lambda: mv.backward_ledger(there_and_back(model, x, labels=[1, 2]), layer, **what)


NOTHING = ("depends on nothing that was recorded", "outside torch.no_grad() and torch.inference_mode()")
NOT_YET = ("nobody has gone back through this trace yet", "backward(trace, labels=[7])")
SQUARES, ODD = torch.ones(1, 1, 8, 8).long(), nn.Sequential(nn.Sigmoid(), nn.ReLU(inplace=True))
conv = nn.Conv2d(1, 1, 3, padding=1)
TWICE = nn.Sequential(conv, nn.MaxPool2d(2), conv, nn.Flatten())
BAD = {
    "no gradients recorded": (lambda: mv.backward(small(gradients=False), labels=[1, 2]), "gradients=True"),
    "without gradients": (lambda: mv.backward(small(torch.no_grad), labels=[1, 2]), *NOTHING),
    "in inference mode": (lambda: mv.backward(small(torch.inference_mode), labels=[1, 2]), *NOTHING),
    "whole numbers": (lambda: there_and_back(nn.Embedding(2, 3), SQUARES, loss=squares), "to whole numbers", "int64"),
    "neither loss nor labels": (back(), "a loss, or the labels", "labels=[7]"),
    "both": (back(torch.sum, labels=[1, 2]), "a loss, or the labels"),
    "labels in the place of a loss": (lambda: mv.backward(small(), [1, 2]), "a loss, or the labels"),
    "a loss for each digit": (back(lambda out: out.sum(1)), "a loss is one number", "(2,)", "mean"),
    "a constant": (back(lambda out: torch.ones(())), *NOTHING),
    "a label too few": (back(labels=[1]), "one label for each digit", "given:   1", "allowed: 2"),
    "labels out of range": (back(labels=[-1, 10]), "no such label", "[-1, 10]", "0 to 9"),
    "labels of what is not recorded": (lambda: mv.backward(small(layers="conv*"), labels=[1, 2]), "not that of a rec"),
    "overwritten by a layer": (lambda: there_and_back(ODD, torch.ones(1, 3), labels=[0]), "inplace=False"),
    "overwritten after it": (lambda: there_and_back(ODD[0], torch.ones(1), loss=lambda y: y.mul_(2)), "inplace=False"),
    "a ledger too early": (lambda: mv.backward_ledger(small(), "conv1", bias=0), *NOT_YET),
    "a proof too early": (lambda: mv.replay_backward(small()), *NOT_YET),
    "a frozen weight": (ask("conv1", make("frozen").model, bias=0), "reached a bias of 'conv1'", "requires_grad=True"),
    "the other head": (ask("angle", zoo.Heads(lambda a, b: a), torch.ones(2, 4), bias=0), "on 'angle'", "layer feeds"),
    "two at once": (ask("conv1", weight=(0, 0, 0, 0), bias=0), "one weight, one bias or one unit", "weight, bias"),
    "no such weight": (ask("conv2", weight=(6, 0, 0, 0)), "no such weight in 'conv2'", "0 to 5, 0 to 3, 0 to 2"),
    "a negative bias": (ask("fc1", bias=-1), "no such bias in 'fc1'", "(-1,)", "0 to 7"),
    "weights of a ReLU": (ask("relu1", weight=0), "no gradient reached a weight of 'relu1'"),
    "no such unit": (ask("relu1", unit=(4, 0, 0)), "no such unit in 'relu1'", "channel 0 to 3"),
    "no such digit": (ask("relu1", unit=(2, 0, 0), digit=2), "no such digit", "0 to 1"),
    "a digit in a unit": (ask("relu1", unit=(1, 2, 0, 0)), "a unit is channel, y, x", "(1, 2, 0, 0)", "digit=0"),
    "maps of two sizes": (ask("0:0", TWICE, zoo.images(), weight=(0, 0, 1, 1)), "of several sizes", "8, 8", "4, 4"),
}
test_what_cannot_be_gone_back_through_is_told = refusals(BAD)


def test_a_part_that_ran_without_gradients_is_left_out():
    class Frozen(zoo.Small):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.flatten(self.pool(self.conv2(self.conv1(x))))
            return self.fc2(self.fc1(x))

    with seeded():
        trace = there_and_back(Frozen(), zoo.images(), labels=[1, 2])
    assert [key for key, step in trace.items() if step.delta is None] == ["conv1", "conv2", "pool", "flatten"]
    assert mv.replay_backward(trace).largest < 1e-6
