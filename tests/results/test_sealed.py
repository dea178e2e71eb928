"""The sealed test set as a promise: under an audit hook, with processes that race and die, by every way round it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial
from support import STORAGE, mlflow_runs, prepare, run, search, search_all, small_study, stored
from support.command import write_study
from support.watched import watched

from searchlib import Study, load_study
from searchlib.analysis.standing import best_trial
from searchlib.data import datasets as data
from searchlib.errors import DataError, HoldoutError, StudyError
from searchlib.report.page import publish
from searchlib.results import holdout
from searchlib.stores.mlflow_store import connect
from searchlib.stores.parent_run import LEDGER_TAG
from searchlib.stores.stores import Stores

ASKED = ("--study", "asked")
TEST_FILES = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def evaluate(study) -> holdout.TestResult:
    return holdout.evaluate(study, Stores())


def tags_of(study: Study) -> dict[str, str]:
    """The ledger in MLflow: the tags of the parent run that tell of it."""
    (parent,) = mlflow_runs(study, "study")
    return {
        key.removeprefix(LEDGER_TAG): value for key, value in parent.data.tags.items() if key.startswith(LEDGER_TAG)
    }


# ----------------------------------------------------------------------------------------------- who opens it, and when


def test_the_whole_search_runs_with_a_death_penalty_on_the_test_files(tmp_path: Path) -> None:
    """They are there, and whoever opens one dies; then ``evaluate`` opens each exactly once."""
    write_study(("trials=12,", "trials=8,\n    replicates=2,"))
    prepare()
    commands = [
        ["list"],
        ["optimize", *ASKED, "--no-evaluate"],
        ["status", *ASKED, "--json"],
        ["report", *ASKED],
        ["report", *ASKED, "--json"],
        ["export", *ASKED, "--format", "csv"],
        ["export", *ASKED, "--format", "parquet", "--output", "trials.parquet"],
        ["verify", *ASKED],
    ]
    done = watched(*commands, log=tmp_path / "log", on_test_file="abort")
    assert (done.status, done.codes) == (0, [0] * len(commands)), done.output
    assert done.of("test file") == []
    assert len(stored(load_study("asked")).trials) == 8

    names = ("evaluate", "evaluate", "status", "report", "optimize")
    commands = [*([name, *ASKED] for name in names), ["predict", *ASKED, "--index", "0"]]
    done = watched(*commands, log=tmp_path / "log")
    assert (done.status, done.codes) == (0, [0] * len(commands)), done.output
    opened = [(command, Path(detail).name) for _, command, kind, detail in done.events if kind == "test file"]
    assert sorted(opened) == [("evaluate --study asked", name) for name in TEST_FILES]
    assert done.of("unpickle") == [], "nothing was unpickled, the champion neither"


def test_the_digits_that_are_held_out_are_not_even_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no files of their own: the promise is that nobody asks for the part."""
    made: list[bool] = []
    read = data.DigitsPart.__call__

    def watching(self: data.DigitsPart, root: Path) -> data.Examples:
        made.append(self.held_out)
        return read(self, root)

    monkeypatch.setattr(data.DigitsPart, "__call__", watching)
    study = small_study(dataset="digits", trials=4, replicates=2, fixed={"epochs": 1}, name="numbers")
    run(study)
    publish(study, Stores())
    assert set(made) == {False}
    evaluate(study)
    assert made.count(True) == 1


def test_eight_evaluations_at_once_are_one_with_eight_equal_answers(tmp_path: Path) -> None:
    write_study(("trials=12,", "trials=4,"))
    prepare()
    run(load_study("asked"))
    done = watched(["evaluate", *ASKED], log=tmp_path / "log", processes=8)
    assert (done.status, done.codes) == (0, [0] * 8), done.output
    openings = Counter((process, Path(detail).name) for process, _, kind, detail in done.events if kind == "test file")
    assert sorted(name for _, name in openings) == TEST_FILES
    assert set(openings.values()) == {1}
    assert len({process for process, _ in openings}) == 1, "one process opened both"
    assert len(done.answers) == 8
    assert len(set(done.answers)) == 1
    assert "test accuracy" in done.answers[0]
    assert len(connect(None).search_model_versions("name = 'asked'")) == 1


# -------------------------------------------------------------------------------------------------- killed in between


def test_a_kill_between_claim_and_result_leads_to_the_claimed_checkpoint(tmp_path: Path) -> None:
    """Also where the best trial is another one by then."""
    write_study(("trials=12,", "trials=8,"))
    prepare()
    study = load_study("asked")
    run(study)
    done = watched(["evaluate", *ASKED], log=tmp_path / "log", on_test_file="kill")
    assert done.status == -signal.SIGKILL
    claim = stored(study).user_attrs["test_ledger"]
    assert "result" not in claim
    assert tags_of(study) == {key: str(value) for key, value in claim.items()}, "MLflow knows of the claim, too"

    first = best_trial(study, stored(study).trials)
    assert claim["trial"] == first.number
    other = next(trial for trial in stored(study).trials if trial.number != first.number)
    attributes = {**first.user_attrs, "mlflow_run_id": other.user_attrs["mlflow_run_id"], "checkpoint_sha256": "0" * 64}
    stored(study).add_trial(
        create_trial(params=first.params, distributions=first.distributions, value=1.5, user_attrs=attributes)
    )
    assert best_trial(study, stored(study).trials).number == 8
    with pytest.raises(StudyError, match="closed: its test set was opened at"):
        list(search(study, trials=16))

    result = evaluate(study)
    assert (result.trial, result.checkpoint_sha256) == (claim["trial"], claim["checkpoint_sha256"])
    ledger = stored(study).user_attrs["test_ledger"]
    assert {key: ledger[key] for key in claim} == claim
    version = connect(None).get_model_version_by_alias("asked", "champion")
    assert version.tags["searchlib.checkpoint"] == claim["checkpoint_sha256"]
    assert evaluate(study) == result


# ----------------------------------------------------------------------------------------------------------- the ledger


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_ledger_says_when_which_trial_which_checkpoint_and_which_code() -> None:
    Path("code.py").write_text("one\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "-q"], ["add", "code.py"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    Path("code.py").write_text("two\n")
    study = small_study(trials=4)
    run(study)
    result = evaluate(study)
    ledger = stored(study).user_attrs["test_ledger"]
    best = best_trial(study, stored(study).trials)
    assert set(ledger) == {
        "claimed_at", "finished_at", "trial", "replicate", "run_id", "checkpoint_sha256", "code", "result"
    }  # fmt: skip
    assert ledger["claimed_at"] <= ledger["finished_at"] == result.evaluated_at
    assert (ledger["trial"], ledger["run_id"]) == (best.number, best.user_attrs["mlflow_run_id"])
    assert ledger["checkpoint_sha256"] == best.user_attrs["checkpoint_sha256"] == result.checkpoint_sha256
    assert ledger["code"].startswith("searchlib ")
    assert ledger["code"].endswith(f", {commit[:12]} (changed)")
    assert tags_of(study) == {key: str(value) for key, value in ledger.items() if key != "result"}


def test_a_claim_that_is_withdrawn_leaves_no_trace() -> None:
    prepare(parts=("train",))
    study = small_study(trials=4)
    search_all(study)
    with pytest.raises(DataError, match="t10k-images.*searchlib data fetch"):
        evaluate(study)
    assert not stored(study).user_attrs["test_ledger"]
    assert tags_of(study) == {}
    assert len(run(study, trials=8).trials) == 8
    prepare()
    assert evaluate(study).n == 60
    assert "finished_at" in tags_of(study)


# ------------------------------------------------------------------------------------------------------- ways round it


def test_mlflow_remembers_a_ledger_that_optuna_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wiped, or gone with its storage. The way on is a copy under a new name, with a ledger of its own."""
    study, copy = small_study(trials=4), small_study(trials=4, name="copy")
    run(study)
    result = evaluate(study)
    stored(study).set_user_attr("test_ledger", None)
    with monkeypatch.context() as patch:
        patch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened again"))
        with pytest.raises(HoldoutError, match="was opened at .* but this Optuna storage has no record of"):
            evaluate(study)
    with pytest.raises(HoldoutError, match="was opened at"):
        search_all(study, trials=8)
    Path(STORAGE).unlink()
    with pytest.raises(HoldoutError, match=rf"was opened at .* for trial {result.trial} \(MLflow run .* new name"):
        search_all(study)
    assert not Path(STORAGE).exists(), "nothing was trained"
    run(copy)
    assert tags_of(copy) == {}
    assert evaluate(copy).n == 60


@pytest.mark.usefixtures("sealed")
def test_the_test_set_is_that_of_the_study_that_was_searched() -> None:
    """Not of what the file says now."""
    run(small_study(trials=4))
    for change in ({"dataset": "digits"}, {"fixed": {"momentum": 0.5, "epochs": 2}}, {"code": "def read(): ..."}):
        with pytest.raises(StudyError, match="has changed since its first trial"):
            evaluate(small_study(trials=4, **change))
    assert stored(small_study()).user_attrs.get("test_ledger") is None


def test_replicates_have_no_test_set_of_their_own() -> None:
    """Nor can their Optuna study be taken for a study."""
    study = small_study(trials=4, replicates=2)
    run(study)
    replicates = optuna.load_study(study_name="small.replicates", storage=stored(study)._storage)
    assert "test_ledger" not in replicates.user_attrs
    Path("small.replicates.py").write_text(
        "from searchlib import Study\nSTUDY = Study(question='?', dataset='digits')\n"
    )
    with pytest.raises(StudyError, match="taken"):
        load_study("small.replicates.py")
