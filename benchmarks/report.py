"""Size of report.html, and the time to write and to open it.

    python -m benchmarks.report                1,000 and 10,000 runs
    python -m benchmarks.report --small        60 runs, for CI

Opening is timed in a headless Chromium, where there is one: until the text is shown, and until the
last figure is drawn.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from backtest_batch.analysis.dependence import parameter_importance, parameter_sensitivity
from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.core.engine.metrics import METRICS
from backtest_batch.report.html import Curves, ReportData, render_report

N_BARS = 8_000


def report_data(n_runs: int) -> ReportData:
    """Return a full grid of four parameters with random metrics, all of them, and 20 curves."""
    generator = np.random.default_rng(1)
    side = max(2, round((n_runs / 6) ** 0.5))
    axes = {
        "strategy.fast": np.arange(5, 5 + side),
        "strategy.slow": np.arange(50, 50 + 10 * side, 10),
        "strategy.average": np.array(["ema", "sma"], dtype=object),
        "commission_bps": np.array([0.0, 0.5, 1.0]),
    }
    grid = pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)
    frame = grid.iloc[:n_runs].astype(object)
    for name in METRICS:
        frame[name] = generator.standard_normal(len(frame))
    frame["run_id"] = ["run_" + "_".join(map(str, row)) for row in grid.itertuples(index=False)][
        : len(frame)
    ]
    table = RunTable.from_frame(frame, params=list(axes))
    ranking = Ranking.parse("sharpe")
    ranked = rank_runs(table, ranking)
    best = ranked.index[0]
    returns = generator.normal(0.0003, 0.01, (21, N_BARS))
    returns[:, 0] = np.nan
    names = table.runs["run_id"].reindex(ranked.index[:20])
    return ReportData(
        title=f"{len(table):,} runs",
        table=table,
        ranked=ranked,
        ranking=ranking,
        curves=Curves(
            timestamps=pd.bdate_range("1990-01-02", periods=N_BARS).to_numpy(),
            net_returns=dict(zip(names, returns[:20], strict=True)),
            benchmark=returns[20],
        ),
        sensitivity=parameter_sensitivity(table, best=best),
        importance=parameter_importance(table),
        costs={"spread_bps": 0.0, "impact_bps": 0.0},
    )


def opening(page: Path) -> str:
    """Return how long a browser takes for a page: to its text, and to its last figure."""
    try:
        from scripts.screenshot import browser, missing, open_page
    except ImportError:
        return "not opened: selenium is not installed"
    if missing():
        return f"not opened: {missing()} not found"
    times = []
    with browser() as chrome:
        for _ in range(4):
            open_page(chrome, page)
            times.append(
                chrome.execute_script(
                    "return [performance.getEntriesByName('first-contentful-paint')[0].startTime,"
                    " performance.getEntriesByName('figures-drawn')[0].startTime]"
                )
            )
    first, *again = times
    text, figures = (sorted(column)[1] for column in zip(*again, strict=True))
    return (
        f"opened by a browser just started: text after {first[0] / 1000:.2f} s, last figure after "
        f"{first[1] / 1000:.2f} s; opened again (median of 3): {text / 1000:.2f} s and "
        f"{figures / 1000:.2f} s"
    )


def main() -> None:
    """Write and open reports, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="60 runs")
    sizes = (60,) if parser.parse_args().small else (1_000, 10_000)
    with tempfile.TemporaryDirectory(prefix="benchmark-report-") as name:
        for n_runs in sizes:
            data = report_data(n_runs)
            before = time.perf_counter()
            text = render_report(data)
            seconds = time.perf_counter() - before
            page = Path(name, "report.html")
            page.write_text(text, encoding="utf-8")
            megabytes = page.stat().st_size / 1e6
            print(
                f"{len(data.table):,} runs: {megabytes:.2f} MB, written in {seconds:.2f} s, "
                f"{opening(page)}"
            )


if __name__ == "__main__":
    main()
