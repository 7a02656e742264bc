"""The declaration of one key: its role, its meaning, and the values that it accepts."""

import math
import re
from dataclasses import MISSING, dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.config.rebalance import ALLOWED_PERIODS, parse_rebalance


class Role(StrEnum):
    """The purpose of a key; decides whether it can be swept and is part of the run key."""

    LABEL = "label"
    """Names and describes; no influence on results."""
    SCENARIO = "scenario"
    """Conditions under which a strategy is judged."""
    DECISION = "decision"
    """What a researcher chooses."""
    EXECUTION = "execution"
    """How the batch is computed."""
    TRACKING = "tracking"
    """Where and how much is recorded."""
    REPORT = "report"
    """How the finished runs are compared and shown."""

    @property
    def determines_results(self) -> bool:
        """Whether keys of this role are part of the run key and may be swept."""
        return self in (Role.SCENARIO, Role.DECISION)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The values that a key accepts; open ends are None."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()
    special: tuple[float | str, str] | None = None
    """A value beyond the bounds, and its meaning."""
    date: bool = False
    named: bool = False
    period: bool = False

    def admits(self, value: Any) -> bool:
        """Return whether ``value`` lies within the bounds; None (unset) always does."""
        if value is None:
            return True
        if self.choices:
            given = value if isinstance(value, list) else [value]
            return all(item in self.choices for item in given)
        if self.date:
            return parse_date(value) is not None
        if self.named:
            return bool(str(value).strip())
        if self.period:
            return _period_fault(value) is None
        if self.special is not None and value == self.special[0]:
            return True
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return not (
            (self.at_least is not None and value < self.at_least)
            or (self.above is not None and value <= self.above)
            or (self.at_most is not None and value > self.at_most)
        )

    def wanted(self, value: Any) -> str:
        """Return which values are accepted, for a message about one that is not."""
        if self.period:
            return _period_fault(value) or str(self)
        beyond = isinstance(value, float) and not math.isfinite(value) and self.at_most is None
        return f"{self} and finite" if beyond and str(self) != "must be finite" else str(self)

    def __str__(self) -> str:
        if self.choices:
            return "must be one of " + ", ".join(self.choices)
        if self.date:
            return "must be a date such as 2005-01-31 (year, month, day)"
        if self.named:
            return "must be text that is not empty"
        if self.period:
            return ALLOWED_PERIODS
        words = [
            f"{word} {bound:,g}"
            for word, bound in (
                (">=", self.at_least),
                (">", self.above),
                ("<=", self.at_most),
            )
            if bound is not None
        ]
        text = "must be " + (" and ".join(words) or "finite")
        if self.special is not None:
            beyond, meaning = self.special
            text += f", or {beyond if isinstance(beyond, str) else f'{beyond:g}'} ({meaning})"
        return text


def _period_fault(value: Any) -> str | None:
    """Return what is wrong with a period of decisions, None when nothing is."""
    try:
        parse_rebalance(str(value))
    except ValueError as error:
        return str(error)
    return None


def key(
    default: Any, role: Role, meaning: str, *, factory: Any = None, **bounds: Any
) -> Any:  # Any: a dataclass field takes the type of its annotation
    """Declare one root key: default, role, meaning in one line, and the bounds of its value."""
    metadata = {"role": role, "meaning": meaning, "bounds": Bounds(**bounds) if bounds else None}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def same(schema: type, name: str, meaning: str | None = None) -> Any:
    """Declare a key as in another schema; only its meaning may be worded differently."""
    item = schema.__dataclass_fields__[name]  # type: ignore[attr-defined]
    metadata = dict(item.metadata) | ({} if meaning is None else {"meaning": meaning})
    if item.default_factory is not MISSING:
        return field(default_factory=item.default_factory, metadata=metadata)
    return field(default=item.default, metadata=metadata)


_TIME_OF_DAY = re.compile(r"\d[T ]?\d{1,2}:\d{2}|T\d{2}")
_YEAR = re.compile(r"^\s*\d{4}\s*$")
_MONTH = re.compile(r"^\s*\d{4}-\d{1,2}\s*$")
_DATE = re.compile(r"\d{4}(-\d{1,2})?|(\d{8}|\d{4}([-/])\d{1,2}\3\d{1,2})([T ].+)?")


def parse_date(value: Any) -> pd.Timestamp | None:
    """Return a date as a timestamp, or None if it is not a date."""
    text = date_text(value)
    return None if text is None else _parse_date(text)


def date_length(text: str) -> pd.DateOffset | pd.Timedelta:
    """Return the length of a date: a year, a month or a day; with a time of day it is a moment."""
    if has_time(text):
        return pd.Timedelta(1, "ns")
    if _YEAR.match(text):
        return pd.DateOffset(years=1)
    return pd.DateOffset(months=1) if _MONTH.match(text) else pd.DateOffset(days=1)


def has_time(text: str) -> bool:
    """Return whether a date spells out a time of day."""
    return _TIME_OF_DAY.search(text) is not None


def are_in_order(start: Any, end: Any) -> bool:
    """Return whether ``end`` reaches beyond the first moment of ``start``.

    ``end`` counts to its own end: 2020-06 to 2020 is half a year, 2020 to 2020 is a year.
    """
    first, last, text = parse_date(start), parse_date(end), date_text(end)
    if first is None or last is None or text is None:
        return True
    if first.tzinfo is not None and last.tzinfo is not None:
        first, last = first.tz_convert("UTC"), last.tz_convert("UTC")
    first, last = first.tz_localize(None), last.tz_localize(None)
    if has_time(text) or first < last:
        return bool(first < last)
    # 9999-12-31 stands for "no end"; there is no day after it.
    return last.year == 9999 or bool(first < last + date_length(text))


def date_text(value: Any) -> str | None:
    """Return a date as text in ISO 8601, or None if it is not a date.

    Text stays as it is. 2006 is a year, like the text ``2006``; other numbers are dates if their
    digits are (20060131). Midnight of a timestamp without a time zone means the whole day.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, datetime):
        if pd.isna(value):
            return None
        whole_day = value.tzinfo is None and value == pd.Timestamp(value).normalize()
        value = value.date().isoformat() if whole_day else value.isoformat()
    text = str(value)
    return None if _parse_date(text) is None else text


@cache
def _parse_date(text: str) -> pd.Timestamp | None:
    # pandas also reads `today`, which is another date tomorrow, and takes 200501 for 2020-05-01.
    if not _DATE.fullmatch(text.strip()):
        return None
    try:
        stamp = pd.Timestamp(text)
    except ValueError:
        return None
    return None if pd.isna(stamp) else stamp
