"""Run the benchmarks.

    python -m benchmarks [PART ...] [--quick] [--repeats N] [--json FILE] [--folder FOLDER] [--data-root FOLDER]

Parts: throughput, roofline, overhead, scaling, start, early_stopping; all of them, if none is named. Each prints a
table; every figure is the median [smallest, largest] of n repeats, beside its ratio to something else that ran in the
same minutes on the same machine. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measuring import Settings, Table, machine, say, write_json

PARTS = ("throughput", "roofline", "overhead", "scaling", "start", "early_stopping")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[[], *PARTS], help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a smoke test: little data, few repeats, small studies")
    parser.add_argument("--repeats", type=int, help="of every figure; default 5, with --quick 2")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default bench.json")
    parser.add_argument("--folder", type=Path, help="where stores are made and stay; default a temporary folder")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="default data")
    options = parser.parse_args()
    with ExitStack() as left:
        folder = options.folder or Path(left.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(
            quick=options.quick,
            repeats=options.repeats or (2 if options.quick else 5),
            folder=folder.absolute(),
            data_root=options.data_root.absolute(),
        )
        print(", ".join(f"{name} {value}" for name, value in machine().items() if value is not None), flush=True)
        sections: dict[str, list[Table]] = {}
        for part in options.parts or PARTS:
            started = time.monotonic()
            say(f"{part} ...")
            sections[part] = importlib.import_module(f"benchmarks.{part}").run(settings)
            print(*sections[part], sep="\n", flush=True)
            say(f"{part}: {time.monotonic() - started:.0f} s")
            write_json(options.json, settings, sections)
    failures = [table.failure for tables in sections.values() for table in tables if table.failure]
    if failures:
        sys.exit(f"FAILED: {'; '.join(failures)}")


if __name__ == "__main__":
    main()
