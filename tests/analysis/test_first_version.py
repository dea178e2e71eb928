"""What the first version said of stored trials is said still."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
from support import STORAGE, small_study
from support.trials import ledger, race, search_trials, store, trial

from searchlib.analysis import analyze, study_status
from searchlib.stores import Stores

KNOWN = json.loads(Path(__file__).with_name("findings.json").read_text(encoding="utf-8"))


def in_order(value, number=float):
    """Objects as lists of pairs, so that the order of their keys counts. number: what becomes of floats."""
    if isinstance(value, dict):
        return [(key, in_order(item, number)) for key, item in value.items()]
    if isinstance(value, list):
        return [in_order(item, number) for item in value]
    return number(value) if isinstance(value, float) else value


def as_before(found, known):
    """What of *found* the first version had, too: its keys, in their order."""
    if isinstance(found, dict) and isinstance(known, dict) and known:
        return {key: as_before(item, known[key]) for key, item in found.items() if key in known}
    if isinstance(found, list) and isinstance(known, list):
        return [as_before(*pair) for pair in zip(found, known, strict=False)] + found[len(known) :]
    return found


def test_the_json_holds_that_of_the_first_version() -> None:
    """findings.json: what version 0.1 made of the same trials; the test result, the race and all keys among it.

    One cell diverged, one is at an edge. Variances of comparisons are moderated since, p of effects is by permutation,
    and one search is said.
    """
    study = small_study(replicates=10)
    trials = search_trials(values=(0.90, 0.88, 0.898, 0.30))
    trials.append(trial({**trials[0].params, "learning_rate": 0.9}, 0.91))
    words = ["diverged at step 3: the loss became infinite or NaN"]
    trials.append(trial({**trials[1].params, "learning_rate": 0.9}, 1 / 3, "diverged", diagnosis=words))
    trials.append(trial({**trials[2].params, "learning_rate": 0.9}, 0.4, "pruned"))
    repeated = [
        trial(
            {**trials[source].params, "replicate": replicate},
            trials[source].values[0] - 0.01 + 0.004 * math.sin(7 * source + 3 * replicate),
            source=source,
        )
        for source, seeds in ((12, 10), (5, 5), (6, 10), (7, 5))
        for replicate in range(1, seeds + 1)
    ]
    store(study, trials, repeated, race(10, [12, 5, 6, 7], [12, 6]), test_ledger=ledger(12))
    stored = Stores(STORAGE).read(study)
    found = {"report": analyze(study, stored).to_json(), "status": study_status(study, stored).to_json()}
    known = copy.deepcopy(KNOWN)
    found = as_before(json.loads(json.dumps(found)), known)
    assert found["report"]["notes"].pop().startswith("one search: ")
    for made in (found["report"], known["report"]):
        for one in made["effects"]:
            del one["p"]
        for one in made["comparisons"]:
            del one["low"], one["high"], one["p"], one["adjusted_p"]
        assert made.pop("answer")
        assert sum(made["importances"].values()) == pytest.approx(1.0)
        made["importances"] = sorted(made["importances"])  # of a random forest of scikit-learn's
    assert in_order(found) == in_order(known, pytest.approx)
