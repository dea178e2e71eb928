"""Which initializer serves a ReLU network of 200 hidden units best on MNIST, each at its own best learning rate?

EE 541, unit 7A: 784-200-10, no regularization, ten epochs; initializers compared, with histograms of the weights
before and after training, which the report draws for each initializer and both layers.

Command:   searchlib optimize --study ee541_initializers
Run time:  4 minutes on two busy cores of an AMD EPYC
Result:    At the learning rate that one search found best (0.071 for each), xavier_normal, xavier_uniform,
           kaiming_normal, lecun_normal and pytorch_default reach 0.980 and don't differ significantly over five seeds.
           U(-0.5, 0.5) reaches 0.971, normal (deviation 1) 0.933, zeros 0.112. Leader: kaiming_normal, validation
           0.9800 (0.9792 to 0.9809), test 0.9792.
"""

from searchlib import MLP, Choice, LogUniform, Study

STUDY = Study(
    question="Which initializer serves 784-200-10 best on MNIST, and what do its weights look like before and after?",
    dataset="mnist",
    model=MLP(hidden=(200,)),
    scientific={
        "initializer": Choice(
            "zeros",
            "normal",
            "uniform",
            "lecun_normal",
            "pytorch_default",
            "xavier_uniform",
            "xavier_normal",
            "kaiming_normal",
        )
    },
    nuisance={"learning_rate": LogUniform(0.003, 1.0)},
    fixed={
        "activation": "relu",
        "init_low": -0.5,
        "init_high": 0.5,
        "bias_init": "zeros",
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr_schedule": "constant",
        "batch_size": 100,
        "epochs": 10,
        "input_scaling": "unit",
    },
    sampler="balanced",
    pruner="within_cell",
    trials=64,
    replicates=5,
    seed=0,
)
