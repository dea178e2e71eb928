"""The generated pages are fresh, and speak of the studies as they are."""

import json
import runpy
from pathlib import Path

import pytest

from searchlib import list_studies, load_study

ROOT = Path(__file__).parent.parent
DOCS, STUDIES = ROOT / "docs", ROOT / "studies"
RESULTS = json.loads((DOCS / "reproductions.json").read_text(encoding="utf-8"))


def test_the_reference_is_what_the_code_says() -> None:
    generated = runpy.run_path(str(DOCS / "generate.py"))["reference"]()
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == generated, "run: python docs/generate.py"


def test_the_page_of_reproductions_is_what_the_results_say() -> None:
    generated = runpy.run_path(str(DOCS / "reproductions.py"))["page"](RESULTS)
    assert (DOCS / "reproductions.md").read_text(encoding="utf-8") == generated, "run: python docs/reproductions.py"


@pytest.mark.parametrize("name", list_studies(STUDIES))
def test_each_study_loads_and_is_listed_with_what_it_found(name: str) -> None:
    study = load_study(name, STUDIES)
    assert study.definition() == load_study(str(STUDIES / f"{name}.py")).definition(), "by its name and by its path"
    source = (STUDIES / f"{name}.py").read_text(encoding="utf-8")
    assert f"Command:   searchlib optimize --study {name}\n" in source
    assert "not run yet" not in source
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")
    if name not in ("init_vs_act", "quickstart"):  # their results are in the README, from another day
        assert RESULTS["studies"][name]["identity"] == study.identity, "the study changed since it ran: run it again"


def test_the_main_study_is_a_fair_comparison_of_many_pairs() -> None:
    study = load_study("init_vs_act", STUDIES)
    assert study.sampler in ("balanced", "refined"), "every cell the same number of points by the same rule"
    assert len(study.cells) >= 36
    assert study.trials % len(study.cells) == 0, "every cell gets the same number of points"
    assert study.replicates


def test_the_laws_on_the_page_are_what_pytorch_draws() -> None:
    assert runpy.run_path(str(DOCS / "reproductions.py"))["laws"]() == pytest.approx(RESULTS["laws"], rel=1e-3)
