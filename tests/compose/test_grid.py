import itertools

import pytest

from backtest_batch.compose.arguments import read_arguments
from backtest_batch.compose.grid import Grid, read_grid
from backtest_batch.errors import ConfigurationError


@pytest.fixture
def read(loader):
    def read(*arguments: str, param_grid=None, runs=None) -> Grid:
        return read_grid(read_arguments(arguments).keys, param_grid, runs, loader)

    return read


def values(grid: Grid) -> list[dict[str, object]]:
    return [{item.key: item.value for item in items} for _, _, items in grid.combinations()]


def test_axes_multiply_with_the_last_one_fastest(read):
    grid = read("commission_bps=0,0.5", "max_gross_exposure=0.6,1.0")
    assert grid.size == 4
    assert values(grid) == [
        {"commission_bps": commission, "max_gross_exposure": exposure}
        for commission, exposure in itertools.product([0, 0.5], [0.6, 1.0])
    ]


def test_a_range_holds_the_decimals_that_were_typed(read):
    grid = read("max_gross_exposure=range(0.6,1.0,0.1)", "strategy.fast=range(10,40,10)")
    assert [item["max_gross_exposure"] for item in values(grid)[::3]] == [0.6, 0.7, 0.8, 0.9]
    assert [item["strategy.fast"] for item in values(grid)[:3]] == [10, 20, 30]


def test_a_descending_range_and_one_without_a_start(read):
    assert [item["seed"] for item in values(read("seed=range(3,0,-1)"))] == [3, 2, 1]
    assert [item["seed"] for item in values(read("seed=range(3)"))] == [0, 1, 2]


def test_a_glob_takes_the_choices_of_a_group(read):
    grid = read("strategy=glob(*,exclude=custom)")
    assert "trend_baseline" in [item["strategy"] for item in values(grid)]
    assert "custom" not in [item["strategy"] for item in values(grid)]
    assert all(item.is_group for _, _, items in grid.combinations() for item in items)


def test_param_grid_is_the_equal_sweep(read):
    grid = read(param_grid={"max_gross_exposure": [0.6, 0.8], "strategy": {"fast": [10, 20]}})
    assert values(grid) == values(read("max_gross_exposure=0.6,0.8", "strategy.fast=10,20"))


def test_the_command_line_multiplies_and_replaces_param_grid(read):
    grid = read(
        "commission_bps=1,2",
        "rebalance=M,W",
        param_grid={"commission_bps": [0, 0.5, 1], "max_gross_exposure": [0.6, 0.8]},
    )
    assert grid.size == 8
    assert {item["commission_bps"] for item in values(grid)} == {1, 2}
    one = read("commission_bps=3", param_grid={"commission_bps": [0, 1], "seed": [1, 2]})
    assert values(one) == [{"seed": 1}, {"seed": 2}]
    assert [item.override for item in one.constants] == ["commission_bps=3", "param_grid=null"]


def test_one_value_is_a_constant(read):
    grid = read(param_grid={"commission_bps": [0.5]})
    assert grid.size == 1
    # The grid of a file would come back with that file, were it not unset.
    assert [item.override for item in grid.constants] == ["commission_bps=0.5", "param_grid=null"]


def test_the_keys_that_say_which_runs_there_are_belong_to_no_run(read):
    grid = read(
        "batch_file=a.yaml",
        "resume=latest",
        "param_grid={seed:[1,2]}",
        "n_jobs=2",
        param_grid={"seed": [1, 2]},
    )
    assert [item.override for item in grid.constants] == ["n_jobs=2"]


def test_runs_keep_their_ids_and_order(read):
    listed = [
        {"id": "core", "strategy": "trend_baseline", "strategy.fast": 10},
        {"strategy": {"fast": 30}, "rebalance": "W"},
    ]
    grid = read("commission_bps=1", runs=listed)
    assert [run_id for run_id, _, _ in grid.combinations()] == ["core", None]
    assert values(grid) == [
        {"strategy": "trend_baseline", "strategy.fast": 10},
        {"strategy.fast": 30, "rebalance": "W"},
    ]


@pytest.mark.parametrize(
    ("arguments", "param_grid", "runs", "message"),
    [
        ((), {"commission_bps": []}, None, "param_grid.commission_bps=.*no value"),
        ((), {}, None, "param_grid.*no key"),
        ((), [1], None, "param_grid.*must be a mapping"),
        ((), None, [], "runs.*no run"),
        ((), None, {"id": 1}, "runs.*must be a list"),
        ((), None, [{"id": "a"}, {"id": "a"}], "unique"),
        (("rebalance=M,W",), None, [{"id": "a"}], "runs cannot be combined"),
        ((), {"rebalance": ["M", "W"]}, [{"id": "a"}], "runs cannot be combined"),
        (("n_jobs=1,2",), None, None, "n_jobs cannot be swept"),
        (("tags.x=a,b",), None, None, "cannot be swept"),
        ((), None, [{"n_jobs": 2}], "n_jobs cannot be swept"),
        (("commission_bps=interval(1,0)",), None, None, "low < high"),
        (("seed=range(3,3)",), None, None, "no value"),
        (("seed=range(1,3,0)",), None, None, "step"),
        (("seed=range(0,inf)",), None, None, "must be finite"),
        (("commission_bps=range(0,nan)",), None, None, "must be finite"),
        (("commission_bps=range(-inf,1)",), None, None, "must be finite"),
        (("commission_bps=range(0,1,nan)",), None, None, "must be finite"),
        (("commission_bps=range(0,1e308,1e-308)",), None, None, "than can be counted"),
    ],
)
def test_what_spans_nothing_is_refused(read, arguments, param_grid, runs, message):
    with pytest.raises(ConfigurationError, match=message):
        read(*arguments, param_grid=param_grid, runs=runs)


def test_a_huge_grid_is_counted_without_being_made(read):
    axis = "range(0,1000)"
    grid = read(f"seed={axis}", f"strategy.fast={axis}", f"strategy.slow={axis}")
    assert grid.size == 10**9


def test_the_values_of_a_huge_range_are_made_one_by_one(read):
    grid = read("commission_bps=range(0,1e12,0.1)", "seed=range(1000000000)", "rebalance=M,W")
    assert grid.size == 2 * 10**22
    first = [
        {item.key: item.value for item in items}
        for _, _, items in itertools.islice(grid.combinations(), 3)
    ]
    assert first == [
        {"commission_bps": 0.0, "seed": 0, "rebalance": "M"},
        {"commission_bps": 0.0, "seed": 0, "rebalance": "W"},
        {"commission_bps": 0.0, "seed": 1, "rebalance": "M"},
    ]
    assert grid.axes[0].assignments[10**13 - 1].value == 999_999_999_999.9
    assert [len(axis) for axis in grid.axes] == [10**13, 10**9, 2]
