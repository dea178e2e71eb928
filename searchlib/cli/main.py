"""The command line: parse, call the library, print. Nothing is decided here.

Exit status: 0 done; 1 an error of ours, in one line; 2 wrong usage; 130 interrupted, with everything so far saved.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from searchlib.cli.signals import INTERRUPTED, interrupt_on_signals
from searchlib.errors import Command, Message, SearchlibError

if TYPE_CHECKING:
    from searchlib.stores import Stores

DEBUG = "searchlib.debug"
GIVEN = "searchlib.given"
PORT = click.IntRange(1, 65535)

Function = TypeVar("Function", bound=Callable[..., Any])


def _note_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().meta[DEBUG] = True


def _note_given(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Remember a shared option of this command line, for the commands that messages name."""
    if context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE:
        context.meta.setdefault(GIVEN, {})[parameter.opts[0]] = str(value)
    return value


OPTIONS: dict[str, Callable[[Any], Any]] = {
    "study": click.option(
        "--study",
        required=True,
        callback=_note_given,
        metavar="NAME",
        help="A study's name, or the path of its file.",
    ),
    "studies": click.option(
        "--studies",
        callback=_note_given,
        default="studies",
        envvar="SEARCHLIB_STUDIES",
        show_default=True,
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="The folder of study files.",
    ),
    "storage": click.option(
        "--storage",
        callback=_note_given,
        default="optuna.journal",
        envvar="SEARCHLIB_STORAGE",
        show_default=True,
        show_envvar=True,
        metavar="PATH|URL",
        help="Optuna's storage: a journal file, or a database URL.",
    ),
    "tracking_uri": click.option(
        "--tracking-uri",
        callback=_note_given,
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
        metavar="URI",
        help="MLflow's store. [default: mlflow.db and mlruns/ in the working folder]",
    ),
    "data_root": click.option(
        "--data-root",
        callback=_note_given,
        default="data",
        envvar="SEARCHLIB_DATA",
        show_default=True,
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="The folder of data sets, in torchvision's layout.",
    ),
    "debug": click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_note_debug,
        help="Show the traceback of an error.",
    ),
}


def options(*names: str) -> Callable[[Function], Function]:
    """Add shared options, and --debug, to a command."""

    def add(command: Function) -> Function:
        for name in reversed((*names, "debug")):
            command = OPTIONS[name](command)
        return command

    return add


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="searchlib")
def cli() -> None:
    """Answers questions about training neural networks by search.

    A question is one file in studies/. "searchlib optimize --study NAME" answers it.
    """


@cli.command("list")
@options("studies", "storage")
def list_command(studies: Path, storage: str) -> None:
    """List the studies, each with its state and its question.

    Example: searchlib list
    """
    from searchlib.stores import Stores
    from searchlib.study import list_studies, preview_study

    counts = Stores(storage).count_trials()
    names = list_studies(studies)
    wide = max(map(len, names), default=0)
    for name in names:
        try:
            study = preview_study(name, studies)
        except SearchlibError as error:
            click.echo(f"{name:{wide}}  {'broken':>14}  {' '.join(str(error).split())}")
            continue
        state = f"{counts[name]}/{study.trials} trials" if name in counts else "not begun"
        click.echo(f"{name:{wide}}  {state:>14}  {' '.join(study.question.split())}")


@cli.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="How many trials the study shall have in all. [default: the study's own number]",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Stop cleanly after this time."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--engine", default="inline", show_default=True, type=click.Choice(["inline"]), help="Where stacks are trained."
)
@click.option("--evaluate/--no-evaluate", default=True, help="Open the test set at the end, once. [default: evaluate]")
def optimize(
    study: str,
    studies: Path,
    storage: str,
    tracking_uri: str | None,
    data_root: Path,
    trials: int | None,
    timeout: float | None,
    device: str,
    engine: str,
    evaluate: bool,
) -> None:
    """Search, replicate, evaluate once on the test set, report. Goes on with what is unfinished.

    Example: searchlib optimize --study init_vs_act
    """
    from searchlib.analysis import study_status
    from searchlib.cli.terminal import Output, show_progress, show_summary
    from searchlib.report import publish
    from searchlib.results import holdout
    from searchlib.search import search
    from searchlib.stores import Stores
    from searchlib.study import load_study

    loaded = load_study(study, studies)
    console = Output()
    target = trials or loaded.trials
    stores = Stores(storage, tracking_uri, data_root)
    before = study_status(loaded, stores.read(loaded), target=target)
    try:
        show_progress(
            loaded,
            search(loaded, stores, trials=trials, timeout=timeout, device=device),
            before,
            console,
        )
    except KeyboardInterrupt:
        done = "what was recorded is"
        with contextlib.suppress(Exception):  # a storage that is away for the moment
            saved = study_status(loaded, stores.read(loaded))
            seeds = f" and {saved.replicates.completed} replicates" if saved.replicates else ""
            done = f"{saved.trials.ended} of {target} trials{seeds} are"
        raise click.exceptions.Exit(_interrupted(f"{done} saved; the same command trains the rest")) from None
    after = study_status(loaded, stores.read(loaded), target=max(target, before.trials.total))
    complete = after.trials.total >= target and not after.trials.running
    if after.replicates and not after.test_ledger:
        complete = complete and after.replicates.finished
    if complete and evaluate and after.best:
        holdout.evaluate(loaded, stores, fetch=True)
    page, findings = publish(loaded, stores)
    places = [*_places(loaded.name, stores), ("report", str(page))]
    show_summary(loaded, after, findings, places, console)
    if not complete:
        console.print("stopped by --timeout; the same command goes on", highlight=False)
    elif evaluate and not after.best:
        console.print("no trial completed, so the test set stays sealed; see the diverged trials in the dashboards")


def _places(name: str, stores: Stores) -> list[tuple[str, str]]:
    from searchlib.text import mask

    shown = mask(stores.tracking_uri or "")
    return [
        ("optuna", f"{stores.shown} (optuna-dashboard {stores.shown})"),
        ("mlflow", f"{shown} (mlflow ui --backend-store-uri {shown})" if shown else "mlflow.db, mlruns/ (mlflow ui)"),
        ("status", _shown(Message(Command("status", name)))),
        ("browse", _shown(Message(Command("ui", name)))),
    ]


@cli.command()
@options("study", "studies", "storage")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(study: str, studies: Path, storage: str, as_json: bool) -> None:
    """Trials by state, the best so far, the cells, the test ledger.

    Example: searchlib status --study init_vs_act --json
    """
    from searchlib.analysis import study_status
    from searchlib.stores import Stores
    from searchlib.study import load_study

    loaded = load_study(study, studies)
    stores = Stores(storage)
    searching = stores.at_work(loaded.name)  # before the trials: one that ends in between isn't called interrupted
    found = study_status(loaded, stores.read(loaded))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    from rich.console import Console

    from searchlib.cli.terminal import show_status

    show_status(loaded, found, searching, Console())


@cli.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
def evaluate(study: str, studies: Path, storage: str, tracking_uri: str | None, data_root: Path) -> None:
    """Evaluate the champion on the test set, once; later calls print the stored result.

    This closes the study: no trial can be added after it.

    Example: searchlib evaluate --study init_vs_act
    """
    from searchlib.cli.terminal import test_row
    from searchlib.results import holdout
    from searchlib.stores import Stores
    from searchlib.study import load_study

    loaded = load_study(study, studies)
    result = holdout.evaluate(loaded, Stores(storage, tracking_uri, data_root))
    name, value = test_row(result)
    click.echo(f"{name} {value}, trial {result.trial}")


@cli.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
@click.option("--repair", is_flag=True, help="Repair what can be repaired. No trial is ever deleted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def verify(
    study: str,
    studies: Path,
    storage: str,
    tracking_uri: str | None,
    data_root: Path,
    repair: bool,
    as_json: bool,
) -> None:
    """Whether Optuna, MLflow, checkpoints, registry and test ledger agree, or what differs.

    Each difference comes with what --repair does about it, or with what you can do. Where MLflow has no run of the
    study, --repair writes all of them again if --tracking-uri names the store. The exit status is 1 while something
    differs.

    Example: searchlib verify --study init_vs_act
    """
    from searchlib.results import repair as mend
    from searchlib.results import verify as compare
    from searchlib.stores import Stores
    from searchlib.study import load_study

    loaded = load_study(study, studies)
    if repair:
        anew = "--tracking-uri" in click.get_current_context().meta.get(GIVEN, {})
        found = mend(loaded, Stores(storage, tracking_uri, data_root), anew=anew)
    else:
        found = compare(loaded, Stores(storage, tracking_uri, data_root))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        for line in found.lines():
            click.echo(_shown(line))
    if found.differences:
        raise SearchlibError(found.verdict())


@cli.command()
@options("study", "studies", "tracking_uri", "data_root")
@click.option("--index", required=True, type=click.IntRange(min=0), help="Which example of the validation split.")
def predict(study: str, studies: Path, tracking_uri: str | None, data_root: Path, index: int) -> None:
    """The champion on one example of the validation split: its class and the soft decisions; for a
    regression its prediction beside the target.

    Example: searchlib predict --study init_vs_act --index 7
    """
    from searchlib.results import predict as decide
    from searchlib.stores import Stores
    from searchlib.study import load_study

    decision = decide(load_study(study, studies), Stores(tracking_uri=tracking_uri, data_root=data_root), index)
    for line in decision.lines():
        click.echo(line)


@cli.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write. [default: NAME.html]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the statistics as one JSON object; write no file.")
def report(
    study: str,
    studies: Path,
    storage: str,
    tracking_uri: str | None,
    data_root: Path,
    output: Path | None,
    as_json: bool,
) -> None:
    """The answer on one page: a self-contained HTML file that opens offline.

    It is logged to MLflow too, and its note and figures go to the Optuna Dashboard.

    Example: searchlib report --study init_vs_act
    """
    from searchlib.stores import Stores
    from searchlib.study import load_study

    loaded = load_study(study, studies)
    if as_json:
        from searchlib.report import statistics

        stores = Stores(storage, tracking_uri, data_root)
        stores.begun(loaded)
        found = statistics(loaded, stores)
        click.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    from searchlib.report import publish

    page, findings = publish(loaded, Stores(storage, tracking_uri, data_root), output=output)
    click.echo(findings.answer)
    click.echo(f"written to {page}")


@cli.command()
@options("study", "studies", "storage")
@click.option("--format", "kind", default="csv", show_default=True, type=click.Choice(["csv", "json", "parquet"]))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write. [default: print it, parquet not to a terminal]",
)
def export(study: str, studies: Path, storage: str, kind: str, output: Path | None) -> None:
    """All trials and replicates as a table, a row each.

    Example: searchlib export --study init_vs_act --format csv --output trials.csv
    """
    from searchlib.results import export as write
    from searchlib.stores import Stores
    from searchlib.study import load_study

    loaded = load_study(study, studies)
    if kind == "parquet" and output is None and sys.stdout.isatty():
        raise SearchlibError(f"parquet is binary, not for a terminal; give a file: --output {loaded.name}.parquet")
    written = write(loaded, Stores(storage), format=kind, output=output)
    if isinstance(written, Path):
        click.echo(f"written to {written}", err=True)
    else:  # UTF-8 whatever the terminal's encoding: it is for programs
        click.echo(written.encode() if isinstance(written, str) else written, nl=False)


@cli.command()
@options()
@click.option("--initializer", required=True, metavar="NAME", help="Law of the initial weights.")
@click.option("--activation", required=True, metavar="NAME", help="Activation of the hidden layers.")
@click.option("--depth", default=3, show_default=True, type=click.IntRange(0, 1000), help="Hidden layers.")
@click.option("--width", default=300, show_default=True, type=click.IntRange(1, 20000), help="Units of each of them.")
@click.option(
    "--output",
    default=Path("diagnose.html"),
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The figure: a self-contained HTML file.",
)
def diagnose(initializer: str, activation: str, depth: int, width: int, output: Path) -> None:
    """Signal and gradient, layer by layer, at initialization; beside what theory predicts.

    Example: searchlib diagnose --initializer pytorch_default --activation relu --depth 20
    """
    from searchlib.report import diagnose as examine

    diagnosis = examine(initializer, activation, depth=depth, width=width)
    for line in diagnosis.lines():
        click.echo(line)
    click.echo(f"figure written to {diagnosis.write(output)}")


@cli.group()
def data() -> None:
    """Data sets."""


@data.command()
@options("data_root")
@click.argument("name")
def fetch(data_root: Path, name: str) -> None:
    """Fetch and check the files of a data set; the answer to an unknown NAME lists all names.

    Example: searchlib data fetch fashion_mnist
    """
    from searchlib.data import fetch as fetch_files

    files = fetch_files(name, data_root)
    for file in files:
        click.echo(f"{file.path}  {file.bytes:,} bytes, checked, from {file.source}")
    if not files:
        click.echo(f"{name} comes with scikit-learn; there is nothing to fetch")


@cli.command()
@options("studies", "storage", "tracking_uri")
@click.option("--study", callback=_note_given, metavar="NAME", help="Show the addresses of this study.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where both listen; with another address than 127.0.0.1, others can reach them, without a password.",
)
@click.option("--optuna-port", type=PORT, help="The port of Optuna Dashboard. [default: a free one]")
@click.option("--mlflow-port", type=PORT, help="The port of the MLflow UI. [default: a free one]")
def ui(
    study: str | None,
    host: str,
    optuna_port: int | None,
    mlflow_port: int | None,
    studies: Path,
    storage: str,
    tracking_uri: str | None,
) -> None:
    """Optuna Dashboard and the MLflow UI together, until Ctrl-C.

    That, or SIGTERM, stops both and is the normal end: exit status 0.

    Example: searchlib ui --study init_vs_act
    """
    from searchlib.cli.servers import dashboards, is_private, study_pages, watch
    from searchlib.stores import Stores

    stores, pages = Stores(storage, tracking_uri), ("", "")
    if study is not None:
        from searchlib.study import load_study

        pages = study_pages(load_study(study, studies), stores)
    if not is_private(host):
        click.echo(
            f"Warning: both dashboards will listen on {host}, and neither asks for a password: whoever reaches this "
            "machine can read and change all results",
            err=True,
        )
    click.echo("starting both dashboards ...")
    with dashboards(stores, host, optuna_port=optuna_port, mlflow_port=mlflow_port) as servers:
        for server, page in zip(servers, pages, strict=True):
            for name, address in zip(
                (server.name, *[""] * len(server.also)), (server.address, *server.also), strict=True
            ):
                click.echo(f"{name:17} {address}{page}")
        click.echo(f"listening on {host}; Ctrl-C stops both")
        try:
            watch(servers)
        except KeyboardInterrupt:
            _say("stopped", err=False)


def _with_options(command: Command, context: click.Context) -> str:
    """A command that a message names, with the options of this command line that it takes.

    What the environment gives it has anyway. A password is masked, as in all messages.
    """
    from searchlib.text import mask

    found: click.Command = cli
    for word in command.name.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    taken = {parameter.opts[0] for parameter in found.params}
    given = context.meta.get(GIVEN, {})
    return command.line({option: mask(value) for option, value in given.items() if option in taken})


def _shown(message: Message, context: click.Context | None = None) -> str:
    """A message whose commands can be pasted: with the options that were given here."""
    here = context or click.get_current_context()
    return message.shown(lambda command: _with_options(command, here))


def _say(message: str, *, err: bool = True) -> None:
    """Print where whoever would have read it may be gone."""
    with contextlib.suppress(OSError):
        click.echo(message, err=err)


def _interrupted(message: str) -> int:
    _say(f"\nInterrupted: {message}")
    return INTERRUPTED


def main() -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its number
            with contextlib.suppress(OSError):  # of what is closed already the first line will tell
                stream.reconfigure(errors="backslashreplace")
    context: click.Context | None = None
    code = 0
    signalled = interrupt_on_signals()
    try:
        context = cli.make_context("searchlib", sys.argv[1:])
        with context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _interrupted("what was recorded is saved")
    except BrokenPipeError:
        code = 1
    except Exception as error:
        if context is not None and context.meta.get(DEBUG):
            raise
        if signalled:  # a library made an error of its own of it, as pydantic does in the middle of an import
            code = _interrupted("what was recorded is saved")
        else:
            code = 1
            message = _message(error)
            line = _shown(message, context) if context else str(message)
            _say(f"Error: {' '.join(line.split())}")
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # what is left in it, Python would complain of at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    exec("")  # an interrupt within a library's exec() of a string, as dataclasses do, Python calls unhandled until now
    sys.exit(code)


def _message(error: Exception) -> Message:
    from searchlib.text import mask

    if isinstance(error, SearchlibError):
        return error.message
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        place = f" {mask(str(error.filename))}" if error.filename else ""
        return Message(f"{error.strerror}{place}; mend that and run the same command again: what was recorded stays")
    return Message(f"{type(error).__name__}: {mask(text)}; run again with --debug for the traceback")
