"""What comes of a finished study: the one test evaluation, the champion, tables, checks."""

from searchlib.results.prediction import predict
from searchlib.results.table import export
from searchlib.results.verification import repair, verify

__all__ = [
    "export",
    "predict",
    "repair",
    "verify",
]
