"""Names of runs within their batch, and hashes that say whether two must have the same result."""

import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from backtest_batch.config.schema import NEUTRAL, SWEEPABLE
from backtest_batch.core.engine.simulation import SETTING_NAMES, UNLEVERAGED, benchmark_settings
from backtest_batch.masking import masked
from backtest_batch.records import Composition
from backtest_batch.values import value_text


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


_WITH_NEUTRAL = frozenset(key.partition(".")[0] for key in NEUTRAL if "." in key)
"""Nodes with keys that were added later."""


def is_neutral(key: str, value: Any) -> bool:
    """Return whether a key was added later and has the value that leaves results as they were."""
    return key in NEUTRAL and type(value) is type(NEUTRAL[key]) and value == NEUTRAL[key]


def without_neutral(key: str, value: Any) -> Any:
    """Return the value of a root key; of a node without those of its keys that change nothing."""
    if not isinstance(value, Mapping) or key not in _WITH_NEUTRAL:
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
