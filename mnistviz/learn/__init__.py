"""A digit goes in, a trained model comes out."""

import lazy_loader

SUBJECTS = ("attacks", "checkpoint", "corruptions", "handwriting", "kaggle", "models", "recipes", "transfer")
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, SUBJECTS)
