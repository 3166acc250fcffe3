"""From a trained network to one file of HTML that holds it, its weights, 200 digits and all code that is needed."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.colors import to_hex
from torch import Tensor, nn

from mnistviz import project
from mnistviz.errors import MnistvizError, refuse
from mnistviz.learn import models
from mnistviz.learn.checkpoint import weights
from mnistviz.learn.data import Digits, load_digits
from mnistviz.look.diary import Timelapse
from mnistviz.look.replay import margins, pair
from mnistviz.look.trace import sizes
from mnistviz.show.scales import NOT_A_NUMBER, POSITIVE, SIGNED

HERE = Path(__file__).parent
SCRIPTS = ("words", "ink", "network", "ledger", "pad", "views", "lab")  # one script in this order
DIGITS = 200  # the first of MNIST's test part
STATE = ("weight", "bias", "running_mean", "running_var")  # what the page computes with
LAYERS = ", ".join(layer.__name__ for layer in models.LAYERS)
NORMS, SOFTMAXES = (nn.BatchNorm1d, nn.BatchNorm2d), (nn.Softmax, nn.LogSoftmax)
UNUSUAL: dict[str, Callable[[Any], bool]] = {  # settings that have no formula there
    "it keeps no statistics": lambda layer: isinstance(layer, NORMS) and layer.running_mean is None,
    "it is not over a row of scores": lambda layer: isinstance(layer, SOFTMAXES) and layer.dim not in (1, -1),
    "it returns two things": lambda layer: getattr(layer, "return_indices", False),
}
META = torch.device("meta")  # where layers are made without memory and without random numbers


def page(model: nn.Module, path: str | Path, lapse: Timelapse | None = None, title: str | None = None) -> Path:
    """`page(model, "my_network.html")` writes a page that computes this network for any drawing, and returns its path.

    The model is a flat `nn.Sequential` of the layers of `mv.models`; it stays as it is. With a `Timelapse` of its
    training the page holds those checkpoints too. `title` is by default the name of the architecture.
    """
    data = described(model, load_digits("mnist").test[:DIGITS], title)
    looks, layers = {} if lapse is None else lapse.checkpoints, _layers(model)
    fix = "give lapse.callbacks to fit, and train"
    refuse(lapse is not None and not looks, "nothing was kept of this training", fix=fix)
    data["lapse"] = [{"label": step, "floats": _floats(_twin(layers, state))} for step, state in looks.items()]
    project.write_bytes(path, _document(data).encode())
    return Path(path)


def described(model: nn.Module, digits: Digits, title: str | None = None) -> dict[str, Any]:
    """All that the page knows of a network, as plain data, with the digits it is tried on and PyTorch's own answers."""
    layers = _layers(model)
    twin = _twin(layers, weights(model))
    shapes, reference = _run(twin, digits.pixels)
    with META:
        known = {json.dumps(models.written(make())): name for name, make in models.MODELS.items()}
    name, at, listed = known.get(json.dumps(layers), ""), 0, []
    for (own_name, kind, settings), layer, shape in zip(layers, twin, shapes, strict=True):
        held = {}
        for key, value in _state(layer).items():
            held[key] = {"shape": list(value.shape), "at": at}
            at += value.numel()
        rest = {"settings": _settings(settings), "weights": held, "shape": shape}
        listed.append({"name": own_name, "kind": kind, **rest})
    return {
        "name": name,
        "title": title or name or "my network",
        "parameters": models.count_parameters(twin),
        "layers": listed,
        "floats": _floats(twin),
        "digits": {
            "labels": digits.known_labels().tolist(),
            "pixels": _base64(_without_zeros(digits.images.numpy().tobytes())),
        },
        "reference": _base64(reference.numpy().astype("<f4").tobytes()),
        "colours": {
            "signed": [to_hex(SIGNED(i)) for i in range(SIGNED.N)],
            "positive": [to_hex(POSITIVE(i)) for i in range(POSITIVE.N)],
            "nan": to_hex(NOT_A_NUMBER),
        },
    }


def _layers(model: nn.Module) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, kind and settings of each layer, or an error that names the one which the page cannot compute."""
    allowed = {"allowed": LAYERS, "fix": "write it as a flat nn.Sequential of these layers"}
    refuse(type(model) is not nn.Sequential, "a page shows an nn.Sequential", given=type(model).__name__, **allowed)
    for name, layer in model._modules.items():
        what = f"the page cannot compute layer {name!r}"
        refuse(type(layer) not in models.LAYERS, what, given=type(layer).__name__, **allowed)
        for why, true in UNUSUAL.items():
            refuse(true(layer), f"{what}: {why}", given=layer)
    return models.written(model) or []


def _twin(layers: Any, state: dict[str, Tensor]) -> nn.Sequential:
    """The network anew, from its description alone: in evaluation mode, float32, on the CPU."""
    with META:
        twin = models.build("", layers)
    try:
        twin.load_state_dict({key: w.float() if w.is_floating_point() else w for key, w in state.items()}, assign=True)
    except RuntimeError as error:
        what, fix = "these weights do not fit the layers of this network", "give the model that was trained"
        raise MnistvizError(what, given=str(error).splitlines()[-1].strip(), fix=fix) from error
    for name, value in twin.state_dict().items():
        refuse(not value.isfinite().all(), "weights that are not finite", given=f"{name} holds NaN or infinity")
    return twin.eval()


@torch.no_grad()
def _run(twin: nn.Sequential, x: Tensor) -> tuple[list[list[int]], Tensor]:
    """The shape of every layer's output for one digit, and the scores of all digits."""
    shapes, count = [], len(x)
    for name, layer in twin._modules.items():
        assert layer is not None
        given = f"{sizes((x,))} for {layer}"
        what = f"layer {name!r} does not fit what comes before it; the network is given digits, 1×28×28"
        early = isinstance(layer, (nn.Linear, *SOFTMAXES)) and x.ndim != 2
        refuse(early, what, given=given, fix="put an nn.Flatten() before it")
        try:
            x = layer(x)
        except (RuntimeError, ValueError, IndexError) as error:
            raise MnistvizError(what, given=f"{given}: {str(error).splitlines()[0]}") from error
        odd = len(x) != count or x.ndim not in (2, 4)
        refuse(odd, f"layer {name!r} gives neither maps nor a row of numbers", given=tuple(x.shape[1:]))
        shapes.append(list(x.shape[1:]))
    refuse(x.shape != (count, 10), "the network does not end in ten scores", given=tuple(x.shape[1:]), allowed="10")
    refuse(not x.isfinite().all(), "the network gives scores that are NaN or infinite")
    return shapes, x


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The same with a pair for rows and columns wherever there may be one, and a border in numbers."""
    pairs = {key: pair(settings[key]) for key in ("kernel_size", "stride", "dilation") if key in settings}
    settings = {key: value for key, value in settings.items() if key != "bias"}  # the weights say that
    return settings | pairs | ({"padding": margins(settings | pairs)} if "padding" in settings else {})


def _state(layer: nn.Module) -> dict[str, Tensor]:
    return {key: getattr(layer, key) for key in STATE if getattr(layer, key, None) is not None}


def _floats(twin: nn.Sequential) -> str:
    parts = [value.detach().flatten() for layer in twin for value in _state(layer).values()]
    return _base64(torch.cat([torch.zeros(0), *parts]).numpy().astype("<f4").tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _without_zeros(content: bytes) -> bytes:
    """`_without_zeros(b"\\7\\0\\0\\0")` is `b"\\7\\0\\3"`: each run of zeros as one, and how many there are."""
    return re.sub(rb"\0{1,255}", lambda run: bytes([0, len(run[0])]), content)


def _document(data: dict[str, Any]) -> str:
    """The page: its template with style, data and code, and a policy that lets nothing else in."""
    scripts = [(HERE / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    style = (HERE / "lab.css").read_text(encoding="utf-8")
    code = "\n".join(['(() => {\n"use strict";', *scripts, "})();"])
    inside = {"script-src": code, "style-src": style}
    hashes = {kind: _base64(hashlib.sha256(text.encode()).digest()) for kind, text in inside.items()}
    allowed = "; ".join(f"{kind} 'sha256-{value}'" for kind, value in hashes.items())
    policy = f"default-src 'none'; {allowed}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    content = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    places = {"title": html.escape(data["title"]), "policy": policy, "style": style, "data": content, "code": code}
    return re.sub(r"\{\{(\w+)\}\}", lambda place: places[place[1]], (HERE / "lab.html").read_text(encoding="utf-8"))
