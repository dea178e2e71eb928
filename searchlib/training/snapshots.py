"""Snapshots of half-trained stacks on disk: a kill costs seconds of training, or an epoch, not the hours before it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from searchlib.errors import StorageError
from searchlib.files import write_whole
from searchlib.training.stack_run import StackRun, within

SECONDS = 10.0  # of training between two snapshots of the same stacks
NOTES = "notes"  # the tensor of bytes that holds all that isn't numbers of a network


class Snapshots:
    """A folder with one file for stacks that train together: one stack, or all those of a round with a pruner.

    A file is named after all that decides on the numbers of its stacks: only the same stacks find it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._since: dict[Path, float] = {}

    def load(self, stacks: Sequence[StackRun]) -> bool:
        """Bring *stacks*, which haven't begun, to where their snapshot was taken; whether there was one.

        A file that can't be used is removed: the stacks then train from their start, to the same result.
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
                stack.resume(note, within(tensors, f"{index}."))
        except Exception:  # a broken file, one of another version, too little memory
            path.unlink(missing_ok=True)
            for stack in stacks:
                stack.restart()
            return False
        return True

    def is_due(self, stacks: Sequence[StackRun]) -> bool:
        """Whether the last snapshot of *stacks*, or their start, is ``SECONDS`` ago."""
        return time.monotonic() >= self._since.setdefault(self._path(stacks), time.monotonic()) + SECONDS

    def save(self, stacks: Sequence[StackRun]) -> None:
        """Write down where *stacks* are, between two epochs; nothing where one of them was halved or hasn't begun.

        StorageError where the folder can't be written.
        """
        path = self._path(stacks)
        self._since[path] = time.monotonic()
        taken = [found for stack in stacks if (found := stack.snapshot()) is not None]
        if len(taken) < len(stacks):
            return
        import torch
        from safetensors.torch import save

        tensors = {
            f"{index}.{name}": tensor.detach().cpu().contiguous()
            for index, (_, of_stack) in enumerate(taken)
            for name, tensor in of_stack.items()
        }
        notes = json.dumps([note for note, _ in taken]).encode()
        tensors[NOTES] = torch.frombuffer(bytearray(notes), dtype=torch.uint8)  # the size of a file's header is limited
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, save(tensors))
        except OSError as error:
            raise StorageError(
                f"{str(self.folder)!r}, the folder for snapshots of the training, can't be written "
                f"({error.strerror}); free some space, then run the same command again"
            ) from None

    def remove(self, stacks: Sequence[StackRun]) -> None:
        """Remove the snapshot of *stacks*, whose trials are recorded."""
        path = self._path(stacks)
        path.unlink(missing_ok=True)
        self._since.pop(path, None)

    def clear(self) -> None:
        """Remove the folder, when all is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, stacks: Sequence[StackRun]) -> Path:
        name = hashlib.sha256("".join(stack.key for stack in stacks).encode()).hexdigest()
        return self.folder / f"{name[:24]}.safetensors"
