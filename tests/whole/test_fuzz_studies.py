"""Fuzzing of study files: each loads, as something that can be stored and trained, or is a StudyError."""

from __future__ import annotations

import json
import math
import random
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command import study_text
from support.fuzzing import fuzzing, mutated, no_hang

from searchlib import Study, StudyError, load_study
from searchlib.networks import ACTIVATIONS, INITIALIZERS, OPTIMIZERS
from searchlib.study import SCHEDULES
from searchlib.study.config import FIELDS, TrialConfig


class Own:
    """Callable, and without a name."""

    def __call__(self) -> None: ...


numbers = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([0, 1, 16, 32, 0.0, 0.1, 0.5, 0.9, 1.0, -0.0, 1e-3, 1e-320, 1e308, 2**31, 2**63, 10**30, 10**400]),
    st.floats(0.0, 2.0),
    st.floats(),
    st.integers(),
)
names = st.one_of(
    st.sampled_from([
        *INITIALIZERS, *ACTIVATIONS, *OPTIMIZERS, *SCHEDULES, "unit", "", "256-128", "8-0", "08", "recommended",
        "default", "float32", "relu ", "\ud800", "<b>", "größe",
    ]),
    st.text(max_size=5),
)  # fmt: skip


def literal(value: object) -> str:
    """Python source of a value; repr writes inf and nan as names."""
    return f"float({str(value)!r})" if isinstance(value, float) and not math.isfinite(value) else repr(value)


scalars = st.one_of(numbers, names, st.booleans(), st.none()).map(literal)
widths = st.lists(st.integers(-1, 20), max_size=3).map(tuple).map(repr)
functions = st.sampled_from(["own", "Own()", "partial(own)", "lambda x: x", "dict", "len", "Own", "print"])
values = st.one_of(scalars, scalars, scalars, widths, functions, st.just("[1, 2]"), st.just("{'a': 1}"))
good = {  # for each field values that are fine, so that many files are accepted: plain ones, and dimensions
    "learning_rate": (["0.1", "1"], ["LogUniform(1e-3, 1.0)", "Uniform(0.01, 1)"]),
    "batch_size": (["32"], ["Choice(16, 32)", "IntUniform(1, 64, log=True)", "IntUniform(8, 32, step=8)"]),
    "momentum": (["0.9", "0"], ["Uniform(0.0, 0.9)", "Choice(0.0, 0.5)", "Uniform(0.1, 0.9).when(optimizer='sgd')"]),
    "nesterov": (["True", "False"], ["Choice(True, False)"]),
    "optimizer": (["'sgd'", "'adam'"], ["Choice('sgd', 'adam')", "Choice('sgd', 'rmsprop', 'adamw')"]),
    "dropout": (["0.1"], ["Uniform(0, 0.5)", "Choice(0.0, 0.3)"]),
    "depth": (["2", "0"], ["IntUniform(0, 3)", "IntUniform(0, 3).when(width=8)", "Choice(1, 2)"]),
    "width": (["8"], ["Choice(4, 8)", "IntUniform(1, 8).when(depth=(2, 3))"]),
    "hidden": (["(8,)", "'8-4'", "()"], ["Choice((8,), (8, 4))", "Choice('', '8')"]),
    "epochs": (["1"], ["IntUniform(1, 3)"]),
    "init_low": (["-0.5"], ["Uniform(-1.0, 0.0)", "Uniform(0.0, 0.7)"]),
    "init_high": (["0.5"], ["Uniform(0.0, 1.0)", "Choice(0.5, 1)"]),
    "activation": (["'relu'", "own"], ["Choice('relu', 'tanh')", "Choice('gelu', own)"]),
    "initializer": (["'normal'"], ["Choice('zeros', 'orthogonal', own)"]),
    "weight_decay": (["0.0"], ["LogUniform(1e-6, 1e-2).when(optimizer='adamw')", "Uniform(0, 1)"]),
    "beta1": (["0.9"], ["Uniform(0.8, 0.99).when(optimizer=('adam', 'adamw'))"]),
}
conditions = st.builds(
    lambda key, value: f".when({key}={value})", st.sampled_from([*good, "nonsense"]), st.one_of(scalars, values)
)
dimensions = st.builds(
    lambda kind, arguments, more, condition: f"{kind}({', '.join(arguments)}{more}){condition}",
    st.sampled_from(["Choice", "Choice", "Uniform", "LogUniform", "IntUniform", "Nothing"]),
    st.lists(values, max_size=3),
    st.sampled_from(["", "", "", ", log=True", ", step=2", ", step=0", ", log='no'"]),
    st.one_of(st.just(""), st.just(""), conditions),
)
fields = st.one_of(st.sampled_from(sorted(FIELDS)), st.text(string.ascii_lowercase, max_size=4))


@st.composite
def roles(draw: Any) -> dict[str, str]:
    """The three dicts, sound but for at most two of their entries."""
    parts: dict[str, list[str]] = {"scientific": [], "nuisance": [], "fixed": []}
    for name in draw(st.lists(st.sampled_from(sorted(good)), max_size=6, unique=True)):
        role = draw(st.sampled_from(sorted(parts)))
        parts[role].append(f"{name!r}: {draw(st.sampled_from(good[name][role != 'fixed']))}")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        entry = f"{draw(st.one_of(st.sampled_from(sorted(good)), fields))!r}: {draw(st.one_of(dimensions, values))}"
        entries = parts[draw(st.sampled_from(sorted(parts)))]
        entries.insert(draw(st.integers(0, len(entries))), entry)
    return {role: "{" + ", ".join(entries) + "}" for role, entries in parts.items()}


settings_of_a_study = {
    "question": st.one_of(st.just("'?'"), st.just("'?'"), scalars),
    "dataset": st.one_of(*([st.just("'digits'")] * 6), scalars, st.just("['digits']")),
    "model": st.sampled_from(
        ["MLP(hidden=(8,))", "MLP()", "own", "Own()", "MLP(hidden=())", "partial(own)", "MLP(8)", "5"]
    ),
    "sampler": st.sampled_from(
        ["'balanced'", "'tpe'", "'grid'", "'random'", "own", "partial(own)", "'tpee'", "['tpe']"]
    ),
    "pruner": st.sampled_from(["'none'", "'median'", "'within_cell'", "own", "Own()", "None"]),
    "validation_fraction": st.one_of(st.just("0.2"), scalars),
    **dict.fromkeys(("scientific", "nuisance", "fixed"), values),
    **dict.fromkeys(("trials", "replicates", "round_size", "seed", "split_seed"), numbers.map(literal)),
    **dict.fromkeys(
        ("replicate_cells", "eval_every", "search_split", "replicate_split", "replicate_race", "name", "nonsense"),
        scalars,
    ),
}
HEAD = """
from functools import partial
from searchlib import *
def own(*arguments): ...
class Own:
    def __call__(self, *arguments): ...
"""


@st.composite
def study_files(draw: Any) -> str:
    chosen = {"question": "'?'", "dataset": "'digits'", **draw(roles())}
    chosen["sampler"] = draw(st.sampled_from(["'tpe'", "'random'", "'balanced'"]))
    for key in draw(st.one_of(st.just([]), st.lists(st.sampled_from(sorted(settings_of_a_study)), max_size=2))):
        chosen[key] = draw(settings_of_a_study[key])
    return HEAD + "STUDY = Study(" + ", ".join(f"{key}={value}" for key, value in chosen.items()) + ")\n"


def load(content: bytes) -> Study | None:
    """The study of a file with this content, or None for a StudyError; anything else fails the test."""
    Path("asked.py").write_bytes(content)
    try:
        with no_hang():
            return load_study("asked.py")
    except StudyError as error:
        said = str(error)
    assert said.strip()
    return None


def assert_sound_config(config: TrialConfig) -> None:
    """What must hold of anything that trains, written down without a look at the checks."""
    for name in ("learning_rate", "eps"):
        assert getattr(config, name) > 0
    for name in ("dropout", "momentum", "beta1", "beta2", "alpha", "init_sparsity"):
        assert 0 <= getattr(config, name) < 1
    for name in ("batch_size", "epochs", "lr_step"):
        assert type(getattr(config, name)) is int
        assert getattr(config, name) >= 1
    assert config.weight_decay >= 0
    assert config.negative_slope >= 0
    assert 0 < config.lr_decay <= 1
    assert config.init_low < config.init_high
    assert config.init_gain == "recommended" or config.init_gain > 0
    assert config.init_std is None or config.init_std > 0
    assert all(type(width) is int and 1 <= width < 2**31 for width in config.widths)
    assert not (config.optimizer == "sgd" and config.nesterov and config.momentum == 0)
    assert callable(config.activation) or config.activation in ACTIVATIONS
    assert callable(config.initializer) or config.initializer in INITIALIZERS
    for name in FIELDS:
        value = getattr(config, name)
        assert not isinstance(value, float) or math.isfinite(value), name
    json.dumps(config.encoded(), allow_nan=False)
    assert config.learning_rate_at(config.epochs) >= 0


def assert_sound(study: Study) -> None:
    """Whatever is accepted can be stored, and every point of its space is a configuration."""
    json.dumps(study.definition(), allow_nan=False)
    assert len(study.identity) == 16
    study.question.encode()
    assert study.name == "asked"
    assert study.trials >= 1
    assert 0 < study.validation_fraction < 1
    assert len({tuple(cell.items()) for cell in study.cells}) == len(study.cells) <= 10_000
    draw = random.Random(0)
    for corner in (0.0, 1.0, *[None] * 12):
        params: dict[str, Any] = {}
        for name, dimension in study.dimensions.items():
            if dimension.active({**study.fixed, **params}):
                params[name] = dimension.at(draw.random() if corner is None else corner)
        assert_sound_config(study.config(params))
        assert study.config(params).signature == study.config(params).signature


LIMITS = [
    None, True, False, -1, 0, 1, 2, 2**31 - 1, 2**31, 10**400, -0.0, -1e-9, 0.5, 1.0, 1.0 + 1e-9, 1e308, math.inf,
    -math.inf, math.nan, "", "8", "8-0", "0", "-1", "1.5", "nan", "sgd", "zeros", "unit", "step", "float32",
    "recommended", "recommended ", (), (0,), (8, 4), (8.0,), [8], (2**31,), {}, b"8", 1j, object(), len, Own(),
]  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_a_hyperparameter_at_its_limits(name: str) -> None:
    """Whatever it is given, it is refused or something that trains."""
    taken = 0
    for value in LIMITS:
        try:
            config = TrialConfig(**{name: value})
        except StudyError:
            continue
        assert_sound_config(config)
        taken += 1
    assert 0 < taken < len(LIMITS)


def test_study_files() -> None:
    accepted = []

    @fuzzing(500)
    @given(study_files())
    def check(text: str) -> None:
        if study := load(text.encode("utf-8", "surrogatepass")):
            assert_sound(study)
            accepted.append(study)

    check()
    assert len(accepted) > 50, "the fuzzer should get through, too"


TYPED = study_text().encode()


@fuzzing(300)
@given(st.one_of(mutated(TYPED), mutated(TYPED), st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
def test_study_files_with_typing_errors(content: bytes) -> None:
    if study := load(content):
        assert_sound(study)


def asking(settings: str = "") -> bytes:
    return f"from searchlib import *\nSTUDY = Study(question='?', dataset='digits'{settings})\n".encode()


STRANGE = {
    "empty": b"",
    "a NUL": b"STUDY = 1\0",
    "Latin-1": "# größe\nSTUDY = 1".encode("latin-1"),
    "UTF-16": asking().decode().encode("utf-16"),
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf" + asking(),
    "another end": b"raise GeneratorExit",
    "an end of its own": b"class End(BaseException): ...\nraise End",
    "an error that can't be shown": b"class Odd(Exception):\n    def __str__(self): return 5\nraise Odd",
    "a syntax error without a line": b"raise SyntaxError",
    "endless recursion": b"def f(): f()\nf()",
    "deep brackets": b"STUDY = " + b"(" * 5000 + b")" * 5000,
    "a long sum": b"x = " + b"+".join([b"1"] * 20_000),
    "a class": b"from searchlib import Study as STUDY",
    "a module that answers": b"def __getattr__(name): raise RuntimeError(name)",
    "out of memory": b"x = bytearray(10 ** 15)",
    "many cells": asking(", scientific={'batch_size': IntUniform(1, 9999), 'epochs': IntUniform(1, 9999)}"),
    "a large grid": asking(", sampler='grid', nuisance={n: IntUniform(1, 99999) for n in ('batch_size', 'epochs')}"),
    "a deep network": asking(", fixed={'depth': 10**9}"),
    "a number without end": asking(", fixed={'batch_size': 10**5000}"),
    "a seed without end": asking(", seed=10**5000"),
    "a depth that nobody checks": asking(
        ", model=MLP(hidden=()), nuisance={'depth': IntUniform(0, 2), 'width': Choice(4, 8).when(depth=2)}"
    ),
    "changed afterwards": asking() + b"STUDY.fixed['epochs'] = -1",
    "a sum that compiles": b"x = " + b"+".join([b"1"] * 900) + b"\n" + asking(),
    "cells that nobody counts": asking(", scientific={'batch_size': IntUniform(1, 10**9)}, sampler='tpe'"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_strange_study_files(case: str) -> None:
    study = load(STRANGE[case])
    assert study is None or case in ("a sum that compiles", "cells that nobody counts")
    if study:
        assert study.cells == [], "none, or too many to be enumerated"
        assert_sound(study)
