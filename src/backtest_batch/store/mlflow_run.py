"""A batch and its runs in MLflow's terms, for writing and for reading.

MLflow silently cuts long values and rejects many characters in names. Here a long value is
shortened visibly, and a name is changed such that different names stay different.

Both kinds of store write these entries and return these names. All text for a store passes through
:func:`stored_text`, which leaves out secrets and shortens what MLflow would silently cut.
"""

import contextlib
import getpass
import hashlib
import json
import math
import numbers
import posixpath
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from backtest_batch.analysis.scenarios import typed_value
from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.core.engine.metrics import may_be_own, result_names
from backtest_batch.masking import masked, masked_values
from backtest_batch.records import BARS_OF_RUN, RunFailure, RunRecord, RunResult, RunSpec, Status
from backtest_batch.store.process import ProcessIdentity, this_process
from backtest_batch.values import SCALARS, flattened, value_text

PARAM_LENGTH = 6_000
TAG_LENGTH = 8_000
KEY_LENGTH = 250
RUN_NAME_LENGTH = 250

_ALLOWED = re.compile(r"[/\w.\- ]+")
_REJECTED = re.compile(r"[^/\w.\- ]")


def short_digest(text: str) -> str:
    """Return eight hexadecimal digits that stand for ``text``."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def storable_text(text: str, length: int) -> str:
    """Return ``text``, shortened to fit with an ellipsis and the digest of the whole.

    Characters that databases cannot store (lone surrogates, NUL) are escaped.
    """
    if not text.isascii() or "\0" in text:
        text = text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= length:
        return text
    ending = f"… [{len(text)} characters, sha256 {short_digest(text)}]"
    return text[: length - len(ending)] + ending


@lru_cache(maxsize=10_000)
def safe_key(key: str) -> str:
    """Return ``key`` as MLflow accepts it; a changed key ends with a digest of the given one."""
    is_allowed = _ALLOWED.fullmatch(key) is not None and len(key) <= KEY_LENGTH
    # MLflow sometimes treats names as paths, and refuses those that lead elsewhere.
    is_plain = posixpath.normpath(key) == key and not key.startswith(("..", "/")) and key != "."
    if is_allowed and is_plain:
        return key
    changed = _REJECTED.sub("_", key).replace("/", "_").strip(".") or "_"
    return f"{changed[: KEY_LENGTH - 9]}-{short_digest(key)}"


def safe_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a mapping with keys that MLflow accepts."""
    return {safe_key(key): value for key, value in pairs}


def is_number(value: Any) -> bool:
    """Return whether ``value`` can be a metric: a finite number, but not a boolean."""
    if type(value) is float:
        return math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


RESERVED_TAGS = frozenset(
    {
        "account_notes", "attempts", "bars_a_year", "bars_count", "bars_first", "bars_last",
        "batch_id", "batch_name", "batch_role", "chosen",
        "chunk_runs", "claim", "code_fingerprint", "config_hash", "data_fingerprint",
        "error_message", "error_type", "git_commit", "git_dirty", "host", "inputs_unknown",
        "lookahead", "n_failed", "n_finished", "n_runs", "n_skipped", "n_skipped_cells",
        "own_metrics", "pid", "process_started", "rerun_of", "ruined", "run_id", "run_key",
        "scaled_decisions",
        "search_round", "split", "strategy_inputs", "strategy_kind", "swept", "tracking_id",
        "trial", "undefined_metrics", "untradable_weights",
        "warmup",
    }
)  # fmt: skip
"""Names of our tags, which a user's tag must not have; nor may it begin with ``mlflow.``."""

RERUN_OF = "rerun_of"
"""Tag of a batch that computes the winner of another batch again: the batch_id of the latter."""

RESULT_TAGS = (
    "ruined", "untradable_weights", "scaled_decisions", "strategy_inputs", "inputs_unknown",
    "strategy_kind", "own_metrics", "account_notes", *BARS_OF_RUN,
)  # fmt: skip
"""Tags of a run that belong to its result."""

_NOTE_ENDING = "\n\n… The whole summary is the artifact batch_summary.md."

NO_COMMIT = "none"
"""The tag git_commit outside a git repository."""


@dataclass(frozen=True, kw_only=True)
class BatchInfo:
    """What the runs of a batch have in common.

    Attributes
    ----------
    batch_id, batch_name
        Its unique id and its given name.
    n_runs
        Number of runs that it has when it is complete.
    started_ms
        When it began, milliseconds since the epoch.
    tags
        The user's tags.
    git_commit
        Commit of the working directory; None outside a repository.
    git_dirty
        Whether the working directory differs from that commit.
    process
        The process that records.
    rerun_of
        batch_id of the batch whose winner is run again; empty for any other batch.
    n_skipped_cells
        Number of combinations of its grid that are no runs.
    """

    batch_id: str
    batch_name: str
    n_runs: int
    started_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool = False
    process: ProcessIdentity = field(default_factory=this_process)
    rerun_of: str = ""
    n_skipped_cells: int = 0


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The market data of a batch, as MLflow's datasets describe data.

    Attributes
    ----------
    name
        What people call it (``sp500``).
    fingerprint
        sha256 of its content; MLflow keeps the first 36 characters as the digest.
    source
        The path that it was read from, or how it was made.
    is_path
        Whether ``source`` is a path.
    n_bars, symbols, fields
        Its shape.
    first, last
        Timestamps of the first and the last bar.
    """

    name: str
    fingerprint: str
    source: str
    is_path: bool = False
    n_bars: int
    symbols: tuple[str, ...]
    fields: tuple[str, ...]
    first: str
    last: str


@dataclass(frozen=True, kw_only=True)
class EquityCurve:
    """The path of one run, to be drawn by MLflow's UI.

    Attributes
    ----------
    steps
        Positions of the bars, increasing, shape (n_bars,).
    equity, drawdown
        Equity in currency and drawdown as a negative fraction of the peak, shape (n_bars,).
    timestamps_ms
        Times of the bars in milliseconds since the epoch, shape (n_bars,), or None.
    """

    steps: IntArray
    equity: FloatArray
    drawdown: FloatArray
    timestamps_ms: IntArray | None = None


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """One complete run in MLflow's terms; every name and value is one that MLflow accepts.

    Attributes
    ----------
    name, status, started_ms, ended_ms
        As MLflow's run info has them.
    params, metrics, tags
        As MLflow's run data has them; metrics at step 0 and time ``ended_ms``.
    folder
        Folder whose files become artifacts, or None.
    texts
        Contents of further artifacts, by file name.
    """

    name: str
    status: Status
    started_ms: int
    ended_ms: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    folder: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


def run_entry(record: RunRecord, batch: BatchInfo, parent_run_id: str) -> RunEntry:
    """Return the entry of one run of a batch."""
    spec, outcome = record.spec, record.outcome
    name = storable_text(spec.run_name, RUN_NAME_LENGTH)
    tags = {
        **common_tags(batch, name),
        "mlflow.parentRunId": parent_run_id,
        "batch_role": "run",
        "run_id": spec.run_id,
        "run_key": spec.run_key,
        "config_hash": spec.config_hash,
        "data_fingerprint": spec.data_fingerprint,
        "code_fingerprint": spec.code_fingerprint,
        "git_commit": batch.git_commit or NO_COMMIT,
        "git_dirty": value_text(batch.git_dirty),
        "attempts": str(record.attempts),
        "swept": _swept_text(spec.swept),
        "tracking_id": _tracking_id(batch, spec.run_id, record.started_ms),
    }
    if spec.trial:
        tags |= {"trial": str(spec.trial), "search_round": str(spec.search_round)}
    metrics: dict[str, Any] = {"attempts": record.attempts}
    folder, texts = None, {}
    if isinstance(outcome, RunResult):
        tags |= {safe_key(key): value for key, value in outcome.tags.items()}
        tags["chunk_runs"] = str(outcome.chunk_runs)
        if outcome.undefined_metrics:
            tags["undefined_metrics"] = ",".join(outcome.undefined_metrics)
        metrics |= outcome.metrics
        metrics["runtime_s"] = outcome.runtime_s
        metrics["cpu_s"] = outcome.cpu_s
        metrics["peak_rss_mb"] = outcome.peak_rss_mb
        folder = outcome.artifacts
    elif isinstance(outcome, RunFailure):
        tags["error_type"] = outcome.error_type
        tags["error_message"] = outcome.error_message
        metrics["runtime_s"] = (record.ended_ms - record.started_ms) / 1000
        folder, texts = outcome.artifacts, _failure_texts(record, outcome)
    swept = {f"param.{key}": value for key, value in spec.swept.items()}
    return RunEntry(
        name=name,
        status=record.status,
        started_ms=record.started_ms,
        ended_ms=record.ended_ms,
        params=params_of(spec.config),
        metrics=metrics_of(metrics | swept),
        tags=tags_of(tags),
        folder=folder,
        texts=texts,
    )


def run_record(spec: RunSpec, row: Mapping[Any, Any]) -> RunRecord:
    """Return a run as it ended, from what :func:`run_entry` wrote of it.

    Texts come back as stored: without secrets, and shortened. The files, timings, decisions and
    training metrics of a result, and the log and traceback of a failure, are not in tags and
    metrics; they stay empty here.

    Parameters
    ----------
    spec
        What was requested.
    row
        A row of what :func:`.read_runs` returned with metrics and tags, by column; its status is
        FINISHED, FAILED or KILLED.
    """

    def tag(name: str, default: str = "") -> str:
        value = row.get(f"tags.{name}")
        return value if isinstance(value, str) else default

    def metric(name: str) -> float | None:
        value = row.get(f"metrics.{name}")
        return None if value is None or math.isnan(value) else float(value)

    outcome: RunResult | RunFailure | None = None
    if row["status"] == "FINISHED":
        held = (column.removeprefix("metrics.") for column in map(str, row))
        own = own_metrics(tag("own_metrics"))
        known = (name for name in held if not may_be_own(name) or name in own)
        found = {name: metric(name) for name in result_names(known)}
        undefined = tag("undefined_metrics")
        outcome = RunResult(
            metrics={name: value for name, value in found.items() if value is not None},
            undefined_metrics=tuple(undefined.split(",")) if undefined else (),
            tags={name: tag(name) for name in RESULT_TAGS if tag(name)},
            runtime_s=metric("runtime_s") or 0.0,
            cpu_s=metric("cpu_s") or 0.0,
            peak_rss_mb=metric("peak_rss_mb") or 0.0,
            chunk_runs=int(tag("chunk_runs", "1")),
        )
    elif row["status"] == "FAILED":
        outcome = RunFailure(error_type=tag("error_type"), error_message=tag("error_message"))
    return RunRecord(
        spec=spec,
        outcome=outcome,
        attempts=int(tag("attempts", "1")),
        started_ms=int(row["started_ms"]),
        ended_ms=int(row["ended_ms"]),
    )


def own_metrics(text: Any) -> list[str]:
    """Return the names in the tag ``own_metrics`` of a run."""
    return text.split(",") if isinstance(text, str) and text else []


def parent_tags(batch: BatchInfo) -> dict[str, str]:
    """Return the tags of the parent run of a batch at its beginning."""
    return tags_of(
        {
            **common_tags(batch, storable_text(batch.batch_name, RUN_NAME_LENGTH)),
            "batch_role": "batch",
            **({RERUN_OF: batch.rerun_of} if batch.rerun_of else {}),
            "n_runs": str(batch.n_runs),
            "n_finished": "0",
            "n_failed": "0",
            "n_skipped": "0",
            "n_skipped_cells": str(batch.n_skipped_cells),
            "git_commit": batch.git_commit or NO_COMMIT,
            "git_dirty": value_text(batch.git_dirty),
        }
    )


def note_tag(note: str) -> dict[str, str]:
    """Return the tag with the Markdown that MLflow's UI shows with a run.

    It is cut at 8,000 characters, with a note.
    """
    text = masked(note)
    if len(text) > TAG_LENGTH:
        text = text[: TAG_LENGTH - len(_NOTE_ENDING)] + _NOTE_ENDING
    return {"mlflow.note.content": text}


def params_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a configuration as MLflow's parameters: dotted keys, values as text."""
    return {safe_key(key): _text_of(key, value, PARAM_LENGTH) for key, value in flattened(config)}


def configuration(run: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the configuration that :func:`params_of` wrote, with types where they are known.

    Parameters
    ----------
    run
        A row of what :func:`.read_runs` returned, by column.
    """
    config: dict[str, Any] = {}
    for column, text in run.items():
        if not str(column).startswith("params.") or not isinstance(text, str):
            continue
        *nodes, last = str(column).removeprefix("params.").split(".")
        node = config
        for name in nodes:
            node = node.setdefault(name, {})
        node[last] = _configured(text)
    return config


def _configured(text: str) -> Any:
    value = parsed_text(text)
    return typed_value(value) if isinstance(value, str) else value


def parsed_text(value: Any) -> Any:
    """Return the list or mapping that a text holds as JSON; any other value unchanged."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def metrics_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers among ``metrics``."""
    return safe_keys((key, float(value)) for key, value in metrics.items() if is_number(value))


def tags_of(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as MLflow accepts them."""
    return {
        safe_key(key): stored_text(key, value_text(value), TAG_LENGTH)
        for key, value in tags.items()
    }


def _text_of(key: str, value: Any, length: int) -> str:
    kind = type(value)
    if kind is str:
        return stored_text(key, value, length)
    if kind in SCALARS:
        return value_text(value)
    return storable_text(value_text(masked_values(value, key)), length)


@lru_cache(maxsize=20_000)
def stored_text(key: str, text: str, length: int) -> str:
    """Return the text under a key in storable form: without secrets, cut at ``length``.

    Cached: the runs of a batch share most of their texts.
    """
    return storable_text(masked_values(text, key), length)


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def common_tags(batch: BatchInfo, name: str) -> dict[str, str]:
    """Return the tags common to all runs of a batch."""
    return {
        **batch.tags,
        "mlflow.runName": name,
        "mlflow.source.name": "backtest_batch",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "batch_id": batch.batch_id,
        "batch_name": batch.batch_name,
        **batch.process.tags,
    }


@lru_cache(maxsize=1)
def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13: the user has no name here
        return "unknown"


Swept = dict[str, Any] | list[str] | None
"""What a run records of its swept keys: their values, only the keys, or nothing."""


def _swept_text(swept: Mapping[str, Any]) -> str:
    """Return the swept values as JSON; if they are too long for a tag, only their keys.

    Parameters are text; this says which of them were swept, in which order and type.
    """
    for content in (dict(swept), list(swept)):
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
        if len(text) <= TAG_LENGTH:
            break
    return text


def swept_of(text: Any) -> Swept:
    """Return the content of the tag ``swept`` of a run."""
    try:
        swept = json.loads(text) if isinstance(text, str) else None
    except ValueError:  # so many keys that MLflow's limit cut them
        return None
    return swept if isinstance(swept, dict | list) else None


def _tracking_id(batch: BatchInfo, run_id: str, started_ms: int) -> str:
    started = datetime.fromtimestamp(started_ms / 1000, tz=UTC)
    return f"batch_{batch.batch_name}_{run_id}_{started:%Y%m%dT%H%M%SZ}"


def _failure_texts(record: RunRecord, failure: RunFailure) -> dict[str, str]:
    import yaml

    # A failed run has no files of its own, but its configuration helps to find out why.
    config = yaml.safe_dump(
        _plain(masked_values(record.spec.config)),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
    )
    error = f"{failure.error_type}: {failure.error_message}\n"
    return {
        "config.yaml": config,
        "traceback.txt": masked(failure.traceback or error),
        "log.txt": masked(failure.log),
    }


def _plain(value: Any) -> Any:
    """Return ``value`` made of dicts, lists and scalars only."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
