"""A study: its question, its search space, the configuration of one trial, and the records of its results."""

from searchlib.study.changes import refuse_if_changed
from searchlib.study.code import own_line
from searchlib.study.config import TrialConfig, check_field
from searchlib.study.correct import CORRECT, pack_examples, unpack_examples
from searchlib.study.enqueued import check_enqueued
from searchlib.study.identity import identified
from searchlib.study.loading import list_studies, load_study
from searchlib.study.model import MLP, ModuleFactory
from searchlib.study.preview import preview_study
from searchlib.study.pruners import PRUNERS, get_pruner
from searchlib.study.published import Published
from searchlib.study.record import CHECKPOINT_MARK, Ledger, Progress, TestedReplicate, TestResult, TrialRecord
from searchlib.study.samplers import SAMPLERS, get_sampler
from searchlib.study.schedules import SCHEDULES
from searchlib.study.space import (
    Choice,
    Dimension,
    IntUniform,
    LogUniform,
    Primitive,
    Uniform,
    encode,
    enumerate_points,
)
from searchlib.study.study import Study

__all__ = [
    "CHECKPOINT_MARK",
    "CORRECT",
    "MLP",
    "PRUNERS",
    "SAMPLERS",
    "SCHEDULES",
    "Choice",
    "Dimension",
    "IntUniform",
    "Ledger",
    "LogUniform",
    "ModuleFactory",
    "Primitive",
    "Progress",
    "Published",
    "Study",
    "TestResult",
    "TestedReplicate",
    "TrialConfig",
    "TrialRecord",
    "Uniform",
    "check_enqueued",
    "check_field",
    "encode",
    "enumerate_points",
    "get_pruner",
    "get_sampler",
    "identified",
    "list_studies",
    "load_study",
    "own_line",
    "pack_examples",
    "preview_study",
    "refuse_if_changed",
    "unpack_examples",
]
