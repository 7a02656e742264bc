"""Factors that explain the returns of runs, by least squares.

Factors are a file of returns (timestamps and one column per factor), or symbols. Returns from a
file are used as they are: those of long-short portfolios, and of markets above the risk-free rate,
are excess returns already. Of symbols, the returns above the risk-free rate are used.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.benchmark import names_file, symbol_prices
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.series import (
    OnBars,
    SeriesTable,
    Unit,
    keep_series,
    known_rows,
    open_series,
    read_series,
    returns_on,
    stored_series,
)
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.engine.metrics import FACTOR_BETA
from backtest_batch.errors import ConfigurationError, DataError, Fault
from backtest_batch.records import Factors, RunSpec

RISK_FREE = ("rf", "riskfree", "riskfreerate")
"""Columns of a file of factors that hold the risk-free rate, by their letters alone (``R_F``); they
are no factors."""

_NEGLIGIBLE = 1e-12
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")

FORMS = (
    "the path of a file (CSV, Parquet, Excel) with one column a factor, or a list of symbols; "
    "{file: path, unit: percent} says what the numbers are"
)


@dataclass(frozen=True, kw_only=True)
class FoundFactors:
    """Factors, and their returns on the bars of a panel.

    Attributes
    ----------
    factors
        The factors; None if there are none.
    returns
        Shape (n_bars, n_factors), NaN where they are not known.
    place
        What they are called in messages.
    notes
        What a reader of the results should know.
    """

    factors: Factors | None = None
    returns: FloatArray | None = None
    place: str = ""
    notes: tuple[str, ...] = ()

    def faults(self, panel: Panel, first_bar: int) -> list[Fault]:
        """Return why they cannot explain a run that is measured from ``first_bar`` on."""
        if self.returns is None:
            return []
        known = known_rows(self.returns)
        n_known, least = int(known[first_bar + 1 :].sum()), self.returns.shape[1] + 2
        if n_known >= least:
            return []
        text = (
            f"must have returns on at least {least} of the measured bars, "
            f"{moment_text(panel.index[first_bar])} to {moment_text(panel.index[-1])}, but has "
            f"them on {n_known}"
        )
        return [Fault(key="factors", value=self.place, allowed=text)]

    def cover_notes(self, panel: Panel, first_bar: int) -> list[str]:
        """Return the notes on a run that is measured from ``first_bar`` on."""
        if self.returns is None or self.factors is None:
            return []
        measured = self.returns[first_bar + 1 :]
        known = known_rows(measured)
        said = []
        if not known.all():
            when = moment_text(panel.index[first_bar + 1 + int((~known).argmax())])
            said.append(
                f"factors {self.place}: {int((~known).sum()):,} of {len(known):,} measured bars "
                f"have none, the first at {when}; alpha_factors and the like leave them out"
            )
        collinear = collinear_factor(measured[known])
        if collinear is not None:
            name = self.factors.names[collinear]
            said.append(
                f"factors {self.place}: {name} does not vary, or the factors before it make it up: "
                f"alpha_factors, r2_factors and the slopes are undefined; leave {name} out"
            )
        return said


@dataclass(frozen=True, kw_only=True, eq=False)
class FactorReturns:
    """Factors with their returns, bar by bar.

    Attributes
    ----------
    factors
        The factors.
    values
        Their returns, shape (n_bars, n_factors), NaN where one is not known.
    """

    factors: Factors
    values: FloatArray

    def on(self, bars: IntArray) -> "FactorReturns":
        """Return them on the bars at some positions."""
        return FactorReturns(factors=self.factors, values=self.values[bars])


def factor_returns(run: RunSpec) -> FactorReturns | None:
    """Return the factors of a planned run with their returns on its panel; None without any.

    Raises
    ------
    DataNotFoundError
        When the cache does not hold them.
    """
    if run.factors is None:
        return None
    return FactorReturns(factors=run.factors, values=open_series(run.factors.content))


def find_factors(given: Any, panel: Panel, source: Source | None = None) -> FoundFactors:
    """Return the factors that a configuration names.

    Parameters
    ----------
    given
        The value of the key ``factors``.
    panel
        The data of the run.
    source
        Where the data come from, to read symbols that are not among them.

    Raises
    ------
    ConfigurationError
        When ``given`` names no factors; the message says what it may be.
    DataError
        When a file cannot be used.
    """
    if given is None or given == "none":
        return FoundFactors()
    if isinstance(given, list | tuple):
        return _found_symbols([str(item) for item in given], panel, source)
    if isinstance(given, bool):
        raise ConfigurationError(f"must be {FORMS}")
    name = str(given)
    if isinstance(given, str) and name in panel.symbols:
        return _found_symbols([name], panel, source)
    found = factors_of_file(given)
    return _found_symbols([name], panel, source) if found is None else _found_table(*found, panel)


def factors_of_file(given: Any) -> tuple[SeriesTable, Unit | None] | None:
    """Return the table that a configuration names, and the unit of its returns; None for symbols.

    Raises
    ------
    ConfigurationError
        When it names nothing.
    DataError
        When the file cannot be used.
    """
    if isinstance(given, Mapping):
        unit = given.get("unit")
        places = [name for name in ("file", "stored") if name in given]
        if len(places) != 1:
            raise ConfigurationError(f"must be {FORMS}; but got {', '.join(map(str, given))}")
        where = str(given[places[0]])
        if places == ["stored"]:
            return stored_series(where), unit
        options = {name: value for name, value in given.items() if name not in ("file", "unit")}
        return read_series(where, are_prices=False, options=options), unit
    if isinstance(given, str) and names_file(given):
        return read_series(given, are_prices=False), None
    return None


def _found_table(table: SeriesTable, unit: Unit | None, panel: Panel) -> FoundFactors:
    table, said = factor_table(table, unit)
    factors = Factors(names=factor_names(table.names, table.place), content="")
    found = factors_on(table, panel.index, factors)
    assert found.returns is not None
    content = keep_series(panel.index, table.names, found.returns)
    return replace(found, factors=replace(factors, content=content), notes=(*said, *found.notes))


def factor_table(table: SeriesTable, unit: Unit | None) -> tuple[SeriesTable, tuple[str, ...]]:
    """Return the factors of a table as fractions, without the risk-free rate; and notes.

    Raises
    ------
    DataError
        When it holds no factor, or one without values.
    """
    notes = list(table.notes)
    rates = [name for name in table.names if _letters(name) in RISK_FREE]
    if rates:
        notes.append(
            f"factors {table.place}: {rates[0]} is the risk-free rate and no factor; what is "
            "subtracted from the returns is risk_free_rate"
        )
    columns = [name for name in table.names if name not in rates]
    if not columns:
        raise DataError(f"{table.place} holds no factor")
    table = replace(table.only(columns), notes=()).as_fractions(unit)
    empty = [
        name for name, held in zip(columns, table.values.T, strict=True) if np.isnan(held).all()
    ]
    if empty:
        raise DataError(f"{table.place}: the factor {empty[0]} has no value")
    return replace(table, notes=()), (*notes, *table.notes)


def factors_on(table: SeriesTable, index: pd.DatetimeIndex, factors: Factors) -> FoundFactors:
    """Return the factors of a checked table on bars.

    Raises
    ------
    DataError
        When they cover none of the bars, or are those of longer bars.
    """
    on_bars = returns_on(table, index, empty=math.nan)
    _refuse_sparse(table, on_bars)
    return FoundFactors(
        factors=factors, returns=on_bars.returns, place=table.place, notes=on_bars.notes
    )


def _letters(name: str) -> str:
    return "".join(filter(str.isalpha, name.casefold()))


def _refuse_sparse(table: SeriesTable, on_bars: OnBars) -> None:
    """Refuse returns of longer bars than the data has: a month's return is not a day's."""
    within = np.flatnonzero(np.isfinite(on_bars.returns).any(axis=1))
    if not len(within):
        raise DataError(
            f"{table.place} covers {moment_text(table.index[0])} to "
            f"{moment_text(table.index[-1])}, and none of the bars of the data"
        )
    own = on_bars.rows[within[0] : within[-1] + 1] > 0
    between = np.diff(np.flatnonzero(own))
    if own.mean() < 0.5 or (len(between) and np.median(between) > 1):
        raise DataError(
            f"{table.place} has a return on {int(own.sum()):,} of {len(own):,} bars between its "
            "first and its last: its bars are longer than those of the data, and a return of a "
            "month cannot be set against one of a day; give factors of the data's own bars"
        )


def _found_symbols(symbols: Sequence[str], panel: Panel, source: Source | None) -> FoundFactors:
    if not symbols:
        return FoundFactors()
    if len(set(symbols)) < len(symbols):
        raise ConfigurationError(f"names a symbol twice: {', '.join(symbols)}")
    returns = np.full((panel.n_bars, len(symbols)), np.nan)
    for column, symbol in enumerate(symbols):
        fields, rows = symbol_prices(symbol, panel, source)
        close = fields["close"][:, 0]
        returns[1:, column] = close[1:] / close[:-1] - 1.0
        if rows is not None:
            returns[rows == 0, column] = np.nan
    return FoundFactors(
        factors=Factors(
            names=factor_names(symbols, "factors"),
            content=keep_series(panel.index, tuple(symbols), returns),
            are_excess=False,
        ),
        returns=returns,
        place=", ".join(symbols),
    )


def factor_names(names: Sequence[str], place: str) -> tuple[str, ...]:
    """Return names of factors that MLflow accepts as parts of a metric's name.

    Raises
    ------
    DataError
        When two would be the same, or one is empty.
    """
    safe = [_UNSAFE.sub("_", name.strip()) for name in names]
    for position, name in enumerate(safe):
        if name in safe[:position] or not name.strip("_"):
            raise DataError(f"{place}: the factor {names[position]!r} needs a name of its own")
    return tuple(safe)


def factors_identity(factors: Factors | None) -> Any:
    """Return what identifies factors in hashes: the content of a file, never its path."""
    if factors is None:
        return None
    return {
        "names": list(factors.names),
        "content": factors.content,
        "are_excess": factors.are_excess,
    }


def factor_metric_names(factors: Factors | None) -> tuple[str, ...]:
    """Return the names of the metrics that factors add to a run."""
    if factors is None:
        return ()
    return ("alpha_factors", "r2_factors", *(FACTOR_BETA + name for name in factors.names))


def collinear_factor(returns: FloatArray) -> int | None:
    """Return the first factor that does not vary, or is a combination of those before it.

    Parameters
    ----------
    returns
        Shape (n_bars, n_factors), finite.
    """
    from backtest_batch.core.engine.regression import least_squares

    if not len(returns):
        return None
    columns = np.array(returns.T, order="C")
    *_, collinear = least_squares(columns, np.zeros(len(returns)), np.zeros(returns.shape[1]))
    return None if collinear < 0 else int(collinear)


def factor_metrics(
    factors: Factors,
    returns: FloatArray,
    net_return: FloatArray,
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
) -> dict[str, float]:
    """Return the metrics of a run that its factors define; undefined ones are left out.

    With x the net returns above the risk-free rate and f the factors, ``x = a + b f + e`` is fitted
    by least squares: ``alpha_factors = a ppy``, ``beta_<factor> = b``, and
    ``r2_factors = 1 - sum(e^2) / sum((x - mean(x))^2)``. Bars on which a factor is not known are
    left out. The metrics are undefined with fewer returns than factors + 2, and with collinear
    factors.

    Parameters
    ----------
    factors
        The factors of the run.
    returns
        Their returns on the measured bars, shape (n_measured, n_factors).
    net_return
        Net returns of the run on these bars, NaN where there is none, shape (n_measured,).
    periods_per_year
        Bars per year.
    risk_free_rate
        Annual rate.
    """
    risk_free = risk_free_rate / periods_per_year
    used = known_rows(returns) & np.isfinite(net_return)
    columns = np.array(returns[used].T, order="C")
    if not factors.are_excess:
        columns -= risk_free
    values = _regressed(columns, net_return[used] - risk_free, periods_per_year)
    found = dict(zip(factor_metric_names(factors), values or (), strict=values is not None))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _regressed(
    columns: FloatArray, excess: FloatArray, periods_per_year: float
) -> tuple[float, ...] | None:
    """Return alpha, r2 and the slopes; None if they are undefined. Both arrays are overwritten."""
    from backtest_batch.core.engine.regression import least_squares

    n_factors, n_bars = columns.shape
    if n_bars < n_factors + 2:
        return None
    slopes = np.zeros(n_factors)
    varies = bool(np.ptp(excess) > _NEGLIGIBLE)
    intercept, r2, collinear = least_squares(columns, excess, slopes)
    if collinear >= 0:
        return None
    return (
        float(intercept * periods_per_year),
        float(r2) if varies else math.nan,
        *slopes.tolist(),
    )


def factor_metrics_within(
    given: FactorReturns,
    returns: FloatArray,
    windows: Sequence[IntArray],
    *,
    periods_per_year: float,
    risk_free_rate: float = 0.0,
) -> dict[str, FloatArray]:
    """Return the metrics of runs that factors define on windows, as :func:`factor_metrics` does.

    Parameters
    ----------
    given
        The factors.
    returns
        Net returns of the runs, NaN where there are none, shape (n_runs, n_bars).
    windows
        Positions of the bars of each window.
    periods_per_year, risk_free_rate
        As for :func:`factor_metrics`.

    Returns
    -------
    dict
        For each metric an array of shape (n_windows, n_runs), NaN where it is undefined.
    """
    names = factor_metric_names(given.factors)
    risk_free = risk_free_rate / periods_per_year
    values = np.full((len(names), len(windows), len(returns)), np.nan)
    for window, bars in enumerate(windows):
        known = bars[known_rows(given.values[bars])]
        columns = np.array(given.values[known].T, order="C")
        if not given.factors.are_excess:
            columns -= risk_free
        held = returns[:, known]
        finite = np.isfinite(held)
        for run, used in enumerate(finite):
            design = columns.copy() if used.all() else np.array(columns[:, used], order="C")
            found = _regressed(design, held[run, used] - risk_free, periods_per_year)
            if found is not None:
                values[:, window, run] = found
    return dict(zip(names, values, strict=True))
