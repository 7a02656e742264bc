"""Reading ``walk_forward`` from the configuration, with checks of types, ranges and consistency."""

import difflib
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import pandas as pd

from backtest_batch.core.data.panel import span
from backtest_batch.core.offsets import bars_of, parse_offset
from backtest_batch.core.splits import (
    DAILY_BARS_PER_YEAR,
    DATED_SHARE,
    ExplicitSplit,
    WalkForwardSettings,
    make_splits,
    needed_bars,
)
from backtest_batch.errors import ConfigurationError, Fault

NODE = "walk_forward"

METHODS = ("none", "rolling", "expanding", "combinatorial")

_SIZES = ("train_size", "test_size", "step_size")
_MOVING_KEYS = (
    "method",
    *_SIZES,
    "purged_size",
    "min_train_size",
    "min_test_size",
    "max_splits",
    "overlap_allowed",
    "splits",
    "log_split_runs",
)
KEYS: Mapping[str, tuple[str, ...]] = {
    "none": ("method",),
    "rolling": _MOVING_KEYS,
    "expanding": _MOVING_KEYS,
    "combinatorial": (
        "method",
        "n_folds",
        "n_test_folds",
        "purged_size",
        "embargo_size",
        "min_train_size",
        "min_test_size",
        "log_split_runs",
    ),
}
"""The keys that each method knows."""

MAX_COMBINATIONS = 10_000
"""More combinations of test folds than this are refused: each is a split of every run."""

_ARRANGEMENT = "must be a list of {train: [first date, last date], test: [first date, last date]}"


def parse(
    mapping: Mapping[str, Any] | None,
    index: pd.DatetimeIndex,
    periods_per_year: float,
    execution_lag: int,
) -> WalkForwardSettings | None:
    """Read and check the settings of a walk-forward.

    Parameters
    ----------
    mapping
        The node ``walk_forward`` as plain values; absent and null keys take their defaults.
    index
        Timestamps of the return bars that all runs have in common.
    periods_per_year
        Bars per year; the minimum sizes are given in daily bars and scaled with it. The default
        ``train_size`` is three years of bars and the default ``test_size`` half a year.
    execution_lag
        Bars between decision and execution, the default of ``purged_size``.

    Returns
    -------
    WalkForwardSettings or None
        None for the method ``none``.

    Raises
    ------
    ConfigurationError
        With every fault: unknown keys, wrong types, sizes out of range or above the data, unknown
        offsets, dates that overlap, too little data for one split.
    """
    given = {str(key): value for key, value in (mapping or {}).items() if value is not None}
    method = given.get("method", "none")
    if method not in METHODS:
        allowed = "must be one of " + ", ".join(METHODS)
        raise _error([Fault(key=f"{NODE}.method", value=method, allowed=allowed)])
    reader = _Reader(given, method)
    reader.check_names()
    if method == "none":
        reader.raise_faults()
        return None
    scale = periods_per_year / DAILY_BARS_PER_YEAR
    common: dict[str, Any] = {
        "method": method,
        "purged_size": reader.whole("purged_size", execution_lag, at_least=0),
        "min_train_size": _scaled(reader.whole("min_train_size", 252, at_least=1), scale),
        "min_test_size": _scaled(reader.whole("min_test_size", 63, at_least=1), scale),
        "log_split_runs": reader.switch("log_split_runs"),
    }
    if method == "combinatorial":
        settings = WalkForwardSettings(
            **common,
            n_folds=reader.whole("n_folds", 10, at_least=3),
            n_test_folds=reader.whole("n_test_folds", 2, at_least=1),
            embargo_size=reader.whole("embargo_size", 0, at_least=0),
        )
        reader.raise_faults()
        reader.faults += _combinatorial_faults(settings)
    else:
        test_size = reader.length("test_size", _bars(periods_per_year / 2))
        settings = WalkForwardSettings(
            **common,
            train_size=reader.length("train_size", _bars(periods_per_year * 3)),
            test_size=test_size,
            step_size=reader.length("step_size", test_size),
            max_splits=reader.whole("max_splits", 1, at_least=1) if "max_splits" in given else None,
            overlap_allowed=reader.switch("overlap_allowed") or False,
            splits=reader.explicit_splits(index),
        )
        reader.raise_faults()
        if not settings.splits:
            reader.faults += _size_faults(settings, len(index), periods_per_year)
    reader.raise_faults()
    make_splits(settings, index, periods_per_year)
    return settings


def _bars(number: float) -> int:
    return max(1, math.floor(number + 0.5))


def _scaled(daily_bars: int, scale: float) -> int:
    return _bars(daily_bars * scale)


def _error(faults: Sequence[Fault]) -> ConfigurationError:
    return ConfigurationError("\n".join(f"{fault}." for fault in faults), faults)


class _Reader:
    """Takes values out of the mapping and collects what is wrong with them."""

    def __init__(self, given: Mapping[str, Any], method: str) -> None:
        self.given = given
        self.method = method
        self.faults: list[Fault] = []

    def fault(self, name: str, allowed: str) -> None:
        self.faults.append(Fault(key=f"{NODE}.{name}", value=self.given[name], allowed=allowed))

    def raise_faults(self) -> None:
        if self.faults:
            raise _error(self.faults)

    def check_names(self) -> None:
        known = KEYS[self.method]
        for name in self.given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=2)
                meant = f"did you mean {' or '.join(close)}? " if close else ""
                keys = ", ".join(known[1:]) or "no other keys"
                self.fault(name, f"{meant}{NODE}={self.method} takes {keys}")

    def whole(self, name: str, default: int, *, at_least: int) -> int:
        value = self.given.get(name, default)
        number = _as_whole(value)
        if number is None:
            self.fault(name, "must be a whole number")
            return default
        if number < at_least:
            self.fault(name, f"`{name} >= {at_least}` must hold, but got {name}={number}")
            return default
        return number

    def switch(self, name: str) -> bool | None:
        value = self.given.get(name)
        if value is None or isinstance(value, bool):
            return value
        self.fault(name, "must be true or false")
        return None

    def length(self, name: str, default: int | str) -> int | str:
        """Take a number of bars or a calendar length."""
        value = self.given.get(name, default)
        number = _as_whole(value)
        if number is not None:
            if number < 1:
                self.fault(name, f"`{name} >= 1` must hold, but got {name}={number}")
                return default
            return number
        if not isinstance(value, str):
            self.fault(name, "must be a number of bars or a calendar length such as 3YE or 6ME")
            return default
        try:
            parse_offset(value)
        except ValueError as error:
            self.fault(
                name, f"must be a number of bars or a calendar length such as 3YE or 6ME; {error}"
            )
            return default
        return value

    def explicit_splits(self, index: pd.DatetimeIndex) -> tuple[ExplicitSplit, ...]:
        value = self.given.get("splits")
        if value is None:
            return ()
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            self.fault("splits", f"{_ARRANGEMENT}, with at least one entry")
            return ()
        for name in _SIZES:
            if name in self.given:
                self.fault(name, "cannot stand beside splits, which give the windows by dates")
        splits = []
        for number, item in enumerate(value):
            try:
                splits.append(_explicit_split(item, index))
            except ConfigurationError as error:
                key = f"{NODE}.splits[{number}]"
                self.faults.append(Fault(key=key, value=item, allowed=str(error)))
        return tuple(splits)


def _as_whole(value: Any) -> int | None:
    """Return a whole number, or text that holds one, as an int; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    if isinstance(value, Real) and float(value).is_integer():
        return int(float(value))
    return None


def _explicit_split(item: Any, index: pd.DatetimeIndex) -> ExplicitSplit:
    if not isinstance(item, Mapping) or set(item) != {"train", "test"}:
        raise ConfigurationError(_ARRANGEMENT)
    windows = {}
    for name in ("train", "test"):
        dates = item[name]
        if not isinstance(dates, Sequence) or isinstance(dates, str) or len(dates) != 2:
            raise ConfigurationError(f"{name} must be [first date, last date], but got {dates}")
        first, last = (str(date) for date in dates)
        if span(last, index)[1] <= span(first, index)[0]:
            raise ConfigurationError(
                f"`first date <= last date` must hold in {name}, but got {first} and {last}"
            )
        windows[name] = (first, last)
    return ExplicitSplit(train=windows["train"], test=windows["test"])


def _size_faults(
    settings: WalkForwardSettings, n_bars: int, periods_per_year: float
) -> list[Fault]:
    """Return which sizes contradict each other or the data."""
    faults: list[Fault] = []

    def nominal(size: int | str) -> int:
        return size if isinstance(size, int) else bars_of(parse_offset(size), periods_per_year)

    def shown(name: str, size: int | str) -> str:
        about = "" if isinstance(size, int) else f" (about {nominal(size)} bars)"
        return f"{name}={size}{about}"

    def fault(name: str, value: Any, text: str) -> None:
        faults.append(Fault(key=f"{NODE}.{name}", value=value, allowed=text))

    sizes = {"train_size": settings.train_size, "test_size": settings.test_size}
    for name, size in sizes.items():
        if nominal(size) > n_bars:
            fault(
                name,
                size,
                f"`{name} <= return bars` must hold, but got {shown(name, size)}, "
                f"return bars={n_bars}; {needed_bars(settings, periods_per_year)}",
            )
    if settings.purged_size >= nominal(settings.train_size):
        fault(
            "purged_size",
            settings.purged_size,
            f"`purged_size < train_size` must hold, but got purged_size={settings.purged_size}, "
            f"{shown('train_size', settings.train_size)}",
        )
    for name, size, minimum in (
        ("train_size", settings.train_size, settings.min_train_size),
        ("test_size", settings.test_size, settings.min_test_size),
    ):
        if nominal(size) < minimum * (1 if isinstance(size, int) else DATED_SHARE):
            fault(
                name,
                size,
                f"`min_{name} <= {name}` must hold, but got min_{name}={minimum} bars, "
                f"{shown(name, size)}",
            )
    if isinstance(settings.step_size, str) != isinstance(settings.test_size, str):
        fault(
            "step_size",
            settings.step_size,
            "step_size and test_size must both be bars or both calendar lengths, but got "
            f"step_size={settings.step_size}, test_size={settings.test_size}",
        )
    elif nominal(settings.step_size) < nominal(settings.test_size) and not settings.overlap_allowed:
        fault(
            "step_size",
            settings.step_size,
            "`step_size >= test_size` must hold without overlap_allowed=true, but got "
            f"{shown('step_size', settings.step_size)}, {shown('test_size', settings.test_size)}",
        )
    return faults


def _combinatorial_faults(settings: WalkForwardSettings) -> list[Fault]:
    n_folds, n_test_folds = settings.n_folds, settings.n_test_folds
    values = f"n_test_folds={n_test_folds}, n_folds={n_folds}"
    if n_test_folds >= n_folds:
        text = f"`n_test_folds < n_folds` must hold, but got {values}"
    elif math.comb(n_folds, n_test_folds) > MAX_COMBINATIONS:
        text = (
            f"`number of combinations <= {MAX_COMBINATIONS}` must hold, but {values} make "
            f"{math.comb(n_folds, n_test_folds)}"
        )
    else:
        return []
    return [Fault(key=f"{NODE}.n_test_folds", value=n_test_folds, allowed=text)]
