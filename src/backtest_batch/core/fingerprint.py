"""Names of runs within their batch, and hashes that say whether two must have the same result."""

import ast
import contextlib
import functools
import hashlib
import json
import re
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from backtest_batch.config.schema import NEUTRAL, SWEEPABLE
from backtest_batch.core.data.cache import own_cache_dir
from backtest_batch.core.engine.simulation import SETTING_NAMES, UNLEVERAGED, benchmark_settings
from backtest_batch.masking import masked
from backtest_batch.ownership import make_own_folder, replace_text
from backtest_batch.records import Composition
from backtest_batch.values import value_text

PACKAGE = Path(__file__).parents[1]
RESULT_SOURCES = ("core",)
"""What of this package determines a run's result."""


def digest(value: Any) -> str:
    """Return the sha256 of plain values; the order of mappings does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def result_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that determines results.

    The walk-forward is one: a strategy that is fitted depends on its splits. Keys that were added
    later are left out at the value that changes nothing.
    """
    chosen = {
        key: without_neutral(key, value)
        for key, value in config.items()
        if key in SWEEPABLE and not is_neutral(key, value)
    }
    if config["walk_forward"].get("method", "none") != "none":
        chosen["walk_forward"] = config["walk_forward"]
    return chosen


def is_neutral(key: str, value: Any) -> bool:
    """Return whether a key was added later and has the value that leaves results as they were."""
    return key in NEUTRAL and type(value) is type(NEUTRAL[key]) and value == NEUTRAL[key]


def without_neutral(key: str, value: Any) -> Any:
    """Return the value of a root key; of a node without those of its keys that change nothing."""
    if not isinstance(value, Mapping):
        return value
    kept = {name: item for name, item in value.items() if not is_neutral(f"{key}.{name}", item)}
    if key == "data" and isinstance(kept.get("url"), str):
        # Who asks a database, and with which password, is no part of what it answers.
        kept["url"] = masked(kept["url"])
    return kept


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
    """Return the sha256 of the code behind a strategy's class, as it stands on disk now.

    It covers this package's result-affecting sources, the strategy's module, and the modules of the
    working directory that it imports, directly or through each other. Of each counts what
    :func:`code_of` returns, so that other words and another layout are the same code.
    """
    module = target.rpartition(".")[0]
    if module.split(".")[0] == "backtest_batch":
        return package_fingerprint()
    files = {name: code_of(path.read_bytes()) for name, path in user_modules(module)}
    return _digest_of({"backtest_batch": package_fingerprint().encode(), **files})


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


LONGEST_RUN_ID = 80
OTHER_COLUMNS = frozenset({"timestamp", "benchmark"})
"""Columns of returns.parquet that are no runs."""


def new_run_id(composition: Composition, key: str, taken: Collection[str]) -> str:
    """Return a name that is unique in the batch and safe as a file name.

    Parameters
    ----------
    composition
        The run: its id, or its values in axis order, make the name.
    key
        Its run key; digits of it tell names apart that would be equal or too long.
    taken
        Names that other runs have, in lower case: on some systems these are the same file.
    """
    if composition.run_id is not None:
        raw = composition.run_id
    else:
        values = [value_text(value) for value in composition.labels.values()]
        raw = "_".join(["run", *values]) if values else "run_base"
    safe = re.sub(r"[^A-Za-z0-9._+-]", "-", raw)
    # "." and ".." are folders.
    if len(safe) <= LONGEST_RUN_ID and safe.lower() not in taken and safe.strip("."):
        return safe
    named = (f"{safe[: LONGEST_RUN_ID - 1 - n]}-{key[:n]}" for n in (8, 16, 32, 64))
    return next(name for name in named if name.lower() not in taken)


def calendar_text(config: Mapping[str, Any]) -> str:
    """Return what decides, on given bars, which of them are decisions."""
    end = config["data"].get("session_end")
    text: str = config["rebalance"]
    return text if end is None else f"{text} {end}"


def benchmark_key(
    config: Mapping[str, Any], data_fingerprint: str, first_bar: int, periods_per_year: float
) -> str:
    """Return the hash of what determines a run's benchmark.

    Parameters
    ----------
    config
        The configuration of the run.
    data_fingerprint, first_bar
        Its data, and the first measured bar.
    periods_per_year
        Bars a year, by which its metrics are annualised.
    """
    return _benchmark_key(
        data_fingerprint,
        calendar_text(config),
        first_bar,
        periods_per_year,
        float(config["risk_free_rate"]),
        *(config[name] for name in _BENCHMARK_NAMES),
    )


_BENCHMARK_NAMES = tuple(name for name in SETTING_NAMES if name not in UNLEVERAGED)


# Most runs of a batch have one of a few benchmarks. The hashed text tells 1 from 1.0, and so must
# the cache (typed=True).
@functools.lru_cache(maxsize=10_000, typed=True)
def _benchmark_key(
    data_fingerprint: str,
    rebalance: str,
    first_bar: int,
    periods_per_year: float,
    risk_free_rate: float,
    *values: Any,
) -> str:
    settings = benchmark_settings(dict(zip(_BENCHMARK_NAMES, values, strict=True)))
    return digest(
        [
            data_fingerprint,
            rebalance,
            first_bar,
            [getattr(settings, name) for name in SETTING_NAMES],
            [periods_per_year, risk_free_rate],
        ]
    )


def chunk_key(
    config: Mapping[str, Any],
    data_fingerprint: str,
    strategy_seed: int,
    first_bar: int,
    fit_bars: tuple[int, int] | None = None,
) -> str:
    """Return the hash of what runs must have in common to be computed together.

    The parameters are those of :class:`.RunSpec` with these names.
    """
    return digest(
        [
            data_fingerprint,
            config["strategy"],
            strategy_seed,
            calendar_text(config),
            first_bar,
            # A fit depends on when its decisions are traded.
            fit_bars and (fit_bars, config["execution_lag"]),
        ]
    )
