"""Checks of the checkpoints, of the registered champion, and of the ledger of the test set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from searchlib.analysis import possible_champions
from searchlib.errors import Command, Message
from searchlib.results.audit import RENAME, Audit
from searchlib.results.audit_trials import Recorded
from searchlib.results.champion import FOREIGN, RegisteredChampion, registered_champion
from searchlib.results.holdout import publish, published
from searchlib.stores import LEDGER_TAG
from searchlib.study import Ledger

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def check_champion(audit: Audit, recorded: Sequence[Recorded]) -> None:
    """Whether the checkpoints are as noted, and the registered champion and the parent run what the ledger says."""
    champions = possible_champions(audit.study, audit.stored)
    _check_checkpoints(audit, recorded, champions)
    registered = registered_champion(audit.tracker)
    if audit.stored.ledger:
        _check_ledger(audit, audit.stored.ledger, champions, registered)
    else:
        _check_sealed(audit, registered)


def _check_checkpoints(audit: Audit, recorded: Sequence[Recorded], champions: Sequence[FrozenTrial]) -> None:
    ledger = audit.stored.ledger
    leading = {best.user_attrs.get("checkpoint_sha256") for best in champions}
    if ledger:
        leading.add(ledger.checkpoint_sha256)
    for one in recorded:
        noted = one.trial.user_attrs.get("checkpoint_sha256")
        if not noted:
            continue
        first = one.trial.user_attrs.get("mlflow_run_id") or ""
        place = audit.runs.get(first, one.run)  # a run that was replaced keeps its files
        stored = audit.tracker.checkpoint_hash(place)
        if stored == noted:
            audit.intact.append(noted)
            continue
        problem = f"the checkpoint of run {place.run_id} is missing"
        if stored:
            problem = f"the checkpoint of run {place.run_id} was altered (SHA-256 {stored[:12]}, not {noted[:12]})"
        remedy = "this can't be repaired; it isn't the champion's: leave it, or restore the file from a backup"
        if "kept_bytes" in one.trial.user_attrs and not ledger:
            remedy = f"{remedy}; without it the replicate is left out of the test by cell"
        if noted in leading:
            remedy = f"this can't be repaired, and it is the champion's: restore the file from a backup, or {RENAME}"
        audit.differs("checkpoint", problem, remedy, home=one.home, trial=one.trial.number)
    best = champions[0] if champions else None
    if best is not None and not ledger and not best.user_attrs.get("checkpoint_sha256"):
        home = audit.repeats if "replicate" in best.params else audit.study.name
        problem = "it leads the study, and Optuna notes no checkpoint of it"
        audit.differs("checkpoint", problem, f"this can't be repaired; {RENAME}", home=home, trial=best.number)


def _check_ledger(
    audit: Audit, ledger: Ledger, champions: Sequence[FrozenTrial], registered: RegisteredChampion | None
) -> None:
    """Whether champion and parent run are what the ledger says."""
    claimed = ledger.checkpoint_sha256
    differs = partial(audit.differs, trial=ledger.trial)
    if claimed not in [best.user_attrs.get("checkpoint_sha256") for best in champions]:
        best = {f"trial {each.user_attrs.get('source', each.number)}" for each in champions}
        leads = " or ".join(sorted(best)) or "none"
        problem = f"the test set was opened for it, and by what Optuna has now {leads} leads"
        differs("champion", problem, f"this can't be repaired, and the result is of that trial; {RENAME}")
    _check_tested(audit, ledger)
    if ledger.result is None:
        problem = f"the test set was claimed for it at {ledger.claimed_at}, and there is no result"
        remedy = Message(Command("evaluate", audit.study.name), " finishes it, with the same checkpoint")
        differs("ledger", problem, remedy)
        return
    if registered is not None and registered.foreign:
        problem = f"the registered model {audit.study.name!r} has a champion that isn't of this study"
        differs("champion", problem, f"this can't be repaired: {FOREIGN}")
        return
    checkpoint = registered.checkpoint if registered else None
    possible = checkpoint == claimed or claimed in audit.intact
    again = partial(publish, audit.study, audit.search, audit.tracker, ledger) if possible else None
    needed = "restore the trial's checkpoint first: the champion is registered from it"
    wrong = []
    if checkpoint != claimed:
        wrong.append(f"the registered champion {f'is made from {checkpoint[:12]}' if checkpoint else 'is missing'}")
    noted = audit.search.user_attrs.get("champion_checkpoint")
    if noted != claimed:
        wrong.append(f"Optuna notes {noted[:12] if noted else 'none'} as the one registered")
    if wrong:
        problem = f"the ledger's checkpoint is {claimed[:12]}, but {' and '.join(wrong)}"
        differs("champion", problem, "registers it again" if possible else needed, again)
    if audit.parent is not None:
        metrics, tags = published(ledger)
        shown = [name for name, value in metrics.items() if audit.parent.metrics.get(name) != value]
        # the first versions had no replicates, and wrote no tag for them
        shown += [name for name, value in tags.items() if audit.parent.tags.get(name, "None") != value]
        if shown:
            problem = f"MLflow's parent run lacks the ledger's {', '.join(shown)}"
            differs("ledger", problem, "writes what the ledger says" if possible else needed, again)


def _check_tested(audit: Audit, ledger: Ledger) -> None:
    """Whether Optuna still has the replicates that the ledger lists, with the checkpoints of then."""
    noted = {trial.number: str(trial.user_attrs.get("checkpoint_sha256")) for trial in audit.stored.replicates}
    for one in ledger.replicates or ():
        if not noted.get(one.trial, "").startswith(one.checkpoint):
            problem = f"the test set was claimed for its checkpoint {one.checkpoint[:12]}, which Optuna doesn't have"
            remedy = "this can't be repaired; restore the storage from a backup"
            audit.differs("ledger", problem, remedy, home=audit.repeats, trial=one.trial)


def _check_sealed(audit: Audit, registered: RegisteredChampion | None) -> None:
    """Without a claim in the ledger nothing may know of a test."""
    if audit.parent is not None:
        tags = [name for name in audit.parent.tags if name.startswith(LEDGER_TAG)]
        if tags or any(name.startswith("test_") for name in audit.parent.metrics):
            when = audit.parent.tags.get(f"{LEDGER_TAG}claimed_at", "an unknown time")
            problem = f"MLflow's parent run shows a test at {when}, of which Optuna's ledger knows nothing"
            audit.differs(
                "ledger", problem, f"this can't be repaired: restore Optuna's storage from a backup, or {RENAME}"
            )
    if registered is not None:
        problem = "MLflow has a registered champion, and Optuna's ledger knows of no test"
        remedy = Message(Command("evaluate", audit.study.name), " registers the study's own")
        if registered.foreign:
            problem = "MLflow has a registered champion of this name that isn't of this study"
            remedy = Message(FOREIGN)
        audit.differs("champion", problem, remedy)
