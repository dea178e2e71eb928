"""What diagnostics say of a network: in words, and beside the predictions of mean field theory."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from support.alone import follow, make_data, make_members, make_stack

from searchlib.errors import StudyError
from searchlib.report.initialization import diagnose
from searchlib.study.config import TrialConfig
from searchlib.training.symptoms import diagnose_words


def words_at_start(initializer: str, activation: str, **fields) -> list[str]:
    return diagnose(initializer, activation, **{"depth": 1, "width": 100, **fields}).words


def history_of(**fields) -> tuple[TrialConfig, list[dict[str, float]]]:
    data = make_data(train=100, normal=True)
    members = make_members([fields.pop("activation", "relu")], **fields)
    (history,) = follow(make_stack(members, data), data)
    return members[0].config, history


SYMPTOMS = [  # initializer, activation, other fields; how a symptom begins and ends
    ("zeros", "relu", {}, "all 100 units of layer 1 are equal: the initializer 'zeros' doesn't break symmetry", ""),
    ("ones", "tanh", {}, "all 100 units of layer 1 are equal", ""),
    ("constant", "tanh", {}, "all 100 units of layer 1 are equal", ""),
    ("normal", "sigmoid", {"width": 784}, "88 % of layer 1's activations saturated at initialization", "its maximum)"),
    ("pytorch_default", "relu", {"depth": 20}, "gradient shrinks", "vanishing"),
    ("lecun_normal", "sigmoid", {"depth": 8}, "gradient shrinks", "times a layer: vanishing"),
    ("lecun_normal", "tanh", {"depth": 20, "init_gain": 5.0}, "gradient grows", ""),
    ("normal", "relu", {"depth": 3}, "", "exploding"),
]


@pytest.mark.parametrize(("initializer", "activation", "fields", "begins", "ends"), SYMPTOMS)
def test_words_at_initialization(initializer: str, activation: str, fields: dict, begins: str, ends: str) -> None:
    (word, *_) = words_at_start(initializer, activation, **fields)
    assert word.startswith(begins)
    assert word.endswith(ends)


def test_words_name_the_saturated_activation() -> None:
    assert any("(sigmoid' below 5 %" in word for word in words_at_start("normal", "sigmoid"))
    assert any("tanh' below" in word for word in words_at_start("normal", "tanh"))
    assert not any("saturated" in word for word in words_at_start("normal", "relu"))


def test_words_on_symmetry_that_training_does_not_break() -> None:
    config, history = history_of(initializer="constant", activation="tanh", hidden=(8,), batch_size=30, epochs=2)
    assert [row["symmetric/layer1"] for row in history] == [1.0] * 3
    assert "doesn't break symmetry" in diagnose_words(config, history)[0]
    freed = [history[0], {**history[1], "symmetric/layer1": 0.0}]
    assert not any("symmetry" in word for word in diagnose_words(config, freed))


HEALTHY = [
    ("kaiming_normal", "relu", 1), ("xavier_normal", "tanh", 1), ("xavier_normal", "sigmoid", 1),
    ("kaiming_normal", "relu", 20), ("pytorch_default", "relu", 1), ("lecun_normal", "selu", 20),
    ("xavier_normal", "gelu", 2), ("kaiming_normal", "leaky_relu", 10), ("xavier_normal", "hardtanh", 3),
]  # fmt: skip


@pytest.mark.parametrize(("initializer", "activation", "depth"), HEALTHY)
def test_healthy_networks_get_no_words(initializer: str, activation: str, depth: int) -> None:
    assert words_at_start(initializer, activation, depth=depth, width=150) == []
    fields = {"momentum": 0.9, "batch_size": 10, "epochs": 5, "learning_rate": 0.01, "width": 100}
    config, history = history_of(initializer=initializer, activation=activation, depth=min(depth, 3), **fields)
    assert diagnose_words(config, history) == []


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (30.0, "learning rate 30 likely too large: "),
        (1e-6, "learning rate 1e-06 likely too small: a step changed weights by"),
    ],
)
def test_words_on_the_learning_rate(rate: float, expected: str) -> None:
    words = diagnose_words(*history_of(hidden=(50,), batch_size=30, epochs=2, learning_rate=rate))
    assert any(word.startswith(expected) for word in words)
    assert rate > 1.0 or len(words) == 1


def test_words_on_dead_units() -> None:
    config, history = history_of(hidden=(40,), bias_init="constant", bias_value=-20.0, epochs=1)
    (word, *_) = diagnose_words(config, history)
    assert word.startswith("100 % of layer 1's units dead at initialization") or "no gradient" in word


def test_words_on_divergence() -> None:
    config = TrialConfig(learning_rate=9.0)
    (word,) = diagnose_words(config, [], diverged_step=212)
    assert word == ("diverged at step 212: the loss became infinite or NaN; likely reason: learning rate 9 too large")
    loud = diagnose("normal", "relu", depth=3, width=100)
    start = {"preactivation_variance/layer4": 1e6, "gradient_norm/layer1": 1.0, "weight_std/layer1": 1.0}
    (word, *rest) = diagnose_words(loud.config, [start], diverged_step=1)
    assert word.endswith("likely reason: signals explode from initialization on")
    assert rest == [*loud.words] or rest[0].endswith("exploding")
    assert diagnose_words(config, []) == []
    assert diagnose_words(config, [{}]) == []


# ------------------------------------------------------------------------------------------------- beside mean field

PAIRS = [
    ("xavier_normal", "tanh"),
    ("kaiming_normal", "relu"),
    ("pytorch_default", "relu"),
    ("lecun_normal", "sigmoid"),
    ("xavier_normal", "gelu"),
    ("lecun_normal", "selu"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("initializer", "activation"), PAIRS)
def test_wide_networks_follow_mean_field(initializer: str, activation: str) -> None:
    """Within five standard errors of the mean of the networks, and a bias of the order of the sum of 1/width."""
    depth, width = 2, 1000
    found = diagnose(initializer, activation, depth=depth, width=width)
    for statistic in ("second_moment", "gradient", "chi"):
        for layer in range(depth):
            values = found.measured[statistic][layer]
            error = statistics.stdev(values) / math.sqrt(found.networks)
            expected = found.predicted[statistic][layer]
            assert len(values) == 8
            assert abs(statistics.mean(values) - expected) < 5 * error + 5 * depth / width * expected, (
                statistic,
                layer,
            )


def test_published_factors() -> None:
    """A ReLU network loses 6 times its second moment a layer by PyTorch's default, a sigmoid one 22 times its gradient
    at gain 1 and q = 1; He keeps both."""
    default = diagnose("pytorch_default", "relu", depth=3, width=200, bias_init="zeros").predicted
    assert default["second_moment"][1] / default["second_moment"][0] == pytest.approx(1 / 6, rel=0.02)
    assert diagnose("lecun_normal", "sigmoid", depth=1, width=400).predicted["chi"][0] == pytest.approx(
        1 / 22.3, rel=0.02
    )
    he = diagnose("kaiming_normal", "relu", depth=3, width=200).predicted
    assert he["second_moment"] + he["chi"] == pytest.approx([1.0] * 6, rel=0.05)


def test_the_spread_over_networks_shrinks_with_width() -> None:
    """The log of the last second moment varies as the sum of 1/width: here 10 times less in the wide networks."""

    def variance(width: int) -> float:
        (*_, last) = diagnose("kaiming_normal", "relu", depth=5, width=width).measured["second_moment"]
        return statistics.variance(math.log(value) for value in last)

    assert 10 / 6 < variance(20) / variance(200) < 10 * 6  # eight networks each: F(7, 7)


@pytest.mark.parametrize("initializer", ["ones", "uniform", "constant", "eye", "zeros"])
def test_mean_field_says_nothing_of_weights_without_a_zero_mean_law(initializer: str) -> None:
    found = diagnose(initializer, "tanh", depth=2, width=60)
    assert found.predicted == {}
    assert any("mean field says nothing" in line for line in found.lines())
    assert len(found.figure().data) > 0


def test_a_diagnosis_is_printed_and_drawn(tmp_path: Path) -> None:
    found = diagnose("pytorch_default", "relu", depth=20, width=50)
    text = "\n".join(found.lines())
    assert "pytorch_default, relu: 20 hidden layers of 50 units, 8 networks" in text
    assert sum(line.lstrip().split(" ")[0].isdecimal() for line in found.lines()) == 20
    assert "vanishing" in text
    figure = found.figure()
    drawn = {trace.name: trace for trace in figure.data if trace.name}
    assert list(drawn["mean field"].y) == found.predicted["gradient"]
    assert list(drawn["dead"].y) == [statistics.fmean(values) for values in found.measured["dead"]]
    page = found.write(tmp_path / "figure.html").read_text(encoding="utf-8")
    assert "vanishing" in page
    assert "src=" not in page.split("<body>")[0]
    assert diagnose("zeros", "relu", depth=0, width=5).lines()[0].startswith("zeros, relu: no hidden layer")
    with pytest.raises(StudyError, match="width=20000"):
        diagnose("normal", "relu", depth=3, width=20_000)
