"""Study files: finding and running them. A study file is plain Python that defines ``STUDY``."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import linecache
import os
import re
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

from searchlib.errors import StudyError
from searchlib.study.code import is_installed, read_code
from searchlib.study.datasets import NAME, NAME_RULE
from searchlib.study.study import Study
from searchlib.text import unknown_name

_folders: list[str] = []  # what the last study file added to sys.path
_helpers: set[str] = set()  # the user's modules that it imported


def list_studies(folder: Path) -> list[str]:
    """The names of the study files in *folder*, sorted; a helper of theirs, without STUDY, isn't one."""
    return [name for name in _file_names(folder) if _is_study_file(folder / f"{name}.py")]


def _file_names(folder: Path) -> list[str]:
    if not os.path.isdir(folder):
        raise StudyError(f"studies folder {str(folder)!r} isn't there; run in the project's folder, or give --studies")
    return sorted(path.stem for path in folder.glob("*.py") if path.is_file() and not path.name.startswith("_"))


def _is_study_file(path: Path) -> bool:
    """Whether a file has the name STUDY in it, and isn't a helper of studies; a broken one counts as a study."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return True
    names = {name for node in ast.walk(tree) for name in (getattr(node, "id", ""), getattr(node, "name", ""))}
    return "STUDY" in names or "*" in names  # as "from elsewhere import *" has


def load_study(name: str, folder: Path = Path("studies")) -> Study:
    """Load the study *name* from *folder*, or from the file that *name* is the path of (it ends in ``.py``).

    ``NAME.DATASET`` is the part of a study of several data sets.
    Runs the file: it is Python. Nothing else is read or run. Errors are StudyErrors that name file and line.
    """
    if NAME.fullmatch(name) and not name.endswith(".py") and name not in (known := _file_names(folder)):
        for whole in (name[:place] for place, character in enumerate(name) if character == "." and place):
            if whole in known and (study := load_study_file(folder / f"{whole}.py")).datasets:
                parts = {part.name: part for part in study.parts}
                if name not in parts:
                    raise StudyError(unknown_name(f"part of study {whole!r}", name, parts))
                return parts[name]
    return load_study_file(find_study(name, folder))


def find_study(name: str, folder: Path) -> Path:
    """The file of a study given by name or by path."""
    if name.endswith(".py"):
        if not os.path.isfile(name):
            raise StudyError(f"study file {name!r} isn't there")
        return Path(name)
    if not NAME.fullmatch(name):
        raise StudyError(f"{name!r} is no study: expected a name from {str(folder)!r}, or the path of a .py file")
    known = _file_names(folder)
    if name not in known:
        raise StudyError(f"{unknown_name('study', name, known)} (in {str(folder)!r})")
    return folder / f"{name}.py"


def read_source(path: Path) -> str:
    """The text of a study file. StudyError where its name can't be a study's, or it can't be read."""
    if not NAME.fullmatch(path.stem) or path.stem.endswith(".replicates"):
        rule = "names that end in .replicates are taken, for the replicates of a study"
        raise StudyError(
            f"study file {str(path)!r}: {rule if NAME.fullmatch(path.stem) else NAME_RULE}; rename the file"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"study file {str(path)!r} can't be read: {error}") from None


def load_study_file(path: Path) -> Study:
    """Run one study file and return its STUDY, named after the file."""
    source, place = read_source(path), Path(os.path.abspath(path))  # the file may change the working folder
    module = types.ModuleType(f"searchlib_study_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and inspect look the module of a class up there
    linecache.checkcache(str(path))
    try:
        # a command's output is its own: what the file prints goes to stderr
        with _importing_from(path.parent), contextlib.redirect_stdout(sys.stderr):
            exec(compile(source, str(path), "exec"), module.__dict__)
        study = getattr(module, "STUDY", None)
        if isinstance(study, Study):
            code = read_code(source, place)
            study = dataclasses.replace(
                study,
                name=path.stem,
                path=place,
                code=code.definitions,
                statements=code.statements,
                modules=code.modules,
            )
            if study.datasets and (other := next((p for p in study.parts if p.name in _file_names(path.parent)), None)):
                raise StudyError(f"its part {other.name} has the name of another study file; rename that file")
            return study
    except KeyboardInterrupt:
        raise
    except SyntaxError as error:
        file = error.filename or path  # it may be in a module that the study file imports
        raise StudyError(f"{file}:{error.lineno or 1}: {error.msg}; correct the syntax of the file") from None
    except StudyError as error:
        raise StudyError(f"{path}:{_line(error, path)}: ", error.message) from None
    except BaseException as error:  # SystemExit, say: the file may raise whatever it likes
        raise StudyError(f"{path}:{_line(error, path)}: {_plain(error)}") from None
    found = "defines no STUDY" if study is None else f"STUDY is a {type(study).__name__}"
    raise StudyError(f"{path}: {found}; expected STUDY = Study(question=..., ...)")


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Import modules beside a study file, after all that is installed; anew, as another study may have brought them.

    The folder stays on ``sys.path``, for imports within functions.
    """
    for place in _folders:
        with contextlib.suppress(ValueError):
            sys.path.remove(place)
    _folders[:] = {str(folder.resolve())} - {*sys.path}
    sys.path.extend(_folders)
    for name in _helpers:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    before = {*sys.modules}
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # by which an edit within a second goes unnoticed
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        loaded = [(name, module) for name, module in [*sys.modules.items()] if name not in before]
        own = {name: getattr(module, "__dict__", {}).get("__file__") for name, module in loaded}  # a lazy one stays so
        _helpers.clear()
        _helpers.update(name for name, file in own.items() if file and not is_installed(name, Path(file)))


def _line(error: BaseException, path: Path) -> int:
    """The last line of the study file that the error passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] or 0) if lines else 0


def _plain(error: BaseException) -> str:
    """The message in one line; a misspelt argument of Study also names the nearest one."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # its class is the file's own
        text = "an error without words"
    unexpected = re.search(r"Study\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    if unexpected:
        known = [spec.name for spec in dataclasses.fields(Study) if spec.name not in ("code", "name", "path")]
        return unknown_name("field of Study", unexpected[1], known)
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = "; install it, or put its file beside the study file"
    return f"{type(error).__name__}: {text}{hint}"
