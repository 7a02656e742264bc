"""What a run tries, as the statistics count it."""

from collections.abc import Mapping, Sequence
from typing import Any

from backtest_batch.batch.fingerprint import digest
from backtest_batch.config.key import Role
from backtest_batch.config.schema import roles


def decision_label(config: Mapping[str, Any], scenario_axes: Sequence[str] = ()) -> str:
    """Return a hash of what the researcher chose: equal choices, equal label.

    Parameters
    ----------
    config
        A resolved configuration.
    scenario_axes
        Keys that count as scenario although their role is decision.
    """
    chosen = {name: config[name] for name, role in roles().items() if role is Role.DECISION}
    for axis in scenario_axes:
        root, _, rest = axis.partition(".")
        if root in chosen and not rest:
            del chosen[root]
        elif root in chosen and isinstance(chosen[root], Mapping):
            chosen[root] = {key: item for key, item in chosen[root].items() if key != rest}
    return digest(chosen)


def source_label(config: Mapping[str, Any]) -> str:
    """Return a hash of where the prices come from, whatever part of them is used."""
    node = config["data"]
    return digest({key: node.get(key) for key in ("_target_", "path", "seed")})
