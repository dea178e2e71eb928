"""Who may do what: locks shared with a group, and reading that only reads."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from support import prepare
from support.command import told, write_study
from support.places import content

from searchlib.data import sources
from searchlib.errors import BusyError
from searchlib.stores.stores import Stores

# ---------------------------------------------------------------------------------------------------------- permissions


@contextlib.contextmanager
def mask_of(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_locks_have_the_permissions_of_the_storage() -> None:
    with mask_of(0o022):
        stores = Stores()
        optuna.create_study(study_name="s", storage=stores.optuna_storage)
        os.chmod("optuna.journal", 0o664)
        os.chmod(".", 0o2775)
        with stores.lock("s", "optimize") as lock:
            assert mode(lock.path) == 0o664
            assert mode(lock.path.parent) & 0o777 == 0o775
        os.chmod("optuna.journal", 0o600)
        with stores.lock("s", "optimize") as lock:
            assert mode(lock.path) == 0o600


def test_the_lock_of_a_data_folder_has_its_permissions() -> None:
    folder = Path("data")
    folder.mkdir()
    folder.chmod(0o2775)
    with mask_of(0o022), sources._locked(folder):
        assert mode(folder / ".lock") == 0o664


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a while")
@pytest.mark.parametrize("lock_mode", [None, 0o644], ids=["new lock", "lock of an earlier version"])
def test_a_member_of_the_group_is_not_shut_out(lock_mode: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    group = grp.getgrnam("nogroup").gr_gid
    shared = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    monkeypatch.chdir(shared)
    study = optuna.create_study(study_name="s", storage=Stores().optuna_storage)
    for path in (Path("optuna.journal"), shared):
        os.chown(path, -1, group)
    os.chmod("optuna.journal", 0o664)
    shared.chmod(0o2775)
    stores = Stores()
    lock = stores.lock("s", "optimize")
    with lock:
        study.set_user_attr("of", "root")
    if lock_mode is not None:
        lock.path.chmod(lock_mode)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(65534)
            with lock:
                study.set_user_attr("of", "a member")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Stores().optuna_study("s").user_attrs == {"of": "a member"}
    with lock:
        pass
    shutil.rmtree(shared)


READING = [
    ["list"],
    ["status", "--study", "asked"],
    ["status", "--study", "asked", "--json"],
    ["export", "--study", "asked"],
    ["report", "--study", "asked", "--json"],
    ["report", "--study", "asked", "--output", "{out}"],
    ["verify", "--study", "asked"],
    ["predict", "--study", "asked", "--index", "1"],
]
ALL = """
    import json, sys
    from click.testing import CliRunner
    from searchlib.cli.main import cli
    for arguments in json.loads(sys.argv[1]):
        done = CliRunner().invoke(cli, arguments)
        print(json.dumps([done.exit_code, done.output[-2000:]]))
"""


@pytest.mark.parametrize("storage", ["optuna.journal", "sqlite:///optuna.db"])
def test_what_only_reads_needs_no_write_permission(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, home, out = tmp_path / "work", tmp_path / "home", tmp_path / "out"
    for folder in (work, home, out):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("SEARCHLIB_STORAGE", storage)
    write_study(("trials=12,", "trials=4,"))
    prepare()
    told("optimize", "--study", "asked")
    if storage == "optuna.journal":  # a kill left a part of a line
        with Path(storage).open("ab") as file:
            file.write(b'{"op_code": 4')
    command = [sys.executable, "-c", textwrap.dedent(ALL)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write everywhere, and there is no setpriv to take that from it")
        rights = "-dac_override,-dac_read_search,-fowner"
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *command]
    before = content(work)
    places = [path for folder in (work, home) for path in (folder, *folder.rglob("*"))]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        commands = [[word.format(out=out / "asked.html") for word in arguments] for arguments in READING]
        environment = {**os.environ, "HOME": str(home)}
        done = subprocess.run([*command, json.dumps(commands)], env=environment, text=True, capture_output=True)
    finally:
        for path in places:
            path.chmod(0o755 if path.is_dir() else 0o644)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [code for code, _ in answers] == [0] * len(READING), (answers, done.stderr)
    assert "may only be read" in answers[5][1]
    assert (out / "asked.html").stat().st_size > 100_000
    assert content(work) == before


def test_verify_and_a_search_keep_each_other_out() -> None:
    optuna.create_study(study_name="s", storage=Stores().optuna_storage)
    reading = Stores().lock("s", "verify", shared=True)
    with reading:
        assert not Path(".searchlib").exists()
    with Stores().lock("s", "optimize"), pytest.raises(BusyError, match="optimize"):
        Stores().lock("s", "verify", shared=True).__enter__()
    with reading, Stores().lock("s", "verify", shared=True), pytest.raises(BusyError, match="being read"):
        Stores().lock("s", "optimize").__enter__()
