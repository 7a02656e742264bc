"""Runs of several batches side by side: joined, counted once, and how their batches differ."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from backtest_batch.comparison.levels import format_value
from backtest_batch.comparison.run_table import RunTable


def join_tables(tables: Sequence[RunTable]) -> RunTable:
    """Put the runs of several tables below each other.

    Parameters
    ----------
    tables
        At least one. A parameter that a table lacks is null there: give each table the values of
        the parameters that others swept where they are known. A parameter that is a scenario axis
        of one table is one of all.

    Returns
    -------
    RunTable
        Indexed from 0; parameters and metrics in order of first appearance.
    """

    def joined(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
        held = list(frames)
        columns = list(dict.fromkeys(name for frame in held for name in frame.columns))
        index = pd.RangeIndex(sum(len(frame) for frame in held))
        values = {
            name: np.concatenate(
                [
                    frame[name].to_numpy(dtype=object)
                    if name in frame
                    else np.full(len(frame), None, dtype=object)
                    for frame in held
                ]
            )
            for name in columns
        }
        return pd.DataFrame(values, index=index, columns=pd.Index(columns, dtype=object))

    axes = {name for table in tables for name in table.scenario_axes}
    params = joined(table.params for table in tables)
    return RunTable(
        runs=joined(table.runs for table in tables).infer_objects(),
        params=params,
        metrics=joined(table.metrics for table in tables).astype(np.float64),
        scenario_axes=tuple(name for name in params.columns if name in axes),
    )


def without_repeats(table: RunTable) -> tuple[RunTable, pd.DataFrame]:
    """Keep one run of each run key.

    Parameters
    ----------
    table
        The runs, with the column ``run_key``. Without it, or where a key is missing, nothing is
        known to repeat.

    Returns
    -------
    tuple
        The table with the first FINISHED run of each key (the first run where none finished), in
        its order; and one row a run left out: run_id, batch_id, kept_run_id, kept_batch_id.
    """
    columns = ["run_id", "batch_id", "kept_run_id", "kept_batch_id"]
    if "run_key" not in table.runs:
        return table, pd.DataFrame(columns=columns)
    keys = table.runs["run_key"].tolist()
    kept: dict[str, int] = {}
    for position, key in enumerate(keys):
        if not isinstance(key, str) or not key:
            continue
        if key not in kept or (table.finished[position] and not table.finished[kept[key]]):
            kept[key] = position
    stays = np.array([kept.get(key, position) == position for position, key in enumerate(keys)])
    names = table.runs["run_id"].tolist()
    batches = table.runs["batch_id"].tolist() if "batch_id" in table.runs else [""] * len(names)
    repeats = [
        (names[position], batches[position], names[kept[key]], batches[kept[key]])
        for position, key in enumerate(keys)
        if not stays[position]
    ]
    return table.subset(stays.astype(np.bool_)), pd.DataFrame(repeats, columns=columns)


def differences(facts: pd.DataFrame, *, by: str = "batch_id") -> pd.DataFrame:
    """Return in which facts batches differ, because unlike things are hard to compare.

    Parameters
    ----------
    facts
        One row a run or a batch: the column ``by`` and the facts (fingerprints of data and code,
        dates, versions, ...).
    by
        Column that names the batch.

    Returns
    -------
    DataFrame of shape (n_differing, 1 + n_batches)
        fact, then one column a batch (in order of appearance) with its distinct values, joined by
        commas; only facts whose values are not the same in all batches.
    """
    batches = list(dict.fromkeys(facts[by]))
    rows = []
    for name in facts.columns:
        if name == by:
            continue
        texts = facts[name].map(format_value)
        held = [", ".join(sorted(set(texts[facts[by] == batch]))) for batch in batches]
        if len(set(held)) > 1:
            rows.append([name, *held])
    return pd.DataFrame(rows, columns=["fact", *map(str, batches)])
