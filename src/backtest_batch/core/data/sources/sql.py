"""Prices in a database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from backtest_batch.arrays import IntArray
from backtest_batch.core.data.bars import SymbolBars
from backtest_batch.core.data.database import QueryTable, check_query, check_url, run_query
from backtest_batch.core.data.sources.tabular import Tabular
from backtest_batch.core.data.tables import NEWEST_FIRST, Reading
from backtest_batch.errors import DataError
from backtest_batch.masking import masked

SYMBOL = "asset"
"""The symbol of an answer without symbols, unless ``symbols`` names exactly one."""


@dataclass(frozen=True, kw_only=True)
class Sql(Tabular):
    """Prices from a database query; the answer may have the layouts of files.

    The query is sent each time the data are loaded, and the answer is looked up in the cache by
    its content. Rows may come in any order. Nothing is written to the database.

    Parameters
    ----------
    url
        Address of the database, as SQLAlchemy writes it: ``sqlite:///prices.db``,
        ``duckdb:///prices.duckdb``, ``postgresql+psycopg2://user:password@host/database``.
    query
        One SELECT. Its columns are those of a table in a file: timestamps, a symbol, prices.
    """

    url: str
    query: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_url(self.url)
        check_query(self.query)

    @property
    def place(self) -> str:
        """Name of the answer in messages."""
        return "the query"

    @cached_property
    def _answer(self) -> QueryTable:
        return run_query(self.url, self.query)

    @cached_property
    def _digest(self) -> str:
        return self._answer.digest()

    def identity(self) -> dict[str, Any]:
        """Return the options, the address without its secrets, and the sha256 of the answer."""
        return {
            **self.parameters(without=("url",)),
            "url": masked(self.url),
            "answer": self._digest,
        }

    def whereabouts(self) -> dict[str, Any]:
        """Return the options and the address without its secrets."""
        return {**self.parameters(without=("url",)), "url": masked(self.url)}

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Return the bars of the answer, in the order of their timestamps."""
        if not self._answer.n_rows:
            raise DataError(f"{self.place} has no rows: the database answered with none")
        symbol = wanted[0] if wanted is not None and len(wanted) == 1 else SYMBOL
        keep = self.to_read(wanted)
        reading = self.read_tables(lambda: [(symbol, self._answer)], self.place, keep)
        orders: dict[int, IntArray | None] = {}
        in_order = [_in_order(item, orders) for item in reading.bars]
        notes = tuple(note for note in reading.notes if note != NEWEST_FIRST)
        return self.rolled(replace(reading, bars=in_order, notes=notes), wanted)


def _in_order(bars: SymbolBars, orders: dict[int, IntArray | None]) -> SymbolBars:
    """Return the bars sorted by time: the rows of a database have no order of their own."""
    key = id(bars.stamps)
    if key not in orders:
        sorted_already = bool((bars.stamps[1:] >= bars.stamps[:-1]).all())
        orders[key] = None if sorted_already else np.argsort(bars.stamps, kind="stable")
    order = orders[key]
    if order is None:
        return bars
    return replace(
        bars,
        stamps=bars.stamps[order],
        fields={name: values[order] for name, values in bars.fields.items()},
    )
