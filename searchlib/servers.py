"""Optuna Dashboard and the MLflow UI on this machine: start, wait until they answer, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.errors import SearchlibError
from searchlib.storage import LOCK_FOLDER, is_url, load_optuna_study
from searchlib.tracking import Tracker

if TYPE_CHECKING:
    from searchlib.study import Study

__all__ = ["Server", "dashboards", "study_pages", "watch"]

HOST = "127.0.0.1"  # never the network: neither server asks for a password
START_SECONDS = 120.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers. process is None where it was running already."""

    name: str
    address: str
    process: subprocess.Popen[bytes] | None
    log: Path | None


@contextlib.contextmanager
def dashboards(storage: str, tracking_uri: str | None) -> Iterator[list[Server]]:
    """Both servers on free ports of 127.0.0.1, answering; stopped on leaving. SearchlibError if one won't start."""
    LOCK_FOLDER.mkdir(exist_ok=True)
    running: list[Server] = []
    try:
        running.append(_start_optuna(storage))
        running.append(_start_mlflow(tracking_uri))
        for server, probe in zip(running, ("/api/meta", "/health"), strict=True):
            _wait(server, probe)
        yield running
    finally:
        _stop(running)


def watch(servers: Sequence[Server]) -> None:
    """Return never, until interrupted; SearchlibError when a server ends by itself."""
    while True:
        for server in servers:
            if server.process is not None and server.process.poll() is not None:
                raise SearchlibError(f"{server.name} ended with status {server.process.returncode}; see {server.log}")
        time.sleep(0.5)


def _start_optuna(storage: str) -> Server:
    port = _free_port()
    place = storage if is_url(storage) else os.path.abspath(storage)
    command = ["-m", "optuna_dashboard._cli", place, "--host", HOST, "--port", str(port), "--server", "wsgiref"]
    return _start("Optuna Dashboard", command, port)


def _start_mlflow(tracking_uri: str | None) -> Server:
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        return Server(name="MLflow", address=uri, process=None, log=None)
    port = _free_port()
    store = uri or f"sqlite:///{os.path.abspath('mlflow.db')}"
    command = ["-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--registry-store-uri", store]
    return _start("MLflow", command, port)


def _start(name: str, arguments: Sequence[str], port: int) -> Server:
    log = LOCK_FOLDER / f"ui-{name.split()[0].lower()}.log"
    # MLflow's job runner would start a dozen processes that only its GenAI features use
    environment = {
        **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"
    }  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    return Server(name=name, address=f"http://{HOST}:{port}", process=process, log=log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(server: Server, path: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.process is not None:
        try:
            with urllib.request.urlopen(server.address + path, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            pass
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise SearchlibError(f"{server.name} didn't start; see {server.log}")
        time.sleep(0.2)


def _stop(servers: Sequence[Server]) -> None:
    """End all of them, each with its workers. They are told at once, so a second Ctrl-C leaves none behind."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        running = [server.process for server in servers if server.process and server.process.poll() is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)  # its own session
        until = time.monotonic() + STOP_SECONDS
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0.1))


def study_pages(study: Study, storage: str, tracking_uri: str | None) -> tuple[str, str]:
    """The paths of a study's page in Optuna Dashboard and in the MLflow UI."""
    optuna_study = load_optuna_study(storage, study.name)
    with Tracker(study, tracking_uri) as tracker:
        experiment = f"/#/experiments/{tracker.experiment}" if tracker.experiment else ""
    return f"/dashboard/studies/{optuna_study._study_id}" if optuna_study else "", experiment
