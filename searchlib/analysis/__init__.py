"""What finished trials say: statistics, the race, findings, the answer. Pure: trials in, findings out."""

from searchlib.analysis.across import Across, compare_across
from searchlib.analysis.analysis import analyze
from searchlib.analysis.examples import correct_examples
from searchlib.analysis.findings import Budget, CellFinding, Findings
from searchlib.analysis.on_test_set import TestByCell, counted_reasons, replicates_to_test
from searchlib.analysis.published import PublishedFinding, beside_published, published_runs
from searchlib.analysis.race import LEAST_SEEDS, next_runs
from searchlib.analysis.resampling import drawn_split, error_factor, split_number
from searchlib.analysis.standing import (
    ENQUEUED,
    SEARCH,
    UNLEARNT,
    Cell,
    CellKey,
    best_trial,
    cells,
    champion,
    claimed_or_leading,
    is_enqueued,
    outcome,
    plan,
    possible_champions,
    race_is_over,
    raced_cells,
    replicate_values,
    search_of,
    sources,
    split_of,
    trials_wanted,
)
from searchlib.analysis.statistics import proportion_interval, r_squared
from searchlib.analysis.status import Status, study_status

__all__ = [
    "ENQUEUED",
    "LEAST_SEEDS",
    "SEARCH",
    "UNLEARNT",
    "Across",
    "Budget",
    "Cell",
    "CellFinding",
    "CellKey",
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
    "compare_across",
    "correct_examples",
    "counted_reasons",
    "drawn_split",
    "error_factor",
    "is_enqueued",
    "next_runs",
    "outcome",
    "plan",
    "possible_champions",
    "proportion_interval",
    "published_runs",
    "r_squared",
    "race_is_over",
    "raced_cells",
    "replicate_values",
    "replicates_to_test",
    "search_of",
    "sources",
    "split_number",
    "split_of",
    "study_status",
    "trials_wanted",
]
