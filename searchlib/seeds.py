"""Seeds: one number for each thing that is drawn, derived from the study's own."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator


def derive_seed(*parts: int | str) -> int:
    """A seed below 2^53 (exact in JSON and JavaScript) from any parts: numbers, or words that say what it is for.

    Different parts give independent streams: it is the SHA-256 of the parts, not their sum.
    """
    text = "/".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11


def trial_seed(seed: int, number: int) -> int:
    """The seed of a search trial's weights and noise. seed: the study's."""
    return derive_seed(seed, "trial", number, 0)


def search_seed(seed: int, search: int) -> int:
    """The seed of one of a study's searches: of its design and of the order of examples. seed: the study's.

    The first search, numbered 1, has the study's own.
    """
    return seed if search == 1 else derive_seed(seed, "search", search)


def replicate_seed(seed: int, replicate: int) -> int:
    """The seed of a replicate's weights, noise and order of examples, the same for every cell. seed: the study's."""
    return derive_seed(seed, "replicate", replicate)


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """NumPy's and Python's global generators are afterwards as they were before."""
    import random

    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of torch (on the CPU), NumPy and Python are seeded, and afterwards as they were before."""
    import random

    import numpy as np
    import torch

    with kept_generators(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
