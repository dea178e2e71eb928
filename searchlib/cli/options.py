"""The options that commands share, and what is made of them: one ``Stores``, and the study."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEBUG = "searchlib.debug"
GIVEN = "searchlib.given"
PLACES = ("storage", "tracking_uri", "data_root")  # the arguments of Stores


def _note_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().meta[DEBUG] = True


def _note_given(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Remember a shared option of this command line, for the commands that messages name."""
    if context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE:
        context.meta.setdefault(GIVEN, {})[parameter.opts[0]] = str(value)
    return value


def _complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names of studies, for shell completion."""
    folder = context.params.get("studies") or Path("studies")
    return sorted(path.stem for path in folder.glob(f"{incomplete}*.py") if not path.name.startswith("_"))


def _study(text: str, *, required: bool) -> Callable[[Any], Any]:
    return click.option(
        "--study", required=required, callback=_note_given, shell_complete=_complete, metavar="NAME", help=text
    )


def _place(name: str, variable: str, text: str, **settings: Any) -> Callable[[Any], Any]:
    """An option that may also come from the environment."""
    return click.option(
        name, callback=_note_given, envvar=variable, show_default=True, show_envvar=True, help=text, **settings
    )


FOLDER = click.Path(path_type=Path)
OPTIONS: dict[str, Callable[[Any], Any]] = {
    "study": _study("A study's name, or the path of its file.", required=True),
    "any study": _study("Show the addresses of this study.", required=False),
    "studies": _place("--studies", "SEARCHLIB_STUDIES", "The folder of study files.", default="studies", type=FOLDER),
    "storage": _place(
        "--storage",
        "SEARCHLIB_STORAGE",
        "Optuna's storage: a journal file, or a database URL.",
        default="optuna.journal",
        metavar="PATH|URL",
    ),
    "tracking_uri": _place(
        "--tracking-uri",
        "MLFLOW_TRACKING_URI",
        "MLflow's store. [default: mlflow.db and mlruns/ in the working folder]",
        metavar="URI",
    ),
    "data_root": _place(
        "--data-root",
        "SEARCHLIB_DATA",
        "The folder of data sets, in torchvision's layout.",
        default="data",
        type=FOLDER,
    ),
    "debug": click.option(
        "--debug", is_flag=True, expose_value=False, callback=_note_debug, help="Show the traceback of an error."
    ),
}


def _from_here(path: Path, folder: Path) -> Path:
    """A path as it was meant in *folder*, relative while that is the working folder."""
    path = path.expanduser()
    return path if folder == Path.cwd() else folder / path


def options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add shared options, and --debug, to a command.

    The command gets ``stores`` in place of the storage, the tracking URI and the data folder, and in place of a study's
    name and the folder of studies the ``study`` itself (None where none was named).
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**values: Any) -> None:
            began = Path.cwd()  # a study file may change it
            if places := {name: values.pop(name) for name in PLACES if name in values}:
                from searchlib.stores import Stores

                values["stores"] = Stores(**places)
            if "studies" in values:
                values["studies"] = values["studies"].expanduser()
            if "study" in values:
                folder = values.pop("studies")
                if values["study"] is not None:
                    from searchlib.study import load_study

                    values["study"] = load_study(os.path.expanduser(values["study"]), folder)
            if values.get("output") is not None:
                values["output"] = _from_here(values["output"], began)
            function(**values)

        for name in reversed((*names, "debug")):
            command = OPTIONS[name](command)
        return command

    return add
