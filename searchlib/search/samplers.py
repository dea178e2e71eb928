"""Which configurations next: the balanced design, and Optuna's samplers, drawn round by round.

Every draw depends on (study seed, trial number) and on the finished trials alone, never on the process that makes
it: the sequence of trials survives kills and restarts.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from searchlib.analysis import ENQUEUED, SEARCH, is_enqueued
from searchlib.errors import StorageError, StudyError
from searchlib.search.design import Design, round_length
from searchlib.search.overlay import OverlayStorage, as_running, numbered
from searchlib.search.refine import Refinement
from searchlib.seeds import derive_seed, trial_seed
from searchlib.stores import FIXED, check_queue, enqueued_values, own_trials, written_together
from searchlib.study import Choice, Dimension, IntUniform, LogUniform, Primitive, Study, Uniform, get_sampler

STUDY_ATTRS = "searchlib:study"  # what a sampler (Optuna's QMC) notes on the study travels with its trial, in one write

# Parameters and notes of a trial, from the number of points drawn before, its own number and, if it waits, itself.
Draw = Callable[[int, int, "FrozenTrial | None"], tuple[dict[str, Primitive], dict[str, Any]]]


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as Optuna's distribution."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values())
    if isinstance(dimension, IntUniform):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    if isinstance(dimension, (Uniform, LogUniform)):
        return FloatDistribution(dimension.low, dimension.high, log=isinstance(dimension, LogUniform))
    raise TypeError(f"no Optuna distribution for {type(dimension).__name__}")


def ask_round(study: Study, optuna_study: optuna.Study, places: range) -> list[FrozenTrial]:
    """The trials at these *places* among the study's own. Those that aren't there are drawn and created, each with all
    its parameters, by one write; those that wait in Optuna's queue get what they lack.

    The earlier trials of a round, still without result, are visible to the sampler as running.
    """
    own = own_trials(optuna_study)
    if all(place < len(own) and own[place].state != TrialState.WAITING for place in places):
        return [own[place] for place in places]
    check_queue(study, own[places.start : places.stop])
    if get_sampler(study.sampler).is_design:
        draw = _draw_design(study, own, places.start - places.start % round_length(study))
    else:
        draw = _draw_optuna(study, optuna_study, places)
    drawn = sum(not is_enqueued(trial) for trial in own[: places.start])
    number = len(numbered(optuna_study))  # of the next trial that is created
    for place in places:
        trial = own[place] if place < len(own) else None
        search, _ = study.turn(drawn)
        attributes = {SEARCH: search} if study.searches > 1 else {}
        if trial is None:
            _create(study, optuna_study, number, attributes, *draw(drawn, number, None))
            number += 1
        elif trial.state == TrialState.WAITING:
            _begin(study, optuna_study, trial, attributes, *draw(drawn, trial.number, trial))
        drawn += trial is None or not is_enqueued(trial)
    for trial in own_trials(optuna_study)[len(own) :]:
        seed = trial_seed(study.seed, trial.number)
        if trial.user_attrs.get("seed", seed) != seed:  # another program added one meanwhile
            optuna_study._storage.set_trial_user_attr(trial._trial_id, "seed", seed)
    return ask_round(study, optuna_study, places)  # now they are there, unless one was enqueued meanwhile


def warm_up(study: Study) -> None:
    """Import and draw what the first trials need, in a second, so that ``ask_round`` takes none."""
    if get_sampler(study.sampler).is_design:
        Design(study)[0]


def _create(
    study: Study,
    optuna_study: optuna.Study,
    number: int,
    attributes: Mapping[str, int],
    params: dict[str, Primitive],
    notes: dict[str, Any],
) -> None:
    config = study.config(params)  # a combination that TrialConfig refuses stops the search before it is recorded
    with _comparable(study):
        optuna_study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions={name: distribution(study.dimensions[name]) for name in params},
                user_attrs={"seed": trial_seed(study.seed, number), "signature": config.signature, **attributes},
                system_attrs=notes,
            )
        )


def _begin(
    study: Study,
    optuna_study: optuna.Study,
    trial: FrozenTrial,
    attributes: Mapping[str, int],
    params: dict[str, Primitive],
    notes: dict[str, Any],
) -> None:
    """Take a trial out of the queue, as the last of the writes: after a kill before it all are made again."""
    config = study.config(params)
    storage, trial_id = optuna_study._storage, trial._trial_id
    own = {"seed": trial_seed(study.seed, trial.number), "signature": config.signature, ENQUEUED: True, **attributes}
    with _comparable(study), written_together(storage):
        for name, value in params.items():
            if name not in trial.params:
                kind = distribution(study.dimensions[name])
                storage.set_trial_param(trial_id, name, kind.to_internal_repr(value), kind)
        for key, attribute in own.items():
            storage.set_trial_user_attr(trial_id, key, attribute)
        for key, note in notes.items():
            storage.set_trial_system_attr(trial_id, key, note)
    storage.set_trial_state_values(trial_id, TrialState.RUNNING)


@contextlib.contextmanager
def _comparable(study: Study) -> Iterator[None]:
    """Optuna holds no two kinds of distribution of one parameter; another program's trial may have brought one."""
    try:
        yield
    except ValueError as error:
        raise StorageError(
            f"Optuna can't add a trial to study {study.name!r} ({error}): another program's trial in it has other "
            "distributions; save the study under a new name"
        ) from None


def _draw_design(study: Study, own: Sequence[FrozenTrial], begun: int) -> Draw:
    """Draw from the design. own: the study's trials; a design that refines learns from those before place *begun*."""
    designs = {search: Design(study, search) for search in range(1, study.searches + 1)}
    refine = Refinement(study, designs, own, begun) if get_sampler(study.sampler).refines else None

    def draw(drawn: int, number: int, enqueued: FrozenTrial | None) -> tuple[dict[str, Primitive], dict[str, Any]]:
        search, place = study.turn(drawn)
        if enqueued is None and refine is not None:
            return refine(search, place), {}
        if enqueued is None:
            return designs[search][place], {}
        return designs[search].completed(place, enqueued_values(study, enqueued)), {}

    return draw


def _draw_optuna(study: Study, optuna_study: optuna.Study, places: range) -> Draw:
    """Draw in memory, on an overlay of the storage: a kill leaves no trial with half its parameters."""
    trials, own = numbered(optuna_study), own_trials(optuna_study)
    first = places.start - places.start % round_length(study)  # results of this very round must not count
    in_round = {trial.number for trial in own[first:] if trial.state != TrialState.WAITING}
    overlay = OverlayStorage(
        optuna_study, [as_running(trial) if trial.number in in_round else trial for trial in trials]
    )
    shadow = overlay.study()
    study_id = shadow._study_id
    for trial in trials:
        for key, value in trial.system_attrs.get(STUDY_ATTRS, {}).items():
            overlay.set_study_system_attr(study_id, key, value)
    make = sampler_factory(study)

    def begun(enqueued: FrozenTrial | None) -> int:
        """The id of a running trial in the overlay, without parameters as yet."""
        if enqueued is None:
            return overlay.create_new_trial(study_id)
        waiting = as_running(enqueued)
        waiting.params, waiting.distributions = {}, {}
        waiting._system_attrs = {**waiting.system_attrs, FIXED: enqueued_values(study, enqueued)}
        overlay.put(waiting)
        return waiting._trial_id

    def draw(drawn: int, number: int, enqueued: FrozenTrial | None) -> tuple[dict[str, Primitive], dict[str, Any]]:
        before = overlay.get_study_system_attrs(study_id)
        overlay.search = study.turn(drawn)[0] if study.searches > 1 else 0
        shadow.sampler = make(derive_seed(study.seed, "sampler", number) % 2**32)
        shadow._thread_local.cached_all_trials = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial_id = begun(enqueued)
            overlay.set_trial_user_attr(trial_id, SEARCH, max(overlay.search, 1))
            trial = optuna.trial.Trial(shadow, trial_id)
            params = suggest(study, trial)
        after, attrs = overlay.get_study_system_attrs(study_id), overlay.get_trial_system_attrs(trial._trial_id)
        changed = {key: value for key, value in after.items() if before.get(key) != value}
        notes = {key: note for key, note in attrs.items() if key != FIXED}
        return params, {**notes, **({STUDY_ATTRS: changed} if changed else {})}

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
