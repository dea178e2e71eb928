"""What a report is made from, read from Optuna and MLflow once and kept as plain data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from searchlib.analysis import analyze, beside_published, claimed_or_leading, outcome, published_runs
from searchlib.data import get_dataset
from searchlib.errors import DataError, StudyError, TrackingError
from searchlib.report.networks import Networks, best_stored, decisions, fitted_curves, predicted
from searchlib.stores import StoredStudy, Stores, Tracker
from searchlib.study import MLP, Choice, IntUniform, LogUniform, encode

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from searchlib.analysis import CellFinding, Findings, PublishedFinding
    from searchlib.study import Study, TrialConfig

__all__ = ["Material", "gather", "statistics"]

MOST_CELLS = 12  # of which the networks are shown


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that a report is made from, as plain data.

    findings, published: what ``analysis`` made of the trials. data: the same as ``statistics`` gives it, plain JSON.
    points: the finished search trials: ``cell`` (position in findings.cells), ``trial``, ``params``, ``value``,
    ``outcome``, ``diagnosis``, ``run_id``, ``seed``. replicates: the same of the replicates, with ``replicate`` and
    ``source`` (the search trial that they repeat).
    histories: position of a cell -> the metrics of its best search trial's run.
    weights: histograms of the champion's layers, for ``network_figures.weight_histograms``; champion: which run.
    cell_weights: the same by position of a cell, of its best network that is stored, for MOST_CELLS cells. fits: of a
    regression, as ``networks.fitted_curves`` or ``networks.predicted`` gives them. decisions: of the champion on single
    images, as ``networks.decisions`` gives them.
    activations: name -> (x, phi(x), phi'(x)).
    tags: of the MLflow parent run. target: trials wanted. gaps: why something of this is missing, by its name.
    """

    findings: Findings
    published: tuple[PublishedFinding, ...]
    data: dict[str, Any]
    definition: dict[str, Any]
    fixed: dict[str, Any]
    axes: dict[str, dict[str, bool]]
    classes: tuple[str, ...]
    target: int
    run_id: str = ""
    points: list[dict[str, Any]] = field(default_factory=list)
    replicates: list[dict[str, Any]] = field(default_factory=list)
    histories: dict[int, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    weights: list[dict[str, Any]] = field(default_factory=list)
    cell_weights: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    champion: dict[str, Any] = field(default_factory=dict)
    fits: dict[str, Any] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    activations: dict[str, tuple[list[float], list[float], list[float]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)


def statistics(study: Study, stores: Stores, stored: StoredStudy | None = None) -> dict[str, Any]:
    """What ``report --json`` prints: the findings and ``published``, a list, as plain JSON."""
    stored = stored or stores.read(study)
    findings = analyze(study, stored)
    return _as_json(findings, _published(study, findings, stores, stored))


def _as_json(findings: Findings, published: Sequence[PublishedFinding]) -> dict[str, Any]:
    return {**findings.to_json(), "published": [one.to_json() for one in published]}


def _published(study: Study, findings: Findings, stores: Stores, stored: StoredStudy) -> tuple[PublishedFinding, ...]:
    histories: dict[str, Any] = {}
    gap = ""
    if wanted := published_runs(study, findings, stored.replicates):
        try:
            with Tracker(study, stores) as tracker:
                histories = tracker.histories(wanted, sorted({one.metric for one in study.published}))
        except TrackingError as error:
            gap = f"MLflow doesn't give the curves: {error}"
    return beside_published(study, findings, stored.replicates, histories, gap)


def gather(study: Study, stores: Stores, stored: StoredStudy | None = None) -> Material:
    """Read all that the report of *study* shows. Creates nothing in Optuna's storage, and opens no test file.

    The training data serve for the champion's decisions on some of its validation part and for initializers that look
    at data; they aren't fetched.
    """
    stored = stored or stores.read(study)
    findings = analyze(study, stored)
    published = _published(study, findings, stores, stored)
    positions = {tuple(cell.scientific.items()): index for index, cell in enumerate(findings.cells)}
    dataset = get_dataset(study.dataset)
    material = Material(
        findings=findings,
        published=published,
        data=_as_json(findings, published),
        definition=study.definition(),
        fixed={key: encode(value) for key, value in study.fixed.items()},
        axes=_numeric_axes(study),
        classes=dataset.classes,
        target=stored.target or study.trials,
        run_id=stored.run_id,
        points=[_point(study, trial, positions) for trial in stored.trials if trial.state.is_finished()],
        replicates=[_point(study, trial, positions) for trial in stored.replicates if trial.state.is_finished()],
        activations=_activation_curves(study, findings.cells),
    )
    if stored.trials:
        _read_runs(study, stores, stored, material)
    return material


def _numeric_axes(study: Study) -> dict[str, dict[str, bool]]:
    """The numeric nuisance dimensions: whether the axis is logarithmic, and whether the values are few and given."""
    axes = {}
    for name, dimension in study.nuisance.items():
        ends = dimension.extremes()
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in ends):
            continue
        discrete = isinstance(dimension, Choice) and len(ends) <= 8
        log = isinstance(dimension, LogUniform) or (isinstance(dimension, IntUniform) and dimension.log)
        axes[name] = {"log": log or (discrete and min(ends) > 0 and max(ends) / min(ends) >= 4), "discrete": discrete}
    return axes


def _point(study: Study, trial: FrozenTrial, positions: Mapping[Any, int]) -> dict[str, Any]:
    attributes = trial.user_attrs
    return {
        "cell": positions.get(study.cell_of(trial.params)),
        "trial": trial.number,
        "params": {name: value for name, value in trial.params.items() if name != "replicate"},
        "value": trial.values[0] if trial.values else None,
        "outcome": outcome(trial),
        "diagnosis": attributes.get("diagnosis", []),
        "run_id": attributes.get("mlflow_run_id", ""),
        "seed": attributes.get("seed"),
        "replicate": trial.params.get("replicate"),
        "source": attributes.get("source"),
    }


def _read_runs(study: Study, stores: Stores, stored: StoredStudy, material: Material) -> None:
    """Fill in what MLflow holds. A run or checkpoint that it lost leaves a gap, not an error."""
    runs = {point["trial"]: point["run_id"] for point in material.points}
    try:
        with Tracker(study, stores) as tracker:
            if material.run_id:
                material.tags.update(tracker.tags(material.run_id))
            best = {
                index: run_id
                for index, cell in enumerate(material.findings.cells)
                if cell.trial is not None and (run_id := runs.get(cell.trial))
            }
            histories = tracker.histories(list(best.values()))
            material.histories.update({index: histories[run_id] for index, run_id in best.items()})
            leader = claimed_or_leading(study, stored)
            if leader is None or not leader.user_attrs.get("checkpoint_sha256"):
                for part in ("weights", "fits", "decisions"):
                    material.gaps[part] = "No champion's weights are stored."
            else:
                _read_networks(study, [*stored.trials, *stored.replicates], leader, Networks(study, tracker), material)
    except TrackingError as error:
        for part in ("weights", "histories", "fits", "decisions"):
            if not getattr(material, part):
                material.gaps.setdefault(part, f"MLflow doesn't give them: {error}.")


def _read_networks(
    study: Study, trials: Sequence[FrozenTrial], leader: FrozenTrial, networks: Networks, material: Material
) -> None:
    """What is shown of the champion, and of the best network that each of the leading cells has."""
    champion_of = leader.user_attrs.get("source", leader.number)
    material.champion.update(
        trial=champion_of, replicate=leader.params.get("replicate"), run_id=leader.user_attrs["mlflow_run_id"]
    )
    initial = True
    try:
        material.weights.extend(networks.weights(leader))
    except (DataError, OSError) as error:
        initial = False
        material.gaps["initial weights"] = (
            f"The initial weights aren't drawn: the initializer looks at training data, which can't be read ({error})."
        )
        material.weights.extend(networks.weights(leader, initial=False))
    if not isinstance(study.model, MLP):
        material.gaps["initial weights"] = "The initial weights of a module of the study's own aren't stored."
    chosen: dict[int, FrozenTrial] = {}
    for index, cell in enumerate(material.findings.cells):
        own = [trial for trial in trials if trial.user_attrs.get("source", trial.number) == cell.trial]
        network = leader if cell.trial == champion_of else best_stored(own, study.direction)
        if network is None or len(chosen) == MOST_CELLS:
            continue
        with contextlib.suppress(TrackingError):  # that one is lost
            layers = networks.weights(network, initial=initial)
            chosen[index] = network
            material.cell_weights[index] = layers
    dataset = networks.dataset
    try:
        if dataset.task == "classification":
            material.decisions.extend(decisions(networks, leader))
        elif dataset.inputs == dataset.outputs == 1:
            material.fits.update(fitted_curves(networks, chosen, leader))
        else:
            material.fits.update(predicted(networks, leader))
    except (DataError, OSError) as error:
        for part in ("fits", "decisions"):
            material.gaps[part] = f"The training data, of which the validation split is a part, can't be read: {error}."
    except StudyError as error:
        for part in ("fits", "decisions"):
            material.gaps[part] = f"The champion can't be run again: {error}."


def _activation_curves(
    study: Study, cells: Sequence[CellFinding]
) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """The activations of the study's cells (of the best cell's configuration, where it is no scientific dimension)."""
    import torch

    configs: dict[str, TrialConfig] = {}
    for cell in cells:
        config = study.config({**cell.scientific, **cell.nuisance}) if cell.trial is not None else None
        if config is not None and config.widths:
            configs.setdefault(str(encode(config.activation)), config)
    curves = {}
    for name in sorted(configs):
        x = torch.linspace(-4.0, 4.0, 161, dtype=torch.float64).requires_grad_()
        with torch.enable_grad():
            y = configs[name].build_activation().eval().double()(x)
            (slope,) = torch.autograd.grad(y.sum(), x)
        curves[name] = (x.detach().tolist(), y.detach().tolist(), slope.tolist())
    return curves
