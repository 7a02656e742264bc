"""What sources of tables have in common: the names of their columns, and rolling contracts."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backtest_batch.core.data.column_names import CLOSE_LIKE, column_meaning, plain
from backtest_batch.core.data.layout import ColumnNames
from backtest_batch.core.data.rolls import MARK, ContractTable, RollAdjust, Rolls, unmarked
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.suspicions import Adjusted
from backtest_batch.core.data.tables import Reading, TableFile, joined_readings, read_table
from backtest_batch.core.data.timestamps import TimestampRules, zone
from backtest_batch.core.data.wording import Wording, is_plain, printable_name
from backtest_batch.errors import DataError

_RETURNS = frozenset({"return", "returns", "ret", "total return", "daily return", "net return"})


@dataclass(frozen=True, kw_only=True)
class Tabular(Source):
    """Prices in tables: files, or the answer of a database.

    Parameters
    ----------
    timestamp_column
        Column of the timestamps; None looks for timestamp, date, datetime or time, or an index.
    timestamp_format
        Their strptime format. None reads ISO 8601, and any other form that can be read in one way
        only, which is then reported. ``s``, ``ms``, ``us`` and ``ns`` are whole numbers that count
        from 1970 (UTC); ``days`` counts from 1970 too, ``excel`` as workbooks do.
    time_column
        Column of the times of day, if the column of timestamps holds only days; None looks for a
        column named time if days repeat.
    timezone
        Zone of the index, an IANA name: timestamps without a zone are taken as its wall clock,
        others are converted to it. None keeps what the file says.
    symbol_column
        A table with this column has one row per symbol and bar; None means that there is none.
    open_column, high_column, low_column, close_column, volume_column
        Columns of a table that is long or holds one symbol; None leaves the field out. None for
        ``close_column`` means that every column holds the closes of a symbol.
    adjusted
        Which closes to use if a file has adjusted ones (``Adj Close``) beside the quoted ones:
        ``auto`` uses the adjusted ones and says so; True demands them; False uses the quoted ones.
        Open, high and low are brought onto the scale of the closes that are used.
    roll
        Joins contracts into continuous series. Either the column that names the contract of each
        row; or, if the contracts are symbols, a mapping from the name of a series to its contracts
        in order, each with the last bar on which it is held:
        ``{CL: {CLK20: 2020-04-17, CLM20: null}}``.
    roll_adjust
        What a roll does to older prices: multiply them by new / old (``ratio``), add new - old to
        them (``difference``), or leave them as they are (``none``).
    """

    timestamp_column: str | None = None
    timestamp_format: str | None = None
    time_column: str | None = None
    timezone: str | None = None
    symbol_column: str | None = "symbol"
    open_column: str | None = "open"
    high_column: str | None = "high"
    low_column: str | None = "low"
    close_column: str | None = "close"
    volume_column: str | None = "volume"
    adjusted: Adjusted = "auto"
    roll: str | dict[str, dict[str, str | None]] | None = None
    roll_adjust: RollAdjust = "ratio"

    def __post_init__(self) -> None:
        super().__post_init__()
        zone(self.timezone)
        if self.adjusted not in ("auto", True, False):
            raise ValueError(
                f"`adjusted` must be auto, true or false, but got adjusted={self.adjusted}."
            )
        self.check_choice("roll_adjust", ("ratio", "difference", "none"))
        if self.roll is not None and not self.roll:
            raise ValueError(f"`roll` must name a column or contracts, but got roll={self.roll}.")
        if isinstance(self.roll, dict) and not all(self.roll.values()):
            raise ValueError(f"`roll` must name contracts of each series, but got {self.roll}.")
        if self.roll is not None and self.values == "returns" and self.roll_adjust != "none":
            raise ValueError(
                "`roll_adjust=none` is for values=returns, which need no adjustment, but got "
                f"roll_adjust={self.roll_adjust}."
            )

    def parameters(self, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """Return the arguments that decide the content; the order of contracts is one of them."""
        found = super().parameters(without=without)
        if isinstance(self.roll, dict) and "roll" in found:
            found["roll"] = [
                [symbol, [list(each) for each in held.items()]]
                for symbol, held in self.roll.items()
            ]
        return found

    def to_read(self, wanted: Sequence[str] | None) -> Collection[str] | None:
        """Return the symbols to read from each table; None for all, always with ``roll``."""
        return None if wanted is None or self.roll is not None else frozenset(wanted)

    def rolled(self, reading: Reading, wanted: Sequence[str] | None) -> Reading:
        """Return what was read, with contracts joined into continuous series if ``roll`` is set.

        Raises
        ------
        DataError
            When two consecutive contracts have no bar on which both have a price.
        """
        if self.roll is None or not reading.bars:
            return reading
        contracts = None if isinstance(self.roll, str) else self.roll
        rolls = Rolls(contracts=contracts, adjust=self.roll_adjust)
        try:
            bars, notes = rolls.continuous(reading.bars, wanted)
        except DataError as error:
            raise DataError(unmarked(str(error))) from error
        excluded = frozenset(self.exclude or ())
        return replace(
            reading,
            available=rolls.symbols(reading.available),
            bars=[item for item in bars if item.symbol not in excluded],
            notes=(*reading.notes, *notes),
        )

    def read_tables(
        self,
        tables: Callable[[], Sequence[tuple[str, TableFile]]],
        label: str,
        wanted: Collection[str] | None,
    ) -> Reading:
        """Return the bars in the tables of one place.

        Parameters
        ----------
        tables
            Returns the tables, each with the symbol to use if the table names none.
        label
            Name of the place, for messages.
        wanted
            Symbols to read; None reads them all.

        Raises
        ------
        DataError
            When one cannot be understood; the message names the table.
        """
        try:
            reading = joined_readings(
                [self._read_one(symbol, table, wanted) for symbol, table in tables()]
            )
        except DataError as error:
            text = unmarked(str(error)) if self.roll else str(error)
            if text == str(error) and is_plain(text):
                raise
            # Names and values of a damaged file may hold anything; a terminal would obey it.
            raise DataError(printable_name(text)) from error
        except Exception as error:
            # Damaged bytes can raise any error in the libraries that read them.
            reason = f"{type(error).__name__}: {error}".strip(": ")
            raise DataError(printable_name(f"{label} cannot be read: {reason}")) from error
        for name in reading.available:
            if not is_plain(name.replace(MARK, "", 1)):
                raise DataError(
                    f"{label} names a symbol with a control character, {name!r}: it is damaged, "
                    "or no table"
                )
        return reading

    def _read_one(self, symbol: str, table: TableFile, wanted: Collection[str] | None) -> Reading:
        self._refuse_returns(table)
        symbol_column = self.symbol_column
        if isinstance(self.roll, str):
            contracts = ContractTable(
                table, symbol=symbol, symbol_column=symbol_column, contract_column=self.roll
            )
            table, symbol_column = contracts, contracts.name
        names = ColumnNames(
            timestamp=self.timestamp_column,
            time=self.time_column,
            symbol=symbol_column,
            open=self.open_column,
            high=self.high_column,
            low=self.low_column,
            close=self._close_column(table),
            volume=self.volume_column,
            adjusted=self.adjusted,
            fields=self.further_fields,
            signed=self.kind == "differences",
        )
        return read_table(
            table,
            symbol=symbol,
            names=names,
            rules=TimestampRules(format=self.timestamp_format, timezone=self.timezone),
            wanted=wanted,
            exclude=frozenset(() if self.roll else self.exclude or ()),
        )

    def _refuse_returns(self, table: TableFile) -> None:
        """Refuse a table whose only numbers are returns by their name, if prices are read."""
        if self.values == "returns" or self.close_column != ColumnNames().close:
            return
        found = self._returns(table)
        has_closes = any(column_meaning(column) in CLOSE_LIKE for column in table.columns)
        if found is not None and not has_closes:
            raise DataError(
                f"{printable_name(table.path)} has no closes, but a column '{found}', which holds "
                "returns by its name: `data.values=returns` reads them as such; "
                f"{Wording(table='').setting('close_column', found)} takes them for closes"
            )

    def _returns(self, table: TableFile) -> str | None:
        """Return the column named like returns in a table of one series, or of rows by symbol."""
        meant = [plain(column) for column in table.columns]
        found = [
            column for column, name in zip(table.columns, meant, strict=True) if name in _RETURNS
        ]
        symbols = {plain(self.symbol_column or ""), "ticker"} if self.symbol_column else set()
        is_one = bool(symbols & set(meant)) or "close" in meant or len(meant) == 2
        return found[0].strip() if len(found) == 1 and is_one else None

    def _close_column(self, table: TableFile) -> str | None:
        """Return the column of the closes; if returns are read, the one named like returns."""
        if self.values != "returns" or self.close_column != ColumnNames().close:
            return self.close_column
        return self._returns(table) or self.close_column
