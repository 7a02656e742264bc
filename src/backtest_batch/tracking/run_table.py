"""Runs collected into a table, column by column."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mlflow.entities import Run

_FIRST = (
    "run_id", "batch_id", "status", "mlflow_run_id", "run_name", "started_ms", "ended_ms",
)  # fmt: skip
_TIMES = ("started_ms", "ended_ms")


class RunColumns:
    """Runs whose values arrive in any order.

    Parameters
    ----------
    parts
        Which of metrics, params and tags become columns.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts
        self._row_of: dict[str, int] = {}
        self._infos: list[tuple[Any, ...]] = []
        self._columns: dict[str, dict[str, dict[int, Any]]] = {
            "metrics": {},
            "params": {},
            "tags": {},
        }

    def add_info(
        self, run_id: str, status: str, name: str, started_ms: int | None, ended_ms: int | None
    ) -> None:
        """Add a run without its values; of a run that is there already nothing changes."""
        if run_id not in self._row_of:
            self._row_of[run_id] = len(self._infos)
            self._infos.append((status, run_id, name, started_ms, ended_ms))

    def add_values(self, part: str, rows: Iterable[Sequence[Any]]) -> None:
        """Add MLflow run id, key and value of metrics, params or tags; others are ignored."""
        columns, row_of = self._columns[part], self._row_of
        for run_id, key, value in rows:
            row = row_of.get(run_id)
            if row is not None:
                columns.setdefault(key, {})[row] = value

    def add_run(self, run: "Run") -> None:
        """Add a run as MLflow's client returns it."""
        info, data = run.info, run.data
        self.add_info(info.run_id, info.status, info.run_name, info.start_time, info.end_time)
        for part, values in (
            ("metrics", data.metrics),
            ("params", data.params),
            ("tags", data.tags),
        ):
            self.add_values(part, ((info.run_id, key, value) for key, value in values.items()))

    def frame(self) -> pd.DataFrame:
        """Return the table as :func:`backtest_batch.tracking.search.read_runs` describes it."""
        n_rows = len(self._infos)
        tags = self._columns["tags"]
        columns: dict[str, Any] = {
            "run_id": _texts(tags.get("run_id", {}), n_rows),
            "batch_id": _texts(tags.get("batch_id", {}), n_rows),
        }
        infos = list(zip(*self._infos, strict=True)) or [()] * 5
        columns |= dict(zip(_FIRST[2:], (list(values) for values in infos), strict=True))
        for part in self._parts:
            for key in sorted(self._columns[part]):
                values = self._columns[part][key]
                make = _numbers if part == "metrics" else _texts
                columns[f"{part}.{key}"] = make(values, n_rows)
        for name in _TIMES:
            columns[name] = pd.array(columns[name], dtype="Int64")
        frame = pd.DataFrame(columns)
        return frame.sort_values(["started_ms", "mlflow_run_id"], ignore_index=True)


def _numbers(values: dict[int, Any], n_rows: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    column = np.full(n_rows, np.nan)
    column[list(values)] = list(values.values())
    return column


def _texts(values: dict[int, Any], n_rows: int) -> list[str | None]:
    return [values.get(row) for row in range(n_rows)]
