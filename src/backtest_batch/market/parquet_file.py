"""Tables in Parquet files."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from backtest_batch.errors import DataError

SUFFIXES = (".parquet", ".pq")
"""Endings of the files that count in a folder."""


class ParquetFile:
    """A Parquet file.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _schema(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.read_schema(self.path)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, the index that pandas wrote among them."""
        return list(self._schema.names)

    @property
    def index_column(self) -> str | None:
        """The index that pandas wrote, when it holds timestamps, or text and has no name."""
        import pyarrow as pa

        metadata = self._schema.pandas_metadata or {}
        for name in metadata.get("index_columns", ()):
            if isinstance(name, str) and name in self._schema.names:
                kind = self._schema.field(name).type
                if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                    return name
                # Text with a name may be symbols.
                is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
                if is_text and name == "__index_level_0__":
                    return name
        return None

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            # Not read_table: it would look for partitions in the names of the folders above.
            with parquet.ParquetFile(self.path) as file:
                return file.read(columns=[*text, *numbers], use_pandas_metadata=False)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DataError:
        if self.path.is_file() and self.path.stat().st_size == 0:
            return DataError(f"{self.path} is empty")
        hint = ""
        if self.path.name.lower().endswith((".csv", ".csv.gz", ".txt")):
            hint = "; `data=csv` reads CSV files"
        reason = str(error).strip() or type(error).__name__
        return DataError(f"{self.path} cannot be read as Parquet: {reason}{hint}")
