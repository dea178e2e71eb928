"""Output files are replaced whole; links, pipes and errors."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from searchlib.errors import SearchlibError
from searchlib.files import output_errors, write_whole


def test_a_file_is_replaced_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("out.csv")
    write_whole(path, b"old")
    reader = path.open("rb")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="No space"):
                write_whole(path, b"new")
        assert path.read_bytes() == b"old"
    write_whole(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    with reader:
        assert reader.read() == b"old", "who reads it meanwhile reads to the end of what was there"
    assert os.listdir() == ["out.csv"], "nothing unfinished is left"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one(there: bool) -> None:
    Path("elsewhere").mkdir()
    target = Path("elsewhere/out.csv")
    if there:
        target.write_bytes(b"old")
    Path("link.csv").symlink_to(target)
    write_whole(Path("link.csv"), b"new")
    assert Path("link.csv").is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir("elsewhere") == ["out.csv"]


def test_a_pipe_is_written_to() -> None:
    os.mkfifo("pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
    reader.start()
    write_whole(Path("pipe"), b"content")
    reader.join()
    assert got == [b"content"]
    assert Path("pipe").is_fifo()


def test_what_cannot_be_written_is_said_in_one_line() -> None:
    Path("file").touch()
    for path, reason in (("missing/out", "No such file"), (".", "Is a directory"), ("file/out", "Not a directory")):
        expected = rf"^report '{path}' can't be written \({reason}[^\n]*\); give another path with --output$"
        with pytest.raises(SearchlibError, match=expected), output_errors(Path(path), "report"):
            write_whole(Path(path), b"")
    with pytest.raises(BrokenPipeError), output_errors(Path("out")):
        raise BrokenPipeError
