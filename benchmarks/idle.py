"""searchlib with training that costs nothing: what is left is the search, the recording and the stores."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.idle_study import NAME
from benchmarks.measuring import ROOT, peak_memory, say
from searchlib.search.optimize import search
from searchlib.stores.stores import Stores
from searchlib.study.loading import load_study
from searchlib.training.engine import Engine
from searchlib.training.loop import Tensors, Trainable
from searchlib.training.stack import Member
from searchlib.training.watch import Watch


class Idle:
    """A stack that trains nothing. Its accuracy follows from seed and epoch; its diagnostics are a real stack's."""

    def __init__(self, members: Sequence[Member], snapshot: dict[str, float]) -> None:
        self.members, self.snapshot = list(members), snapshot
        self.orders = [members[0].order_seed]
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.epoch = 0

    def step(
        self, inputs: torch.Tensor, targets: torch.Tensor, learning_rate: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """No step."""
        shape = len(self.members), len(inputs)
        return torch.ones(shape), torch.zeros(shape, dtype=torch.bool)

    def evaluate(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and right examples, by no network."""
        self.epoch += 1
        accuracy = torch.tensor([(member.seed % 1000 + 100 * self.epoch) / 2000 for member in self.members])
        return 1.0 - accuracy, accuracy.double() * len(inputs)

    def keep(self, kept: Sequence[bool]) -> None:
        """Go on with some."""
        self.members = [member for member, stays in zip(self.members, kept, strict=True) if stays]

    def training_state(self) -> dict[str, torch.Tensor]:
        """There is none."""
        return {}

    def resume(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from anywhere."""

    def state(self, position: int) -> dict[str, torch.Tensor]:
        """Weights as a trial of the study would have them."""
        shapes = {"linear0.weight": (4, 4), "linear0.bias": (4,), "linear1.weight": (2, 4), "linear1.bias": (2,)}
        return {name: torch.zeros(shape) for name, shape in shapes.items()}


@contextmanager
def no_training() -> Iterator[None]:
    """Every stack that an engine builds in this process is idle."""
    build, measure = Engine.build, Watch.measure
    snapshot: dict[str, float] = {}

    def idle(engine: Engine, members: list[Member], data: Tensors) -> Trainable:
        if not snapshot:
            snapshot.update(measure(Watch(data.train_inputs, data.train_targets), build(engine, members[:1], data))[0])
        return Idle(members, snapshot)

    with (
        mock.patch.object(Engine, "build", idle),
        mock.patch.object(Watch, "measure", lambda watch, stack: [dict(stack.snapshot) for _ in stack.members]),
        mock.patch.object(Watch, "remember"),
    ):
        yield


class Meter:
    """Processor seconds in calls of some classes' public methods, of the outermost calls in each thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inside = threading.local()

    def watch(self, part: str, kind: type) -> None:
        """Count all public methods of *kind* under *part*, from now on, in this process."""
        for name, method in list(vars(kind).items()):
            if callable(method) and not name.startswith("_") and not isinstance(method, (type, staticmethod)):
                setattr(kind, name, self._timed(part, method))

    def _timed(self, part: str, method: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            if getattr(self.inside, "a_call", False):
                return method(*arguments, **named)
            self.inside.a_call, started = True, time.thread_time()
            try:
                return method(*arguments, **named)
            finally:
                self.inside.a_call = False
                self.seconds[part] = self.seconds.get(part, 0.0) + time.thread_time() - started

        return timed


def make_store(folder: Path, trials: int) -> dict[str, float]:
    """Search *trials* idle trials in *folder*; milliseconds a trial, in all and by part, and the peak memory.

    The stores are left there, with a study file that searchlib's commands can be given. For a process of its own.
    """
    import optuna
    from mlflow import MlflowClient

    from searchlib.stores.mlflow_store import connect

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "studies" / f"{NAME}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"from benchmarks.idle_study import study\n\nSTUDY = study({trials})\n", encoding="utf-8")
    with ExitStack() as left:
        left.enter_context(chdir(folder))
        left.enter_context(no_training())
        store = f"sqlite:///{folder / 'mlflow.db'}"
        connect(store)  # its tables are made once, whatever the number of trials
        meter = Meter()
        meter.watch("mlflow", MlflowClient)
        for kind in (optuna.Study, optuna.trial.Trial, optuna.storages.JournalStorage):
            meter.watch("optuna", kind)
        asked = load_study(str(file), ROOT)
        wall, used, said = time.perf_counter(), time.process_time(), time.perf_counter()
        for progress in search(asked, Stores(storage="optuna.journal", tracking_uri=store, data_root=folder)):
            if time.perf_counter() > said + 20.0:
                said = time.perf_counter()
                say(f"{progress.done:,} of {trials:,} trials asked and trained")
        used, wall = time.process_time() - used, time.perf_counter() - wall
    parts = {"mlflow": meter.seconds["mlflow"], "optuna": meter.seconds["optuna"]}
    everything = {"wall": wall, "processor": used, **parts, "rest": used - sum(parts.values())}
    return {**{name: 1000.0 * value / trials for name, value in everything.items()}, "peak": float(peak_memory())}
