"""Which weight initializer suits which activation, once learning rate and batch size are tuned for each pair?

Six initializers and six activations make 36 cells. Each of four searches gives every cell the same eight points of
learning rate and batch size, halved within the cell as they train: a one-hidden-layer network on FashionMNIST, 50,000
images to train on and 10,000 to validate.

Then the best points of each cell, one a search, run again on fresh seeds, up to eight.

Command:   searchlib optimize --study init_vs_act
Run time:  19 minutes on two cores of an AMD EPYC with other work, 32 minutes of processor time
Result:    a tie of 20 pairs: pytorch_default, gelu leads with validation 0.8930 (8 seeds of 4 searches, 95 %
           interval 0.8873 to 0.8988 as the best of 20), not significantly different from gelu, leaky_relu and sigmoid
           with any initializer but normal, relu with four of them, and orthogonal, selu. normal (deviation 1) is worst
           with every activation; without it the activation matters (p = 0.001) and the initializer doesn't show
           (p = 0.21). Test 0.8862, 95 % interval 0.8798 to 0.8923.
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
