"""Run searchlib's command line in this process and write down what it took: ``python -m benchmarks.inside FILE ...``.

FILE gets the peak memory when the command ends. With ``--first-step`` before it, the time of the first optimizer step
instead (by the clock, ``time.time``), and the process ends there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.measuring import peak_memory


def end_at_first_step(file: Path) -> None:
    """Have this process write the time to *file* and end once any stack has made its first step."""
    from searchlib.training.engine import Engine

    build = Engine.build

    def watched(engine: Engine, *arguments: Any) -> Any:
        stack = build(engine, *arguments)
        step = stack.step

        def first(*arguments: Any) -> Any:
            step(*arguments)
            file.write_text(json.dumps({"time": time.time()}), encoding="utf-8")
            os._exit(0)

        mock.patch.object(stack, "step", first).start()
        return stack

    mock.patch.object(Engine, "build", watched).start()


def main() -> None:
    """The wrapper's own command line."""
    arguments = sys.argv[1:]
    stop = arguments[0] == "--first-step"
    name, *rest = arguments[1:] if stop else arguments
    file = Path(name).absolute()
    if stop:
        end_at_first_step(file)
    from searchlib.cli.main import main as command

    sys.argv = ["searchlib", *rest]
    try:
        command()
    finally:
        file.write_text(json.dumps({"peak": peak_memory()}), encoding="utf-8")


if __name__ == "__main__":
    main()
