"""Several batches side by side, in lines of text: which they are, and in what they differ."""

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
    lines = [f"{len(table):,} runs of {len(counts):,} batches are compared."]
    if len(counts) <= _LISTED:
        names = _names(table)
        lines += [
            f"batch {batch}{names.get(batch, '')}: {count:,} run{'s' * (count != 1)}"
            for batch, count in counts.items()
        ]
    if differences.empty:
        return [*lines, "They do not differ in data, code or configuration."]
    lines.append("They differ in the following: where it matters, unlike things are compared.")
    return lines + [_fact(row) for row in differences.to_dict("records")]


def _names(table: RunTable) -> dict[object, str]:
    if "batch_name" not in table.runs:
        return {}
    pairs = table.runs[["batch_id", "batch_name"]].drop_duplicates().itertuples(index=False)
    return {batch: f" ({name})" for batch, name in pairs if name}


def _fact(row: dict[object, object]) -> str:
    holders: dict[str, list[str]] = {}
    for batch, value in row.items():
        if batch != "fact":
            holders.setdefault(str(value), []).append(str(batch))
    parts = [
        f"{value} in {', '.join(batches) if len(batches) <= _NAMED else f'{len(batches)} batches'}"
        for value, batches in holders.items()
    ]
    more = len(parts) - _LISTED
    shown = parts if more <= 0 else [*parts[:_LISTED], f"and {more:,} more values"]
    return f"{row['fact']}: {'; '.join(shown)}"
