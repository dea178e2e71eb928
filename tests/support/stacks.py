"""Stacks of a small study on digits, to be trained without a search."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import torch

from searchlib import MLP, Choice, Examples, LogUniform, Study
from searchlib.data import Split
from searchlib.search.samplers import ask_round
from searchlib.search.trainer import task_of
from searchlib.training import Engine, StackRun, Task


def digits_study(**changes) -> Study:
    settings = {
        "question": "Which activation?",
        "dataset": "digits",
        "model": MLP(hidden=(16,)),
        "scientific": {"activation": Choice("relu", "tanh", "prelu", "rrelu")},
        "nuisance": {"learning_rate": LogUniform(0.01, 0.1)},
        "fixed": {"epochs": 4, "momentum": 0.9, "lr_decay": 0.9},
        "trials": 8,
        "eval_every": 4,
    }
    return Study(**{**settings, **changes})


def some_data(inputs: int = 64) -> Split:
    generator = torch.Generator().manual_seed(1)
    examples = torch.rand(400, inputs, generator=generator)
    targets = (examples @ torch.randn(inputs, 10, generator=generator)).argmax(dim=1)
    return Split(
        train=Examples(inputs=examples[:300], targets=targets[:300]),
        validation=Examples(inputs=examples[300:], targets=targets[300:]),
        seed=0,
        fraction=0.25,
    )


def tasks_of(study: Study) -> list[Task]:
    made = optuna.create_study(direction="maximize")
    return [task_of(study, trial) for trial in ask_round(study, made, range(study.trials))]


def stacks_of(study: Study, data: Split | None = None) -> Iterator[StackRun]:
    engine = Engine(study, data or some_data(), "cpu")
    for group in engine.group(tasks_of(study)):
        yield engine.start(group, keeps=lambda run, value: False)


def one_stack(study: Study) -> StackRun:
    return Engine(study, some_data(), "cpu").start(tasks_of(study), keeps=lambda run, value: True)


def finish(stack: StackRun) -> StackRun:
    while stack.alive:
        stack.advance()
    return stack


def curves(stacks: list[StackRun]) -> dict[int, list[tuple[float, ...]]]:
    return {
        run.number: [(point["train_loss"], point["val_loss"], point["val_accuracy"]) for point in run.curves]
        for stack in stacks
        for run in stack.runs.values()
    }
