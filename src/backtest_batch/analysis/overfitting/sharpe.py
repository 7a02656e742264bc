"""Moments of returns, and the statistics of one Sharpe ratio among many.

Sharpe ratios are per period, not annualised: mean over standard deviation (ddof 1). Skew and
kurtosis are population moments, kurtosis not in excess (3 for a normal distribution). All
functions take numbers or arrays that broadcast.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from backtest_batch.analysis.overfitting.cscv import block_sums
from backtest_batch.analysis.overfitting.rademacher import aligned
from backtest_batch.analysis.overfitting.samples import (
    BoolArray,
    FloatArray,
    IntArray,
    Sample,
    Trials,
    day_starts,
)
from backtest_batch.core.data.panel import release_pages
from backtest_batch.core.numbers import in_threads

# Columns processed at once: with 8,000 bars, an array of that many takes 8 MB.
_COLUMNS_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Figures of the returns of several runs on their common bars.

    Attributes
    ----------
    mean, std, skew, kurtosis
        Per bar, shape (n_runs,); ddof 1 for std, population moments for the others.
    sums, squares
        sum r and sum r^2 by block, shape (blocks, n_runs).
    deviations
        Mean of each resample minus the mean, shape (draws, n_runs).
    """

    mean: FloatArray
    std: FloatArray
    skew: FloatArray
    kurtosis: FloatArray
    sums: FloatArray
    squares: FloatArray
    deviations: FloatArray

    @property
    def sharpe(self) -> FloatArray:
        """Sharpe ratios per bar, shape (n_runs,)."""
        return self.mean / self.std

    def take(self, positions: IntArray) -> "Moments":
        """Return the figures of some of the runs; without a copy if it is all of them."""
        if len(positions) == len(self.mean):
            return self
        return Moments(
            **{item.name: getattr(self, item.name)[..., positions] for item in fields(self)}
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The moments of a group of scenarios that share their bars.

    Attributes
    ----------
    raw
        Of r, the returns over the risk-free rate.
    adjusted
        Of a = r - beta b, the returns beyond the benchmark; NaN without a benchmark.
    beta
        Slope of r on the benchmark's returns, shape (n_runs,).
    alignments
        For each scenario and draw of signs, the largest :func:`.aligned` value of r among its runs,
        shape (n_scenarios, n_draws); no draws without ``signs``.
    """

    raw: Moments
    adjusted: Moments
    beta: FloatArray
    alignments: FloatArray


class DailyReturns:
    """The returns of a group of scenarios on their common bars, over the risk-free rate.

    Parameters
    ----------
    trials
        The runs.
    group
        Samples with equal periods.

    Attributes
    ----------
    columns
        Columns of the matrix of returns, scenario after scenario, shape (n_runs,).
    scenarios
        Position in ``group`` of each run's scenario, shape (n_runs,).
    bases
        Equal numbers for runs with equal benchmark and risk-free rate, shape (n_runs,).
    explaining
        Equal numbers for runs with equal factors and risk-free rate, -1 for runs without factors,
        shape (n_runs,).
    n_bars
        Number of (daily) returns.
    """

    def __init__(self, trials: Trials, group: Sequence[Sample]) -> None:
        self._trials = trials
        self._bars = slice(group[0].start, group[0].stop)
        self._periods = group[0].periods
        self.columns = np.concatenate([sample.columns for sample in group])
        self.scenarios = np.repeat(np.arange(len(group)), [len(s.columns) for s in group])
        self._calendars = group[0].calendars
        runs = [trials.runs[column] for column in self.columns]
        self._rates = np.array([run.risk_free for run in runs])
        self._own = np.array(
            [self._calendars.index(run.calendar or "") if self._calendars else 0 for run in runs],
            dtype=np.int64,
        )
        bases = [
            (trials.benchmark_name(column), float(rate), int(own))
            for column, rate, own in zip(self.columns, self._rates, self._own, strict=True)
        ]
        self._bases = tuple(dict.fromkeys(bases))
        number = {base: position for position, base in enumerate(self._bases)}
        self.bases = np.array([number[base] for base in bases], dtype=np.int64)
        explaining = [
            None if run.factors is None else (run.factors, rate, own)
            for run, (_, rate, own) in zip(runs, bases, strict=True)
        ]
        self._factors = tuple(dict.fromkeys(item for item in explaining if item is not None))
        place = {factors: position for position, factors in enumerate(self._factors)}
        self.explaining = np.array(
            [-1 if item is None else place[item] for item in explaining], dtype=np.int64
        )
        self._n_own = self._bars_a_period()
        self.n_bars = len(self._n_own)

    def runs(self, positions: slice | IntArray) -> FloatArray:
        """Return r of some of the runs, shape (n_bars, n_chosen)."""
        wanted = self.columns[positions]
        bars = self._trials.returns[self._bars]
        if len(wanted) and np.array_equal(wanted, np.arange(wanted[0], wanted[0] + len(wanted))):
            part = bars[:, wanted[0] : wanted[0] + len(wanted)]
        else:
            part = bars[:, wanted]
        raw = np.array(part, dtype=np.float64, order="C")
        release_pages(self._trials.returns)
        return self._excess(raw, self._rates[positions], self._own[positions])

    def benchmarks(self, bases: IntArray) -> FloatArray:
        """Return the benchmarks of some ``bases``, shape (n_bars, n_chosen); NaN where missing."""
        found = np.full((self.n_bars, len(bases)), np.nan)
        for column, base in enumerate(bases):
            name, rate, own = self._bases[base]
            given = self._trials.benchmarks.get(name)
            if given is not None:
                raw = np.array(given[self._bars], dtype=np.float64)[:, None]
                # An infinite return would cause warnings in every product; it counts as missing.
                raw[~np.isfinite(raw)] = np.nan
                found[:, [column]] = self._excess(raw, np.array([rate]), np.array([own]))
        return found

    def factor_names(self, number: int) -> tuple[str, ...]:
        """Return the names of the factors with a number of ``explaining``; none for -1."""
        if number < 0:
            return ()
        return self._trials.factors[self._factors[number][0]].factors.names

    def factors(self, number: int) -> FloatArray:
        """Return the factors with a number of ``explaining``, shape (n_bars, n_factors).

        Those that are not above the risk-free rate already are brought there. NaN where one is not
        known.
        """
        name, rate, own = self._factors[number]
        given = self._trials.factors[name]
        raw = np.array(given.values[self._bars], dtype=np.float64)
        raw[~np.isfinite(raw)] = np.nan
        rates = np.full(raw.shape[1], 0.0 if given.factors.are_excess else rate)
        return self._excess(raw, rates, np.full(raw.shape[1], own))

    def _masks(self) -> list[BoolArray]:
        """Return which of the common bars each calendar has."""
        whole = np.ones(self._bars.stop - self._bars.start, dtype=np.bool_)
        given = self._trials.calendars
        return [given[name][self._bars] if name else whole for name in self._calendars]

    def _bars_a_period(self) -> IntArray:
        """Return how many bars each calendar has in each period, (n_periods, n_calendars)."""
        n_given = self._bars.stop - self._bars.start
        if self._periods is None:
            return np.ones((n_given, 1), dtype=np.int64)
        if not self._calendars:
            return np.diff(self._periods, append=n_given)[:, None]
        counts = [np.add.reduceat(mask.astype(np.int64), self._periods) for mask in self._masks()]
        return np.column_stack(counts)

    def _excess(self, returns: FloatArray, rates: FloatArray, own: IntArray) -> FloatArray:
        """Compound bars to periods and subtract the risk-free return, likewise compounded."""
        if self._periods is not None:
            if self._calendars:
                # On bars that a run's data lack, nothing was earned.
                returns[~np.column_stack(self._masks())[:, own]] = 0.0
            returns = np.multiply.reduceat(1.0 + returns, self._periods, axis=0) - 1.0
        if rates.any():
            returns -= (1.0 + rates) ** self._n_own[:, own] - 1.0
        return returns


class DaysPerYear:
    """(Daily) bars per year; for intraday data, bars per year divided by bars of a median day."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._found: dict[tuple[float, str | None], float] = {}

    def of(self, columns: IntArray) -> float:
        """Return the (daily) bars per year of some runs; where their data differ, the smallest.

        The bars that the runs have in common are those of the run that has the fewest.
        """
        trials = self._trials
        kinds = {
            (trials.runs[column].periods_per_year or trials.periods_per_year, calendar): column
            for column in columns.tolist()
            for calendar in [trials.runs[column].calendar]
        }
        for kind, column in kinds.items():
            if kind not in self._found:
                self._found[kind] = self._count(kind[0], trials.own_bars(column))
        return min((self._found[kind] for kind in kinds), default=trials.periods_per_year)

    def _count(self, periods_per_year: float, own_bars: BoolArray | None) -> float:
        index = self._trials.index if own_bars is None else self._trials.index[own_bars]
        days = day_starts(index, self._trials.session_end)
        if days is None:
            return periods_per_year
        return periods_per_year / float(np.median(np.diff(days, append=len(index))))


def measure_moments(
    daily: DailyReturns, counts: FloatArray, blocks: int, signs: FloatArray | None = None
) -> Measured:
    """Return the moments of all runs of a group.

    Parameters
    ----------
    daily
        The returns.
    counts
        Bootstrap counts, shape (draws, n_bars).
    blocks
        Number of blocks of the cross-validation.
    signs
        Of :func:`.random_signs`, shape (n_draws, n_bars); None for none.
    """
    n_runs = len(daily.columns)
    signs = np.empty((0, daily.n_bars)) if signs is None else signs
    alignments = np.full((int(daily.scenarios.max()) + 1, len(signs)), -np.inf)
    one_at_a_time = threading.Lock()
    raw, adjusted = (empty_moments(n_runs, blocks, len(counts)) for _ in range(2))
    beta = np.empty(n_runs)

    def fill(part: slice) -> None:
        bases, where = np.unique(daily.bases[part], return_inverse=True)
        r, benchmark = daily.runs(part), daily.benchmarks(bases)
        centred = np.hstack([r - r.mean(axis=0), benchmark - benchmark.mean(axis=0)])
        shift, shift_b = np.split(counts @ centred / daily.n_bars, [r.shape[1]], axis=1)
        # A single column broadcasts against all runs.
        own = slice(None) if len(bases) == 1 else where
        b = benchmark[:, own]
        beta[part] = slopes = beta_slopes(r, b)
        _fill(raw, part, r, shift)
        # The resampled means of a follow from those of r and b: no second matrix product.
        _fill(adjusted, part, r - slopes * b, shift - slopes * shift_b[:, own])
        along = aligned(signs, r, raw.std[part])
        scenarios = daily.scenarios[part]
        with one_at_a_time:
            for number in np.unique(scenarios):
                largest = along[:, scenarios == number].max(axis=1)
                np.maximum(alignments[number], largest, out=alignments[number])

    firsts = range(0, n_runs, _COLUMNS_AT_ONCE)
    in_threads(fill, [slice(first, min(first + _COLUMNS_AT_ONCE, n_runs)) for first in firsts])
    return Measured(raw=raw, adjusted=adjusted, beta=beta, alignments=alignments)


def beta_slopes(returns: FloatArray, benchmark: FloatArray) -> FloatArray:
    """Return the least-squares slopes; NaN where the benchmark is missing or does not vary."""
    centred = benchmark - benchmark.mean(axis=0)
    variance = np.mean(centred**2, axis=0)
    covariance = np.mean(returns * centred, axis=0)
    return np.asarray(covariance / np.where(variance > 1e-28, variance, np.nan))


def empty_moments(n_runs: int, blocks: int, draws: int) -> Moments:
    """Return moments whose arrays are yet to be filled in."""
    return Moments(
        mean=np.empty(n_runs),
        std=np.empty(n_runs),
        skew=np.empty(n_runs),
        kurtosis=np.empty(n_runs),
        sums=np.empty((blocks, n_runs)),
        squares=np.empty((blocks, n_runs)),
        deviations=np.empty((draws, n_runs)),
    )


def _fill(moments: Moments, part: slice, returns: FloatArray, deviations: FloatArray) -> None:
    """Write the figures of a few runs into their columns."""
    n_bars = len(returns)
    mean = returns.mean(axis=0)
    centred = returns - mean
    square = centred * centred
    second = square.mean(axis=0)
    safe = np.where(second > 0, second, np.nan)
    moments.mean[part] = mean
    moments.std[part] = np.sqrt(second * n_bars / (n_bars - 1))
    moments.skew[part] = (square * centred).mean(axis=0) / safe**1.5
    moments.kurtosis[part] = (square * square).mean(axis=0) / safe**2
    moments.sums[:, part], moments.squares[:, part] = block_sums(returns, len(moments.sums))
    moments.deviations[:, part] = deviations


def all_equal(moments: Moments) -> bool:
    """Return whether all runs have the same returns, apart from rounding.

    Runs with equal means and equal means of every resample have equal returns.
    """
    within = 1e-9 * float(moments.std.min())
    if float(np.ptp(moments.mean)) > within or float(np.ptp(moments.std)) > within:
        return False
    return bool(float(np.ptp(moments.deviations, axis=1).max()) <= within)


Values = float | npt.NDArray[np.float64]

EULER_MASCHERONI = 0.5772156649015329


def sharpe_variance(sharpe: Values, skew: Values, kurtosis: Values) -> Values:
    """Return the variance of a Sharpe ratio's estimate, times T - 1.

    ``1 - skew SR + (kurtosis - 1) / 4 SR^2`` (Mertens 2002; Lo 2002 for normal returns). It is
    never negative for the moments of one series, and zero only for a two-point distribution.
    """
    return 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2


def probabilistic_sharpe_ratio(
    sharpe: Values,
    n_bars: int,
    *,
    skew: Values = 0.0,
    kurtosis: Values = 3.0,
    benchmark_sharpe: Values = 0.0,
) -> Values:
    """Return the probability that the true Sharpe ratio exceeds ``benchmark_sharpe``.

    ``PSR(SR*) = Phi[(SR - SR*) sqrt(T - 1) / sqrt(1 - skew SR + (kurtosis - 1) / 4 SR^2)]``.

    Parameters
    ----------
    sharpe, benchmark_sharpe
        Sharpe ratios per period.
    n_bars
        T, the number of returns.
    skew, kurtosis
        Moments of the returns; kurtosis not in excess.

    Returns
    -------
    float or ndarray
        In [0, 1]; NaN where the variance of the estimate is not positive.

    References
    ----------
    Bailey and Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier.
    """
    from scipy.special import ndtr

    variance = np.asarray(sharpe_variance(sharpe, skew, kurtosis))
    scale = np.sqrt(np.where(variance > 0, variance, np.nan))
    probability = ndtr((sharpe - np.asarray(benchmark_sharpe)) * math.sqrt(n_bars - 1) / scale)
    return float(probability) if np.ndim(probability) == 0 else probability


def expected_maximum(n_trials: int) -> float:
    """Return the expected maximum of ``n_trials`` independent standard normal numbers.

    ``(1 - gamma) Phi^-1(1 - 1/N) + gamma Phi^-1(1 - 1/(N e))``, and 0 for N = 1 (one trial is no
    selection).

    Raises
    ------
    ValueError
        When ``n_trials`` is below 1.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2014), Pseudo-Mathematics and Financial
    Charlatanism, proposition 1.
    """
    from scipy.special import ndtri

    if n_trials < 1:
        raise ValueError(f"`n_trials >= 1` must hold, but got n_trials={n_trials}.")
    if n_trials == 1:
        return 0.0
    # 1 - 1/N loses digits for large N; the quantile of the other tail does not.
    return float(
        -(1 - EULER_MASCHERONI) * ndtri(1 / n_trials)
        - EULER_MASCHERONI * ndtri(1 / (n_trials * math.e))
    )


def expected_maximum_sharpe(n_trials: int, variance: float) -> float:
    """Return SR0, the Sharpe ratio that the best of N trials without skill is expected to show.

    ``SR0 = sqrt(V) * expected_maximum(N)``.

    Parameters
    ----------
    n_trials
        N, the nominal number of trials.
    variance
        V, the variance (ddof 1) of the trials' Sharpe ratios.

    References
    ----------
    Bailey and Lopez de Prado (2014), The Deflated Sharpe Ratio.
    """
    return 0.0 if n_trials == 1 else math.sqrt(variance) * expected_maximum(n_trials)


def deflated_sharpe_ratio(
    sharpe: Values,
    n_bars: int,
    *,
    n_trials: int,
    variance: float,
    skew: Values = 0.0,
    kurtosis: Values = 3.0,
) -> Values:
    """Return the probability that the true Sharpe ratio exceeds what selection alone explains.

    ``DSR = PSR(SR0)`` with SR0 of :func:`expected_maximum_sharpe`.

    References
    ----------
    Bailey and Lopez de Prado (2014), The Deflated Sharpe Ratio.
    """
    return probabilistic_sharpe_ratio(
        sharpe,
        n_bars,
        skew=skew,
        kurtosis=kurtosis,
        benchmark_sharpe=expected_maximum_sharpe(n_trials, variance),
    )


def min_track_record_length(
    sharpe: float,
    *,
    skew: float = 0.0,
    kurtosis: float = 3.0,
    benchmark_sharpe: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Return the number of bars that it takes until PSR(SR*) reaches ``confidence``.

    ``1 + (1 - skew SR + (kurtosis - 1) / 4 SR^2) (z / (SR - SR*))^2``, and infinite when
    ``SR <= SR*``.

    References
    ----------
    Bailey and Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier.
    """
    from scipy.special import ndtri

    if sharpe <= benchmark_sharpe:
        return math.inf
    quantile = float(ndtri(confidence))
    variance = float(sharpe_variance(sharpe, skew, kurtosis))
    return 1.0 + variance * (quantile / (sharpe - benchmark_sharpe)) ** 2


def min_backtest_length_years(annual_sharpe: float, n_trials: int) -> float:
    """Return the years below which N trials without skill are expected to show this ratio.

    ``(expected_maximum(N) / annual SR)^2``; infinite when the ratio is not positive.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2014), Pseudo-Mathematics and Financial
    Charlatanism, theorem 1.
    """
    if annual_sharpe <= 0:
        return math.inf
    return (expected_maximum(n_trials) / annual_sharpe) ** 2
