"""Training many networks of the same shape as one.

The modules that import torch when they are imported (``stack``, ``layers``, ``loop``, ``module``, ``optimizers``) are
imported by name where they are needed; this face costs nothing.
"""

from searchlib.training.checkpoints import Restored, restore, restore_module, try_network
from searchlib.training.deadline import Deadline, OutOfTimeError
from searchlib.training.engine import Engine, has_own_code
from searchlib.training.network import initialize, layer_sizes
from searchlib.training.precision import check_precision, resolve_device
from searchlib.training.run import Run, Task
from searchlib.training.snapshots import Snapshots
from searchlib.training.stack_run import StackRun
from searchlib.training.symptoms import diagnose_words
from searchlib.training.workers import Workers, available_cores

__all__ = [
    "Deadline",
    "Engine",
    "OutOfTimeError",
    "Restored",
    "Run",
    "Snapshots",
    "StackRun",
    "Task",
    "Workers",
    "available_cores",
    "check_precision",
    "diagnose_words",
    "has_own_code",
    "initialize",
    "layer_sizes",
    "resolve_device",
    "restore",
    "restore_module",
    "try_network",
]
