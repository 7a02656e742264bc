"""What the result of a strategy that no file holds may depend on: its code, and what it uses.

The same text, with the same values around it, is the same code: in a cell that is run again, and in
a script that is started again.
"""

import ast
import contextlib
import dis
import functools
import hashlib
import inspect
import linecache
import pickle
import pickletools
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from backtest_batch.core.live import MAIN

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_OF_CLASSES = {
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__slots__"),
    *("__firstlineno__", "__static_attributes__", "_abc_impl"),
}
"""Names in a class that say nothing about what it does."""


@dataclass
class LiveSources:
    """What was found from an object on; its parts are filled while it is followed.

    Attributes
    ----------
    sources
        Source of each class and function, by name and number.
    values
        Texts that stand for the values that they use, by the name of whatever uses them.
    modules
        Names of the modules that they use.
    """

    sources: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    _seen: dict[int, str] = field(default_factory=dict)
    _objects: list[Any] = field(default_factory=list)

    def text_of(self, value: Any) -> str:
        """Return a text that stands for a value: the same for equal ones in every process."""
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._seen:
            return self._seen[id(value)]
        self._seen[id(value)] = f"<{len(self._seen)}>"
        self._objects.append(value)  # its id must not become another object's
        return self._text(value)

    def _text(self, value: Any) -> str:
        if isinstance(value, ModuleType):
            self.modules.add(value.__name__)
            return f"module {value.__name__}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__} {[self.text_of(item) for item in value]}"
        if isinstance(value, set | frozenset):
            return f"set {sorted(self.text_of(item) for item in value)}"
        if isinstance(value, dict):
            items = [(self.text_of(key), self.text_of(item)) for key, item in value.items()]
            return f"{type(value).__name__} {items}"
        if isinstance(value, np.ndarray) and value.dtype != object:
            content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return f"array {value.dtype.str} {value.shape} {content}"
        if isinstance(value, type | FunctionType):
            return self._code(value)
        return self._object(value)

    def _code(self, value: Any) -> str:
        if value.__module__ != MAIN and "<locals>" not in value.__qualname__:
            self.modules.add(value.__module__)
            return f"{value.__module__}.{value.__qualname__}"
        name = f"{value.__name__} {len(self.sources)}"
        self._seen[id(value)] = name
        text = source_of(value)
        self.sources[name] = b"" if text is None else text.encode()
        self.values[name] = "\n".join(self._parts(value, with_instructions=text is None))
        return name

    def _parts(self, value: Any, *, with_instructions: bool) -> Iterator[str]:
        if isinstance(value, type):
            yield from (self.text_of(base) for base in value.__bases__ if base is not object)
            for name, item in sorted(vars(value).items()):
                if name not in _OF_CLASSES:
                    yield f"{name} = {self.text_of(_function_in(item))}"
            return
        if with_instructions or value.__name__ == "<lambda>":
            yield str(_instructions(value.__code__))
        yield self.text_of(value.__defaults__)
        yield self.text_of(value.__kwdefaults__)
        yield self.text_of({key: item for key, item in vars(value).items() if key != "__wrapped__"})
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # not set yet
                yield f"{name} = {self.text_of(cell.cell_contents)}"
        names, further = _names(value.__code__)
        for name in sorted(names):
            if name in value.__globals__:
                used = value.__globals__[name]
                yield f"{name} = {self.text_of(used)}"
                if isinstance(used, ModuleType):
                    self._add_below(used.__name__, further)

    def _add_below(self, module: str, names: set[str]) -> None:
        """Add the modules below a package that code may reach by their names."""
        for name in names:
            below = f"{module}.{name}"
            if below in sys.modules and below not in self.modules:
                self.modules.add(below)
                self._add_below(below, names)

    def _object(self, value: Any) -> str:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, functools.partial):
            return f"partial {[self.text_of(x) for x in (value.func, value.args, value.keywords)]}"
        if isinstance(value, MethodType):
            return f"method {self.text_of(value.__func__)} {self.text_of(value.__self__)}"
        for name in ("__wrapped__", "py_func"):  # functools.lru_cache, numba
            inner = getattr(value, name, None)
            if isinstance(inner, FunctionType):
                return f"{kind} {self.text_of(inner)}"
        module = type(value).__module__.partition(".")[0]
        if module == MAIN or "<locals>" in type(value).__qualname__ or _is_users(module):
            state = getattr(value, "__dict__", None) or _slots(value)
            return f"{self.text_of(type(value))} {self.text_of(state)}"
        return f"{kind} {self._pickled(value)}"

    def _pickled(self, value: Any) -> str:
        try:
            content = pickle.dumps(value, protocol=5)
        except Exception:  # noqa: BLE001 - sending the object will say what is wrong with it
            return "?"
        texts = {text for _, text, _ in pickletools.genops(content) if isinstance(text, str)}
        self.modules |= texts & sys.modules.keys()
        return hashlib.sha256(content).hexdigest()


def live_sources(item: Any) -> LiveSources:
    """Return the source of a class or function, and all that it refers to."""
    found = LiveSources()
    found.text_of(item)
    return found


def _is_users(module: str) -> bool:
    """Return whether a module is neither of Python nor installed."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return bool(file) and "site-packages" not in file and module not in sys.stdlib_module_names


def _slots(value: Any) -> Mapping[str, Any]:
    names = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _function_in(item: Any) -> Any:
    """Return the function of a method or property, and other things as they are."""
    if isinstance(item, property):
        return [item.fget, item.fset]
    return getattr(item, "__func__", item)


def source_of(item: Any) -> str | None:
    """Return the source of a class or function; None where it was never written into a cell."""
    text: str | None = None
    with contextlib.suppress(OSError, TypeError):
        # Of the code, so that a decorator's function is not taken for what it decorates.
        text = inspect.getsource(item if isinstance(item, type) else item.__code__)
    if text is None and isinstance(item, type):  # a class of a notebook belongs to no file
        text = _class_source(item)
    return None if text is None else textwrap.dedent(text)


def _class_source(item: type) -> str | None:
    """Return the source of a class that is found in the cell of one of its methods."""
    for value in vars(item).values():
        code = getattr(_function_in(value), "__code__", None)
        text = "" if code is None else "".join(linecache.getlines(code.co_filename))
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except SyntaxError:  # the cell has commands of the notebook, such as %time
            continue
        for node in nodes:
            if isinstance(node, ast.ClassDef) and node.name == item.__name__:
                return ast.get_source_segment(text, node)
    return None


def _instructions(code: CodeType) -> list[Any]:
    def constant(value: Any) -> Any:
        if isinstance(value, CodeType):
            return _instructions(value)
        return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)

    constants = [constant(value) for value in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames]


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the global names that code reads, and all names in it, those of attributes too."""
    read, every = set[str](), set[str]()
    pending = [code]
    while pending:
        part = pending.pop()
        every |= set(part.co_names)
        read |= {
            step.argval
            for step in dis.get_instructions(part)
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        }
        pending += [value for value in part.co_consts if isinstance(value, CodeType)]
    return read, every
