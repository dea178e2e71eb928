"""The effects of the scientific hyperparameters on the replicates, by an analysis of variance with permutations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.analysis.comparison import ALPHA, Values, compare
from searchlib.analysis.spending import Plan
from searchlib.analysis.standing import CellKey
from searchlib.analysis.statistics import ROUND_OFF
from searchlib.study import Primitive

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 999
DOMINATES = 0.2  # a level dominates if without it at most this share of its factor's sum of squares is left


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A value compared with the best one. difference: of the best over it, with its 95 % interval.

    adjusted_p: corrected for the choice of the best among the rivals; each simple effect has the level for itself.
    """

    value: Primitive
    difference: float | None
    low: float | None
    high: float | None
    adjusted_p: float | None


@dataclass(frozen=True, kw_only=True)
class SimpleEffect:
    """The effect of one hyperparameter within a combination of the values of the others.

    hyperparameter: its name. within: the values of the others. best: its value with the best mean, among rivals; ties:
    those of them that aren't significantly worse.
    """

    hyperparameter: str
    within: Mapping[str, Primitive]
    best: Primitive
    ties: tuple[Primitive, ...]
    rivals: tuple[Rival, ...]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One term of the analysis of variance over the replicates; see ``effects``.

    term: the name of a hyperparameter, or two names joined by a colon for their interaction. df: degrees of freedom.
    f: of the F test; p: by permutation, at least 0.001. partial_eta_squared: SS / (SS + SS residual), from 0 to 1.
    omega_squared: the share of the variance with the small-sample bias removed, at least 0.
    """

    term: str
    df: int
    sum_sq: float
    f: float
    p: float
    partial_eta_squared: float
    omega_squared: float


def effects(
    cells: Sequence[Mapping[str, Any]],
    values: Sequence[Mapping[int, float]],
    factors: Sequence[str],
    overlap: float = 0.0,
) -> tuple[list[Effect], str | None]:
    """Main effects and two-way interactions of the *factors*: (terms, None), or ([], why there are none).

    cells: the factors' values of each cell; values: its values by block, a seed or, of several searches, a search.
    Analysis of variance (type II) over the blocks that all cells share. p: of 999 permutations of the residuals of the
    model without the term, within each block (Freedman & Lane 1983), since cells have unlike variances and no normal
    distribution. Each term: df, sum_sq, f, p, partial_eta_squared = SS / (SS + SS residual), and omega_squared, at
    least 0, which is (SS - df * MS residual) / (SS total + MS residual) (Hays 1963). overlap: of the replicates'
    splits; a mean over J of them then has the variance (1 / J + overlap) s² instead of s² / J (``resampling``), and f
    is smaller by that factor.
    """
    import numpy as np

    if not factors:
        return [], "no effects: the study has no scientific dimension"
    if len(cells) < 2:
        return [], "no effects: fewer than two cells are replicated"
    levels = _levels(cells, factors)
    if any(name not in cell for cell in cells for name in factors):
        return [], "no effects: a scientific dimension is conditional, so that not all cells have all dimensions"
    if len(cells) != math.prod(map(len, levels.values())):
        return [], "no effects: not all combinations of the scientific values are replicated"
    common = sorted(set.intersection(*(set(found) for found in values)))
    if len(common) < 2:
        return [], "no effects: fewer than two seeds are common to all cells"
    table = np.array([[found[block] for block in common] for found in values], dtype=float)
    if np.ptp(table) <= 0.0:
        return [], "no effects: all replicates have the same value"
    codes = {name: np.array([levels[name].index(cell[name]) for cell in cells]) for name in factors}
    return _anova(
        table, {name: code for name, code in codes.items() if len(levels[name]) > 1}, 1.0 + len(common) * overlap
    )


def without_dominating(
    cells: Sequence[Mapping[str, Any]],
    values: Sequence[Mapping[int, float]],
    factors: Sequence[str],
    overlap: float = 0.0,
) -> tuple[dict[str, Any], list[Effect]]:
    """Levels that make up almost all of their factor's effect, by factor, and the effects without them.

    ({}, []) where no level does. A level dominates if at most a fifth of the factor's sum of squares is left without
    its cells, of three or more levels: `normal` among initializers that are otherwise alike.
    """
    whole = {effect.term: effect for effect in effects(cells, values, factors, overlap)[0]}
    found: dict[str, Any] = {}
    for name, levels in _levels(cells, factors).items():
        if name not in whole or len(levels) < 3 or whole[name].p > 0.05:
            continue
        rest = {}
        for level in levels:
            kept = [place for place, cell in enumerate(cells) if cell[name] != level]
            terms, _ = effects([cells[place] for place in kept], [values[place] for place in kept], factors, overlap)
            rest[level] = next((effect.sum_sq for effect in terms if effect.term == name), math.inf)
        least = min(rest, key=lambda level: rest[level])
        if rest[least] <= DOMINATES * whole[name].sum_sq:
            found[name] = least
    kept = [place for place, cell in enumerate(cells) if all(cell[name] != level for name, level in found.items())]
    if not found:
        return {}, []
    return found, effects([cells[place] for place in kept], [values[place] for place in kept], factors, overlap)[0]


def simple_effects(values: Values[CellKey], plan: Plan, factors: Sequence[str]) -> list[SimpleEffect]:
    """Of each factor within each combination of the others' values, where there are several factors.

    values: of each cell, the values of its factors, by replicate.
    """
    found = []
    for name in factors if len(factors) > 1 else ():
        groups: dict[CellKey, dict[Any, Mapping[int, float | None]]] = {}
        for cell, of in values.items():
            if name in dict(cell):
                rest = tuple((other, value) for other, value in cell if other != name)
                groups.setdefault(rest, {})[dict(cell)[name]] = of
        groups = {rest: levels for rest, levels in groups.items() if len(levels) > 1}
        for rest, levels in groups.items():
            best, compared = compare(levels, plan)
            if not compared:
                continue
            rivals = tuple(
                Rival(
                    value=value,
                    difference=one.difference,
                    low=one.low,
                    high=one.high,
                    adjusted_p=one.adjusted_p,
                )
                for value, one in compared.items()
            )
            ties = tuple(one.value for one in rivals if one.adjusted_p is None or one.adjusted_p > ALPHA)
            found.append(SimpleEffect(hyperparameter=name, within=dict(rest), best=best, ties=ties, rivals=rivals))
    return found


def _levels(cells: Sequence[Mapping[str, Any]], factors: Sequence[str]) -> dict[str, list[Any]]:
    return {name: list(dict.fromkeys(cell.get(name, None) for cell in cells)) for name in factors}


def _anova(
    table: np.ndarray[Any, Any], codes: Mapping[str, np.ndarray[Any, Any]], inflation: float
) -> tuple[list[Effect], str | None]:
    """Of values [cells, blocks]. codes: the level of each cell, by factor.

    inflation: of the variance of a cell's mean, over what the residuals say of it.
    """
    import numpy as np

    cells, blocks = table.shape
    columns = {name: np.eye(code.max() + 1)[code][:, 1:] for name, code in codes.items()}
    for one, other in itertools.combinations(codes, 2):
        both = columns[one][:, :, None] * columns[other][:, None, :]
        columns[f"{one}:{other}"] = both.reshape(cells, -1)
    block = np.tile(np.eye(blocks), (cells, 1))  # the values are laid out cell by cell
    designs = {term: np.repeat(matrix, blocks, axis=0) for term, matrix in columns.items()}
    full = _basis([block, *designs.values()])
    values = table.reshape(-1, 1)
    df_rest, rest = len(values) - full.shape[1], float(_residual_squares(full, values)[0])
    total = float(((table - table.mean()) ** 2).sum())
    if df_rest < 1 or rest <= ROUND_OFF * total:
        return [], "no effects: the replicates of each cell don't vary"
    found, rng = [], np.random.default_rng(0)
    for term, matrix in designs.items():
        others = [each for name, each in designs.items() if not {*term.split(":")} <= {*name.split(":")}]
        reduced, enlarged = _basis([block, *others]), _basis([block, *others, matrix])
        df = enlarged.shape[1] - reduced.shape[1]

        def f_of(drawn: np.ndarray[Any, Any], reduced: Any = reduced, enlarged: Any = enlarged, df: int = df) -> Any:
            squares = _residual_squares(reduced, drawn) - _residual_squares(enlarged, drawn)
            return squares, squares / df / (_residual_squares(full, drawn) / df_rest)

        fitted = reduced @ (reduced.T @ values)
        residuals = np.repeat((values - fitted).reshape(1, cells, blocks), PERMUTATIONS, axis=0)
        drawn = fitted + rng.permuted(residuals, axis=1).reshape(PERMUTATIONS, -1).T
        (sum_sq,), (f,) = (each.tolist() for each in f_of(values))
        f /= inflation
        as_large = int((f_of(drawn)[1] >= f * (1.0 - ROUND_OFF)).sum())
        found.append(
            Effect(
                term=term,
                df=df,
                sum_sq=sum_sq,
                f=f,
                p=(1 + as_large) / (1 + PERMUTATIONS),
                partial_eta_squared=sum_sq / (sum_sq + rest),
                omega_squared=max(0.0, (sum_sq - df * rest / df_rest) / (total + rest / df_rest)),
            )
        )
    return found, None


def _basis(matrices: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """An orthonormal basis of the columns of all *matrices*."""
    import numpy as np
    from scipy.linalg import orth

    return np.asarray(orth(np.hstack(matrices)))


def _residual_squares(basis: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sum of squares of each column of *values* that *basis* leaves."""
    rest = values - basis @ (basis.T @ values)
    squares: np.ndarray[Any, Any] = (rest**2).sum(axis=0)
    return squares
