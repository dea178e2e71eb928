"""The expert loop under Ray Tune: an actor a trial, one core each, the data shared through Ray's object store."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.expert import expert_trial
from benchmarks.problem import Data, Outcome, slowest_first, tensors
from searchlib.training.loop import Tensors
from searchlib.training.stack import Member


def missing() -> str:
    """Why Ray Tune can't run here, or nothing."""
    try:
        from ray import tune  # noqa: F401
    except ImportError as error:
        return f"not run: {error}; install it with pip install -e '.[bench]'"
    return ""


def start(cores: int) -> float:
    """Start Ray in this process: the seconds it took."""
    import ray

    started = time.perf_counter()
    ray.init(num_cpus=cores, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    return time.perf_counter() - started


def stop() -> None:
    """Stop Ray."""
    import ray

    ray.shutdown()


def trainable(parameters: dict[str, Any], chosen: list[Member], arrays: dict[str, Any], epochs: int) -> None:
    """What an actor runs: one trial, reported by epoch."""
    import torch
    from ray import tune

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    fields: dict[str, Any] = {
        name: torch.from_numpy(value) if hasattr(value, "shape") else value for name, value in arrays.items()
    }
    accuracy: list[float] = []

    def report(value: float) -> None:
        accuracy.append(value)
        tune.report({"val_accuracy": value, "accuracy": list(accuracy)})

    expert_trial(chosen[parameters["index"]], Tensors(**fields), epochs, report)


@functools.cache
def _shared(data: Data) -> Any:
    """The data in Ray's object store, once."""
    import ray

    held = vars(tensors(data))
    return ray.put({name: value.numpy() if hasattr(value, "numpy") else value for name, value in held.items()})


def ray_tune(chosen: Sequence[Member], data: Data, epochs: int, folder: Path) -> Outcome:
    """The trials through Tune, timed from ``fit`` to its end; Ray runs already and has the data.

    Actors are used again for the next trial (``reuse_actors``): without it each would import torch anew.
    """
    import ray
    from ray import tune

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    handed = slowest_first(chosen)
    shared = _shared(data)

    def run(parameters: dict[str, Any]) -> None:
        trainable(parameters, handed, ray.get(shared), epochs)

    tuner = tune.Tuner(
        tune.with_resources(run, {"cpu": 1}),
        param_space={"index": tune.grid_search(list(range(len(handed))))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder.absolute() / "ray"), verbose=0),
    )
    started = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - started
    if results.errors:
        raise RuntimeError(f"{len(results.errors)} trials failed under Ray Tune: {results.errors[0]}")
    accuracy = {handed[result.config["index"]].number: result.metrics["accuracy"] for result in results}
    return Outcome(seconds=seconds, accuracy=accuracy)
