"""Which pixels mattered: every method again by hand, the model untouched, and the controls tell maps apart."""

import warnings
from statistics import median

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor, nn
from zoo import bits, facts, unsettle

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.attribution import METHODS, agreement, attribute, deletion, edges, randomised, sanity

every_method = pytest.mark.parametrize("method", METHODS)
both = pytest.mark.parametrize("name", ["deep", "compact"])


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Sequential]:
    return {name: mv.load_model(name) for name in ("deep", "compact", "light")}


@pytest.fixture(scope="module")
def compact(models: dict[str, nn.Sequential]) -> nn.Sequential:
    return models["compact"]


@pytest.fixture(scope="module")
def digits(mnist: DigitSet) -> mv.Digits:
    return mnist.test[:20]


def slope(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """The gradient of one score for each row of x."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0].double()


@torch.no_grad()
def answer(model: nn.Module, x: Tensor) -> int:
    return int(model(x)[0].argmax())


def linear(bias: bool = True) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=bias)).eval()


# ── each method by hand ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["deep", "compact", "light"])
def test_saliency_is_the_gradient_with_its_sign(name: str, models: dict[str, nn.Sequential], digits: mv.Digits) -> None:
    for i, target in ((0, 7), (1, 3), (2, 9)):
        found = attribute(models[name], digits[i].pixels, "saliency", target)
        expected = slope(models[name], digits[i].pixels, target)[0, 0]
        torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(found.values, found.cells)
        assert (found.values < 0).any()
        assert (found.values > 0).any()
        assert (found.method, found.target, found.residual) == ("saliency", target, None)


@pytest.mark.parametrize(("name", "most"), [("compact", 0.01), ("deep", 0.02)])
def test_integrated_gradients_sum_to_what_the_digit_adds(
    name: str, most: float, models: dict[str, nn.Sequential], digits: mv.Digits
) -> None:
    """Completeness on twenty digits, and the residual says how much is missing."""
    model = models[name]
    for digit in digits:
        found = attribute(model, digit.pixels)
        with torch.no_grad():
            white, black = (model(x)[0, found.target].double() for x in (digit.pixels, torch.zeros(1, 1, 28, 28)))
        missing = abs(float(found.values.sum() - (white - black)) / float(white - black))
        assert found.residual == pytest.approx(missing, abs=1e-6)
        assert found.residual < most


def test_less_than_one_per_cent_is_missing_in_the_deep_network_too(
    models: dict[str, nn.Sequential], digits: mv.Digits
) -> None:
    assert max(attribute(models["deep"], digits[i].pixels).residual for i in (5, 16)) < 0.01


def test_with_more_steps_less_is_missing(models: dict[str, nn.Sequential], digits: mv.Digits) -> None:
    for digit in digits[:5]:
        few, many = (attribute(models["compact"], digit.pixels, steps=steps).residual for steps in (4, 400))
        assert many < min(few, 0.005)


@both
def test_integrated_gradients_are_a_sum_of_many_gradients(
    name: str, models: dict[str, nn.Sequential], digits: mv.Digits
) -> None:
    model, steps = models[name], 600
    for i in (0, 3)[: 1 if name == "deep" else 2]:
        x = digits[i].pixels
        found = attribute(model, x)
        shares = ((torch.arange(steps) + 0.5) / steps).view(-1, 1, 1, 1)  # the middle of each step
        mean = torch.cat([slope(model, part * x, found.target) for part in shares.split(100)]).mean(0)
        expected = (mean * x[0])[0]
        assert (found.values - expected).norm() < 0.02 * expected.norm()
        assert not found.values[x[0, 0] == 0].any()  # black is the baseline


@pytest.mark.parametrize("bias", [True, False])
def test_of_a_linear_model_they_are_weight_times_pixel(bias: bool, digits: mv.Digits) -> None:
    model, x = linear(bias), digits[0].pixels
    for target in range(10):
        found = attribute(model, x, target=target)
        expected = (model[1].weight[target].detach().double() * x.flatten()).view(28, 28)
        torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-7)
        assert found.residual < 1e-4


def test_the_steps_are_an_option(compact: nn.Sequential, digits: mv.Digits) -> None:
    """One step of Gauss and Legendre is the gradient half way."""
    x = digits[4].pixels
    found = attribute(compact, x, steps=1, target=4)
    torch.testing.assert_close(found.values, (slope(compact, x / 2, 4) * x)[0, 0], rtol=1e-4, atol=1e-6)
    assert found.residual > attribute(compact, x, target=4).residual


@pytest.mark.parametrize(
    ("name", "layer"),
    [("deep", None), ("deep", "conv1"), ("compact", None), ("compact", "conv1"), ("light", None), ("light", "conv3")],
)
def test_grad_cam_is_maps_weighted_by_their_mean_gradients(
    name: str, layer: str | None, models: dict[str, nn.Sequential], digits: mv.Digits
) -> None:
    model = models[name]
    convolutions = [key for key, module in model.named_children() if isinstance(module, nn.Conv2d)]
    for i in (0, 1, 8):
        x = digits[i].pixels
        for key, module in model.named_children():  # the layer by its name, the last if none is given
            x = module(x)
            if key == (layer or convolutions[-1]):
                maps = x = x.detach().requires_grad_()
        target = int(x.argmax())
        weights = torch.autograd.grad(x[0, target], maps)[0].mean((2, 3), keepdim=True)
        expected = (weights * maps).sum(1)[0].clamp(min=0).detach().double()
        found = attribute(model, digits[i].pixels, "grad-cam", **({"layer": layer} if layer else {}))
        assert found.target == target
        torch.testing.assert_close(found.cells, expected, rtol=1e-4, atol=1e-6)
        size = len(expected)
        for y in range(28):  # each cell is a block of pixels
            for z in range(28):
                assert found.values[y, z] == found.cells[y * size // 28, z * size // 28]


@pytest.mark.parametrize("options", [{}, {"side": 6, "stride": 3}, {"side": 3, "stride": 3}, {"side": 28, "stride": 5}])
def test_occlusion_is_what_the_score_loses_under_black_patches(
    options: dict[str, int], compact: nn.Sequential, digits: mv.Digits
) -> None:
    """Of all patches over a pixel the mean; the last of a row may reach over the border."""
    side, stride = options.get("side", 4), options.get("stride", 2)
    x, target = digits[2].pixels, 1
    lost, times = torch.zeros(28, 28, dtype=torch.double), torch.zeros(28, 28)
    at = range(0, -(-(28 - side) // stride) * stride + 1, stride)
    with torch.no_grad():
        whole = compact(x)[0, target].double()
        for top in at:
            for left in at:
                covered = x.clone()
                covered[:, :, top : top + side, left : left + side] = 0
                lost[top : top + side, left : left + side] += whole - compact(covered)[0, target].double()
                times[top : top + side, left : left + side] += 1
    assert (times > 0).all()
    found = attribute(compact, x, "occlusion", target, **options)
    torch.testing.assert_close(found.values, lost / times, rtol=1e-4, atol=1e-5)


# ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────


@every_method
def test_the_score_is_that_of_the_answer_by_default(method: str, compact: nn.Sequential, digits: mv.Digits) -> None:
    for i in (1, 8):
        x = digits[i].pixels
        own = answer(compact, x)
        found, same = attribute(compact, x, method), attribute(compact, x, method, own)
        assert found.target == own
        assert torch.equal(found.values, same.values)
        assert not torch.equal(found.values, attribute(compact, x, method, (own + 1) % 10).values)
        assert found.values.shape == (28, 28)
        assert found.values.dtype == torch.double
        assert not found.values.requires_grad
        assert not found.cells.requires_grad


@every_method
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
@pytest.mark.parametrize("name", ["deep", "compact"])
def test_an_attribution_leaves_the_model_and_the_digit_as_they_were(
    method: str, mode: type, name: str, models: dict[str, nn.Sequential], digits: mv.Digits
) -> None:
    """Also in modes of training, under no_grad and with frozen layers; and says the same."""
    model, x = unsettle(mv.load_model(name)), digits[0].pixels
    model.conv1.requires_grad_(False)
    with mode():
        before, pixels = facts(model), bits(x)
        found = attribute(model, x, method, **({"steps": 20} if method.startswith("int") else {}))
        assert facts(model) == before
        assert bits(x) == pixels
        assert not x.requires_grad
    plain = attribute(models[name], x, method, **({"steps": 20} if method.startswith("int") else {}))
    torch.testing.assert_close(found.values, plain.values)


def test_what_cannot_be_asked_is_said(compact: nn.Sequential, digits: mv.Digits) -> None:
    x, before = digits[0].pixels, facts(compact)
    with pytest.raises(mv.MnistvizError, match=r"unknown method[\s\S]*saliency, integrated[\s\S]*mean 'saliency'"):
        attribute(compact, x, "salience")
    with pytest.raises(mv.MnistvizError, match=r"unknown convolution[\s\S]*conv1, conv2[\s\S]*did you mean 'conv"):
        attribute(compact, x, "grad-cam", layer="conv3")
    with pytest.raises(mv.MnistvizError, match="unknown convolution"):
        attribute(compact, x, "grad-cam", layer="relu1")
    with pytest.raises(mv.MnistvizError, match=r"needs a convolution[\s\S]*Sequential"):
        attribute(linear(), x, "grad-cam")
    for target in (-1, 10):
        with pytest.raises(mv.MnistvizError, match=r"no such answer[\s\S]*0 to 9"):
            attribute(compact, x, "saliency", target)
    for wrong in (digits[:2].pixels, digits[:0].pixels, x[0]):
        with pytest.raises(mv.MnistvizError, match=r"one digit[\s\S]*digits\[i\]\.pixels"):
            attribute(compact, wrong, "saliency")
    with pytest.raises(mv.MnistvizError, match="not a model"):
        attribute("deep", x)  # type: ignore[arg-type]
    assert facts(compact) == before


def test_no_method_warns(compact: nn.Sequential, digits: mv.Digits) -> None:
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch says most things once only
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for method in METHODS:
                attribute(compact, digits[0].pixels, method)
    finally:
        torch.set_warn_always(always)


# ── controls ──────────────────────────────────────────────────────────────────────────────────────────────


def test_edges_are_those_of_sobel(digits: mv.Digits) -> None:
    for digit in digits[:5]:
        image = digit.pixels[0, 0].double().numpy()
        expected = np.hypot(ndimage.sobel(image, 0), ndimage.sobel(image, 1))
        np.testing.assert_allclose(edges(digit.pixels)[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5)
    assert edges(digits[0].pixels).shape == (28, 28)
    assert not edges(torch.ones(1, 1, 28, 28))[1:-1, 1:-1].any()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 40), st.floats(0.05, 1))
def test_agreement_is_that_of_scipy_on_inked_pixels(seed: int, levels: int, ink: float) -> None:
    """Few levels, so that there are ties."""
    dice = np.random.default_rng(seed)
    a, b = dice.integers(-levels, levels + 1, (2, 28, 28)) / 7
    pixels = dice.random((1, 1, 28, 28)) * (dice.random((1, 1, 28, 28)) < ink)
    inked = pixels[0, 0] > 0
    assume(len(set(a[inked])) > 1 and len(set(b[inked])) > 1)
    found = agreement(*map(torch.from_numpy, (a, b, pixels)))
    assert found == pytest.approx(stats.spearmanr(a[inked], b[inked]).statistic, abs=1e-9)
    assert agreement(*map(torch.from_numpy, (a, np.where(inked, b, 99), pixels))) == found  # paper does not count
    assert agreement(*map(torch.from_numpy, (a, np.exp(a), pixels))) == pytest.approx(1)
    assert agreement(*map(torch.from_numpy, (a, -(a**3), pixels))) == pytest.approx(-1)


def test_with_a_flat_map_there_is_no_agreement(digits: mv.Digits) -> None:
    x = digits[0].pixels
    assert np.isnan(agreement(torch.zeros(28, 28), edges(x), x))


def test_new_weights_leave_the_old_and_the_dice_alone() -> None:
    model = unsettle(mv.load_model("deep"))
    before = facts(model)
    twin, again, other = randomised(model), randomised(model, 0), randomised(model, 1)
    assert facts(model) == before
    mine, theirs = model.state_dict(), twin.state_dict()
    for key, value in theirs.items():
        assert torch.equal(value, again.state_dict()[key])
        assert value.data_ptr() != mine[key].data_ptr()
        if key.startswith(("conv", "fc")):
            assert not (value == mine[key]).any()
            assert not (value == other.state_dict()[key]).any()
            limit = model.get_submodule(key.split(".")[0]).weight[0].numel() ** -0.5
            assert value.abs().max() <= limit  # as torch begins: uniform, by the number of inputs
        elif key.endswith("running_mean") or (key.startswith("bn") and key.endswith("bias")):
            assert not value.any()
        elif not key.endswith("num_batches_tracked"):
            assert (value == 1).all()
        else:
            assert value == 0


def test_new_weights_are_drawn_as_for_a_new_model(compact: nn.Sequential) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        new = mv.models.build("compact")
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), randomised(compact, 5).parameters(), strict=True))


@pytest.mark.parametrize("method", ["saliency", "integrated gradients", "occlusion"])
@pytest.mark.parametrize("name", ["compact"])
def test_an_honest_map_changes_with_the_weights_and_edges_do_not(
    method: str, name: str, models: dict[str, nn.Sequential], digits: mv.Digits
) -> None:
    model, found = models[name], []
    for i, digit in enumerate(digits[:10]):
        x = digit.pixels
        mine = attribute(model, x, method)
        other = attribute(randomised(model, i), x, method, mine.target)
        found.append(agreement(mine.values, other.values, x))
        assert agreement(mine.values, mine.values, x) == pytest.approx(1)
        assert agreement(edges(x), edges(x), x) == pytest.approx(1)  # it knows no model
    assert median(found) < 0.5


def test_deletion_follows_the_order_of_the_map(compact: nn.Sequential, digits: mv.Digits) -> None:
    dice = torch.Generator().manual_seed(0)
    for i in (0, 1, 5):
        x, target = digits[i].pixels, answer(compact, digits[i].pixels)
        values = torch.randint(-5, 6, (28, 28), generator=dice).double()
        shares, probability = deletion(compact, x, values, target, points=7)
        inked = [k for k in range(784) if x.flatten()[k] > 0]
        order = sorted(inked, key=lambda k: -float(values.flatten()[k]))  # equals as they lie on the page
        assert shares.tolist() == pytest.approx([k / 6 for k in range(7)])
        for share, given_probability in zip(shares.tolist(), probability.tolist(), strict=True):
            changed = x.clone().flatten()
            changed[order[: round(share * len(inked))]] = 0
            with torch.no_grad():
                expected = compact(changed.view(1, 1, 28, 28)).double().softmax(1)[0, target]
            assert given_probability == pytest.approx(float(expected), abs=1e-5)


def test_deletion_begins_with_the_digit_and_ends_with_black(
    models: dict[str, nn.Sequential], digits: mv.Digits
) -> None:
    for model in models.values():
        for digit in digits[:4]:
            target = answer(model, digit.pixels)
            shares, probability = deletion(model, digit.pixels, edges(digit.pixels), target)
            with torch.no_grad():
                ends = [model(x).double().softmax(1)[0, target] for x in (digit.pixels, torch.zeros(1, 1, 28, 28))]
            assert probability[[0, -1]].tolist() == pytest.approx(list(map(float, ends)), abs=1e-5)
            assert (shares[0], shares[-1], len(shares)) == (0, 1, 25)


def test_pixels_named_first_are_missed_more_than_others(compact: nn.Sequential, digits: mv.Digits) -> None:
    areas = []
    for digit in digits[:12]:
        check = sanity(compact, digit.pixels)
        areas.append((float(check.probability.mean()), float(check.at_random.mean())))
    named, drawn = np.mean(areas, axis=0)
    assert named < 0.75 * drawn
    assert sum(a < b for a, b in areas) >= 11


def test_a_sanity_check_is_made_of_its_parts(digits: mv.Digits) -> None:
    model, x = unsettle(mv.load_model("compact")), digits[3].pixels
    before = facts(model)
    check, again = (sanity(model, x, "grad-cam", 5, seed=4, layer="conv1") for _ in range(2))
    assert facts(model) == before
    mine = attribute(model, x, "grad-cam", 5, layer="conv1")
    other = attribute(randomised(model, 4), x, "grad-cam", 5, layer="conv1")
    assert (check.attribution.target, check.random.target) == (5, 5)
    assert torch.equal(check.attribution.values, mine.values)
    assert torch.equal(check.random.values, other.values)
    assert torch.equal(check.edges, edges(x))
    assert check.with_random == agreement(mine.values, other.values, x)
    assert check.with_edges == agreement(mine.values, edges(x), x)
    assert torch.equal(check.probability, deletion(model, x, mine.values, 5)[1])
    assert torch.equal(check.at_random, again.at_random)
    assert check.at_random[[0, -1]].tolist() == pytest.approx(check.probability[[0, -1]].tolist(), abs=1e-6)


def test_the_score_of_a_check_is_the_answer_of_the_trained_network(compact: nn.Sequential, digits: mv.Digits) -> None:
    check = sanity(compact, digits[0].pixels, "saliency")
    assert check.attribution.target == check.random.target == answer(compact, digits[0].pixels)
