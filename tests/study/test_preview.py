"""What ``list`` shows of a study, read without running its file where its source says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchlib import StudyError, load_study
from searchlib.study import preview_study
from searchlib.study.preview import Preview

ROOT = Path(__file__).parents[2]
RAN = "open('ran', 'w').close()\n"
FROM = RAN + "from searchlib import Study\n"
READABLE = [
    FROM + "STUDY = Study(question='Which?', dataset='digits', sampler='tpe', trials=7)",
    FROM + "STUDY: Study = Study(question='Which?' ' One.', dataset='digits', sampler='tpe')",
    FROM + "COUNT = 8\nSTUDY = Study(question='?', dataset='digits', sampler='tpe', trials=3 * COUNT + 1)",
    FROM + "N = 3\nQ = f'Which of {N}'\nSTUDY = Study(question=Q + '?', dataset='digits', sampler='tpe', trials=N)",
    RAN + "import searchlib as s\nSTUDY = s.Study(question='?', dataset='digits', sampler='tpe')",
    RAN + "from searchlib.study import Study as Asked\nSTUDY = Asked(question='?', dataset='digits', sampler='tpe')",
]
ONLY_RUNNING_TELLS = [
    FROM + "COUNT = 8\nCOUNT = 9\nSTUDY = Study(question='?', dataset='digits', sampler='tpe', trials=COUNT)",
    FROM + "for COUNT in (8, 9): pass\nSTUDY = Study(question='?', dataset='digits', sampler='tpe', trials=COUNT)",
    FROM + "COUNT = 8\ndef f():\n  global COUNT\n  COUNT = 9\nf()\n"
    "STUDY = Study(question='?', dataset='digits', sampler='tpe', trials=COUNT)",
    FROM + "COMMON = {'trials': 3}\nCOMMON['trials'] = 4\n"
    "STUDY = Study(question='?', dataset='digits', sampler='tpe', **COMMON)",
    FROM + "STUDY = Study(question='?', dataset='digits', sampler='tpe', trials=len('four'))",
    FROM + "STUDY = Study(question='?', dataset='digits', sampler='tpe')\n"
    "STUDY = Study(question='??', dataset='digits', sampler='tpe')",
    FROM + "def Study(question):\n  import searchlib\n"
    "  return searchlib.Study(question='!', dataset='digits', sampler='tpe')\nSTUDY = Study(question='?')",
    RAN + "from searchlib import *\nSTUDY = Study(question='?', dataset='digits', sampler='tpe')",
    FROM + "from dataclasses import replace\nBASE = Study(question='?', dataset='digits', sampler='tpe')\n"
    "STUDY = replace(BASE, trials=4)",
]
BROKEN = {
    "STUDY = Study(": "asked.py:3: .*correct the syntax",
    "STUDY = Study(question='?', trials=COUNT)\nCOUNT = 3": "asked.py:3: NameError",
    "STUDY = Study(questoin='?')": "did you mean question",
    "STUDY = Study(question='?', trials=0)": "trials=0: expected a whole number",
    "STUDY = Study(question=' ')": "expected the question",
    "STUDY = None": "defines no STUDY",
    "\0": "asked.py",
}


@pytest.mark.parametrize("source", READABLE)
def test_what_the_source_says_is_read_without_running_the_file(source: str) -> None:
    Path("asked.py").write_text(source)
    found = preview_study("asked", Path())
    assert not Path("ran").exists()
    study = load_study("asked", Path())
    assert found == Preview(study.question, study.trials)


@pytest.mark.parametrize("source", ONLY_RUNNING_TELLS)
def test_what_the_source_does_not_say_is_what_running_it_gives(source: str) -> None:
    Path("asked.py").write_text(source)
    study = load_study("asked", Path())
    assert preview_study("asked", Path()) == Preview(study.question, study.trials)


@pytest.mark.parametrize("source", BROKEN)
def test_a_broken_file_is_refused(source: str) -> None:
    Path("asked.py").write_text(FROM + source)
    with pytest.raises(StudyError, match=BROKEN[source]):
        preview_study("asked", Path())


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.py")), ids=lambda path: path.stem)
def test_no_shipped_study_has_to_be_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(str(path))
    monkeypatch.delattr("searchlib.study.preview.load_study_file")
    assert preview_study(str(path)) == Preview(study.question, study.trials)
