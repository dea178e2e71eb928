"""The study of the idle trials. Apart from ``idle``: a study file imports it, and loading a study costs no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.measuring import ROOT
from searchlib import MLP, Dataset, Examples, Study, load_study

NAME = "idle"
EPOCHS = 5


def tiny(root: Path) -> Examples:
    """Numbers that nobody learns from; enough for the largest batch."""
    import torch

    return Examples(inputs=torch.arange(1440.0).view(360, 4) / 1440.0, targets=torch.arange(360) % 2)


def study(trials: int) -> Study:
    """init_vs_act on data of no size, sampler balanced, five epochs a trial."""
    whole = load_study("init_vs_act", ROOT / "studies")
    return dataclasses.replace(
        whole,
        question="What does a trial cost that trains nothing?",
        dataset=Dataset(name="tiny", outputs=2, shape=(4,), scale=1.0, train=tiny, test=tiny),
        model=MLP(hidden=(4,)),
        fixed={**whole.fixed, "epochs": EPOCHS},
        trials=trials,
        searches=1,
        pruner="none",
        replicates=0,
    )
