"""Half an hour of kills: is anything lost?

    python -m benchmarks.soak [--minutes 30] [--seed N] [--folder FOLDER]

Each round draws a study on the digits and runs it twice by ``searchlib optimize``: once undisturbed, and once killed
again and again (by SIGKILL mostly, else by SIGTERM or SIGINT), verified at random in between, and started again until
it is through. Then all that Optuna, MLflow and the registry hold of the two is compared. A line each round; at the end
the kills survived, the trials compared and the differences. With any difference the exit status is 1, and the folder
stays. Two rounds run side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.comparing import DELETED, count_trials, differences, record
from benchmarks.measuring import ROOT
from searchlib.study.loading import load_study

LANES = 2
HANGS = 300.0  # seconds after which a process is taken to hang
MOST_KILLS = 10  # of one study
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
INTERRUPTED = 130  # or by the signal itself, while Python still starts
STORAGES = {"journal": "optuna.journal", "sqlite": "sqlite:///optuna.db"}
MODELS = {"MLP": "MLP(hidden=({width},))", "deep MLP": "MLP(hidden=({width}, 8))", "module": "own"}
FILE = '''"""Drawn by the soak: {title}."""

import torch

from searchlib import MLP, Choice, LogUniform, Study


def own(config, dataset):
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(dataset.inputs, {width}),
        torch.nn.Tanh(),
        torch.nn.Linear({width}, dataset.outputs),
    )


STUDY = Study(
    question="Is anything lost?",
    dataset="digits",
    model={model},
    scientific={{"initializer": Choice("xavier_normal", "normal", "zeros")}},
    nuisance={{"learning_rate": LogUniform(0.01, 10.0), "batch_size": Choice(16, 32)}},
    fixed={{"momentum": 0.9, "epochs": {epochs}}},
    sampler="{sampler}",
    pruner="{pruner}",
    trials={trials},
    replicates={replicates},
    round_size={round_size},
    seed={seed},
)
'''


@dataclass
class Round:
    """What came of one study. differences: a line each; kills: by signal."""

    title: str
    kills: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    trials: int = 0
    verified: int = 0
    deleted: int = 0


def draw_study(draw: random.Random) -> tuple[str, str, str]:
    """A study file, the storage that it shall use, and what it is in a few words."""
    sampler = draw.choice(["balanced", "tpe", "random"])
    pruner = draw.choice(["none", "none", "median", "within_cell", "asha"])
    storage, model = draw.choice(list(STORAGES)), draw.choice(list(MODELS))
    values = {
        "width": draw.choice([8, 16, 32]),
        "epochs": draw.choice([3, 6, 10]),
        "trials": draw.choice([18, 30, 48]),
        "replicates": draw.choice([0, 2, 5]),
        "round_size": draw.choice([6, 12]),
        "seed": draw.randrange(1000),
    }
    title = f"{sampler}, {pruner}, {storage}, {model}, " + ", ".join(f"{key} {value}" for key, value in values.items())
    written = MODELS[model].format(**values)
    return FILE.format(title=title, sampler=sampler, pruner=pruner, model=written, **values), storage, title


class Life:
    """A study in a folder of its own, run by the command line."""

    def __init__(self, folder: Path, text: str, storage: str) -> None:
        self.folder, self.storage = folder, storage
        (folder / "studies").mkdir(parents=True)
        (folder / "studies" / "soaked.py").write_text(text, encoding="utf-8")

    def start(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        arguments = [command, "--study", "soaked", "--storage", STORAGES[self.storage], *options]
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "searchlib", *arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """The exit status of a process, and what it printed; one that hangs is killed, and says so."""
        hung = ""
        try:
            process.wait(HANGS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hung = f"hung for {HANGS:.0f} s"
        return process.returncode, (self.folder / "output.txt").read_text(errors="replace")[-2000:] + hung

    def run(self, command: str, *options: str) -> tuple[int, str]:
        """The exit status of a command and what it printed."""
        return self.end(self.start(command, *options))

    def record(self) -> dict[str, Any]:
        study = load_study(str(self.folder / "studies" / "soaked.py"))
        storage = STORAGES[self.storage].replace("optuna.", f"{self.folder}/optuna.")
        return record(study, storage=storage, tracking_uri=f"sqlite:///{self.folder}/mlflow.db")


class Soak:
    """The rounds, until the time is over."""

    def __init__(self, folder: Path, seed: int, minutes: float) -> None:
        self.folder, self.seed = folder, seed
        self.until = time.monotonic() + 60 * minutes
        self.rounds: list[Round] = []
        self.started = 0
        self.lock = threading.Lock()

    def lane(self) -> None:
        """Round after round."""
        while True:
            with self.lock:
                if self.started >= LANES and time.monotonic() > self.until:
                    return
                self.started += 1
                number = self.started
            since = time.monotonic()
            try:
                done = self.round(number)
            except Exception:
                done = Round(f"seed {self.seed}", differences=[traceback.format_exc()])
            with self.lock:
                self.rounds.append(done)
                kills = ", ".join(f"{count} {name}" for name, count in sorted(done.kills.items())) or "no kill"
                print(
                    f"round {number}: {done.title}: {kills}; {done.verified} times verified; {done.trials} trials "
                    f"compared, {len(done.differences)} differences, {done.deleted} deleted runs; "
                    f"{time.monotonic() - since:.0f} s",
                    *(f"    {line}" for line in done.differences[:20]),
                    sep="\n",
                    flush=True,
                )

    def round(self, number: int) -> Round:
        """One study, undisturbed and killed."""
        draw = random.Random(f"{self.seed} {number}")
        text, storage, title = draw_study(draw)
        done = Round(title)
        folder = self.folder / f"round{number}"
        undisturbed, killed = Life(folder / "undisturbed", text, storage), Life(folder / "killed", text, storage)
        since = time.monotonic()
        status, output = undisturbed.run("optimize")
        seconds = time.monotonic() - since
        if status:
            done.differences.append(f"undisturbed, it ended with {status}: {output}")
            return done
        self.kill_and_go_on(killed, seconds, draw, done)
        if not done.differences:
            expected, found = undisturbed.record(), killed.record()
            done.differences += differences(expected, found)
            done.trials, done.deleted = count_trials(found), found[DELETED]
        if not done.differences:
            shutil.rmtree(folder)
        return done

    def kill_and_go_on(self, life: Life, seconds: float, draw: random.Random, done: Round) -> None:
        """Kill a study within the *seconds* that it takes undisturbed, again and again; then let it end."""
        for kills_left in reversed(range(MOST_KILLS + 1)):
            process, how = life.start("optimize"), draw.choice(SIGNALS)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds * draw.uniform(0.2, 1.1) if kills_left else HANGS)
            signalled = process.poll() is None
            if signalled:
                process.send_signal(how)
            status, output = life.end(process)
            if status == 0:
                break
            if not (signalled and kills_left and _died_of(how, status, output)):
                done.differences.append(f"{how.name if signalled else 'by itself'}, it ended with {status}: {output}")
                return
            done.kills[how.name] += 1
            if draw.random() < 0.3:
                self.verify(life, done, finished=False, options=draw.choice(((), ("--repair",))))
        self.verify(life, done, finished=True)

    def verify(self, life: Life, done: Round, *, finished: bool, options: tuple[str, ...] = ()) -> None:
        """After a kill ``verify`` may find something; at the end it may not."""
        status, output = life.run("verify", *options)
        done.verified += 1
        if status != 0 and (finished or status != 1 or "Traceback" in output):
            done.differences.append(f"verify {' '.join(options)} ended with {status}: {output}")


def _died_of(how: signal.Signals, status: int, output: str) -> bool:
    """Whether a process ended as that signal should end it."""
    return status == -how or (how != signal.SIGKILL and status == INTERRUPTED and "Traceback" not in output)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="no round begins later; default 30")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of all that is drawn")
    parser.add_argument("--folder", type=Path, help="where the studies run; default a temporary folder")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="soak"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background, so that a study's life has it
    print(f"seed {options.seed}, {options.minutes:g} minutes, in {folder}", flush=True)
    soak = Soak(folder, options.seed, options.minutes)
    with ThreadPoolExecutor(LANES) as pool:
        for lane in [pool.submit(soak.lane) for _ in range(LANES)]:
            lane.result()
    kills = Counter[str]()
    for done in soak.rounds:
        kills.update(done.kills)
    lost = sum(len(done.differences) for done in soak.rounds)
    print(
        f"seed {options.seed}: {len(soak.rounds)} studies, {sum(kills.values())} kills survived "
        f"({', '.join(f'{count} {name}' for name, count in sorted(kills.items()))}), "
        f"{sum(done.verified for done in soak.rounds)} times verified, "
        f"{sum(done.trials for done in soak.rounds)} trials compared, {lost} differences"
    )
    if lost:
        sys.exit(f"the studies that differ stay in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
