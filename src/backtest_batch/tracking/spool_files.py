"""Batches, runs and curves as JSON files: whole, exact, and readable by people.

What a file holds are the fields of a record. pydantic checks them when they are read, so that a
damaged file is never taken for a result; a field that is not known here is left alone.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from backtest_batch.errors import StoreError
from backtest_batch.masking import masked_values
from backtest_batch.records import RunFailure, RunRecord, RunResult, Status
from backtest_batch.tracking.curves import thinned_curve
from backtest_batch.tracking.entries import BatchInfo, EquityCurve

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpoolHead:
    """What batch.json of a spool holds.

    Attributes
    ----------
    format
        Number of the layout of a spool.
    store_uri, experiment
        Where the results belong; the address without its secrets.
    needs_uri
        Whether there were secrets in the address.
    signature
        The user's, of the address; None where there was no key to sign with.
    parent_run_id
        MLflow's id of the parent run, or None when there was none yet.
    batch
        The batch.
    """

    format: int
    store_uri: str
    needs_uri: bool
    signature: str | None = None
    experiment: str
    parent_run_id: str | None
    batch: BatchInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpoolEnding:
    """How the parent run of a batch ends; see ``Recorder.finish_parent``."""

    status: Status
    tags: Mapping[str, Any]
    metrics: Mapping[str, float]
    note: str
    ended_ms: int


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_as(path: Path, convert: Callable[[Any], T]) -> T:
    """Return what a JSON file of a spool stands for.

    Raises
    ------
    StoreError
        When the file is damaged, or is not what it was written as.
    """
    try:
        return convert(read_json(path))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged, so that the results that were kept there are not recorded. Move "
            f"{path.parent} away to go on; what it held is then computed again."
        ) from error


def write_whole(path: Path, values: Any) -> None:
    """Write JSON without secrets so that the file is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    text = json.dumps(masked_values(values), default=_plain, ensure_ascii=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _plain(value: Any) -> Any:
    """Return what JSON has no form for in one that it has."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


@lru_cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def fields_of(item: Any) -> dict[str, Any]:  # Any: a record of any kind
    """Return the fields of a record, and of the records in it, as plain values."""
    kind: Any = type(item)
    values: dict[str, Any] = _adapter(kind).dump_python(item, warnings=False)
    return values


def record_of(kind: type[T], values: Any) -> T:
    """Return the record whose fields are ``values``.

    Raises
    ------
    ValueError
        When they are not those of such a record.
    """
    wanted: Any = kind  # mypy takes a type for unhashable
    record: T = _adapter(wanted).validate_python(values)
    return record


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """Return a record as JSON values; of its folder only whether it has one."""
    values, outcome = fields_of(record), record.outcome
    kept = values.pop("outcome")
    if outcome is not None:
        kind = "result" if isinstance(outcome, RunResult) else "failure"
        values[kind] = kept | {"artifacts": outcome.artifacts is not None}
    return values


def record_from_json(values: Mapping[str, Any], artifacts: Path) -> RunRecord:
    """Return the record whose fields are ``values``, with its files in ``artifacts``."""
    values = dict(values)
    result, failure = values.pop("result", None), values.pop("failure", None)
    outcome: RunResult | RunFailure | None = None
    if result is not None:
        outcome = record_of(RunResult, result | _folder(result, artifacts))
    elif failure is not None:
        outcome = record_of(RunFailure, failure | _folder(failure, artifacts))
    return dataclasses.replace(record_of(RunRecord, values | {"outcome": None}), outcome=outcome)


def _folder(outcome: Mapping[str, Any], artifacts: Path) -> dict[str, Path | None]:
    return {"artifacts": artifacts if outcome["artifacts"] and artifacts.exists() else None}


def curve_to_json(curve: EquityCurve) -> dict[str, Any]:
    """Return a curve, thinned to what is recorded of it, as lists."""
    short = thinned_curve(curve)
    times = short.timestamps_ms
    return {
        "steps": short.steps.tolist(),
        "equity": short.equity.tolist(),
        "drawdown": short.drawdown.tolist(),
        "timestamps_ms": None if times is None else times.tolist(),
    }


def curve_from_json(values: Mapping[str, Any]) -> EquityCurve:
    """Return the curve whose fields are ``values``."""
    times = values["timestamps_ms"]
    return EquityCurve(
        steps=np.array(values["steps"], dtype=np.int64),
        equity=np.array(values["equity"], dtype=np.float64),
        drawdown=np.array(values["drawdown"], dtype=np.float64),
        timestamps_ms=None if times is None else np.array(times, dtype=np.int64),
    )
