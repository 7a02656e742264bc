import itertools

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.dependence import (
    CONFOUNDED,
    MAIN_EFFECTS_ONLY,
    MAX_COLUMNS,
    SATURATED,
    TOO_MANY_LEVELS,
    parameter_importance,
)
from backtest_batch.analysis.run_table import RunTable

NAMES = ["fast", "average", "size"]


def frame_of(n_levels=(3, 2, 4), seed=0, repeats=1):
    rng = np.random.default_rng(seed)
    axes = [range(n_levels[0]), [f"m{i}" for i in range(n_levels[1])], np.arange(n_levels[2]) / 4]
    frame = pd.DataFrame(list(itertools.product(*axes)) * repeats, columns=NAMES)
    frame["sharpe"] = (
        frame["fast"] ** 2
        - frame["average"].str[1:].astype(int) * frame["size"]
        + rng.normal(size=len(frame))
    )
    frame["cagr"] = rng.normal(size=len(frame))
    return frame


def shares(frame, metrics=("sharpe",), params=NAMES):
    rows = parameter_importance(RunTable.from_frame(frame, params=list(params)), list(metrics))
    return rows.set_index(["metric", "term"])


def statsmodels_shares(frame, metric):
    from statsmodels.formula import api as formula_api
    from statsmodels.stats import anova

    held = frame.dropna(subset=[metric])
    mains = " + ".join(f"C({name})" for name in NAMES)
    model = formula_api.ols(f"{metric} ~ ({mains})**2", data=held).fit()
    table = anova.anova_lm(model, typ=2).drop(index="Residual")
    total = ((held[metric] - held[metric].mean()) ** 2).sum()
    names = [name.replace("C(", "").replace(")", "").replace(":", " x ") for name in table.index]
    return pd.DataFrame(
        {"eta_squared": (table["sum_sq"] / total).to_numpy(), "df": table["df"].to_numpy()},
        index=names,
    )


@pytest.mark.oracle
@pytest.mark.parametrize("repeats", [1, 2])
def test_a_balanced_grid_agrees_with_statsmodels(repeats):
    frame = frame_of(repeats=repeats)
    ours, oracle = shares(frame).loc["sharpe"], statsmodels_shares(frame, "sharpe")

    assert set(ours["design"]) == {"balanced"}
    for term, row in oracle.iterrows():
        assert ours.loc[term, "eta_squared"] == pytest.approx(row["eta_squared"], abs=1e-9)
        assert ours.loc[term, "degrees_of_freedom"] == row["df"]


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(4))
def test_an_unbalanced_design_agrees_with_statsmodels(seed):
    frame = frame_of(repeats=2, seed=seed)
    frame = frame.drop(index=np.random.default_rng(seed).choice(len(frame), 9, replace=False))
    ours, oracle = shares(frame).loc["sharpe"], statsmodels_shares(frame, "sharpe")

    assert set(ours["design"]) == {"type II"}
    for term, row in oracle.iterrows():
        assert ours.loc[term, "eta_squared"] == pytest.approx(row["eta_squared"], abs=1e-9)
        assert ours.loc[term, "degrees_of_freedom"] == row["df"]


def test_two_factors_worked_by_hand():
    frame = pd.DataFrame(
        {"a": [0, 0, 1, 1], "b": ["x", "y", "x", "y"], "sharpe": [1.0, 3.0, 5.0, 11.0]}
    )

    ours = shares(frame, params=["a", "b"]).loc["sharpe"]

    # Mean 5; a: 4 * 3^2 = 36, b: 4 * 2^2 = 16, a x b: 4 * 1^2 = 4, in all 56.
    assert ours["eta_squared"].to_dict() == {
        "a": round(36 / 56, 10),
        "b": round(16 / 56, 10),
        "a x b": round(4 / 56, 10),
    }
    assert ours["degrees_of_freedom"].tolist() == [1, 1, 1]
    assert ours["parameters"].tolist() == [("a",), ("b",), ("a", "b")]


def test_metrics_that_some_runs_lack_have_a_design_of_their_own():
    frame = frame_of()
    frame.loc[2, "cagr"] = np.nan
    together = shares(frame, ["sharpe", "cagr"])

    assert set(together.loc["sharpe", "design"]) == {"balanced"}
    assert set(together.loc["cagr", "design"]) == {"type II"}
    alone = shares(frame, ["cagr"])
    pd.testing.assert_frame_equal(together.loc[["cagr"]], alone)


def test_terms_are_sorted_by_share_within_the_order_of_the_metrics():
    rows = parameter_importance(RunTable.from_frame(frame_of(), params=NAMES), ["cagr", "sharpe"])

    assert list(dict.fromkeys(rows["metric"])) == ["cagr", "sharpe"]
    for _, part in rows.groupby("metric"):
        assert part["eta_squared"].is_monotonic_decreasing


def test_main_effects_and_the_interaction_of_two_parameters_sum_to_one():
    frame = frame_of((4, 3, 1))

    ours = shares(frame, params=["fast", "average"])

    assert ours["eta_squared"].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e9, 1e200, -3.0])
def test_shares_do_not_depend_on_the_scale(scale):
    frame = frame_of()
    scaled = frame.assign(sharpe=frame["sharpe"] * scale)

    pd.testing.assert_frame_equal(shares(scaled), shares(frame), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("frame", "notes"),
    [
        (pd.DataFrame({"a": [1, 1], "sharpe": [1.0, 2.0]}), ["it has one value in these runs"]),
        (pd.DataFrame({"a": [1, 2], "sharpe": [1.0, 1.0]}), ["it is equal in all runs"]),
        (pd.DataFrame({"a": [1, 2], "sharpe": [1.0, np.nan]}), ["one run has this metric"]),
        (pd.DataFrame({"a": [1, 2], "sharpe": [np.nan] * 2}), ["no run has this metric"]),
        (pd.DataFrame({"a": [], "sharpe": []}), ["no run has this metric"]),
    ],
)
def test_what_is_not_defined_has_a_reason(frame, notes):
    rows = parameter_importance(RunTable.from_frame(frame, params=["a"]), ["sharpe"])

    assert rows["note"].tolist() == notes
    assert rows["eta_squared"].isna().all()
    assert rows["degrees_of_freedom"].tolist() == [0]


def test_without_parameters_there_is_nothing_to_explain():
    frame = pd.DataFrame({"sharpe": [1.0, 2.0]})

    assert parameter_importance(RunTable.from_frame(frame, params=[])).empty


def test_a_value_for_each_run_explains_everything_and_says_so():
    for params in (["a"], ["a", "b"]):
        frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "y"], "sharpe": [1.0, 5.0, 2.0]})
        ours = shares(frame, params=params).loc["sharpe"]
        assert ours.loc["a", "note"] == SATURATED
    assert ours.loc["b", "note"] == CONFOUNDED
    assert ours.loc["a x b", "note"] == CONFOUNDED


def test_parameters_that_vary_together_are_confounded():
    frame = pd.DataFrame(
        {"a": [1, 1, 2, 2, 3, 3], "b": list("xxyyzz"), "sharpe": [1.0, 2.0, 4.0, 3.0, 9.0, 7.0]}
    )

    ours = shares(frame, params=["a", "b"]).loc["sharpe"]

    assert ours["note"].tolist() == [CONFOUNDED] * 3
    assert ours["eta_squared"].isna().all()


def test_an_empty_cell_leaves_fewer_degrees_of_freedom():
    frame = frame_of((3, 2, 2))
    frame = frame[~((frame["fast"] == 2) & (frame["average"] == "m1"))]

    ours = shares(frame).loc["sharpe"]

    assert ours.loc["fast x average", "degrees_of_freedom"] == 1
    assert ours["eta_squared"].between(0, 1).all()


def test_too_many_values_of_an_incomplete_grid_are_said():
    rng = np.random.default_rng(0)
    n_runs = MAX_COLUMNS * 2
    frame = pd.DataFrame(
        {
            "a": rng.integers(0, 40, n_runs),
            "b": rng.integers(0, 40, n_runs),
            "sharpe": rng.normal(size=n_runs),
        }
    )
    ours = shares(frame, params=["a", "b"]).loc["sharpe"]
    assert ours.loc["a x b", "note"] == TOO_MANY_LEVELS
    assert ours.loc[["a", "b"], "note"].tolist() == [MAIN_EFFECTS_ONLY] * 2
    assert ours.loc[["a", "b"], "eta_squared"].between(0, 1).all()

    random_search = frame.assign(a=rng.normal(size=n_runs), b=rng.normal(size=n_runs))
    ours = shares(random_search, params=["a", "b"]).loc["sharpe"]
    assert ours["note"].tolist() == [TOO_MANY_LEVELS] * 3
