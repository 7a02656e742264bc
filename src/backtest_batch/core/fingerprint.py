"""Hashes that say whether two runs must have the same result."""

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backtest_batch.config.schema import SWEEPABLE

PACKAGE = Path(__file__).parents[1]
RESULT_SOURCES = ("core",)
"""What of this package determines a run's result."""


def digest(value: Any) -> str:
    """Return the sha256 of plain values; the order of mappings does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def result_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that determines results.

    The walk-forward is one: a strategy that is fitted depends on its splits.
    """
    chosen = {key: value for key, value in config.items() if key in SWEEPABLE}
    if config["walk_forward"].get("method", "none") != "none":
        chosen["walk_forward"] = config["walk_forward"]
    return chosen


def run_key(config_hash: str, data_fingerprint: str, code_fingerprint: str) -> str:
    """Return the run key: same key, same result."""
    return digest([config_hash, data_fingerprint, code_fingerprint])


def derived_seed(
    seed: int, data_fingerprint: str, strategy: Mapping[str, Any], rebalance: str
) -> int:
    """Return the seed of a strategy's random numbers, between 0 and 2**32 - 1.

    It depends on what the strategy sees and on nothing else, so that runs which differ in costs
    or exposure draw the same numbers.
    """
    return int(digest([seed, data_fingerprint, strategy, rebalance])[:8], 16)


def code_fingerprint(target: str) -> str:
    """Return the sha256 of the sources behind a strategy's class, as they stand on disk now.

    They are this package's result-affecting sources, the strategy's module, and the modules of
    the working directory that it imports, directly or through each other.
    """
    files = dict(_own_sources())
    module = target.rpartition(".")[0]
    if module.split(".")[0] != "backtest_batch":
        files |= {name: path.read_bytes() for name, path in user_modules(module)}
    return _digest_of(files)


def package_fingerprint() -> str:
    """Return the sha256 of this package's result-affecting sources."""
    return _digest_of(_own_sources())


def _digest_of(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        # Line ends differ between checkouts of the same source.
        content = files[name].replace(b"\r\n", b"\n")
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


@functools.cache
def _own_sources() -> Mapping[str, bytes]:
    files: dict[str, bytes] = {}
    for source in RESULT_SOURCES:
        place = PACKAGE / source
        found = [place] if place.suffix else sorted(place.rglob("*.py"))
        files |= {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in found}
    return files


def user_modules(module: str) -> Iterator[tuple[str, Path]]:
    """Yield name and file of a strategy's module and of the local modules that it imports."""
    here = Path.cwd()
    # Importing a.b.c runs a and a.b first.
    pending, seen = _with_parents(module), set[str]()
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
