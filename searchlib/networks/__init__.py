"""What networks are made of and how they learn, by name: activations, initializers, optimizers; the theory of them."""

from searchlib.networks.activations import ACTIVATIONS, Activation, Kernel, get_activation
from searchlib.networks.functions import unfit, where
from searchlib.networks.initializers import BIASES, INITIALIZERS, Layer, get_initializer, is_own
from searchlib.networks.meanfield import critical_point, gaussian_moments, recommended_gain
from searchlib.networks.optimizers import OPTIMIZERS, Optimizer

__all__ = [
    "ACTIVATIONS",
    "BIASES",
    "INITIALIZERS",
    "OPTIMIZERS",
    "Activation",
    "Kernel",
    "Layer",
    "Optimizer",
    "critical_point",
    "gaussian_moments",
    "get_activation",
    "get_initializer",
    "is_own",
    "recommended_gain",
    "unfit",
    "where",
]
