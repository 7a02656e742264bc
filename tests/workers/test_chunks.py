from dataclasses import replace
from pathlib import Path

import pytest

from backtest_batch.core.fingerprint import benchmark_key, chunk_key
from backtest_batch.records import RunSpec
from backtest_batch.workers.chunks import Scratch, benchmark_rows
from backtest_batch.workers.executor import (
    LARGE_RUN_BARS,
    LARGEST_CHUNK,
    SMALLEST_PIECE,
    group_runs,
)

CONFIG = {
    "data": {"_target_": "x"},
    "strategy": {"_target_": "y", "window": 5},
    "rebalance": "M",
    "commission_bps": 0.5,
    "spread_bps": 0.0,
    "impact_bps": 0.0,
    "cash_rate": 0.0,
    "borrow_rate": 0.0,
    "short_fee_rate": 0.0,
    "risk_free_rate": 0.0,
    "periods_per_year": None,
    "initial_capital": 1e6,
    "max_gross_exposure": 1.0,
    "max_weight": None,
    "execution_lag": 1,
    "execution_price": "close",
}


@pytest.fixture
def make_run():
    def make(index, *, window=5, data="d" * 64, seed=1, first_bar=0, **changes):
        config = {**CONFIG, "strategy": {**CONFIG["strategy"], "window": window}, **changes}
        return RunSpec(
            index=index,
            run_id=f"run_{index}",
            run_name=f"run {index}",
            run_key=f"{index:064x}",
            config_hash="c" * 64,
            swept={},
            config=config,
            overrides=(),
            data_fingerprint=data,
            code_fingerprint="e" * 64,
            strategy_seed=seed,
            first_bar=first_bar,
            n_bars=10,
            benchmark_key=benchmark_key(config, data, first_bar, 252.0),
            chunk_key=chunk_key(config, data, seed, first_bar),
        )

    return make


def indices(chunks):
    return [[run.index for run in chunk] for chunk in chunks]


def test_runs_that_share_their_signals_are_computed_together(make_run):
    runs = [make_run(i, window=5 + i % 2, commission_bps=float(i)) for i in range(6)]
    assert indices(group_runs(runs, 1, frozenset())) == [[0, 2, 4], [1, 3, 5]]
    assert indices(group_runs(runs, 2, frozenset())) == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("large", [{"n_bars": LARGE_RUN_BARS}, {"fit_bars": (10, 5)}])
def test_few_groups_are_split_so_that_every_worker_has_something(make_run, large):
    runs = [replace(make_run(i, commission_bps=float(i)), **large) for i in range(5)]
    assert indices(group_runs(runs, 2, frozenset())) == [[0, 1, 2], [3, 4]]
    assert indices(group_runs(runs, 9, frozenset())) == [[0], [1], [2], [3], [4]]


def test_small_runs_are_not_worth_another_worker(make_run):
    runs = [make_run(i, commission_bps=float(i)) for i in range(3 * SMALLEST_PIECE)]
    few = group_runs(runs[:SMALLEST_PIECE], 2, frozenset())
    assert [len(chunk) for chunk in few] == [SMALLEST_PIECE]
    assert [len(chunk) for chunk in group_runs(runs, 2, frozenset())] == [24, 24]
    assert [len(chunk) for chunk in group_runs(runs, 9, frozenset())] == [16, 16, 16]


def test_profiled_runs_are_alone(make_run):
    runs = [make_run(i, commission_bps=float(i)) for i in range(4)]
    assert indices(group_runs(runs, 1, frozenset({1}))) == [[0, 2, 3], [1]]


def test_no_chunk_is_too_large_and_nothing_makes_none(make_run):
    runs = [make_run(i, commission_bps=float(i)) for i in range(2 * LARGEST_CHUNK + 1)]
    assert [len(chunk) for chunk in group_runs(runs, 1, frozenset())] == [256, 256, 1]
    assert group_runs([], 2, frozenset()) == []


def test_benchmarks_have_rows_after_the_runs_and_share_them(make_run):
    # Caps and windows of a strategy change nothing for the benchmark, costs do.
    runs = [make_run(0), make_run(1, max_gross_exposure=0.5), make_run(2, commission_bps=9.0)]
    rows = benchmark_rows(runs)
    assert sorted(rows.values()) == [3, 4]
    scratch = Scratch(folder=Path("x"), row_bars=10, benchmark_rows=rows)
    assert set(scratch.of(runs[:2]).benchmark_rows.values()) == {3}
    assert set(scratch.of(runs[2:]).benchmark_rows.values()) == {4}


def test_runs_of_other_data_rebalancing_or_seed_are_apart(make_run):
    first = make_run(0)
    others = [
        make_run(1, data="f" * 64),
        make_run(2, rebalance="W"),
        make_run(3, seed=2),
        make_run(4, first_bar=3),
    ]
    assert indices(group_runs([first, *others], 1, frozenset())) == [[0], [1], [2], [3], [4]]


def test_fitted_runs_share_a_chunk_where_they_share_bars_and_lag(make_run):
    config = make_run(0).config

    def key(fit_bars, lag):
        return chunk_key({**config, "execution_lag": lag}, "d" * 64, 1, 0, fit_bars)

    # What is not fitted may be traded with any lag.
    assert key(None, 0) == key(None, 1)
    assert len({key(None, 1), key((0, 9), 1), key((1, 9), 1), key((0, 9), 0)}) == 4
    assert key((0, 9), 1) == key((0, 9), 1)


def test_a_benchmark_is_told_apart_by_all_that_it_depends_on(make_run):
    config = make_run(0).config
    keys = [
        benchmark_key({**config, **changes}, data, first_bar, per_year)
        for changes, data, first_bar, per_year in [
            ({}, "d", 0, 252.0),
            ({"risk_free_rate": 0.01}, "d", 0, 252.0),
            ({"execution_lag": 0}, "d", 0, 252.0),
            ({}, "e", 0, 252.0),
            ({}, "d", 1, 252.0),
            ({}, "d", 0, 365.0),
        ]
    ]
    assert len(set(keys)) == len(keys)
    # The same number, written as another kind.
    assert benchmark_key({**config, "commission_bps": 1}, "d", 0, 252.0) == benchmark_key(
        {**config, "commission_bps": 1.0}, "d", 0, 252.0
    )
