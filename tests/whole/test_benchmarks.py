"""The benchmarks count and compare rightly: the figures themselves are for a quiet machine."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from support.trials import numbered
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import extending, problem, racing
from benchmarks.early_stopping import Search, one_epoch
from benchmarks.expert import expert_epoch, expert_evaluation, expert_optimizer
from benchmarks.idle import Meter
from benchmarks.measuring import Settings, Spread, Table, in_turn, peak_memory, ratios, spread, write_json
from benchmarks.throughput import OURS, compared
from benchmarks.vmapped import Ensemble
from searchlib import MLP, Choice, Dataset, Examples, LogUniform, TrialConfig
from searchlib.data.splits import Split
from searchlib.search import pruned_round
from searchlib.search.pruning import halve
from searchlib.training.engine import Engine
from searchlib.training.network import build_mlp
from searchlib.training.stack import Member

EPOCHS = 2


@pytest.mark.parametrize("widths", [(), (7,), (9, 5, 3)])
def test_operations_are_those_that_torch_counts(widths: tuple[int, ...]) -> None:
    config = TrialConfig(hidden=widths, batch_size=4)
    module = build_mlp(config, 12, 10)
    with FlopCounterMode(display=False) as counter:
        for _ in range(3):
            module(torch.randn(4, 12)).sum().backward()
        with torch.no_grad():
            module(torch.randn(5, 12))
    assert problem.flops(config, train=12, validation=5, inputs=12, outputs=10) == counter.get_total_flops()


def tiny() -> tuple[Engine, list[Member]]:
    """Eight cells at two rates on random images of 6 x 6 with ten classes."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> Examples:
        return Examples(
            inputs=torch.randint(0, 256, (count, 6, 6), dtype=torch.uint8, generator=generator),
            targets=torch.randint(0, 10, (count,), generator=generator),
        )

    whole = problem.init_vs_act()
    study = dataclasses.replace(
        whole,
        dataset=Dataset(name="tiny", outputs=10, shape=(6, 6), scale=255.0, train=None, test=None),  # type: ignore[arg-type]
        scientific={
            "initializer": Choice("orthogonal", "kaiming_normal"),
            "activation": Choice("sigmoid", "tanh", "relu", "leaky_relu", "selu", "gelu"),
        },
        nuisance={"learning_rate": LogUniform(0.003, 0.03)},
        fixed={**whole.fixed, "lr_schedule": "constant", "epochs": EPOCHS, "batch_size": 16},
        model=MLP(hidden=(11, 7)),
        trials=24,
    )
    return Engine(study, Split(train=part(100), validation=part(40), seed=0, fraction=0.3), "cpu"), problem.members(
        study
    )


def test_all_in_memory_reach_the_same_loss_from_the_same_weights_by_the_same_batches() -> None:
    engine, members = tiny()
    data = engine.data("standard")
    orders = [problem.order(engine.study.seed, epoch, len(data.train_inputs)) for epoch in range(1, EPOCHS + 1)]
    ours: dict[int, float] = {}
    for group in engine.group(problem.tasks(engine.study)):
        stack = engine.start(group, keeps=lambda run, value: False)
        while stack.alive:
            stack.advance()
        ours |= {number: run.curves[-1]["val_loss"] for number, run in stack.runs.items()}
    expert: dict[int, float] = {}
    for member in members:
        module = problem.model(member, data)
        optimizer = expert_optimizer(module, member.config)
        for order in orders:
            expert_epoch(module, optimizer, data, order, member.config.batch_size)
        expert[member.number] = expert_evaluation(module, data)[0]
    ensemble = Ensemble(members, data)
    for order in orders:
        ensemble.epoch(data, order)
    vmapped = dict(zip((member.number for member in ensemble.members), ensemble.evaluate(data)[0], strict=True))
    start = expert_evaluation(problem.model(members[0], data), data)[0]
    assert len(ours) == len(members) == 24
    assert expert == pytest.approx(ours, rel=1e-4)
    assert vmapped == pytest.approx(ours, rel=1e-4)
    assert abs(ours[0] - start) > 1e-2, "nothing was trained"


def test_the_mix_has_every_batch_size_with_every_cell() -> None:
    members = problem.members(problem.mixed_study(epochs=1))
    kinds = Counter((m.config.batch_size, m.config.initializer, m.config.activation) for m in members)
    assert len(kinds) == 48
    assert max(member.config.learning_rate for member in members) <= 0.1
    few = problem.one_a_batch_size(members, 13)
    assert [member.config.batch_size for member in few] == list(problem.BATCH_SIZES)


def test_another_accuracy_fails_loudly() -> None:
    def outcome(value: float) -> list[problem.Outcome]:
        return [problem.Outcome(seconds=1.0, accuracy={1: [value]})]

    ours = [problem.Outcome(seconds=1.0, accuracy={1: [0.80, 0.85], 2: [0.7, 0.7]})]
    table = compared({OURS: ours, "other": outcome(0.81)}, 0.015)
    assert table.rows[1]["difference"] == pytest.approx(0.01)
    assert not table.failure
    for value in (0.85, float("nan")):
        failed = compared({OURS: ours, "other": outcome(value)}, 0.015)
        assert "other reaches" in failed.failure
        assert failed.failure in str(failed)


@pytest.mark.parametrize(("of_each_cell", "kept"), [(True, {1, 2}), (False, {2, 3})])
def test_one_epoch_keeps_the_best(of_each_cell: bool, kept: set[int]) -> None:
    study, cells = problem.init_vs_act(), problem.init_vs_act().cells[:2]
    values = [(cells[0], None), (cells[0], 0.5), (cells[1], 0.7), (cells[1], 0.6)]
    points = [(numbered(number, cell), value) for number, (cell, value) in enumerate(values)]
    with one_epoch(of_each_cell=of_each_cell):
        assert pruned_round.halving_rungs(study, 6) == [1]
        assert {0, 1, 2, 3} - pruned_round.halve(study, points) == kept
    assert pruned_round.halve is halve


def test_the_goal_is_reached_when_an_epoch_is_as_good() -> None:
    search = Search(9.0, [(1.0, 0.5), (2.0, 0.8), (3.0, 0.7)])
    assert (search.best, search.reached(0.6), search.reached(0.9)) == (0.8, 2.0, None)


def test_the_meter_counts_outermost_calls() -> None:
    class Store:
        def write(self) -> int:
            return self.read() + 1

        def read(self) -> int:
            return sum(range(200_000))

    meter = Meter()
    meter.watch("store", Store)
    assert Store().write() == sum(range(200_000)) + 1
    assert 0.0 < meter.seconds["store"] < 1.0
    assert peak_memory() > 10_000_000


def test_tables_and_json() -> None:
    calls: list[tuple[str, int]] = []
    found = in_turn(2, {name: lambda n, name=name: calls.append((name, n)) or float(n + 1) for name in "ab"})  # type: ignore[misc]
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert found == {"a": [1.0, 2.0], "b": [1.0, 2.0]}
    assert ratios([2.0, 9.0], [1.0, 3.0]) == Spread(2.5, 2.0, 3.0, 2)
    table = Table("Title", notes=["a note"])
    table.add(what="this", times_ours=spread([1.0, 2.0, 4.0]))
    table.add(what="that", seconds=3.14159)
    assert str(table).splitlines() == [
        "",
        "Title",
        "-----",
        "what  times ours    seconds",
        "this  2 [1, 4] n=3",
        "that                3.142",
        "a note",
    ]
    settings = Settings(quick=True, repeats=3, folder=Path(), data_root=Path())
    write_json(Path("bench.json"), settings, {"part": [table]})
    written = json.loads(Path("bench.json").read_text(encoding="utf-8"))
    assert written["sections"]["part"][0]["rows"][0]["times ours"]["median"] == 2.0
    assert written["machine"]["cores"] >= 1


def test_each_part_of_the_race_is_taken_away_for_its_row() -> None:
    found = {row: racing.simulate(row, 1, np.random.default_rng(3)) for row in racing.ROWS}
    assert [one["effects"] for one in found.values()] == [True, True, True, True, False]
    early, settled = found["looks at 2, 3, 5, 7, 10"], found["leaves when corrected"]
    assert settled["replicates"] > early["replicates"]
    assert settled["shown worse"] > early["shown worse"]
    assert found["hopeless left out"]["replicates"] < settled["replicates"]


def test_an_extended_race_keeps_its_level_by_either_test() -> None:
    pairs = np.random.default_rng(4).standard_normal((2_000, 40))
    spending, mixture, anew = extending.decided(pairs, (5, 10, 20, 40))
    assert max(spending, mixture) < 0.07 < anew
    t, n = np.array([3.0]), 10  # the E-value of Wang & Ramdas as it is printed, for 9 degrees of freedom
    printed = (1 + n * 0.3) ** -0.5 * ((1 + 9 / 9) / (1 + 9 / ((1 + n * 0.3) * 9))) ** 5
    assert extending.e_values(t, n) == pytest.approx(printed)
