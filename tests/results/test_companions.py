"""A study's companions in MLflow are found by what they carry, whatever MLflow's UI renamed, or refused."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from support import STORAGE, run, search_all, stored
from support.damage import kinds, look, mend, parent_id, purge

from searchlib import Study
from searchlib.errors import HoldoutError, SearchlibError, TrackingError
from searchlib.report import publish
from searchlib.results import champion_network, evaluate, predict
from searchlib.stores.mlflow_store import connect
from searchlib.stores.parent_run import UID_TAG
from searchlib.stores.storage import open_storage
from searchlib.stores.stores import Stores


def experiment_of(study: Study) -> str:
    return connect(None).get_run(parent_id(study)).info.experiment_id


def rename(study: Study) -> None:
    connect(None).rename_experiment(experiment_of(study), "archive / 2026")


def renamed_and_replaced(study: Study) -> None:
    rename(study)
    client = connect(None)
    client.create_run(client.create_experiment(study.name), tags={"searchlib.kind": "study"})


def renamed_and_not_noted(study: Study) -> None:
    """Found by the tag of its parent run."""
    rename(study)
    stored(study).set_user_attr("mlflow_run_id", "lost")


@pytest.mark.parametrize("change", [rename, renamed_and_replaced])
def test_a_renamed_experiment_is_found(change: Callable[[Study], None], study: Study) -> None:
    before, parent = look(study), parent_id(study)
    change(study)
    assert look(study) == before
    page, _ = publish(study, Stores())
    assert page.exists()
    assert champion_network(study, Stores(), Stores().read(study)) is not None
    runs = len(connect(None).search_runs([experiment_of(study)]))
    run(study)
    assert (parent_id(study), len(connect(None).search_runs([experiment_of(study)]))) == (parent, runs)


def test_a_parent_run_that_is_not_noted_is_found_in_any_experiment(study: Study) -> None:
    parent = parent_id(study)
    renamed_and_not_noted(study)
    assert ("parent run", "small", None, True) in kinds(look(study))
    assert mend(study).differences == []
    assert parent_id(study) == parent


def test_a_deleted_experiment_is_named_with_what_restores_it(study: Study) -> None:
    rename(study)
    number = experiment_of(study)
    connect(None).delete_experiment(number)
    with pytest.raises(TrackingError, match=f"'archive / 2026' of study 'small' was deleted.*--experiment-id {number}"):
        look(study)
    connect(None).restore_experiment(number)
    assert look(study).differences == []


def lose_storage(study: Study) -> None:
    Path(STORAGE).unlink()


def delete_studies(study: Study) -> None:
    for name in (study.name, f"{study.name}.replicates"):
        optuna.delete_study(study_name=name, storage=open_storage(STORAGE))


@pytest.mark.parametrize("lose", [lose_storage, delete_studies])
@pytest.mark.parametrize("hide", [rename, lambda study: connect(None).delete_run(parent_id(study))])
def test_no_renaming_or_deleting_opens_the_test_set_again(
    hide: Callable[[Study], None], lose: Callable[[Study], None], study: Study
) -> None:
    hide(study)
    lose(study)
    with pytest.raises(HoldoutError, match="the test set of study 'small' was opened at .*no record of it"):
        search_all(study)


def test_a_deleted_parent_run_is_not_replaced(study: Study) -> None:
    """A second one would have none of the runs."""
    stored(study).set_user_attr("champion_checkpoint", None)  # so that evaluate writes to MLflow
    parent = parent_id(study)
    connect(None).delete_run(parent)
    words = f"the parent run {parent} of study 'small' was deleted in MLflow; to restore it: searchlib verify"
    with pytest.raises(SearchlibError, match=words):
        evaluate(study, Stores())
    assert mend(study).differences == []
    assert parent_id(study) == parent
    assert evaluate(study, Stores()).n == 60


# ------------------------------------------------------------------------------------------------ the registered model


def champion():
    return connect(None).get_model_version_by_alias("small", "champion")


def test_a_champion_carries_the_uid(study: Study) -> None:
    assert champion().tags[UID_TAG] == stored(study).user_attrs["uid"]


def test_a_deleted_model_is_registered_again(study: Study) -> None:
    connect(None).delete_registered_model("small")
    with pytest.raises(TrackingError, match="no champion of study 'small'.* if it was deleted .*verify .*--repair"):
        predict(study, Stores(), 0)
    assert [what for what, *_ in kinds(look(study))] == ["champion"]
    assert mend(study).differences == []
    assert predict(study, Stores(), 0)


def of_another_uid(study: Study) -> None:
    connect(None).set_model_version_tag("small", champion().version, UID_TAG, "0" * 32)


def of_another_parent(study: Study) -> None:
    """As an earlier version registered it: only its run says of which study it is."""
    connect(None).delete_model_version_tag("small", champion().version, UID_TAG)
    client = connect(None)
    other = client.create_run(experiment_of(study), tags={"searchlib.kind": "study", UID_TAG: "0" * 32})
    made = client.create_model_version("small", champion().source, other.info.run_id, tags=champion().tags)
    client.set_registered_model_alias("small", "champion", made.version)


def of_another_program(study: Study) -> None:
    made = connect(None).create_model_version("small", champion().source)
    connect(None).set_registered_model_alias("small", "champion", made.version)


@pytest.mark.parametrize("take", [of_another_uid, of_another_parent, of_another_program])
def test_the_model_of_another_study_is_left_alone(take: Callable[[Study], None], study: Study) -> None:
    take(study)
    taken = champion().version
    (difference,) = [each for each in look(study).differences if each.what == "champion"]
    assert "has a champion that isn't of this study" in difference.problem
    assert not difference.repairable
    with pytest.raises(TrackingError, match="'small' has a champion that isn't of this study; rename or delete"):
        predict(study, Stores(), 0)
    mend(study)
    assert champion().version == taken


def test_the_model_of_another_study_is_met_before_the_test_set_is_claimed(study: Study) -> None:
    """For example where the experiment of an old study was purged, and its model was not."""
    of_another_uid(study)
    delete_studies(study)
    for found in connect(None).search_runs([connect(None).get_experiment_by_name("small").experiment_id]):
        purge(found.info.run_id)
    shutil.rmtree("mlruns")
    run(study)
    (difference,) = look(study).differences
    assert "a registered champion of this name that isn't of this study" in difference.problem
    for _ in range(2):
        with pytest.raises(SearchlibError, match="'small' has a champion that isn't of this study"):
            evaluate(study, Stores())
    assert "test_ledger" not in stored(study).user_attrs


def test_a_champion_of_an_earlier_version_is_adopted(study: Study) -> None:
    connect(None).delete_model_version_tag("small", champion().version, UID_TAG)
    assert look(study).differences == []
    assert predict(study, Stores(), 0)


def test_a_copy_under_another_name_has_runs_of_its_own(study: Study) -> None:
    """optuna.copy_study copies the uid and the parent run's id, too."""
    copied = dataclasses.replace(study, name="copied", trials=8, replicates=0)
    storage = open_storage(STORAGE)
    optuna.copy_study(from_study_name="small", from_storage=storage, to_storage=storage, to_study_name="copied")
    stored(copied).set_user_attr("test_ledger", None)
    before = len(connect(None).search_runs([experiment_of(study)]))
    run(copied)
    assert experiment_of(copied) != experiment_of(study)
    assert len(connect(None).search_runs([experiment_of(study)])) == before
