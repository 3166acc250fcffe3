"""Exercises for pencil and paper out of passes of a network: in rounded numbers, beside the network's own."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from itertools import chain, product, zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistviz.device import device_of
from mnistviz.errors import refuse
from mnistviz.learn.data import Digits
from mnistviz.look.arithmetic import ledger
from mnistviz.look.capture import capture, record
from mnistviz.look.field import Field, receptive_field
from mnistviz.look.gradients import backward, backward_ledger
from mnistviz.look.replay import pair, under_window
from mnistviz.look.trace import Step, Trace, tensors, times

RATE, ZERO = Decimal("0.1"), Decimal(0)


class Table(NamedTuple):
    """Cells in rows: a number is printed, None is to be filled in, a word stands there without a box."""

    heads: list[str]  # above the columns, or one above all
    cells: list[list[Any]]
    wide: float  # of one cell, in millimetres
    high: float = 7.5
    sign: str = ""  # before the table
    block: tuple[int, int] | None = None  # rows and columns that have a frame together


class Result(NamedTuple):
    """What a pupil writes down: its name, what the printed numbers give, and what the network computed."""

    name: str
    paper: Decimal
    network: float

    def near(self, share: float = 0.05) -> bool:
        """Whether rounding has changed it by no more than this share."""
        return abs(float(self.paper) - self.network) <= share * abs(self.network)


@dataclass
class Task:
    """What is printed, from left to right, and what comes out; `seen` is of the digit, `why` for the teacher."""

    about: str
    tables: list[Table]
    results: list[Result] = field(default_factory=list)
    seen: list[Field] = field(default_factory=list)
    why: str = ""

    def box(self, head: str, number: Decimal, network: float | None = None) -> Decimal:
        """One more box in the last table: with its number, or to be filled in, if it is a result."""
        self.tables[-1].heads.append(head)
        self.tables[-1].cells[0].append(number if network is None else None)
        if network is not None:
            self.results.append(Result(head.strip("= "), number, network))
        return number


class Sheet(NamedTuple):
    """One pupil's digit, its place in the set, and the tasks by their titles."""

    digit: int
    image: Tensor
    label: int
    answer: int
    tasks: dict[str, Task]


def exercises(model: nn.Module, digits: Digits, pupils: int, seed: int = 0) -> list[Sheet]:
    """`exercises(model, test, 30)[6].tasks["Softmax"]`: a sheet for each pupil, no task twice, none without a layer."""
    labels, rng = digits.known_labels().tolist(), np.random.default_rng(seed)
    layers, sheets, used = _layers(_pass(model, digits, 0)), list[Sheet](), set[str]()
    for digit in _order(model, layers["Softmax"], digits, pupils, rng):
        trace, tasks = _pass(model, digits, digit), dict[str, Task]()
        for title, layer in layers.items():
            made = TASKS[title][0](trace, layer, labels[digit], len(sheets), rng)
            if task := next((task for task in made if f"{title}{task.tables}" not in used), None):
                tasks[title] = task
        if len(tasks) == len(layers):
            used |= {f"{title}{task.tables}" for title, task in tasks.items()}
            answer = int(trace[layers["Softmax"]].result.argmax())
            sheets.append(Sheet(digit, digits.images[digit].cpu(), labels[digit], answer, tasks))
        if len(sheets) == pupils:
            break
    what, fix = "this network and these digits give no more sheets that paper bears", "ask for fewer, or train longer"
    refuse(len(sheets) < pupils, what, given=pupils, allowed=f"up to {len(sheets)} here", fix=fix)
    return sheets


def _pass(model: nn.Module, digits: Digits, digit: int) -> Trace:
    with capture(model, gradients=True) as trace:
        model(digits[digit].pixels.to(device_of(model)))
    return trace


def _layers(trace: Trace) -> dict[str, str]:
    """Which layer each task is about; the scores are what goes into a softmax at the end."""
    at = trace.scores_at()
    if trace.steps[at].kind in ("Softmax", "LogSoftmax"):
        at = trace.steps[at].sources[0] or 0
    shape, scores = tuple(trace.steps[at].result.shape), trace.keys[at]
    refuse(shape != (1, 10), "this network gives no ten scores for a digit", given=f"an output of shape {shape}")
    kernels = [key for key, step in trace.of_kind("Conv2d").items() if math.prod(step.settings["kernel_size"]) > 3]
    pools = [key for key, step in trace.of_kind("MaxPool2d").items() if max(pair(step.settings["kernel_size"])) < 5]
    found = (kernels, pools, [scores], [scores] * (trace[scores].kind == "Linear"))
    return {title: keys[0] for title, keys in zip(TASKS, found, strict=True) if keys}


def _order(model: nn.Module, scores: str, digits: Digits, pupils: int, rng: np.random.Generator) -> list[int]:
    """Digits in the order to try them: the ten labels in turn, and first those of which the network is not too sure."""
    some = rng.permutation(len(digits))[: 900 + 100 * pupils]
    with torch.no_grad():
        rows = record(model, digits[some].pixels.to(device_of(model)), scores)[scores].result.cpu()
    best, second, third = rows.topk(3).values.T
    dull = (best - second - (best - second).clamp(0.5, 4)).abs() + (best - third - 5).clamp(0)  # 0: p is not only 0, 1
    ranked, labels = some[dull.argsort(stable=True).numpy()].tolist(), digits.known_labels().tolist()
    kinds = [[i for i in ranked if labels[i] == kind] for kind in rng.permutation(10)]
    return [i for i in chain(*zip_longest(*kinds)) if i is not None]


def rounded(value: float | Decimal, places: int) -> Decimal:
    """`rounded(0.25, 1)` is 0.3: as at school, half goes away from zero."""
    return Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP) + 0  # a zero has no sign


def _places(values: Tensor | float) -> int:
    """So many that the largest value has one digit or two: 1 for 0.4 and 2.8, 2 for 0.3, 0 for 12."""
    largest = float(torch.as_tensor(values).abs().max())
    return max(0, math.ceil(math.log10(3.5 / largest))) if largest else 9


def _grid(values: Tensor) -> list[list[Decimal]]:
    return [[rounded(value, _places(values)) for value in row] for row in values.tolist()]


def _units(step: Step, number: int, rng: np.random.Generator, side: int = 1) -> Iterator[tuple[int, int, int, list]]:
    """Side × side units at random, by their first, and their windows, if inside the map; forty tries to a channel."""
    height, width = step.input.shape[2:]
    for i in range(1200):
        y, x = (int(rng.integers(size - side + 1)) for size in step.result.shape[2:])
        units = product(range(y, y + side), range(x, x + side))
        windows = [(under_window(step, 0, down), under_window(step, 1, right)) for down, right in units]
        if all(r[0] >= 0 <= c[0] and r[-1] < height and c[-1] < width for r, c in windows):
            yield (number + i // 40) % step.result.shape[1], y, x, windows


def _next(trace: Trace, layer: str, kind: str) -> str | None:
    """The layer that takes this output, if there is one and it is of this kind."""
    users = [key for key, step in trace.items() if trace.index(layer) in step.sources]
    return users[0] if len(users) == 1 and trace[users[0]].kind == kind else None


def _patches(trace: Trace, layer: str, label: int, number: int, rng: np.random.Generator) -> Iterator[Task]:
    """Nine products, their sum, the bias, and the batch norm and ReLU that follow."""
    step, kernels = trace[layer], trace[layer].weights["weight"].double()
    middle = tuple(slice(max(0, (n - 3) // 2), max(0, (n - 3) // 2) + 3) for n in kernels.shape[2:])
    for channel, y, x, _ in _units(step, number, rng):
        part = int(rng.integers(kernels.shape[1]))
        kernel = kernels[channel, part][middle]
        weights = _grid(kernel)
        if (factors := [*chain(*weights)]).count(ZERO) > 4:
            continue
        book = ledger(trace, layer, channel, y, x)
        patch = book.patch[part][middle].double()
        cells, places = _grid(patch), _places(patch) + _places(kernel)
        flat, exact = [*chain(*cells)], (patch * kernel).flatten().tolist()
        if max(map(flat.count, flat)) > 5 or len({*flat}) < 4 or places > 3:
            continue
        about = f"Layer {layer}, output channel {channel}, row {y}, column {x}, sees frame 1 of your digit. "
        about += f"No ink is {rounded(float(step.input.min()), 1)} there. " * (step.input.shape == trace.input.shape)
        if rest := book.patch.numel() - len(flat):
            which = [f"of input channel {book.inputs[part]}"] * (len(book.inputs) > 1)
            which += [f"the middle of its {times(kernels.shape[2:])} kernel"] * (kernels[0, 0].numel() > len(flat))
            about += f"You calculate {len(flat)} of {rest + len(flat)} products, {', '.join(which)}; "
            about += "the sum of the others is printed. "
        tables = [Table(["patch"], cells, 12.5), Table(["kernel"], weights, 12.5, sign="×")]
        tables += [Table(["products"], [[None] * len(row) for row in cells], 18, sign="="), Table([], [[]], 19.5)]
        products = [Result("product", a * b + 0, c) for a, b, c in zip(flat, factors, exact, strict=True)]
        about += "Multiply cell by cell, and add."
        task = Task(about, tables, products, [receptive_field(trace, layer, y, x)])
        value = task.box("sum", sum((result.paper for result in products), ZERO), sum(exact))
        if rest:
            value += task.box("+ others", rounded(float(book.sums.sum()) - sum(exact), places))
        if step.bias is not None:
            value += task.box("+ bias", rounded(book.bias, places))
        task.box("= total", value, book.recorded)
        last, near = layer, task.results[-1].near()
        if (norm := _next(trace, layer, "BatchNorm2d")) and "running_var" in trace[norm].weights:
            w = {name: float(w[channel]) for name, w in trace[norm].weights.items() if w.ndim}
            scale = w.get("weight", 1.0) / math.sqrt(w["running_var"] + trace[norm].settings["eps"])
            value *= task.box("× scale", rounded(scale, _places(scale)))
            value += task.box("+ shift", rounded(w.get("bias", 0.0) - scale * w["running_mean"], places))
            task.box(f"= {norm}", value, float(trace[norm].result[0, channel, y, x]))
            last, near = norm, near and task.results[-1].near() and _places(scale) < 3
        if gate := _next(trace, last, "ReLU"):
            task.box(gate, max(value, ZERO), float(trace[gate].result[0, channel, y, x]))
        if near:
            yield task


def _pools(trace: Trace, layer: str, label: int, number: int, rng: np.random.Generator) -> Iterator[Task]:
    """The winners of four windows that lie together."""
    step, gate = trace[layer], _next(trace, layer, "ReLU")
    side = min(2, *step.result.shape[2:])
    for channel, y, x, windows in _units(step, number, rng, side):
        maps = torch.stack([step.input[0, channel][rows][:, columns] for rows, columns in windows])
        numbers, (high, wide), end = _grid(maps.flatten(1)), maps.shape[1:], (y + side - 1, x + side - 1)
        best = [max(window) for window in numbers]
        at = [window.index(winner) for window, winner in zip(numbers, best, strict=True)]
        once = all(winner and window.count(winner) == 1 for window, winner in zip(numbers, best, strict=True))
        dull = len({*at}) < side or len({*chain(*numbers)}) < 2 * len(maps) or _places(maps) > 2
        if dull or not once or at != maps.flatten(1).argmax(1).tolist():
            continue
        about = f"Layer {layer} keeps the largest number of each {high}×{wide} window. These windows of channel "
        about += f"{channel} see frame 2 of your digit. Ring each winner, and write it into {layer}'s map of channel "
        about += f"{channel}: rows {y} to {end[0]}, columns {x} to {end[1]}."
        about += f" Then {gate} makes negative ones 0." * bool(gate)
        cells = _grid(torch.cat([torch.cat([*maps[i : i + side]], 1) for i in range(0, len(maps), side)]))
        seen = [receptive_field(trace, layer, *unit) for unit in ((y, x), end)]
        task = Task(about, [Table([f"into {layer}"], cells, 11, block=(high, wide))], [], seen)
        for key, winners in ((layer, best), (gate, [max(winner, ZERO) for winner in best])):
            if key:
                task.tables.append(Table([key], [[None] * side] * side, 15, sign="→"))
                network = trace[key].result[0, channel, y : y + side, x : x + side].flatten().tolist()
                task.results += map(Result, [key] * len(best), winners, network)
        yield task


def _softmaxes(trace: Trace, layer: str, label: int, number: int, rng: np.random.Generator) -> Iterator[Task]:
    """The probabilities of the three highest scores; what the seven others add to the sum is given."""
    z = trace[layer].result[0].detach().double()
    best, classes = z.topk(3)
    powers, scores = (z - best[0]).exp(), [rounded(score, 1) for score in best.tolist()]
    others = rounded(float(powers.sum() - powers[classes].sum()), 2)
    gaps = [score - scores[0] for score in scores]
    found = [rounded(gap.exp(), 2) for gap in gaps]
    shares = [power / sum(found, others) for power in found]
    about = f"Softmax makes of the ten scores s of layer {layer} probabilities p = eˢ⁻ᵐ ÷ sum, where m is the largest "
    about += "score. Calculate the three highest; what the seven others add to the sum is printed. Take eˣ from the "
    about += "table (below it, all are 0.00), and round p to two places."
    rows: list[list[Any]] = [[k, score, None, None, None] for k, score in zip(classes.tolist(), scores, strict=True)]
    rows += [["", "", "others", others, ""], ["", "", "sum", None, ""]]
    task = Task(about, [Table(["digit", "s", "s − m", "eˢ⁻ᵐ", "p"], rows, 17.5), EXPONENTIALS])
    task.results += map(Result, ["s − m"] * 3, gaps, (best - best[0]).tolist())
    task.results += map(Result, ["eˢ⁻ᵐ"] * 3, found, powers[classes].tolist())
    task.results.append(Result("sum", sum(found, others), float(powers.sum())))
    task.results += map(Result, ["p"] * 3, [rounded(p, 2) for p in shares], z.softmax(0)[classes].tolist())
    clear = scores[0] > scores[1] > scores[2] and not any(p * 100 % 1 == RATE * 5 for p in shares)
    if clear and all(abs(float(paper) - network) < 0.03 for _, paper, network in task.results[-3:]):
        yield task


def _steps(trace: Trace, layer: str, label: int, number: int, rng: np.random.Generator) -> Iterator[Task]:
    """One weight into a score of the softmax task, and one step of gradient descent on this digit alone."""
    linear = trace[layer]
    for known in _softmaxes(trace, layer, label, number, rng):
        backward(trace, F.cross_entropy(tensors(linear.live)[0], torch.tensor([label], device=linear.result.device)))
        size = linear.input[0].abs().cpu()
        for i, j in enumerate(rng.permutation((size > 0.3 * size.max()).nonzero().flatten()).tolist()):
            k, (_, p, network) = known.tables[0].cells[(number + i) % 3][0], known.results[7 + (number + i) % 3]
            y, h, w = Decimal(int(k == label)), float(linear.input[0, j]), float(linear.weights["weight"][k, j])
            exact = backward_ledger(trace, layer, weight=(k, j)).recorded
            about = f"Weight w of layer {layer} leads from feature {j} (its value for your digit: h) to the score of "
            about += f"{k}. Its gradient is (p\u00a0−\u00a0y)\u00a0·\u00a0h; p is from the softmax, and y is 1 if the "
            about += f"label is {k}, else 0. A step of gradient descent on this digit: new w = w − rate · gradient."
            task = Task(about, [Table([], [[]], 19.5)])
            task.box(f"p of {k}", p, network)
            task.box("− y", y, float(y))
            task.box("= p − y", p - y, network - float(y))
            gradient = task.box("= gradient", (p - y) * task.box("× h", rounded(h, _places(h))), exact)
            move = task.box("= step", gradient * task.box("× rate", RATE), exact * float(RATE))
            task.box("new w", task.box("w", rounded(w, 3)) - move, w - exact * float(RATE))
            sense, sign = ("fall" if p > y else "rise"), ("positive" if h > 0 else "negative")
            task.why = f"{'up' if move < 0 else 'down'}: the score of {k} has to {sense}, and h is {sign}"
            if abs(p - y) > 2 * RATE**2 and task.results[-1].near(0.1) and task.results[3].near(0.1):
                yield task


POWERS = [[f"−{i}" + "".join(f"{rounded((-(10 * i + j) * RATE).exp(), 2):>5}" for j in range(10))] for i in range(6)]
EXPONENTIALS = Table([], [["eˣ" + "".join(f"{f'−.{j}':>5}" for j in range(10))], *POWERS], 84, 5)
TASKS: dict[str, tuple[Callable[..., Iterator[Task]], str]] = {  # and what a network needs for it
    "Patch × kernel": (_patches, "convolution of 2×2 or more"),
    "Max pooling": (_pools, "max-pooling with windows of up to 4×4"),
    "Softmax": (_softmaxes, "ten scores"),
    "One gradient step": (_steps, "linear layer that makes the scores"),
}
