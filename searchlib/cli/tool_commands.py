"""Commands beside a search: diagnose, data fetch, ui."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from searchlib.cli.messages import say
from searchlib.cli.options import options

if TYPE_CHECKING:
    from searchlib.stores import Stores
    from searchlib.study import Study

PORT = click.IntRange(1, 65535)


@click.command()
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


@click.group()
def data() -> None:
    """Data sets."""


@data.command()
@options("data_root")
@click.argument("name")
def fetch(stores: Stores, name: str) -> None:
    """Fetch and check the files of a data set; the answer to an unknown NAME lists all names.

    Example: searchlib data fetch fashion_mnist
    """
    from searchlib.data import fetch as fetch_files

    files = fetch_files(name, stores.data_root)
    for file in files:
        click.echo(f"{file.path}  {file.bytes:,} bytes, checked, from {file.source}")
    if not files:
        click.echo(f"{name} comes with scikit-learn; there is nothing to fetch")


@click.command()
@options("studies", "storage", "tracking_uri", "any study")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where both listen; with another address than 127.0.0.1, others can reach them, without a password.",
)
@click.option("--optuna-port", type=PORT, help="The port of Optuna Dashboard. [default: a free one]")
@click.option("--mlflow-port", type=PORT, help="The port of the MLflow UI. [default: a free one]")
def ui(study: Study | None, stores: Stores, host: str, optuna_port: int | None, mlflow_port: int | None) -> None:
    """Optuna Dashboard and the MLflow UI together, until Ctrl-C.

    That, or SIGTERM, stops both and is the normal end: exit status 0.

    Example: searchlib ui --study init_vs_act
    """
    from searchlib.cli.servers import dashboards, is_private, study_pages, watch

    pages = study_pages(study, stores) if study is not None else ("", "")
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
            say("stopped", err=False)
