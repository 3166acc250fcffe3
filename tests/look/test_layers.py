"""Names, patterns and bits of models; capture's own tests look at the rest."""

import pytest
import torch
from torch import nn

import mnistviz as mv
from mnistviz.look.layers import kind_of, names_of, pick, same_bits, settings_of, undisturbed


def test_names_are_those_of_named_modules_without_the_marks_of_compilation() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    plain = [name for name, _ in model.named_modules()]
    model[1] = torch.compile(model[1], backend="eager")
    assert list(names_of(model)) == plain == ["", "0", "1", "1.0"]


def test_patterns_pick_in_the_order_of_the_model() -> None:
    model = mv.models.deep()
    assert list(pick(model, ["fc*", "conv[12]"])) == ["conv1", "conv2", "fc1", "fc2"]
    assert list(pick(model, None)) == [name for name, _ in model.named_children()]
    with pytest.raises(mv.MnistvizError, match=r"did you mean 'conv5'"):
        pick(model, "conv55")


def test_a_kind_is_the_short_name_of_torchs_own_classes_only() -> None:
    class ReLU(nn.Module):
        """Somebody else's."""

    assert kind_of(nn.ReLU()) == "ReLU"
    assert kind_of(mv.models.Normalise()) == "Normalise"
    assert kind_of(ReLU()).endswith("ReLU")
    assert kind_of(ReLU()) != "ReLU"


def test_settings_name_what_a_layer_was_made_with_and_what_it_learns() -> None:
    settings = settings_of(nn.Conv2d(1, 2, 3, stride=2, bias=False))
    assert settings["stride"] == (2, 2)
    assert settings["parameters"] == ("weight",)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ([0.0, float("nan")], [0.0, float("nan")], True),
        ([0.0], [-0.0], False),
        ([1.0, 2.0], [1.0], False),
        ([], [], True),
    ],
)
def test_bits(a: list[float], b: list[float], same: bool) -> None:
    assert same_bits(torch.tensor(a), torch.tensor(b)) is same


def test_bits_do_not_depend_on_the_layout_in_memory() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert same_bits(x, x.to(memory_format=torch.channels_last))
    assert not same_bits(x, (x + 1).to(memory_format=torch.channels_last))


def test_inside_undisturbed_a_model_judges_and_afterwards_it_is_as_it_was() -> None:
    model = mv.models.deep()
    model.bn1.eval()
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        torch.rand(3)
    assert model.training
    assert not model.bn1.training
