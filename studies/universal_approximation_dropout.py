"""Does dropout help a network of 64-64-64 ReLU units to approximate a function that it sees without noise?

EE 541, unit 7A, shows y = 0.2 + 0.4x² + 0.3x sin(15x) + 0.05 cos(50x) on [0, 1], approximated by three hidden layers
of 64 ReLU units with and without dropout. Here 2,000 points without noise are trained on, each probability of dropout
at its own best learning rate; the report draws the fitted curves over the function.

Command:   searchlib optimize --study universal_approximation_dropout
Run time:  4 minutes on two busy cores of an AMD EPYC
Result:    No, at the rates that one search found. Mean squared error over fresh seeds: 0.00013 without dropout (5.2e-05
           to 0.0002), 0.00016 with probability 0.01 (not significantly different), 0.00032 with 0.05, 0.00038 with 0.1,
           0.00096 with 0.2, 0.0021 with 0.5. Test 2.1e-05, R² 0.999.
"""

import torch

from searchlib import MLP, Choice, LogUniform, Study, function_dataset


def target(x: torch.Tensor) -> torch.Tensor:
    """The function of EE 541, of inputs ``[N, 1]``."""
    return (0.2 + 0.4 * x**2 + 0.3 * x * torch.sin(15 * x) + 0.05 * torch.cos(50 * x)).squeeze(1)


STUDY = Study(
    question="Does dropout help 64-64-64 to approximate a function that it sees without noise?",
    dataset=function_dataset("ee541_function", target, low=0.0, high=1.0, train=2400, test=1000),
    model=MLP(hidden=(64, 64, 64)),
    scientific={"dropout": Choice(0.0, 0.01, 0.05, 0.1, 0.2, 0.5)},
    nuisance={"learning_rate": LogUniform(3e-4, 3e-2)},
    fixed={
        "initializer": "pytorch_default",
        "bias_init": "pytorch_default",
        "activation": "relu",
        "optimizer": "adam",
        "lr_schedule": "cosine",
        "batch_size": 50,
        "epochs": 100,
        "input_scaling": "symmetric",
    },
    sampler="balanced",
    trials=48,
    replicates=10,
    seed=0,
)
