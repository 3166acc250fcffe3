"""Which pixels mattered: every method again by hand, the model untouched, and the controls tell maps apart."""

import warnings
from statistics import median

import numpy as np
import pytest
import torch
from helpers import refusals
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from zoo import assert_equal, bits, facts, seeded, unsettle

import mnistviz as mv
from mnistviz.look.attribution import METHODS, agreement, attribute, deletion, edges, randomised, sanity

FAST = {"integrated gradients": {"steps": 20}, "occlusion": {"side": 7, "stride": 7}}  # options for a quick look
BLACK = torch.zeros(1, 1, 28, 28)


@pytest.fixture(scope="module")
def digits(mnist) -> mv.Digits:
    return mnist.test[:20]


def slope(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """The gradient of one score for each row of x."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0].double()


@torch.no_grad()
def score(model: nn.Module, x: Tensor, target: int) -> float:
    return float(model(x)[0, target].double())


@pytest.mark.parametrize("name", ["deep", "compact", "light"])
def test_saliency_is_the_gradient_with_its_sign(name, reference, digits):
    result = attribute(reference[name], digits[1].pixels, "saliency", 3)
    torch.testing.assert_close(result.values, slope(reference[name], digits[1].pixels, 3)[0, 0], rtol=1e-4, atol=1e-6)
    assert torch.equal(result.values, result.cells)
    assert result.values.min() < 0 < result.values.max()
    assert (result.method, result.target, result.residual) == ("saliency", 3, None)


@pytest.mark.parametrize("name", ["compact", "deep"])
def test_integrated_gradients_sum_to_what_the_digit_adds(name, reference, digits):
    """Completeness, and the residual says how much is missing; with few steps more than with many."""
    model = reference[name]
    for i in (5,) if name == "deep" else (0, 3, 8):
        x = digits[i].pixels
        result = attribute(model, x)
        added = score(model, x, result.target) - score(model, BLACK, result.target)
        assert result.residual == pytest.approx(abs(float(result.values.sum()) / added - 1), abs=1e-6)
        assert result.residual < 0.01
        assert result.residual < attribute(model, x, steps=2).residual


def test_integrated_gradients_are_a_sum_of_many_gradients(compact, digits):
    x, steps = digits[3].pixels, 600
    result = attribute(compact, x)
    shares = ((torch.arange(steps) + 0.5) / steps).view(-1, 1, 1, 1)  # the middle of each step
    mean = torch.cat([slope(compact, part * x, result.target) for part in shares.split(100)]).mean(0)
    expected = (mean * x[0])[0]
    assert (result.values - expected).norm() < 0.02 * expected.norm()
    assert not result.values[x[0, 0] == 0].any()  # black is the baseline
    one = attribute(compact, x, steps=1, target=4)  # one step of Gauss and Legendre is the gradient half way
    torch.testing.assert_close(one.values, (slope(compact, x / 2, 4) * x)[0, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "layer"), [("deep", None), ("deep", "conv1"), ("compact", "conv1"), ("light", None), ("light", "conv3")]
)
def test_grad_cam_is_maps_weighted_by_their_mean_gradients(name, layer, reference, digits):
    model = reference[name]
    convolutions = [key for key, module in model.named_children() if isinstance(module, nn.Conv2d)]
    for i in (0, 8):
        x = digits[i].pixels
        for key, module in model.named_children():  # the layer by its name, the last if none is given
            x = module(x)
            if key == (layer or convolutions[-1]):
                maps = x = x.detach().requires_grad_()
        weights = torch.autograd.grad(x[0].max(), maps)[0].mean((2, 3), keepdim=True)
        expected = (weights * maps).sum(1)[0].clamp(min=0).detach().double()
        result = attribute(model, digits[i].pixels, "grad-cam", **({"layer": layer} if layer else {}))
        assert result.target == int(x.argmax())
        torch.testing.assert_close(result.cells, expected, rtol=1e-4, atol=1e-6)
        block = torch.arange(28) * len(expected) // 28  # each cell is a block of pixels
        assert torch.equal(result.values, result.cells[block][:, block])


@pytest.mark.parametrize("options", [{}, {"side": 6, "stride": 3}, {"side": 28, "stride": 5}])
def test_occlusion_is_what_the_score_loses_under_black_patches(options, compact, digits):
    """Of all patches over a pixel the mean; the last of a row may reach over the border."""
    side, stride = options.get("side", 4), options.get("stride", 2)
    x, target = digits[2].pixels, 1
    lost, times = torch.zeros(28, 28, dtype=torch.double), torch.zeros(28, 28)
    at = range(0, -(-(28 - side) // stride) * stride + 1, stride)
    for top in at:
        for left in at:
            covered = x.clone()
            covered[:, :, top : top + side, left : left + side] = 0
            change = score(compact, x, target) - score(compact, covered, target)
            lost[top : top + side, left : left + side] += change
            times[top : top + side, left : left + side] += 1
    result = attribute(compact, x, "occlusion", target, **options).values
    torch.testing.assert_close(result, lost / times, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_the_own_answer_is_explained_and_model_and_digit_are_left_as_they_were(method, mode, reference, digits):
    """Also in modes of training, under no_grad and with frozen layers; no warning, and the same map."""
    model, x, options = unsettle(mv.load_model("deep")), digits[8].pixels, FAST.get(method, {})
    model.conv1.requires_grad_(False)
    with mode(), warnings.catch_warnings(action="error"):
        before, pixels = facts(model), bits(x)
        result = attribute(model, x, method, **options)
        assert facts(model) == before
        assert bits(x) == pixels
    own = int(reference["deep"](x)[0].argmax())
    plain = attribute(reference["deep"], x, method, own, **options)
    assert result.target == own
    torch.testing.assert_close(result.values, plain.values)
    assert (result.values - attribute(reference["deep"], x, method, (own + 1) % 10, **options).values).abs().max() > 0
    assert (result.values.shape, result.values.dtype) == ((28, 28), torch.double)
    assert not any(t.requires_grad for t in (x, result.values, result.cells))


def bad(*args: object, model: object = None, n: int = 1, **options: object) -> object:
    compact = mv.models.compact() if model is None else model
    return attribute(compact, torch.zeros(n, 1, 28, 28), *args, **options)


BAD = {
    "a misspelt method": (lambda: bad("salience"), "unknown method", "integrated gradients", "mean 'saliency'"),
    "a layer that is not there": (lambda: bad("grad-cam", layer="conv3"), "unknown convolution", "conv1, conv2"),
    "no convolution": (lambda: bad("grad-cam", model=nn.Flatten()), "needs a convolution", "Flatten"),
    "a negative answer": (lambda: bad("saliency", -1), "no such answer", "-1", "0 to 9"),
    "a batch": (lambda: bad("saliency", n=2), "one digit", "(2, 1, 28, 28)", "digits[i].pixels"),
    "not a model": (lambda: bad(model="deep"), "not a model", "str"),
    "weights that stay": (lambda: randomised(weight_norm(nn.Linear(3, 2))), "cannot be drawn anew", "weight.original1"),
}
test_bad_calls_are_refused_with_what_is_allowed = refusals(BAD)


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_edges_are_those_of_sobel_and_agree_with_no_flat_map(digits):
    for digit in digits[:5]:
        image = digit.pixels[0, 0].double().numpy()
        expected = np.hypot(ndimage.sobel(image, 0), ndimage.sobel(image, 1))
        np.testing.assert_allclose(edges(digit.pixels)[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5)
        assert np.isnan(agreement(torch.zeros(28, 28), edges(digit.pixels), digit.pixels))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 40), st.floats(0.05, 1))
def test_agreement_is_that_of_scipy_on_inked_pixels(seed, levels, ink):
    """Few levels, so that there are ties."""
    dice = np.random.default_rng(seed)
    a, b = dice.integers(-levels, levels + 1, (2, 28, 28)) / 7
    pixels = dice.random((1, 1, 28, 28)) * (dice.random((1, 1, 28, 28)) < ink)
    inked = pixels[0, 0] > 0
    assume(len(set(a[inked])) > 1 and len(set(b[inked])) > 1)
    result = agreement(*map(torch.from_numpy, (a, b, pixels)))
    assert result == pytest.approx(stats.spearmanr(a[inked], b[inked]).statistic, abs=1e-9)
    assert agreement(*map(torch.from_numpy, (a, np.where(inked, b, 99), pixels))) == result  # paper does not count
    assert agreement(*map(torch.from_numpy, (a, np.exp(a), pixels))) == pytest.approx(1)
    assert agreement(*map(torch.from_numpy, (a, -(a**3), pixels))) == pytest.approx(-1)


def test_new_weights_are_those_of_a_new_model_and_leave_the_old_and_the_dice_alone():
    model = unsettle(mv.load_model("deep"))
    before = facts(model)
    twin, other = randomised(model, 5), randomised(model, 1)
    assert facts(model) == before
    with seeded(5):
        assert_equal(dict(twin.state_dict()), dict(mv.models.deep().state_dict()))
    for key, value in twin.state_dict().items():
        assert value.data_ptr() != model.state_dict()[key].data_ptr()
        if key.startswith(("conv", "fc")):
            assert not (value == model.state_dict()[key]).any()
            assert not (value == other.state_dict()[key]).any()


HONEST = {"saliency": {}, "integrated gradients": {"steps": 60}, "occlusion": {"side": 4, "stride": 4}}


@pytest.mark.parametrize("method", HONEST)
def test_an_honest_map_changes_with_the_weights(method, compact, digits):
    agreements = []
    for i, digit in enumerate(digits[:5]):
        mine = attribute(compact, digit.pixels, method, **HONEST[method])
        other = attribute(randomised(compact, i), digit.pixels, method, mine.target, **HONEST[method])
        agreements.append(agreement(mine.values, other.values, digit.pixels))
        assert agreement(mine.values, mine.values, digit.pixels) == pytest.approx(1)
    assert median(agreements) < 0.5


def test_deletion_follows_the_order_of_the_map(compact, digits):
    dice = torch.Generator().manual_seed(0)
    for i in (0, 1, 5):
        x, target = digits[i].pixels, int(digits.labels[i])
        values = torch.randint(-5, 6, (28, 28), generator=dice).double()
        shares, probability = deletion(compact, x, values, target, points=7)
        inked = [k for k in range(784) if x.flatten()[k] > 0]
        order = sorted(inked, key=lambda k: -float(values.flatten()[k]))  # equals as they lie on the page
        assert shares.tolist() == pytest.approx([k / 6 for k in range(7)])
        for share, fallen in zip(shares.tolist(), probability.tolist(), strict=True):
            changed = x.clone().flatten()
            changed[order[: round(share * len(inked))]] = 0
            with torch.no_grad():
                expected = compact(changed.view(1, 1, 28, 28)).double().softmax(1)[0, target]
            assert fallen == pytest.approx(float(expected), abs=1e-5)


def test_pixels_named_first_are_missed_more_than_others(compact, digits):
    checks = [sanity(compact, digit.pixels, steps=30) for digit in digits[:8]]
    areas = [(float(check.probability.mean()), float(check.at_random.mean())) for check in checks]
    named, drawn = np.mean(areas, axis=0)
    assert named < 0.75 * drawn
    assert sum(a < b for a, b in areas) >= 7


def test_a_sanity_check_is_made_of_its_parts(digits):
    model, x = unsettle(mv.load_model("compact")), digits[3].pixels
    before = facts(model)
    check, again = (sanity(model, x, "grad-cam", 5, seed=4, layer="conv1") for _ in range(2))
    own = sanity(model, x, "saliency")
    assert facts(model) == before
    mine = attribute(model, x, "grad-cam", 5, layer="conv1")
    other = attribute(randomised(model, 4), x, "grad-cam", 5, layer="conv1")
    assert own.attribution.target == own.random.target == attribute(model, x, "saliency").target
    assert check.attribution.target == check.random.target == 5
    assert torch.equal(check.attribution.values, mine.values)
    assert torch.equal(check.random.values, other.values)
    assert torch.equal(check.edges, edges(x))
    assert check.with_random == agreement(mine.values, other.values, x)
    assert check.with_edges == agreement(mine.values, edges(x), x)
    shares, probability = deletion(model, x, mine.values, 5)
    assert torch.equal(check.shares, shares)
    assert torch.equal(check.probability, probability)
    assert torch.equal(check.at_random, again.at_random)
    assert check.at_random[[0, -1]].tolist() == pytest.approx(check.probability[[0, -1]].tolist(), abs=1e-6)
