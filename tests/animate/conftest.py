"""What tests of scenes share: a watch over the canvas, real weights of every architecture, the passes of a seven."""

from collections.abc import Iterator

import pytest
from oracle import Fresh, Watch
from torch import Tensor, nn
from zoo import seeded

import mnistviz as mv
from mnistviz.animate import scenes
from mnistviz.look.capture import record
from mnistviz.look.trace import Trace


@pytest.fixture(autouse=True, scope="module")
def loaded_once(mnist) -> Iterator[None]:
    """The digits of the session instead of the files, every time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "load_digits", {"mnist": mnist}.__getitem__)
        yield


@pytest.fixture
def watch(monkeypatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture(scope="session")
def seven(mnist) -> Tensor:
    return mnist.test[0].pixels


@pytest.fixture(scope="session")
def real(reference) -> dict[str, nn.Sequential]:
    """The shipped weights; an architecture without any takes those of a seed."""
    with seeded():
        return {name: reference.get(name) or mv.models.build(name).eval() for name in mv.models.MODELS}


@pytest.fixture(scope="session")
def traces(real, seven) -> dict[str, Trace]:
    return {name: record(model, seven) for name, model in real.items()}


@pytest.fixture(params=mv.models.MODELS)
def passes(request, real, traces, seven):
    """Of every architecture in turn: a fresh pass of a seven and the recorded one."""
    return Fresh(real[request.param], seven), traces[request.param]
