"""Plain values of a configuration: as text, by the keys that lead to them, and as leaves.

Three texts differ on purpose and are made elsewhere: :func:`.arguments.quote` writes what Hydra's
grammar reads back, :func:`.parameter_values.value_as_typed` reads values of tables as well, and
:func:`.tables.cell_text` writes for people.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SCALARS = frozenset({str, int, float, bool, type(None)})
"""What nearly all values are. To see that first costs far less than to ask for a Mapping, which
matters where a run has a hundred values and a batch has ten thousand runs."""


def value_text(value: Any) -> str:
    """Return a value as it is typed: YAML's words, floats by repr, lists and mappings as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or isinstance(value, int):  # noqa: SIM101 - a union is slower
        return str(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def value_at(node: Any, path: Iterable[Any], absent: Any = None) -> Any:
    """Return the value that keys lead to in nested mappings, or ``absent`` where there is none.

    Parameters
    ----------
    node
        The mapping in which the first key is looked up.
    path
        The keys, from the outside in: ``"strategy.fast".split(".")``. Keys of a user's mapping may
        hold dots themselves, or be numbers.
    absent
        What stands for a missing value.
    """
    for key in path:
        if not isinstance(node, Mapping) or key not in node:
            return absent
        node = node[key]
    return node


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings under dotted keys; an empty mapping is a leaf."""
    for name, value in values.items():
        if type(value) not in SCALARS and isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
