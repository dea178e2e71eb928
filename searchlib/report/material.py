"""What a report is made from, read from Optuna and MLflow once and kept as plain data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from searchlib.analysis import analyze, claimed_or_leading, mean_interval, outcome, prediction_interval
from searchlib.data import get_dataset
from searchlib.errors import DataError, StudyError, TrackingError
from searchlib.report.networks import Networks, best_stored, decisions, fitted_curves, predicted
from searchlib.stores import StoredStudy, Stores, Tracker
from searchlib.study import MLP, Choice, IntUniform, LogUniform, encode
from searchlib.text import describe

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from searchlib.analysis import CellFinding, Findings
    from searchlib.study import Published, Study, TrialConfig

__all__ = ["Material", "gather", "statistics"]

MOST_CELLS = 12  # of which the networks are shown


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that a report is made from, as plain data.

    findings: what ``analysis.analyze`` made of the trials. data: what ``statistics`` returns, the same as plain JSON.
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
    """What ``report --json`` prints: the object of ``analysis.analyze`` and ``published``, a list.

    Each entry puts a published figure beside the replicates of its cell. source, label (of the cell), cell, metric,
    step, published and note are the study's (a step that isn't given is filled in where all replicates end at the
    same). n replicates give mean, sd, low and high (95 % t interval of the mean), predicted_low and predicted_high
    (95 % prediction interval of one further seed), inside: whether the published figure lies in the latter. Where
    that can't be said, these are null and ``reason`` says why. All this is of those that didn't diverge;
    diverged is the number of those that did.
    """
    stored = stored or stores.read(study)
    return _as_json(study, analyze(study, stored), stores, stored)


def _as_json(study: Study, findings: Findings, stores: Stores, stored: StoredStudy) -> dict[str, Any]:
    return {**findings.to_json(), "published": _published(study, findings, stores, stored)}


def _published(study: Study, findings: Findings, stores: Stores, stored: StoredStudy) -> list[dict[str, Any]]:
    cells = {tuple(cell.scientific.items()): cell for cell in findings.cells}
    rows: list[tuple[Published, CellFinding | None, list[str], int]] = []
    for one in study.published:
        cell = cells.get(tuple((study.published_cell(one) or {}).items()))
        counted = [
            trial
            for trial in stored.replicates
            if cell and trial.user_attrs.get("source") == cell.trial and trial.params["replicate"] in cell.values
        ]
        runs = [trial.user_attrs.get("mlflow_run_id", "") for trial in counted if outcome(trial) == "completed"]
        diverged = sum(outcome(trial) == "diverged" for trial in counted)
        rows.append((one, cell, list(filter(None, runs)), diverged))
    histories: dict[str, Any] = {}
    gap = ""
    if wanted := sorted({run_id for _, _, runs, _ in rows for run_id in runs}):
        try:
            with Tracker(study, stores) as tracker:
                histories = tracker.histories(wanted, sorted({one.metric for one in study.published}))
        except TrackingError as error:
            gap = f"MLflow doesn't give the curves: {error}"
    return [
        _beside(study, one, cell, [histories.get(run_id, {}) for run_id in runs], diverged, gap)
        for one, cell, runs, diverged in rows
    ]


def _beside(
    study: Study,
    one: Published,
    cell: CellFinding | None,
    histories: Sequence[Mapping[str, Sequence[tuple[int, float]]]],
    diverged: int,
    gap: str,
) -> dict[str, Any]:
    """One entry of ``published``."""
    curves = [dict(history[one.metric]) for history in histories if history.get(one.metric)]
    steps = {max(curve) for curve in curves}
    step = next(iter(steps)) if one.step is None and len(steps) == 1 else one.step
    values = [curve[max(curve) if one.step is None else one.step] for curve in curves if one.step in (None, *curve)]
    mean, deviation, low, high = mean_interval(values) if values else (None, None, None, None)
    predicted = prediction_interval(values)
    at = "" if step is None else f" at step {step}"
    reason = gap
    if not gap and len(values) < 2:
        reason = "the cell has no finished trial"
        if cell:
            reason = f"{len(histories)} of its replicates completed; an interval needs 2"
            if not cell.values:
                reason = "no look of the replicates is complete" if study.replicates else "the study has no replicates"
        if len(histories) >= 2:
            found = [str(step) for step in sorted(curves[0])] if curves else []
            shown = [*found[:3], "...", found[-1]] if len(found) > 5 else found
            there = f"; they have it at {', '.join(shown)}" if found else ""
            reason = f"{len(values)} of its {len(histories)} replicates have {one.metric}{at}{there}"
    return {
        "source": one.source,
        "label": cell.label if cell else describe(study.published_cell(one) or {}) or "all trials",
        "cell": study.published_cell(one) or {},
        "metric": one.metric,
        "step": step,
        "published": float(one.value),
        "n": len(values),
        "diverged": diverged,
        "mean": mean,
        "sd": deviation,
        "low": low,
        "high": high,
        "predicted_low": predicted and predicted[0],
        "predicted_high": predicted and predicted[1],
        "inside": predicted and predicted[0] <= one.value <= predicted[1],
        "note": one.note,
        "reason": reason,
    }


def gather(study: Study, stores: Stores, stored: StoredStudy | None = None) -> Material:
    """Read all that the report of *study* shows. Creates nothing in Optuna's storage, and opens no test file.

    The training data serve for the champion's decisions on some of its validation part and for initializers that look
    at data; they aren't fetched.
    """
    stored = stored or stores.read(study)
    findings = analyze(study, stored)
    positions = {tuple(cell.scientific.items()): index for index, cell in enumerate(findings.cells)}
    dataset = get_dataset(study.dataset)
    material = Material(
        findings=findings,
        data=_as_json(study, findings, stores, stored),
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
