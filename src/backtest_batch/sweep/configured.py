"""A recorded command, and what may be given anew when it is run again or goes on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backtest_batch.arguments import PLAN_KEYS, Argument, Arguments, determines_results
from backtest_batch.comparison.levels import choice_name, format_value
from backtest_batch.errors import ConfigurationError
from backtest_batch.masking import is_masked, masked

ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class RecordedCommand:
    """A command that was recorded.

    How something is computed, recorded and called may be given anew; what is computed may not,
    but it may be repeated: a value counts, and not how it is written.

    Attributes
    ----------
    named
        What names it, such as ``resume=latest``.
    arguments
        What was asked for, without secrets.
    config
        The configuration that it composed; of what is swept it has the first value.
    """

    named: str
    arguments: Arguments
    config: Mapping[str, Any]

    def changes(self, given: Arguments) -> list[str]:
        """Return the given keys that would change what is computed, each with both values."""
        recorded = {item.key: item for item in self.arguments.keys}
        leaves = {leaf.key: leaf for item in self.arguments.keys for leaf in item.leaves}
        return sorted(
            f"{item.key} (given {masked(item.text).partition('=')[2] or 'nothing'}, "
            f"recorded {self._recorded_text(item.key, recorded)})"
            for item in given.keys
            # The keys of a batch file stand beside it.
            if determines_results(item.key)
            and item.key != "batch_file"
            and not all(self._is_same(leaf, recorded | leaves) for leaf in _parts(item, recorded))
        )

    def kept(self, given: Arguments, *, without: frozenset[str]) -> Arguments:
        """Return what of the recorded command stands beside what is given now.

        Parameters
        ----------
        given
            What is given now; it takes the place of the recorded.
        without
            Keys that counted for the recorded command alone.

        Raises
        ------
        ConfigurationError
            When a value held a secret, which is not recorded, and nothing stands in its place.
        """
        dropped = {item.key for item in given.keys} | without
        if os.environ.get("MLFLOW_TRACKING_URI"):
            dropped |= {
                item.key
                for item in self.arguments.keys
                if item.key == "tracking.uri" and is_masked(item.text)
            }
        kept = [item for item in self.arguments.keys if item.key not in dropped]
        lost = sorted(
            item.key
            for item in kept
            # A label may stay as it was recorded.
            if is_masked(item.text) and (item.key == "tracking.uri" or determines_results(item.key))
        )
        if lost:
            raise ConfigurationError(
                f"{self.named}: the values of these keys hold secrets, which are not recorded: "
                f"{', '.join(lost)}. Give them again."
            )
        return Arguments(keys=tuple(kept), options=self.arguments.sources_without(given))

    def _is_same(self, given: Argument, recorded: Mapping[str, Argument]) -> bool:
        then = recorded.get(given.key)
        shown = masked(given.text)
        if then is not None:
            if shown != given.text:  # a secret, which is not recorded
                return shown == then.text
            if given.prefix == then.prefix == "~" or _are_equal(given.value, then.value):
                return (given.prefix == "~") == (then.prefix == "~")
            if then.is_sweep or then.prefix == "~" or not self._is_one_run:
                return False
        # It may be given with the value that it had by default, or that another key gave it.
        configured = configured_value(self.config, given.key)
        return (
            configured is not ABSENT
            and given.prefix != "~"
            and not given.is_sweep
            and _are_equal(given.value, configured)
        )

    @property
    def _is_one_run(self) -> bool:
        """Whether its configuration is that of every run."""
        return not any(item.is_sweep or item.key in PLAN_KEYS for item in self.arguments.keys)

    def _recorded_text(self, key: str, recorded: Mapping[str, Argument]) -> str:
        if key in recorded:
            return recorded[key].value_text
        configured = configured_value(self.config, key)
        known = configured is not ABSENT and not isinstance(configured, Mapping)
        return format_value(configured) if known else "nothing"


def configured_value(config: Any, key: str) -> Any:
    """Return a configured value, of a node the name of its choice; ``ABSENT`` without one."""
    node = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return ABSENT
        node = node[part]
    if isinstance(node, Mapping) and "_target_" in node:
        return choice_name(str(node["_target_"]))
    return node


def _parts(item: Argument, recorded: Mapping[str, Argument]) -> list[Argument]:
    """Return what is compared: a mapping value by value, unless it was recorded as one."""
    return [item] if item.key in recorded or item.is_sweep else item.leaves


def _are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, str) != isinstance(other, str) and _is_plain(one) and _is_plain(other):
        # 2006 is a year where the key takes text.
        return format_value(one) == format_value(other)
    return bool(one == other)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
