"""Train a small CNN on handwritten digits, then see, truthfully, every number it computes.

`__init__.pyi` beside this file is the table of contents; each name is loaded when it is first used.
"""

import lazy_loader

__version__ = "1.0.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
