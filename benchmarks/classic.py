"""The yardsticks: the settings of the well-known PyTorch MNIST example, and of the fastest public recipe.

The first is deliberately the usual way: PIL images, per-image transforms, a DataLoader, batch 64, Adadelta. Both are
written from their settings for comparison; nothing in the library uses them.
"""

import gzip
import math
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from mnistviz import project
from mnistviz.learn.data import DigitSet

TO_TENSOR = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
MOVES = [transforms.RandomAffine(12, translate=(0.08, 0.08), scale=(0.88, 1.12))]


def torchvision_mnist(folder: str, *, train: bool, steps: list[Callable]) -> datasets.MNIST:
    """`torchvision.datasets.MNIST` over the embedded files: a PIL image is made and transformed on each access."""
    raw = Path(folder) / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for packed in project.data_folder().glob("*-ubyte.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return datasets.MNIST(folder, train=train, transform=transforms.Compose([*steps, *TO_TENSOR]))


def network() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 32, 3), relu1=nn.ReLU(), conv2=nn.Conv2d(32, 64, 3), relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2), drop1=nn.Dropout(0.25), flatten=nn.Flatten(),
            fc1=nn.Linear(9216, 128), relu3=nn.ReLU(), drop2=nn.Dropout(0.5), fc2=nn.Linear(128, 10),
        )
    )  # fmt: skip


def seconds_to(goal: float, seed: int = 0, most: int = 14) -> tuple[float, list[float]]:
    """Training seconds until the first epoch that ends at `goal` on the test digits, and each epoch's accuracy."""
    torch.manual_seed(seed)
    model = network()
    optimiser = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, 0.7)
    with tempfile.TemporaryDirectory() as folder:
        learn, judge = (torchvision_mnist(folder, train=part, steps=[]) for part in (True, False))
    train, test = DataLoader(learn, 64, shuffle=True), DataLoader(judge, 1000)
    spent, accuracies = 0.0, []
    for _ in range(most):
        start = time.perf_counter()
        model.train()
        for x, y in train:
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
        schedule.step()
        spent += time.perf_counter() - start  # evaluation is outside the clock
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in test)
        accuracies.append(right / len(judge))
        print(f"  classic, epoch {len(accuracies)}: {accuracies[-1]:.2%} after {spent:.0f} s", flush=True)
        if accuracies[-1] >= goal:
            return spent, accuracies
    return float("inf"), accuracies


def fastest(digits: DigitSet, seed: int) -> tuple[float, float]:
    """Training seconds and test accuracy of the last step of tuomaso/train_mnist_fast: one epoch, no shuffling."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)),
    )
    images, labels = (digits.train.pixels - 0.1307) / 0.3081, digits.train.known_labels()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9))
    steps = math.ceil(len(images) / 256)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=steps, cycle_momentum=False)
    start = time.perf_counter()
    for x, y in zip(images.split(256), labels.split(256), strict=True):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
        schedule.step()
    spent = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        right = (model((digits.test.pixels - 0.1307) / 0.3081).argmax(1) == digits.test.known_labels()).sum()
    return spent, int(right) / len(digits.test)
