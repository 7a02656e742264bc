"""Which combinations of a grid there are: constraint, zip and axes below a choice."""

import itertools

import pytest

from backtest_batch.compose.arguments import read_arguments, readable
from backtest_batch.compose.configurations import Composer, batch_config
from backtest_batch.compose.constraint import satisfying
from backtest_batch.compose.grid import Grid, ZippedAxes, read_grid
from backtest_batch.errors import ConfigurationError


@pytest.fixture
def read(loader):
    """Return the grid of a command line whose runs are those that satisfy its constraint."""

    def read(*arguments: str, constraint=None, **spanning) -> Grid:
        config = loader.load_configuration("config", [], run_mode=None)
        composer = Composer(loader, "config", [], batch_config(config))
        keys = read_arguments(readable(arguments)).keys
        grid = read_grid(
            keys,
            spanning.get("param_grid"),
            spanning.get("runs"),
            loader,
            zipped=spanning.get("zipped"),
            constraint=constraint,
        )
        return satisfying(grid, constraint, composer, config.hydra.runtime.choices)

    return read


def cells(grid: Grid) -> list[tuple[object, ...]]:
    return [tuple(item.value for item in items) for _, _, items in grid.combinations()]


def test_cells_that_do_not_hold_are_left_out_in_the_order_of_the_product(read):
    grid = read(
        "strategy.fast=10,20,30",
        "commission_bps=0,1",
        "strategy.slow=20,30,60",
        constraint="strategy.fast < strategy.slow",
    )
    product = itertools.product([10, 20, 30], [0, 1], [20, 30, 60])
    assert cells(grid) == [cell for cell in product if cell[0] < cell[2]]
    assert (grid.size, grid.n_left_out) == (12, 6)
    assert grid.n_values == {"strategy.fast": 3, "commission_bps": 2, "strategy.slow": 3}
    assert grid.count(lambda key: key.startswith("strategy")) == 6


@pytest.mark.parametrize(
    ("constraint", "kept"),
    [
        ("strategy.fast > 15", [20, 30]),
        ("strategy.fast >= strategy.slow / 3", [20, 30]),  # strategy.slow is not swept: 60
        ("strategy == 'trend_baseline' and strategy.fast < 15", [10]),
        ("strategy.average == 'ema' and seed == 42 and strategy.fast == 30", [30]),
        ("max_weight is null and strategy.fast in [10, 30]", [10, 30]),
        ("profiling.enabled == false and strategy.fast != 20", [10, 30]),
        ("risk_free_rate == 0 and cash_rate == 0 and strategy.fast < 30", [10, 20]),
        (["strategy.fast > 10", "strategy.fast < 30"], [20]),
    ],
)
def test_a_key_that_is_not_swept_has_its_value(read, constraint, kept):
    assert cells(read("strategy.fast=10,20,30", constraint=constraint)) == [(x,) for x in kept]


def test_values_are_those_that_runs_will_have(read):
    grid = read("start_date=2005,2010", constraint="start_date >= '2008'")
    assert cells(grid) == [(2010,)]
    grid = read("cash_rate=0,0.05", constraint="risk_free_rate > 0.01")
    assert cells(grid) == [(0.05,)]
    grid = read("cash_rate=0,0.05", "risk_free_rate=0", constraint="risk_free_rate < cash_rate")
    assert cells(grid) == [(0.05,)]
    grid = read(
        "strategy=trend_baseline,mean_reversion", constraint="strategy.window < 50"
    )  # trend_baseline has no window: this does not speak of it
    assert cells(grid) == [("trend_baseline",), ("mean_reversion",)]
    grid = read("strategy=trend_baseline,mean_reversion", constraint="strategy.fast > 20")
    assert cells(grid) == [("mean_reversion",)]
    grid = read("strategy={fast:5},{fast:80},{slow:3}", constraint="strategy.fast < strategy.slow")
    assert cells(grid) == [({"fast": 5},)]


def test_a_default_of_a_constructor_counts(read):
    target = "strategy._target_=backtest_batch.strategies.TrendBaseline"
    grid = read(
        "strategy=custom", target, "+strategy.fast=10,30,60,90",
        constraint="strategy.fast < strategy.slow",
    )  # fmt: skip
    assert cells(grid) == [(10,), (30,)]


def test_listed_runs_are_left_out_too(read):
    runs = [{"id": "a", "strategy.fast": 10}, {"id": "b", "strategy.fast": 90}, {"id": "c"}]
    grid = read(runs=runs, constraint="strategy.fast < strategy.slow")
    assert [run_id for run_id, _, _ in grid.combinations()] == ["a", "c"]
    assert grid.n_left_out == 1


def test_a_huge_grid_is_counted_without_being_made(read):
    grid = read(
        "strategy.fast=range(0,1000)",
        "seed=range(0,1000000000)",
        "strategy.slow=range(0,1000)",
        constraint="strategy.fast < strategy.slow",
    )
    assert grid.size == 499_500 * 10**9
    assert [items[0].value for _, _, items in itertools.islice(grid.combinations(), 2)] == [0, 0]


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("strategy.fats < 5", r"strategy.fats is not a known key; did you mean strategy.fast"),
        ("fast < slow", r"fast is not a known key; did you mean strategy.fast\?"),
        ("rebalance == M", 'M is not a known key.*a text stands in quotes: "M"'),
        ("strategy.fast > 100", 'none of 3 combinations satisfies "strategy.fast > 100", with '),
        (["strategy.fast > 5", "strategy.fast > 100"], 'satisfies "strategy.fast > 100"'),
        (["strategy.fast > 15", "strategy.fast < 15"], '"strategy.fast > 15" and "strategy.fast'),
        ("strategy.fast < 'M'", 'cannot be evaluated for strategy.fast=10: 10 and the text "M"'),
        ("1 / (strategy.fast - 20) > 0", "for strategy.fast=20: division by zero"),
        ("data < 5", 'for data=sp500: the text "sp500" and 5 have no order'),
        ("profiling == 5", r"profiling is a mapping; name one of its keys: profiling.enabled"),
        ("strategy.fast <", "cannot be read"),
        (7, "must be a text"),
    ],
)
def test_a_constraint_that_cannot_be_used_is_refused(read, constraint, message):
    with pytest.raises(ConfigurationError, match=message):
        read("strategy.fast=10,20,30", constraint=constraint)


@pytest.mark.parametrize(
    "typed",
    [
        'constraint="strategy.fast < 20"',
        "constraint=strategy.fast < 20",
        "constraint=strategy.fast in [10, 15]",
        "constraint=(strategy.fast < 20) and rebalance in ['M', \"W\"]",
        "constraint=[strategy.fast < 20, strategy.fast > 5]",
        "constraint=['strategy.fast < 20', \"strategy.fast > 5\"]",
        "constraint=min(strategy.fast, 15) < 15",
        "constraint=not strategy.fast >= 20",
        "constraint=strategy.fast<20",
    ],
)
def test_it_is_typed_with_or_without_quotes_of_its_own(read, typed):
    (argument,) = read_arguments(readable([typed])).keys
    assert not argument.is_sweep
    assert cells(read("strategy.fast=10,20,30", constraint=argument.value)) == [(10,)]


def test_zipped_axes_move_together(read):
    grid = read(
        "rebalance=M,W",
        "strategy.fast=5,10,20",
        "commission_bps=0,1",
        "strategy.slow=20,40,80",
        zipped=[["strategy.fast", "strategy.slow"]],
    )
    pairs = [(5, 20), (10, 40), (20, 80)]
    assert cells(grid) == [
        (period, fast, slow, commission)
        for period, (fast, slow), commission in itertools.product("MW", pairs, [0, 1])
    ]
    assert grid.size == 12
    assert isinstance(grid.blocks[0].dimensions[1], ZippedAxes)
    assert grid.size_text == "2 rebalance x 3 strategy.fast with strategy.slow x 2 commission_bps"
    assert grid.n_values["strategy.slow"] == 3


def test_a_constraint_sees_zipped_axes_as_they_move(read):
    grid = read(
        "strategy.fast=5,10,20",
        "strategy.slow=20,15,10",
        zipped=[["strategy.fast", "strategy.slow"]],
        constraint="strategy.fast < strategy.slow",
    )
    assert cells(grid) == [(5, 20), (10, 15)]


@pytest.mark.parametrize(
    ("arguments", "zipped", "message"),
    [
        (
            ("seed=1,2", "rebalance=M,W,D"),
            [["seed", "rebalance"]],
            "seed has 2 values, rebalance h",
        ),
        (("seed=1", "rebalance=M,W"), [["seed", "rebalance"]], "seed is not swept"),
        (("seed=1,2",), [["seed", "rebalance"]], "rebalance is not swept"),
        (("seed=1,2", "strategy.fast=1,2"), [["seed", "strategy.fats"]], "mean strategy.fast"),
        (("seed=1,2", "rebalance=M,W"), [["seed", "rebalance"], ["seed", "seed"]], "seed twice"),
        (("seed=1,2", "rebalance=M,W"), ["seed", "rebalance"], "must be a list of lists of keys"),
        (("seed=1,2", "rebalance=M,W"), "seed", "must be a list of lists"),
        (("seed=1,2", "rebalance=M,W"), [["seed"]], "at least two keys"),
        (("seed=1,2", "rebalance=M,W"), [["seed", 1]], "must be a list of lists"),
    ],
)
def test_axes_that_cannot_move_together_are_refused(read, arguments, zipped, message):
    with pytest.raises(ConfigurationError, match=message):
        read(*arguments, zipped=zipped)


BELOW = {
    "strategy": {
        "trend_baseline": {"fast": [10, 20], "slow": [60, 120]},
        "mean_reversion": {"window": [10, 20], "average": "sma"},
        "equal_weight": None,
    }
}


def test_axes_below_a_choice_multiply_there_alone(read):
    grid = read("commission_bps=0,1", param_grid=BELOW)
    trend = itertools.product(["trend_baseline"], [10, 20], [60, 120], [0, 1])
    reversion = itertools.product(["mean_reversion"], [10, 20], [0, 1])
    assert cells(grid) == [*trend, *reversion, ("equal_weight", 0), ("equal_weight", 1)]
    assert grid.n_values == {
        "strategy": 3,
        "strategy.fast": 2,
        "strategy.slow": 2,
        "strategy.window": 2,
        "commission_bps": 2,
    }
    (constants,) = {
        items for _, items, cell in grid.combinations() if cell[0].value == "mean_reversion"
    }
    assert [item.override for item in constants] == ["param_grid=null", "strategy.average=sma"]
    assert grid.count(lambda key: key != "commission_bps") == 7


def test_choices_of_two_groups_are_combined(read):
    grid = read(
        param_grid={
            "data": {"synthetic": {"seed": [1, 2]}, "sp500": {}},
            "strategy": {"trend_baseline": {"fast": [10, 20]}, "equal_weight": {}},
        }
    )
    assert cells(grid) == [
        *itertools.product(["synthetic"], ["trend_baseline"], [1, 2], [10, 20]),
        *itertools.product(["synthetic"], ["equal_weight"], [1, 2]),
        *itertools.product(["sp500"], ["trend_baseline"], [10, 20]),
        ("sp500", "equal_weight"),
    ]


def test_one_choice_alone_is_a_constant(read):
    grid = read(param_grid={"strategy": {"mean_reversion": {"window": [10, 20]}}})
    assert cells(grid) == [(10,), (20,)]
    (_, constants, _), _ = grid.combinations()
    assert [item.override for item in constants] == ["param_grid=null", "strategy=mean_reversion"]


def test_the_command_line_chooses_among_the_choices_and_replaces_axes_below_them(read):
    assert cells(read("strategy=mean_reversion", param_grid=BELOW)) == [(10,), (20,)]
    assert cells(read("strategy=mean_reversion,inverse_volatility", param_grid=BELOW)) == [
        ("mean_reversion", 10),
        ("mean_reversion", 20),
        ("inverse_volatility",),
    ]
    grid = read("strategy=trend_baseline", "strategy.fast=5,7", param_grid=BELOW)
    assert cells(grid) == [*itertools.product([60, 120], [5, 7])]


def test_constraint_and_zip_below_a_choice(read):
    grid = read(param_grid=BELOW, constraint="strategy.fast * 6 <= strategy.slow")
    assert cells(grid)[:3] == [
        ("trend_baseline", 10, 60),
        ("trend_baseline", 10, 120),
        ("trend_baseline", 20, 120),
    ]
    assert (grid.size, grid.n_left_out) == (6, 1)
    grid = read(param_grid=BELOW, zipped=[["strategy.fast", "strategy.slow"]])
    assert cells(grid)[:3] == [
        ("trend_baseline", 10, 60),
        ("trend_baseline", 20, 120),
        ("mean_reversion", 10),
    ]
    grid = read(param_grid=BELOW, constraint="strategy != 'mean_reversion' or strategy.window > 15")
    assert (grid.size, grid.n_left_out) == (6, 1)
    # With one value below, which the runs of the choice share.
    grid = read(param_grid=BELOW, constraint="strategy.average == 'ema'")
    assert {cell[0] for cell in cells(grid)} == {"trend_baseline", "equal_weight"}


def test_keys_below_an_ordinary_key_are_axes_as_ever(read):
    grid = read(param_grid={"strategy": {"fast": [10, 20]}, "data": {"seed": [1, 2]}})
    assert grid.n_values == {"strategy.fast": 2, "data.seed": 2}


@pytest.mark.parametrize(
    ("param_grid", "message"),
    [
        (
            {"strategy": {"trend_baseline": {"fast": [1]}, "slow": [2]}},
            "slow is not: keys of a cho",
        ),
        ({"strategy": {"equal_weigt": {}, "custom": {}}}, r"did you mean equal_weight\?"),
        ({"strategy": {"trend_baseline": [1, 2]}}, "below which stands a mapping"),
        (
            {"strategy": {"trend_baseline": {"fast": []}}},
            "strategy: trend_baseline: .*holds no val",
        ),
        ({"strategy": {"equal_weight": {}}, "strategy.fast": [1, 2]}, None),
        ({**BELOW, "strategy.fast": [1, 2]}, "swept twice, below strategy: trend_baseline"),
        ({"tracking": {"local": {"uri": ["a", "b"]}}}, "cannot be swept"),
    ],
)
def test_what_is_unclear_below_a_choice_is_refused(read, param_grid, message):
    if message is None:
        assert read(param_grid=param_grid).size == 2
        return
    with pytest.raises(ConfigurationError, match=message):
        read(param_grid=param_grid)


def test_axes_of_different_choices_cannot_move_together(read):
    with pytest.raises(
        ConfigurationError, match=r"strategy.fast is swept and strategy.window is n"
    ):
        read(param_grid=BELOW, zipped=[["strategy.fast", "strategy.window"]])


@pytest.mark.parametrize("key", ["constraint", "zip"])
def test_a_grid_of_a_file_does_not_come_back_with_it(read, key):
    values = {"constraint": "seed < 3", "zipped": [["seed", "strategy.fast"]]}
    name = "zipped" if key == "zip" else key
    grid = read("seed=1,2", "strategy.fast=1,2", **{name: values[name]})
    (_, constants, _), *_ = grid.combinations()
    assert f"{key}=null" in [item.override for item in constants]
