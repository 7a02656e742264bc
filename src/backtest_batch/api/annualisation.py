"""The bars a year of prices or returns in memory, and what is said about them."""

import logging

import pandas as pd

from backtest_batch.config.values import checked
from backtest_batch.engine.frequency import (
    SESSIONS_PER_YEAR,
    disagreement,
    periods_per_year_from,
)

LOG = logging.getLogger("backtest_batch.api")


def bars_a_year(given: float | None, index: pd.DatetimeIndex) -> tuple[float, tuple[str, ...]]:
    """Return the bars a year to annualise with, and what to say about them.

    What is said is also logged as a warning. Nothing is said of the 252 days of an exchange.

    Parameters
    ----------
    given
        As the caller says; None takes it from the index.
    index
        Timestamps of the bars.

    Raises
    ------
    ConfigurationError
        When ``given`` is no number above 0.
    """
    per_year = checked({"periods_per_year": given})["periods_per_year"]
    notes = []
    if per_year is None:
        per_year = periods_per_year_from(index) or float(SESSIONS_PER_YEAR)
        if per_year != SESSIONS_PER_YEAR:
            notes.append(
                f"periods_per_year={per_year:,g} is taken from the index; volatility, sharpe, cagr "
                "and all else that is annualised depend on it"
            )
    differs = disagreement(index, per_year)
    if differs is not None:
        notes.append(differs)
    for note in notes:
        LOG.warning("%s", note)
    return per_year, tuple(notes)
