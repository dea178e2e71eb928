"""Networks measured on examples: what the champion and the replicates have in common."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

from searchlib.analysis import proportion_interval, r_squared
from searchlib.data import Examples
from searchlib.study import Study
from searchlib.training import Restored, available_cores

if TYPE_CHECKING:
    import torch

BLOCK = 1000  # examples that go through a network at once
Figures: TypeAlias = "tuple[float, int | None]"
"""The mean loss (cross-entropy, or squared error) and, for a classification, the number classified correctly."""


def measure(network: torch.nn.Module, examples: Examples) -> dict[str, Any]:
    """The figures of a ``TestResult`` that depend on the network, by name. network: from raw inputs to outputs."""
    import torch

    outputs, targets = _outputs(network, examples.inputs), examples.targets
    loss, correct = _figures(outputs, targets)
    if correct is None:
        r2 = r_squared(outputs, targets)
        return {"loss": loss, "accuracy": None, "correct": None, "low": None, "high": None, "r2": r2}
    predicted, classes = outputs.argmax(dim=1), outputs.shape[1]
    low, high = proportion_interval(correct, len(targets))
    return {
        "loss": loss,
        "accuracy": correct / len(targets),
        "correct": correct,
        "low": low,
        "high": high,
        "confusion": torch.bincount(targets * classes + predicted, minlength=classes**2).view(classes, -1).tolist(),
    }


def measure_many(networks: Sequence[Restored], examples: Examples, *, side_by_side: bool) -> list[Figures | None]:
    """The figures of each network, the same as alone; None of one whose module raises an exception.

    Networks of one input scaling share the scaled inputs. side_by_side: a network on each core, one thread each; not
    for code of the study's own, which may draw from torch's one global generator.
    """
    from searchlib.training.loop import denormals_flushed

    found: list[Figures | None] = [None] * len(networks)
    for scaling in dict.fromkeys(network.scaling for network in networks):
        places = [place for place, network in enumerate(networks) if network.scaling == scaling]
        inputs = examples.inputs.float() * scaling[0] + scaling[1]

        def figures(place: int, inputs: torch.Tensor = inputs) -> Figures | None:
            try:
                return _figures(_outputs(networks[place].module, inputs, seeded=not side_by_side), examples.targets)
            except Exception:  # the module is code of the study's own
                return None

        with denormals_flushed():  # as in training: networks whose signals vanish take many times longer otherwise
            results = _on_all_cores(figures, places) if side_by_side else [figures(place) for place in places]
        for place, result in zip(places, results, strict=True):
            found[place] = result
    return found


def _on_all_cores(call: Callable[[int], Figures | None], places: Sequence[int]) -> list[Figures | None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the threads of the pool copy it when they start
    pool = ThreadPoolExecutor(available_cores())
    try:
        return list(pool.map(call, places))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _outputs(network: torch.nn.Module, inputs: torch.Tensor, *, seeded: bool = True) -> torch.Tensor:
    """Outputs in float64. seeded: functions that draw random numbers draw as in each evaluation of a stack."""
    import torch

    from searchlib.training.elementwise import drawing_in_evaluation

    with torch.no_grad(), drawing_in_evaluation() if seeded else contextlib.nullcontext():
        return torch.cat([network(block).float() for block in inputs.split(BLOCK)]).double()


def _figures(outputs: torch.Tensor, targets: torch.Tensor) -> Figures:
    import torch

    if targets.is_floating_point():
        return float((outputs - targets).square().mean()), None
    loss = float(torch.nn.functional.cross_entropy(outputs, targets))
    return loss, int((outputs.argmax(dim=1) == targets).sum())


def is_as_noted(study: Study, found: float, noted: float, count: int) -> bool:
    """Whether a restored network has about the validation metric that the search noted, over *count* examples.

    Round-off of another device and random numbers that a module draws are no difference: accuracies may differ by three
    standard deviations and 0.02, losses by a fifth.
    """
    room = 0.2 * max(noted, found) + 1e-6
    if study.metric == "val_accuracy":
        room = 0.02 + 3 * math.sqrt(0.5 / count)
    return abs(found - noted) <= room
