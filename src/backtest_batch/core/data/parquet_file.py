"""Tables in Parquet and Feather files."""

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


OTHER_SUFFIXES = (".feather", ".arrow", ".ipc")
"""Endings of the files that count in a folder without Parquet files."""


class ParquetFile:
    """A Parquet file, or a Feather file (Arrow's own format).

    Parameters
    ----------
    path
        The file.
    """

    decimal = "."
    thousands: str | None = None
    is_doubtful = False
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file, and turn any error from damaged bytes into one readable error."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            # Arrow cannot open file names that are not UTF-8, but it can read an open file.
            plain = printable_name(self.path) == os.fspath(self.path)
            with self.path.open("rb") as stream:
                start = stream.read(len(_ARROW))
                stream.seek(0)
                if start == _ARROW:
                    yield _Feather(pa.ipc.open_file(stream))
                    return
                # Not read_table: it would look for partitions in the names of the folders above.
                with parquet.ParquetFile(self.path if plain else stream, pre_buffer=False) as file:
                    yield file
        except DataError:
            raise
        except Exception as error:
            # Damaged bytes raise Arrow's errors, but also those of text, JSON and numbers.
            raise self._unreadable(error) from error

    @cached_property
    def _marked(self) -> tuple[list[str], str | None]:
        """Names of the columns, and the one that is marked as the index."""
        with self._opened() as file:
            schema = file.schema_arrow
            return list(schema.names), _index_column(schema)

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, including the index that pandas wrote."""
        return self._marked[0]

    @property
    def index_column(self) -> str | None:
        """The index that pandas wrote, if it holds timestamps, or holds text and has no name."""
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


_ARROW = b"ARROW1"


class _Feather:
    """An Arrow file, with the interface of a Parquet file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.schema_arrow = file.schema

    def read(self, columns: Sequence[str], **_options: Any) -> Any:
        """Return a pyarrow Table of these columns; options are ignored."""
        table = self._file.read_all().select(list(columns))
        table.validate(full=True)
        return _with_plain_text(table)


def _with_plain_text(table: Any) -> Any:
    """Return a table whose text has the usual type, because polars writes string views."""
    import pyarrow as pa

    for place, name in enumerate(table.column_names):
        kind, column = table.schema.field(name).type, table[name]
        if pa.types.is_string_view(kind):
            column = column.cast(pa.string())
        elif pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
            chunks = [
                pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(pa.string()))
                for chunk in column.chunks
            ]
            column = pa.chunked_array(chunks, pa.dictionary(kind.index_type, pa.string()))
        else:
            continue
        table = table.set_column(place, name, column)
    return table


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
