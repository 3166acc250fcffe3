"""Speed as ratios, measured in one run and written to `benchmarks/results.md`; `make bench` calls this.

python -m benchmarks.run           about a quarter of an hour on two free cores; needs 2 GB of room
python -m benchmarks.run --all     also what is missing of the studies: hours
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

import mnistviz as mv
from benchmarks import bulk, classic, look, page, published, show, studies
from benchmarks.common import hardware, interleaved, spread
from mnistviz import project
from mnistviz.device import pick_precision
from mnistviz.learn.data import DigitSet
from mnistviz.learn.evaluate import BATCH
from mnistviz.learn.study import study

Row = tuple[str, str, str, str, str]  # what, here, beside, ratio, goal
CPU = torch.device("cpu")
SPRINT_SEEDS = range(10)


def data_path(digits: DigitSet) -> list[Row]:
    """Augmented batches per second, ours against PIL images in a DataLoader."""
    moves = mv.Augment(rotation=12, shift=0.08, zoom=0.12)
    with tempfile.TemporaryDirectory() as folder:
        usual = Subset(classic.torchvision_mnist(folder, train=True, steps=classic.MOVES), range(12_000))

    def ours() -> None:
        for _ in digits.train.batches(128, generator=torch.Generator().manual_seed(0), augment=moves):
            pass

    def pil(workers: int) -> None:
        for _ in DataLoader(usual, 128, shuffle=True, num_workers=workers):
            pass

    ours()  # the first pass warms the allocator
    seconds = interleaved(5, ours=ours, pil0=lambda: pil(0), pil2=lambda: pil(2))
    rate = len(digits.train) / statistics.median(seconds["ours"])
    none, two = (len(usual) / statistics.median(seconds[name]) for name in ("pil0", "pil2"))
    beside = f"PIL pipeline: {none:,.0f} with 0 workers, {two:,.0f} with 2"
    ratio = f"{rate / max(none, two):.0f}×"
    return [("augmented images per second", f"{rate:,.0f}", beside, ratio, "20×, aim 50×")]


def sprint(digits: DigitSet) -> list[Row]:
    """Ten seeds of `sprint` to its fixed last epoch, each beside the fastest public recipe."""
    values, seconds, theirs, spent = [], [], [], []
    for seed in SPRINT_SEEDS:
        torch.manual_seed(seed)
        model, recipe = mv.models.sprint(), mv.recipes.tuned("sprint").but(seed=seed)
        history = mv.fit(model, digits.train, None, recipe, device=CPU, progress=False)
        values.append(mv.evaluate(model, digits.test).accuracy)
        seconds.append(history.seconds)
        for figure, kept in zip(classic.fastest(digits, seed), (spent, theirs), strict=True):
            kept.append(figure)
        print(
            f"  seed {seed}: {values[-1]:.2%} in {seconds[-1]:.2f} s, {theirs[-1]:.2%} in {spent[-1]:.2f} s", flush=True
        )
    mean, other = statistics.mean(values), statistics.mean(theirs)
    here = f"{mean:.3%} ± {statistics.stdev(values):.3%}"
    beside = f"fastest public recipe: {spread(spent)}"
    ratio = f"{statistics.median(spent) / statistics.median(seconds):.1f}×"
    return [
        ("training seconds to 99.0 %, `sprint`", spread(seconds), beside, ratio, "at least 2×"),
        (
            f"accuracy of those {len(values)} seeds",
            here,
            f"{other:.3%} ± {statistics.stdev(theirs):.3%}",
            "",
            "mean ≥ 99.0 %",
        ),
    ]


def half_percent(digits: DigitSet) -> list[Row]:
    """Three seeds of `small` in five epochs; the study has its accuracy over five seeds."""
    seconds, recipe = [], mv.recipes.tuned("small").but(epochs=5)
    for seed in range(3):
        torch.manual_seed(seed)
        model = mv.models.small()
        history = mv.fit(model, digits.train, None, recipe.but(seed=seed), device=CPU, progress=False)
        seconds.append(history.seconds)
    runs = published.table("tuned").query("model == 'small' and changes == 'epochs 5'")
    beside = f"test {published.figure(runs['test_final'])} ({published.runs(runs)})"
    return [("training seconds to 99.5 %, `small`, five epochs", spread(seconds), beside, "", "mean ≥ 99.5 %")]


def usual(digits: DigitSet) -> list[Row]:
    """`sprint` once more, and the classic script to its first epoch at 99 %."""
    torch.manual_seed(0)
    history = mv.fit(mv.models.sprint(), digits.train, None, mv.recipes.tuned("sprint"), device=CPU, progress=False)
    spent, epochs = classic.seconds_to(0.99)
    beside, ratio = (
        f"classic script: {spent:.0f} s, {len(epochs)} epochs, {epochs[-1]:.2%}",
        f"{spent / history.seconds:.0f}×",
    )
    return [
        ("training seconds, `sprint`, seed 0", f"{history.seconds:.2f} s", beside, ratio, "40×, aim 60× and under 5 s")
    ]


def loop(digits: DigitSet) -> list[Row]:
    """`fit` against a hand-written loop on the same tensors, same model, same precision."""
    few, recipe = digits.train.sample(20_000), mv.recipes.tuned("sprint").but(schedule="constant", lr=0.002)
    precision = pick_precision("auto", CPU)

    def by_hand() -> None:
        torch.manual_seed(0)
        model = mv.models.sprint().to(memory_format=precision.memory_format)
        optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        for x, y in few.batches(recipe.batch, generator=torch.Generator().manual_seed(0)):
            with torch.autocast("cpu", precision.autocast, enabled=precision.autocast is not None):
                scores = model(x.to(memory_format=precision.memory_format))
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(scores.float(), y, label_smoothing=recipe.label_smoothing).backward()
            optimiser.step()

    def ours() -> None:
        torch.manual_seed(0)
        mv.fit(mv.models.sprint(), few, None, recipe, device=CPU, progress=False)

    by_hand(), ours()
    seconds = interleaved(25, ours=ours, hand=by_hand)
    more = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["hand"], strict=True)) - 1
    beside = f"hand-written loop {spread(seconds['hand'])}"
    return [("an epoch of 20,000 images in `fit`", spread(seconds["ours"]), beside, f"{more:+.1%}", "within 2 %")]


def system_a(digits: DigitSet) -> list[Row]:
    """System A as published, ours beside the usual pipeline: PIL images, a transform for each, a DataLoader."""
    few, recipe = digits.train[:10_000], mv.recipes.published("simple").but(epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        images = Subset(classic.torchvision_mnist(folder, train=True, steps=[]), range(len(few)))

    def by_hand() -> None:
        model = mv.models.simple()
        optimiser = torch.optim.Adam(model.parameters(), lr=recipe.lr)
        for x, y in DataLoader(images, recipe.batch, shuffle=True):
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()

    def ours() -> None:
        mv.fit(mv.models.simple(), few, None, recipe, device=CPU, progress=False)

    by_hand(), ours()
    seconds = interleaved(5, ours=ours, hand=by_hand)
    ratio = statistics.median(seconds["hand"]) / statistics.median(seconds["ours"])
    beside = f"PIL images in a DataLoader {spread(seconds['hand'])}"
    return [("`simple` as published, 10,000 digits once", spread(seconds["ours"]), beside, f"{ratio:.2f}×", "")]


def inference(digits: DigitSet) -> list[Row]:
    """`evaluate` with all its numbers against nothing but the model's forward at the same batch size."""
    torch.manual_seed(0)
    model = mv.models.deep().eval()
    pixels = digits.test.pixels

    @torch.inference_mode()
    def bare() -> None:
        for start in range(0, len(pixels), BATCH["cpu"]):
            model(pixels[start : start + BATCH["cpu"]])

    bare()
    seconds = interleaved(7, ours=lambda: mv.evaluate(model, digits.test), bare=bare)
    ours, plain = (len(pixels) / statistics.median(seconds[name]) for name in ("ours", "bare"))
    beside = f"bare forward, batch {BATCH['cpu']}: {plain:,.0f}"
    return [("images per second through `evaluate`, `deep`", f"{ours:,.0f}", beside, f"{ours / plain:.0%}", "90 %")]


def startup(digits: DigitSet) -> list[Row]:
    """`import mnistviz` beside `import torch`, and the command line's help beside Python's own start."""

    def python(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    commands = {
        "ours": python("-c", "import mnistviz"),
        "torch": python("-c", "import torch"),
        "help": python("-m", "mnistviz", "--help"),
        "nothing": python("-c", ""),
    }
    python("-c", "import torch, mnistviz")()  # the first reading from disk is nobody's
    seconds = interleaved(7, **commands)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratio, later = median["ours"] / median["torch"], median["help"] - median["nothing"]
    beside = f"`import torch` {spread(seconds['torch'])}"
    start = f"Python's own start {spread(seconds['nothing'])}"
    return [
        ("`import mnistviz`, a fresh process", spread(seconds["ours"]), beside, f"{ratio:.2f}", "at most 1.2"),
        ("`python -m mnistviz --help`", spread(seconds["help"]), start, f"+{later:.2f} s", "under +0.5 s"),
    ]


def trained() -> list[str]:
    """What the studies measured so far."""
    note = [
        "Mean ± standard deviation over the seeds, at the last epoch where no validation rule is named. `studies/`",
        "holds every run, with its seconds and the instructions of its processor.",
    ]
    return ["## The published systems, and the frontier", "", *published.markdown(), "", *note]


def table_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="also the long trainings")
    options = parser.parse_args()
    if options.all:
        for name in ("published", "tuned"):
            study(published.STUDIES / f"{name}.toml")
    digits = mv.load_digits("mnist")
    rows: list[Row] = []
    for part in (
        data_path,
        loop,
        system_a,
        inference,
        startup,
        look.capturing,
        look.going_back,
        look.statistics,
        look.drawing,
        show.grid,
        show.scenes,
        page.lab,
        bulk.streaming,
        studies.several,
        sprint,
        half_percent,
        usual,
    ):
        print(f"{part.__name__}: {(part.__doc__ or '').splitlines()[0]}", flush=True)
        measured = part(digits)
        rows += measured
        print("\n".join(map(table_row, measured)), flush=True)
    path, machine = Path(__file__).parent / "results.md", hardware()
    kinds = dict(re.findall(r"^## On (.+?)\n\n(.+?)\n\n(?=## )", path.read_text(), flags=re.DOTALL | re.MULTILINE))
    table = ["| what | here | beside | ratio | goal |", "|---|---|---|---|---|", *map(table_row, rows)]
    about = " · ".join(f"{name} {value}" for name, value in machine.items())
    kinds[machine["instructions"]] = "\n".join([about, "", *table])  # other processors keep what they measured
    lines = [
        "# Measured",
        "",
        "Written by `make bench`. Medians of interleaved repeats with their range; every ratio comes from one run.",
        "",
        *(f"## On {kind}\n\n{measured}\n" for kind, measured in sorted(kinds.items(), reverse=True)),
        *trained(),
        "",
        "*Seconds to 99.0 %* count training only: neither import, nor reading the files, nor evaluation is inside",
        "either clock. The classic script's accuracy is looked at after every epoch to stop it at its first 99.0 %;",
        "`sprint` runs to its fixed last epoch and its test accuracy chooses nothing.",
        "",
    ]
    project.write_bytes(path, "\n".join(lines).encode())


if __name__ == "__main__":
    main()
