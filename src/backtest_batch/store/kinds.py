"""The interface of a store, however it is reached: by SQL, or through MLflow's client."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from backtest_batch.store.mlflow_run import EquityCurve, RunEntry

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
        """Add a run without its values; a run that was added before is not changed."""
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
        """Return the table as :func:`backtest_batch.store.search.read_runs` describes it."""
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


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """Which runs to read, and which parts of them.

    Attributes
    ----------
    batches
        Their batch_ids; None for all.
    tags
        Tags that every run has with exactly these values.
    statuses
        MLflow's statuses; None for all.
    parts
        Which of metrics, params and tags are read.
    """

    batches: tuple[str, ...] | None
    tags: Mapping[str, str]
    statuses: tuple[str, ...] | None
    parts: tuple[str, ...]

    def admits(self, status: str, tags: Mapping[str, str]) -> bool:
        """Return whether a run with this status and these tags is requested."""
        return (
            (self.statuses is None or status in self.statuses)
            and (self.batches is None or tags.get("batch_id") in self.batches)
            and all(tags.get(key) == value for key, value in self.tags.items())
        )


class RunStore(Protocol):
    """The runs of one store, written by the recorder, and read by resume and search.

    Runs are given by MLflow run id; the texts and numbers written are those of
    :mod:`.mlflow_run`.
    """

    def write(
        self, entries: Sequence[RunEntry], existing: Sequence[str | None]
    ) -> Iterator[tuple[int, str]]:
        """Write ``entries``, yielding the position and the MLflow run id of each when it is done.

        Parameters
        ----------
        entries
            What to write.
        existing
            For each entry the id of a run that has begun but is not complete, or None.

        Raises
        ------
        StoreError
            When the store fails; entries that were not yielded are missing or incomplete.
        """
        ...

    def write_curves(self, curves: Mapping[str, EquityCurve]) -> None:
        """Write curves of runs that are recorded as the stepped metrics equity and drawdown."""
        ...

    def write_metrics(self, metrics: Mapping[str, Mapping[str, float]], timestamp_ms: int) -> None:
        """Add metrics at one time to runs that are recorded."""
        ...

    def read(self, query: RunQuery, filter_string: str) -> RunColumns:
        """Return the requested runs of the experiment that are not in the trash.

        Raises
        ------
        MlflowException
            When ``filter_string``, a condition in MLflow's language, is not understood.
        """
        ...

    def states(self, batch_id: str) -> list[tuple[str, str, str]]:
        """Return run key, status and MLflow run id of a batch's runs, in the order of their start.

        Raises
        ------
        StoreError
            When a server does not know the batch, which has its parent run there.
        """
        ...

    def artifact_uris(self, run_ids: Sequence[str]) -> Mapping[str, str]:
        """Return where the artifacts of runs are, if a single request tells it for all."""
        ...
