"""Pictures of records; nothing here runs a model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["figures"])
