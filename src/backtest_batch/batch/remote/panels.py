"""Market data, carried once to each worker that does not have it in its cache."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backtest_batch.errors import DataError
from backtest_batch.market import cache
from backtest_batch.market.fields import FloatArray, IntArray
from backtest_batch.market.fingerprint import content_fingerprint
from backtest_batch.market.panel import Panel
from backtest_batch.market.zones import index_of, stamps_of


@dataclass(frozen=True, kw_only=True)
class PanelCopy:
    """The content of a panel, as plain arrays.

    Attributes
    ----------
    fingerprint
        What it must come to when it arrives.
    stamps, tz
        Nanosecond stamps of the bars, shape (n_bars,), and the name of their time zone.
    symbols
        Names of the assets.
    fields
        Arrays of shape (n_bars, n_assets) by field name.
    """

    fingerprint: str
    stamps: IntArray
    tz: str | None
    symbols: tuple[str, ...]
    fields: Mapping[str, FloatArray]

    @classmethod
    def of(cls, panel: Panel) -> "PanelCopy":
        """Copy a panel."""
        stamps, tz = stamps_of(panel.index)
        return cls(
            fingerprint=panel.fingerprint,
            stamps=np.array(stamps),
            tz=tz,
            symbols=panel.symbols,
            fields={name: np.array(values) for name, values in panel.fields.items()},
        )


_held: set[str] = set()
"""Fingerprints that this process has found, and compared, in its cache."""


def is_held(fingerprint: str) -> bool:
    """Return whether the cache of this process has the data of a fingerprint.

    All bytes are compared with the fingerprint, the first time that this process is asked.
    """
    if fingerprint not in _held and cache.find_panel(fingerprint) is not None:
        _held.add(fingerprint)
    return fingerprint in _held


def keep(copy: PanelCopy) -> None:
    """Put data that has arrived into the cache of this process.

    Raises
    ------
    DataError
        When its content is not what its fingerprint says.
    """
    if is_held(copy.fingerprint):
        return
    index = index_of(np.array(copy.stamps), copy.tz)
    fields = {name: np.ascontiguousarray(values) for name, values in copy.fields.items()}
    arrived = content_fingerprint(index, copy.symbols, fields)
    if arrived != copy.fingerprint:
        raise DataError(
            f"the data {copy.fingerprint} changed on its way to a worker: it arrived as {arrived}"
        )
    cache.store(
        Panel(index=index, symbols=copy.symbols, fields=fields, fingerprint=copy.fingerprint)
    )
