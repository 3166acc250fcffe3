"""What several tests here look at: a small model and its input, and a trained one."""

import pytest
from torch import Tensor, nn
from zoo import Small, make


@pytest.fixture
def model() -> Small:
    return make("small").model


@pytest.fixture
def x() -> Tensor:
    return make("small").args[0]


@pytest.fixture(scope="module")
def compact(reference) -> nn.Sequential:
    return reference["compact"]
