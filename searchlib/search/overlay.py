"""A study's trials in memory, for samplers and pruners to read and write."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from searchlib.analysis import search_of
from searchlib.stores import own_trials


class OverlayStorage(InMemoryStorage):
    """Optuna's storage in memory, with one study: that of *study*'s name, with *trials* for its trials.

    Reads give these trials, under their own numbers and ids; writes stay in memory. Samplers and pruners run on it
    unchanged, and leave no half-written trials behind.

    cell, search: only trials with these parameters are visible, and only those of this search (0: of all). Pruning
    compares trials of one cell, and one search learns nothing from another.
    """

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self.cell: Mapping[str, Any] = {}
        self.search = 0
        study_id = self.create_new_study(study.directions, study.study_name)
        # finished trials themselves, no copies: nothing can write to them
        self._studies[study_id].trials = [t if t.state.is_finished() else _own(t) for t in trials]
        self._studies[study_id].system_attrs = study._storage.get_study_system_attrs(study._study_id)
        self._trial_id_to_study_id_and_number = {trial._trial_id: (study_id, trial.number) for trial in trials}
        self._max_trial_id = max(self._trial_id_to_study_id_and_number, default=-1)

    def study(self, **settings: Any) -> optuna.Study:
        """The study in this storage. settings: its sampler or its pruner."""
        (known,) = self.get_all_studies()
        return optuna.Study(known.study_name, self, **settings)

    def put(self, trial: FrozenTrial) -> None:
        """Have *trial* in the place of the one with its id."""
        self._set_trial(trial._trial_id, trial)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write an attribute so that lists of trials that were taken before have it, too.

        InMemoryStorage replaces the trial instead. With this Optuna's successive halving, and Hyperband, count a
        trial's own value twice among those of its rung. They have done so from the first version on, and their
        decisions stay the same.
        """
        trial = self._get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        trial._system_attrs[key] = value

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy=False, states=states)
        if self.cell:
            trials = [trial for trial in trials if self.cell.items() <= trial.params.items()]
        if self.search:
            trials = [trial for trial in trials if search_of(trial) == self.search]
        return copy.deepcopy(trials) if deepcopy else trials

    get_best_trial = BaseStorage.get_best_trial  # by get_all_trials; InMemoryStorage's own doesn't know cells


def numbered(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of *study*, each at its number; a failed one without parameters where another program's trial is.

    Samplers and pruners ignore failed trials.
    """
    own = {trial.number: trial for trial in own_trials(study)}
    ids = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
    numbers = range(max(ids, default=-1) + 1)
    return [own.get(number) or _blank(number, ids.get(number, -1 - number)) for number in numbers]


def _blank(number: int, trial_id: int) -> FrozenTrial:
    made = create_trial(state=TrialState.FAIL)
    made.number, made._trial_id = number, trial_id
    return made


def _own(trial: FrozenTrial) -> FrozenTrial:
    """A copy with system attributes of its own; all else of a trial is replaced when it changes."""
    made = copy.copy(trial)
    made._system_attrs = dict(trial.system_attrs)
    return made


def as_running(trial: FrozenTrial) -> FrozenTrial:
    """A copy of *trial* as it was before its first epoch, whatever an interrupted run stored of it since."""
    running = copy.copy(trial)
    running.state, running.values, running.intermediate_values = TrialState.RUNNING, None, {}
    running._system_attrs = {key: note for key, note in trial.system_attrs.items() if not is_of_a_pruner(key)}
    return running


def is_of_a_pruner(key: str) -> bool:
    """Whether a pruner wrote this system attribute. Of Optuna's, successive halving does (and Hyperband through it)."""
    return "rung" in key
