"""Columns among closes whose values tell that they are none: counts, and bars of one asset."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from backtest_batch.errors import DataError
from backtest_batch.market.fields import FloatArray
from backtest_batch.market.wording import Wording

SMALLEST_COUNT = 1_000
"""Median below which whole numbers are taken for prices."""

TIMES_LARGER = 100
"""How many times the median of the other columns it must be at least."""

TIMES_ROUGHER = 3.0
"""How many times further than the others it must move from bar to bar (median, in logs)."""

LEAST_ROUGHNESS = 0.02
"""Median change in logs below which it moves as prices do, however still the others stand."""

SURELY_LARGE = 100_000
"""Median from which on whole numbers that move as prices do are warned about."""

STEPS_APART = 10
"""Bars over which a price, which wanders, has come much further than over one."""

LEAST_WANDERING = 4.0
"""Variance over ten bars, in that over one, from which on a column wanders (a random walk: 10)."""

_SAMPLE = 64
_MOST_FIELDS = 8
_LEAST_BARS = 20
_WIDEST_BAR = 0.1
_ROUNDING = 1e-6


def check_are_prices(columns: Mapping[str, FloatArray], wording: Wording) -> tuple[str, ...]:
    """Check by their values that columns are closes, and return what is worth a look.

    Four to eight columns look like the bars of one asset when on every bar (20 at least) one is
    the highest and another the lowest, within 10 % (median), when this range comes and goes
    instead of wandering (its changes have half of its own variance or more), and two of the
    others, open and close, cross. So do columns a fixed share apart.

    A column looks like counts when all its values are whole numbers, their median is at least
    1,000 and at least 100 times that of the other columns, most of which are not whole, and when
    it moves from bar to bar over three times as far as they do (median of the absolute changes in
    logs) and over 2 %: Nikkei levels and BRK-A are large too, but move as prices do. One that
    moves so far but wanders, as bitcoin in whole dollars does among currencies, is doubtful:
    volumes come back to their level.

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
        When columns look like the bars of one asset, or one like counts.
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
            f"{wording.table}: the column {_named(counts)} looks like counts (a volume, say), not "
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
    # The range of a bar is another one on the next; the distance of two assets wanders.
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


def _named(names: list[str]) -> str:
    return f"'{names[0]}'" + (f" (and {len(names) - 1:,} more)" if len(names) > 1 else "")


def _may_be_counts(values: FloatArray) -> bool:
    """Return whether a sample is whole and large: most columns need no more than a look."""
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
    """Return the median of the absolute changes in logs; 0 without two positive values."""
    held = np.log(values[np.isfinite(values) & (values > 0)])
    return float(np.median(np.abs(np.diff(held)))) if len(held) > 1 else 0.0


def _wanders(values: FloatArray) -> bool:
    """Return whether a column goes where a price may go, instead of coming back to its level."""
    held = np.log(values[np.isfinite(values) & (values > 0)])
    if len(held) < 3 * STEPS_APART:
        return False
    far = np.mean((held[STEPS_APART:] - held[:-STEPS_APART]) ** 2)
    return bool(far >= LEAST_WANDERING * np.mean(np.diff(held) ** 2) > 0)
