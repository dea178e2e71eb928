"""The question of a study file and its number of trials, read from its syntax tree where they are written out there."""

from __future__ import annotations

import ast
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from searchlib.study.loading import find_study, load_study_file, read_source
from searchlib.study.study import Study


@dataclass(frozen=True)
class Preview:
    """What a list of studies shows of one.

    trials: of each data set. parts: the names of its parts where it has several data sets, else ().
    """

    question: str
    trials: int
    parts: tuple[str, ...] = ()


class _UnreadableError(Exception):
    """Only running the file can tell."""


def preview_study(name: str, folder: Path = Path("studies")) -> Preview:
    """Question and number of trials of a study. Runs its file only where they aren't constants in its source.

    A file that isn't run may still be refused by ``load_study``. StudyError as there for what is wrong otherwise.
    """
    path = find_study(name, folder)
    with contextlib.suppress(_UnreadableError, SyntaxError, ValueError, RecursionError, MemoryError):
        return _read(ast.parse(read_source(path)))
    study = load_study_file(path)
    return Preview(study.question, study.trials, tuple(part.name for part in study.parts if study.datasets))


def _read(tree: ast.Module) -> Preview:
    bound = Counter(name for node in ast.walk(tree) for name in _bound_by(node))
    known: dict[str, str | int] = {}  # the names that are bound once, to a constant
    kinds = set()  # what the file calls searchlib's Study
    call: ast.expr | None = None
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "searchlib":
            kinds |= {alias.asname or alias.name for alias in node.names if alias.name == "Study"}
        elif isinstance(node, ast.Import):
            kinds |= {f"{alias.asname or alias.name}.Study" for alias in node.names if alias.name == "searchlib"}
        for name, value in _assigned(node):
            if name == "STUDY" and bound[name] == 1:
                call = value
            elif bound[name] == 1 and call is None:  # below STUDY it would come too late
                with contextlib.suppress(_UnreadableError):
                    known[name] = _constant(value, known)
    if not isinstance(call, ast.Call) or call.args or (kind := ast.unparse(call.func)) not in kinds:
        raise _UnreadableError
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if bound[kind.split(".")[0]] != 1 or None in given or "question" not in given:  # None is **
        raise _UnreadableError
    if "datasets" in given:
        raise _UnreadableError  # the names of its parts are those of its data sets
    question = _constant(given["question"], known)
    sampler = _constant(given["sampler"], known) if "sampler" in given else Study.sampler
    if "trials" not in given and (sampler == "grid" or (sampler == "balanced" and "nuisance" not in given)):
        raise _UnreadableError  # there may be fewer points than the default
    trials = _constant(given["trials"], known) if "trials" in given else Study.trials
    if not isinstance(question, str) or not question.strip() or not isinstance(trials, int) or trials < 1:
        raise _UnreadableError  # and Study says why it refuses that
    return Preview(question, trials)


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The name and the value of a plain assignment."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        yield node.targets[0].id, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value


def _bound_by(node: ast.AST) -> list[str]:
    """The names that *node* binds or unbinds, in whatever scope."""
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.alias):
        return [(node.asname or node.name).split(".")[0]]
    return [name] if isinstance(name := getattr(node, "name", None), str) else []  # except ... as, case ... as


def _constant(node: ast.expr, known: Mapping[str, str | int]) -> str | int:
    """The value of a literal, of a name for one, of an f-string of them, or of their sum or product."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int)) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.JoinedStr):
        return "".join(str(_constant(part, known)) for part in node.values)
    if isinstance(node, ast.FormattedValue) and node.conversion == -1 and node.format_spec is None:
        return _constant(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
        left, right = _constant(node.left, known), _constant(node.right, known)
        if isinstance(left, int) and isinstance(right, int):
            return left + right if isinstance(node.op, ast.Add) else left * right
        if isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add):
            return left + right
    raise _UnreadableError
