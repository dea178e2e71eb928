"""Pruning: within a cell and never across cells, by Optuna's pruners over an overlay and by ``within_cell``."""

from __future__ import annotations

import contextlib
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from support import STORAGE, run, small_study
from support.trials import numbered

from searchlib import Choice, Study, StudyError
from searchlib.search.design import round_length
from searchlib.search.overlay import OverlayStorage
from searchlib.search.pruning import halve, halving_rungs, make_pruner, prunes
from searchlib.search.samplers import distribution
from searchlib.stores.storage import open_storage
from searchlib.study import PRUNERS

HALVED = {
    "pruner": "within_cell",
    "scientific": {"initializer": Choice("zeros", "xavier_normal"), "activation": Choice("tanh", "relu")},
    "trials": 32,
    "fixed": {"momentum": 0.9, "epochs": 6},
}


# ----------------------------------------------------------------------------------------- by successive halving


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> list[FrozenTrial]:
    """The trials of a finished search; one of its initializers learns nothing."""
    with contextlib.chdir(tmp_path_factory.mktemp("halved")):
        return run(small_study(**HALVED)).get_trials(deepcopy=False)


def test_rungs_double() -> None:
    study = small_study(pruner="within_cell")
    assert halving_rungs(study, 6) == [1, 2, 4]
    assert halving_rungs(study, 8) == [1, 2, 4]
    assert halving_rungs(study, 1) == []
    assert halving_rungs(small_study(), 6) == []


def test_a_bracket_holds_eight_points_a_cell() -> None:
    assert round_length(small_study(pruner="within_cell", round_size=4)) == 32
    assert round_length(small_study(pruner="within_cell", round_size=50)) == 52
    assert round_length(small_study(pruner="within_cell", sampler="tpe", round_size=4)) == 32
    assert round_length(small_study(pruner="within_cell", scientific={}, sampler="tpe", round_size=4)) == 8


def test_the_worse_half_of_each_cell_leaves() -> None:
    study = small_study()

    def of(number, initializer, **attributes):
        return numbered(number, {"initializer": initializer, "activation": "tanh"}, **attributes)

    points = [(of(n, "normal"), 0.1 * n) for n in range(4)] + [(of(n, "xavier_normal"), 0.9) for n in (4, 5, 6)]
    assert halve(study, points) == {0, 1, 6}, "of equal ones the first stays; three keep two"
    assert halve(study, [(of(0, "normal"), None), (of(1, "normal"), 0.1)]) == {0}
    assert halve(study, [(of(0, "normal"), 0.1)]) == set()
    apart = [(of(0, "normal", search=1), 0.1), (of(1, "normal", search=2), 0.2), (of(2, "normal", search=2), 0.3)]
    assert halve(study, apart) == {1}, "each search halves its own points"


def test_each_cell_halves_its_own_points_at_each_rung(halved: list[FrozenTrial]) -> None:
    """Also one that learns nothing runs to the end. 8 + 4 + 2 * 2 + 2 * 1 epochs a cell, instead of 48."""
    study = small_study(**HALVED)
    cells: dict = {}
    for trial in halved:
        cells.setdefault(study.cell_of(trial.params), []).append(trial)
    assert [len(members) for members in cells.values()] == [8] * 4
    for cell, members in cells.items():
        alive = {trial.number for trial in members}
        for rung in (1, 2, 4):
            entered = [trial for trial in members if trial.number in alive]
            best = {
                t.number: max(value for epoch, value in t.intermediate_values.items() if epoch <= rung) for t in entered
            }
            order = sorted(best, key=lambda number: (-best[number], number))
            alive = set(order[: (len(order) + 1) // 2])
            left = [trial for trial in entered if trial.number not in alive]
            assert {t.user_attrs["epochs_run"] for t in left} <= {rung}, cell
            assert {t.user_attrs["outcome"] for t in left} == {"pruned"}
        (last,) = alive
        assert halved[last].user_attrs["epochs_run"] == 6
        assert halved[last].user_attrs["outcome"] == "completed"
    assert sum(trial.user_attrs["epochs_run"] for trial in halved) == 4 * 18


def test_survivors_are_as_without_pruning(halved: list[FrozenTrial]) -> None:
    full = run(small_study(**{**HALVED, "pruner": "none", "round_size": 32})).get_trials(deepcopy=False)
    for trial in halved:
        other = full[trial.number]
        assert trial.params == other.params
        epochs = trial.user_attrs["epochs_run"]
        curve = [other.intermediate_values[epoch] for epoch in range(1, epochs + 1)]
        assert list(trial.intermediate_values.values()) == pytest.approx(curve, abs=1 / 40 + 1e-9)


# --------------------------------------------------------------------------------------------- by a pruner of Optuna's


def three_cells(pruner: str = "none") -> Study:
    return small_study(scientific={"activation": Choice("tanh", "relu", "sigmoid")}, pruner=pruner)


def curve(activation: str, level: float, epochs: int, *, running: bool = False) -> FrozenTrial:
    params = {"activation": activation, "learning_rate": 0.1}
    study = three_cells()
    return create_trial(
        state=TrialState.RUNNING if running else TrialState.COMPLETE,
        value=None if running else level,
        params=params,
        distributions={name: distribution(study.dimensions[name]) for name in params},
        intermediate_values=dict.fromkeys(range(1, epochs + 1), level),
    )


@pytest.mark.parametrize("name", [name for name, entry in PRUNERS.items() if entry.optuna])
def test_pruning_compares_within_a_cell_only(name: str) -> None:
    """Slow starters in a cell of their own are never stopped; the same curve among faster ones of its cell is."""
    study = three_cells(name)
    for cell, stopped in (("sigmoid", False), ("relu", True)):
        optuna_study = optuna.create_study(direction="maximize")
        for level in range(40):
            optuna_study.add_trials([curve("relu", 0.9 + level / 1000, 16), curve("sigmoid", 0.1, 16)])
        outcomes = []
        pruner = make_pruner(study, 16)
        for _ in range(8):  # hyperband puts trials into brackets; not all of them stop early
            optuna_study.add_trial(curve(cell, 0.2, 0, running=True))
            slow = optuna_study.trials[-1]
            stops = []
            trials = optuna_study.trials
            if name != "median":  # rungs are on record for those that passed them
                for trial in trials[:-1]:
                    trial.system_attrs |= {
                        f"completed_rung_{rung}": trial.values[0] if trial.values else 0.2 for rung in range(4)
                    }
            view = OverlayStorage(optuna_study, trials)
            for epoch in range(1, 16):
                view.set_trial_intermediate_value(slow._trial_id, epoch, 0.2)
                stops.append(prunes(pruner, study, view, slow._trial_id))
                assert view.cell == {}, "the view is whole again"
            outcomes.append(any(stops))
            optuna_study.tell(optuna.trial.Trial(optuna_study, slow._trial_id), state=TrialState.FAIL)
        assert any(outcomes) is stopped, (name, cell)


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_by_name(name: str) -> None:
    study, entry = small_study(pruner=name), PRUNERS[name]
    made = make_pruner(study, 5)
    assert isinstance(made, getattr(optuna.pruners, entry.optuna)) if entry.optuna else made is None
    assert bool(halving_rungs(study, 5)) is bool(entry.bracket), "a bracket halves its cells itself"
    assert not (entry.optuna and entry.bracket)


def test_a_function_may_bring_any_pruner() -> None:
    own = optuna.pruners.ThresholdPruner(lower=0.5)
    assert make_pruner(small_study(pruner=lambda: own), 5) is own
    with pytest.raises(StudyError, match="pruner: the function returned int; expected a BasePruner of Optuna"):
        make_pruner(small_study(pruner=lambda: 3), 5)


def test_asha_decides_as_it_always_has_and_leaves_the_storage_alone() -> None:
    """The second best of seven in a rung stays: counted twice, as here, it is among the best quarter of eight.

    In a storage of Optuna's it would be counted once, and leave.
    """
    study, optuna_study = three_cells("asha"), optuna.create_study(direction="maximize")
    optuna_study.add_trials([curve("relu", level, 1) for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.9)])
    optuna_study.add_trial(curve("relu", 0.8, 0, running=True))
    trials = optuna_study.trials
    for trial in trials[:-1]:
        trial.system_attrs["completed_rung_0"] = trial.values[0]
    view, running = OverlayStorage(optuna_study, trials), trials[-1]._trial_id
    view.set_trial_intermediate_value(running, 1, 0.8)
    assert not prunes(make_pruner(study, 16), study, view, running)
    assert view.get_trial_system_attrs(running), "the rung is noted, in memory"
    assert optuna_study.trials[-1].system_attrs == {}


@pytest.fixture
def below() -> optuna.Study:
    """Three finished trials and a running one, in a journal."""
    made = optuna.create_study(storage=open_storage(STORAGE))
    for number in range(3):
        made.add_trial(
            create_trial(params={"x": 0.1 * number}, distributions={"x": FloatDistribution(0, 1)}, value=float(number))
        )
    made.ask()
    return made


def test_an_overlay_changes_nothing_below_it(below: optuna.Study) -> None:
    before = Path(STORAGE).read_bytes()
    overlay = OverlayStorage(below, below.trials)
    shadow = optuna.Study(below.study_name, overlay)
    trial = shadow.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    trial.set_user_attr("note", "here")
    overlay.set_trial_system_attr(trial._trial_id, "a", 1)
    overlay.set_study_system_attr(below._study_id, "b", 2)
    overlay.set_trial_intermediate_value(3, 1, 0.25)
    assert trial.number == 4
    assert [one.intermediate_values for one in shadow.trials] == [{}, {}, {}, {1: 0.25}, {1: 0.5}]
    assert overlay.get_study_system_attrs(below._study_id)["b"] == 2
    assert Path(STORAGE).read_bytes() == before
    assert below.trials[3].intermediate_values == {}


def test_an_overlay_with_a_cell_shows_that_cell_only(below: optuna.Study) -> None:
    overlay = OverlayStorage(below, below.trials)
    overlay.cell = {"x": 0.1}
    assert [trial.number for trial in overlay.get_all_trials(below._study_id)] == [1]
    assert overlay.get_best_trial(below._study_id).number == 1
    overlay.cell = {}
    assert overlay.get_best_trial(below._study_id).number == 0
    assert len(overlay.get_all_trials(below._study_id, states=(TrialState.COMPLETE,))) == 3
    assert overlay.get_n_trials(below._study_id) == 4
