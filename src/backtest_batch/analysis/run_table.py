"""The table that all comparisons work on: runs, their swept parameters and their metrics."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.scenarios import (
    AxisKinds,
    Levels,
    choice_name,
    is_market,
    levels_by_name,
    plain_value,
    scenario_label,
)
from backtest_batch.arrays import BoolArray, FloatArray, IntArray
from backtest_batch.core.engine.metrics import (
    METRICS,
    RESULT_METRICS,
    Metric,
    metric_named,
    result_names,
)
from backtest_batch.errors import ConfigurationError
from backtest_batch.records import RunFailure, RunRecord, RunResult, Scalar
from backtest_batch.values import merged_order, value_at

NEIGHBOURHOOD = "sharpe_neighbourhood"
"""Metric of a run, computed from its neighbours in the grid; see :mod:`.stability`."""

OUT_OF_SAMPLE = "oos_"
"""Prefix of the metrics that a walk-forward adds to each run."""


def known_metrics() -> tuple[str, ...]:
    """Return the names that rankings and constraints understand.

    These are the metrics of the engine and ``sharpe_neighbourhood``. Each result metric is also
    known with the prefix ``oos_``.
    """
    return (*METRICS, NEIGHBOURHOOD)


def result_metric_names(columns: Iterable[str]) -> list[str]:
    """Return those of the columns that are result metrics, in the order of the reports.

    The neighbourhood and out-of-sample metrics follow the engine's.

    Parameters
    ----------
    columns
        Names of metrics, in any order.
    """
    given = set(columns)
    tested = result_names(
        name.removeprefix(OUT_OF_SAMPLE) for name in given if name.startswith(OUT_OF_SAMPLE)
    )
    near = [NEIGHBOURHOOD] if NEIGHBOURHOOD in given else []
    return [*result_names(given), *near, *(OUT_OF_SAMPLE + name for name in tested)]


def engine_metric(name: str) -> Metric | None:
    """Return the engine's metric that a name stands for, or None for an unknown name.

    ``sharpe_neighbourhood`` and ``oos_sharpe`` are read like ``sharpe``.
    """
    if name == NEIGHBOURHOOD:
        return METRICS["sharpe"]
    metric = metric_named(name.removeprefix(OUT_OF_SAMPLE))
    if metric is not None and metric.execution and name != metric.name:
        return None
    return metric


def direction_of(name: str) -> int:
    """Return +1 when more is better, -1 when less is, 0 for neither and for unknown names."""
    metric = engine_metric(name)
    return 0 if metric is None else metric.direction


def choices(given: str, allowed: Sequence[str], *, at_most: int | None = None) -> str:
    """Say what a name may have meant: close matches first, then every choice.

    Parameters
    ----------
    given
        The name that was not accepted.
    allowed
        The names that would have been accepted.
    at_most
        How many of them to list; None lists all.
    """
    close = difflib.get_close_matches(given.lower(), allowed, n=3, cutoff=0.6)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    shown = ", ".join(allowed[:at_most])
    more = 0 if at_most is None else len(allowed) - at_most
    return f"{meant}The choices are {shown}" + (f" and {more:,} more" if more > 0 else "")


Label = int | str
"""Label of a row in the index of a run table."""

RUN_COLUMNS = (
    "run_id",
    "batch_id",
    "status",
    "run_key",
    "error_type",
    "error_message",
    "undefined_metrics",
    "mlflow_run_id",
    "started_ms",
    "ended_ms",
    "data_fingerprint",
    "code_fingerprint",
)
"""Columns of ``RunTable.runs`` that the reports know; the first and the third are required."""

SEARCH_COLUMNS = ("trial", "search_round")
"""Further columns where a search chose the runs; see :class:`.RunSpec`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunTable:
    """Runs to compare, one row per run, in three frames that share one index.

    Parameters and metrics have separate frames because their names may be equal: a strategy may
    well have a parameter called ``sharpe``.

    Attributes
    ----------
    runs
        What is known about each run, shape (n_runs, any). Required: ``run_id`` (text) and
        ``status`` (MLflow's: FINISHED, FAILED, KILLED, RUNNING). The reports also use the other
        :data:`RUN_COLUMNS`, where present.
    params
        Swept parameters in axis order, with typed values, shape (n_runs, n_params).
    metrics
        Metrics by name, float64 of shape (n_runs, n_metrics); NaN where a run has none. Infinite
        values count as missing.
    scenario_axes
        The columns of ``params`` that are scenario axes; the others are decision axes.

    Raises
    ------
    ConfigurationError
        When the frames do not share one index of distinct labels, have two columns with one name
        or lack a required column.
    """

    runs: pd.DataFrame
    params: pd.DataFrame
    metrics: pd.DataFrame
    scenario_axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        index = self.runs.index
        if not (index.is_unique and index.equals(self.params.index)) or not index.equals(
            self.metrics.index
        ):
            raise ConfigurationError(
                "`runs`, `params` and `metrics` must share one index of distinct labels, but got "
                f"{len(self.runs)}, {len(self.params)} and {len(self.metrics)} rows."
            )
        for name, frame in (
            ("runs", self.runs),
            ("params", self.params),
            ("metrics", self.metrics),
        ):
            _require_distinct(frame, name)
        lacking = [name for name in ("run_id", "status") if name not in self.runs]
        lacking += [name for name in self.scenario_axes if name not in self.params]
        if lacking:
            raise ConfigurationError(f"The run table lacks the columns {', '.join(lacking)}.")
        metrics = self.metrics.astype(np.float64)
        object.__setattr__(self, "metrics", metrics.where(np.isfinite(metrics)))

    def __len__(self) -> int:
        return len(self.runs)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        params: Sequence[str],
        metrics: Sequence[str] | None = None,
        scenario_axes: Iterable[str] = (),
        decision_axes: Iterable[str] = (),
    ) -> "RunTable":
        """Return the table from one flat frame with one row per run.

        Parameters
        ----------
        frame
            Parameters, metrics and run columns side by side. Without ``run_id``, the index labels
            name the runs; without ``status``, all are FINISHED.
        params
            The columns that are swept parameters.
        metrics
            The columns that are metrics; by default every known metric that is not a parameter.
        scenario_axes, decision_axes
            Further keys to count as one or the other; see :class:`.AxisKinds`.
        """
        kinds = AxisKinds(tuple(scenario_axes), tuple(decision_axes))
        if metrics is None:
            metrics = [
                name for name in frame.columns if engine_metric(str(name)) and name not in params
            ]
        _require_distinct(frame, "frame")
        lacking = [name for name in (*params, *metrics) if name not in frame]
        if lacking:
            raise ConfigurationError(f"The frame lacks the columns {', '.join(lacking)}.")
        used = {*params, *metrics}
        runs = frame[[name for name in frame.columns if name not in used]].copy()
        if "run_id" not in runs:
            runs.insert(0, "run_id", [str(label) for label in frame.index])
        if "status" not in runs:
            runs["status"] = "FINISHED"
        return cls(
            runs=runs,
            params=frame[list(params)].astype(object),
            metrics=frame[list(metrics)],
            scenario_axes=kinds.scenario_names(params),
        )

    @classmethod
    def from_records(
        cls, records: Iterable[RunRecord], *, batch_id: str, kinds: AxisKinds | None = None
    ) -> "RunTable":
        """Return the table of the runs of a batch, in the order given.

        Parameters
        ----------
        records
            The runs as they ended. Where a run did not sweep a key that others did, the value
            comes from its configuration.
        batch_id
            The batch to which they belong.
        kinds
            Which of the swept keys are conditions; by default the scenario keys.
        """
        kinds = kinds or AxisKinds()
        listed = list(records)
        names = merged_order(record.spec.swept for record in listed)
        index = pd.RangeIndex(len(listed))
        params = {
            name: pd.Series([_value(record, name) for record in listed], index=index, dtype=object)
            for name in names
        }
        metrics = pd.DataFrame([_metrics(record) for record in listed], index=index)
        order: list[str] = sorted(map(str, metrics.columns), key=_metric_order)
        return cls(
            runs=pd.DataFrame(
                [{**_facts(record), "batch_id": batch_id} for record in listed],
                index=index,
                columns=[
                    *(name for name in RUN_COLUMNS if name != "mlflow_run_id"),
                    *(SEARCH_COLUMNS if any(record.spec.trial for record in listed) else ()),
                ],
            ),
            params=pd.DataFrame(params, index=index, columns=pd.Index(names, dtype=object)),
            metrics=metrics[order],
            scenario_axes=kinds.scenario_names(names),
        )

    @property
    def decision_axes(self) -> tuple[str, ...]:
        """The swept parameters that are not scenario axes, in axis order."""
        return tuple(name for name in self.params.columns if name not in self.scenario_axes)

    @cached_property
    def finished(self) -> BoolArray:
        """Which runs are FINISHED, shape (n_runs,)."""
        return np.asarray(self.runs["status"].to_numpy() == "FINISHED", dtype=np.bool_)

    @property
    def is_searched(self) -> bool:
        """Whether a search chose its runs, or some of them."""
        return SEARCH_COLUMNS[0] in self.runs

    @cached_property
    def result_values(self) -> FloatArray:
        """Those of the engine's result metrics that the table has, shape (n_runs, n_metrics)."""
        names = result_names(self.metrics.columns)
        return self.metrics[names].to_numpy(dtype=np.float64)

    @cached_property
    def levels(self) -> Mapping[str, Levels]:
        """Levels of each swept parameter over all runs."""
        return levels_by_name(self.params)

    @cached_property
    def scenario(self) -> pd.Series:
        """Label of each run's scenario."""
        return self._labels(self.scenario_axes)

    @cached_property
    def walk_group(self) -> pd.Series:
        """Label of the group of runs that a walk-forward chooses among.

        It keeps scenarios, conditions, data and dates apart: a walk chooses on windows of time,
        among runs that share their bars and their costs.
        """
        plain = AxisKinds()
        return self._labels(
            tuple(
                name
                for name in self.params.columns
                if name in self.scenario_axes or is_market(name) or plain.is_scenario(name)
            )
        )

    def _labels(self, axes: Sequence[str]) -> pd.Series:
        columns = []
        for name in axes:
            levels = self.levels[name]
            columns.append([levels.values[code] for code in levels.codes.tolist()])
        rows = zip(*columns, strict=True) if columns else [()] * len(self)
        labels = [scenario_label(dict(zip(axes, row, strict=True))) for row in rows]
        return pd.Series(labels, index=self.runs.index, dtype=object, name="scenario")

    @cached_property
    def several_batches(self) -> bool:
        """Whether the runs come from more than one batch."""
        return "batch_id" in self.runs and self.runs["batch_id"].nunique(dropna=False) > 1

    def subset(self, rows: BoolArray) -> "RunTable":
        """Return the rows where a mask of shape (n_runs,) is True."""
        return self._with_rows(np.flatnonzero(rows))

    def sorted_finished(self) -> "RunTable":
        """Return the FINISHED runs by run_id, then batch_id.

        Sums over them then have the same bits, whatever the order in which the runs arrived.
        """
        order = id_order(self)
        return self._with_rows(order[self.finished[order]])

    def with_metric(self, name: str, values: pd.Series) -> "RunTable":
        """Return the table with one more metric, aligned by index; it replaces its namesake."""
        return RunTable(
            runs=self.runs,
            params=self.params,
            metrics=self.metrics.assign(**{name: values.reindex(self.metrics.index)}),
            scenario_axes=self.scenario_axes,
        )

    def _with_rows(self, positions: IntArray) -> "RunTable":
        return RunTable(
            runs=self.runs.iloc[positions],
            params=self.params.iloc[positions],
            metrics=self.metrics.iloc[positions],
            scenario_axes=self.scenario_axes,
        )


def id_order(table: RunTable) -> IntArray:
    """Return the positions of the runs by run_id, then batch_id, in plain order of characters."""
    runs = table.runs
    batches = runs["batch_id"] if "batch_id" in runs else [""] * len(runs)
    names = [(str(run), str(batch)) for run, batch in zip(runs["run_id"], batches, strict=True)]
    return np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)


def _require_distinct(frame: pd.DataFrame, name: str) -> None:
    if not frame.columns.is_unique:
        twice = sorted({str(column) for column in frame.columns[frame.columns.duplicated()]})
        raise ConfigurationError(f"`{name}` has columns twice: {', '.join(twice)}.")


def _value(record: RunRecord, name: str) -> Scalar:
    """Return a run's value of a key that it, or another run of the batch, swept."""
    if name in record.spec.swept:
        return plain_value(record.spec.swept[name])
    node = value_at(record.spec.config, name.split("."))
    if isinstance(node, Mapping) and "_target_" in node:
        return choice_name(str(node["_target_"]))
    return plain_value(node)


def _encodable(text: str) -> str:
    """Return text that pandas and files can hold: undecodable file name bytes become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _metric_order(name: str) -> tuple[float, str]:
    """Return the sort key that puts the engine's metrics first, in their order."""
    order = list(METRICS)
    if name in METRICS:
        return (order.index(name), "")
    # The slopes on factors follow the other result metrics.
    return (len(RESULT_METRICS) - 0.5 if metric_named(name) else len(order), name)


def _metrics(record: RunRecord) -> dict[str, float]:
    outcome = record.outcome
    if not isinstance(outcome, RunResult):
        return {"attempts": record.attempts}
    return {
        **outcome.metrics,
        "runtime_s": outcome.runtime_s,
        "cpu_s": outcome.cpu_s,
        "peak_rss_mb": outcome.peak_rss_mb,
        "attempts": record.attempts,
    }


def _facts(record: RunRecord) -> dict[str, Any]:
    spec, outcome = record.spec, record.outcome
    failure = outcome if isinstance(outcome, RunFailure) else None
    undefined = outcome.undefined_metrics if isinstance(outcome, RunResult) else ()
    return {
        "run_id": spec.run_id,
        "status": record.status,
        "run_key": spec.run_key,
        "error_type": failure.error_type if failure else "",
        "error_message": _encodable(failure.error_message) if failure else "",
        "undefined_metrics": ", ".join(undefined),
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "data_fingerprint": spec.data_fingerprint,
        "code_fingerprint": spec.code_fingerprint,
        "trial": spec.trial,
        "search_round": spec.search_round,
    }
