"""Which weight initializer suits which activation, once learning rate and batch size are tuned for each pair?

Six initializers and six activations make 36 cells; each cell gets the same eight points of learning rate and batch
size, a one-hidden-layer network on FashionMNIST, 50,000 images to train on and 10,000 to validate.

Then the best point of each cell runs again on fresh seeds, up to ten.

Command:   searchlib optimize --study init_vs_act
Run time:  8.5 minutes on two quiet cores of an AMD EPYC: 4 for the search, 4 for about 280 replicates
Result:    lecun_normal, sigmoid leads with validation 0.8920 (10 seeds, 95 % interval 0.8910 to 0.8931), not
           significantly different from sigmoid with three other initializers and gelu with two; another run had
           orthogonal, gelu first. normal (deviation 1) is worst with every activation. Test 0.8818, 95 %
           interval 0.8753 to 0.8880.
"""

from searchlib import MLP, Choice, LogUniform, Study

STUDY = Study(
    question="Which initializer suits which activation, at each pair's own best learning rate and batch size?",
    dataset="fashion_mnist",
    model=MLP(hidden=(100,)),
    scientific={
        "initializer": Choice(
            "normal", "lecun_normal", "pytorch_default", "xavier_normal", "kaiming_normal", "orthogonal"
        ),
        "activation": Choice("sigmoid", "tanh", "relu", "leaky_relu", "selu", "gelu"),
    },
    nuisance={"learning_rate": LogUniform(0.003, 1.0), "batch_size": Choice(32, 64, 128, 256)},
    fixed={
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "lr_schedule": "cosine",
        "epochs": 6,
        "input_scaling": "standard",
    },
    sampler="balanced",
    pruner="within_cell",
    searches=4,
    trials=1152,
    replicates=8,
    seed=0,
)
