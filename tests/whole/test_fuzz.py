"""Fuzzing: study files, command lines, IDX files and journals that nobody would write: no traceback, hang or lie."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import random
import signal
import string
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from support import prepare
from support.command import commands, write_study

from searchlib import Study, StudyError, load_study
from searchlib.cli.main import main
from searchlib.data.idx_files import IdxFile
from searchlib.errors import IntegrityError, StorageError
from searchlib.networks import ACTIVATIONS, INITIALIZERS, OPTIMIZERS
from searchlib.stores.storage import count_trials, open_storage
from searchlib.stores.stores import Stores
from searchlib.study import SCHEDULES
from searchlib.study.config import FIELDS, TrialConfig

PATIENCE = 20  # seconds, for any one example


class Own:
    """Callable, and without a name."""

    def __call__(self) -> None: ...


def fuzzing(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    def over(*_: object) -> None:
        raise AssertionError(f"no end within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# ------------------------------------------------------------------------------------------------------ study files

numbers = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([0, 1, 16, 32, 0.0, 0.1, 0.5, 0.9, 1.0, -0.0, 1e-3, 1e-320, 1e308, 2**31, 2**63, 10**30, 10**400]),
    st.floats(0.0, 2.0),
    st.floats(),
    st.integers(),
)
names = st.one_of(
    st.sampled_from([*INITIALIZERS, *ACTIVATIONS, *OPTIMIZERS, *SCHEDULES, "unit"]),
    st.sampled_from(
        ["", "256-128", "8-0", "08", "recommended", "default", "float32", "relu ", "\ud800", "<b>", "größe"]
    ),
    st.text(max_size=5),
)


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
    **dict.fromkeys(("scientific", "nuisance", "fixed"), values),
    "sampler": st.sampled_from(
        ["'balanced'", "'tpe'", "'tpe'", "'grid'", "'random'", "own", "partial(own)", "'tpee'", "5", "['tpe']"]
    ),
    "pruner": st.sampled_from(["'none'", "'median'", "'within_cell'", "own", "Own()", "None"]),
    **{name: numbers.map(literal) for name in ("trials", "replicates", "round_size", "seed", "split_seed")},
    "replicate_cells": scalars,
    "eval_every": scalars,
    "replicate_split": scalars,
    "replicate_race": scalars,
    "validation_fraction": st.one_of(st.just("0.2"), scalars),
    "name": scalars,
    "nonsense": scalars,
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


MUTABLE = """from searchlib import *
STUDY = Study(question="?", dataset="digits", model=MLP(hidden=(8,)), trials=40, sampler="tpe",
    scientific={"initializer": Choice("zeros", "normal"), "activation": Choice("tanh", "relu")},
    nuisance={"learning_rate": LogUniform(1e-3, 1.0), "batch_size": IntUniform(16, 64), "momentum": Uniform(0.0, 0.9)},
    fixed={"optimizer": "sgd", "nesterov": False, "epochs": 3, "init_low": -0.5})
"""


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """Bytes changed, left out, put in or moved in a few places."""

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        changed = content
        for place, length, new in edits:
            place %= len(changed) + 1
            changed = changed[:place] + new + changed[place + length :]
        return changed

    pieces = st.one_of(
        st.sampled_from(
            [b"", b"0", b"9", b"-", b".", b",", b"(", b")", b'"', b"e", b"\n", b" ", b"\0", b"\xff", b"{", b"["]
        ),
        st.binary(max_size=3),
        st.builds(lambda start, size: content[start : start + size], st.integers(0, len(content)), st.integers(1, 30)),
    )
    return st.lists(st.tuples(st.integers(0, 4 * len(content)), st.integers(0, 4), pieces), min_size=1, max_size=4).map(
        change
    )


@fuzzing(300)
@given(
    st.one_of(
        mutated(MUTABLE.encode()),
        mutated(MUTABLE.encode()),
        st.binary(max_size=40),
        st.text(max_size=40).map(str.encode),
    )
)
def test_study_files_with_typing_errors(content: bytes) -> None:
    if study := load(content):
        assert_sound(study)


GOOD = "from searchlib import *\nSTUDY = Study(question='?', dataset='digits'{})\n"
STRANGE = {
    "empty": b"",
    "a NUL": b"STUDY = 1\0",
    "Latin-1": "# größe\nSTUDY = 1".encode("latin-1"),
    "UTF-16": GOOD.encode("utf-16"),
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD.format("").encode(),
    "an exit": b"import sys\nsys.exit(0)",
    "another end": b"raise GeneratorExit",
    "an end of its own": b"class End(BaseException): ...\nraise End",
    "an error that can't be shown": b"class Odd(Exception):\n    def __str__(self): return 5\nraise Odd",
    "a syntax error without a line": b"raise SyntaxError",
    "endless recursion": b"def f(): f()\nf()",
    "deep brackets": b"STUDY = " + b"(" * 5000 + b")" * 5000,
    "a long sum": b"x = " + b"+".join([b"1"] * 20_000),
    "a sum that compiles": b"x = " + b"+".join([b"1"] * 900) + b"\n" + GOOD.format("").encode(),
    "a class": b"from searchlib import Study as STUDY",
    "a module that answers": b"def __getattr__(name): raise RuntimeError(name)",
    "no module at all": b"import searchlib.nothing",
    "out of memory": b"x = bytearray(10 ** 15)",
    "many cells": GOOD.format(", scientific={'batch_size': IntUniform(1, 10**9)}, sampler='tpe'").encode(),
    "more cells": GOOD.format(
        ", scientific={'batch_size': IntUniform(1, 9999), 'epochs': IntUniform(1, 9999)}"
    ).encode(),
    "a large grid": GOOD.format(
        ", sampler='grid', nuisance={'batch_size': IntUniform(1, 99999), 'epochs': IntUniform(1, 9999)}"
    ).encode(),
    "a deep network": GOOD.format(", fixed={'depth': 10**9}").encode(),
    "a number without end": GOOD.format(", fixed={'batch_size': 10**5000}").encode(),
    "a seed without end": GOOD.format(", seed=10**5000").encode(),
    "a depth that nobody checks": GOOD.format(
        ", model=MLP(hidden=()), nuisance={'depth': IntUniform(0, 2), 'width': Choice(4, 8).when(depth=2)}"
    ).encode(),
    "changed afterwards": GOOD.format("").encode() + b"STUDY.fixed['epochs'] = -1",
}  # fmt: skip


@pytest.mark.parametrize("case", STRANGE)
def test_strange_study_files(case: str) -> None:
    study = load(STRANGE[case])
    assert study is None or case in ("many cells", "a sum that compiles")
    if study:
        assert study.cells == [], "none, or too many to be enumerated"
        assert_sound(study)


# ----------------------------------------------------------------------------------------------------- command lines

words = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=12),
    st.sampled_from(
        ["", " ", "-", "--", "-1", "0", "1e999", "nan", "x" * 300, "\udcff", "%s", "{0}", "[/bold]", "@", ":"]
    ),
)
VALUES = {
    "study": st.one_of(*[st.just("asked")] * 3, st.sampled_from(["nowhere.py", "../x", "studies", "broken"]), words),
    "studies": st.one_of(*[st.just("studies")] * 3, st.sampled_from([".", "nowhere", "studies/asked.py"]), words),
    "storage": st.one_of(
        st.just("optuna.journal"),
        st.sampled_from([
            "studies", "nowhere/x", "studies/asked.py", "://", "x://[", "sqlite://", "sqlite:///nowhere/x.db",
            "sqlite:///studies/asked.py", "nosuch://u:p@h/d", "postgresql://u:p@127.0.0.1:1/d", "postgresql://[", "redis://",
        ]),
        words,
    ),
    "tracking_uri": st.sampled_from(
        ["", "nosuch://x", "sqlite:///nowhere/x.db", "sqlite:///studies/asked.py", "://", "uc:x"]
    ),
    "data_root": st.one_of(st.just("data"), st.sampled_from(["nowhere", "studies/asked.py", ""]), words),
    "output": st.sampled_from(
        ["x.html", "", ".", "nowhere/x.html", "a b.html", "\udcff.html", "x" * 300, "-", "studies"]
    ),
    "depth": st.one_of(st.integers(-1, 3).map(str), words),
    "width": st.one_of(st.integers(-1, 9).map(str), words),
    "initializer": st.one_of(st.sampled_from(["normal", "zeros", "lsuv", "norml"]), words),
    "activation": st.one_of(st.sampled_from(["relu", "tanh", "prelu"]), words),
    "index": st.one_of(st.integers(-2, 300).map(str), st.just(str(10**30)), words),
    "kind": st.one_of(st.sampled_from(["csv", "json", "parquet"]), words),
    "name": words.filter(lambda word: word not in ("fashion_mnist", "mnist", "kmnist", "digits")),
}  # fmt: skip
LEAVES = {path: found for path, found in commands() if not isinstance(found, click.Group)}
NEVER = {("optimize",): ["--device", "none"], ("ui",): ["--host", "no such host"]}  # to train, to start servers


@st.composite
def command_lines(draw: Any) -> list[str]:
    path = draw(st.sampled_from(sorted(LEAVES)))
    line = list(path)
    for parameter in LEAVES[path].params:
        wanted = parameter.required or draw(st.booleans())
        if parameter.name in ("debug", "help") or not wanted or draw(st.integers(0, 15)) == 0:
            continue
        value = draw(VALUES.get(parameter.name or "", words))
        if isinstance(parameter, click.Argument):
            line.append(value)
        elif getattr(parameter, "is_flag", False):
            line.append(draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts])))
        else:
            line += draw(st.sampled_from([[parameter.opts[0], value], [f"{parameter.opts[0]}={value}"]]))
    line += draw(st.one_of(*([st.just([])] * 5), st.lists(words, max_size=2), st.just(["--help"])))
    return [*line, *NEVER.get(path, [])]


class Terminal(io.TextIOWrapper):
    """A stream as a process has it: text over bytes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


def searchlib(line: list[str]) -> tuple[object, str]:
    """(exit status, stderr) of a command line, run in this process."""
    out, err = Terminal(), Terminal()
    with pytest.MonkeyPatch.context() as patch, no_hang():
        patch.setattr(sys, "argv", ["searchlib", *line])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code, err.text


def test_command_lines() -> None:
    write_study()
    prepare(parts=("train",))
    Path("studies/broken.py").write_text("STUDY = [")
    seen = set()

    @fuzzing(250)
    @given(command_lines())
    def check(line: list[str]) -> None:
        status, said = searchlib(line)
        assert status in (0, 1, 2), said
        assert "Traceback" not in said
        assert "run again with --debug" not in said, "an error that nobody foresaw"
        if status == 1:
            *_, last = said.splitlines()
            assert last.startswith("Error: "), said
        seen.add((line[0], status))

    check()
    assert {status for _, status in seen} == {0, 1, 2}
    assert {command for command, _ in seen} == {path[0] for path in LEAVES}


# --------------------------------------------------------------------------------------------------------- IDX files

FILE = IdxFile(name="train-images-idx3-ubyte", shape=(5, 3, 2))
PIXELS = np.arange(30, dtype=np.uint8).reshape(5, 3, 2)
CONTENT = struct.pack(">HBB3I", 0, 8, 3, 5, 3, 2) + PIXELS.tobytes()


def independent_reader(content: bytes) -> np.ndarray | None:
    """The array of an IDX file of bytes, or None for what is none."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        return None
    rank = content[3]
    sizes = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank)]
    body = content[4 + 4 * rank :]
    if len(content) < 4 + 4 * rank or len(body) != math.prod(sizes):
        return None
    return np.array(list(body), np.uint8).reshape(sizes)


def read(name: str, content: bytes, file: IdxFile = FILE) -> np.ndarray | None:
    """What the library reads, or None for an IntegrityError; anything else fails the test."""
    path = Path(name)
    path.write_bytes(content)
    try:
        with no_hang():
            return file.array(file.read(path))
    except IntegrityError as error:
        said = str(error)
    assert name in said
    return None


def headers(content: bytes) -> st.SearchStrategy[bytes]:
    """Other magic numbers, ranks and sizes before the same bytes."""
    sizes = st.one_of(st.integers(0, 9), st.sampled_from([2**31, 2**32 - 1, 30, 256]))
    return st.builds(
        lambda magic, sizes, rank: magic + bytes([rank]) + b"".join(struct.pack(">I", n) for n in sizes) + content[16:],
        st.sampled_from([b"\0\0\x08", b"\0\0\x09", b"\0\0\x0d", b"\1\0\x08"]),
        st.lists(sizes, max_size=4),
        st.integers(0, 255) | st.just(3),
    )


@fuzzing(400)
@given(st.one_of(mutated(CONTENT), mutated(CONTENT), headers(CONTENT), st.binary(max_size=60), st.just(CONTENT)))
def test_idx_files(content: bytes) -> None:
    found, expected = read("train-images-idx3-ubyte", content), independent_reader(content)
    if expected is not None and expected.shape == FILE.shape:
        assert found is not None
    if found is not None:
        assert expected is not None
        assert found.shape == expected.shape == FILE.shape
        assert (found == expected).all()


@fuzzing(300)
@given(st.one_of(mutated(gzip.compress(CONTENT, mtime=0)), mutated(CONTENT).map(gzip.compress), st.binary(max_size=60)))
def test_packed_idx_files(packed: bytes) -> None:
    found = read("train-images-idx3-ubyte.gz", packed)
    if found is not None:
        assert (found == independent_reader(gzip.decompress(packed))).all()


def test_a_checksum_lets_nothing_else_through() -> None:
    import hashlib

    checked = IdxFile(name=FILE.name, shape=FILE.shape, md5=hashlib.md5(CONTENT).hexdigest())

    @fuzzing(200)
    @given(st.one_of(mutated(CONTENT), headers(CONTENT)))
    def check(content: bytes) -> None:
        assert (read(FILE.name, content, checked) is not None) == (content == CONTENT)
        assert (read(f"{FILE.name}.gz", gzip.compress(content), checked) is not None) == (content == CONTENT)

    check()


def test_a_file_that_claims_to_be_huge_takes_no_memory() -> None:
    """In its header, or packed: 100 MB of zeros in 100 kB."""
    lies = {
        FILE.name: struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 255) + PIXELS.tobytes(),
        f"{FILE.name}.gz": gzip.compress(CONTENT[:16] + bytes(100_000_000), 1),
    }
    for name, content in lies.items():
        Path(name).write_bytes(content)
        tracemalloc.start()
        try:
            assert read(name, content) is None
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------------ journals

JOURNAL = "optuna.journal"


def make_journal() -> bytes:
    """Six finished trials and one under way."""
    study = optuna.create_study(study_name="s", storage=open_storage(JOURNAL))
    for number in range(6):
        study.add_trial(
            create_trial(
                params={"x": 0.1 * number},
                distributions={"x": FloatDistribution(0, 1)},
                value=float(number),
                user_attrs={"outcome": "completed"},
            )
        )
    study.ask().report(0.5, 1)
    return Path(JOURNAL).read_bytes()


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 9), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
records = st.fixed_dictionaries(
    {"op_code": st.integers(0, 12).filter(lambda code: code != 1)},  # 1 deletes a study, and may
    optional={
        "worker_id": st.text(max_size=3),
        "study_id": st.integers(-1, 2) | json_values,
        "trial_id": st.integers(-1, 8) | json_values,
        "state": st.integers(-1, 6) | json_values,
        "values": st.none() | st.just([0.5]) | json_values,
        "study_name": st.just("s") | json_values,
        "directions": st.just([1]) | json_values,
        "user_attr": st.just({"a": 1}) | json_values,
        "system_attr": st.just({"a": 1}) | json_values,
        "step": st.integers(0, 3) | json_values,
        "intermediate_value": st.floats() | json_values,
        "param_name": st.just("x") | json_values,
        "param_value_internal": st.floats() | json_values,
        "distribution": json_values,
        "datetime_start": st.just("2026-01-01T00:00:00") | json_values,
        "datetime_complete": st.just("2026-01-01T00:00:00") | json_values,
    },
)


def lines_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.lists(values.map(lambda value: json.dumps(value).encode() + b"\n"), min_size=1, max_size=3).map(b"".join)


def finished(study: optuna.Study) -> list[tuple[int, object, object]]:
    return [
        (trial.number, trial.params, trial.values)
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs.get("outcome") == "completed"
    ]


def check_tail(whole: bytes, tail: bytes, expected: list[tuple[int, object, object]]) -> bool:
    """Whether a journal with this *tail* opens; what was stored before it is there either way."""
    Path(JOURNAL).write_bytes(whole + tail)
    with no_hang():
        with contextlib.suppress(StorageError):
            assert count_trials(JOURNAL)["s"] >= 6
        said = ""
        try:
            study = Stores(JOURNAL).optuna_study("s")
        except StorageError as error:
            said = str(error)
        assert Path(JOURNAL).read_bytes().startswith(whole), "nothing that was whole is gone"
        if said:
            assert said.startswith("storage 'optuna.journal' ")
            return False
        assert study is not None
        assert finished(study)[:6] == expected
        study.add_trial(create_trial(value=9.0, user_attrs={"new": True}))
        again = Stores(JOURNAL).optuna_study("s")
        assert again is not None
        assert finished(again)[:6] == expected
        assert any(trial.user_attrs.get("new") for trial in again.get_trials(deepcopy=False))
        assert Path(JOURNAL).read_bytes().startswith(whole)
    return True


def test_journals_with_any_tail() -> None:
    whole = make_journal()
    study = Stores(JOURNAL).optuna_study("s")
    assert study is not None
    expected = finished(study)
    last = whole.splitlines(keepends=True)[-1]
    opened = []

    @fuzzing(400)
    @given(
        st.one_of(
            st.binary(max_size=50),
            st.binary(max_size=50).map(lambda tail: tail + b"\n"),
            st.builds(lambda count: b"\0" * count, st.integers(1, 5000)),
            st.integers(1, len(last) - 1).map(lambda cut: last[:cut]),
            mutated(last),
            lines_of(json_values),
            lines_of(records),
            lines_of(records),
            st.builds(bytes.__add__, lines_of(records), st.binary(max_size=20)),
        )
    )
    def check(tail: bytes) -> None:
        opened.append(check_tail(whole, tail, expected))

    check()
    assert 40 < sum(opened) < len(opened) - 40, "both happen often"


@pytest.mark.parametrize(
    "tail", [b"garbage\n", b"\n", b"[" * 100_000 + b"\n", b'{"op_code": 99, "worker_id": "x"}\n', b"\xff\n"]
)
def test_a_broken_last_line_is_refused_before_anything_comes_after_it(tail: bytes) -> None:
    """Optuna skips it, appends to the file, and can't read it any more."""
    whole = make_journal()
    Path(JOURNAL).write_bytes(whole + tail)
    with pytest.raises(StorageError, match="can't be opened"):
        Stores(JOURNAL).optuna_study("s")
    assert Path(JOURNAL).read_bytes() == whole + tail
