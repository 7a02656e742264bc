"""Which values each trial tried: a table from a file or from memory, one row a trial."""

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from backtest_batch.analysis.scenarios import plain_value, typed_value
from backtest_batch.errors import DataError, DataNotFoundError
from backtest_batch.report.tables import swept_columns

TRIAL_COLUMNS = ("trial", "run_id", "run", "name", "column")
"""Names of the column that names the trials; the first that is there."""

BENCHMARK_COLUMN = "benchmark"
"""Name of the column of returns that holds the benchmark."""

_LISTED = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class TriedValues:
    """The values that each trial tried.

    Attributes
    ----------
    params
        Typed values, shape (n_rows, n_keys), indexed by trial; rows beyond the trials are runs of a
        batch without returns.
    failed
        Those of them that failed.
    """

    params: pd.DataFrame
    failed: frozenset[str] = frozenset()


def tried_values(given: Any, trials: Sequence[str]) -> TriedValues:
    """Return the values that each trial tried.

    Parameters
    ----------
    given
        A table with a column ``trial`` (or ``run_id``) and one column a key; a mapping of trials to
        mappings of keys to values; or the path of a CSV, Parquet or JSON file with either. The
        tables rankings.csv and batch_summary.csv of a batch will do: their metrics are left out.
    trials
        Names of the columns of returns.

    Returns
    -------
    TriedValues
        Of a batch, runs without returns are there, too.

    Raises
    ------
    DataNotFoundError
        When there is no such file.
    DataError
        When it cannot be read, names no trials, names one twice or one that is not there, or lacks
        one; the message names them.
    """
    place, frame = "`decisions`", given
    if isinstance(given, str | Path):
        place = f"decisions={given}"
        frame = _read(Path(given), place)
    if isinstance(frame, Mapping):
        frame = _of_mapping(frame, place)
    if isinstance(frame, list):
        frame = _of_records(frame, place)
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{place} must be a table or a mapping, but is a {type(frame).__name__}")
    frame = frame.rename(columns=str)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{place}: the column {twice} stands twice")
    frame = _by_trial(frame, place, trials)
    keys = swept_columns(frame.columns)
    failed = _failed(frame)
    # A large batch keeps the returns of its best runs only.
    is_ours = len(keys) < len(frame.columns)
    params = frame[list(keys)].rename(columns=keys)
    _require_all(params.index.tolist(), trials, place, also_without=is_ours)
    if params.empty and not keys:
        raise DataError(f"{place}: has no key beside the names of the trials")
    read = typed_value if isinstance(given, str | Path) else plain_value
    # As objects: pandas would make 10.0 of 10 where another trial has none.
    columns = {
        name: [read(value) if isinstance(value, str) else plain_value(value) for value in values]
        for name, values in params.items()
    }
    read_params = pd.DataFrame(columns, index=params.index, dtype=object)
    return TriedValues(params=read_params, failed=frozenset(failed - set(trials)))


def column_levels(columns: pd.Index, trials: Collection[str]) -> pd.DataFrame | None:
    """Return the values that the levels of columns hold, as vectorbt names what it tries.

    Parameters
    ----------
    columns
        Columns of a table of returns.
    trials
        Those of them, as text, that are trials.

    Returns
    -------
    DataFrame or None
        A column ``trial`` and one a level; None where there is one level, or one without a name.
    """
    if not isinstance(columns, pd.MultiIndex) or not all(map(str, columns.names)):
        return None
    if None in columns.names or len(set(columns.names)) < len(columns.names):
        return None
    wanted = set(trials)
    frame = columns.to_frame(index=False).rename(columns=str).astype(object)
    frame.insert(0, TRIAL_COLUMNS[0], [str(name) for name in columns], allow_duplicates=True)
    return frame[frame.iloc[:, 0].isin(wanted)] if frame.columns.is_unique else None


def _read(path: Path, place: str) -> Any:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet", ".json"):
        raise DataError(f"{place}: must be a CSV, Parquet or JSON file")
    if not path.is_file():
        raise DataNotFoundError(f"{place}: there is no such file")
    try:
        if suffix == ".json":
            return json.loads(path.read_text("utf-8"))
        if suffix == ".parquet":
            frame = pd.read_parquet(path)
            return frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
        with path.open(encoding="utf-8-sig") as file:
            first_line = file.readline()
        # Text as it stands: rankings.csv has "null", and a trial may be called "NA" or "007".
        return pd.read_csv(
            path,
            sep=max(",;\t|", key=first_line.count),
            encoding="utf-8-sig",
            dtype=str,
            keep_default_na=False,
        )
    except (OSError, ValueError) as error:  # those of parsers and encodings among them
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{place}: cannot be read ({first})") from error


def _of_mapping(given: Mapping[Any, Any], place: str) -> pd.DataFrame:
    for name, values in given.items():
        if not isinstance(values, Mapping):
            raise DataError(f"{place}: {name} must have a mapping of keys to values")
    return _of_records([{**values, "trial": str(name)} for name, values in given.items()], place)


def _of_records(records: Sequence[Any], place: str) -> pd.DataFrame:
    if not all(isinstance(record, Mapping) for record in records):
        raise DataError(f"{place}: must hold a mapping for each trial")
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    return pd.DataFrame(columns, dtype=object)


def _by_trial(frame: pd.DataFrame, place: str, trials: Sequence[str]) -> pd.DataFrame:
    """Return the rows by the name of their trial."""
    lower = {name.lower(): name for name in reversed(frame.columns.tolist())}
    column = next((lower[name] for name in TRIAL_COLUMNS if name in lower), None)
    if column is None and len(frame.columns):
        first = frame.columns[0]
        column = first if set(trials) <= set(frame[first].astype(str)) else None
    if column is None:
        raise DataError(
            f"{place}: one column must name the trials, as `trial` or `run_id`; there are "
            f"{', '.join(frame.columns[:_LISTED]) or 'none'}"
        )
    names = frame[column].astype(str)
    keep = names != BENCHMARK_COLUMN
    named = frame[keep].drop(columns=column).set_axis(pd.Index(names[keep], dtype=object))
    if not named.index.is_unique:
        twice = named.index[named.index.duplicated()][0]
        raise DataError(f"{place}: the trial {twice} has more than one row")
    return named


def _failed(frame: pd.DataFrame) -> set[str]:
    """Return the runs that failed, in a table of ours."""
    failed: set[str] = set()
    if "status" in frame:
        failed |= set(frame.index[frame["status"] != "FINISHED"])
    if {"unranked", "pareto"} <= set(frame.columns):
        unranked = frame["unranked"].astype(str)
        failed |= set(frame.index[unranked.str.match("FAILED|KILLED|RUNNING")])
    return failed


def _require_all(
    rows: Sequence[str], trials: Sequence[str], place: str, *, also_without: bool
) -> None:
    held, known = set(rows), set(trials)
    lacking = [name for name in trials if name not in held]
    unknown = [] if also_without else [name for name in rows if name not in known]
    faults = []
    if lacking:
        faults.append(f"has no row for {_listed(lacking)}")
    if unknown:
        close = difflib.get_close_matches(unknown[0], lacking or list(trials), n=2)
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        faults.append(
            f"names {_listed(unknown)}, without returns{meant}; what was tried and not kept is "
            "counted by n_trials"
        )
    if faults:
        raise DataError(f"{place}: {'; '.join(faults)}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
