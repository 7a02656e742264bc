"""Long tables as CSV, in a tenth of the time that Python's own writer takes."""

import io
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa


def csv_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8; its index is left out.

    Floats have the shortest digits that read back to the same number, missing values are empty,
    booleans ``true`` and ``false``, and timestamps at midnight are dates. Texts stand in quotes
    when one of them has to.

    Parameters
    ----------
    table
        One of the tables of a walk-forward.
    """
    import pyarrow as pa

    texts = {
        str(name): _moments(column)
        for name, column in table.items()
        if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M"
    }
    rows = pa.Table.from_pandas(table.assign(**texts), preserve_index=False)
    header = ",".join(_quoted(str(name)) for name in table.columns)
    try:
        body = _body(rows, "none")
    except pa.ArrowInvalid:  # a text with a comma, a quote or a line feed
        body = _body(rows, "needed")
    return f"{header}\n".encode() + body


def _body(rows: "pa.Table", quoting_style: str) -> bytes:
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style=quoting_style)
    buffer = io.BytesIO()
    csv.write_csv(rows, buffer, options)
    return buffer.getvalue()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text


def _moments(column: pd.Series) -> pd.Series:
    """Return timestamps as text; few of them are distinct."""
    distinct = pd.DatetimeIndex(column.unique())
    midnights = (distinct == distinct.normalize()).all()
    names = [str(stamp.date() if midnights else stamp) for stamp in distinct]
    return column.map(dict(zip(distinct, names, strict=True)))
