"""Names of runs within their batch."""

import re
from collections.abc import Collection

from backtest_batch.masking import masked_values
from backtest_batch.records import Composition, format_value

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
        values = [format_value(value) for value in masked_values(composition.swept).values()]
        raw = "_".join(["run", *values]) if values else "run_base"
    safe = re.sub(r"[^A-Za-z0-9._+-]", "-", raw)
    # "." and ".." are folders.
    if len(safe) <= LONGEST_RUN_ID and safe.lower() not in taken and safe.strip("."):
        return safe
    named = (f"{safe[: LONGEST_RUN_ID - 1 - n]}-{key[:n]}" for n in (8, 16, 32, 64))
    return next(name for name in named if name.lower() not in taken)
