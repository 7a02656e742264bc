"""Tables in CSV files, plain or compressed."""

import csv
import gzip
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from backtest_batch.errors import DataError
from backtest_batch.market.tables import NULL_TOKENS

SUFFIXES = (".csv", ".csv.gz")
"""Endings of the files that count in a folder."""

# A row must fit into a block; rows of ten thousand symbols have some 100 kB.
_BLOCK_BYTES = 1 << 24


class CsvFile:
    """A CSV file whose first line names the columns.

    Every line must have as many fields as the first: a file that was cut off shows.

    Parameters
    ----------
    path
        The file; ``.gz`` is unpacked while it is read.
    separator, decimal
        Characters between fields, and before the fraction of a number.
    """

    def __init__(self, path: Path, *, separator: str = ",", decimal: str = ".") -> None:
        self.path = path
        self._separator = separator
        self._decimal = decimal

    @cached_property
    def columns(self) -> Sequence[str]:
        """Names of the columns, from the first line."""
        try:
            with self.path.open("rb") as start:
                is_parquet = start.read(4) == b"PAR1"
            if is_parquet:
                raise DataError(f"{self.path} is a Parquet file; `data=parquet` reads it")
            with self._open() as stream:
                header = next(csv.reader(stream, delimiter=self._separator), None)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise self._unreadable(error) from error
        if not header:
            raise DataError(f"{self.path} is empty: its first line should name the columns")
        return header

    @property
    def index_column(self) -> str | None:
        """None: CSV marks no column as index."""
        return None

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns; text where ``numbers`` are none."""
        import pyarrow as pa

        try:
            return self._read(text, numbers)
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise self._unreadable(error) from error
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        table = self._read([*text, *numbers], [])
        return table if self._decimal == "." else self._with_points(table, numbers)

    def _read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow

        types = dict.fromkeys(text, pa.string()) | dict.fromkeys(numbers, pa.float64())
        return arrow.read_csv(
            self.path,
            read_options=arrow.ReadOptions(
                block_size=_BLOCK_BYTES, column_names=list(self.columns), skip_rows=1
            ),
            parse_options=arrow.ParseOptions(delimiter=self._separator),
            convert_options=arrow.ConvertOptions(
                column_types=types,
                include_columns=[*text, *numbers],
                null_values=list(NULL_TOKENS),
                strings_can_be_null=False,
                decimal_point=self._decimal,
            ),
        )

    def _with_points(self, table: Any, numbers: Sequence[str]) -> Any:
        import pyarrow.compute as pc

        for name in numbers:
            pointed = pc.replace_substring(table[name], self._decimal, ".")
            table = table.set_column(table.schema.get_field_index(name), name, pointed)
        return table

    def _open(self) -> IO[str]:
        if self.path.name.lower().endswith(".gz"):
            return gzip.open(self.path, "rt", encoding="utf-8-sig", newline="")
        return self.path.open(encoding="utf-8-sig", newline="")

    def _unreadable(self, error: Exception) -> DataError:
        reason = str(error).strip() or type(error).__name__
        return DataError(f"{self.path} cannot be read as CSV: {reason}")
