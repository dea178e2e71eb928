"""Which configurations next: the balanced design, and Optuna's samplers, drawn round by round.

Every draw depends on (study seed, trial number) and on the finished trials alone, never on the process that makes
it: the sequence of trials survives kills and restarts.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchlib.errors import StudyError
from searchlib.space import Choice, Dimension, IntUniform, LogUniform, Primitive, Uniform
from searchlib.study import enumerate_points
from searchlib.trial import derive_seed

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from searchlib.storage import OverlayStorage
    from searchlib.study import Study

__all__ = [
    "Design",
    "ask_round",
    "distribution",
    "halve",
    "halving_rungs",
    "is_adaptive",
    "make_pruner",
    "round_length",
    "trial_seed",
    "warm_up",
]

DESIGNS = ("balanced", "grid", "qmc")
HALVING_POINTS = 8  # nuisance points of a cell that compete in one bracket of successive halving
STUDY_ATTRS = "searchlib:study"  # what a sampler (Optuna's QMC) notes on the study travels with its trial, in one write


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as Optuna's distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values())
    if isinstance(dimension, IntUniform):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    if isinstance(dimension, (Uniform, LogUniform)):
        return FloatDistribution(dimension.low, dimension.high, log=isinstance(dimension, LogUniform))
    raise TypeError(f"no Optuna distribution for {type(dimension).__name__}")


class Design:
    """A fixed sequence of configurations: some dimensions enumerated, the others on a scrambled Sobol sequence.

    ``balanced`` enumerates the scientific dimensions: every block of cells gets the same nuisance point. ``qmc``
    enumerates none, ``grid`` all. Sobol' 1967, scrambled as in Owen 1998 (scipy.stats.qmc); the k-th point is the
    same however many are asked for.
    """

    def __init__(self, study: Study) -> None:
        enumerated = {"balanced": study.scientific, "grid": study.dimensions}.get(study.sampler, {})
        self.fixed = study.fixed
        self.dimensions = study.dimensions
        self.cells = list(enumerate_points(enumerated, study.fixed))
        self.sampled = {name: dim for name, dim in study.dimensions.items() if name not in enumerated}
        self.seed = derive_seed(study.seed, "sobol") % 2**32

    def __getitem__(self, number: int) -> dict[str, Primitive]:
        """The (encoded) parameters of trial *number*, in the order of the study's dimensions."""
        block, position = divmod(number, len(self.cells))
        if block and not self.sampled:
            raise StudyError(f"trial {number}: the grid has only {len(self.cells)} points; ask for no more trials")
        params: dict[str, Primitive] = {}
        cell, point = self.cells[position], self._point(block)
        for name, dimension in self.dimensions.items():
            if name in cell:
                params[name] = cell[name]
            elif name in point and dimension.active({**self.fixed, **params}):
                params[name] = dimension.at(point[name])
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
    return study.sampler not in (*DESIGNS, "random")


def round_length(study: Study) -> int:
    """Trials asked together: ``round_size``, for ``balanced`` rounded up to whole blocks of cells.

    With the pruner ``within_cell`` a round is one bracket: at least ``HALVING_POINTS`` trials a cell.
    """
    cells = max(len(study.cells), 1)
    size = max(study.round_size, HALVING_POINTS * cells) if study.pruner == "within_cell" else study.round_size
    block = cells if study.sampler == "balanced" else 1
    return -(-size // block) * block


def ask_round(study: Study, optuna_study: optuna.Study, numbers: range) -> list[FrozenTrial]:
    """Draw the trials *numbers* and create each in the storage, with all its parameters, by one write.

    The earlier trials of a round, still without result, are visible to the sampler as running.
    """
    from optuna.trial import TrialState, create_trial

    if not numbers:
        return []
    draw = _draw_design(study) if study.sampler in DESIGNS else _draw_optuna(study, optuna_study, numbers)
    distributions = {name: distribution(dimension) for name, dimension in study.dimensions.items()}
    for number in numbers:
        params, system_attrs = draw(number)
        config = study.config(params)  # a combination that TrialConfig refuses stops the search before it is recorded
        optuna_study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={name: distributions[name] for name in params},
                user_attrs={"seed": trial_seed(study, number), "signature": config.signature},
                system_attrs=system_attrs,
            )
        )
    return optuna_study._storage.get_all_trials(optuna_study._study_id, deepcopy=False)[numbers.start : numbers.stop]


def warm_up(study: Study) -> None:
    """Import and draw what the first trials need, in a second, so that ``ask_round`` takes none."""
    if study.sampler in DESIGNS:
        Design(study)[0]


def trial_seed(study: Study, number: int, replicate: int = 0) -> int:
    """The seed of a trial's weights and noise."""
    return derive_seed(study.seed, "trial", number, replicate)


Draw = Callable[[int], tuple[dict[str, Primitive], dict[str, Any]]]


def _draw_design(study: Study) -> Draw:
    design = Design(study)
    return lambda number: (design[number], {})


def _draw_optuna(study: Study, optuna_study: optuna.Study, numbers: range) -> Draw:
    """Draw in memory, on an overlay of the storage: a kill leaves no trial with half its parameters."""
    import optuna
    from optuna.trial import TrialState

    from searchlib.storage import OverlayStorage

    storage, study_id = optuna_study._storage, optuna_study._study_id
    overlay = OverlayStorage(storage, study_id, storage.get_all_trials(study_id, deepcopy=False))
    first = numbers.start - numbers.start % round_length(study)
    for trial in overlay.get_all_trials(study_id):
        for key, value in trial.system_attrs.get(STUDY_ATTRS, {}).items():
            overlay.set_study_system_attr(study_id, key, value)
        if trial.number >= first:  # results of this very round must not count
            trial.state, trial.values, trial.intermediate_values = TrialState.RUNNING, None, {}
            overlay.insert(trial)
    shadow = optuna.Study(optuna_study.study_name, overlay)  # type: ignore[arg-type]
    make = sampler_factory(study)

    def draw(number: int) -> tuple[dict[str, Primitive], dict[str, Any]]:
        before = overlay.get_study_system_attrs(study_id)
        shadow.sampler = make(derive_seed(study.seed, "sampler", number) % 2**32)
        shadow._thread_local.cached_all_trials = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = optuna.trial.Trial(shadow, overlay.create_new_trial(study_id))
            params = suggest(study, trial)
        after, attrs = overlay.get_study_system_attrs(study_id), overlay.get_trial_system_attrs(trial._trial_id)
        changed = {key: value for key, value in after.items() if before.get(key) != value}
        return params, {**attrs, **({STUDY_ATTRS: changed} if changed else {})}

    return draw


def suggest(study: Study, trial: optuna.Trial) -> dict[str, Primitive]:
    """Ask Optuna for each dimension that exists beside those before it."""
    params: dict[str, Primitive] = {}
    for name, dimension in study.dimensions.items():
        if dimension.active({**study.fixed, **params}):
            params[name] = trial._suggest(name, distribution(dimension))
    return params


def sampler_factory(study: Study) -> Callable[[int], optuna.samplers.BaseSampler]:
    """Seed to sampler. A study's own function gets the seed of the trial, if it takes an argument.

    Without one, it is called once in a process, and what it made draws all trials: then the sequence depends on
    restarts, since nobody but the sampler knows how far it got.
    """
    from optuna import samplers

    own = study.sampler
    if callable(own):
        if inspect.signature(own).parameters:
            return lambda seed: _checked(own(seed), samplers.BaseSampler, "sampler")
        return lambda seed: _made_once(own)
    makers: dict[str, Callable[[int], samplers.BaseSampler]] = {
        "cmaes": lambda seed: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "gp": lambda seed: samplers.GPSampler(seed=seed),
        "random": lambda seed: samplers.RandomSampler(seed=seed),
        "tpe": lambda seed: samplers.TPESampler(seed=seed),
    }
    return makers[study.sampler]


@functools.lru_cache(maxsize=8)
def _made_once(own: Callable[[], Any]) -> optuna.samplers.BaseSampler:
    from optuna.samplers import BaseSampler

    made: BaseSampler = _checked(own(), BaseSampler, "sampler")
    made.reseed_rng()  # with the seed written in the file it would repeat, after a restart, what it drew before
    return made


def make_pruner(study: Study, epochs: int) -> optuna.pruners.BasePruner | None:
    """The study's pruner, or None. *epochs* is the most that a trial runs: rungs don't depend on what ran before."""
    from optuna import pruners

    if callable(study.pruner):
        made: optuna.pruners.BasePruner = _checked(study.pruner(), pruners.BasePruner, "pruner")
        return made
    makers: dict[str, Callable[[], pruners.BasePruner | None]] = {
        "asha": lambda: pruners.SuccessiveHalvingPruner(min_resource=1),
        "hyperband": lambda: pruners.HyperbandPruner(min_resource=1, max_resource=epochs),
        "median": lambda: pruners.MedianPruner(),
        "none": lambda: None,
        "within_cell": lambda: None,  # whole brackets train in step: see halving_rungs and halve
    }
    return makers[study.pruner]()


def halving_rungs(study: Study, epochs: int) -> list[int]:
    """The epochs after which ``within_cell`` halves the points of each cell: 1, 2, 4, ... below *epochs*."""
    if study.pruner != "within_cell":
        return []
    return [2**power for power in range(epochs.bit_length()) if 2**power < epochs]


def halve(study: Study, points: Sequence[tuple[int, Mapping[str, Any], float | None]]) -> set[int]:
    """Numbers of the trials that leave at a rung: the worse half of each cell, rounded down.

    points: (number, parameters, best value so far or None) of the trials that entered the rung. Successive halving
    (Jamieson & Talwalkar 2016) with eta = 2, every cell a bracket of its own; of equal values the first stays.
    """
    cells: dict[Any, list[tuple[float, int]]] = {}
    sign = -1.0 if study.direction == "maximize" else 1.0
    for number, params, value in points:
        rank = float("inf") if value is None else sign * value
        cells.setdefault(study.cell_of(params), []).append((rank, number))
    return {number for members in cells.values() for _, number in sorted(members)[(len(members) + 1) // 2 :]}


def _checked(made: Any, kind: type, what: str) -> Any:
    if not isinstance(made, kind):
        raise StudyError(f"{what}: the function returned {type(made).__name__}; expected a {kind.__name__} of Optuna")
    return made


def prunes(
    pruner: optuna.pruners.BasePruner, study: Study, optuna_study: optuna.Study, view: OverlayStorage, trial_id: int
) -> bool:
    """Whether *pruner* would stop a trial, seeing only trials of the same scientific cell."""
    import optuna

    trial = view.get_trial(trial_id)
    view.cell = dict(study.cell_of(trial.params))
    try:
        seen = optuna.Study(optuna_study.study_name, view, pruner=pruner)  # type: ignore[arg-type]
        return pruner.prune(seen, trial)
    finally:
        view.cell = {}
