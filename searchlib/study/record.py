"""What one trial gave, where the work stands, and what the test set gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from searchlib.study.config import TrialConfig

if TYPE_CHECKING:
    import torch

CHECKPOINT_MARK = 16  # digits of a checkpoint's SHA-256 in the ledger's list: enough to know it from any other


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the work stands after an epoch of a stack or after a stack.

    phase: ``search`` or ``replicates``; the counts are the phase's own. done: trials finished; target: trials
    wanted. fraction: of the phase, epochs counted. stack: trials in training, epoch of epochs. finished: what ended.
    """

    phase: str
    done: int
    target: int
    fraction: float
    stack: int
    epoch: int
    epochs: int
    finished: Sequence[TrialRecord] = ()


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What one trial gave.

    value: the objective as Optuna gets it; best: the best epoch's, None if no epoch was finite. learnt: whether that is
    better than always giving the same answer.
    curves: by epoch, each with epoch, train_loss, val_loss, learning_rate, time (seconds) and, for classification,
    train_accuracy and val_accuracy. steps: the same by evaluation, with step instead of epoch and without the learning
    rate, where the study has ``eval_every``. diagnostics: a snapshot at initialization, then one an epoch; diagnosis:
    what they say, in words.
    error: the traceback of a failed trial; reason: the same in one line.
    diverged_step: the step at which the loss first became infinite or NaN.
    pruner_notes: what the pruner wrote down of the trial, for its later decisions.
    state: the best epoch's weights, of a trial that led the study when it ended, and of replicates. kept_bytes: the
    size of the weights of a replicate that keeps them whatever its value; None of one that has them because it led.
    correct: which validation examples the best epoch's weights classify correctly, as ``pack_examples`` writes it, of a
    completed replicate in classification; else empty.
    """

    number: int
    trial_id: int
    params: dict[str, Any]
    config: TrialConfig
    seed: int
    outcome: str
    error: str = ""
    reason: str = ""
    value: float
    best: float | None
    learnt: bool = True
    best_epoch: int
    curves: list[dict[str, float]]
    diagnostics: list[dict[str, float]] = field(default_factory=list)
    diagnosis: list[str]
    diverged_step: int | None = None
    started: float
    ended: float
    pruner_notes: dict[str, Any] = field(default_factory=dict)
    state: dict[str, torch.Tensor] | None = None
    correct: str = ""
    factor: float = 1.0
    offset: float = 0.0
    steps: list[dict[str, float]] = field(default_factory=list)
    kept_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """The champion's result of the one evaluation on the test set.

    evaluated_at: UTC, ISO 8601. trial: of the search; replicate: which of its replicates was evaluated, None for the
    trial itself. code: the version of searchlib. n: test examples. loss: the mean over them (cross-entropy, or squared
    error). accuracy, correct and the 95 % Wilson interval low to high: None for regression. confusion: numbers of
    examples, [true class][predicted class]. r2: of a regression, the share of the targets' variance that the network
    explains; None where they don't vary.
    """

    __test__ = False  # not a test case, whatever its name suggests to pytest

    evaluated_at: str
    trial: int
    checkpoint_sha256: str
    code: str
    n: int
    loss: float
    accuracy: float | None
    correct: int | None
    low: float | None
    high: float | None
    confusion: list[list[int]] | None = None
    replicate: int | None = None
    r2: float | None = None


@dataclass(frozen=True)
class TestedReplicate:
    """A replicate that is evaluated on the test set beside the champion.

    trial: its number in the Optuna study of the replicates, where it has all else. checkpoint: the first
    CHECKPOINT_MARK digits of its checkpoint's SHA-256. loss: the mean over the test examples (cross-entropy, or squared
    error), to seven digits; correct: how many of them it classified correctly. Both are None before the result, and
    where its network failed on the test set; correct also for regression, loss also where it isn't finite.
    """

    __test__ = False

    trial: int
    checkpoint: str
    loss: float | None = None
    correct: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The record of the test set: claimed before its files are opened, finished with the result.

    claimed_at, finished_at: UTC, ISO 8601. trial, replicate: as in ``TestResult``. run_id: the MLflow run whose
    checkpoint was claimed. code: the version of searchlib that claimed it. finished_at and result are None between the
    claim and the result. replicates: those that are evaluated, too; None where there are none. left_out: how many
    replicates were found before the claim not to be fit for it, by the reason.
    """

    claimed_at: str
    trial: int
    replicate: int | None = None
    run_id: str
    checkpoint_sha256: str
    code: str
    finished_at: str | None = field(default=None, metadata={"optional": True})
    result: TestResult | None = field(default=None, metadata={"optional": True})
    replicates: Sequence[TestedReplicate] | None = field(default=None, metadata={"optional": True})
    left_out: Mapping[str, int] | None = field(default=None, metadata={"optional": True})

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Ledger:
        """The ledger that Optuna's storage holds as a user attribute."""
        known = {each.name: stored[each.name] for each in fields(cls) if stored.get(each.name) is not None}
        if "result" in known:
            known["result"] = TestResult(**known["result"])
        if "replicates" in known:
            known["replicates"] = tuple(TestedReplicate(*one) for one in known["replicates"])
        return cls(**known)

    def written(self) -> dict[str, Any]:
        """The user attribute, from which ``read`` makes this again. Replicates are rows: a database's text is short."""
        made = asdict(self)
        if self.replicates is not None:
            claimed = self.result is None
            made["replicates"] = [list(astuple(one))[: 2 if claimed else None] for one in self.replicates]
        optional = {each.name for each in fields(self) if each.metadata.get("optional")}
        return {name: value for name, value in made.items() if value is not None or name not in optional}
