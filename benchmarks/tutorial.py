"""The loop of the tutorials: torchvision's data set with its transforms, a DataLoader, one model after another.

Alone, and under Optuna with its own parallel jobs. Threads and loader as torch has them by default.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import optuna.storages.journal
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from benchmarks.problem import Data, Outcome, model, places, tensors
from searchlib import Study
from searchlib.search.samplers import suggest
from searchlib.training.stack import Member

Images = Subset[tuple[torch.Tensor, int]]


@functools.cache
def image_sets(data: Data) -> tuple[Images, Images]:
    """Training and validation images, decoded and transformed one by one whenever they are asked for."""
    held = tensors(data)
    deviation = 1.0 / (held.factor * 255.0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(-held.offset * deviation, deviation)])
    whole = datasets.FashionMNIST(str(data.root), train=True, transform=transform, download=False)
    train, validation = places(data)
    return Subset(whole, train), Subset(whole, validation)


def image_sets_ready(data: Data) -> None:
    """Read the files before the clock starts."""
    image_sets(data)


def tutorial_trial(member: Member, data: Data, epochs: int) -> list[float]:
    """One trial: its validation accuracy after each epoch."""
    config = member.config
    train, validation = image_sets(data)
    train_loader = DataLoader(train, batch_size=config.batch_size, shuffle=True)
    validation_loader = DataLoader(validation, batch_size=1000)
    network = nn.Sequential(nn.Flatten(), *model(member, tensors(data)))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), config.learning_rate, config.momentum, nesterov=config.nesterov)
    accuracy = []
    for _ in range(epochs):
        network.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
        network.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in validation_loader:
                correct += int((network(images).argmax(1) == labels).sum())
        accuracy.append(correct / len(validation))
    return accuracy


def tutorial(chosen: Sequence[Member], data: Data, epochs: int) -> Outcome:
    """The trials one after another."""
    started = time.perf_counter()
    accuracy = {member.number: tutorial_trial(member, data, epochs) for member in chosen}
    return Outcome(seconds=time.perf_counter() - started, accuracy=accuracy)


def under_optuna(study: Study, chosen: Sequence[Member], data: Data, epochs: int, jobs: int, folder: Path) -> Outcome:
    """The same as Optuna's objective, *jobs* at once in threads, as ``n_jobs`` does it; a journal file."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / "tutorial.journal"))
    )
    started = time.perf_counter()
    searched = optuna.create_study(storage=storage, direction="maximize")
    for member in chosen:
        searched.enqueue_trial({name: getattr(member.config, name) for name in study.dimensions})
    accuracy: dict[int, list[float]] = {}

    def objective(trial: optuna.Trial) -> float:
        suggest(study, trial)
        member = chosen[trial.number]
        values = tutorial_trial(member, data, epochs)
        for epoch, value in enumerate(values, start=1):
            trial.report(value, epoch)
        accuracy[member.number] = values
        return max(values)

    searched.optimize(objective, n_trials=len(chosen), n_jobs=jobs)
    return Outcome(seconds=time.perf_counter() - started, accuracy=accuracy)
