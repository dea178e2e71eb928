"""How wide must one hidden layer be to match three of 64 units on a function with fast and slow waves?

EE 541, unit 7A, approximates y = 0.2 + 0.4x² + 0.3x sin(15x) + 0.05 cos(50x) on [0, 1] by three hidden layers of 64
ReLU units. One hidden layer of enough units can come as close as one likes (Cybenko 1989, Hornik 1991); what training
finds in 4,000 steps is another question. Five widths of one hidden layer, up to 8,192 units, stand beside 64-64-64,
with ReLU and tanh, each at its own best learning rate. The report draws the fitted curves over the function.

The network has 8,513 weights and biases with three hidden layers of 64, and 12,289 with one of 4,096.

Command:   searchlib optimize --study universal_approximation
Run time:  6 minutes on two cores of an AMD EPYC
Result:    At the rates that one search found, 1,024 ReLU units in one layer have on average about the error of 64-64-64
           (mean squared error 0.00023 and 0.00024 over five fresh seeds), and 4,096 or 8,192 somewhat better (0.00015).
           But 64-64-64 varies: its best seeds reach 1.3e-05 and 3.8e-05, and no single layer comes below 0.00013. One
           layer of tanh units does best with 64 (0.0015) and worse the wider it is: the gradient of its first layer
           shrinks with the width. Leader: 8192, relu, validation 0.000147 (0.000130 to 0.000164), not significantly
           different from 4096, relu, and 64-64-64; test 0.000124, R² 0.997.
"""

import torch

from searchlib import MLP, Choice, LogUniform, Study, function_dataset


def target(x: torch.Tensor) -> torch.Tensor:
    """The function of EE 541, of inputs ``[N, 1]``."""
    return (0.2 + 0.4 * x**2 + 0.3 * x * torch.sin(15 * x) + 0.05 * torch.cos(50 * x)).squeeze(1)


STUDY = Study(
    question="How wide must one hidden layer be to match three of 64 units on a function with fast and slow waves?",
    dataset=function_dataset("ee541_function", target, low=0.0, high=1.0, train=2400, test=1000),
    model=MLP(hidden=(64, 64, 64)),
    scientific={
        "hidden": Choice("64-64-64", "64", "256", "1024", "4096", "8192"),
        "activation": Choice("relu", "tanh"),
    },
    nuisance={"learning_rate": LogUniform(3e-4, 3e-2)},
    fixed={
        "initializer": "pytorch_default",
        "bias_init": "pytorch_default",
        "optimizer": "adam",
        "lr_schedule": "cosine",
        "batch_size": 50,
        "epochs": 100,
        "input_scaling": "symmetric",
    },
    sampler="balanced",
    trials=72,
    replicates=5,
    seed=0,
)
