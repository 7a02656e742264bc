"""Equity curves as stepped metrics, which MLflow's UI draws."""

from collections.abc import Iterator

import numpy as np

from backtest_batch.tracking.entries import EquityCurve, now_ms

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
