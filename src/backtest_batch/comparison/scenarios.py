"""Scenario axes and decision axes: conditions of a strategy, and choices about it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backtest_batch.comparison.levels import format_value
from backtest_batch.config.schema import SCENARIO_KEYS

ONE_SCENARIO = "base"
"""Label of the scenario of a batch that sweeps no scenario axis."""


def is_scenario_axis(name: str, scenario_axes: Iterable[str] = ()) -> bool:
    """Return whether a swept key says under which conditions a strategy is judged.

    Parameters
    ----------
    name
        A swept key, such as ``commission_bps``, ``data.path`` or ``strategy.fast``.
    scenario_axes
        Further keys to count as scenario axes; each stands for the keys below it, too.

    Returns
    -------
    bool
        True for the scenario keys of the configuration, for ``scenario_axes`` and for everything
        below one of them (``data.path`` is below ``data``).
    """
    parts = name.split(".")
    above = {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return not above.isdisjoint({*SCENARIO_KEYS, *scenario_axes})


def scenario_names(names: Iterable[str], scenario_axes: Iterable[str] = ()) -> tuple[str, ...]:
    """Return those of the swept keys that are scenario axes, in the order given.

    Parameters
    ----------
    names
        The swept keys.
    scenario_axes
        Further keys to count as scenario axes.
    """
    further = tuple(scenario_axes)
    return tuple(name for name in names if is_scenario_axis(name, further))


def axes_without_effect(names: Sequence[str], scenario_axes: Iterable[str]) -> list[str]:
    """Return one sentence for each further scenario axis that none of the swept keys is.

    A slip in a name would otherwise count conditions as choices without a word.

    Parameters
    ----------
    names
        The swept keys.
    scenario_axes
        Further keys to count as scenario axes.
    """
    said = []
    for axis in scenario_axes:
        if any(f"{name}.".startswith(f"{axis}.") for name in names):
            continue
        close = difflib.get_close_matches(axis, names, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        said.append(f"scenario_axes={axis} is no swept parameter{meant}: it divides no runs.")
    return said


def scenario_label(values: Mapping[str, Any]) -> str:
    """Return the name of a scenario, such as ``commission_bps=0.5 max_gross_exposure=0.8``.

    Parameters
    ----------
    values
        Values of the swept scenario axes, in axis order; without any the label is ``base``.
    """
    words = [f"{name}={format_value(value)}" for name, value in values.items()]
    return " ".join(words) or ONE_SCENARIO
