"""Numbers are read back from pages that are not laid out."""

from collections.abc import Iterator

import pytest

from mnistviz.show import picture


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Iterator[None]:
    """No number depends on the layout of its page, which takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "_settled", lambda page: page)
        yield
