"""From a source to the panel it describes: read, select, check, cache."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from backtest_batch.core.data import cache
from backtest_batch.core.data.bars import (
    Assembly,
    BarFault,
    assemble,
    lifetimes,
    moment_text,
    raise_faults,
)
from backtest_batch.core.data.panel import Date, Panel
from backtest_batch.core.data.renewal import note_renewal
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.suspicions import check_frequency, describe_moves
from backtest_batch.core.data.wording import check_known
from backtest_batch.errors import DataError

LOG = logging.getLogger("backtest_batch.market")

_READER = 2
"""Version of reading and checking: raised whenever a source would lead to another panel."""


def load_panel(source: Source, *, end_date: Date | None = None) -> Panel:
    """Return the panel of a source, up to ``end_date``, mapped from the cache.

    The source is read when the cache does not hold its panel; worker processes then call
    :func:`~backtest_batch.core.data.cache.open_panel` with the fingerprint. What decides is the
    content of the source's files and its options, never a path or a date of change. Warnings of
    the data are logged each time.

    Parameters
    ----------
    source
        Where the prices come from.
    end_date
        Last day that is used; see :meth:`Panel.until`.

    Raises
    ------
    DataNotFoundError
        When a file, folder or package is not there.
    DataError
        When the data cannot be read or used; the message names file, symbol, timestamp and count.
    """
    wanted = source.wanted()
    identity = source.identity()
    key = _key(source, identity, wanted)
    link = cache.find_link(key)
    if link is not None:
        panel, notes = link.panel, link.notes
    else:
        built = _built(source, wanted)
        if source.identity() != identity:
            raise DataError("the data changed while they were being read; load them again")
        panel, notes = cache.store(built.panel), built.notes
        cache.save_link(key, panel, notes)
    renewed = note_renewal(source, panel, wanted)
    if renewed is not None:
        LOG.warning("%s", renewed)
    if end_date is not None:
        cut = panel.until(end_date)
        panel = panel if cut is panel else cache.store(cut)
    if source.delisting == "error":
        _refuse_ends(panel)
    warn(panel, notes)
    return panel


def warn(panel: Panel, notes: Sequence[str]) -> None:
    """Log the notes on a panel, and its moves that are more often a fault than a fact."""
    for note in notes:
        LOG.warning("%s", note)
    moves = describe_moves(panel.fields["close"], panel.index, panel.symbols, fields=panel.fields)
    if moves is not None:
        LOG.warning("%s", moves)


def _key(source: Source, identity: dict[str, object], wanted: tuple[str, ...] | None) -> str:
    kind = type(source)
    described = {
        "reader": _READER,
        "source": f"{kind.__module__}.{kind.__qualname__}",
        "identity": identity,
        "wanted": wanted,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _built(source: Source, wanted: tuple[str, ...] | None) -> Assembly:
    reading = source.read(wanted)
    excluded = frozenset(source.exclude or ())
    with _named(source):
        check_known((*(wanted or ()), *sorted(excluded)), reading.available)
    if wanted is not None:
        order = wanted
    elif reading.in_order:
        order = reading.available
    else:
        order = tuple(sorted(reading.available))
    order = tuple(symbol for symbol in order if symbol not in excluded)
    if not order:
        raise DataError(f"`data.exclude` leaves none of {len(reading.available):,} symbols")
    bars = [item for item in reading.bars if item.symbol not in excluded]
    bars, said = source.gains.as_prices(bars)
    built = assemble(bars, gaps=source.gaps, order=order)
    with _named(source):
        check_frequency(built.panel.index, source.freq)
    return replace(built, notes=(*reading.notes, *said, *built.notes))


@contextmanager
def _named(source: Source) -> Iterator[None]:
    """Put the place of the data before what is wrong with them as a whole."""
    try:
        yield
    except DataError as error:
        if not source.place:
            raise
        raise DataError(f"{source.place}: {error}") from error


def _refuse_ends(panel: Panel) -> None:
    close = panel.fields["close"]
    _, last = lifetimes(close)
    ended = np.flatnonzero((last < panel.n_bars - 1) & ~np.isnan(close).all(axis=0))
    final = moment_text(panel.index[-1])
    faults = [
        BarFault(
            symbol=panel.symbols[column],
            moment=moment_text(panel.index[last[column]]),
            count=panel.n_bars - 1 - int(last[column]),
            what="has its last bar",
        )
        for column in ended
    ]
    raise_faults(
        faults,
        f"`data.delisting=error` wants every series to reach the last bar, {final}; "
        "`data.delisting=liquidate_at_last` sells it on its last bar",
    )
