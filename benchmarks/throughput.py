"""Milliseconds a trial-epoch: 48 trials by searchlib and by five other ways, in turn, and how good they get."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.measuring import Settings, Table, cores, in_turn, processes, ratios, say, spread
from benchmarks.problem import Data, Outcome, members, mixed_study, one_a_batch_size, slowest_first

if TYPE_CHECKING:
    from searchlib.training.stack import Member

EPOCHS = 2
OURS, COMMAND = "searchlib, training only", "searchlib optimize, all of it"
TUTORIAL, OPTUNA = "tutorial loop", "tutorial loop, Optuna n_jobs"
EXPERT, RAY, VMAP = "expert loop, a process a core", "expert loop, Ray Tune", "torch.func.vmap"
TOLERANCE = 0.015  # of the mean accuracy on the same trials after the same epochs; quick trials have hardly learnt


def data_of(settings: Settings) -> Data:
    """All of the training images, or a twentieth."""
    return Data(settings.data_root.absolute(), 3_000 if settings.quick else 60_000)


def run(settings: Settings) -> list[Table]:
    """The part ``throughput``."""
    data = data_of(settings)
    with ExitStack() as left:
        contenders, ray_note = _contenders(settings, data, left)
        outcomes = in_turn(settings.repeats, contenders)
    table = Table(f"Throughput: {len(members(mixed_study(epochs=1)))} trials of MLP 784-100-10, {data.title}")
    ours, command = ([run.per_trial_epoch for run in outcomes[name]] for name in (OURS, COMMAND))
    for name, runs in outcomes.items():
        taken = [run.per_trial_epoch for run in runs]
        table.add(
            contender=name,
            ms_a_trial_epoch=spread(1000.0 * value for value in taken),
            times_training_only=ratios(taken, ours),
            times_optimize=ratios(taken, command),
            trial_epochs_a_repeat=runs[0].trial_epochs,
        )
    if RAY not in outcomes:
        table.add(contender=RAY, ms_a_trial_epoch="not run, see below")
    table.notes += [ray_note, f"{settings.repeats} repeats, every contender once in each; ratios are taken by repeat."]
    table.notes.append("Where fewer trial-epochs ran: one trial of each batch size, another one in each repeat.")
    return [table, compared(outcomes, 0.05 if settings.quick else TOLERANCE)]


def _contenders(settings: Settings, data: Data, left: ExitStack) -> tuple[dict[str, Callable[[int], Outcome]], str]:
    """Every contender in processes of its own, warm."""
    from benchmarks import expert, ours, tune, tutorial, vmapped

    warm, epochs = Data(data.root, 600), 1 if settings.quick else EPOCHS
    study, small = mixed_study(epochs=epochs), mixed_study(epochs=1)
    chosen, folder = members(study), settings.folder

    def process(count: int = 1, prepare: Callable[..., None] | None = None) -> ProcessPoolExecutor:
        return left.enter_context(processes(count, prepare, *([data] if prepare else [])))

    say("starting the contenders' processes")
    trainer, searcher, loops, jobs = process(), process(), process(), process()
    vmapper, experts = process(1, vmapped.prepare), process(cores(), expert.prepare)
    for pool, function in ((trainer, ours.training_only), (searcher, ours.whole_command), (vmapper, vmapped.vmapped)):
        pool.submit(function, small, warm).result()
    few = one_a_batch_size(chosen, 0)
    loops.submit(tutorial.tutorial, few, warm, 1).result()
    jobs.submit(tutorial.under_optuna, study, few, warm, 1, cores(), folder).result()
    for pool in (trainer, searcher):
        pool.submit(_load, data).result()
    for pool in (loops, jobs):
        pool.submit(tutorial.image_sets_ready, data).result()
    list(experts.map(expert.expert_job, few, [warm] * len(few), [1] * len(few)))
    contenders: dict[str, Callable[[int], Outcome]] = {
        OURS: lambda repeat: trainer.submit(ours.training_only, study, data).result(),
        COMMAND: lambda repeat: searcher.submit(ours.whole_command, study, data).result(),
        EXPERT: lambda repeat: _experts(experts, chosen, data, epochs),
        VMAP: lambda repeat: vmapper.submit(vmapped.vmapped, study, data).result(),
    }
    note = tune.missing()
    if not note:
        ray = process()
        try:
            seconds = ray.submit(tune.start, cores()).result()
            left.callback(lambda: ray.submit(tune.stop).result())
            for images in (warm, data):
                ray.submit(tune.ray_tune, few, images, 1, folder).result()
            contenders[RAY] = lambda repeat: ray.submit(tune.ray_tune, chosen, data, epochs, folder).result()
            note = f"timed from fit() to its end, all warm; starting Ray takes {seconds:.1f} s before that."
        except Exception as error:  # whatever keeps Ray from running here, its row says it
            note = f"not run: {type(error).__name__}: {error}"
    contenders[TUTORIAL] = lambda repeat: loops.submit(
        tutorial.tutorial, one_a_batch_size(chosen, repeat), data, 1
    ).result()
    contenders[f"{OPTUNA}={cores()}"] = lambda repeat: jobs.submit(
        tutorial.under_optuna, study, one_a_batch_size(chosen, repeat), data, 1, cores(), folder
    ).result()
    return contenders, f"{RAY}: {note}"


def _load(data: Data) -> None:
    """Have the images in memory before the clock starts."""
    from benchmarks.problem import tensors

    tensors(data)


def _experts(pool: ProcessPoolExecutor, chosen: Sequence[Member], data: Data, epochs: int) -> Outcome:
    """All trials on the expert's processes, the longest first."""
    from benchmarks import expert

    jobs = slowest_first(chosen)
    started = time.perf_counter()
    accuracy = dict(pool.map(expert.expert_job, jobs, [data] * len(jobs), [epochs] * len(jobs)))
    return Outcome(seconds=time.perf_counter() - started, accuracy=accuracy)


def compared(outcomes: dict[str, list[Outcome]], tolerance: float) -> Table:
    """Accuracies side by side on the same trials after the same epochs; a failure where one isn't ours."""
    table = Table("The same work: mean validation accuracy after as many epochs as the contender trained")
    wrong = []
    for name, runs in outcomes.items():
        theirs, ours = [], []
        for outcome, reference in zip(runs, outcomes[OURS], strict=True):
            for number, values in outcome.accuracy.items():
                theirs.append(values[-1])
                ours.append(reference.accuracy[number][len(values) - 1])
        mean, expected = statistics.mean(theirs), statistics.mean(ours)
        table.add(contender=name, accuracy=mean, searchlib=expected, difference=mean - expected, trials=len(theirs))
        if not abs(mean - expected) <= tolerance:
            wrong.append(f"{name} reaches {mean:.4f}, searchlib {expected:.4f}")
    if wrong:
        table.failure = f"{'; '.join(wrong)}: more than {tolerance} apart, so they did other work"
    return table
