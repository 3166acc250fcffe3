"""What tests of scenes share: a watch over the canvas, real weights of every architecture, the passes of a seven."""

import pytest
import torch
from oracle import Fresh, Watch
from torch import Tensor, nn

import mnistviz as mv
from mnistviz.learn.data import DigitSet
from mnistviz.look.capture import record
from mnistviz.look.trace import Trace


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture(scope="session")
def seven(mnist: DigitSet) -> Tensor:
    return mnist.test[0].pixels


@pytest.fixture(scope="session")
def real(reference: dict[str, nn.Sequential]) -> dict[str, nn.Sequential]:
    """The shipped weights; an architecture without any takes those of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            name: reference[name] if name in reference else mv.models.build(name).eval() for name in mv.models.MODELS
        }


@pytest.fixture(scope="session")
def traces(real: dict[str, nn.Sequential], seven: Tensor) -> dict[str, Trace]:
    return {name: record(model, seven) for name, model in real.items()}


@pytest.fixture(params=mv.models.MODELS)
def passes(request: pytest.FixtureRequest, real: dict[str, nn.Sequential], traces: dict[str, Trace], seven: Tensor):
    """Of every architecture in turn: a fresh pass of a seven and the recorded one."""
    return Fresh(real[request.param], seven), traces[request.param]
