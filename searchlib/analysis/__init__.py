"""What finished trials say: statistics, the race, findings, the answer. Pure: trials in, findings out."""

from searchlib.analysis.analysis import analyze
from searchlib.analysis.comparison import Comparison
from searchlib.analysis.edges import Edge
from searchlib.analysis.findings import Budget, CellComparison, CellFinding, Findings, Optimism, RaceState, Winner
from searchlib.analysis.published import PublishedFinding, beside_published, published_runs
from searchlib.analysis.race import looks, next_runs
from searchlib.analysis.standing import (
    Cell,
    Stored,
    TrialCounts,
    best_trial,
    cells,
    champion,
    claimed_or_leading,
    outcome,
    possible_champions,
)
from searchlib.analysis.statistics import Effect, proportion_interval, r_squared
from searchlib.analysis.status import BestTrial, CellStatus, ReplicateStatus, SearchStatus, Status, study_status

__all__ = [
    "BestTrial",
    "Budget",
    "Cell",
    "CellComparison",
    "CellFinding",
    "CellStatus",
    "Comparison",
    "Edge",
    "Effect",
    "Findings",
    "Optimism",
    "PublishedFinding",
    "RaceState",
    "ReplicateStatus",
    "SearchStatus",
    "Status",
    "Stored",
    "TrialCounts",
    "Winner",
    "analyze",
    "beside_published",
    "best_trial",
    "cells",
    "champion",
    "claimed_or_leading",
    "looks",
    "next_runs",
    "outcome",
    "possible_champions",
    "proportion_interval",
    "published_runs",
    "r_squared",
    "study_status",
]
