"""Runs of several batches: joined in one table, without repeats, and how the batches differ."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.scenarios import is_market, levels_of, value_as_typed
from backtest_batch.arrays import BoolArray, FloatArray
from backtest_batch.core.engine.metrics import result_names

TOLERANCE = 1e-9
"""Relative difference that may come from another machine or other package versions."""

NEAR_ZERO = 1e-12
"""Metrics whose exact value is zero may differ by this much through rounding alone."""

_KEYS_SHOWN = 3
_KEY_LENGTH = 12
"""Number of characters of a run key that are enough to tell runs apart."""

_NUMBERS = {2: "two", 3: "three"}


def agree(one: FloatArray, other: FloatArray) -> BoolArray:
    """Return which values are the same result; two missing values count as the same.

    Parameters
    ----------
    one, other
        Metrics of equal shape, NaN where a run has none.
    """
    same = np.isclose(one, other, rtol=TOLERANCE, atol=NEAR_ZERO, equal_nan=True)
    return np.asarray(same, dtype=np.bool_)


def differing_results(table: RunTable) -> list[str]:
    """Return one sentence for each run key whose FINISHED runs have different results.

    Parameters
    ----------
    table
        What :func:`.without_repeats` returned, with the columns ``run_key`` and
        ``batch_id``.
    """
    if "run_key" not in table.runs or "batch_id" not in table.runs:
        return []
    runs = table.runs[table.finished & (table.runs["run_key"].fillna("") != "").to_numpy()]
    counts = runs["run_key"].value_counts(sort=False)
    several = counts.index[counts > 1]
    notes = []
    for key in several[:_KEYS_SHOWN]:
        rows = runs.index[runs["run_key"] == key]
        name, values = _differing(table, rows)
        texts = _told_apart(values)
        batches = runs.loc[rows, "batch_id"].astype(str)
        found = ", ".join(
            f"{text} in batch {batch}" for text, batch in zip(texts, batches, strict=True)
        )
        notes.append(
            f"run_key {key[:_KEY_LENGTH]} has {_NUMBERS.get(len(rows), len(rows))} results: {name} "
            f"{found}. Each keeps its row: something that the key does not know has changed, or "
            "the strategy is not deterministic."
        )
    more = len(several) - _KEYS_SHOWN
    if more > 0:
        notes.append(f"{more:,} more run keys have results that differ; each keeps its row.")
    return notes


def _differing(table: RunTable, rows: pd.Index) -> tuple[str, list[float]]:
    """Return a metric in which runs differ (the Sharpe ratio if it differs), and its values."""
    names = result_names(table.metrics.columns)
    values = table.metrics.loc[rows, names].to_numpy(dtype=np.float64)
    same: BoolArray = np.all(agree(values, values[:1]), axis=0)
    differing = [position for position, name in enumerate(names) if not same[position]]
    position = names.index("sharpe") if "sharpe" in names else -1
    chosen = position if position in differing else differing[0]
    return names[chosen], values[:, chosen].tolist()


def _told_apart(values: Sequence[float]) -> list[str]:
    """Return numbers as text with the fewest digits that tell them apart, at least three."""
    texts = [repr(value) for value in values]
    for digits in range(3, 17):
        short = ["undefined" if np.isnan(value) else f"{value:.{digits}g}" for value in values]
        if len(set(short)) == len(set(texts)):
            return short
    return texts


def join_tables(tables: Sequence[RunTable]) -> RunTable:
    """Join the runs of several tables into one, one table below the other.

    Parameters
    ----------
    tables
        At least one table. A parameter that a table lacks becomes null there, so give each table
        the values of the parameters that others swept, where known. A scenario axis of one table
        is a scenario axis of all.

    Returns
    -------
    RunTable
        Indexed from 0; parameters and metrics in order of first appearance.
    """

    def joined(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
        listed = list(frames)
        columns = list(dict.fromkeys(name for frame in listed for name in frame.columns))
        index = pd.RangeIndex(sum(len(frame) for frame in listed))
        values = {
            name: np.concatenate(
                [
                    frame[name].to_numpy(dtype=object)
                    if name in frame
                    else np.full(len(frame), None, dtype=object)
                    for frame in listed
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


def without_repeats(table: RunTable, *, own: int = 0) -> tuple[RunTable, pd.DataFrame]:
    """Keep one run per run key, or one per result where the runs of a key have several results.

    Parameters
    ----------
    table
        The runs, with the column ``run_key``. Without it, or where a key is missing, no run is
        taken for a repeat.
    own
        Number of runs at the beginning of the table that are always kept.

    Returns
    -------
    tuple
        The table with the first FINISHED run of each key and result (the first run where none
        finished), in its original order; and a frame with one row per run left out: run_id,
        batch_id, kept_run_id, kept_batch_id.
    """
    columns = ["run_id", "batch_id", "kept_run_id", "kept_batch_id"]
    if "run_key" not in table.runs:
        return table, pd.DataFrame(columns=columns)
    keys = table.runs["run_key"].tolist()
    alike: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        if isinstance(key, str) and key:
            alike.setdefault(key, []).append(position)
    repeated: dict[int, int] = {}
    for positions in alike.values():
        if len(positions) > 1:
            repeated |= _repeats(table, positions, own)
    stays = np.array([position not in repeated for position in range(len(keys))], dtype=np.bool_)
    names = table.runs["run_id"].tolist()
    batches = table.runs["batch_id"].tolist() if "batch_id" in table.runs else [""] * len(names)
    repeats = [
        (names[position], batches[position], names[same], batches[same])
        for position, same in sorted(repeated.items())
    ]
    return table.subset(stays), pd.DataFrame(repeats, columns=columns)


def _repeats(table: RunTable, positions: Sequence[int], own: int) -> dict[int, int]:
    """Map each run of one key that is left out to the run that is kept in its place."""
    finished = [position for position in positions if table.finished[position]]
    first = positions[0] if positions[0] < own or not finished else finished[0]
    distinct, left_out = [first], {}
    for position in positions:
        if position == first:
            continue
        same = next((item for item in distinct if _is_repeated(table, item, position)), None)
        if same is None or position < own:
            distinct.append(position)
        else:
            left_out[position] = same
    return left_out


def _is_repeated(table: RunTable, first: int, second: int) -> bool:
    """Return whether a run adds nothing to a kept run with the same key."""
    if not (table.finished[first] and table.finished[second]):
        return True
    one, other = table.result_values[first], table.result_values[second]
    # Faster: nearly all repeats are equal to the last bit, and there may be thousands.
    return one.tobytes() == other.tobytes() or bool(agree(one, other).all())


_VALUES_SHOWN = 6

_FINGERPRINT = 12
"""Number of characters of a fingerprint that are enough to tell batches apart."""


def batch_differences(table: RunTable, facts: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return how the batches of a table differ: data, code, swept and configured values.

    Parameters
    ----------
    table
        The runs. Every parameter is compared, and fingerprints and the commit where present.
    facts
        Further facts of the batches (versions, ...): the column ``batch_id`` and one column per
        fact. Batches without a row are not compared in these facts.

    Returns
    -------
    DataFrame of shape (n_differing, 1 + n_batches)
        See :func:`differences`. Values are missing where a fact of a batch is not known; empty
        with fewer than two batches.
    """
    if not table.several_batches:
        return pd.DataFrame(columns=["fact"])
    runs = table.runs
    names = ("data_fingerprint", "code_fingerprint", "git_commit")
    # If a fact is not known for every run, whether it differs cannot be told.
    known = [name for name in names if name in runs and (runs[name].fillna("") != "").all()]
    marks = {name: runs[name].astype(str).str[:_FINGERPRINT] for name in known}
    labels = {name: f"param.{name}" if name in marks else name for name in table.params.columns}
    params = table.params[sorted(table.params.columns, key=_market_first)]
    own = pd.DataFrame({"batch_id": runs["batch_id"], **marks, **params.rename(columns=labels)})
    found = [differences(own)]
    if facts is not None and len(facts):
        found.append(differences(facts))
    return pd.concat(found, ignore_index=True)


def _market_first(name: Hashable) -> int:
    """Return the sort key that puts the data and the dates before everything else."""
    return 0 if is_market(str(name)) else 1


def differences(facts: pd.DataFrame, *, by: str = "batch_id") -> pd.DataFrame:
    """Return the facts in which batches differ, because unlike things are hard to compare.

    Parameters
    ----------
    facts
        One row per run or batch: the column ``by`` and the facts (fingerprints of data and code,
        dates, versions, ...).
    by
        Column that names the batch.

    Returns
    -------
    DataFrame of shape (n_differing, 1 + n_batches)
        fact, then one column per batch (in order of appearance) with its distinct values in
        ascending order, joined by commas (with more than six values, the first, the last and their
        number); only facts whose values are not the same in all batches.
    """
    batches = list(dict.fromkeys(facts[by]))
    rows = []
    for name in facts.columns:
        if name == by:
            continue
        levels = levels_of(facts[name])
        codes = [frozenset(levels.codes[(facts[by] == batch).to_numpy()]) for batch in batches]
        if len(set(codes)) > 1:
            texts = [value_as_typed(value) for value in levels.values]
            rows.append([name, *(_listed([texts[code] for code in sorted(own)]) for own in codes)])
    return pd.DataFrame(rows, columns=["fact", *map(str, batches)])


def _listed(texts: Sequence[str]) -> str:
    if len(texts) <= _VALUES_SHOWN:
        return ", ".join(texts)
    return f"{texts[0]}, {texts[1]}, …, {texts[-1]} ({len(texts):,} values)"
