"""The code of a study file, for the study's identity: its own statements, and the user's modules that it imports."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
import tokenize
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

NOT_IDENTITY = {"name", "published", "question", "replicate_cells", "replicates", "trials"}  # arguments of Study
LITERALS = (ast.BinOp, ast.Constant, ast.Dict, ast.List, ast.Set, ast.Starred, ast.Tuple, ast.UnaryOp)


@dataclass(frozen=True)
class FileCode:
    """The code of a study file without comments, layout, docstring and STUDY, normalized by ``ast.unparse``.

    definitions: functions, classes, assignments and the lambdas in STUDY: what belonged to a study's identity at first.
    statements: all statements in their order, with the parts of STUDY that aren't literals; "" where that is nothing
    but the definitions.
    modules: SHA-256 in hex of each module of the user's own that the file imports, directly or through another, or in
    the body of a function.
    """

    definitions: str
    statements: str
    modules: dict[str, str] = field(default_factory=dict)


def read_code(source: str, path: Path) -> FileCode:
    """The code of the study file at *path*, whose text is *source* and whose imports were executed."""
    tree = ast.parse(source)
    definitions: list[str] = []
    statements: list[str] = []
    used = {
        name.id for node in tree.body if not _is_study(node) for name in ast.walk(node) if isinstance(name, ast.Name)
    }
    ours = {alias.asname or alias.name for node in tree.body for alias in _from_searchlib(node)}
    for node in tree.body:
        if _is_study(node):
            definitions += [ast.unparse(part) for part in ast.walk(node) if isinstance(part, ast.Lambda)]
            statements += _not_literal(node.value, ours) if isinstance(node, (ast.Assign, ast.AnnAssign)) else ()
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            statements += _imported(node, used)
        elif isinstance(node, ast.Expr):
            statements += () if isinstance(node.value, ast.Constant) else [ast.unparse(node)]
        else:
            definitions.append(ast.unparse(node))
            statements.append(ast.unparse(node))
    modules = {name: _digest(file) for name, file in sorted(_own_modules(tree, path).items())}
    return FileCode("\n".join(definitions), "\n".join(statements) if statements != definitions else "", modules)


def _is_study(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(ast.unparse(name) == "STUDY" for name in targets)


def _from_searchlib(node: ast.stmt) -> list[ast.alias]:
    if isinstance(node, ast.ImportFrom):
        return node.names if (node.module or "").split(".")[0] == "searchlib" and not node.level else []
    return [name for name in node.names if name.name == "searchlib"] if isinstance(node, ast.Import) else []


def _imported(node: ast.Import | ast.ImportFrom, used: set[str]) -> Iterator[str]:
    """An import; of searchlib's names only those that are *used* outside STUDY, which its definition describes."""
    ours = _from_searchlib(node)
    names = [name for name in node.names if name not in ours or (name.asname or name.name) in used]
    if names and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
        kept = ast.Import(names) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, names, node.level)
        yield ast.unparse(kept)


def _not_literal(node: ast.expr | None, ours: set[str]) -> Iterator[str]:
    """The parts of STUDY that its definition may not describe: names of functions, and calls that make them."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0].split("(")[0] in ours:
        if isinstance(node.func, ast.Attribute):  # Choice(...).when
            yield from _not_literal(node.func.value, ours)
        for part in [*node.args, *(word.value for word in sorted(node.keywords, key=lambda word: word.arg or ""))]:
            if not any(part is word.value and word.arg in NOT_IDENTITY for word in node.keywords):
                yield from _not_literal(part, ours)
    elif isinstance(node, LITERALS):
        for child in ast.iter_child_nodes(node):
            yield from _not_literal(child, ours) if isinstance(child, ast.expr) else ()
    elif node is not None and not isinstance(node, ast.Lambda) and ast.unparse(node) not in ours:
        yield ast.unparse(node)


# ------------------------------------------------------------------------------------------------- imported modules


def _own_modules(tree: ast.AST, path: Path) -> dict[str, Path]:
    """The files of the user's own modules that *tree* imports, by name."""
    found: dict[str, Path] = {}
    waiting = [*_names_imported(tree, "")]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        spec = _spec(name)
        file = Path(spec.origin) if spec and spec.has_location and spec.origin else None
        if file is None or is_installed(name, file) or not file.is_file():
            continue
        found[name] = file
        if file.suffix == ".py" and (inside := _tree(file)):
            package = name if spec and spec.submodule_search_locations is not None else name.rpartition(".")[0]
            waiting += _names_imported(inside, package)
    return {name: file for name, file in found.items() if not os.path.samefile(file, path)}


def _names_imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules that an import anywhere in *tree* may load, with the packages that they are in."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*parents, node.module or ""]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            names = [str(given.value) for given in node.args[:1] if isinstance(given, ast.Constant)]
        for name in filter(None, names):
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _spec(name: str) -> ModuleSpec | None:
    """Where a module comes from; nothing is imported to find out."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent = name.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(name)
    package = _spec(parent)
    places = package.submodule_search_locations if package else None
    # by its last name: a namespace package would look for its parents in sys.modules, where they may not be yet
    return PathFinder.find_spec(name.rpartition(".")[2], [*places]) if places is not None else None


def _tree(file: Path) -> ast.AST | None:
    """The syntax tree of a Python file; None where it has errors, as a module that nobody imports yet may have."""
    try:
        with tokenize.open(file) as stream:
            return ast.parse(stream.read())
    except (SyntaxError, UnicodeDecodeError):
        return None


def _digest(file: Path) -> str:
    """Of a Python file without its comments and layout; of a compiled extension as it is."""
    tree = _tree(file) if file.suffix == ".py" else None
    return hashlib.sha256(file.read_bytes() if tree is None else ast.unparse(tree).encode()).hexdigest()


def own_line(error: BaseException) -> str:
    """The last line of the user's own code that *error* passed through, as ``file.py:12``; "" if there is none."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
        if not file.startswith("<") and not is_installed(module, Path(file)):
            place = f"{file}:{line}"
    return place


def is_installed(module: str, file: Path | None) -> bool:
    """Whether a module comes with Python, with a package or with searchlib, and isn't the user's own."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed = file is None or any(file.is_relative_to(place) for place in places)
    installed = installed or not {"dist-packages", "site-packages"}.isdisjoint(file.parts if file else ())
    return installed or module.split(".")[0] == "searchlib"
