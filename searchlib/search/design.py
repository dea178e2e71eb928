"""The balanced design: cells enumerated, nuisance points from a scrambled Sobol sequence."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from searchlib.errors import StudyError
from searchlib.seeds import derive_seed, search_seed
from searchlib.study import Primitive, Study, enumerate_points, get_pruner, get_sampler


class Design:
    """A fixed sequence of configurations: some dimensions enumerated, the others on a scrambled Sobol sequence.

    The study's sampler says which are enumerated: the scientific dimensions (then every block of cells gets the same
    nuisance point), all, or none. Sobol' 1967, scrambled as in Owen 1998 (scipy.stats.qmc); the k-th point is the same
    however many are asked for. search: which of the study's searches it is for; each has a scramble of its own.
    """

    def __init__(self, study: Study, search: int = 1) -> None:
        enumerated = study.enumerated
        self.fixed = study.fixed
        self.dimensions = study.dimensions
        self.cells = list(enumerate_points(enumerated, study.fixed))
        self.sampled = {name: dim for name, dim in study.dimensions.items() if name not in enumerated}
        self.seed = derive_seed(search_seed(study.seed, search), "sobol") % 2**32

    def __getitem__(self, number: int) -> dict[str, Primitive]:
        """The (encoded) parameters of point *number*, in the order of the study's dimensions."""
        block, position = divmod(number, len(self.cells))
        if block and not self.sampled:
            raise StudyError(f"trial {number}: the grid has only {len(self.cells)} points; ask for no more trials")
        return self.at(position, self._point(block))

    def at(self, position: int, point: Mapping[str, float]) -> dict[str, Primitive]:
        """The (encoded) parameters of the cell at *position*, with the sampled dimensions at *point* in [0, 1)."""
        params: dict[str, Primitive] = {}
        cell = self.cells[position]
        for name, dimension in self.dimensions.items():
            if name in cell:
                params[name] = cell[name]
            elif name in point and dimension.active({**self.fixed, **params}):
                params[name] = dimension.at(point[name])
        return params

    def candidates(self, block: int, count: int) -> list[dict[str, float]]:
        """So many points in [0, 1) of the sampled dimensions for a block to choose among, the same for all cells."""
        coordinates = _sobol(len(self.sampled), derive_seed(self.seed, "candidates", block) % 2**32, count)
        return [dict(zip(self.sampled, each, strict=True)) for each in coordinates]

    def completed(self, number: int, given: Mapping[str, Primitive]) -> dict[str, Primitive]:
        """The parameters *given*, with those of point *number* for what is missing (of a grid, counted in a circle).

        A dimension that this point lacks, as its condition doesn't hold there, gets its first value.
        """
        block, position = divmod(number, len(self.cells))
        cell, point = self.cells[position], self._point(block)
        params: dict[str, Primitive] = {}
        for name, dimension in self.dimensions.items():
            if not dimension.active({**self.fixed, **params}):
                continue
            params[name] = given[name] if name in given else cell.get(name, dimension.at(point.get(name, 0.0)))
        return params

    def _point(self, index: int) -> Mapping[str, float]:
        if not self.sampled:
            return {}
        coordinates = _sobol(len(self.sampled), self.seed, 2 ** max(index.bit_length(), 6))[index]
        return dict(zip(self.sampled, coordinates, strict=True))


@functools.lru_cache(maxsize=8)
def _sobol(dimensions: int, seed: int, count: int) -> list[list[float]]:
    from scipy.stats import qmc

    points: list[list[float]] = qmc.Sobol(dimensions, scramble=True, rng=seed).random(count).tolist()
    return points


def is_adaptive(study: Study) -> bool:
    """Whether the next configurations depend on the results so far."""
    return get_sampler(study.sampler).adaptive


def round_length(study: Study) -> int:
    """Trials asked together: ``round_size``, rounded up to whole blocks of all searches.

    With successive halving a round is one bracket: at least its number of trials for each cell of each search.
    """
    block = study.block * study.searches
    size = max(study.round_size, get_pruner(study.pruner).bracket * max(len(study.cells), 1) * study.searches)
    return -(-size // block) * block
