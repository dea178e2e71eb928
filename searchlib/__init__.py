"""searchlib answers questions about training neural networks by search.

A study file states the question; ``searchlib optimize --study NAME`` or ``searchlib.optimize(NAME)`` answers it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searchlib.data import DATASETS, Dataset, Examples, function_dataset, idx_dataset
    from searchlib.errors import SearchlibError, StudyError
    from searchlib.library import Result, Results, optimize, result
    from searchlib.networks import ACTIVATIONS, INITIALIZERS, OPTIMIZERS, Activation, Layer
    from searchlib.study import (
        MLP,
        PRUNERS,
        SAMPLERS,
        SCHEDULES,
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
    "OPTIMIZERS",
    "PRUNERS",
    "SAMPLERS",
    "SCHEDULES",
    "Activation",
    "Choice",
    "Dataset",
    "Examples",
    "IntUniform",
    "Layer",
    "LogUniform",
    "Published",
    "Result",
    "Results",
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
    "optimize",
    "result",
]

_NAMED = ("errors", "data", "networks", "study", "library")  # where the names above are
_ROOMS = (*_NAMED, "analysis", "training", "stores", "search", "results", "report")

if not TYPE_CHECKING:  # which knows the names above, and would take any other

    def __getattr__(name: str) -> object:
        """Import a name when it is first used: ``searchlib --help`` and shell completion need none of them."""
        if name in _ROOMS:
            return import_module(f"searchlib.{name}")
        for room in _NAMED if name in __all__ else ():
            face = import_module(f"searchlib.{room}")
            if name in face.__all__:
                globals()[name] = getattr(face, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
