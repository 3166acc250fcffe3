"""Names, kinds and settings of layers; capture's own tests look at the rest."""

import torch
from torch import nn
from zoo import facts, make, unsettle

import mnistviz as mv
from mnistviz.look.layers import kind_of, names_of, pick, settings_of, undisturbed


def test_names_are_those_of_named_modules_without_the_marks_of_compilation() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    plain = [name for name, _ in model.named_modules()]
    model[1] = torch.compile(model[1], backend="eager")
    assert list(names_of(model)) == plain == ["", "0", "1", "1.0"]
    assert list(names_of(make("scripted_part").model)) == ["", "0", "1", "2"]  # nobody can look inside


def test_patterns_pick_in_the_order_of_the_model() -> None:
    model = mv.models.deep()
    assert list(pick(model, ["fc*", "conv[12]"])) == ["conv1", "conv2", "fc1", "fc2"]
    assert list(pick(model, None)) == [name for name, _ in model.named_children()]


def test_a_kind_is_the_short_name_of_torchs_own_classes_only() -> None:
    class ReLU(nn.Module):
        """Somebody else's."""

    assert [kind_of(layer) for layer in (nn.ReLU(), mv.models.Normalise())] == ["ReLU", "Normalise"]
    assert kind_of(ReLU()) == f"{__name__}.{ReLU.__qualname__}"


def test_settings_name_what_a_layer_was_made_with_and_what_it_learns() -> None:
    settings = settings_of(nn.Conv2d(1, 2, 3, stride=2, bias=False))
    assert (settings["stride"], settings["parameters"]) == ((2, 2), ("weight",))


def test_inside_undisturbed_a_model_judges_and_afterwards_it_is_as_it_was() -> None:
    model = unsettle(mv.models.deep())
    before = facts(model)
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        torch.rand(3)
        model.bn1.running_mean.add_(1)
    assert facts(model) == before
