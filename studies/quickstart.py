"""Does the choice of initializer depend on the activation? In seconds, on scikit-learn's bundled digits.

Command:   searchlib optimize --study quickstart
Run time:  25 to 41 seconds on two cores
Result:    Of one search: kaiming_normal, sigmoid leads with validation 0.975 (10 seeds, 95 % interval 0.969 to 0.981 as
           the best of 5), not significantly different from kaiming_normal with tanh or relu and xavier_normal with tanh
           or sigmoid; test 0.970, interval 0.943 to 0.984. zeros learns nothing with tanh and relu.
"""

from searchlib import MLP, Choice, LogUniform, Study

STUDY = Study(
    question="Which initializer suits which activation on small digits, each pair at its own best learning rate?",
    dataset="digits",
    model=MLP(hidden=(32,)),
    scientific={
        "initializer": Choice("zeros", "normal", "xavier_normal", "kaiming_normal"),
        "activation": Choice("sigmoid", "tanh", "relu"),
    },
    nuisance={"learning_rate": LogUniform(0.01, 1.0), "batch_size": Choice(16, 32, 64)},
    fixed={"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "epochs": 10},
    sampler="balanced",
    pruner="within_cell",
    searches=4,
    trials=384,
    replicates=8,
    seed=0,
)
