"""Does a small positive bias keep ReLU units alive, and does that help?

Zeros, three positive constants and PyTorch's default as the biases of a ReLU network on MNIST, two hidden layers and
ten, of 64 units; the weights are Kaiming's, the learning rate is tuned for each. A unit is dead where it is zero on a
whole probe batch of 256 images: MLflow holds dead/layer1, ... at initialization (step 0) and after each epoch.

Command:   searchlib optimize --study bias_initialization
Run time:  5 minutes on two busy cores of an AMD EPYC
Result:    No gain seen, at the rates that one search found: with 2 layers zeros, 0.01, 0.1 and pytorch_default don't
           differ significantly (0.9726 to 0.9730 over eight seeds), nor with 10 (0.9642 to 0.9651). A bias of 1 is
           worse, by 0.3 and 1.1 points, and with 10 layers leaves more units dead, not fewer. Leader: depth 2, constant
           0.01, validation 0.9730 (0.9720 to 0.9740), test 0.9735.
"""

from searchlib import MLP, Choice, LogUniform, Study

STUDY = Study(
    question="Which initial bias suits a ReLU network, and does a small positive one keep units alive?",
    dataset="mnist",
    model=MLP(hidden=(64, 64)),
    scientific={
        "depth": Choice(2, 10),
        "bias_init": Choice("zeros", "constant", "pytorch_default"),
        "bias_value": Choice(0.01, 0.1, 1.0).when(bias_init="constant"),
    },
    nuisance={"learning_rate": LogUniform(0.003, 0.5)},
    fixed={
        "initializer": "kaiming_normal",
        "activation": "relu",
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr_schedule": "cosine",
        "batch_size": 128,
        "epochs": 4,
        "input_scaling": "standard",
    },
    sampler="balanced",
    pruner="within_cell",
    trials=80,
    replicates=8,
    replicate_race=False,
    seed=0,
)
