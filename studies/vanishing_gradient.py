"""How deep can a plain network get before its gradient vanishes or explodes, for each activation and initializer?

Six depths, three activations and four initializers on scikit-learn's digits, 64 units a layer, each cell at its own
best learning rate. MLflow holds the norm of each layer's gradient, at initialization (step 0) and after each epoch:
gradient_norm/layer1, ... Mean-field theory says in advance what they will be: compare

    searchlib diagnose --initializer pytorch_default --activation relu --depth 20 --width 64

``critical`` has the variance at which theory sees gradients neither shrink nor grow; sigmoid's can't train anything
deep, for at that point (a variance of 103 / fan_in) its units are saturated.

Command:   searchlib optimize --study vanishing_gradient
Run time:  not measured yet
Result:    not run yet
"""

from searchlib import MLP, Choice, LogUniform, Study

STUDY = Study(
    question="To which depth does each pair of activation and initializer train, and do first gradients foretell it?",
    dataset="digits",
    model=MLP(hidden=(64,)),
    scientific={
        "depth": Choice(1, 2, 5, 10, 20, 30),
        "activation": Choice("sigmoid", "tanh", "relu"),
        "initializer": Choice("pytorch_default", "xavier_normal", "kaiming_normal", "critical"),
    },
    nuisance={"learning_rate": LogUniform(0.001, 1.0)},
    fixed={
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr_schedule": "cosine",
        "batch_size": 50,
        "epochs": 16,
        "input_scaling": "standard",
    },
    sampler="balanced",
    trials=576,
    replicates=5,
    replicate_race=False,
    seed=0,
)
