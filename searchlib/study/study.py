"""A study: one question, its search space and its budget, checked on construction; and its identity."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from searchlib.data import Dataset, get_dataset
from searchlib.errors import StudyError
from searchlib.networks import OPTIMIZERS
from searchlib.seeds import derive_seed
from searchlib.study.config import FIELDS, TrialConfig, check_condition, check_field
from searchlib.study.datasets import NAME, NAME_RULE, check_datasets
from searchlib.study.model import MLP, ModuleFactory
from searchlib.study.pruners import PRUNERS
from searchlib.study.published import Published, check_published
from searchlib.study.samplers import SAMPLERS, get_sampler
from searchlib.study.searches import check_searches, check_target
from searchlib.study.space import (
    MOST_VALUES,
    Dimension,
    Primitive,
    corners,
    encode,
    enumerate_points,
    is_named,
    more_than,
)
from searchlib.text import is_legible, unknown_name

ROLES = ("scientific", "nuisance", "fixed")
COUPLED = {  # hyperparameters whose combination TrialConfig may refuse
    *("depth", "hidden", "init_high", "init_low", "optimizer", "width"),
    *(name for optimizer in OPTIMIZERS.values() for pair in optimizer.needs.items() for name in pair),
}
LATER = ("modules", "range", "statements")  # of a definition: earlier versions stored none
MOST_CELLS, MOST_POINTS = 10_000, 100_000  # of a comparison, and of a grid


WHOLE_NUMBERS = (  # fields of a study, with their least and their most: whatever is stored or seeded has room for those
    ("trials", 1, 10**9),
    ("replicates", 0, 10**6),
    ("searches", 1, 10**3),
    ("round_size", 1, 10**6),
    ("seed", 0, 2**63 - 1),
    ("split_seed", 0, 2**32 - 1),
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question about training, and all that is needed to answer it. Checked on construction.

    question: one sentence.
    dataset: a name of ``searchlib.DATASETS``, or a ``Dataset`` made in the study file.
    datasets: instead of it several, of the same task: trials, searches and replicates are then those of each, and the
    cells are compared across them, too.
    model: an ``MLP``, or a function ``(config, dataset) -> torch.nn.Module``.
    scientific: the hyperparameters that the question is about; their combinations are the cells compared.
    nuisance: those that must be tuned in each cell for a fair comparison.
    fixed: plain values. The roles are those of Google's Deep Learning Tuning Playbook.
    sampler: a name of ``searchlib.SAMPLERS``, or a function ``(seed) -> optuna sampler``.
    pruner: a name of ``searchlib.PRUNERS``, or a function ``() -> optuna pruner``. Pruning compares trials of one cell
    only; ``within_cell`` is successive halving among the points of a cell.
    trials: the target for the study, not a number for each call; by default at most the points that there are.
    searches: how many independent searches share the trials evenly. Each has its own points, or sampler, and its own
    best configuration of each cell, so that cells are compared as they come out of a search. With 1 the claim is about
    the best of one search's points only.
    search_split: whether each search also draws its own split into training and validation data, for its trials and
    their replicates. The claims are then about the population that the examples come from.
    replicates: the most fresh seeds for each cell, in turn with the best configuration of each search; the race ends
    earlier once one cell is significantly better than all others.
    replicate_cells: how many leading cells are replicated; None for all.
    replicate_split: whether each of these seeds also draws its own split into training and validation data.
    replicate_race: whether a cell that is significantly worse than the leader gets no more seeds; if False, all cells
    get all seeds.
    margin: a difference between cells that doesn't matter, in the unit of the objective (0.002 is 0.2 points of an
    accuracy): comparisons then say equivalent, better or undecided.
    round_size: trials asked together, so that they can be fused; ``balanced`` rounds it up to whole blocks of cells,
    ``within_cell`` to eight points a cell.
    seed: of the search, the weights and the order of examples.
    split_seed: of the split into training and validation data.
    eval_every: steps between two evaluations on the validation split, counted over the whole training; None: after
    each epoch only. They are recorded; the objective and the pruners use the epochs only.
    validation_fraction: share of the official training set that is held back for validation.
    published: published figures, a ``Published(...)`` each, to be shown beside the replicates in the report.
    """

    question: str
    dataset: str | Dataset = "fashion_mnist"
    datasets: tuple[str | Dataset, ...] = ()
    model: MLP | ModuleFactory = MLP()
    scientific: Mapping[str, Dimension] = field(default_factory=dict)
    nuisance: Mapping[str, Dimension] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    sampler: str | Any = "balanced"
    pruner: str | Any = "none"
    trials: int = 100
    searches: int = 1
    search_split: bool = False
    replicates: int = 0
    replicate_cells: int | None = None
    replicate_split: bool = False
    replicate_race: bool = True
    margin: float | None = None
    round_size: int = 32
    seed: int = 0
    split_seed: int = 0
    eval_every: int | None = None
    validation_fraction: float = 1 / 6
    published: tuple[Published, ...] = ()
    name: str = field(default="study", repr=False)
    path: Path | None = field(default=None, repr=False)
    code: str = field(default="", repr=False)
    statements: str = field(default="", repr=False)
    modules: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.question, str) or not self.question.strip() or not is_legible(self.question):
            raise StudyError(f"question={self.question!r}: expected the question that the study answers, in words")
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise StudyError(f"name={self.name!r}: {NAME_RULE}")
        if self.datasets:
            check_datasets(self.datasets, self.name)
            if self.dataset not in (Study.dataset, self.datasets[0]) or self.published:
                raise StudyError("dataset and published are for one data set; leave them out where datasets are given")
            object.__setattr__(self, "dataset", self.datasets[0])  # its task is that of all of them
        get_dataset(self.dataset)
        if not isinstance(self.model, MLP) and not is_named(self.model):
            raise StudyError(f"model={self.model!r}: expected MLP(hidden=(...)) or a function that makes a module")
        for name, least, most in WHOLE_NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise StudyError(f"{name}={value!r}: expected a whole number of {least} or more")
            if value > most:
                raise StudyError(f"{name}: expected a whole number of {most:,} at most")
        for name in ("replicate_cells", "eval_every"):
            if (value := getattr(self, name)) is not None and (type(value) is not int or value < 1):
                raise StudyError(f"{name}={value!r}: expected a whole number of 1 or more, or None")
        for name in ("search_split", "replicate_split", "replicate_race"):
            if not isinstance(value := getattr(self, name), bool):
                raise StudyError(f"{name}={value!r}: expected True or False")
        if not isinstance(self.validation_fraction, float) or not 0.0 < self.validation_fraction < 1.0:
            raise StudyError(f"validation_fraction={self.validation_fraction!r}: expected a number between 0 and 1")
        for kind, value, known in (("sampler", self.sampler, SAMPLERS), ("pruner", self.pruner, PRUNERS)):
            if not is_named(value) and not (isinstance(value, str) and value in known):
                raise StudyError(f"{kind}={value!r}: {unknown_name(kind, value, known)}")
        if self.margin is not None and not (isinstance(self.margin, float) and 0.0 < self.margin < float("inf")):
            raise StudyError(f"margin={self.margin!r}: expected a number above 0, such as 0.002, or None")
        self._check_roles()
        self._check_design()
        self._check_published()

    def _check_roles(self) -> None:
        seen: dict[str, str] = {}
        for role in ROLES:
            if not isinstance(entries := getattr(self, role), Mapping):
                raise StudyError(f"{role}={entries!r}: expected a dict from hyperparameter to value")
        for role in ROLES:
            entries = getattr(self, role)
            for name, value in entries.items():
                if name not in FIELDS:
                    raise StudyError(f"{role}[{name!r}]: {unknown_name('hyperparameter', name, FIELDS)}")
                if name in seen:
                    raise StudyError(f"{name!r} is both {seen[name]} and {role}; give it one role")
                seen[name] = role
                self._check_entry(role, name, value)

    def _check_entry(self, role: str, name: str, value: Any) -> None:
        if role == "fixed":
            if isinstance(value, Dimension):
                raise StudyError(f"fixed[{name!r}] is a {type(value).__name__}; fixed takes a plain value")
            check_field(name, value)
            return
        if not isinstance(value, Dimension):
            raise StudyError(
                f"{role}[{name!r}]={value!r}: expected Choice, Uniform, LogUniform or IntUniform; "
                "a single value belongs into fixed"
            )
        for extreme in value.extremes():
            check_field(name, extreme)
        earlier = list(itertools.chain(self.scientific, self.nuisance))
        for other in value.condition:
            if other not in self.fixed and other not in earlier[: earlier.index(name)]:
                raise StudyError(
                    f"{role}[{name!r}].when({other}=...): {other!r} must be fixed, or a dimension listed before"
                )
            place = f"{role}[{name!r}].when({other}=...)"
            check_condition(place, other, value.condition[other], self.dimensions.get(other), self.fixed)

    def _check_design(self) -> None:
        for name, dimension in self.enumerated.items():
            if dimension.values() is None:
                raise StudyError(
                    f"{name!r} is {type(dimension).__name__} and sampler {self.sampler!r} needs finitely many values, "
                    f"{MOST_VALUES:,} at most; write Choice or IntUniform, or take another sampler"
                )
        if more_than(MOST_CELLS, enumerate_points(self.scientific, self.fixed)):
            raise StudyError(f"the scientific values make more than {MOST_CELLS:,} cells; compare fewer")
        every = get_sampler(self.sampler).enumerates == "all"
        if every and more_than(MOST_POINTS, enumerate_points(self.dimensions, self.fixed)):
            raise StudyError(f"the grid has more than {MOST_POINTS:,} points; narrow it, or take another sampler")
        if (points := self.points) is not None and self.trials > points:
            if self.trials != Study.trials:
                raise StudyError(f"trials={self.trials}: the grid has only {points} points; write trials={points}")
            object.__setattr__(self, "trials", points)  # what the default stands for here
        check_searches(
            self.searches,
            replicates=self.replicates,
            points=self.points,
            search_split=self.search_split,
            replicate_split=self.replicate_split,
        )
        self.check_target(self.trials)
        for cell in self.cells or [{}]:
            for params in corners(self.dimensions, self.fixed, COUPLED, cell):
                self.config(params)

    def check_target(self, trials: int) -> None:
        """StudyError where so many trials don't give each search, and in it each cell, the same number of points."""
        check_target(trials, searches=self.searches, block=self.block)

    def _check_published(self) -> None:
        check_published(self.published, self.scientific, by_step=self.eval_every is not None)
        for one in self.published:
            if self.published_cell(one) is None:
                raise StudyError(
                    f"published, cell {dict(one.cell)}: expected one value for each of {', '.join(self.scientific)}"
                )

    def published_cell(self, published: Published) -> dict[str, Primitive] | None:
        """The cell that a published figure is about, as the stores have it; None where it names none."""
        wanted = {name: encode(value) for name, value in published.cell.items()}
        return next((cell for cell in self.cells or [{}] if cell == wanted), None)

    @property
    def parts(self) -> tuple[Study, ...]:
        """The study of each data set, named ``NAME.DATASET``, with a seed of its own; of one data set the study itself.

        With one seed all data sets would have the same points and weights, and wouldn't be independent of each other.
        """
        if not self.datasets:
            return (self,)
        named = {get_dataset(one).name: one for one in self.datasets}
        return tuple(
            replace(
                self, dataset=one, datasets=(), name=f"{self.name}.{name}", seed=derive_seed(self.seed, "data", name)
            )
            for name, one in named.items()
        )

    @property
    def dataset_name(self) -> str:
        return get_dataset(self.dataset).name

    def check_single(self) -> None:
        """StudyError for a study of several data sets, where only one of its parts can be meant."""
        if self.datasets:
            parts = ", ".join(part.name for part in self.parts)
            raise StudyError(f"study {self.name!r} has several data sets and this is for one; give one of {parts}")

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """All searched hyperparameters, scientific first."""
        return {**self.scientific, **self.nuisance}

    @property
    def enumerated(self) -> Mapping[str, Dimension]:
        """The dimensions of which the sampler takes all combinations of values."""
        which = get_sampler(self.sampler).enumerates
        return self.scientific if which == "scientific" else self.dimensions if which == "all" else {}

    @functools.cached_property
    def block(self) -> int:
        """How many trials in a row share a nuisance point: one of each cell where the sampler enumerates the cells."""
        return max(len(self.cells), 1) if get_sampler(self.sampler).enumerates == "scientific" else 1

    def turn(self, place: int) -> tuple[int, int]:
        """(search, from 1, place in it) of the trial drawn at *place*, from 0: the searches take turns by blocks."""
        row, position = divmod(place, self.block)
        turn, search = divmod(row, self.searches)
        return search + 1, turn * self.block + position

    @property
    def points(self) -> int | None:
        """How many points the study has where its sampler takes each once; None where it may take any number."""
        if not get_sampler(self.sampler).is_design or len(self.enumerated) < len(self.dimensions):
            return None
        return sum(1 for _ in enumerate_points(self.enumerated, self.fixed))

    @property
    def cells(self) -> list[dict[str, Primitive]]:
        """Every combination of the scientific values, in order; empty where they aren't all finite."""
        if not self.scientific or any(dimension.values() is None for dimension in self.scientific.values()):
            return []
        return list(enumerate_points(self.scientific, self.fixed))

    def cell_of(self, params: Mapping[str, Primitive]) -> tuple[tuple[str, Primitive], ...]:
        """The scientific part of a trial's parameters, hashable."""
        return tuple((name, params[name]) for name in self.scientific if name in params)

    def config(self, params: Mapping[str, Primitive]) -> TrialConfig:
        """The full configuration of the trial with these (encoded) parameters."""
        chosen = {name: self.dimensions[name].decode(value) for name, value in params.items()}
        return TrialConfig(**{**self._given, **chosen})

    @property
    def _given(self) -> dict[str, Any]:
        """The hyperparameters that the study gives one value."""
        return {**({"hidden": self.model.hidden} if isinstance(self.model, MLP) else {}), **self.fixed}

    def possible(self, name: str) -> list[Any]:
        """The values that a hyperparameter may take in this study; of a range, its two ends."""
        if name not in self.dimensions:
            return [check_field(name, self._given.get(name, FIELDS[name].default))]
        dimension = self.dimensions[name]
        values = dimension.values()
        return list(dimension.extremes() if values is None else map(dimension.decode, values))

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return "maximize" if self.metric == "val_accuracy" else "minimize"

    @property
    def metric(self) -> str:
        """The objective: ``val_accuracy``, or ``val_loss`` for regression."""
        return "val_accuracy" if get_dataset(self.dataset).task == "classification" else "val_loss"

    def better(self, value: float, than: float) -> bool:
        return value > than if self.direction == "maximize" else value < than

    def definition(self) -> dict[str, Any]:
        """What defines the study, as plain JSON: all but its budget, the wording of its question and what
        others published.

        Functions of the study file enter with their source, so that editing one is a change.
        """
        self.check_single()
        dataset = get_dataset(self.dataset)
        return {
            "dataset": dataset.name,
            **({"data": dict(dataset.settings)} if dataset.settings else {}),
            **({"range": [dataset.low, dataset.scale]} if self.dataset is dataset and not dataset.settings else {}),
            "model": {"hidden": list(self.model.hidden)} if isinstance(self.model, MLP) else self.model.__name__,
            "scientific": {name: dimension.describe() for name, dimension in self.scientific.items()},
            "nuisance": {name: dimension.describe() for name, dimension in self.nuisance.items()},
            "fixed": {name: encode(value) for name, value in self.fixed.items()},
            "sampler": encode(self.sampler),
            "pruner": encode(self.pruner),
            "round_size": self.round_size,
            "seed": self.seed,
            "split_seed": self.split_seed,
            "validation_fraction": self.validation_fraction,
            "order": list(self.dimensions),
            **({"searches": self.searches} if self.searches > 1 else {}),
            **({"search_split": True} if self.search_split else {}),
            **({"replicate_split": True} if self.replicate_split else {}),
            **({} if self.replicate_race else {"replicate_race": False}),
            **({} if self.eval_every is None else {"eval_every": self.eval_every}),
            **({"code": self.code} if self.code else {}),
            "statements": self.statements,
            "modules": dict(self.modules),
        }

    @property
    def identity(self) -> str:
        """A short hash of the definition."""
        noted = {name: value for name, value in self.definition().items() if value or name not in LATER}
        return hashlib.sha256(json.dumps(noted, sort_keys=True).encode()).hexdigest()[:16]
