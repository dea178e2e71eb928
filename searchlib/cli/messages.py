"""Messages: the commands that they name, errors as one line, and printing where nobody may listen any more."""

from __future__ import annotations

import contextlib

import click

from searchlib.cli.options import GIVEN
from searchlib.errors import Command, Message, SearchlibError


def shown(message: Message, context: click.Context | None = None) -> str:
    """A message whose commands can be pasted: each has the options of this command line that it takes.

    Options from the environment are left out, as they apply anyway. A password is masked, as in all messages.
    """
    from searchlib.text import mask

    here = context or click.get_current_context()
    given = {option: mask(value) for option, value in here.meta.get(GIVEN, {}).items()}

    def pasteable(command: Command) -> str:
        found = here.find_root().command
        for word in command.name.split():
            assert isinstance(found, click.Group)
            found = found.commands[word]
        taken = {parameter.opts[0] for parameter in found.params}
        if command.study.startswith(f"{given.get('--study')}."):  # a part of the study that was given
            taken -= {"--study"}
        return command.line({option: value for option, value in given.items() if option in taken})

    return message.shown(pasteable)


def error_line(error: Exception, context: click.Context | None = None) -> str:
    """One line that says what went wrong and what to do. context: of the command; None where it has not begun."""
    from searchlib.text import mask

    text = " ".join(str(error).split())
    if isinstance(error, SearchlibError):
        return " ".join(shown(error.message, context).split()) if context else text
    if isinstance(error, OSError) and error.strerror:
        place = f" {mask(str(error.filename))}" if error.filename else ""
        return f"{error.strerror}{place}; repair that and run the same command again: what was recorded stays"
    return f"{type(error).__name__}: {mask(text)}; run again with --debug for the traceback"


def say(message: str, *, err: bool = True) -> None:
    """Print where whoever would have read it may be gone."""
    with contextlib.suppress(OSError):
        click.echo(message, err=err)
