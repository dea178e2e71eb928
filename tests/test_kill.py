"""A search killed without warning, again and again, ends with the table of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import prepare, run, small_study, stored, table

from searchlib.tracking import connect

SEARCH = """
import sys
from support import search, small_study
for progress in search(small_study(trials=24)):
    print(progress.done, flush=True)
"""


def test_sigkill_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(trials=24)
    run(study)
    expected = table(study)
    Path("killed").mkdir()
    monkeypatch.chdir("killed")
    prepare()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for lines in (1, 3, 2):  # of output, before each kill
        process = subprocess.Popen(
            [sys.executable, "-c", SEARCH], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    assert 0 < len(stored(study).trials) < 24
    run(study)
    assert table(study) == expected
    client = connect(None)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id], "tags.`searchlib.kind` = 'trial'")
    numbers = sorted(int(found.data.tags["optuna.trial_number"]) for found in runs)
    assert numbers == list(range(24))
    for found in runs:
        curve = client.get_metric_history(found.info.run_id, "val_accuracy")
        assert [point.step for point in curve] == [1, 2]
