"""The report of a study: what it is made from, its figures, its page."""

from searchlib.report.exhibits import figures
from searchlib.report.initialization import diagnose
from searchlib.report.material import Material, gather, statistics
from searchlib.report.page import publish, render

__all__ = [
    "Material",
    "diagnose",
    "figures",
    "gather",
    "publish",
    "render",
    "statistics",
]
