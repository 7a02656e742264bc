"""Which configurations are allowed: values, bounds, and keys that contradict each other.

Hydra converts text from the command line into the types of the schema. Values from Python have not
been converted; here they are read by the same rules and checked against the same bounds.

A file name that is not UTF-8, and half of a character in a JSON file, are texts in Python, but
cannot be encoded. They would fail one run after another, or the whole batch at its end.
"""

import contextlib
import difflib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, get_args

from backtest_batch.config.key import Bounds, are_in_order, date_text
from backtest_batch.config.schema import (
    NESTED,
    BatchConfig,
    CompareConfig,
    MonitorConfig,
    MonitorTracking,
    SearchConfig,
    StatisticsConfig,
    VerdictConfig,
    VerdictTracking,
)
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
    """Return the values of root keys, each in its type.

    Parameters
    ----------
    values
        Numbers, text and dates by key. Text is read as a number where the key is one, as Hydra
        does; true and false are not numbers, and 1.5 is not a count. A date may be text, a year, a
        date, a datetime or a numpy.datetime64.

    Raises
    ------
    ConfigurationError
        Lists every value of the wrong kind or out of bounds, and those that contradict each other.
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
    """Yield contradictions between conditions that are each within their bounds."""
    if values.get("execution_lag") == 0 and values.get("execution_price") == "open":
        yield Fault(
            key="execution_lag",
            value=0,
            allowed="must be >= 1 with execution_price=open: a decision is made with the close of "
            "its bar, and cannot be executed at the open before it",
        )


def _read(value: Any, rule: _Rule) -> Any:
    """Return a value in the type of its key; a ValueError says what it must be."""
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
    """Name the type of a value where its text does not show it."""
    return "" if isinstance(value, str) else f", but got a {type(value).__name__}"


def config_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the values of a resolved root configuration.

    Parameters
    ----------
    config
        Plain values by root key, as composed and type-checked by Hydra. The nodes ``data`` and
        ``strategy`` are not checked.
    """
    faults = list(check_keys(config))
    yield from faults
    if faults:
        return
    yield from _check_bounds(BatchConfig, config, prefix="")
    for name, node in NESTED.items():
        yield from _check_bounds(node, config[name], prefix=f"{name}.")
    yield from contradictions(config)
    if not are_in_order(config["start_date"], config["end_date"]):
        yield Fault(
            key="start_date",
            value=config["start_date"],
            allowed="`start_date < end_date` must hold, but got "
            f"start_date={config['start_date']}, end_date={config['end_date']}",
        )
    yield from check_axes(config["scenario_axes"], config["decision_axes"])
    if config["verify"] and config["best"] is None:
        yield Fault(
            key="verify",
            value="true",
            allowed="needs best=path/to/best_params.json, whose first run is verified",
        )


def check_keys(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield surplus and missing keys of a configuration: ``+key=...``, ``~key``."""
    yield from _check_names(BatchConfig, config, prefix="")
    for name, node in NESTED.items():
        if isinstance(config.get(name), Mapping):
            yield from _check_names(node, config[name], prefix=f"{name}.")


def search_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the keys of the search of a batch."""
    yield from _check_bounds(SearchConfig, config["search"], prefix="search.")


def grid_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the keys of a batch that its runs do not have."""
    yield from _check_bounds(StatisticsConfig, config["statistics"], prefix="statistics.")
    bounds = _rules()["invalid"].bounds
    if bounds is not None and not bounds.admits(config["invalid"]):
        yield Fault(key="invalid", value=config["invalid"], allowed=str(bounds))


def check_axes(scenario_axes: Collection[str], decision_axes: Collection[str]) -> Iterator[Fault]:
    """Yield keys that are named both as conditions and as choices."""
    for name in dict.fromkeys(decision_axes):
        if name in scenario_axes:
            allowed = "is in scenario_axes, too; a key is a condition or a choice, never both"
            yield Fault(key="decision_axes", value=name, allowed=allowed)


def check_compare(config: CompareConfig) -> Iterator[Fault]:
    """Yield what is wrong with the values of the comparison command."""
    yield from _check_bounds(CompareConfig, vars(config), prefix="")
    yield from check_axes(config.scenario_axes, config.decision_axes)
    statuses = ("FINISHED", "FAILED", "KILLED", "RUNNING")
    for status in config.statuses:
        if status.upper() not in statuses:
            allowed = "must be one of " + ", ".join(statuses)
            yield Fault(key="statuses", value=status, allowed=allowed)


def check_verdict(config: VerdictConfig) -> Iterator[Fault]:
    """Yield what is wrong with the values of the verdict command."""
    yield from _check_bounds(VerdictConfig, vars(config), prefix="")
    yield from _check_bounds(VerdictTracking, vars(config.tracking), prefix="tracking.")
    yield from _check_bounds(StatisticsConfig, vars(config.statistics), prefix="statistics.")
    yield from check_axes(config.scenario_axes, config.decision_axes)
    if config.options is not None and not isinstance(config.options, Mapping):
        allowed = "must be a mapping, such as {timestamp_column: day}"
        yield Fault(key="options", value=config.options, allowed=allowed)


def check_monitor(config: MonitorConfig) -> Iterator[Fault]:
    """Yield what is wrong with the values of the monitor command."""
    yield from _check_bounds(MonitorConfig, vars(config), prefix="")
    yield from _check_bounds(MonitorTracking, vars(config.tracking), prefix="tracking.")


def require_selection(
    statuses: Collection[str], scenario_axes: Collection[str], decision_axes: Collection[str]
) -> None:
    """Check a selection of runs as the comparison command does.

    Raises
    ------
    ConfigurationError
        When there is no such status, or a key is named both as a condition and as a choice.
    """
    asked = CompareConfig(
        statuses=list(statuses),
        scenario_axes=list(scenario_axes),
        decision_axes=list(decision_axes),
    )
    faults = list(check_compare(asked))
    if faults:
        raise ConfigurationError("\n".join(map(str, faults)), faults)


def _check_names(schema: type, values: Mapping[str, Any], *, prefix: str) -> Iterator[Fault]:
    known = _names(schema)
    if values.keys() == known:
        return
    for name in values:
        if name not in known:
            close = close_names(str(name), sorted(known))
            hint = f"; did you mean {' or '.join(prefix + item for item in close)}?"
            allowed = "is not a known key" + (hint if close else "")
            yield Fault(key=f"{prefix}{name}", value=values[name], allowed=allowed)
    for name in sorted(known - values.keys()):
        yield Fault(key=prefix + name, value="(deleted)", allowed="cannot be left out")


def close_names(name: str, known: Sequence[str]) -> list[str]:
    """Return the known names that a name may stand for; only the closest ones.

    For ``comission_bps``, ``decision_axes`` would not help.
    """
    close = difflib.get_close_matches(name, known, n=3)
    matcher = difflib.SequenceMatcher(b=name)

    def likeness(item: str) -> float:
        matcher.set_seq1(item)
        return matcher.ratio()

    return [item for item in close if likeness(item) > likeness(close[0]) - 0.2]


@cache
def _names(schema: type) -> frozenset[str]:
    return frozenset(item.name for item in fields(schema))


def _check_bounds(schema: type, values: Mapping[str, Any], *, prefix: str) -> Iterator[Fault]:
    for item in fields(schema):
        bounds = item.metadata["bounds"]
        if bounds is not None and not bounds.admits(values[item.name]):
            value = values[item.name]
            yield Fault(key=prefix + item.name, value=value, allowed=bounds.wanted(value))


ALLOWED = (
    "is not UTF-8 text and cannot be recorded; rename the file or folder, or write it in UTF-8"
)


def is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_text(value: str) -> str:
    r"""Return a text that can be written: what cannot be encoded is escaped, as in ``\udce9``."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def require_texts(values: Iterable[tuple[str, Any]]) -> None:
    """Refuse values with texts that cannot be written.

    Parameters
    ----------
    values
        Keys and plain values.

    Raises
    ------
    ConfigurationError
        When there is one; the message names key and value of all of them.
    """
    faults = [
        Fault(key=as_text(key), value=as_text(text), allowed=ALLOWED)
        for key, value in values
        if (text := _first_unwritable(key, value)) is not None
    ]
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)


def require_written_arguments(arguments: Iterable[str]) -> None:
    """Refuse arguments, and a working directory, that cannot be written; see above.

    Raises
    ------
    ConfigurationError
        When there is one.
    """
    parts = (item.partition("=") for item in arguments)
    require_texts(
        (key.lstrip("+~") if equals else "argument", text or key) for key, equals, text in parts
    )
    with contextlib.suppress(OSError):
        require_texts([("the working directory", str(Path.cwd()))])


def _first_unwritable(key: str, value: Any) -> str | None:
    if not is_text(key):
        return str(value)
    if isinstance(value, str):
        return None if is_text(value) else value
    if isinstance(value, Mapping):
        found = (_first_unwritable(str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        found = (_first_unwritable("", item) for item in value)
    else:
        return None
    return next((text for text in found if text is not None), None)
