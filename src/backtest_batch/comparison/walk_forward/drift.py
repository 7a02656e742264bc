"""How stable the choices are from split to split."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.comparison.levels import levels_of


def modal_choice(choices: Sequence[int | None], run_ids: Sequence[str]) -> dict[str, Any]:
    """Return the run chosen most often and its share of all splits.

    Parameters
    ----------
    choices
        Position of the chosen run of each split, None where none qualifies.
    run_ids
        Names of the runs; of runs chosen equally often the first in plain order counts.
    """
    counts = Counter(run_ids[choice] for choice in choices if choice is not None)
    if not counts:
        return {"run_id": None, "share": None}
    run_id = min(counts, key=lambda name: (-counts[name], name))
    return {"run_id": run_id, "share": counts[run_id] / len(choices)}


def parameter_drift(
    choices: Sequence[int | None], parameters: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """Return how each decision parameter moves from choice to choice.

    Parameters
    ----------
    choices
        Position of the chosen run of each split, None where none qualifies.
    parameters
        Decision parameters of the runs, one row a run; a parameter with one value cannot move and
        is left out.

    Returns
    -------
    dict
        By parameter: ``values`` chosen split by split, ``changed`` (share of the changes from one
        split to the next in which it moved; None with fewer than two choices), and for numbers
        ``mean_steps`` (mean number of steps moved along its values, changes and stays alike),
        ``mean``, ``min`` and ``max``.
    """
    found = {}
    for name in parameters.columns:
        levels = levels_of(parameters[name])
        if len(levels.values) < 2:
            continue
        codes = [None if choice is None else int(levels.codes[choice]) for choice in choices]
        moves = [
            abs(after - before)
            for before, after in pairwise(codes)
            if before is not None and after is not None
        ]
        values = [None if code is None else levels.values[code] for code in codes]
        drift: dict[str, Any] = {
            "values": values,
            "changed": sum(move > 0 for move in moves) / len(moves) if moves else None,
        }
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        if levels.numeric and numbers:
            drift["mean_steps"] = sum(moves) / len(moves) if moves else None
            drift |= {
                "mean": float(np.mean(numbers)),
                "min": min(numbers),
                "max": max(numbers),
            }
        found[str(name)] = drift
    return found
