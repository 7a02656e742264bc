"""From a source to its panel: read, select, check, join the files beside the prices, cache."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd

from backtest_batch.arrays import FIELDS
from backtest_batch.core.data import cache
from backtest_batch.core.data.bars import (
    Assembly,
    BarFault,
    assemble,
    lifetimes,
    moment_text,
    raise_faults,
)
from backtest_batch.core.data.beside import side_files
from backtest_batch.core.data.column_names import plain
from backtest_batch.core.data.delistings import (
    DelistingReturns,
    read_delisting_returns,
    with_final_prices,
)
from backtest_batch.core.data.features import FeatureInput, features_of_frames, read_features
from backtest_batch.core.data.layout import ALL_FIELDS
from backtest_batch.core.data.panel import Date, Panel, held_name, new_panel, not_held
from backtest_batch.core.data.paths import hash_file
from backtest_batch.core.data.renewal import note_renewal
from backtest_batch.core.data.sources.base import SIDE_KEYS, Source
from backtest_batch.core.data.suspicions import check_frequency, describe_moves
from backtest_batch.core.data.universe import (
    kept_through_delisting,
    members_of_frame,
    read_members,
)
from backtest_batch.core.data.wording import check_known, printable_name
from backtest_batch.core.engine.sessions import session_end_text
from backtest_batch.errors import DataError

LOG = logging.getLogger("backtest_batch.market")

_ROUNDED = 0.005
"""Delisting returns are written to the percent: a move within half of one is that return."""

_READER = 5
"""Version of reading and checking: raised whenever a source would give a different panel."""


def load_panel(source: Source, *, end_date: Date | None = None) -> Panel:
    """Return the panel of a source, up to ``end_date``, mapped from the cache.

    The source is read if the cache does not hold its panel; worker processes then call
    :func:`~backtest_batch.core.data.cache.open_panel` with the fingerprint. Whether the cache holds
    it depends on the content of the source's files and on its options, never on a path or a
    modification date. Warnings about the data are logged each time.

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
    identity = _identity(source)
    key = _key(source, identity, wanted)
    link = cache.find_link(key)
    if link is not None:
        panel, notes = link.panel, link.notes
    else:
        built = _built(source, wanted)
        if _identity(source) != identity:
            raise DataError("the data changed while they were being read; load them again")
        panel, notes = cache.store(built.panel), built.notes
        cache.save_link(key, panel, notes)
    renewed = note_renewal(source, panel, wanted, identity)
    if renewed is not None:
        LOG.warning("%s", renewed)
    if end_date is not None:
        cut = panel.until(end_date)
        panel = panel if cut is panel else cache.store(cut)
    if source.delisting == "error":
        _refuse_ends(panel)
    warn(panel, notes, delisted=_delisted(source))
    return panel


def _delisted(source: Source) -> Mapping[str, float]:
    path = source.delisting_returns
    return {} if path is None else read_delisting_returns(path).returns


def with_fields(source: Source, needed: Sequence[str]) -> Source:
    """Return a source that also reads the fields that a strategy needs.

    Prices and volume are read anyway if they exist. A field that the source already reads under
    another spelling is read under the name that the strategy uses.
    """
    further = [name for name in needed if name.casefold() not in FIELDS]
    if not further:
        return source
    known = {plain(name) for name in further}
    others = [name for name in source.further_fields if plain(name) not in known]
    return replace(source, fields=[*further, *others])


def warn(
    panel: Panel, notes: Sequence[str], *, delisted: Mapping[str, float] | None = None
) -> None:
    """Log the notes on a panel, and its moves that are more often a fault than a fact.

    Parameters
    ----------
    panel, notes
        The panel, and the notes on it.
    delisted
        Delisting returns by symbol. A last move of this size, on the bar that was added or on one
        that the prices had before, is what they say, and no fault. A price of 0, the result of a
        total loss, never counts as a move.
    """
    for note in notes:
        LOG.warning("%s", note)
    close = panel.fields["close"]
    lost = close == 0.0
    explained = [symbol for symbol in panel.symbols if symbol in (delisted or {})]
    if explained or lost.any():
        close = np.where(lost, np.nan, close)
        _, last = lifetimes(panel.fields["close"])
        for symbol in explained:
            column = panel.symbols.index(symbol)
            row = int(last[column])
            growth = close[row, column] / close[row - 1, column] if row > 0 else np.nan
            if abs(growth - 1.0 - (delisted or {})[symbol]) <= _ROUNDED:
                close[row, column] = np.nan
    moves = describe_moves(close, panel.index, panel.symbols, fields=panel.fields)
    if moves is not None:
        LOG.warning("%s", moves)


def _identity(source: Source) -> dict[str, object]:
    """Return what the panel depends on, with the content of the files beside the prices."""
    identity = dict(source.identity())
    for name in SIDE_KEYS:
        value = getattr(source, name)
        if value and name != "features_lag":
            files = side_files(value, f"data.{name}")
            # With the name, because it appears in messages.
            value = [[printable_name(file.name), hash_file(file)] for file in files]
        if value:
            identity[name] = value
    return identity


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
    said: tuple[str, ...] = ()
    if reading.panel is None:
        bars, said = source.gains.as_prices(bars)
        built = assemble(bars, gaps=source.gaps, order=order)
    else:
        built = Assembly(panel=reading.panel.of_symbols(order), notes=())
    with _named(source):
        end = session_end_text(source.session_end)
        lengths = check_frequency(built.panel.index, source.freq, end)
        _check_fields(source, built.panel)
    notes = (*reading.notes, *said, *built.notes, *lengths)
    return _with_side_files(source, replace(built, notes=notes), reading.available)


def _check_fields(source: Source, panel: Panel) -> None:
    for name in source.further_fields:
        if name != ALL_FIELDS and held_name(name, panel.fields) is None:
            raise DataError(
                f"{not_held('field', name, panel.fields)}, as `data.fields` or the "
                "required_fields of the strategy say; further fields are read from tables with one "
                "row a symbol and bar"
            )


def _with_side_files(source: Source, built: Assembly, available: Sequence[str]) -> Assembly:
    """Return the panel with the content of the files beside the prices added."""
    panel, notes = built.panel, list(built.notes)
    fields, members = panel.fields, panel.members
    if source.universe is not None:
        members, said = read_members(
            source.universe,
            panel.index,
            panel.symbols,
            fields["close"],
            available,
            session_end=session_end_text(source.session_end),
        )
        notes += said
    if source.delisting_returns is not None:
        found = read_delisting_returns(source.delisting_returns)
        fields, ended, said = with_final_prices(found, panel.fields, panel.index, panel.symbols)
        if members is not None:
            members = kept_through_delisting(members, panel.fields["close"], ended)
        notes += said
    features = dict(panel.feature_arrays)
    if source.features:
        read, said = read_features(
            source.features, panel.index, panel.symbols, lag=source.features_lag
        )
        features |= read
        notes += said
    if not any((source.universe, source.delisting_returns, source.features)):
        return replace(built, notes=tuple(notes))
    joined = new_panel(panel.index, panel.symbols, fields, members=members, features=features)
    return Assembly(panel=joined, notes=tuple(notes))


def with_side_frames(
    panel: Panel,
    *,
    members: pd.DataFrame | None,
    delisting_returns: Mapping[str, float] | None,
    features: FeatureInput | None,
    features_lag: int,
) -> Panel:
    """Return a panel with data in memory joined beside its prices; see :func:`panel_from_frames`.

    Raises
    ------
    DataError
        When it cannot be understood, or does not fit the prices.
    """
    if features_lag < 0:
        raise ValueError(f"`features_lag >= 0` must hold, but got features_lag={features_lag}.")
    if members is None and delisting_returns is None and features is None:
        return panel
    index, symbols, notes = panel.index, panel.symbols, list(panel.notes)
    held = None if members is None else members_of_frame(members, index, symbols)
    fields = panel.fields
    if delisting_returns is not None:
        found = DelistingReturns(
            returns={str(name): float(value) for name, value in delisting_returns.items()},
            days={},
            label="`delisting_returns`",
        )
        fields, ended, said = with_final_prices(found, panel.fields, index, symbols)
        if held is not None:
            held = kept_through_delisting(held, panel.fields["close"], ended)
        for note in said:
            LOG.warning("%s", note)
        notes += said
    beside = (
        {} if features is None else features_of_frames(features, index, symbols, lag=features_lag)
    )
    joined = new_panel(index, symbols, fields, members=held, features=beside)
    return replace(joined, notes=tuple(notes))


@contextmanager
def _named(source: Source) -> Iterator[None]:
    """Prefix errors about the data as a whole with the place of the data."""
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
