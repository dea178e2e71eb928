"""What a report is made from: read from Optuna and MLflow, once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from searchlib.analysis import (
    Findings,
    PublishedFinding,
    analyze,
    beside_published,
    claimed_or_leading,
    outcome,
    published_runs,
)
from searchlib.data import get_dataset
from searchlib.errors import DataError, StudyError, TrackingError
from searchlib.report.networks import (
    ActivationCurve,
    Decision,
    FittedCurves,
    LayerWeights,
    Networks,
    Predictions,
    activation_curves,
    best_stored,
    decisions,
    fitted_curves,
    predicted,
)
from searchlib.stores import StoredStudy, Stores, Tracker, without_autologging
from searchlib.study import MLP, Choice, IntUniform, LogUniform, Study, encode

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MOST_CELLS = 12  # whose networks are shown
NO_CHAMPION = "No champion's weights are stored."

History: TypeAlias = Mapping[str, Sequence[tuple[int, float]]]
"""The metrics of a run by name, as (step, value) in order of the steps."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A finished trial of the search, or a replicate.

    cell: its position in ``findings.cells``. params: what was searched. replicate, source: of a replicate its number
    and the search trial that it repeats.
    """

    cell: int | None
    trial: int
    params: Mapping[str, Any]
    value: float | None
    outcome: str
    diagnosis: Sequence[str] = ()
    run_id: str = ""
    seed: int | None = None
    replicate: int | None = None
    source: int | None = None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A numeric nuisance dimension in a figure. log: logarithmic. discrete: its values are few and given."""

    log: bool
    discrete: bool


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The champion's trial of the search, its replicate (None: the trial itself) and its run in MLflow."""

    trial: int
    replicate: int | None
    run_id: str

    def __str__(self) -> str:
        replicate = f", replicate {self.replicate}" if self.replicate else ""
        return f"trial {self.trial}{replicate}, MLflow run {self.run_id}"


@dataclass(kw_only=True)
class Material:
    """All that a report is made from; ``gather`` fills it in.

    definition: the study's, as JSON. axes: of the numeric nuisance dimensions. classes: () for a regression. target:
    trials wanted. run_id: of the MLflow parent run, with its *tags*. points: the finished trials of the search;
    replicates: those of the replicates. activations: by name.
    histories: of each cell's best search trial, by the position of the cell. weights: of the champion, by layer;
    cell_weights: of each cell's best stored network, by the position of the cell, of MOST_CELLS cells. fits: of a
    regression. decisions: of a classifier of images. champion_note: how it is stored, if not as a program. gaps: why
    something of this is missing, by its name.
    """

    findings: Findings
    published: Sequence[PublishedFinding]
    definition: Mapping[str, Any]
    fixed: Mapping[str, Any]
    axes: Mapping[str, Axis]
    classes: tuple[str, ...]
    target: int
    run_id: str
    points: Sequence[Point]
    replicates: Sequence[Point]
    activations: Mapping[str, ActivationCurve]
    tags: Mapping[str, str] = field(default_factory=dict)
    histories: Mapping[int, History] = field(default_factory=dict)
    champion: Champion | None = None
    weights: Sequence[LayerWeights] = ()
    cell_weights: dict[int, Sequence[LayerWeights]] = field(default_factory=dict)
    fits: FittedCurves | Predictions | None = None
    decisions: Sequence[Decision] = ()
    champion_note: str = ""
    gaps: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What ``statistics`` gives."""
        return _as_json(self.findings, self.published)


def _as_json(findings: Findings, published: Sequence[PublishedFinding]) -> dict[str, Any]:
    return {**findings.to_json(), "published": [one.to_json() for one in published]}


@contextlib.contextmanager
def opened(study: Study, stores: Stores) -> Iterator[Callable[[], Tracker]]:
    """A function that opens MLflow when it is first called, once. It raises TrackingError where MLflow can't be."""
    with contextlib.ExitStack() as held:
        yield functools.cache(lambda: held.enter_context(Tracker(study, stores)))


@without_autologging()
def statistics(study: Study, stores: Stores, stored: StoredStudy | None = None) -> dict[str, Any]:
    """What ``report --json`` prints: the findings and ``published``, a list, as plain JSON."""
    stored = stored or stores.read(study)
    findings = analyze(study, stored)
    with opened(study, stores) as tracker:
        return _as_json(findings, _published(study, findings, stored, tracker))


def _published(
    study: Study, findings: Findings, stored: StoredStudy, tracker: Callable[[], Tracker]
) -> Sequence[PublishedFinding]:
    histories: Mapping[str, History] = {}
    gap = ""
    if wanted := published_runs(study, findings, stored.replicates):
        try:
            histories = tracker().histories(wanted, sorted({one.metric for one in study.published}))
        except TrackingError as error:
            gap = f"MLflow doesn't give the curves: {error}"
    return beside_published(study, findings, stored.replicates, histories, gap)


@without_autologging()
def gather(
    study: Study,
    stores: Stores,
    stored: StoredStudy | None = None,
    tracker: Callable[[], Tracker] | None = None,
) -> Material:
    """Read all that the report of *study* shows. Creates nothing in Optuna's storage, and opens no test file.

    The training data are read for the champion's decisions on the validation split and for initializers that look at
    data; they are never downloaded.
    stored: what ``stores`` hold of the study, if that has been read. tracker: of ``opened``, if MLflow is in use.
    """
    if tracker is None:
        with opened(study, stores) as tracker:
            return gather(study, stores, stored, tracker)
    stored = stored or stores.read(study)
    findings = analyze(study, stored)
    positions = {tuple(cell.scientific.items()): index for index, cell in enumerate(findings.cells)}
    curves, without = activation_curves(study, findings.cells)
    material = Material(
        findings=findings,
        published=_published(study, findings, stored, tracker),
        definition=study.definition(),
        fixed={key: encode(value) for key, value in study.fixed.items()},
        axes=_numeric_axes(study),
        classes=get_dataset(study.dataset).classes,
        target=stored.target or study.trials,
        run_id=stored.run_id,
        points=[_point(study, trial, positions) for trial in stored.trials if trial.state.is_finished()],
        replicates=[_point(study, trial, positions) for trial in stored.replicates if trial.state.is_finished()],
        activations=curves,
        champion_note=stored.champion_note,
    )
    if without:
        material.gaps["activations"] = (
            f"No curve, saturated or dead share is given for {', '.join(without)}: what a unit gives there depends on "
            "other units, other examples or random numbers."
        )
    if stored.trials:
        _read_runs(study, stored, tracker, material)
    return material


def _numeric_axes(study: Study) -> dict[str, Axis]:
    axes = {}
    for name, dimension in study.nuisance.items():
        ends = dimension.extremes()
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in ends):
            continue
        discrete = isinstance(dimension, Choice) and len(ends) <= 8
        log = isinstance(dimension, LogUniform) or (isinstance(dimension, IntUniform) and dimension.log)
        wide = discrete and min(ends) > 0 and max(ends) / min(ends) >= 4
        axes[name] = Axis(log=log or wide, discrete=discrete)
    return axes


def _point(study: Study, trial: FrozenTrial, positions: Mapping[Any, int]) -> Point:
    attributes = trial.user_attrs
    return Point(
        cell=positions.get(study.cell_of(trial.params)),
        trial=trial.number,
        params={name: value for name, value in trial.params.items() if name != "replicate"},
        value=trial.values[0] if trial.values else None,
        outcome=outcome(trial),
        diagnosis=attributes.get("diagnosis", ()),
        run_id=attributes.get("mlflow_run_id", ""),
        seed=attributes.get("seed"),
        replicate=trial.params.get("replicate"),
        source=attributes.get("source"),
    )


def _read_runs(study: Study, stored: StoredStudy, tracker: Callable[[], Tracker], material: Material) -> None:
    """Fill in what MLflow holds. A run or checkpoint that it lost leaves a gap, not an error."""
    runs = {point.trial: point.run_id for point in material.points}
    try:
        if material.run_id:
            material.tags = tracker().tags(material.run_id)
        best = {
            index: run_id
            for index, cell in enumerate(material.findings.cells)
            if cell.trial is not None and (run_id := runs.get(cell.trial))
        }
        histories = tracker().histories(list(best.values()))
        material.histories = {index: histories[run_id] for index, run_id in best.items()}
        leader = claimed_or_leading(study, stored)
        if leader is None or not leader.user_attrs.get("checkpoint_sha256"):
            for part in ("weights", "fits", "decisions"):
                material.gaps[part] = NO_CHAMPION
        else:
            _read_networks(
                [*stored.trials, *stored.replicates], leader, Networks(study, tracker(), stored.attributes), material
            )
    except TrackingError as error:
        for part in ("weights", "histories", "fits", "decisions"):
            if not getattr(material, part):
                material.gaps.setdefault(part, f"MLflow doesn't give them: {error}.")


def _read_networks(trials: Sequence[FrozenTrial], leader: FrozenTrial, networks: Networks, material: Material) -> None:
    """Fill in what is shown of the champion, *leader*, and of the best stored network of each of the leading cells."""
    champion = Champion(
        trial=leader.user_attrs.get("source", leader.number),
        replicate=leader.params.get("replicate"),
        run_id=leader.user_attrs["mlflow_run_id"],
    )
    material.champion = champion
    initial = True
    try:
        material.weights = networks.weights(leader)
    except (DataError, OSError) as error:
        initial = False
        material.gaps["initial weights"] = (
            f"The initial weights aren't drawn: the initializer looks at training data, which can't be read ({error})."
        )
        material.weights = networks.weights(leader, initial=False)
    except StudyError as error:
        material.gaps["weights"] = f"The champion's weights can't be read: {error}."
    direction = networks.study.direction
    if not isinstance(networks.study.model, MLP):
        material.gaps["initial weights"] = "The initial weights of a module of the study's own aren't stored."
    chosen: dict[int, FrozenTrial] = {}
    for index, cell in enumerate(material.findings.cells):
        picked = {pick.trial for pick in cell.picks}
        own = [trial for trial in trials if trial.user_attrs.get("source", trial.number) in picked]
        network = leader if champion.trial in picked else best_stored(own, direction)
        if network is None or len(chosen) == MOST_CELLS:
            continue
        with contextlib.suppress(StudyError, TrackingError):  # that one is lost
            if weights := networks.weights(network, initial=initial):
                material.cell_weights[index] = weights
            chosen[index] = network
    dataset = networks.dataset
    try:
        if dataset.task == "classification":
            material.decisions = decisions(networks, leader)
        elif dataset.inputs == dataset.outputs == 1:
            material.fits = fitted_curves(networks, chosen, leader)
        else:
            material.fits = predicted(networks, leader)
    except (DataError, OSError) as error:
        for part in ("fits", "decisions"):
            material.gaps[part] = f"The training data, of which the validation split is a part, can't be read: {error}."
    except StudyError as error:
        for part in ("fits", "decisions"):
            material.gaps[part] = f"The champion can't be run again: {error}."
