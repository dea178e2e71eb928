"""Which configurations next: the balanced design, and Optuna's samplers, drawn round by round.

Every draw depends on (study seed, trial number) and on the finished trials alone, never on the process that makes
it: the sequence of trials survives kills and restarts.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from searchlib.errors import StudyError
from searchlib.search.design import Design, round_length
from searchlib.search.overlay import OverlayStorage, as_running
from searchlib.seeds import derive_seed, trial_seed
from searchlib.study import Choice, Dimension, IntUniform, LogUniform, Primitive, Study, Uniform, get_sampler

STUDY_ATTRS = "searchlib:study"  # what a sampler (Optuna's QMC) notes on the study travels with its trial, in one write


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as Optuna's distribution."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values())
    if isinstance(dimension, IntUniform):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    if isinstance(dimension, (Uniform, LogUniform)):
        return FloatDistribution(dimension.low, dimension.high, log=isinstance(dimension, LogUniform))
    raise TypeError(f"no Optuna distribution for {type(dimension).__name__}")


def ask_round(study: Study, optuna_study: optuna.Study, numbers: range) -> list[FrozenTrial]:
    """Draw the trials *numbers* and create each in the storage, with all its parameters, by one write.

    The earlier trials of a round, still without result, are visible to the sampler as running.
    """
    if not numbers:
        return []
    draw = _draw_design(study) if get_sampler(study.sampler).is_design else _draw_optuna(study, optuna_study, numbers)
    distributions = {name: distribution(dimension) for name, dimension in study.dimensions.items()}
    for number in numbers:
        params, system_attrs = draw(number)
        config = study.config(params)  # a combination that TrialConfig refuses stops the search before it is recorded
        optuna_study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={name: distributions[name] for name in params},
                user_attrs={"seed": trial_seed(study.seed, number), "signature": config.signature},
                system_attrs=system_attrs,
            )
        )
    return optuna_study._storage.get_all_trials(optuna_study._study_id, deepcopy=False)[numbers.start : numbers.stop]


def warm_up(study: Study) -> None:
    """Import and draw what the first trials need, in a second, so that ``ask_round`` takes none."""
    if get_sampler(study.sampler).is_design:
        Design(study)[0]


Draw = Callable[[int], tuple[dict[str, Primitive], dict[str, Any]]]


def _draw_design(study: Study) -> Draw:
    design = Design(study)
    return lambda number: (design[number], {})


def _draw_optuna(study: Study, optuna_study: optuna.Study, numbers: range) -> Draw:
    """Draw in memory, on an overlay of the storage: a kill leaves no trial with half its parameters."""
    trials = optuna_study.get_trials(deepcopy=False)
    first = numbers.start - numbers.start % round_length(study)  # results of this very round must not count
    overlay = OverlayStorage(optuna_study, [*trials[:first], *map(as_running, trials[first:])])
    shadow = overlay.study()
    study_id = shadow._study_id
    for trial in trials:
        for key, value in trial.system_attrs.get(STUDY_ATTRS, {}).items():
            overlay.set_study_system_attr(study_id, key, value)
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
    """A function from seed to sampler. A study's own function is given the trial's seed, if it takes an argument.

    A function without an argument is called once in a process, and its sampler draws all trials. The sequence of trials
    then depends on restarts, since only the sampler knows how far it has come.
    """
    entry = get_sampler(study.sampler)
    own = entry.function
    if own is None:
        return lambda seed: getattr(optuna.samplers, entry.optuna)(seed=seed, **entry.arguments)
    if inspect.signature(own).parameters:
        return lambda seed: checked_kind(own(seed), optuna.samplers.BaseSampler, "sampler")
    return lambda seed: _made_once(own)


@functools.lru_cache(maxsize=8)
def _made_once(own: Callable[[], Any]) -> optuna.samplers.BaseSampler:
    made: optuna.samplers.BaseSampler = checked_kind(own(), optuna.samplers.BaseSampler, "sampler")
    made.reseed_rng()  # with the seed written in the file it would repeat, after a restart, what it drew before
    return made


def checked_kind(made: Any, kind: type, what: str) -> Any:
    if not isinstance(made, kind):
        raise StudyError(f"{what}: the function returned {type(made).__name__}; expected a {kind.__name__} of Optuna")
    return made
