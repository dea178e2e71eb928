"""The shape of the package: one module for each third-party edge, imports one way, and a sealed test set.

Read from the syntax trees, so that it holds for whatever modules there are.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import searchlib

PACKAGE = Path(searchlib.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in MODULES.items()}

EDGES = {  # third-party package -> the modules that may import it
    "click": {"cli"},
    "mlflow": {"tracking", "registry", "champion_model"},  # champion_model runs inside MLflow
    "optuna": {"sampling", "storage", "databases", "optimize", "replicates", "recorder", "analysis"},
    "ray": {"engines"},
}

ORDER = [  # data flows down: a module imports, while it is loaded, from those above it only
    "errors", "signals", "space", "activations", "initializers", "trial", "sources", "data", "models", "published",
    "study", "training", "training.optimizers", "training.stack", "training.loop", "training.module", "diagnosis",
    "meanfield", "diagnostics", "databases", "storage", "sampling", "provenance", "sqlite_runs", "tracking", "registry",
    "comparison", "edges", "wording", "analysis",
    "holdout", "workers", "runs", "shelf", "engines", "recorder", "replicates", "optimize", "audit", "verify",
    "export", "figures",
    "network_figures", "nuisance_figures", "networks", "material", "dashboard", "report", "cli", "__main__",
]  # fmt: skip


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(name: str, node: ast.AST, *, deferred: bool) -> Iterator[str]:
    """What *node* imports at run time, as dotted names; with *deferred* also inside functions."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            for alternative in child.orelse:  # type: ignore[attr-defined]
                yield from imports(name, ast.Module([alternative], []), deferred=deferred)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
                base = ".".join([*package[: len(package) - child.level + 1], *([base] if base else [])])
            for alias in child.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base
        elif deferred or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(name, child, deferred=deferred)


def all_imports(name: str, *, deferred: bool) -> set[str]:
    return set(imports(name, TREES[name], deferred=deferred))


def short(name: str) -> str:
    return name.removeprefix("searchlib.")


def test_the_reader_of_imports_sees_all_kinds() -> None:
    tree = ast.parse(
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\nelse:\n    import f\n"
        "try:\n    import g\nexcept ImportError:\n    pass\ndef x():\n    import h\n    class Y:\n        import i\n"
        "class Z:\n    import j\nfrom searchlib import space\nfrom . import trial\nfrom .study import Study\n"
    )
    eager = set(imports("searchlib.errors", tree, deferred=False))
    ours = {"searchlib.space", "searchlib.trial", "searchlib.study"}
    assert eager == {"a.b", "c", "f", "g", "j"} | ours
    assert set(imports("searchlib.errors", tree, deferred=True)) == eager | {"h", "i"}


@pytest.mark.parametrize("package", EDGES)
def test_one_third_party_edge_one_module(package: str) -> None:
    users = {
        short(name)
        for name in MODULES
        if any(imported.split(".")[0] == package for imported in all_imports(name, deferred=True))
    }
    assert users <= EDGES[package], f"{package} is imported by {sorted(users - EDGES[package])}"


def test_the_edges_are_in_use() -> None:
    """The test above would pass over an empty folder, too."""
    used = {imported.split(".")[0] for name in MODULES for imported in all_imports(name, deferred=True)}
    assert {"mlflow", "optuna", "torch"} <= used
    assert {"searchlib", "searchlib.space", "searchlib.training.stack"} <= set(MODULES)


def calls(tree: ast.AST, function: str) -> bool:
    """Whether a syntax tree names *function* at all: called, imported, or passed on."""
    return any(
        (isinstance(node, ast.Name) and node.id == function)
        or (isinstance(node, ast.Attribute) and node.attr == function)
        or (isinstance(node, ast.alias) and function in (node.name, node.asname))
        or (isinstance(node, ast.Constant) and node.value == function)
        for node in ast.walk(tree)
    )


def test_the_test_set_is_opened_by_holdout_alone() -> None:
    users = {short(name) for name, tree in TREES.items() if calls(tree, "load_test")}
    assert users <= {"holdout", "data"}
    defined = {
        short(name)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "load_test"
    }
    assert defined == {"data"}
    inside = [
        node.lineno
        for node in ast.walk(TREES["searchlib.data"])
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_test")
    ]
    assert inside == [], "data.py defines it and doesn't call it"


def test_the_test_part_of_a_data_set_is_reached_through_data_alone() -> None:
    """``dataset.test(root)`` would go round load_test."""
    users = {
        short(name)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "test"
    }
    assert users == {"data"}


def graph(*, deferred: bool = False) -> dict[str, set[str]]:
    return {
        name: {imported for imported in all_imports(name, deferred=deferred) if imported in MODULES} - {name}
        for name in MODULES
    }


def test_imports_have_no_cycle() -> None:
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_imports_point_one_way() -> None:
    wrong = [
        f"{short(name)} imports {short(imported)}"
        for name, targets in graph().items()
        for imported in targets
        if short(name) in ORDER
        and short(imported) in ORDER
        and ORDER.index(short(imported)) >= ORDER.index(short(name))
    ]
    assert wrong == []


def test_no_module_but_the_entry_points_imports_the_whole_package() -> None:
    users = {short(name) for name, targets in graph().items() if "searchlib" in targets}
    assert users <= {"cli", "__main__"}


def test_training_knows_nothing_of_optuna_mlflow_or_the_terminal() -> None:
    for name in MODULES:
        if name.startswith("searchlib.training"):
            above = set(ORDER[ORDER.index("storage") :])
            assert not above & {short(target) for target in graph(deferred=True)[name]}, name
            assert not {"rich", "click", "tqdm"} & {found.split(".")[0] for found in all_imports(name, deferred=True)}


def test_the_public_names() -> None:
    def rank(name: str) -> tuple[int, str]:  # as ruff sorts them: constants, classes, the rest
        return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name

    assert searchlib.__all__ == sorted(searchlib.__all__, key=rank)
    assert len(set(searchlib.__all__)) == len(searchlib.__all__)
    for name in searchlib.__all__:
        assert hasattr(searchlib, name), name


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"searchlib.__main__", "searchlib.champion_model"}))
def test_the_names_of_each_module(name: str) -> None:
    """Every name of a module's __all__ is defined there."""
    listed = [
        ast.literal_eval(node.value)
        for node in TREES[name].body
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets)
    ]
    for names in listed:
        assert len(set(names)) == len(names)
        module = __import__(name, fromlist=names)
        assert [found for found in names if not hasattr(module, found)] == []


def test_importing_the_package_is_cheap() -> None:
    heavy = {"torch", "optuna", "mlflow", "numpy", "click", "rich"}
    code = f"import sys, searchlib; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
