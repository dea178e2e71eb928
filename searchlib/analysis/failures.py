"""How often the replicates of a cell fail to learn, over the units of its evidence (``Plan.unit``).

Values of a cell by replicate, as in ``comparison``: None for one that diverged or learnt nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from searchlib.analysis.spending import Plan


def failure_rates(found: Mapping[int, float | None], plan: Plan) -> list[float]:
    """The share of the replicates that failed to learn, in each unit of a cell."""
    grouped: dict[int, list[bool]] = {}
    for replicate, value in found.items():
        grouped.setdefault(plan.unit(replicate), []).append(value is None)
    return [sum(failed) / len(failed) for failed in grouped.values()]


def failures_p(one: Mapping[int, float | None], other: Mapping[int, float | None], plan: Plan) -> float | None:
    """Two-sided p of Fisher's exact test that both cells fail to learn equally often; None where neither ever fails.

    Over units, since seeds of one search share its configuration: a search fails where more than half of its seeds do.
    So four searches of four against none of four have p = 0.029, however many seeds they have, and three of three 0.1.
    """
    import numpy as np
    from scipy.stats import fisher_exact

    rates = [failure_rates(found, plan) for found in (one, other)]
    if not any(map(any, rates)):
        return None
    counts = [[sum(rate > 0.5 for rate in of), sum(rate <= 0.5 for rate in of)] for of in rates]
    return float(fisher_exact(np.array(counts)).pvalue)
