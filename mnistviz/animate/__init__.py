"""Films: a scene takes records and gives a `Film`, which saves itself. `__init__.pyi` lists them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
film = __getattr__("film")  # before anything else: the module in which `Film` stands has this name too
