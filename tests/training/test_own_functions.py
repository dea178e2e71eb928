"""Activations of a study's own train in a stack as they do alone in plain torch, and nothing else asks more of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support import functions
from support.alone import DATA, follow, in_orders, make_data, make_members, make_stack
from support.functions import ALONE, ELEMENTWISE, WIDTH, train_plain

from searchlib.errors import StudyError
from searchlib.networks.functions import is_elementwise
from searchlib.networks.initializers import INITIALIZERS
from searchlib.networks.meanfield import recommended_gain
from searchlib.report.initialization import diagnose
from searchlib.training.loop import train
from searchlib.training.stack import Member
from searchlib.training.symptoms import diagnose_words


def assert_equal_alone(members: list[Member], tolerance: float = 1e-9) -> None:
    stack = make_stack(members)
    epochs = list(train(stack, DATA))
    for position, member in enumerate(stack.members):
        network, history = train_plain(member)
        for epoch, alone in zip(epochs, history, strict=True):
            for name in ("train_loss", "val_loss"):
                measured = getattr(epoch, name)[position]
                assert measured == pytest.approx(alone[name], rel=tolerance, nan_ok=True), (member.config, name)
        for ours, theirs in zip(stack.state(position).values(), network.state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("function", [*ALONE, *ELEMENTWISE], ids=lambda function: function.__name__)
def test_a_function_trains_as_alone_in_plain_torch(function: Callable[[Any], Any]) -> None:
    """Beside others, in two orders of the examples; the last batch is smaller."""
    members = make_members(
        [function, "tanh", function, functions.gated, function],
        hidden=(WIDTH, WIDTH),
        learning_rate=lambda k: 0.02 * (k + 1),
        momentum=0.9,
        nesterov=True,
        batch_size=8,
        epochs=2,
    )
    assert_equal_alone(in_orders(members, 5, 6))


@pytest.mark.parametrize(
    "function",
    [functions.gated, functions.inplace, functions.noisy, functions.over_the_batch, functions.clipped],
)
def test_with_normalization_and_dropout(function: Callable[[Any], Any]) -> None:
    """Dropout and the function draw in turn, as they do alone."""
    members = make_members(
        [function, "relu", function], hidden=(WIDTH, WIDTH), batch_norm=True, dropout=0.3, batch_size=10, epochs=2
    )
    assert_equal_alone(members)


@pytest.mark.parametrize("function", ALONE, ids=lambda function: function.__name__)
def test_what_is_not_elementwise(function: Callable[[Any], Any]) -> None:
    assert not is_elementwise(function, (WIDTH,))


@pytest.mark.parametrize("function", ELEMENTWISE, ids=lambda function: function.__name__)
def test_what_is_elementwise(function: Callable[[Any], Any]) -> None:
    """One call then serves all trials of a stack."""
    calls: list[torch.Size] = []

    def counted(x):
        calls.append(x.shape)
        return function(x)

    assert is_elementwise(function, (WIDTH,))
    stack = make_stack(make_members([counted] * 3, hidden=(WIDTH,), batch_size=10, epochs=1))
    calls.clear()
    next(train(stack, DATA))
    assert {len(shape) for shape in calls} == {3}
    assert len(calls) == 5 + 1, "steps and an evaluation"


# ---------------------------------------------------------------------------------------------------- property test

PARTS: dict[str, Callable[[Any], Any]] = {
    "tanh": torch.tanh,
    "wave": functions.wave,
    "relu in place": lambda x: x.relu_(),
    "scaled in place": lambda x: x.mul_(0.7).add_(0.1),
    "absolute": lambda x: x.abs() + 0.1 * x,
    "noise": lambda x: x + 0.1 * torch.randn_like(x),
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]),
}
for dim in (0, 1, -1):
    PARTS |= {
        f"softmax {dim}": lambda x, dim=dim: x * torch.softmax(x, dim=dim),
        f"mean {dim}": lambda x, dim=dim: x - x.mean(dim=dim, keepdim=True),
        f"cumsum {dim}": lambda x, dim=dim: 0.2 * x.cumsum(dim=dim),
        f"sort {dim}": lambda x, dim=dim: x.sort(dim=dim).values,
        f"flip {dim}": lambda x, dim=dim: x.flip(dim),
    }


def composed(names: list[str]) -> Callable[[Any], Any]:
    def function(x):
        for number, name in enumerate(names):
            x = PARTS[name](x.clone() if number else x)  # what autograd needs later must not be changed in place
        return x

    function.__name__ = " of ".join(reversed(names))
    return function


drawn_functions = st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=3).map(composed)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    one=drawn_functions,
    other=st.one_of(drawn_functions, st.sampled_from(["tanh", "prelu", "rrelu"])),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=2),
    batch_size=st.integers(2, 60),
)
def test_any_function_trains_as_alone(one, other, widths: list[int], batch_size: int) -> None:
    members = make_members([one, other, one], hidden=tuple(widths), learning_rate=0.05, batch_size=batch_size, epochs=1)
    assert_equal_alone(members, tolerance=1e-7)


# ------------------------------------------------------------------------------------- what else asks for activations


@pytest.mark.parametrize("function", [functions.gated, functions.normed, functions.centred_over_the_batch])
def test_diagnostics_leave_out_what_is_not_defined(function: Callable[[Any], Any]) -> None:
    members = make_members([function, "tanh"], hidden=(WIDTH,), batch_size=10, epochs=1)
    (history,) = follow(make_stack(members[:1]), DATA)
    (beside,) = follow(make_stack(members[1:]), DATA)
    together = dict(
        zip(("own", "tanh"), sorted(follow(make_stack(members), DATA), key=lambda h: len(h[0])), strict=True)
    )
    for snapshot, alone in zip(together["tanh"], beside, strict=True):
        assert snapshot == pytest.approx(alone, rel=1e-9), "a neighbour loses nothing"
    for snapshot, alone in zip(together["own"], history, strict=True):
        assert snapshot == pytest.approx(alone, rel=1e-9)
        kinds = {name.partition("/")[0] for name in snapshot}
        assert {"second_moment", "gradient_norm", "preactivation_variance", "weight_std"} <= kinds
        assert not {"saturated", "dead", "jacobian_condition"} & kinds
    assert {"saturated/layer1", "jacobian_condition"} <= together["tanh"][0].keys()
    diagnose_words(members[0].config, history)


@pytest.mark.parametrize("sizes", [(50,), (8,), (8, 50)], ids=str)
def test_a_function_that_refuses_the_probe_batch_trains(sizes: tuple[int, ...]) -> None:
    """The probe of 50 examples and the 8 of the Jacobian are of no size that training has."""

    def picky(x):
        if len(x) in sizes:
            raise ValueError("not so many")
        return x * torch.softmax(x, dim=1)

    members = make_members([picky, "tanh"], hidden=(WIDTH,), batch_size=10, epochs=1)
    histories = follow(make_stack(members), DATA)
    picked = min(histories, key=lambda history: len(history[0]))
    assert (picked == [{}, {}]) is (50 in sizes)
    assert "jacobian_condition" in max(histories, key=lambda history: len(history[0]))[0]
    assert diagnose_words(members[0].config, picked) == [] or 50 not in sizes


@pytest.mark.parametrize("draws", [functions.noisy, functions.dropping])
def test_what_a_trial_draws_depends_on_nothing_else(draws: Callable[[Any], Any]) -> None:
    """Not on its neighbours, on evaluations, on diagnostics or on what was drawn before."""
    members = make_members([draws] * 3, hidden=(WIDTH,), batch_size=10, epochs=2)
    alone = make_stack(members[1:2])
    torch.randn(5)
    losses = [epoch.val_loss[0] for epoch in train(alone, DATA)]
    stack = make_stack(members)
    torch.randn(3)
    follow(stack, DATA)
    assert stack.evaluate(DATA.val_inputs, DATA.val_targets)[0][1] == pytest.approx(losses[-1], rel=1e-9)
    before = torch.get_rng_state()
    often = [epoch.val_loss[1] for epoch in train(make_stack(members), DATA, eval_every=2)]
    assert often == pytest.approx(losses, rel=1e-9)
    assert torch.equal(torch.get_rng_state(), before), "torch's own generator is left as it was"


def test_those_that_are_left_go_on_as_alone() -> None:
    members = make_members(
        [functions.noisy, functions.gated, functions.noisy, "tanh"], hidden=(WIDTH,), batch_size=10, epochs=3
    )
    stack = make_stack(members)
    for epoch in train(stack, DATA):
        if epoch.epoch == 1:
            stack.keep([member.number in (1, 2) for member in stack.members])
    for position, member in enumerate(stack.members):
        assert epoch.val_loss[position] == pytest.approx(train_plain(member)[1][-1]["val_loss"], rel=1e-9)


def test_gains_need_an_elementwise_function() -> None:
    told = "gated isn't element-wise.*give init_gain a number"
    with pytest.raises(StudyError, match=told):
        recommended_gain(functions.gated)
    with pytest.raises(StudyError, match=told):
        make_stack(make_members([functions.gated], hidden=(WIDTH,), initializer="critical"))
    with pytest.raises(StudyError, match="second moment 0 .*give init_gain a number"):
        recommended_gain(lambda x: 0.0 * x)
    assert recommended_gain(functions.inplace) == pytest.approx(math.sqrt(2.0), rel=1e-4)
    assert recommended_gain(lambda x: (x > 0).to(x.dtype)) == pytest.approx(math.sqrt(2.0), rel=1e-4), "no gradient"


def test_mean_field_says_nothing_of_others() -> None:
    found = diagnose("xavier_normal", functions.gated, depth=1, width=WIDTH)
    assert found.predicted == {}
    assert found.measured["saturated"] == [[]]
    assert all("None" not in line for line in found.lines())


def test_weights_that_depend_on_what_a_function_draws() -> None:
    """LSUV looks at the signals behind the function: the same for a trial alone and in a stack."""
    members = make_members([functions.noisy] * 3, hidden=(WIDTH, WIDTH), initializer="lsuv")
    torch.randn(7)
    alone = make_stack(members[1:2]).state(0)
    for name, value in make_stack(members).state(1).items():
        assert torch.equal(value, alone[name])


@pytest.mark.parametrize("initializer", sorted(set(INITIALIZERS) - {"critical"}))
def test_initializers_take_any_function(initializer: str) -> None:
    members = make_members(
        [functions.normed, functions.inplace], hidden=(WIDTH, WIDTH), initializer=initializer, batch_size=25, epochs=1
    )
    assert_equal_alone(members)


def test_in_single_precision() -> None:
    """A function whose constants are of float32 isn't tried in float64, and trains."""
    weight = torch.linspace(-1.0, 1.0, WIDTH * WIDTH).view(WIDTH, WIDTH)

    def weighted(x):
        return torch.tanh(x @ weight)

    data = make_data(dtype=torch.float32)
    members = make_members([weighted, "tanh"], hidden=(WIDTH,), batch_size=10, epochs=1)
    stack = make_stack(members, data)
    (epoch,) = train(stack, data)
    for position, member in enumerate(stack.members):
        assert epoch.val_loss[position] == pytest.approx(train_plain(member, data)[1][0]["val_loss"], rel=1e-5)
