"""Films: a scene takes records and gives a `Film`, which saves itself; every frame shows recorded numbers."""

from mnistviz.animate.backward_propagation import backward_propagation
from mnistviz.animate.canvas import Canvas, Claim, Frame, ease
from mnistviz.animate.convolution import convolution
from mnistviz.animate.embedding_evolution import embedding_evolution
from mnistviz.animate.film import Film, Slider
from mnistviz.animate.forward_propagation import forward_propagation
from mnistviz.animate.forward_propagation_demo import forward_propagation_demo
from mnistviz.animate.max_pooling import max_pooling
from mnistviz.animate.mnist_data_flow import mnist_data_flow
from mnistviz.animate.mnist_forward_propagation import mnist_forward_propagation
from mnistviz.animate.scenes import film
from mnistviz.animate.training_replay import training_replay

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
