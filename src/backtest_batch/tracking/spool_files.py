"""Batches, runs and curves as JSON files: whole, exact, and readable by people."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from backtest_batch.errors import StoreError
from backtest_batch.records import RunFailure, RunRecord, RunResult, RunSpec
from backtest_batch.tracking.curves import thinned_curve
from backtest_batch.tracking.entries import BatchInfo, DatasetInfo, EquityCurve
from backtest_batch.tracking.process import ProcessIdentity

T = TypeVar("T")


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
    """Write JSON so that the file is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    text = json.dumps(values, default=_plain, ensure_ascii=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _plain(value: Any) -> Any:
    """Return what JSON has no form for in one that it has."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def fields_of(item: Any) -> dict[str, Any]:  # Any: a dataclass of any kind
    """Return the fields of a dataclass, unlike ``dataclasses.asdict`` without copying them."""
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}


def dataset_from_json(values: dict[str, Any]) -> DatasetInfo:
    """Return the dataset whose fields are ``values``."""
    lists = {"symbols": tuple(values["symbols"]), "fields": tuple(values["fields"])}
    return DatasetInfo(**values | lists)


def batch_from_json(values: dict[str, Any]) -> BatchInfo:
    """Return the batch whose fields are ``values``."""
    return BatchInfo(**values | {"process": ProcessIdentity(**values["process"])})


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """Return a record as JSON values; of its folder only whether it has one."""
    values = fields_of(record)
    outcome = values.pop("outcome")
    values["spec"] = fields_of(record.spec)
    if outcome is not None:
        kind = "result" if isinstance(outcome, RunResult) else "failure"
        values[kind] = fields_of(outcome) | {"artifacts": outcome.artifacts is not None}
    return values


def record_from_json(values: dict[str, Any], artifacts: Path) -> RunRecord:
    """Return the record whose fields are ``values``, with its files in ``artifacts``."""
    values = dict(values)
    spec = values.pop("spec")
    result, failure = values.pop("result", None), values.pop("failure", None)
    outcome: RunResult | RunFailure | None = None
    if result is not None:
        undefined = {"undefined_metrics": tuple(result["undefined_metrics"])}
        outcome = RunResult(**result | undefined | _folder(result, artifacts))
    elif failure is not None:
        outcome = RunFailure(**failure | _folder(failure, artifacts))
    spec |= {"overrides": tuple(spec["overrides"])}
    return RunRecord(spec=RunSpec(**spec), outcome=outcome, **values)


def _folder(outcome: Mapping[str, Any], artifacts: Path) -> dict[str, Path | None]:
    return {"artifacts": artifacts if outcome["artifacts"] and artifacts.exists() else None}


def curve_to_json(curve: EquityCurve) -> dict[str, Any]:
    """Return a curve, thinned to what is recorded of it, as lists."""
    return {
        name: None if values is None else values.tolist()
        for name, values in fields_of(thinned_curve(curve)).items()
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
