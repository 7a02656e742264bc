"""Arguments as Hydra's grammar reads them, each once: a plain value, or the values of a sweep."""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, overload

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    Override,
    OverrideType,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException

from backtest_batch.arguments import Argument, Arguments, argument_key, argument_text, divide
from backtest_batch.errors import ConfigurationError

PREFIXES = {
    OverrideType.CHANGE: "",
    OverrideType.ADD: "+",
    OverrideType.FORCE_ADD: "++",
    OverrideType.DEL: "~",
}


@dataclass(frozen=True, kw_only=True)
class RangeValues(Sequence[int | float]):
    """The values of ``range(start, stop, step)``, computed in decimals when they are asked for.

    Repeated binary addition would make 0.7999999999999999 of range(0.6,1.0,0.1).
    """

    start: Decimal
    step: Decimal
    n_values: int
    whole: bool

    def __len__(self) -> int:
        return self.n_values

    @overload
    def __getitem__(self, position: int) -> int | float: ...
    @overload
    def __getitem__(self, position: slice) -> "list[int | float]": ...
    def __getitem__(self, position: int | slice) -> "int | float | list[int | float]":
        if isinstance(position, slice):
            return [self[place] for place in range(*position.indices(self.n_values))]
        value = self.start + self.step * range(self.n_values)[position]
        return int(value) if self.whole else float(value)


@dataclass(frozen=True, eq=False)
class Swept:
    """The values of a sweep that was typed; they are made when they are asked for.

    Two are equal when they give the same values in the same order, however they are written.
    """

    override: Override

    @property
    def text(self) -> str:
        """The sweep as it was typed."""
        return argument_text(str(self.override.input_line))

    def values(self, loader: ConfigLoader | None = None) -> Sequence[Any]:
        """Return the values; those of a ``glob`` are choices that the loader knows.

        Raises
        ------
        ConfigurationError
            When there is none, or no end of them.
        """
        self.override.config_loader = loader
        return _sweep_values(self.override)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Swept):
            return NotImplemented
        if self.text == other.text:
            return True
        if any(isinstance(item.override.value(), Glob) for item in (self, other)):
            return False
        try:
            mine, others = self.values(), other.values()
        except ConfigurationError:
            return False
        if isinstance(mine, RangeValues) and isinstance(others, RangeValues):
            return mine == others
        return len(mine) == len(others) and all(
            one == another and isinstance(one, bool) == isinstance(another, bool)
            for one, another in zip(mine, others, strict=True)
        )

    def __hash__(self) -> int:
        return hash(self.override.key_or_group)


def read_arguments(texts: Sequence[str]) -> Arguments:
    """Return what a command line asks for: its options, and its keys with their values."""
    options, keys = divide(texts)
    return Arguments(options=tuple(options), keys=tuple(read_keys(keys)))


def read_keys(texts: Iterable[str]) -> list[Argument]:
    """Return keys with their values; what Hydra cannot read is left as text, for it to refuse."""
    parser = OverridesParser.create()
    found: list[Argument] = []
    for text in texts:
        try:
            override = parser.parse_override(text)
        except HydraException:
            found.append(Argument(key=argument_key(text), value=argument_text(text), text=text))
            continue
        override.input_line = text
        is_sweep = override.is_sweep_override()
        argument = Argument(
            key=override.key_or_group,
            value=Swept(override) if is_sweep else override.value(),
            text=text,
            prefix=PREFIXES[override.type],
            is_sweep=is_sweep,
        )
        found.append(argument)
    return found


def _sweep_values(override: Override) -> Sequence[Any]:
    if not override.is_discrete_sweep():
        raise ConfigurationError(
            f"{override.input_line}: an interval has no end of values; use range(start,stop,step) "
            "or a list"
        )
    swept = override.value()
    values: Sequence[Any]
    if isinstance(swept, RangeSweep):
        values = _range_values(swept, str(override.input_line))
    else:
        values = [_plain(value) for value in override.sweep_iterator()]
    if not values:
        raise ConfigurationError(f"{override.input_line}: holds no value; nothing to run")
    return values


def _range_values(sweep: RangeSweep, text: str) -> RangeValues:
    """Return the values of ``range(start, stop, step)``, counted and not yet made.

    Raises
    ------
    ConfigurationError
        When there is no end of them, or no number of them that a computer knows.
    """
    given = (sweep.start or 0, sweep.stop, sweep.step)
    start, stop, step = (Decimal(str(part)) for part in given)
    if not all(part.is_finite() for part in (start, stop, step)):
        raise ConfigurationError(
            f"{text}: start, stop and step must be finite, but got start={start}, stop={stop}, "
            f"step={step}"
        )
    if step == 0:
        raise ConfigurationError(f"{text}: `step != 0` must hold, but got step=0")
    count = max(0, math.ceil((Fraction(stop) - Fraction(start)) / Fraction(step)))
    if count > sys.maxsize:
        raise ConfigurationError(f"{text}: holds more values than can be counted; nothing was run")
    return RangeValues(
        start=start,
        step=step,
        n_values=count,
        whole=all(isinstance(part, int) for part in given),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value
