"""The permutation test: how good the same search is on markets that hold nothing to be found."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST_MARKETS = 19
"""With fewer permuted markets no p-value is 0.05 or less."""

_ROUNDING = 1e-9
"""Results this close, relative to their size, are equal: another order adds up differently."""


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """The best result of a search on the real market, and on permuted ones.

    Attributes
    ----------
    metric
        What was searched for.
    direction
        +1 where more of it is better, -1 where less is.
    observed
        The best result on the real market.
    found
        The best one on each permuted market; None where no run of it counts.
    seed, mean_block
        How the markets were permuted.
    is_adaptive
        Whether what was searched depended on what was found.
    n_failed
        How many runs failed on the permuted markets.
    """

    metric: str
    direction: int
    observed: float
    found: tuple[float | None, ...]
    seed: int
    mean_block: float
    is_adaptive: bool
    n_failed: int = 0

    @property
    def n(self) -> int:
        """Number of permuted markets."""
        return len(self.found)

    @property
    def pvalue(self) -> float:
        """The share of markets, the real one among them, that are at least as good as the real one.

        ``(1 + number of permuted markets with best* >= best) / (1 + n)``.
        """
        return (1 + self.n_as_good) / (1 + self.n)

    @property
    def n_as_good(self) -> int:
        """Number of permuted markets on which the best result is at least as good."""
        found = self.direction * np.array(
            [-self.direction * math.inf if one is None else one for one in self.found]
        )
        observed = self.direction * self.observed
        within = _ROUNDING * max(1.0, abs(observed))
        return int(np.count_nonzero(found >= observed - within))

    @property
    def can_pass(self) -> bool:
        """Whether there are enough markets for a p-value of 0.05."""
        return self.n >= LEAST_MARKETS

    @property
    def figures(self) -> dict[str, Any]:
        """What overfitting.json says of it."""
        known = [one for one in self.found if one is not None]
        return {
            "n": self.n,
            "pvalue": self.pvalue,
            "seed": self.seed,
            "metric": self.metric,
            "observed": self.observed,
            "median": float(np.median(known)) if known else None,
            "mean_block": self.mean_block,
            "n_failed": self.n_failed,
        }


NOT_ASKED = "not asked for: permutation_test.n=200 repeats the search on 200 permuted markets"
"""Reason why there is no permutation test by default."""


def permutation_figures(test: PermutationTest | str) -> tuple[Mapping[str, Any] | None, str]:
    """Return what overfitting.json says of a test, or None and the reason why there is none."""
    if isinstance(test, PermutationTest):
        return test.figures, ""
    return None, test or "nothing is known of the search"
