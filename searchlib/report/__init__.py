"""The report of a study: what it is made from, its figures, its page."""

from searchlib.report.initialization import diagnose
from searchlib.report.material import statistics
from searchlib.report.page import publish

__all__ = [
    "diagnose",
    "publish",
    "statistics",
]
