"""Build strategies and data sources from their configuration nodes.

A node is ``_target_`` (the import path of a class) plus the arguments of its constructor. The
arguments are checked against the constructor's signature before anything runs. A strategy may also
be a plain function; its parameters are then the arguments, but for those that the run fills in.
"""

import contextlib
import difflib
import functools
import importlib
import inspect
import itertools
import os
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from backtest_batch.core.live import is_live, live_object
from backtest_batch.errors import Fault, StrategyError

TARGET = "_target_"

MAY_BE_FUNCTION = "strategy"
"""The node whose ``_target_`` may be a function."""

FILLED_IN = ("panel", "conditions")
"""Parameters of such a function that are no arguments: the run gives them."""


class TargetError(Exception):
    """Nothing fitting is at an import path; the message says which part of the path fails."""


@dataclass(frozen=True, eq=False)
class FunctionStrategy:
    """A plain function as a strategy that makes its own account.

    Its attributes ``warmup_bars`` and ``required_fields``, where it has them, are those of the
    strategy.

    Parameters
    ----------
    function
        The function.
    arguments
        Values of its parameters, but for those that are filled in.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]

    @property
    def function_name(self) -> str:
        """What the function is called."""
        return called(self.function)

    @property
    def warmup_bars(self) -> Any:
        """Bars that it needs before its first return."""
        return getattr(self.function, "warmup_bars", 0)

    @property
    def required_fields(self) -> Any:
        """Fields of the panel that it needs."""
        return getattr(self.function, "required_fields", ())

    def backtest(self, panel: Any, conditions: Any) -> Any:
        """Call the function with its arguments, and with what it asks for of the run."""
        parameters, _ = _signature(self.function)
        given = {"panel": panel, "conditions": conditions}
        values = dict(self.arguments) | {n: given[n] for n in FILLED_IN if n in parameters}
        by_place = [
            values.pop(name)
            for name, item in parameters.items()
            if item.kind is item.POSITIONAL_ONLY and name in values
        ]
        return self.function(*by_place, **values)


def locate(target: str, *, or_function: bool = False) -> Any:
    """Return the class at an import path such as ``my_module.MyStrategy``.

    The working directory is importable, as it is for ``python -m``.

    Parameters
    ----------
    target
        The import path.
    or_function
        Whether a function is accepted too.

    Raises
    ------
    TargetError
        When the module or the class does not exist, or the module fails while it is imported.
    """
    if is_live(target):
        return _live(target)
    here = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if here not in sys.path:
        sys.path.insert(0, here)
    module_name, _, class_name = target.rpartition(".")
    if not module_name:
        raise TargetError(f"must be module.Class, such as my_module.MyStrategy, but got {target}")
    if module_name not in sys.modules:
        # A module written after this process started (in a notebook, say) must be found too.
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TargetError(f"there is no module {error.name} (looked in {here} too)") from error
    except (Exception, SystemExit) as error:
        # A script without `if __name__ == "__main__"` may end the process without a message.
        raise TargetError(
            f"the module {module_name} fails on import: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)

    def fits(value: Any) -> bool:
        return isinstance(value, type) or (or_function and callable(value))

    if not fits(found):
        names = [name for name in dir(module) if fits(getattr(module, name, None))]
        close = difflib.get_close_matches(class_name, names, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        kind = "class or function" if or_function else "class"
        raise TargetError(f"the module {module_name} has no {kind} {class_name}{hint}")
    return found


def _live(target: str) -> Any:
    found = live_object(target)
    if found is None:
        name = target.rpartition(".")[2]
        raise TargetError(
            f"{name} was defined in a notebook or a script, and this process does not have it: "
            "call run_sweep or rerun where it is defined, or put it into a file of the working "
            f"directory, such as my_module.py, and name it my_module.{name}"
        )
    return found


def arguments_of(
    node: Mapping[str, Any], *, key: str, seed: int | None = None
) -> tuple[dict[str, Any], list[Fault]]:
    """Return the checked arguments of a node's constructor, converted to their types.

    Parameters
    ----------
    node
        ``_target_`` and arguments.
    key
        Name of the node in the configuration, for messages.
    seed
        Value of a constructor parameter ``seed`` when the node does not set it.
    """
    target = node.get(TARGET)
    if not target:
        return {}, [Fault(key=f"{key}.{TARGET}", value=target, allowed="must be given")]
    try:
        cls = locate(str(target), or_function=key == MAY_BE_FUNCTION)
        parameters, adapters = _signature(cls)
    except TargetError as error:
        return {}, [Fault(key=f"{key}.{TARGET}", value=target, allowed=str(error))]
    filled_in = () if isinstance(cls, type) else FILLED_IN
    adapters = {name: item for name, item in adapters.items() if name not in filled_in}
    arguments: dict[str, Any] = {}
    faults: list[Fault] = []
    open_ended = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    for name, value in node.items():
        if name == TARGET:
            continue
        if name in filled_in and name in parameters:
            allowed = f"is no key: the run gives {called(cls)} its {name}"
            faults.append(Fault(key=f"{key}.{name}", value=value, allowed=allowed))
            continue
        if name not in adapters:
            if open_ended:
                arguments[name] = value
            else:
                faults.append(_unknown_argument(key, name, value, list(adapters), cls))
            continue
        try:
            arguments[name] = adapters[name].validate_python(value)
        except ValidationError as error:
            faults.append(Fault(key=f"{key}.{name}", value=value, allowed=_reason(error)))
            continue
        if _was_truth_value(value, arguments[name]):
            allowed = "must be a number, but got true or false"
            faults.append(Fault(key=f"{key}.{name}", value=value, allowed=allowed))
    if seed is not None and "seed" in adapters and "seed" not in arguments:
        arguments["seed"] = seed
    faults += [
        Fault(
            key=f"{key}.{name}",
            value="(missing)",
            allowed=f"must be given, {called(cls)} needs it",
        )
        for name, item in parameters.items()
        if name in adapters
        and item.default is item.empty
        and name not in arguments
        and not any(fault.key == f"{key}.{name}" for fault in faults)
    ]
    return arguments, faults


def build(node: Mapping[str, Any], *, key: str, seed: int | None = None) -> tuple[Any, list[Fault]]:
    """Return the instance that a node describes, or None and what is wrong with it."""
    arguments, faults = arguments_of(node, key=key, seed=seed)
    if faults:
        return None, faults
    cls = locate(str(node[TARGET]), or_function=key == MAY_BE_FUNCTION)
    if not isinstance(cls, type):
        return FunctionStrategy(cls, arguments), []
    try:
        return cls(**arguments), []
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a strategy may raise anything
        shown = str(error) or type(error).__name__
        return None, [Fault(key=key, value=cls.__name__, allowed=shown)]


def typed_node(node: Mapping[str, Any], *, key: str) -> dict[str, Any]:
    """Return a node with its arguments converted to the constructor's types.

    For an argument of type float, 1 and 1.0 then give the same run. Arguments that are not plain
    numbers or text stay as they are, and so does a node that cannot be built.
    """
    # A required seed is set later, when the rest of the node is known.
    arguments, faults = arguments_of(node, key=key, seed=0)
    if faults:
        return dict(node)
    return {
        name: typed if isinstance(typed := arguments.get(name), bool | int | float | str) else value
        for name, value in node.items()
    }


_Signature = tuple[dict[str, inspect.Parameter], dict[str, TypeAdapter[Any]]]


def _signature(cls: Any) -> _Signature:
    """Return the parameters of a constructor or function, and a checker for each with a name."""
    try:
        hash(cls)
    except TypeError:  # an object that can be called need not have a hash
        return _read_signature(cls)
    return _signature_of(cls)


def _read_signature(cls: Any) -> _Signature:
    try:
        parameters = dict(inspect.signature(cls).parameters)
    except (TypeError, ValueError) as error:
        raise TargetError(f"the parameters of {called(cls)} cannot be read: {error}") from error
    named = [
        name
        for name, item in parameters.items()
        if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
    ]
    hints = _hints(cls)
    return parameters, {name: _adapter(hints.get(name, Any)) for name in named}


_signature_of = functools.cache(_read_signature)


def _hints(cls: Any) -> dict[str, Any]:
    """Return the annotations that can be evaluated; a parameter with another is not checked."""
    holder = _annotated(cls)
    try:
        return typing.get_type_hints(holder)
    except Exception:  # noqa: BLE001 - an annotation may be any expression
        pass
    space = getattr(inspect.unwrap(holder), "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(holder, "__annotations__", {}).items():
        alone = type("Alone", (), {"__annotations__": {name: annotation}})
        with contextlib.suppress(Exception):
            hints |= typing.get_type_hints(alone, space)
    return hints


def _annotated(found: Any) -> Any:
    """Return the function that has the annotations of what is called."""
    if isinstance(found, type):
        return found.__init__  # type: ignore[misc]
    if isinstance(found, functools.partial):
        return _annotated(found.func)
    if inspect.isroutine(found) or hasattr(found, "__wrapped__"):
        return found
    return type(found).__call__


def function_strategy(function: Callable[..., Any], seed: int) -> FunctionStrategy:
    """Return a function as a strategy whose further parameters have their defaults.

    Parameters
    ----------
    function
        The function.
    seed
        Value of a parameter ``seed`` without a default.

    Raises
    ------
    StrategyError
        When another parameter has no default.
    """
    try:
        parameters, _ = _signature(function)
    except TargetError as error:
        raise StrategyError(str(error)) from error
    open_ended = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [
        name
        for name, item in parameters.items()
        if item.default is item.empty and item.kind not in open_ended and name not in FILLED_IN
    ]
    lacking = [name for name in needed if name != "seed"]
    if lacking:
        raise StrategyError(
            f"{called(function)} needs {', '.join(lacking)}: give a default, or pass "
            f"functools.partial({called(function)}, {lacking[0]}=...)"
        )
    return FunctionStrategy(function, {"seed": seed} if needed else {})


def called(found: Any) -> str:
    """Return what a class or a function is called."""
    if isinstance(found, functools.partial):
        return called(found.func)
    return str(getattr(found, "__name__", type(found).__name__))


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # noqa: BLE001 - pydantic raises errors of several kinds
        # A type that brings its own pydantic configuration refuses another one.
        return TypeAdapter(hint)


def _was_truth_value(given: Any, typed: Any) -> bool:
    """Return whether true or false became a number, which pydantic allows and Hydra does not."""
    if isinstance(given, bool):
        return isinstance(typed, int | float) and not isinstance(typed, bool)
    if isinstance(given, Mapping) and isinstance(typed, Mapping):
        return any(_was_truth_value(given[name], typed.get(name)) for name in given)
    if isinstance(given, list) and isinstance(typed, list | tuple):
        return any(itertools.starmap(_was_truth_value, zip(given, typed, strict=False)))
    return False


def _reason(error: ValidationError) -> str:
    reasons = dict.fromkeys(str(item["msg"]) for item in error.errors())
    return "; ".join(reason[:1].lower() + reason[1:] for reason in reasons)


def _unknown_argument(key: str, name: str, value: Any, known: list[str], cls: Any) -> Fault:
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        hint = "did you mean " + " or ".join(f"{key}.{item}" for item in close) + "?"
    elif known:
        hint = "it has: " + ", ".join(known)
    else:
        hint = "it has none"
    return Fault(
        key=f"{key}.{name}", value=value, allowed=f"is not an argument of {called(cls)}; {hint}"
    )
