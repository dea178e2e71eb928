"""What searchlib costs beside training: the share of a real search, and milliseconds a trial where training is free."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import ExitStack

from benchmarks.measuring import Settings, Table, in_turn, processes, ratios, say, spread
from benchmarks.problem import Data, init_vs_act
from benchmarks.throughput import data_of
from searchlib import LogUniform

COUNTS = (100, 1_000, 10_000)


def run(settings: Settings) -> list[Table]:
    """The part ``overhead``."""
    share, a_trial = _share(settings)
    return [share, _by_trials(settings, a_trial)]


def _share(settings: Settings) -> tuple[Table, float]:
    """The search against the same stacks trained with nothing recorded; and the latter's milliseconds a trial."""
    from benchmarks import ours

    data, whole = data_of(settings), init_vs_act()
    epochs, trials = (2, 36) if settings.quick else (6, 72)
    study = dataclasses.replace(
        whole,
        nuisance={**whole.nuisance, "learning_rate": LogUniform(0.003, 0.03)},
        fixed={**whole.fixed, "epochs": epochs},
        trials=trials,
    )
    with ExitStack() as left:
        trainer, searcher = left.enter_context(processes(1)), left.enter_context(processes(1))
        trainer.submit(ours.training_only, dataclasses.replace(study, trials=36), Data(data.root, 600)).result()
        searcher.submit(ours.whole_command, dataclasses.replace(study, trials=36), Data(data.root, 600)).result()
        outcomes = in_turn(
            settings.repeats,
            {
                "training only": lambda repeat: trainer.submit(ours.training_only, study, data).result(),
                "optimize": lambda repeat: searcher.submit(ours.whole_command, study, data).result(),
            },
        )
    seconds = {name: [outcome.seconds for outcome in runs] for name, runs in outcomes.items()}
    table = Table(f"Overhead: {trials} trials of init_vs_act, {epochs} epochs, {data.title}")
    for name, values in seconds.items():
        table.add(what=name, seconds=spread(values), times_training_only=ratios(values, seconds["training only"]))
    outside = [1.0 - t / o for t, o in zip(seconds["training only"], seconds["optimize"], strict=True)]
    table.add(what="share of optimize outside training", times_training_only=spread(outside))
    table.notes.append(
        "optimize: reading the data, MLflow's store, every trial recorded. Training: validation and diagnostics too."
    )
    return table, 1000.0 * spread(seconds["training only"]).median / trials


def _by_trials(settings: Settings, training: float) -> Table:
    from benchmarks import idle
    from benchmarks.idle_study import EPOCHS, NAME

    counts = COUNTS[:1] if settings.quick else COUNTS
    table = Table(f"Overhead: milliseconds a trial where training is free, {EPOCHS} epochs, MLflow SQLite, journal")
    base: dict[str, list[float]] = {}
    earlier = (0, 0.0)  # the count before, and its wall time in all
    for count in counts:
        found: list[dict[str, float]] = []
        for repeat in range(settings.repeats if count < 10_000 else 1):
            say(f"{count:,} trials, repeat {repeat + 1}")
            folder = settings.folder / f"{NAME}-{count}"
            shutil.rmtree(folder, ignore_errors=True)
            with processes(1) as pool:
                found.append(pool.submit(idle.make_store, folder, count).result())
        values = {name: [one[name] for one in found] for name in found[0]}
        base = base or values
        total = count * spread(values["wall"]).median
        table.add(
            trials=count,
            wall=spread(values["wall"]),
            wall_of_those_added=(total - earlier[1]) / (count - earlier[0]),
            processor=spread(values["processor"]),
            of_it_mlflow=spread(values["mlflow"]),
            of_it_optuna=spread(values["optuna"]),
            of_it_rest=spread(values["rest"]),
            wall_against_first=spread(values["wall"]).median / spread(base["wall"]).median,
            wall_against_training=spread(values["wall"]).median / training,
            peak_memory_MB=spread(value / 1e6 for value in values["peak"]),
        )
        earlier = (count, total)
    table.notes.append("Of those added: by the difference to the row before, without what a search costs once.")
    table.notes.append(
        f"Against training: {training:.0f} ms, the training of one trial in the table before. mlflow, optuna: "
        "processor time inside calls of MlflowClient, and of Optuna's study, trial and storage."
    )
    return table
