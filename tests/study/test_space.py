"""Dimensions: values stay in their range, survive encoding, appear under their condition; bad ones are refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from searchlib.errors import StudyError
from searchlib.study.space import Choice, Dimension, IntUniform, LogUniform, Uniform, encode


def gelu_like(x):
    return x


plain = st.one_of(
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.none(),
    st.lists(st.integers(1, 999), min_size=1, max_size=4).map(tuple),
)
units = st.floats(0.0, 1.0)


@st.composite
def uniforms(draw) -> Uniform:
    low, high = sorted(draw(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))))
    assume(low < high)
    return Uniform(low, high)


@st.composite
def log_uniforms(draw) -> LogUniform:
    low, high = sorted(draw(st.tuples(st.floats(1e-12, 1e9), st.floats(1e-12, 1e9))))
    assume(low < high)
    return LogUniform(low, high)


@st.composite
def int_uniforms(draw) -> IntUniform:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -10_000, 10_000))
    step = 1 if log else draw(st.integers(1, 50))
    return IntUniform(low, low + step * draw(st.integers(1, 500)), step=step, log=log)


ranges = st.one_of(uniforms(), log_uniforms(), int_uniforms())


@given(ranges, units, units)
def test_at_stays_inside_and_is_monotone(dimension, first: float, second: float) -> None:
    low, high = dimension.at(min(first, second)), dimension.at(max(first, second))
    assert dimension.low <= low <= high <= dimension.high


@given(ranges)
def test_at_reaches_from_the_lower_to_the_upper_bound(dimension) -> None:
    round_off = 1e-15 * max(abs(dimension.low), abs(dimension.high))
    assert dimension.at(0.0) == pytest.approx(dimension.low, rel=1e-12, abs=round_off)
    assert dimension.at(1.0) == pytest.approx(dimension.high, rel=1e-12, abs=round_off)
    assert dimension.extremes() == (dimension.low, dimension.high)


@given(int_uniforms(), units)
def test_whole_numbers_are_values_of_the_dimension(dimension: IntUniform, unit: float) -> None:
    value = dimension.at(unit)
    assert type(value) is int
    assert value in dimension.values()
    assert (value - dimension.low) % dimension.step == 0


def test_every_value_has_its_share_of_the_unit_interval() -> None:
    grid = [(index + 0.5) / 12_000 for index in range(12_000)]
    for dimension in (Choice("a", "b", "c"), IntUniform(10, 16, step=3)):
        drawn = [dimension.at(unit) for unit in grid]
        assert [drawn.count(value) for value in dimension.values()] == [4000, 4000, 4000]
    drawn = [IntUniform(1, 8, log=True).at(unit) for unit in grid]
    for value in range(1, 9):  # each whole number stands for value ± 1/2 on the logarithmic axis
        share = math.log((value + 0.5) / (value - 0.5)) / math.log(8.5 / 0.5)
        assert drawn.count(value) / len(grid) == pytest.approx(share, abs=2e-4)


def test_ranges_near_the_limits_of_floats_stay_finite_and_monotone() -> None:
    log = [LogUniform(1e-300, 1e300).at(unit) for unit in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert log == pytest.approx([1e-300, 1e-150, 1.0, 1e150, 1e300])
    wide = [Uniform(-1.5e308, 1.5e308).at(unit) for unit in (0.0, 0.5, 1.0)]
    assert wide == pytest.approx([-1.5e308, 0.0, 1.5e308])


@given(st.lists(plain, min_size=1, max_size=6, unique_by=encode))
def test_encoded_choices_decode_to_the_same_option(options: list) -> None:
    choice = Choice(*options)
    for option, value in zip(options, choice.values(), strict=True):
        assert choice.decode(value) is option
        assert choice.decode(encode(option)) is option


@given(ranges, units)
def test_encoded_numbers_decode_to_themselves(dimension, unit: float) -> None:
    value = dimension.at(unit)
    assert dimension.decode(encode(value)) == value


def test_encoding() -> None:
    assert encode((256, 128)) == encode([256, 128]) == "256-128"
    assert encode(()) == ""
    assert encode(gelu_like) == "gelu_like"
    assert [encode(value) for value in (1, 1.5, "relu", True, None)] == [1, 1.5, "relu", True, None]


class Scaled:
    """A callable without a __name__."""

    def __call__(self, x):
        return 2 * x


@pytest.mark.parametrize("value", [{"a": 1}, object(), Scaled(), 1j], ids=["dict", "object", "nameless", "complex"])
def test_a_value_that_no_store_can_hold_is_refused(value: object) -> None:
    with pytest.raises(StudyError, match="can't be a hyperparameter; expected"):
        encode(value)


def test_functions_in_a_choice() -> None:
    choice = Choice("tanh", gelu_like)
    assert choice.values() == ("tanh", "gelu_like")
    assert choice.decode("gelu_like") is gelu_like
    with pytest.raises(StudyError, match="'relu' is none of 'tanh', 'gelu_like'"):
        choice.decode("relu")


def test_descriptions() -> None:
    assert Choice(1, (2, 3)).describe() == {"type": "Choice", "values": [1, "2-3"]}
    assert Uniform(0.0, 1.0).when(optimizer="sgd").describe() == {
        "type": "Uniform", "low": 0.0, "high": 1.0, "when": {"optimizer": ["sgd"]},
    }  # fmt: skip
    assert IntUniform(1, 7, step=2).describe() == {"type": "IntUniform", "low": 1, "high": 7, "step": 2, "log": False}


def test_when() -> None:
    for dimension in (Uniform(0.0, 0.9), LogUniform(0.1, 0.9), IntUniform(1, 3), Choice(0.0, 0.9)):
        assert dimension.active({})
        conditional = dimension.when(optimizer=("sgd", "rmsprop"), nesterov=False)
        assert type(conditional) is type(dimension)
        assert conditional.at(0.5) == dimension.at(0.5)
        assert dimension.active({"optimizer": "adam"}), "the original is unchanged"
        assert conditional.active({"optimizer": "rmsprop", "nesterov": False, "epochs": 3})
        assert not conditional.active({"optimizer": "adam", "nesterov": False})
        assert not conditional.active({"optimizer": "sgd", "nesterov": True})
        assert not conditional.active({"optimizer": "sgd"}), "a hyperparameter that isn't there meets no condition"


def test_when_accepts_lists_functions_and_widths() -> None:
    assert Uniform(0.0, 1.0).when(batch_size=[32, 64]).active({"batch_size": 64})
    conditional = Uniform(0.0, 1.0).when(activation=gelu_like)
    assert conditional.active({"activation": "gelu_like"})
    assert conditional.active({"activation": gelu_like})
    assert not conditional.active({"activation": "gelu"})
    assert Uniform(0.0, 1.0).when(hidden=[(256, 128), (64,)]).active({"hidden": "256-128"})


@pytest.mark.parametrize("dimension", [Uniform(0.0, 1.0), IntUniform(1, 3), Choice(1, 2)], ids=repr)
def test_conditions_add_up_and_the_later_one_counts(dimension: Dimension) -> None:
    both = dimension.when(optimizer="sgd").when(nesterov=True)
    assert both.condition == {"optimizer": ("sgd",), "nesterov": (True,)}
    assert dimension.when(optimizer="sgd").when(optimizer="adam").condition == {"optimizer": ("adam",)}


def test_when_needs_a_condition() -> None:
    with pytest.raises(StudyError, match=r'write for example \.when\(optimizer="sgd"\)'):
        Uniform(0.0, 1.0).when()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice(), r"Choice\(\) has no value; give at least one"),
        (lambda: Choice([1, 2]), r"Choice\(\[1, 2\]\): write the values one by one, Choice\(a, b, c\)"),
        (lambda: Choice(1, 2, 1), "names 1 twice; give each value once"),
        (lambda: Choice((64, 32), "64-32"), "names '64-32' twice"),
        (lambda: Choice({"a": 1}), "can't be a hyperparameter"),
        (lambda: Uniform(1.0, 1.0), r"Uniform\(1\.0, 1\.0\): the range is empty; expected the lower bound first"),
        (lambda: LogUniform(1.0, 0.1), r"LogUniform\(1\.0, 0\.1\): the range is empty"),
        (lambda: LogUniform(0.0, 1.0), r"LogUniform\(0\.0, 1\.0\): the lower bound must be above 0"),
        (lambda: Uniform(False, 1.0), "False is no finite number"),
        (lambda: Uniform(0.0, True), "True is no finite number"),
        (lambda: IntUniform(False, 5), "False is no finite number"),
        (lambda: Uniform(0.0, math.inf), r"Uniform\(0\.0, inf\): inf is no finite number"),
        (lambda: Uniform(math.nan, 1.0), "nan is no finite number"),
        (lambda: LogUniform("1e-3", 1.0), "'1e-3' is no finite number"),
        (lambda: IntUniform(5, 5), "the range is empty"),
        (lambda: IntUniform(1.0, 5), "expected whole numbers"),
        (lambda: IntUniform(1, 5, step=0.5), "expected whole numbers"),
        (lambda: IntUniform(1, 5, step=0), "the step must be 1 or more"),
        (lambda: IntUniform(1, 5, step=3), "the step doesn't lead from 1 to 5"),
        (lambda: IntUniform(0, 5, log=True), "the lower bound must be 1 or more and the step 1"),
        (lambda: IntUniform(1, 5, step=2, log=True), "the lower bound must be 1 or more and the step 1"),
    ],
)
def test_bad_dimensions_are_study_errors_that_help(make, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
