"""Small models that are awkward to listen to, each with an input, and the means to see whether one was disturbed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._pytree import tree_leaves

import mnistviz as mv
from mnistviz.look.trace import Trace

GRAD_MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


class Case:
    """A model and what it is called with: `case()` calls it."""

    def __init__(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs

    def __call__(self) -> Any:
        return self.model(*self.args, **self.kwargs)


def stack(x: Tensor, *layers: nn.Module) -> Case:
    return Case(nn.Sequential(*layers), x)


def make(name: str) -> Case:
    """The same weights and the same input every time."""
    with seeded():
        return ZOO[name]()


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers from this seed; outside, the random state is as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def same(a: nn.Module | dict[str, Tensor], b: nn.Module | dict[str, Tensor]) -> bool:
    """Whether two networks, or their state dicts, hold equal weights."""
    first, second = (x.state_dict() if isinstance(x, nn.Module) else x for x in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def record(model: nn.Module, *inputs: Any, **options: Any) -> Trace:
    """One captured pass without gradients."""
    with torch.no_grad(), mv.capture(model, **options) as trace:
        model(*inputs)
    return trace


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


def block() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.Sequential(nn.MaxPool2d(2))))


class Reused(nn.Module):
    """One ReLU in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.relu = nn.Linear(8, 6), nn.Linear(6, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.fc2(self.relu(self.fc1(x))))


def aliased() -> Reused:
    model = Reused()
    model.also_relu, model.also_fc1 = model.relu, model.fc1
    return model


class Residual(nn.Module):
    """An addition and two functions between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(x + self.conv2(x))
        return self.fc(x.mean((2, 3)))


class InplaceFunctions(Residual):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.conv1(x))
        y = self.conv2(x)
        y += x
        return self.fc(y.mul_(2).mean((2, 3)))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Linear(4, 3), nn.Linear(5, 3), nn.Bilinear(3, 3, 2)

    def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> Tensor:
        return self.join(self.left(a), self.right(b)) * scale


class Heads(nn.Module):
    """Two outputs, in whatever shape they are asked for."""

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


class NoParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().sum((2, 3))


def batch_norms() -> nn.Sequential:
    norms = [nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False), nn.BatchNorm2d(2, track_running_stats=False)]
    for norm in norms[:2]:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(nn.Conv2d(1, 2, 3), *norms)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x + torch.rand_like(x)) * torch.rand(())


class Counter(nn.Module):
    """Counts its passes and keeps its last answer, in evaluation mode too."""

    def __init__(self, rebinds: bool = False) -> None:
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


def sharing_a_counter() -> nn.Sequential:
    """One buffer under two names, counted up twice."""
    first, second = Counter(), Counter()
    second.n, second.fc = first.n, nn.Linear(3, 3)
    return nn.Sequential(first, second)


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False))
    model[2].weight = model[0].weight
    return model


def partly_frozen() -> Small:
    model = Small()
    for layer in (model.conv1, model.fc1):
        layer.requires_grad_(False)
    return model


def hooked() -> Small:
    """With somebody else's hooks."""
    model = Small()
    model.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.register_forward_hook(lambda module, args, output: output - 1, always_call=False)
    model.conv1.register_forward_pre_hook(lambda module, args, kwargs: (args, kwargs), with_kwargs=True)
    model.conv1.register_forward_hook(lambda module, args, kwargs, output: output * 2, with_kwargs=True)
    model.conv1.register_forward_hook(lambda module, args, output: None, prepend=True, always_call=True)
    model.fc2.register_full_backward_hook(lambda module, before, after: None)
    model.fc2.register_full_backward_pre_hook(lambda module, after: None)
    model.fc2.register_state_dict_post_hook(lambda *_: None)
    return model


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


class Unpooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(*self.pool(x))


class Catching(nn.Module):
    """A layer of it raises, and it goes on without; the last thing it does may be that."""

    def __init__(self, out: nn.Module | None = None) -> None:
        super().__init__()
        self.fc, self.picky, self.out = nn.Linear(4, 4), nn.Linear(5, 4), out

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        try:
            x = self.picky(x)
        except RuntimeError:
            x = x + 1
        return x if self.out is None else self.out(x)


def norm_and_dropout() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.ReLU())


def scripted(module: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(action="ignore"):  # torch warns that TorchScript is deprecated
        return torch.jit.script(module)


def traced(module: nn.Module, x: Tensor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(module.eval(), x).train()


def whole_numbers() -> nn.Sequential:
    """Small whole weights: every sum is exact, in whatever order it is made. Channel 2 and unit 5 are always 0."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 12), nn.ReLU()
    )
    with seeded(3), torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape))
        for layer, silent in ((model[0], 2), (model[4], 5)):
            layer.weight[silent], layer.bias[silent] = 0, -1
    return model


def whole_pixels(digits: mv.Digits) -> Tensor:
    """Four levels of grey, as whole numbers."""
    return (digits.images // 64).float().unsqueeze(1)


ZOO: dict[str, Callable[[], Case]] = {
    "small": lambda: Case(Small(), images()),
    "flat": lambda: stack(images(), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)),
    "nested": lambda: stack(images(), block(), nn.Flatten(), nn.Linear(18, 5)),
    "reused_relu": lambda: Case(Reused(), torch.randn(3, 8)),
    "alias": lambda: Case(aliased(), torch.randn(3, 8)),
    "residual": lambda: Case(Residual(), images()),
    "inplace": lambda: Case(Small(inplace=True), images()),
    "inplace_functions": lambda: Case(InplaceFunctions(), images()),
    "two_inputs": lambda: Case(TwoInputs(), torch.randn(2, 4), torch.randn(2, 5)),
    "keyword_inputs": lambda: Case(TwoInputs(), torch.randn(2, 4), scale=2.0, b=torch.randn(2, 5)),
    "dict_output": lambda: Case(Heads(lambda a, b: {"digit": a, "more": {"angle": b}}), torch.randn(2, 4)),
    "namedtuple_output": lambda: Case(Heads(Answer), torch.randn(2, 4)),
    "tuple_output": lambda: Case(Heads(lambda a, b: (a, [b, None, "text"])), torch.randn(2, 4)),
    "no_parameters": lambda: Case(NoParameters(), images()),
    "bare_conv": lambda: Case(nn.Conv2d(1, 3, 3), images()),
    "empty_sequential": lambda: stack(images()),
    "batch_norm": lambda: Case(batch_norms(), images(4)),
    "dropout": lambda: stack(images(), nn.Conv2d(1, 4, 3), nn.Dropout2d(0.5), nn.Dropout(0.5), nn.AlphaDropout(0.3)),
    "random_draw": lambda: Case(Noisy(), torch.randn(2, 4)),
    "counter": lambda: Case(Counter(), torch.randn(2, 4)),
    "rebinding_counter": lambda: Case(Counter(rebinds=True), torch.randn(2, 4)),
    "shared_counter": lambda: Case(sharing_a_counter(), torch.randn(2, 4)),
    "tied_weights": lambda: Case(tied(), torch.randn(2, 6)),
    "attention": lambda: Case(nn.MultiheadAttention(8, 2, batch_first=True), *[torch.randn(2, 5, 8)] * 3),
    "transformer": lambda: stack(torch.randn(2, 5, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "lstm": lambda: Case(nn.LSTM(4, 3, num_layers=2, dropout=0.5), torch.randn(5, 2, 4)),
    "packed_gru": lambda: Case(nn.GRU(4, 3, bidirectional=True), pack_padded_sequence(torch.randn(5, 2, 4), [5, 3])),
    "embedding": lambda: stack(torch.randint(9, (3, 5)), nn.EmbeddingBag(9, 4), nn.Linear(4, 2)),
    "frozen": lambda: Case(partly_frozen(), images()),
    "somebody_elses_hooks": lambda: Case(hooked(), images()),
    "module_list": lambda: Case(Loop(), torch.randn(2, 4)),
    "weight_normed": lambda: stack(torch.randn(2, 4), weight_norm(nn.Linear(4, 3)), nn.ReLU()),
    "spectral_normed": lambda: stack(images(), spectral_norm(nn.Conv2d(1, 3, 3)), nn.ReLU()),
    "bfloat16": lambda: Case(Small().bfloat16(), images().bfloat16()),
    "indices": lambda: Case(Unpooling(), images()),
    "catching": lambda: Case(Catching(nn.Linear(4, 2)), torch.randn(2, 4)),
    "catching_at_the_end": lambda: Case(Catching(), torch.randn(2, 4)),
    "no_images": lambda: Case(Small(), images(0)),
    "without_batch": lambda: stack(torch.randn(1, 8, 8), nn.Conv2d(1, 2, 3), nn.ReLU()),
    "scripted_part": lambda: stack(images(), scripted(norm_and_dropout()), nn.Flatten(), nn.Linear(72, 5)),
    "scripted_counter": lambda: stack(torch.randn(2, 4), scripted(Counter()), nn.ReLU(), nn.Linear(3, 2)),
    "traced_part": lambda: stack(images(), traced(norm_and_dropout(), images()), nn.Flatten(), nn.Linear(72, 5)),
    "scripted_model": lambda: Case(scripted(nn.Sequential(norm_and_dropout(), nn.Flatten())), images()),
}
SAMPLE = ("reused_relu", "inplace_functions", "tuple_output", "batch_norm", "lstm", "scripted_part")


class Backend:
    """For `torch.compile`: hands the graph back as it is, and counts how often it was asked and how often that ran."""

    def __init__(self) -> None:
        self.compiled = self.ran = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        self.compiled += 1

        def run(*args: Any) -> Any:
            self.ran += 1
            return graph.forward(*args)

        return run


class Same:
    """Equal only to another `Same` of this very object, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    __hash__ = None


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


def entering(listen: Callable[..., Any], *what: Any, name: str = "small", runs: bool = False) -> None:
    """`with listen(model, *what)`: nothing is left behind; where `runs` is False, the body is not even entered."""
    case = make(name)
    before = facts(case.model.train(not runs))
    try:
        with listen(case.model, *what):
            case() if runs else pytest.fail("the body must not run")
    finally:
        assert facts(case.model) == before


def assert_equal(result: Any, expected: Any) -> None:
    """Nests of equal tensors, bit for bit."""
    ours, theirs = tree_leaves(result), tree_leaves(expected)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b)
        if isinstance(a, Tensor):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert bits(a) == bits(b)
        else:
            assert a == b


@torch.no_grad()
def layer_by_layer(model: nn.Module, x: Tensor, edit: Callable[[str, Tensor], Tensor] = lambda name, t: t) -> dict:
    """What comes out of each child in turn, `edit` applied: a pass of a flat model without any hook."""
    outputs = {}
    for name, layer in model.named_children():
        x = outputs[name] = edit(name, layer(x))
    return outputs


def slopes_by_hand(model: nn.Sequential, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """∂loss/∂ the input, every output and every weight of a flat model, by name: plain autograd, without a capture."""
    values = {"input": x.clone().requires_grad_()}
    for name, layer in model.named_children():
        values[name] = scores = layer([*values.values()][-1])
    wanted = values | dict(model.named_parameters())
    return dict(zip(wanted, torch.autograd.grad(F.cross_entropy(scores, labels), [*wanted.values()]), strict=True))


def silencing(layer: str, channels: int | list[int]) -> Callable[[str, Tensor], Tensor]:
    """An edit: these channels times 0, the others times 1."""

    def edit(name: str, t: Tensor) -> Tensor:
        if name != layer:
            return t
        mask = torch.ones(t.shape[1], dtype=t.dtype)
        mask[channels] = 0
        return t * mask.view(-1, *[1] * (t.ndim - 2))

    return edit


@torch.no_grad()
def flow_by_hand(layer: nn.Module, x: Tensor, delta: Tensor | None = None) -> np.ndarray:
    """What each channel (of a linear layer, each feature) gave each output, one at a time; times δ, if it is given."""
    weight, out = layer.weight.double(), layer(x)
    delta = (torch.ones_like(out) if delta is None else delta)[0].double()
    if isinstance(layer, nn.Linear):
        return (weight * x[0].double() * delta[:, None]).numpy()
    border, total = layer._reversed_padding_repeated_twice, torch.zeros(len(weight), x.shape[1]).double()
    seen = F.pad(x.double(), border, mode=layer.padding_mode.replace("zeros", "constant"))  # as its own forward pads
    for channel in range(x.shape[1]):
        group, i = divmod(channel, weight.shape[1])
        outputs = slice(group * len(weight) // layer.groups, (group + 1) * len(weight) // layer.groups)
        alone, kernels = seen[:, channel : channel + 1], weight[outputs, i : i + 1]
        products = F.conv2d(alone, kernels, None, layer.stride, 0, layer.dilation)[0] * delta[outputs]
        total[outputs, channel] = products.sum((1, 2))
    return total.numpy()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, Tensor]:
    """Any convolution that torch accepts, in float64, and one map that it fits on."""
    groups, mode = draw(st.integers(1, 3)), draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    kernel, dilation, size = draw(pairs(1, 5)), draw(pairs(1, 3)), draw(pairs(1, 9))
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.integers(0, 3), pairs(0, 3)))
    stride = (1, 1) if padding == "same" else draw(pairs(1, 3))
    for axis in (0, 1):
        reach = dilation[axis] * (kernel[axis] - 1)
        border = padding[axis] if isinstance(padding, tuple) else padding
        added = {"same": reach, "valid": 0}[border] if isinstance(border, str) else 2 * border
        assume(size[axis] + added > reach)
        assume(mode in ("zeros", "replicate") or (added + 1) // 2 < size[axis])  # no more of a map than there is
    ends = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    bias = draw(st.booleans())
    with seeded(draw(st.integers(0, 99))):
        conv = nn.Conv2d(*ends, kernel, stride, padding, dilation, groups, bias, mode, dtype=torch.float64)
        return conv, torch.randn(1, ends[0], *size, dtype=torch.float64)


@st.composite
def layers(draw: st.DrawFn, *kinds: str) -> tuple[nn.Module, Tensor]:
    """Any convolution, pooling or batch norm, and two maps for it, half the time with many equal numbers."""
    kind = draw(st.sampled_from(kinds or ("conv", "max", "average", "adaptive", "norm")))
    ceil, flag, last, equal = draw(st.tuples(*[st.booleans()] * 4))
    if kind == "conv":
        conv, x = draw(convolutions())
        return conv, torch.cat([x, -x.flip(3)])
    kernel, stride, size, dilation = draw(pairs(1, 4)), draw(pairs(1, 4)), draw(pairs(1, 9)), draw(pairs(1, 2))
    padding, sides = tuple(draw(st.integers(0, k // 2)) for k in kernel), st.none() | st.integers(1, 5)
    # smaller maps do not hold a window, or a dilated one jumps over them
    assume(all(n > (k - 1) * d - p for n, k, d, p in zip(size, kernel, dilation, padding, strict=True)))
    match kind:
        case "max":
            layer: nn.Module = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
        case "average":
            layer = nn.AvgPool2d(kernel, stride, padding, ceil, flag, draw(st.sampled_from([None, 3, 7])))
        case "adaptive":
            layer = nn.AdaptiveAvgPool2d((draw(sides), draw(sides)))
        case _:
            layer = nn.BatchNorm2d(3, 0.1, affine=flag, track_running_stats=ceil, dtype=torch.float64)
            layer.train(draw(st.booleans()))
            for i, tensor in enumerate([*layer.parameters(), *layer.buffers()][:4]):
                tensor.data = noise(3, seed=i + 2).abs() + 0.5
    x = noise(2, 3, *size)
    return layer, (x.round() if equal else x).to(memory_format=torch.channels_last if last else torch.contiguous_format)
