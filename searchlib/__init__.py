"""searchlib answers questions about training neural networks by search.

A study file says what is asked; ``searchlib optimize --study NAME`` answers it.
"""

from searchlib.data import DATASETS, Dataset, Examples, function_dataset, idx_dataset
from searchlib.errors import SearchlibError, StudyError
from searchlib.networks import ACTIVATIONS, INITIALIZERS, Activation, Layer
from searchlib.study import (
    MLP,
    Choice,
    IntUniform,
    LogUniform,
    Published,
    Study,
    TrialConfig,
    Uniform,
    list_studies,
    load_study,
)

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "DATASETS",
    "INITIALIZERS",
    "MLP",
    "Activation",
    "Choice",
    "Dataset",
    "Examples",
    "IntUniform",
    "Layer",
    "LogUniform",
    "Published",
    "SearchlibError",
    "Study",
    "StudyError",
    "TrialConfig",
    "Uniform",
    "__version__",
    "function_dataset",
    "idx_dataset",
    "list_studies",
    "load_study",
]
