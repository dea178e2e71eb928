"""The search and the replicates' race: which trials next, trained, recorded; and what they will cost."""

from searchlib.search.optimize import search
from searchlib.search.planning import StudyPlan, plan_study

__all__ = [
    "StudyPlan",
    "plan_study",
    "search",
]
