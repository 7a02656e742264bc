"""Plain values of a configuration: as text, by path, as leaves; and shortened texts.

Three texts differ on purpose and are made elsewhere: :func:`.arguments.quote` writes what Hydra's
grammar reads back, :func:`.scenarios.value_as_typed` reads values of tables as well, and
:func:`.tables.cell_text` writes for people.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SCALARS = frozenset({str, int, float, bool, type(None)})
"""Types of nearly all values. Testing for them first costs far less than testing for a Mapping,
which matters when a run has a hundred values and a batch ten thousand runs."""


def value_text(value: Any) -> str:
    """Return a value as typed: YAML's words, floats by repr, lists and mappings as JSON."""
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
    """Return the value that keys lead to in nested mappings, or ``absent`` if there is none.

    Parameters
    ----------
    node
        The mapping in which the first key is looked up.
    path
        The keys, from the outside in: ``"strategy.fast".split(".")``. Keys of a user's mapping may
        hold dots themselves, or be numbers.
    absent
        Returned for a missing value.
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


RECORDED_MESSAGE = 10_000
"""Most characters of an error message that a run keeps; both ends of a longer one."""

RECORDED_TRACEBACK = 1_000_000
"""Most characters of a traceback that a run keeps; both ends of a longer one."""

REPORTED_MESSAGE = 2_000
"""Most characters of an error message that a report shows."""

REPORTED_VALUE = 200
"""Most characters of a value that a report shows; rankings.csv has all of them."""

LOGGED_MESSAGE = 300
"""Most characters of an error message in a line of the log."""


def cut(text: str, length: int) -> str:
    """Return ``text``, or its first ``length`` characters and an ellipsis."""
    return text if len(text) <= length else f"{text[:length]}…"


def cut_text(text: str, length: int = REPORTED_VALUE) -> str:
    """Return ``text``, or its beginning with a note of its length."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


def cut_in_the_middle(text: str, length: int) -> str:
    """Return ``text``, or its two ends with a note of how much is left out in between."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half:,} characters left out) ...\n{text[-half:]}"


def json_value(value: Any) -> Any:
    """Return a value that JSON cannot express in a form that it can."""
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)  # a number of NumPy
    return item() if callable(item) else str(value)


def merged_order(lists: Iterable[Iterable[str]]) -> list[str]:
    """Return the distinct names of several lists, those of each in its order, where that can be.

    What a list has before a name that an earlier one has too, comes before it.

    Parameters
    ----------
    lists
        Lists of names; equal ones are looked at once.
    """
    order: list[str] = []
    for names in dict.fromkeys(map(tuple, lists)):
        at = len(order)
        for name in reversed(names):
            if name in order:
                at = order.index(name)
            else:
                order.insert(at, name)
    return order
