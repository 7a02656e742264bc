"""The batches whose results are kept: small, and each with something that the others lack."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

STRATEGIES = '''
from pathlib import Path

import numpy as np


class Held:
    """Equal weights that add up to ``gross``; fails for some, and for one the first time alone."""

    def __init__(self, gross: float = 1.0, fails: str = ""):
        self.gross = gross
        self.fails = fails

    def target_weights(self, panel, decisions):
        if self.fails == "always":
            raise ValueError("broken on purpose")
        if self.fails == "once" and not Path("failed.once").exists():
            Path("failed.once").touch()
            raise OSError("not yet")
        return np.full((len(decisions), panel.n_assets), self.gross / panel.n_assets)


class Best:
    """Holds the asset that did best in training, or one that did less well."""

    def __init__(self, skip: int = 0):
        self.skip = skip

    def fit(self, panel):
        close = panel.close.to_numpy()
        self.pick = np.argsort(-(close[-1] / close[0]), kind="stable")[self.skip]
        return self

    def target_weights(self, panel, decisions):
        weights = np.zeros((len(decisions), panel.n_assets))
        weights[:, self.pick] = 1.0
        return weights
'''

AS_BEFORE = "statistics.mean_block=10"
"""Blocks of the length that they had in every earlier version."""

WALK = ("walk_forward.train_size=252", "walk_forward.test_size=63")
SHIPPED = "equal_weight,inverse_volatility,mean_reversion,multifactor_long_short,trend_baseline"


@dataclass(frozen=True)
class Batch:
    """A batch to run.

    Parameters
    ----------
    name
        Its name, and that of its experiment and of its folder.
    commands
        The arguments of each command, without those that all of them share; the last command ends
        the batch.
    exit_codes
        What each command ends with.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    exit_codes: tuple[int, ...] = (0,)

    def arguments(self) -> list[list[str]]:
        """Return the arguments of each command."""
        # An experiment of its own: how many trials were made before depends on no other batch.
        own = (f"tracking.experiment={self.name}", f"output_dir=reports/{self.name}")
        shared = ("n_jobs=1", f"batch_name={self.name}", AS_BEFORE)
        return [
            [*own, *command] if command[0].startswith("resume=") else [*own, *shared, *command]
            for command in self.commands
        ]


def _batch(name: str, *arguments: str, exit_code: int = 0) -> Batch:
    return Batch(name, (("-m", *arguments),), (exit_code,))


def _synthetic(n_bars: int, n_assets: int = 5, seed: int = 0) -> tuple[str, ...]:
    return (
        "data=synthetic",
        f"data.n_bars={n_bars}",
        f"data.n_assets={n_assets}",
        f"data.seed={seed}",
    )


def _custom(name: str) -> tuple[str, ...]:
    return ("strategy=custom", f"strategy._target_=golden_strategies.{name}")


BATCHES = (
    _batch("nine_runs", "commission_bps=0,0.5,1", "max_gross_exposure=0.6,0.8,1.0"),
    _batch("strategies", *_synthetic(700), f"strategy={SHIPPED}", "rebalance=W,M"),
    _batch(
        "rolling",
        *_synthetic(700),
        "walk_forward=rolling",
        *WALK,
        "strategy.fast=5,10",
        "strategy.slow=40,60",
        "start_date=2000-03-01,2000-09-01",
    ),
    _batch(
        "expanding",
        *_synthetic(700, seed=1),
        "walk_forward=expanding",
        *WALK,
        "walk_forward.purged_size=5",
        "strategy.fast=5,10,20",
        "rank_by={sharpe:0.5,calmar:0.5}",
        "constraints={max_drawdown:'>= -0.5'}",
        "commission_bps=2",
    ),
    _batch(
        "combinatorial",
        *_synthetic(700, seed=2),
        "walk_forward=combinatorial",
        "walk_forward.n_folds=5",
        "walk_forward.embargo_size=3",
        "strategy.fast=5,10,20",
        "spread_bps=0,4",
    ),
    _batch(
        "fitted",
        *_synthetic(700, seed=3),
        "walk_forward=rolling",
        *WALK,
        *_custom("Best"),
        "strategy.skip=0,1,2",
        "rebalance=Q",
        "commission_bps=5",
    ),
    _batch(
        "failures",
        *_synthetic(300),
        *_custom("Held"),
        "strategy.fails='',always",
        "strategy.gross=0.5,0.9",
        "on_failure=continue",
        exit_code=1,
    ),
    Batch(
        "resumed",
        (
            (
                "-m",
                *_synthetic(300),
                *_custom("Held"),
                "strategy.fails='',once",
                "strategy.gross=0.3,0.6,0.9",
                "on_failure=stop",
            ),
            ("resume=latest",),
        ),
        (1, 0),
    ),
    _batch(
        "ending_series",
        "data=csv",
        "data.path=market.csv",
        "execution_price=open",
        "rebalance=W",
        "impact_bps=3",
        "commission_bps=1",
        "strategy=equal_weight,inverse_volatility",
        "max_weight=0.3,0.5",
    ),
    _batch(
        "ruin",
        *_synthetic(400, seed=4),
        "data.volatility=1.5",
        "data.correlation=0.8",
        *_custom("Held"),
        "strategy.gross=0.5,1,6",
        "max_gross_exposure=10",
        "rebalance=bar",
    ),
    _batch(
        "rates",
        *_synthetic(700, seed=5),
        "strategy=multifactor_long_short,mean_reversion",
        "max_gross_exposure=1,2",
        "cash_rate=0.03",
        "borrow_rate=0.06",
        "short_fee_rate=0.02",
        "risk_free_rate=0.02",
        "commission_bps=1",
        "rebalance=W",
    ),
    _batch(
        "scenarios",
        *_synthetic(1500, n_assets=8, seed=6),
        "data.skill=0.15",
        "strategy.fast=5,10",
        "strategy.slow=30,60",
        "commission_bps=0,5",
        "execution_lag=1,2",
        "rebalance=W",
        "start_date=2000-06-01,2002-01-01",
    ),
    _batch(
        "thousand_runs",
        *_synthetic(340, n_assets=3, seed=7),
        "strategy.fast=range(2,22)",
        "strategy.slow=range(25,50)",
        "commission_bps=0,5",
        "rebalance=W",
    ),
)


def write_market(path: Path) -> None:
    """Write daily bars of four assets: one ends early, one earlier still, one begins late.

    Parameters
    ----------
    path
        The CSV file: one row a symbol and bar.
    """
    draws = np.random.default_rng(11).normal(0.0003, 0.015, (400, 4))
    close = 50 * np.exp(draws.cumsum(axis=0))
    opened = close * np.exp(np.random.default_rng(12).normal(0, 0.003, close.shape))
    dates = pd.bdate_range("2010-01-04", periods=len(close))
    spans = {"ALL": (0, 400), "EARLY": (0, 180), "LATE": (60, 400), "NEXT": (0, 300)}
    lines = ["date,symbol,open,close"]
    for column, (symbol, (first, end)) in enumerate(spans.items()):
        lines += [
            f"{dates[bar].date()},{symbol},{opened[bar, column]:.4f},{close[bar, column]:.4f}"
            for bar in range(first, end)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_batches(folder: Path, batches: Sequence[Batch] = BATCHES) -> None:
    """Run batches in a process of their own.

    Parameters
    ----------
    folder
        An empty folder, in which they run.
    batches
        The batches.

    Raises
    ------
    AssertionError
        When a command ends with another code than it should.
    """
    (folder / "golden_strategies.py").write_text(STRATEGIES, encoding="utf-8")
    write_market(folder / "market.csv")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_batches.py"))],
        cwd=folder,
        input=json.dumps([arguments for batch in batches for arguments in batch.arguments()]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        timeout=1100,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ended = json.loads(done.stdout.splitlines()[-1])
    wanted = [code for batch in batches for code in batch.exit_codes]
    assert ended == wanted, f"{ended} instead of {wanted}\n{done.stderr[-4000:]}"
