"""How often is decided: the texts of ``rebalance``, and what they say."""

import re
from dataclasses import dataclass
from functools import cache

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_SUNDAY = 6

_SECONDS = {"s": 1, "min": 60, "h": 3_600}
_DAY_SECONDS = 86_400
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_LARGEST = 100_000

_UNITS = {"mo": "M", "min": "min", **{unit: unit for unit in "DWMQYhs"}}
_UNITS |= {"d": "D", "w": "W", "q": "Q", "y": "Y", "H": "h", "S": "s"}
"""Units as they may be written. There is no ``m``: a minute to some, and a month to others."""

_TEXT = re.compile(r"(?:bars:(\d+)|(\d*)([A-Za-z]+)(?:-([A-Za-z]+))?)(:start|:end)?")

_MEANT = {
    **dict.fromkeys(("ME", "BM", "BME", "MONTH", "MONTHLY"), "M"),
    **dict.fromkeys(("QE", "BQ", "BQE", "QUARTER", "QUARTERLY"), "Q"),
    **dict.fromkeys(("A", "YE", "BA", "BYE", "YEAR", "YEARLY", "ANNUAL", "ANNUALLY"), "Y"),
    **dict.fromkeys(("MS", "BMS"), "M:start"),
    **dict.fromkeys(("QS", "BQS"), "Q:start"),
    **dict.fromkeys(("YS", "AS", "BYS"), "Y:start"),
    **dict.fromkeys(("DAY", "DAILY", "B"), "D"),
    **dict.fromkeys(("WEEK", "WEEKLY"), "W"),
    **dict.fromkeys(("HOUR", "HOURLY", "HR"), "1h"),
    **dict.fromkeys(("T", "MINUTE", "MINUTES", "MINS"), "1min"),
    **dict.fromkeys(("BARS", "TICK", "NONE"), "bar"),
}
"""What other names of periods, pandas' among them, are called here."""

ALLOWED_PERIODS = (
    "must be one of bar, D, W, M, Q, Y, a multiple such as 15min, 4h, 2W or 3M, W-MON to W-SUN, or "
    "bars:5; M:start is the start of the period"
)


@dataclass(frozen=True, kw_only=True)
class Rebalance:
    """When a strategy decides.

    Attributes
    ----------
    unit
        What periods are counted in: ``bars``, ``s`` (seconds), ``D``, ``W`` or ``M``.
    n
        How many of them make a period.
    last_weekday
        The day on which a week ends; Monday is 0.
    at_start
        Whether the first bar of a period decides, instead of the last one.
    """

    unit: str
    n: int
    last_weekday: int = _SUNDAY
    at_start: bool = False

    def __str__(self) -> str:
        return self._period() + (":start" if self.at_start else "")

    def _period(self) -> str:
        n = self.n
        if self.unit == "bars":
            return "bar" if n == 1 else f"bars:{n}"
        if self.unit == "s":
            return seconds_text(n)
        unit = self.unit
        if unit == "M":
            unit = "Y" if n % 12 == 0 else "Q" if n == _MONTHS["Q"] else "M"
            n //= _MONTHS[unit]
        text = unit if n == 1 else f"{n}{unit}"
        return text if self.last_weekday == _SUNDAY else f"{text}-{WEEKDAYS[self.last_weekday]}"


def seconds_text(seconds: int) -> str:
    """Return a length of time in the largest unit that divides it: ``90min``, ``4h``, ``1s``."""
    unit = next(unit for unit in ("h", "min", "s") if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


@cache
def parse_rebalance(text: str) -> Rebalance:
    """Return what a text says about when is decided.

    Parameters
    ----------
    text
        ``bar`` (every bar), ``bars:5`` (every fifth), a unit (``D``, ``W``, ``M``, ``Q``, ``Y``), a
        multiple of one or of ``s``, ``min`` and ``h`` (``15min``, ``2W``, ``3M``), ``W-WED`` (weeks
        that end on Wednesday); each with ``:start`` for the start of the period.

    Raises
    ------
    ValueError
        When it says nothing; the message says what is allowed, and what may have been meant.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(ALLOWED_PERIODS + _hint(text))
    n_bars, count, name, weekday, when = found.groups()
    at_start = when == ":start"
    if n_bars is not None or (name == "bar" and not count and weekday is None):
        n = _count(n_bars or "1")
        # A period of one bar starts where it ends.
        return Rebalance(unit="bars", n=n, at_start=at_start and n > 1)
    unit = _UNITS.get(name)
    if unit is None or (weekday is not None and unit != "W"):
        raise ValueError(ALLOWED_PERIODS + _hint(text))
    n = _count(count or "1")
    if unit in _SECONDS:
        return _within_days(n * _SECONDS[unit], at_start)
    if unit in _MONTHS:
        return Rebalance(unit="M", n=n * _MONTHS[unit], at_start=at_start)
    if weekday is None:
        return Rebalance(unit=unit, n=n, at_start=at_start)
    if weekday.upper() not in WEEKDAYS:
        raise ValueError(f"{ALLOWED_PERIODS}; the days of a week are {', '.join(WEEKDAYS)}")
    last = WEEKDAYS.index(weekday.upper())
    return Rebalance(unit="W", n=n, last_weekday=last, at_start=at_start)


def _within_days(seconds: int, at_start: bool) -> Rebalance:
    if seconds % _DAY_SECONDS == 0:
        return Rebalance(unit="D", n=seconds // _DAY_SECONDS, at_start=at_start)
    if seconds > _DAY_SECONDS:
        raise ValueError(
            "periods within a session start anew with each session and are shorter than 24h; "
            "longer ones are whole days, such as D, 2D or W"
        )
    return Rebalance(unit="s", n=seconds, at_start=at_start)


def _count(digits: str) -> int:
    n = int(digits)
    if not 1 <= n <= _LARGEST:
        raise ValueError(f"its number must be >= 1 and <= {_LARGEST:,}")
    return n


def _hint(text: str) -> str:
    count, name, when = re.fullmatch(r"(\d*)(.*?)(:.*)?", text.strip(), re.DOTALL).groups("")  # type: ignore[union-attr]
    if name == "m":
        return f"; did you mean {count}min (minutes) or {count}M (months)?"
    if re.fullmatch(r"\d+", text.strip()):
        return f"; did you mean bars:{text.strip()}?"
    meant = _MEANT.get(name.upper().rstrip("S") if len(name) > 3 else name.upper())
    if meant is None:
        return ""
    start = ":start" if meant.endswith(":start") or when == ":start" else ""
    unit = meant.removesuffix(":start")
    if count and unit != "bar":
        unit = count + unit.removeprefix("1")
    return f"; did you mean {unit}{start}?"
