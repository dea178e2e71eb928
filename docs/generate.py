"""Write docs/reference.md from the code: python docs/generate.py."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click

from searchlib import ACTIVATIONS, DATASETS, INITIALIZERS
from searchlib.cli import cli
from searchlib.space import encode
from searchlib.trial import FIELDS

TARGET = Path(__file__).with_name("reference.md")


def reference() -> str:
    """The whole page."""
    parts = ["# Reference", "Generated from the code by `python docs/generate.py`.", *hyperparameters()]
    parts += [*initializers(), *activations(), *datasets(), *commands()]
    return "\n\n".join(parts) + "\n"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def hyperparameters() -> list[str]:
    rows = [(f"`{name}`", f"`{encode(field.default)!r}`", field.metadata["doc"]) for name, field in FIELDS.items()]
    return [
        "## Hyperparameters",
        "Any of them can be scientific, nuisance or fixed.",
        table(("name", "default", "what"), rows),
    ]


def initializers() -> list[str]:
    rows = [
        (f"`{name}`", " ".join((inspect.getdoc(f) or "").split("\n\n")[0].split())) for name, f in INITIALIZERS.items()
    ]
    return ["## Initializers", table(("name", "law"), rows)]


def activations() -> list[str]:
    rows = []
    for name, activation in ACTIVATIONS.items():
        notes = ["one trained slope a layer" * activation.trained, "random slope while training" * activation.noisy]
        notes += [f"hyperparameter `{field}`" for field in activation.fields]
        notes += [f"arguments {activation.arguments}" * bool(activation.arguments)]
        rows.append((f"`{name}`", f"`torch.nn.{activation.module}`", ", ".join(filter(None, notes))))
    return ["## Activations", table(("name", "module", "notes"), rows)]


def datasets() -> list[str]:
    rows = [
        (f"`{name}`", dataset.title, " x ".join(map(str, dataset.shape)), str(dataset.outputs))
        for name, dataset in DATASETS.items()
    ]
    return ["## Data sets", table(("name", "title", "input", "classes"), rows)]


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
    context = click.Context(command, info_name=f"searchlib {name}", terminal_width=100, max_content_width=100)
    return f"```\n{command.get_help(context)}\n```"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
