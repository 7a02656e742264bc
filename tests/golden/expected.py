"""What the batches are expected to write: kept as text, of long columns a digest and a few values.

A file a batch; in it a table begins with its name and the digest of its bytes, and has a line a
column: name, number of values, digest of all of them, and a few of them, separated by tabs.
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import pandas as pd
import pyarrow as pa
import scipy

from backtest_batch.core.engine.metrics import METRICS
from tests.golden.outputs import Table

EXPECTED = Path(__file__).parent / "expected"
MADE_WITH = EXPECTED / "made_with.json"
KEPT_VALUES = 4
"""Values of a column that are kept, from its first to its last."""
KEPT_COLUMNS = 200
"""Columns of a table that are kept one by one; those beyond are kept as one."""
RELATIVE = 1e-9
ABSOLUTE = 1e-12


@dataclass(frozen=True)
class KeptColumn:
    """A column as it is kept.

    Parameters
    ----------
    n_values
        Number of values.
    digest
        Beginning of the sha256 of all of them.
    values
        Some of them, the first and the last included.
    """

    n_values: int
    digest: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class KeptTable:
    """A table as it is kept: the digest of its file, if no value was taken out, and its columns."""

    file_digest: str | None
    columns: Mapping[str, KeptColumn]


@dataclass(frozen=True)
class Difference:
    """What differs in a table.

    Parameters
    ----------
    table
        Name of the table.
    metric
        The metric whose values differ; None for all else.
    text
        What is different.
    """

    table: str
    metric: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.table}: {self.text}"


def made_with() -> dict[str, object]:
    """Return what the bits of a result may depend on.

    That is the processor, since numpy and numba add in larger groups on one that can, the number of
    processors, among which a product of matrices is divided, and the versions of what computes and
    writes.
    """
    llvmlite.binding.initialize_native_target()
    return {
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "processor": llvmlite.binding.get_host_cpu_name(),
        "vector_instructions": np.show_config(mode="dicts")["SIMD Extensions"]["found"],
        "python": ".".join(platform.python_version_tuple()[:2]),
        "llvmlite": llvmlite.__version__,
        "numba": numba.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "pyarrow": pa.__version__,
        "scipy": scipy.__version__,
    }


def is_made_with_the_same() -> bool:
    """Return whether the expected files were made on such a processor with these versions."""
    return MADE_WITH.exists() and json.loads(MADE_WITH.read_text(encoding="utf-8")) == made_with()


def keep(table: Table) -> KeptTable:
    """Return a table as it is kept."""
    names = list(table.columns)
    columns = {name: _keep_column(table.columns[name]) for name in names[:KEPT_COLUMNS]}
    if beyond := names[KEPT_COLUMNS:]:
        together = tuple(text for name in beyond for text in (f"{name}:", *table.columns[name]))
        columns["(further columns)"] = _keep_column(together)
    return KeptTable(table.file_digest, columns)


def _keep_column(values: tuple[str, ...]) -> KeptColumn:
    places = np.unique(np.linspace(0, len(values) - 1, KEPT_VALUES).round().astype(int))
    return KeptColumn(
        n_values=len(values),
        digest=hashlib.sha256("\n".join(values).encode()).hexdigest()[:12],
        values=tuple(values[place] for place in places) if values else (),
    )


def write_expected(name: str, tables: Mapping[str, KeptTable]) -> None:
    """Keep the tables of a batch.

    Parameters
    ----------
    name
        Name of the batch.
    tables
        Its tables, by name.
    """
    lines = []
    for title, table in tables.items():
        lines.append(f"[{title}]\t{table.file_digest or '-'}")
        for column, kept in table.columns.items():
            values = map(_escaped, kept.values)
            lines.append("\t".join([_escaped(column), str(kept.n_values), kept.digest, *values]))
    (EXPECTED / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_expected(name: str) -> dict[str, KeptTable]:
    """Return the tables that are kept of a batch, none if it was never recorded.

    Parameters
    ----------
    name
        Name of the batch.
    """
    path = EXPECTED / f"{name}.txt"
    if not path.exists():
        return {}
    digests: dict[str, str | None] = {}
    columns: dict[str, dict[str, KeptColumn]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        first, *rest = line.split("\t")
        if first.startswith("["):
            title = first[1:-1]
            digests[title] = None if rest == ["-"] else rest[0]
            columns[title] = {}
        else:
            n_values, digest, *values = rest
            kept = KeptColumn(int(n_values), digest, tuple(map(_unescaped, values)))
            columns[title][_unescaped(first)] = kept
    return {title: KeptTable(digests[title], columns[title]) for title in digests}


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _unescaped(text: str) -> str:
    return str(json.loads(f'"{text}"'))


def compare(
    expected: Mapping[str, KeptTable], actual: Mapping[str, KeptTable], exact: bool
) -> list[Difference]:
    """Return what differs, metrics last.

    Parameters
    ----------
    expected
        The tables that are kept.
    actual
        Those that were written now.
    exact
        True compares every byte that does not differ each time. False compares the names and
        lengths of the columns and the values that are kept, numbers within a relative 1e-9.
    """
    found = [
        Difference(title, None, "is gone" if title in expected else "is new")
        for title in dict.fromkeys([*expected, *actual])
        if (title in expected) != (title in actual)
    ]
    for title in expected:
        if title in actual:
            found += _differences(title, expected[title], actual[title], exact)
    return sorted(found, key=lambda difference: difference.metric is not None)


def _differences(
    title: str, expected: KeptTable, actual: KeptTable, exact: bool
) -> Iterator[Difference]:
    before, now = list(expected.columns), list(actual.columns)
    if before != now:
        gone = [name for name in before if name not in now]
        new = [name for name in now if name not in before]
        yield Difference(title, None, f"other columns or order: {gone} are gone, {new} are new")
    any_column = False
    for name in before:
        if name in actual.columns:
            text = _difference(expected.columns[name], actual.columns[name], exact)
            if text is not None:
                any_column = True
                yield Difference(title, metric_of(name), f"{name}: {text}")
    same_columns = before == now and not any_column
    if exact and same_columns and expected.file_digest != actual.file_digest:
        yield Difference(title, None, "the same values in other bytes")


def _difference(expected: KeptColumn, actual: KeptColumn, exact: bool) -> str | None:
    if expected.n_values != actual.n_values:
        return f"{expected.n_values} values became {actual.n_values}"
    if exact and expected == actual:
        return None
    pairs = list(zip(expected.values, actual.values, strict=True))
    if not exact and all(_is_close(*pair) for pair in pairs):
        return None
    shown = next((pair for pair in pairs if not _is_close(*pair)), None)
    shown = shown or next((pair for pair in pairs if pair[0] != pair[1]), None)
    if shown is None:
        return "values differ, none of which is kept"
    return f"{shown[0]} became {shown[1]}"


def _is_close(before: str, now: str) -> bool:
    if before == now:
        return True
    try:
        return math.isclose(float(before), float(now), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except ValueError:
        return False


def metric_of(column: str) -> str | None:
    """Return the metric that a column has, in-sample or out-of-sample; None if it has none.

    Parameters
    ----------
    column
        Name of a column, or path of a key.
    """
    name = column.rpartition(".")[2].removesuffix("[]")
    for prefix in ("is_", "oos_", "benchmark_"):
        name = name.removeprefix(prefix)
    return name if name in METRICS else None


def summary(differences: list[Difference], most: int = 40) -> str:
    """Return differences as text: metrics by name first, then one line each.

    Parameters
    ----------
    differences
        What differs in a batch.
    most
        Lines at most.
    """
    metrics = sorted({item.metric for item in differences if item.metric is not None})
    n_others = sum(item.metric is None for item in differences)
    lines = [f"metrics that differ: {', '.join(metrics) or 'none'}; {n_others} other differences"]
    lines += [f"  {item}" for item in differences[:most]]
    if len(differences) > most:
        lines.append(f"  and {len(differences) - most} more")
    return "\n".join(lines)
