"""Every static figure: a record comes in, a `Picture` with alt text comes out. `__init__.pyi` lists them."""

from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A figure as it is handed out: whatever it draws is in the house style, and laid out once and for all."""
    from mnistviz.show.picture import styled

    figure = globals()[name] = styled(_load(name))
    return figure
