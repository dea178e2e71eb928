"""What comes of a finished study: the one test evaluation, the champion, tables, checks."""

from searchlib.results.holdout import champion_network, evaluate
from searchlib.results.prediction import predict
from searchlib.results.table import export, trial_frame
from searchlib.results.verification import repair, verify

__all__ = [
    "champion_network",
    "evaluate",
    "export",
    "predict",
    "repair",
    "trial_frame",
    "verify",
]
