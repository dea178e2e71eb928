"""What finished trials say: statistics, the race, findings, the answer. Pure: trials in, findings out."""

from searchlib.analysis.analysis import analyze
from searchlib.analysis.examples import correct_examples
from searchlib.analysis.findings import CellFinding, Findings
from searchlib.analysis.published import PublishedFinding, beside_published, published_runs
from searchlib.analysis.race import looks, next_runs
from searchlib.analysis.resampling import split_overlap
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
    "analyze",
    "beside_published",
    "best_trial",
    "cells",
    "champion",
    "claimed_or_leading",
    "correct_examples",
    "is_enqueued",
    "looks",
    "next_runs",
    "outcome",
    "possible_champions",
    "proportion_interval",
    "published_runs",
    "r_squared",
    "split_overlap",
    "study_status",
    "trials_wanted",
]
