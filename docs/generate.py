"""Write docs/reference.md from the code: python docs/generate.py."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import click

from searchlib import (
    ACTIVATIONS,
    DATASETS,
    INITIALIZERS,
    MLP,
    OPTIMIZERS,
    PRUNERS,
    SAMPLERS,
    SCHEDULES,
    Choice,
    Dataset,
    Examples,
    IntUniform,
    Layer,
    LogUniform,
    Published,
    Result,
    Results,
    Study,
    Uniform,
    function_dataset,
    idx_dataset,
    optimize,
    result,
)
from searchlib.cli.main import cli
from searchlib.report.exhibits import EXHIBITS
from searchlib.report.page import SECTIONS
from searchlib.study.config import FIELDS
from searchlib.study.space import encode

TARGET = Path(__file__).with_name("reference.md")


def reference() -> str:
    """The whole page."""
    parts = ["# Reference", "Generated from the code by `python docs/generate.py`.", *study(), *space()]
    parts += [*objects(), *library(), *hyperparameters()]
    parts += [*initializers(), *activations(), *optimizers(), *schedules(), *samplers(), *pruners(), *datasets()]
    parts += [*figures(), *commands()]
    return "\n\n".join(parts) + "\n"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def study() -> list[str]:
    """The fields of Study, each with its paragraph of the docstring."""
    text = inspect.getdoc(Study) or ""
    fields = [field for field in dataclasses.fields(Study) if field.repr]
    names = "|".join(field.name for field in fields)
    found = dict(re.findall(rf"^({names}): (.*?)(?=^(?:{names}): |\Z)", text, re.DOTALL | re.MULTILINE))
    rows = []
    for field in fields:
        default = "required" if field.default is MISSING is field.default_factory else f"`{shown(field)}`"
        rows.append((f"`{field.name}`", default, " ".join(found[field.name].replace("``", "`").split())))
    return ["## Study", "Keyword arguments of `Study(...)`.", table(("name", "default", "what"), rows)]


def summary(documented: Any) -> str:
    """The first paragraph of a docstring, in one line of Markdown."""
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].replace("``", "`").split())


def names(hyperparameters: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in hyperparameters)


def shown(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    return "1/6" if field.default == 1 / 6 else repr(field.default)


def space() -> list[str]:
    """The dimensions of a search space."""
    rows = []
    for kind in (Choice, Uniform, LogUniform, IntUniform):
        parameters = [p for p in inspect.signature(kind).parameters.values() if p.name != "condition"]
        arguments = [str(p).split(":")[0] + ("" if p.default is p.empty else f"={p.default!r}") for p in parameters]
        rows.append((f"`{kind.__name__}({', '.join(arguments)})`", summary(kind)))
    return [
        "## Search space",
        'Values of `scientific` and `nuisance`. `.when(optimizer="sgd")` on any of them: it is there only where '
        "another hyperparameter, listed before it or fixed, has that value, or one of several.",
        table(("dimension", "what"), rows),
    ]


def objects() -> list[str]:
    """What else a study file makes or is given: signatures and docstrings."""
    parts = ["## What a study is made of", "`from searchlib import MLP, Published, ...`"]
    for made in (MLP, Published, function_dataset, Dataset, idx_dataset, Examples, Layer):
        parts += [f"### {made.__name__}", f"```\n{made.__name__}({arguments(made)})\n\n{inspect.getdoc(made)}\n```"]
    return parts


def library() -> list[str]:
    """What a script or a notebook calls, and what the calls return."""
    parts = ["## From Python", "`import searchlib`, then `searchlib.optimize(...)`; `docs/notebook.ipynb` shows it."]
    for made in (optimize, result):
        parts += [f"### {made.__name__}", f"```\n{made.__name__}({arguments(made)})\n\n{inspect.getdoc(made)}\n```"]
    for kind in (Result, Results):
        rows = [
            (f"`{name}`", summary(entry.fget if isinstance(entry, property) else entry.func))
            for name, entry in vars(kind).items()
            if isinstance(entry, (property, functools.cached_property)) and not name.startswith("_")
        ]
        parts += [f"### {kind.__name__}", summary(kind), table(("attribute", "what"), rows)]
    return parts


def arguments(made: Any) -> str:
    """Its arguments with their types and defaults, a line each."""
    lines = []
    for name, argument in inspect.signature(made).parameters.items():
        default = "{}" if repr(argument.default) == "<factory>" else repr(argument.default)
        given = "" if argument.default is argument.empty else f" = {default}"
        lines.append(f"    {name}: {argument.annotation}{given},\n")
    return "\n" + "".join(lines)


def hyperparameters() -> list[str]:
    rows = [(f"`{name}`", f"`{encode(field.default)!r}`", field.metadata["doc"]) for name, field in FIELDS.items()]
    return [
        "## Hyperparameters",
        "Any of them can be scientific, nuisance or fixed.",
        table(("name", "default", "what"), rows),
    ]


def initializers() -> list[str]:
    rows = [(f"`{name}`", summary(entry.law)) for name, entry in INITIALIZERS.items()]
    return ["## Initializers", table(("name", "law"), rows)]


def activations() -> list[str]:
    rows = []
    for name, entry in ACTIVATIONS.items():
        notes = ["one trained slope for each layer" * entry.trained, "random slope while training" * entry.noisy]
        notes += [f"arguments {entry.arguments}" * bool(entry.arguments)]
        what = summary(entry.function) if entry.function else f"`torch.nn.{entry.module}`"
        rows.append((f"`{name}`", what, names(entry.fields), ", ".join(filter(None, notes))))
    return ["## Activations", table(("name", "function", "hyperparameters", "notes"), rows)]


def optimizers() -> list[str]:
    rows = [(f"`{name}`", summary(entry.stacked), names(entry.fields)) for name, entry in OPTIMIZERS.items()]
    return ["## Optimizers", table(("name", "update", "hyperparameters beside `learning_rate`"), rows)]


def schedules() -> list[str]:
    rows = [(f"`{name}`", summary(schedule)) for name, schedule in SCHEDULES.items()]
    return ["## Schedules", table(("name", "learning rate of an epoch, counted from 1"), rows)]


def samplers() -> list[str]:
    rows = [
        (f"`{name}`", entry.summary, f"`optuna.samplers.{entry.optuna}`" if entry.optuna else "searchlib")
        for name, entry in SAMPLERS.items()
    ]
    return ["## Samplers", table(("name", "configurations", "by"), rows)]


def pruners() -> list[str]:
    rows = [
        (f"`{name}`", entry.summary, f"`optuna.pruners.{entry.optuna}`" if entry.optuna else "searchlib")
        for name, entry in PRUNERS.items()
    ]
    return ["## Pruners", table(("name", "which trials stop early", "by"), rows)]


def datasets() -> list[str]:
    rows = [
        (f"`{name}`", dataset.title, " x ".join(map(str, dataset.shape)), str(dataset.outputs))
        for name, dataset in DATASETS.items()
    ]
    return ["## Data sets", table(("name", "title", "input", "classes"), rows)]


def figures() -> list[str]:
    titles = {section.name: section.title for section in SECTIONS}
    rows = [
        (f"`{exhibit.name}`", exhibit.title, titles[exhibit.section], "yes" if exhibit.dashboard else "")
        for exhibit in EXHIBITS
    ]
    return ["## Figures of the report", table(("name", "figure", "section", "in the Optuna Dashboard"), rows)]


def commands() -> list[str]:
    return [
        "## Commands",
        *(page for name, command in flat(cli, ()) for page in (f"### searchlib {name}", help_of(name, command))),
    ]


def flat(group: Any, prefix: tuple[str, ...]) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in sorted(group.commands.items()):
        path = (*prefix, name)
        found += flat(command, path) if isinstance(command, click.Group) else [(" ".join(path), command)]
    return found


def help_of(name: str, command: click.Command) -> str:
    widths = {"terminal_width": 100, "max_content_width": 100}
    context = click.Context(command, info_name=f"searchlib {name}", **widths, **cli.context_settings)
    return f"```\n{command.get_help(context)}\n```"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
