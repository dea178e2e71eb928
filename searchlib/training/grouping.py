"""Which trials train as one stack.

It follows from the trials and the kind of device alone, not from the speed or the cores of a machine: the same stacks
are formed again after an interruption, and by whoever repeats the study.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise

from searchlib.data import Dataset
from searchlib.networks import OPTIMIZERS
from searchlib.study import TrialConfig
from searchlib.training.network import layer_sizes
from searchlib.training.run import Task

MAX_STACK = 40  # trials in one stack: beyond this nothing is gained, and a kill loses more
MIN_STACK = 4
CPU_WEIGHTS = 1_500_000  # of a stack, on a CPU core: more of them, with momenta and gradients, leave its caches


def fusion_key(config: TrialConfig) -> tuple[Hashable, ...]:
    """Trials with equal keys can train as one stack (on the same data)."""
    return (
        config.widths,
        config.batch_size,
        config.epochs,
        config.optimizer,
        *(getattr(config, name) for name in OPTIMIZERS[config.optimizer].shared),
        config.dropout > 0.0,
        config.batch_norm,
        config.input_scaling,
        config.precision,
    )


def stack_size(config: TrialConfig, dataset: Dataset, device: str) -> int:
    """The most trials of one stack: on a CPU as many as the caches of a core hold (``make bench`` draws it)."""
    if not device.startswith("cpu"):
        return MAX_STACK
    sizes = layer_sizes(config, dataset.inputs, dataset.outputs)
    weights = sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
    return min(max(CPU_WEIGHTS // weights, MIN_STACK), MAX_STACK)


def group(tasks: Sequence[Task], size: Callable[[TrialConfig], int], *, at_least: int = 1) -> Iterator[list[Task]]:
    """Tasks of equal fusion keys together, in even parts. size: the most tasks of such a part, by their configuration.

    at_least: make so many parts of about one size, if there are as many tasks.
    """
    most = max(-(-len(tasks) // at_least), 1)
    groups: dict[Hashable, list[Task]] = {}
    for task in tasks:
        groups.setdefault(fusion_key(task.config), []).append(task)
    for alike in groups.values():
        parts = -(-len(alike) // min(size(alike[0].config), most))
        length = -(-len(alike) // parts)
        yield from (alike[start : start + length] for start in range(0, len(alike), length))
