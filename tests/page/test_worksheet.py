"""Worksheets: what is printed comes to the key, the key is true of the network, and no two sheets are alike."""

import re
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from torch import nn

import mnistviz as mv
from mnistviz.__main__ import main
from mnistviz.learn.checkpoint import save_model, weights
from mnistviz.learn.data import DigitSet
from mnistviz.learn.models import written
from mnistviz.page import worksheet
from mnistviz.page.exercises import Sheet, exercises
from mnistviz.page.worksheet import worksheets

PATCH, POOL, SOFTMAX, STEP = TITLES = ("Patch × kernel", "Max pooling", "Softmax", "One gradient step")
conv, relu, flat = nn.Conv2d, nn.ReLU(), nn.Flatten()
OWN = {  # untrained ones: a kernel over several channels, a softmax at the end; neither kernels nor pools; overlaps
    "channels": (conv(1, 4, 1), conv(4, 3, 3, 2), relu, nn.AvgPool2d(2), flat, nn.Linear(108, 10), nn.Softmax(1)),
    "dense": (flat, nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10)),
    "overlapping": (conv(1, 5, 4, 2, bias=False), nn.MaxPool2d(3, 2), nn.Tanh(), conv(5, 10, 6), flat),
}
NAMES = ("light", "compact", "pooled", *OWN)
Sheets = dict[str, list[Sheet]]


@pytest.fixture(scope="module")
def models(reference: dict[str, nn.Sequential]) -> dict[str, nn.Sequential]:
    torch.manual_seed(3)
    for layer in chain(*OWN.values()):
        if isinstance(layer, conv | nn.Linear):  # so that their scores lie apart
            nn.init.normal_(layer.weight, std=3 / layer.weight[0].numel() ** 0.5)
    return reference | {name: nn.Sequential(*layers) for name, layers in OWN.items()}


@pytest.fixture(scope="module")
def sheets(models: dict[str, nn.Sequential], mnist: DigitSet) -> Sheets:
    return {name: exercises(models[name], mnist.test[:1300], 4, seed=2) for name in NAMES}


def solve(sheet: Sheet, title: str) -> list[Any]:
    """All that a pupil writes down, from nothing but what is printed."""
    tables, heads = sheet.tasks[title].tables, sheet.tasks[title].tables[-1].heads
    cells = [[[c if c is None or isinstance(c, str) else Fraction(c) for c in row] for row in t.cells] for t in tables]
    if title == PATCH:
        written = [a * b for rows in zip(*cells[:2], strict=True) for a, b in zip(*rows, strict=True)]
        value = sum(written)
        for head, number in zip(heads, cells[3][0], strict=True):
            if number is None:
                written.append(value if head == "sum" or head.startswith("= ") else max(value, 0))
            else:
                value = value * number if head.startswith("×") else value + number
        return written
    if title == POOL:
        (high, wide), rows = tables[0].block, cells[0]
        corners = [(i, j) for i in range(0, len(rows), high) for j in range(0, len(rows[0]), wide)]
        written = [max(max(row[j : j + wide]) for row in rows[i : i + high]) for i, j in corners]
        return written + [max(winner, 0) for winner in written] * (len(tables) - 2)
    classes = [row[0] for row in sheet.tasks[SOFTMAX].tables[0].cells[:3]]
    if title == SOFTMAX:
        gaps = [row[1] - cells[0][0][1] for row in cells[0][:3]]
        places = [divmod(int(-10 * gap), 10) for gap in gaps]
        powers = [Fraction(cells[1][1 + ones][0].split()[1 + tenths]) if ones < 6 else 0 for ones, tenths in places]
        total = sum(powers) + cells[0][3][3]
        shares = [Decimal(float(10**9 * power / total)) / 10**9 for power in powers]
        return [*gaps, *powers, total, *(Fraction(p.quantize(Decimal("0.01"), ROUND_HALF_UP)) for p in shares)]
    k = int(heads[0].removeprefix("p of "))
    p, y = solve(sheet, SOFTMAX)[7 + classes.index(k)], int(k == sheet.label)
    h, rate, w = (cell for cell in cells[0][0] if cell is not None)  # a weight may be printed as 0.000
    return [p, y, p - y, (p - y) * h, (p - y) * h * rate, w - (p - y) * h * rate]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_comes_to_exactly_what_the_key_says(name: str, sheets: Sheets) -> None:
    for sheet in sheets[name]:
        for title, task in sheet.tasks.items():
            assert solve(sheet, title) == [result.paper for result in task.results], title
            blanks = [cell for table in task.tables for row in table.cells for cell in row if cell is None]
            assert len(blanks) == len(task.results)


@pytest.mark.parametrize(("name", "last"), [("light", "fc1"), ("compact", "fc2"), ("pooled", "fc2")])
def test_the_key_is_what_the_network_computes(name: str, last: str, sheets: Sheets, models: Any, mnist: Any) -> None:
    model, out = models[name], dict[str, torch.Tensor]()

    def near(sheet: Sheet, title: str, *names: str, is_: torch.Tensor) -> None:
        own = [result for result in sheet.tasks[title].results if result.name in names]
        np.testing.assert_allclose([result.network for result in own], is_.detach().flatten(), atol=2e-5, rtol=1e-4)

    def rounded(sheet: Sheet, title: str, table: int, is_: torch.Tensor) -> None:
        for cell, exact in zip(chain(*sheet.tasks[title].tables[table].cells), is_.flatten().tolist(), strict=True):
            assert abs(float(cell) - exact) <= 0.5 * 10.0 ** cell.as_tuple().exponent + 1e-5

    for sheet in sheets[name]:
        x = mnist.test[sheet.digit].pixels
        for key, layer in model.named_children():
            out[f"into {key}"], out[key] = x, layer(x)
            x = out[key]
        assert (sheet.label, sheet.answer) == (int(mnist.test.labels[sheet.digit]), int(x.argmax()))

        said = re.search(r"channel (\d+), row (\d+), column (\d+),", sheet.tasks[PATCH].about)
        c, y, x_ = map(int, said.groups())
        off = model.conv1.kernel_size[0] // 2 - 1
        there = (slice(y + off, y + off + 3), slice(x_ + off, x_ + off + 3))
        seen = F.pad(out["into conv1"], [model.conv1.padding[0]] * 4)[0, 0][there]
        kernel = model.conv1.weight[c, 0, off : off + 3, off : off + 3]
        rounded(sheet, PATCH, 0, seen)
        rounded(sheet, PATCH, 1, kernel)
        near(sheet, PATCH, "product", is_=seen * kernel)
        near(sheet, PATCH, "total", is_=out["conv1"][0, c, y, x_])
        if name != "compact":
            near(sheet, PATCH, "relu1", is_=out["relu1"][0, c, y, x_])
            assert (sheet.tasks[PATCH].results[-1].paper > 0) == (out["relu1"][0, c, y, x_] > 0)

        said = re.search(r"channel (\d+) .* rows (\d+) to \d+, columns (\d+) to", sheet.tasks[POOL].about)
        c, y, x_ = map(int, said.groups())
        rounded(sheet, POOL, 0, out["into pool1"][0, c, 2 * y : 2 * y + 4, 2 * x_ : 2 * x_ + 4])
        near(sheet, POOL, "pool1", is_=out["pool1"][0, c, y : y + 2, x_ : x_ + 2])
        near(sheet, SOFTMAX, "p", is_=out[last].softmax(1).topk(3).values)

        j, k = map(int, re.search(r"feature (\d+) .* score of (\d)", sheet.tasks[STEP].about).groups())
        weight = model.get_parameter(f"{last}.weight")
        (gradient,) = torch.autograd.grad(F.cross_entropy(x, torch.tensor([sheet.label])), weight)
        near(sheet, STEP, "gradient", is_=gradient[k, j])
        near(sheet, STEP, "new w", is_=weight[k, j] - 0.1 * gradient[k, j])
        assert sheet.tasks[STEP].why.startswith("up" if gradient[k, j] < 0 else "down")


def test_every_pupil_of_forty_and_every_seed_has_other_numbers(models: Any, sheets: Sheets, mnist: DigitSet) -> None:
    many = exercises(models["light"], mnist.test, 40)
    assert all(len({str(sheet.tasks[title].tables) for sheet in many}) == 40 for title in TITLES)
    assert {sheet.label for sheet in many} == set(range(10))
    assert len({str(sheet.tasks[PATCH].tables[1]) for sheet in many}) >= 6  # of the eight kernels
    assert all(len({*chain(*sheet.tasks[PATCH].tables[0].cells)}) > 3 for sheet in many)
    other = exercises(models["light"], mnist.test[:1300], 4, seed=1)
    for title in TITLES:
        one, two = ({str(sheet.tasks[title].tables) for sheet in some} for some in (other, sheets["light"]))
        assert one != two


@pytest.mark.parametrize("paper", ["a4", "letter"])
def test_all_words_are_on_the_page_and_apart(paper: str, sheets: Sheets) -> None:
    size = worksheet.PAPERS[paper]
    pages = [worksheet._page(size, sheets[name][0], "Sheet 1 of 4", name) for name in ("compact", "pooled", "dense")]
    for page in [*pages, *worksheet._answers(size, sheets["pooled"] * 2, "pooled")]:
        renderer, edge = FigureCanvasAgg(page.figure).get_renderer(), 5 / 25.4 * page.figure.dpi
        texts = [text for text in page.figure.findobj(Text) if text.get_text() and not text.get_bbox_patch()]
        extents = [text.get_window_extent(renderer) for text in texts]
        low, high = (np.array([getattr(extent, end) for extent in extents]) for end in ("min", "max"))
        assert low.min() > edge
        assert (high < page.figure.bbox.max - edge).all()
        shared = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low) > 1).all(2)
        assert not [(texts[i].get_text(), texts[j].get_text()) for i, j in np.argwhere(np.triu(shared, 1))]


def test_the_same_seed_gives_the_same_bytes(models: Any, tmp_path: Path) -> None:
    one, two, other = (
        worksheets(models["light"], tmp_path / f"{i}.pdf", 1, seed=i // 2).read_bytes() for i in range(3)
    )
    assert one == two != other
    assert b"/FontFile2" in one
    assert not [word for word in (b"CreationDate", b"/Subtype /Image") if word in one]


def test_the_command_says_what_is_left_out(models: Any, sheets: Sheets, tmp_path: Path, capsys) -> None:
    assert [list(sheets[name][0].tasks) for name in OWN] == [[PATCH, SOFTMAX, STEP], [SOFTMAX, STEP], [*TITLES[:3]]]
    assert "9 of 36 products, of input channel" in sheets["channels"][0].tasks[PATCH].about
    card = {"architecture": "own", "layers": written(models["dense"])}
    save_model(tmp_path / "mine.pth", weights(models["dense"]), card)
    call = f"worksheet --model {tmp_path}/mine.pth --pupils 1 --paper letter --out {tmp_path}/x.pdf"
    assert main(call.split()) == 0
    out = capsys.readouterr().out
    for said in (f"“{PATCH}” is left out: this network has no convolution", f"“{POOL}” is left out", "x.pdf: 1 sheet"):
        assert said in out
    assert b"/MediaBox [ 0 0 612" in (tmp_path / "x.pdf").read_bytes()


def test_what_makes_no_worksheets_is_refused_and_harms_nothing(models: Any, tmp_path: Path, few: mv.Digits) -> None:
    path, light = tmp_path / "x.pdf", models["light"]
    path.write_text("kept")
    for pupils in (0, 201):
        refused(lambda pupils=pupils: worksheets(light, path, pupils), "no such number of pupils", "1 to 200")
    refused(lambda: worksheets(light, path.with_suffix(".txt")), "ends in .pdf", "x.txt")
    refused(lambda: worksheets(light, path, paper="a5"), "unknown paper", "a4, letter")
    refused(lambda: worksheets(nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), path), "no ten scores", "(1, 9)")
    refused(lambda: exercises(light, few[:3], 5), "no more sheets", "ask for fewer")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["kept"]
