"""The recorded runs to compare, or why there are none."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.batches import differing_results, join_tables, without_repeats
from backtest_batch.analysis.run_table import RunTable, choices
from backtest_batch.analysis.scenarios import AxisKinds, value_as_typed
from backtest_batch.errors import ConfigurationError, Fault, SelectionError
from backtest_batch.store.mlflow_run import RESERVED_TAGS, params_of
from backtest_batch.store.recorded import table_of
from backtest_batch.store.search import BatchHandle, find_batch, read_runs
from backtest_batch.store.store import Store

_IN_FILTER = re.compile(
    r"(?<![\w.])(metric|param|tag)s?\.(`[^`]+`|\"[^\"]+\"|[\w./-]+)", re.IGNORECASE
)
_LISTED = 30
"""Most choices that a message lists."""


def why_empty(
    store: Store, batches: Sequence[str] | None, tags: Mapping[str, str], filter_string: str
) -> str:
    """Say why no run is selected: the key, its value and the available choices.

    Parameters
    ----------
    store
        Where the runs are.
    batches
        The requested batch_ids; None for all.
    tags, filter_string
        Tags and condition that the runs had to meet.

    Raises
    ------
    StoreError
        When the store fails.
    """
    where = f"the experiment '{store.experiment}' of {store.shown}"
    if batches is not None:
        where = f"the batches {', '.join(batches)}" if len(batches) > 1 else f"batch {batches[0]}"
    runs = read_runs(store, batches=batches)
    if runs.empty and batches is not None:
        return f"batch={','.join(batches)}: no run of it is recorded yet"
    if runs.empty:
        return f"There is no run in {where} yet."
    for name, value in tags.items():
        reason = _why_no_tag(runs, name, value)
        if reason:
            return f"filter_tags.{name}={value}: {reason}"
    counts = [
        f"{(_column(runs, f'tags.{name}') == value).sum():,} have {name}={value}"
        for name, value in tags.items()
    ]
    for name, value in tags.items():
        runs = runs[_column(runs, f"tags.{name}") == value]
    if runs.empty:
        return f"filter_tags: no run of {where} has all of these tags; {', '.join(counts)}"
    facts = list(_about_filter(runs, filter_string))
    about = f" ({'; '.join(facts)})" if facts else ""
    n_runs = "the only run" if len(runs) == 1 else f"none of the {len(runs):,} runs"
    verb = "does not meet" if len(runs) == 1 else "meets"
    return f"filter={filter_string}: {n_runs} of {where} {verb} it{about}"


def _why_no_tag(runs: pd.DataFrame, name: str, value: str) -> str:
    """Say why no run has a tag; empty when some run has it."""
    values = _column(runs, f"tags.{name}").dropna()
    if values.empty:
        names = sorted(
            column.removeprefix("tags.")
            for column in runs.columns
            if column.startswith("tags.") and not column.startswith("tags.mlflow.")
        )
        own = [name for name in names if name not in RESERVED_TAGS]
        listed = choices(name, own or names, at_most=_LISTED)
        return f"no run has a tag of this name; {listed}"
    if (values == value).any():
        return ""
    return f"no run has this value; {choices(value, sorted(values.unique()), at_most=_LISTED)}"


def _about_filter(runs: pd.DataFrame, filter_string: str) -> Iterator[str]:
    """Say for each name in a filter that no run has it, or which values a metric has."""
    for kind, quoted in dict.fromkeys(_IN_FILTER.findall(filter_string)):
        part, name = f"{kind.lower()}s", quoted.strip('`"')
        values = _column(runs, f"{part}.{name}").dropna()
        if values.empty:
            known = [
                column.removeprefix(f"{part}.")
                for column in runs.columns
                if column.startswith(f"{part}.")
            ]
            yield f"no run has {part}.{name}; {choices(name, known, at_most=_LISTED)}"
        elif part == "metrics":
            yield f"{part}.{name} is from {values.min():.6g} to {values.max():.6g}"


def _column(runs: pd.DataFrame, name: str) -> pd.Series:
    return runs[name] if name in runs else pd.Series(None, index=runs.index, dtype=object)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunSelection:
    """Runs that were read from a store.

    Attributes
    ----------
    table
        The runs, each run key and result once.
    batches
        The requested batches; empty if runs were chosen only by tags or a filter.
    notes
        Notes on what was left out, and on contradictions.
    contradictions
        Which run keys have results that differ.
    """

    table: RunTable
    batches: tuple[BatchHandle, ...]
    notes: tuple[str, ...]
    contradictions: tuple[str, ...] = ()


def select_runs(
    store: Store,
    *,
    batch: Any = None,
    filter_tags: Any = None,
    filter_string: str = "",
    statuses: Sequence[str] = ("FINISHED",),
    kinds: AxisKinds | None = None,
) -> RunSelection:
    """Return the runs to compare.

    Parameters
    ----------
    store
        Where they are.
    batch
        ``latest``, a batch_id, a batch_name, or a list of these. None is ``latest``, or every
        batch of the experiment when tags or a filter are given.
    filter_tags
        Tags that every run has; see :func:`tag_filter`.
    filter_string
        A condition in MLflow's own language, such as ``metrics.sharpe > 0.5``.
    statuses
        MLflow's statuses of the runs to take.
    kinds
        Which of the swept keys are conditions; by default those that the configuration says.

    Raises
    ------
    ConfigurationError
        When ``batch`` or ``filter_tags`` is malformed.
    SelectionError
        When there is no such batch, the filter is not understood, or no run is selected; the
        message names the key and the choices.
    StoreError
        When the store fails.
    """
    kinds = kinds or AxisKinds()
    tags = tag_filter(filter_tags)
    names = _batch_names(batch)
    if names is None and not tags and not filter_string.strip():
        names = ["latest"]
    batches = None if names is None else _find_batches(store, names)
    ids = None if batches is None else [handle.batch_id for handle in batches]
    found = read_runs(store, batches=ids, tags=tags, filter_string=filter_string)
    if found.empty:
        raise SelectionError(why_empty(store, ids, tags, filter_string))
    wanted = [status.upper() for status in statuses]
    frame = found[found["status"].isin(wanted)]
    left_out = found.loc[~found["status"].isin(wanted), "status"].value_counts()
    counted = ", ".join(f"{count:,} {status}" for status, count in left_out.items())
    if frame.empty:
        raise SelectionError(
            f"statuses=[{','.join(wanted)}]: none of the selected runs ended so; they are {counted}"
        )
    table, repeats = without_repeats(table_of(frame, kinds))
    notes = [_unfinished(handle) for handle in batches or () if handle.status == "RUNNING"]
    if counted:
        every = ",".join([*wanted, *map(str, left_out.index)])
        notes.append(f"Left out: {counted} (statuses=[{every}] includes them).")
    if len(repeats):
        runs = "1 run occurs" if len(repeats) == 1 else f"{len(repeats):,} runs occur"
        counts = "counts" if len(repeats) == 1 else "count"
        notes.append(f"{runs} more than once (same run key) and {counts} once.")
    differing = differing_results(table)
    notes += _audit_notes(frame)
    notes += [*differing, *kinds.without_effect(list(table.params.columns))]
    return RunSelection(
        table=table,
        batches=tuple(batches or ()),
        notes=tuple(notes),
        contradictions=tuple(differing),
    )


def _audit_notes(frame: pd.DataFrame) -> list[str]:
    """Say which of the runs their batch's audit has found to know the future."""
    cheats = frame.loc[_column(frame, "tags.lookahead") == "found", "run_id"].astype(str).tolist()
    if not cheats:
        return []
    more = f" and {len(cheats) - _LISTED:,} more" if len(cheats) > _LISTED else ""
    know = "knows" if len(cheats) == 1 else "know"
    return [
        f"{', '.join(cheats[:_LISTED])}{more} {know} the future, as the audit of the batch has "
        "found (tag lookahead): such results are worth nothing."
    ]


def tag_filter(given: Any) -> dict[str, str]:
    """Return the tags that runs must have, all of them, by name.

    Parameters
    ----------
    given
        A mapping of names to values such as ``{suite: ai_tech}``; a name or a list of names, each
        with the value ``true``; None for no tags. Numbers and booleans are read as they are typed.

    Raises
    ------
    ConfigurationError
        When it is anything else.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        given = [given]
    allowed = "must be a mapping such as {suite: ai_tech}, or a list of names with the value true"
    if isinstance(given, Mapping):
        faults = [
            Fault(key=f"filter_tags.{name}", value=value, allowed="must be text or a number")
            for name, value in given.items()
            if value is None or not isinstance(value, str | int | float)
        ]
        tags = {str(name): value_as_typed(value) for name, value in given.items()}
    elif isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
        faults = [
            Fault(key="filter_tags", value=name, allowed=allowed) for name in given if "=" in name
        ]
        tags = dict.fromkeys(given, "true")
    else:
        tags, faults = {}, [Fault(key="filter_tags", value=given, allowed=allowed)]
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return tags


def with_earlier_runs(
    table: RunTable,
    configs: Sequence[Mapping[str, Any]],
    store: Store,
    filter_tags: Any,
    kinds: AxisKinds | None = None,
) -> tuple[RunTable, tuple[str, ...]]:
    """Append the runs of earlier batches with these tags to those of a batch that just ended.

    Parameters
    ----------
    table
        The runs of the batch, of one batch_id.
    configs
        Resolved configuration of each of them.
    store
        Where the others are.
    filter_tags
        Tags of the others; see :func:`tag_filter`.
    kinds
        Which of the swept keys are conditions; by default those that the configuration says.

    Returns
    -------
    tuple
        The table, indexed from 0: the given runs, unchanged and in their order, then the others. A
        key that only some of them swept, or in which the batches differ, has each run's configured
        value. Then the notes for people.

    Raises
    ------
    ConfigurationError
        When ``filter_tags`` is malformed.
    StoreError
        When the store fails.
    """
    batch_id = str(table.runs["batch_id"].iloc[0]) if len(table) else ""
    earlier = _earlier_frame(store, filter_tags, batch_id)
    if earlier is None:
        none = f"No earlier run has filter_tags={filter_tags}; this batch is compared alone."
        return table, (none,) if tag_filter(filter_tags) else ()
    own = _as_recorded(table, configs)
    both = table_of(pd.concat([own, earlier], ignore_index=True), kinds)
    names = list(dict.fromkeys([*table.params.columns, *both.params.columns]))
    params = both.params.iloc[: len(table)].set_axis(table.params.index).assign(**table.params)
    batch_names = [str(config.get("batch_name", "")) for config in configs]
    whole = RunTable(
        runs=table.runs.assign(batch_name=batch_names),
        params=params[names],
        metrics=table.metrics,
        scenario_axes=(kinds or AxisKinds()).scenario_names(names),
    )
    others = both.subset(np.arange(len(both)) >= len(table))
    distinct, repeats = without_repeats(join_tables([whole, others]), own=len(table))
    n_others = len(distinct) - len(table)
    notes = []
    if n_others:
        runs = "1 earlier run" if n_others == 1 else f"{n_others:,} earlier runs"
        are = "is" if n_others == 1 else "are"
        notes.append(f"{runs} with filter_tags {are} compared too.")
    n_own = int((repeats["kept_batch_id"] == batch_id).sum())
    if n_own == 1:
        notes.append("1 earlier run is a run of this batch and counts once.")
    elif n_own:
        notes.append(f"{n_own:,} earlier runs are runs of this batch and count once.")
    return join_tables([distinct]), (*notes, *differing_results(distinct))


def _batch_names(batch: Any) -> list[str] | None:
    if batch is None:
        return None
    given = list(batch) if isinstance(batch, list | tuple) else [batch]
    if not given or not all(isinstance(name, str | int | float) for name in given):
        allowed = "must be latest, a batch_id, a batch_name, or a list of these"
        fault = Fault(key="batch", value=batch, allowed=allowed)
        raise ConfigurationError(str(fault), [fault])
    return [value_as_typed(name) for name in given]


def _find_batches(store: Store, names: Sequence[str]) -> list[BatchHandle]:
    found: dict[str, BatchHandle] = {}
    for name in names:
        try:
            handle = find_batch(store, name)
        except SelectionError as error:
            raise SelectionError(f"batch={name}: {error}") from error
        found.setdefault(handle.batch_id, handle)
    return list(found.values())


def _unfinished(handle: BatchHandle) -> str:
    return (
        f"The batch {handle.batch_id} is not complete: it is still running, or its process died "
        f"(python -m backtest_batch resume={handle.batch_id} goes on)."
    )


def _earlier_frame(store: Store, filter_tags: Any, batch_id: str) -> pd.DataFrame | None:
    tags = tag_filter(filter_tags)
    if not tags:
        return None
    frame = read_runs(store, tags=tags, statuses=["FINISHED"])
    frame = frame[frame["batch_id"] != batch_id].reset_index(drop=True)
    return None if frame.empty else frame


def _as_recorded(table: RunTable, configs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return runs as :func:`.read_runs` would, with regard to their parameters."""
    index = table.runs.index
    swept = [
        json.dumps({str(name): value for name, value in row.items()})
        for row in table.params.to_dict("records")
    ]
    return pd.DataFrame(
        {
            "run_id": table.runs["run_id"],
            "batch_id": table.runs["batch_id"],
            "status": table.runs["status"],
            "mlflow_run_id": "",
            "started_ms": table.runs["started_ms"],
            "ended_ms": table.runs["ended_ms"],
            "tags.run_id": table.runs["run_id"],
            "tags.run_key": table.runs["run_key"],
            "tags.swept": swept,
        },
        index=index,
    ).join(
        pd.DataFrame([params_of(config) for config in configs], index=index).add_prefix("params.")
    )
