"""A strategy after it was chosen: what it has earned since, against what its backtest promised."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from backtest_batch.analysis.overfitting.block_length import (
    SHORTEST_BLOCK,
    automatic_block_lengths,
)
from backtest_batch.analysis.overfitting.multiple_tests import stationary_counts
from backtest_batch.analysis.overfitting.samples import day_starts
from backtest_batch.analysis.sequential import ENOUGH, money_of_bets
from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.data.bars import moment_text

FEWEST_RETURNS = 30
"""With fewer (daily) returns before it was chosen than this, nothing was promised."""

Answer = Literal["holds", "broken", "too_early"]

LOW, HIGH = 0.05, 0.95
"""Ends of the promised bands."""

DRAWS = 1_000

FIGURES = ("return", "max_drawdown", "sharpe", "mean_return")

_CELLS_AT_ONCE = 4_000_000
_MOST_POINTS = 400
_SAME = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """A run on the bars of its batch, and on those that came later.

    Arrays have shape (n_bars,), with one finite return a bar.

    Attributes
    ----------
    name
        What the run is called.
    since
        The last bar of the batch.
    promised, promised_index
        Net returns of the batch's bars, as they were recorded, and their timestamps.
    earlier, earlier_index
        Net returns of bars of the batch as they are computed now, and their timestamps.
    earlier_benchmark
        Those of the benchmark; None without one.
    returns, index, benchmark
        The same on the bars after ``since``.
    periods_per_year
        Bars a year.
    risk_free_rate
        Annual rate.
    session_end
        When the market's days end, ``HH:MM``; None is midnight.
    benchmark_name
        What it is compared with, for people.
    ruined
        The bar at which its equity fell to zero, as text; None without ruin.
    seed
        Seed of the bootstrap.
    """

    name: str
    since: pd.Timestamp
    promised: FloatArray
    promised_index: pd.DatetimeIndex
    earlier: FloatArray
    earlier_index: pd.DatetimeIndex
    earlier_benchmark: FloatArray | None
    returns: FloatArray
    index: pd.DatetimeIndex
    benchmark: FloatArray | None
    periods_per_year: float
    risk_free_rate: float = 0.0
    session_end: str | None = None
    benchmark_name: str = ""
    ruined: str | None = None
    seed: int = 42


@dataclass(frozen=True, kw_only=True, eq=False)
class Followup:
    """What has become of a strategy.

    Attributes
    ----------
    document
        monitor.json without what is known of the batch alone: answer, sentence, reasons, since,
        first_bar, last_bar, n_bars, n_returns, realised, promised, evalue, evalue_now, reached,
        settings.
    curve
        One row a (daily) return since then: timestamp, net_return, benchmark (NaN without one),
        growth, promised_low and promised_high (of the growth, at some of the rows), evalue_holds,
        evalue_broken (the largest so far).
    """

    document: dict[str, Any]
    curve: pd.DataFrame

    @property
    def answer(self) -> Answer:
        """``holds``, ``broken`` or ``too_early``."""
        answer: Answer = self.document["answer"]
        return answer


def follow_winner(run: Followed) -> Followup:
    """Compare what a run has earned since it was chosen with what its backtest promised.

    Returns within a day are compounded to days. The promise is a stationary bootstrap of the
    batch's returns: for ``return``, ``max_drawdown`` and ``sharpe`` of stretches as long as that
    since then, for ``mean_return`` of the batch's own length; from 5 % to 95 %.

    ``holds`` is evidence against "the mean of a is at most 0", with a the returns beyond the
    benchmark at the slope that they had in the batch (beyond cash without a benchmark); ``broken``
    against "the mean return is at least the low end of its promised band". Either is the largest
    money that :func:`.money_of_bets` has had since then; 20 is enough, and broken counts first.

    Parameters
    ----------
    run
        The run, with at least one later bar, and :data:`FEWEST_RETURNS` (daily) returns in
        ``promised``, which vary.
    """
    promised = _Days(run.promised_index, run)
    later = _Days(run.index, run)
    past, now = promised.compounded(run.promised), later.compounded(run.returns)
    a_year = promised.a_year
    risk_free = promised.risk_free
    block = promised_block(past)
    bands, low, high = _bands(past, len(now), a_year, risk_free, block, run.seed)
    lowest = bands["mean_return"]["low"]
    assert lowest is not None
    broken = money_against(-now, -lowest, -past, a_year)
    holds = _money_beyond(run, later, now, a_year)
    curve = pd.DataFrame(
        {
            "timestamp": later.ends,
            "net_return": now,
            "benchmark": np.nan if run.benchmark is None else later.compounded(run.benchmark),
            "growth": np.cumprod(1.0 + now),
            "promised_low": low,
            "promised_high": high,
            "evalue_holds": np.maximum.accumulate(holds),
            "evalue_broken": np.maximum.accumulate(broken),
        }
    )
    evalue = {name: float(curve[f"evalue_{name}"].iloc[-1]) for name in ("holds", "broken")}
    realised = _figures(now[None, :], a_year, risk_free)
    document: dict[str, Any] = {
        "answer": _answer(evalue, run),
        "sentence": "",
        "reasons": [],
        "since": moment_text(run.since),
        "first_bar": moment_text(run.index[0]),
        "last_bar": moment_text(run.index[-1]),
        "n_bars": len(run.index),
        "n_returns": len(now),
        "realised": {name: _number(realised[name][0]) for name in FIGURES},
        "promised": bands,
        "evalue": evalue,
        "evalue_now": {"holds": float(holds[-1]), "broken": float(broken[-1])},
        "reached": {name: _first(curve, f"evalue_{name}") for name in evalue},
        "benchmark": run.benchmark_name or None,
        "ruined": run.ruined,
        "settings": {
            "enough": ENOUGH,
            "draws": DRAWS,
            "mean_block": block,
            "seed": run.seed,
            "periods_per_year": a_year,
            "n_promised": len(past),
        },
    }
    document |= {"sentence": _sentence(document, run), "reasons": _reasons(document, run)}
    return Followup(document=document, curve=curve)


class _Days:
    """The days of some bars; bars themselves, where no day has two."""

    def __init__(self, index: pd.DatetimeIndex, run: Followed) -> None:
        self._starts = day_starts(index, run.session_end)
        n_bars = len(index)
        per_day = 1.0
        if self._starts is not None:
            per_day = float(np.median(np.diff(self._starts, append=n_bars)))
        last = (
            np.arange(n_bars) if self._starts is None else np.append(self._starts[1:], n_bars) - 1
        )
        self.ends = index[last]
        self.a_year = run.periods_per_year / per_day
        self.risk_free = (1.0 + run.risk_free_rate / run.periods_per_year) ** per_day - 1.0

    def compounded(self, returns: FloatArray) -> FloatArray:
        """Return the returns of the days."""
        if self._starts is None:
            return np.asarray(returns, dtype=np.float64)
        return np.asarray(np.multiply.reduceat(1.0 + returns, self._starts) - 1.0)


def _money_beyond(run: Followed, later: _Days, now: FloatArray, a_year: float) -> FloatArray:
    """Return the money of bets against "the mean beyond the benchmark is at most 0"."""
    before = _Days(run.earlier_index, run)
    risk_free = before.risk_free
    then = before.compounded(run.earlier) - risk_free
    beyond = now - risk_free
    if run.benchmark is not None and run.earlier_benchmark is not None:
        reference = before.compounded(run.earlier_benchmark) - risk_free
        centred = reference - reference.mean()
        spread = float(centred @ centred)
        slope = float(centred @ then) / spread if spread > 0 else 0.0
        usual = float(then.std(ddof=1))
        then = then - slope * reference
        beyond = beyond - slope * (later.compounded(run.benchmark) - risk_free)
        if then.std(ddof=1) <= _SAME + 1e-9 * usual:  # it is the benchmark
            return np.ones(len(now))
    return money_against(beyond, 0.0, then, a_year)


def money_against(
    now: FloatArray, at_most: float | FloatArray, then: FloatArray, a_year: float
) -> FloatArray:
    """Return the money of bets against "the mean is at most", by what the batch shows of risk.

    It is :func:`.money_of_bets` with the standard deviation and :func:`dependence_of` the returns
    of the batch, and 1 where these do not vary: nothing says how large a stake may be.

    Parameters
    ----------
    now
        Later returns, shape (n_bars,) or (n_bars, n_series).
    at_most
        The bound, or one for each series.
    then
        Returns of the batch, shape (n_earlier,) or (n_earlier, n_series).
    a_year
        How many returns make a year.

    Returns
    -------
    ndarray
        Of the shape of ``now``.
    """
    later, before = now.reshape(len(now), -1), then.reshape(len(then), -1)
    bounds = np.broadcast_to(np.asarray(at_most, dtype=np.float64), later.shape[1:])
    scale = before.std(axis=0, ddof=1)
    dependence = np.ceil(dependence_of(before))
    varies = before.std(axis=0) > _SAME
    found = np.ones(later.shape)
    for bars in np.unique(dependence[varies]).tolist():
        chosen = varies & (dependence == bars)
        found[:, chosen] = money_of_bets(
            later[:, chosen],
            bounds[chosen],
            scale=scale[chosen],
            bars_a_year=a_year,
            dependence=bars,
        )
    return found.reshape(now.shape)


def dependence_of(returns: FloatArray) -> FloatArray:
    """Return for how many bars each series depends on its past, at most a tenth of its bars.

    It is twice the block that Politis and White (2004) choose, which is short where the dependence
    can hardly be seen.

    Parameters
    ----------
    returns
        Shape (n_bars,) or (n_bars, n_series).

    Returns
    -------
    ndarray
        Shape () or (n_series,).
    """
    found = automatic_block_lengths(returns.reshape(len(returns), -1))
    blocks = np.where(np.isfinite(found), found, 0.0).reshape(returns.shape[1:])
    return np.minimum(2.0 * blocks, len(returns) / 10)


def promised_block(returns: FloatArray) -> float:
    """Return the mean length of the bootstrap's blocks, chosen as the statistics do for a batch."""
    longest = max(SHORTEST_BLOCK, len(returns) / 10)
    return round(min(max(SHORTEST_BLOCK, _automatic_block(returns)), longest), 2)


def _automatic_block(returns: FloatArray) -> float:
    found = float(automatic_block_lengths(returns[:, None])[0])
    return found if math.isfinite(found) else 0.0


def _bands(
    past: FloatArray, n_later: int, a_year: float, risk_free: float, block: float, seed: int
) -> tuple[dict[str, dict[str, float | None]], FloatArray, FloatArray]:
    """Return the promised bands, and those of the growth at some of the later days (else NaN)."""
    generator = np.random.default_rng(seed)
    points = np.unique(np.linspace(0, n_later - 1, min(n_later, _MOST_POINTS)).astype(np.int64))
    found: dict[str, list[FloatArray]] = {name: [] for name in FIGURES}
    growths = []
    at_once = max(1, _CELLS_AT_ONCE // n_later)
    for first in range(0, DRAWS, at_once):
        n_draws = min(at_once, DRAWS - first)
        drawn = past[stationary_bars(len(past), n_later, n_draws, block, generator)]
        for name, values in _figures(drawn, a_year, risk_free).items():
            found[name].append(values)
        growths.append(np.cumprod(1.0 + drawn, axis=1)[:, points])
    counts = stationary_counts(len(past), DRAWS, block, seed)
    found["mean_return"] = [counts @ past / len(past)]
    bands = {name: _ends(np.concatenate(values)) for name, values in found.items()}
    low, high = np.full(n_later, np.nan), np.full(n_later, np.nan)
    low[points], high[points] = np.quantile(np.concatenate(growths), [LOW, HIGH], axis=0)
    return bands, low, high


def stationary_bars(
    n_bars: int, n_drawn: int, draws: int, mean_block: float, generator: np.random.Generator
) -> IntArray:
    """Return which bars resamples of the stationary bootstrap consist of, in their order.

    Blocks start anywhere, have geometric lengths of mean ``mean_block``, and wrap around.

    Parameters
    ----------
    n_bars
        Bars to choose from.
    n_drawn
        Bars of a resample, which may be more or fewer.
    draws
        Number of resamples.
    mean_block
        Mean length of a block, in bars.
    generator
        Where the random numbers come from.

    Returns
    -------
    ndarray of shape (draws, n_drawn)
    """
    begins = generator.random((draws, n_drawn)) < 1.0 / mean_block
    begins[:, 0] = True
    position = np.arange(n_drawn)
    begun = np.maximum.accumulate(np.where(begins, position, 0), axis=1)
    starts = generator.integers(0, n_bars, (draws, n_drawn))
    return np.asarray(
        (np.take_along_axis(starts, begun, axis=1) + position - begun) % n_bars, dtype=np.int64
    )


def _figures(returns: FloatArray, a_year: float, risk_free: float) -> dict[str, FloatArray]:
    """Return the figures of some stretches, each of shape (n_stretches,); NaN where undefined."""
    growth = np.cumprod(1.0 + returns, axis=1)
    peak = np.maximum(np.maximum.accumulate(growth, axis=1), 1.0)
    n_returns = returns.shape[1]
    mean = returns.mean(axis=1)
    ratio = np.full(len(returns), np.nan)
    if n_returns > 1:
        deviation = returns.std(axis=1, ddof=1)
        varies = deviation > _SAME
        ratio[varies] = (mean - risk_free)[varies] / deviation[varies] * math.sqrt(a_year)
    return {
        "return": growth[:, -1] - 1.0,
        "max_drawdown": (growth / peak - 1.0).min(axis=1),
        "sharpe": ratio,
        "mean_return": mean,
    }


def _ends(values: FloatArray) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"low": None, "high": None}
    low, high = np.quantile(known, [LOW, HIGH])
    return {"low": float(low), "high": float(high)}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _first(curve: pd.DataFrame, column: str) -> str | None:
    """Return when an e-value was enough for the first time; None if it never was."""
    enough = np.flatnonzero(curve[column].to_numpy() >= ENOUGH)
    return moment_text(curve["timestamp"].iloc[int(enough[0])]) if len(enough) else None


def _answer(evalue: dict[str, float], run: Followed) -> Answer:
    if run.ruined is not None or evalue["broken"] >= ENOUGH:
        return "broken"
    return "holds" if evalue["holds"] >= ENOUGH else "too_early"


def _sentence(document: dict[str, Any], run: Followed) -> str:
    evalue, since = document["evalue"], f"since {document['since']}"
    if run.ruined is not None:
        return f"broken: {run.name} lost everything, at {run.ruined}"
    if document["answer"] == "broken":
        also = " (it still earns more than its benchmark)" if evalue["holds"] >= ENOUGH else ""
        return (
            f"broken: {since} {run.name} earns less than its backtest promised{also}: the e-value "
            f"of that reached {_enough(evalue['broken'])} ({ENOUGH:g} is enough)"
        )
    if document["answer"] == "holds":
        over = f"the benchmark {run.benchmark_name}" if run.benchmark_name else "cash"
        return (
            f"holds: {since} {run.name} earns more than {over}"
            f"{' at equal beta' if run.benchmark_name else ''}: the e-value of that reached "
            f"{_enough(evalue['holds'])} ({ENOUGH:g} is enough)"
        )
    return (
        f"too early to tell: {since} there are {document['n_returns']:,} returns of {run.name}; "
        f"the e-value of 'holds' reached {evalue['holds']:.3g}, that of 'broken' "
        f"{evalue['broken']:.3g}, and {ENOUGH:g} is enough"
    )


def _enough(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else "more than a million"


_SHOWN = {"return": "return", "max_drawdown": "max drawdown", "sharpe": "Sharpe ratio a year"}


def _reasons(document: dict[str, Any], run: Followed) -> list[str]:
    """Return each realised figure beside its promised band, one line each."""
    lines = []
    for name, shown in _SHOWN.items():
        value, band = document["realised"][name], document["promised"][name]
        if value is None or band["low"] is None:
            lines.append(f"{shown}: not defined")
            continue
        where = "within what was promised"
        if value < band["low"]:
            where = "below what was promised"
        elif value > band["high"]:
            where = "above what was promised"
        text = _ratio if name == "sharpe" else _percent
        lines.append(
            f"{shown}: {text(value)}, {where} ({text(band['low'])} to {text(band['high'])})"
        )
    low = document["promised"]["mean_return"]["low"] * document["settings"]["periods_per_year"]
    mean = document["realised"]["mean_return"] * document["settings"]["periods_per_year"]
    lines.append(
        f"mean return a year: {_percent(mean)}; the low end of the promise, against which 'broken' "
        f"is tested, is {_percent(low)}"
    )
    for name, reached in document["reached"].items():
        if reached is not None:
            lines.append(f"evidence of '{name}' was enough at {reached}")
    if not run.benchmark_name:
        lines.append(
            "without a benchmark 'holds' means beyond cash; a rising market does that, too"
        )
    return lines


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _ratio(value: float) -> str:
    return f"{value:.2f}"
