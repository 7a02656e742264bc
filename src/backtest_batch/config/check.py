"""The one place that knows which configurations are allowed."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from backtest_batch.config.key import are_in_order
from backtest_batch.config.schema import NESTED, BatchConfig, CompareConfig
from backtest_batch.config.values import contradictions
from backtest_batch.errors import ConfigurationError, Fault


def config_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the values of a resolved root configuration.

    Parameters
    ----------
    config
        Plain values by root key, as composed and type-checked by Hydra. The nodes ``data`` and
        ``strategy`` are not looked into.
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
    """Yield the keys that a configuration has too many or too few: ``+key=...``, ``~key``."""
    yield from _check_names(BatchConfig, config, prefix="")
    for name, node in NESTED.items():
        if isinstance(config.get(name), Mapping):
            yield from _check_names(node, config[name], prefix=f"{name}.")


def check_axes(scenario_axes: Collection[str], decision_axes: Collection[str]) -> Iterator[Fault]:
    """Yield the keys that are named both as conditions and as choices."""
    for name in dict.fromkeys(decision_axes):
        if name in scenario_axes:
            allowed = "stands in scenario_axes too; a key is a condition or a choice, never both"
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


def require_selection(
    statuses: Collection[str], scenario_axes: Collection[str], decision_axes: Collection[str]
) -> None:
    """Refuse of a selection of runs what the comparison command refuses.

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
    """Return the known names that a name may be meant as, but none much further off than another.

    To somebody who typed ``comission_bps``, ``decision_axes`` is of no use.
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
