"""How cost grows: a step with the size of stack, network and batch; the commands with the number of trials stored."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.idle_study import NAME
from benchmarks.measuring import Settings, Table, in_turn, peak_memory, processes, ratios, say, seconds_of, spread
from benchmarks.start import python

BASE: dict[str, int] = {"trials": 16, "width": 100, "depth": 1, "batch": 128}
SIZES: dict[str, tuple[int, ...]] = {
    "trials": (1, 2, 4, 8, 16, 24, 32, 40),
    "width": (32, 64, 100, 256, 512, 1024),
    "depth": (0, 1, 2, 4, 8),
    "batch": (16, 32, 64, 128, 256, 512, 1024),
}
STORED = 10_000


def run(settings: Settings) -> list[Table]:
    """The part ``scaling``."""
    return [_steps(settings), _memory(settings), _commands(settings)]


# ---------------------------------------------------------------------------------------------------- a step


def _stack(trials: int, width: int, depth: int, batch: int) -> Any:
    """A stack of relu networks as the engine builds it, on random inputs, and those as one batch."""
    import torch

    from benchmarks.problem import Data, init_vs_act
    from searchlib.data.dataset import Examples
    from searchlib.data.splits import Split
    from searchlib.study.config import TrialConfig
    from searchlib.training.engine import Engine
    from searchlib.training.stack import Member

    generator = torch.Generator().manual_seed(0)
    part = Examples(
        inputs=torch.randint(0, 256, (max(batch, 600), 28, 28), dtype=torch.uint8, generator=generator),
        targets=torch.randint(0, 10, (max(batch, 600),), generator=generator),
    )
    study = dataclasses.replace(init_vs_act(), dataset=Data(Path()).dataset)
    trainer = Engine(study, Split(train=part, validation=part, seed=0, fraction=0.5), "cpu")
    config = TrialConfig(
        **{**study.fixed, "depth": depth, "width": width, "batch_size": batch, "learning_rate": 0.001},
        initializer="kaiming_normal",
    )
    data = trainer.data("standard")
    stack = trainer.build([Member(number, config, number) for number in range(trials)], data)
    rate = torch.full((trials,), config.learning_rate)
    return stack, (data.train_inputs[:batch], data.train_targets[:batch], rate)


def step_seconds(trials: int, width: int, depth: int, batch: int, seconds: float) -> float:
    """Seconds a step of one trial of a stack: the mean of as many steps as take about *seconds*."""
    from searchlib.training.loop import denormals_flushed

    with denormals_flushed():
        stack, arguments = _stack(trials, width, depth, batch)
        for _ in range(3):
            stack.step(*arguments)
        count, started = 0, time.perf_counter()
        while time.perf_counter() < started + seconds:
            stack.step(*arguments)
            count += 1
        return (time.perf_counter() - started) / count / trials


def _steps(settings: Settings) -> Table:
    seconds = 0.1 if settings.quick else 1.0
    table = Table("Scaling: milliseconds a step of one trial, one size varied at a time")
    with processes(1) as pool:

        def measured(sizes: dict[str, int]) -> Callable[[int], float]:
            return lambda repeat: pool.submit(step_seconds, **sizes, seconds=seconds).result()

        for name, values in SIZES.items():
            chosen = sorted({*values[:: len(values) - 1], BASE[name]}) if settings.quick else values
            found = in_turn(settings.repeats, {f"{name} {value}": measured({**BASE, name: value}) for value in chosen})
            base = found[f"{name} {BASE[name]}"]
            for size, taken in found.items():
                table.add(size=size, ms=spread(1000.0 * t for t in taken), times_base=ratios(taken, base))
    table.notes.append(
        "Base: " + ", ".join(f"{name} {value}" for name, value in BASE.items()) + "; 784 inputs, 10 outputs."
    )
    return table


def memory_of(trials: int) -> tuple[int, int]:
    """Peak memory of a fresh process before it has a stack of so many, and after some of its steps."""
    sizes = {**BASE, "trials": trials}
    _stack(**{**sizes, "trials": 1})
    before = peak_memory()
    stack, arguments = _stack(**sizes)
    for _ in range(3):
        stack.step(*arguments)
    return before, peak_memory()


def _memory(settings: Settings) -> Table:
    table = Table("Scaling: peak memory of a process that trains one stack")
    chosen = (1, 16, 40) if settings.quick else SIZES["trials"]

    def measured(trials: int) -> tuple[int, int]:
        with processes(1) as pool:
            return pool.submit(memory_of, trials).result()

    found = in_turn(settings.repeats, {f"trials {n}": lambda repeat, n=n: measured(n) for n in chosen})  # type: ignore[misc]
    first = [after for _, after in next(iter(found.values()))]
    for name, pairs in found.items():
        peaks = [after for _, after in pairs]
        table.add(
            size=name,
            peak_MB=spread(value / 1e6 for value in peaks),
            of_it_the_stack_MB=spread((after - before) / 1e6 for before, after in pairs),
            times_first=ratios(peaks, first),
        )
    return table


# ---------------------------------------------------------------------------------------- the commands


def _commands(settings: Settings) -> Table:
    """``status``, ``report``, ``export`` and both dashboards on a store of idle trials, against a small one's."""
    from benchmarks import idle

    counts = (36, 100) if settings.quick else (100, STORED)
    stores: dict[int, Path] = {}
    for count in counts:
        stores[count] = settings.folder / f"{NAME}-{count}"
        if not (stores[count] / "mlflow.db").exists():
            say(f"a store of {count:,} trials, which the part overhead leaves too")
            with processes(1) as pool:
                pool.submit(idle.make_store, stores[count], count).result()
    table = Table("Scaling: searchlib's commands by the number of trials stored")
    actions: dict[str, Callable[[Path], dict[str, float]]] = {
        "status": lambda folder: _command(folder, "status", "--json"),
        "report": lambda folder: _command(folder, "report"),
        "export": lambda folder: _command(folder, "export", "--output", "trials.csv"),
        "Optuna Dashboard, until its study answers": lambda folder: {"seconds": _optuna_answers(folder)},
        "MLflow UI, until its runs answer": lambda folder: {"seconds": _mlflow_answers(folder)},
    }
    for name, action in actions.items():
        found = in_turn(
            settings.repeats,
            {
                f"{name}, {count:,}": lambda repeat, action=action, count=count: action(stores[count])  # type: ignore[misc]
                for count in counts
            },
        )
        base = [one["seconds"] for one in found[f"{name}, {counts[0]:,}"]]
        for label, values in found.items():
            seconds = [one["seconds"] for one in values]
            peaks = [one["peak"] / 1e6 for one in values if "peak" in one]
            row = {"seconds": spread(seconds), "times_smallest": ratios(seconds, base)}
            table.add(command_and_trials=label, **row, **({"peak_MB": spread(peaks)} if peaks else {}))
    return table


def _command(folder: Path, *arguments: str) -> dict[str, float]:
    """Wall time and peak memory of one of searchlib's commands."""
    study = [arguments[0], "--study", NAME, "--studies", "studies", *arguments[1:]]
    seconds = seconds_of(lambda: python(["-m", "benchmarks.inside", "inside.json", *study], folder))
    return {"seconds": seconds, **json.loads((folder / "inside.json").read_text(encoding="utf-8"))}


def _optuna_answers(folder: Path) -> float:
    from searchlib.cli import servers
    from searchlib.stores import Stores

    def start() -> servers.Server:
        return servers._start_optuna(Stores())

    return _answers(folder, start, "/api/studies/0?after=0")


def _mlflow_answers(folder: Path) -> float:
    from searchlib.cli import servers
    from searchlib.stores import Stores

    def start() -> servers.Server:
        return servers._start_mlflow(Stores())

    query = json.dumps({"experiment_ids": ["1"], "max_results": 100}).encode()
    return _answers(folder, start, "/ajax-api/2.0/mlflow/runs/search", query)


def _answers(folder: Path, start: Callable[[], Any], path: str, query: bytes | None = None) -> float:
    """Seconds from the start of a server, as ``searchlib ui`` starts it, until what a study's page asks is there."""
    from searchlib.cli import servers
    from searchlib.stores.places import LOCK_FOLDER

    with contextlib.chdir(folder), ExitStack() as left:
        LOCK_FOLDER.mkdir(exist_ok=True)
        started = time.perf_counter()
        server = start()
        left.callback(servers._stop, server)
        request = urllib.request.Request(server.address + path, query, {"Content-Type": "application/json"})
        while True:
            try:
                with urllib.request.urlopen(request, timeout=servers.START_SECONDS) as answer:
                    found = json.loads(answer.read())
                    assert found.get("trials") or found.get("runs"), (
                        f"{server.name} knows no trials: {str(found)[:200]}"
                    )
                    return time.perf_counter() - started
            except OSError as error:
                if server.process is None or server.process.poll() is not None:
                    raise RuntimeError(f"{server.name} ended; see {server.log}") from error
                if time.perf_counter() > started + servers.START_SECONDS:
                    raise
                time.sleep(0.1)
