"""A record is proved by computing it again: what is true agrees, what was altered shows, what is unknown is said."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import GRAD_MODES, assert_equal, facts, images, make, record, seeded, unsettle

import mnistviz as mv
from mnistviz.look.replay import FORMULAS
from mnistviz.look.trace import Trace

TOLERANCE = 1e-5  # of float32 sums of up to 1,600 products of order 1, added in another order


@pytest.fixture(scope="module")
def digit(mnist) -> Tensor:
    return mnist.test[0].pixels


@pytest.fixture
def honest(reference, digit) -> Trace:
    """A pass of its own for each test, to be tampered with."""
    return record(reference["deep"], digit)


def test_every_step_of_every_trained_model_is_recomputed_up_to_its_scores(reference, passes, digit):
    for name, trace in passes.items():
        result = mv.replay(trace)
        with torch.no_grad():
            scores = reference[name](digit)
        assert list(result.differences) == trace.keys
        assert result.skipped == result.restarted == ()
        assert result.largest == max(result.differences.values()) <= TOLERANCE
        torch.testing.assert_close(result.output, scores, atol=TOLERANCE, rtol=0)
        assert float(scores.std()) > 100 * TOLERANCE


def test_replaying_changes_neither_the_trace_nor_the_world_and_needs_no_model(digit):
    model = unsettle(mv.load_model("compact"))
    trace = record(model, digit)
    before, outputs = facts(model), [step.output.clone() for step in trace.steps]
    first, second = mv.replay(trace), mv.replay(trace)
    assert facts(model) == before
    assert_equal([step.output for step in trace.steps], outputs)
    assert first.differences == second.differences
    assert not first.output.requires_grad
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert mv.replay(trace).differences == first.differences


def test_a_replay_of_digits_that_are_not_numbers_agrees(reference, digit):
    x = digit.clone()
    x[0, 0, 14, 14], x[0, 0, 3, 3] = torch.nan, -torch.inf
    trace = record(reference["deep"], x)
    result = mv.replay(trace)
    assert trace["conv1"].output.isnan().any()
    assert trace.output.isnan().all()
    assert result.largest == 0
    assert result.output.isnan().all()


def test_a_pass_that_stopped_is_recomputed_as_far_as_it_went():
    model = make("small").model
    with mv.capture(model) as trace:
        empty = mv.replay(trace)
        with pytest.raises(RuntimeError):
            model(torch.randn(1, 1, 9, 12))
    assert (empty.differences, empty.output, empty.skipped, empty.restarted) == ({}, None, (), ())
    result = mv.replay(trace)
    assert list(result.differences) == ["conv1", "relu1", "conv2", "relu2", "pool", "flatten"]
    assert result.largest <= TOLERANCE
    assert result.output is None


def forge(trace: Trace, key: str) -> None:
    """0.01 more in one place of the recorded output, and of nothing that shares its memory."""
    forged = trace[key].output.clone()
    forged[(-1,) * forged.ndim] += 0.01
    trace.steps[trace.index(key)] = dataclasses.replace(trace[key], output=forged)


@pytest.mark.parametrize("key", ["conv1", "bn1", "relu1", "pool1", "drop1", "flatten", "fc1", "bn6", "fc2"])
def test_one_altered_output_is_found(key, honest):
    forge(honest, key)
    result = mv.replay(honest)
    assert result.differences[key] == pytest.approx(0.01, abs=TOLERANCE)
    assert result.largest == result.differences[key]
    assert all(gap <= TOLERANCE for other, gap in result.differences.items() if other != key)


@pytest.mark.parametrize(
    ("key", "what"),
    [(key, what) for key in ("conv1", "bn1", "conv5", "fc1", "bn6", "fc2") for what in ("weight", "bias")]
    + [(key, what) for key in ("bn1", "bn6") for what in ("running_mean", "running_var")],
)
def test_one_altered_weight_is_found(key, what, honest):
    honest[key].weights[what][0] += 5  # of one channel
    result = mv.replay(honest)
    assert result.differences[key] > 100 * TOLERANCE
    assert all(result.differences[earlier] <= TOLERANCE for earlier in honest.keys[: honest.index(key)])


def test_an_altered_input_or_a_number_that_became_none_is_found(honest):
    """Also in the middle, where the output of the step before could be taken unseen."""
    step = honest["conv3"]
    honest.steps[honest.index("conv3")] = dataclasses.replace(step, inputs=(step.input + 0.1,))
    assert mv.replay(honest).differences["conv3"] > 100 * TOLERANCE
    honest["fc2"].output[0, 3] = torch.nan
    assert mv.replay(honest).differences["fc2"] == torch.inf


KINDS: dict[str, list[tuple[nn.Module, tuple[int, ...]]]] = {
    "Conv2d": [
        (nn.Conv2d(2, 3, 2, bias=False, padding=1), (2, 5, 5)),
        (nn.Conv2d(4, 6, (3, 2), (1, 2), (2, 0), dilation=(2, 1), groups=2), (2, 4, 6, 7)),
        (nn.Conv2d(2, 3, (2, 3), padding="same"), (1, 2, 6, 7)),  # one row more below than above
        (nn.Conv2d(2, 3, (3, 4), padding="same", padding_mode="reflect"), (1, 2, 6, 7)),  # and one column to the right
    ],
    "Linear": [(nn.Linear(5, 3), (2, 5)), (nn.Linear(5, 3, bias=False), (2, 4, 5))],
    "BatchNorm1d": [(nn.BatchNorm1d(3, eps=0.1), (4, 3)), (nn.BatchNorm1d(3, affine=False), (4, 3, 5))],
    "BatchNorm2d": [
        (nn.BatchNorm2d(3, momentum=None), (4, 3, 2, 2)),
        (nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 2, 2)),
    ],
    "LayerNorm": [(nn.LayerNorm((3, 4), eps=0.1), (2, 3, 4)), (nn.LayerNorm(4, elementwise_affine=False), (2, 4))],
    "GroupNorm": [(nn.GroupNorm(2, 4), (2, 4, 3)), (nn.GroupNorm(4, 4, eps=0.1, affine=False), (2, 4, 3))],
    "Normalise": [(mv.models.simple().normalise, (1, 1, 4, 4))],
    "ReLU": [(nn.ReLU(), (2, 9)), (nn.ReLU(inplace=True), (2, 9))],
    "ReLU6": [(nn.ReLU6(), (2, 9))],
    "LeakyReLU": [(nn.LeakyReLU(0.3), (2, 9))],
    "GELU": [(nn.GELU(), (2, 9)), (nn.GELU(approximate="tanh"), (2, 9))],
    "SiLU": [(nn.SiLU(), (2, 9))],
    "Sigmoid": [(nn.Sigmoid(), (2, 9))],
    "Tanh": [(nn.Tanh(), (2, 9))],
    "Softmax": [(nn.Softmax(1), (2, 9)), (nn.Softmax(-1), (2, 3, 4))],
    "LogSoftmax": [(nn.LogSoftmax(1), (2, 9)), (nn.LogSoftmax(0), (2, 3))],
    "MaxPool2d": [
        (nn.MaxPool2d(2), (1, 2, 7, 7)),
        (nn.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(2, 1), ceil_mode=True), (1, 2, 8, 7)),
    ],
    "AvgPool2d": [
        (nn.AvgPool2d(2), (1, 2, 7, 7)),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 2, 8, 7)),
        (nn.AvgPool2d((2, 3), divisor_override=5), (1, 2, 8, 7)),
    ],
    "AdaptiveAvgPool2d": [(nn.AdaptiveAvgPool2d(1), (1, 2, 7, 7)), (nn.AdaptiveAvgPool2d((3, None)), (1, 2, 7, 5))],
    "Flatten": [(nn.Flatten(), (2, 3, 4)), (nn.Flatten(0, 1), (2, 3, 4))],
    "Identity": [(nn.Identity(), (2, 3))],
    "Dropout": [(nn.Dropout(0.9), (2, 3))],
    "Dropout1d": [(nn.Dropout1d(0.9), (2, 3, 4))],
    "Dropout2d": [(nn.Dropout2d(0.9), (2, 3, 4, 4))],
    "ZeroPad2d": [(nn.ZeroPad2d((1, 2, 0, 3)), (1, 2, 4, 5))],
    "Upsample": [(nn.Upsample((9, 7), mode="bilinear"), (1, 2, 4, 5)), (nn.Upsample(scale_factor=2), (1, 2, 4, 5))],
}


def test_each_kind_that_can_be_recomputed_is_tried_here():
    assert set(KINDS) == set(FORMULAS)
    assert all(type(layer).__name__ == kind for kind, layers in KINDS.items() for layer, _ in layers)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_each_kind_is_recomputed_and_a_false_record_of_it_found(kind):
    for layer, shape in KINDS[kind]:
        with seeded(1), torch.no_grad():
            x = torch.randn(shape)
            for p in layer.parameters():
                p.copy_(torch.rand(p.shape) + 0.5)
            if getattr(layer, "running_var", None) is not None:
                layer.running_mean.fill_(0.3)
                layer.running_var.fill_(2.0)
            expected = layer.eval()(x.clone())
        trace = record(nn.Sequential(layer), x.clone())
        result = mv.replay(trace)
        assert list(result.differences) == ["0"]
        assert result.largest <= TOLERANCE
        torch.testing.assert_close(result.output, expected, atol=TOLERANCE, rtol=0)
        forge(trace, "0")
        assert mv.replay(trace).largest == pytest.approx(0.01, abs=TOLERANCE)


def test_unknown_kinds_are_listed_and_the_rest_goes_on_from_their_record():
    model = nn.Sequential(nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 4), nn.Hardswish(), nn.Linear(4, 2))
    trace = record(model, torch.randn(2, 4))
    result = mv.replay(trace)
    assert result.skipped == ("1", "3")
    assert list(result.differences) == ["0", "2", "4"]
    assert result.restarted == ()
    trace["1"].output[0, 0] += 1  # a false record is then the input of what follows
    assert mv.replay(trace).differences["2"] > 0.01


def test_what_depends_on_chance_or_on_the_batch_is_not_claimed():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.Flatten(), nn.Dropout(0.5))
    result = mv.replay(record(model.train(), images(), as_is=True))
    assert result.skipped == ("1", "2", "4")
    assert list(result.differences) == ["0", "3"]
    assert result.largest <= TOLERANCE
    model[1].eval()
    model[4].eval()
    assert mv.replay(record(model, images(), as_is=True)).skipped == ("2",)


def foreign(kind: str, forward: Callable[..., Tensor], base: type[nn.Module] = nn.Module) -> type[nn.Module]:
    """Somebody else's class that happens to be called like one of torch's."""
    return type(kind, (base,), {"forward": forward})


def standardised(self: nn.Conv2d, x: Tensor) -> Tensor:
    weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)
    return F.conv2d(x, weight, self.bias)


@pytest.mark.filterwarnings("ignore:Implicit dimension")
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        pytest.param(foreign("ReLU", lambda self, x: x * 2)(), (2, 4), id="a ReLU that doubles"),
        pytest.param(foreign("Dropout", lambda self, x: x * 0.5)(), (2, 4), id="a Dropout that always halves"),
        pytest.param(foreign("Conv2d", lambda self, x: x * 2)(), (2, 1, 4, 4), id="a Conv2d without settings"),
        pytest.param(foreign("Conv2d", standardised, nn.Conv2d)(1, 2, 3), (2, 1, 4, 4), id="one that standardises"),
        pytest.param(nn.Softmax(), (2, 9), id="nor a softmax that finds its own axis"),
        pytest.param(nn.MaxPool2d(2, return_indices=True), (2, 1, 4, 4), id="nor a pool that gives places too"),
    ],
)
def test_a_layer_that_is_not_torchs_own_is_not_claimed(layer, shape):
    result = mv.replay(record(nn.Sequential(layer), torch.randn(shape)))
    assert result.skipped == ("0",)
    assert not result.differences


@pytest.mark.parametrize("name", ["residual", "inplace_functions"])
def test_steps_that_start_from_the_record_are_listed(name):
    """What comes in was made between the layers, by relu, + and mean, or changed in place there."""
    for grad in GRAD_MODES.values():
        case = make(name)
        with grad(), mv.capture(case.model) as trace:
            case()
        result = mv.replay(trace)
        assert (result.restarted, result.skipped) == (("conv2", "fc"), ())
        assert result.largest <= TOLERANCE


def test_an_output_made_between_the_layers_is_not_claimed_to_be_recomputed():
    case = make("random_draw")
    result = mv.replay(record(case.model, *case.args))
    assert list(result.differences) == ["fc"]
    assert result.output is None


def test_a_replay_prints_what_it_did_and_what_it_did_not(golden):
    exact = nn.Sequential(nn.ReLU(), nn.ELU(), nn.Flatten())
    golden("with a step that is not known", mv.replay(record(exact, torch.ones(1, 2, 2))))
    trace = record(exact, torch.ones(1, 2, 2))
    forge(trace, "2")
    golden("with a false record", mv.replay(trace))
    trace.steps[2] = dataclasses.replace(trace["2"], sources=(None,))
    golden("with a step that starts from the record", mv.replay(trace))
