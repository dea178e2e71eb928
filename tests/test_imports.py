"""The shape of the package: rooms in one direction, one room for each third-party edge, a sealed test set.

Read from the syntax trees, so that it holds for whatever modules there are, and for imports of all three kinds: at the
top of a module, inside a function, and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.command import write_study
from support.packages import MODULES, PACKAGE, TREES, graph, imports, room, short

import searchlib

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
ROOMS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
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


KNOWN_BY_NAME = {"searchlib.cli.main"}  # entered beside the face of their room


def test_rooms_are_entered_by_their_face() -> None:
    """A room's ``__init__`` has what others use; modules of torch or rich, which cost time, are named where needed."""
    heavy = {name for name, tree in TREES.items() if {"rich", "torch"} & set(top_imports(tree))}
    wrong = [
        f"{short(name)} imports {short(found)}"
        for name, targets in graph().items()
        for found in targets
        if room(name) != room(found) and found.count(".") == 2 and found not in heavy | KNOWN_BY_NAME
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


def names(tree: ast.AST, function: str) -> bool:
    """Whether a syntax tree names *function* at all: called, imported, or passed on."""
    return any(
        (isinstance(node, ast.Name) and node.id == function)
        or (isinstance(node, ast.Attribute) and node.attr == function)
        or (isinstance(node, ast.alias) and function in (node.name, node.asname))
        or (isinstance(node, ast.Constant) and node.value == function)
        for node in ast.walk(tree)
    )


def test_the_test_set_is_opened_by_holdout_alone() -> None:
    """The data room defines load_test, and its face, which calls nothing, re-exports it."""
    assert {short(name) for name, tree in TREES.items() if names(tree, "load_test")} == {"results.holdout", "data"}
    assert not any(isinstance(node, ast.Call) for node in ast.walk(TREES["searchlib.data"]))


def test_the_test_part_of_a_data_set_is_reached_through_data_alone() -> None:
    """``dataset.test(root)`` would go round load_test."""
    attributes = [(room(name), node) for name, tree in TREES.items() for node in ast.walk(tree)]
    users = {user for user, node in attributes if isinstance(node, ast.Attribute) and node.attr == "test"}
    assert users == {"data"}


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


HEAVY = {
    "filelock", "jinja2", "mlflow", "numpy", "optuna", "pandas", "plotly", "pyarrow", "rich", "scipy", "sklearn",
    "sqlalchemy", "torch", "torchvision",
}  # fmt: skip
COMMAND = "sys.argv[1:] = {!r}; from searchlib.cli.main import main; main()"
CHEAP = {
    **{f"import searchlib.{room}": f"import searchlib.{room}" for room in sorted(ROOMS - {"search"})},
    "the catalogue of data sets": "from searchlib.data import DATASETS; list(DATASETS)",
    "searchlib.optimize": "import searchlib; searchlib.optimize",
    "a study's identity": "import searchlib; searchlib.load_study('asked').identity",
    "the count of a journal's trials": "from searchlib.stores import Stores; Stores('optuna.journal').count_trials()",
    **{" ".join(words): COMMAND.format(words) for words in (["--help"], ["optimize", "--help"], ["list"])},
    "shell completion": "import os; os.environ.update(_SEARCHLIB_COMPLETE='bash_complete', "
    "COMP_WORDS='searchlib status --study as', COMP_CWORD='3'); from searchlib.cli.main import main; main()",
}


@pytest.mark.parametrize("what", CHEAP)
def test_what_is_cheap_imports_nothing_heavy(what: str) -> None:
    """Completion, ``--help`` and ``list`` pay for what is imported; a room's modules of torch wait until they train."""
    write_study()
    write_study(("from searchlib", "import torch\nfrom searchlib"), name="imports_torch")
    Path("optuna.journal").write_text('{"op_code": 0, "worker_id": "w", "study_name": "asked", "directions": [1]}\n')
    code = f"import sys\ntry: {CHEAP[what]}\nfinally: print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"
