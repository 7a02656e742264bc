"""Values of root keys as Python gives them: the one check for the command and the API.

Hydra makes text from the command line into the types of the schema. A value that a Python caller
gives has been through none of that; here it is read by the same rules and held to the same bounds.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from typing import Any, NamedTuple, get_args

from backtest_batch.config.key import Bounds, date_text
from backtest_batch.config.schema import BatchConfig
from backtest_batch.errors import ConfigurationError, Fault


class _Rule(NamedTuple):
    kind: type
    optional: bool
    bounds: Bounds | None
    default: Any


@cache
def _rules() -> Mapping[str, _Rule]:
    rules = {}
    for item in fields(BatchConfig):
        kinds = get_args(item.type) or (item.type,)
        kind = next(one for one in kinds if one is not type(None))
        rules[item.name] = _Rule(kind, type(None) in kinds, item.metadata["bounds"], item.default)
    return rules


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of root keys, each in the type of the schema.

    Parameters
    ----------
    values
        Numbers, text and dates by key. Text is read as a number where the key is one, as Hydra
        does; true and false are no numbers, and 1.5 is no count. A date may be text, a year, a
        date, a datetime or a numpy.datetime64.

    Raises
    ------
    ConfigurationError
        With every value that is of another kind or out of its bounds, and with those that
        contradict each other.
    """
    rules = _rules()
    read: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in values.items():
        rule = rules[key]
        try:
            read[key] = value if type(value) is rule.kind else _read(value, rule)
        except ValueError as error:
            faults.append(Fault(key=key, value=value, allowed=str(error)))
            continue
        if rule.bounds is not None and not rule.bounds.admits(read[key]):
            faults.append(Fault(key=key, value=value, allowed=rule.bounds.wanted(read[key])))
    faults += [] if faults else contradictions(read)
    if faults:
        raise ConfigurationError("\n".join(f"{fault}." for fault in faults), faults)
    return read


def default(key: str) -> Any:
    """Return the default of a root key."""
    return _rules()[key].default


def contradictions(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong between conditions that are each within their bounds."""
    if values.get("execution_lag") == 0 and values.get("execution_price") == "open":
        yield Fault(
            key="execution_lag",
            value=0,
            allowed="must be >= 1 with execution_price=open: a decision is made with the close of "
            "its bar, and cannot be executed at the open before it",
        )


def _read(value: Any, rule: _Rule) -> Any:
    """Return a value in the type of its key; ValueError says what it must be."""
    if value is None:
        if rule.optional:
            return None
        raise ValueError("must be given")
    if rule.bounds is not None and rule.bounds.date:
        text = date_text(value)
        return str(value) if text is None else text
    if rule.kind is float:
        return _number(value)
    if rule.kind is int:
        return _count(value)
    return value


def _number(value: Any) -> float:
    if not isinstance(value, bool) and isinstance(value, Real | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"must be a number{_of(value)}")


def _count(value: Any) -> int:
    if not isinstance(value, bool) and isinstance(value, Integral | str):
        try:
            return int(value)
        except ValueError:
            pass
    found = math.nan if isinstance(value, str) or not isinstance(value, Real) else float(value)
    raise ValueError(f"must be a whole number{'' if math.isfinite(found) else _of(value)}")


def _of(value: Any) -> str:
    """Say of which kind a value is, where its text alone would not."""
    return "" if isinstance(value, str) else f", but got a {type(value).__name__}"
