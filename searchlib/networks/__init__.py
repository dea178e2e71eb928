"""What networks are made of, by name: activations, initializers, and the theory of both."""

from searchlib.networks.activations import ACTIVATIONS, Activation, Kernel, get_activation
from searchlib.networks.initializers import BIASES, INITIALIZERS, Layer, get_initializer
from searchlib.networks.meanfield import gaussian_moments, recommended_gain

__all__ = [
    "ACTIVATIONS",
    "BIASES",
    "INITIALIZERS",
    "Activation",
    "Kernel",
    "Layer",
    "gaussian_moments",
    "get_activation",
    "get_initializer",
    "recommended_gain",
]
