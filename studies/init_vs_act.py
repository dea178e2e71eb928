"""Which weight initializer suits which activation, once learning rate and batch size are tuned for each pair?

Six initializers and six activations make 36 cells. Each of four searches gives every cell twelve points of learning
rate and batch size: the same eight, then four by a model of the cell's own results. Both are halved within the cell as
they train: a one-hidden-layer network on FashionMNIST, 50,000 images to train on and 10,000 to validate.

Then the best points of each cell, one a search, run again on fresh seeds, up to eight.

Command:   searchlib optimize --study init_vs_act
Run time:  46 minutes of processor time on a busy machine with two cores of an AMD EPYC
Result:    a tie of 15 pairs: lecun_normal, gelu leads with validation 0.8937 (8 seeds of 4 searches, 95 % interval
           0.8899 to 0.8974 as the best of 15), not significantly different from relu and leaky_relu with lecun_normal,
           pytorch_default and orthogonal, gelu with the last two and kaiming_normal, and five others. normal
           (deviation 1) is worst with every activation; without it the activation matters most (p = 0.001), then the
           initializer (p = 0.04). Test 0.8847, 95 % interval 0.8783 to 0.8908. With seed=1: a tie of 6,
           pytorch_default, gelu leads with 0.8946 (0.8908 to 0.8984); no claim of one contradicts the other.
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
    sampler="refined",
    pruner="within_cell",
    searches=4,
    trials=1728,
    replicates=8,
    seed=0,
)
