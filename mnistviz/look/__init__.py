"""What happened inside: one recorded forward pass, and the arithmetic behind every number in it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["activity", "attribution", "causes", "dreams", "paths"])
