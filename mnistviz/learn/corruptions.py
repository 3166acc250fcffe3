"""What breaks a network: seeded corruptions in five strengths, and how many digits are still read right."""

import math
from collections.abc import Callable, Iterable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistviz.errors import MnistvizError, choose
from mnistviz.learn.augment import squares
from mnistviz.learn.data import Digits
from mnistviz.learn.evaluate import measure


def corrupt(digits: Digits, kind: str, strength: int, seed: int = 0) -> Digits:
    """`corrupt(test, "blur", 3)`: the same digits, worse; an own draw for each, from the seed."""
    change = choose("corruption", kind, CORRUPTIONS)
    if isinstance(strength, bool) or not isinstance(strength, int) or not 0 <= strength <= 5:
        raise MnistvizError("strength of a corruption", given=strength, allowed="0 (none) to 5")
    if not strength or not len(digits):
        return digits
    x = change(digits.pixels.cpu(), strength, torch.Generator().manual_seed(seed)).clamp(0, 1)
    images = (x * 255).round().to(torch.uint8).squeeze(1).to(digits.images.device)
    return Digits(images, digits.labels, f"{digits.source}, {kind} {strength} of 5")


def _signs(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (len(x),), generator=generator) * 2.0 - 1


def _map(x: Tensor, *numbers: Tensor | float) -> Tensor:
    """Each picture through its own (2, 3) map from where a pixel comes, in units of half the picture."""
    rows = torch.stack([torch.as_tensor(number).expand(len(x)) for number in numbers], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _rotate(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    angle = _signs(x, g) * math.radians(10 * s)
    return _map(x, angle.cos(), -angle.sin(), 0.0, angle.sin(), angle.cos(), 0.0)


def _shift(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """By 1.4 pixels for each degree of strength, in any direction."""
    angle = torch.rand(len(x), generator=g) * 2 * math.pi
    return _map(x, 1.0, 0.0, angle.cos() * 0.1 * s, 0.0, 1.0, angle.sin() * 0.1 * s)


def _blur(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    sigma, at = 0.3 * s, torch.arange(-7.0, 8)
    bell = torch.exp(-0.5 * (at / sigma) ** 2)
    bell /= bell.sum()
    return F.conv2d(F.conv2d(x, bell.view(1, 1, 1, -1), padding=(0, 7)), bell.view(1, 1, -1, 1), padding=(7, 0))


def _specks(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    drawn = torch.rand(x.shape, generator=g)
    return x.masked_fill(drawn < 0.02 * s, 0.0).masked_fill(drawn > 1 - 0.02 * s, 1.0)


def _thicken(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """Each degree of strength makes strokes wider by about half a pixel on either side."""
    for _ in range(s):
        x = (x + F.max_pool2d(x, 3, 1, 1)) / 2
    return x


def _cover(x: Tensor, s: int, g: torch.Generator) -> Tensor:
    """A black square of 3 pixels for each degree of strength, somewhere over the middle 20×20."""
    side, draw = 3 * s, torch.rand(2, len(x), generator=g)
    top, left = (4 + draw * (20 - side + 1)).floor()
    return x.masked_fill(squares(x, top, left, side), 0.0)


# strength 0 is the identity, 5 the most; made for this project, and not the set called MNIST-C
CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "shift": _shift,
    "rotation": _rotate,
    "shear": lambda x, s, g: _map(x, 1.0, _signs(x, g) * 0.16 * s, 0.0, 0.0, 1.0, 0.0),
    "shrink": lambda x, s, g: _map(x, 1 + 0.2 * s, 0.0, 0.0, 0.0, 1 + 0.2 * s, 0.0),
    "blur": _blur,
    "noise": lambda x, s, g: x + torch.randn(x.shape, generator=g) * 0.06 * s,
    "specks": _specks,
    "fading": lambda x, s, g: x * (1 - 0.16 * s),
    "grey paper": lambda x, s, g: x + (1 - x) * 0.05 * s,
    "thick": _thicken,
    "thin": lambda x, s, g: -_thicken(-x, s, g),  # paper grows as ink does in "thick"
    "cover": _cover,
}


def robustness(model: nn.Module, digits: Digits, kinds: Iterable[str] = (), seed: int = 0) -> pd.DataFrame:
    """`robustness(model, test)`: the share of right answers for every corruption (or those named) and strength."""
    rows, untouched = [], measure(model, digits)[1]
    for kind in kinds or CORRUPTIONS:
        for strength in range(6):
            right = measure(model, corrupt(digits, kind, strength, seed))[1] if strength else untouched
            rows.append({"corruption": kind, "strength": strength, "accuracy": right})
    return pd.DataFrame(rows)
