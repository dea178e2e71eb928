"""An activation without what an initializer asks for: refused before anything is stored."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner
from support import assert_refused, run, search_all, small_study
from torch import nn

from searchlib import Choice, StudyError
from searchlib.cli.main import cli
from searchlib.networks import INITIALIZERS
from searchlib.report import publish
from searchlib.stores.stores import Stores

TOLD = (
    "activation 'softshrink' has no stable critical point at a sigma_b² from 0.05 to 5; leave this pair out of the "
    "study, or use 'orthogonal' with init_gain='recommended', or 'lsuv' in an MLP"
)
SHRUNK = {"activation": Choice("tanh", "softshrink")}
CRITICAL = {"initializer": "critical"}


def network(config, dataset):
    last = nn.Linear(6, dataset.outputs)
    return nn.Sequential(nn.Flatten(), nn.Linear(dataset.inputs, 6), config.build_activation(), last)


REFUSED: dict[str, dict[str, Any]] = {
    "fixed initializer": {"scientific": SHRUNK, "fixed": CRITICAL},
    "fixed activation": {
        "scientific": {"initializer": Choice("normal", "critical")},
        "fixed": {"activation": "softshrink"},
    },
    "both searched": {"scientific": {**SHRUNK, "initializer": Choice("normal", "critical")}},
    "a nuisance": {"scientific": SHRUNK, "nuisance": {"initializer": Choice("normal", "critical")}},
    "an entry": {"scientific": SHRUNK, "fixed": {"initializer": INITIALIZERS["critical"]}},
    "an own module": {"scientific": SHRUNK, "fixed": CRITICAL, "model": network},
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_activation_without_a_critical_point_is_refused(name: str) -> None:
    assert_refused(small_study(**REFUSED[name]), TOLD)


def test_a_pair_that_the_study_leaves_out_is_not_refused() -> None:
    scientific = {**SHRUNK, "initializer": Choice("critical").when(activation="tanh")}
    study = small_study(scientific=scientific, fixed={"epochs": 1}, trials=2)
    assert {trial.user_attrs["outcome"] for trial in run(study).trials} == {"completed"}


def test_a_study_that_an_earlier_version_began_ends_with_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trials that it has stay as they are, and so do its report and the rest."""
    monkeypatch.setattr("searchlib.training.dry_run.check_laws", lambda *_: None)
    study = small_study(scientific=SHRUNK, fixed={**CRITICAL, "epochs": 1}, trials=4, replicates=2)
    with monkeypatch.context() as patched:
        patched.setattr("searchlib.networks.initializers.critical_point", lambda *_, **__: (18.6, 0.05))
        assert {trial.user_attrs["outcome"] for trial in run(study, trials=2).trials} == {"completed"}
    with pytest.raises(StudyError, match=TOLD):
        search_all(study)
    path, _ = publish(study, Stores())
    assert "figure-activations" in path.read_text()


@pytest.mark.parametrize("activation", ["softshrink", "gelu"])
def test_diagnose_says_so_too(activation: str) -> None:
    arguments = ["diagnose", "--initializer", "critical", "--activation", activation, "--output", "page.html"]
    result = CliRunner().invoke(cli, arguments)
    if activation == "gelu":
        assert result.exit_code == 0, result.output
    else:
        assert (result.exit_code, TOLD in str(result.exception) + result.output) == (1, True)
