"""What a batch has written, as tables of text in which nothing is left that differs each time."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from backtest_batch.config.schema import NEUTRAL
from backtest_batch.report.best_params import json_text
from tests.golden.batches import AS_BEFORE

VARYING: Mapping[str, str] = MappingProxyType(
    {
        "runtime_s": "seconds, of this computation",
        "cpu_s": "seconds, of this computation",
        "peak_rss_mb": "memory, of this computation",
        "started": "a time",
        "ended": "a time",
        "batch_id": "a time and a random number",
        "mlflow_run_id": "a random number",
        "run_key": "a hash of the code too: it changes whenever a module does",
        "code_fingerprint": "a hash of the code",
        "command_signature": "signed with a key of this machine",
        "environment": "names the machine, and the versions of what is installed",
    }
)
"""Columns and keys whose values are different each time, and why."""

LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "batch_timings.json": "seconds",
        "trials.json": "hashes of configurations, which name modules",
    }
)
"""Files that are not compared, and why; nor are texts and pages that are made of the others."""

ADDED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "overfitting.json": frozenset(
            {
                *("audit", "inference", "trials_band", "mean_block", "permutation", "factors"),
                "sharpe_lower_bound",
            }
        ),
        "rankings.csv": frozenset({"sharpe_lower_bound"}),
    }
)
"""Keys and columns that files have gained since: what stood there before is compared without them.

Of overfitting.json they are figures of a scenario; the mean block that its ``settings`` have always
named is compared.
"""

HAVE_TEXTS = ("overfitting.json",)
"""Files with sentences for people: compared key by key, so that a sentence can be put otherwise
without the bits of the numbers beside it being recorded again.
"""

OF_THE_BEST_RUN = ("equity.parquet", "trades.parquet", "target_weights.parquet", "metrics.csv")


@dataclass(frozen=True)
class Table:
    """A file as columns of text.

    Parameters
    ----------
    columns
        Values by name, in order. Those of a JSON document are named by their path: that of
        ``{"top": [{"rank": 1}, {"rank": 2}]}`` is ``top[].rank``, with two values.
    file_digest
        sha256 of the file as it is, where nothing was taken out of it.
    """

    columns: Mapping[str, tuple[str, ...]]
    file_digest: str | None


def read_outputs(folder: Path, name: str) -> dict[str, Table]:
    """Return the tables of a batch, and those of its best run, by file name.

    Parameters
    ----------
    folder
        Where the batches ran.
    name
        Name of the batch.
    """
    reports = folder / "reports" / name
    paths = {
        path.name: path
        for path in sorted(reports.iterdir())
        if path.suffix in (".csv", ".json", ".parquet") and path.name not in LEFT_OUT
    }
    artifacts = _artifacts_of_the_best(folder, reports)
    paths |= {f"best run, {file}": artifacts / file for file in OF_THE_BEST_RUN}
    return {file: read_table(path) for file, path in paths.items()}


def _artifacts_of_the_best(folder: Path, reports: Path) -> Path:
    rankings = pd.read_csv(reports / "rankings.csv", dtype=str)
    summary = pd.read_csv(reports / "batch_summary.csv", dtype=str, index_col="run_id")
    best = summary.loc[rankings["run_id"].iloc[0], "mlflow_run_id"]
    return folder / "mlruns" / "artifacts" / str(best) / "artifacts"


def read_table(path: Path) -> Table:
    """Read a CSV, JSON or Parquet file.

    Parameters
    ----------
    path
        The file.
    """
    content = _without_what_was_added(path)
    columns = {
        ".csv": _csv_columns,
        ".json": _json_columns,
        ".parquet": _parquet_columns,
    }[path.suffix](content)
    kept = without_what_varies(columns)
    whole = kept == columns and path.name not in HAVE_TEXTS
    digest = hashlib.sha256(content).hexdigest() if whole else None
    return Table(kept, digest)


def _without_what_was_added(path: Path) -> bytes:
    """Return a file as it was written before it gained keys or columns, to the byte."""
    content, added = path.read_bytes(), ADDED.get(path.name)
    if added is None:
        return content
    if path.suffix == ".json":
        document = json.loads(content)
        for figures in (document, *document.get("scenarios", ())):
            for name in added:
                figures.pop(name, None)
                figures.get("benchmark_adjusted", {}).pop(name, None)
            figures["undefined"] = {
                key: reason
                for key, reason in figures["undefined"].items()
                if added.isdisjoint(key.split("."))
            }
        return json_text(document).encode()
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    places = [place for place, name in enumerate(rows[0]) if name not in added]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[row[at] for at in places] for row in rows])
    return text.getvalue().encode()


def without_what_varies(columns: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Blank what is different each time, or wherever the code lies.

    Parameters
    ----------
    columns
        Values by name of the column or path of the key.

    Returns
    -------
    dict of str to tuple of str
        The same columns. Those of `VARYING` are empty: that they are there is compared, what they
        say is not. A class of the product is named without its module, since which one it lies in
        is no result. A command is compared without what every batch here is given. Keys of a
        configuration that were added later are left out at the value that changes nothing.
    """
    kept = {}
    for name, values in columns.items():
        key = name.partition(".config.")[2]
        if key in NEUTRAL and set(values) == {json.dumps(NEUTRAL[key])}:
            continue
        if any(part.removesuffix("[]") in VARYING for part in name.split(".")):
            kept[name] = ()
        elif name.rpartition(".")[2] == "_target_":
            kept[name] = tuple(_without_module(value) for value in values)
        elif name.rpartition(".")[2] == "command":
            kept[name] = tuple(value.replace(f" {AS_BEFORE}", "") for value in values)
        else:
            kept[name] = values
    return kept


def _without_module(target: str) -> str:
    # JSON texts have their quotation marks.
    if target.startswith('"backtest_batch.'):
        return f'"{target.rpartition(".")[2]}'
    return target


def _csv_columns(content: bytes) -> dict[str, tuple[str, ...]]:
    names, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert len(set(names)) == len(names)
    if "metric" in names:
        return _by_metric(names, rows)
    return {name: tuple(row[place] for row in rows) for place, name in enumerate(names)}


def _by_metric(names: list[str], rows: list[list[str]]) -> dict[str, tuple[str, ...]]:
    # One column a metric, its rows one after the other: a change of one metric is seen as that.
    place = names.index("metric")
    columns = {"columns": names, "metrics": [row[place] for row in rows]}
    for row in rows:
        columns.setdefault(row[place], []).extend(row[:place] + row[place + 1 :])
    return {name: tuple(values) for name, values in columns.items()}


def _parquet_columns(content: bytes) -> dict[str, tuple[str, ...]]:
    frame = pd.read_parquet(io.BytesIO(content))
    return {
        str(name): tuple("" if pd.isna(value) else str(value) for value in column.tolist())
        for name, column in frame.items()
    }


def _json_columns(content: bytes) -> dict[str, tuple[str, ...]]:
    columns: dict[str, list[str]] = {}
    for name, value in _leaves("", json.loads(content)):
        columns.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in columns.items()}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, item)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _leaves(f"{path}[]", item)
    else:
        yield path, json.dumps(value, ensure_ascii=False)
