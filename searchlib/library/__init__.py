"""searchlib from Python: ``optimize`` answers the question of a study, ``result`` reads what is stored of it.

    import searchlib

    result = searchlib.optimize("init_vs_act")
    print(result.answer)

Importing this module is cheap; torch, Optuna, MLflow and pandas are imported when they are needed.
"""

from typing import TYPE_CHECKING

from searchlib.library.calls import answers, begun, optimize, planned, published_together, result, together
from searchlib.library.objects import Result, Results

if TYPE_CHECKING:
    from searchlib.search import StudyPlan as StudyPlan

__all__ = ["Result", "Results", "answers", "begun", "optimize", "planned", "published_together", "result", "together"]
