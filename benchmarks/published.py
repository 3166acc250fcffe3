"""The published systems beside what the studies measured, as the rows of a table: `python -m benchmarks.published`."""

from pathlib import Path

import pandas as pd

import mnistviz as mv
from mnistviz.learn.study import read, results

STUDIES = Path(__file__).resolve().parent.parent / "studies"
HEAD = [
    "",
    "system",
    "parameters",
    "published",
    "here, by the published recipe",
    "here, by our recipe, on MNIST's 60,000",
]
# system, published figure, and what to say of the runs by its own recipe
SYSTEMS = {
    "simple": ("A", "validation 98.64 %, Kaggle 98.73 %", "validation {val_final}, test {test_final}"),
    "light": ("B", "98.16 % after 5 epochs, 97.06 % after 1", "test {test_final} after 5 epochs, {first} after 1"),
    "deep": (
        "C",
        "validation 99.49 % best, 99.44 % final",
        "validation {val_kept} best, {val_final} final; test {test_final}",
    ),
    "compact": ("D", "none given", "validation {val_kept} best, {val_final} final; test {test_final}"),
    "pooled": ("E", "over 99 % on the test images", "test {test_kept} at the lowest validation loss"),
    "small": ("", "at most 20,000 parameters: 99.54 % in its best epoch", ""),
    "tiny": ("", "at most 8,000 parameters: 99.48 % in its best epoch", ""),
}


def table(name: str) -> pd.DataFrame:
    """All runs of a study that are there."""
    runs = results(read(STUDIES / f"{name}.toml"), STUDIES / name)
    return runs[runs["seconds"].notna()]


def figure(values: pd.Series) -> str:
    """Mean ± standard deviation over the seeds."""
    values = values.dropna()
    return f"{values.mean():.2%} ± {values.std():.2%}" if len(values) > 1 else f"{values.mean():.2%}"


def rows() -> list[list[str]]:
    theirs, ours = table("published"), table("tuned")
    lines = []
    for name, (system, published, said) in SYSTEMS.items():
        own, best = theirs[theirs["model"] == name], ours[(ours["model"] == name) & (ours["changes"] == "")]
        usual = own[own["changes"] == ""]
        figures = {column: figure(usual[column]) for column in ("val_kept", "val_final", "test_kept", "test_final")}
        figures["first"] = figure(own[own["changes"] == "epochs 1"]["test_final"])
        as_published = f"{said.format(**figures)} ({runs(usual)})" if len(usual) else ""
        with_ours = f"test {figure(best['test_final'])} ({runs(best)})" if len(best) else ""
        size = f"{mv.models.count_parameters(mv.models.build(name)):,}"
        lines.append([system, f"`{name}`", size, published, as_published, with_ours])
    return lines


def runs(table: pd.DataFrame) -> str:
    return "1 run" if len(table) == 1 else f"{len(table)} runs"


def markdown() -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---", "---", "---:", "---", "---", "---"], *rows())]


if __name__ == "__main__":
    print("\n".join(markdown()))
