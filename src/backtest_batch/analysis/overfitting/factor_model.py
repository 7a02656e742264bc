"""What factors leave of the returns of runs: one regression a run on all of them together.

``r = alpha + sum_f beta_f f + beta_b b + e``, by least squares, with r the returns over the
risk-free rate, f the factors and b the run's benchmark, where there is one. ``alpha + e`` is tested
for superior ability as r and a are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from backtest_batch.analysis.overfitting.multiple_tests import (
    SuperiorAbility,
    stationary_counts,
    superior_ability,
)
from backtest_batch.analysis.overfitting.samples import (
    MIN_BARS,
    BoolArray,
    FloatArray,
    IntArray,
)
from backtest_batch.analysis.overfitting.sharpe import DailyReturns

COLLINEAR = 1e-9
"""A factor is left out if no more than this fraction of it is left without those before it."""

MADE_UP = 0.9999
"""A benchmark is left out if the factors explain more than this share of its variance: costs of
entering it, or rounding, are then all that tells it from them."""

ALL_EXPLAINED = "the factors make up every trial's returns"

_RUNS_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True)
class Alpha:
    """The intercept of one run.

    Attributes
    ----------
    per_bar
        Its estimate.
    t_statistic
        That over its standard error, which heteroskedasticity and autocorrelation may have shaped
        (Newey and West 1987); NaN where nothing is left of the returns.
    lags
        Autocovariances that the standard error counts.
    """

    per_bar: float
    t_statistic: float
    lags: int


@dataclass(frozen=True, kw_only=True)
class FactorTest:
    """The test of superior ability on what the factors leave, and the winner's regression.

    Attributes
    ----------
    names
        Names of the factors.
    n_bars
        On how many (daily) bars all of them are known: the others are left out.
    winner
        Its intercept; None where there is no regression.
    slopes, benchmark_slope
        Of the winner, in the order of ``names``; NaN for what those before it make up, and for a
        benchmark that there is not, or that the factors make up.
    r2
        Share of the winner's variance that is explained.
    ability
        The test; None where there is none.
    survivors
        run_ids that StepM names; None without the test.
    no_regression
        Why nothing can be explained; empty when it can.
    nothing
        Why there is no test; empty when there is.
    """

    names: tuple[str, ...]
    n_bars: int
    winner: Alpha | None
    slopes: tuple[float, ...]
    benchmark_slope: float
    r2: float
    ability: SuperiorAbility | None
    survivors: tuple[str, ...] | None
    no_regression: str
    nothing: str


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Regressors, centred and made orthogonal.

    Attributes
    ----------
    columns
        Q of shape (n_bars, n_kept): orthonormal, each with mean zero.
    upper
        R of shape (n_kept, n_kept): the centred regressors are Q R.
    kept, means
        Which regressors these are, and the mean of each.
    n_given
        Number of regressors, with those that are left out.
    """

    columns: FloatArray
    upper: FloatArray
    kept: IntArray
    means: FloatArray
    n_given: int

    def regress(self, returns: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Regress some runs.

        Parameters
        ----------
        returns
            Shape (n_bars, n_runs).

        Returns
        -------
        onto, slopes, left : ndarray
            Projections onto the columns, shape (n_kept, n_runs); slopes of shape
            (n_runs, n_given); ``alpha + e`` of shape (n_bars, n_runs).
        """
        onto = self.columns.T @ (returns - returns.mean(axis=0))
        found = np.linalg.solve(self.upper, onto)
        slopes = np.full((returns.shape[1], self.n_given), np.nan)
        slopes[:, self.kept] = found.T
        return onto, slopes, returns - self.columns @ onto - self.means @ found


def orthogonal(design: FloatArray) -> Basis:
    """Return regressors made orthogonal one after the other.

    Those that do not vary, or that the ones before them make up, are left out: the rest explains
    the same.

    Parameters
    ----------
    design
        Shape (n_bars, n_regressors), finite.
    """
    n_bars, n_given = design.shape
    means = design.mean(axis=0)
    columns = np.empty((n_bars, 0))
    upper = np.zeros((n_given, n_given))
    kept: list[int] = []
    for number in range(n_given):
        centred = design[:, number] - means[number]
        size = float(np.linalg.norm(centred))
        if size <= COLLINEAR * float(np.linalg.norm(design[:, number])):
            continue
        onto = columns.T @ centred
        left = centred - columns @ onto
        # Once more: what rounding has left of the others is then negligible.
        again = columns.T @ left
        left -= columns @ again
        length = float(np.linalg.norm(left))
        if length <= COLLINEAR * size:
            continue
        upper[: len(kept), len(kept)] = onto + again
        upper[len(kept), len(kept)] = length
        kept.append(number)
        columns = np.column_stack([columns, left / length])
    n_kept = len(kept)
    return Basis(
        columns=columns,
        upper=upper[:n_kept, :n_kept],
        kept=np.array(kept, dtype=np.int64),
        means=means[kept],
        n_given=n_given,
    )


class FactorModel:
    """The regressors of the runs of one scenario.

    Parameters
    ----------
    daily
        The returns.
    positions
        Which of them are those of the scenario.

    Attributes
    ----------
    names
        Names of the factors.
    known
        On which bars all of them are known, shape (n_bars,).
    nothing
        Why there is no regression; empty when there is.
    """

    def __init__(self, daily: DailyReturns, positions: IntArray) -> None:
        self._daily = daily
        self._positions = positions
        explaining, bases = daily.explaining[positions].tolist(), daily.bases[positions].tolist()
        numbers = set(explaining)
        names = {daily.factor_names(number) for number in numbers}
        self.names = sorted(names)[-1] if names else ()
        self.known: BoolArray = np.ones(daily.n_bars, dtype=np.bool_)
        self.nothing = ""
        self._runs_of: dict[tuple[int, int], list[int]] = {}
        if len(names) > 1:
            self.nothing = "the runs have different factors"
            return
        self._factors = {number: daily.factors(number) for number in numbers}
        for values in self._factors.values():
            self.known &= np.isfinite(values).all(axis=1)
        for run, pair in enumerate(zip(explaining, bases, strict=True)):
            self._runs_of.setdefault(pair, []).append(run)
        if self.n_bars < max(MIN_BARS, len(self.names) + 3):
            self.nothing = f"the factors are known on {self.n_bars} of the {daily.n_bars} returns"

    def _basis(self, explaining: int, base: int) -> Basis:
        """Return the factors, and the benchmark last, on the bars on which they are known."""
        benchmark = self._daily.benchmarks(np.array([base]))
        if not np.isfinite(benchmark).all():
            benchmark = np.zeros_like(benchmark)  # what does not vary is left out
        factors, benchmark = self._factors[explaining][self.known], benchmark[self.known]
        _, _, left = orthogonal(factors).regress(benchmark)
        if float(left.var()) < (1.0 - MADE_UP) * float(benchmark.var()):
            benchmark = np.zeros_like(benchmark)
        return orthogonal(np.hstack([factors, benchmark]))

    @property
    def n_bars(self) -> int:
        """Number of bars on which the factors are known."""
        return int(np.count_nonzero(self.known))

    def parts(self) -> Iterator[tuple[Basis, list[IntArray]]]:
        """Yield the regressors, and the runs that have them, some at a time."""
        for pair, members in self._runs_of.items():
            runs = np.array(members, dtype=np.int64)
            starts = range(0, len(runs), _RUNS_AT_ONCE)
            yield self._basis(*pair), [runs[first : first + _RUNS_AT_ONCE] for first in starts]

    def returns(self, runs: IntArray) -> FloatArray:
        """Return r of some of the runs on the bars on which the factors are known."""
        return self._daily.runs(self._positions[runs])[self.known]

    def regress(self, run: int) -> tuple[Alpha, tuple[float, ...], float]:
        """Return the intercept of a run, its slopes (the benchmark's last), and its r2."""
        basis = self._basis(*next(pair for pair, runs in self._runs_of.items() if run in runs))
        returns = self.returns(np.array([run]))
        _, slopes, left = basis.regress(returns)
        varies = float(np.ptp(returns)) > 1e-12
        r2 = 1.0 - float(left.var()) / float(returns.var()) if varies else math.nan
        return robust_alpha(returns[:, 0], basis), tuple(slopes[0].tolist()), r2


def factor_test(
    model: FactorModel,
    names: Sequence[str],
    winner: int,
    *,
    counts: FloatArray,
    deviations: FloatArray,
    mean_block: float,
    seed: int,
    nothing: str,
) -> FactorTest:
    """Test the best of the runs of a scenario on what the factors leave.

    Parameters
    ----------
    model
        The runs and their regressors.
    names
        Their run_ids.
    winner
        The run that is regressed by itself.
    counts
        Bootstrap counts on all bars, shape (draws, n_bars).
    deviations
        Mean of each resample of r minus the mean, on all bars, shape (draws, n_runs).
    mean_block, seed
        Of the resamples, which are drawn again where some bars have no factors.
    nothing
        Why there is no selection; empty when there is.
    """
    lacking = (math.nan,) * len(model.names)
    if model.nothing:
        return FactorTest(
            names=model.names,
            n_bars=model.n_bars,
            winner=None,
            slopes=lacking,
            benchmark_slope=math.nan,
            r2=math.nan,
            ability=None,
            survivors=None,
            no_regression=model.nothing,
            nothing=nothing or model.nothing,
        )
    alpha, slopes, r2 = model.regress(winner)
    ability, survivors = None, None
    if not nothing:
        moments, beyond = _moments(model, counts, deviations, mean_block, seed)
        if len(beyond):
            ability = superior_ability(
                moments[0][beyond], moments[1][beyond], moments[2][:, beyond], model.n_bars
            )
            survivors = tuple(names[beyond[position]] for position in ability.survivors)
        else:
            nothing = ALL_EXPLAINED
    return FactorTest(
        names=model.names,
        n_bars=model.n_bars,
        winner=alpha,
        slopes=tuple(slopes[:-1]),
        benchmark_slope=slopes[-1],
        r2=r2,
        ability=ability,
        survivors=survivors,
        no_regression="",
        nothing=nothing,
    )


def _moments(
    model: FactorModel, counts: FloatArray, deviations: FloatArray, mean_block: float, seed: int
) -> tuple[tuple[FloatArray, FloatArray, FloatArray], IntArray]:
    """Return mean, std and resampled deviations of what is left of all runs, and which have any."""
    n_bars, n_runs = model.n_bars, deviations.shape[1]
    mean, std, scale = np.empty(n_runs), np.empty(n_runs), np.empty(n_runs)
    found = np.empty((len(counts), n_runs))
    is_whole = len(model.known) == n_bars
    if not is_whole:
        counts = stationary_counts(n_bars, len(counts), mean_block, seed)
    for basis, parts in model.parts():
        shifts = counts @ basis.columns / n_bars
        for runs in parts:
            returns = model.returns(runs)
            onto, _, left = basis.regress(returns)
            mean[runs], std[runs] = left.mean(axis=0), left.std(axis=0, ddof=1)
            scale[runs] = returns.std(axis=0, ddof=1)
            shift = deviations[:, runs]
            if not is_whole:
                shift = counts @ (returns - returns.mean(axis=0)) / n_bars
            # The resampled means of what is left follow from those of r: no second product.
            found[:, runs] = shift - shifts @ onto
    return (mean, std, found), np.flatnonzero(std > 1e-14 + 1e-8 * scale).astype(np.int64)


def robust_alpha(returns: FloatArray, basis: Basis) -> Alpha:
    """Return the intercept of a regression with a standard error after Newey and West.

    Bartlett weights over ``L = floor(4 (T / 100)^(2/9))`` lags; no correction for the degrees of
    freedom.

    Parameters
    ----------
    returns
        Shape (n_bars,).
    basis
        The regressors.

    References
    ----------
    Newey and West (1987), A Simple, Positive Semi-Definite, Heteroskedasticity and Autocorrelation
    Consistent Covariance Matrix. The rule for L is that of Newey and West (1994), without their
    pilot estimate.
    """
    n_bars = len(returns)
    _, _, left = basis.regress(returns[:, None])
    alpha = float(left.mean())
    residual = left[:, 0] - alpha
    lags = math.floor(4.0 * (n_bars / 100.0) ** (2.0 / 9.0))
    # With centred regressors X_c the intercept at X = 0 is weighted by 1/T - mean' (X_c'X_c)^-1 x.
    coordinates = np.linalg.solve(basis.upper.T, basis.means)
    score = residual * (1.0 / n_bars - basis.columns @ coordinates)
    variance = float(score @ score)
    for lag in range(1, min(lags, n_bars - 1) + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * float(score[lag:] @ score[:-lag])
    still = float(np.std(residual)) <= 1e-12 * (1.0 + float(np.std(returns)))
    t_statistic = math.nan if still or variance <= 0.0 else alpha / math.sqrt(variance)
    return Alpha(per_bar=alpha, t_statistic=t_statistic, lags=lags)
