"""`start()`: the first line of every notebook. It fixes what a run depends on and says so."""

import os
import platform
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnistviz import project
from mnistviz.device import pick_device, pick_precision
from mnistviz.errors import choose

VARIABLE = "MNISTVIZ_PROFILE"
FOLDERS = ("models", "visualizations", "animations")


@dataclass(frozen=True)
class Profile:
    """Sizes, and nothing but sizes: the code that runs is the same."""

    name: str
    images: int | None  # training images taken; None takes them all
    epochs: int  # at most so many, whatever the recipe says; the longer recipes are for the command line
    floor: float  # validation accuracy that a training must reach here
    frames: int  # of each movement in an animation; a training is looked at six times as often
    dpi: int  # of pictures, shown as large as at 72: the full profile has two pixels for each one on the page


PROFILES = {
    "quick": Profile("quick", images=6_000, epochs=2, floor=0.93, frames=2, dpi=72),
    "full": Profile("full", images=None, epochs=6, floor=0.994, frames=8, dpi=144),
}


@dataclass(frozen=True)
class Run(Profile):
    """What `start` settled: the profile's sizes, seed, device, and the folders this run writes to."""

    seed: int
    device: torch.device
    models: Path
    visualizations: Path
    animations: Path

    def __repr__(self) -> str:
        precision = pick_precision("auto", self.device)
        kaggle = all((project.data_folder() / name).exists() for name in ("train.csv", "test.csv"))
        embedded = any(project.data_folder().glob("*-ubyte.gz"))
        rows = {
            "profile": f"{self.name} ({VARIABLE}=quick|full chooses)",
            "seed": str(self.seed),
            "device": f"{self.device}, trains in {precision}",
            "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
            "data": f"MNIST {'embedded' if embedded else 'to be downloaded'}, "
            f"Kaggle {'your train.csv and test.csv' if kaggle else 'stand-in'}",
            "writes to": ", ".join(project.shown(getattr(self, name)) for name in FOLDERS),
        }
        return "\n".join(f"{name:<10}{text}" for name, text in rows.items())


def start(profile: str | None = None, seed: int = 0, device: str | None = None) -> Run:
    """`run = mv.start(PROFILE, seed=SEED)` seeds everything, chooses device and sizes, and prints them.

    The profile is the argument, else `$MNISTVIZ_PROFILE`, else "full". A run writes below folders of that name, such as
    `models/_full/`, never what is shipped; only `make release` (`$MNISTVIZ_RELEASE`) writes shipped pictures and films.
    """
    import matplotlib

    chosen = choose("profile", profile or os.environ.get(VARIABLE) or "full", PROFILES)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    matplotlib.rcParams["figure.dpi"] = chosen.dpi
    folders: dict[str, Any] = {name: project.root() / name / f"_{chosen.name}" for name in FOLDERS}
    if chosen.name == "full" and os.environ.get("MNISTVIZ_RELEASE"):
        folders |= {name: project.root() / name for name in FOLDERS[1:]}
    run = Run(**asdict(chosen), **folders, seed=seed, device=pick_device(device))
    print(run)
    return run
