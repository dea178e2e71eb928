"""The shape of the package: rooms in one direction, one room for each third-party edge, a sealed test set.

Read from the syntax trees, so that it holds for whatever modules there are, and for imports of all three kinds: at the
top of a module, inside a function, and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import functools
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

ORDER = [  # imports point up these lines only; what stands on one line doesn't import each other
    {"errors", "seeds", "text", "files"},
    {"data"},
    {"networks"},
    {"study"},
    {"analysis", "training", "stores"},
    {"search", "results", "report"},
    {"library"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
SMALL = ORDER[0]  # files of the package's root, of which each may use those that are beside it

EDGES = {  # third-party package -> the rooms, or single modules, that may import it
    "click": {"cli"},
    "mlflow": {"stores", "results.champion", "results.champion_model"},  # champion_model runs inside MLflow
    "optuna": {"search", "stores", "analysis"},
    "optuna_dashboard": {"report.dashboard"},
    "plotly": {"report"},
    "rich": {"cli", "report"},
    "sqlalchemy": {"stores"},
}


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


def upward(edges: dict[str, set[str]]) -> list[str]:
    """The imports that don't point up ``ORDER``."""
    line = {each: position for position, rooms in enumerate(ORDER) for each in rooms}
    return [
        f"{short(name)} imports {short(found)}"
        for name, targets in edges.items()
        for found in targets
        if room(name) != room(found)
        and line[room(found)] >= line[room(name)]
        and not {room(name), room(found)} <= SMALL
    ]


def test_the_reader_of_imports_sees_all_kinds() -> None:
    tree = ast.parse(
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\nelse:\n    import f\n"
        "try:\n    import g\nexcept ImportError:\n    pass\ndef x():\n    import h\n    class Y:\n        import i\n"
        "class Z:\n    import j\nfrom searchlib import text\nfrom . import seeds\nfrom .study import Study\n"
    )
    ours = {"searchlib.text", "searchlib.seeds", "searchlib.study"}
    found = set(imports("searchlib.errors", tree))
    assert found == {"a.b", "c", "e", "f", "g", "h", "i", "j"} | ours
    assert set(imports("searchlib.errors", tree, checking=False)) == found - {"e"}
    wrong = {"searchlib.data.idx": {"searchlib.study", "searchlib.text"}, "searchlib.search": {"searchlib.report.page"}}
    assert upward(wrong) == ["data.idx imports study", "search imports report.page"]


def test_every_module_has_its_room() -> None:
    assert {room(name) for name in MODULES} == set().union(*ORDER)


def test_imports_point_one_way() -> None:
    assert upward(graph()) == []


def test_imports_have_no_cycle() -> None:
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_rooms_are_entered_by_their_face() -> None:
    """A room's ``__init__`` has what others use; modules of torch, which cost a second, are named where needed."""
    heavy = {name for name, tree in TREES.items() if "torch" in set(top_imports(tree))}
    wrong = [
        f"{short(name)} imports {short(found)}"
        for name, targets in graph().items()
        for found in targets
        if room(name) != room(found) and found.count(".") == 2 and found not in heavy
    ]
    assert wrong == []


def top_imports(tree: ast.Module) -> Iterator[str]:
    """The packages that a module imports as soon as it is imported."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", EDGES)
def test_one_third_party_edge_one_room(package: str) -> None:
    users = {
        name
        for name, tree in TREES.items()
        if any(found.split(".")[0] == package for found in imports(name, tree, checking=False))
    }
    assert users, f"nothing imports {package}: the test would pass over an empty folder, too"
    strangers = {short(name) for name in users if not {room(name), short(name)} & EDGES[package]}
    assert not strangers, f"{package} is imported by {sorted(strangers)}"


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
    assert users == {"results.holdout", "data"}
    defined = {
        short(name)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "load_test"
    }
    assert defined == {"data.datasets"}
    inside = [
        node.lineno
        for name in ("searchlib.data.datasets", "searchlib.data")
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_test")
    ]
    assert inside == [], "the data room defines it and doesn't call it"


def test_the_test_part_of_a_data_set_is_reached_through_data_alone() -> None:
    """``dataset.test(root)`` would go round load_test."""
    users = {
        short(name)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "test"
    }
    assert {room(f"searchlib.{name}") for name in users} == {"data"}


def test_training_knows_nothing_of_optuna_mlflow_or_the_terminal() -> None:
    for name, tree in TREES.items():
        if room(name) == "training":
            found = {each.split(".")[0] for each in imports(name, tree)}
            assert not {"optuna", "mlflow", "rich", "click"} & found, name


def test_the_public_names() -> None:
    def rank(name: str) -> tuple[int, str]:  # as ruff sorts them: constants, classes, the rest
        return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name

    assert searchlib.__all__ == sorted(searchlib.__all__, key=rank)
    assert len(set(searchlib.__all__)) == len(searchlib.__all__)
    for name in searchlib.__all__:
        assert hasattr(searchlib, name), name


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"searchlib.__main__", "searchlib.results.champion_model"}))
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
