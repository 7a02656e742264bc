import pytest

from backtest_batch.config.arguments import refuse_repeats
from backtest_batch.errors import ConfigurationError


@pytest.mark.parametrize(
    "given",
    [
        [("strategy", "custom"), ("strategy._target_", "mine.A"), ("strategy.window", 5)],
        [("strategy", {"fast": 5}), ("strategy", {"slow": 70}), ("strategy.average", "sma")],
        [("seed", 1), ("seed", 1)],
        [("commission_bps", 1), ("commission_bps", 1.0)],
        [("tags", {"a": 1}), ("tags.b", 2)],
        [("data", {}), ("data.path", "x")],
        [("constraints", {"trades": "> 1"}), ("constraints", {"sharpe": "> 0"})],
    ],
)
def test_parts_of_one_node_and_equal_values_are_no_repeats(given):
    refuse_repeats(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            [("commission_bps", 1), ("commission_bps", 2)],
            "commission_bps is given twice, as 1 and as 2: leave one out; commission_bps=1,2 runs",
        ),
        ([("strategy", "custom"), ("strategy", "equal_weight")], "as custom and as equal_weight"),
        ([("strategy", {"fast": 5}), ("strategy.fast", 7)], "strategy.fast is given twice, as 5 a"),
        ([("tags", {"a": {"b": 1}}), ("tags.a.b", 2)], "tags.a.b is given twice"),
        ([("rank_by", "sharpe"), ("rank_by.calmar", 1)], "rank_by is given as a whole, and rank_"),
        ([("resume", "latest"), ("resume", None)], "as latest and as null: leave one out"),
        ([("verify", True), ("verify", 1)], "as true and as 1"),
    ],
)
def test_two_values_of_one_key_are_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        refuse_repeats(given)


def test_a_value_beside_its_axis_is_refused():
    grid = {"commission_bps": [0, 1], "strategy": {"fast": [5, 10]}, "data": ["csv", "parquet"]}
    refuse_repeats([("strategy", "custom"), ("data.path", "x"), ("spread_bps", 1)], grid=grid)
    given = [("commission_bps", 1), ("strategy.fast", 5), ("data", "csv")]
    with pytest.raises(ConfigurationError) as error:
        refuse_repeats(given, where="here: ", grid=grid)
    assert str(error.value).splitlines() == [
        "here: commission_bps is given twice, as 1 and in param_grid: leave one out",
        "here: strategy.fast is given twice, as 5 and in param_grid: leave one out",
        "here: data is given twice, as csv and in param_grid: leave one out",
    ]
