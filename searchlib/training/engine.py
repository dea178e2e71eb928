"""The training of one study's trials, in this process: its network, its data and its device brought together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from searchlib.data import Split, get_dataset
from searchlib.errors import StudyError
from searchlib.study import MLP, Study, TrialConfig, TrialRecord, pack_examples
from searchlib.training.grouping import group, stack_size
from searchlib.training.network import build_module
from searchlib.training.precision import setting_for
from searchlib.training.run import Keeps, Run, Task
from searchlib.training.stack_run import Setup, StackRun
from searchlib.training.symptoms import diagnose_words
from searchlib.training.workers import Workers, available_cores

if TYPE_CHECKING:
    from searchlib.training.loop import Tensors, Trainable
    from searchlib.training.stack import Member


class Engine:
    """Trains trials of one study on one split of its data.

    Raises StudyError where the study's batches don't fit this split.
    """

    def __init__(self, study: Study, examples: Split, device: str) -> None:
        self.study, self.examples, self.device = study, examples, device
        self.dataset = get_dataset(study.dataset)
        self.chance, self.constant = chance_level(study, examples), constant_level(study, examples)
        self.has_own_code = has_own_code(study)
        self._tensors: dict[str, Tensors] = {}
        check_batches(study, examples)

    # -------------------------------------------------------------------------------------------------- stacks

    def group(self, tasks: Sequence[Task], *, at_least: int = 1) -> Iterator[list[Task]]:
        """Tasks that train as one stack: by fusion key, in even parts. Modules of the study's own train alone.

        at_least: make so many stacks of about one size, if there are as many trials.
        """
        if not isinstance(self.study.model, MLP):
            return ([task] for task in tasks)
        return group(tasks, lambda config: stack_size(config, self.dataset, self.device), at_least=at_least)

    def start(self, tasks: Sequence[Task], *, keeps: Keeps, keep_examples: bool = False) -> StackRun:
        """A stack of *tasks*, which share a fusion key, before its first epoch.

        keeps: asked whenever a run reaches a new best value; where it says yes, the weights are kept.
        keep_examples: whether to keep which validation examples each run classifies correctly at its best epoch.
        """
        config = tasks[0].config
        self.data(config.input_scaling)  # here, once, not by several workers at the same time
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
            keep_examples=keep_examples,
        )
        return StackRun(setup, [Run(task) for task in tasks], keeps)

    def record(self, run: Run, *, keep_state: bool) -> TrialRecord:
        """What is stored of a run that ended. A diverged one scores as if nothing had been learnt."""
        data = self.data(run.config.input_scaling)
        diagnosis = []
        if run.outcome != "failed":
            diagnosis += diagnose_words(run.config, run.diagnostics, diverged_step=run.diverged_step)
        if run.halved:
            diagnosis.append("memory was short: trained in a smaller stack than planned")
        return TrialRecord(
            number=run.number,
            trial_id=run.task.trial_id,
            params=dict(run.task.params),
            config=run.config,
            seed=run.task.seed,
            outcome=run.outcome,
            error=run.error,
            reason=run.reason,
            value=self.chance if run.outcome == "diverged" or run.best is None else run.best,
            best=run.best,
            learnt=run.best is not None and self.study.better(run.best, self.constant),
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
            correct="" if run.correct is None or run.outcome != "completed" else pack_examples(run.correct.numpy()),
            factor=data.factor,
            offset=data.offset,
        )

    # ---------------------------------------------------------------------------------- what a stack is made of

    def build(self, members: list[Member], data: Tensors) -> Trainable:
        """The networks of *members*, before their first step."""
        from searchlib.training.module import ModuleStack
        from searchlib.training.stack import Stack

        model = self.study.model
        if isinstance(model, MLP):
            return Stack(members, outputs=self.dataset.outputs, probe=data.probe, device=self.device)
        return ModuleStack(
            members,
            build=lambda config: build_module(model, config, self.dataset),
            outputs=self.dataset.outputs,
            device=self.device,
        )

    def data(self, scaling: str) -> Tensors:
        """The split on the device, its inputs scaled; made once for each *scaling*."""
        from searchlib.training.loop import prepare

        if scaling not in self._tensors:
            flatten = isinstance(self.study.model, MLP)
            self._tensors[scaling] = prepare(self.examples, self.dataset, scaling, device=self.device, flatten=flatten)
        return self._tensors[scaling]

    # ------------------------------------------------------------------------------------------------- machine

    def workers(self) -> Workers:
        """On a CPU a worker for each core, with one of torch's threads, however many cores there are.

        One worker elsewhere, and for modules and functions of a study's own: these may draw from torch's one global
        generator, and what they draw must not depend on who is first.
        """
        if self.has_own_code or not self.device.startswith("cpu"):
            return Workers(1, threads=None)
        return Workers(available_cores(), threads=1)

    def products(self, config: TrialConfig) -> str:
        """torch's setting for matrix products (``precision.setting_for``).

        torch's default where code of the study's own runs: while oneDNN multiplies in float32, older functions of
        torch that ask how it multiplies raise an error.
        """
        plain = config.precision == "float32" and (self.has_own_code or not self.device.startswith("cpu"))
        return "ieee" if plain else setting_for(config.precision)


def has_own_code(study: Study) -> bool:
    """Whether a study brings a module, activations or initializers of its own, which may do anything."""
    own = [value for name in ("activation", "initializer") for value in study.possible(name) if callable(value)]
    return bool(own) or not isinstance(study.model, MLP)


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


def constant_level(study: Study, examples: Split) -> float:
    """What a network has to be better than to have learnt anything, on the validation split.

    Classification: half an example more than the most frequent class has. Regression: the loss of the mean of the
    training targets, less a millionth of it.
    """
    if get_dataset(study.dataset).task == "regression":
        return chance_level(study, examples) * (1.0 - 1e-6)
    targets = examples.validation.targets
    return (float(targets.bincount().max()) + 0.5) / len(targets)


def check_batches(study: Study, examples: Split) -> None:
    """StudyError where a batch is larger than the data, or too small for batch normalization."""
    count, sizes = len(examples.train), study.possible("batch_size")
    if max(sizes) > count:
        raise StudyError(
            f"batch_size={max(sizes)} is larger than the training split of {count:,} examples "
            f"({get_dataset(study.dataset).name}); choose at most {count}"
        )
    single = size_with_single(study, count)
    if single is not None and isinstance(study.model, MLP) and True in study.possible("batch_norm"):
        raise StudyError(
            f"batch_size={single} leaves a last batch of one example of {count:,}, and batch_norm needs two; choose "
            "another batch size"
        )


def size_with_single(study: Study, count: int) -> int | None:
    """A batch size of the study that leaves a last batch of one of *count* examples; None where none does."""
    return next((size for size in study.possible("batch_size") if size == 1 or count % size == 1), None)
