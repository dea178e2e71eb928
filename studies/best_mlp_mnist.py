"""How good can a plain multilayer perceptron get on MNIST, by its training alone?

Two hidden layers or three, of up to 1,024 units, no augmentation, 54,000 images to train on, 6,000 to validate.
Widths, optimizer, learning rate and its schedule, batch size, weight decay, dropout, batch normalization, activation
and initializer are all searched, by TPE in rounds of 8, with successive halving (of three that reach epoch 3 or 9, one
goes on). The leader runs again on five fresh seeds, and the best of these is evaluated on the test set, once. Aim:
.985 there.

Command:   searchlib optimize --study best_mlp_mnist
Run time:  not measured yet
Result:    not run yet
"""

from typing import Any

from searchlib import MLP, Choice, LogUniform, Study, Uniform


def patient() -> Any:
    """Successive halving that waits for three epochs: dropout and weight decay start slowly and end well."""
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=3, reduction_factor=3)


STUDY = Study(
    question="How good can a plain multilayer perceptron get on MNIST, by its training alone?",
    dataset="mnist",
    model=MLP(hidden=(512, 256)),
    nuisance={
        "hidden": Choice("512-256", "512-512", "512-256-128", "1024-512"),
        "optimizer": Choice("sgd", "adamw"),
        "learning_rate": LogUniform(5e-4, 0.1),
        "lr_schedule": Choice("cosine", "step"),
        "batch_size": Choice(128, 256),
        "weight_decay": LogUniform(1e-5, 0.1),
        "dropout": Uniform(0.2, 0.5),
        "batch_norm": Choice(False, True),
        "activation": Choice("relu", "gelu", "silu"),
        "initializer": Choice("pytorch_default", "xavier_normal", "kaiming_normal", "orthogonal"),
    },
    fixed={"epochs": 24, "momentum": 0.9, "nesterov": True, "lr_decay": 0.88, "input_scaling": "standard"},
    sampler="tpe",
    pruner=patient,
    trials=24,
    round_size=8,
    replicates=5,
    replicate_cells=1,
    replicate_race=False,
    validation_fraction=0.1,
    seed=0,
)
