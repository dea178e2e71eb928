"""Commands that search: list, optimize, status, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from searchlib.cli.messages import shown
from searchlib.cli.options import options
from searchlib.errors import Command, Message, SearchlibError, StudyError
from searchlib.text import describe

if TYPE_CHECKING:
    from searchlib.analysis import Status
    from searchlib.stores import Stores
    from searchlib.study import Study


@click.command("list")
@options("studies", "storage")
def list_command(studies: Path, stores: Stores) -> None:
    """List the studies, each with its state and its question.

    Example: searchlib list
    """
    from searchlib.study import list_studies, preview_study

    counts = stores.count_trials()
    names = list_studies(studies)
    wide = max(map(len, names), default=0)
    for name in names:
        try:
            study = preview_study(name, studies)
        except SearchlibError as error:
            click.echo(f"{name:{wide}}  {'broken':>14}  {' '.join(str(error).split())}")
            continue
        begun = [counts[part] for part in study.parts or (name,) if part in counts]
        target = study.trials * max(len(study.parts), 1)
        state = f"{sum(begun)}/{target} trials" if begun else "not begun"
        click.echo(f"{name:{wide}}  {state:>14}  {' '.join(study.question.split())}")


@click.command()
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
@click.option("--plan", "only_plan", is_flag=True, help="Say what it will cost and can show, and store nothing.")
@click.option("--evaluate/--no-evaluate", default=True, help="Open the test set at the end, once. [default: evaluate]")
def optimize(
    study: Study,
    stores: Stores,
    trials: int | None,
    timeout: float | None,
    device: str,
    engine: str,
    only_plan: bool,
    evaluate: bool,
) -> None:
    """Search, replicate, evaluate once on the test set, report. Resumes what is unfinished.

    A study of several data sets is answered on one after the other, and then across them.

    Example: searchlib optimize --study init_vs_act
    """
    from searchlib.cli.terminal import show_across, show_plan, show_summary
    from searchlib.library import answers, planned, published_together

    if only_plan:
        for part in study.parts:
            show_plan(part, planned(part, stores, device=device), named=bool(study.datasets))
        return

    results = []
    for result in answers(study.parts, stores, trials=trials, timeout=timeout, device=device, evaluate=evaluate):
        commands = {"status": "status", "browse": "ui"}
        named = [(label, shown(Message(Command(name, result.study.name)))) for label, name in commands.items()]
        show_summary(result, named)
        results.append(result)
    if study.datasets:
        show_across(published_together(study, study.parts, stores))
    if len(results) < len(study.parts) or not all(result.complete for result in results):
        click.echo("stopped by --timeout; the same command resumes")
    elif evaluate and any(not result.status.best and not result.status.failed_cells for result in results):
        click.echo("no trial completed, so the test set stays sealed; see the diverged trials in the dashboards")
    for result in results:
        if result.status.failed_cells:
            raise StudyError(_failures(result.status))


def _failures(status: Status) -> str:
    """That cells failed as a whole, and why the first did."""
    first, *others = status.failed_cells
    which = f" of {describe(first.scientific)}" if first.scientific else ""
    more = f", and so did those of {len(others)} more of the {len(status.cells)} cells" if others else ""
    why = first.reason or "an error that its MLflow run has"
    sealed = "" if status.test_ledger else "; the test set stays sealed"
    return (
        f"all {first.trials} trials{which} failed{more}: trial {first.trial} with {why}; correct it, and save the "
        f"study under a new name{sealed}"
    )


@click.command()
@options("study", "studies", "storage")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(study: Study, stores: Stores, as_json: bool) -> None:
    """Trials by state, the best so far, the cells, the test ledger.

    Example: searchlib status --study init_vs_act --json
    """
    from searchlib.analysis import study_status

    found = []
    for part in study.parts:
        searching = stores.at_work(part.name)  # before the trials: one that ends in between isn't called interrupted
        found.append((part, study_status(part, stores.read(part)), searching))
    if as_json:
        objects = {part.dataset_name: one.to_json() for part, one, _ in found}
        several = {"study": study.name, "question": study.question, "datasets": objects}
        click.echo(json.dumps(several if study.datasets else found[0][1].to_json(), indent=2))
        return
    from searchlib.cli.terminal import show_status

    for part, one, searching in found:
        show_status(part, one, searching)


@click.command()
@options("study", "studies", "storage", "tracking_uri", "data_root")
def evaluate(study: Study, stores: Stores) -> None:
    """Evaluate the champion on the test set, once; later calls print the stored result.

    The networks of the replicates are evaluated with it, for the report's test by cell. This closes the study: no trial
    can be added after it.

    Example: searchlib evaluate --study init_vs_act
    """
    from searchlib.analysis import counted_reasons
    from searchlib.cli.terminal import test_row
    from searchlib.results import evaluate as evaluate_once

    for part in study.parts:
        result = evaluate_once(part, stores)
        name, value = test_row(result)
        click.echo(f"{f'{part.name}: ' if study.datasets else ''}{name} {value}, trial {result.trial}")
        stored = stores.read(part)
        if note := stored.champion_note:
            click.echo(f"champion {note}")
        if stored.ledger and stored.ledger.left_out:
            click.echo(f"left out of the test by cell: {counted_reasons(stored.ledger.left_out)}")
