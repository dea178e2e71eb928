"""Commands that show or check what a study has: report, export, verify, predict."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from searchlib.cli.messages import shown
from searchlib.cli.options import GIVEN, options
from searchlib.errors import SearchlibError

if TYPE_CHECKING:
    from searchlib.stores import Stores
    from searchlib.study import Study


@click.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
@click.option("--repair", is_flag=True, help="Repair what can be repaired. No trial is ever deleted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def verify(study: Study, stores: Stores, repair: bool, as_json: bool) -> None:
    """Whether Optuna, MLflow, checkpoints, registry and test ledger agree, or what differs.

    Each difference comes with what --repair does about it, or with what you can do. Where MLflow has no run of the
    study, --repair writes all of them again if --tracking-uri names the store. The exit status is 1 while something
    differs.

    Example: searchlib verify --study init_vs_act
    """
    from searchlib.library import begun
    from searchlib.results import repair as repair_stores
    from searchlib.results import verify as compare

    anew = "--tracking-uri" in click.get_current_context().meta.get(GIVEN, {})
    found = {
        part.dataset_name: repair_stores(part, stores, anew=anew) if repair else compare(part, stores)
        for part in begun(study.parts, stores)
    }
    if as_json:
        objects = {name: one.to_json() for name, one in found.items()}
        click.echo(json.dumps({"datasets": objects} if study.datasets else next(iter(objects.values())), indent=2))
    else:
        for name, one in found.items():
            for line in one.lines():
                click.echo(f"{f'{name}: ' if study.datasets else ''}{shown(line)}")
    for one in found.values():
        if one.differences:
            raise SearchlibError(one.verdict())


@click.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
@click.option("--index", required=True, type=click.IntRange(min=0), help="Which example of the validation split.")
def predict(study: Study, stores: Stores, index: int) -> None:
    """The champion on one example of the validation split: its class and the soft decisions; for a
    regression its prediction beside the target.

    Example: searchlib predict --study init_vs_act --index 7
    """
    from searchlib.results import predict as decide

    for line in decide(study, stores, index).lines():
        click.echo(line)


@click.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write. [default: NAME.html]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the statistics as one JSON object; write no file.")
def report(study: Study, stores: Stores, output: Path | None, as_json: bool) -> None:
    """The answer on one page: a self-contained HTML file that opens offline.

    It is logged to MLflow too, and its note and figures go to the Optuna Dashboard, where these may be written. Of a
    study of several data sets each has such a page, NAME.DATASET.html, and NAME.html compares the cells across them.

    Example: searchlib report --study init_vs_act
    """
    from searchlib.report import publish, statistics

    if study.datasets:
        _report_together(study, stores, output, as_json)
    elif as_json:
        stores.begun(study)
        click.echo(json.dumps(statistics(study, stores), indent=2, allow_nan=False))
        return
    else:
        page, findings = publish(study, stores, output=output)
        click.echo(findings.answer)
        click.echo(f"written to {page}")
    if stores.read_only and not as_json:
        click.echo("the stores may only be read: the report was not added to MLflow and the Optuna Dashboard", err=True)


def _report_together(study: Study, stores: Stores, output: Path | None, as_json: bool) -> None:
    """The page of each data set, and the one across them."""
    from searchlib.cli.terminal import show_across
    from searchlib.library import published_together, together
    from searchlib.report import publish

    found = together(study, study.parts, stores)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
        return
    for part in found.parts.values():
        page, findings = publish(part.study, stores)
        click.echo(f"{part.study.name}: {findings.answer}")
        click.echo(f"written to {page}")
    show_across(published_together(study, study.parts, stores, output=output, found=found))


@click.command()
@options("study", "studies", "storage")
@click.option("--format", "kind", default="csv", show_default=True, type=click.Choice(["csv", "json", "parquet"]))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write. [default: print it, parquet not to a terminal]",
)
def export(study: Study, stores: Stores, kind: str, output: Path | None) -> None:
    """All trials and replicates as a table, a row each.

    Example: searchlib export --study init_vs_act --format csv --output trials.csv
    """
    from searchlib.results import export as write

    if kind == "parquet" and output is None and sys.stdout.isatty():
        raise SearchlibError(f"parquet is binary, not for a terminal; give a file: --output {study.name}.parquet")
    written = write(study, stores, format=kind, output=output)
    if isinstance(written, Path):
        click.echo(f"written to {written}", err=True)
    else:  # UTF-8 whatever the terminal's encoding: it is for programs
        click.echo(written.encode() if isinstance(written, str) else written, nl=False)
