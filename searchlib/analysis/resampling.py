"""Values measured on splits that share examples: their mean is less certain than that of independent values.

With ``replicate_split`` each replicate draws which of the same examples it trains on and which validate it, and with
``search_split`` each search does. Two such splits have most training examples in common, so the values measured on them
are correlated, and more splits lower the variance of their mean by less than they would if each had data of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from searchlib.data import redraw

if TYPE_CHECKING:
    from searchlib.data import Split
    from searchlib.study import Study


def split_number(study: Study, *, search: int, replicate: int | None) -> int:
    """Which split a trial of *search*, or its *replicate*, has: its number among those drawn; 0 is the study's own.

    The replicates of a search have the search's split.
    """
    if study.replicate_split:
        return replicate or 0
    if not study.search_split:
        return 0
    return search if replicate is None else (replicate - 1) % study.searches + 1


def drawn_split(study: Study, examples: Split, number: int) -> Split:
    """The split of that number (``split_number``). examples: the study's own."""
    if number == 0:
        return examples
    drawn_by = "replicate" if study.replicate_split else "search"
    return redraw(examples, split_seed=study.split_seed, drawn_by=drawn_by, number=number)


def split_overlap(study: Study) -> float:
    """How strongly the splits of the units overlap: validation over training examples, n_val / n_train.

    0 where all units have one split: what is claimed is then about this split, and given it their values are
    independent. With ``replicate_split`` or ``search_split`` it is about the population that the examples come from.
    """
    if not (study.replicate_split or study.search_split):
        return 0.0
    return study.validation_fraction / (1.0 - study.validation_fraction)


def error_factor(count: int, overlap: float) -> float:
    """The standard error of the mean of *count* values over their standard deviation: sqrt(1 / count + *overlap*).

    Nadeau & Bengio 2003, Inference for the Generalization Error, section 4.1: the corrected resampled t test. It takes
    the correlation of the values of two splits to be n_val / (n_val + n_train), which can't be estimated from one data
    set (Bengio & Grandvalet 2004); the degrees of freedom stay *count* - 1. *overlap* 0: of independent values.
    """
    return math.sqrt(1.0 / count + overlap)
