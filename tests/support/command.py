"""The command line as a process, and the study file that it gets."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from click.testing import CliRunner

from searchlib.cli.main import cli

STUDY = """
    from searchlib import MLP, Choice, LogUniform, Study, idx_dataset

    STUDY = Study(
        question="Which of two?",
        dataset=idx_dataset(
            name="blobs", title="Blobs", classes=("low", "middle", "high"), shape=(6, 6), train=240, test=60
        ),
        model=MLP(hidden=(8,)),
        scientific={"initializer": Choice("xavier_normal", "normal"), "activation": Choice("tanh", "relu")},
        nuisance={"learning_rate": LogUniform(0.01, 1.0), "batch_size": Choice(16, 32)},
        fixed={"momentum": 0.9, "epochs": 2},
        trials=12,
        round_size=4,
    )
"""


def study_text(*changes: tuple[str, str]) -> str:
    text = textwrap.dedent(STUDY)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def write_study(*changes: tuple[str, str], name: str = "asked") -> Path:
    Path("studies").mkdir(exist_ok=True)
    path = Path(f"studies/{name}.py")
    path.write_text(study_text(*changes))
    return path


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command in the background, open to Ctrl-C even where the tests themselves run with SIGINT ignored."""
    return subprocess.Popen(
        [sys.executable, "-m", "searchlib", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def searchlib(*arguments: str) -> subprocess.CompletedProcess[str]:
    process = start(*arguments)
    output, errors = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def told(*arguments: str) -> str:
    """What a command that ends well prints; it is run in this process, which costs no imports."""
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def commands(group=cli, prefix=()):
    for name, found in group.commands.items():
        yield (*prefix, name), found
        if hasattr(found, "commands"):
            yield from commands(found, (*prefix, name))
