"""How much of this machine's float32 matrix-product rate the training reaches, and how much the whole command."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.measuring import Settings, Table, cores, in_turn, processes, ratios, spread
from benchmarks.problem import Data, Outcome, examples, flops, mixed_study, one_batch_size, tasks
from benchmarks.throughput import data_of
from searchlib import Study
from searchlib.training.precision import set_products, setting_for

SIZE = 2048
BATCH_SIZES = (32, 64, 100, 128, 256)


def product_rate(seconds: float) -> float:
    """Floating-point operations a second of one product of two square matrices: the best within *seconds*.

    By the library that multiplies for searchlib on this machine.
    """
    import torch

    set_products(setting_for("float32"))
    a, b = torch.randn(2, SIZE, SIZE)
    product, best, end = a @ b, 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        torch.mm(a, b, out=product)
        best = max(best, 2.0 * SIZE**3 / (time.perf_counter() - started))
    return best


def one_thread() -> None:
    """One thread for this process, as each core of a crowd has."""
    import torch

    torch.set_num_threads(1)


def study_flops(study: Study, data: Data) -> int:
    """Operations of all matrix products of *study*'s training and validation."""
    cut = examples(data)
    configs = [task.config for task in tasks(study)]
    return sum(
        config.epochs * flops(config, train=len(cut.train), validation=len(cut.validation)) for config in configs
    )


def run(settings: Settings) -> list[Table]:
    """The part ``roofline``."""
    from benchmarks import ours

    data, seconds = data_of(settings), 0.3 if settings.quick else 2.0
    studies = {f"training, batch {size}": one_batch_size(size, cells=36, epochs=1) for size in BATCH_SIZES}
    mixed = mixed_study(epochs=1 if settings.quick else 2)
    with ExitStack() as left:
        together = left.enter_context(processes(1))
        alone = left.enter_context(processes(cores(), one_thread))
        trainer, searcher = left.enter_context(processes(1)), left.enter_context(processes(1))
        trainer.submit(ours.training_only, mixed, Data(data.root, 600)).result()
        searcher.submit(ours.whole_command, mixed, Data(data.root, 600)).result()

        def rate(outcome: Outcome, study: Study) -> float:
            return study_flops(study, data) / outcome.seconds

        contenders: dict[str, Callable[[int], float]] = {
            "product, all cores": lambda repeat: together.submit(product_rate, seconds).result(),
            "product, a thread a core, sum": lambda repeat: sum(alone.map(product_rate, [seconds] * cores())),
        }
        for name, study in studies.items():
            contenders[name] = lambda repeat, study=study: rate(  # type: ignore[misc]
                trainer.submit(ours.training_only, study, data).result(), study
            )
        contenders["training, batch sizes mixed"] = lambda repeat: rate(
            trainer.submit(ours.training_only, mixed, data).result(), mixed
        )
        contenders["searchlib optimize, the same"] = lambda repeat: rate(
            searcher.submit(ours.whole_command, mixed, data).result(), mixed
        )
        rates = in_turn(settings.repeats, contenders)
    table = Table(f"Roofline: float32 products of {SIZE} x {SIZE} against training 784-100-10, {data.title}")
    whole, each = rates["product, all cores"], rates["product, a thread a core, sum"]
    for name, values in rates.items():
        table.add(
            what=name,
            gflops=spread(value / 1e9 for value in values),
            of_all_cores=ratios(values, whole),
            of_a_thread_a_core=ratios(values, each),
        )
    table.notes.append(
        "Counted: matrix products of training and validation. Not: activations, loss, optimizer, diagnostics."
    )
    return [table]
