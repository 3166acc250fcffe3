"""The page as its readers use it: drawn on, pointed at, operated on, by mouse, by keyboard and with bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from strokes import DRAWINGS
from torch import nn

import mnistviz as mv
from mnistviz import project
from mnistviz.learn.checkpoint import weights
from mnistviz.learn.data import Digits

SEVEN = [[[0.3, 0.2], [0.7, 0.2], [0.6, 0.5], [0.45, 0.8]], [[0.35, 0.5], [0.6, 0.5]]]


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return mv.load_model("light")


@pytest.fixture(scope="module")
def tab(open_page, model) -> Any:
    return open_page(model)


def said(tab: Any, what: str) -> str:
    return tab.page.locator(what).inner_text()


def settled(tab: Any, what: str, word: str) -> str:
    """The text of an element once it holds a word."""
    for _ in range(200):
        if word in (text := said(tab, what)):
            return text
        tab.page.wait_for_timeout(50)
    raise AssertionError(f"{what} says {text!r} and never {word!r}")


def scores(model: nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.tensor(pixels).view(-1, 1, 28, 28)).numpy()


def test_the_page_says_how_far_it_is_from_pytorch(tab):
    text = settled(tab, "#proof", "200 digits")
    assert 0 < tab.value("lab.largest()") < 1e-4, text


def test_recorded_drawings_are_read_as_a_person_reads_them(open_page):
    hands = mv.load_model(project.DEFAULT)
    tab = open_page(hands)
    answers = [tab.value("(lab.draw(strokes), lab.answer())", strokes=drawing["strokes"]) for drawing in DRAWINGS]
    right = [answer["digit"] == drawing["digit"] for answer, drawing in zip(answers, DRAWINGS, strict=True)]
    assert len(right) == 50
    assert np.mean(right) >= 0.98, [d["note"] for d, fine in zip(DRAWINGS, right, strict=True) if not fine]
    pixels = tab.numbers("lab.read(lab.pad.image())")
    rounded = torch.tensor(np.rint(pixels * 255)).byte().view(1, 28, 28)
    expected = mv.predict(hands, Digits(rounded, None, "the last drawing"))[0]
    np.testing.assert_allclose(answers[-1]["probabilities"], expected, atol=1e-4)
    assert answers[-1]["sure"] == mv.handwriting.how_sure(torch.tensor(pixels), expected).split()[0]


def test_what_the_strokes_added_sums_to_the_scores(tab, model):
    tab.value("lab.draw(strokes)", strokes=SEVEN)
    ledger = tab.value("lab.strokes()")
    now = scores(model, tab.numbers("lab.read(lab.pad.image())"))[0]
    first = scores(model, tab.numbers("lab.read(lab.pad.image(strokes))", strokes=SEVEN[:1]))[0]
    np.testing.assert_allclose(ledger["base"], scores(model, np.zeros((1, 784), np.float32))[0], atol=1e-4)
    np.testing.assert_allclose(np.add(ledger["base"], ledger["added"][0]), first, atol=1e-4)
    np.testing.assert_allclose(np.add(ledger["base"], np.sum(ledger["added"], 0)), now, atol=1e-4)
    rows = tab.page.locator("#added tbody tr")
    assert rows.count() == 10
    assert rows.nth(4).locator("td").last.inner_text() == f"{now[4]:.2f}".replace("-", "−")
    tab.value("lab.operate(edits)", edits=[{"step": 4, "channel": 6, "scale": 0, "shift": 0}])
    operated = tab.value("lab.strokes()")["total"][4]
    assert rows.nth(4).locator("td").last.inner_text() == f"{operated:.2f}".replace("-", "−")
    assert abs(operated - now[4]) > 0.01
    tab.value("lab.operate([])")


def test_going_back_in_a_drawing_reads_what_was_there_then(tab, model):
    tab.value("lab.draw(strokes)", strokes=SEVEN)
    tab.page.locator("#moment").fill("4")  # the first stroke has four points
    then = scores(model, tab.numbers("lab.read(lab.pad.image(strokes))", strokes=SEVEN[:1]))
    expected = torch.tensor(then).softmax(1)[0]
    np.testing.assert_allclose(tab.value("lab.answer()")["probabilities"], expected, atol=1e-4)
    shown = tab.page.locator("#pad").screenshot()
    tab.value("lab.operate(edits)", edits=[{"step": 4, "channel": 6, "scale": 0, "shift": 0}])
    tab.page.wait_for_timeout(1000)  # by then the edited network has read every moment
    assert tab.page.locator("#pad").screenshot() == shown
    tab.value("lab.operate([])")


def test_the_operating_table_is_ablation(tab, model, mnist):
    tab.value("lab.take(3)")
    tab.value("lab.choose(5, 0, [])")  # relu2, channel 0
    names = [name for name, _ in model.named_children()]
    tab.value("lab.operate(edits)", edits=[{"step": 5, "channel": c, "scale": 0, "shift": 0} for c in (0, 3, 4)])
    digits = mnist.test[:200]
    with mv.ablate(model, names[5], channels=[0, 3, 4]), torch.inference_mode():
        operated = model(digits.pixels)
    np.testing.assert_allclose(tab.value("lab.answer()")["probabilities"], operated[3].softmax(0), atol=1e-4)
    labels = digits.known_labels()
    now = int((operated.argmax(1) == labels).sum())
    before = int((torch.tensor(scores(model, digits.pixels.numpy())).argmax(1) == labels).sum())
    text = settled(tab, "#accuracy", "of 200 test digits")
    assert text == f"Operated: {now} of 200 test digits right. Untouched: {before} of 200."
    assert now < before
    tab.page.get_by_text("Take all back").click()
    assert said(tab, "#before") == ""
    tab.page.get_by_label("times").fill("half")
    tab.page.get_by_text("Apply").click()
    assert "two numbers" in said(tab, "#table")


def test_a_ledger_leads_down_to_a_pixel_and_back(tab, model, mnist):
    tab.value("lab.take(0)")
    tab.value("lab.choose(3, 5 * 196 + 5 * 14 + 8, [])")  # pool1: a window, its winner marked
    with mv.capture(model) as trace:
        model(mnist.test[0].pixels)
    assert said(tab, "#account h3").endswith(f"{float(trace['pool1'].result[0, 5, 5, 8]):.4f}".replace("-", "−"))
    tab.value("lab.operate(edits)", edits=[{"step": 3, "channel": 5, "scale": 2, "shift": 1}])
    assert said(tab, ".formula") == f"The largest of 4: {float(trace['pool1'].result[0, 5, 5, 8]):.4f}, marked ✓"
    tab.value("lab.operate([])")
    assert tab.page.locator(".window button").count() == 4
    tab.page.locator(".window button", has_text="✓").click()
    account = mv.ledger(trace, "conv1", 5, *divmod(int(trace["relu1"].result[0, 5, 10:12, 16:18].argmax()), 2))
    y, x = (10 + account.unit[1], 16 + account.unit[2])
    account = mv.ledger(trace, "conv1", 5, y, x)
    products = tab.page.locator(".grid", has_text="products").locator("td")
    texts = [float(cell.get_attribute("title")) for cell in products.all()]
    np.testing.assert_allclose(texts, account.products.flatten(), atol=1e-5)
    tab.page.locator(".grid td button").first.click()
    trail = [button.inner_text() for button in tab.page.locator("#trail button").all()]
    assert [name.split("[")[0] for name in trail] == ["pool1", "relu1", "normalise"]
    tab.page.locator("#trail button").first.click()
    assert said(tab, "#trail") == "pool1[5, 5, 8]"


def test_by_keyboard_alone_one_draws_reads_and_looks_inside(open_page, model):
    tab = open_page(model)
    keys = tab.page.keyboard
    while tab.value("document.activeElement.id") != "pad":
        keys.press("Tab")
    for _ in range(10):
        keys.press("ArrowUp")
    keys.press("Space")
    for _ in range(22):
        keys.press("ArrowDown")
    keys.press("Space")
    tab.page.wait_for_timeout(700)
    assert tab.value("lab.answer().digit") == 1
    assert said(tab, "#spoken").startswith("1, ")
    keys.press("w")
    assert tab.page.locator("#path").get_attribute("aria-pressed") == "true"
    while "conv2" not in tab.value("document.activeElement.ariaLabel || ''"):
        keys.press("Tab")
    keys.press("ArrowDown")
    keys.press("ArrowRight")
    assert said(tab, "#pointed").startswith("conv2[0, 1, 1] = ")
    keys.press("Enter")
    assert said(tab, "#trail") == "conv2[0, 1, 1]"
    tab.page.get_by_text("Silence").press("Enter")
    assert tab.value("document.activeElement.textContent") == "Silence"  # the focus is not lost
    keys.press("Escape")
    assert said(tab, "#trail") == ""
    assert "conv2" in tab.value("document.activeElement.ariaLabel")
    assert "conv2, channel 0" in said(tab, "#table")  # what acts can be taken back


NOTHING = [([], "Nothing to read yet"), ([[[0.5, 0.5]]], "I cannot read this")]


@pytest.mark.parametrize(("strokes", "words"), NOTHING)
def test_nothing_and_a_dot_are_not_read(tab, strokes, words):
    tab.value("lab.draw(strokes)", strokes=strokes)
    assert tab.value("lab.answer()")["digit"] is None
    assert words in said(tab, "#sure")


def test_bad_pictures_are_refused_and_the_page_stays_alive(tab, mnist, tmp_path):
    from sklearn.datasets import load_sample_images

    def opened(path: Path) -> None:
        tab.page.locator("#file").set_input_files(path)
        tab.page.wait_for_timeout(400)

    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    opened(tmp_path / "broken.png")
    assert "cannot be read as a picture" in said(tab, "#trouble")
    Image.new("L", (8000, 6250), 255).save(tmp_path / "large.png")
    opened(tmp_path / "large.png")
    assert "50 megapixels" in settled(tab, "#trouble", "megapixels")
    Image.fromarray(load_sample_images().images[0]).save(tmp_path / "photo.png")
    opened(tmp_path / "photo.png")
    assert tab.value("lab.answer()")["digit"] is None or tab.value("lab.answer()")["sure"] != "sure"
    seven = Image.fromarray(255 - mnist.test[0].images[0].numpy()).resize((300, 300))
    seven.save(tmp_path / "seven.png")
    opened(tmp_path / "seven.png")
    assert said(tab, "#trouble") == ""
    assert tab.value("lab.answer()")["digit"] == 7


def test_one_drawing_is_read_by_every_checkpoint(open_page, model):
    early = mv.models.build("light")
    lapse = mv.Timelapse([0, 100])
    lapse.checkpoints.update({0: weights(early), 100: weights(model)})
    tab = open_page(model, lapse=lapse)
    tab.value("lab.draw(strokes)", strokes=SEVEN)
    pixels = tab.numbers("lab.read(lab.pad.image())")
    expected = [int(scores(network, pixels).argmax()) for network in (early.eval(), model)]
    digits = settled(tab, "#checkpoints", f"{expected[0]} {expected[1]}")
    assert digits.split(":")[1].split() == [str(digit) for digit in expected]
    tab.page.locator("#checkpoint").fill("0")
    probabilities = torch.tensor(scores(early, pixels)).softmax(1)[0]
    shown = tab.page.locator("#bars li > span").all_inner_texts()
    assert [float(text.split()[-2]) for text in shown] == pytest.approx((100 * probabilities).tolist(), abs=0.11)


def test_no_word_is_missing(tab):
    text = said(tab, "body")
    assert not [word for word in ("undefined", "NaN", "[object", "{", "}") if word in text]
    assert all(said(tab, f"#{part}-title") for part in ("hand", "reading", "time", "maps", "ledger"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1440])
def test_axe_finds_no_barrier(browser, tab, scheme, width):
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    page = browser.new_page(bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.goto(tab.page.url)
    page.evaluate("strokes => lab.draw(strokes)", SEVEN)
    page.evaluate("() => { lab.choose(5, 1000, []); lab.operate([{step: 4, channel: 1, scale: 0, shift: 0}]); }")
    page.add_script_tag(path=Path(axe.__file__).with_name("axe.min.js"))
    found = page.evaluate("async () => (await axe.run()).violations.map(v => [v.id, ...v.nodes.map(n => n.html)])")
    page.close()
    assert not found
