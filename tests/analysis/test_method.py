"""By which method a study was run, in words, on stores made by hand; tests/whole/test_stored.py has real old ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support import STORAGE, small_study
from support.trials import BEST, race, replicates_of, search_trials, store

from searchlib.analysis import analyze
from searchlib.analysis.method import COVERAGE
from searchlib.stores import Stores


def said(seeds: int = 0, noted: dict | None = None, attributes: dict | None = None, **settings) -> str:
    study, trials = small_study(**settings), search_trials()
    ran = replicates_of(trials, BEST, seeds, np.random.default_rng(0))
    for trial in ran:
        trial.user_attrs.update(attributes or {})
    store(study, trials, ran, noted)
    return analyze(study, Stores(STORAGE).read(study)).method


def test_without_replicates() -> None:
    assert said() == "One search: the claims are about the best configurations that it found."


def test_several_searches() -> None:
    found = said(4, race(4, BEST, looks=(2, 4)), searches=2, trials=16, replicates=4)
    assert found.startswith("2 searches: the cells are compared over these, after 2 and 4 seeds.")
    assert f"over four searches, stated as 95 %, held the procedure's mean in {COVERAGE} of the studies" in found
    assert "95 %" not in said(5, race(5, BEST, looks=(2, 3, 5)), replicates=5, name="one")
    assert "95 %" not in said(searches=2, trials=16, name="none")


def test_the_coverage_is_that_of_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| [^|]+ \| four searches, [^|]+ \| \d+ \| ([0-9.]+) \|", text, re.MULTILINE)
    assert len(table) >= 4
    assert f"{min(table)} to {max(table)}" == COVERAGE


@pytest.mark.parametrize("kept", [True, False])
def test_what_replicates_kept(kept: bool) -> None:
    """Made by hand, they lack what classifies correctly."""
    found = said(5, race(5, BEST, looks=(2, 3, 5)), {"kept_bytes": 100} if kept else {}, replicates=5)
    assert (
        "The cells are compared over its seeds, after 2, 3 and 5 seeds. An earlier version ran the replicates" in found
    )
    assert ("No weights of replicates were kept" in found) == (not kept)
    assert found.endswith("Intervals and tests are those of this version.")


def test_the_looks_of_an_earlier_version() -> None:
    found = said(10, race(10, BEST, looks=(5, 10)), replicates=10)
    assert "after 5 and 10 seeds as in earlier versions (now 2, 3, 5, 7 and 10)." in found
    found = said(5, race(5, BEST, looks=(5, 10), finished=False), replicates=10, name="again")
    assert "after 2, 3, 5, 7 and 10 seeds." in found, "it goes on with the looks of this version"
