"""What a report shows of networks: activations, and of checkpoints weights, fitted curves and single decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from searchlib.analysis import CellFinding, drawn_split, r_squared, split_of
from searchlib.data import FunctionPart, Split, get_dataset, picture
from searchlib.errors import DataError
from searchlib.networks import get_activation, get_initializer
from searchlib.stores import Tracker
from searchlib.study import MLP, Study, TrialConfig, encode
from searchlib.training import initialize, layer_sizes, restore

if TYPE_CHECKING:
    import torch
    from optuna.trial import FrozenTrial

BINS = 60  # of a weight histogram
GRID = 400  # points of a fitted curve
POINTS = 300  # examples beside it
PAIRS = 2000  # of a prediction and its target
BLOCK = 1000  # examples at once
SIDE = 64  # pixels of a picture


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """Histograms of the weights of one layer: n densities between n + 1 *edges*, after training and before it.

    name: with that of the parameter; label: without. before: None where the initial weights aren't known.
    """

    name: str
    label: str
    edges: list[float]
    after: list[float]
    before: list[float] | None


@dataclass(frozen=True, kw_only=True)
class ActivationCurve:
    """An activation function, phi(x), with its derivative, *slope*."""

    x: list[float]
    value: list[float]
    slope: list[float]


@dataclass(frozen=True, kw_only=True)
class FittedCurves:
    """A regression of one input. curves: what the network of each cell, by its position, gives at *x*.

    function: its values at *x*; None where the data set knows none. points: a few validation examples, as (inputs,
    targets). r2: of the champion on all of them; None where the targets don't vary.
    """

    x: list[float]
    function: list[float] | None
    points: tuple[list[float], list[float]]
    curves: dict[int, list[float]]
    r2: float | None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A regression of more inputs: the champion's predictions for some validation examples. r2: on all of them."""

    target: list[float]
    prediction: list[float]
    r2: float | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The champion on one validation image.

    what: why it is shown. index: in the validation split. image: rows of grey values from 0 to 1. truth: the true
    class. soft: the soft decision, by class.
    """

    what: str
    index: int
    image: list[list[float]]
    truth: int
    soft: list[float]


class Networks:
    """The trained networks of one study, read when they are asked for, each once.

    noted: the user attributes of its Optuna study. A checkpoint that MLflow lost is a TrackingError; training data that
    aren't there, which are never fetched, or have changed are a DataError.
    """

    def __init__(self, study: Study, tracker: Tracker, noted: Mapping[str, Any] | None = None) -> None:
        self.study, self.tracker, self.noted = study, tracker, noted
        self.dataset = get_dataset(study.dataset)
        self._contents: dict[str, bytes] = {}
        self._weights: dict[tuple[str, bool], list[LayerWeights]] = {}

    def _content(self, trial: FrozenTrial) -> bytes:
        run_id = trial.user_attrs["mlflow_run_id"]
        if run_id not in self._contents:
            self._contents[run_id] = self.tracker.checkpoint(run_id)
        return self._contents[run_id]

    def _config(self, trial: FrozenTrial) -> TrialConfig:
        return self.study.config({name: value for name, value in trial.params.items() if name != "replicate"})

    @cached_property
    def _split(self) -> Split:
        return self.tracker.stores.examples(self.study, self.noted, fetch=False)

    def examples(self, trial: FrozenTrial) -> Split:
        """The data as *trial* had them."""
        return drawn_split(self.study, self._split, split_of(self.study, trial))

    def _network(self, trial: FrozenTrial, *, classify: bool = False) -> torch.nn.Module:
        content, config = self._content(trial), self._config(trial)
        return restore(content, self.study.model, config, self.dataset, classify=classify)

    def outputs(self, trial: FrozenTrial, inputs: torch.Tensor, *, classify: bool = False) -> torch.Tensor:
        """What the network of the trial's best epoch gives for raw *inputs*; with *classify*, its soft decisions."""
        import torch

        from searchlib.training.elementwise import drawing_in_evaluation

        network = self._network(trial, classify=classify)
        with torch.no_grad(), drawing_in_evaluation():
            return torch.cat([network(block) for block in inputs.split(BLOCK)])

    def weights(self, trial: FrozenTrial, *, initial: bool = True) -> list[LayerWeights]:
        """Histograms of the layers' weights after training and, with *initial*, before it."""
        key = trial.user_attrs["mlflow_run_id"], initial
        if key not in self._weights:
            self._weights[key] = self._histograms(trial, initial)
        return self._weights[key]

    def _histograms(self, trial: FrozenTrial, initial: bool) -> list[LayerWeights]:
        import torch

        from searchlib.training.filling import matrices

        network = self._network(trial)
        assert isinstance(network.module, torch.nn.Module)
        after = matrices(network.module)
        before = self.initial_weights(self._config(trial), trial.user_attrs["seed"], trial) if initial else {}
        layers = []
        for number, name in enumerate(after, start=1):
            label = "output layer" if number == len(after) else f"layer {number}"
            layers.append(histogram(f"{label} ({name})", label, after[name], before.get(name)))
        return layers

    def initial_weights(self, config: TrialConfig, seed: int, trial: FrozenTrial | None) -> dict[str, torch.Tensor]:
        """The weights that the trial started from, drawn again as its stack drew them; {} for a module of the study's.

        trial: the one whose data an initializer sees that looks at data; None is the search's own.
        """
        import torch

        from searchlib.training.loop import prepare

        if not isinstance(self.study.model, MLP):
            return {}
        probe = torch.empty(0, self.dataset.inputs)
        if get_initializer(config.initializer).reads_data:
            examples = self.examples(trial) if trial else self._split
            probe = prepare(examples, self.dataset, config.input_scaling).probe
        layers = initialize(
            config,
            layer_sizes(config, self.dataset.inputs, self.dataset.outputs),
            generator=torch.Generator().manual_seed(seed),
            probe=probe,
            dtype=torch.float32,
        )
        return {f"linear{index}.weight": weight for index, (weight, _) in enumerate(layers)}


def histogram(name: str, label: str, after: torch.Tensor, before: torch.Tensor | None) -> LayerWeights:
    """Densities over common bins, fewer for small layers."""
    import numpy as np

    both = [after.double().flatten().numpy()] + ([] if before is None else [before.double().flatten().numpy()])
    low, high = min(values.min() for values in both), max(values.max() for values in both)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, min(BINS, max(10, 2 * round(after.numel() ** 0.5))) + 1)
    densities = [np.histogram(values, edges, density=True)[0].tolist() for values in both]
    return LayerWeights(
        name=name,
        label=label,
        edges=edges.tolist(),
        after=densities[0],
        before=densities[1] if before is not None else None,
    )


def fitted_curves(networks: Networks, chosen: Mapping[int, FrozenTrial], leader: FrozenTrial) -> FittedCurves:
    """A regression of one input. chosen: the network of each cell. leader: the champion."""
    import torch

    examples = networks.examples(leader)
    part = networks.dataset.train
    known = part if isinstance(part, FunctionPart) else None
    inputs = examples.train.inputs
    low, high = (known.low, known.high) if known else (float(inputs.min()), float(inputs.max()))
    x = (low + (high - low) * (torch.arange(GRID) + 0.5) / GRID).view(-1, *networks.dataset.shape)
    try:
        function = known.values(x).flatten().tolist() if known else None
    except DataError:  # it isn't defined everywhere between the examples
        function = None
    step = -(-len(examples.validation) // POINTS)
    return FittedCurves(
        x=x.flatten().tolist(),
        function=function,
        points=(
            examples.validation.inputs[::step].flatten().tolist(),
            examples.validation.targets[::step].flatten().tolist(),
        ),
        curves={index: networks.outputs(trial, x).flatten().tolist() for index, trial in chosen.items()},
        r2=r_squared(networks.outputs(leader, examples.validation.inputs), examples.validation.targets),
    )


def predicted(networks: Networks, leader: FrozenTrial) -> Predictions:
    """A regression of more inputs. leader: the champion."""
    examples = networks.examples(leader).validation
    outputs = networks.outputs(leader, examples.inputs)
    step = -(-outputs.numel() // PAIRS)
    return Predictions(
        target=examples.targets.flatten()[::step].tolist(),
        prediction=outputs.flatten()[::step].tolist(),
        r2=r_squared(outputs, examples.targets),
    )


def decisions(networks: Networks, leader: FrozenTrial) -> list[Decision]:
    """Validation images with the soft decisions of the *leader*, the champion: one right, the most confidently wrong,
    the least sure.

    [] where the data set isn't one of grey images. The wrong one is left out where none is, and so is the right one.
    """
    import torch

    dataset = networks.dataset
    if not picture(dataset, torch.zeros(dataset.shape)):
        return []
    examples = networks.examples(leader).validation
    soft = networks.outputs(leader, examples.inputs, classify=True)
    sure, choice = soft.max(dim=1)
    right = choice == examples.targets
    found: list[tuple[str, int]] = []
    if right.any():
        order = sure.masked_fill(~right, 2.0).argsort(stable=True)
        found.append(("right, of middling certainty", int(order[int(right.sum()) // 2])))
    if not right.all():
        found.append(("most confidently wrong", int(sure.masked_fill(right, -1.0).argmax())))
    for index in sure.argsort(stable=True).tolist():
        if index not in [known for _, known in found]:
            found.append(("least sure", index))
            break
    return [
        Decision(
            what=what,
            index=index,
            image=picture(dataset, examples.inputs[index], most=SIDE),
            truth=int(examples.targets[index]),
            soft=soft[index].tolist(),
        )
        for what, index in found
    ]


def best_stored(trials: Sequence[FrozenTrial], direction: str) -> FrozenTrial | None:
    """The best of *trials* that has a checkpoint; of equal ones the first."""
    stored = [trial for trial in trials if trial.values and trial.user_attrs.get("checkpoint_sha256")]
    if not stored:
        return None
    return (max if direction == "maximize" else min)(stored, key=lambda trial: trial.values[0])


def activation_curves(study: Study, cells: Sequence[CellFinding]) -> tuple[dict[str, ActivationCurve], list[str]]:
    """The activations of the study's cells by name (of each cell's best configuration, where they are tuned), and the
    names of those that have no curve, since they aren't element-wise.
    """
    import torch

    configs: dict[str, TrialConfig] = {}
    for cell in cells:
        config = study.config({**cell.scientific, **cell.nuisance}) if cell.trial is not None else None
        if config is not None and config.widths:
            configs.setdefault(str(encode(config.activation)), config)
    curves, without = {}, []
    x = torch.linspace(-4.0, 4.0, 161, dtype=torch.float64)
    for name, config in sorted(configs.items()):
        activation = get_activation(config.activation)
        if activation.is_elementwise(config.widths, **config.activation_fields):
            y, slope = activation.curve(x, **config.activation_fields)
            curves[name] = ActivationCurve(x=x.tolist(), value=y.tolist(), slope=slope.tolist())
        else:
            without.append(name)
    return curves, without
