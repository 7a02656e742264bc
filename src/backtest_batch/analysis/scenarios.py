"""Scenario axes and decision axes: conditions of a strategy, and choices about it."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest_batch.analysis.parameter_values import value_as_typed
from backtest_batch.config.checks import check_axes
from backtest_batch.config.schema import MARKET_KEYS, SCENARIO_KEYS
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import RunRecord, RunResult

ONE_SCENARIO = "base"
"""Label of the scenario of a batch that sweeps no scenario axis."""


@dataclass(frozen=True)
class AxisKinds:
    """Which swept keys say under what conditions a strategy is judged, and which are choices.

    Conditions are the scenario keys of the configuration; everything else that is swept is a
    choice, what is traded and when among it.

    Parameters
    ----------
    scenario, decision
        Keys that are moved the one way and the other. Each stands for the keys below it, too
        (``data.path`` is below ``data``); of several that apply to a key, the longest counts.

    Raises
    ------
    ConfigurationError
        When a key is moved both ways.
    """

    scenario: tuple[str, ...] = ()
    decision: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = list(check_axes(self.scenario, self.decision))
        if faults:
            raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "AxisKinds":
        """Return those that a root configuration names."""
        return cls(tuple(config["scenario_axes"]), tuple(config["decision_axes"]))

    def is_scenario(self, name: str) -> bool:
        """Return whether a key, such as ``commission_bps`` or ``data.path``, is a condition."""
        parts = name.split(".")
        for depth in range(len(parts), 0, -1):
            above = ".".join(parts[:depth])
            if above in self.scenario:
                return True
            if above in self.decision:
                return False
        return parts[0] in SCENARIO_KEYS

    def scenario_names(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the swept keys that are scenario axes, in the order given."""
        return tuple(name for name in names if self.is_scenario(name))

    def divides(self, name: str) -> bool:
        """Return whether a key that is named lies below this one."""
        below = f"{name}."
        return any(named.startswith(below) for named in (*self.scenario, *self.decision))

    def without_effect(self, names: Sequence[str]) -> list[str]:
        """Return one sentence for each key that is moved and that none of the swept keys is.

        A slip in a name would otherwise count conditions as choices, or choices as conditions,
        without a word.

        Parameters
        ----------
        names
            The swept keys.
        """
        said = []
        effects = {"scenario_axes": "it divides no runs", "decision_axes": "it joins no runs"}
        for key, axes in (("scenario_axes", self.scenario), ("decision_axes", self.decision)):
            for axis in axes:
                if any(f"{name}.".startswith(f"{axis}.") for name in names):
                    continue
                close = difflib.get_close_matches(axis, names, n=1)
                meant = f" (did you mean {close[0]}?)" if close else ""
                said.append(f"{key}={axis} is no swept parameter{meant}: {effects[key]}.")
        return said


def is_market(name: str) -> bool:
    """Return whether a key says what is traded, or when."""
    return name.partition(".")[0] in MARKET_KEYS


def scenario_label(values: Mapping[str, Any]) -> str:
    """Return the name of a scenario, such as ``commission_bps=0.5 max_gross_exposure=0.8``.

    Parameters
    ----------
    values
        Values of the swept scenario axes, in axis order; without any the label is ``base``.
    """
    words = [f"{name}={value_as_typed(value)}" for name, value in values.items()]
    return " ".join(words) or ONE_SCENARIO


def scaled_text(cap: str, value: float | None, scaled: int, n_decisions: int) -> str:
    """Return ``max_gross_exposure=1.0 scaled down 131 of 390 decisions``."""
    return f"{cap}={value} scaled down {scaled} of {n_decisions} decisions"


def cap_notes(records: Iterable[RunRecord], swept: Collection[str]) -> list[str]:
    """Say which caps made decisions smaller, in one line for the whole batch.

    A cap that is swept is what the batch asks about; of that nothing is said.

    Parameters
    ----------
    records
        The runs.
    swept
        The swept keys.
    """
    found: dict[str, list[tuple[int, Mapping[str, Any], str, int]]] = {}
    for record in records:
        if isinstance(record.outcome, RunResult):
            for cap, scaled in record.outcome.scaled_by.items():
                if scaled and cap not in swept:
                    entry = (scaled, record.spec.config, record.spec.run_id)
                    found.setdefault(cap, []).append((*entry, record.outcome.n_decisions))
    parts = []
    for cap, entries in found.items():
        scaled, config, run_id, n_decisions = max(entries, key=lambda entry: entry[0])
        text = f"{scaled_text(cap, config[cap], scaled, n_decisions)} of {run_id}"
        others = len(entries) - 1
        also = f", and some of {others} more run{'s' if others > 1 else ''}" if others else ""
        parts.append(text + also)
    return ["; ".join(parts)] if parts else []
