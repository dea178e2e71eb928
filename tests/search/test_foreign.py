"""What other programs put into Optuna's storage under a study's names: honoured, ignored with a word, or refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from support import STORAGE, prepare, replicates, run, search_all, small_study, stored, table
from support.elsewhere import REMOTE, SAMPLERS, WHOLE, made_elsewhere, studies_in_storage

from searchlib import Study
from searchlib.analysis import analyze, study_status
from searchlib.errors import StorageError
from searchlib.results import export
from searchlib.results.verification import verify
from searchlib.search import samplers
from searchlib.search.optimize import _snapshot_folder
from searchlib.seeds import trial_seed
from searchlib.stores.companions import STUDY_UID
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores

# ---------------------------------------------------------------------------------------- another study of that name


def finished_trial(study: optuna.Study) -> None:
    study.add_trial(create_trial(value=0.9, params={"x": 0.5}, distributions={"x": REMOTE}))


STRANGERS: dict[str, tuple[Callable[[], object], str]] = {
    "another direction": (lambda: made_elsewhere(direction="minimize"), "direction is minimize, expected maximize"),
    "two directions": (
        lambda: made_elsewhere(direction=None, directions=["maximize", "minimize"]),
        "direction is maximize and minimize, expected maximize",
    ),
    "a search of other code": (lambda: finished_trial(made_elsewhere()), "'small' that searchlib did not make"),
    "other code at work": (lambda: made_elsewhere().ask(), "'small' that searchlib did not make"),
    "replicates of other code": (
        lambda: finished_trial(made_elsewhere("small.replicates")),
        "'small.replicates' that isn't of this study 'small': searchlib did not make its trial 0",
    ),
    "replicates with another direction": (
        lambda: made_elsewhere("small.replicates", direction="minimize"),
        "'small.replicates' that searchlib did not make: its direction is minimize",
    ),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_another_study_of_that_name_is_refused(case: str) -> None:
    """By every command, in one line, before anything is stored."""
    make, words = STRANGERS[case]
    prepare()
    make()
    before = Path(STORAGE).read_bytes()
    study = small_study(sampler="tpe", trials=4, replicates=1)
    for command in (search_all, verify, Stores.read, lambda *of: export(*of, format="csv")):
        arguments = (Stores(), study) if command is Stores.read else (study, Stores())
        with pytest.raises(StorageError, match=words) as refused:
            command(*arguments)
        assert "\n" not in str(refused.value)
    assert Path(STORAGE).read_bytes() == before


def test_an_empty_study_of_that_name_is_taken() -> None:
    made_elsewhere()
    assert len(run(small_study(trials=4)).trials) == 4


# ----------------------------------------------------------------------------------- replicates of another search

RACED = {"trials": 4, "replicates": 2, "replicate_race": False, "fixed": {"momentum": 0.9, "epochs": 1}}
LONGER = {**RACED, "fixed": {"momentum": 0.9, "epochs": 2}}


def forget_uid() -> None:
    """As an earlier version stored replicates."""
    lines = Path(STORAGE).read_text().splitlines(keepends=True)
    kept = [line for line in lines if STUDY_UID not in json.loads(line).get("user_attr", {})]
    assert len(kept) == len(lines) - 1
    Path(STORAGE).write_text("".join(kept))


def delete_search(study: Study) -> None:
    optuna.delete_study(study_name=study.name, storage=open_storage(STORAGE))


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("again", [LONGER, RACED], ids=["changed", "unchanged"])
def test_replicates_of_a_deleted_search_are_no_fresh_seeds(marked: bool, again: dict) -> None:
    run(small_study(**RACED))
    if not marked:
        forget_uid()
    delete_search(small_study())
    words = "uid of another one" if marked else "its trial 0 repeats trial .*, which isn't there"
    study = small_study(**again)
    for command in (search_all, verify, lambda *of: export(*of, format="csv")):
        with pytest.raises(StorageError, match=f"'small.replicates' that isn't of .*'small': .*{words}; delete it"):
            command(study, Stores())
    assert studies_in_storage() == ["small.replicates"], "nothing was stored"
    optuna.delete_study(study_name="small.replicates", storage=open_storage(STORAGE))
    run(study)
    assert len(replicates(study)) == 8
    assert verify(study, Stores()).differences == []


@pytest.mark.parametrize(("again", "words"), [(LONGER, "another signature"), (RACED, "ended only after it had begun")])
def test_replicates_that_an_earlier_version_counted_for_another_search(again: dict, words: str) -> None:
    """Searched again by a version that matched replicates by name."""
    run(small_study(**RACED))
    forget_uid()
    study = small_study(**again)
    search_all(study, Stores("again.journal"))
    optuna.delete_study(study_name="small.replicates", storage=open_storage("again.journal"))
    optuna.copy_study(
        from_study_name="small.replicates",
        from_storage=open_storage(STORAGE),
        to_storage=open_storage("again.journal"),
    )
    for command in (search_all, verify):
        with pytest.raises(StorageError, match=words):
            command(study, Stores("again.journal"))


def test_replicates_of_an_earlier_version_are_adopted() -> None:
    study = small_study(**RACED)
    run(study)
    forget_uid()
    assert verify(study, Stores()).differences == []
    assert len(replicates(study)) == 8
    run(small_study(**{**RACED, "replicates": 3}))
    found = Stores().optuna_study("small.replicates")
    assert found is not None
    assert found.user_attrs[STUDY_UID] == stored(study).user_attrs["uid"]
    assert len(found.trials) == 12


# ------------------------------------------------------------------------------------------ trials of other programs


def ask_only(study: optuna.Study) -> None:
    study.ask().set_user_attr("seed", 3)


def add_finished(study: optuna.Study) -> None:
    """The best value there is, of other parameters, with attributes of its own."""
    made = create_trial(value=2.0, params={"x": 0.5}, distributions={"x": REMOTE}, user_attrs={"seed": 1})
    study.add_trial(made)


def add_alike(study: optuna.Study) -> None:
    """With the study's own parameters."""
    known = study.trials[0]
    study.add_trial(create_trial(value=2.0, params=known.params, distributions=known.distributions))


def add_failed(study: optuna.Study) -> None:
    study.tell(study.ask(), state=TrialState.FAIL)


def take_from_the_queue(study: optuna.Study) -> None:
    study.enqueue_trial({"batch_size": 16})
    study.ask().report(0.5, 1)


BY_OTHERS = [ask_only, add_finished, add_alike, add_failed, take_from_the_queue]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pruner", ["none", "within_cell", "median"])
def test_trials_of_other_programs_are_ignored(sampler: str, pruner: str) -> None:
    """The study ends with its own trials, as if the others weren't there; each command says so."""
    study = small_study(sampler=sampler, pruner=pruner, trials=8, replicates=1, round_size=4)
    prepare()
    search_all(study, trials=4)
    for add in BY_OTHERS:
        add(stored(study))
    search_all(study)
    foreign = (4, 5, 6, 7, 8)
    found = Stores().read(study)
    own = [trial.number for trial in found.trials]
    assert len(own) >= 8
    assert not {*own} & {*foreign}
    assert found.foreign == foreign
    for trial in found.trials:
        assert trial.user_attrs["seed"] == trial_seed(study.seed, trial.number)
    status = study_status(study, found)
    assert (status.foreign, status.trials.running, status.trials.total) == (foreign, 0, len(own))
    assert status.best is not None
    assert status.best.value <= 1.0
    checked = verify(study, Stores())
    assert checked.differences == []
    assert checked.notes == ["5 trials of small ignored, as another program made them (4, 5, 6, 7, 8)"]
    rows = json.loads(str(export(study, Stores(), format="json")))
    assert [row["number"] for row in rows if row["study"] == "small"] == own
    assert "trials 4, 5, 6, 7, 8 of the Optuna study are ignored" in analyze(study, found).notes[-1]


def test_a_balanced_design_is_the_same_beside_trials_of_others() -> None:
    alone = small_study(trials=8, round_size=4)
    prepare()
    search_all(alone, Stores("alone.journal"))
    wanted = [row[2] for row in table(alone, Stores("alone.journal"))]
    search_all(alone, trials=4)
    ask_only(stored(alone))
    search_all(alone)
    assert [trial.params for trial in Stores().read(alone).trials] == wanted


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_that_others_add_during_a_search(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study, create, calls = small_study(sampler=sampler, trials=8), samplers._create, itertools.count()

    def disturbed(made: Study, search: optuna.Study, *drawn) -> None:
        if next(calls) in (1, 5):
            stored(made).ask()
            stored(made).enqueue_trial(WHOLE)
        create(made, search, *drawn)

    monkeypatch.setattr(samplers, "_create", disturbed)
    run(study)
    run(study)
    found = Stores().read(study)
    assert len(found.foreign) == 2
    assert [trial.params for trial in found.trials].count(WHOLE) == 2
    assert all(trial.state == TrialState.COMPLETE for trial in found.trials)
    assert all(trial.user_attrs["seed"] == trial_seed(study.seed, trial.number) for trial in found.trials)
    assert verify(study, Stores()).differences == []


@pytest.mark.parametrize("add", BY_OTHERS)
def test_trials_of_others_among_the_replicates_are_ignored(add: Callable[[optuna.Study], None]) -> None:
    study = small_study(**RACED)
    run(study)
    found = Stores().optuna_study("small.replicates")
    assert found is not None
    add(found)
    run(small_study(**{**RACED, "replicates": 3}))
    stored_now = Stores().read(study)
    assert len(stored_now.replicates) == 12
    assert stored_now.foreign_replicates == (8,)
    assert verify(study, Stores()).differences == []


@pytest.mark.parametrize("begun", [False, True])
def test_snapshots_of_another_search_are_not_loaded(begun: bool) -> None:
    """A folder of an earlier version, which carries no uid, is taken by a search that has begun."""
    lock = Path("small-0a1b2c3d.lock")
    unmarked, other, own = (Path(f"small-0a1b2c3d{mark}.stacks") for mark in ("", ".11111111", ".22222222"))
    namesake = Path("small-1.stacks")
    for folder in (unmarked, other, namesake):
        folder.mkdir()
        (folder / "one.safetensors").touch()
    assert _snapshot_folder(lock, "2" * 32, begun=begun) == own
    assert own.exists() is begun
    assert sorted(Path().glob("*.stacks")) == ([own, namesake] if begun else [namesake])
