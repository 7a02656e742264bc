"""Several tables in one file of text, one below the other: where the later ones begin."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backtest_batch.core.data.csv_dialect import is_value
from backtest_batch.core.data.date_forms import readings


@dataclass(frozen=True, kw_only=True)
class LaterTable:
    """A table below the first one of a file.

    Attributes
    ----------
    line
        Its first line, counted from 1: that of its title, or that of its names.
    title
        The line of text above its names; empty if there is none.
    """

    line: int
    title: str = ""


def later_tables(
    lines: Iterable[str], separator: str, columns: Sequence[str], n_lines: int
) -> list[LaterTable]:
    """Return the tables below the first one.

    A table begins after an empty line, perhaps with a title, with a line that names columns: that
    of the first table again, or one without a value above one that begins with a value. It is no
    other table, but the first one going on, if it has the names of the first, and its first row
    comes after the last row above it, in the order that the rows above have.

    Parameters
    ----------
    lines
        All lines of the file.
    separator
        Character between fields.
    columns
        Names of the columns of the first table.
    n_lines
        Number of lines above its first row.
    """
    found: list[LaterTable] = []
    candidate: tuple[int, str, list[str]] | None = None
    after_blank, begun, title, first, last = False, 0, "", "", ""
    wanted = [column.strip() for column in columns]
    nothing = separator + ' \t\r\n"'
    for number, line in enumerate(lines, start=1):
        if number <= n_lines:
            continue
        if not line.strip(nothing):
            after_blank, begun, title, candidate = True, 0, "", None
            continue
        if not after_blank and candidate is None:
            first = first or line
            last = line  # nearly all lines of a large file
            continue
        cells = _cells(line, separator)
        if candidate is not None:
            start, name, held = candidate
            former, latter = (_cells(each, separator)[0] if each else "" for each in (first, last))
            same = held == wanted and goes_on(former, latter, cells[0])
            if is_value(cells[0]) and not same:
                found.append(LaterTable(line=start, title=name))
            after_blank = not is_value(cells[0])
            candidate = None
        if after_blank and not is_value(cells[0]):
            begun = begun or number
            if len(cells) > 1 and not any(map(is_value, cells)):
                candidate = begun, title, cells
            title = title or line.strip().strip(separator).strip()
            continue
        first = first or line
        after_blank, begun, title, last = False, 0, "", line
    return found


def goes_on(first: str, last: str, after: str) -> bool:
    """Return whether a date comes after the last one in the order of rows, in any way to read it.

    Other texts of equal length are compared as such.
    """
    dates = readings(first, last, after)
    if not dates:
        return len(after) == len(last) and after > last
    return any(
        later != latter and (former == latter or (later > latter) == (latter > former))
        for former, latter, later in dates
    )


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [""])]
