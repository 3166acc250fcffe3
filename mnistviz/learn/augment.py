"""Batched augmentation: one independent draw per image, one resampling for every geometric part."""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistviz.errors import check


@dataclass(frozen=True)
class Augment:
    """`x, y = Augment(rotation=10, shift=0.1)(x, y, generator)` — x: (N, 1, 28, 28) in [0, 1].

    Each field is a size or a strength; zero turns it off. Rotation, zoom, shift, crop, slant, aspect and
    elastic distortion are combined into one sampling grid, so a pixel is interpolated once, not seven times.
    Pixels that come from outside the picture are black. Then the pen: stroke, blur and gamma, in this order.
    """

    rotation: float = 0.0  # degrees, uniform in ±rotation
    shift: float = 0.0  # fraction of the picture, uniform in ±shift, each axis its own
    zoom: float = 0.0  # uniform in 1 ± zoom, larger is nearer
    crop: tuple[int, float] = (28, 0.0)  # (side, probability): cut the centre, resize it back
    elastic: tuple[float, float] = (0.0, 4.0)  # (typical displacement, smoothness), both in pixels
    cutout: tuple[int, float] = (0, 0.0)  # (side, probability): one black square
    mixup: float = 0.0  # alpha of Beta(alpha, alpha); labels become ten probabilities
    slant: float = 0.0  # degrees by which uprights lean, uniform in ±slant
    aspect: float = 0.0  # width times a factor uniform in 1 ± aspect, height divided by it
    stroke: float = 0.0  # pixels by which the edge of the ink moves out, uniform in ±stroke; inwards half of that
    blur: float = 0.0  # standard deviation in pixels, uniform in 0 to blur; full ink stays full ink
    gamma: float = 0.0  # exponent of the ink, its logarithm uniform in ±gamma: greys become lighter or darker

    def __post_init__(self) -> None:
        kind = "augmentation setting"
        check(kind, self, "rotation", lambda x: 0 <= x <= 180, "0 to 180 degrees")
        check(kind, self, "shift", lambda x: 0 <= x <= 1, "0 to 1, a fraction of the picture")
        check(kind, self, "zoom aspect", lambda x: 0 <= x < 1, "0 up to but not including 1")
        check(kind, self, "crop", lambda x: x[0] >= 1 and 0 <= x[1] <= 1, "(side ≥ 1, probability)")
        check(kind, self, "elastic", lambda x: x[0] >= 0 and x[1] > 0, "(pixels ≥ 0, smoothness > 0)")
        check(kind, self, "cutout", lambda x: x[0] >= 0 and 0 <= x[1] <= 1, "(side ≥ 0, probability)")
        check(kind, self, "mixup blur gamma", lambda x: x >= 0, "0 or more")
        check(kind, self, "slant", lambda x: 0 <= x <= 60, "0 to 60 degrees")
        check(kind, self, "stroke", lambda x: 0 <= x <= 5, "0 to 5 pixels")

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        grid = self._grid(x, generator)
        if grid is not None:
            x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        if self.stroke or self.blur or self.gamma:
            x = self._pen(x, generator)
        if self.cutout[0] and self.cutout[1]:
            x = x * self._holes(x, generator)
        if self.mixup:
            x, y = self._mix(x, y, generator)
        return x, y

    def _grid(self, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """Where each output pixel looks in its input: (N, H, W, 2) in [-1, 1], or None for nowhere new."""
        n, _, h, w = x.shape
        affine = self.rotation or self.shift or self.zoom or self.crop[1] or self.slant or self.aspect
        if not affine and not self.elastic[0]:
            return None

        draw = torch.empty(5, n, device=x.device).uniform_(-1, 1, generator=generator)
        angle = draw[0] * math.radians(self.rotation)
        scale = 1 / (1 + draw[1] * self.zoom)  # looking at a larger field makes the digit smaller
        if self.crop[1]:
            cropped = (draw[4] + 1) / 2 < self.crop[1]
            scale = torch.where(cropped, scale * self.crop[0] / w, scale)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        across, down = torch.stack([cos, sin]), torch.stack([-sin, cos])  # one step to the right, one down: (2, N)
        if self.slant or self.aspect:
            lean, wide = torch.empty(2, n, device=x.device).uniform_(-1, 1, generator=generator)
            wide = 1 + wide * self.aspect
            down = down * wide + across * torch.tan(lean * math.radians(self.slant))
            across = across / wide
        # two rows of the inverse map per image, first x, then y: (2, 3, N)
        rows = torch.stack([across, down, draw[2:4] * 2 * self.shift], dim=1)
        where = (rows.permute(2, 0, 1).reshape(2 * n, 3) @ _plane(h, w, x.device)).view(n, 2, h, w)
        if self.elastic[0]:
            where = where + self._elastic_field(n, h, w, x.device, generator)
        return where.permute(0, 2, 3, 1)

    def _elastic_field(self, n: int, h: int, w: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
        """A smooth random displacement, (N, 2, H, W): white noise through a Gaussian, rescaled to `pixels`."""
        pixels, sigma = self.elastic
        radius = math.ceil(3 * sigma)
        noise = torch.randn(n * 2, 1, h + 2 * radius, w + 2 * radius, generator=generator, device=device)
        t = torch.arange(-radius, radius + 1, device=device, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (t / sigma) ** 2)
        kernel = kernel / kernel.square().sum().sqrt()  # unit energy: the blurred noise keeps sd 1
        for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
            noise = F.conv2d(noise, kernel.view(shape))
        per_pixel = torch.tensor([2 / w, 2 / h], device=device).view(1, 2, 1, 1)
        return noise.view(n, 2, h, w) * pixels * per_pixel

    def _pen(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Another pen: thicker or thinner strokes, softer edges, other greys."""
        n, _, h, w = x.shape
        draw = torch.rand(3, n, 1, 1, 1, generator=generator, device=x.device)
        if self.stroke:
            thicker = (2 * draw[0] - 1) * self.stroke
            for pixel in range(math.ceil(self.stroke)):
                share = (thicker.abs() - pixel).clamp(0, 1)
                thick, thin = F.max_pool2d(x, 3, 1, 1), 1 - F.max_pool2d(1 - x, 3, 1, 1)
                x = torch.where(thicker > 0, torch.lerp(x, thick, share), torch.lerp(x, thin, share / 2))
        if self.blur:
            full, sigma = x.amax((2, 3), keepdim=True), (draw[1] * self.blur).clamp_min(1e-2)
            x = _gaussian(h, sigma) @ x @ _gaussian(w, sigma).mT
            x = x * full / x.amax((2, 3), keepdim=True).clamp_min(1e-6)
        return x ** torch.exp((2 * draw[2] - 1) * self.gamma) if self.gamma else x

    def _holes(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """One where the picture stays, zero in each image's square: (N, 1, H, W)."""
        n, _, h, w = x.shape
        side, probability = self.cutout
        draw = torch.rand(3, n, generator=generator, device=x.device)
        hole = squares(x, (draw[0] * (h + 1 - side)).floor(), (draw[1] * (w + 1 - side)).floor(), side)
        return (~(hole & (draw[2] < probability).view(n, 1, 1, 1))).to(x.dtype)

    def _mix(self, x: Tensor, y: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Blend each image and label with another of the batch; the share comes from Beta(alpha, alpha)."""
        n = len(x)
        alpha = torch.full((n,), self.mixup, device=x.device)
        a, b = (torch._standard_gamma(alpha, generator=generator) for _ in range(2))
        share = (a / (a + b)).nan_to_num(0.5)  # both gammas can underflow when alpha is tiny
        partner = torch.randperm(n, generator=generator, device=x.device)
        labels, of_image, of_label = F.one_hot(y, 10).to(x.dtype), share.view(n, 1, 1, 1), share.view(n, 1)
        images = of_image * x + (1 - of_image) * x[partner]
        return images, of_label * labels + (1 - of_label) * labels[partner]


def _gaussian(side: int, sigma: Tensor) -> Tensor:
    """One matrix per picture that blurs a column of `side` pixels, each row a bell curve: (N, 1, side, side)."""
    at = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
    return torch.softmax(-0.5 * ((at[:, None] - at) / sigma) ** 2, dim=-1)


def squares(x: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """True inside each picture's own square, (N, 1, H, W)."""
    row = torch.arange(x.shape[2], device=x.device).view(1, 1, -1, 1)
    column = torch.arange(x.shape[3], device=x.device).view(1, 1, 1, -1)
    top, left = top.view(-1, 1, 1, 1), left.view(-1, 1, 1, 1)
    return (row >= top) & (row < top + side) & (column >= left) & (column < left + side)


@cache
def _plane(h: int, w: int, device: torch.device) -> Tensor:
    """Homogeneous coordinates of every pixel centre in [-1, 1]: (3, H·W), rows x, y, 1."""
    ys = (torch.arange(h, device=device) * 2 + 1) / h - 1
    xs = (torch.arange(w, device=device) * 2 + 1) / w - 1
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones(h * w, device=device)])
