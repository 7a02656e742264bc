"""Tables on the sheets of workbooks, read by calamine."""

import math
import re
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from backtest_batch.core.data import packed
from backtest_batch.core.data.csv_dialect import is_value, two_levels
from backtest_batch.core.data.number_text import DASHES, NULL_TOKENS
from backtest_batch.core.data.paths import recognised_format
from backtest_batch.core.data.several_tables import goes_on
from backtest_batch.core.data.wording import Wording, printable_name
from backtest_batch.core.data.workbook_formulas import formulas_without_values
from backtest_batch.errors import DataError, DataNotFoundError

SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
"""Endings of the files that count in a folder."""

_MOST_NAMED = 8
_ROWS_ABOVE = 60
_SAVE = (
    ": the program that wrote them does not calculate. Open the workbook in a spreadsheet program "
    "and save it once"
)


class Sheet:
    """One sheet of a workbook.

    Parameters
    ----------
    path
        The workbook.
    name
        Name of the sheet.
    rows
        Its cells, row by row, as Python objects.
    decimal, thousands
        How numbers that are stored as text are written.
    origin
        Row and column of the first cell in the sheet, from 0: empty ones before it are no cells.
    """

    index_column: str | None = None
    is_doubtful = False

    def __init__(
        self,
        path: Path,
        name: str,
        rows: Sequence[Sequence[Any]],
        *,
        decimal: str = ".",
        thousands: str | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.path = path
        self.name = name
        self._origin = origin
        self.decimal = decimal
        self.thousands = thousands
        self.is_one_of_many = False
        self._rows = rows
        self._note_on_end: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the sheet has no cells."""
        return not self._rows

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, from the first row that holds names."""
        return self._header[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Which rows above the names are not read, and whether other sheets are read too."""
        many = "all sheets are read (`data.sheet` names one)"
        many_notes = (many,) if self.is_one_of_many else ()
        return (*many_notes, *self._notes_above(), *self._note_on_end)

    def _notes_above(self) -> tuple[str, ...]:
        above = [row for row in self._rows[: self._header[1]] if any(map(_text, row))]
        if not above:
            return ()
        count = "1 row" if len(above) == 1 else f"{len(above)} rows"
        shown = next(filter(None, map(_text, above[0])))[:40]
        return (f"{count} above the names of the columns left out: {shown!r}",)

    @cached_property
    def _header(self) -> tuple[list[str], int, int]:
        """Names of the columns, number of rows above them, and number of rows up to their end."""
        for position, row in enumerate(self._rows[:_ROWS_ABOVE]):
            names = [_text(cell) for cell in row]
            filled = [name for name in names if name]
            others = [cell for cell, name in zip(row, names, strict=True) if name]
            if len(filled) < 2 or all(map(_is_datum, others)):
                continue
            following = self._rows[position + 1 : position + 4]
            levels = self._levels(names, following)
            if levels is not None:
                return levels[0], position, position + levels[1]
            if not any(_is_datum(cell) for cell in (following[0] if following else ())):
                continue
            named = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
            return named, position, position + 1
        uncalculated = sum(map(len, formulas_without_values(self.path, self.name).values()))
        hint = f"; it has {uncalculated:,} formulas without a value{_SAVE}" if uncalculated else ""
        raise DataError(
            f"{printable_name(self.path)}: the sheet {self.name!r} has no row that names columns "
            f"above rows of values{hint}"
        )

    def _levels(
        self, names: list[str], following: Sequence[Sequence[Any]]
    ) -> tuple[list[str], int] | None:
        if not following:
            return None
        last = ""
        first = []
        for place, name in enumerate(names):  # pandas merges the cells of equal labels
            last = name or last
            first.append(last if place else name)
        others = [[_text(cell) for cell in row] for row in following]
        return two_levels(first, others[0], others[1] if len(others) > 1 else None)

    def read(self, text: Sequence[str], numbers: Sequence[str]) -> Any:
        """Return a pyarrow Table of these columns; ``numbers`` that are not plain come as text."""
        import pyarrow as pa

        names, _, start = self._header
        places = {name: place for place, name in enumerate(names)}
        used = [places[name] for name in (*text, *numbers)]
        end = self._end_of_first()
        while end > start and not any(_text(self._rows[end - 1][place]) for place in used):
            end -= 1
        rows = self._rows[start:end]
        columns = {}
        for name in text:
            columns[name] = _moments([row[places[name]] for row in rows])
        for name in numbers:
            columns[name] = _numbers([row[places[name]] for row in rows])
        places = {name: places[name] for name in (*text, *numbers)}
        if any(not _text(row[place]) for place in places.values() for row in rows):
            self._refuse_formulas(places, start, end)
        return pa.table(columns)

    def _end_of_first(self) -> int:
        """Return the row after the first table: that of the empty row above the same names again.

        A table that goes on below them is no other one, and ends with the sheet.
        """
        _, above, start = self._header
        wanted = [_text(cell) for cell in self._rows[above]]
        place = next(place for place, name in enumerate(wanted) if name)
        self._note_on_end = ()
        end = None
        for position in range(start, len(self._rows) - 1):
            row = self._rows[position]
            if _is_datum(row[place]):
                end = None
                continue
            if end is None and not any(map(_text, row)):
                end = position
            if _text(row[place]) != wanted[place] or list(map(_text, row)) != wanted:
                continue
            if end is None or end == start:
                continue
            first, last, after = (
                _text(self._rows[each][place]) for each in (start, end - 1, position + 1)
            )
            if not goes_on(first, last, after):
                line = self._origin[0] + position + 1
                self._note_on_end = (
                    f"the first table is read; another, with names in row {line:,}, is left out",
                )
                return end
        return len(self._rows)

    def _refuse_formulas(self, places: dict[str, int], start: int, end: int) -> None:
        """Refuse columns with formulas whose values the workbook does not hold.

        Raises
        ------
        DataError
            When one of the rows from ``start`` to ``end`` holds such a formula.
        """
        top, left = self._origin
        formulas = formulas_without_values(self.path, self.name)
        for name, place in places.items():
            rows = [row for row in formulas.get(place + left, ()) if start <= row - top < end]
            if rows:
                raise DataError(
                    f"{printable_name(self.path)}: the column '{name}' on the sheet {self.name!r} "
                    f"has formulas without a value in {len(rows):,} of {end - start:,} rows, the "
                    f"first in row {rows[0] + 1:,}{_SAVE}"
                )


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime) and cell.time() == time():
        return str(cell.date())
    if isinstance(cell, timedelta):  # a time of day, as some programs write it
        return str((datetime.min + cell).time())
    return str(cell).strip()


def _is_datum(cell: Any) -> bool:
    if isinstance(cell, str):
        return is_value(cell) and bool(cell.strip())
    return isinstance(cell, int | float | date | time) and not isinstance(cell, bool)


def _moments(cells: Sequence[Any]) -> Any:
    import pyarrow as pa

    if cells and all(isinstance(cell, datetime | date) for cell in cells):
        stamps = [_rounded(cell) for cell in cells]
        return pa.chunked_array([pa.array(stamps, pa.timestamp("us"))])
    if cells and all(
        isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells
    ):
        return pa.chunked_array([pa.array([float(cell) for cell in cells], pa.float64())])
    return pa.chunked_array([pa.array([_text(cell) for cell in cells], pa.string())])


def _rounded(cell: date) -> datetime:
    """Return a moment rounded to milliseconds, as workbooks store times as fractions of a day."""
    if not isinstance(cell, datetime):
        return datetime.combine(cell, time())
    spare = cell.microsecond % 1_000
    return cell + timedelta(microseconds=(1_000 if spare >= 500 else 0) - spare)


def _numbers(cells: Sequence[Any]) -> Any:
    import pyarrow as pa

    def number(cell: Any) -> float | None:
        missing = isinstance(cell, str) and cell.strip() in (*NULL_TOKENS, *DASHES)
        return None if missing or cell is None else float(cell)

    plain = all(
        (isinstance(cell, int | float) and not isinstance(cell, bool))
        or cell is None
        or (isinstance(cell, str) and cell.strip() in NULL_TOKENS)
        for cell in cells
    )
    if plain:
        return pa.chunked_array([pa.array([number(cell) for cell in cells], pa.float64())])
    texts = [
        repr(cell) if isinstance(cell, float) and math.isfinite(cell) else _text(cell)
        for cell in cells
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


def sheets(
    path: Path, sheet: str | int | None, *, decimal: str = ".", thousands: str | None = None
) -> list[Sheet]:
    """Return the sheets of a workbook that are read.

    Parameters
    ----------
    path
        The workbook.
    sheet
        Name or number (from 1) of a sheet. None takes the only one that holds cells, or several
        that have the same column names: one sheet per symbol.
    decimal, thousands
        How numbers that are stored as text are written.

    Raises
    ------
    DataNotFoundError
        When calamine is not installed.
    DataError
        When the workbook cannot be read, has no such sheet, or has several sheets that differ.
    """
    try:
        from python_calamine import CalamineWorkbook
    except ImportError as error:
        raise DataNotFoundError(
            "data=excel needs the package python-calamine: "
            "`pip install 'backtest-batch[excel]'` installs it"
        ) from error
    label = printable_name(path)
    try:
        _check_size(path)
        with path.open("rb") as stream:
            book = CalamineWorkbook.from_filelike(stream)
        names = list(book.sheet_names)
        chosen = names if sheet is None else [_chosen(names, sheet, label)]
        found = []
        for name in chosen:
            held = book.get_sheet_by_name(name)
            found.append(
                Sheet(
                    path,
                    name,
                    held.to_python(skip_empty_area=True),
                    decimal=decimal,
                    thousands=thousands,
                    origin=held.start or (0, 0),
                )
            )
    except DataError:
        raise
    except Exception as error:
        # Damaged bytes can raise any error in the library.
        what = recognised_format(path)
        hint = "" if what is None or "data=excel" in what else f"; it is {what}"
        if path.name.lower().endswith((".csv", ".txt", ".tsv")):
            hint = "; `data=csv` reads CSV files"
        reason = str(error).strip() or type(error).__name__
        raise DataError(f"{label} cannot be read as a workbook: {reason}{hint}") from error
    filled = [each for each in found if not each.is_empty]
    if not filled:
        raise DataError(f"{label} holds no cells")
    if len(filled) > 1 and not _are_alike(filled):
        listed = ", ".join(
            f"{names.index(each.name) + 1} ({each.name})" for each in filled[:_MOST_NAMED]
        )
        key = Wording(table=label).setting("sheet", filled[0].name)
        raise DataError(
            f"{label} has {len(filled)} sheets that differ, {listed}"
            f"{', ...' if len(filled) > _MOST_NAMED else ''}: {key}, say, reads one of them"
        )
    for each in filled:
        each.is_one_of_many = len(filled) > 1
    return filled


def _check_size(path: Path) -> None:
    """Refuse a workbook that would fill the memory, which holds all cells up to the last one.

    Raises
    ------
    DataError
        When a sheet reaches too far, or unpacks to too much.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > packed.MOST_BYTES:
            raise DataError(
                f"{printable_name(path)} unpacks to {unpacked:,} bytes; save it as CSV or Parquet"
            )
        for name in archive.namelist():
            if not re.fullmatch(r"xl/worksheets/[^/]+\.xml", name):
                continue
            with archive.open(name) as stream:
                found = _DIMENSION.search(stream.read(_START))
            if found is None:
                continue
            columns = 0
            for letter in found[1].decode():
                columns = columns * 26 + ord(letter) - ord("A") + 1
            rows = int(found[2])
            if rows * columns > _MOST_CELLS:
                raise DataError(
                    f"{printable_name(path)}: a sheet reaches to {found[1].decode()}{rows}, which "
                    f"is {rows:,} rows and {columns:,} columns: delete what stands there by "
                    "mistake, or save the table as CSV"
                )


_DIMENSION = re.compile(rb'<dimension ref="[A-Z]+\d+:([A-Z]+)(\d+)"')
_START = 1 << 14
_MOST_CELLS = 100_000_000


def _chosen(names: Sequence[str], sheet: str | int, label: str) -> str:
    if str(sheet) in names:
        return str(sheet)
    alike = [name for name in names if name.strip().casefold() == str(sheet).strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    if str(sheet).isdecimal() and 1 <= int(sheet) <= len(names):
        return names[int(sheet) - 1]
    listed = ", ".join(f"{place} ({name})" for place, name in enumerate(names[:_MOST_NAMED], 1))
    raise DataError(f"{label} has no sheet {sheet!r}, as `data.sheet` says; it has {listed}")


def _are_alike(found: Sequence[Sheet]) -> bool:
    try:
        headers = {tuple(name.casefold() for name in each.columns) for each in found}
    except DataError:  # a sheet without a table: remarks, a chart
        return False
    return len(headers) == 1
