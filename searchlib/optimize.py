"""The search: ask a round, train it in stacks, report, prune, record; go on where an earlier run stopped.

``optimize`` is a generator of ``Progress``; whoever runs it decides what to show. A round's trials are all created
before any of them is told, and everything that a trial does depends on (study, number) alone, so a run that was
interrupted goes on as if it had not been: its open trials are adopted, their stacks formed as before.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.analysis import best_trial
from searchlib.data import Split, get_dataset, load_train, split
from searchlib.errors import DeviceError, StorageError, StudyError
from searchlib.recorder import Recorder
from searchlib.sampling import ask_round, is_adaptive, make_pruner, prunes, round_length
from searchlib.storage import OverlayStorage, StudyLock, mask, open_storage
from searchlib.study import Study
from searchlib.tracking import Tracker, TrialRecord, environment

if TYPE_CHECKING:
    import optuna
    import torch
    from optuna.trial import FrozenTrial

    from searchlib.training.loop import EpochResult, Tensors, Trainable
    from searchlib.training.stack import Member

__all__ = ["Progress", "optimize", "resolve_device"]

MAX_STACK = 40  # trials in one stack: beyond this a CPU gains nothing, and a kill loses more


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the search stands after an epoch of a stack or after a stack.

    done: trials finished; target: trials wanted. fraction: of the whole search, epochs counted.
    stack: trials in training, epoch of epochs. finished: what the stack's trials gave, at its end.
    """

    done: int
    target: int
    fraction: float
    stack: int
    epoch: int
    epochs: int
    finished: Sequence[TrialRecord] = ()


class _OutOfTimeError(Exception):
    """The time given by ``timeout`` is over; it ends the search, and nobody outside sees it."""


@dataclass
class _Run:
    """One trial while it trains."""

    trial: FrozenTrial
    started: float
    curves: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    state: dict[str, torch.Tensor] | None = None
    outcome: str = "completed"
    error: str = ""


def resolve_device(name: str) -> str:
    """The torch device for *name*: ``auto`` takes CUDA, then MPS, then the CPU. DeviceError if it isn't there."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, colon, index = name.partition(":")
    if kind not in available or (colon and not index.isdecimal()):
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:N or mps")
    if not available[kind] or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        there = [kind for kind, is_there in available.items() if is_there]
        raise DeviceError(f"device {name!r} isn't there; this machine has {', '.join(there)}")
    return name


def optimize(
    study: Study,
    *,
    storage: str,
    tracking_uri: str | None,
    data_root: Path,
    trials: int | None = None,
    timeout: float | None = None,
    device: str = "auto",
) -> Iterator[Progress]:
    """Search until the study has *trials* (default: the study's own number) or *timeout* seconds are over.

    Runs nothing when the target is met. What was recorded stays, however this ends. Raises SearchlibErrors: a
    changed study, a closed study, a device or data set that isn't there, a storage or tracking server that fails.
    """
    started = time.monotonic()
    target = study.trials if trials is None else trials
    if target < 1:
        raise StudyError(f"trials={target}: expected 1 or more")
    device = resolve_device(device)
    _flush_denormals()
    with StudyLock(storage, study.name, "optimize"):
        optuna_study = _open_study(study, storage)
        existing = len(optuna_study.get_trials(deepcopy=False))
        unfinished = [trial for trial in optuna_study.get_trials(deepcopy=False) if not trial.state.is_finished()]
        if existing >= target and not unfinished:
            return
        _refuse_if_closed(study, optuna_study, existing, target)
        examples = split(
            load_train(study.dataset, data_root), seed=study.split_seed, fraction=study.validation_fraction
        )
        _check_against_data(study, examples)
        optuna_study.set_user_attr("target", max(target, existing))
        search = _Search(study, optuna_study, examples, device, max(target, existing))
        search.deadline = None if timeout is None else started + timeout
        with Tracker(study, tracking_uri) as tracker:
            tags = {**environment(), "device": device, "optuna.storage": mask(storage)}
            tracker.start(optuna_study, examples, tags={f"searchlib.{key}": value for key, value in tags.items()})
            search.tracker = tracker
            tracker.discard_runs_of(trial.number for trial in unfinished)
            with Recorder(optuna_study, tracker) as recorder:
                search.recorder = recorder
                with contextlib.suppress(_OutOfTimeError):
                    yield from search.run()


def _flush_denormals() -> None:
    """Set before torch's first parallel operation: its worker threads inherit the mode, and can't be told later."""
    import torch

    torch.set_flush_denormal(True)


def _open_study(study: Study, storage: str) -> optuna.Study:
    """Create or load the Optuna study; StudyError where the stored one was defined otherwise."""
    import optuna

    opened = open_storage(storage)
    try:
        made = optuna.create_study(
            study_name=study.name, storage=opened, direction=study.direction, load_if_exists=True
        )
        stored = made.user_attrs.get("definition")
        if stored is None and made.get_trials(deepcopy=False):
            raise StorageError(
                f"the storage holds a study {study.name!r} that searchlib did not make; rename the study file or give "
                "another --storage"
            )
        if stored is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                made.set_metric_names([study.metric])
            made.set_user_attr("definition", study.definition())
            made.set_user_attr("question", study.question)
        else:
            _refuse_if_changed(study, stored)
    except OSError as error:
        raise StorageError(
            f"storage {mask(storage)!r} can't be written ({error.strerror}); free some space or give another --storage"
        ) from None
    return made


def _refuse_if_changed(study: Study, stored: dict[str, Any]) -> None:
    current = study.definition()
    before, after = _flat(stored), _flat(current)
    changes = [
        f"{key}: {_short(before.get(key, 'nothing'))} became {_short(after.get(key, 'nothing'))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    if changes:
        raise StudyError(
            f"study {study.name!r} has changed since its first trial ({'; '.join(changes)}); save it under a new name "
            "to start afresh, or restore the old file to go on"
        )


def _flat(definition: dict[str, Any]) -> dict[str, Any]:
    """One entry a field: ``fixed.epochs`` instead of a dict under ``fixed``."""
    flat: dict[str, Any] = {}
    for key, value in definition.items():
        flat |= {f"{key}.{name}": entry for name, entry in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _refuse_if_closed(study: Study, optuna_study: optuna.Study, existing: int, target: int) -> None:
    ledger = optuna_study.user_attrs.get("test_ledger")
    if ledger:
        raise StudyError(
            f"study {study.name!r} is closed: its test set was opened at {ledger['claimed_at']} with {existing} "
            f"trials, so going on to {target} would select on a used test set; "
            "save the study under a new name to search more"
        )


def _check_against_data(study: Study, examples: Split) -> None:
    """What only the data can tell: batches that are too large, or too small for batch normalization."""
    count = len(examples.train)
    sizes = _possible(study, "batch_size")
    if max(sizes) > count:
        raise StudyError(
            f"batch_size={max(sizes)} is larger than the training split of {count:,} examples "
            f"({get_dataset(study.dataset).name}); take at most {count}"
        )
    lonely = [size for size in sizes if size == 1 or count % size == 1]
    if True in _possible(study, "batch_norm") and lonely:
        raise StudyError(
            f"batch_size={lonely[0]} leaves a last batch of one example of {count:,}, and batch_norm needs two; take "
            "another batch size"
        )


def _possible(study: Study, name: str) -> list[Any]:
    if name in study.dimensions:
        dimension = study.dimensions[name]
        values = dimension.values()
        return [dimension.decode(value) for value in values] if values is not None else list(dimension.extremes())
    return [getattr(study.config({}) if not study.dimensions else _any_config(study), name)]


def _any_config(study: Study) -> Any:
    params: dict[str, Any] = {}
    for name, dimension in study.dimensions.items():
        if dimension.active({**study.fixed, **params}):
            params[name] = dimension.at(0.5)
    return study.config(params)


class _Search:
    """The rounds of one study."""

    def __init__(self, study: Study, optuna_study: optuna.Study, examples: Split, device: str, target: int) -> None:
        self.study, self.optuna_study, self.device, self.target = study, optuna_study, device, target
        self.examples = examples
        self.dataset = get_dataset(study.dataset)
        self.deadline: float | None = None
        self.tracker: Tracker
        self.recorder: Recorder
        self.done = sum(trial.state.is_finished() for trial in optuna_study.get_trials(deepcopy=False))
        leader = best_trial(study, optuna_study.get_trials(deepcopy=False))
        self.best = (leader.values[0], leader.number) if leader and leader.values else None
        self._tensors: dict[str, Tensors] = {}

    def run(self) -> Iterator[Progress]:
        length = round_length(self.study)
        trials = self.optuna_study.get_trials(deepcopy=False)
        first_open = next((trial.number for trial in trials if not trial.state.is_finished()), len(trials))
        for start in range(first_open - first_open % length, self.target, length):
            numbers = range(start, min(start + length, self.target))
            if is_adaptive(self.study) or self.study.pruner != "none":
                self.recorder.drain()  # what comes next depends on every result so far
            trials = self.optuna_study.get_trials(deepcopy=False)
            missing = range(max(start, len(trials)), numbers.stop)
            trials.extend(ask_round(self.study, self.optuna_study, missing))
            yield from self._round([trials[number] for number in numbers if number < len(trials)])

    def _round(self, trials: list[FrozenTrial]) -> Iterator[Progress]:
        view = OverlayStorage(
            self.optuna_study._storage, self.optuna_study._study_id, self.optuna_study.get_trials(deepcopy=False)
        )
        for stack in self._stacks(trials):
            open_trials = [trial for trial in stack if not trial.state.is_finished()]
            if open_trials:
                # The whole stack trains, also where some of it was told before: round-off depends on the make-up.
                yield from self._train(stack, view)

    def _stacks(self, trials: list[FrozenTrial]) -> Iterator[list[FrozenTrial]]:
        """Group a round by fusion key, in even parts of at most ``MAX_STACK``."""
        from searchlib.models import MLP
        from searchlib.training.stack import fusion_key

        groups: dict[Any, list[FrozenTrial]] = {}
        for trial in trials:
            key = fusion_key(self.study.config(trial.params)) if isinstance(self.study.model, MLP) else trial.number
            groups.setdefault(key, []).append(trial)
        for group in groups.values():
            parts = -(-len(group) // MAX_STACK)
            size = -(-len(group) // parts)
            yield from (group[start : start + size] for start in range(0, len(group), size))

    def _train(self, trials: list[FrozenTrial], view: OverlayStorage) -> Iterator[Progress]:
        from searchlib.training.loop import train
        from searchlib.training.stack import Member

        runs = {trial.number: _Run(trial, time.time()) for trial in trials}
        for trial in trials:
            view.insert(_as_running(trial))
        opened = sum(not trial.state.is_finished() for trial in trials)
        members = [Member(trial.number, self.study.config(trial.params), trial.user_attrs["seed"]) for trial in trials]
        epochs = members[0].config.epochs
        pruner = make_pruner(self.study, epochs)
        data = self._data(members[0].config.input_scaling)
        self._check_time()
        try:
            stack = self._stack(members, data)
            for epoch in train(stack, data, order_seed=self.study.seed):
                self._note(stack, epoch, runs)
                kept = [self._goes_on(runs[member.number], epoch, pruner, view) for member in stack.members]
                if not all(kept):
                    stack.keep(kept)
                if epoch.epoch < epochs and stack.members:
                    self._check_time()
                    yield self._progress(opened, len(stack.members), epoch.epoch, epochs)
        except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            if not callable(self.study.model):
                raise
            self._fail(runs[members[0].number], error)
        for trial in trials:  # told by an earlier run: the pruner shall see them finished, as it did then
            if trial.state.is_finished():
                view.insert(trial)
        records = [self._record(runs[trial.number], data, view) for trial in trials if not trial.state.is_finished()]
        for record in records:
            view.insert(_as_finished(view.get_trial(record.trial_id), record))
            self.recorder.put(record)
        self.done += len(records)
        yield self._progress(0, 0, epochs, epochs, records)

    def _stack(self, members: list[Member], data: Tensors) -> Trainable:
        from searchlib.models import MLP, build_module
        from searchlib.training.module import ModuleStack
        from searchlib.training.stack import Stack

        if isinstance(self.study.model, MLP):
            return Stack(members, outputs=self.dataset.outputs, probe=data.probe, device=self.device)
        model = self.study.model
        return ModuleStack(members, build=lambda config: build_module(model, config, self.dataset), device=self.device)

    def _data(self, scaling: str) -> Tensors:
        from searchlib.models import MLP
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

    def _note(self, stack: Trainable, epoch: EpochResult, runs: dict[int, _Run]) -> None:
        """Add an epoch to the curves of each trial; keep the weights of one that leads the study."""
        for position, member in enumerate(stack.members):
            run = runs[member.number]
            point = {
                "epoch": epoch.epoch,
                "train_loss": epoch.train_loss[position],
                "val_loss": epoch.val_loss[position],
                "learning_rate": epoch.learning_rate[position],
                "time": time.time(),
            }
            if epoch.val_accuracy is not None:
                point["val_accuracy"] = epoch.val_accuracy[position]
            run.curves.append(point)
            if not (math.isfinite(point["train_loss"]) and math.isfinite(point["val_loss"])):
                run.outcome = "diverged"
                continue
            value = point[self.study.metric]
            if run.best is None or self.study.better(value, run.best):
                run.best, run.best_epoch = value, epoch.epoch
                if self._leads(value, member.number):
                    run.state = stack.state(position)

    def _goes_on(
        self, run: _Run, epoch: EpochResult, pruner: optuna.pruners.BasePruner | None, view: OverlayStorage
    ) -> bool:
        if run.outcome == "diverged":
            return False
        if pruner is None:
            return True
        trial_id = run.trial._trial_id
        view.set_trial_intermediate_value(trial_id, epoch.epoch, run.curves[-1][self.study.metric])
        if epoch.epoch < self.study.config(run.trial.params).epochs and prunes(
            pruner, self.study, self.optuna_study, view, trial_id
        ):
            run.outcome = "pruned"
        return run.outcome != "pruned"

    def _leads(self, value: float, number: int) -> bool:
        """Whether a trial would be the study's best; of equal ones the first is."""
        if self.best is None:
            return True
        best_value, best_number = self.best
        return self.study.better(value, best_value) or (value == best_value and number < best_number)

    def _record(self, run: _Run, data: Tensors, view: OverlayStorage) -> TrialRecord:
        value = run.best
        if run.outcome == "diverged" or value is None:
            value = chance_level(self.study, self.examples)
        leads = run.outcome == "completed" and run.state is not None and self._leads(value, run.trial.number)
        if leads:
            self.best = (value, run.trial.number)
        return TrialRecord(
            number=run.trial.number,
            trial_id=run.trial._trial_id,
            params=run.trial.params,
            config=self.study.config(run.trial.params),
            seed=run.trial.user_attrs["seed"],
            outcome=run.outcome,
            error=run.error,
            value=value,
            best=run.best,
            best_epoch=run.best_epoch,
            curves=run.curves,
            started=run.started,
            ended=time.time(),
            pruner_notes={
                name: value
                for name, value in view.get_trial_system_attrs(run.trial._trial_id).items()
                if name not in run.trial.system_attrs
            },
            state=run.state if leads else None,
            factor=data.factor,
            offset=data.offset,
        )

    def _fail(self, run: _Run, error: Exception) -> None:
        """A module of the study's own raised: this trial fails with its traceback, the search goes on."""
        import traceback

        run.outcome = "failed"
        run.error = "".join(traceback.format_exception(error))

    def _check_time(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise _OutOfTimeError

    def _progress(
        self, opened: int, stack: int, epoch: int, epochs: int, finished: Sequence[TrialRecord] = ()
    ) -> Progress:
        """*opened*: trials of the stack not yet recorded, those pruned or diverged meanwhile among them."""
        return Progress(
            done=self.done,
            target=self.target,
            fraction=(self.done + opened * epoch / epochs) / self.target,
            stack=stack,
            epoch=epoch,
            epochs=epochs,
            finished=finished,
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


def _as_running(trial: FrozenTrial) -> FrozenTrial:
    """A trial as it was before its first epoch: pruning must not see what a killed run had stored of it."""
    import copy

    from optuna.trial import TrialState

    fresh = copy.deepcopy(trial)
    fresh.state, fresh.intermediate_values, fresh.values = TrialState.RUNNING, {}, None
    fresh._system_attrs = {key: value for key, value in fresh.system_attrs.items() if "rung" not in key}
    return fresh


def _as_finished(trial: FrozenTrial, record: TrialRecord) -> FrozenTrial:
    from optuna.trial import TrialState

    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    trial.state = states.get(record.outcome, TrialState.COMPLETE)
    trial.values = None if record.outcome == "failed" else [record.value]
    return trial
