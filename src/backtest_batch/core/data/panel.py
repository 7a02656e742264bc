"""The market data that one run sees, and the fingerprint of its content."""

import difflib
import hashlib
import json
import mmap
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date as calendar_date
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest_batch.arrays import FIELDS, BoolArray, FloatArray, IntArray
from backtest_batch.config.key import date_length, date_text, has_time, parse_date
from backtest_batch.core.data.timestamps import stamps_of
from backtest_batch.errors import ConfigurationError, DataError

_FORMAT = "backtest_batch.panel.1"


def content_fingerprint(
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    fields: Mapping[str, FloatArray],
    members: BoolArray | None = None,
    features: Mapping[str, FloatArray] | None = None,
) -> str:
    """Return the sha256, in hex, over index, symbols, fields, members and features.

    The hash covers a header (JSON: format, time zone, symbols in their order, names of the fields),
    the timestamps as little-endian nanoseconds since 1970 (UTC if the index has a zone, wall clock
    otherwise) and each field's float64 values row by row. So the unit of the index (ns, us) and the
    spelling of its zone do not matter; the order of the symbols does. Members (one byte each) and
    features follow if there are any, and only then does the header mention them.
    """
    stamps, tz = stamps_of(index)
    names = sorted_fields(fields)
    header: dict[str, Any] = {"format": _FORMAT, "tz": tz, "symbols": list(symbols)}
    header["fields"] = names
    if members is not None:
        header["members"] = True
    if features:
        header["features"] = [[name, features[name].ndim] for name in sorted(features)]
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + b"\0")
    digest.update(stamps.astype("<i8", copy=False).tobytes())
    for name in names:
        digest.update(fields[name].astype("<f8", copy=False).reshape(-1).data)
    if members is not None:
        digest.update(members.reshape(-1).view(np.uint8).data)
    for name in sorted(features or ()):
        digest.update((features or {})[name].astype("<f8", copy=False).reshape(-1).data)
    return digest.hexdigest()


def sorted_fields(names: Iterable[str]) -> list[str]:
    """Return field names in the order of a panel: prices and volume, then others by name."""
    held = set(names)
    return [name for name in FIELDS if name in held] + sorted(held.difference(FIELDS))


def held_name(name: str, held: Iterable[str]) -> str | None:
    """Return the existing name that is meant: an exact match, else one that differs in case."""
    names = list(held)
    if name in names:
        return name
    alike = [each for each in names if each.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def not_held(what: str, name: str, held: Iterable[str]) -> str:
    """Return a message about an unknown name: which names exist, and which may be meant."""
    names = list(held)
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"the data has no {what} '{name}' (it has: {', '.join(names) or 'none'}){hint}"


Date = str | int | calendar_date | pd.Timestamp | np.datetime64

_DAY = re.compile(r"^\s*(\d{8}|\d{4}([-/])\d{1,2}\2\d{1,2})\s*$")

_EARLIEST, _LATEST = pd.Timestamp("1680-01-01"), pd.Timestamp("2260-12-31")


def span(date: Date, index: pd.DatetimeIndex) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first moment of ``date`` and the first one after it, in the zone of ``index``.

    A date without a time means the whole day; ``2005`` means the year and ``2005-03`` the month. A
    time that is spelt out means that moment. Midnight given as a timestamp object without a time
    zone means the whole day.

    Raises
    ------
    ConfigurationError
        When ``date`` is not a date, or has a time zone and the index has none.
    """
    text = date_text(date)
    stamp = parse_date(text)
    if text is None or stamp is None:
        raise ConfigurationError(f"'{date}' is not a date such as 2005-01-31 (year, month, day)")
    wall = stamp.tz_localize(None)
    if not _EARLIEST <= wall <= _LATEST:
        # Dates such as 9999-12-31 stand for "no end" and do not fit into nanoseconds.
        stamp = min(max(wall, _EARLIEST), _LATEST).tz_localize(stamp.tz)
    stamp = stamp.as_unit("ns")
    if stamp.tzinfo is not None and index.tz is None:
        raise ConfigurationError(
            f"'{date}' has a time zone, but the timestamps of the data have none"
        )
    if has_time(text):
        stamp = _in_zone(stamp, index)
        return stamp, stamp + date_length(text)
    day = stamp.tz_localize(None).normalize()
    return _in_zone(day, index), _in_zone(day + date_length(text), index)


def one_spelling(date: str) -> str:
    """Return a day in the form 2005-01-31; a year, a month or a moment as it is."""
    # Only days are respelt: `today` must not become a date, nor 200501 another year.
    if not _DAY.match(date):
        return date
    try:
        return pd.Timestamp(date).date().isoformat()
    except ValueError:
        return date


def _in_zone(stamp: pd.Timestamp, index: pd.DatetimeIndex) -> pd.Timestamp:
    if index.tz is None:
        return stamp
    if stamp.tzinfo is not None:
        return stamp.tz_convert(index.tz)
    # If the clocks skip or repeat midnight, the day begins at its first existing moment.
    return stamp.tz_localize(index.tz, ambiguous=True, nonexistent="shift_forward")


__all__ = ["FIELDS", "BoolArray", "FloatArray", "IntArray", "Panel", "panel_from_frames"]


class Features(Mapping[str, "pd.Series | pd.DataFrame"]):
    """Series beside the prices, by name: ``features["vix"]`` or ``features.vix``.

    A feature of the whole market is a Series of shape (n_bars,); a feature of each asset is a
    DataFrame of shape (n_bars, n_assets). Each bar has the last value known by then, NaN before the
    first.
    """

    def __init__(
        self, arrays: Mapping[str, FloatArray], index: pd.DatetimeIndex, symbols: Sequence[str]
    ) -> None:
        self._arrays = arrays
        self._index = index
        self._symbols = symbols
        self._made: dict[str, pd.Series | pd.DataFrame] = {}

    def __getitem__(self, name: str) -> "pd.Series | pd.DataFrame":
        found = held_name(str(name), self._arrays)
        if found is None:
            raise KeyError(not_held("feature", str(name), self._arrays))
        if found not in self._made:
            values = self._arrays[found]
            self._made[found] = (
                pd.Series(values, index=self._index, name=found, copy=False)
                if values.ndim == 1
                else pd.DataFrame(
                    values, index=self._index, columns=pd.Index(self._symbols), copy=False
                )
            )
        return self._made[found]

    def __getattr__(self, name: str) -> "pd.Series | pd.DataFrame":
        # Python and notebooks look for such names on any object; they are not features.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"<Features: {', '.join(self._arrays) or 'none'}>"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Panel:
    """Prices of several symbols on one index of bars.

    Two panels are equal when their fingerprints are.

    Attributes
    ----------
    index
        Timestamps of the bars, strictly increasing, in nanoseconds, shape (n_bars,).
    symbols
        Names of the assets, shape (n_assets,).
    fields
        Arrays of float64 of shape (n_bars, n_assets), C-contiguous and read-only, by field name.
        ``close`` always exists. Prices and volume are NaN only before an asset's first and after
        its last bar; other fields (dividends, market caps) are NaN where nothing is known.
    fingerprint
        sha256 over index, symbols, fields, members and features: equal content, equal fingerprint.
        The order of the symbols is content; the unit of the index and the file it was read from
        are not.
    members
        Whether each asset may be held on each bar, read-only, shape (n_bars, n_assets); None if all
        may always be held.
    feature_arrays
        Series beside the prices by name, read-only float64 of shape (n_bars,) or
        (n_bars, n_assets); :attr:`features` shows them with their labels.
    base
        Fingerprint of the panel whose first bars these are; None if this is not part of another.
    notes
        Notes from making the panel of DataFrames: which closes were used, for example.
    """

    index: pd.DatetimeIndex
    symbols: tuple[str, ...]
    fields: Mapping[str, FloatArray]
    fingerprint: str
    members: BoolArray | None = None
    feature_arrays: Mapping[str, FloatArray] = field(default_factory=dict)
    base: str | None = None
    notes: tuple[str, ...] = ()
    _frames: dict[str, pd.DataFrame] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<Panel: {self.n_bars:,} bars x {self.n_assets:,} assets, {self.index[0]} to "
            f"{self.index[-1]}, {', '.join(self.fields)}, fingerprint {self.fingerprint[:8]}>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Panel) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled arrays come back writeable; frames are made again when they are needed.
        return _unpickle, (
            self.index,
            self.symbols,
            dict(self.fields),
            self.fingerprint,
            self.base,
            self.members,
            dict(self.feature_arrays),
        )

    @property
    def n_bars(self) -> int:
        """Number of bars."""
        return len(self.index)

    @property
    def n_assets(self) -> int:
        """Number of assets."""
        return len(self.symbols)

    def frame(self, name: str) -> pd.DataFrame:
        """Return one field as a DataFrame of shape (n_bars, n_assets), without copying it.

        Its name may be written in any case.

        Raises
        ------
        AttributeError
            When the data has no such field.
        """
        found = held_name(name, self.fields)
        if found is None:
            raise AttributeError(not_held("field", name, self.fields))
        if found not in self._frames:
            self._frames[found] = pd.DataFrame(
                self.fields[found], index=self.index, columns=pd.Index(self.symbols), copy=False
            )
        return self._frames[found]

    @cached_property
    def features(self) -> Features:
        """Series beside the prices, by name: the last value known at each bar."""
        return Features(self.feature_arrays, self.index, self.symbols)

    def eligible(self, decisions: IntArray) -> BoolArray:
        """Return which assets have a close at each decision bar, and are members on it.

        Shape (n_decisions, n_assets).
        """
        found: BoolArray = ~np.isnan(self.fields["close"][decisions])
        return found if self.members is None else found & self.members[decisions]

    @property
    def close(self) -> pd.DataFrame:
        """Closing prices, shape (n_bars, n_assets)."""
        return self.frame("close")

    @property
    def open(self) -> pd.DataFrame:
        """Opening prices, shape (n_bars, n_assets)."""
        return self.frame("open")

    @property
    def high(self) -> pd.DataFrame:
        """Highest prices, shape (n_bars, n_assets)."""
        return self.frame("high")

    @property
    def low(self) -> pd.DataFrame:
        """Lowest prices, shape (n_bars, n_assets)."""
        return self.frame("low")

    @property
    def volume(self) -> pd.DataFrame:
        """Traded volume, shape (n_bars, n_assets)."""
        return self.frame("volume")

    def until(self, end_date: Date) -> "Panel":
        """Return the bars up to and including ``end_date``, without copying them.

        A date without a time means the whole day in the time zone of the index; ``2005`` means the
        whole year. All symbols stay, even those whose first bar comes later: their columns are NaN.

        Raises
        ------
        DataError
            When fewer than 2 bars are left.
        ConfigurationError
            When ``end_date`` is not a date, or has a time zone and the index has none.
        """
        _, after = span(end_date, self.index)
        n_bars = int(self.index.searchsorted(after, side="left"))
        if n_bars == self.n_bars:
            return self
        if n_bars < 2:
            raise DataError(
                f"no bars in the date range: end_date={end_date} leaves {n_bars} of the "
                f"{self.n_bars} bars, which begin {self.index[0]}; at least 2 are needed"
            )
        return self.window(0, n_bars)

    def of_symbols(self, symbols: Sequence[str]) -> "Panel":
        """Return a panel of only these symbols, in this order.

        Bars before the first and after the last close of any of them are left out.

        Raises
        ------
        ValueError
            When the panel does not have a symbol.
        """
        if tuple(symbols) == self.symbols:
            return self
        columns = [self.symbols.index(symbol) for symbol in symbols]
        priced = np.flatnonzero((~np.isnan(self.fields["close"][:, columns])).any(axis=1))
        rows = slice(int(priced[0]), int(priced[-1]) + 1) if len(priced) else slice(None)

        def chosen(values: npt.NDArray[Any]) -> Any:
            one_a_bar = values[rows] if values.ndim == 1 else values[rows][:, columns]
            return np.ascontiguousarray(one_a_bar)

        return new_panel(
            self.index[rows],
            tuple(symbols),
            {name: chosen(values) for name, values in self.fields.items()},
            members=None if self.members is None else chosen(self.members),
            features={name: chosen(values) for name, values in self.feature_arrays.items()},
        )

    def window(self, start: int, stop: int) -> "Panel":
        """Return the bars at positions ``start`` to ``stop - 1``, without copying them.

        All symbols stay, even those without a bar in the window.

        Raises
        ------
        ValueError
            When these are not bars of the panel.
        """
        if not 0 <= start < stop <= self.n_bars:
            raise ValueError(
                f"`0 <= start < stop <= n_bars` must hold, but got start={start}, stop={stop}, "
                f"n_bars={self.n_bars}."
            )
        index = self.index[start:stop]
        fields = {name: values[start:stop] for name, values in self.fields.items()}
        members = None if self.members is None else self.members[start:stop]
        features = {name: values[start:stop] for name, values in self.feature_arrays.items()}
        from_the_first = start == 0
        return Panel(
            index=index,
            symbols=self.symbols,
            fields=fields,
            members=members,
            feature_arrays=features,
            fingerprint=content_fingerprint(index, self.symbols, fields, members, features),
            base=(self.base or self.fingerprint) if from_the_first else None,
        )

    def first_bar_from(self, start_date: Date) -> int:
        """Return the position of the first bar at or after ``start_date``.

        A date without a time begins at midnight in the time zone of the index.

        Raises
        ------
        DataError
            When the last bar lies before it.
        ConfigurationError
            When ``start_date`` is not a date, or has a time zone and the index has none.
        """
        first, _ = span(start_date, self.index)
        position = int(self.index.searchsorted(first, side="left"))
        if position == self.n_bars:
            raise DataError(
                f"no bars in the date range: start_date={start_date} lies after the last bar, "
                f"{self.index[-1]}"
            )
        return position


def new_panel(
    index: pd.DatetimeIndex,
    symbols: tuple[str, ...],
    fields: Mapping[str, FloatArray],
    *,
    members: BoolArray | None = None,
    features: Mapping[str, FloatArray] | None = None,
) -> Panel:
    """Return a panel of arrays that are known to be valid; the arrays become read-only.

    Parameters
    ----------
    index
        Strictly increasing timestamps in nanoseconds, shape (n_bars,).
    symbols
        Names without duplicates, shape (n_assets,).
    fields
        C-contiguous arrays of shape (n_bars, n_assets) by field name.
    members
        Whether each asset may be held, shape (n_bars, n_assets), C-contiguous; None for all.
    features
        C-contiguous arrays of shape (n_bars,) or (n_bars, n_assets) by name.
    """
    ordered = {name: fields[name] for name in sorted_fields(fields)}
    beside = {name: (features or {})[name] for name in sorted(features or ())}
    _protect(ordered, members, beside)
    return Panel(
        index=index,
        symbols=symbols,
        fields=ordered,
        members=members,
        feature_arrays=beside,
        fingerprint=content_fingerprint(index, symbols, ordered, members, beside),
    )


def _protect(
    fields: Mapping[str, FloatArray],
    members: BoolArray | None,
    features: Mapping[str, FloatArray],
) -> None:
    for values in (*fields.values(), *features.values()):
        values.setflags(write=False)
    if members is not None:
        members.setflags(write=False)


def _unpickle(
    index: pd.DatetimeIndex,
    symbols: tuple[str, ...],
    fields: dict[str, FloatArray],
    fingerprint: str,
    base: str | None,
    members: BoolArray | None = None,
    features: dict[str, FloatArray] | None = None,
) -> Panel:
    _protect(fields, members, features or {})
    return Panel(
        index=index,
        symbols=symbols,
        fields=fields,
        members=members,
        feature_arrays=features or {},
        fingerprint=fingerprint,
        base=base,
    )


def panel_from_frames(
    close: pd.DataFrame,
    *,
    open: pd.DataFrame | None = None,  # noqa: A002 - the name of the field
    high: pd.DataFrame | None = None,
    low: pd.DataFrame | None = None,
    volume: pd.DataFrame | None = None,
    symbol: str = "asset",
    close_column: str | None = "close",
    adjusted: Literal["auto", True, False] = "auto",
    missing: Literal["error", "ffill"] = "error",
    missing_limit: int = 5,
    values: Literal["prices", "returns"] = "prices",
    returns_unit: Literal["auto", "fraction", "percent"] = "auto",
    kind: Literal["ratios", "differences"] = "ratios",
    notional: float | Mapping[str, float] | None = None,
    fields: Mapping[str, pd.DataFrame] | None = None,
    members: pd.DataFrame | None = None,
    delisting_returns: Mapping[str, float] | None = None,
    features: "pd.DataFrame | pd.Series | Mapping[str, pd.Series | pd.DataFrame] | None" = None,
    features_lag: int = 0,
) -> Panel:
    """Return a panel of DataFrames in memory, checked as files are.

    Parameters
    ----------
    close
        Closes of shape (n_bars, n_assets) on a DatetimeIndex, one column per symbol, in this order.
        If no other frame is given, it may also hold the fields of one asset (Open, High, Low,
        Close, Volume), or fields of several symbols on two levels of names, as
        ``yfinance.download`` returns them.
    open, high, low, volume
        Frames with the same rows and symbols.
    symbol
        Symbol of the asset, if the columns are the fields of one asset.
    close_column
        Column of its closes; None means that every column holds the closes of a symbol.
    adjusted
        Which closes to use if there are adjusted ones (``Adj Close``) beside the quoted ones:
        ``auto`` uses the adjusted ones and says so, True demands them, False uses the quoted ones.
    missing, missing_limit
        How to treat a NaN between an asset's first and last close: as an error, or fill it with the
        last close for at most ``missing_limit`` bars in a row.
    values, returns_unit, kind, notional
        What the numbers are, and how gains follow from them; see
        :class:`~backtest_batch.core.data.gains.Gains`.
    fields
        Frames with the same rows and symbols, by name: dividends, market caps, anything that is
        known at the bar. NaN means that nothing is known.
    members
        Which assets may be held when: columns symbol, from, to (both days included, ``to`` empty
        while the membership lasts); or one column of true and false per symbol, each row of which
        is valid until the next one.
    delisting_returns
        Return after the last price, by symbol.
    features
        Series beside the prices, joined as those from files are: a frame with one column per
        feature, or a mapping from each name to a Series, or to a DataFrame with one column per
        symbol.
    features_lag
        Number of bars by which the features are delayed.

    Raises
    ------
    DataError
        When the frames do not fit together or hold prices that cannot be used; the message names
        symbol, first timestamp and count.
    """
    from backtest_batch.core.data.bars import Gaps, assemble
    from backtest_batch.core.data.gains import Gains
    from backtest_batch.core.data.layout import ColumnNames
    from backtest_batch.core.data.load import warn, with_side_frames
    from backtest_batch.core.data.tables import Reading, bars_of_frame, bars_of_frames

    frames = {"open": open, "high": high, "low": low, "volume": volume}
    given = {name: frame for name, frame in frames.items() if frame is not None}
    taken = [name for name in fields or () if name.casefold() in FIELDS]
    if taken:
        raise DataError(f"`fields` may not hold '{taken[0]}', which is an argument of its own")
    given |= fields or {}
    if given:
        bars = bars_of_frames({**given, "close": close})
        reading = Reading(available=(), bars=bars, in_order=True)
    else:
        signed = kind == "differences"
        names = ColumnNames(close=close_column, adjusted=adjusted, signed=signed)
        reading = bars_of_frame(close, symbol=symbol, names=names)
    gains = Gains(values=values, returns_unit=returns_unit, kind=kind, notional=notional)
    try:
        bars, said = gains.as_prices(reading.bars)
    except DataError as error:
        raise DataError(_as_arguments(str(error))) from error
    built = assemble(bars, gaps=Gaps(missing=missing, missing_limit=missing_limit))
    panel = replace(built.panel, notes=(*reading.notes, *map(_as_arguments, said), *built.notes))
    warn(panel, panel.notes)
    return with_side_frames(
        panel,
        members=members,
        delisting_returns=delisting_returns,
        features=features,
        features_lag=features_lag,
    )


def _as_arguments(message: str) -> str:
    """Return a message about the keys of a source, reworded for arguments of a function."""
    return re.sub(r"(?<=[`'])data\.", "", message)


def release_pages(array: npt.NDArray[np.float64]) -> None:
    """Release the memory pages of a mapped array that were read; other arrays stay as they are.

    The pages are read again, mostly from the system's cache, at the next access. Without this, a
    process that reads a large file part by part ends up with all of it in memory.
    """
    holder: object = array
    while isinstance(holder, np.ndarray):
        holder = holder.base
    if isinstance(holder, mmap.mmap):
        holder.madvise(mmap.MADV_DONTNEED)
