"""The rows of each symbol in a table with one row per symbol and bar."""

from typing import Any

import numpy as np

from backtest_batch.arrays import IntArray
from backtest_batch.errors import DataError

_MANY_ROWS = 1_000_000


def rows_by_symbol(column: Any, label: str) -> dict[str, IntArray]:
    """Return the rows of each symbol, in the order of the table.

    Parameters
    ----------
    column
        The arrow column of the symbols.
    label
        Name of the table, for messages.

    Raises
    ------
    DataError
        When a row has no symbol.
    """
    codes, known = coded_symbols(column, label)
    give_back(len(codes))
    ends = np.cumsum(np.bincount(codes, minlength=len(known))).tolist()
    # numpy sorts the narrower types by counting, which takes a fraction of the time.
    codes = codes.astype(np.min_scalar_type(len(known)))
    order = np.argsort(codes, kind="stable")
    spans = zip([0, *ends][:-1], ends, strict=True)
    return {name: order[start:end] for name, (start, end) in zip(known, spans, strict=True)}


def give_back(n_rows: int) -> None:
    """Return memory of columns that were dropped to the system, where there is much of it."""
    if n_rows < _MANY_ROWS:
        return
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def coded_symbols(column: Any, label: str) -> tuple[IntArray, list[str]]:
    """Return the position of each row's symbol in the list of symbols, and that list.

    Raises
    ------
    DataError
        When a row has no symbol.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    coded = column.unify_dictionaries().combine_chunks()
    codes = pc.fill_null(coded.indices, len(coded.dictionary)).to_numpy(zero_copy_only=False)
    # Texts that differ in spaces around them are one symbol; some may stand in no row.
    texts = [*(str(text or "").strip() for text in coded.dictionary.to_pylist()), ""]
    used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
    known = list(dict.fromkeys(texts[code] for code in used))
    place_of = {name: place for place, name in enumerate(known)}
    places = np.zeros(len(texts), dtype=np.int64)
    places[used] = [place_of[texts[code]] for code in used]
    codes = places[codes]
    if "" in known:
        empty = codes == known.index("")
        raise DataError(
            f"{label}: no symbol in data row {int(empty.argmax()) + 1} "
            f"({int(empty.sum()):,} such rows)"
        )
    return codes, known
