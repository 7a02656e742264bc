"""Names of runs within their batch, and the keys of what they share with others."""

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any

from backtest_batch.core.engine.settings import SETTING_NAMES, UNLEVERAGED, benchmark_settings
from backtest_batch.core.fingerprint import digest
from backtest_batch.records import Composition
from backtest_batch.values import value_text

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
        config["rebalance"],
        first_bar,
        periods_per_year,
        float(config["risk_free_rate"]),
        *(config[name] for name in _BENCHMARK_NAMES),
    )


_BENCHMARK_NAMES = tuple(name for name in SETTING_NAMES if name not in UNLEVERAGED)


# Most runs of a batch have one of a few benchmarks. A hash of text tells 1 from 1.0, and so must
# the memory of it.
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
            config["rebalance"],
            first_bar,
            # What is fitted depends on when its decisions are traded.
            fit_bars and (fit_bars, config["execution_lag"]),
        ]
    )
