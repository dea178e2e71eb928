"""A stack in training, an epoch at a time.

A stack that doesn't fit into memory, or in which code of the study's own raises, trains again from its start in two
halves, and those in halves, so that a trial costs its neighbours time and nothing else. A snapshot between two epochs
lets another process resume a stack, with the same results to the last bit.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchlib.errors import DeviceError, SearchlibError
from searchlib.seeds import derive_seed, seeded
from searchlib.study import own_line
from searchlib.training.run import IN_SNAPSHOT, Keeps, Run

if TYPE_CHECKING:
    import torch

    from searchlib.training.loop import EpochResult, Tensors, Trainable
    from searchlib.training.stack import Member
    from searchlib.training.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the stacks of one study need to train, and what decides on their numbers.

    data: a split as tensors, by the name of its input scaling. build: the networks of some members. products: torch's
    setting for matrix products. metric, better: the objective, and whether its first value is better than its second.
    eval_every: steps between two evaluations, if there are any within an epoch. own_code: whether functions or modules
    of the study's own run. identity: of the study; split_seed: of its split. keep_examples: whether to keep which
    validation examples each run classifies correctly at its best epoch.
    """

    data: Callable[[str], Tensors]
    build: Callable[[list[Member], Tensors], Trainable]
    products: str
    metric: str
    better: Callable[[float, float], bool]
    eval_every: int | None
    own_code: bool
    device: str
    identity: str
    split_seed: int
    keep_examples: bool = False


class StackRun:
    """One stack in training. ``runs`` has all its trials by number, ``alive`` those still in training.

    A stack that was halved trains its halves instead: each epoch is then one of the first half that hasn't reached
    its goal.
    """

    def __init__(self, setup: Setup, runs: Sequence[Run], keeps: Keeps) -> None:
        self.setup, self.keeps = setup, keeps
        self.runs = {run.number: run for run in sorted(runs, key=lambda run: run.number)}
        config = next(iter(self.runs.values())).config
        self.epochs, self.products = config.epochs, setup.products
        self._epoch = 0
        self._stack: Trainable | None = None
        self._watch: Watch | None = None
        self._steps: Iterator[EpochResult] = iter(())
        self._halves: list[StackRun] = []
        self._ended = False
        self._halted: Callable[[], bool] = lambda: False

    @property
    def epoch(self) -> int:
        """Epochs trained, by all that are still in training."""
        if self._halves:
            return min((half.epoch for half in self._halves if half.alive), default=self.epochs)
        return self._epoch

    @property
    def alive(self) -> list[Run]:
        """The runs still in training, in the stack's order; none after the last epoch."""
        if self._halves:
            return [run for half in self._halves for run in half.alive]
        if self._ended or self._epoch >= self.epochs:
            return []
        if self._stack is None:
            return list(self.runs.values())
        return [self.runs[member.number] for member in self._stack.members]

    def advance(self, halted: Callable[[], bool] = lambda: False, until: int | None = None) -> list[Run]:
        """Train one epoch, on the way to epoch *until* or the end. Returns the runs that didn't diverge in it.

        halted: asked before each step. Raises HaltedError where it says yes: the stack is then of no more use.
        Raises DeviceError where the memory isn't enough for one trial alone.
        """
        from searchlib.training.loop import HaltedError

        if self._halves:
            going = [half for half in self._halves if half.alive]
            half = next((half for half in going if until is None or half.epoch < until), None)
            went = half.advance(halted, until) if half else []
            if half and not half.alive:
                half.close()  # its memory is for the next
            return went
        if not self.alive:
            return []
        self._halted = halted
        try:
            return self._advance()
        except (SearchlibError, HaltedError):
            raise
        except Exception as error:
            short = _is_out_of_memory(error)
            if not (short or self.setup.own_code):
                raise
            if len(self.alive) == 1:
                self._fail_alone(error, short)
                return []
        self._halve(short)  # out here nothing holds the stack's memory any more, as the error's traceback did
        return []

    def drop(self, numbers: set[int], outcome: str = "pruned") -> None:
        """Take runs out of training; the others continue in a smaller stack."""
        for half in self._halves:
            half.drop(numbers, outcome)
        if self._stack is None:
            return
        kept = [member.number not in numbers for member in self._stack.members]
        for member, stays in zip(self._stack.members, kept, strict=True):
            if not stays:
                self.runs[member.number].outcome = outcome
        if not all(kept):
            self._stack.keep(kept)

    def restart(self) -> None:
        """Begin again, before the first epoch."""
        self.close()
        self._epoch, self._ended = 0, False
        for run in self.runs.values():
            run.restart()
            run.outcome, run.diverged_step, run.error, run.halved, run.notes = "completed", None, "", 0, {}
            run.reason = ""

    def close(self) -> None:
        """Free the memory; the runs and their results stay."""
        for half in self._halves:
            half.close()
        self._stack, self._steps, self._ended = None, iter(()), True
        self._watch = None

    # ---------------------------------------------------------------------------------------------- snapshots

    @functools.cached_property
    def key(self) -> str:
        """A hash of all that decides on the numbers that this stack will give."""
        import torch

        members = [
            [run.task.seed, run.task.order_seed, run.task.signature, number] for number, run in self.runs.items()
        ]
        machine = [torch.__version__, self.setup.device, self.setup.split_seed]
        text = json.dumps([self.setup.identity, members, machine])
        return hashlib.sha256(text.encode()).hexdigest()

    def snapshot(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """What another process needs to ``resume``: a note for JSON, and tensors.

        None for a stack that was halved, and for one that hasn't begun.
        """
        if self._halves or (self._epoch == 0 and not self._ended):
            return None
        note = {
            "epoch": self._epoch,
            "alive": [run.number for run in self.alive],
            "runs": {number: {name: getattr(run, name) for name in IN_SNAPSHOT} for number, run in self.runs.items()},
        }
        tensors = {
            f"run.{number}.{name}": tensor
            for number, run in self.runs.items()
            for name, tensor in (run.state or {}).items()
        }
        tensors |= {f"correct.{number}": run.correct for number, run in self.runs.items() if run.correct is not None}
        if self.alive and self._stack is not None:
            tensors |= {f"stack.{name}": tensor for name, tensor in self._stack.training_state().items()}
        return note, tensors

    def resume(self, note: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Be where a ``snapshot`` was taken. For a stack that hasn't begun."""
        for number, run in self.runs.items():
            for name, value in note["runs"][str(number)].items():
                setattr(run, name, value)
            run.state = within(tensors, f"run.{number}.") or None
            run.correct = tensors.get(f"correct.{number}")
        alive = [self.runs[number] for number in note["alive"]]
        if alive:
            self._build(alive)
            assert self._stack is not None
            self._stack.resume(within(tensors, "stack."))
            self._train(first=note["epoch"] + 1)
        self._epoch, self._ended = note["epoch"], not alive

    # ------------------------------------------------------------------------------------------------ training

    def _advance(self) -> list[Run]:
        with self._own_numbers():
            if self._stack is None:
                self._begin()
            result = next(self._steps)
        self._epoch = result.epoch
        assert self._stack is not None
        went = [self.runs[member.number] for member in self._stack.members]
        for position, run in enumerate(went):
            self._note(run, position, result)
        self.drop({run.number for run in went if run.outcome == "diverged"}, "diverged")
        return [run for run in went if run.outcome == "completed"]

    @contextlib.contextmanager
    def _own_numbers(self) -> Iterator[None]:
        """What code of the study's own draws from global generators follows from stack and epoch alone."""
        if not self.setup.own_code:
            yield
            return
        orders = sorted({run.task.order_seed for run in self.runs.values()})
        with seeded(derive_seed(*orders, "own code", self._epoch, *self.runs)):
            yield

    def _begin(self) -> None:
        from searchlib.training.loop import denormals_flushed

        for run in self.runs.values():
            run.started = time.time()
        with denormals_flushed():
            self._build(list(self.runs.values()))
            assert self._stack is not None
            assert self._watch is not None
            snapshots = self._watch.measure(self._stack)
        for member, snapshot in zip(self._stack.members, snapshots, strict=True):
            self.runs[member.number].diagnostics.append(snapshot)
        self._train(first=1)

    def _build(self, runs: Sequence[Run]) -> None:
        from searchlib.training.stack import Member
        from searchlib.training.watch import PROBE, Watch

        members = [Member(run.number, run.config, run.task.seed, run.task.order_seed) for run in runs]
        self._data = self.setup.data(runs[0].config.input_scaling)
        self._watch = Watch(self._data.train_inputs[:PROBE], self._data.train_targets[:PROBE])
        self._stack = self.setup.build(members, self._data)

    def _train(self, first: int) -> None:
        from searchlib.training.loop import train

        assert self._stack is not None
        self._steps = train(
            self._stack,
            self._data,
            watch=self._watch,
            halted=lambda: self._halted(),
            first=first,
            eval_every=self.setup.eval_every,
        )

    def _note(self, run: Run, position: int, epoch: EpochResult) -> None:
        """Add an epoch to a run; keep the weights, and what they classify correctly, if they are wanted."""
        for step in epoch.steps:
            at = {"step": step.step, "train_loss": step.train_loss[position], "val_loss": step.val_loss[position]}
            if step.train_accuracy is not None and step.val_accuracy is not None:
                at |= {"train_accuracy": step.train_accuracy[position], "val_accuracy": step.val_accuracy[position]}
            run.steps.append({**at, "time": run.not_before(step.time)})
        point = {
            "epoch": epoch.epoch,
            "train_loss": epoch.train_loss[position],
            "val_loss": epoch.val_loss[position],
            "learning_rate": epoch.learning_rate[position],
            "time": run.now(),
        }
        if epoch.train_accuracy is not None and epoch.val_accuracy is not None:
            point |= {"train_accuracy": epoch.train_accuracy[position], "val_accuracy": epoch.val_accuracy[position]}
        run.curves.append(point)
        run.diagnostics.append(epoch.diagnostics[position])
        if not (math.isfinite(point["train_loss"]) and math.isfinite(point["val_loss"])):
            seen = not math.isfinite(point["train_loss"])  # else it was the epoch's last step that broke the weights
            run.outcome, run.diverged_step = "diverged", epoch.last_finite_step[position] + seen
            return
        value = point[self.setup.metric]
        if run.best is None or self.setup.better(value, run.best):
            run.best, run.best_epoch = value, epoch.epoch
            if self.setup.keep_examples and epoch.val_right is not None:
                run.correct = epoch.val_right[position].to("cpu", copy=True)
            if self.keeps(run, value):
                assert self._stack is not None
                run.state = self._stack.state(position)

    # --------------------------------------------------------------------------------------- what goes wrong

    def _fail_alone(self, error: Exception, short: bool) -> None:
        """The one trial of this stack can't be trained: it fails with its traceback, or ends the search."""
        run = self.alive[0]
        if short:
            raise DeviceError(
                f"trial {run.number}: the memory of device {self.setup.device!r} isn't enough to train it, not even "
                f"alone ({first_line(error)}); free some memory, or take a smaller network or batch size in a study "
                "of another name"
            ) from error
        run.outcome = "failed"
        run.error = "".join(traceback.format_exception(error))
        run.reason = ": ".join(filter(None, (own_line(error), type(error).__name__, first_line(error))))
        self.close()

    def _halve(self, short: bool) -> None:
        """Train the runs that are left again from their start, in two halves, one after the other.

        short: whether for want of memory.
        """
        runs = sorted(self.alive, key=lambda run: run.number)
        self.close()
        for run in runs:
            run.restart()
            run.halved += short
        middle = len(runs) // 2
        self._halves = [StackRun(self.setup, part, self.keeps) for part in (runs[:middle], runs[middle:])]


def within(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with *prefix*, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())[:200].rstrip(".") or type(error).__name__


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch, on any of its devices, asked for memory in vain. It has no one class for that."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    told = str(error).lower()
    signs = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, RuntimeError) and any(sign in told for sign in signs)
