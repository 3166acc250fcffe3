"""What the tests of the page share: one browser, the page of a model as a reader opens it, and its engine alone."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mnistviz as mv
from mnistviz.page import build

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
HELPERS = """() => {
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const unpack = (value) => String(value).startsWith("floats:") ? floats(value.slice(7)) : value;
  window.unpacked = (given) => Object.fromEntries(Object.entries(given).map(([name, value]) => [name, unpack(value)]));
  window.plain = (value) => JSON.stringify(value, (_, part) => ArrayBuffer.isView(part) ? Array.from(part) : part);
  window.coded = (values) => {
    const raw = new Uint8Array(Float32Array.from(values).buffer), parts = [];
    for (let i = 0; i < raw.length; i += 8192) parts.push(String.fromCharCode(...raw.subarray(i, i + 8192)));
    return btoa(parts.join(""));
  };
}"""


class Tab:
    """A tab of the browser: `tab.numbers("lab.forward(x).logits", x=pixels)` hands arrays in and gets one back."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.evaluate(HELPERS)

    def numbers(self, code: str, **given: Any) -> np.ndarray:
        return np.frombuffer(base64.b64decode(self.value(f"coded({code})", **given)), "<f4")

    def value(self, code: str, **given: Any) -> Any:
        """What an expression is, as plain data; arrays that are given come in as Float32Array."""
        names = ", ".join(given)
        passed = {name: f"floats:{packed(x)}" if hasattr(x, "__array__") else x for name, x in given.items()}
        told = f"(given) => {{ const {{{names}}} = unpacked(given); return plain({code}); }}"
        text = self.page.evaluate(told, passed)
        return None if text is None else json.loads(text)


def packed(values: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium from the PATH, or the one that Playwright keeps."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(chromium).exists():
            pytest.skip("needs Chromium: install the package chromium, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_page(browser, tmp_path_factory) -> Iterator[Callable[..., Tab]]:
    """`open_page(model)` writes the page of a model and opens it; it may ask for nothing and complain of nothing."""
    said: list[str] = []

    def opened(model: nn.Module, **options: Any) -> Tab:
        path = mv.page(model, tmp_path_factory.mktemp("page") / "network.html", **options)
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        return Tab(page)

    yield opened
    assert not said


@pytest.fixture(scope="module")
def engine(browser, mnist) -> Callable[[nn.Module], Tab]:
    """`engine(model)`: a blank tab with the functions of the page that compute, and in `net` this network."""
    scripts = [(build.HERE / f"{name}.js").read_text() for name in ("ink", "network", "ledger")]

    def loaded(model: nn.Module) -> Tab:
        page = browser.new_page()
        data = json.dumps(build.described(model, mnist.test[:20]))
        load = f"const data = {data}, net = makeNetwork(data, floatsOf(data.floats));"
        page.add_script_tag(content="\n".join([*scripts, load]))
        return Tab(page)

    return loaded


@pytest.fixture(scope="session")
def networks(reference, few) -> dict[str, nn.Sequential]:
    """The five systems as shipped, and networks whose layers have settings of every kind."""
    conv, same = nn.Conv2d, {"padding": "same", "padding_mode": "replicate"}
    around = {"padding": 2, "dilation": 2, "groups": 2, "padding_mode": "circular"}
    odd = [
        *(conv(1, 6, (5, 3), (2, 1), (2, 3), padding_mode="reflect"), nn.BatchNorm2d(6, affine=False)),
        *(nn.LeakyReLU(0.1), conv(6, 8, 3, **around), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        *(conv(8, 4, 3, 2, 1, bias=False), nn.Tanh(), nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
        *(conv(4, 6, (2, 4), **same), nn.Sigmoid(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten()),
        *(nn.Dropout(), nn.Linear(36, 10), nn.Softmax(1)),
    ]
    strided = [
        *(mv.models.Normalise(0.2, 0.5), conv(1, 5, 4, 3, dilation=(1, 2), bias=False), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.AvgPool2d((2, 3), (1, 2), 1, ceil_mode=True, count_include_pad=False), nn.Dropout2d()),
        *(nn.MaxPool2d(2, 1, dilation=2), nn.AvgPool2d(2, 1, divisor_override=3), nn.AdaptiveAvgPool2d((None, 1))),
        *(nn.Flatten(), nn.BatchNorm1d(35), nn.Linear(35, 10, bias=False), nn.LogSoftmax(-1)),
    ]
    mlp = [nn.Flatten(), nn.Linear(784, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 10)]
    torch.manual_seed(1)
    made = {"tiny": mv.models.tiny(), "odd": odd, "strided": strided, "mlp": mlp}
    made = {name: nn.Sequential(*layers) for name, layers in made.items()}
    for model in made.values():
        model(few[:100].pixels)  # batch norm takes its statistics from these
    return {name: reference[name] for name in ("simple", "light", "deep", "compact", "pooled")} | made
