"""Which replicates keep their weights, for the test by cell: all of them, within a limit for each study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from searchlib.analysis import CellKey
from searchlib.study import Study

if TYPE_CHECKING:
    import torch
    from optuna.trial import FrozenTrial

MOST_BYTES = 2_000_000_000  # of the weights of a study's replicates, beside those that only the champion's choice needs


class Kept:
    """Gives the replicates of a batch the room for their weights, as far as it goes.

    Whether a replicate gets room depends on its cell and its place in the order, never on its own value: the mean on
    the test set over those that have weights would otherwise be one over selected networks. Where the room isn't enough
    for all seeds of all cells, those of the cells with the best means so far get it, as many cells as fit whole.

    batch: the trials to be trained now; stored: all replicates so far. used: the bytes that are taken.
    """

    def __init__(self, study: Study, batch: Sequence[FrozenTrial], stored: Sequence[FrozenTrial]) -> None:
        self.seeds = study.replicates
        self.used = sum(trial.user_attrs.get("kept_bytes", 0) for trial in stored)
        values: dict[CellKey, list[float]] = {study.cell_of(trial.params): [] for trial in batch}
        for trial in stored:
            if trial.values and study.cell_of(trial.params) in values:
                values[study.cell_of(trial.params)].append(trial.values[0])
        sign = -1.0 if study.direction == "maximize" else 1.0
        means = {cell: sign * math.fsum(of) / len(of) if of else math.inf for cell, of in values.items()}
        self.order = sorted(values, key=lambda cell: means[cell])  # without values as in the batch: best first

    def room_for(self, cell: CellKey, state: Mapping[str, torch.Tensor] | None) -> int | None:
        """The bytes that the weights of a replicate of *cell* take; None where there is no room."""
        if state is None:
            return None
        size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        ahead = self.order.index(cell) * self.seeds * size  # for the cells that come first
        if max(ahead + self.seeds * size, self.used + size) > MOST_BYTES:
            return None
        self.used += size
        return size
