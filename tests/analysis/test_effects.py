"""Effects of the scientific hyperparameters, against sums of squares by hand, statsmodels, and their level."""

from __future__ import annotations

import itertools

import numpy as np
import pandas
import pytest
from scipy import stats
from support.series import noisy, series

from searchlib.analysis.comparison import chosen_interval
from searchlib.analysis.effects import effects, simple_effects, without_dominating
from searchlib.analysis.spending import Plan


def factorial(*levels: tuple[str, tuple], seeds: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    names = [name for name, _ in levels]
    cells = [dict(zip(names, of, strict=True)) for of in itertools.product(*(values for _, values in levels))]
    return cells, [noisy(rng, seeds, float(position)) for position, _ in enumerate(cells)]


def test_effects_by_hand() -> None:
    """Sums of squares of a balanced two-way layout with blocks, from the marginal means."""
    cells, values = factorial(("f", ("x", "y", "z")), ("g", (1, 2)), seeds=4)
    found, note = effects(cells, values, ["f", "g"])
    assert note is None
    data = np.array([[list(v.values()) for v in values[2 * i : 2 * i + 2]] for i in range(3)])  # [3, 2, 4]
    grand = data.mean()
    f = data.mean(axis=(1, 2)) - grand
    g = data.mean(axis=(0, 2)) - grand
    both = data.mean(axis=2) - grand - f[:, None] - g[None, :]
    block = data.mean(axis=(0, 1)) - grand
    sums = {"f": 8 * (f**2).sum(), "g": 12 * (g**2).sum(), "f:g": 4 * (both**2).sum()}
    total = ((data - grand) ** 2).sum()
    residual = total - sum(sums.values()) - 6 * (block**2).sum()
    df = {"f": 2, "g": 1, "f:g": 2}
    assert [effect.term for effect in found] == ["f", "g", "f:g"]
    for effect in found:
        name = effect.term
        ratio = (sums[name] / df[name]) / (residual / 15)
        assert effect.df == df[name]
        assert effect.sum_sq == pytest.approx(sums[name])
        assert effect.f == pytest.approx(ratio)
        assert effect.p == pytest.approx(stats.f.sf(ratio, df[name], 15), abs=0.05)
        assert effect.partial_eta_squared == pytest.approx(sums[name] / (sums[name] + residual))
        omega = (sums[name] - df[name] * residual / 15) / (total + residual / 15)
        assert effect.omega_squared == pytest.approx(max(0.0, omega))


def test_one_factor_is_a_repeated_measures_analysis() -> None:
    from statsmodels.stats.anova import AnovaRM

    cells, values = factorial(("f", (None, True, 2.5)), seeds=6)
    found, _ = effects(cells, values, ["f"])
    table = pandas.DataFrame(
        [
            {"level": str(cell["f"]), "seed": seed, "value": value}
            for cell, of in zip(cells, values, strict=True)
            for seed, value in of.items()
        ]
    )
    wanted = AnovaRM(table, "value", "seed", within=["level"]).fit().anova_table
    assert [effect.term for effect in found] == ["f"]
    assert found[0].f == pytest.approx(wanted["F Value"].item())
    assert found[0].p == pytest.approx(wanted["Pr > F"].item(), abs=0.05)


def test_three_factors_have_two_way_interactions_only() -> None:
    cells, values = factorial(("a", (1, 2)), ("b", (1, 2)), ("c", (1, 2)), seeds=3)
    found, note = effects(cells, values, ["a", "b", "c"])
    assert note is None
    assert [effect.term for effect in found] == ["a", "b", "c", "a:b", "a:c", "b:c"]


def test_effects_use_the_seeds_that_all_cells_share() -> None:
    cells, values = factorial(("f", (1, 2)), ("g", (1, 2)), seeds=5)
    more = [{**of, 6: 100.0} if position else of for position, of in enumerate(values)]
    assert effects(cells, more, ["f", "g"]) == effects(cells, values, ["f", "g"])


def test_effects_that_cannot_be_computed_say_why() -> None:
    cells, values = factorial(("f", (1, 2)), ("g", (1, 2)), seeds=3)
    for arguments, reason in [
        (([{}], values[:1], []), "no scientific dimension"),
        (([], [], ["f"]), "fewer than two cells"),
        ((cells[:3], values[:3], ["f", "g"]), "not all combinations"),
        (([*cells[:3], {"f": 2}], values, ["f", "g"]), "conditional"),
        ((cells, [{1: value[1]} for value in values], ["f", "g"]), "fewer than two seeds"),
        ((cells, [*values[:3], {9: 1.0, 10: 2.0}], ["f", "g"]), "fewer than two seeds"),
        ((cells, [series(0.5, 0.5)] * 4, ["f", "g"]), "same value"),
        ((cells, [series(i, i) for i in range(4)], ["f", "g"]), "don't vary"),
    ]:
        found, note = effects(*arguments)
        assert found == []
        assert reason in note


def test_a_dimension_with_one_value_has_no_effect_and_spoils_none() -> None:
    cells, values = factorial(("f", ("only",)), ("g", (1, 2)), seeds=4)
    found, _ = effects(cells, values, ["f", "g"])
    assert [effect.term for effect in found] == ["g"]


def test_type_two_sums_of_squares_are_those_of_statsmodels() -> None:
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    cells, values = factorial(("f", (1, 2, 3)), ("g", (1, 2)), ("h", (1, 2)), seeds=3)
    rows = [
        {**{name: f"l{level}" for name, level in cell.items()}, "block": f"b{seed}", "value": value}
        for cell, of in zip(cells, values, strict=True)
        for seed, value in of.items()
    ]
    model = ols("value ~ f + g + h + f:g + f:h + g:h + block", data=pandas.DataFrame(rows)).fit()
    table = anova_lm(model, typ=2)
    found, _ = effects(cells, values, ["f", "g", "h"])
    for effect in found:
        wanted = table.loc[effect.term, "sum_sq"], table.loc[effect.term, "F"]
        assert (effect.sum_sq, effect.f) == pytest.approx(wanted)


@pytest.mark.slow
def test_the_level_holds_where_tails_are_heavy() -> None:
    rng = np.random.default_rng(0)
    cells, _ = factorial(("f", (1, 2, 3)), ("g", (1, 2)), seeds=4)
    small = {"f": 0, "g": 0, "f:g": 0}
    for _ in range(200):
        values = [series(*rng.standard_t(3, 4).tolist()) for _ in cells]
        for effect in effects(cells, values, ["f", "g"])[0]:
            small[effect.term] += effect.p <= 0.05
    most = stats.binom.isf(0.001, 200, 0.05)
    assert all(0 < count <= most for count in small.values())


def test_a_level_that_makes_up_an_effect_is_set_apart() -> None:
    rng = np.random.default_rng(1)
    cells, _ = factorial(("initializer", ("normal", "xavier", "he")), ("activation", ("tanh", "relu")), seeds=4)
    drops = {"normal": -8.0, "xavier": 0.0, "he": 0.1}
    values = [noisy(rng, 5, drops[cell["initializer"]] + (cell["activation"] == "relu")) for cell in cells]
    found, rest = without_dominating(cells, values, ["initializer", "activation"])
    assert found == {"initializer": "normal"}
    kept = [place for place, cell in enumerate(cells) if cell["initializer"] != "normal"]
    wanted = effects([cells[p] for p in kept], [values[p] for p in kept], ["initializer", "activation"])[0]
    assert rest == wanted
    even = [noisy(rng, 5, {"normal": -3.0, "xavier": 0.0, "he": 3.0}[cell["initializer"]]) for cell in cells]
    assert without_dominating(cells, even, ["initializer", "activation"]) == ({}, [])


def test_the_best_of_one_hyperparameter_for_each_value_of_the_other() -> None:
    rng = np.random.default_rng(2)
    gains = {("a", 1): 5.0, ("b", 1): 0.0, ("c", 1): 5.0, ("a", 2): 0.0, ("b", 2): 5.0, ("c", 2): 0.0}
    values = {(("f", name), ("g", level)): noisy(rng, 8, gain) for (name, level), gain in gains.items()}
    plan = Plan(direction="maximize", looks=(8,))
    found = {(one.hyperparameter, *one.within.values()): one for one in simple_effects(values, plan, ["f", "g"])}
    assert set(found) == {("f", 1), ("f", 2), ("g", "a"), ("g", "b"), ("g", "c")}
    first = found["f", 1]
    assert {first.best, *first.ties} == {"a", "c"}
    assert (found["f", 2].best, found["f", 2].ties) == ("b", ())
    assert {rival.value for rival in first.rivals} == {"a", "b", "c"} - {first.best}
    assert (found["g", "b"].best, found["g", "a"].best) == (2, 1)
    assert simple_effects({(("f", name),): noisy(rng, 8) for name in "abc"}, plan, ["f"]) == []


@pytest.mark.slow
@pytest.mark.parametrize("cells", [1, 4, 12, 36])
def test_the_interval_of_the_best_of_equal_cells_covers_its_mean(cells: int) -> None:
    """The plain interval covers in 71 % of studies of 36 cells."""
    rng = np.random.default_rng(3)
    covered = plain = 0
    for _ in range(400):
        drawn = rng.standard_normal((cells, 10))
        best = int(drawn.mean(axis=1).argmax())
        units = [series(*row.tolist()) for row in drawn]
        low, high = chosen_interval(units[best], [found for place, found in enumerate(units) if place != best])
        covered += low <= 0.0 <= high
        plain += abs(drawn[best].mean()) <= stats.t.ppf(0.975, 9) * drawn[best].std(ddof=1) / np.sqrt(10)
    assert covered >= stats.binom.ppf(0.001, 400, 0.95)
    assert cells < 12 or plain < 0.9 * 400
