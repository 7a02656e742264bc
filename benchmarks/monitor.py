"""How often the monitor is wrong under daily looks, and how long it takes to be right.

python -m benchmarks.monitor           2,000 paths: ten years of backtest, five years after it
python -m benchmarks.monitor --small   a few paths, for CI
"""

import argparse
import math
from collections.abc import Callable, Mapping

import numpy as np

from backtest_batch.analysis.monitoring import DRAWS, LOW, money_against
from backtest_batch.analysis.overfitting.block_length import SHORTEST_BLOCK
from backtest_batch.analysis.overfitting.multiple_tests import stationary_counts
from backtest_batch.analysis.sequential import ENOUGH, EXPECTED_SHARPE, N_STAKES
from backtest_batch.arrays import FloatArray

DAYS = 252
YEARS_BEFORE, YEARS_AFTER = 10, 5
N_PATHS = 2_000
PROMISED_SHARPE = 1.0
WARM_UP = 200

Noise = Callable[[np.random.Generator, int, int], FloatArray]
"""Returns noise of mean 0 and variance 1, shape (n_bars, n_paths)."""


def normal(generator: np.random.Generator, n_bars: int, n_paths: int) -> FloatArray:
    """Return independent normal noise."""
    return generator.standard_normal((n_bars, n_paths))


def fat_tails(generator: np.random.Generator, n_bars: int, n_paths: int) -> FloatArray:
    """Return Student's t with 4 degrees of freedom."""
    return np.asarray(generator.standard_t(4, (n_bars, n_paths)) / math.sqrt(2))


def crashes(generator: np.random.Generator, n_bars: int, n_paths: int) -> FloatArray:
    """Return small gains and rare large losses: minus a log-normal, whose skew is -6.2."""
    drawn = np.exp(generator.standard_normal((n_bars, n_paths)))
    return np.asarray((math.exp(0.5) - drawn) / math.sqrt((math.e - 1) * math.e))


def jumps(generator: np.random.Generator, n_bars: int, n_paths: int) -> FloatArray:
    """Return large gains and small losses, the mirror image."""
    return -crashes(generator, n_bars, n_paths)


def autocorrelated(rho: float) -> Noise:
    """Return noise each of whose values remembers a share ``rho`` of the one before."""

    def noise(generator: np.random.Generator, n_bars: int, n_paths: int) -> FloatArray:
        found = generator.standard_normal((n_bars, n_paths))
        for bar in range(1, n_bars):
            found[bar] = rho * found[bar - 1] + math.sqrt(1 - rho**2) * found[bar]
        return found

    return noise


def garch(generator: np.random.Generator, n_bars: int, n_paths: int) -> FloatArray:
    """Return GARCH(1, 1) with Student's t: alpha 0.10, beta 0.88, 6 degrees of freedom."""
    found = generator.standard_t(6, (n_bars + WARM_UP, n_paths)) / math.sqrt(1.5)
    variance = np.ones(n_paths)
    for bar in range(len(found)):
        found[bar] *= np.sqrt(variance)
        variance = 0.02 + 0.10 * found[bar] ** 2 + 0.88 * variance
    return np.asarray(found[WARM_UP:])


KINDS: Mapping[str, Noise] = {
    "normal": normal,
    "Student's t, 4 degrees": fat_tails,
    "GARCH(1, 1), t": garch,
    "AR(1), 0.1": autocorrelated(0.1),
    "AR(1), 0.2": autocorrelated(0.2),
    "AR(1), -0.1": autocorrelated(-0.1),
    "crashes (skew -6)": crashes,
    "jumps (skew 6)": jumps,
}


class Paths:
    """Backtests, what they promise, and the noise of what follows.

    Parameters
    ----------
    noise
        Makes the returns.
    n_paths
        How many.
    sharpe
        True annual Sharpe ratio of the backtests.
    bars_a_year
        How many bars make a year.
    years
        Of the backtest, and after it.
    """

    def __init__(
        self,
        noise: Noise,
        n_paths: int,
        sharpe: float = PROMISED_SHARPE,
        bars_a_year: int = DAYS,
        years: tuple[int, int] = (YEARS_BEFORE, YEARS_AFTER),
    ) -> None:
        self.a_year = bars_a_year
        before, after = bars_a_year * years[0], bars_a_year * years[1]
        generator = np.random.default_rng(1)
        drawn = noise(generator, before + after, n_paths)
        self.mean = sharpe / math.sqrt(bars_a_year)
        self.noise = drawn[before:]
        # The benchmark that a run has besides its own returns, at a slope of 1.
        self.benchmark = noise(generator, before + after, n_paths)
        self.choose(self.mean + drawn[:before])

    def choose(self, before: FloatArray) -> None:
        """Take these returns for the backtests."""
        self.before = before
        counts = stationary_counts(len(before), DRAWS, SHORTEST_BLOCK, 42)
        self.lowest = np.quantile(counts @ before / len(before), LOW, axis=0)

    def broken(self, later: FloatArray) -> FloatArray:
        """Return the money against "the mean is at least what was promised" by bar and path."""
        return money_against(-later, -self.lowest, -self.before, self.a_year)

    def holds(self, later: FloatArray) -> FloatArray:
        """Return the money against "nothing beyond the benchmark", at the slope of the backtest."""
        n_before = len(self.before)
        then, now = self.benchmark[:n_before], self.benchmark[n_before:]
        centred = then - then.mean(axis=0)
        own = self.before + then
        slope = (centred * own).sum(axis=0) / (centred**2).sum(axis=0)
        residual = own - slope * then
        beyond = later + (1.0 - slope) * now
        return money_against(beyond, 0.0, residual, self.a_year)


def t_test(returns: FloatArray, bars_a_year: int) -> FloatArray:
    """Return the e-value of the sequential t-test, one-sided, from the tenth return on.

    The likelihood ratio of Student's statistic between a mean of delta standard deviations and 0
    (right-Haar prior on the deviation; Perez-Ortiz, Lardy, de Heide and Grunwald 2024), averaged
    over the same prior of delta as the stakes; its integral by Laplace's method.
    """
    from scipy.stats import halfnorm

    shares = (np.arange(N_STAKES) + 0.5) / N_STAKES
    n = np.arange(1.0, len(returns) + 1)[:, None]
    ratio = np.cumsum(returns, axis=0) / np.sqrt(np.cumsum(returns**2, axis=0))
    found = np.zeros_like(returns)
    free = np.maximum(n - 1.0, 1e-9)
    least = free * np.log(free) / 2 - free / 2
    for delta in halfnorm.ppf(shares) * EXPECTED_SHARPE / math.sqrt(bars_a_year):
        pull = delta * ratio
        top = (pull + np.sqrt(pull**2 + 4 * free)) / 2
        height = free * np.log(top) - top**2 / 2 + pull * top
        curved = np.log((free / top**2 + 1) / 2) / 2
        found += np.exp(height - least - curved - n * delta**2 / 2) / N_STAKES
    found[:9] = 1.0
    return found


def reached(money: FloatArray) -> FloatArray:
    """Return the day at which each path's money was enough first; infinity for never."""
    enough = money >= ENOUGH
    return np.where(enough.any(axis=0), enough.argmax(axis=0) + 1.0, np.inf)


def share(money: FloatArray) -> str:
    """Return how many paths were decided in the end."""
    return f"{100 * float(np.mean(np.isfinite(reached(money)))):.1f} %"


def print_sizes(n_paths: int) -> None:
    """Print how often either answer is wrong within five years of daily looks."""
    print(f"Wrong answers in {YEARS_AFTER} years of daily looks, {n_paths:,} paths")
    print(f"{'returns':24}  false holds  false broken  nothing changed  t-test instead")
    for name, noise in KINDS.items():
        _print_sizes(name, Paths(noise, n_paths))
    print(f"\n{YEARS_AFTER * 2} years of monthly looks at monthly returns")
    for rho in (0.0, 0.3, 0.5):
        years = (YEARS_BEFORE, 2 * YEARS_AFTER)
        paths = Paths(autocorrelated(rho), n_paths, bars_a_year=12, years=years)
        _print_sizes(f"AR(1), {rho:g}", paths)


def _print_sizes(name: str, paths: Paths) -> None:
    none = paths.noise
    cells = (
        share(paths.holds(none)),
        share(paths.broken(paths.lowest + none)),
        share(paths.broken(paths.mean + none)),
        share(t_test(none, paths.a_year)),
    )
    widths = (11, 12, 15, 14)
    row = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    print(f"{name:24}  {row}", flush=True)


def print_power(n_paths: int) -> None:
    """Print how long it takes until a change is found."""
    print(f"\nBacktests with a Sharpe ratio of {PROMISED_SHARPE:g}: broken within")
    print("Sharpe ratio after it  1 year  2 years  5 years  median")
    paths = Paths(normal, n_paths)
    for sharpe in (1.0, 0.5, 0.0, -1.0, -2.0, -4.0):
        days = reached(paths.broken(sharpe / math.sqrt(DAYS) + paths.noise))
        print(f"{sharpe:21.1f}  {_row(days)}")
    # The best of 100 without skill: the largest of as many ratios with this error.
    best = np.random.default_rng(2).standard_normal((100, n_paths)).max(axis=0)
    drawn = paths.before - paths.before.mean(axis=0)
    paths.choose(drawn + best * drawn.std(axis=0, ddof=1) / math.sqrt(len(drawn)))
    print(f"{'best of 100, no skill':21}  {_row(reached(paths.broken(paths.noise)))}")
    print("\nBeyond the benchmark: holds within")
    print("Sharpe ratio beyond it  1 year  2 years  5 years  median")
    paths = Paths(normal, n_paths)
    for sharpe in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        days = reached(paths.holds(sharpe / math.sqrt(DAYS) + paths.noise))
        print(f"{sharpe:22.1f}  {_row(days)}")


def _row(days: FloatArray) -> str:
    middle = float(np.quantile(days, 0.5, method="lower"))
    median = "beyond" if math.isinf(middle) else f"{middle / DAYS:.1f} y"
    shares = [f"{100 * float(np.mean(days <= n * DAYS)):.1f} %" for n in (1, 2, YEARS_AFTER)]
    return f"{shares[0]:>6}  {shares[1]:>7}  {shares[2]:>7}  {median:>6}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few paths")
    given = parser.parse_args()
    n_paths = 40 if given.small else N_PATHS
    print_sizes(n_paths)
    print_power(n_paths)


if __name__ == "__main__":
    main()
