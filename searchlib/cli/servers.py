"""Optuna Dashboard and the MLflow UI: start, wait until they answer, stop."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.errors import SearchlibError
from searchlib.stores import LOCK_FOLDER, Stores, Tracker
from searchlib.text import mask

if TYPE_CHECKING:
    from searchlib.study import Study

HOST = "127.0.0.1"  # not the network, unless told so: neither server asks for a password
EVERYWHERE = "0.0.0.0"
DASHBOARD = (  # its command takes the storage as an argument only
    "import os, sys; sys.argv.insert(1, os.environ['SEARCHLIB_STORAGE']); "
    "from optuna_dashboard._cli import main; main()"
)
START_SECONDS = 120.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers. process is None where it was running already; also: its addresses on the network."""

    name: str
    address: str
    process: subprocess.Popen[bytes] | None
    log: Path | None
    also: Sequence[str] = ()


@contextlib.contextmanager
def dashboards(
    stores: Stores,
    host: str = HOST,
    *,
    optuna_port: int | None = None,
    mlflow_port: int | None = None,
) -> Iterator[list[Server]]:
    """Both servers on *host*, answering; stopped on leaving. SearchlibError if one won't start.

    optuna_port, mlflow_port: a free one unless said.
    """
    (stores.folder / LOCK_FOLDER).mkdir(exist_ok=True)
    running: list[Server] = []
    try:
        if optuna_port is not None and optuna_port == mlflow_port:
            raise SearchlibError(f"--optuna-port and --mlflow-port are both {optuna_port}; give each its own")
        for option, port in (("--optuna-port", optuna_port), ("--mlflow-port", mlflow_port)):
            if port is not None:
                _refuse_if_taken(host, port, option)
        running.append(_start_optuna(stores, host, optuna_port))
        running.append(_start_mlflow(stores, host, mlflow_port))
        for server, probe in zip(running, ("/api/meta", "/health"), strict=True):
            _wait(server, probe)
        yield running
    finally:
        _stop(running)


def is_private(host: str) -> bool:
    """Whether only this machine reaches what listens on *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def watch(servers: Sequence[Server]) -> None:
    """Return never, until interrupted; SearchlibError when a server ends by itself."""
    while True:
        for server in servers:
            if server.process is not None and server.process.poll() is not None:
                raise SearchlibError(f"{server.name} ended with status {server.process.returncode}; see {server.log}")
        time.sleep(0.5)


def _start_optuna(stores: Stores, host: str = HOST, port: int | None = None) -> Server:
    port = port or _free_port(host)
    command = ["-c", DASHBOARD, "--host", host, "--port", str(port), "--server", "wsgiref"]
    return _start("Optuna Dashboard", command, host, port, stores.folder, {"SEARCHLIB_STORAGE": stores.place})


def _start_mlflow(stores: Stores, host: str = HOST, port: int | None = None) -> Server:
    uri = stores.tracking_address
    if uri.startswith(("http://", "https://")):
        if port is not None:
            raise SearchlibError(f"--mlflow-port {port}: MLflow runs already, at {mask(uri)}; leave the option out")
        return Server(name="MLflow", address=mask(uri), process=None, log=None)
    port = port or _free_port(host)
    environment = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_REGISTRY_STORE_URI": uri,
        # MLflow's job runner would start a dozen processes that only its GenAI features use
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    if not is_private(host):
        # its own protection lets browsers write from localhost only; its pages are served under these names, too
        names = [f"{name}:{port}" for name in ("localhost", HOST, *_names(host))]
        hosts, origins = ",".join(names), ",".join(f"http://{name}" for name in names)
        environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS") or hosts
        environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = (
            os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS") or origins
        )
    command = ["-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
    return _start("MLflow", command, host, port, stores.folder, environment)


def _names(host: str) -> list[str]:
    """The names under which browsers may look for a server that listens on *host*."""
    if host != EVERYWHERE:
        return [host]
    import psutil

    found = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    return [socket.gethostname(), *(address.address for address in found if address.family == socket.AF_INET)]


def _start(
    name: str, arguments: Sequence[str], host: str, port: int, folder: Path, settings: Mapping[str, str]
) -> Server:
    """Start a server. Its settings are environment variables, as everybody on the machine can read arguments."""
    log = folder / LOCK_FOLDER / f"ui-{name.split()[0].lower()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **settings},
        )
    names = dict.fromkeys([HOST, *_names(host)]) if host == EVERYWHERE else [host]
    address, *also = (f"http://{each}:{port}" for each in names)
    return Server(name=name, address=address, process=process, log=log, also=also)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        try:
            if not host:  # to the system that is every address
                raise OSError("no address")
            probe.bind((host, 0))
        except (OSError, UnicodeError) as error:
            raise SearchlibError(
                f"--host {host!r} can't be listened on ({error}); expected an IPv4 address of this "
                f"machine or its name: {HOST}, which nobody else reaches, or {EVERYWHERE}, which is all of them"
            ) from None
        port: int = probe.getsockname()[1]
        return port


def _refuse_if_taken(host: str, port: int, option: str) -> None:
    _free_port(host)  # what is wrong with the host is said of that
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as both servers do
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SearchlibError(
                f"{option} {port} can't be listened on ({error.strerror}); give another, or none for a free one"
            ) from None


def _wait(server: Server, path: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    deadline = time.monotonic() + START_SECONDS
    while server.process is not None:
        try:
            with direct.open(server.address + path, timeout=5):
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


def study_pages(study: Study, stores: Stores) -> tuple[str, str]:
    """The paths of a study's page in Optuna Dashboard and in the MLflow UI."""
    study.check_single()
    optuna_study = stores.optuna_study(study.name)
    with Tracker(study, stores, create=True) as tracker:
        experiment = f"/#/experiments/{tracker.experiment}/runs" if tracker.experiment else ""
    return f"/dashboard/studies/{optuna_study._study_id}" if optuna_study else "", experiment
