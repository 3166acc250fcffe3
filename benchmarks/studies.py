"""What a study gains from several processes."""

import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch

import mnistviz as mv
from benchmarks.common import interleaved, spread
from mnistviz.learn import engines
from mnistviz.learn.data import DigitSet
from mnistviz.learn.plan import Config
from mnistviz.learn.study import run, take

Row = tuple[str, str, str, str, str]  # what, here, beside, ratio, goal


def several(digits: DigitSet, images: int = 3_000, repeats: int = 3) -> list[Row]:
    """Four short runs each of `light` and `simple`: two workers of one thread beside one process with two threads."""
    rows = []
    for model in ("light", "simple"):
        recipe = mv.recipes.published(model).but(epochs=1)
        configs = [Config("published", recipe.but(seed=seed), images=images) for seed in range(4)]
        workers, threads = partial(_two_workers, configs), partial(_two_threads, configs)
        _two_workers(configs[:2])  # starting two processes is nobody's
        seconds = interleaved(repeats, workers=workers, threads=threads)
        ratio = statistics.median(b / a for a, b in zip(seconds["workers"], seconds["threads"], strict=True))
        beside = f"one process with two threads {spread(seconds['threads'])}"
        what = f"four runs of `{model}` on {images:,} digits, two workers"
        rows.append((what, spread(seconds["workers"]), beside, f"{ratio:.2f}×", "more than 1×"))
    return rows


def _two_workers(configs: list[Config]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tasks = [(config, Path(folder)) for config in configs]
        states = [state for _, state in engines.spread(take, tasks, "processes", workers=2)]
    assert states == ["done"] * len(configs)


def _two_threads(configs: list[Config]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    for config in configs:
        run(config)
    torch.set_num_threads(threads)
