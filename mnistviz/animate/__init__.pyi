"""Every scene, and what a film of your own is made of; every frame shows recorded numbers."""

from .backward_propagation import backward_propagation
from .canvas import Canvas, Claim, Frame, ease
from .convolution import convolution
from .embedding_evolution import embedding_evolution
from .film import Film, Slider
from .forward_propagation import forward_propagation
from .forward_propagation_demo import forward_propagation_demo
from .max_pooling import max_pooling
from .mnist_data_flow import mnist_data_flow
from .mnist_forward_propagation import mnist_forward_propagation
from .scenes import film
from .training_replay import training_replay

__all__ = [
    # from the name of a scene to its film
    "film",
    # one forward pass
    "mnist_data_flow", "forward_propagation", "mnist_forward_propagation", "convolution", "max_pooling",
    # and its way back
    "backward_propagation",
    # several, and a whole training
    "forward_propagation_demo", "training_replay", "embedding_evolution",
    # to make your own
    "Canvas", "Frame", "Claim", "ease", "Film", "Slider",
]  # fmt: skip
