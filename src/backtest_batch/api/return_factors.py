"""Factors beside returns of one's own: columns of their table, a file, or a table in memory."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.core.benchmark import NONE, names_file
from backtest_batch.core.data.series import returns_on, store_series
from backtest_batch.core.factors import (
    FactorReturns,
    factor_names,
    factor_table,
    factors_of_file,
    factors_on,
)
from backtest_batch.errors import ConfigurationError, DataError
from backtest_batch.records import Factors

_FORMS = (
    "the path of a file (CSV, Parquet, Excel) with one column a factor, or a list of columns of "
    "the returns; {file: path, unit: percent} says what the numbers are"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenFactors:
    """What explains the returns of trials.

    Attributes
    ----------
    returns
        The factors with their returns on the bars of the trials; None without any.
    columns
        The columns of the trials' table that they are.
    notes
        What a reader should know.
    """

    returns: FactorReturns | None = None
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def given_factors(given: Any, trials: pd.DataFrame, place: str = "the returns") -> GivenFactors:
    """Return the factors that trials are explained by.

    Parameters
    ----------
    given
        None or ``none``; names of columns; the path of a file, or ``{file: ..., unit: percent}``;
        or a Series or DataFrame of returns, one column a factor. Their returns are taken as they
        are: above the risk-free rate, or long-short.
    trials
        The table of returns, on an index that increases.
    place
        Where the trials are, for messages.

    Raises
    ------
    ConfigurationError
        When there is no such column; the message names similar ones.
    DataError
        When a file or table cannot be used, or covers none of the bars.
    """
    if given is None or (isinstance(given, str) and given == NONE and NONE not in trials):
        return GivenFactors()
    if isinstance(given, pd.Series | pd.DataFrame):
        given = {"stored": store_series(given, "factors")}
    if isinstance(given, str) and (given in trials or not names_file(given)):
        given = [given]
    if isinstance(given, list | tuple):
        return _of_columns([str(name) for name in given], trials, place)
    if isinstance(given, Mapping) and not {"file", "stored"} & set(given):
        raise ConfigurationError(f"factors: must be {_FORMS}; but got {', '.join(given)}")
    found = factors_of_file(given)
    if found is None:
        raise ConfigurationError(f"factors: must be {_FORMS}")
    table, said = factor_table(*found)
    names = Factors(names=factor_names(table.names, table.place), content="")
    index = pd.DatetimeIndex(trials.index)
    notes = factors_on(table, index, names).notes
    # Like the trials', whose first row is a return, too.
    values = returns_on(table, index, empty=np.nan, opens=True).returns
    returns = FactorReturns(factors=names, values=values)
    return GivenFactors(returns=returns, notes=(*said, *notes))


def _of_columns(names: Sequence[str], trials: pd.DataFrame, place: str) -> GivenFactors:
    if not names:
        return GivenFactors()
    if len(set(names)) < len(names):
        raise ConfigurationError(f"factors: names a column twice: {', '.join(names)}")
    lacking = [name for name in names if name not in trials]
    if lacking:
        known = {str(column).lower(): str(column) for column in trials.columns}
        near = difflib.get_close_matches(lacking[0].lower(), list(known), n=3)
        close = [known[item] for item in near]
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ConfigurationError(
            f"factors={lacking[0]}: is no column of {place}{meant} (a file is named by its path, "
            f"such as {lacking[0]}.csv)"
        )
    values = trials[list(names)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).any(axis=0).all():
        raise DataError(f"{place}: a factor among {', '.join(names)} has no value")
    factors = Factors(names=factor_names(names, place), content="")
    return GivenFactors(returns=FactorReturns(factors=factors, values=values), columns=tuple(names))
