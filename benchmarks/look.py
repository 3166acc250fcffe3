"""What looking inside costs: recording every layer beside other tools, and summing up beside only predicting."""

import io
import statistics as stats
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import psutil
import torch
import torch.nn.functional as F
from captum.attr import LayerActivation
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

import mnistviz as mv
from benchmarks.common import interleaved, spread
from mnistviz.learn.data import DigitSet
from mnistviz.look.trace import Trace, tensors

Row = tuple[str, str, str, str, str]  # what, here, beside, ratio, goal


def held(trace: Trace) -> list[Tensor]:
    """The tensors in a trace, each once."""
    parts = [[*step.inputs, step.output, step.weights, step.delta, step.gradients] for step in trace.steps]
    return list({id(t): t for t in tensors(parts)}.values())


@torch.no_grad()
def capturing(digits: DigitSet) -> list[Row]:
    """All layers of `deep` for 256 digits: `capture` against its budget, torchvision and captum."""
    model, x = mv.load_model("deep").eval(), digits.test[:256].pixels
    layers = dict(model.named_children())
    extractor = create_feature_extractor(model, return_nodes={name: name for name in layers})
    activation = LayerActivation(model, list(layers.values()))

    def ours() -> Trace:
        with mv.capture(model) as trace:
            model(x)
        return trace

    kept = held(ours())
    contenders = {
        "ours": ours,
        "forward": lambda: model(x),
        "clone": lambda: [t.clone() for t in kept],
        "torchvision": lambda: {name: t.clone() for name, t in extractor(x).items()},
        "captum": lambda: activation.attribute(x),
    }
    for call in contenders.values():  # the first pass warms the allocator
        call()
    seconds = interleaved(15, **contenders)
    median = {name: stats.median(values) for name, values in seconds.items()}
    budget = 1.15 * median["forward"] + median["clone"]
    size = sum(t.nbytes for t in kept) / 2**20
    what, here = "`capture`, all layers of `deep`, 256 digits", spread(seconds["ours"])
    parts = f"forward {spread(seconds['forward'])}, cloning {size:.0f} MiB {spread(seconds['clone'])}"
    return [
        (
            what,
            here,
            f"1.15 × forward + clone {budget:.3g} s: {parts}",
            f"{median['ours'] / budget:.0%}",
            "at most 100 %",
        ),
        *(
            (what, here, f"{name} {spread(seconds[tool])}", f"{median['ours'] / median[tool]:.2f}", "≤ 1")
            for tool, name in (
                ("torchvision", "torchvision extractor with clones"),
                ("captum", "captum LayerActivation"),
            )
        ),
    ]


def going_back(digits: DigitSet) -> list[Row]:
    """δ of every layer of `deep` and all its gradients, for 64 digits, against a plain forward and backward."""
    model, x, labels = mv.load_model("deep"), digits.test[:64].pixels, digits.test[:64].known_labels()

    def ours() -> Trace:
        with mv.capture(model, gradients=True) as trace:
            model(x)
        return mv.backward(trace, labels=labels)

    def plain() -> None:
        torch.autograd.grad(F.cross_entropy(model(x), labels), list(model.parameters()))

    kept = held(ours())
    seconds = interleaved(15, ours=ours, plain=plain, clone=lambda: [t.clone() for t in kept])
    median = {name: stats.median(values) for name, values in seconds.items()}
    ratio = (median["ours"] - median["clone"]) / median["plain"]
    size = sum(t.nbytes for t in kept) / 2**20
    parts = f"forward and backward {spread(seconds['plain'])}, cloning {size:.0f} MiB {spread(seconds['clone'])}"
    what = "`capture` with gradients and `backward`, all layers of `deep`, 64 digits"
    return [(what, spread(seconds["ours"]), parts, f"{ratio:.2f} less the cloning", "at most 1.5")]


def statistics(digits: DigitSet) -> list[Row]:
    """`predict` over 10,000 digits with `watch` on all layers, and on the ReLUs, against `predict` alone."""
    model = mv.load_model("deep")

    def watched(layers: str | None) -> None:
        with mv.watch(model, layers):
            mv.predict(model, digits.test)

    plain = partial(mv.predict, model, digits.test)
    plain()
    seconds = interleaved(5, plain=plain, all=partial(watched, None), relu=partial(watched, "relu*"))
    beside = f"`predict` alone {spread(seconds['plain'])}"
    more = {name: stats.median(values) / stats.median(seconds["plain"]) - 1 for name, values in seconds.items()}
    child = subprocess.run([sys.executable, "-m", "benchmarks.look"], capture_output=True, text=True, check=True)
    alone, peak = map(float, child.stdout.split())
    return [
        (
            "`predict` of 10,000 in `watch`, all layers",
            spread(seconds["all"]),
            beside,
            f"{more['all']:+.0%}",
            "within 35 %",
        ),
        (
            "`predict` of 10,000 in `watch`, ReLUs",
            spread(seconds["relu"]),
            beside,
            f"{more['relu']:+.0%}",
            "within 35 %",
        ),
        (
            "peak memory of `predict` in `watch`, all layers",
            f"{peak:,.0f} MiB",
            f"`predict` alone {alone:,.0f} MiB",
            f"{peak - alone:+.0f} MiB",
            "under 200 MB",
        ),
    ]


def peak(call: Callable[[], object]) -> float:
    """The most memory, in MiB, that this process holds during a call."""
    process, done, most = psutil.Process(), threading.Event(), [0]

    def look() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    call()
    done.set()
    thread.join()
    return most[0] / 2**20


def drawing(digits: DigitSet) -> list[Row]:
    """A figure of 64 maps with their numbers, as PNG: one image of tiles against 64 axes of pyplot."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 64, 3, padding=1), torch.nn.ReLU())
    with mv.capture(model) as trace:
        model(digits.test[0].pixels)

    def usual() -> None:
        figure, axes = plt.subplots(8, 8, figsize=(9, 9))
        for i, ax in enumerate(axes.flat):
            ax.imshow(trace["1"].output[0, i], cmap="magma")
            ax.set_title(str(i), fontsize=7)
            ax.axis("off")
        figure.savefig(io.BytesIO(), format="png")
        plt.close(figure)

    def ours() -> None:
        mv.figures.feature_maps(trace, "1")._repr_mimebundle_()

    ours(), usual()
    seconds = interleaved(7, ours=ours, usual=usual)
    ratio = stats.median(seconds["ours"]) / stats.median(seconds["usual"])
    beside = f"`subplots(8, 8)` and `imshow` {spread(seconds['usual'])}"
    return [("figure of 64 maps, drawn and written", spread(seconds["ours"]), beside, f"{ratio:.2f}", "under 0.5")]


def peaks() -> tuple[float, float]:
    """Of `predict` alone and in `watch`, over digits made up on the spot."""
    noise = torch.randint(256, (10_000, 28, 28), dtype=torch.uint8)
    model, digits = mv.load_model("deep"), mv.Digits(noise, None, "noise")

    def watched() -> None:
        with mv.watch(model):
            mv.predict(model, digits)

    return peak(lambda: mv.predict(model, digits)), peak(watched)


if __name__ == "__main__":  # in a process of its own, in which nothing else takes or frees memory
    print(*peaks())
