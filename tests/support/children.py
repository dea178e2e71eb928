"""What tests run in processes of their own. It imports nothing, as each child has to import it first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

CHILDREN = multiprocessing.get_context("forkserver")
PRELOADED = ["uvicorn", "mlflow.server.fastapi_app", "torch", "optuna", "searchlib.search", "searchlib.report"]


def preload() -> None:
    """Have one process import what takes seconds; every child is a fork of it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    CHILDREN.set_forkserver_preload(PRELOADED)


def serve_mlflow(folder: str, port: int) -> None:
    """What ``mlflow server`` runs, as it runs it."""
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/server.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/artifacts",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    import uvicorn
    from mlflow.server.fastapi_app import app

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")


def searchlib(
    folder: str, arguments: list[str], output: str, ignored: tuple[signal.Signals, ...] = (), trap: str = ""
) -> None:
    """The command line in *folder*, as a shell starts it.

    output: the terminal that it gets as its own, or where that is no terminal, the start of the names of two files.
    ignored: signals that whoever starts it has it ignore. trap: code that is run before.
    """
    os.chdir(folder)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else default)
    if output.startswith("/dev/"):
        terminal = os.open(output, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(terminal, descriptor)
    else:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    exec(trap, {})
    sys.argv = ["searchlib", *arguments]
    from searchlib.cli.main import main

    main()
