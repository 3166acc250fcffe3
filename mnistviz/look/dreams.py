"""Pictures that please a network: what a score or a channel answers to most, with and without priors."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnistviz.errors import one_of, refuse
from mnistviz.look.layers import Hooks, pick, undisturbed, unwrapped


@dataclass(frozen=True, eq=False)
class Dreams:
    """Pictures made to excite, one per seed, with what they excited at first and in the end."""

    pixels: Tensor  # (seeds, 1, 28, 28) in [0, 1]
    start: Tensor  # (seeds,)
    end: Tensor


def dream(
    model: nn.Module, layer: str, channel: int, *, priors: bool = True, seeds: int = 4, steps: int = 160, seed: int = 0
) -> Dreams:
    """`dream(model, "fc2", 7)`: pictures that make the score for 7, or a channel's mean, as large as can be.

    Pixels stay between 0 and 1 whatever happens. The priors: the picture is moved by up to two pixels at each
    step, neighbours are pulled together (total variation), and paper is cheaper than ink.
    """
    model, compiled = unwrapped(model)
    ((name, module),) = pick(model, [layer], one=True).items()
    generator = torch.Generator().manual_seed(seed)
    raw = (torch.randn(seeds, 1, 28, 28, generator=generator) * 0.3 - 1.0).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=0.08)

    def excited(pixels: Tensor) -> Tensor:
        made: list[Tensor] = []  # copies, since a ReLU behind the layer may work in place
        with Hooks(compiled) as hooks:
            hooks.after(module, lambda *call: made.append(call[-1].clone()))
            model(pixels)
        refuse(len(made) != 1, f"{layer!r} must run once in a pass", given=f"{len(made)} calls")
        one_of(f"channel in {name!r}", channel, made[0].shape[1])
        return made[0][:, channel].reshape(len(pixels), -1)

    with undisturbed(model), torch.enable_grad():
        start = excited(raw.sigmoid()).detach().mean(1)
        for _ in range(steps):
            pixels = seen = raw.sigmoid()
            if priors:
                down, across = torch.randint(-2, 3, (2,), generator=generator).tolist()
                seen = pixels.roll((down, across), (2, 3))
            loss = -excited(seen).sum()
            if priors:
                rough = pixels.diff(dim=2).abs().sum() + pixels.diff(dim=3).abs().sum()
                loss = loss + 0.02 * rough + 0.01 * pixels.sum()
            (raw.grad,) = torch.autograd.grad(loss, raw)
            optimiser.step()
        final = raw.sigmoid().detach()
        return Dreams(final, start, excited(final).detach().mean(1))
