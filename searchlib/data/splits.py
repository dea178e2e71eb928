"""The training data, cut into a part to train on and a part to validate on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from searchlib.data.dataset import Examples
from searchlib.errors import DataError, StudyError
from searchlib.seeds import derive_seed


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The training data, cut once into a part to train on and a part to validate on."""

    train: Examples
    validation: Examples
    seed: int
    fraction: float

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex over the examples of both parts."""
        return hashlib.sha256((self.train.digest + self.validation.digest).encode()).hexdigest()


def split(examples: Examples, *, seed: int, fraction: float = 1 / 6) -> Split:
    """Shuffle *examples* by *seed* and keep *fraction* of them for validation.

    Integer targets are stratified: every class has the same share in both parts, to within one example. The same
    seed gives the same split. Raises StudyError for a seed or fraction out of range, DataError where a class is
    too small to be cut.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise StudyError(f"validation fraction {fraction!r}; it must lie between 0 and 1, such as 1/6")
    if not 0 <= seed < 2**32:
        raise StudyError(f"split seed {seed!r}; it must be an integer from 0 to 2**32 - 1")
    targets = None if examples.targets.is_floating_point() else examples.targets.numpy()
    size = max(1, round(len(examples) * fraction))
    try:
        train, validation = train_test_split(
            np.arange(len(examples)), test_size=size, random_state=seed, stratify=targets
        )
    except ValueError as error:
        raise DataError(f"{len(examples):,} examples can't be split, {size:,} to validate on: {error}") from None
    return Split(train=examples.take(train), validation=examples.take(validation), seed=seed, fraction=fraction)


def redraw(examples: Split, *, split_seed: int, drawn_by: str, number: int) -> Split:
    """The split that a replicate or a search draws for itself, of the same examples and of the same sizes.

    drawn_by: ``"replicate"`` or ``"search"``; number: which one, from 1.
    """
    import torch

    parts = (examples.train, examples.validation)
    whole = Examples(
        inputs=torch.cat([part.inputs for part in parts]), targets=torch.cat([part.targets for part in parts])
    )
    return split(whole, seed=derive_seed(split_seed, drawn_by, number) % 2**32, fraction=examples.fraction)
