"""Half-trained stacks on disk: what a kill costs is seconds of training, or an epoch, not the hours before it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.errors import StorageError
from searchlib.files import write_whole

if TYPE_CHECKING:
    from searchlib.training.stack_run import StackRun

__all__ = ["Shelf"]

SECONDS = 10.0  # of training between two times that the same stacks are put down
NOTES = "notes"  # the tensor of bytes that holds what isn't numbers of a network


class Shelf:
    """A folder with one file for stacks that train together: one stack, or all those of a round with a pruner.

    A file is named after all that decides on its numbers, so it is found by the stacks that it was made of, and by no
    others; it is written beside its place and moved there whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._since: dict[Path, float] = {}

    def take(self, stacks: Sequence[StackRun]) -> bool:
        """Bring *stacks*, which haven't begun, to where they were put down; whether there was something to take.

        A file that can't be taken up is as none: the stacks train from their start, to the same end.
        """
        from safetensors.torch import load_file

        path = self._path(stacks)
        self._since[path] = time.monotonic()
        if not path.is_file():
            return False
        try:
            tensors = load_file(path)
            notes = json.loads(tensors.pop(NOTES).numpy().tobytes())
            for index, (stack, note) in enumerate(zip(stacks, notes, strict=True)):
                prefix = f"{index}."
                mine = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
                stack.take_up(note, mine)
        except Exception:  # a broken file, one of another version, too little memory
            path.unlink(missing_ok=True)
            for stack in stacks:
                stack.restart()
            return False
        return True

    def is_due(self, stacks: Sequence[StackRun]) -> bool:
        """Whether *stacks* have trained for long since they were put down, or taken."""
        return time.monotonic() >= self._since.setdefault(self._path(stacks), time.monotonic()) + SECONDS

    def put(self, stacks: Sequence[StackRun]) -> None:
        """Write down where *stacks* are, between two epochs; not those that had to be halved. StorageError for a full
        disk.
        """
        path = self._path(stacks)
        self._since[path] = time.monotonic()
        written = [stack.written() for stack in stacks]
        notes = [part[0] for part in written if part is not None]
        if len(notes) < len(stacks):
            return
        import torch
        from safetensors.torch import save

        tensors = {
            f"{index}.{name}": tensor.detach().cpu().contiguous()
            for index, part in enumerate(written)
            if part is not None
            for name, tensor in part[1].items()
        }
        # not in the file's header, whose size is limited
        tensors[NOTES] = torch.frombuffer(bytearray(json.dumps(notes).encode()), dtype=torch.uint8)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, save(tensors))
        except OSError as error:
            raise StorageError(
                f"{str(self.folder)!r}, where stacks are put down between epochs, can't be written "
                f"({error.strerror}); free some space, then run the same command again"
            ) from None

    def remove(self, stacks: Sequence[StackRun]) -> None:
        """Forget *stacks*, whose trials are recorded."""
        path = self._path(stacks)
        path.unlink(missing_ok=True)
        self._since.pop(path, None)

    def clear(self) -> None:
        """Remove the folder, when all is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, stacks: Sequence[StackRun]) -> Path:
        name = hashlib.sha256("".join(stack.key for stack in stacks).encode()).hexdigest()
        return self.folder / f"{name[:24]}.safetensors"
