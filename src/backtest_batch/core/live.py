"""Strategies that no file holds: defined in a notebook, in a script, or within a function.

Such a class or function is known to this process by the name that its configuration records
(``__main__.MyStrategy``), and goes to other processes by value.
"""

import contextlib
import functools
import hashlib
import io
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from backtest_batch.errors import ConfigurationError

MAIN = "__main__"
"""The module that a notebook or a script is, and with it each object that is known by value."""

MOST_BYTES = 64 * 1024 * 1024
"""Size of an object, with all that it refers to, above which it is not sent with every task."""

_known: dict[str, Any] = {}
_received: dict[str, str] = {}


def is_live(target: str) -> bool:
    """Return whether a path names an object that goes to other processes by value."""
    return target.rpartition(".")[0] == MAIN


def register(item: Any, code: Callable[[Any], str]) -> str:
    """Make an object known by value, and return the path that names it from now on.

    What a notebook or script defines under its own name is named by it, and replaced when its cell
    is run again. Of others several may have one name, such as classes that a function has made with
    different values; digits of their code tell them apart.

    Parameters
    ----------
    item
        A class or function.
    code
        Returns the hash of its code.
    """
    name = re.sub(r"\W", "_", item.__name__)
    if getattr(sys.modules.get(MAIN), name, None) is not item:
        name = f"{name}_{code(item)[:8]}"
    target = f"{MAIN}.{name}"
    _known[target] = item
    return target


def live_object(target: str) -> Any:
    """Return the object that a path names; None where it is not known to this process."""
    here = None
    if target not in _received:  # a notebook's cell may have been run again since
        here = getattr(sys.modules.get(MAIN), target.rpartition(".")[2], None)
    return _known.get(target) if here is None else here


def packed(targets: Iterable[str]) -> dict[str, bytes]:
    """Return the objects among these paths by value.

    Raises
    ------
    ConfigurationError
        When one cannot be sent, or is too large; the message says why.
    """
    found = {}
    for target in targets:
        if is_live(target) and target not in found:
            found[target] = _by_value(target)
    return found


def _by_value(target: str) -> bytes:
    item, buffer = live_object(target), io.BytesIO()
    name = getattr(item, "__name__", target)
    try:
        _pickler()(buffer).dump(item)
    except Exception as error:
        raise ConfigurationError(
            f"strategy={name}: refers to something that cannot be sent to worker processes "
            f"({type(error).__name__}: {error}); open it inside the strategy instead"
        ) from error
    content = buffer.getvalue()
    if len(content) > MOST_BYTES:
        raise ConfigurationError(
            f"strategy={name}: has {len(content) / 2**20:,.0f} MiB with the data that it refers "
            f"to, at most {MOST_BYTES / 2**20:,.0f} are sent to worker processes; give it the data "
            "as data=, data.features or data.fields, or put it into a file and let the strategy "
            "read it"
        )
    return content


@functools.lru_cache(maxsize=1)
def _pickler() -> Any:
    """Return cloudpickle's pickler, which also sends functions with a cache of their results."""
    import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, functools._lru_cache_wrapper) and obj.__module__ == MAIN:
                return _with_cache, (obj.__wrapped__, obj.cache_parameters())
            return super().reducer_override(obj)

    return Pickler


def _with_cache(function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def receive(objects: Mapping[str, bytes]) -> None:
    """Make objects known that another process has packed; each version is unpacked once."""
    for target, content in objects.items():
        version = hashlib.sha256(content).hexdigest()
        if _received.get(target) != version:
            _known[target] = pickle.loads(content)
            _received[target] = version


@contextlib.contextmanager
def unpacked_anew(objects: Mapping[str, bytes]) -> Iterator[None]:
    """Let packed objects be known as they were sent, whatever has become of them since.

    What a class or a function has kept in this process is there again afterwards.
    """
    kept = {target: _known[target] for target in objects if target in _known}
    try:
        for target, content in objects.items():
            _known[target] = _unpacked(content)
        yield
    finally:
        _known.update(kept)


def _unpacked(content: bytes) -> Any:
    """Return an object by value, its classes made anew."""
    from cloudpickle import cloudpickle

    # It hands out the class that it has made of the same one before.
    tracker: Any = getattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
    tracked = dict(tracker)
    tracker.clear()
    try:
        return pickle.loads(content)
    finally:
        tracker.update(tracked)
