"""searchlib's commands in one child process, under an audit hook that sees what they open, write, reach and unpickle.

Several commands in one process, or one command in many, cost the imports of torch, Optuna and MLflow once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TEST_FILES = "t10k-"  # starts the names of the test files

CHILD = r"""
import json, os, signal, sys

job = json.loads(sys.argv[1])
log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2,
           "os.truncate": 1, "os.chmod": 1, "os.chown": 1, "os.utime": 1, "sqlite3.connect": 1}

def note(*entry):
    os.write(log, (json.dumps([os.getpid(), *entry]) + "\n").encode())

def place(path):
    return os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""

def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        path = place(path)
        if os.path.basename(path).startswith(job["test_files"]):
            note("test file", path)
            if job["on_test_file"] == "abort":
                os._exit(97)
            if job["on_test_file"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        if path and flags & WRITING:
            note("write", path)
    elif event in CHANGES:
        for path in arguments[:CHANGES[event]]:
            if place(path) and path != ":memory:":
                note("write", place(path))
    elif event in ("socket.connect", "socket.sendto"):
        note("reach", repr(arguments[1]))
    elif event == "pickle.find_class":
        note("unpickle", f"{arguments[0]}.{arguments[1]}")

def run_all():
    from searchlib.cli.main import main
    for command in job["commands"]:
        sys.argv = ["searchlib", *command]
        note("begin", " ".join(command))
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            note("end", end.code)

if job["processes"] > 1:
    import mlflow, optuna, torch
    import mlflow.tracking, sqlalchemy
    import searchlib.cli.main, searchlib.results.holdout, searchlib.results.champion
    ready, go = os.pipe()
    children = []
    for number in range(job["processes"]):
        if not (child := os.fork()):
            os.close(go)
            os.dup2(os.open(f"{job['log']}.{number}", os.O_WRONLY | os.O_CREAT, 0o644), 1)
            os.read(ready, 1)  # until all are there
            sys.addaudithook(watch)
            run_all()
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    os.close(go)
    for child in children:
        os.waitpid(child, 0)
else:
    sys.addaudithook(watch)
    run_all()
"""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """status: of the process. output: stdout and stderr. answers: stdout by process, where there were several.

    events: what was seen, each (process id, command, kind, detail); codes: the exit codes of the commands.
    """

    status: int
    output: str
    answers: list[str]
    events: list[tuple[int, str, str, str]]
    codes: list[int]

    def of(self, kind: str) -> list[str]:
        """The details of all events of a kind."""
        return [detail for _, _, seen, detail in self.events if seen == kind]


def watched(
    *commands: list[str],
    log: Path,
    on_test_file: str = "note",
    processes: int = 1,
    **environment: str,
) -> Watched:
    """Run *commands* one after another in one process, or all of them in each of *processes* at once.

    log: a file to write, beside which there may be others; outside of what the commands write.
    on_test_file: "note" it, "abort" the process with status 97, or "kill" it by SIGKILL.
    """
    job = {
        "commands": commands,
        "log": str(log.absolute()),
        "test_files": TEST_FILES,
        "on_test_file": on_test_file,
        "processes": processes,
    }
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        env={
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",  # searchlib sets it too; here MLflow may be imported before
            **environment,
        },
    )
    events, codes, current = [], [], {}
    for line in log.read_text().splitlines() if log.exists() else []:
        process, kind, detail = json.loads(line)
        if kind == "begin":
            current[process] = detail
        elif kind == "end":
            codes.append(detail)
        else:
            events.append((process, current.get(process, ""), kind, detail))
    answers = [Path(f"{log}.{number}").read_text() for number in range(processes)] if processes > 1 else []
    return Watched(status=done.returncode, output=done.stdout, answers=answers, events=events, codes=codes)
