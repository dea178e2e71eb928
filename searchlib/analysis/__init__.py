"""What finished trials say: statistics, the race, findings, the answer. Pure: trials in, findings out."""

from searchlib.analysis.analysis import analyze
from searchlib.analysis.findings import CellFinding, Findings
from searchlib.analysis.on_test_set import TestByCell, counted_reasons, replicates_to_test
from searchlib.analysis.published import PublishedFinding, beside_published, published_runs
from searchlib.analysis.race import looks, next_runs
from searchlib.analysis.standing import (
    ENQUEUED,
    best_trial,
    cells,
    champion,
    claimed_or_leading,
    is_enqueued,
    outcome,
    possible_champions,
    trials_wanted,
)
from searchlib.analysis.statistics import proportion_interval, r_squared
from searchlib.analysis.status import Status, study_status

__all__ = [
    "ENQUEUED",
    "CellFinding",
    "Findings",
    "PublishedFinding",
    "Status",
    "TestByCell",
    "analyze",
    "beside_published",
    "best_trial",
    "cells",
    "champion",
    "claimed_or_leading",
    "counted_reasons",
    "is_enqueued",
    "looks",
    "next_runs",
    "outcome",
    "possible_champions",
    "proportion_interval",
    "published_runs",
    "r_squared",
    "replicates_to_test",
    "study_status",
    "trials_wanted",
]
