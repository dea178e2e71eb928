"""The summary at the end of ``optimize``: what its figures are selected from, and the mean of what they are."""

from __future__ import annotations

import re

import pytest
from support import STORAGE, small_study
from support.trials import search_trials, store, store_searches, trial

from searchlib import Study, result
from searchlib.cli.terminal import show_summary


def summary(study: Study, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    show_summary(result(study, storage=STORAGE), [])
    return dict(re.findall(r"^(\S.{0,19}?) {2,}(.*)$", capsys.readouterr().out, re.MULTILINE))


def test_pruned_trials_are_among_those_that_the_best_was_selected_from(capsys: pytest.CaptureFixture[str]) -> None:
    trials = search_trials()
    more = [trial(trials[0].params, 0.5, "pruned"), trial(trials[1].params, 0.4, "pruned")]
    store(small_study(), [*trials, *more, trial(trials[2].params, None, "failed")])
    said = "0.9000  (the highest of 14, 12 of them trained to the end, so optimistic)"
    assert summary(small_study(), capsys)["validation accuracy"] == said


def test_without_pruned_trials_there_is_one_number(capsys: pytest.CaptureFixture[str]) -> None:
    store(small_study(), search_trials())
    assert summary(small_study(), capsys)["validation accuracy"] == "0.9000  (the highest of 12, so optimistic)"


def test_the_mean_of_several_searches_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    cells = {
        "tanh": [(0.2, 0.90, (0.93, 0.91)), (0.3, 0.96, (0.92, 0.90))],
        "relu": [(0.2, 0.80, (0.83, 0.81)), (0.3, 0.82, (0.80, 0.82))],
    }
    lines = summary(store_searches(cells), capsys)
    assert lines["best over seeds"] == "tanh, val_accuracy 0.9150, mean of 2 searches, 4 seeds"
    assert lines["best in search"].startswith("tanh, with learning_rate 0.3"), "the best of the whole search"
