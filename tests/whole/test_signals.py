"""Signals, closed terminals and pipes: what is finished is saved, no run is left at work and no server behind."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from support import STORAGE, command, mlflow_runs, prepare, run, search_all, small_study, table
from support.children import CHILDREN, preload, searchlib
from support.command import write_study
from support.faults import uninterrupted

from searchlib.stores.stores import Stores

OPTIMIZE = ["optimize", "--study", "asked"]

preload()


def start(
    arguments: list[str], *, output: str = "said", ignored: tuple[signal.Signals, ...] = (), trap: str = ""
) -> BaseProcess:
    """``searchlib`` in the background, in this folder."""
    write_study(("trials=12", "trials=4000"))
    prepare()
    process = CHILDREN.Process(target=searchlib, args=(os.getcwd(), arguments, output, ignored, trap), daemon=True)
    process.start()
    return process


def until(true: Callable[[], object], process: BaseProcess, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, said()
        assert process.is_alive(), said()
        time.sleep(0.1)


def said(name: str = "err") -> str:
    path = Path(f"said.{name}")
    return path.read_text() if path.exists() else ""


def recorded() -> int:
    found = Stores(STORAGE).optuna_study("asked") if Path(STORAGE).exists() else None
    return sum(trial.state.is_finished() for trial in found.get_trials(deepcopy=False)) if found else 0


def send(process: BaseProcess, *signals: signal.Signals) -> None:
    assert process.pid is not None
    for number in signals:
        os.kill(process.pid, number)


def status_of_interrupted(process: BaseProcess, seconds: float = 60.0) -> int | None:
    process.join(seconds)
    assert not process.is_alive()
    return process.exitcode


def assert_saved() -> None:
    """What is recorded is what an uninterrupted search would have; MLflow shows no run at work, and one for each."""
    study = small_study(name="asked")
    done = [row for row in table(study) if row[1] != "RUNNING"]
    assert len(done) >= 4
    assert [parent.info.status for parent in mlflow_runs(study, "study")] == ["KILLED"]
    numbers = sorted(int(found.data.tags["optuna.trial_number"]) for found in mlflow_runs(study, "trial"))
    assert numbers == [row[0] for row in done]
    assert [row for row in done if row[0] < 12] == uninterrupted()[: len(done)]


def test_a_signal_while_the_last_results_are_written() -> None:
    """All is trained, and the recorder still opens MLflow's store."""
    slow = """
import time
from searchlib.stores.tracking import Tracker
original = Tracker.__enter__
def enter(tracker):
    open("opening", "w").close()
    time.sleep(4.0)
    return original(tracker)
Tracker.__enter__ = enter
"""
    process = start([*OPTIMIZE, "--trials", "4"], trap=slow)
    until(lambda: "4/4 trials" in said("out"), process)
    assert Path("opening").exists()
    assert recorded() == 0
    send(process, signal.SIGTERM)
    assert status_of_interrupted(process) == 130
    assert "Interrupted: 4 of 4 trials are saved" in said()
    assert recorded() == 4


def test_an_interrupt_that_a_library_calls_an_error_is_one() -> None:
    """As pydantic does when it comes while MLflow is imported."""
    trap = """
import os, signal
from searchlib.stores import Stores
def count(_stores):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True: pass
    except KeyboardInterrupt:
        raise ValueError("Error building a serializer") from None
Stores.count_trials = count
"""
    process = start(["list"], trap=trap)
    assert status_of_interrupted(process) == 130
    assert said() == "\nInterrupted: what was recorded is saved\n"


def test_an_interrupt_within_a_library_s_exec_of_a_string_is_one() -> None:
    """Of which Python remembers that nobody handled it, and would end by SIGINT."""
    Path("asked.py").write_text('exec("import os, signal\\nos.kill(os.getpid(), signal.SIGTERM)\\nwhile True: pass")\n')
    ended = command.searchlib("optimize", "--study", "asked.py")
    assert (ended.returncode, ended.stderr) == (130, "\nInterrupted: what was recorded is saved\n")


@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGTERM"], ["SIGHUP", "SIGTERM", "SIGHUP"]], ids="-".join)
def test_a_signal_saves_what_is_finished(signals: list[str]) -> None:
    """Those that come within a second are one: a closing terminal sends two."""
    process = start(OPTIMIZE)
    until(recorded, process)
    send(process, *(signal.Signals[name] for name in signals))
    assert status_of_interrupted(process) == 130
    told = re.fullmatch(r"\nInterrupted: (\d+) of 4000 trials are saved; run the same again to resume\n", said())
    assert told, said()
    assert int(told[1]) == recorded() >= int(re.findall(r"(\d+)/4000 trials", said("out"))[-1]), "all that was shown"
    assert_saved()


def test_a_signal_that_is_ignored_stays_ignored_and_sigterm_works() -> None:
    """As of a job in the background of a script, or under nohup."""
    process = start(OPTIMIZE, ignored=(signal.SIGINT, signal.SIGHUP))
    until(recorded, process)
    before = recorded()
    send(process, signal.SIGINT, signal.SIGHUP)
    until(lambda: recorded() > before + 20, process)
    send(process, signal.SIGTERM)
    assert status_of_interrupted(process) == 130
    assert "Interrupted: " in said()


def test_a_second_signal_ends_it_at_once() -> None:
    """In the middle of saving, which takes a minute here; nothing that was recorded is lost."""
    trap = "import time; from searchlib.stores import parent_run; parent_run._terminate = lambda *_: time.sleep(60)"
    process = start(OPTIMIZE, trap=trap)
    until(recorded, process)
    send(process, signal.SIGTERM)
    process.join(1.5)
    assert process.is_alive(), "it is saving"
    began = time.monotonic()
    send(process, signal.SIGTERM)
    assert status_of_interrupted(process) == 130
    assert time.monotonic() - began < 3
    assert said() == "\nInterrupted again: ended at once; what was recorded is saved\n"
    before = table(small_study(name="asked"))
    study = small_study(name="asked", trials=len(before))
    search_all(study)
    after = table(study)
    assert all(row[1] == "COMPLETE" for row in after)
    assert [row for row in before if row[1] == "COMPLETE"] == [after[row[0]] for row in before if row[1] == "COMPLETE"]


def test_a_terminal_that_is_closed() -> None:
    ours, theirs = pty.openpty()
    process = start(OPTIMIZE, output=os.ttyname(theirs), trap="import os; os.environ['TERM'] = 'xterm'")
    shown = b""
    while b"trials" not in shown or not recorded():
        assert select.select([ours], [], [], 60)[0], shown
        shown += os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    assert status_of_interrupted(process) == 130
    assert_saved()


def test_a_pipe_whose_reader_has_gone() -> None:
    """As by ``| head -1``: like Ctrl-C. A process of its own, as Python complains of such a pipe at its very end."""
    write_study(("trials=12", "trials=4000"))
    prepare()
    process = command.start(*OPTIMIZE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert "trials" in process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 130
    assert re.fullmatch(r"\nInterrupted: \d+ of 4000 trials are saved; run the same again to resume\n", errors)
    assert_saved()


SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
QUICK_SERVERS = f"""
from searchlib.cli import servers
def start(name, stores, host):
    port = servers._free_port(host)
    return servers._start(name, ["-c", {SERVER!r}, str(port)], host, port, stores.folder, {{}})
servers._start_optuna = lambda stores, host, port: start("Optuna Dashboard", stores, host)
servers._start_mlflow = lambda stores, host, port: start("MLflow", stores, host)
"""


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "trap"), [("SIGINT", ""), ("SIGTERM", QUICK_SERVERS), ("SIGHUP", QUICK_SERVERS)], ids=lambda one: one[:7]
)
def test_no_server_outlives_the_command_that_started_it(name: str, trap: str) -> None:
    """Once the dashboards themselves, which take seconds; they answer until the signal comes."""
    run(small_study(name="asked", trials=4))
    process = start(["ui", "--study", "asked"], trap=trap)
    until(lambda: "Ctrl-C stops both" in said("out"), process)
    addresses = re.findall(r"http://127\.0\.0\.1:\d+", said("out"))
    assert len(addresses) == 2
    assert all(map(answers, addresses))
    send(process, signal.Signals[name])
    assert status_of_interrupted(process) == 0
    assert not any(map(answers, addresses))
    assert said("out").endswith("stopped\n")
    assert said() == ""
