"""Checkpoints of a training on disk, beside its weights, for a page that shows what the network learned when."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from mnistviz import project
from mnistviz.device import World
from mnistviz.errors import refuse
from mnistviz.learn.checkpoint import load_model, read_card, save_model, weights
from mnistviz.learn.history import Fit
from mnistviz.look.diary import Timelapse

FOLDER = "lapse"


def keeping(folder: Path, steps: Sequence[int]) -> dict[str, Callable[[Fit], None]]:
    """`fit(…, callbacks=keeping(folder, [0, 10, 100]))`: the weights after these steps, each a checkpoint of its own.

    A training that is resumed goes on keeping them.
    """

    def keep(state: Fit) -> None:
        step = max((state.epoch - 1) * state.steps_per_epoch + state.step, 0)
        begins = not state.history.rows and not step
        if World.here().rank or step not in steps or not (step or begins):
            return
        for earlier in (folder / FOLDER).glob("*.*") if begins else ():
            earlier.unlink()
        card = {"architecture": state.recipe.model, "step": step, "recipe": asdict(state.recipe)}
        save_model(folder / FOLDER / f"{step:06d}.pth", weights(state.trained), card)

    return {"start": keep, "step": keep}


def kept(path: Path) -> Timelapse:
    """`kept(Path("models/_mine/light/best_mnist_model.pth"))`: what was kept of the training of these weights."""
    files = sorted((path.parent / FOLDER).glob("*.pth"))
    fix = f"train with it: python -m mnistviz train {read_card(path)['architecture']} --lapse"
    refuse(not files, "no checkpoints were kept of this training", given=project.shown(path.parent), fix=fix)
    lapse, recipe = Timelapse(int(file.stem) for file in files), read_card(path).get("recipe")
    for file in files:
        other = read_card(file).get("recipe") != recipe
        refuse(other, "these checkpoints are of another training", given=project.shown(file), fix=fix)
        lapse.checkpoints[int(file.stem)] = weights(load_model(file))
    return lapse
