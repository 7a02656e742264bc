"""What looks suspicious in prices of valid form: moves, counts, frequencies, adjustment.

A move over 50 % in one bar is more often a fault in the data than a fact of the market, numbers
without fractions may be volumes, and a symbol with other bars than the rest may have another
frequency. Closes may be as quoted, or adjusted for dividends and splits: a note says which are
used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from backtest_batch.arrays import FIELDS, FloatArray, IntArray
from backtest_batch.config.rebalance import seconds_text
from backtest_batch.core.data.bars import moment_text
from backtest_batch.core.data.timestamps import stamps_of
from backtest_batch.core.data.wording import Wording
from backtest_batch.core.engine.frequency import AUTO, Frequency, find_frequency, freq_seconds
from backtest_batch.core.engine.sessions import SECONDS_A_DAY, session_days
from backtest_batch.errors import DataError

LARGE_MOVE = 0.5
"""Largest change of a close in one bar, as a fraction, that passes without a warning."""

SPLITS = (*((n, 1) for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 100)), (3, 2))
"""Splits to look for, as shares after and shares before; their reverses are looked for too."""

SPLIT_DAY = 0.035
"""Largest move in logs that a price may make besides the split itself on the bar of a split."""

CLOSE_SPLIT_DAY = 0.01
"""The same for 3 for 2 if only closes are known: many a stock has lost a third in a day."""

TIMES_USUAL = 10.0
"""A split moves a price at least this many times as far as it usually moves."""

FEWEST_STEPS = 5.0
"""A split moves a price by at least this many of its smallest steps: 0.03 to 0.02 is one step."""

_SMALLEST_SPLIT = 0.3  # 3 for 2 takes a third off
_ROWS_AT_ONCE = 512
_NAMED = 3


# Each split as (shares after, shares before, log of the new price over the old one).
_WAYS = sorted(
    ((new, old, float(np.log(old / new))) for a, b in SPLITS for new, old in ((a, b), (b, a))),
    key=lambda way: way[2],
)


def describe_moves(
    close: FloatArray,
    index: pd.DatetimeIndex,
    symbols: Sequence[str],
    *,
    fields: Mapping[str, FloatArray] | None = None,
) -> str | None:
    """Return a sentence about moves that look like faults in the data, None if there are none.

    Closes that moved over 50 % in one bar are counted, and the largest move in absolute log terms
    is named: halving counts as much as doubling.

    A move of any size looks like a split of a for b that is not adjusted for if all of these hold:
    the close is b / a times the last one, within 3.5 % (in logs), or within 1 % for 3 for 2 if only
    closes are known; the split's move is at least ten times the asset's usual move (the median of
    all moves but the largest); the price moves by at least five of its smallest steps; and those of
    open, high and low that are known all lie nearer to the new level than to the old one.

    Parameters
    ----------
    close
        Closes, shape (n_bars, n_assets).
    index, symbols
        Timestamps and names.
    fields
        Open, high and low of the same shape, where they are known.
    """
    count, worst, place = 0, 0.0, (0, 0)
    rows, columns = [], []
    for start in range(1, len(close), _ROWS_AT_ONCE):
        block = close[start - 1 : start + _ROWS_AT_ONCE]
        ratio = block[1:] / block[:-1]
        change = np.abs(ratio - 1.0)
        notable = change > _SMALLEST_SPLIT
        if not notable.any():
            continue
        here = np.nonzero(notable)
        rows.append(here[0] + start)
        columns.append(here[1])
        large = change > LARGE_MOVE
        if large.any():
            count += int(large.sum())
            size = np.where(large, np.abs(np.log(ratio)), 0.0)
            row, column = divmod(int(size.argmax()), size.shape[1])
            if size[row, column] > worst:
                worst, place = float(size[row, column]), (start + row, column)
    if not rows:
        return None
    splits = _splits(close, np.concatenate(rows), np.concatenate(columns), fields or {})
    sentences = []
    if count:
        moves = "1 move" if count == 1 else f"{count:,} moves"
        named = _named(close, index, symbols, *place)
        sentences.append(f"{moves} over 50 % in one bar; the largest is {named}.")
        if not splits:
            sentences.append("Are splits adjusted for?")
    if splits:
        one = len(splits) == 1
        what = (
            "1 move looks like a split that is"
            if one
            else (f"{len(splits):,} moves look like splits that are")
        )
        shown = [
            f"{_named(close, index, symbols, row, column)} ({_WAYS[way][0]} for {_WAYS[way][1]}?)"
            for row, column, way in splits[:_NAMED]
        ]
        more = ", ..." if len(splits) > _NAMED else ""
        sentences.append(f"{what} not adjusted for: {', '.join(shown)}{more}")
    return " ".join(sentences) or None


def _splits(
    close: FloatArray, rows: IntArray, columns: IntArray, fields: Mapping[str, FloatArray]
) -> list[tuple[int, int, int]]:
    """Return row, column and position in ``_WAYS`` of the moves that look like splits."""
    before = close[rows - 1, columns]
    move = np.log(close[rows, columns] / before)
    levels = np.array([way for _, _, way in _WAYS])
    nearest = np.abs(move[:, None] - levels).argmin(axis=1)
    way = levels[nearest]
    ranges = [fields[name][rows, columns] for name in ("open", "high", "low") if name in fields]
    a_third = np.isclose(np.abs(way), np.log(1.5))
    within = np.where(a_third & (not ranges), CLOSE_SPLIT_DAY, SPLIT_DAY)
    alike = np.abs(move - way) <= within
    for price in ranges:
        # The whole bar must lie on the new level: a crash begins on the old one.
        alike &= np.abs(np.log(price / before) - way) <= np.abs(way) / 2
    distance = np.abs(close[rows, columns] - before)
    named = np.unique(columns[alike]).tolist()
    usual = {column: _usual_move(close[:, column]) for column in named}
    step = {column: _smallest_step(close[:, column]) for column in named}
    return [
        (row, column, number)
        for row, column, number, far in zip(
            rows[alike].tolist(),
            columns[alike].tolist(),
            nearest[alike].tolist(),
            distance[alike].tolist(),
            strict=True,
        )
        if abs(_WAYS[number][2]) >= TIMES_USUAL * usual[column]
        and far >= FEWEST_STEPS * step[column]
    ]


def _usual_move(close: FloatArray) -> float:
    """Return the median absolute move in logs of one asset, leaving out the largest move."""
    moves = np.abs(np.diff(np.log(close)))
    moves = np.sort(moves[np.isfinite(moves)])[:-1]
    return float(np.median(moves)) if len(moves) else 0.0


def _smallest_step(close: FloatArray) -> float:
    """Return the smallest change of a close, leaving out the largest; 0 if there is no other."""
    steps = np.abs(np.diff(close))
    steps = np.sort(steps[np.isfinite(steps) & (steps > 0)])[:-1]
    return float(steps[0]) if len(steps) else 0.0


def _named(
    close: FloatArray, index: pd.DatetimeIndex, symbols: Sequence[str], row: int, column: int
) -> str:
    change = close[row, column] / close[row - 1, column] - 1.0
    return f"{symbols[column]} {change:+.1%} at {moment_text(index[row])}"


SMALLEST_COUNT = 1_000
"""Median below which whole numbers are taken for prices."""

TIMES_LARGER = 100
"""A column's median must be at least this many times that of the others to look like counts."""

TIMES_ROUGHER = 3.0
"""A column must move more than this many times as far per bar as the others (median, in logs)."""

LEAST_ROUGHNESS = 0.02
"""Median change in logs below which a column moves as prices do, however little the others do."""

SURELY_LARGE = 100_000
"""Median from which on whole numbers cause a warning even if they move as prices do."""

STEPS_APART = 10
"""Number of bars over which a price, which wanders, gets much further than over one bar."""

LEAST_WANDERING = 4.0
"""Variance over ten bars, relative to one, from which on a column wanders (random walk: 10)."""

_SAMPLE = 64
_MOST_FIELDS = 8
_LEAST_BARS = 20
_WIDEST_BAR = 0.1
_ROUNDING = 1e-6


def check_are_prices(columns: Mapping[str, FloatArray], wording: Wording) -> tuple[str, ...]:
    """Check by their values that columns are closes, and return what is worth a look.

    Four to eight columns look like the bars of one asset if three things hold. On every bar (20 at
    least) the same column is the highest and the same other column the lowest, within 10 %
    (median). This range varies instead of wandering (the variance of its changes is at least half
    of its own variance). And two of the other columns, open and close, cross. Columns whose highest
    and lowest are a fixed ratio apart look like bars too.

    A column looks like counts if all its values are whole numbers; if their median is at least
    1,000 and at least 100 times that of the other columns, most of which are not whole; and if it
    moves from bar to bar over three times as far as they do (median of the absolute changes in
    logs) and over 2 %. Nikkei levels and BRK-A are large too, but move as prices do. A column that
    moves that far but wanders, like bitcoin in whole dollars among currencies, is only doubtful:
    volumes return to their level.

    Parameters
    ----------
    columns
        Values of each column, of shape (n_rows,).
    wording
        Names the table and its keys.

    Returns
    -------
    tuple of str
        Warnings about whole numbers from 100,000 on that move as prices do, and about others that
        move further and wander.

    Raises
    ------
    DataError
        When the columns look like the bars of one asset, or one column looks like counts.
    """
    _refuse_bars(columns, wording)
    large = [name for name, values in columns.items() if _may_be_counts(values)]
    if not large or len(columns) < 2:
        return ()
    others = [
        values for name, values in columns.items() if name not in large and not _is_whole(values)
    ]
    if not others or 2 * len(others) < len(columns):
        return ()
    level = float(np.median([np.nanmedian(values) for values in others]))
    rough = float(np.median([_roughness(values) for values in others]))
    counts, doubtful = [], []
    for name in large:
        values = columns[name]
        if not _is_large_and_whole(values) or np.nanmedian(values) < TIMES_LARGER * level:
            continue
        is_rough = _roughness(values) > max(TIMES_ROUGHER * rough, LEAST_ROUGHNESS)
        if is_rough and not _wanders(values):
            counts.append(name)
        elif is_rough or np.nanmedian(values) >= SURELY_LARGE:
            doubtful.append(name)
    if counts:
        values = columns[counts[0]]
        raise DataError(
            f"{wording.table}: the column {_quoted(counts)} looks like counts (a volume, say), not "
            f"like prices: whole numbers around {np.nanmedian(values):,.0f} among prices around "
            f"{level:,.4g}, which move by {_roughness(values):.1%} from bar to bar, the prices by "
            f"{rough:.1%}. {wording.leave_out(counts)} leaves it out; "
            f"{wording.setting('close_column', None)} takes each column as an asset's closes"
        )
    return tuple(
        f"{name} holds whole numbers around {np.nanmedian(columns[name]):,.0f} among prices "
        f"around {level:,.4g}: is it a price? {wording.leave_out([name])} leaves it out"
        for name in doubtful[:3]
    )


def _refuse_bars(columns: Mapping[str, FloatArray], wording: Wording) -> None:
    if not 4 <= len(columns) <= _MOST_FIELDS:
        return
    names, table = list(columns), np.column_stack(list(columns.values()))
    table = table[np.isfinite(table).all(axis=1) & (table > 0).all(axis=1)]
    if len(table) < _LEAST_BARS or not np.ptp(table, axis=0).all():
        return
    highest = [bool((table[:, [k]] >= table).all()) for k in range(len(names))]
    lowest = [bool((table[:, [k]] <= table).all()) for k in range(len(names))]
    if sum(highest) != 1 or sum(lowest) != 1:
        return
    high, low = highest.index(True), lowest.index(True)
    width = np.log(table[:, high] / table[:, low])
    # The range of bars is new on each bar, but the distance between two assets wanders.
    still = bool(np.std(width) < _ROUNDING)
    wanders = not still and np.var(np.diff(width)) < np.var(width) / 2
    if wanders or np.median(width) > _WIDEST_BAR:
        return
    between = np.delete(table, [high, low], axis=1)
    if still or any(_cross(first, second) for first, second in combinations(between.T, 2)):
        raise DataError(
            f"{wording.table}: on every bar '{names[high]}' is the highest and '{names[low]}' the "
            "lowest of all columns: they look like the bars of one asset. "
            f"{wording.key('close_column')} names its closes; "
            f"{wording.setting('close_column', None)} takes each column as an asset"
        )


def _cross(first: FloatArray, second: FloatArray) -> bool:
    return bool((first > second).any() and (first < second).any())


def _quoted(names: list[str]) -> str:
    return f"'{names[0]}'" + (f" (and {len(names) - 1:,} more)" if len(names) > 1 else "")


def _may_be_counts(values: FloatArray) -> bool:
    """Return whether a sample is whole and large, a quick check that rules out most columns."""
    if not len(values) or float(values[-1]) % 1 > 0:
        return False
    return _is_large_and_whole(values[:: max(1, len(values) // _SAMPLE)])


def _is_whole(values: FloatArray) -> bool:
    held = values[np.isfinite(values)]
    return bool((held == np.floor(held)).all())


def _is_large_and_whole(values: FloatArray) -> bool:
    held = values[np.isfinite(values)]
    return bool(len(held)) and _is_whole(held) and bool(np.median(held) >= SMALLEST_COUNT)


def _roughness(values: FloatArray) -> float:
    """Return the median absolute change in logs; 0 if there are not two positive values."""
    held = np.log(values[np.isfinite(values) & (values > 0)])
    return float(np.median(np.abs(np.diff(held)))) if len(held) > 1 else 0.0


def _wanders(values: FloatArray) -> bool:
    """Return whether a column wanders off as a price may, instead of returning to its level."""
    held = np.log(values[np.isfinite(values) & (values > 0)])
    if len(held) < 3 * STEPS_APART:
        return False
    far = np.mean((held[STEPS_APART:] - held[:-STEPS_APART]) ** 2)
    return bool(far >= LEAST_WANDERING * np.mean(np.diff(held) ** 2) > 0)


def check_frequency(
    index: pd.DatetimeIndex, freq: str, session_end: str | None = None
) -> tuple[str, ...]:
    """Check that the bars are as far apart as ``freq`` says, and return notes on it.

    ``1d`` means at most one bar per session, in the time zone of the index; weekends and holidays
    do not matter. ``5min`` means bars at least five minutes apart. Bars that are further apart than
    declared are used, with a note. With ``auto``, the only case that is refused is a few days with
    several bars among daily ones: more often than not these are a quote of today, or rows that do
    not belong there.

    Raises
    ------
    DataError
        When bars are closer together; the message says on how many days, or how close they are.
    """
    found = find_frequency(index, session_end)
    if freq == AUTO:
        if found.has_strays and not found.is_intraday:
            raise DataError(
                f"most days have one bar, but {_crowded(index, found, session_end)}; take out the "
                "bars that do not belong there, or declare their distance with `data.freq=1h`"
            )
        return ()
    declared = freq_seconds(freq)
    other = "`data.freq=auto` takes bars as they are"
    if declared >= SECONDS_A_DAY and found.n_crowded:
        raise DataError(
            f"`data.freq={freq}` is at most one bar a day, but "
            f"{_crowded(index, found, session_end)}; {other}"
        )
    usual = freq_seconds(found.freq)
    closer = _closer(index, declared)
    if usual < 0.75 * declared:
        raise DataError(
            f"`data.freq={freq}`, but most bars are {found.freq} apart{closer}; {other}"
        )
    if closer and declared < SECONDS_A_DAY:
        return (f"`data.freq={freq}`, but a few bars are closer together{closer}",)
    if usual > 1.25 * declared and len(index) > 2:
        return (
            f"`data.freq={freq}`, but most bars are {found.freq} apart: they are taken as they "
            f"are, about {found.per_year:,.0f} a year",
        )
    return ()


def _crowded(index: pd.DatetimeIndex, found: Frequency, session_end: str | None) -> str:
    """Return a text naming the first day with several bars, and the number of such days."""
    days = session_days(index, session_end)
    first = pd.Timestamp(int(found.crowded_day or 0), unit="D").date()
    n_bars = int(np.count_nonzero(days == found.crowded_day))
    share = f"{found.n_crowded:,} of {found.n_sessions:,} days have several"
    return f"{first} has {n_bars:,} bars ({share})"


def _closer(index: pd.DatetimeIndex, seconds: float) -> str:
    """Return a text naming the first two bars closer together than a length, and a count."""
    steps = np.diff(stamps_of(index)[0]) / 10**9
    rows = np.flatnonzero(steps < seconds)
    if len(rows) == 0:
        return ""
    first = rows[0]
    return (
        f": those at {moment_text(index[first])} and {moment_text(index[first + 1])} are "
        f"{_apart(steps[first])} apart ({len(rows):,} of {len(steps):,})"
    )


def _apart(seconds: float) -> str:
    if seconds < 1 or seconds != int(seconds):
        return f"{seconds:g} seconds"
    if seconds > SECONDS_A_DAY and seconds % SECONDS_A_DAY == 0:
        return f"{seconds / SECONDS_A_DAY:g} days"
    return seconds_text(int(seconds))


Adjusted = Literal["auto", True, False]
"""Whether adjusted closes are used if there are quoted closes beside them."""

QUOTED = "quoted close"
"""Key of the quoted closes when they are used to scale open, high and low as the adjusted ones."""

# Prices in files are rounded: a close may lie this fraction outside its bar's range.
_QUOTED_TO = 1e-4


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which columns the fields of one asset are read from.

    Attributes
    ----------
    columns
        Column by field, including that of :data:`QUOTED` if it is needed.
    to_scale
        Fields that are on the scale of the quoted closes, while the closes are adjusted.
    adjusted
        Column of the adjusted closes, if there is one, whether used or not.
    note
        Note for the reader about the closes.
    """

    columns: dict[str, str]
    to_scale: tuple[str, ...] = ()
    adjusted: str | None = None
    note: str | None = None


def choose(
    found: Mapping[str, str], *, adjusted: Adjusted, explicit: str | None, wording: Wording
) -> Choice:
    """Return which columns are read.

    Parameters
    ----------
    found
        Column by meaning: the fields, and ``adj_close`` and the like.
    adjusted
        The value of ``data.adjusted``.
    explicit
        The column that ``close_column`` names, None if it names the usual one.
    wording
        Names the table and its keys.

    Raises
    ------
    DataError
        When adjusted closes are wanted and there are none, or likewise for quoted closes.
    """
    quoted, other = found.get("close"), found.get("adj_close")
    if adjusted is True and other is None:
        raise none_adjusted(wording)
    if adjusted is False and quoted is None and explicit is None:
        raise DataError(
            f"{wording.table} has adjusted closes alone ('{other}'), but "
            f"{wording.setting('adjusted', False)} demands those that were quoted"
        )
    by_name = explicit is not None and explicit == other
    use = other is not None and (
        by_name or quoted is None or adjusted is True or (adjusted == "auto" and explicit is None)
    )
    fields = {name: found[name] for name in FIELDS if name in found}
    if not use:
        return Choice(columns=fields, adjusted=other)
    own = {name: found[f"adj_{name}"] for name in FIELDS if f"adj_{name}" in found}
    to_scale = tuple(name for name in ("open", "high", "low") if name in fields and name not in own)
    columns = fields | own
    if quoted is not None:
        columns[QUOTED] = quoted
    return Choice(columns=columns, to_scale=to_scale, adjusted=other)


def none_adjusted(wording: Wording) -> DataError:
    """Return the error to raise if adjusted closes are demanded and there are none."""
    return DataError(
        f"{wording.table} has no column of adjusted closes such as 'Adj Close', as "
        f"{wording.setting('adjusted', True)} demands"
    )


def adjusted_fields(
    values: dict[str, FloatArray], choice: Choice, *, adjusted: Adjusted, wording: Wording
) -> tuple[dict[str, FloatArray], str | None]:
    """Return the fields of one asset on one scale, and a sentence on which closes are used.

    Open, high and low are brought onto the scale of the adjusted closes: x * adjusted / quoted.
    This is computed as adjusted * (x / quoted), so that rounding moves no close out of its range.

    Parameters
    ----------
    values
        Values by field, as :func:`choose` chose them; changed in place.
    choice
        The result of :func:`choose`.
    adjusted, wording
        As for :func:`choose`.

    Raises
    ------
    DataError
        When a quoted close is not a price, so that nothing can be scaled by it.
    """
    if choice.adjusted is None:
        return values, choice.note
    if choice.columns.get("close") != choice.adjusted:
        return values, (
            f"closes are those of '{choice.columns['close']}', not of '{choice.adjusted}' "
            f"({wording.setting('adjusted', True)} takes the adjusted ones)"
        )
    name = choice.adjusted
    if QUOTED not in choice.columns:
        return _without_scale(values, choice)
    other = choice.columns[QUOTED]
    quoted = values.pop(QUOTED)
    if adjusted == "auto" and _is_empty(values["close"]) and not _is_empty(quoted):
        values["close"] = quoted
        return values, f"closes are those of '{other}', as '{name}' is empty"
    close = values["close"]
    for field in choice.to_scale:
        unusable = ~(quoted > 0) & ~np.isnan(values[field]) & ~np.isnan(close)
        if unusable.any():
            row = int(unusable.argmax())
            raise DataError(
                f"{wording.table}: column '{other}' holds {quoted[row]:g} in data row {row + 1}, "
                f"so that '{choice.columns[field]}' cannot be adjusted as '{name}' is; "
                f"{wording.setting('adjusted', False)} takes the closes as quoted"
            )
        with np.errstate(all="ignore"):  # rows without a close are not bars
            values[field] = close * (values[field] / quoted)
    scaled = _listed(choice.to_scale)
    return values, (
        f"closes are those of '{name}', not of '{other}'"
        + (f", and {scaled} are adjusted in the same ratio" if scaled else "")
        + f" ({wording.setting('adjusted', False)} takes them as quoted)"
    )


def _without_scale(
    values: dict[str, FloatArray], choice: Choice
) -> tuple[dict[str, FloatArray], str]:
    """Leave out the fields if their scale differs from that of the adjusted closes."""
    text = f"closes are those of '{choice.adjusted}'; there are none as quoted beside them"
    if not choice.to_scale:
        return values, text
    close = values["close"]
    if {"high", "low"} <= set(choice.to_scale):
        outside = (close > values["high"] * (1 + _QUOTED_TO)) | (
            close < values["low"] * (1 - _QUOTED_TO)
        )
        if not outside.any():
            return values, text
    for field in choice.to_scale:
        del values[field]
    return values, (
        f"{text}, so that {_listed(choice.to_scale)} cannot be adjusted and are left out"
    )


def _is_empty(values: FloatArray) -> bool:
    return bool(np.isnan(values).all())


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
