"""Animations: a scene takes records and gives a `Film`, which saves itself; every frame shows recorded numbers."""

from mnistviz.show.animate.blocks import data_flow
from mnistviz.show.animate.canvas import Canvas, Claim, Frame, ease
from mnistviz.show.animate.clusters import embedding_evolution
from mnistviz.show.animate.convolution import convolution
from mnistviz.show.animate.demo import demo
from mnistviz.show.animate.film import Film, Slider
from mnistviz.show.animate.layers import forward
from mnistviz.show.animate.network import network
from mnistviz.show.animate.pooling import max_pooling
from mnistviz.show.animate.training import training_replay

__all__ = [
    # one forward pass
    "data_flow", "forward", "network", "convolution", "max_pooling",
    # several, and a whole training
    "demo", "training_replay", "embedding_evolution",
    # to make your own
    "Canvas", "Frame", "Claim", "ease", "Film", "Slider",
]  # fmt: skip
