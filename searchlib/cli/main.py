"""The command line: parse, call the library, print. Nothing is decided here.

Exit status: 0 done; 1 an error of ours, in one line; 2 wrong usage; 130 interrupted, with everything so far saved.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import NoReturn

import click

from searchlib import __version__
from searchlib.cli.messages import error_line, say
from searchlib.cli.options import DEBUG
from searchlib.cli.result_commands import export, predict, report, verify
from searchlib.cli.signals import INTERRUPTED, interrupt_on_signals
from searchlib.cli.study_commands import evaluate, list_command, optimize, status
from searchlib.cli.tool_commands import data, diagnose, ui

COMPLETE = "_SEARCHLIB_COMPLETE"  # set by the shell, to bash_source, zsh_complete and so on


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Answers questions about training neural networks by search.

    A question is one file in studies/. "searchlib optimize --study NAME" answers it.
    """


for command in (list_command, optimize, status, evaluate, report, export, verify, predict, diagnose, data, ui):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its number
            with contextlib.suppress(OSError):  # of what is closed already the first line will tell
                stream.reconfigure(errors="backslashreplace")
    if COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {}, "searchlib", COMPLETE, os.environ[COMPLETE]))
    code = _run()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # what is left in it, Python would complain of at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    exec("")  # an interrupt within a library's exec() of a string, as dataclasses do, Python calls unhandled until now
    sys.exit(code)


def _run() -> int:
    """Run the command of ``sys.argv``; its exit status."""
    context: click.Context | None = None
    signalled = interrupt_on_signals()
    try:
        context = cli.make_context("searchlib", sys.argv[1:])
        with context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        return _interrupted(str(stop))
    except BrokenPipeError:
        return 1
    except Exception as error:
        if context is not None and context.meta.get(DEBUG):
            raise
        if signalled:  # a library made an error of its own of it, as pydantic does in the middle of an import
            return _interrupted()
        say(f"Error: {error_line(error, context)}")
        return 1
    return 0


def _interrupted(saved: str = "") -> int:
    say(f"\nInterrupted: {saved or 'what was recorded is saved'}")
    return INTERRUPTED
