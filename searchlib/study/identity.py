"""The identity of a study that is made in a notebook or a script: the source of the functions that belong to it.

A study file enters the identity of its study as a whole. Of a notebook or a script only the study's own functions do:
their source, the functions and classes that they use, and the constants that they read.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import dis
import enum
import functools
import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from searchlib.errors import StudyError
from searchlib.study.code import is_installed
from searchlib.study.study import Study

__all__ = [
    "identified",
]

PARTS = ("dataset", "model", "scientific", "nuisance", "fixed", "sampler", "pruner")  # fields that may hold functions
CONSTANTS = (bool, bytes, complex, enum.Enum, float, int, Path, range, str, type(None), type(...))
GENERATED = {f"__{name}__" for name in ("init", "new", "repr", "eq", "lt", "le", "gt", "ge", "hash", "replace")}
NAMED = (types.BuiltinFunctionType, types.MethodDescriptorType, types.ModuleType)  # imported: a name says it all


def identified(study: Study) -> Study:
    """*study* with the source of its own functions as its ``code``.

    A study as a file has it is returned as it is; of a changed copy of one, functions made in a notebook or a script
    are added to the file's code.

    StudyError where the source of a function isn't there, or where it reads a variable that is no constant: a change
    of it between two searches would go unnoticed.
    """
    own = _OwnCode()
    if study.path is not None:
        for part in PARTS:
            for function in _functions_within(getattr(study, part)):
                if function.__module__ == "__main__":
                    own.text(function, part)
        added = list(own.sources.values())
        return dataclasses.replace(study, code="\n".join([study.code, *added])) if added else study
    if study.name.endswith(".replicates"):
        raise StudyError(
            f"name={study.name!r}: names that end in .replicates are taken, for the replicates of a study; give another"
        )
    for part in PARTS:
        own.text(getattr(study, part), part)
    return dataclasses.replace(study, code="\n".join(own.sources.values()))


class _OwnCode:
    """The sources of the functions and classes that were met, each once, in the order in which they were met."""

    def __init__(self) -> None:
        self.sources: dict[int, str] = {}
        self.met: dict[int, object] = {}  # by id; kept, so that no other object gets the id of one that was met

    def text(self, value: Any, place: str) -> str:
        """*value* as text, "" for what its source or its name says; the sources of its functions are added.

        place: where the value is, for messages.
        """
        if isinstance(value, CONSTANTS):
            return repr(value)
        if isinstance(value, NAMED):
            return ""
        if isinstance(value, (types.FunctionType, type)):
            self.add(value, place)
            return ""
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(self.text(item, place) for item in value)}]"
        if isinstance(value, (set, frozenset)):
            return self.text(sorted(value, key=repr), place)
        if isinstance(value, Mapping):
            return self.text([*value.keys(), *value.values()], place)
        if isinstance(value, types.MethodType):
            return self.text([value.__func__, value.__self__], place)
        if isinstance(value, functools.partial):
            return self.keep(value, self.text([value.func, value.args, value.keywords], place))
        if hasattr(value, "__wrapped__"):  # functools.cache and its kin
            return self.text(value.__wrapped__, place)
        if id(value) in self.met:
            return ""
        if dataclasses.is_dataclass(value) or (
            hasattr(value, "__dict__") and not _is_installed(type(value).__module__)
        ):
            self.met[id(value)] = value
            text = f"{type(value).__qualname__}{self.text([type(value), vars(value)], place)}"
            # what searchlib's own values say (a Choice, an MLP) is in the definition already
            return text if type(value).__module__.split(".")[0] == "searchlib" else self.keep(value, text)
        if _is_singleton(value):
            return repr(value)
        raise StudyError(
            f"{place}: a {type(value).__name__} can't be identified, so a change of it would go unnoticed; make it "
            "inside of the function, or write the study as a file"
        )

    def keep(self, value: object, text: str) -> str:
        """*text*, kept as a source of its own: a study's field that holds *value* drops what ``text`` returns."""
        self.met[id(value)] = value
        self.sources[id(value)] = text
        return text

    def add(self, value: types.FunctionType | type, place: str) -> None:
        if id(value) in self.met or _is_installed(value.__module__):
            return
        self.met[id(value)] = value  # it may use itself
        self.sources[id(value)] = ""
        lines = self.of_class(value, place) if isinstance(value, type) else self.of_function(value, place)
        self.sources[id(value)] = "\n".join(lines)

    def of_function(self, function: types.FunctionType, place: str) -> Iterator[str]:
        code = function.__code__
        nodes = [
            node
            for node in ast.walk(_tree(code.co_filename))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            and getattr(node, "name", "<lambda>") == code.co_name
            and min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))]) == code.co_firstlineno
        ]
        if not nodes:
            raise _no_source(function, place)
        yield from map(ast.unparse, nodes)  # of several lambdas on a line all
        yield from self.read_by(function, nodes, place)

    def read_by(self, function: types.FunctionType, nodes: list[Any], place: str) -> Iterator[str]:
        """What the function reads from around it: defaults, the closure, globals, decorators."""
        for value in (function.__defaults__, function.__kwdefaults__):
            if value:
                yield self.text(value, f"{place}: a default of {function.__name__}")
        names = set(_globals_of(function.__code__))
        for node in nodes:
            for decorator in getattr(node, "decorator_list", ()):
                names |= {name.id for name in ast.walk(decorator) if isinstance(name, ast.Name)}
        around = {name: function.__globals__[name] for name in names if name in function.__globals__}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # not bound yet
                around[name] = cell.cell_contents
        for name in sorted(around):
            if text := self.text(around[name], f"{place}: function {function.__name__} reads {name}"):
                yield f"{name} = {text}"

    def of_class(self, kind: type, place: str) -> Iterator[str]:
        found = [function for value in vars(kind).values() for function in _functions(value)]
        functions = [function for function in found if not _is_generated(function, kind)]
        nodes = [
            node
            for file in dict.fromkeys(function.__code__.co_filename for function in functions)
            for node in ast.walk(_tree(file))
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__
        ]
        if functions and not nodes:
            raise _no_source(kind, place)
        yield ast.unparse(nodes[-1]) if nodes else f"class {kind.__qualname__}"  # without methods, values say it all
        for base in kind.__bases__:
            self.add(base, place)
        written = {node.name for node in ast.walk(nodes[-1]) if isinstance(node, ast.FunctionDef)} if nodes else set()
        for function in functions:
            if function.__name__ in written:  # not what a decorator made
                yield from self.read_by(function, [], f"{place}: {kind.__name__}")
        for name, value in vars(kind).items():
            if isinstance(value, CONSTANTS) and not name.startswith("__"):
                yield f"{kind.__name__}.{name} = {value!r}"
        if not nodes:
            yield f"fields {[*getattr(kind, '__annotations__', ())]}"
            for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
                if field.default_factory is not dataclasses.MISSING:
                    yield f"{field.name}: {self.text(field.default_factory, f'{place}: {kind.__name__}')}"
            yield repr(getattr(kind, "_field_defaults", {}))


def _functions_within(value: Any) -> Iterator[types.FunctionType]:
    """The functions that a field of a study holds: itself, in a dict, among the options of a Choice, of a data set."""
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _functions_within(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _functions_within(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _functions_within(vars(value))


def _functions(member: Any) -> Iterator[types.FunctionType]:
    """The functions behind a member of a class."""
    parts = (member.fget, member.fset, member.fdel) if isinstance(member, property) else [member]
    return (found for part in parts if isinstance(found := getattr(part, "__func__", part), types.FunctionType))


def _is_generated(function: types.FunctionType, kind: type) -> bool:
    """Whether a method of *kind* was made by dataclasses, enum, or collections.namedtuple."""
    made = dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
    return _is_installed(function.__module__) or (made and function.__name__ in GENERATED)


def _globals_of(code: types.CodeType) -> Iterator[str]:
    """The names that the code, and that of the functions inside, looks up outside of them."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _tree(file: str) -> ast.AST:
    """The syntax tree of a file or of a notebook's cell; an empty one where its source isn't there."""
    linecache.checkcache(file)  # a module may have been edited and loaded again
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ast.Module([], [])


def _no_source(value: types.FunctionType | type, place: str) -> StudyError:
    return StudyError(
        f"{place}: the source of {value.__name__} isn't there, so a change of it would go unnoticed; define it in a "
        "file or in a cell of a notebook"
    )


def _is_singleton(value: Any) -> bool:
    """Whether *value* is pickled by its name, as what a module has once: a type of torch, a ufunc of NumPy."""
    try:
        return isinstance(value.__reduce_ex__(2), str)
    except Exception:  # it can't be pickled
        return False


def _is_installed(module: str) -> bool:
    """Whether a module comes with Python, with a package or with searchlib, and isn't the user's own."""
    if module == "__main__" or (module not in sys.modules and module.split(".")[0] != "searchlib"):
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return is_installed(module, Path(file) if file else None)
