"""What other programs make in Optuna's storage."""

from __future__ import annotations

import optuna
from optuna.distributions import FloatDistribution

from searchlib.stores.storage import open_storage
from support import STORAGE

REMOTE = FloatDistribution(0, 1)
SAMPLERS = ["balanced", "tpe"]
WHOLE = {"initializer": "normal", "activation": "relu", "learning_rate": 0.123, "batch_size": 32}
PART = {"activation": "tanh", "learning_rate": 1}


def made_elsewhere(name: str = "small", direction: str | None = "maximize", **settings) -> optuna.Study:
    return optuna.create_study(study_name=name, storage=open_storage(STORAGE), direction=direction, **settings)


def studies_in_storage() -> list[str]:
    return [found.study_name for found in open_storage(STORAGE).get_all_studies()]
