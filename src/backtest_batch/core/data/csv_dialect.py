"""The form of a CSV file, guessed from its first lines: encoding, separator, line of names."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

from backtest_batch.core.data.column_names import CLOSE_LIKE, column_meaning, plain
from backtest_batch.core.data.number_text import tells_comma

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""Separators to try if the given one does not fit."""

LONGEST_LINE = 1 << 24
"""Limit on the characters of a line, and on the bytes of a block that each row must fit into.

A row of ten thousand symbols takes some 100 kB."""

_SAMPLE_LINES = 60
_SAMPLE_CHARACTERS = 1 << 20
_LEVELS = ("", "ticker", "tickers", "symbol", "symbols", "price", "field", "attributes")
_COMMENTS = ("#", "%", "//")
_DAY = re.compile(r"\d{4}[-/]\d{2}[-/]\d{2}")
# R's write.table puts spaces between fields, and quotes around names.
_R_NAMES = re.compile(r'"[^"]*"(?: "[^"]*")+')

# https://github.com/binance/binance-public-data: spot and futures, milliseconds, since 2025 also
# microseconds.
_KLINES = [
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_asset_volume"),
    *("number_of_trades", "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume", "ignore"),
]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a CSV file is written.

    Attributes
    ----------
    encoding
        Name of its encoding.
    separator
        Character between fields.
    columns
        Names of the columns; empty for an empty file.
    n_lines
        Number of lines above the first row.
    values
        The first line, if it holds values instead of names, in which case no names are known.
    has_commas
        Whether any number in the first lines has a decimal comma.
    title
        The line directly above the names; empty if there is none.
    notes
        What was guessed.
    """

    encoding: str
    separator: str
    columns: list[str]
    n_lines: int
    title: str = ""
    values: list[str] | None = None
    has_commas: bool = False
    notes: tuple[str, ...] = ()


def encoding_of(start: bytes) -> str:
    """Return the encoding that the first bytes of a text show; UTF-8 if they show none."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if start.startswith(mark):
            return name
    even, odd = start[0:200:2], start[1:200:2]
    if len(start) >= 8 and not any(odd) and all(even):
        return "utf-16-le"
    if len(start) >= 8 and not any(even) and all(odd):
        return "utf-16-be"
    return "utf-8"


def find_dialect(
    opened: Callable[[str], IO[str]],
    *,
    encoding: str,
    separator: str,
    names: Sequence[str] | None = None,
) -> Dialect:
    """Return how a CSV file is written.

    The given separator is kept if the first line names several columns and the next lines have as
    many fields. Otherwise there may be lines above the names, which are looked for. If the given
    separator is the usual comma, others are tried too, and the one is taken that splits the most
    lines into equally many fields.

    Parameters
    ----------
    opened
        Opens the file as text in a given encoding.
    encoding, separator
        The encoding, and the separator that was given.
    names
        Names of the columns, if the file has none.

    Raises
    ------
    UnicodeDecodeError, OSError, csv.Error, ValueError
        As reading raises them.
    """
    with opened(encoding) as stream:
        lines = list(_sample(stream))
    said = re.fullmatch(r"sep=(.)\s*", lines[0]) if lines else None
    if said:
        rest = _Table(lines[1:], said.group(1), before=1)
        return _dialect(rest, 0, encoding, ())
    table = _Table(lines, separator, before=0)
    if names is None and table.is_plain():
        return _dialect(table, 0, encoding, ())
    tried = [separator]
    if separator == ",":
        tried += [each for each in SEPARATORS.values() if each != ","]
        tried += [" "] if lines and _R_NAMES.fullmatch(lines[0].strip()) else []
    tables = [_Table(lines, each, before=0) for each in tried]
    best = max(tables, key=lambda each: each.fit())
    if names is None and not any(best.fit()):
        return _dialect(table, 0, encoding, ())
    notes: list[str] = []
    if best.separator != separator:
        names_of = {each: name for name, each in SEPARATORS.items()} | {" ": "space"}
        name = names_of[best.separator]
        notes.append(f"the separator is a {name} (`data.separator={name}` says so)")
    if names is not None:
        return _named(best, names, encoding, notes)
    first = best.header_row()
    if first is None:
        return _without_names(best, encoding, tuple(notes))
    above = [line for line in lines[: best.line_before(first)] if line.strip()]
    if above:
        count = "1 line" if len(above) == 1 else f"{len(above)} lines"
        notes.append(f"{count} above the names of the columns left out: {_shown(above[0])}")
    found = _dialect(best, first, encoding, tuple(notes))
    return replace(found, title=lines[best.line_before(first) - 1].strip()[:60]) if above else found


def _shown(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _sample(stream: IO[str]) -> Iterator[str]:
    """Yield the first lines of a text; a file without line ends is not read to its end."""
    count = 0
    for number in range(_SAMPLE_LINES):
        line = stream.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE:
            raise ValueError(f"a line is longer than {LONGEST_LINE >> 20} MiB")
        if not line or (number > 3 and count > _SAMPLE_CHARACTERS):
            return
        count += len(line)
        yield line


class _Table:
    """The first lines of a file, split at a separator."""

    def __init__(self, lines: Sequence[str], separator: str, *, before: int) -> None:
        self.separator = separator
        self.rows: list[list[str]] = []
        self.ends: list[int] = []
        reader = csv.reader(lines, delimiter=separator)
        while True:
            try:
                row = next(reader, None)
            except csv.Error:
                if not self.rows:
                    raise
                break
            if row is None:
                break
            self.rows.append(row)
            self.ends.append(before + reader.line_num)
        self.before = before

    def line_before(self, row: int) -> int:
        """Return the number of lines above a row."""
        return self.ends[row - 1] if row else self.before

    def is_plain(self) -> bool:
        """Return whether the first line may name the columns of all others."""
        if not self.rows or len(self.rows[0]) < 2 or is_values(self.rows[0]):
            return False
        if self.names_apart() is not None:
            return False
        others = [row for row in self.rows[1:] if row]
        # The first line may be a remark or a title, padded with separators to the full width.
        above = is_comment(self.rows[0][0]) or not _is_filled(self.rows[0])
        if above and others and not is_value(others[0][0]):
            return False
        return sum(len(row) == len(self.rows[0]) for row in others) * 2 >= len(others)

    def names_apart(self) -> int | None:
        """Return the position of names that stand apart, after an empty line, below other text.

        The first of them is empty, as in French's data library: the column of the dates has none.
        """
        values = (at for at, row in enumerate(self.rows) if len(row) > 1 and is_values(row))
        first = next(values, 0)
        if first < 2 or self.rows[first - 2]:
            return None
        names = self.rows[first - 1]
        if len(names) != len(self.rows[first]) or names[0].strip():
            return None
        filled = all(cell.strip() and not is_value(cell) for cell in names[1:])
        return first - 1 if filled else None

    def has_commas(self) -> bool:
        """Return whether any number has a decimal comma; never if commas separate the fields."""
        return self.separator != "," and any(tells_comma(cell) for row in self.rows for cell in row)

    def width(self) -> int:
        """Return the number of fields that most lines have."""
        counts = Counter(len(row) for row in self.rows if len(row) > 1)
        return max(counts, key=lambda width: (counts[width], width)) if counts else 0

    def fit(self) -> tuple[int, int]:
        """Return how many lines have the usual number of fields, and that number."""
        width = self.width()
        if not width:
            return 0, 0
        return sum(len(row) == width for row in self.rows), width

    def header_row(self) -> int | None:
        """Return the position of the row that names the columns; None if no row does."""
        apart = self.names_apart()
        if apart is not None:
            return apart
        width = self.width()
        found = []
        for position, row in enumerate(self.rows):
            if len(row) == width and is_values(row):
                break
            after = self.rows[position + 1 : position + 2]
            few = len(row) == width - 1 > 1 and bool(after) and len(after[0]) == width
            if (len(row) == width or few) and _is_filled(row):
                found.append(position)
        named = [
            each
            for each in found
            if column_meaning(self.rows[each][0]) or _is_time(self.rows[each])
        ]
        return next(iter(named + found), None)


def _is_filled(row: Sequence[str]) -> bool:
    return 2 * sum(bool(cell.strip()) for cell in row) > len(row)


def _is_time(row: Sequence[str]) -> bool:
    return any({"date", "time", "datetime", "timestamp"} & set(plain(cell).split()) for cell in row)


def _named(table: _Table, names: Sequence[str], encoding: str, notes: list[str]) -> Dialect:
    """Return the dialect of a file with given column names; its own line of names is skipped."""
    if table.width() not in (0, len(names)):
        raise ValueError(
            f"`data.columns` names {len(names)} columns, but the lines have {table.width()} fields"
        )
    rows = table.rows
    has_names = len(rows) > 1 and not any(map(is_value, rows[0])) and any(map(is_value, rows[1]))
    if has_names:
        notes.append("the first line is passed over, as `data.columns` names the columns")
    return Dialect(
        encoding=encoding,
        separator=table.separator,
        columns=list(names),
        n_lines=table.ends[0] if has_names else 0,
        has_commas=table.has_commas(),
        notes=tuple(notes),
    )


def _dialect(table: _Table, first: int, encoding: str, notes: tuple[str, ...]) -> Dialect:
    rows = [*table.rows[first : first + 3], None, None, None]
    names = rows[0] or []
    if names and is_values(names):
        return _without_names(table, encoding, notes)
    levels = two_levels(names, rows[1], rows[2])
    columns, count = levels if levels is not None else (names, 1)
    body = [row for row in table.rows[first + count :] if row]
    columns = _completed(columns, body)
    end = first + count - 1
    n_lines = table.ends[end] if end < len(table.ends) else table.before
    return Dialect(
        encoding=encoding,
        separator=table.separator,
        columns=columns,
        n_lines=n_lines,
        has_commas=table.has_commas(),
        notes=notes,
    )


def _completed(columns: list[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return the columns, with names for a column of row names or an empty one at the end."""
    wide = [row for row in body if len(row) == len(columns) + 1]
    if body and len(wide) == len(body):
        if all(not row[-1].strip() for row in wide):
            return [*columns, f"Unnamed: {len(columns)}"]
        named = {column_meaning(column) for column in columns} & CLOSE_LIKE
        days = all(_DAY.match(row[0].strip()) for row in wide)
        numbered = [row[0].strip() for row in wide] == [str(n + 1) for n in range(len(wide))]
        if days or numbered or (named and all(is_value(row[0]) for row in wide)):
            return ["", *columns]  # as R writes tables, whose rows have names
    last = len(columns) - 1
    if last > 0 and not columns[last].strip() and not any(row[last:] != [""] for row in body):
        return [*columns[:-1], f"Unnamed: {last}"]
    return columns


def _without_names(table: _Table, encoding: str, notes: tuple[str, ...]) -> Dialect:
    first = next(row for row in table.rows if len(row) == table.width() or len(row) == 1)
    if _are_klines(first):
        note = "the columns have no names, but are those of Binance's klines"
        return Dialect(
            encoding=encoding,
            separator=table.separator,
            columns=list(_KLINES),
            n_lines=0,
            notes=(*notes, note),
        )
    return Dialect(
        encoding=encoding, separator=table.separator, columns=[], n_lines=0, values=first
    )


def _are_klines(row: Sequence[str]) -> bool:
    if len(row) != len(_KLINES):
        return False
    began, ended = row[0].strip(), row[6].strip()
    return (
        began.isdecimal()
        and ended.isdecimal()
        and len(began) == len(ended) >= 13
        and int(began) < int(ended)
        and all(is_value(cell) for cell in row)
    )


def is_values(cells: Sequence[str]) -> bool:
    """Return whether a line holds values rather than names."""
    return bool(cells) and is_value(cells[0]) and all(map(is_value, filter(str.strip, cells)))


def is_value(cell: str) -> bool:
    """Return whether a cell of the first line holds a number or a moment rather than a name."""
    text = cell.strip()
    return any(map(str.isdigit, text)) and all(sign in "0123456789 +-.,:/TZeE$" for sign in text)


def two_levels(
    first: list[str], second: list[str] | None, third: list[str] | None
) -> tuple[list[str], int] | None:
    """Return the columns of a table with two lines of names, and the number of these lines.

    pandas writes each level of the columns on a line of its own, which begins with the level's
    name. If the index has a name, a further line follows that holds this name alone.
    """
    if second is None or not first or len(second) != len(first) or is_value(second[0]):
        return None
    for labels, others in ((first[1:], second[1:]), (second[1:], first[1:])):
        meanings = {column_meaning(label) for label in labels}
        if None in meanings or not meanings & CLOSE_LIKE or not all(map(str.strip, others)):
            continue
        if second[0].strip().casefold() not in _LEVELS and any(map(is_value, others)):
            continue
        named = third is not None and len(third) == len(first) and not any(third[1:])
        index = third[0].strip() if named and third is not None else ""
        pairs = [str(pair) for pair in zip(first[1:], second[1:], strict=True)]
        return [index, *pairs], 3 if named else 2
    return None


def is_comment(line: str) -> bool:
    """Return whether a line is a remark rather than a row."""
    return line.lstrip().startswith(_COMMENTS)
