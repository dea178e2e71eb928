"""The code that belongs to a study file's identity: its statements, and the user's modules that it imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchlib import StudyError, load_study
from searchlib.study import refuse_if_changed

FILES = {
    "asked.py": '''"""A study."""

from torch import sin as wave
import torch
from searchlib import MLP, Choice, LogUniform, Study
from helper import act, SLOPE
import parts.scale

SETTINGS = {"gain": 3}
SETTINGS.update(gain=1)
torch.manual_seed(1)


def own(x):
    from later import shift

    return wave(x) * SETTINGS["gain"] * SLOPE + shift


def make(slope):
    def made(x):
        return x * slope

    return made


STUDY = Study(
    question="Which one?",
    dataset="digits",
    model=MLP(hidden=(8,)),
    scientific={"activation": Choice(own, act, parts.scale.scaled)},
    nuisance={"learning_rate": LogUniform(1e-3, 1.0).when(activation=("own", "act"))},
    fixed={"init_gain": 1.0, "initializer": make(0.5), "epochs": 2},
    trials=8,
)
''',
    "helper.py": "import deeper\nSLOPE = 0.5\n\n\ndef act(x):\n    return deeper.twice(x)\n",
    "deeper.py": "def twice(x):\n    return 2 * x\n",
    "later.py": "shift = 1\n",
    "parts/__init__.py": "",
    "parts/scale.py": "from . import factors\nfrom .factors import ONE\n\n\ndef scaled(x):\n    return x * ONE\n",
    "parts/factors.py": "ONE = 1\n",
}
CHANGES = [
    ("asked.py", "sin as wave", "cos as wave", "sin as wave"),
    ("asked.py", "update(gain=1)", "update(gain=5)", "gain=5"),
    ("asked.py", "torch.manual_seed(1)", "torch.manual_seed(2)", "manual_seed(2)"),
    ("asked.py", "torch.manual_seed(1)\n", "", "manual_seed(1)"),
    ("asked.py", "x * slope", "x + slope", "x + slope"),
    ("asked.py", "make(0.5)", "make(0.6)", "make(0.6)"),
    ("asked.py", "Choice(own, act", "Choice(own, wave and act", "wave and act"),
    ("asked.py", "init_gain\": 1.0", "init_gain\": 1.5", "init_gain: 1.0 became 1.5"),
    ("helper.py", "SLOPE = 0.5", "SLOPE = 0.6", "module helper had other code"),
    ("deeper.py", "2 * x", "3 * x", "module deeper had other code"),
    ("later.py", "shift = 1", "shift = 2", "module later had other code"),
    ("parts/__init__.py", "", "import torch\n", "module parts had other code"),
    ("parts/scale.py", "x * ONE", "x * ONE * 2", "module parts.scale had other code"),
    ("parts/factors.py", "ONE = 1", "ONE = 2", "module parts.factors had other code"),
]  # fmt: skip
SAME = [
    ("asked.py", '"""A study."""', '"""The study."""'),
    ("asked.py", "trials=8", "trials=80"),
    ("asked.py", "Which one?", "Which is it?"),
    ("asked.py", "import MLP, Choice", "import MLP, Published, Choice"),
    ("asked.py", "model=MLP(hidden=(8,))", "model=MLP(\n        hidden=(8,),\n    )"),
    ("asked.py", '"init_gain": 1.0, "init', '"epochs": 2, "init_gain": 1.0, "init'),
    ("helper.py", "SLOPE = 0.5", "SLOPE = 0.50  # a half"),
    ("deeper.py", "    return 2 * x", "    return (\n        2 * x\n    )"),
    ("deeper.py", "\n", "\r\n"),
]


def lay_out(change: tuple[str, str, str] | None = None) -> None:
    for name, text in FILES.items():
        path = Path("studies") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if change and change[0] == name:
            assert change[1] in text
            text = text.replace(change[1], change[2]) if change[1] else change[2] + text
        path.write_bytes(text.encode())


@pytest.mark.parametrize(("file", "old", "new", "told"), CHANGES, ids=[f"{one[0]}: {one[2]}" for one in CHANGES])
def test_a_change_of_code_is_told(file: str, old: str, new: str, told: str) -> None:
    lay_out()
    before = load_study("asked")
    lay_out((file, old, new))
    after = load_study("asked")
    assert after.identity != before.identity
    with pytest.raises(StudyError, match="has changed since its first trial") as refused:
        refuse_if_changed(after, before.definition())
    assert told in str(refused.value)


@pytest.mark.parametrize(("file", "old", "new"), SAME, ids=[f"{one[0]}: {one[2]!r}" for one in SAME])
def test_layout_wording_and_budget_are_no_change(file: str, old: str, new: str) -> None:
    lay_out()
    before = load_study("asked")
    lay_out((file, old, new))
    after = load_study("asked")
    assert after.identity == before.identity
    refuse_if_changed(after, before.definition())


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_comment_is_no_change_and_any_edit_of_a_statement_is(data: st.DataObject) -> None:
    """Random edits of the study and its helpers: a number in a statement outside STUDY, comments and empty lines."""
    lay_out()
    before = load_study("asked").identity
    name = data.draw(st.sampled_from([name for name in FILES if FILES[name]]))
    path = Path("studies") / name
    tree = ast.parse(FILES[name])
    lines = FILES[name].splitlines()
    ends = [node.end_lineno for node in tree.body if node.end_lineno]
    for place in data.draw(st.lists(st.sampled_from(ends), max_size=3)):
        lines[place - 1] += data.draw(st.sampled_from(["  # one", "\n\n# two", "\n"]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert load_study("asked").identity == before

    body = [node for node in tree.body if "STUDY" not in ast.unparse(node)]
    numbers = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Constant)]
    numbers = [node for node in numbers if isinstance(node.value, (int, float))]
    if numbers:
        chosen = data.draw(st.sampled_from(numbers))
        chosen.value += data.draw(st.sampled_from([1, 0.25, -3]))
        path.write_text(ast.unparse(tree), encoding="utf-8")
        assert load_study("asked").identity != before


def test_a_helper_is_read_anew_and_its_neighbour_in_another_folder_is_another_module() -> None:
    lay_out()
    config = load_study("asked").config({"activation": "act", "learning_rate": 0.1})
    assert config.activation(1.0) == 2.0
    lay_out(("deeper.py", "2 * x", "30 * x"))
    assert load_study("asked").config({"activation": "act", "learning_rate": 0.1}).activation(1.0) == 30.0
    other = Path("elsewhere")
    Path("studies").rename(other)
    (other / "helper.py").write_text("SLOPE = 1\n\n\ndef act(x):\n    return 7.0\n")
    assert load_study("asked", other).config({"activation": "act", "learning_rate": 0.1}).activation(1.0) == 7.0


def test_a_definition_of_an_earlier_version_says_less_and_is_accepted() -> None:
    lay_out()
    begun = load_study("asked").definition()
    for name in ("statements", "modules"):
        del begun[name]
    refuse_if_changed(load_study("asked"), begun)
    lay_out(("asked.py", "x * slope", "x + slope"))
    with pytest.raises(StudyError, match=r"code: .*x \* slope.* became .*x \+ slope"):
        refuse_if_changed(load_study("asked"), begun)


def test_a_namespace_package_in_a_function_and_a_lazy_module_load() -> None:
    lay_out(("asked.py", "from later import shift", "import spaces.inner.leaf\n    shift = spaces.inner.leaf.ONE"))
    leaf = Path("studies/spaces/inner/leaf.py")
    leaf.parent.mkdir(parents=True)
    leaf.write_text("ONE = 1\n")
    assert "spaces.inner.leaf" in load_study("asked").modules
    lazy = "import sys, types\nclass Lazy(types.ModuleType):\n    def __getattr__(self, name):\n"
    lazy += (
        "        import colorsys\n        raise AttributeError(name)\nsys.modules['lazy'] = Lazy('lazy')\nSETTINGS ="
    )
    sys.modules.pop("colorsys", None)
    lay_out(("asked.py", "SETTINGS =", lazy))
    assert load_study("asked").trials == 8


def test_what_another_site_packages_holds_is_no_code_of_the_user() -> None:
    place = Path("elsewhere/site-packages")
    place.mkdir(parents=True)
    (place / "installed.py").write_text("shift = 1\n")
    lay_out(("asked.py", "from later import", "from installed import"))
    sys.path.insert(0, str(place.resolve()))  # monkeypatch would put the folder of an earlier study back, too
    try:
        assert "installed" not in load_study("asked").modules
    finally:
        sys.path.remove(str(place.resolve()))
