"""A strategy as a new process has it: its modules imported again, and nothing kept in them."""

import contextlib
import functools
import importlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from types import ModuleType

from backtest_batch.core.live import is_live, unpacked_anew

_PACKAGES = ("backtest_batch", "hydra_plugins")
"""What keeps nothing of any strategy, and is never imported again."""

_FOLDERS = re.compile(r"[/\\\\](?:site|dist)-packages[/\\\\]")
"""Folders of installed packages, wherever they lie."""

_MAINS = frozenset({"__main__", "__mp_main__"})


@contextlib.contextmanager
def imported_afresh(target: str, objects: Mapping[str, bytes]) -> Iterator[str]:
    """Let a strategy be imported again, with the user's modules that it may have imported.

    What these modules, their classes and functions have kept is out of reach meanwhile, and there
    again afterwards. Modules of Python and of installed packages stay as they are, but for the
    package of the strategy itself.

    Parameters
    ----------
    target
        Import path of the strategy.
    objects
        Strategies that no file holds, by value, as they were sent to this process.

    Yields
    ------
    str
        Empty, or why the modules are as they were: what they have kept is within reach.
    """
    if is_live(target):
        with unpacked_anew(objects):
            yield ""
        return
    if target.split(".", maxsplit=1)[0] in _PACKAGES:
        yield ""
        return
    kept = _users_modules(target)
    for name in kept:
        del sys.modules[name]
    failed = ""
    try:
        try:
            importlib.invalidate_caches()
            importlib.import_module(target.rpartition(".")[0])
        except BaseException as error:  # noqa: BLE001 - a module may raise anything
            failed = f"its module cannot be imported a second time ({type(error).__name__})"
            _put_back(target, kept)
        yield failed
    finally:
        _put_back(target, kept)


def _put_back(target: str, kept: Mapping[str, ModuleType]) -> None:
    for name in _users_modules(target):
        del sys.modules[name]
    sys.modules.update(kept)


def _users_modules(target: str) -> dict[str, ModuleType]:
    """Return the loaded modules that are neither Python's nor those of installed packages."""
    own, installed = target.split(".", maxsplit=1)[0], _installed()
    found = {}
    for name, module in list(sys.modules.items()):
        top = name.split(".", maxsplit=1)[0]
        if name in _MAINS or top in _PACKAGES:
            continue
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        if top == own or not (file.startswith(installed) or _FOLDERS.search(file)):
            found[name] = module
    return found


@functools.cache
def _installed() -> tuple[str, ...]:
    """Return how the paths of Python's own and of installed modules begin."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {path for name in names if (path := sysconfig.get_path(name))}
    folders |= {os.path.realpath(path) for path in folders}
    # Without a separator at its end, a folder would stand for others that begin with its name.
    return tuple(sorted(folder + os.sep for folder in folders))
