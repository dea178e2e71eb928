"""Further points of a cell by a model of its own results, the same rule for every cell.

A Gaussian process of fixed shape, since a handful of results can't tell its parameters, and the point of the largest
expected improvement (Jones, Schonlau & Welch 1998). Nothing but the cell's own trials of the same search enters: cells
stay comparable, and searches independent.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from searchlib.analysis import is_enqueued, search_of
from searchlib.search.design import Design
from searchlib.study import Choice, Dimension, Primitive, Study

if TYPE_CHECKING:
    import numpy as np

LENGTH = 0.3  # over which results are alike, in units of a dimension's range
NOISE = 0.1  # variance of a result between seeds, in units of the variance between points
CANDIDATES = 256  # points of which the best is taken

Params = Mapping[str, Primitive]


class Refinement:
    """The points of a study whose sampler refines, from the results of the rounds before."""

    def __init__(self, study: Study, designs: Mapping[int, Design], trials: Sequence[FrozenTrial], begun: int) -> None:
        """trials: the study's own, of which those from place *begun* on are of the present round."""
        self.study, self.designs = study, designs
        self.sampled = designs[1].sampled
        sign = 1.0 if study.direction == "maximize" else -1.0
        self.known: dict[Hashable, list[tuple[Params, float]]] = {}
        self.pending: dict[Hashable, list[Params]] = {}
        for place, trial in enumerate(trials):
            if is_enqueued(trial):
                continue  # one cell would know more than the others
            key, params = (search_of(trial), study.cell_of(trial.params)), self._nuisance(trial.params)
            if place >= begun:
                self.pending.setdefault(key, []).append(params)
            elif trial.values:  # of a pruned one its last value; a diverged one has what it scores
                self.known.setdefault(key, []).append((params, sign * trial.values[0]))

    def __call__(self, search: int, place: int) -> dict[str, Primitive]:
        """The parameters of the trial drawn at *place* of its search."""
        design = self.designs[search]
        block, position = divmod(place, len(design.cells))
        params = design[place]
        key = search, self.study.cell_of(params)
        known, pending = self.known.get(key), self.pending.setdefault(key, [])
        if known and block >= first_points(self.sampled):
            point = refined(self.sampled, known, pending, design.candidates(block, CANDIDATES))
            params = design.at(position, point)
        pending.append(self._nuisance(params))
        return params

    def _nuisance(self, params: Params) -> Params:
        return {name: value for name, value in params.items() if name in self.sampled}


def first_points(dimensions: Mapping[str, Dimension]) -> int:
    """How many points of a cell follow the Sobol sequence before the model does: two a dimension, at least four."""
    return max(2 * len(dimensions), 4)


def refined(
    dimensions: Mapping[str, Dimension],
    known: Sequence[tuple[Params, float]],
    pending: Sequence[Params],
    candidates: Sequence[Mapping[str, float]],
) -> Mapping[str, float]:
    """The candidate of the largest expected improvement: its coordinates in [0, 1), by dimension.

    dimensions: those that the design samples. known: configurations of the cell, with their results, larger ones
    better; at least one. pending: configurations in training, which count as what the model expects of them.
    """
    import numpy as np
    from scipy.stats import norm

    places = np.array([_place(dimensions, params) for params, _ in known])
    values = _scaled(np.array([value for _, value in known]))
    open_places = np.array(
        [_place(dimensions, {n: dimensions[n].at(u) for n, u in each.items()}) for each in candidates]
    )
    waiting = np.array([_place(dimensions, params) for params in pending]).reshape(len(pending), places.shape[1])
    model = _fitted(places, values)
    if len(pending):
        model = _fitted(np.vstack([places, waiting]), np.concatenate([values, model.predict(waiting)]))
    mean, deviation = model.predict(open_places, return_std=True)
    best = model.predict(places).max()
    z = (mean - best) / np.maximum(deviation, 1e-9)
    improvement = (mean - best) * norm.cdf(z) + deviation * norm.pdf(z)
    return candidates[int(improvement.argmax())]


def _fitted(places: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    model = GaussianProcessRegressor(Matern(LENGTH, nu=2.5), alpha=NOISE, optimizer=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(places, values)


def _scaled(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Results with mean 0 and deviation 1; what is far below the median as if it were as far as the best is above.

    A diverged trial would otherwise leave no difference among the others.
    """
    import numpy as np

    middle, best = float(np.median(values)), float(values.max())
    clipped = np.maximum(values, middle - 2.0 * (best - middle))
    deviation = float(clipped.std())
    return np.asarray((clipped - clipped.mean()) / deviation if deviation > 0.0 else clipped * 0.0)


def _place(dimensions: Mapping[str, Dimension], params: Params) -> list[float]:
    """A configuration as coordinates: numbers by their place in the range, values without an order one a coordinate."""
    found = []
    for name, dimension in dimensions.items():
        values = dimension.values() if isinstance(dimension, Choice) else None
        if values is None or all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values):
            found.append(dimension.place(params[name]) if name in params else 0.5)
        else:
            found += [LENGTH * (params.get(name) == each) for each in values]
    return found
