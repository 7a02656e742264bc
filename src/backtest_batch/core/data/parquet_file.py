"""Tables in Parquet files."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from backtest_batch.core.data.paths import recognised_format
from backtest_batch.core.data.wording import printable_name
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

    decimal = "."

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file, and turn whatever damaged bytes lead to into one readable error."""
        from pyarrow import parquet

        try:
            # Arrow cannot open names that are no UTF-8, but it reads an open file.
            plain = printable_name(self.path) == os.fspath(self.path)
            with (
                self.path.open("rb") as stream,
                # Not read_table: it would look for partitions in the names of the folders above.
                parquet.ParquetFile(self.path if plain else stream) as file,
            ):
                yield file
        except DataError:
            raise
        except Exception as error:
            # Damaged bytes end in Arrow's errors, but also in those of text, JSON and numbers.
            raise self._unreadable(error) from error

    @cached_property
    def _marked(self) -> tuple[list[str], str | None]:
        """Names of the columns, and the one that is marked as index."""
        with self._opened() as file:
            schema = file.schema_arrow
            return list(schema.names), _index_column(schema)

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, the index that pandas wrote among them."""
        return self._marked[0]

    @property
    def index_column(self) -> str | None:
        """The index that pandas wrote, when it holds timestamps, or text and has no name."""
        return self._marked[1]

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns."""
        with self._opened() as file:
            table = file.read(columns=[*text, *numbers], use_pandas_metadata=False)
            for name in text:
                table[name].validate(full=True)
            return table

    def _unreadable(self, error: Exception) -> DataError:
        if self.path.is_file() and self.path.stat().st_size == 0:
            return DataError(f"{printable_name(self.path)} is empty")
        hint = ""
        what = recognised_format(self.path) if self.path.is_file() else None
        if what is not None and "data=parquet" not in what:
            hint = f"; it is {what}"
        elif self.path.name.lower().endswith((".csv", ".csv.gz", ".txt")):
            hint = "; `data=csv` reads CSV files"
        reason = str(error).strip() or type(error).__name__
        if isinstance(error, UnicodeError):
            reason = "a name or text in it is no UTF-8"
        elif isinstance(error, json.JSONDecodeError):
            reason = "what pandas noted in it about its columns is no JSON"
        return DataError(f"{printable_name(self.path)} cannot be read as Parquet: {reason}{hint}")


def _index_column(schema: Any) -> str | None:
    import pyarrow as pa

    metadata = schema.pandas_metadata or {}
    marked = metadata.get("index_columns", ()) if isinstance(metadata, Mapping) else ()
    for name in marked if isinstance(marked, list) else ():
        if isinstance(name, str) and name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                return name
            # Text with a name may be symbols.
            is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
            if is_text and name == "__index_level_0__":
                return name
    return None
