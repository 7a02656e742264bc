"""Strategies that no file holds: defined in a notebook, in a script, or within a function.

Such a class or function is known to this process by the name that its configuration records
(``__main__.MyStrategy``), and goes to other processes by value. Its code is that of its source and
of all that it refers to, so that a cell that is run again with the same text is the same code.
"""

import ast
import contextlib
import hashlib
import inspect
import linecache
import pickle
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
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


def register(item: Any) -> str:
    """Make an object known by value, and return the path that names it from now on.

    One that was registered under this name before is replaced, as in a notebook whose cell is run
    again.
    """
    target = f"{MAIN}.{item.__name__}"
    _known[target] = item
    return target


def live_object(target: str) -> Any:
    """Return the object that a path names; None where it is not known to this process."""
    if target in _known:
        return _known[target]
    return getattr(sys.modules.get(MAIN), target.rpartition(".")[2], None)


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
    import cloudpickle

    name = target.rpartition(".")[2]
    try:
        content: bytes = cloudpickle.dumps(live_object(target))
    except Exception as error:
        raise ConfigurationError(
            f"strategy={name}: refers to something that cannot be sent to worker processes "
            f"({type(error).__name__}: {error}); open it inside the strategy instead"
        ) from error
    if len(content) > MOST_BYTES:
        raise ConfigurationError(
            f"strategy={name}: has {len(content) / 2**20:,.0f} MiB with the data that it refers "
            f"to, at most {MOST_BYTES / 2**20:,.0f} are sent to worker processes; give it the data "
            "as data=, data.features or data.fields, or put it into a file and let the strategy "
            "read it"
        )
    return content


def receive(objects: Mapping[str, bytes]) -> None:
    """Make objects known that another process has packed; each version is unpacked once."""
    for target, content in objects.items():
        version = hashlib.sha256(content).hexdigest()
        if _received.get(target) != version:
            _known[target] = pickle.loads(content)
            _received[target] = version


@dataclass(frozen=True, kw_only=True)
class LiveSources:
    """What the result of a strategy that no file holds may depend on.

    Attributes
    ----------
    sources
        Source of the object, and of the classes and functions beside it that it refers to, by name.
    values
        Digests of the variables that they use, by name: another value is another code.
    modules
        Names of the modules that they use.
    """

    sources: Mapping[str, bytes]
    values: Mapping[str, bytes]
    modules: Collection[str]


def live_sources(target: str) -> LiveSources:
    """Return the source of an object, and of all that it refers to."""
    sources, values, modules = dict[str, bytes](), dict[str, bytes](), set[str]()
    pending: list[tuple[str, Any]] = [(target.rpartition(".")[2], live_object(target))]
    while pending:
        name, item = pending.pop()
        if isinstance(item, ModuleType):
            modules.add(item.__name__)
        elif not _has_code(item):
            values[name] = _digest_of_value(item)
        elif not _goes_by_value(item, target):
            modules.add(item.__module__)
        elif name not in sources:
            text = _source_of(item)
            sources[name] = _instructions_of(item) if text is None else text.encode()
            pending += _references(item, text)
    return LiveSources(sources=sources, values=values, modules=modules)


def _has_code(item: Any) -> bool:
    return isinstance(item, type | FunctionType)


def _goes_by_value(item: Any, target: str) -> bool:
    """Return whether a class or function goes by value, as the object at ``target`` does."""
    return item is live_object(target) or item.__module__ == MAIN or "<locals>" in item.__qualname__


def _source_of(item: Any) -> str | None:
    """Return the source of a class or function; None where it was never written into a cell."""
    try:
        text: str | None = inspect.getsource(item)
    except (OSError, TypeError):  # a class of a notebook belongs to no file
        text = _class_source(item) if isinstance(item, type) else None
    return None if text is None else textwrap.dedent(text)


def _instructions_of(item: Any) -> bytes:
    return repr([_instructions(code) for code in _codes(item)]).encode()


def _class_source(item: type) -> str | None:
    """Return the source of a class that is found in the cell of one of its methods."""
    for code in _codes(item):
        text = "".join(linecache.getlines(code.co_filename))
        try:
            tree = ast.parse(text)
        except SyntaxError:  # the cell has commands of the notebook, such as %time
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == item.__name__:
                return ast.get_source_segment(text, node)
    return None


def _codes(item: Any) -> list[CodeType]:
    return [function.__code__ for function in _functions_of(item)]


def _instructions(code: CodeType) -> list[Any]:
    constants = [
        _instructions(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts
    ]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames]


def _references(item: Any, source: str | None) -> Iterator[tuple[str, Any]]:
    """Yield what a class or function refers to by name."""
    functions = _functions_of(item)
    around: dict[str, Any] = {}
    for function in functions:
        around |= function.__globals__
    if not functions:
        around |= vars(sys.modules.get(item.__module__, ModuleType(item.__module__)))
    for function in functions:
        around |= inspect.getclosurevars(function).nonlocals
    if isinstance(item, type):
        yield from ((base.__name__, base) for base in item.__bases__ if base is not object)
    yield from ((name, around[name]) for name in _names(item, source) if name in around)


def _names(item: Any, source: str | None) -> list[str]:
    """Return the names that occur in a class or function."""
    found: set[str] = set()
    pending: list[Any] = list(_codes(item))
    while pending:
        code = pending.pop()
        found |= {*code.co_names, *code.co_freevars}
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    with contextlib.suppress(SyntaxError):  # a lambda in the middle of a line
        nodes = ast.walk(ast.parse(source or ""))
        found |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return sorted(found)


def _functions_of(item: Any) -> list[FunctionType]:
    """Return a function itself, and the methods and properties of a class."""
    if isinstance(item, FunctionType):
        return [item]
    functions = (getattr(value, "__func__", value) for _, value in sorted(vars(item).items()))
    methods = (getattr(value, "fget", value) for value in functions)
    return [value for value in methods if isinstance(value, FunctionType)]


def _digest_of_value(value: Any) -> bytes:
    import cloudpickle

    try:
        return hashlib.sha256(cloudpickle.dumps(value)).digest()
    except Exception:  # noqa: BLE001 - packing the object whole says what is wrong with it
        return repr(type(value)).encode()
