"""The problem that all contenders are given: trials of MLP 784-100-10 on FashionMNIST, and their arithmetic.

Every contender starts a trial from the same weights, and those that hold the data in memory see the same batches.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.measuring import ROOT
from searchlib import Choice, LogUniform, Study
from searchlib.data.dataset import Dataset, Examples
from searchlib.data.datasets import get_dataset, load_train
from searchlib.data.splits import Split, split
from searchlib.search.design import Design
from searchlib.seeds import derive_seed, trial_seed
from searchlib.study.loading import load_study
from searchlib.training.engine import Engine
from searchlib.training.loop import Tensors
from searchlib.training.network import build_mlp, initialize, layer_sizes
from searchlib.training.run import Task
from searchlib.training.stack import Member

if TYPE_CHECKING:
    from searchlib.study.config import TrialConfig

BATCH_SIZES = (32, 64, 128, 256)


@dataclass(frozen=True)
class Data:
    """The first so many of FashionMNIST's 60,000 training images; five sixths are trained on, the rest validates."""

    root: Path
    images: int = 60_000

    @property
    def title(self) -> str:
        cut = examples(self)
        return f"{len(cut.train):,} training and {len(cut.validation):,} validation images"

    @property
    def dataset(self) -> Dataset:
        """As a study takes it."""
        whole = get_dataset("fashion_mnist")
        return dataclasses.replace(whole, train=First(whole.train, self.images))


@dataclass(frozen=True)
class First:
    """Reads the first *count* examples of a data set's part."""

    part: Callable[[Path], Examples]
    count: int

    def __call__(self, root: Path) -> Examples:
        everything = self.part(root)
        return Examples(inputs=everything.inputs[: self.count], targets=everything.targets[: self.count])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of a contender took and reached. accuracy: on the validation images after each epoch, by trial."""

    seconds: float
    accuracy: dict[int, list[float]]

    @property
    def trial_epochs(self) -> int:
        return sum(map(len, self.accuracy.values()))

    @property
    def per_trial_epoch(self) -> float:
        return self.seconds / self.trial_epochs


def init_vs_act() -> Study:
    """One search of the study that the project ships, all trials to their end, without replicates."""
    whole = load_study("init_vs_act", ROOT / "studies")
    return dataclasses.replace(whole, searches=1, trials=288, pruner="none", replicates=0)


def mixed_study(*, epochs: int) -> Study:
    """48 trials of init_vs_act's kind: each of its batch sizes with 12 cells, at rates at which nothing diverges.

    The learning rate is constant: the accuracy after the first epoch doesn't depend on how many follow.
    """
    whole = init_vs_act()
    study = dataclasses.replace(
        whole,
        question="How long do 48 trials take?",
        scientific={**whole.scientific, "initializer": Choice("xavier_normal", "kaiming_normal")},
        nuisance={"learning_rate": LogUniform(0.003, 0.03), "batch_size": Choice(*BATCH_SIZES)},
        fixed={**whole.fixed, "lr_schedule": "constant", "epochs": epochs},
        trials=48,
        round_size=48,
        name="mixed",
    )
    sizes = [member.config.batch_size for member in members(study)]
    assert all(sizes.count(size) == 12 for size in BATCH_SIZES), "the first four Sobol points have a batch size each"
    return study


def one_batch_size(batch_size: int, *, cells: int, epochs: int) -> Study:
    """One point in *cells* cells of init_vs_act: one stack, as the study itself makes them."""
    whole = init_vs_act()
    return dataclasses.replace(
        whole,
        nuisance={"learning_rate": LogUniform(0.003, 0.03)},
        fixed={**whole.fixed, "batch_size": batch_size, "epochs": epochs},
        trials=cells,
        name=f"batch{batch_size}",
    )


def tasks(study: Study) -> list[Task]:
    """The study's first trials, as the search would ask them."""
    design, made = Design(study), []
    for number in range(study.trials):
        params = design[number]
        config = study.config(params)
        made.append(
            Task(
                number=number,
                trial_id=number,
                params=params,
                config=config,
                seed=trial_seed(study.seed, number),
                order_seed=study.seed,
                signature=config.signature,
            )
        )
    return made


def members(study: Study) -> list[Member]:
    """The same trials: number, configuration and seed."""
    return [Member(task.number, task.config, task.seed) for task in tasks(study)]


@functools.cache
def examples(data: Data) -> Split:
    """The images, split as searchlib splits them."""
    return _split(load_train(data.dataset, data.root))


@functools.cache
def places(data: Data) -> tuple[list[int], list[int]]:
    """Where the training and the validation images of ``examples`` are in the stored order."""
    targets = load_train(data.dataset, data.root).targets
    cut = _split(Examples(inputs=torch.arange(len(targets)), targets=targets))
    return cut.train.inputs.tolist(), cut.validation.inputs.tolist()


def _split(everything: Examples) -> Split:
    study = init_vs_act()
    return split(everything, seed=study.split_seed, fraction=study.validation_fraction)


@functools.cache
def tensors(data: Data) -> Tensors:
    """The images as standardized tensors in memory."""
    return engine(init_vs_act(), data).data("standard")


def engine(study: Study, data: Data) -> Engine:
    """searchlib's engine for *study* on these images."""
    return Engine(dataclasses.replace(study, dataset=data.dataset), examples(data), "cpu")


def model(member: Member, data: Tensors) -> torch.nn.Sequential:
    """The plain network of a trial, for flat inputs, with the weights that searchlib gives it."""
    inputs, outputs = data.train_inputs.shape[1], get_dataset("fashion_mnist").outputs
    module = build_mlp(member.config, inputs, outputs)[1:]  # without Flatten
    generator = torch.Generator().manual_seed(member.seed)
    drawn = initialize(
        member.config,
        layer_sizes(member.config, inputs, outputs),
        generator=generator,
        probe=data.probe,
        dtype=data.train_inputs.dtype,
    )
    with torch.no_grad():
        for index, (weight, bias) in enumerate(drawn):
            module.get_parameter(f"linear{index}.weight").copy_(weight)
            module.get_parameter(f"linear{index}.bias").copy_(bias)
    return module


def order(seed: int, epoch: int, count: int) -> torch.Tensor:
    """The order of the examples in an epoch, as searchlib's loop draws it."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch)))


def one_a_batch_size(chosen: Sequence[Member], turn: int) -> list[Member]:
    """The trial number *turn*, counted round, of each batch size: the mix, for contenders that take long."""
    groups = [[member for member in chosen if member.config.batch_size == size] for size in BATCH_SIZES]
    return [group[turn % len(group)] for group in groups]


def slowest_first(chosen: Sequence[Member]) -> list[Member]:
    """By batch size: trials handed out in this order end at about the same time on all cores."""
    return sorted(chosen, key=lambda member: member.config.batch_size)


def flops(config: TrialConfig, *, train: int, validation: int, inputs: int = 784, outputs: int = 10) -> int:
    """Floating-point operations of one trial-epoch's matrix products, a multiplication and an addition being two.

    Training: each layer's forward product and its weight's gradient; the gradient that goes on to the layer below
    exists from the second layer on. Validation: the forward product. Everything else counts as nothing.
    """
    products = [fan_in * fan_out for fan_in, fan_out in pairwise(layer_sizes(config, inputs, outputs))]
    training = 2 * sum(products) + sum(products[1:])
    return 2 * (train * training + validation * sum(products))
