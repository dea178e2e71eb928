"""How long until searchlib answers, and until its first optimizer step, against importing torch, Optuna and MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measuring import ROOT, Settings, Table, in_turn, ratios, seconds_of, spread

FLOOR = "python: import torch, optuna, mlflow"


def python(arguments: Sequence[str], folder: Path) -> None:
    """Run Python on *arguments* in *folder*, with this checkout first on the path; an error if it fails."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def first_step(data_root: Path) -> float:
    """Seconds from the start of ``searchlib optimize --study init_vs_act`` in an empty folder to its first step."""
    with tempfile.TemporaryDirectory() as temporary:
        options = ["--study", "init_vs_act", "--studies", str(ROOT / "studies"), "--data-root", str(data_root)]
        started = time.time()
        python(["-m", "benchmarks.inside", "--first-step", "step.json", "optimize", *options], Path(temporary))
        reached = json.loads((Path(temporary) / "step.json").read_text(encoding="utf-8"))
        return float(reached["time"]) - started


def run(settings: Settings) -> list[Table]:
    """The part ``start``."""

    def command(*arguments: str) -> float:
        return seconds_of(lambda: python(arguments, settings.folder))

    contenders: dict[str, Callable[[int], float]] = {
        "python: nothing": lambda repeat: command("-c", "pass"),
        FLOOR: lambda repeat: command("-c", "import torch, optuna, mlflow"),
        "searchlib --help": lambda repeat: command("-m", "searchlib", "--help"),
        "searchlib optimize, to its first step": lambda repeat: first_step(settings.data_root),
    }
    for contender in contenders.values():
        contender(0)  # the files are in the cache from here on
    seconds = in_turn(settings.repeats, contenders)
    table = Table("Start: seconds from the start of the process, files in the cache")
    for name, values in seconds.items():
        table.add(what=name, seconds=spread(values), of_the_imports=ratios(values, seconds[FLOOR]))
    table.notes.append("The first step: init_vs_act in an empty folder; data read and checked, MLflow's store made.")
    return [table]
