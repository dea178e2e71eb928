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
DIGITS = "dataset='digits', sampler='tpe'"
READABLE = [
    FROM + f"STUDY = Study(question='Which?', {DIGITS}, trials=7)",
    FROM + f"STUDY: Study = Study(question='Which?' ' One.', {DIGITS})",
    FROM + f"COUNT = 8\nSTUDY = Study(question='?', {DIGITS}, trials=3 * COUNT + 1)",
    FROM + f"N = 3\nQ = f'Which of {{N}}'\nSTUDY = Study(question=Q + '?', {DIGITS}, trials=N)",
    RAN + f"import searchlib as s\nSTUDY = s.Study(question='?', {DIGITS})",
    RAN + f"from searchlib.study import Study as Asked\nSTUDY = Asked(question='?', {DIGITS})",
]
ONLY_RUNNING_TELLS = [
    FROM + f"COUNT = 8\nCOUNT = 9\nSTUDY = Study(question='?', {DIGITS}, trials=COUNT)",
    FROM + f"for COUNT in (8, 9): pass\nSTUDY = Study(question='?', {DIGITS}, trials=COUNT)",
    FROM + f"N = 8\ndef f():\n  global N\n  N = 9\nf()\nSTUDY = Study(question='?', {DIGITS}, trials=N)",
    FROM + f"COMMON = {{'trials': 3}}\nCOMMON['trials'] = 4\nSTUDY = Study(question='?', {DIGITS}, **COMMON)",
    FROM + f"STUDY = Study(question='?', {DIGITS}, trials=len('four'))",
    FROM + f"STUDY = Study(question='?', {DIGITS})\nSTUDY = Study(question='??', {DIGITS})",
    FROM + "def Study(question):\n  import searchlib\n"
    f"  return searchlib.Study(question='!', {DIGITS})\nSTUDY = Study(question='?')",
    RAN + f"from searchlib import *\nSTUDY = Study(question='?', {DIGITS})",
    FROM + f"from dataclasses import replace\nBASE = Study(question='?', {DIGITS})\nSTUDY = replace(BASE, trials=4)",
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
