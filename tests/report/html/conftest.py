import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest_batch.analysis.dependence import parameter_importance, parameter_sensitivity
from backtest_batch.analysis.overfitting import Trial, Trials, evaluate
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.stability import edge_notes, with_neighbourhood
from backtest_batch.core.engine.metrics import equity_metrics
from backtest_batch.report.html import Curves, ReportData, SelectionSamples

PERIODS = 252.0


def _run(values: Mapping[str, Any], market: np.ndarray, noise: np.ndarray) -> tuple[Any, Any]:
    """Return net returns (the first missing) and metrics of one invented configuration."""
    fast, slow = float(values.get("strategy.fast", 20)), float(values.get("strategy.slow", 100))
    bps = float(values.get("commission_bps", 0.5))
    exposure = float(values.get("max_gross_exposure", 1.0))
    turnover = exposure * (3.0 + 160.0 / fast)
    edge = 0.00025 * np.exp(-((np.log(fast / 20.0)) ** 2) - (np.log(slow / 120.0)) ** 2)
    gross = exposure * (0.75 * market + edge + noise)
    net = gross - turnover / PERIODS * bps * 1e-4
    returns = np.concatenate([[np.nan], net])
    equity = np.concatenate([[1.0], np.cumprod(1.0 + net)])
    metrics, _ = equity_metrics(
        equity, periods_per_year=PERIODS, benchmark_returns=np.concatenate([[0.0], market])
    )
    metrics |= {
        "turnover_annual": turnover,
        "avg_gross_exposure": 0.93 * exposure,
        "trades": float(round(12 * turnover)),
        "breakeven_cost_bps": gross.mean() * PERIODS / turnover * 1e4,
        "runtime_s": 0.004 + 0.0001 * fast,
        "cpu_s": 0.004,
        "peak_rss_mb": 231.5,
        "attempts": 1.0,
    }
    return returns, metrics


def build_sweep(
    axes: Mapping[str, Sequence[Any]],
    *,
    n_bars: int = 1500,
    n_failed: int = 0,
    rank_by: Any = "sharpe",
    with_verdict: bool = True,
) -> ReportData:
    """Return the report data of a full grid of invented runs."""
    rng = np.random.default_rng(7)
    timestamps = pd.bdate_range("2016-01-04", periods=n_bars).to_numpy()
    market = rng.normal(0.0004, 0.009, n_bars - 1)
    common = rng.normal(0.0, 0.003, n_bars - 1)
    combinations = list(itertools.product(*axes.values()))
    rows, returns = [], {}
    for number, combination in enumerate(combinations):
        values = dict(zip(axes, combination, strict=True))
        run_id = "run_" + "_".join(map(str, combination)) if axes else "run_base"
        row: dict[str, Any] = {**values, "run_id": run_id, "batch_id": "20200101T120000Z-abc123"}
        if number >= len(combinations) - n_failed:
            row |= {"status": "FAILED", "error_type": "ValueError"}
            row["error_message"] = f"`fast < slow` must hold, but got {values}."
        else:
            decision = [str(values.get(name)) for name in ("strategy.fast", "strategy.slow")]
            seed = sum(map(ord, "".join(decision)))
            noise = common + np.random.default_rng(seed).normal(0.0, 0.0015, n_bars - 1)
            returns[run_id], metrics = _run(values, market, noise)
            row |= {"status": "FINISHED", "error_type": "", "error_message": "", **metrics}
        rows.append(row)
    table = with_neighbourhood(RunTable.from_frame(pd.DataFrame(rows), params=list(axes)))
    ranking = Ranking.parse(rank_by)
    ranked = rank_runs(table, ranking)
    placed = ranked.index[ranked["rank"].notna()]
    best = placed[0] if len(placed) else None
    benchmark = np.concatenate([[np.nan], market])
    order = [str(table.runs["run_id"][label]) for label in placed]
    given = _verdict(table, ranked, returns, benchmark, timestamps) if with_verdict else {}
    market_metrics, _ = equity_metrics(
        np.concatenate([[1.0], np.cumprod(1.0 + market)]), periods_per_year=PERIODS
    )
    return ReportData(
        title="Trend over twenty stocks",
        description="Does the speed of the averages matter once costs are paid?",
        tags={"suite": "trend", "reviewed": "true"},
        table=table,
        ranked=ranked,
        ranking=ranking,
        facts={
            "batch": "20200101T120000Z-abc123",
            "data": "sp500: 20 symbols, daily",
            "dates": "2016-01-04 to 2021-10-01",
            "computed in": "4.2 s on 2 processes",
        },
        provenance={
            "Command": {"command": "python -m backtest_batch -m strategy.fast=5,10,20"},
            "Code and data": {"git commit": "2714482 (dirty)", "data fingerprint": "9f86d081884c"},
            "Versions": {"python": "3.11.9", "numpy": "2.4.0", "pandas": "3.1.0"},
        },
        notes=edge_notes(table, best) if best is not None else [],
        curves=Curves(
            timestamps=timestamps,
            net_returns={name: returns[name] for name in order[:12]},
            benchmark=benchmark,
            total=len(order),
        ),
        benchmark_metrics=market_metrics,
        sensitivity=parameter_sensitivity(table, best=best),
        importance=parameter_importance(table),
        costs={"commission_bps": 0.5, "spread_bps": 0.0, "impact_bps": 0.0},
        timings={"plan": 0.21, "execute": 2.87, "record": 0.9, "compare": 0.31},
        command="python -m backtest_batch strategy.fast=20 strategy.slow=120 commission_bps=0.0",
        **given,
    )


def _verdict(
    table: RunTable,
    ranked: pd.DataFrame,
    returns: Mapping[str, np.ndarray],
    benchmark: np.ndarray,
    timestamps: np.ndarray,
) -> dict[str, Any]:
    decisions = table.params[list(table.decision_axes)].astype(str).agg(" ".join, axis=1)
    trials = [
        Trial(
            run_id=str(table.runs["run_id"][label]),
            scenario=str(table.scenario[label]),
            decision=str(decisions[label]) if len(table.decision_axes) else "",
            rank=None if pd.isna(ranked["rank"][label]) else int(ranked["rank"][label]),
        )
        for label in table.runs.index
    ]
    tested = [trial for trial in trials if trial.run_id in returns]
    held = [returns[trial.run_id] for trial in tested]
    found = evaluate(
        Trials(
            returns=np.column_stack(held) if held else np.empty((len(timestamps), 0)),
            index=pd.DatetimeIndex(timestamps),
            runs=tested,
            failed=[trial for trial in trials if trial.run_id not in returns],
            benchmarks={trial.scenario: benchmark for trial in trials},
        )
    )
    samples = SelectionSamples(
        logits=found.logits, null_maxima=found.null_maxima, statistic=found.statistic
    )
    return {"overfitting": found.document, "selection": samples}


GRID: Mapping[str, Sequence[Any]] = {
    "strategy.fast": [5, 10, 20, 40, 60],
    "strategy.slow": [80, 100, 120, 200],
    "commission_bps": [0.0, 0.5, 2.0],
}


@pytest.fixture(scope="session")
def build() -> Callable[..., ReportData]:
    """Build the report data of a sweep from its axes."""
    return build_sweep


@pytest.fixture(scope="session")
def grid() -> ReportData:
    """Sixty runs over two decision axes and one cost axis, two of them failed."""
    return build_sweep(GRID, n_failed=2)


@pytest.fixture(scope="session")
def screenshot(require: Callable[[object, str], None]) -> ModuleType:
    """The script that drives the browser; tests that need one are skipped where there is none."""
    require(importlib.util.find_spec("selenium"), "selenium is not installed")
    place = Path(__file__).parents[3] / "scripts" / "screenshot.py"
    spec = importlib.util.spec_from_file_location("screenshot", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    require(not module.missing(), f"no browser: {module.missing()} not on the PATH")
    return module


@pytest.fixture(scope="session")
def chrome(screenshot: ModuleType) -> Iterator[Any]:
    """One headless Chromium for all tests."""
    with screenshot.browser() as started:
        yield started
