"""Where stacks are trained: here, in this process. An ``Engine`` knows a study's network, its data and its device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from searchlib.data import Split, get_dataset
from searchlib.study import TrialRecord
from searchlib.training.precision import setting_for
from searchlib.training.run import Keeps, Run
from searchlib.training.stack_run import Setup, StackRun
from searchlib.training.workers import Workers, available_cores

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from searchlib.study import Study, TrialConfig
    from searchlib.training.loop import Tensors, Trainable
    from searchlib.training.stack import Member

__all__ = [
    "Engine",
    "chance_level",
]


MAX_STACK = 40  # trials in one stack: beyond this nothing is gained, and a kill loses more
MIN_STACK = 4
CPU_WEIGHTS = 1_500_000  # of a stack, on a CPU core: more of them, with momenta and gradients, leave its caches


class Engine:
    """Trains trials of one study on one split of its data."""

    def __init__(self, study: Study, examples: Split, device: str) -> None:
        self.study, self.examples, self.device = study, examples, device
        self.dataset = get_dataset(study.dataset)
        self.chance = chance_level(study, examples)
        self._tensors: dict[str, Tensors] = {}

    def config(self, trial: FrozenTrial) -> TrialConfig:
        """The configuration of a trial of the search, or of a replicate, which has a parameter more."""
        return self.study.config({name: value for name, value in trial.params.items() if name in self.study.dimensions})

    def group(self, trials: Sequence[FrozenTrial], *, at_least: int = 1) -> Iterator[list[FrozenTrial]]:
        """Trials that train as one: grouped by fusion key, in even parts of at most ``stack_size``.

        at_least: make so many stacks of about one size, if there are as many trials.

        It depends on the trials and the kind of device alone, not on the speed or the cores of a machine: the same
        stacks are formed again after an interruption, and by whoever repeats the study.
        """
        from searchlib.study import MLP
        from searchlib.training.stack import fusion_key

        most = max(-(-len(trials) // at_least), 1)
        groups: dict[Any, list[FrozenTrial]] = {}
        for trial in trials:
            key = fusion_key(self.config(trial)) if isinstance(self.study.model, MLP) else trial.number
            groups.setdefault(key, []).append(trial)
        for group in groups.values():
            parts = -(-len(group) // min(self.stack_size(self.config(group[0])), most))
            size = -(-len(group) // parts)
            yield from (group[start : start + size] for start in range(0, len(group), size))

    def stack_size(self, config: TrialConfig) -> int:
        """The most trials of one stack: on a CPU as many as the caches of a core hold (``make bench`` draws it)."""
        from searchlib.training.network import layer_sizes

        if not self.device.startswith("cpu"):
            return MAX_STACK
        sizes = layer_sizes(config, self.dataset.inputs, self.dataset.outputs)
        weights = sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
        return min(max(CPU_WEIGHTS // weights, MIN_STACK), MAX_STACK)

    def workers(self) -> Workers:
        """A worker a core on a CPU, each on one of torch's threads, however many cores there are.

        One worker elsewhere, and for modules and functions of a study's own: these may draw from torch's one global
        generator, and what they draw must not depend on who is first.
        """
        if self.has_own_code or not self.device.startswith("cpu"):
            return Workers(1, threads=None)
        return Workers(available_cores(), threads=1)

    def products(self, config: TrialConfig) -> str:
        """torch's setting for matrix products (``searchlib.products``).

        Its own where code of the study's own runs: while oneDNN multiplies in float32, older functions of torch that
        ask how it multiplies raise an error.
        """
        plain = config.precision == "float32" and (self.has_own_code or not self.device.startswith("cpu"))
        return "ieee" if plain else setting_for(config.precision)

    @property
    def has_own_code(self) -> bool:
        """Whether the study brings a module, activations or initializers of its own, which may do anything."""
        from searchlib.study import MLP

        return not isinstance(self.study.model, MLP) or any(
            callable(value) for name in ("activation", "initializer") for value in self._values(name)
        )

    def _values(self, name: str) -> Sequence[Any]:
        """What a hyperparameter may be in this study, where the study says it."""
        if name in self.study.dimensions:
            return self.study.dimensions[name].extremes()
        return [self.study.fixed[name]] if name in self.study.fixed else []

    def start(self, trials: Sequence[FrozenTrial], *, order_seed: int | None, keeps: Keeps) -> StackRun:
        """A stack of *trials*, which share a fusion key, before its first epoch.

        order_seed: of the order in which they see the examples; None takes each trial's own seed.
        keeps: asked whenever a run reaches a new best value; where it says yes, the weights are kept.
        """
        config = self.config(trials[0])
        self.data(config.input_scaling)  # here, once, not by several workers at the same time
        seeds = [trial.user_attrs["seed"] if order_seed is None else order_seed for trial in trials]
        runs = [Run(trial, self.config(trial), time.time(), seed) for trial, seed in zip(trials, seeds, strict=True)]
        setup = Setup(
            data=self.data,
            build=self.build,
            products=self.products(config),
            metric=self.study.metric,
            better=self.study.better,
            eval_every=self.study.eval_every,
            own_code=self.has_own_code,
            device=self.device,
            identity=self.study.identity,
            split_seed=self.examples.seed,
        )
        return StackRun(setup, runs, keeps)

    def build(self, members: list[Member], data: Tensors) -> Trainable:
        from searchlib.study import MLP
        from searchlib.training.module import ModuleStack
        from searchlib.training.network import build_module
        from searchlib.training.stack import Stack

        model = self.study.model
        if isinstance(model, MLP):
            return Stack(members, outputs=self.dataset.outputs, probe=data.probe, device=self.device)
        return ModuleStack(members, build=lambda config: build_module(model, config, self.dataset), device=self.device)

    def data(self, scaling: str) -> Tensors:
        from searchlib.study import MLP
        from searchlib.training.loop import prepare

        if scaling not in self._tensors:
            self._tensors[scaling] = prepare(
                self.examples,
                self.dataset,
                scaling,
                device=self.device,
                flatten=isinstance(self.study.model, MLP),
            )
        return self._tensors[scaling]

    def record(self, run: Run, *, keep_state: bool) -> TrialRecord:
        """What is stored of a run that ended. A diverged one scores as if nothing had been learnt."""
        from searchlib.training.symptoms import diagnose_words

        data = self.data(run.config.input_scaling)
        diagnosis = []
        if run.outcome != "failed":
            diagnosis += diagnose_words(run.config, run.diagnostics, diverged_step=run.diverged_step)
        if run.halved:
            diagnosis.append("memory was short: trained in a smaller stack than planned")
        value = self.chance if run.outcome == "diverged" or run.best is None else run.best
        return TrialRecord(
            number=run.number,
            trial_id=run.trial._trial_id,
            params=run.trial.params,
            config=run.config,
            seed=run.trial.user_attrs["seed"],
            outcome=run.outcome,
            error=run.error,
            value=value,
            best=run.best,
            best_epoch=run.best_epoch,
            curves=run.curves,
            steps=run.steps,
            diagnostics=run.diagnostics,
            diagnosis=diagnosis,
            diverged_step=run.diverged_step,
            started=run.started,
            ended=run.now(),
            pruner_notes=run.notes,
            state=run.state if keep_state else None,
            factor=data.factor,
            offset=data.offset,
        )


def chance_level(study: Study, examples: Split) -> float:
    """What a diverged trial scores: the result of not having learnt anything.

    Classification: one over the number of classes. Regression: the loss of predicting the mean of the training
    targets. A finite value tells every sampler to keep away; a failed state would tell most of them nothing.
    """
    dataset = get_dataset(study.dataset)
    if dataset.task == "classification":
        return 1.0 / dataset.outputs
    mean = examples.train.targets.mean(dim=0)
    return float((examples.validation.targets - mean).square().mean())
