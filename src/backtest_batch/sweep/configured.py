"""The values of a recorded configuration, as they are typed."""

from collections.abc import Mapping
from typing import Any

from backtest_batch.comparison.levels import choice_name, format_value


def configured_text(config: Any, key: str) -> str | None:
    """Return a configured value as it is typed; None where there is none."""
    node = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    if isinstance(node, Mapping):
        return choice_name(str(node["_target_"])) if "_target_" in node else None
    return format_value(node)
