"""The package as its syntax trees: its modules, what each imports, and in which room each is."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import searchlib

PACKAGE = Path(searchlib.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in MODULES.items()}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(name: str, node: ast.AST, *, checking: bool = True) -> Iterator[str]:
    """What *node* imports, as dotted names: at the top, in functions and, with *checking*, under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child) and not checking:
            for alternative in child.orelse:  # type: ignore[attr-defined]
                yield from imports(name, ast.Module([alternative], []), checking=checking)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
                base = ".".join([*package[: len(package) - child.level + 1], *([base] if base else [])])
            for alias in child.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base
        else:
            yield from imports(name, child, checking=checking)


def room(name: str) -> str:
    """The room of a module, by its dotted name; of one in the package's root its own name."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def short(name: str) -> str:
    return name.removeprefix("searchlib.")


@functools.cache
def graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports in any way."""
    return {name: {found for found in imports(name, tree) if found in MODULES} - {name} for name, tree in TREES.items()}
