"""The published architectures, each a flat `nn.Sequential` whose layers have the names used everywhere.

Every model takes float images in [0, 1] of shape (N, 1, 28, 28): black is 0, ink is 1. Where a system standardises its
pixels, that is the model's first layer, `normalise`, so weights can never meet pixels on another scale.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mnistviz.device import device_of
from mnistviz.errors import MnistvizError, choose, refuse, some

MEAN, SD = 0.1307, 0.3081  # of the 60,000 training images, pixels in [0, 1]


class Normalise(nn.Module):
    """`Normalise(0.1307, 0.3081)(x)` is `(x - 0.1307) / 0.3081`; black becomes -0.42."""

    def __init__(self, mean: float = MEAN, sd: float = SD) -> None:
        super().__init__()
        self.mean, self.sd = mean, sd

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.sd

    def extra_repr(self) -> str:
        return f"mean={self.mean}, sd={self.sd}"


def _sequential(*layers: tuple[str, nn.Module]) -> nn.Sequential:
    """Channels last in memory: the same numbers, and convolutions run up to twice as fast."""
    return nn.Sequential(OrderedDict(layers)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _block(names: str, weighted: nn.Conv2d | nn.Linear) -> list[tuple[str, nn.Module]]:
    """`_block("conv1 bn1 relu1 pool1", nn.Conv2d(1, 32, 3))`: a weighted layer and what follows it, each by its name.

    Dropout silences a quarter of the values behind a convolution, and half of those behind a linear layer.
    """
    first, *others = names.split()
    norm, share = (nn.BatchNorm2d, 0.25) if isinstance(weighted, nn.Conv2d) else (nn.BatchNorm1d, 0.5)
    outputs = len(weighted.weight)
    after = {"bn": norm(outputs), "relu": nn.ReLU(), "pool": nn.MaxPool2d(2), "drop": nn.Dropout(share)}
    return [(first, weighted), *((name, after[name[:-1]]) for name in others)]


def simple() -> nn.Sequential:
    """System A: two unpadded 3×3 convolutions, two pools, two linear layers. 225,034 parameters."""
    return _sequential(
        ("normalise", Normalise()),
        *_block("conv1 relu1 pool1", nn.Conv2d(1, 32, 3)),  # 28 → 26 → 13
        *_block("conv2 relu2 pool2", nn.Conv2d(32, 64, 3)),  # 13 → 11 → 5
        ("flatten", nn.Flatten()),  # 64 × 5 × 5 = 1600
        *_block("fc1 relu3", nn.Linear(1600, 128)),
        ("fc2", nn.Linear(128, 10)),
    )


def light() -> nn.Sequential:
    """System B: 3×3 convolutions mixed by 1×1 convolutions, log-probabilities out. 24,210 parameters."""
    return _sequential(
        ("normalise", Normalise()),
        *_block("conv1 relu1 pool1", nn.Conv2d(1, 8, 3, padding=1)),  # 28 → 14
        *_block("conv2 relu2 pool2", nn.Conv2d(8, 16, 3, padding=1)),  # 14 → 7
        ("mix1", nn.Conv2d(16, 8, 1)),
        *_block("conv3 relu3", nn.Conv2d(8, 16, 3, padding=1)),
        ("mix2", nn.Conv2d(16, 16, 1)),
        *_block("conv4 relu4", nn.Conv2d(16, 32, 3, padding=1)),
        ("mix3", nn.Conv2d(32, 32, 1)),
        ("flatten", nn.Flatten()),  # 32 × 7 × 7 = 1568
        ("fc1", nn.Linear(1568, 10)),
        ("logsoftmax", nn.LogSoftmax(dim=1)),
    )


def deep() -> nn.Sequential:
    """System C: five 3×3 convolutions with batch norm, pixels in [0, 1] as they are. 437,738 parameters."""
    return _sequential(
        *_block("conv1 bn1 relu1", nn.Conv2d(1, 32, 3, padding=1)),
        *_block("conv2 bn2 relu2 pool1 drop1", nn.Conv2d(32, 32, 3, padding=1)),  # 28 → 14
        *_block("conv3 bn3 relu3", nn.Conv2d(32, 64, 3, padding=1)),
        *_block("conv4 bn4 relu4 pool2 drop2", nn.Conv2d(64, 64, 3, padding=1)),  # 14 → 7
        *_block("conv5 bn5 relu5 pool3 drop3", nn.Conv2d(64, 128, 3, padding=1)),  # 7 → 3
        ("flatten", nn.Flatten()),  # 128 × 3 × 3 = 1152
        *_block("fc1 bn6 relu6 drop4", nn.Linear(1152, 256)),
        ("fc2", nn.Linear(256, 10)),
    )


def compact() -> nn.Sequential:
    """System D: two 5×5 convolutions, pooled before the ReLU, with channel dropout. 21,840 parameters."""
    return _sequential(
        ("normalise", Normalise()),
        *_block("conv1 pool1 relu1", nn.Conv2d(1, 10, 5)),  # 28 → 24 → 12
        *_block("conv2 pool2 relu2", nn.Conv2d(10, 20, 5)),  # 12 → 8 → 4
        ("drop1", nn.Dropout2d(0.5)),
        ("flatten", nn.Flatten()),  # 20 × 4 × 4 = 320
        *_block("fc1 relu3", nn.Linear(320, 50)),
        ("drop2", nn.Dropout(0.3)),
        ("fc2", nn.Linear(50, 10)),
    )


def pooled() -> nn.Sequential:
    """System E: three pooled blocks, then each channel averaged to one number. 165,322 parameters.

    Widths and dropout rates are open in the publication; chosen here: 32-64-128, 0.25 and 0.5.
    """
    return _sequential(
        ("normalise", Normalise()),
        *_block("conv1 bn1 relu1 pool1 drop1", nn.Conv2d(1, 32, 3, padding=1)),  # 28 → 14
        *_block("conv2 bn2 relu2 pool2 drop2", nn.Conv2d(32, 64, 3, padding=1)),  # 14 → 7
        *_block("conv3 bn3 relu3 pool3 drop3", nn.Conv2d(64, 128, 3, padding=1)),  # 7 → 3
        ("average", nn.AdaptiveAvgPool2d(1)),  # 3 → 1
        ("flatten", nn.Flatten()),
        *_block("fc1 bn4 relu4 drop4", nn.Linear(128, 512)),
        ("fc2", nn.Linear(512, 10)),
    )


def sprint() -> nn.Sequential:
    """Ours: few early maps and pooling before ReLU, made only to reach 99 % quickly. 132,546 parameters."""
    return _sequential(
        ("normalise", Normalise()),
        *_block("conv1 pool1 relu1", nn.Conv2d(1, 8, 5)),  # 28 → 24 → 12
        *_block("conv2 pool2 relu2", nn.Conv2d(8, 40, 3)),  # 12 → 10 → 5
        ("flatten", nn.Flatten()),  # 40 × 5 × 5 = 1000
        *_block("fc1 relu3", nn.Linear(1000, 128)),
        ("fc2", nn.Linear(128, 10)),
    )


def tiny() -> nn.Sequential:
    """Ours: made to read well with at most 8,000 parameters. 7,923 parameters."""
    return _frugal(9, 16, 10)


def small() -> nn.Sequential:
    """Ours: the same with wider maps, at most 20,000 parameters. 18,234 parameters."""
    return _frugal(16, 24, 16)


def _frugal(first: int, middle: int, last: int) -> nn.Sequential:
    """Five convolutions without bias, and one kernel for each channel in place of a large linear layer."""
    return _sequential(
        ("normalise", Normalise()),
        *_block("conv1 bn1 relu1 pool1", nn.Conv2d(1, first, 5, padding=2, bias=False)),  # 28 → 14
        *_block("conv2 bn2 relu2", nn.Conv2d(first, middle, 3, padding=1, bias=False)),
        *_block("conv3 bn3 relu3 pool2", nn.Conv2d(middle, middle, 3, padding=1, bias=False)),  # 14 → 7
        *_block("conv4 bn4 relu4", nn.Conv2d(middle, middle, 3, bias=False)),  # 7 → 5
        *_block("conv5 bn5 relu5", nn.Conv2d(middle, last, 3, bias=False)),  # 5 → 3
        *_block("weigh bn6", nn.Conv2d(last, last, 3, groups=last, bias=False)),  # 3 → 1: nine weights for each channel
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(last, 10)),
    )


def log_probabilities(outputs: Tensor) -> Tensor:
    """What scores say, (N, 10); a network that ends in a softmax or log-softmax has said it already."""
    sums = outputs.sum(1) if (outputs >= 0).all() else outputs.new_zeros(1)
    return outputs.clamp_min(1e-30).log() if ((sums - 1).abs() < 1e-4).all() else outputs.log_softmax(1)


class Ensemble(nn.Module):
    """`Ensemble([load_model("deep"), load_model("pooled")])`: one model, which gives the log of their mean probability.

    Log-probabilities serve as scores, so whatever takes a model takes an ensemble.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        some(self.members, "members of an ensemble")
        devices = sorted({str(device_of(member)) for member in self.members})
        fix = "move them to one: member.to(device)"
        refuse(len(devices) > 1, "the members of an ensemble are on different devices", given=devices, fix=fix)

    def forward(self, x: Tensor) -> Tensor:
        logs = [log_probabilities(member(x)) for member in self.members]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))


LAYERS: tuple[type[nn.Module], ...] = (  # of which a network of one's own can be kept, and built again from its card
    *(Normalise, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout2d, nn.Flatten),
    *(nn.Linear, nn.BatchNorm1d, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax),
)
PUBLISHED, OURS = (simple, light, deep, compact, pooled), (sprint, tiny, small)
MODELS: dict[str, Callable[[], nn.Sequential]] = {make.__name__: make for make in PUBLISHED + OURS}


def build(name: str, layers: Sequence[Sequence[Any]] | None = None) -> nn.Sequential:
    """`build("deep")` is a fresh `deep()`; an unknown name raises and lists those there are.

    With the layers that `written` made of a network of your own, a fresh one like it.
    """
    if layers is None:
        return choose("model", name, MODELS)()
    kinds, made = {kind.__name__: kind for kind in LAYERS}, []
    try:
        for own_name, kind, settings in layers:
            given = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
            made.append((own_name, choose("layer", kind, kinds)(**given)))
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, MnistvizError):
            raise
        fix = "restore the card that was saved, or train again"
        raise MnistvizError(f"these are not the layers of a network ({error})", given=layers, fix=fix) from error
    return _sequential(*made)


def written(model: nn.Module) -> list[tuple[str, str, dict[str, Any]]] | None:
    """A flat `nn.Sequential` as plain data: name, kind and settings of each layer; None for any other network."""
    if type(model) is not nn.Sequential or any(type(layer) not in LAYERS for layer in model):
        return None
    layers = model._modules.items()  # named_children() would leave out a layer's second use
    return [(name, type(layer).__name__, _settings(layer)) for name, layer in layers if layer is not None]


def _settings(layer: nn.Module) -> dict[str, Any]:
    """What a layer was made with: its attributes of the names that its class takes."""
    names = [name for name in signature(type(layer)).parameters if hasattr(layer, name)]
    values = {name: getattr(layer, name) for name in names}
    return {name: value is not None if name == "bias" else value for name, value in values.items()}


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in a model: `count_parameters(light())` is 24210."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def layer_table(model: nn.Module) -> pd.DataFrame:
    """Layer by layer, for one digit: shapes, parameters, multiply-adds and sizes, counted by torchinfo."""
    from torchinfo import summary

    def times(sizes: Sequence[int] | int | None) -> str:  # a lone pooling window is a square
        return "×".join(map(str, [sizes] * 2 if isinstance(sizes, int) else sizes or []))

    stats = summary(model, input_data=torch.zeros(1, 1, 28, 28, device=device_of(model)), verbose=0)
    layers = [info for info in stats.summary_list if info.is_leaf_layer]
    columns = {
        "kind": [info.class_name for info in layers],
        "output": [times(info.output_size[1:]) for info in layers],
        "kernel": [times(info.kernel_size) for info in layers],
        "parameters": [info.trainable_params for info in layers],
        "multiply-adds": [info.macs if isinstance(info.module, nn.Conv2d | nn.Linear) else 0 for info in layers],
        "output kB": [info.output_bytes / 1000 for info in layers],
        "weights kB": [info.param_bytes / 1000 for info in layers],
    }
    table = pd.DataFrame(columns, [info.var_name for info in layers])
    table.loc["total"] = [*[""] * 3, *table.iloc[:, 3:].sum()]
    return table.astype({"parameters": int, "multiply-adds": int}).rename_axis("layer")
