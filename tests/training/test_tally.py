"""What an epoch's steps gave, summed up in bulk as it would be step by step."""

from __future__ import annotations

import math

import pytest
import torch

from searchlib.training.tally import STEPS_AT_ONCE, Tally


@pytest.mark.parametrize("steps", [1, 2, STEPS_AT_ONCE, STEPS_AT_ONCE + 1, 2 * STEPS_AT_ONCE + 5])
def test_as_step_by_step(steps: int) -> None:
    generator = torch.Generator().manual_seed(2)
    sizes = [7] * (steps - 1) + [3]
    losses = [torch.rand(4, size, generator=generator) for size in sizes]
    right = [torch.rand(4, size, generator=generator) < 0.4 for size in sizes]
    losses[-1][1, 2] = math.nan
    losses[0][2, 0] = math.inf
    tally = Tally()
    for step in zip(losses, right, strict=True):
        tally.add(*step)
    summed, counted = tally.sums()
    for step in range(steps):
        for k in range(4):
            if step == steps - 1 and k == 1:
                assert math.isnan(summed[step, k])
            else:
                assert summed[step, k].item() == pytest.approx(math.fsum(losses[step][k].tolist()), rel=1e-14)
    expected = [(told & ~loss.isnan()).sum(dim=1).tolist() for loss, told in zip(losses, right, strict=True)]
    assert counted is not None
    assert counted.tolist() == expected


def test_real_targets_have_no_right_examples() -> None:
    tally = Tally()
    for size in (5, 5, 2):
        tally.add(torch.ones(2, size), None)
    summed, counted = tally.sums()
    assert summed.tolist() == [[5.0, 5.0], [5.0, 5.0], [2.0, 2.0]]
    assert counted is None
