"""The app: what it answers to drawings and pictures, what it refuses in words, and the same in a real browser."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from PIL import Image
from streamlit.testing.v1 import AppTest
from strokes import RECORDED, drag
from torch import nn

import mnistviz as mv
from mnistviz import __main__ as command_line
from mnistviz.page import reading
from mnistviz.page.drawing import PAGE, digit_of, drawn


@pytest.fixture
def small(project_root, repository) -> Path:
    """A project that holds the digits and two networks; `light` is the one taken by default."""
    for path in (repository / "digit-recognizer").glob("*.gz"):
        (project_root / "digit-recognizer" / path.name).symlink_to(path)
    for name in ("light", "simple"):
        shutil.copytree(repository / "models" / name, project_root / "models" / name)
    return project_root


def run(strokes: Any = (), **choices: str) -> AppTest:
    app = AppTest.from_file(str(PAGE / "app.py"), default_timeout=120)
    app.session_state["pad"] = {"strokes": list(strokes)}
    for name, value in choices.items():
        app.session_state[name] = value
    return app.run()


def answer(app: AppTest) -> str:
    """The digit that is shown, or nothing."""
    assert not app.exception
    told = [re.search(r"<strong>(\d|\?)</strong>", str(part.proto.body)) for part in app.get("html")]
    return "".join(found[1] for found in told if found)


def warned(app: AppTest, *words: str) -> None:
    assert not app.exception
    (warning,) = app.warning
    assert all(word in warning.value for word in words), warning.value


def test_the_app_reads_what_is_drawn_with_any_network_and_shows_how(small):
    assert answer(run()) == ""
    for name in ("light/best_mnist_model", "simple/final_mnist_model"):
        assert answer(run(RECORDED[3], network=name)) == "3"
    app = run(RECORDED[7], network="light/best_mnist_model")
    assert "mix1" in app.selectbox(key=next(s.key for s in app.selectbox if s.label == "Layer")).options
    bars = next(str(part.proto.body) for part in app.get("html") if "<ol>" in str(part.proto.body))
    assert len(re.findall("<li", bars)) == 10
    (figure,) = [str(part.proto.body) for part in app.get("html") if "<figure" in str(part.proto.body)]
    assert "maps, 28×28 each, of layer" in figure


def test_pictures_are_read_and_what_is_none_is_refused_in_words(small, few):
    app = run(way="Picture", network="light/best_mnist_model")
    assert "up to 10 MB and 25 million pixels" in app.file_uploader[0].label
    allowed = app.file_uploader[0].allowed_type
    assert {".png", ".jpg"} <= set(allowed)
    assert ".pth" not in allowed

    def picture(image: Image.Image, kind: str = "PNG") -> bytes:
        file = io.BytesIO()
        image.save(file, kind)
        return file.getvalue()

    good, blank = picture(drawn(RECORDED[4]), "JPEG"), Image.new("L", (300, 200), 250)
    huge = picture(Image.new("1", (10_000, 5_000), 1))
    for content, words in (
        (b"not a picture", ["cannot be read as a picture"]),
        (good[: len(good) // 2], ["cannot be read as a picture"]),
        (picture(blank), ["No digit found", "by 0 of 255"]),
        (huge, ["too large", "50 million pixels", "25 million"]),
    ):
        app.file_uploader[0].set_value(("mine.png", content, "image/png")).run()
        warned(app, *words)
        assert answer(app) == ""
        app.file_uploader[0].set_value(("mine.jpg", good, "image/jpeg")).run()  # it is alive
        assert answer(app) == "4"
    refused(lambda: reading.handed_in(io.BytesIO(bytes(11 * 10**6))), "too large", "11 MB", "10 MB")


def test_a_dot_is_no_digit(small):
    warned(run([[[0.5, 0.5]]], network="light/best_mnist_model"), "This is a dot", "0% of the pad")


def test_a_network_that_cannot_read_is_refused_in_words_and_the_next_one_reads(small, reference):
    light, folder = reference["light"], small / "models" / "_mine"
    state, card = mv.checkpoint.weights(light), {"architecture": "light"}
    mv.checkpoint.save_model(folder / "nan.pth", state | {"conv1.bias": torch.full((8,), torch.nan)}, card)
    mv.checkpoint.save_model(folder / "other.pth", state, {"architecture": "deep"})
    mv.checkpoint.save_model(folder / "good_2026-01-02_03-04-05.pth", state, card)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    layers = {"architecture": "three", "layers": mv.models.written(flat)}
    mv.checkpoint.save_model(folder / "three.pth", mv.checkpoint.weights(flat), layers)
    torch.save(light, folder / "pickle.pth")
    (folder / "pickle.json").write_text(json.dumps(card))
    (folder / "cardless.pth").write_bytes(b"")
    for name, words in {
        "nan": ["weights that are not numbers", "conv1.bias"],
        "other": ["belongs to another architecture"],
        "three": ["no ten scores", "(1, 3)"],
        "pickle": ["is not the file its card describes"],
        "cardless": ["cardless.json is missing"],
    }.items():
        app = run(RECORDED[3], network=f"_mine/{name}")
        warned(app, *words)
        app.selectbox(key="network").set_value("_mine/good_2026-01-02_03-04-05").run()
        assert answer(app) == "3"


def test_a_training_can_be_named_by_date_and_time_and_is_then_offered(small, capsys):
    train = ["train", "compact", "--images", "200", "--epochs", "1", "--device", "cpu", "--dated"]
    assert command_line.main(train) == 0
    folder = small / "models" / "_mine" / "compact"
    dated = r"(best_mnist_model|final_mnist_model)_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.(pth|json)|history_[-\d_]+\.csv"
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 5
    assert all(re.fullmatch(dated, name) for name in names)
    assert names[0].removesuffix(".json") in capsys.readouterr().out
    best = next(folder.glob("best*.pth"))
    assert f"_mine/compact/{best.stem}" in reading.checkpoints()
    assert mv.load_model(best) is not None


def test_figures_of_a_drawing_are_of_that_drawing(small, mnist):
    path = small / "models" / "light" / "best_mnist_model.pth"
    digit = digit_of(RECORDED[3])
    trace = reading.passed(path, 0.0, digit.images.numpy().tobytes())
    shares = mv.predict(mv.load_model(path), digit)[0]
    assert np.allclose(trace.output.softmax(1)[0], shares, atol=1e-6)
    assert f"width:{shares[3]:.1%}" in reading.as_html(digit, shares)
    where = reading.strongest(trace, "conv2")
    assert trace["conv2"].result[(0, *where)] == trace["conv2"].result.max()
    near = reading.neighbours(path, 0.0, trace)
    known = mnist.train.sample(reading.KNOWN)
    model = mv.load_model(path)
    with torch.no_grad():
        mine, features = (model[:-2](pixels) for pixels in (digit.pixels, known.pixels))
    order = ((features - mine) ** 2).sum(1).argsort()[:8]
    assert f"labelled {', '.join(str(int(known.labels[row])) for row in order)}" in near.alt
    content, alt = reading.filmed("convolution", path, digit)
    assert content.startswith(b"GIF89a")
    assert len(alt) > 20


def test_how_sure_it_is_in_words(few):
    shares = np.full(10, 0.001)
    for first, words in ((0.995, "It is sure."), (0.93, "fairly sure"), (0.85, "unsure"), (0.3, "I cannot read this")):
        shares[4], shares[9] = first, 0.25
        told = reading.as_html(few[0], shares)
        assert words in told
        assert ("a 9 with 25.0 %" in told) == (first < 0.99)
        assert ("<strong>4</strong>" in told) == (first > 0.8)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the app answers, as `python -m mnistviz app` starts it."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "mnistviz", "app", "--port", str(port)], start_new_session=True)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://localhost:{port}").close()
            break
        except OSError:
            time.sleep(0.2)
    yield f"http://localhost:{port}"
    os.killpg(process.pid, signal.SIGTERM)  # Streamlit is a process of its own
    process.wait(30)


def test_drawings_are_read_in_a_browser_by_mouse_and_by_keyboard_without_asking_anybody(browser, address):
    page, said = browser.new_page(viewport={"width": 1100, "height": 900}), []
    page.set_default_timeout(60_000)
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith((address, "data:", "blob:")) else said.append(one.url))
    page.goto(address)
    page.locator("canvas").wait_for()
    shown = page.locator(".answer strong")
    for digit, strokes in RECORDED.items():
        drag(page, strokes)
        page.wait_for_function(f"document.querySelector('.answer strong')?.textContent === '{digit}'")
        page.get_by_role("button", name="Clear").click()
        shown.wait_for(state="detached")
    page.locator("canvas").focus()
    for key in ["ArrowUp"] * 13 + [" "] + ["ArrowDown"] * 26 + [" "]:  # a 1
        page.keyboard.press(key)
    page.wait_for_function("document.querySelector('.answer strong')?.textContent === '1'")
    page.get_by_text("Picture", exact=True).click()
    shown.wait_for(state="detached")
    file = io.BytesIO()
    drawn(RECORDED[0]).save(file, "PNG")
    page.set_input_files("input[type=file]", {"name": "0.png", "mimeType": "image/png", "buffer": file.getvalue()})
    page.wait_for_function("document.querySelector('.answer strong')?.textContent === '0'")
    page.get_by_text("Draw", exact=True).first.click()  # the drawing is still there
    page.wait_for_function("document.querySelector('.answer strong')?.textContent === '1'")
    page.locator("canvas").wait_for()
    inked = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(v => v < 50)"
    assert page.locator("canvas").evaluate(inked)
    assert not said


def test_it_is_served_to_this_machine_alone_unless_told_otherwise(monkeypatch):
    called: list[list[str]] = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: called.append(command) or done)
    command_line.main(["app"])
    command_line.main(["app", "--address", "0.0.0.0", "--port", "80"])
    assert "--server.address=localhost" in called[0]
    assert "--browser.gatherUsageStats=false" in called[0]
    assert {"--server.address=0.0.0.0", "--server.port=80"} <= set(called[1])
