"""How deep can a plain network get before its gradient vanishes or explodes, for each activation and initializer?

Six depths, three activations and four initializers on scikit-learn's digits, 64 units a layer, each cell at its own
best learning rate. MLflow holds the norm of each layer's gradient, at initialization (step 0) and after each epoch:
gradient_norm/layer1, ... Mean-field theory says in advance what they will be: compare

    searchlib diagnose --initializer pytorch_default --activation relu --depth 20 --width 64

``critical`` has the variance at which theory sees gradients neither shrink nor grow; with sigmoid that isn't enough
for ten layers, for there (a variance of 103 / fan_in) its units are saturated.

Command:   searchlib optimize --study vanishing_gradient
Run time:  7 minutes on two busy cores of an AMD EPYC
Result:    Mean field foretells the first layer's gradient, relative to the last hidden layer's, to a factor of 1.3
           (median of 60 cells), from about 1 down to 10^-24. Where it falls below about 1/60 nothing trains: sigmoid
           from 5 layers on with the usual initializers, ReLU and tanh with pytorch_default from 10 and 20. Sigmoid at
           its critical variance still reaches 0.92 with 5 layers, saturated as it is; tanh reaches 0.94 with 30
           (xavier_normal, critical), ReLU 0.93 with 20. The one search found as best depth 1, tanh, pytorch_default:
           validation 0.9816 (0.9759 to 0.9873); test 0.9764 of 297 images.
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
