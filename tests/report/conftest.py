"""Finished studies that the tests of the report share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import STORAGE, run, small_study

from searchlib import Study
from searchlib.results.holdout import evaluate
from searchlib.stores.stores import Stores


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A finished study with replicates and an opened test set, in a folder that tests may read."""
    folder = tmp_path_factory.mktemp("replicated")
    study = small_study(replicates=3, fixed={"momentum": 0.9, "epochs": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(study)
        evaluate(study, Stores(storage=STORAGE, data_root=Path("data")))
    return folder, study
