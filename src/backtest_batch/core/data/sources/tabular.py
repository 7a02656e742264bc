"""What sources of tables have in common: the names of their columns."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from backtest_batch.core.data.layout import ColumnNames
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.suspicions import Adjusted
from backtest_batch.core.data.tables import Reading, TableFile, joined_readings, read_table
from backtest_batch.core.data.timestamps import TimestampRules, zone
from backtest_batch.core.data.wording import is_plain, printable_name
from backtest_batch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Tabular(Source):
    """Prices in tables: files, or the answer of a database.

    Parameters
    ----------
    timestamp_column
        Column of the timestamps; None looks for timestamp, date, datetime or time, or an index.
    timestamp_format
        Their strptime format; None reads ISO 8601, and other forms that can be read in one way
        only, which is said. ``s``, ``ms``, ``us`` and ``ns`` are whole numbers that count from
        1970 (UTC); ``days`` counts from 1970 too, ``excel`` as workbooks do.
    time_column
        Column of the times of day, where that of the timestamps holds days; None looks for one
        named time where days repeat.
    timezone
        Zone of the index, an IANA name: timestamps without a zone are its wall clock, others are
        converted to it. None keeps what the file says.
    symbol_column
        A table with this column has one row a symbol and bar; None says that there is none.
    open_column, high_column, low_column, close_column, volume_column
        Columns of a table that is long or of one symbol; None leaves the field out. None for
        ``close_column`` says that every column holds the closes of a symbol.
    adjusted
        Closes where a file has adjusted ones (``Adj Close``) beside those that were quoted:
        ``auto`` uses the adjusted ones and says so; True demands them; False uses those quoted.
        Open, high and low are brought onto the scale of the closes that are used.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        zone(self.timezone)
        if self.adjusted not in ("auto", True, False):
            raise ValueError(
                f"`adjusted` must be auto, true or false, but got adjusted={self.adjusted}."
            )

    def read_tables(
        self,
        tables: Callable[[], Sequence[tuple[str, TableFile]]],
        label: str,
        wanted: Collection[str] | None,
    ) -> Reading:
        """Return the bars that tables of one place hold.

        Parameters
        ----------
        tables
            Returns the tables, each with the symbol of one that names none.
        label
            What the place is called.
        wanted
            Symbols to read; None reads them all.

        Raises
        ------
        DataError
            When one cannot be understood; the message names the table.
        """
        names = ColumnNames(
            timestamp=self.timestamp_column,
            time=self.time_column,
            symbol=self.symbol_column,
            open=self.open_column,
            high=self.high_column,
            low=self.low_column,
            close=self.close_column,
            volume=self.volume_column,
            adjusted=self.adjusted,
        )
        rules = TimestampRules(format=self.timestamp_format, timezone=self.timezone)
        try:
            reading = joined_readings(
                [
                    read_table(
                        table,
                        symbol=symbol,
                        names=names,
                        rules=rules,
                        wanted=wanted,
                        exclude=frozenset(self.exclude or ()),
                    )
                    for symbol, table in tables()
                ]
            )
        except DataError as error:
            if is_plain(str(error)):
                raise
            # Names and values of a damaged file may hold anything; a terminal would obey it.
            raise DataError(printable_name(str(error))) from error
        except Exception as error:
            # Bytes that were damaged can lead anywhere in the libraries that read them.
            reason = f"{type(error).__name__}: {error}".strip(": ")
            raise DataError(printable_name(f"{label} cannot be read: {reason}")) from error
        for name in reading.available:
            if not is_plain(name):
                raise DataError(
                    f"{label} names a symbol with a control character, {name!r}: it is damaged, "
                    "or no table"
                )
        return reading
