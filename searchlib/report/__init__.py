"""The report of a study: what it is made from, its figures, its page."""

from searchlib.report.across import across_json, draw_ranks, publish_across, render_across
from searchlib.report.exhibits import figures
from searchlib.report.initialization import diagnose
from searchlib.report.material import Material, gather, statistics
from searchlib.report.page import publish, render

__all__ = [
    "Material",
    "across_json",
    "diagnose",
    "draw_ranks",
    "figures",
    "gather",
    "publish",
    "publish_across",
    "render",
    "render_across",
    "statistics",
]
