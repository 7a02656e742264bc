"""Several batches side by side, in lines of text: which they are, and in what they differ."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from backtest_batch.comparison.run_table import RunTable

_NAMED = 3
"""Up to so many batches are named beside a value; of more, the number is given."""

_LISTED = 10
"""Up to so many batches have a line of their own."""


def batch_lines(table: RunTable, differences: pd.DataFrame) -> list[str]:
    """Return what is to be said first when several batches are compared.

    Parameters
    ----------
    table
        The runs.
    differences
        What :func:`.batch_differences` returned for them.

    Returns
    -------
    list of str
        One line a batch (of more than ten only how many there are), then one line for each fact
        in which they differ, each of its values with the batches that have it. Empty for one batch.
    """
    if not table.several_batches:
        return []
    counts = table.runs["batch_id"].value_counts(sort=False)
    names = _names(table)
    lines = [f"{len(table):,} runs of {len(counts):,} batches are compared."]
    if len(counts) <= _LISTED:
        lines += [
            f"batch {batch}{f' ({names[batch]})' if names.get(batch) else ''}: "
            f"{count:,} run{'s' * (count != 1)}"
            for batch, count in counts.items()
        ]
    if differences.empty:
        return [*lines, "They do not differ in data, code or configuration."]
    lines.append("They differ in the following: where it matters, unlike things are compared.")
    # A name is easier to read than an id, where it tells the batches apart.
    apart = len(set(names.values()) - {""}) == len(counts)
    shown = names if apart else {batch: str(batch) for batch in counts.index}
    return lines + [_fact(row, shown) for row in differences.to_dict("records")]


def _names(table: RunTable) -> dict[Any, str]:
    """Return the name of each batch; none where they are not known."""
    if "batch_name" not in table.runs:
        return {}
    first = table.runs.drop_duplicates("batch_id").set_index("batch_id")["batch_name"]
    return {batch: name if isinstance(name, str) else "" for batch, name in first.items()}


def _fact(row: dict[Any, Any], names: Mapping[Any, str]) -> str:
    holders: dict[str, list[str]] = {}
    for batch, value in row.items():
        if batch != "fact" and not pd.isna(value):
            holders.setdefault(str(value), []).append(names[batch])
    parts = [
        f"{value} in {', '.join(batches) if len(batches) <= _NAMED else f'{len(batches)} batches'}"
        for value, batches in holders.items()
    ]
    more = len(parts) - _LISTED
    shown = parts if more <= 0 else [*parts[:_LISTED], f"and {more:,} more values"]
    return f"{row['fact']}: {'; '.join(shown)}"
