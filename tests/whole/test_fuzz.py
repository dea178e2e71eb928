"""Fuzzing of IDX files, journals and command lines that nobody would write: no traceback, hang or lie."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from support import prepare
from support.command import commands, write_study
from support.fuzzing import fuzzing, mutated, no_hang

from searchlib.cli.main import main
from searchlib.data.idx_files import IdxFile
from searchlib.errors import IntegrityError, StorageError
from searchlib.stores.storage import count_trials, open_storage
from searchlib.stores.stores import Stores

# --------------------------------------------------------------------------------------------------------- IDX files

PIXELS = np.arange(30, dtype=np.uint8).reshape(5, 3, 2)
CONTENT = struct.pack(">HBB3I", 0, 8, 3, 5, 3, 2) + PIXELS.tobytes()
FILE = IdxFile(name="train-images-idx3-ubyte", shape=(5, 3, 2))
CHECKED = IdxFile(name=FILE.name, shape=FILE.shape, md5=hashlib.md5(CONTENT).hexdigest())


def independent_reader(content: bytes) -> np.ndarray | None:
    """The array of an IDX file of bytes, or None for what is none."""
    rank = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    sizes = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank)]
    body = content[4 + 4 * rank :]
    if not rank or len(content) < 4 + 4 * rank or len(body) != math.prod(sizes):
        return None
    return np.array(list(body), np.uint8).reshape(sizes)


def read(content: bytes, file: IdxFile = FILE, *, packed: bool = False) -> np.ndarray | None:
    """What the library reads, or None for an IntegrityError; anything else fails the test."""
    path = Path(f"{file.name}.gz" if packed else file.name)
    path.write_bytes(content)
    try:
        with no_hang():
            return file.array(file.read(path))
    except IntegrityError as error:
        said = str(error)
    assert path.name in said
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
    """What has the right shape is read as it is, packed or not; a checksum lets nothing but the original through."""
    expected = independent_reader(content)
    right = expected is not None and expected.shape == FILE.shape
    for packed in (False, True):
        written = gzip.compress(content) if packed else content
        found = read(written, packed=packed)
        assert (found is not None) == right
        assert found is None or np.array_equal(found, expected)
        assert (read(written, CHECKED, packed=packed) is not None) == (content == CONTENT)


@fuzzing(200)
@given(st.one_of(mutated(gzip.compress(CONTENT, mtime=0)), st.binary(max_size=60)))
def test_what_is_packed_wrongly(packed: bytes) -> None:
    found = read(packed, packed=True)
    if found is not None:
        assert np.array_equal(found, independent_reader(gzip.decompress(packed)))


HUGE_HEADER = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 255) + PIXELS.tobytes()
HUGE_BODY = gzip.compress(CONTENT[:16] + bytes(100_000_000), 1)  # 100 MB of zeros in 100 kB


@pytest.mark.parametrize(("content", "packed"), [(HUGE_HEADER, False), (HUGE_BODY, True)], ids=["header", "packed"])
def test_a_file_that_claims_to_be_huge_takes_no_memory(content: bytes, packed: bool) -> None:
    tracemalloc.start()
    try:
        assert read(content, packed=packed) is None
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


def finished() -> list[tuple[int, object, object]]:
    study = Stores(JOURNAL).optuna_study("s")
    assert study is not None
    return [(t.number, t.params, t.values) for t in study.trials if t.user_attrs.get("outcome") == "completed"]


def check_tail(whole: bytes, tail: bytes, expected: list[tuple[int, object, object]]) -> bool:
    """Whether a journal with this *tail* opens; what was stored before it is there either way.

    A line that Optuna would skip, to append to the file and be unable to read it any more, has to be refused.
    """
    Path(JOURNAL).write_bytes(whole + tail)
    with no_hang():
        with contextlib.suppress(StorageError):
            assert count_trials(JOURNAL)["s"] >= 6
        try:
            study = Stores(JOURNAL).optuna_study("s")
        except StorageError as error:
            said, study = str(error), None
        assert Path(JOURNAL).read_bytes().startswith(whole), "nothing that was whole is gone"
        if study is None:
            assert said.startswith("storage '")
            assert "optuna.journal' " in said
            return False
        assert finished()[:6] == expected
        study.add_trial(create_trial(value=9.0, user_attrs={"outcome": "completed"}))
        again = finished()
        assert again[:6] == expected
        assert again[-1][1:] == ({}, [9.0])
        assert Path(JOURNAL).read_bytes().startswith(whole)
    return True


BROKEN = [b"garbage\n", b"\n", b"[" * 100_000 + b"\n", b'{"op_code": 99, "worker_id": "x"}\n', b"\xff\n"]


def test_journals_with_any_tail() -> None:
    whole = make_journal()
    expected = finished()
    assert len(expected) == 6
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
    for tail in BROKEN:
        assert not check_tail(whole, tail, expected), tail
        assert Path(JOURNAL).read_bytes() == whole + tail


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


def test_command_lines(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write_study()
    prepare(parts=("train",))
    Path("studies/broken.py").write_text("STUDY = [")
    seen = set()

    @fuzzing(250)
    @given(command_lines())
    def check(line: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["searchlib", *line])
        with no_hang(), pytest.raises(SystemExit) as end:
            main()
        status, said = end.value.code, capsysbinary.readouterr().err.decode()
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
