"""Intervals as they are written: ``interval(5,60)``, ``tag(log,interval(1,100))``.

The grammar is Hydra's. There, ``interval(5,60)`` is one of floats; here both ends say what is
meant: whole numbers where both are written as such, unless ``float(...)`` stands around it.
"""

import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException

from backtest_batch.errors import ConfigurationError
from backtest_batch.search.space import Interval

LOG = "log"
"""The tag of an interval whose logarithm is drawn evenly."""

_ENDS = re.compile(r"interval\(\s*(?:start\s*=\s*)?([^,()]+),\s*(?:end\s*=\s*)?([^,()]+)\)")
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_WRITTEN = re.compile(r"\s*(?:(?:tag|int|float)\s*\(.*)?\binterval\s*\(.*\)\s*", re.DOTALL)


def interval_of(key: str, sweep: IntervalSweep, text: str) -> Interval:
    """Return the interval that Hydra has read for a key.

    Parameters
    ----------
    key
        The key, for messages.
    sweep
        What Hydra has read.
    text
        What was written.

    Raises
    ------
    ConfigurationError
        When it is empty, not finite, or has an unknown tag.
    """
    unknown = sorted(sweep.tags - {LOG})
    if unknown:
        raise ConfigurationError(
            f"{key}={text}: the only tag of an interval is {LOG}, but got {', '.join(unknown)}"
        )
    assert sweep.start is not None
    assert sweep.end is not None
    low, high = sweep.start, sweep.end
    ends = _ENDS.search(text)
    if (
        ends
        and "float(" not in text
        and all(_WHOLE.fullmatch(end.strip()) for end in ends.groups())
    ):
        low, high = int(ends[1]), int(ends[2])
    interval = Interval(low=low, high=high, log=LOG in sweep.tags)
    if interval.fault is not None:
        raise ConfigurationError(f"{key}={text}: {interval.fault}")
    return interval


def written_interval(key: str, value: Any) -> Interval | None:
    """Return the interval that a text of ``param_grid`` holds, or None where it holds none.

    Raises
    ------
    ConfigurationError
        When the text begins as an interval does, but is none.
    """
    if not isinstance(value, str) or not _WRITTEN.fullmatch(value):
        return None
    try:
        read = OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException as error:
        raise ConfigurationError(
            f"param_grid.{key}={value}: is no interval(low,high) of numbers"
        ) from error
    if not isinstance(read, IntervalSweep):
        return None
    return interval_of(key, read, value)
