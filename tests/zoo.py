"""Small models that are awkward to listen to, each with an input, and the means to see whether one was disturbed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils._pytree import tree_leaves

GRAD_MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


@dataclass
class Case:
    """A model and what it is called with: `case()` calls it."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        return self.model(*self.args, **self.kwargs)


ZOO: dict[str, Callable[[], Case]] = {}


def animal(build: Callable[[], Case]) -> Callable[[], Case]:
    ZOO[build.__name__] = build
    return build


def make(name: str) -> Case:
    """The same weights and the same input every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ZOO[name]()


def images(n: int = 2, channels: int = 1) -> Tensor:
    return torch.randn(n, channels, 8, 8)


class Small(nn.Module):
    """Two convolutions and two linear layers in a plain forward, which `by_hand` writes out."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace)
        self.conv2, self.relu2 = nn.Conv2d(4, 6, 3), nn.ReLU(inplace)
        self.pool, self.flatten = nn.MaxPool2d(2), nn.Flatten()
        self.fc1, self.relu3, self.fc2 = nn.Linear(54, 8), nn.ReLU(inplace), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def by_hand(model: Small, x: Tensor, edit: Callable[[str, Tensor], Tensor] = lambda name, t: t) -> Tensor:
    """`Small` by plain functions; `edit` may change what comes out of each layer."""
    x = edit("conv1", F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1))
    x = edit("relu1", x.clamp(min=0))
    x = edit("conv2", F.conv2d(x, model.conv2.weight, model.conv2.bias))
    x = edit("relu2", x.clamp(min=0))
    x = edit("pool", F.max_pool2d(x, 2))
    x = edit("fc1", F.linear(x.flatten(1), model.fc1.weight, model.fc1.bias))
    x = edit("relu3", x.clamp(min=0))
    return edit("fc2", F.linear(x, model.fc2.weight, model.fc2.bias))


@animal
def small() -> Case:
    return Case(Small(), (images(),))


@animal
def flat() -> Case:
    return Case(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)), (images(),))


@animal
def nested() -> Case:
    block = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.Sequential(nn.MaxPool2d(2))))
    return Case(nn.Sequential(block, nn.Flatten(), nn.Linear(18, 5)), (images(),))


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.relu = nn.Linear(8, 6), nn.Linear(6, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.fc2(self.relu(self.fc1(x))))


@animal
def reused_relu() -> Case:
    return Case(Reused(), (torch.randn(3, 8),))


@animal
def alias() -> Case:
    model = Reused()
    model.also_relu, model.also_fc1 = model.relu, model.fc1
    return Case(model, (torch.randn(3, 8),))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(x + self.conv2(x))
        return self.fc(x.mean((2, 3)))


@animal
def residual() -> Case:
    return Case(Residual(), (images(),))


@animal
def inplace() -> Case:
    return Case(Small(inplace=True), (images(),))


class InplaceFunctions(Residual):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.conv1(x))
        y = self.conv2(x)
        y += x
        return self.fc(y.mul_(2).mean((2, 3)))


@animal
def inplace_functions() -> Case:
    return Case(InplaceFunctions(), (images(),))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Linear(4, 3), nn.Linear(5, 3), nn.Bilinear(3, 3, 2)

    def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
        return self.join(self.left(a), self.right(b)) * scale


@animal
def two_inputs() -> Case:
    return Case(TwoInputs(), (torch.randn(2, 4), torch.randn(2, 5)))


@animal
def keyword_inputs() -> Case:
    return Case(TwoInputs(), (torch.randn(2, 4),), {"scale": 2.0, "b": torch.randn(2, 5)})


class Heads(nn.Module):
    def __init__(self, shape: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.trunk, self.digit, self.angle = nn.Linear(4, 3), nn.Linear(3, 10), nn.Linear(3, 1)
        self.shape = shape

    def forward(self, x: Tensor) -> Any:
        x = self.trunk(x).relu()
        return self.shape(self.digit(x), self.angle(x))


class Answer(NamedTuple):
    digit: Tensor
    angle: Tensor


@animal
def dict_output() -> Case:
    return Case(Heads(lambda digit, angle: {"digit": digit, "more": {"angle": angle}}), (torch.randn(2, 4),))


@animal
def namedtuple_output() -> Case:
    return Case(Heads(Answer), (torch.randn(2, 4),))


@animal
def tuple_output() -> Case:
    return Case(Heads(lambda digit, angle: (digit, [angle, None, "text"])), (torch.randn(2, 4),))


class NoParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().sum((2, 3))


@animal
def no_parameters() -> Case:
    return Case(NoParameters(), (images(),))


@animal
def bare_conv() -> Case:
    return Case(nn.Conv2d(1, 3, 3), (images(),))


@animal
def bare_identity() -> Case:
    return Case(nn.Identity(), (images(),))


@animal
def empty_sequential() -> Case:
    return Case(nn.Sequential(), (images(),))


class Recursive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.shift = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor, depth: int = 2) -> Tensor:
        x = self.fc(x) + self.shift
        return self(x, depth=depth - 1) if depth else x


@animal
def recursive() -> Case:
    return Case(Recursive(), (torch.randn(2, 4),))


class Lazy(nn.Module):
    """Its linear layer learns its size from the first input, as a lazy layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).flatten(1))


@animal
def lazy_after_its_first_call() -> Case:
    case = Case(Lazy(), (images(),))
    case()
    return case


@animal
def batch_norm() -> Case:
    norms = [nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False), nn.BatchNorm2d(2, track_running_stats=False)]
    model = nn.Sequential(nn.Conv2d(1, 2, 3), *norms)
    for norm in norms[:2]:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return Case(model, (images(4),))


@animal
def dropout() -> Case:
    layers = [nn.Conv2d(1, 4, 3), nn.Dropout2d(0.5), nn.Dropout(0.5), nn.AlphaDropout(0.3)]
    return Case(nn.Sequential(*layers), (images(),))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + torch.rand_like(x)) * torch.rand(())


@animal
def random_draw() -> Case:
    return Case(Noisy(), (torch.randn(2, 4),))


class Counter(nn.Module):
    def __init__(self, rebinds: bool) -> None:
        super().__init__()
        self.fc, self.rebinds = nn.Linear(4, 3), rebinds
        self.register_buffer("n", torch.zeros((), dtype=torch.long))
        self.register_buffer("last", torch.full((3,), torch.nan), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        if self.rebinds:
            self.n = self.n + 1
            self.last = y[0].detach()
        else:
            self.n += 1
            self.last.copy_(y[0].detach())
        return y


@animal
def counter() -> Case:
    return Case(Counter(rebinds=False), (torch.randn(2, 4),))


@animal
def rebinding_counter() -> Case:
    return Case(Counter(rebinds=True), (torch.randn(2, 4),))


@animal
def shared_counter() -> Case:
    """One buffer under two names, counted up twice."""
    first, second = Counter(rebinds=False), Counter(rebinds=False)
    second.n, second.fc = first.n, nn.Linear(3, 3)
    return Case(nn.Sequential(first, second), (torch.randn(2, 4),))


@animal
def tied_weights() -> Case:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False))
    model[2].weight = model[0].weight
    return Case(model, (torch.randn(2, 6),))


@animal
def attention() -> Case:
    x = torch.randn(2, 5, 8)
    return Case(nn.MultiheadAttention(8, 2, batch_first=True), (x, x, x))


@animal
def transformer() -> Case:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return Case(nn.Sequential(layer, nn.Linear(8, 3)), (torch.randn(2, 5, 8),))


@animal
def lstm() -> Case:
    return Case(nn.LSTM(4, 3, num_layers=2, dropout=0.5), (torch.randn(5, 2, 4),))


@animal
def packed_gru() -> Case:
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 2, 4), [5, 3])
    return Case(nn.GRU(4, 3, bidirectional=True), (packed,))


@animal
def embedding() -> Case:
    return Case(nn.Sequential(nn.EmbeddingBag(9, 4), nn.Linear(4, 2)), (torch.randint(9, (3, 5)),))


@animal
def frozen() -> Case:
    model = Small()
    for layer in (model.conv1, model.fc1):
        layer.requires_grad_(False)
    return Case(model, (images(),))


def doubled(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
    return output * 2


@animal
def somebody_elses_hooks() -> Case:
    model = Small()
    model.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.register_forward_hook(lambda module, args, output: output - 1, always_call=False)
    model.conv1.register_forward_pre_hook(lambda module, args, kwargs: (args, kwargs), with_kwargs=True)
    model.conv1.register_forward_hook(doubled, with_kwargs=True)
    model.conv1.register_forward_hook(lambda module, args, output: None, prepend=True, always_call=True)
    model.fc2.register_full_backward_hook(lambda module, before, after: None)
    model.fc2.register_full_backward_pre_hook(lambda module, after: None)
    model.fc2.register_state_dict_post_hook(lambda *_: None)
    return Case(model, (images(),))


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.by_name = nn.ModuleDict({"last": nn.Linear(4, 2), "unused": nn.Linear(4, 2)})
        self.shifts = nn.ParameterList(nn.Parameter(torch.randn(4)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer, shift in zip(self.layers, self.shifts, strict=True):
            x = torch.tanh(layer(x) + shift)
        return self.by_name["last"](x)


@animal
def module_list() -> Case:
    return Case(Loop(), (torch.randn(2, 4),))


@animal
def bilinear() -> Case:
    return Case(nn.Bilinear(3, 4, 2), (torch.randn(2, 3), torch.randn(2, 4)))


@animal
def weight_normed() -> Case:
    return Case(nn.Sequential(weight_norm(nn.Linear(4, 3)), nn.ReLU()), (torch.randn(2, 4),))


@animal
def spectral_normed() -> Case:
    return Case(nn.Sequential(spectral_norm(nn.Conv2d(1, 3, 3)), nn.ReLU()), (images(),))


@animal
def bfloat16() -> Case:
    return Case(Small().bfloat16(), (images().bfloat16(),))


@animal
def float64() -> Case:
    return Case(Small().double(), (images().double(),))


class Unpooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(*self.pool(x))


@animal
def indices() -> Case:
    return Case(Unpooling(), (images(),))


class Catching(nn.Module):
    """A layer of it raises, and it goes on without."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.picky, self.out = nn.Linear(4, 4), nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        try:
            x = self.picky(x)
        except RuntimeError:
            x = x + 1
        return self.out(x)


@animal
def catching() -> Case:
    return Case(Catching(), (torch.randn(2, 4),))


@animal
def no_images() -> Case:
    return Case(Small(), (images(0),))


@animal
def without_batch() -> Case:
    return Case(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (torch.randn(1, 8, 8),))


# ── was it disturbed? ─────────────────────────────────────────────────────────────────────────────────────


class Same:
    """Equal only to another `Same` of this very object, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    __hash__ = None

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__} at {id(self.value):x}>"


def bits(tensor: Tensor | None) -> bytes | None:
    """Every bit, so that NaN equals NaN and −0 does not equal 0."""
    if tensor is None:
        return None
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""


def hooks(model: nn.Module) -> dict[str, list[tuple[int, Same]]]:
    """Every hook of every module, in order."""
    return {
        f"{name}.{attribute}": [(key, Same(hook)) for key, hook in value.items()]
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if "hooks" in attribute
    }


def facts(model: nn.Module) -> dict[str, Any]:
    """All that must be as it was: compare with `==`; objects count as equal if they are the same object."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    world = vars(nn.modules.module).items()
    return {
        "random state": bits(torch.get_rng_state()),
        "hooks": hooks(model),
        "global hooks": {key: list(value) for key, value in world if "hooks" in key and isinstance(value, dict)},
        "modes": {name: module.training for name, module in modules.items()},
        "classes": {name: type(module) for name, module in modules.items()},
        "attributes": {name: list(vars(module)) for name, module in modules.items()},
        "buffers": {
            f"{name}.{key}": (Same(buffer), bits(buffer))
            for name, module in modules.items()
            for key, buffer in module._buffers.items()
        },
        "parameters": {name: (Same(p), bits(p), p.requires_grad) for name, p in parameters.items()},
        "gradients": {name: (Same(p.grad), bits(p.grad)) for name, p in parameters.items()},
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def unsettle(model: nn.Module) -> nn.Module:
    """Modes that differ from module to module, and a gradient on every second parameter."""
    for i, module in enumerate(model.modules()):
        module.training = i % 3 != 1
    for p in list(model.parameters())[::2]:
        p.grad = torch.full_like(p, 0.5) if p.requires_grad else None
    return model


def last_layer(name: str) -> str:
    """The module that is entered last in a plain pass, of those that compute something themselves."""
    case, called = make(name), []
    for key, module in case.model.named_modules():
        if not any(module.children()) or module._parameters:
            module.register_forward_pre_hook(lambda *_, key=key: called.append(key))
    case.model.eval()
    case()
    return called[-1]


def assert_equal(found: Any, expected: Any) -> None:
    """Nests of equal tensors, bit for bit."""
    ours, theirs = tree_leaves(found), tree_leaves(expected)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b)
        if isinstance(a, Tensor):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert bits(a) == bits(b)
        else:
            assert a == b
