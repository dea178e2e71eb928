"""What finished trials say: statistics, the race, the answer. Pure: data in, findings out."""

from searchlib.analysis.findings import analyze
from searchlib.analysis.race import looks, next_runs
from searchlib.analysis.standing import best_trial, cells, champion, outcome, study_status
from searchlib.analysis.statistics import mean_interval, prediction_interval, proportion_interval

__all__ = [
    "analyze",
    "best_trial",
    "cells",
    "champion",
    "looks",
    "mean_interval",
    "next_runs",
    "outcome",
    "prediction_interval",
    "proportion_interval",
    "study_status",
]
