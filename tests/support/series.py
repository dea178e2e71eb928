"""Values of a cell by replicate, as the statistics take them."""

from __future__ import annotations

import numpy as np


def series(*numbers: float) -> dict[int, float]:
    return dict(enumerate(numbers, start=1))


def noisy(rng: np.random.Generator, seeds: int, center: float = 0.0) -> dict[int, float]:
    return series(*(center + rng.standard_normal(seeds)).tolist())
