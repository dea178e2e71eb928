"""Trials, replicates and races made by hand, as a search would have stored them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from searchlib import Choice, Study
from searchlib.stores.storage import open_storage
from support import STORAGE, small_study

STATES = {
    "completed": TrialState.COMPLETE,
    "diverged": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}
BEST = [4, 5, 6, 7]  # the second point of each cell


def distribution(name: str, value):
    if name == "replicate":
        return IntDistribution(1, 1000)
    if isinstance(value, float):
        return FloatDistribution(1e-6, 1e3, log=True)
    if isinstance(value, int) and not isinstance(value, bool):
        return IntDistribution(0, 10_000)
    return CategoricalDistribution(
        ("xavier_normal", "normal", "tanh", "relu", "sgd", "adam", None, True, False, "elu", "gelu")
    )


def trial(params: dict, value: float | None, outcome: str = "completed", **attributes):
    attributes = {"seed": 1, "signature": "0", **({"batch": 0} if "replicate" in params else {}), **attributes}
    return create_trial(
        state=STATES[outcome],
        value=value,
        params=params,
        distributions={name: distribution(name, one) for name, one in params.items()},
        user_attrs=attributes if outcome == "running" else {"outcome": outcome, **attributes},
    )


def numbered(number: int, params: dict, **attributes):
    """A running trial of that number."""
    kinds = {name: CategoricalDistribution((value,)) for name, value in params.items()}
    made = create_trial(state=TrialState.RUNNING, params=params, distributions=kinds, user_attrs=attributes)
    made.number = number
    return made


def store(study: Study, trials, replicates=(), race: dict | None = None, **attributes) -> None:
    storage = open_storage(STORAGE)
    made = optuna.create_study(study_name=study.name, storage=storage, direction=study.direction)
    made.set_user_attr("definition", study.definition())
    made.add_trials(trials)
    for name, value in attributes.items():
        made.set_user_attr(name, value)
    if replicates or race:
        fresh = optuna.create_study(study_name=f"{study.name}.replicates", storage=storage, direction=study.direction)
        fresh.add_trials(replicates)
        if race:
            fresh.set_user_attr("race", race)


def search_trials(values=(0.90, 0.85, 0.89, 0.30)):
    """Two by two cells, in the order of small_study's, three points each; the second is the best."""
    found = []
    for point, less in enumerate((0.02, 0.0, 0.05)):
        for cell, value in zip(small_study().cells, values, strict=True):
            found.append(trial({**cell, "learning_rate": 0.05 * (point + 1), "batch_size": 16}, value - less))
    return found


def replicates_of(trials, sources, seeds, rng, sd=0.01, first=1):
    return [
        trial(
            {**trials[source].params, "replicate": replicate},
            trials[source].values[0] + sd * float(rng.standard_normal()),
            source=source,
        )
        for replicate in range(first, seeds + 1)
        for source in sources
    ]


def store_searches(
    cells: Mapping[str, Sequence[tuple[float, float, Sequence[float | None]]]],
    *,
    tested: Mapping[str, float] | None = None,
    batch_size: int = 16,
    **changes,
) -> Study:
    """A finished study of these activations, each with what its searches found.

    That is for each search the learning rate, the value in the search, and those of its fresh seeds, None for a
    replicate that diverged. tested: how much better than on validation data the replicates of each cell are on the test
    set; None where that is sealed.
    """
    count = len(next(iter(cells.values())))
    settings = {"scientific": {"activation": Choice(*cells)}, "searches": count, "trials": count * len(cells)}
    seeds = max(len(values) for found in cells.values() for _, _, values in found)
    study = small_study(**settings, replicates=count * seeds, **changes)
    order = [(search, cell) for search in range(count) for cell in cells]
    params = [
        {"activation": cell, "learning_rate": cells[cell][search][0], "batch_size": batch_size}
        for search, cell in order
    ]
    trials = [
        trial(params[number], cells[cell][search][1], search=search + 1) for number, (search, cell) in enumerate(order)
    ]
    repeated = [
        trial(
            {**params[number], "replicate": 1 + search + turn * count},
            0.33 if one is None else one,
            "diverged" if one is None else "completed",
            source=number,
        )
        for number, (search, cell) in enumerate(order)
        for turn, one in enumerate(cells[cell][search][2])
    ]
    rows = [
        [number, "0", 0.1, round(10_000 * (one.values[0] + tested[one.params["activation"]]))]
        for number, one in enumerate(repeated)
        if tested and one.user_attrs["outcome"] == "completed"
    ]
    opened = {"test_ledger": {**ledger(0), "replicates": rows}} if tested else {}
    store(study, trials, repeated, race(count * seeds, range(len(trials)), looks=(count * seeds,)), **opened)
    return study


def race(seeds: int, candidates, contenders=None, *, looks=(5, 10), finished: bool = True) -> dict:
    return {
        "looks": list(looks),
        "reached": seeds,
        "candidates": list(candidates),
        "contenders": list(contenders if contenders is not None else candidates),
        "finished": finished,
    }


def ledger(trial: int) -> dict:
    """A test set that was opened for replicate 3 of a trial."""
    claim = {"trial": trial, "replicate": 3, "checkpoint_sha256": "0", "code": "1"}
    result = {
        "evaluated_at": "2026-01-02T03:04:05Z", "n": 10_000, "loss": 0.3, "accuracy": 0.88, "correct": 8800,
        "low": 0.8735, "high": 0.8862, "confusion": [[8800, 1200]], "r2": None, **claim,
    }  # fmt: skip
    times = {"claimed_at": "2026-01-02T03:04:00Z", "finished_at": "2026-01-02T03:04:05Z"}
    return {**times, "run_id": "r", **claim, "result": result}
