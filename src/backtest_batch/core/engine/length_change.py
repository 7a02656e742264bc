"""Where bars of one length go over into bars of another: no one number a year is right for both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.engine.frequency import (
    Frequency,
    disagreement,
    find_frequency,
    found_text,
)
from backtest_batch.core.engine.sessions import (
    SECONDS_A_DAY,
    session_days,
    session_starts,
    ticks_per_second,
)
from backtest_batch.core.engine.spacing import SESSIONS_PER_YEAR, days_apart, weekly_pattern

_ALIKE = 1.6
"""Lengths within this factor are the same; months have 28 to 31 days."""
_FEWEST_SESSIONS = 8
"""Fewer sessions with another length are holidays, gaps or strays."""
_SMALL = 0.05
"""A part with less than this share of the bars and of the time hardly changes a figure; nor does
one that changes the mean length of a bar by less."""
_MOST = 0.72
"""Share of the sessions of a part that must have its length: weekends and holidays are between."""
_SHORT, _LONG = 0.9 * SECONDS_A_DAY, 6.5 * SECONDS_A_DAY
"""Days between must be equal; weeks may be moved by holidays, and months differ."""
_FEWEST_DAYS = 20
"""Where days are missing at random, a few equal ones follow each other; amid months none do."""
_EQUAL = 0.5
"""Share of the steps within sessions that must be equal, or the bars are not cut by a clock."""
_WINDOW = 9
_SHOWN = 4


@dataclass(frozen=True)
class _Part:
    """A part of the history with bars of one length: sessions ``first`` to before ``end``."""

    first: int
    end: int
    length: float


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of the history with bars of one length.

    Attributes
    ----------
    freq, per_year
        The length of the bars, such as ``1mo``, and their number per year.
    first, last
        Timestamps of its first and its last bar.
    """

    freq: str
    per_year: float
    first: pd.Timestamp
    last: pd.Timestamp

    def __str__(self) -> str:
        return f"{self.freq} apart from {_moment(self.first)} to {_moment(self.last)}"


@dataclass(frozen=True)
class LengthChange:
    """A history whose bars change their length.

    Attributes
    ----------
    stretches
        Two or more, in order of time; neighbours have other lengths.
    """

    stretches: tuple[Stretch, ...]

    def said(self) -> str:
        """Return what changes where, in words."""
        shown = self.stretches[:_SHOWN]
        more = len(self.stretches) - len(shown)
        parts = [str(stretch) for stretch in shown] + ([f"{more} more"] if more else [])
        numbers = [f"{stretch.per_year:,g}" for stretch in shown]
        return f"bars are {_listed(parts)} ({_listed(numbers)} a year)"

    def refusal(self, *, has_dates: bool = True) -> str:
        """Return why no figure can be annualised, and the ways out.

        Parameters
        ----------
        has_dates
            Whether ``start_date`` and ``end_date`` can be given.
        """
        before, after = self.stretches[0].last.date(), self.stretches[-1].first.date()
        cut = f"cut the index at {after} or after {before}"
        if has_dates:
            cut = f"start_date={after} measures the last of them, end_date={before} the first"
        return (
            f"{self.said()}, and no one number annualises them all: {cut}; "
            "periods_per_year=N takes N for all"
        )

    def override_note(self, given: float) -> str:
        """Return what a number that is given does to the figures."""
        return (
            f"{self.said()}; periods_per_year={given:,g} is taken for all of them, so that "
            "volatility, sharpe, cagr and all else that is annualised mix bars of other lengths"
        )

    def history_note(self) -> str:
        """Return what is to be known where only bars of the last length are measured."""
        return (
            f"{self.said()}: bars of {self.stretches[-1].freq} are measured, but signals that look "
            f"back beyond {_moment(self.stretches[-1].first)} count bars of other lengths"
        )


@dataclass(frozen=True)
class MeasuredBars:
    """How long the bars are that a run measures.

    Attributes
    ----------
    frequency
        That of all bars; of the measured ones where lengths change.
    index
        The timestamps that it is taken from.
    change
        Where lengths change in the whole history.
    mixed
        Where they change among the measured bars.
    """

    frequency: Frequency
    index: pd.DatetimeIndex
    change: LengthChange | None = None
    mixed: LengthChange | None = None

    def notes(self, given: float | None, session_end: str | None = None) -> list[str]:
        """Return what is to be said about the bars a year.

        Parameters
        ----------
        given
            The number that the user chose; None takes it from the index.
        session_end
            When sessions end, ``HH:MM``; None is midnight.
        """
        if self.mixed is not None:
            return [] if given is None else [self.mixed.override_note(given)]
        said = [] if self.change is None else [self.change.history_note()]
        if given is not None:
            differs = disagreement(self.index, given, session_end)
            return said if differs is None else [*said, differs]
        if self.frequency.per_year not in (None, SESSIONS_PER_YEAR):
            said.append(found_text(self.frequency))
        return said


class BarLengths:
    """How long the bars of a market are, in the parts of it that are measured.

    Parameters
    ----------
    index
        Timestamps of the bars, strictly increasing.
    session_end
        When sessions end, ``HH:MM``; None is midnight.
    """

    def __init__(self, index: pd.DatetimeIndex, session_end: str | None = None) -> None:
        self.session_end = session_end
        self._index = index
        change = find_length_change(index, session_end)
        self._all = MeasuredBars(find_frequency(index, session_end), index, change, change)
        self._known = {0: self._all}

    def measured(self, first_bar: int = 0) -> MeasuredBars:
        """Return how long the bars are from the first measured one on."""
        if self._all.change is None or first_bar > len(self._index) - 2:
            return self._all
        if first_bar not in self._known:
            part, end = self._index[first_bar:], self.session_end
            self._known[first_bar] = MeasuredBars(
                find_frequency(part, end), part, self._all.change, find_length_change(part, end)
            )
        return self._known[first_bar]


def find_length_change(
    index: pd.DatetimeIndex, session_end: str | None = None
) -> LengthChange | None:
    """Return where the length of bars changes for good, None where it does not.

    Looked at are the days between sessions of one bar, and the most frequent time between the bars
    of a session of several. A part of the history counts if its length is met by most of at least 8
    sessions, it has 5 % of the bars or of the time, and the mean length of a bar is 5 % another for
    it. Holidays, gaps, half days, longer opening hours, breaks and night sessions, missing bars,
    and bars that are cut by volume or by events are no change.

    Parameters
    ----------
    index
        Timestamps of the bars, strictly increasing.
    session_end
        When sessions end, ``HH:MM``; None is midnight.
    """
    days = session_days(index, session_end)
    starts = session_starts(days)
    if len(starts) < 2 * _FEWEST_SESSIONS:
        return None
    lengths = _session_lengths(index, days, starts)
    if np.isnan(lengths).any():
        lengths = np.asarray(pd.Series(lengths).bfill().ffill(), dtype=np.float64)
    bounds = np.r_[starts, len(index)]
    regular = [part for part in _parts(lengths) if _is_regular(part, lengths, days, index, bounds)]
    parts = list(_joined(_telling(regular, days, bounds)))
    if len(parts) < 2:
        return None
    edges = [_edge(lengths, *pair) for pair in pairwise(parts)]
    edges = [0, *(int(bounds[edge]) for edge in edges), len(index)]
    return LengthChange(
        tuple(_stretch(index[first:end], session_end) for first, end in pairwise(edges))
    )


def _stretch(bars: pd.DatetimeIndex, session_end: str | None) -> Stretch:
    found = find_frequency(bars, session_end)
    assert found.per_year is not None
    return Stretch(freq=found.freq, per_year=found.per_year, first=bars[0], last=bars[-1])


def _session_lengths(index: pd.DatetimeIndex, days: IntArray, starts: IntArray) -> FloatArray:
    """Return the usual seconds between bars, at each session."""
    several = np.diff(starts, append=len(index)) > 1
    lengths = np.full(len(starts), np.nan)
    lengths[several] = _usual_steps(index.asi8, starts) / ticks_per_second(index)
    single = np.flatnonzero(~several[1:] & ~several[:-1]) + 1
    if len(single):
        lengths[single] = days_apart(days[starts])[single - 1] * float(SECONDS_A_DAY)
    return lengths


def _usual_steps(ticks: IntArray, starts: IntArray) -> IntArray:
    """Return the most frequent step, the shortest of equals, in each session of several bars."""
    session = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(ticks)))
    within = session[1:] == session[:-1]
    steps, session = np.diff(ticks)[within], session[1:][within]
    order = np.lexsort((steps, session))
    steps, session = steps[order], session[order]
    runs = np.flatnonzero(
        np.r_[True, (np.diff(steps) != 0) | (np.diff(session) != 0)][: len(steps)]
    )
    times = np.diff(runs, append=len(steps))
    best = np.lexsort((steps[runs], -times, session[runs]))
    first = np.unique(session[runs][best], return_index=True)[1]
    return np.asarray(steps[runs][best][first])


def _parts(lengths: FloatArray) -> list[_Part]:
    """Return the parts between jumps of the running median; short ones are left out."""
    rolling = pd.Series(lengths).rolling(_WINDOW, center=True, min_periods=1)
    smooth = np.log(rolling.median().to_numpy())
    jumps = np.flatnonzero(np.abs(np.diff(smooth)) > np.log(_ALIKE)) + 1
    bounds = [0, *jumps.tolist(), len(smooth)]
    return [
        _Part(first, end, float(np.exp(np.median(smooth[first:end]))))
        for first, end in pairwise(bounds)
        if end - first >= _FEWEST_SESSIONS
    ]


def _telling(parts: list[_Part], days: IntArray, bounds: IntArray) -> list[_Part]:
    """Return the parts that are large, and without which bars are longer or shorter on average."""
    if len(parts) < 2:
        return []
    first = bounds[[part.first for part in parts]]
    end = bounds[[part.end for part in parts]]
    bars, time = (end - first) / len(days), (days[end - 1] - days[first]) / (days[-1] - days[0])
    length = np.log([part.length for part in parts])
    alike = np.abs(length[:, None] - length) < np.log(_ALIKE)
    of_most = alike[bars.argmax()]
    longer = np.abs(alike @ (time * bars[of_most].sum() / time[of_most].sum() - bars))
    kept = (np.maximum(bars, time) >= _SMALL) & (of_most | (longer >= _SMALL))
    return [parts[place] for place in np.flatnonzero(kept)]


def _is_regular(
    part: _Part, lengths: FloatArray, days: IntArray, index: pd.DatetimeIndex, bounds: IntArray
) -> bool:
    """Return whether most sessions have the length of their part, cut by a clock or a calendar."""
    of_part = lengths[part.first : part.end]
    first, end = bounds[part.first], bounds[part.end]
    is_days = _SHORT <= part.length < _LONG
    if is_days and len(of_part) < _FEWEST_DAYS:
        others = np.r_[lengths[: part.first], lengths[part.end :]]
        if not len(others) or np.median(others) < _LONG:
            return False
    if is_days and weekly_pattern(days[bounds[part.first : part.end]]) is not None:
        return True
    times = of_part / part.length
    if np.mean((times < _ALIKE) & (times > 1 / _ALIKE)) < _MOST:
        return False
    if part.length >= _LONG:
        return True
    if is_days:
        _, equal = np.unique(of_part, return_counts=True)
        return bool(equal.max() >= _MOST * equal.sum())
    steps = np.diff(index.asi8[first:end])
    within = np.ones(len(steps), dtype=np.bool_)
    within[bounds[part.first + 1 : part.end] - first - 1] = False
    _, equal = np.unique(steps[within], return_counts=True)
    return bool(len(equal) and equal.max() >= _EQUAL * equal.sum())


def _joined(parts: list[_Part]) -> Iterator[_Part]:
    """Yield parts of which no two neighbours have the same length."""
    held: _Part | None = None
    for part in parts:
        if held is None:
            held = part
        elif 1 / _ALIKE < part.length / held.length < _ALIKE:
            held = replace(held, end=part.end)
        else:
            yield held
            held = part
    if held is not None:
        yield held


def _edge(lengths: FloatArray, one: _Part, other: _Part) -> int:
    """Return the session from which on the length is that of the other part."""
    first = max(one.first + 1, min(one.end, other.first) - _WINDOW)
    end = min(other.end, other.first + _WINDOW)
    near = np.log(lengths[first:end])
    is_other = np.abs(near - np.log(other.length)) < np.abs(near - np.log(one.length))
    fitting = np.cumsum(np.r_[0, ~is_other]) + is_other.sum() - np.cumsum(np.r_[0, is_other])
    return first + int(fitting.argmax())


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def _moment(time: pd.Timestamp) -> str:
    at = time.tz_localize(None)
    return str(at.date()) if at == at.normalize() else f"{at:%Y-%m-%d %H:%M}"
