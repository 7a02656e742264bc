"""The identity of a panel: a hash of its content, wherever it came from."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import pandas as pd

from backtest_batch.market.fields import FIELDS, FloatArray
from backtest_batch.market.zones import stamps_of

_FORMAT = "backtest_batch.panel.1"


def content_fingerprint(
    index: pd.DatetimeIndex, symbols: Sequence[str], fields: Mapping[str, FloatArray]
) -> str:
    """Return the sha256, in hex, over index, symbols and fields.

    Hashed are a header (JSON: format, time zone, symbols in their order, names of the fields), the
    timestamps as little-endian nanoseconds since 1970 (UTC when the index has a zone, wall clock
    otherwise) and each field's float64 values row by row. So the unit of the index (ns, us) and the
    way in which its zone is spelt do not matter; the order of the symbols does.
    """
    stamps, tz = stamps_of(index)
    names = [name for name in FIELDS if name in fields]
    header = {"format": _FORMAT, "tz": tz, "symbols": list(symbols), "fields": names}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + b"\0")
    digest.update(stamps.astype("<i8", copy=False).tobytes())
    for name in names:
        digest.update(fields[name].astype("<f8", copy=False).reshape(-1).data)
    return digest.hexdigest()
