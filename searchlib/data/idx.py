"""Data sets of IDX files, as MNIST's are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from searchlib.data.dataset import Dataset, Examples, Part
from searchlib.data.idx_files import IdxFile
from searchlib.data.sources import FetchedFile, Source, obtain


@dataclass(frozen=True, kw_only=True)
class IdxPart:
    """The training or the test part of a data set of IDX files; calling it with a data root reads it."""

    title: str
    images: IdxFile
    labels: IdxFile

    def __call__(self, root: Path) -> Examples:
        import torch

        images, labels = (
            torch.from_numpy(file.array(file.find(root / self.title / "raw"))) for file in (self.images, self.labels)
        )
        return Examples(inputs=images, targets=labels.long())


@dataclass(frozen=True, kw_only=True)
class IdxFetch:
    """The ``fetch`` of a data set of IDX files: *sources* are tried in order for what isn't there."""

    train: IdxPart
    test: IdxPart
    sources: tuple[Source, ...]

    def __call__(self, root: Path, parts: Sequence[Part]) -> list[FetchedFile]:
        chosen = [self.train if part == "train" else self.test for part in parts]
        files = [file for part in chosen for file in (part.images, part.labels)]
        return obtain(root / self.train.title / "raw", files, self.sources)


def idx_dataset(
    *,
    name: str,
    title: str,
    classes: Sequence[str],
    shape: tuple[int, ...] = (28, 28),
    train: int = 60_000,
    test: int = 10_000,
    md5: Mapping[str, str] | None = None,
    gz_md5: Mapping[str, str] | None = None,
    sources: Sequence[Source] = (),
) -> Dataset:
    """A data set of four IDX files under ``<root>/<title>/raw/``, named as MNIST's are.

    *train* and *test* are numbers of images; *md5* and *gz_md5* give checksums by file name, of the raw content and
    of the published ``.gz`` (see IdxFile). Without them a file is checked by size and header. *sources* are tried
    in order for a file that is not there.
    """

    def part(prefix: str, count: int) -> IdxPart:
        def file(kind: str, shape: tuple[int, ...]) -> IdxFile:
            name = f"{prefix}-{kind}-idx{len(shape)}-ubyte"
            return IdxFile(name=name, shape=shape, md5=(md5 or {}).get(name), gz_md5=(gz_md5 or {}).get(name))

        images, labels = file("images", (count, *shape)), file("labels", (count,))
        return IdxPart(title=title, images=images, labels=labels)

    read_train, read_test = part("train", train), part("t10k", test)
    return Dataset(
        name=name,
        title=title,
        classes=tuple(classes),
        shape=shape,
        scale=255.0,
        train=read_train,
        test=read_test,
        fetch=IdxFetch(train=read_train, test=read_test, sources=tuple(sources)),
    )
