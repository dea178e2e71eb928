"""The replicates on the test set, beside the champion: restored and tried before the claim, scored after it.

They choose nothing, and nothing is chosen by them: whether the order of the cells holds is all that they can say.
``holdout`` claims the test set, and gives its examples; nothing here opens it.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from searchlib.analysis import drawn_split, replicates_to_test, split_of
from searchlib.data import Examples, get_dataset
from searchlib.errors import StudyError
from searchlib.results.measuring import Figures, is_as_noted, measure_many
from searchlib.stores import StoredStudy, Tracker
from searchlib.study import CHECKPOINT_MARK, Ledger, Study, TestedReplicate
from searchlib.training import Restored, has_own_code, restore_module

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

DIGITS = 7  # of a loss in the ledger

NOT_KEPT = "weights not kept"
MISSING = "checkpoint missing"
ALTERED = "checkpoint altered"
NOT_LOADED = "checkpoint doesn't fit the module"
FAILS = "module fails on validation data"
DIFFERS = "another validation result than in the search"


def restore_replicates(
    study: Study, stored: StoredStudy, tracker: Tracker, ledger: Ledger
) -> tuple[Ledger, dict[int, Restored]]:
    """The ledger with the replicates to be evaluated, and their networks by number.

    ledger: a proposal gets all that count and are fit for it: their checkpoint is there, unaltered, and gives the
    validation result that the search noted. After the claim (``stored.ledger``) only those that it lists are restored.
    """
    counted = replicates_to_test(study, stored) if stored.ledger is None else _claimed(stored, ledger)
    if not counted:
        return ledger, {}
    found = {trial.number: _restored(study, tracker, trial) for trial in counted}
    for examples, trials in _with_validation(study, stored, tracker, counted):
        there = [(trial, one) for trial in trials if isinstance(one := found[trial.number], Restored)]
        figures = measure_many([one for _, one in there], examples, side_by_side=not has_own_code(study))
        for (trial, _), measured in zip(there, figures, strict=True):
            if not measured:
                found[trial.number] = FAILS
            elif not is_as_noted(study, _value(measured, examples), trial.values[0], len(examples)):
                found[trial.number] = DIFFERS
    networks = {number: one for number, one in found.items() if isinstance(one, Restored)}
    if stored.ledger is not None:
        return ledger, networks
    replicates = [
        TestedReplicate(trial.number, trial.user_attrs["checkpoint_sha256"][:CHECKPOINT_MARK])
        for trial in counted
        if trial.number in networks
    ]
    left_out = Counter(one for one in found.values() if isinstance(one, str))
    return replace(ledger, replicates=replicates or None, left_out=dict(left_out) or None), networks


def _claimed(stored: StoredStudy, ledger: Ledger) -> list[FrozenTrial]:
    """The replicates that *ledger* lists, with the checkpoints of then, whatever counts by now."""
    marks = {one.trial: one.checkpoint for one in ledger.replicates or ()}
    return [
        trial
        for trial in stored.replicates
        if trial.number in marks and trial.user_attrs.get("checkpoint_sha256", "").startswith(marks[trial.number])
    ]


def _restored(study: Study, tracker: Tracker, trial: FrozenTrial) -> Restored | str:
    """The network of a replicate, or why there is none."""
    noted = trial.user_attrs.get("checkpoint_sha256")
    if not noted or "kept_bytes" not in trial.user_attrs:  # those that were kept because they led are no sample
        return NOT_KEPT
    content = tracker.stored_checkpoint(trial.user_attrs["mlflow_run_id"])
    if content is None:
        return MISSING
    if hashlib.sha256(content).hexdigest() != noted:
        return ALTERED
    params = {name: value for name, value in trial.params.items() if name in study.dimensions}
    try:
        return restore_module(content, study.model, study.config(params), get_dataset(study.dataset))
    except StudyError:
        return NOT_LOADED


def _with_validation(
    study: Study, stored: StoredStudy, tracker: Tracker, trials: Sequence[FrozenTrial]
) -> Iterator[tuple[Examples, list[FrozenTrial]]]:
    """The replicates by the validation split on which they were measured."""
    examples = tracker.stores.examples(study, stored.attributes)
    of = functools.partial(split_of, study)
    for number, alike in groupby(sorted(trials, key=of), key=of):
        yield drawn_split(study, examples, number).validation, list(alike)


def _value(figures: Figures, examples: Examples) -> float:
    loss, correct = figures
    return loss if correct is None else correct / len(examples)


def score(
    study: Study, ledger: Ledger, networks: Mapping[int, Restored], examples: Examples
) -> Sequence[TestedReplicate]:
    """The replicates that *ledger* lists, with their results on the test *examples*; without where one has none.

    One has none if its checkpoint was lost after the claim, or its module fails on the test set. No error stops it.
    """
    claimed = ledger.replicates or ()
    there = [one.trial for one in claimed if one.trial in networks]
    figures = measure_many([networks[number] for number in there], examples, side_by_side=not has_own_code(study))
    results = dict(zip(there, figures, strict=True))
    return [_with_result(one, results.get(one.trial)) for one in claimed]


def _with_result(claimed: TestedReplicate, figures: Figures | None) -> TestedReplicate:
    if figures is None:
        return claimed
    loss, correct = figures
    rounded = float(f"{loss:.{DIGITS}g}") if math.isfinite(loss) else None
    return replace(claimed, loss=rounded, correct=correct)


def listed(replicates: Sequence[TestedReplicate]) -> str:
    """The list of a ledger as a tag of MLflow has room for it."""
    text = "\n".join(f"{one.trial} {one.checkpoint}" for one in replicates)
    return f"{len(replicates)} checkpoints, SHA-256 of the list {hashlib.sha256(text.encode()).hexdigest()}"
