"""One IDX file: its header, its size, its checksum, and its array."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchlib.errors import DataError, IntegrityError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class IdxFile:
    """What is known of one IDX file of bytes: its name, the shape of its array, and checksums (MD5, in hex).

    ``md5`` is that of the raw content. ``gz_md5`` is that of the published ``.gz``, and counts only while the
    content's is unknown, since the same content can be compressed in many ways.
    Format: http://yann.lecun.com/exdb/mnist (two zero bytes, type 8 = uint8, rank, sizes as big-endian uint32).
    """

    name: str
    shape: tuple[int, ...]
    md5: str | None = None
    gz_md5: str | None = None

    @property
    def header(self) -> bytes:
        return struct.pack(f">HBB{len(self.shape)}I", 0, 8, len(self.shape), *self.shape)

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return len(self.header) + math.prod(self.shape)

    def array(self, content: np.ndarray) -> np.ndarray:
        """The array in a checked *content*: a view of uint8, of this file's shape."""
        return content[len(self.header) :].reshape(self.shape)

    def find(self, folder: Path) -> np.ndarray:
        """The checked content from *folder*, raw or ``.gz``. Raises IntegrityError or DataError, and says why."""
        problems = []
        for path in (folder / self.name, folder / f"{self.name}.gz"):
            try:
                return self.read(path)
            except FileNotFoundError:
                continue
            except DataError as error:
                problems.append(error)
        kind = IntegrityError if any(isinstance(problem, IntegrityError) for problem in problems) else DataError
        raise kind(", ".join(map(str, problems)) or f"no {folder / self.name} or {self.name}.gz")

    def read(self, path: Path) -> np.ndarray:
        """The checked content of *path*, [size] uint8, unpacked if its name ends in ``.gz``.

        Raises FileNotFoundError, IntegrityError for a file that isn't what it should be, DataError for one that
        can't be read.
        """
        import numpy as np

        try:
            if path.suffix == ".gz":
                if self.gz_md5 and not self.md5:
                    _expect(path, "MD5", _md5(path.read_bytes()), self.gz_md5)
                with gzip.open(path) as stream:
                    content = np.frombuffer(bytearray(stream.read(self.size + 1)), np.uint8)
            else:
                content = np.fromfile(path, np.uint8, count=self.size + 1)
        except FileNotFoundError:
            raise
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise IntegrityError(f"{path} is no whole gzip file ({error})") from None
        except OSError as error:
            raise DataError(f"{path} can't be read ({error.strerror or error})") from None

        found = f"{content.size:,}" if content.size <= self.size else f"more than {self.size:,}"
        _expect(path, "size in bytes", found, f"{self.size:,}")
        _expect(path, "IDX header", content[: len(self.header)].tobytes().hex(" ", 4), self.header.hex(" ", 4))
        if self.md5:
            _expect(path, "content's MD5", _md5(content), self.md5)
        return content


def _expect(path: Path, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise IntegrityError(f"{path} is damaged (its {what} is {found}, expected {expected})")


def _md5(content: Any) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
