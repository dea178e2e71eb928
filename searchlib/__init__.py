"""searchlib answers questions about training neural networks by search.

A study file says what is asked; ``searchlib optimize --study NAME`` answers it.
"""

from searchlib.activations import ACTIVATIONS, Activation
from searchlib.data import DATASETS, Dataset, Examples, function_dataset, idx_dataset
from searchlib.errors import SearchlibError, StudyError
from searchlib.initializers import INITIALIZERS, Layer
from searchlib.models import MLP
from searchlib.published import Published
from searchlib.space import Choice, IntUniform, LogUniform, Uniform
from searchlib.study import Study, list_studies, load_study
from searchlib.trial import TrialConfig

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
