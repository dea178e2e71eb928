"""A view of Optuna's storage that keeps its changes in memory, for samplers and pruners."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "OverlayStorage",
]


class OverlayStorage:
    """A view of a storage for one study in which some trials live in memory only.

    Reads fall through to *base*, a snapshot of the study's trials; writes change the copies in memory. Samplers
    and pruners run on it unchanged, so that a round of trials is drawn, or decided upon, without leaving
    half-written trials behind. With *cell* only trials with these parameters are visible: pruning compares within
    a cell.
    """

    def __init__(self, real: BaseStorage, study_id: int, base: list[FrozenTrial]) -> None:
        self._real, self._study_id = real, study_id
        self._trials: dict[int, FrozenTrial] = {trial._trial_id: trial for trial in base}
        self._attrs: dict[str, Any] = dict(real.get_study_system_attrs(study_id))
        self.cell: Mapping[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def insert(self, trial: FrozenTrial) -> None:
        """Put a copy of *trial* over what the storage holds of it."""
        self._trials[trial._trial_id] = copy.deepcopy(trial)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        from optuna.trial import TrialState, create_trial

        trial = copy.copy(template_trial) if template_trial else create_trial(state=TrialState.RUNNING)
        trial.number = len(self._trials)
        trial._trial_id = -1 - trial.number
        self._trials[trial._trial_id] = trial
        return trial._trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return copy.deepcopy(self._trials[trial_id])

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: tuple[TrialState, ...] | None = None
    ) -> list[FrozenTrial]:
        found = [
            trial
            for trial in sorted(self._trials.values(), key=lambda trial: trial.number)
            if (states is None or trial.state in states)
            and all(name in trial.params and trial.params[name] == value for name, value in self.cell.items())
        ]
        return copy.deepcopy(found) if deepcopy else found

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        from optuna.storages import BaseStorage

        best: FrozenTrial = BaseStorage.get_best_trial(self, study_id)  # type: ignore[arg-type]
        return best

    def set_trial_param(self, trial_id: int, name: str, internal: float, distribution: Any) -> None:
        trial = self._trials[trial_id]
        trial._params[name] = distribution.to_external_repr(internal)
        trial._distributions[name] = distribution

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        self._trials[trial_id].intermediate_values[step] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._trials[trial_id]._system_attrs[key] = value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._trials[trial_id]._user_attrs[key] = value

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return dict(self._trials[trial_id]._system_attrs)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._attrs[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._attrs)
