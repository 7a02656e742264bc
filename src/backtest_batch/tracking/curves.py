"""Equity curves as stepped metrics, which MLflow's UI draws."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from backtest_batch.tracking.connections import call_each
from backtest_batch.tracking.entries import EquityCurve, now_ms
from backtest_batch.tracking.rows import METRIC_COLUMNS, insert_rows, run_tables
from backtest_batch.tracking.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Engine

MAX_POINTS = 200
"""Points a curve is thinned to: more would not be seen, and each costs a row."""


def thinned_curve(curve: EquityCurve) -> EquityCurve:
    """Return at most 200 evenly spaced bars of ``curve``, the first and the last among them."""
    n_bars = len(curve.steps)
    if n_bars <= MAX_POINTS:
        return curve
    chosen = np.linspace(0, n_bars - 1, MAX_POINTS).round().astype(np.int64)
    times = curve.timestamps_ms
    return EquityCurve(
        steps=curve.steps[chosen],
        equity=curve.equity[chosen],
        drawdown=curve.drawdown[chosen],
        timestamps_ms=None if times is None else times[chosen],
    )


def points(curve: EquityCurve) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time in milliseconds and step of each point of both metrics.

    Values that are not finite are left out. Bars without a time, or before 1970, whose times
    MLflow refuses, have the present time.
    """
    short, now = thinned_curve(curve), now_ms()
    times = [now] * len(short.steps)
    if short.timestamps_ms is not None:
        times = [int(time) if time >= 0 else now for time in short.timestamps_ms]
    for name, values in (("equity", short.equity), ("drawdown", short.drawdown)):
        for step, value, time in zip(short.steps, values, times, strict=True):
            if np.isfinite(value):
                yield name, float(value), time, int(step)


def log_curves(store: Store, curves: Mapping[str, EquityCurve]) -> None:
    """Add curves, given by MLflow run id, through MLflow's client."""
    from mlflow.entities import Metric

    def log(item: tuple[str, EquityCurve]) -> None:
        run_id, curve = item
        metrics = [Metric(name, value, time, step) for name, value, time, step in points(curve)]
        store.client.log_batch(run_id, metrics=metrics, synchronous=True)

    call_each(store, log, list(curves.items()))


def insert_curves(engine: "Engine", curves: Mapping[str, EquityCurve]) -> None:
    """Write curves, given by MLflow run id, straight into the database, in place of earlier ones.

    Through the client nine curves take half a second.
    """
    tables = run_tables()
    rows, latest = [], []
    for run_id, curve in curves.items():
        last: dict[str, tuple[int, int, float]] = {}
        for name, value, time, step in points(curve):
            rows.append((name, value, time, step, False, run_id))
            last[name] = max(last.get(name, (step, time, value)), (step, time, value))
        latest += [
            (name, value, time, step, False, run_id) for name, (step, time, value) in last.items()
        ]
    with engine.begin() as connection:
        for table in (tables.metrics, tables.latest_metrics):
            connection.execute(
                table.delete().where(
                    table.c.run_uuid.in_(list(curves)), table.c.key.in_(["equity", "drawdown"])
                )
            )
        # A point that stands twice is one to MLflow, and would be refused here.
        insert_rows(connection, tables.metrics, METRIC_COLUMNS, list(dict.fromkeys(rows)))
        insert_rows(connection, tables.latest_metrics, METRIC_COLUMNS, latest)
