"""What several test files do: ask for a clear error, read a picture's words."""

from collections.abc import Callable

import pytest

import mnistviz as mv


def refused(call: Callable[[], object], *words: str) -> None:
    """The call raises the library's error, and its message holds all these words."""
    with pytest.raises(mv.MnistvizError) as caught:
        call()
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in:\n{caught.value}"
