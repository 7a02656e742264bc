"""The metrics of a path in compiled loops, as sequential sums: bits depend on the path alone."""

import math
from typing import NamedTuple

import numpy as np

from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.engine.kernels import compiled

NEGLIGIBLE = 1e-12
"""Returns, ranges and drawdowns up to this size are rounding, and count as zero."""

TAIL = 0.05
"""Probability of the tail that value at risk looks at."""

LOW_RETURNS = 1.25
"""A return at least this many standard deviations below the mean is low: about a tenth are."""


class PathMetrics(NamedTuple):
    """The metrics that the path of equity defines, and the mean return per bar.

    An undefined metric is NaN.
    """

    final_pf: float
    total_return: float
    cagr: float
    volatility: float
    sharpe: float
    sortino: float
    calmar: float
    max_drawdown: float
    max_drawdown_duration: float
    var_95: float
    cvar_95: float
    skew: float
    kurtosis: float
    hit_rate: float
    beta: float
    alpha: float
    information_ratio: float
    mean_return: float


@compiled
def _select(values: FloatArray, n: int, rank: int) -> float:
    """Move the value of this rank to its place, with no larger one before it (Hoare 1961, FIND)."""
    first, last = 0, n - 1
    while first < last:
        pivot = values[rank]
        i, j = first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < rank:
            first = i
        if rank < i:
            last = j
    return float(values[rank])


@compiled
def _tail(returns: FloatArray, mean: float, deviation: float) -> tuple[float, float]:
    """Return the 5 % quantile (linear) of the returns and the mean of those up to it."""
    n = len(returns)
    position = (n - 1) * TAIL
    below = int(position)
    weight = position - below
    # The quantile is sought among the low returns; nearly always these are enough.
    low = np.empty(n)
    n_low = 0
    ceiling = mean - LOW_RETURNS * deviation
    for i in range(n):
        low[n_low] = returns[i]
        n_low += returns[i] <= ceiling
    if n_low < below + 2:
        n_low = n
        for i in range(n):
            low[i] = returns[i]
    left = _select(low, n_low, below)
    right = left
    if below + 1 < n:
        # The values after the selected one are no smaller; the next in order is their minimum.
        right = low[below + 1]
        for i in range(below + 2, n_low):
            right = min(right, low[i])
    # Interpolated as in numpy, so that the bits are the same.
    span = right - left
    quantile = right - span * (1.0 - weight) if weight >= 0.5 else left + span * weight
    total = 0.0
    count = 0
    for i in range(n_low):
        if low[i] <= quantile:
            total += low[i]
            count += 1
    return quantile, total / count


@compiled
def _drawdown(equity: FloatArray) -> tuple[float, int]:
    """Return the deepest drawdown and the longest run of bars under the running peak."""
    peak = equity[0]
    deepest = 0.0
    longest = 0
    under_water = 0
    for bar in range(1, len(equity)):
        peak = max(peak, equity[bar])
        drawdown = equity[bar] / peak - 1.0
        under_water = under_water + 1 if drawdown < -NEGLIGIBLE else 0
        longest = max(longest, under_water)
        deepest = min(deepest, drawdown)
    return deepest if deepest < -NEGLIGIBLE else 0.0, longest


@compiled
def _against(
    returns: FloatArray, benchmark: FloatArray, mean: float, risk_free: float
) -> tuple[float, float, float]:
    """Return beta, alpha per bar and the information ratio per bar; NaN where undefined."""
    n = len(returns)
    benchmark_sum = 0.0
    low = high = benchmark[0]
    active_low = active_high = returns[0] - benchmark[0]
    for i in range(n):
        benchmark_sum += benchmark[i]
        low = min(low, benchmark[i])
        high = max(high, benchmark[i])
        active_low = min(active_low, returns[i] - benchmark[i])
        active_high = max(active_high, returns[i] - benchmark[i])
    benchmark_mean = benchmark_sum / n
    active_mean = mean - benchmark_mean
    covariance = variance = active_variance = 0.0
    for i in range(n):
        deviation = benchmark[i] - benchmark_mean
        covariance += (returns[i] - mean) * deviation
        variance += deviation * deviation
        active = returns[i] - benchmark[i] - active_mean
        active_variance += active * active
    beta = alpha = ratio = np.nan
    if high - low > NEGLIGIBLE:
        beta = covariance / variance
        alpha = mean - risk_free - beta * (benchmark_mean - risk_free)
    if active_high - active_low > NEGLIGIBLE:
        ratio = active_mean / math.sqrt(active_variance / (n - 1))
    return beta, alpha, ratio


@compiled
def path_metrics(
    equity: FloatArray,
    benchmark: FloatArray,
    periods_per_year: float,
    risk_free: float,
    ruined: bool,
) -> PathMetrics:
    """Work out the metrics that the path of equity alone defines.

    Parameters
    ----------
    equity
        Equity at the measured bars, shape (n_measured,).
    benchmark
        Returns of the benchmark on all measured bars but the first, shape (n_measured - 1,); empty
        if there is no benchmark.
    periods_per_year
        Bars per year.
    risk_free
        Risk-free return per bar.
    ruined
        Whether equity fell to 0 or below on the last bar.
    """
    n = len(equity) - 1
    per_year = math.sqrt(periods_per_year)
    returns = np.empty(n)
    for i in range(n):
        returns[i] = equity[i + 1] / equity[i] - 1.0
    final_pf = equity[n] / equity[0]
    deepest, longest = _drawdown(equity)
    cagr = final_pf ** (periods_per_year / n) - 1.0 if n > 0 and not ruined else np.nan
    calmar = cagr / -deepest if deepest < 0.0 else np.nan
    if ruined:
        deepest = np.nan
        final_pf = final_pf if n > 0 else np.nan
    mean = volatility = sharpe = sortino = quantile = shortfall = skew = kurtosis = hit_rate = (
        np.nan
    )
    beta = alpha = ratio = np.nan
    if n > 0:
        total = downside = 0.0
        low = high = returns[0]
        n_moves = n_gains = 0
        for i in range(n):
            value = returns[i]
            total += value
            low = min(low, value)
            high = max(high, value)
            shortage = value - risk_free
            downside += shortage * shortage if shortage < 0.0 else 0.0
            n_moves += abs(value) > NEGLIGIBLE
            n_gains += value > NEGLIGIBLE
        mean = total / n
        second = third = fourth = 0.0
        if high - low > NEGLIGIBLE:
            for i in range(n):
                deviation = returns[i] - mean
                square = deviation * deviation
                second += square
                third += square * deviation
                fourth += square * square
            deviation = math.sqrt(second / (n - 1))
            volatility = deviation * per_year
            sharpe = (mean - risk_free) / deviation * per_year
            skew = (third / n) / (second / n) ** 1.5
            kurtosis = (fourth / n) / (second / n) ** 2
        elif n > 1:
            volatility = 0.0
        downside = math.sqrt(downside / n)
        if downside > NEGLIGIBLE:
            sortino = (mean - risk_free) / downside * per_year
        if n_moves > 0:
            hit_rate = n_gains / n_moves
        quantile, shortfall = _tail(returns, mean, math.sqrt(second / n))
        if len(benchmark) == n and n > 1:
            beta, alpha, ratio = _against(returns, benchmark, mean, risk_free)
    return PathMetrics(
        final_pf,
        final_pf - 1.0,
        cagr,
        volatility,
        sharpe,
        sortino,
        calmar,
        deepest,
        float(longest),
        quantile,
        shortfall,
        skew,
        kurtosis,
        hit_rate,
        beta,
        alpha * periods_per_year,
        ratio * per_year,
        mean,
    )


@compiled
def window_metrics(
    equity: FloatArray,
    benchmarks: FloatArray,
    start: int,
    stops: IntArray,
    has_benchmark: BoolArray,
    per_year: float,
    risk_free: float,
    values: FloatArray,
) -> None:
    """Work out the metrics of :func:`path_metrics` for many paths on one window.

    Parameters
    ----------
    equity
        Equity before the first bar and on each, shape (n_paths, n_bars + 1).
    benchmarks
        Returns of the benchmark of each path, or of one that they share, shape (n, n_bars).
    start
        First bar of the window.
    stops
        Bar after the last one of each path, shape (n_paths,); ``start`` for a path to leave out.
    has_benchmark
        Whether the benchmark is known on all of the window, shape (n,).
    per_year
        Bars per year.
    risk_free
        Risk-free return per bar.
    values
        Takes the metrics, shape (n_paths, n_metrics).
    """
    for path in range(len(equity)):
        stop = stops[path]
        if stop == start:
            continue
        row = path if len(benchmarks) > 1 else 0
        last = stop if has_benchmark[row] else start
        found = path_metrics(
            equity[path, start : stop + 1],
            benchmarks[row, start:last],
            per_year,
            risk_free,
            equity[path, stop] <= 0.0,
        )
        for metric in range(len(found)):
            values[path, metric] = found[metric]
