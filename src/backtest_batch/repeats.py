"""Refuse what is given twice: of two values of one key, one would be lost without a word."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from backtest_batch.assignments import flatten
from backtest_batch.config.schema import NESTED, NODES, SWEEPABLE
from backtest_batch.errors import ConfigurationError

CHOICES = frozenset({*NODES, *NESTED, "experiment"})
"""Root keys of which a text chooses a file, beside which values may stand."""
CHOICE = "(choice)"

Path = tuple[Any, ...]


def refuse_repeats(given: Iterable[tuple[str, Any]], *, where: str = "", grid: Any = None) -> None:
    """Refuse keys that have two values; values of one node in several places are one node.

    Parameters
    ----------
    given
        Keys and plain values, in the order in which they were given.
    where
        What the message begins with.
    grid
        A ``param_grid`` that stands beside them.

    Raises
    ------
    ConfigurationError
        When a key has two values, or one as a whole and others for its parts; all are named.
    """
    leaves: dict[Path, Any] = {}
    faults = []
    for key, value in given:
        for path, leaf in _leaves(tuple(key.split(".")), value):
            if path in leaves and not _same(leaves[path], leaf):
                faults.append(_twice(path, leaves[path], leaf))
            leaves.setdefault(path, leaf)
    faults += [
        f"{_name(path[:length])} is given as a whole, and {_name(path)} beside it: leave one out"
        for path in leaves
        for length in range(1, len(path))
        if path[:length] in leaves
    ]
    if isinstance(grid, Mapping):
        faults += [
            f"{key} is given twice, as {_shown(leaves[path])} and in param_grid: leave one out"
            for key, _ in flatten(grid)
            if (path := _key_path(key)) in leaves
        ]
    if faults:
        raise ConfigurationError("\n".join(where + fault for fault in dict.fromkeys(faults)))


def _key_path(key: str) -> Path:
    return (key, CHOICE) if key in CHOICES else tuple(key.split("."))


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves((*path, key), item)
    elif len(path) == 1 and path[0] in CHOICES:
        if not isinstance(value, Mapping):
            yield (*path, CHOICE), value
    else:
        yield path, value


def _same(one: Any, other: Any) -> bool:
    # 1 and true are two values, 1 and 1.0 are one.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _twice(path: Path, one: Any, other: Any) -> str:
    key = _name(path)
    said = f"{key} is given twice, as {_shown(one)} and as {_shown(other)}: leave one out"
    if path[0] in SWEEPABLE and not isinstance(one, list | Mapping):
        said += f"; {key}={_shown(one)},{_shown(other)} runs both"
    return said


def _name(path: Path) -> str:
    return ".".join(str(part) for part in path if part != CHOICE)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
