"""Values measured on splits that share examples: their mean is less certain than that of independent values.

With ``replicate_split`` each replicate draws which of the same examples it trains on and which validate it. Two such
splits have most training examples in common, so the values of the replicates are correlated, and more replicates lower
the variance of their mean by less than they would if each had data of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searchlib.study import Study


def split_overlap(study: Study) -> float:
    """How strongly the replicates' splits overlap: validation over training examples, n_val / n_train.

    0 where all replicates have one split: what is claimed is then about this split, and given it their values are
    independent. With ``replicate_split`` it is about the population that the examples come from.
    """
    if not study.replicate_split:
        return 0.0
    return study.validation_fraction / (1.0 - study.validation_fraction)


def error_factor(count: int, overlap: float) -> float:
    """The standard error of the mean of *count* values over their standard deviation: sqrt(1 / count + *overlap*).

    Nadeau & Bengio 2003, Inference for the Generalization Error, section 4.1: the corrected resampled t test. It takes
    the correlation of the values of two splits to be n_val / (n_val + n_train), which can't be estimated from one data
    set (Bengio & Grandvalet 2004); the degrees of freedom stay *count* - 1. *overlap* 0: of independent values.
    """
    return math.sqrt(1.0 / count + overlap)
