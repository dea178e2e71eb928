"""What do four epochs of the published network reach once learning rate and batch size are tuned?

The network, optimizer and number of epochs of ``ee541_fashion`` (784-128-10, ReLU, Adam, four epochs); learning rate
and batch size are chosen on validation, as the unit teaches. The leader runs again on ten fresh seeds.

Command:   searchlib optimize --study ee541_fashion_tuned
Run time:  not measured yet
Result:    not run yet
"""

from searchlib import MLP, Choice, LogUniform, Published, Study

STUDY = Study(
    question="How much do a tuned learning rate and batch size gain over 0.0001 and 100, in four epochs?",
    dataset="fashion_mnist",
    model=MLP(hidden=(128,)),
    scientific={"batch_size": Choice(25, 50, 100, 200, 400)},
    nuisance={"learning_rate": LogUniform(1e-4, 2e-2)},
    fixed={
        "initializer": "pytorch_default",
        "bias_init": "pytorch_default",
        "activation": "relu",
        "optimizer": "adam",
        "lr_schedule": "constant",
        "epochs": 4,
        "input_scaling": "unit",
    },
    sampler="balanced",
    pruner="within_cell",
    trials=40,
    replicates=10,
    seed=0,
    published=(
        Published(
            source="EE 541, unit 7A",
            value=0.8665,
            metric="val_accuracy",
            step=4,
            cell={"batch_size": 100},
            note="on the test set, in an example whose settings aren't all given",
        ),
    ),
)
