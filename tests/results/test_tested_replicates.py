"""The replicates on the test set: what is kept for it, claimed with it, measured on it, and what stops nothing."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import FrozenTrial, create_trial
from safetensors.torch import load_file
from scipy import stats
from support import STORAGE, mlflow_runs, replicates, run, small_study, stored
from support.command import write_study
from support.damage import alter, checkpoint, look
from support.watched import watched
from torch import nn

from searchlib import Dataset, Examples, Study, load_study
from searchlib.analysis import analyze, champion
from searchlib.data.datasets import load_test
from searchlib.errors import HoldoutError, TrackingError
from searchlib.report.page import publish
from searchlib.results import holdout, tested_replicates
from searchlib.search import kept
from searchlib.search.kept import Kept
from searchlib.stores.parent_run import LEDGER_TAG
from searchlib.stores.stores import Stores

SETTINGS: dict[str, Any] = {"trials": 8, "replicates": 3, "replicate_race": False}


def evaluate(study: Study) -> holdout.TestResult:
    return holdout.evaluate(study, Stores())


def findings(study: Study) -> Any:
    return analyze(study, Stores(STORAGE).read(study))


def ledger(study: Study) -> dict[str, Any]:
    return dict(stored(study).user_attrs["test_ledger"])


def lose(trial: FrozenTrial) -> None:
    checkpoint(trial.user_attrs["mlflow_run_id"]).unlink()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with four cells and three replicates of each, whose test set is sealed."""
    folder = tmp_path_factory.mktemp("searched")
    with contextlib.chdir(folder):
        run(small_study(**SETTINGS))
    return folder


@pytest.fixture
def study(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The same, in a folder of its own."""
    shutil.copytree(searched, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return small_study(**SETTINGS)


# ---------------------------------------------------------------------------------------------------- what is measured


def test_each_result_is_that_of_a_plain_network(study: Study) -> None:
    """And the statistics by cell are scipy's, of these results."""
    evaluate(study)
    examples = load_test(study.dataset, Path("data"))
    results = {number: (loss, correct) for number, _, loss, correct in ledger(study)["replicates"]}
    assert sorted(results) == [trial.number for trial in replicates(study)]
    accuracies: dict[str, dict[int, float]] = {}
    for trial in replicates(study):
        weights = load_file(checkpoint(trial.user_attrs["mlflow_run_id"]))
        hidden, last = nn.Linear(36, 8), nn.Linear(8, 3)
        for layer, name in ((hidden, "linear0"), (last, "linear1")):
            layer.load_state_dict({part: weights[f"{name}.{part}"] for part in ("weight", "bias")})
        activation = {"tanh": nn.Tanh(), "relu": nn.ReLU()}[trial.params["activation"]]
        outputs = nn.Sequential(nn.Flatten(), hidden, activation, last)(examples.inputs / 255.0)
        loss, correct = results[trial.number]
        assert loss == pytest.approx(float(nn.functional.cross_entropy(outputs, examples.targets)), rel=1e-5)
        assert correct == int((outputs.argmax(1) == examples.targets).sum())
        label = f"{trial.params['initializer']}, {trial.params['activation']}"
        accuracies.setdefault(label, {})[trial.params["replicate"]] = correct / 60

    found = findings(study)
    tested = found.test_by_cell
    assert (tested.examples, tested.without_result, tested.left_out) == (60, 0, {})
    assert [cell.label for cell in tested.cells] == [cell.label for cell in found.cells], "the winner's first"
    own = list(accuracies[found.winner.label].values())
    for cell, on_validation in zip(tested.cells, found.cells, strict=True):
        values = list(accuracies[cell.label].values())
        assert (cell.n, cell.pairs) == (3, 3)
        assert cell.mean == pytest.approx(sum(values) / 3)
        assert cell.validation_mean == pytest.approx(on_validation.mean)
        if len(set(values)) > 1:
            low, high = stats.t.interval(0.95, 2, cell.mean, stats.sem(values))
            assert (cell.low, cell.high) == pytest.approx((max(low, 0.0), min(high, 1.0)))
        if cell.label == found.winner.label:
            assert cell.difference is cell.validation_difference is None
        else:
            assert cell.difference == pytest.approx(sum(own) / 3 - cell.mean, abs=1e-12)
            difference = found.cells[0].mean - on_validation.mean
            assert cell.validation_difference == pytest.approx(difference, abs=1e-12)


def test_a_regression_has_losses() -> None:
    def part(seed: int) -> Any:
        inputs = torch.rand(120, 4, generator=torch.Generator().manual_seed(seed))
        return lambda root: Examples(inputs=inputs, targets=inputs[:, :2] * 2.0)

    dataset = Dataset(name="numbers", task="regression", shape=(4,), outputs=2, scale=1.0, train=part(0), test=part(1))
    study = small_study(dataset=dataset, **{**SETTINGS, "replicate_split": True})
    run(study)
    evaluate(study)
    rows = ledger(study)["replicates"]
    assert all(loss > 0 and correct is None for _, _, loss, correct in rows)
    found = findings(study)
    assert found.direction == "minimize"
    assert len(rows) == sum(cell.n for cell in found.test_by_cell.cells) + sum(cell.failed for cell in found.cells)
    best = min(found.test_by_cell.cells, key=lambda cell: cell.mean)
    assert best.rank == 1
    number, _, loss, _ = rows[0]
    assert "linear0.weight" in load_file(checkpoint(replicates(study)[number].user_attrs["mlflow_run_id"]))
    assert loss < 10
    assert look(study).differences == []


# -------------------------------------------------------------------------------------------------- claimed, and killed


def test_a_killed_evaluation_ends_with_the_claimed_checkpoints(tmp_path: Path) -> None:
    """What is lost after the claim has no result, and the others have theirs; nothing new comes in."""
    write_study(("trials=12,", "trials=8,\n    replicates=3,\n    replicate_race=False,"))
    study = load_study("asked")
    run(study)
    ended = [trial for trial in replicates(study) if trial.user_attrs["outcome"] == "completed"]
    best = champion(study, Stores(STORAGE).read(study))
    first, second, *_ = [trial for trial in ended if trial.number != best.number]
    lose(first)
    done = watched(["evaluate", "--study", "asked"], log=tmp_path / "log", on_test_file="kill")
    assert done.status == -signal.SIGKILL
    claim = ledger(study)
    assert "result" not in claim
    assert [number for number, _ in claim["replicates"]] == [t.number for t in ended if t is not first]
    for number, mark in claim["replicates"]:
        assert replicates(study)[number].user_attrs["checkpoint_sha256"].startswith(mark)
    assert claim["left_out"] == {tested_replicates.MISSING: 1}
    assert findings(study).test_by_cell is None

    alter(checkpoint(second.user_attrs["mlflow_run_id"]))
    searched = stored(study).trials
    source = searched[second.user_attrs["source"]]
    stored(study).add_trial(  # another configuration is the best of that cell by now
        create_trial(params=source.params, distributions=source.distributions, value=1.5, user_attrs=source.user_attrs)
    )
    evaluate(study)
    after = ledger(study)
    assert [row[:2] for row in after["replicates"]] == claim["replicates"]
    assert [row[0] for row in after["replicates"] if row[2] is None] == [second.number]
    (parent,) = mlflow_runs(study, "study")
    said = f"{len(ended) - 1} checkpoints, SHA-256 of the list "
    assert parent.data.tags[f"{LEDGER_TAG}replicates"].startswith(said)


@pytest.mark.parametrize("step", ["load_test", "measure", "score"])
def test_results_are_written_all_or_none(study: Study, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(holdout, step)
    calls = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(step)
        if step == "measure" and len(calls) == 1:  # the champion's on validation data
            return real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(holdout, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(study)
    claim = ledger(study)
    assert "result" not in claim
    assert all(len(row) == 2 for row in claim["replicates"])
    evaluate(study)
    assert all(correct is not None for _, _, _, correct in ledger(study)["replicates"])
    assert look(study).differences == []


def test_a_claim_of_the_champion_alone_stays_one(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """As earlier versions made them: nothing is added to it, and its report has no such section."""
    with monkeypatch.context() as patch:
        patch.setattr(holdout, "restore_replicates", lambda study, stored, tracker, ledger: (ledger, {}))
        patch.setattr(holdout, "load_test", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            evaluate(study)
    assert "replicates" not in ledger(study)
    evaluate(study)
    assert not {"replicates", "left_out"} & set(ledger(study))
    found = findings(study)
    assert found.test_by_cell is None
    assert not any("test by cell" in note for note in found.notes)
    page, _ = publish(study, Stores())
    assert 'id="test_by_cell"' not in page.read_text()
    assert look(study).differences == []


def test_without_replicates_there_is_the_champion_alone() -> None:
    study = small_study(trials=4)
    run(study)
    evaluate(study)
    assert not {"replicates", "left_out"} & set(ledger(study))
    assert findings(study).test_by_cell is None


# ------------------------------------------------------------------------------------------ checkpoints that aren't fit


def test_a_checkpoint_that_is_not_as_it_was_is_left_out_before_the_claim(study: Study) -> None:
    """The champion's must be there; of the others the report says how many have no result."""
    best = champion(study, Stores(STORAGE).read(study))
    others = [trial for trial in replicates(study) if study.cell_of(trial.params) != study.cell_of(best.params)]
    lose(others[0])
    alter(checkpoint(others[1].user_attrs["mlflow_run_id"]))
    path = checkpoint(others[2].user_attrs["mlflow_run_id"])
    path.write_bytes(b"no safetensors")
    said = [each for each in look(study).differences if each.what == "checkpoint"]
    assert len(said) == 3
    assert all("without it the replicate is left out of the test by cell" in each.remedy for each in said)
    evaluate(study)
    assert ledger(study)["left_out"] == {tested_replicates.MISSING: 1, tested_replicates.ALTERED: 2}
    tested = findings(study).test_by_cell
    assert (tested.without_result, sum(cell.n for cell in tested.cells)) == (3, 9)
    page, _ = publish(study, Stores())
    text = page.read_text()
    assert 'id="test_by_cell"' in text
    assert "2 replicates: checkpoint altered; 1 replicate: checkpoint missing" in text


def test_a_network_that_gives_something_else_than_in_the_search_is_left_out(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tested_replicates, "is_as_noted", lambda *_: False)
    evaluate(study)
    assert ledger(study)["left_out"] == {tested_replicates.DIFFERS: 12}
    assert "replicates" not in ledger(study)
    *_, note = findings(study).notes
    assert note == f"no test by cell: 12 replicates: {tested_replicates.DIFFERS}"


class Choosy(nn.Module):
    """It fails for values that only the test part has, unless it is the champion's."""

    allowed = 0

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.min()) < 0:
            Choosy.allowed -= 1
            if Choosy.allowed < 0:
                raise RuntimeError("negative input")
        outputs: torch.Tensor = self.first(x.flatten(1))
        return outputs


def test_a_module_that_fails_on_test_data_costs_its_own_result_only() -> None:
    def part(sign: float) -> Any:
        inputs = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
        return lambda root: Examples(inputs=inputs * sign, targets=inputs[:, :3].argmax(dim=1))

    dataset = Dataset(name="numbers", shape=(4,), outputs=3, scale=1.0, train=part(1.0), test=part(-1.0))
    study = small_study(
        dataset=dataset, model=lambda config, dataset: Choosy(), code="choosy", scientific={}, nuisance={},
        fixed={"epochs": 30, "batch_size": 16, "learning_rate": 0.5}, trials=1, replicates=3, replicate_race=False,
    )  # fmt: skip
    run(study)
    Choosy.allowed = 2  # the champion's, and the first replicate's
    evaluate(study)
    assert [row[2] is not None for row in ledger(study)["replicates"]] == [True, False, False]
    (cell,) = findings(study).test_by_cell.cells
    assert (cell.n, cell.low, cell.difference) == (1, None, None)


def test_a_store_that_is_away_is_known_before_the_claim(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdout, "load_test", lambda *_, **__: pytest.fail("the test set was opened"))

    def away(*_: Any) -> Any:
        raise TrackingError("the server is away")

    monkeypatch.setattr("searchlib.stores.tracking.Tracker.stored_checkpoint", away)
    with pytest.raises(TrackingError, match="away"):
        evaluate(study)
    assert stored(study).user_attrs.get("test_ledger") is None


def test_the_champions_checkpoint_is_asked_for_first(study: Study) -> None:
    for trial in replicates(study):
        lose(trial)
    with pytest.raises((HoldoutError, TrackingError)):
        evaluate(study)
    assert stored(study).user_attrs.get("test_ledger") is None


def test_verify_knows_a_replicate_that_the_ledger_lists_and_optuna_has_not(study: Study) -> None:
    evaluate(study)
    assert look(study).differences == []

    changed = ledger(study)
    changed["replicates"][1][1] = "0" * 16
    stored(study).set_user_attr("test_ledger", changed)
    (ours, tag) = look(study).differences
    assert (ours.what, ours.study, ours.trial, ours.repairable) == ("ledger", "small.replicates", 1, False)
    assert "000000000000, which Optuna doesn't have" in ours.problem
    assert "replicates" in tag.problem


# ---------------------------------------------------------------------------------------------------- how many are kept


def test_within_the_limit_the_leading_cells_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the best of each cell so far, as one of them may become the champion."""
    size = 4 * (36 * 8 + 8 + 8 * 3 + 3)
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * 3 * size + size)  # room for two cells, not for a third
    study = small_study(**SETTINGS)
    run(study)
    repeated = replicates(study)
    noted = [trial for trial in repeated if "kept_bytes" in trial.user_attrs]
    assert {trial.user_attrs["kept_bytes"] for trial in noted} == {size}
    leading = Stores(STORAGE).read(study).race["candidates"][:2]
    assert {trial.user_attrs["source"] for trial in noted} == set(leading)
    assert len(noted) == 6
    first = [trial for trial in repeated if trial.params["replicate"] == 1]
    assert all("checkpoint_sha256" in trial.user_attrs for trial in first), "they led their cells"
    evaluate(study)
    assert ledger(study)["left_out"] == {tested_replicates.NOT_KEPT: 6}
    tested = findings(study).test_by_cell
    assert (len(tested.cells), tested.without_result) == (2, 6)
    page, _ = publish(study, Stores())
    assert "6 replicates that count on validation data have no result here (6 replicates: weights" in page.read_text()


def test_no_room_at_all_leaves_what_earlier_versions_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights kept because they led are no sample of their cell."""
    monkeypatch.setattr(kept, "MOST_BYTES", 0)
    study = small_study(**SETTINGS)
    run(study)
    assert any("checkpoint_sha256" in trial.user_attrs for trial in replicates(study))
    assert evaluate(study).replicate is not None
    assert "replicates" not in ledger(study)
    assert findings(study).notes[-1] == f"no test by cell: 12 replicates: {tested_replicates.NOT_KEPT}"


def test_room_goes_to_whole_cells_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from support.trials import trial

    study = small_study(replicates=10)
    one, two, three = (study.cell_of(cell) for cell in study.cells[:3])

    def repeated(cell: tuple, replicate: int, value: float | None = None, **attributes: Any) -> FrozenTrial:
        """Of whichever search's configuration: the room is the cell's."""
        ended = "running" if value is None else "completed"
        return trial({**dict(cell), "replicate": replicate}, value, ended, source=replicate, **attributes)

    monkeypatch.setattr(kept, "MOST_BYTES", 1000)
    state = {"weight": torch.zeros(10), "count": torch.tensor(1)}  # 40 and 8 bytes
    start = [repeated(cell, 1) for cell in (two, one)]
    room = Kept(study, start, start)
    assert [room.room_for(two, state), room.room_for(one, state), room.room_for(one, None)] == [48, 48, None]
    assert room.used == 96
    stored = [repeated(two, 1, 0.5, kept_bytes=480), repeated(one, 1, 0.6), repeated(three, 1, 0.4)]
    room = Kept(study, [repeated(cell, 2) for cell in (two, one, three)], stored)
    assert [room.room_for(cell, state) for cell in (three, two, one)] == [None, 48, 48], "two cells of ten seeds fit"
    room.used = 960
    assert room.room_for(one, state) is None
