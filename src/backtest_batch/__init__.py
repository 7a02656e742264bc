"""Sweep a trading strategy over a grid, track every backtest in MLflow, and rank the runs.

Everything that the two commands do is a function here, on plain objects and DataFrames: see
``backtest``, ``run_sweep``, ``load_runs``, ``rank``, ``sensitivity``, ``importance``,
``skill_or_luck``, ``rerun`` and ``holds_or_broken``. Names are imported when they are first used.
"""

import sys

if sys.argv[:1] == ["-m"] and any(
    flag == "-m" and name.partition(".")[0] == __name__
    for flag, name in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
):
    # Python is looking for one of our commands, and no line of ours runs before these.
    try:
        from backtest_batch.command import begin

        begin()
    except KeyboardInterrupt:  # a moment before
        sys.exit(130)

import importlib
from typing import TYPE_CHECKING, Any

from backtest_batch.public_names import find_public_names

if TYPE_CHECKING:
    from backtest_batch.analysis.overfitting.samples import OverfittingSettings
    from backtest_batch.analysis.run_table import RunTable
    from backtest_batch.api.analysis import importance, load_runs, rank, sensitivity
    from backtest_batch.api.monitoring import Monitored, holds_or_broken
    from backtest_batch.api.single import Backtest, backtest
    from backtest_batch.api.skill import Judgement, skill_or_luck
    from backtest_batch.api.sweeps import Sweep, rerun, run_sweep
    from backtest_batch.core.account import Account, trade_weights
    from backtest_batch.core.conditions import Conditions
    from backtest_batch.core.data.load import load_panel
    from backtest_batch.core.data.panel import Panel, panel_from_frames
    from backtest_batch.core.strategies.base import Strategy
    from backtest_batch.errors import (
        BacktestBatchError,
        BacktestError,
        ConfigurationError,
        DataError,
        DataNotFoundError,
        Fault,
        MemoryLimitExceeded,
        RunTimeout,
        SelectionError,
        StoreError,
        StrategyError,
        WorkerDied,
    )

__all__ = [
    "Account",
    "Backtest",
    "BacktestBatchError",
    "BacktestError",
    "Conditions",
    "ConfigurationError",
    "DataError",
    "DataNotFoundError",
    "Fault",
    "Judgement",
    "MemoryLimitExceeded",
    "Monitored",
    "OverfittingSettings",
    "Panel",
    "RunTable",
    "RunTimeout",
    "SelectionError",
    "StoreError",
    "Strategy",
    "StrategyError",
    "Sweep",
    "WorkerDied",
    "backtest",
    "holds_or_broken",
    "importance",
    "load_panel",
    "load_runs",
    "panel_from_frames",
    "rank",
    "rerun",
    "run_sweep",
    "sensitivity",
    "skill_or_luck",
    "trade_weights",
]

_MODULES = {
    "api.analysis": ("importance", "load_runs", "rank", "sensitivity"),
    "api.monitoring": ("Monitored", "holds_or_broken"),
    "api.single": ("Backtest", "backtest"),
    "api.skill": ("Judgement", "skill_or_luck"),
    "api.sweeps": ("Sweep", "rerun", "run_sweep"),
    "analysis.overfitting.samples": ("OverfittingSettings",),
    "analysis.run_table": ("RunTable",),
    "errors": (
        "BacktestBatchError",
        "BacktestError",
        "ConfigurationError",
        "DataError",
        "DataNotFoundError",
        "Fault",
        "MemoryLimitExceeded",
        "RunTimeout",
        "SelectionError",
        "StoreError",
        "StrategyError",
        "WorkerDied",
    ),
    "core.account": ("Account", "trade_weights"),
    "core.conditions": ("Conditions",),
    "core.data.load": ("load_panel",),
    "core.data.panel": ("Panel", "panel_from_frames"),
    "core.strategies.base": ("Strategy",),
}
find_public_names()

_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Importing everything here would cost each worker process what only the parent needs.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
