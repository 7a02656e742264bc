"""Curves of the page: growth, drawdown and calendar returns, thinned to what a screen shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backtest_batch.market.panel import FloatArray, IntArray
from backtest_batch.report.html.data import Curves
from backtest_batch.report.html.numbers import plain_number, plain_numbers

MAX_POINTS = 1000
"""Points of a curve; more cannot be told apart on a screen."""

MAX_CURVES = 20
"""Runs whose curves are drawn."""

_DIGITS = 5


def growth(net_returns: FloatArray) -> FloatArray:
    """Return what one unit of capital becomes.

    Parameters
    ----------
    net_returns
        Shape (n_bars,); NaN before the first and after the last return. A gap between counts as
        a return of 0.

    Returns
    -------
    ndarray of shape (n_bars,)
        1 on the bar before the first return (where there is one), then the running product of
        ``1 + r``; NaN before it and after the last return.
    """
    grown: FloatArray = np.full(len(net_returns), np.nan)
    present = np.flatnonzero(np.isfinite(net_returns))
    if len(present):
        first, last = int(present[0]), int(present[-1]) + 1
        grown[first:last] = np.cumprod(1.0 + np.nan_to_num(net_returns[first:last], nan=0.0))
        if first > 0:
            grown[first - 1] = 1.0
    return grown


def drawdown(grown: FloatArray) -> FloatArray:
    """Return the fraction below the running peak, at most 0; the start counts as a peak of 1.

    Parameters
    ----------
    grown
        What :func:`growth` returned.
    """
    peak = np.fmax.accumulate(np.fmax(grown, 1.0))
    return np.asarray(np.where(np.isnan(grown), np.nan, grown / peak - 1.0))


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """Bars put together so that a curve has few points.

    Attributes
    ----------
    starts, stops
        First bar of each point and the bar after its last one, each of shape (n_points,).
    bars_per_point
        How many bars most points stand for.
    """

    starts: IntArray
    stops: IntArray
    bars_per_point: int

    def last(self, values: FloatArray) -> FloatArray:
        """Return the value on the last bar of each point."""
        return values[self.stops - 1]

    def lowest(self, values: FloatArray) -> FloatArray:
        """Return the lowest value of each point; NaN where it has none."""
        return np.asarray(np.fmin.reduceat(values, self.starts)) if len(self.starts) else values


def thinned_bars(first: int, n_bars: int, max_points: int = MAX_POINTS) -> Thinned:
    """Divide the bars from ``first`` on into points; the first bar stands alone.

    Parameters
    ----------
    first
        Position of the bar at which the curves begin.
    n_bars
        Number of bars.
    max_points
        Most points.
    """
    size = max(1, -(-(n_bars - first - 1) // (max_points - 1)))
    starts = np.concatenate([[first], np.arange(first + 1, n_bars, size)]).astype(np.int64)
    starts = starts[starts < n_bars]
    return Thinned(starts=starts, stops=np.append(starts[1:], n_bars), bars_per_point=size)


def timestamp_texts(timestamps: npt.NDArray[np.datetime64]) -> list[str]:
    """Return dates, or minutes where there are times of day."""
    daily = bool((timestamps == timestamps.astype("datetime64[D]")).all())
    return list(np.datetime_as_string(timestamps, unit="D" if daily else "m"))


def curves_payload(curves: Curves, *, max_curves: int = MAX_CURVES) -> dict[str, Any]:
    """Return what the page draws.

    Parameters
    ----------
    curves
        The net returns.
    max_curves
        Most runs; the benchmark comes on top.

    Returns
    -------
    dict
        ``x``; ``curves`` (name, benchmark (whether it is the benchmark), equity, drawdown, final,
        worst, calendar); ``periods`` (labels of the calendar returns); ``bars_per_point``. Equity
        is that of a point's last bar, drawdown the lowest within it.
    """
    given = [(name, values) for name, values in curves.net_returns.items() if _any(values)]
    given = given[:max_curves]
    n_runs = len(given)
    if curves.benchmark is not None and _any(curves.benchmark):
        given.append(("benchmark", curves.benchmark))
    if not given:
        return {"x": [], "curves": [], "periods": [], "bars_per_point": 1}
    grown = [growth(values) for _, values in given]
    points = thinned_bars(min(map(_begin, grown)), len(curves.timestamps))
    labels, starts = _calendar(curves.timestamps)
    entries = []
    for position, ((name, returns), equity) in enumerate(zip(given, grown, strict=True)):
        below = drawdown(equity)
        entries.append(
            {
                "name": name,
                "benchmark": position >= n_runs,
                "equity": plain_numbers(points.last(equity).tolist(), _DIGITS),
                "drawdown": plain_numbers(points.lowest(below).tolist(), _DIGITS),
                "final": plain_number(float(equity[np.isfinite(equity)][-1])),
                "worst": plain_number(float(np.nanmin(below))),
                "calendar": plain_numbers(_calendar_returns(returns, starts), _DIGITS),
            }
        )
    return {
        "x": timestamp_texts(curves.timestamps[points.stops - 1]),
        "curves": entries,
        "periods": labels,
        "bars_per_point": points.bars_per_point,
    }


def _begin(grown: FloatArray) -> int:
    """Return the bar at which a curve begins."""
    return int(np.argmax(np.isfinite(grown)))


def _any(values: FloatArray) -> bool:
    return bool(np.isfinite(values).any())


def _calendar(timestamps: npt.NDArray[np.datetime64]) -> tuple[list[str], IntArray]:
    """Return the years, or the months of a shorter time, and the position of their first bars."""
    years = timestamps.astype("datetime64[Y]")
    several = years[-1] - years[0] > np.timedelta64(1, "Y")
    labels = years if several else timestamps.astype("datetime64[M]")
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1])).astype(np.int64)
    return [str(label) for label in labels[starts]], starts


def _calendar_returns(net_returns: FloatArray, starts: IntArray) -> list[float]:
    """Return the compounded return of each period; NaN where there is none in it."""
    factors = np.where(np.isfinite(net_returns), 1.0 + net_returns, 1.0)
    measured = np.logical_or.reduceat(np.isfinite(net_returns), starts)
    compounded = np.multiply.reduceat(factors, starts) - 1.0
    return [float(x) for x in np.where(measured, compounded, np.nan)]
