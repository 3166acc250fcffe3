"""How well `deep` learns: three seeds on the 60,000, judged once each on the 10,000 at the last epoch.

Takes most of an hour on two cores, so it runs alone and keeps its numbers in `results/accuracy.json`,
from which `make bench` writes its report:  python benchmarks/accuracy.py
"""

import json
import statistics

import torch

import mnistviz as mv
from benchmarks.common import RESULTS, hardware
from mnistviz import project

SEEDS = (0, 1, 2)


def main() -> None:
    digits = mv.load_digits("mnist")
    runs = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = mv.models.deep()
        history = mv.fit(model, digits.train, None, mv.recipes.tuned("deep").but(seed=seed))
        report = mv.evaluate(model, digits.test)
        print(f"seed {seed}: {report}, {history.seconds:.0f} s", flush=True)
        runs.append({"seed": seed, "accuracy": report.accuracy, "nll": report.nll, "seconds": history.seconds})
    values = [run["accuracy"] for run in runs]
    result = {
        "what": "deep, tuned recipe, 60,000 training images, last epoch, 10,000 test images",
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values),
        "runs": runs,
        "hardware": hardware(),
    }
    project.write_bytes(RESULTS / "accuracy.json", (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
