"""The network in the reader's hands: `mv.page(model, "my_network.html")` writes it as one file of HTML."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Page(ModuleType):
    """This room, which can be called: what it is there for has its name too."""

    def __call__(self, *arguments: Any, **options: Any) -> Path:
        from mnistviz.page.build import page

        return page(*arguments, **options)


sys.modules[__name__].__class__ = _Page
