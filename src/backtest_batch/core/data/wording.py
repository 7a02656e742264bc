"""How messages name what was read, its symbols, and the keys that decide how it is read."""

import csv
import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_batch.errors import DataError, DataNotFoundError


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Words messages about a table, and about the keys that decide how it is read.

    Attributes
    ----------
    table
        Name of the table in messages: the file, or the DataFrame.
    in_memory
        Whether it is a DataFrame, so that its keys are arguments of ``panel_from_frames``.
    """

    table: str
    in_memory: bool = False

    def key(self, name: str) -> str:
        """Return the key of a setting."""
        return f"`{name}`" if self.in_memory else f"`data.{name}`"

    def setting(self, name: str, value: Any) -> str:
        """Return what to type so that ``name`` has this value."""
        if self.in_memory:
            return f"`panel_from_frames(frame, {name}={value!r})`"
        shown = "null" if value is None else str(value).lower() if value in (True, False) else value
        text = f"data.{name}={shown}"
        # Text that a shell would split needs quotes; Hydra needs quotes of its own within them.
        plain = isinstance(shown, str) and shown.replace("_", "").replace(".", "").isalnum()
        return f"`{text}`" if plain else f"`\"data.{name}='{shown}'\"`"

    def leave_out(self, columns: list[str]) -> str:
        """Return what to type so that columns are left out."""
        if self.in_memory:
            return f"`frame.drop(columns={columns!r})`"
        listed = ",".join(columns)
        if listed.replace(",", "").replace(".", "").replace("_", "").isalnum():
            return f"`'data.exclude=[{listed}]'`"
        quoted = ",".join(f"'{column}'" for column in columns)
        return f'`"data.exclude=[{quoted}]"`'


def printable_name(name: str | Path) -> str:
    r"""Return a name with non-UTF-8 bytes and control characters written like ``\xff``."""
    text = str(name)
    if text.isprintable():
        return text
    # Surrogates that Python put for bytes that are not UTF-8 (PEP 383) become these bytes again.
    return "".join(
        character
        if not _is_odd(character)
        else f"\\x{ord(character) - 0xDC00 if character >= chr(0xD800) else ord(character):02x}"
        for character in text
    )


def is_plain(text: str) -> bool:
    """Return whether a text has neither control characters nor surrogates."""
    return text.isprintable() or not any(_is_odd(character) for character in text)


def _is_odd(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff"


_COMMENT = re.compile(r"(^|\s)#.*$")


def read_symbols_file(path: str) -> tuple[str, ...]:
    """Return the symbols that a file names, in its order, each once.

    The file either has one symbol per line, or is a CSV file with a column ``symbol``. Blank lines
    are ignored, and so is anything after a ``#`` at the start of a line or after a space.

    Raises
    ------
    DataNotFoundError
        When there is no such file.
    DataError
        When it cannot be read, names no symbol, or is a table without a column ``symbol``.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataNotFoundError(
            f"symbols_file {path}: no such file (looked in {file.absolute().parent})"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"symbols_file {path} cannot be read: {error}") from error
    lines = [_COMMENT.sub("", line).strip() for line in text.splitlines()]
    rows = list(csv.reader([line for line in lines if line], skipinitialspace=True))
    if not rows:
        raise DataError(f"symbols_file {path} names no symbol")
    header = [cell.strip().casefold() for cell in rows[0]]
    if "symbol" in header:
        column = header.index("symbol")
        rows = rows[1:]
    elif all(len(row) == 1 for row in rows):
        column = 0
    else:
        raise DataError(
            f"symbols_file {path} needs a column `symbol`, but has {', '.join(rows[0])}"
        )
    symbols = [row[column].strip() for row in rows if len(row) > column]
    named = tuple(dict.fromkeys(symbol for symbol in symbols if symbol))
    if not named:
        raise DataError(f"symbols_file {path} names no symbol")
    return named


def check_known(wanted: Sequence[str], available: Collection[str]) -> None:
    """Check that the data have every wanted symbol.

    Raises
    ------
    DataError
        When a symbol is unknown; the message gives close matches for each.
    """
    known = set(available)
    unknown = [symbol for symbol in wanted if symbol not in known]
    if not unknown:
        return
    by_fold = {symbol.casefold(): symbol for symbol in sorted(known)}
    parts = []
    for symbol in unknown[:5]:
        close = [
            by_fold[match]
            for match in difflib.get_close_matches(symbol.casefold(), by_fold, n=3, cutoff=0.5)
        ]
        parts.append(symbol + (f" (did you mean {' or '.join(close)}?)" if close else ""))
    more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
    some = ", ".join(sorted(known)[:8]) + (", ..." if len(known) > 8 else "")
    raise DataError(
        f"unknown symbol {', '.join(parts)}{more}; the data have {len(known):,} symbols: {some}"
    )
