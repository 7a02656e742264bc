"""The code behind a result: what of it counts, its fingerprint, and the modules that it imports."""

import ast
import contextlib
import functools
import hashlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backtest_batch.core.data.cache import own_cache_dir
from backtest_batch.core.live import MAIN, is_live, live_object
from backtest_batch.core.live_code import live_sources
from backtest_batch.ownership import make_own_folder, replace_text

PACKAGE = Path(__file__).parents[1]
RESULT_SOURCES = ("core",)
"""What of this package determines a run's result."""


def code_fingerprint(target: str) -> str:
    """Return the sha256 of the code behind a strategy's class, as it stands on disk now.

    It covers this package's result-affecting sources, the strategy's module, and the modules of the
    working directory that it imports, directly or through each other. Of each counts what
    :func:`code_of` returns, so that other words and another layout are the same code. Of an object
    that no file holds (:mod:`.live`) its source counts, and what it refers to.
    """
    module = target.rpartition(".")[0]
    if module.split(".")[0] == "backtest_batch":
        return package_fingerprint()
    files = {name: code_of(path.read_bytes()) for name, path in user_modules(target)}
    if is_live(target):
        files |= _live_code(live_object(target))
    return _digest_of({"backtest_batch": package_fingerprint().encode(), **files})


def _live_code(item: Any) -> dict[str, bytes]:
    live = live_sources(item)
    files = {f"{MAIN}.{name}": code_of(source) for name, source in live.sources.items()}
    return files | {f"{MAIN}.{name} =": text.encode() for name, text in live.values.items()}


def live_code_fingerprint(item: Any) -> str:
    """Return the sha256 of the code of a class or function that no file holds."""
    return _digest_of(_live_code(item))


@functools.cache
def package_fingerprint() -> str:
    """Return the sha256 of the code of this package's result-affecting sources.

    Parsing them takes a third of a second. It is done once for each version of their bytes, and the
    result is kept in the cache.
    """
    sources = _own_sources()
    version = _digest_of(sources)  # they include this module, which turns them into the result
    folder = own_cache_dir()
    kept = None if folder is None else folder / "code" / version
    if kept is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = kept.read_text("ascii")
            if re.fullmatch("[0-9a-f]{64}", text):
                return text
    found = _digest_of({name: code_of(content) for name, content in sources.items()})
    if kept is not None:
        with contextlib.suppress(OSError):
            make_own_folder(kept.parent)
            replace_text(kept, found)
    return found


def code_of(source: bytes) -> bytes:
    """Return what a Python source says to the interpreter: the same for the same code.

    Comments, the layout of lines, redundant brackets and commas, the kind of quotes, and texts that
    stand alone (docstrings among them) are left out. Docstrings stay where a module asks for them
    (``__doc__``, ``getdoc``). All versions of Python give the same for a source that they all can
    read.

    Parameters
    ----------
    source
        Content of a file. One that is no Python of this version (a compiled module, say) is
        returned as it is, but for its line ends.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the import of a module warns of its escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Line ends differ between checkouts of the same source.
        return b"bytes\0" + source.replace(b"\r\n", b"\n")
    return " ".join(_words(tree, keep_texts=_asks_for_docstrings(tree))).encode()


def _words(tree: ast.AST, *, keep_texts: bool) -> Iterator[str]:
    """Yield the nodes of a tree and their fields in order; empty fields are left out.

    A version of Python that knows more syntax has more fields, empty where it is not used.
    """
    # A stack instead of recursion: long expressions are deeper than calls may be.
    pending: list[Any] = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            kept = [value for value in item if keep_texts or not _is_lone_text(value)]
            pending += ["]", *map(_pending, reversed(kept)), "["]
        else:
            constant = isinstance(item, ast.Constant | ast.MatchSingleton)
            pending.append(")")
            for name in reversed(item._fields):
                value: Any = getattr(item, name, None)
                if isinstance(item, ast.JoinedStr):
                    # Python 3.12 puts empty texts beside values, others do not.
                    value = [part for part in value if getattr(part, "value", None) != ""]
                is_empty = value is None or value == []
                if name not in _WITHOUT_MEANING and (
                    not is_empty or (constant and name == "value")
                ):
                    pending += [_pending(value), f"{name}="]
            pending.append(f"({type(item).__name__}")


_WITHOUT_MEANING = {"ctx", "kind", "type_comment", "type_ignores"}
"""Fields of nodes that follow from where they stand, or say nothing to the interpreter."""


def _pending(value: Any) -> Any:
    """Return what is walked as it is, and other values as text that all versions write alike."""
    if isinstance(value, ast.AST | list):
        return value
    if type(value) is int:
        return hex(value)  # Python refuses to write very large numbers in decimal digits
    return ascii(value)


def _is_lone_text(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _asks_for_docstrings(tree: ast.AST) -> bool:
    asked = {"__doc__", "getdoc"}
    return any(
        (isinstance(node, ast.Name) and node.id in asked)
        or (isinstance(node, ast.Attribute) and node.attr in asked)
        or (isinstance(node, ast.alias) and node.name in asked)
        or (isinstance(node, ast.Constant) and node.value in asked)
        for node in ast.walk(tree)
    )


def _digest_of(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return whole.hexdigest()


def _own_sources() -> Mapping[str, bytes]:
    files: dict[str, bytes] = {}
    for source in RESULT_SOURCES:
        place = PACKAGE / source
        found = [place] if place.suffix else sorted(place.rglob("*.py"))
        files |= {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in found}
    return files


def user_modules(target: str) -> Iterator[tuple[str, Path]]:
    """Yield name and file of a strategy's module and of the local modules that it imports.

    An object that no file holds has no module, and those that it refers to are yielded.
    """
    module, here = target.rpartition(".")[0], Path.cwd()
    begin = live_sources(live_object(target)).modules if is_live(target) else {module}
    # Importing a.b.c runs a and a.b first.
    pending, seen = [part for name in sorted(begin) for part in _with_parents(name)], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _source_of(name, here)
        if path is None or (name != module and not _is_local(path, here)):
            continue
        yield name, path
        pending += _imports(path, name)


def _is_local(path: Path, here: Path) -> bool:
    # A virtual environment inside the working directory holds other people's code.
    return path.is_relative_to(here) and "site-packages" not in path.parts


def _source_of(name: str, here: Path) -> Path | None:
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded:
        return Path(loaded)
    stem = here.joinpath(*name.split("."))
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(path: Path, name: str) -> list[str]:
    """Return the names a file imports; a name from a module may be a module itself."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a compiled module has no source to read
        return []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [part for item in found if item for part in _with_parents(item)]


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
