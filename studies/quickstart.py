"""Does the choice of initializer depend on the activation? In seconds, on scikit-learn's bundled digits.

Command:   searchlib optimize --study quickstart
Run time:  40 seconds of processor time
Result:    a tie of seven pairs: kaiming_normal, sigmoid leads with validation 0.973 (8 seeds of 4 searches, 95 %
           interval 0.959 to 0.986 as the best of 7); also kaiming_normal and xavier_normal with all three activations,
           and normal, sigmoid. Test 0.973, interval 0.948 to 0.986. zeros learns nothing with tanh and relu.
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
