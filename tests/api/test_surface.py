"""The public surface is complete, sorted, and cheap to import."""

import pkgutil
import subprocess
import sys

import backtest_batch

PUBLIC = [
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


def test_the_public_names_are_these_in_order():
    assert backtest_batch.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


def test_every_public_name_is_there_and_documented():
    for name in PUBLIC:
        found = getattr(backtest_batch, name)
        assert found.__doc__, name
        assert name in dir(backtest_batch)


def test_no_public_name_is_that_of_a_module():
    # Importing backtest_batch.batch.run would put the module in place of a function of that name.
    modules = {module.name for module in pkgutil.iter_modules(backtest_batch.__path__)}
    assert not modules & set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(backtest_batch, "sweeep")


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, backtest_batch; "
        "print(sorted({'mlflow', 'hydra', 'pandas', 'numba', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
