"""Everything that searchlib raises on purpose.

    SearchlibError
    ├── StudyError          a study, its file or one of its values is wrong
    ├── DataError           a data set can't be found, fetched or read
    │   └── IntegrityError  a data file is truncated, altered or not what its name says
    ├── StorageError        the Optuna storage can't be opened, or holds something else
    │   └── BusyError       another process is at work on the same study
    ├── TrackingError       MLflow can't be reached or written
    ├── DeviceError         the device asked for is not there
    └── HoldoutError        the test set can't be opened: no trial, or its checkpoint is another or fails

Each message is one line: what was given, what was expected, what to do. The command line prints it and exits
with status 1; a library user can catch ``SearchlibError``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = [
    "BusyError",
    "Command",
    "DataError",
    "DeviceError",
    "HoldoutError",
    "IntegrityError",
    "Message",
    "SearchlibError",
    "StorageError",
    "StudyError",
    "TrackingError",
]


@dataclass(frozen=True)
class Command:
    """A command that a message names. The command line adds the options that it was itself given.

    name: of the command. study: its ``--study``. arguments: the other words that belong to it.

    >>> str(Command("verify", "init_vs_act", ("--repair",)))
    'searchlib verify --study init_vs_act --repair'
    """

    name: str
    study: str = ""
    arguments: tuple[str, ...] = ()

    def line(self, options: Mapping[str, str]) -> str:
        """The command with *options* behind its own arguments, which win; --study is taken from *options*, if there."""
        import shlex

        study = ("--study", options.get("--study", self.study)) if self.study else ()
        taken = ("--study", *self.arguments)
        added = [word for option, value in options.items() if option not in taken for word in (option, value)]
        return " ".join(["searchlib", self.name, *map(shlex.quote, [*study, *self.arguments, *added])])

    def __str__(self) -> str:
        return self.line({})


class Message(str):
    """A text that names commands. It is plain text; ``shown`` writes the commands in another way.

    >>> Message("no trials yet; run ", Command("optimize", "init_vs_act"))
    'no trials yet; run searchlib optimize --study init_vs_act'
    """

    parts: tuple[str | Command, ...]

    def __new__(cls, *parts: str | Command) -> Message:
        message = super().__new__(cls, "".join(map(str, parts)))
        message.parts = parts
        return message

    def shown(self, command: Callable[[Command], str]) -> str:
        """The text with each of its commands as *command* writes it."""
        return "".join(
            command(part) if isinstance(part, Command) else part.shown(command) if isinstance(part, Message) else part
            for part in self.parts
        )


class SearchlibError(Exception):
    """Base class of searchlib's own errors. Its arguments are the parts of its message: text and commands."""

    def __init__(self, *parts: str | Command) -> None:
        super().__init__(Message(*parts))

    @property
    def message(self) -> Message:
        """The message, which names its commands as such."""
        message: Message = self.args[0]
        return message


class StudyError(SearchlibError):
    """A study, its file or one of its values is wrong."""


class DataError(SearchlibError):
    """A data set can't be found, fetched or read."""


class IntegrityError(DataError):
    """A data file is truncated, altered or not what its name says."""


class StorageError(SearchlibError):
    """The Optuna storage can't be opened, or holds something else."""


class BusyError(StorageError):
    """Another process is at work on the same study."""


class TrackingError(SearchlibError):
    """MLflow can't be reached or written."""


class DeviceError(SearchlibError):
    """The device asked for is not there."""


class HoldoutError(SearchlibError):
    """The test set can't be opened: no completed trial, not the claimed checkpoint, or one that can't be evaluated."""
