"""The cells of the table, and one sweep of a cell: what happened, as a line of JSON."""

import subprocess
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.verdict.markets import DAYS, MARKETS, Market
from benchmarks.verdict.strategies import blindfolded, moving_betas, rules, tilted
from benchmarks.verdict.sweep import Sweep

YEARS, TRIALS, RATIOS = (3, 10, 30), (10, 100, 1_000), (0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What sweeps of one kind have in common.

    Attributes
    ----------
    market, tried
        Names of the market and of what is tried.
    years, trials
        Length of the market, and number of decisions.
    factors
        Whether the factors of the market are given.
    ratio
        Information ratio that is planted in one trial; 0 for none.
    """

    market: str
    tried: str
    years: int
    trials: int
    factors: bool = False
    ratio: float = 0.0

    @property
    def name(self) -> str:
        """Its name, and that of its file."""
        parts = [self.market, self.tried, f"{self.years}y", str(self.trials)]
        parts += ["factors"] if self.factors else []
        parts += [f"ir{self.ratio:g}"] if self.ratio else []
        kept = "".join(c if c.isalnum() or c == "." else "-" for c in " ".join(parts).lower())
        return "-".join(filter(None, kept.split("-")))

    @property
    def cost(self) -> float:
        """What a sweep takes, in arbitrary units."""
        return (self.years + 2) * (self.trials + 100) * (3 if self.tried == "tpe" else 1)


ROWS: tuple[tuple[str, str, bool], ...] = (
    ("random walk", "shipped rules", False),
    ("random walk", "tpe", False),
    ("GARCH", "shipped rules", False),
    ("AR(1) returns", "blindfolded", False),
    ("jumps and drift bursts", "blindfolded", False),
    ("survivors", "blindfolded", False),
    ("factor-driven", "loaded on a factor", True),
    ("factor-driven", "moving beta", True),
)
"""Market, what is tried, and whether factors are given: all without skill."""

LACKING = ("factor-driven", "loaded on a factor", False)
"""The same without the factors: what they are for."""


def all_cells() -> list[Cell]:
    """Return all cells, the cheapest first."""
    without = [
        Cell(market=market, tried=tried, years=years, trials=trials, factors=factors)
        for market, tried, factors in (*ROWS, LACKING)
        for years in YEARS
        for trials in TRIALS
    ]
    planted = [
        Cell(market="random walk", tried="blindfolded", years=years, trials=trials, ratio=ratio)
        for ratio in RATIOS
        for years in YEARS
        for trials in TRIALS
    ]
    return sorted([*without, *planted], key=lambda cell: cell.cost)


def sweep_once(cell: Cell, number: int) -> dict[str, Any]:
    """Make a market, try strategies on it, and judge them.

    Parameters
    ----------
    cell
        What is wanted.
    number
        Number of the sweep: equal numbers give equal results.
    """
    begun = time.process_time()
    seed = zlib.crc32(f"{cell.name} {number}".encode())
    generator = np.random.default_rng(seed)
    market = MARKETS[cell.market](generator, cell.years * DAYS)
    sweep = Sweep(market=market)
    _try(sweep, cell, market, seed)
    planted = None
    if cell.ratio:
        planted = int(generator.integers(cell.trials))
        sweep = sweep.planted(planted, cell.ratio)
    found = sweep.judge(with_factors=cell.factors)
    document = found.document
    columns = found.columns
    return {
        "sweep": number,
        "label": document["verdict"]["label"],
        "spa": document["spa_pvalue"],
        "benchmark_spa": document["benchmark_spa_pvalue"],
        "factors_spa": (document.get("factors") or {}).get("spa_pvalue"),
        "found": None if planted is None else bool(columns["skilled"].fillna(False).iloc[planted]),
        "sentence": document["verdict"]["sentence"],
        "seconds": round(time.process_time() - begun, 3),
        "version": version(),
    }


def _try(sweep: Sweep, cell: Cell, market: Market, seed: int) -> None:
    if cell.tried == "tpe":
        sweep.search(cell.trials, seed)
    elif cell.tried == "shipped rules":
        sweep.grid(rules(cell.trials))
    elif cell.tried == "blindfolded":
        sweep.grid(blindfolded(cell.trials, seed))
    else:
        assert market.loadings is not None
        make = moving_betas if cell.tried == "moving beta" else tilted
        sweep.grid(make(cell.trials, seed, market.loadings))


@lru_cache(maxsize=1)
def version() -> str:
    """Return the commit whose code makes the results; ``+`` where files have changed since."""
    changed = "+" if _git("status", "--porcelain", "--", "../../src", ".") else ""
    return f"{_git('rev-parse', '--short=10', 'HEAD') or 'unknown'}{changed}"


def _git(*words: str) -> str:
    command = ["git", *words]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def chosen_cells(patterns: Iterable[str]) -> list[Cell]:
    """Return the cells whose names have all words of one of some patterns; without any, all."""
    wanted = [set(pattern.lower().replace(",", "").split()) for pattern in patterns]
    cells = all_cells()
    if not wanted:
        return cells
    return [cell for cell in cells if any(words <= set(cell.name.split("-")) for words in wanted)]
