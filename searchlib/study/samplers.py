"""Samplers by name, without Optuna: what ``searchlib.search`` builds for each.

To add one of Optuna's: add one line to ``SAMPLERS`` (docs/parts.md). A study file may also pass a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How the configurations of a study are chosen: by a sampler of Optuna, or by a fixed design.

    summary: its line in the reference.
    optuna: the name of a class in ``optuna.samplers``.
    arguments: its arguments beside ``seed``.
    enumerates: of a design, the dimensions of which it takes all combinations; the others follow a Sobol sequence.
    adaptive: whether the next configurations depend on the results so far.
    refines: of a design, whether only a cell's first points follow the Sobol sequence, and later ones its own results.
    function: used instead of a class, for a sampler of a study file: from seed, or from nothing, to Optuna's sampler.
    """

    summary: str = ""
    optuna: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    enumerates: Literal["none", "scientific", "all"] | None = None
    adaptive: bool = False
    refines: bool = False
    function: Callable[..., Any] | None = None

    @property
    def is_design(self) -> bool:
        """Whether the configurations are fixed in advance, by searchlib."""
        return self.enumerates is not None


SAMPLERS: dict[str, Sampler] = {
    "balanced": Sampler(
        summary="Every scientific cell gets the same nuisance points, from a scrambled Sobol sequence.",
        enumerates="scientific",
    ),
    "cmaes": Sampler(
        summary="CMA-ES on the numbers (Hansen 2016); categories are drawn at random.",
        optuna="CmaEsSampler",
        arguments={"warn_independent_sampling": False},
        adaptive=True,
    ),
    "gp": Sampler(
        summary="Bayesian optimization with a Gaussian process.",
        optuna="GPSampler",
        adaptive=True,
    ),
    "grid": Sampler(
        summary="Every combination of all values, once.",
        enumerates="all",
    ),
    "qmc": Sampler(
        summary="All dimensions from a scrambled Sobol sequence (Sobol' 1967; Owen 1998).",
        enumerates="none",
    ),
    "random": Sampler(
        summary="Independent random configurations.",
        optuna="RandomSampler",
    ),
    "refined": Sampler(
        summary="As balanced for a few points a cell; each cell's further points by a model of its own results.",
        enumerates="scientific",
        adaptive=True,
        refines=True,
    ),
    "tpe": Sampler(
        summary="Tree-structured Parzen estimator (Bergstra et al. 2011).",
        optuna="TPESampler",
        adaptive=True,
    ),
}


def get_sampler(name: str | Callable[..., Any]) -> Sampler:
    """The sampler of that name, or a function of a study file wrapped as one."""
    return SAMPLERS[name] if isinstance(name, str) else Sampler(function=name, adaptive=True)
