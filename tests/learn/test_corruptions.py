"""Each corruption does what its name says, as worked out by other means; reports under attack count what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.datasets import load_digits as load_sklearn_digits
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.attacks import Attack
from mnistviz.learn.corruptions import CORRUPTIONS, attacked, corrupt, digits_from_elsewhere, robustness, under_attack
from mnistviz.learn.data import DigitSet
from mnistviz.learn.evaluate import Report, measure

KINDS = (
    "shift", "rotation", "shear", "shrink", "blur", "noise", "specks", "fading", "grey paper", "thick", "thin", "cover",
)  # fmt: skip
DRAWN = {"shift", "rotation", "shear", "noise", "specks", "cover"}  # those with an own draw for each digit
STRENGTHS = range(1, 6)


@pytest.fixture(scope="module")
def some(few: mv.Digits) -> mv.Digits:
    return few[:40]


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@pytest.fixture(scope="module")
def shipped() -> nn.Sequential:
    return mv.load_model("deep")


def painted(picture: np.ndarray | Tensor, count: int = 40) -> mv.Digits:
    """The same picture so many times; values from 0 to 255."""
    images = torch.as_tensor(np.asarray(picture, dtype=np.uint8)).expand(count, 28, 28).clone()
    return mv.Digits(images, torch.zeros(count, dtype=torch.int64), "painted")


def flat(value: int, count: int = 40) -> mv.Digits:
    return painted(np.full((28, 28), value), count)


def worse(digits: mv.Digits, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    """The corrupted pixels, 0 to 255, (N, 28, 28)."""
    return corrupt(digits, kind, strength, seed).images.numpy().astype(float)


def near(found: np.ndarray, expected: np.ndarray, by: float = 0.51) -> bool:
    """Equal but for rounding to whole grey levels."""
    return float(np.abs(found - expected.clip(0, 255)).max()) <= by


# What holds for every corruption


def test_these_are_the_corruptions() -> None:
    assert tuple(CORRUPTIONS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_changes_nothing(kind: str, some: mv.Digits) -> None:
    same = corrupt(some, kind, 0)
    assert torch.equal(same.images, some.images)
    assert torch.equal(same.known_labels(), some.known_labels())
    assert same.source == some.source


@pytest.mark.parametrize("kind", KINDS)
def test_every_strength_changes_digits_and_more_changes_more(kind: str, few: mv.Digits) -> None:
    before, size = few.images.clone(), [0.0]
    for strength in STRENGTHS:
        found = corrupt(few, kind, strength)
        changed = found.images != few.images
        assert changed.flatten(1).any(1).double().mean() > (0.5 if kind == "cover" else 0.99)
        size.append(float((found.images.float() - few.images.float()).abs().mean()))
        assert found.images.dtype == torch.uint8
        assert found.images.shape == few.images.shape
        assert torch.equal(found.known_labels(), few.known_labels())
        assert found.source == f"{few.source}, {kind} {strength} of 5"
    assert size == sorted(size)
    assert torch.equal(few.images, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: str, some: mv.Digits) -> None:
    state = torch.get_rng_state()
    one, again, other = (corrupt(some, kind, 3, seed).images for seed in (4, 4, 5))
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (kind not in DRAWN)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_each_digit_has_a_draw_of_its_own(kind: str, some: mv.Digits) -> None:
    found = corrupt(painted(some.images[0]), kind, 4).images
    kinds_of_picture = len({bytes(image.numpy().tobytes()) for image in found})
    if kind in ("rotation", "shear"):
        assert kinds_of_picture == 2  # one way or the other
    elif kind in DRAWN:
        assert kinds_of_picture > 15
    else:
        assert kinds_of_picture == 1


@pytest.mark.parametrize("kind", KINDS)
def test_unlabelled_digits_and_none_at_all_are_fine(kind: str, some: mv.Digits) -> None:
    unknown = corrupt(mv.Digits(some.images, None, "unknown"), kind, 2)
    assert unknown.labels is None
    assert torch.equal(unknown.images, corrupt(some, kind, 2).images)
    assert len(corrupt(some[:0], kind, 2)) == 0
    assert len(corrupt(some[:1], kind, 2)) == 1


@pytest.mark.parametrize("strength", [-1, 6, 1.5, 1.0, "2"])
def test_a_strength_that_is_none_of_the_six_is_refused(strength: object, some: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match=r"strength.*\n.*\n.*0 .* to 5"):
        corrupt(some, "blur", strength)  # type: ignore[arg-type]


def test_true_is_not_a_strength(some: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="strength"):
        corrupt(some, "blur", True)


def test_a_bad_strength_is_refused_also_for_no_digits(some: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="strength"):
        corrupt(some[:0], "blur", 6)


def test_an_unknown_kind_is_refused_with_a_list_of_those_there_are(some: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="unknown corruption") as error:
        corrupt(some, "rotate", 1)
    assert all(kind in str(error.value) for kind in KINDS)
    assert "did you mean 'rotation'" in str(error.value)


# Geometry, against scipy and by hand


def centre_of_mass(images: np.ndarray) -> np.ndarray:
    """Row and column of each, (N, 2)."""
    return np.array([ndimage.center_of_mass(image) for image in images])


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_shift_is_a_blend_of_four_whole_ones(strength: int, some: mv.Digits) -> None:
    dot = np.zeros((28, 28))
    dot[12:16, 12:16] = 255
    moved = centre_of_mass(worse(painted(dot), "shift", strength)) - 13.5
    assert np.abs(np.hypot(*moved.T) - 1.4 * strength).max() < 0.02
    assert len({tuple(way) for way in np.sign(moved)}) == 4

    for found, image, (down, right) in zip(worse(some, "shift", strength), some.images, moved, strict=True):
        wide = nn.functional.pad(image.double(), (10, 10, 10, 10))
        y, x = int(np.floor(down)), int(np.floor(right))
        expected = sum(
            (1 - abs(down - v)) * (1 - abs(right - h)) * torch.roll(wide, (v, h), (0, 1))
            for v in (y, y + 1)
            for h in (x, x + 1)
        )
        assert near(found, expected[10:-10, 10:-10].numpy(), 8)  # the dot tells the way to a fiftieth of a pixel


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_rotation_is_scipy_s_by_10_degrees_for_each_strength(strength: int, some: mv.Digits) -> None:
    ways = []
    for found, image in zip(worse(some, "rotation", strength), some.images.numpy().astype(float), strict=True):
        turned = [
            ndimage.rotate(image, way * 10 * strength, reshape=False, order=1, mode="grid-constant") for way in (1, -1)
        ]
        off = [np.abs(found - each).max() for each in turned]
        assert min(off) < 1.5
        ways.append(int(np.argmin(off)))
    assert 8 < sum(ways) < 32


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_shear_moves_each_row_by_its_height(strength: int, some: mv.Digits) -> None:
    columns, ways = np.arange(28.0), []
    for found, image in zip(worse(some, "shear", strength), some.images.numpy().astype(float), strict=True):
        wide = np.pad(image, ((0, 0), (20, 20)))
        off = []
        for way in (1, -1):
            at = [columns + way * 0.16 * strength * (row - 13.5) for row in range(28)]
            expected = np.stack([np.interp(at[row], np.arange(-20, 48), wide[row]) for row in range(28)])
            off.append(np.abs(found - expected).max())
        assert min(off) < 1
        ways.append(int(np.argmin(off)))
    assert 8 < sum(ways) < 32


@pytest.mark.parametrize("strength", STRENGTHS)
def test_shrinking_keeps_the_middle(strength: int, some: mv.Digits) -> None:
    factor = 1 + 0.2 * strength
    for found, image in zip(worse(some, "shrink", strength), some.images.numpy().astype(float), strict=True):
        middle = 13.5 - factor * 13.5
        assert near(found, ndimage.affine_transform(image, [factor, factor], middle, order=1, mode="grid-constant"), 1)


# Ink and paper


@pytest.mark.parametrize("strength", STRENGTHS)
def test_blur_is_a_gaussian(strength: int, some: mv.Digits) -> None:
    for found, image in zip(worse(some, "blur", strength), some.images.numpy().astype(float), strict=True):
        sigma = 0.3 * strength
        assert near(found, ndimage.gaussian_filter(image, sigma, mode="constant", radius=7))
        assert found.sum() == pytest.approx(image.sum(), rel=0.02)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_fading_takes_16_percent_of_the_ink(strength: int, some: mv.Digits) -> None:
    assert near(worse(some, "fading", strength), some.images.numpy() * (1 - 0.16 * strength))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_grey_paper_brightens_black_and_leaves_ink(strength: int, some: mv.Digits) -> None:
    image = some.images.numpy().astype(float)
    found = worse(some, "grey paper", strength)
    assert near(found, image + (255 - image) * 0.05 * strength)
    assert (found[image == 255] == 255).all()
    assert near(found[image == 0], np.array(255 * 0.05 * strength))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_noise_is_normal_with_6_percent_for_each_strength(strength: int) -> None:
    off = (worse(flat(128), "noise", strength) - 128) / 255
    assert abs(np.median(off)) < 0.01
    assert np.median(np.abs(off)) == pytest.approx(0.67449 * 0.06 * strength, abs=0.003)
    if strength < 3:  # beyond, 0 and 1 cut it off
        assert off.std() == pytest.approx(0.06 * strength, rel=0.02)
    assert abs(np.corrcoef(off[:, :, :-1].ravel(), off[:, :, 1:].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("strength", STRENGTHS)
def test_specks_are_white_and_black_2_percent_each(strength: int, some: mv.Digits) -> None:
    found = worse(flat(128), "specks", strength)
    assert set(np.unique(found)) == {0, 128, 255}
    for value in (0, 255):
        assert (found == value).mean() == pytest.approx(0.02 * strength, abs=0.005)
    found, image = worse(some, "specks", strength), some.images.numpy()
    assert ((found == image) | (found == 0) | (found == 255)).all()


@pytest.mark.parametrize("strength", STRENGTHS)
def test_thick_contains_the_digit_and_thin_is_contained_in_it(strength: int, some: mv.Digits) -> None:
    thick, thin, image = (
        worse(some, "thick", strength),
        worse(some, "thin", strength),
        some.images.numpy().astype(float),
    )
    assert (thick >= image).all()
    assert (thin <= image).all()
    for found, grow in ((thick, ndimage.grey_dilation), (thin, ndimage.grey_erosion)):
        expected = image
        for _ in range(strength):
            expected = (expected + grow(expected, size=(1, 3, 3))) / 2
        assert near(found, expected)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_cover_blacks_out_one_square_over_the_middle(strength: int, some: mv.Digits) -> None:
    corners = []
    for image in worse(flat(255, 200), "cover", strength):
        rows, columns = np.nonzero(image == 0)
        assert len(rows) == (3 * strength) ** 2
        assert np.ptp(rows) == np.ptp(columns) == 3 * strength - 1
        assert (image[image != 0] == 255).all()
        corners.append((rows.min(), columns.min()))
    lowest, highest = np.min(corners, axis=0), np.max(corners, axis=0)
    assert (lowest == 4).all()
    assert (highest == 24 - 3 * strength).all()
    assert abs(np.corrcoef(np.transpose(corners))[0, 1]) < 0.3
    found = worse(some, "cover", strength)
    assert ((found == some.images.numpy()) | (found == 0)).all()


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(KINDS), strength=st.integers(1, 5), seed=st.integers(0, 2**31), side=st.integers(0, 28))
def test_extreme_pictures_stay_pictures(kind: str, strength: int, seed: int, side: int) -> None:
    """White right up to the edge: nothing wraps round, nothing overflows."""
    picture = np.zeros((28, 28))
    picture[:side] = 255
    found = corrupt(painted(picture, 3), kind, strength, seed).images
    assert found.dtype == torch.uint8
    if side == 0 and kind not in ("noise", "specks", "grey paper"):
        assert not found.any()
    if side == 28 and kind in ("fading", "grey paper", "thick"):
        assert (found == found[0, 0, 0]).all()


# Digits of other writers


def test_digits_from_elsewhere_have_the_form_of_mnist() -> None:
    digits, theirs = digits_from_elsewhere(), load_sklearn_digits()
    assert len(digits) == 1797
    np.testing.assert_array_equal(digits.known_labels(), theirs.target)
    assert digits.images.dtype == torch.uint8
    assert "scikit-learn" in digits.source
    images = digits.images.numpy()
    for image in images:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert np.ptp(rows) <= 19
        assert np.ptp(columns) <= 19
    assert (images.max((1, 2)) == 255).all()
    assert np.abs(centre_of_mass(images) - 14).max() < 0.51
    assert torch.equal(digits_from_elsewhere().images, digits.images)


def test_digits_from_elsewhere_are_those_of_scikit_learn(shipped: nn.Module) -> None:
    """Made small again, each is more like its origin than like others; and the reference can read most."""
    digits, theirs = digits_from_elsewhere(), load_sklearn_digits()
    assert mv.evaluate(shipped, digits[:300]).accuracy > 0.6
    for i in range(0, 1797, 90):
        image = digits.images[i].numpy().astype(float)
        image = image[np.ix_(image.any(1), image.any(0))]
        origin = theirs.images[i]
        origin = origin[np.ix_((origin > 4.8).any(1), (origin > 4.8).any(0))]
        small = ndimage.zoom(image, np.divide(origin.shape, image.shape), order=1)
        assert np.corrcoef(small.ravel(), origin.ravel())[0, 1] > 0.8


# The table


def test_robustness_is_the_accuracy_for_every_kind_and_strength(model: nn.Module, some: mv.Digits) -> None:
    table = robustness(model, some, seed=3)
    assert list(table.columns) == ["corruption", "strength", "accuracy"]
    assert list(zip(table.corruption, table.strength, strict=True)) == [(k, s) for k in KINDS for s in range(6)]
    assert (table.accuracy[table.strength == 0] == measure(model, some)[1]).all()
    for row in table.itertuples():
        digits = corrupt(some, row.corruption, row.strength, seed=3)
        with torch.no_grad():
            answers = model(digits.pixels).argmax(1)
        assert row.accuracy == sum(int(a == b) for a, b in zip(answers, some.known_labels(), strict=True)) / 40


def test_robustness_of_those_named_in_that_order(model: nn.Module, some: mv.Digits) -> None:
    for kinds in (["noise", "blur"], ("noise", "blur"), iter(["noise", "blur"])):
        table = robustness(model, some, kinds)
        assert list(table.corruption) == ["noise"] * 6 + ["blur"] * 6
    with pytest.raises(mv.MnistvizError, match="unknown corruption"):
        robustness(model, some, ["noise", "smoke"])
    with pytest.raises(mv.MnistvizError, match="no digits"):
        robustness(model, some[:0], ["noise"])


def test_the_reference_suffers_from_what_is_strong(shipped: nn.Module, mnist: DigitSet) -> None:
    table = robustness(shipped, mnist.test.sample(200, seed=2), ["rotation", "fading"])
    right = table.pivot_table(index="strength", columns="corruption", values="accuracy")
    assert (right.loc[0] > 0.97).all()
    assert right.rotation[5] < right.rotation[0] - 0.1


# Under attack


def test_the_report_under_attack_counts_the_attacked_pictures(model: nn.Module, some: mv.Digits) -> None:
    attack = Attack(0.05, steps=2, random_start=True)
    report, pictures = under_attack(model, some, attack, seed=4), attacked(model, some, attack, seed=4)
    assert isinstance(report, Report)
    assert len(report.labels) == len(report.log_probabilities) == 40
    np.testing.assert_array_equal(report.labels, some.known_labels())
    with torch.no_grad():
        scores = model(pictures)
    assert report.accuracy == sum(int(a == b) for a, b in zip(scores.argmax(1), some.known_labels(), strict=True)) / 40
    np.testing.assert_allclose(report.log_probabilities, scores.log_softmax(1), atol=1e-5)
    np.testing.assert_allclose(report.probabilities.sum(1), 1)


def test_attacked_pictures_are_those_of_the_attack_itself(model: nn.Module, some: mv.Digits) -> None:
    attack = Attack(0.1, steps=2)
    found = attacked(model, some, attack)
    assert found.shape == (40, 1, 28, 28)
    assert found.dtype == torch.float32
    expected = attack(model, some.pixels, some.known_labels())
    for batch in (1, 7, 40, 128):
        off = (attacked(model, some, attack, batch=batch) - expected).abs() > 1e-6
        assert off.double().mean() < 0.01  # where a slope is 0 but for rounding, its sign is not sure


def test_the_seed_of_an_attack_decides(model: nn.Module, some: mv.Digits) -> None:
    attack = Attack(0.1, steps=2, random_start=True)
    one, again, other = (attacked(model, some, attack, seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    halves = attacked(model, some[[0] * 20], attack, batch=10)
    assert not torch.equal(halves[:10], halves[10:])  # the second batch has draws of its own


def test_no_attack_leaves_the_report_as_it_is(shipped: nn.Module, some: mv.Digits) -> None:
    found, expected = under_attack(shipped, some, Attack(0)), mv.evaluate(shipped, some)
    np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, atol=1e-4)


def test_an_attack_on_the_reference_lowers_its_accuracy(shipped: nn.Module, mnist: DigitSet) -> None:
    some = mnist.test.sample(200, seed=1)
    assert under_attack(shipped, some, Attack(0.3)).accuracy < 0.4 < 0.97 < mv.evaluate(shipped, some).accuracy


@pytest.mark.parametrize("what", [under_attack, attacked])
def test_what_cannot_be_attacked_is_refused(what, model: nn.Module, some: mv.Digits) -> None:
    with pytest.raises(mv.MnistvizError, match="no digits"):
        what(model, some[:0], Attack(0.1))
    with pytest.raises(mv.MnistvizError, match="no labels"):
        what(model, mv.Digits(some.images, None, "unknown"), Attack(0.1))


def mixed() -> nn.Sequential:
    """A network in training mode, with batch norm and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mv.models.deep().train()


def test_the_report_under_attack_is_made_in_evaluation_mode(some: mv.Digits) -> None:
    learning, judging = mixed(), mixed().eval()
    found, expected = (under_attack(each, some, Attack(0.1)) for each in (learning, judging))
    np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, atol=1e-6)


def test_the_model_is_left_as_it_was_by_a_report_under_attack(some: mv.Digits) -> None:
    model = mixed()
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    under_attack(model, some, Attack(0.1))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_is_judged_under_attack(some: mv.Digits) -> None:
    model = mixed().eval()
    expected = under_attack(model, some, Attack(0.1)).accuracy
    for digits in (some, some.to("cuda")):
        assert under_attack(model.cuda(), digits, Attack(0.1)).accuracy == pytest.approx(expected, abs=0.05)


def test_the_shipped_robust_network_resists_the_attack_it_was_trained_against() -> None:
    digits = mv.load_digits("kaggle")
    unseen = mv.Digits(digits.test.images, digits.answers, digits.test.source)[:2000]
    model = mv.load_model("simple_robust")
    assert mv.evaluate(model, unseen).accuracy > 0.975
    assert mv.under_attack(model, unseen[:300], mv.attacks.PGD).accuracy > 0.85
